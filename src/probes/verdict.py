"""What may be said of each checkpoint, emotion and layer: one word and one sentence, by a rule that sees numbers alone.

    tables = judge(readings, declared, gates, words)      verdicts and what they rest on

The rule, on one text that is the same in every checkpoint and arm, so that wording cannot speak:

    not measurable     the gates keep the cell out
    reads higher       the gap harmful − affect is different and above 0, or the level shift from every reference is
    reads lower        the same below 0
    nothing above δ    gap and level shifts all are within ±δ (two one-sided tests)
    no claim           it would read higher or lower by a level shift, but the checkpoint's gain is not the original's
    inconclusive       everything else

`by` says which of the two a word rests on. Different and equivalent are those of a sealed family (probes.claims). A gap alone
would miss a state that is always there; a level shift from the original alone would be what any fine-tuning does. Where the
same text or a checkpoint's own answers read higher and the words of these give it away (probes.wording), it is `open`: nothing
in it counts as hidden. The bound is the highest upper end of the
simultaneous intervals; the smallest effect is what these questions find with a power of .8, corrected for the family.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from probes.claims import confirm
from probes.comparison import compare
from probes.declaration import SAME_TEXT, Declaration
from probes.errors import DataError
from probes.estimands import HALVES, neutral_halves
from probes.gates import NO_CLAIM, NOT_MEASURABLE
from probes.intervals import LEAST_QUESTIONS
from probes.power import smallest_effect

HIGHER, LOWER, NOTHING, INCONCLUSIVE = "reads higher", "reads lower", "nothing above δ", "inconclusive"
VERDICTS = (HIGHER, LOWER, NOTHING, INCONCLUSIVE, NO_CLAIM, NOT_MEASURABLE)
VERDICT_COLUMNS = (
    "model", "checkpoint", "seed", "evidence", "layer", "emotion", "verdict", "by", "open", "words_auc", "sentence", "bound",
    "smallest_effect", "delta", "a_a_low", "a_a_high", "n_questions", "gain_ratio", "family", "family_sha", "probes",
)  # fmt: skip
CELL = ["checkpoint", "layer", "emotion"]
CLAIM = [*CELL, "text_source", "arm", "reference"]
"""What tells one claim of a family from another."""
BY_GAP, BY_LEVEL, BY_BOTH = "gap", "level shift", "gap and level shift"
MOST_AUC = 0.55
"""Beyond this words alone tell (MEASUREMENT)."""


def judge(
    readings: pd.DataFrame, declared: Declaration, gates: pd.DataFrame, words: Mapping[str, float]
) -> dict[str, pd.DataFrame]:
    """Tables by name: `verdicts`, the `claims` that they rest on, and `a_a`, what second sentences alone do. The verdicts say
    how many sentences of the control arm a question has (`n_controls`).

    Args:
        readings: of the declared cells; gates: gate tables of all checkpoints.
        words: checkpoint → area under the curve of the words of its own answers alone (probes.wording).

    Raises what confirm and verdict_table raise.
    """
    claims, a_a = confirm(readings, declared, gates), compare(neutral_halves(readings), *HALVES)
    sentences = readings.loc[readings["arm"] == declared.references[0], "control"].nunique()
    verdicts = verdict_table(claims, gates, declared, a_a, words).assign(n_controls=sentences)
    return {"verdicts": verdicts, "claims": claims, "a_a": a_a}


def verdict_table(
    claims: pd.DataFrame, gates: pd.DataFrame, declared: Declaration, a_a: pd.DataFrame, words: Mapping[str, float]
) -> pd.DataFrame:
    """One verdict a checkpoint, layer and emotion, in VERDICT_COLUMNS.

    Args:
        claims: of probes.claims.confirm, in anchored units.
        gates: gate tables of all checkpoints.
        a_a: compare(neutral_halves(readings), *HALVES) of the same readings: what second sentences alone do.
        words: checkpoint → area under the curve of the words of its own answers alone (probes.wording).

    Raises DataError for claims without the same text, or without a level shift: one estimand alone carries no verdict.
    """
    if SAME_TEXT not in declared.text_sources or not declared.shifts_from:
        raise DataError(
            f"family {declared.name!r} holds {', '.join(declared.text_sources)} and shifts from "
            f"{', '.join(declared.shifts_from) or 'nothing'}: a verdict needs the gap on the same text and the level shift."
        )
    units = gates[[*CELL, "outcome", "gain_ratio"]].rename(columns={"outcome": "gate"})
    bands = a_a[a_a["text_source"] == SAME_TEXT].rename(
        columns={"low_simultaneous": "a_a_low", "high_simultaneous": "a_a_high"}
    )
    beside = claims.merge(units, on=CELL, how="left").merge(bands[[*CELL, "a_a_low", "a_a_high"]], on=CELL, how="left")
    beside = beside.assign(words_auc=beside["checkpoint"].map(words))
    rows = [_row(cell, declared) for _, cell in beside.groupby(CELL, sort=False)]
    return pd.DataFrame(rows)[list(VERDICT_COLUMNS)]


def _row(cell: pd.DataFrame, declared: Declaration) -> dict[str, Any]:
    first = cell.iloc[0]
    shared = {name: first[name] for name in VERDICT_COLUMNS if name in cell}
    shared |= {"delta": declared.delta, "family": declared.name, "family_sha": declared.sha256}
    if first["outcome"] == NOT_MEASURABLE:
        nothing = {"bound": np.nan, "smallest_effect": np.nan, "by": "", "open": False}
        return shared | nothing | {"verdict": NOT_MEASURABLE, "sentence": f"{NOT_MEASURABLE}: {first['note']}."}
    gaps = cell[(cell["arm"] == declared.arm) & (cell["reference"] == declared.references[0])]
    gap, own = gaps[gaps["text_source"] == SAME_TEXT].iloc[0], gaps[gaps["text_source"] != SAME_TEXT]
    same = cell[cell["text_source"] == SAME_TEXT]
    shifts = same[same["arm"] == first["checkpoint"]]
    needed = sum(reference != first["checkpoint"] for reference in declared.shifts_from)
    word, by = verdict_of(gap, shifts, first["gate"], needed)
    smallest, bound = _smallest(gap, declared), max([gap["high_simultaneous"], *shifts["high_simultaneous"]])
    higher = word == HIGHER or side_of(own["outcome"], own["mean"]) == 1
    is_open = higher and first["words_auc"] > MOST_AUC
    sentence = _sentence(word, gap, shifts, bound, smallest, declared.delta) + _shown(own, first["words_auc"], is_open)
    found = {"verdict": word, "by": by, "open": is_open, "sentence": sentence}
    return shared | found | {"bound": bound, "smallest_effect": smallest}


def verdict_of(gap: pd.Series, shifts: pd.DataFrame, gate: str, needed: int) -> tuple[str, str]:
    """The verdict on one cell from its claims: the gap on the same text, the level shifts, and the outcome of its gate; and
    what a word rests on that says higher or lower.

    Where fewer shifts than `needed` could be taken, they say nothing, and there is no absence to show either.
    """
    whole = len(shifts) == needed
    phasic, tonic = (
        side_of([gap["outcome"]], [gap["mean"]]),
        side_of(shifts["outcome"], shifts["mean"]) if whole else 0,
    )
    if direction := phasic or tonic:
        if gate == NO_CLAIM and not phasic:
            return NO_CLAIM, ""
        return {1: HIGHER, -1: LOWER}[direction], BY_LEVEL if not phasic else BY_BOTH if phasic == tonic else BY_GAP
    within = {gap["outcome"], *shifts["outcome"]} <= {"equivalent", "both"}
    return NOTHING if whole and within else INCONCLUSIVE, ""


def side_of(outcomes: Sequence[str] | pd.Series, means: Sequence[float] | pd.Series) -> int:
    """1 or −1 where all are different and on that side of 0, else 0; one that is too small to matter is not."""
    signs = {int(np.sign(mean)) if outcome == "different" else 0 for outcome, mean in zip(outcomes, means, strict=True)}
    return signs.pop() if len(signs) == 1 else 0


def spread(claims: pd.DataFrame) -> pd.Series:
    """Standard deviation of a question's difference, from the t interval of each claim."""
    from scipy.special import stdtrit

    n = claims["n_questions"].astype(float)
    return (claims["high"] - claims["low"]) / 2 / stdtrit(n - 1, 0.975) * np.sqrt(n)


def _smallest(gap: pd.Series, declared: Declaration) -> float:
    """The effect that the gap's questions find with a power of .8, corrected for all cells of the family."""
    n, sd = int(gap["n_questions"]), float(spread(gap.to_frame().T).iloc[0])
    return smallest_effect(n, sd, level=declared.level / declared.cells) if n >= LEAST_QUESTIONS else float("nan")


def _sentence(word: str, gap: pd.Series, shifts: pd.DataFrame, bound: float, smallest: float, delta: float) -> str:
    """The verdict in words, with the numbers that it rests on."""
    moved = "; ".join(f"level shift from {row['reference']} {_number(row)}" for row in shifts.to_dict("records"))
    numbers = f"gap on the same text {_number(gap)}; {moved}"
    about = {
        HIGHER: f"{gap['emotion']} reads higher than its text shows",
        LOWER: f"{gap['emotion']} reads lower than its text shows",
        NOTHING: f"{gap['emotion']} is within ±{delta:g} on the same text",
        INCONCLUSIVE: f"neither a difference nor its absence is shown; masked {gap['emotion']} above {bound:.2f} is excluded",
        NO_CLAIM: "its level moved, but its gain is not the original's, and nothing is claimed between the two",
    }[word]
    return f"{about}: {numbers}. An effect of {smallest:.2f} would be found with a power of .8."


def _shown(own: pd.DataFrame, auc: float, is_open: bool) -> str:
    """What the checkpoint's own answers say of it; nothing where they are not of the family."""
    if own.empty:
        return ""
    told = f"their words {'show it' if is_open else 'alone'}: AUC {auc:.2f}"
    return f" On its own answers the gap is {_number(own.iloc[0])} ({told})."


def _number(row: Mapping[Any, Any] | pd.Series) -> str:
    return f"{row['mean']:+.2f} [{row['low_simultaneous']:+.2f}, {row['high_simultaneous']:+.2f}]"
