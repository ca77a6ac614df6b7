"""Which conclusions survive another recipe, and other stories? One table of what each fit would have concluded.

    rows = [conclusions(readings, recipe, story_seed) …]         every fit by itself
    survival_table(with_unmeasurable(rows))                      what they agree on (drawn in probes.recipe_figures)

A conclusion is about one contrast of one emotion at one layer of one checkpoint, in anchored units, so that recipes whose
vectors have other lengths stand on one scale. It `rises` or `falls` where the 95 % t interval over questions excludes 0, is
`no different` where it does not and two one-sided tests against ±δ hold (Holm within the fit), and `open` elsewhere; a cell
whose probes find no unit in the checkpoint (probes.anchors.has_unit) is `not measurable`. It survives where every recipe and
every set of stories says the same, and not `open`.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from probes.comparison import beside, paired_differences
from probes.equivalence import DELTA, equivalent_p
from probes.errors import DataError
from probes.flips import holm_p
from probes.page import contrast_words

LEVEL = 0.05
RISES, FALLS, NO_DIFFERENT, OPEN, NOT_MEASURABLE = "rises", "falls", "no different", "open", "not measurable"
VERDICTS = (RISES, FALLS, NO_DIFFERENT, OPEN, NOT_MEASURABLE)
CELL = ("model", "checkpoint", "evidence", "text_source", "layer", "emotion", "arm", "reference")
CONCLUSION_COLUMNS = (
    *CELL, "recipe", "story_seed", "readout", "baseline", "mean", "low", "high", "p_equivalent", "delta", "verdict", "n_questions",
    "n_missing", "n_stories", "probes", "layer_convention",
)  # fmt: skip
SURVIVAL_COLUMNS = (
    *CELL, "survives", "verdict", *(name.replace(" ", "_") for name in VERDICTS), "within_delta", "n_fits", "n_recipes",
    "n_story_seeds", "recipes_agree", "least", "greatest", "n_questions", "delta",
)  # fmt: skip

# ---- tables ----------------------------------------------------------------------------------------------------------


def conclusions(
    readings: pd.DataFrame,
    recipe: str,
    story_seed: int,
    n_stories: int,
    arm: str = "harmful",
    references: Sequence[str] = ("affect", "benign"),
    delta: float = DELTA,
) -> pd.DataFrame:
    """What one fit concludes of every cell that was read, in CONCLUSION_COLUMNS.

    Args:
        readings: of all checkpoints by probes of this fit, of one readout and baseline.
        n_stories: stories that the probes were fitted on.

    Raises what paired_differences raises, DataError for readings of several readouts or baselines.
    """
    kinds = readings.groupby(["readout", "baseline"]).ngroups
    if kinds != 1:
        raise DataError(f"readings of {kinds} readouts and baselines; give one, so that a cell has one conclusion.")
    differences = beside([paired_differences(readings, arm, reference) for reference in references])
    equivalent = holm_p(equivalent_p(differences.values, delta))
    table = differences.table.assign(p_equivalent=equivalent, delta=delta, recipe=recipe, story_seed=story_seed)
    verdicts = [_verdict(row) for row in table.itertuples()]
    return table.assign(verdict=verdicts, n_stories=n_stories)[list(CONCLUSION_COLUMNS)]


def _verdict(row: Any) -> str:
    if row.low > 0 or row.high < 0:
        return RISES if row.mean > 0 else FALLS
    return NO_DIFFERENT if row.p_equivalent <= LEVEL else OPEN


def with_unmeasurable(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All fits in one table, with a row `not measurable` for each cell that others read and a fit could not."""
    table = pd.concat(tables, ignore_index=True)
    cells, fits = (
        table[list(CELL)].drop_duplicates(),
        table[["recipe", "story_seed", "n_stories", "probes"]].drop_duplicates(),
    )
    whole = cells.merge(fits, how="cross").merge(table, how="left", on=[*cells, *fits], validate="1:1")
    constant = {name: table[name].iloc[0] for name in ("readout", "baseline", "delta", "layer_convention")}
    return whole.assign(**constant, verdict=whole["verdict"].fillna(NOT_MEASURABLE))[list(CONCLUSION_COLUMNS)]


def survival_table(table: pd.DataFrame) -> pd.DataFrame:
    """What fits agree on, one row a cell: SURVIVAL_COLUMNS. Takes with_unmeasurable(…).

    `verdict` is the commonest; `within_delta` counts the fits whose difference is also shown to be under δ, whatever its
    sign; `recipes_agree` how many recipes give the verdict at every story seed; `least` and `greatest` the range of estimates.
    """
    rows = [_survival(cell, fits) for cell, fits in table.groupby(list(CELL), sort=False, dropna=False)]
    return pd.DataFrame(rows)[list(SURVIVAL_COLUMNS)]


def _survival(cell: Any, fits: pd.DataFrame) -> dict[str, Any]:
    counts = fits["verdict"].value_counts().reindex(VERDICTS, fill_value=0)
    verdict = str(counts.idxmax())
    agree = (fits["verdict"] == verdict).groupby(fits["recipe"]).all().sum()
    return {
        **dict(zip(CELL, cell, strict=True)),
        "survives": bool(counts[verdict] == len(fits)) and verdict not in (OPEN, NOT_MEASURABLE), "verdict": verdict,
        **{name.replace(" ", "_"): int(counts[name]) for name in VERDICTS},
        "within_delta": int((fits["p_equivalent"] <= LEVEL).sum()),
        "n_fits": len(fits), "n_recipes": fits["recipe"].nunique(), "n_story_seeds": fits["story_seed"].nunique(),
        "recipes_agree": int(agree), "least": fits["mean"].min(), "greatest": fits["mean"].max(),
        "n_questions": fits["n_questions"].min(), "delta": fits["delta"].iloc[0],
    }  # fmt: skip


def survivors(survival: pd.DataFrame) -> str:
    """How many conclusions survive, contrast by contrast and checkpoint by checkpoint, as lines to print."""
    lines = []
    for names, rows in survival.groupby(["checkpoint", "text_source", "arm", "reference"], sort=False):
        checkpoint, source, arm, reference = map(str, list(names))  # pyright: ignore[reportArgumentType, reportCallIssue]
        kept = rows[rows["survives"]]["verdict"].value_counts()
        counts = ", ".join(f"{count} {verdict}" for verdict, count in kept.items()) or "none"
        lines.append(f"{checkpoint}, {source} text, {contrast_words(arm, reference)}: of {len(rows)} survive {counts}")
    return "\n".join(lines)
