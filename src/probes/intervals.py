"""Intervals of means over questions: of each cell by itself, and of all cells of a family at once.

    mean, low, high = t_interval(values)              float[question, cell] → three float[cell]
    mean, low, high = bootstrap_t_interval(values)
    mean, low, high = wider_interval(values)          what to use where differences are skewed
    mean, low, high = simultaneous_interval(values)   the band of a curve

The question is the cluster: what belongs to it is averaged before, and the t interval on cluster means stays valid where
questions differ in variance (Ibragimov and Müller 2010). NaN is a missing question of that cell.

What holds where (benchmarks/calibration.py): share of 5,000 data sets in which a 95 % interval misses, with 12, 30 and 100
questions; up to .060 is within the binomial bound.

    differences        t interval         bootstrap-t        wider of both
    normal             .049 .049 .045     .046 .050 .048     .037 .044 .043
    t₃ tails           .038 .040 .042     .070 .071 .061     .034 .038 .041
    clusters of t₃     .034 .035 .043     .083 .083 .076     .032 .035 .042
    exponential        .094 .066 .056     .056 .048 .048     .048 .037 .039

So the t interval, and sign flips with it, are right under heavy tails and too sure under skew with few questions; the
bootstrap-t interval is the other way round; the wider of both is right in all of these, and is the one to trust where
skew is possible and questions are under a hundred. One-sided, as for non-inferiority, skew costs more: .12 .09 .08 by t in
the worse direction, .07 .06 .05 by the wider interval. Families are like their cells: max-T and the simultaneous intervals
err in .04 to .05 of families under heavy tails, and in .13 .11 .07 of families of 12 cells under such skew.

None of it holds where questions of a domain are alike and the claim is about other domains: with a tenth of the variance
between 12 domains a 95 % interval of 100 questions misses in .13. Average over a domain first then, and count domains.
"""

from collections.abc import Iterator

import numpy as np

from probes.errors import DataError
from probes.flips import check_differences, normalised, sign_patterns

Interval = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Mean, lower and upper end, each float[cell]."""

LEAST_QUESTIONS = 10
"""Under this many question clusters no interval and no p value is given."""

_ROUNDING = 1e-12
"""Share of a mean under which its error is rounding: the cell does not vary."""
_BLOCK = 256
"""Cells whose bootstrap samples are held at once."""


def t_interval(question_values: np.ndarray, level: float = 0.95) -> Interval:
    """Mean and two-sided t interval of each cell: float[question, cell] → three arrays float[cell].

    n − 1 degrees of freedom. Fewer than two questions give a NaN interval.
    """
    from scipy.special import stdtrit  # the t quantile; scipy.stats takes 1.6 s to import

    values = np.asarray(question_values, dtype=float)
    mean, error, n = mean_and_error(values)
    half = stdtrit(np.maximum(n - 1, 1), (1 + level) / 2) * error
    return mean, mean - half, mean + half


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over questions, its standard error and the number of questions, each [cell]; no error where it is but rounding."""
    n = np.isfinite(values).sum(axis=0)
    mean = ratio(np.nansum(values, axis=0), n)
    variance = ratio(np.nansum((values - mean) ** 2, axis=0), n - 1)
    error = np.sqrt(ratio(variance, n))
    return mean, np.where(error <= _ROUNDING * np.abs(mean), 0.0, error), n


def bootstrap_t_interval(
    question_values: np.ndarray, level: float = 0.95, draws: int = 1999, seed: int = 0
) -> Interval:
    """Mean and equal-tailed studentised bootstrap interval of each cell (Hall 1992; Davison and Hinkley 1997, 5.2.1).

    1. Questions are drawn with replacement, as many as there are, `draws` times; cells share the draws.
    2. In each, t* = (mean* − mean) / standard error*.
    3. The interval is [mean − t*₍₁₋α/₂₎ error, mean − t*₍α/₂₎ error], with t* the order statistics (draws + 1)·α/2.

    It follows skew, which the t interval does not: the longer side is the one of the longer tail. A draw without any
    variance counts as infinite, so that an interval of very few different values may be without end. Raises DataError
    where `draws` are too few for the level.
    """
    values, k = check_differences(question_values), int(np.floor((draws + 1) * (1 - level) / 2 + 1e-9))
    if k < 1:
        raise DataError(f"{draws} draws are too few for a level of {level:g}; take {int(np.ceil(2 / (1 - level)))}.")
    mean, error, n = mean_and_error(values)
    ends = np.full((2, values.shape[1]), np.nan)
    for cells, kept in _alike(values):
        if len(kept) > 1:
            weights = np.random.default_rng(seed).multinomial(len(kept), [1 / len(kept)] * len(kept), draws)
            ends[:, cells] = _drawn_t(kept, weights.astype(float), k)
    with np.errstate(invalid="ignore"):  # an end without limit of a cell without variance
        low, high = mean - ends[1] * error, mean - ends[0] * error
    flat = (n > 1) & (error == 0)
    return mean, np.where(flat, mean, low), np.where(flat, mean, high)


def wider_interval(question_values: np.ndarray, level: float = 0.95, draws: int = 1999, seed: int = 0) -> Interval:
    """Mean, and the interval that holds both the t and the bootstrap-t interval of each cell.

    It holds its level where either of them does: under heavy tails as the first, under skew as the second. Raises what
    bootstrap_t_interval raises.
    """
    mean, low, high = t_interval(question_values, level)
    _, other_low, other_high = bootstrap_t_interval(question_values, level, draws, seed)
    return mean, np.minimum(low, other_low), np.maximum(high, other_high)


def simultaneous_interval(
    question_values: np.ndarray, level: float = 0.95, flips: int = 10_000, seed: int = 0
) -> Interval:
    """Mean and interval of each cell, such that all intervals hold their means at once with probability `level`.

    Each is the cell's t interval at the level that simultaneous_level finds. Raises what that raises.
    """
    return t_interval(question_values, simultaneous_level(question_values, level, flips, seed))


def simultaneous_level(question_values: np.ndarray, level: float = 0.95, flips: int = 10_000, seed: int = 0) -> float:
    """The level of each t interval at which all hold at once with probability `level`; never under `level` itself.

    Single-step max-T by the wild bootstrap (Cameron, Gelbach and Miller 2008; Montiel Olea and Plagborg-Møller 2019):

    1. Differences from the mean of their cell are flipped, a question's flip shared by all cells: flips of the readings
       themselves would turn an effect that cells share into dependence of their errors.
    2. Each pattern has a largest |t| over cells, kept as its two-sided p in Student's distribution with the cell's own
       degrees of freedom, so that cells of different n stand on one scale.
    3. The interval of each cell is that of the p that is undercut in a share 1 − level of the patterns.

    Single precision, which moves the level by a millionth. Raises DataError where no cell has two questions, or flips are
    too few for the level.
    """
    values = check_differences(question_values, flips)
    values = values[np.isfinite(values).any(axis=1)]
    groups = list(_residuals(values))
    if not groups:
        raise DataError("no cell has two questions; there is no interval to widen.")
    blocks = (signs.T.astype(np.float32) for signs in sign_patterns(len(values), flips, seed))
    smallest = [np.min([_smallest_p(z, n, signs) for n, z in groups], axis=0) for signs in blocks]
    p = np.sort(np.concatenate(smallest))
    undercut = int(np.floor((1 - level) * (len(p) + 1) + 1e-9))
    if undercut < 1:
        raise DataError(f"{len(p)} flips are too few for a level of {level:g}; take {int(np.ceil(1 / (1 - level)))}.")
    return max(level, 1 - float(p[undercut - 1]))


def _residuals(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """A number of questions, and the normalised residuals of the cells that have so many: float32[cell, question]."""
    mean, _, counts = mean_and_error(values)
    residuals = np.where(np.isfinite(values), values - mean, 0.0)
    for n in np.unique(counts[counts > 1]):
        yield int(n), normalised(residuals[:, counts == n]).astype(np.float32)


def _smallest_p(z: np.ndarray, n: int, signs: np.ndarray) -> np.ndarray:
    """Two-sided p of the largest |t| over cells z[cell, question] in each of the patterns signs[question, pattern]."""
    from scipy.special import stdtr

    largest = np.zeros(signs.shape[1], np.float32)
    for start in range(0, len(z), _BLOCK):
        sums = z[start : start + _BLOCK] @ signs
        largest = np.maximum(largest, np.abs(sums, out=sums).max(axis=0))
    squared = largest.astype(float) ** 2
    with np.errstate(divide="ignore"):  # signs that are those of equally large residuals: t is infinite
        t = np.sqrt((n - 1) * squared / np.maximum(n - squared, 0))
    return 2 * stdtr(n - 1, -t)


def _alike(values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cells that miss the same questions, a block at a time: their numbers, and their values without holes."""
    patterns, group = np.unique(np.isfinite(values), axis=1, return_inverse=True)
    for number, present in enumerate(patterns.T):
        cells = np.flatnonzero(group == number)
        for start in range(0, len(cells), _BLOCK):
            block = cells[start : start + _BLOCK]
            yield block, values[present][:, block]


def _drawn_t(kept: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
    """The k-th smallest and k-th largest t* of each cell: values[question, cell], weights[draw, question] → [2, cell]."""
    n, centred = len(kept), kept - kept.mean(axis=0)
    mean = weights @ centred / n
    squares = weights @ centred**2 / n
    variance = squares - mean**2
    variance = np.where(variance > _ROUNDING * squares, variance, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = mean / np.sqrt(variance / (n - 1))
    t = np.sort(np.where(np.isnan(t), 0.0, t), axis=0)
    return np.stack([t[k - 1], t[-k]])


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where below is not positive."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
