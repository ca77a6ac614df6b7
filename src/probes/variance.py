"""Where the variance of a reading comes from: question, control sentence, sample, story seed, training run.

    variance_components(observations)      one row a term: variance, interval, or why it is not estimable

It says what more of would help: with one training run no number of questions tells how another run would come out.

An observation is a number with five labels: a paired difference, or a reading of one arm. Control sentences belong to their
question and samples to their control sentence and training run; questions, story seeds (the probes that read) and training
runs are crossed. The terms of the random-effects model are TERMS and what is left.

1. Method of moments: the sums of squares of group totals of every term, about the grand mean, are set equal to their
   expectation. This is Rao's (1971) MINQUE with prior weight on the residual (Hartley, Rao and LaMotte 1978): unbiased for
   any layout, with holes or without, whatever the tails, and equal to the analysis of variance where it is balanced.
2. A term is not estimable where it has one level, where its groups are those of another term or single observations, or
   where the equations do not determine it. It then has a reason and no number: its variance is within another term.
3. Intervals of terms within questions come from leaving out groups of questions (delete-a-group jackknife, Kott 2001, with
   Student's t) on the scale of the cube root, where variances are nearly normal (Wilson and Hilferty 1931): with 20
   questions they held the truth in 93 to 97 of 100 normal data sets, on the plain scale in 87 to 97. They need
   LEAST_QUESTIONS questions. Those of story seed and training run come from the χ² distribution of the variance of their
   means, less the share of the other terms (Burdick and Graybill 1992, 3.3): they rest on normal runs, and with three runs
   the upper end is some forty times the estimate. That is what three runs say.

An estimate may be negative; it is given as it is, since a mean over many would be biased otherwise.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from probes.errors import ConventionError, DataError, UnknownNameError, UnmatchedPairError
from probes.intervals import LEAST_QUESTIONS
from probes.readings import check_readings

FACTORS = ("question", "control", "sample", "story_seed", "training_run")
"""Columns of labels."""
TERMS: Mapping[str, tuple[str, ...]] = {
    "question": ("question",),
    "control sentence": ("question", "control"),
    "sample": ("question", "control", "sample", "training_run"),
    "story seed": ("story_seed",),
    "training run": ("training_run",),
    "question × story seed": ("question", "story_seed"),
    "question × training run": ("question", "training_run"),
}
"""Term → the labels that two observations with the same effect share."""
CROSSED = ("story seed", "training run")
"""Terms whose levels every question has."""
RESIDUAL = "residual"
NEEDED = {
    "question": "several questions",
    "control sentence": "several control sentences a question, and of each several samples, story seeds or training runs",
    "sample": "several samples a control sentence, each read by several story seeds",
    "story seed": "probes of several story seeds",
    "training run": "several training runs",
    "question × story seed": "several questions read by several story seeds, with several readings of each",
    "question × training run": "several questions answered by several training runs, with several readings of each",
}
"""Term → the data without which it is not estimable."""
COLUMNS = ("term", "levels", "variance", "low", "high", "interval", "note")
JACKKNIFE, CHI_SQUARED = "95% jackknife over questions", "95% χ² of the means of levels"

ONE_CELL = (
    "model", "checkpoint", "text_source", "span", "layer", "emotion", "readout", "aggregation", "baseline", "evidence",
)  # fmt: skip
"""What the observations of one cell share."""

_GROUPS = 20
"""Groups of questions that are left out in turn."""
_RANK = 1e-9
"""Relative size under which an eigenvalue of the equations is rounding."""


def variance_components(observations: pd.DataFrame) -> pd.DataFrame:
    """One row a term of TERMS and the residual, in COLUMNS; in squared units of the value.

    Takes a table with FACTORS and `value`. `levels` counts the groups of the term. Where a term is not estimable `variance`
    is NaN and `note` begins with `not estimable` and says what data it would need. The residual holds what is not estimable
    apart from it. Raises DataError for lacking columns, or values that are missing or no numbers.
    """
    rows = _checked(observations)
    kept, notes = _estimable(rows)
    values = rows["value"].to_numpy(float)
    estimates = _moments(kept, values)
    question = _codes(rows, ("question",))
    intervals = _jackknife(kept, values, question, estimates) | _chi_squared(kept, values, estimates)
    if question.max() + 1 < LEAST_QUESTIONS:
        notes = _refused(notes, int(question.max() + 1), estimates)
    table = [_row(term, rows, estimates, intervals.get(term), notes.get(term, "")) for term in (*TERMS, RESIDUAL)]
    return pd.DataFrame(table)[list(COLUMNS)]


def observations(readings: pd.DataFrame, arm: str, reference: str | None = None) -> pd.DataFrame:
    """Readings of one cell as a table for variance_components: FACTORS and `value`, a row a reading of `arm`.

    With a reference, the mean of its readings of the same question, story seed and training run is subtracted. Story seeds
    are told by the column `probes`, training runs by `seed`. Readings with a reason in `missing` are left out. Raises
    ConventionError where several checkpoints, layers, emotions, readouts … would be mixed, UnknownNameError for an arm that
    is not there, UnmatchedPairError where a reference is lacking.
    """
    rows = check_readings(readings)
    check_one_cell(rows)
    for name in (arm,) if reference is None else (arm, reference):
        if name not in set(rows["arm"]):
            raise UnknownNameError("arm", name, sorted(rows["arm"].unique()))
    kept = rows[rows["missing"].fillna("").astype(str).str.strip() == ""]
    kept = kept.assign(story_seed=kept["probes"].astype(str), training_run=kept["seed"].astype(str))
    ours = kept[kept["arm"] == arm]
    if reference is not None:
        ours = _without_reference(ours, kept[kept["arm"] == reference], reference)
    return ours[[*FACTORS, "value"]].reset_index(drop=True)


def check_one_cell(rows: pd.DataFrame) -> None:
    """Raises ConventionError where variance would be that between cells."""
    for column in ONE_CELL:
        kinds = sorted(map(str, rows[column].unique()))
        if len(kinds) > 1:
            raise ConventionError(
                f"variance components are of one cell, these readings have several of {column}: "
                f"{', '.join(kinds[:5])}. Choose one."
            )


def _without_reference(ours: pd.DataFrame, theirs: pd.DataFrame, reference: str) -> pd.DataFrame:
    keys = ["question", "story_seed", "training_run"]
    means = theirs.groupby(keys)["value"].mean().rename("subtracted")
    joined = ours.join(means, on=keys)
    lacking = joined.loc[joined["subtracted"].isna(), "question"].unique()
    both = joined[joined["subtracted"].notna()]
    if both.empty:
        raise UnmatchedPairError(
            f"no question has a reading of {reference!r} beside it ({len(lacking)} questions). Read both arms of it."
        )
    return both.assign(value=both["value"] - both["subtracted"])


# ---- what is estimable -----------------------------------------------------------------------------------------------


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    lacking = [column for column in (*FACTORS, "value") if column not in table]
    if lacking or len(table) < 2:
        raise DataError(
            f"{len(table)} observations, lacking columns: {', '.join(lacking) or 'none'}. At least 2 are needed."
        )
    if not np.isfinite(table["value"].to_numpy(float)).all():
        raise DataError("an observation has no finite value; leave out what is missing.")
    return table.reset_index(drop=True)


def _codes(rows: pd.DataFrame, labels: Sequence[str]) -> np.ndarray:
    return rows.groupby(list(labels), dropna=False, sort=False).ngroup().to_numpy()


def _estimable(rows: pd.DataFrame) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Groups of each term that has its own, and a note on each other one and on what holds it."""
    kept: dict[str, np.ndarray] = {}
    notes: dict[str, str] = {}
    for term, labels in TERMS.items():
        codes = _codes(rows, labels)
        reason, holder = _reason(codes, kept)
        if reason:
            notes[term] = f"not estimable: {reason}; needs {NEEDED[term]}"
            if holder:
                notes[holder] = f"{notes[holder]}, {term}" if holder in notes else f"holds {term}"
        else:
            kept[term] = codes
    for term in _undetermined(kept):
        del kept[term]
        notes[term] = f"not estimable: the layout does not tell it from the other terms; needs {NEEDED[term]}"
    return kept, notes


def _reason(codes: np.ndarray, kept: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """Why a term has no groups of its own, and the term that holds it; empty where it has."""
    levels = codes.max() + 1
    if levels == 1:
        return "one level", ""
    if levels == len(codes):
        return "each of its groups is one reading", RESIDUAL
    for other, theirs in kept.items():
        if np.array_equal(codes, theirs):  # numbered as they appear
            return f"its groups are those of {other}", other
    return "", ""


def _undetermined(kept: Mapping[str, np.ndarray]) -> list[str]:
    """Terms whose variance the moments do not determine."""
    matrix = _expectations([*kept.values(), np.arange(len(next(iter(kept.values()))))]) if kept else np.eye(1)
    scale = np.sqrt(np.diag(matrix))
    scaled = matrix / np.outer(scale, scale)
    projection = scaled @ np.linalg.pinv(scaled, rcond=_RANK, hermitian=True)
    return [term for place, term in enumerate(kept) if projection[place, place] < 1 - 1e-6]


# ---- moments ---------------------------------------------------------------------------------------------------------


def _moments(kept: Mapping[str, np.ndarray], values: np.ndarray) -> dict[str, float]:
    """Estimated variance of each term and of the residual."""
    groups = [*kept.values(), np.arange(len(values))]
    centred = values - values.mean()
    squares = [float((np.bincount(codes, centred) ** 2).sum()) for codes in groups]
    return dict(zip([*kept, RESIDUAL], np.linalg.solve(_expectations(groups), squares).tolist(), strict=True))


def _expectations(groups: Sequence[np.ndarray]) -> np.ndarray:
    """What a variance of 1 of one term adds to the sum of squares of another: the trace of both about the grand mean."""
    n = len(groups[0])
    sizes = [np.bincount(codes).astype(float) for codes in groups]
    matrix = np.empty((len(groups), len(groups)))
    for i, a in enumerate(groups):
        for j, b in enumerate(groups[: i + 1]):
            both = np.unique(a * len(sizes[j]) + b, return_counts=True)[1].astype(float)
            mixed = float(sizes[i][a] @ sizes[j][b])
            whole = float((sizes[i] @ sizes[i]) * (sizes[j] @ sizes[j]))
            matrix[i, j] = matrix[j, i] = both @ both - 2 * mixed / n + whole / n**2
    return matrix


# ---- rows and intervals ----------------------------------------------------------------------------------------------


def _row(
    term: str, rows: pd.DataFrame, estimates: Mapping[str, float], interval: tuple[float, float] | None, note: str
) -> dict[str, object]:
    levels = len(rows) if term == RESIDUAL else int(_codes(rows, TERMS[term]).max() + 1)
    low, high = interval or (np.nan, np.nan)
    method = "" if interval is None else CHI_SQUARED if term in CROSSED else JACKKNIFE
    return {
        "term": term, "levels": levels, "variance": estimates.get(term, np.nan), "low": low, "high": high,
        "interval": method, "note": note,
    }  # fmt: skip


def _refused(notes: Mapping[str, str], questions: int, estimates: Mapping[str, float]) -> dict[str, str]:
    """Notes that say why terms within questions have no interval."""
    words = f"interval refused: {questions} questions, at least {LEAST_QUESTIONS} needed"
    within = [term for term in estimates if term not in CROSSED]
    return {**notes, **{term: f"{notes[term]}; {words}" if term in notes else words for term in within}}


def _jackknife(
    kept: Mapping[str, np.ndarray], values: np.ndarray, question: np.ndarray, estimates: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """Intervals of the terms within questions, from leaving out every `n`-th question in turn."""
    from scipy.special import stdtrit

    n = int(question.max() + 1)
    if n < LEAST_QUESTIONS:
        return {}
    groups = min(n, _GROUPS)
    left = [_left_out(kept, values, question % groups != group) for group in range(groups)]
    intervals = {}
    for term in estimates:
        if term not in CROSSED and all(term in one for one in left):
            roots = np.cbrt([one[term] for one in left])
            half = stdtrit(groups - 1, 0.975) * np.sqrt((groups - 1) / groups * ((roots - roots.mean()) ** 2).sum())
            low, high = (np.cbrt(estimates[term]) + np.array([-half, half])) ** 3
            intervals[term] = (max(float(low), 0.0), max(float(high), 0.0))
    return intervals


def _left_out(kept: Mapping[str, np.ndarray], values: np.ndarray, stays: np.ndarray) -> dict[str, float]:
    """Estimates without some questions; none where they do not determine the terms any more."""
    codes = {term: np.unique(groups[stays], return_inverse=True)[1] for term, groups in kept.items()}
    return {} if _undetermined(codes) else _moments(codes, values[stays])


def _chi_squared(
    kept: Mapping[str, np.ndarray], values: np.ndarray, estimates: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """Intervals of story seed and training run: that of the variance of the means of levels, less what is not theirs."""
    from scipy.special import chdtri

    intervals = {}
    for term in CROSSED:
        if term in kept:
            means = np.bincount(kept[term], values) / np.bincount(kept[term])
            free, variance = len(means) - 1, float(means.var(ddof=1))
            others = max(variance - estimates[term], 0.0)
            ends = free * variance / chdtri(free, np.array([0.025, 0.975])) - others
            intervals[term] = (max(float(ends[0]), 0.0), max(float(ends[1]), 0.0))
    return intervals
