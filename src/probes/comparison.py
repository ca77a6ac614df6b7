"""Paired comparisons of readings: one question, two second sentences, the same checkpoint.

The unit of inference is the question. Control sentences and sampled answers of a question are averaged before anything
is compared, a checkpoint is compared with itself only, and every number stands in a row with the readout, aggregation,
baseline, span and layer that it was read with.

Methods: Student's t interval on question means and its simultaneous form (probes.intervals); sign-flip test of a symmetric
null and step-down max-T over the family (probes.flips), with the same flip of a question in all cells and checkpoints, so
that they stay comparable and their dependence is kept. The family is what is compared in one call, model by model; that of
a declaration is confirmed in probes.claims.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from probes.errors import DataError, UnknownNameError, UnmatchedPairError
from probes.flips import flip_tests
from probes.intervals import LEAST_QUESTIONS, ratio, simultaneous_interval, t_interval
from probes.readings import check_readings

CHECKPOINT = ("model", "checkpoint", "seed", "evidence")
CELL = ("text_source", "span", "layer", "emotion", "readout", "aggregation", "baseline", "probes", "layer_convention")
_OF_ONE_ARM = (
    "model", "checkpoint", "seed", *CELL, "arm", "n_questions", "n_missing", "mean", "low", "high", "evidence", "interval", "note",
)  # fmt: skip
COMPARISON_COLUMNS = (
    "model", "checkpoint", "seed", *CELL, "arm", "reference", "n_questions", "n_missing",
    "mean", "low", "high", "p", "evidence", "interval", "test", "note",
    "p_adjusted", "low_simultaneous", "high_simultaneous", "correction", "family", "family_sha",
)  # fmt: skip
ARM_MEAN_COLUMNS = tuple(column for column in COMPARISON_COLUMNS if column in _OF_ONE_ARM)

INTERVAL = "95% t interval over questions"
CORRECTION = "step-down max-T; simultaneous {level:.0%} t intervals by wild bootstrap"
SHOWN = "these cells"
"""Name of a family that was not declared."""


class Differences(NamedTuple):
    """Paired differences by question, the cluster."""

    values: np.ndarray
    """float[question, cell]; NaN is a missing question of that cell."""
    questions: np.ndarray
    """Names of the questions."""
    table: pd.DataFrame
    """A row a cell: its labels, `n_questions`, `n_missing`, mean, interval and note."""


def compare(
    readings: pd.DataFrame, arm: str = "harmful", reference: str = "benign", flips: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """Paired difference arm − reference, one row a checkpoint and cell, in the columns COMPARISON_COLUMNS.

    `mean` is in the units of the readout. A question with a missing reading in either arm is left out of all cells of
    that checkpoint, text source and span, and counted in `n_missing`. Under LEAST_QUESTIONS questions there is no interval
    and no p, `note` says so, and the cell is not in the family.

    `low`, `high` and `p` are of a cell by itself. `p_adjusted`, `low_simultaneous` and `high_simultaneous` are of the family:
    all cells and checkpoints of one model in `readings`, so give it the cells that you show.

    Raises UnknownNameError for an arm that is not in the table, DataError where both arms are the same, a value is missing
    without a reason or flips are too few, UnmatchedPairError where a question has rows in one arm only.
    """
    differences = paired_differences(readings, arm, reference)
    families = differences.table.groupby(["model", "evidence"], dropna=False, sort=False).indices.values()
    tables = [as_family(cells_of(differences, np.asarray(cells)), flips, seed) for cells in families]
    return pd.concat(tables).sort_index()[list(COMPARISON_COLUMNS)]


def paired_differences(readings: pd.DataFrame, arm: str, reference: str) -> Differences:
    """Paired difference arm − reference of each question in each cell of each checkpoint. Raises what compare raises."""
    rows = _checked(readings)
    _check_arms(rows, arm, reference)
    blocks = rows[rows["arm"].isin([arm, reference])].groupby(list(CHECKPOINT), dropna=False)
    return beside([_of_checkpoint(block, arm, reference) for _, block in blocks])


def beside(parts: Sequence[Differences]) -> Differences:
    """Cells side by side, over the questions of all; a question that a part does not have is missing there."""
    questions = np.unique(np.concatenate([part.questions for part in parts]))
    values = np.full((len(questions), sum(part.values.shape[1] for part in parts)), np.nan)
    start = 0
    for part in parts:
        end = start + part.values.shape[1]
        values[np.searchsorted(questions, part.questions), start:end] = part.values
        start = end
    return Differences(values, questions, pd.concat([part.table for part in parts], ignore_index=True))


def cells_of(differences: Differences, cells: np.ndarray) -> Differences:
    """Some of the cells, by place."""
    return Differences(differences.values[:, cells], differences.questions, differences.table.iloc[cells])


def as_family(
    differences: Differences, flips: int, seed: int, family: str = SHOWN, family_sha: str = "", level: float = 0.05
) -> pd.DataFrame:
    """The table of one family: that of its differences, with the p values and simultaneous intervals of its cells."""
    enough = _is_enough(differences.table["n_questions"])
    values = np.where(enough, differences.values, np.nan)
    tests, nothing = flip_tests(values, flips, seed), np.full(len(enough), np.nan)
    _, low, high = simultaneous_interval(values, 1 - level, flips, seed) if enough.any() else (nothing,) * 3
    return differences.table.assign(
        p=tests.p,
        test=f"sign flips, {tests.patterns}",
        p_adjusted=tests.p_adjusted,
        low_simultaneous=low,
        high_simultaneous=high,
        correction=CORRECTION.format(level=1 - level),
        family=f"{family} ({enough.sum():,} in all)",
        family_sha=family_sha,
    )


def arm_means(readings: pd.DataFrame) -> pd.DataFrame:
    """Mean over questions of each arm, one row a checkpoint, cell and arm, in the columns ARM_MEAN_COLUMNS.

    Each arm keeps all questions it has readings of, so two arms may rest on different questions where answers are
    missing; `compare` is the paired number. Raises DataError for a value that is missing without a reason.
    """
    groups = _checked(readings).groupby([*CHECKPOINT, "arm"], dropna=False)
    return pd.concat([_arm_mean(block) for _, block in groups], ignore_index=True)[list(ARM_MEAN_COLUMNS)]


def _checked(readings: pd.DataFrame) -> pd.DataFrame:
    """The table at the door: finite values or a reason, and an order within questions that fixes rounding."""
    rows = check_readings(readings)
    reason = rows["missing"].fillna("").astype(str).str.strip()
    unexplained = ~np.isfinite(rows["value"].to_numpy(float)) & (reason == "").to_numpy()
    if unexplained.any():
        questions = _first(rows.loc[unexplained, "question"].unique())
        raise DataError(
            f"{unexplained.sum()} readings are not finite and give no reason in the column 'missing' (questions "
            f"{questions}). Read them again, or name the reason there: refused, no_answer, truncated."
        )
    rows = rows.assign(value=rows["value"].where(reason == ""))
    return rows.sort_values(["control", "pair", "sample"], kind="stable")


def _check_arms(rows: pd.DataFrame, arm: str, reference: str) -> None:
    known = sorted(rows["arm"].unique())
    for name in (arm, reference):
        if name not in known:
            raise UnknownNameError("arm", name, known)
    if arm == reference:
        raise DataError(f"arm and reference are both {arm!r}; name two of {', '.join(known)}.")


def _first(names: Sequence[object] | np.ndarray) -> str:
    return ", ".join(str(name) for name in names[:5]) + (f", … ({len(names)} in all)" if len(names) > 5 else "")


def _codes(rows: pd.DataFrame, columns: Sequence[str]) -> tuple[np.ndarray, pd.DataFrame]:
    """Number of each row's group, and the groups in that order."""
    codes = rows.groupby(list(columns), dropna=False, sort=True).ngroup().to_numpy()
    first = np.unique(codes, return_index=True)[1]
    return codes, rows.iloc[first][list(columns)].reset_index(drop=True)


def _question_means(rows: pd.DataFrame, group: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and number of rows, both [question, group], and the sorted questions. One missing row makes the mean NaN."""
    questions, question = np.unique(rows["question"].to_numpy(str), return_inverse=True)
    index, shape = question * n_groups + group, (len(questions), n_groups)
    counts = np.bincount(index, minlength=shape[0] * n_groups).reshape(shape)
    sums = np.bincount(index, rows["value"].to_numpy(float), minlength=shape[0] * n_groups).reshape(shape)
    return ratio(sums, counts), counts, questions


def _spread(flags: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Flags [question, cell], set in all cells of a block of cells as soon as they are set in one."""
    by_block = [flags[:, blocks == block].any(axis=1) for block in range(blocks.max() + 1)]
    return np.stack(by_block, axis=1)[:, blocks]


def _text_blocks(cells: pd.DataFrame) -> np.ndarray:
    return cells.groupby(["text_source", "span"], dropna=False).ngroup().to_numpy()


def _of_checkpoint(rows: pd.DataFrame, arm: str, reference: str) -> Differences:
    cell, cells = _codes(rows, CELL)
    is_arm = (rows["arm"] == arm).to_numpy()
    means, counts, questions = _question_means(rows, cell * 2 + is_arm, 2 * len(cells))
    asked = _spread(counts[:, 0::2] + counts[:, 1::2] > 0, _text_blocks(cells))
    for name, own in ((reference, counts[:, 0::2]), (arm, counts[:, 1::2])):
        _check_matched(asked & (own == 0), questions, cells, name, rows["checkpoint"].iloc[0])
    differences = means[:, 1::2] - means[:, 0::2]
    missing = _spread(asked & np.isnan(differences), _text_blocks(cells))
    differences[missing] = np.nan
    table = _summary(rows, cells, differences, missing).assign(arm=arm, reference=reference)
    return Differences(differences, questions, table)


def _check_matched(
    lacking: np.ndarray, questions: np.ndarray, cells: pd.DataFrame, arm: str, checkpoint: object
) -> None:
    if not lacking.any():
        return
    cell = cells.iloc[int(lacking.any(axis=0).argmax())]
    names = _first(questions[lacking.any(axis=1)])
    raise UnmatchedPairError(
        f"checkpoint {checkpoint!r} has no {arm!r} row for the questions {names} (first in: text source "
        f"{cell['text_source']!r}, layer {cell['layer']}, {cell['emotion']!r}, {cell['readout']!r}). Read both arms of "
        "every question, write an answer that could not be read as a row with its reason in 'missing', or leave the "
        "question out of both arms."
    )


def _arm_mean(rows: pd.DataFrame) -> pd.DataFrame:
    cell, cells = _codes(rows, CELL)
    means, counts, _ = _question_means(rows, cell, len(cells))
    blocks = _text_blocks(cells)
    missing = _spread((counts > 0) & np.isnan(means), blocks)
    means[missing] = np.nan
    return _summary(rows, cells, means, missing).assign(arm=rows["arm"].iloc[0])


def _is_enough(n_questions: pd.Series) -> np.ndarray:
    return (n_questions >= LEAST_QUESTIONS).to_numpy()


def _summary(rows: pd.DataFrame, cells: pd.DataFrame, values: np.ndarray, missing: np.ndarray) -> pd.DataFrame:
    """Cells with n, mean, interval and note, from question values [question, cell]."""
    mean, low, high = t_interval(values)
    n_questions = pd.Series(np.isfinite(values).sum(axis=0))
    enough = _is_enough(n_questions)
    note = f" questions, at least {LEAST_QUESTIONS} needed"
    return cells.assign(
        **{column: rows[column].iloc[0] for column in CHECKPOINT},
        n_questions=n_questions,
        n_missing=missing.sum(axis=0),
        mean=mean,
        low=np.where(enough, low, np.nan),
        high=np.where(enough, high, np.nan),
        interval=INTERVAL,
        note=np.where(enough, "", "interval refused: " + n_questions.astype(str) + note),
    )
