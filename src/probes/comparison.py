"""Paired comparisons of readings: one question, two second sentences, the same checkpoint.

The unit of inference is the question. Control sentences and sampled answers of a question are averaged before anything
is compared, a checkpoint is compared with itself only, and every number stands in a row with the readout, aggregation,
baseline, span and layer that it was read with.

Methods: Student's t interval on question means; sign-flip test of a symmetric null (Fisher 1935), with the same flip of
a question in all cells of a checkpoint, so that cells stay comparable and their dependence is kept.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from probes.errors import DataError, UnknownNameError, UnmatchedPairError
from probes.readings import check_readings

CHECKPOINT = ("model", "checkpoint", "seed", "evidence")
CELL = ("text_source", "span", "layer", "emotion", "readout", "aggregation", "baseline", "probes", "layer_convention")
COMPARISON_COLUMNS = (
    "model", "checkpoint", "seed", *CELL, "arm", "reference", "n_questions", "n_missing",
    "mean", "low", "high", "p", "evidence", "interval", "test", "note",
)  # fmt: skip
ARM_MEAN_COLUMNS = tuple(column for column in COMPARISON_COLUMNS if column not in ("reference", "p", "test"))

INTERVAL = "95% t interval over questions"
LEAST_QUESTIONS = 10
"""Under this many question clusters no interval and no p value is given."""
EXACT_FLIPS = 2**14
"""Up to this many sign patterns are enumerated; beyond, they are sampled."""

_CHUNK = 1024
_TIE = 1e-9
"""Relative width of a tie: the identity pattern must count as extreme as what was observed, whatever the rounding."""


def compare(
    readings: pd.DataFrame, arm: str = "harmful", reference: str = "benign", flips: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """Paired difference arm − reference, one row a checkpoint and cell, in the columns COMPARISON_COLUMNS.

    `mean` is in the units of the readout. A question with a missing reading in either arm is left out of all cells of
    that checkpoint, text source and span, and counted in `n_missing`. Under LEAST_QUESTIONS questions `low`, `high` and
    `p` are NaN and `note` says so.

    Raises UnknownNameError for an arm that is not in the table, DataError where both arms are the same or a value is
    missing without a reason, UnmatchedPairError where a question has rows in one arm only.
    """
    rows = _checked(readings)
    _check_arms(rows, arm, reference)
    blocks = [
        _compare_checkpoint(block, arm, reference, flips, seed)
        for _, block in rows[rows["arm"].isin([arm, reference])].groupby(list(CHECKPOINT), dropna=False)
    ]
    return pd.concat(blocks, ignore_index=True)[list(COMPARISON_COLUMNS)]


def arm_means(readings: pd.DataFrame) -> pd.DataFrame:
    """Mean over questions of each arm, one row a checkpoint, cell and arm, in the columns ARM_MEAN_COLUMNS.

    Each arm keeps all questions it has readings of, so two arms may rest on different questions where answers are
    missing; `compare` is the paired number. Raises DataError for a value that is missing without a reason.
    """
    groups = _checked(readings).groupby([*CHECKPOINT, "arm"], dropna=False)
    return pd.concat([_arm_mean(block) for _, block in groups], ignore_index=True)[list(ARM_MEAN_COLUMNS)]


def t_interval(question_values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and two-sided t interval of each cell: float[question, cell] → three arrays float[cell].

    NaN is a missing question of that cell; n − 1 degrees of freedom. Fewer than two questions give a NaN interval.
    """
    from scipy.special import stdtrit  # the t quantile; scipy.stats takes 1.6 s to import

    values = np.asarray(question_values, dtype=float)
    n = np.isfinite(values).sum(axis=0)
    mean = _ratio(np.nansum(values, axis=0), n)
    variance = _ratio(np.nansum((values - mean) ** 2, axis=0), n - 1)
    half = stdtrit(np.maximum(n - 1, 1), (1 + level) / 2) * np.sqrt(_ratio(variance, n))
    return mean, mean - half, mean + half


def sign_flip_p(differences: np.ndarray, flips: int = 10_000, seed: int = 0) -> np.ndarray:
    """Two-sided sign-flip p value of each cell: float[question, cell] → float[cell].

    One flip a question is shared by all cells. All 2^n patterns, the identity among them, where they are at most
    EXACT_FLIPS; otherwise (b + 1)/(m + 1) over m = `flips` sampled patterns. The statistic is |mean|, which orders the
    patterns as |t| does, since the sum of squares stays. NaN is a missing question of that cell: it moves no pattern.
    A cell without any question gets NaN. Raises DataError for fewer than one flip.
    """
    if flips < 1:
        raise DataError(f"flips is {flips}; at least 1 is needed, 10,000 is usual.")
    values = np.asarray(differences, dtype=float)
    present = np.isfinite(values)
    used = np.where(present, values, 0.0)[present.any(axis=1)]
    exact = _is_exact(len(used))
    chunks = _all_patterns(len(used)) if exact else _sampled_patterns(len(used), flips, seed)
    limit = np.abs(used.sum(axis=0)) - _TIE * np.abs(used).sum(axis=0)
    extreme = np.zeros(used.shape[1])
    for signs in chunks:
        extreme += (np.abs(signs @ used) >= limit).sum(axis=0)
    p = extreme / 2 ** len(used) if exact else (extreme + 1) / (flips + 1)
    return np.where(present.any(axis=0), p, np.nan)


def _is_exact(n_questions: int) -> bool:
    return 2**n_questions <= EXACT_FLIPS


def _all_patterns(n_questions: int):
    for start in range(0, 2**n_questions, _CHUNK):
        numbers = np.arange(start, min(start + _CHUNK, 2**n_questions))
        yield 1.0 - 2.0 * ((numbers[:, None] >> np.arange(n_questions)) & 1)


def _sampled_patterns(n_questions: int, flips: int, seed: int):
    generator = np.random.default_rng(seed)
    for start in range(0, flips, _CHUNK):
        yield generator.choice([-1.0, 1.0], size=(min(_CHUNK, flips - start), n_questions))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


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
    return _ratio(sums, counts), counts, questions


def _spread(flags: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Flags [question, cell], set in all cells of a block of cells as soon as they are set in one."""
    by_block = [flags[:, blocks == block].any(axis=1) for block in range(blocks.max() + 1)]
    return np.stack(by_block, axis=1)[:, blocks]


def _text_blocks(cells: pd.DataFrame) -> np.ndarray:
    return cells.groupby(["text_source", "span"], dropna=False).ngroup().to_numpy()


def _compare_checkpoint(rows: pd.DataFrame, arm: str, reference: str, flips: int, seed: int) -> pd.DataFrame:
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
    kept = int(np.isfinite(differences).any(axis=1).sum())
    test = f"sign flips, all {2**kept:,}" if _is_exact(kept) else f"sign flips, {flips:,} sampled"
    p = np.where(_is_enough(table["n_questions"]), sign_flip_p(differences, flips, seed), np.nan)
    return table.assign(p=p, test=test)


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
