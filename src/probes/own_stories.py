"""What the stories that a checkpoint writes itself are worth, and what is said where probes cannot be fitted on them.

    counts = story_counts(stories, dialogues)          how many of each emotion were kept, and how many named it
    table = judged(counts, counts_of_original)         MEASURABLE, or why not: how many it kept, and how many are needed

Probes of a checkpoint's own stories are the fourth kind beside frozen, realigned and refitted ones (MEASUREMENT.md): they know
the checkpoint by its own words alone. They are reported, and decide nothing: whoever has forgotten how to write a story, or
writes others than the original, reads differently for reasons of the text. So their cells stand beside what was kept of the
same design by the same filters, and beside the accuracy on held-out topics.

An emotion is measurable where half as many stories are kept as the original kept of it, and LEAST_STORIES where it kept as many:
its direction, whose noise goes with 1/√n, is then at most √2 times as noisy as the frozen one. Others are left out of the fit.
Where fewer than half of the emotions are measurable, or fewer than half of the dialogues are kept, nothing is: what vectors are
counted from, the mean over emotions, and the neutral components would be others than the original's.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from probes.conclusions import NOT_MEASURABLE
from probes.emotions import NEUTRAL
from probes.gates import MEASURABLE

if TYPE_CHECKING:
    from probes.stories import Stories

OWN = "own stories"
"""What the kind of probes is called."""
LEAST_SHARE = 0.5
LEAST_STORIES = 8
"""Under this many too few may be left in the half of the topics that a scored fit sees."""
SCORE_COLUMNS = ("layer", "accuracy", "low", "high", "chance", "text_baseline", "n")
COUNT_COLUMNS = ("emotion", "n_written", "n_kept", "leak_rate")
WORTH_COLUMNS = (*COUNT_COLUMNS, "n_needed", "outcome", "why")
NOT_WRITTEN = "it has written none yet: experiments/own_stories.py"
NO_UNIT = "an open answer does not move these probes there"

# ---- what was kept ---------------------------------------------------------------------------------------------------


def story_counts(stories: "Stories", dialogues: "Stories") -> pd.DataFrame:
    """COUNT_COLUMNS, one row an emotion, and one `neutral` of the dialogues; leak_rate: share of all written that name it."""
    texts = [*stories.written, *dialogues.written]
    rows = pd.DataFrame([(text.emotion, not text.dropped, text.dropped == "names_emotion") for text in texts])
    groups = rows.set_axis(["emotion", "kept", "leaked"], axis=1).groupby("emotion")
    counts = groups.agg(n_written=("kept", "size"), n_kept=("kept", "sum"), leak_rate=("leaked", "mean"))
    return counts.reset_index()[list(COUNT_COLUMNS)]


def judged(counts: pd.DataFrame | None, original: pd.DataFrame) -> pd.DataFrame:
    """What a checkpoint's own stories are worth: WORTH_COLUMNS, one row an emotion of the original, and one `neutral`.

    Args:
        counts, original: story_counts of the checkpoint and of the original; None where the checkpoint has written none.
    """
    kept = original["n_kept"]
    needed = np.maximum(np.ceil(LEAST_SHARE * kept), np.minimum(kept, LEAST_STORIES)).astype(int)
    table = original[["emotion"]].assign(n_needed=needed)
    if counts is None:
        table = table.assign(n_written=0, n_kept=0, leak_rate=np.nan, why=NOT_WRITTEN)
    else:
        table = table.merge(counts, how="left", on="emotion").fillna({"n_written": 0, "n_kept": 0, "leak_rate": 0.0})
        table = table.astype({"n_written": int, "n_kept": int})
        table = table.assign(why=_reasons(table))
    outcome = np.where(table["why"] == "", MEASURABLE, NOT_MEASURABLE)
    return table.assign(outcome=outcome)[list(WORTH_COLUMNS)]


def _reasons(table: pd.DataFrame) -> list[str]:
    """Why each emotion is not measurable, empty where it is."""
    plain, short = table["emotion"] == NEUTRAL, table["n_kept"] < table["n_needed"]
    own = [_too_few(row) if few else "" for few, (_, row) in zip(short, table.iterrows(), strict=True)]
    for_all = next((why for why, is_plain in zip(own, plain, strict=True) if is_plain), "") or _too_few_emotions(
        int((~short & ~plain).sum()), int((~plain).sum())
    )
    return [why or for_all for why in own]


def _too_few(row: pd.Series) -> str:
    what = "dialogues" if row["emotion"] == NEUTRAL else "stories"
    return f"it kept {row['n_kept']} of {row['n_written']} {what} of its own, and {row['n_needed']} are needed"


def _too_few_emotions(enough: int, of: int) -> str:
    needed = math.ceil(LEAST_SHARE * of)
    told = f"it kept enough stories of {enough} of {of} emotions, and of {needed} they are needed"
    return told if enough < needed else ""


def measurable_emotions(table: pd.DataFrame) -> tuple[str, ...]:
    """Emotions that probes are fitted on; none where the checkpoint is not measurable. Takes a judged table."""
    return tuple(table.loc[(table["outcome"] == MEASURABLE) & (table["emotion"] != NEUTRAL), "emotion"])


def by_layer(table: pd.DataFrame, score: pd.DataFrame | None, streams: xr.Dataset) -> pd.DataFrame:
    """A judged table at each layer of a checkpoint's activations, with how its probes read held-out stories of its own.

    Args:
        score: EmotionProbes.score of them; None where there are none.
        streams: activations that say of which checkpoint they are.
    """
    layers = pd.DataFrame({"layer": streams["layer"].values})
    scored = layers if score is None else layers.merge(score[list(SCORE_COLUMNS)], on="layer", validate="1:1")
    scored = scored.reindex(columns=list(SCORE_COLUMNS)).rename(columns={"n": "n_held_out"})
    about = {name: streams.attrs[name] for name in ("model", "checkpoint", "weights", "evidence")}
    return table.merge(scored, how="cross").assign(**about)


# ---- beside conclusions ----------------------------------------------------------------------------------------------


def with_reasons(table: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """Conclusions, or what is drawn of them, with `why` where a cell is not measurable, else empty.

    Args:
        own: what own stories of every checkpoint are worth, by `checkpoint`, `layer` and `emotion`.
    """
    cells = table[["checkpoint", "layer", "emotion"]]
    why = cells.merge(own, how="left", on=list(cells), validate="m:1")["why"].fillna("").set_axis(table.index)
    why = why.where(table["recipe"] == OWN, "").replace("", NO_UNIT)
    return table.assign(why=why.where(table["verdict"] == NOT_MEASURABLE, ""))


def notes(own: pd.DataFrame) -> pd.DataFrame:
    """`checkpoint`, `layer`, `note`: up to three lines above a panel, divided by ·, that say what its fourth column rests on.

    Takes the table that with_reasons takes, with `accuracy` of held-out stories and `chance`, NaN where nothing was fitted.
    """
    cells = own.groupby(["checkpoint", "layer"], sort=False)
    rows = [(*names, _note(rows)) for names, rows in cells]  # pyright: ignore[reportGeneralTypeIssues]
    return pd.DataFrame(rows, columns=["checkpoint", "layer", "note"])


def _note(table: pd.DataFrame) -> str:
    rows = table[table["emotion"] != NEUTRAL]
    kept, written = int(rows["n_kept"].sum()), int(rows["n_written"].sum())
    if not written:
        return f"{OWN}: none yet · {NOT_MEASURABLE}"
    leaked = float((rows["leak_rate"] * rows["n_written"]).sum() / written)
    enough = len(measurable_emotions(rows))
    few = f", {enough} of {len(rows)} emotions" if enough < len(rows) else ""
    read = f"held-out {rows['accuracy'].iloc[0]:.2f}, chance {rows['chance'].iloc[0]:.2f}{few}"
    last = read if enough else f"{NOT_MEASURABLE}: {_lacking(table)}"
    return f"{OWN}: {kept:,} of {written:,} · {leaked:.0%} name their emotion · {last}"


def _lacking(table: pd.DataFrame) -> str:
    """What keeps all of a checkpoint from being measured, in few words."""
    plain = table["emotion"] == NEUTRAL
    if (table["n_kept"] < table["n_needed"])[plain].any():
        return "dialogues"
    kept, needed = table.loc[~plain, ["n_kept", "n_needed"]].sum()
    return f"{needed:,} needed" if kept < needed else "most emotions"
