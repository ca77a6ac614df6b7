"""The gate strip of the first page: a line a checkpoint and layer, with what must hold first and what knows less beside it.

    rates = refusal_rates(replies, ("harmful", "affect"))      of one checkpoint's own answers
    table = gate_strip(gates, emotions, rates, unseen)         STRIP_COLUMNS
    html = strip_html(table)

Nothing is measured here. Accuracies of frozen and refit probes are those of the gates: held-out stories told as answers, in each
checkpoint. What the words alone and the embeddings alone read are those of the validity report: held-out stories of unseen
topics, in the original. Training moves neither, since the stories stay the same and adapters reach no embedding, so every line
has them; the frozen probes' accuracy on the same stories stands beside them, since the two sets of texts do not compare.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from probes.cards import shown
from probes.conventions import EMBEDDINGS
from probes.errors import ConventionError, DataError, LayerError
from probes.unseen import ALL, TEXT_LAYER

if TYPE_CHECKING:
    from probes.replies import Replies

ABOUT = ("model", "checkpoint", "weights", "evidence", "layer_convention", "probes", "layer")
STRIP_COLUMNS = (
    *ABOUT, "frozen", "refit", "n_texts", "chance", "stories", "words", "embeddings", "n_stories", "gain_ratio_low",
    "gain_ratio_high", "norm", "refit_cosine_low", "refit_cosine_high", "half_cosine", "emotions", "arm", "refused", "reference",
    "refused_reference", "n_answers", "n_questions",
)  # fmt: skip
RATE_COLUMNS = ("checkpoint", "seed", "arm", "refused", "n_answers", "n_questions")


def refusal_rates(replies: "Replies", arms: Sequence[str]) -> pd.DataFrame:
    """Share of a checkpoint's own answers that decline (probes.refusals), RATE_COLUMNS: one row an arm, in this order.

    A truncated or empty answer is none that was refused. Raises DataError for an arm without an own answer.
    """
    rows = []
    for arm in arms:
        own = [reply for reply in replies if (reply.text_source, reply.arm) == ("own", arm)]
        if not own:
            raise DataError(f"no own answer in the arm {arm!r}, of which a refusal rate could be taken. Write replies.")
        refused = sum(reply.missing == "refused" for reply in own)
        questions = len({reply.pair for reply in own})
        rows.append((own[0].checkpoint, own[0].seed, arm, refused / len(own), len(own), questions))
    return pd.DataFrame(rows, columns=list(RATE_COLUMNS))


def gate_strip(
    gates: pd.DataFrame, emotions: Sequence[str], rates: pd.DataFrame, unseen: pd.DataFrame | None
) -> pd.DataFrame:
    """STRIP_COLUMNS, one row a checkpoint and layer of the gates.

    Args:
        gates: gate tables of the original and its checkpoints, of every emotion, at the layers to show.
        emotions: those whose gains and cosines are told, as the least and the greatest.
        rates: refusal_rates of each checkpoint, all of the same two arms.
        unseen: of the validity report (probes.unseen.UNSEEN_COLUMNS); None leaves those numbers missing.

    Raises ConventionError where `unseen` was read in other weights than the original's, LayerError where it lacks a layer.
    """
    known = _of_stories(gates, unseen)
    cells = [cell for _, cell in gates.groupby(["checkpoint", "layer"], sort=False)]
    rows = [
        {**_of_gates(cell, emotions), **known.get(cell["layer"].iloc[0], {}), **_of_answers(cell, rates)}
        for cell in cells
    ]
    return pd.DataFrame(rows).reindex(columns=list(STRIP_COLUMNS))


def _of_answers(cell: pd.DataFrame, rates: pd.DataFrame) -> dict[str, Any]:
    """A checkpoint's refusals in the arm that is compared and in its reference."""
    asked, other = rates[rates["checkpoint"] == cell["checkpoint"].iloc[0]].to_dict("records")
    return {**asked, "reference": other["arm"], "refused_reference": other["refused"]}


def _of_gates(cell: pd.DataFrame, emotions: Sequence[str]) -> dict[str, Any]:
    """A line's numbers from one checkpoint's gates at one layer."""
    first, told = cell.iloc[0], cell[cell["emotion"].isin(emotions)]
    return {
        **{name: first[name] for name in (*ABOUT, "chance", "norm", "half_cosine")}, "frozen": first["layer_accuracy"],
        "refit": first["refit_accuracy"], "n_texts": cell["n_texts"].sum(), "gain_ratio_low": told["gain_ratio"].min(),
        "gain_ratio_high": told["gain_ratio"].max(), "refit_cosine_low": told["refit_cosine"].min(),
        "refit_cosine_high": told["refit_cosine"].max(), "emotions": ", ".join(told["emotion"]),
    }  # fmt: skip


def _of_stories(gates: pd.DataFrame, unseen: pd.DataFrame | None) -> dict[int, dict[str, float]]:
    """Layer → accuracies on stories of unseen topics, and how many there are."""
    if unseen is None:
        return {}
    rows = unseen[(unseen["emotion"] == ALL) & unseen["reader"].isin(["probes", "words", "embeddings"])]
    read, original = set(rows["weights"]), set(gates.loc[gates["checkpoint"] == "original", "weights"])
    if read != original:
        raise ConventionError(
            f"the validity report read {', '.join(sorted(map(str, read)))} and the gates' original is "
            f"{', '.join(sorted(map(str, original)))}. Write it again with experiments/validity_report.py."
        )
    accuracy, n = (rows.set_index(["reader", "layer"])[column] for column in ("accuracy", "n"))
    layers = gates["layer"].unique().tolist()
    if lacking := [layer for layer in layers if ("probes", layer) not in accuracy.index]:
        raise LayerError(f"the validity report has nothing of layers {lacking}; write it again.")
    shared = {"words": accuracy["words", TEXT_LAYER], "embeddings": accuracy["embeddings", EMBEDDINGS]}
    return {layer: shared | {"stories": accuracy["probes", layer], "n_stories": n["probes", layer]} for layer in layers}


# ---- the page --------------------------------------------------------------------------------------------------------


HEADS = {
    "checkpoint": "checkpoint", "layer": "layer", "frozen": "frozen", "refit": "refit", "stories": "frozen", "words": "words alone",
    "embeddings": "embeddings alone", "gain_ratio": "gain ÷ original's", "refit_cosine": "cosine, refit",
    "half_cosine": "cosine, halves", "norm": "norm", "refused": "{arm}", "refused_reference": "{reference}",
}  # fmt: skip
GROUPS = (
    ("", 2),
    ("accuracy, stories as answers", 2),
    ("accuracy, stories of unseen topics", 3),
    ("probes", 4),
    ("refused", 2),
)
"""Head over so many columns."""
NOTE = (
    "Accuracy: how often the right emotion has the largest centred dot product, chance {chance:.2f}: in each checkpoint of "
    "{texts:g} held-out stories told as answers; and in the original of {stories}. Gain, a dot product, and cosines: least to "
    "greatest of {emotions}. Norm: of plain answers. Refused: own answers whose opening declines, of {answers} answers to "
    "{questions} questions in the arm {arm}."
)
UNMEASURED = "held-out stories of unseen topics: not measured in this run (experiments/validity_report.py)"


def strip_html(strip: pd.DataFrame) -> str:
    """The strip as a table with a note that says of what its numbers are; all text is escaped."""
    first = strip.iloc[0]
    heads = "".join(f"<th>{shown(head.format(**first))}</th>" for head in HEADS.values())
    groups = "".join(f"<th colspan={width}>{shown(head)}</th>" for head, width in GROUPS)
    lines = "".join(f"<tr>{_line(row)}</tr>" for row in strip.to_dict("records"))
    return f"<table class='strip'><tr>{groups}</tr><tr>{heads}</tr>{lines}</table><p><small>{shown(_note(strip), 900)}</small></p>"


def _note(strip: pd.DataFrame) -> str:
    first, count = strip.iloc[0], strip["n_stories"].max()
    stories = f"{count:g} held-out stories of unseen topics" if pd.notna(count) else UNMEASURED
    return NOTE.format(
        chance=first["chance"], texts=first["n_texts"], stories=stories, emotions=first["emotions"],
        answers=_span(strip["n_answers"].min(), strip["n_answers"].max(), "g"),
        questions=_span(strip["n_questions"].min(), strip["n_questions"].max(), "g"), arm=first["arm"],
    )  # fmt: skip


def _line(row: Mapping[Any, Any]) -> str:
    return "".join(f"<td>{_cell(row, name)}</td>" for name in HEADS)


def _cell(row: Mapping[Any, Any], name: str) -> str:
    if name in ("gain_ratio", "refit_cosine"):
        return _span(row[f"{name}_low"], row[f"{name}_high"], ".2f")
    if name in ("checkpoint", "layer"):
        return shown(row[name])
    return f"{row[name]:.2f}" if pd.notna(row[name]) else "not measured"


def _span(low: float, high: float, form: str) -> str:
    ends = [format(end, form) for end in (low, high)]
    return ends[0] if ends[0] == ends[1] else " – ".join(ends)
