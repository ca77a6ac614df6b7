"""What is compared besides two arms of one checkpoint: one text in two checkpoints, neutral sentences with each other, and
the same gap with refusals handled otherwise.

    level_shifts(readings, "original")          the same text in a checkpoint − in the reference, by question
    compare(neutral_halves(readings), *HALVES)  the A/A contrast: what second sentences alone do
    by_refusals(readings)                       a gap over all pairs, over those answered, and where every checkpoint complies
    by_domain(readings)                         a gap in each domain of questions
    counted_from(readings, "antirefusal")       readings of each text minus those of the same text in one checkpoint

A gap cannot see a state that is always there, since it is in both arms: that is what the level shift is for. "No masking"
needs both (MEASUREMENT: estimands).
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from probes.comparison import COMPARISON_COLUMNS, Differences, as_family, beside, compare, paired_differences
from probes.declaration import SAME_TEXT
from probes.errors import DataError, UnknownNameError
from probes.readings import check_readings

HALVES = ("neutral, even sentences", "neutral, odd sentences")
"""Arms of the A/A contrast."""
REFUSED = "refused"


def level_shifts(
    readings: pd.DataFrame, reference: str = "original", arm: str = "benign", flips: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """The same text in each checkpoint − in the reference, in the columns of `compare`; `arm` and `reference` name both.

    Args:
        arm: the arm in which the text is read. A state that is always there shows in the benign one.

    The readings of all checkpoints are of one family. Raises UnknownNameError for an arm or checkpoint that was not read,
    DataError where there is no other checkpoint, and what `compare` raises.
    """
    return as_family(shift_differences(readings, reference, arm), flips, seed)[list(COMPARISON_COLUMNS)]


def shift_differences(readings: pd.DataFrame, reference: str, arm: str) -> Differences:
    """Paired differences of the same text by question. Raises what level_shifts raises."""
    rows = check_readings(readings)
    for column, name in (("arm", arm), ("checkpoint", reference)):
        if name not in (known := rows[column].unique()):
            raise UnknownNameError(column, name, sorted(known))
    rows = rows[(rows["arm"] == arm) & (rows["text_source"] == SAME_TEXT)]
    others = rows.loc[rows["checkpoint"] != reference, ["checkpoint", "seed"]].drop_duplicates().itertuples(index=False)
    parts = [_shift(rows, str(name), run, reference) for name, run in others]
    if not parts:
        raise DataError(f"readings of {reference} alone have no shift; read a second checkpoint on the same text.")
    return beside(parts)


def _shift(rows: pd.DataFrame, checkpoint: str, run: int, reference: str) -> Differences:
    """Two checkpoints as two arms of the first, in the cells that both have: gates may keep one out of a cell."""
    own = rows[(rows["checkpoint"] == checkpoint) & (rows["seed"] == run)]
    other, cells = rows[rows["checkpoint"] == reference], ["layer", "emotion"]
    shared = own[cells].drop_duplicates().merge(other[cells].drop_duplicates())
    both = pd.concat([own, other], ignore_index=True).merge(shared, on=cells)
    return paired_differences(
        both.assign(arm=both["checkpoint"], checkpoint=checkpoint, seed=run), checkpoint, reference
    )


def neutral_halves(readings: pd.DataFrame) -> pd.DataFrame:
    """Readings of neutral sentences as two arms, HALVES, by the number of the sentence, of the texts that have several.

    Raises DataError where no text was read behind two neutral sentences.
    """
    rows = check_readings(readings)
    rows = rows[rows["arm"] == "neutral"]
    rows = rows[rows.groupby("text_source")["control"].transform("max") > 0]
    if rows.empty:
        raise DataError("the A/A contrast needs two neutral sentences a question; force texts with controls=4.")
    return rows.assign(arm=np.where(rows["control"] % 2 == 0, *HALVES))


TEXT = ["sample", "span", "layer", "emotion", "readout", "aggregation", "baseline"]
"""What a reading is of, but for the checkpoint."""


def counted_from(readings: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The same readings with those of the reference taken off, text by text: what came with the training since then.

    A reading that the reference lacks is missing. The reference's own are 0. Of own answers the texts differ, and the prompts
    are the same. Raises UnknownNameError for a checkpoint that was not read.
    """
    rows = check_readings(readings)
    if reference not in (known := rows["checkpoint"].unique()):
        raise UnknownNameError("checkpoint", reference, sorted(known))
    theirs = rows.loc[rows["checkpoint"] == reference, [*TEXT, "value", "missing"]]
    both = rows.merge(theirs, on=TEXT, how="left", suffixes=("", "_there"), validate="m:1")
    missing = both["missing"].where(both["missing"] != "", both["missing_there"].fillna(f"not read in {reference}"))
    counted = both.assign(value=both["value"] - both["value_there"], missing=missing)
    return counted[list(rows.columns)]


# ---- refusals --------------------------------------------------------------------------------------------------------


def with_refusals(readings: pd.DataFrame) -> pd.DataFrame:
    """Refusals as answers: their words are in the readings, so that this gap is of wording above all."""
    rows = check_readings(readings)
    return rows.assign(missing=rows["missing"].where(rows["missing"] != REFUSED, ""))


def where_all_comply(readings: pd.DataFrame) -> pd.DataFrame:
    """Only questions that every checkpoint answers in every arm read here, so that all are compared on the same ones."""
    rows = check_readings(readings)
    missing = rows[rows["missing"] != ""]
    lost = pd.MultiIndex.from_frame(missing[["text_source", "question"]].drop_duplicates())
    return rows[~pd.MultiIndex.from_frame(rows[["text_source", "question"]]).isin(lost)]


HANDLED: Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "all pairs": with_refusals, "answered": check_readings, "where all comply": where_all_comply,
}  # fmt: skip
"""How refusals are handled → the readings that are compared. A text that is forced everywhere is the fourth way."""


def by_refusals(readings: pd.DataFrame, arm: str = "harmful", reference: str = "affect") -> pd.DataFrame:
    """`compare` for each way of HANDLED, told apart in the column `refusals`; a way that leaves no question has no row."""
    rows = readings[readings["arm"].isin([arm, reference])]
    ways = {name: handle(rows) for name, handle in HANDLED.items()}
    made = [compare(left, arm, reference).assign(refusals=name) for name, left in ways.items() if len(left)]
    return pd.concat(made, ignore_index=True)


# ---- domains ---------------------------------------------------------------------------------------------------------


def by_domain(readings: pd.DataFrame, arm: str = "harmful", reference: str = "affect") -> pd.DataFrame:
    """`compare` in each domain of questions, told apart in the column `domain`; all domains are of one family.

    A domain of fewer than LEAST_QUESTIONS questions has a mean and no interval. Raises what `compare` raises.
    """
    rows = check_readings(readings)
    parts = []
    for domain, own in rows[rows["arm"].isin([arm, reference])].groupby("domain", sort=False):
        differences = paired_differences(own, arm, reference)
        parts.append(differences._replace(table=differences.table.assign(domain=domain)))
    if not parts:
        raise DataError(f"no reading of {arm} or {reference} to tell apart by domain; read both arms.")
    return as_family(beside(parts), 10_000, 0)[["domain", *COMPARISON_COLUMNS]]
