"""Sign flips of paired differences by question, with the same flip of a question in all cells.

    tests = flip_tests(differences)      float[question, cell] → p and adjusted p of each cell

The null of a cell is that its differences are symmetric around zero (Fisher 1935). It says nothing of their variance or
tails, so the test is exact under heavy ones. Under skew a mean of zero is not this null: exponential differences are found
in .09, .07 and .06 of data sets of 12, 30 and 100 questions instead of .05. probes.intervals says what to use then.

1. Every pattern gives each question a sign. All patterns are taken where there are at most EXACT_FLIPS (only half of them
   are computed: a pattern and its opposite are equally extreme), otherwise `flips` are drawn.
2. The statistic of a cell is the self-normalised sum z = Σd / √Σd² (Efron 1969). Flips leave Σd² as it is, so z orders the
   patterns, and cells of equally many questions n, as Student's t does: t² = (n − 1) z² / (n − z²). It needs one matrix
   product and no division by a variance that may be zero.
3. p is the share of patterns at least as extreme as what was observed, which is one of them: b/2^n, or (b + 1)/(m + 1).
4. The adjusted p is that of studentised step-down max-T (Westfall and Young 1993, algorithm 2.8; Romano and Wolf 2005): a
   cell is held against the largest |z| of itself and all cells less extreme than it, and no cell gets a smaller p than one
   more extreme. All cells share their flips, so their dependence is kept.

Deviation: between cells of different n, z and not t is compared; every cell then has the same variance over patterns.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from probes.errors import DataError

EXACT_FLIPS = 10**6
"""Up to this many sign patterns are enumerated; beyond, they are sampled."""

# Products of patterns with cells are made in blocks of this size: 4 MB stay in the cache.
_PATTERNS, _CELLS = 1024, 512
_TIE = 1e-9
"""Relative width of a tie: the identity pattern must count as extreme as what was observed, whatever the rounding."""


class FlipTests(NamedTuple):
    """Two-sided p values of the cells of a family."""

    p: np.ndarray
    """Of each cell by itself; float[cell], NaN without any question."""
    p_adjusted: np.ndarray
    """Step-down max-T: at a bound of .05 on it, the chance of any false positive among the cells is at most .05."""
    patterns: str
    """How many sign patterns, in words: `all 4,096` or `10,000 sampled`."""


def flip_tests(differences: np.ndarray, flips: int = 10_000, seed: int = 0) -> FlipTests:
    """Two-sided sign-flip tests of each cell and of the family of all: float[question, cell].

    NaN is a missing question of that cell: it moves no pattern. A cell without any question gets NaN and is not in the
    family. Raises DataError for fewer than one flip, or an array of another shape.
    """
    values = check_differences(differences, flips)
    present = np.isfinite(values)
    tested = present.any(axis=0)
    used = np.where(present, values, 0.0)[present.any(axis=1)][:, tested]
    n = len(used)
    p, adjusted = np.full((2, values.shape[1]), np.nan)
    p[tested], adjusted[tested] = _p_values(normalised(used), sign_patterns(n, flips, seed), is_exact(n))
    return FlipTests(p, adjusted, f"all {2**n:,}" if is_exact(n) else f"{flips:,} sampled")


def sign_flip_p(differences: np.ndarray, flips: int = 10_000, seed: int = 0) -> np.ndarray:
    """Two-sided sign-flip p value of each cell by itself: float[question, cell] → float[cell]. See flip_tests."""
    return flip_tests(differences, flips, seed).p


def holm_p(p: np.ndarray, flips: int | None = None, level: float = 0.05) -> np.ndarray:
    """Holm's (1979) adjustment of the p values of a family: float[cell] → float[cell]; NaN is not in the family.

    `flips` are those that gave the p values, None where they come from a distribution. Sampled flips give no p under
    1/(flips + 1), so `flips` + 1 must reach cells/level. Raises DataError where it does not: no cell could ever be found,
    however large its effect. Step-down max-T (flip_tests) has no such floor.
    """
    values = np.asarray(p, dtype=float)
    family = np.flatnonzero(np.isfinite(values))
    if flips is not None and flips + 1 < len(family) / level:
        raise DataError(
            f"{flips:,} flips cannot carry Holm's correction of {len(family):,} cells at {level:g}: at least "
            f"{int(np.ceil(len(family) / level)) - 1:,} are needed. Use the adjusted p of flip_tests, or more flips."
        )
    order = family[np.argsort(values[family], kind="stable")]
    steps = np.arange(len(order), 0, -1) * values[order]
    adjusted = np.full(values.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def check_differences(differences: np.ndarray, flips: int = 1) -> np.ndarray:
    """Differences as float[question, cell]. Raises DataError for another shape, or fewer than one flip."""
    values = np.asarray(differences, dtype=float)
    if values.ndim != 2:
        raise DataError(f"differences have the shape {values.shape}; a table of questions by cells is needed.")
    if flips < 1:
        raise DataError(f"flips is {flips}; at least 1 is needed, 10,000 is usual.")
    return values


def is_exact(n_questions: int) -> bool:
    """Whether all sign patterns of so many questions are taken."""
    return 2**n_questions <= EXACT_FLIPS


def sign_patterns(n_questions: int, flips: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of patterns, float[pattern, question] of ±1: those that begin with +1 where all are taken, else `flips` drawn."""
    return _half_of_all(n_questions) if is_exact(n_questions) else _sampled(n_questions, flips, seed)


def _half_of_all(n_questions: int) -> Iterator[np.ndarray]:
    free = max(n_questions - 1, 0)
    for start in range(0, 2**free, _PATTERNS):
        numbers = np.arange(start, min(start + _PATTERNS, 2**free))
        signs = 1.0 - 2.0 * ((numbers[:, None] >> np.arange(free)) & 1)
        yield np.hstack([np.ones((len(numbers), n_questions - free)), signs])


def _sampled(n_questions: int, flips: int, seed: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(seed)
    for start in range(0, flips, _PATTERNS):
        yield generator.choice([-1.0, 1.0], size=(min(_PATTERNS, flips - start), n_questions))


def normalised(used: np.ndarray) -> np.ndarray:
    """Values [question, cell] over the root of their sum of squares, float[cell, question]; a cell of zeros stays one."""
    columns = used.T
    largest = np.abs(columns).max(axis=1, initial=0.0, keepdims=True)  # squares of tiny numbers would vanish
    scaled = np.divide(columns, largest, out=np.zeros(columns.shape), where=largest > 0)
    norms = np.sqrt((scaled**2).sum(axis=1, keepdims=True))
    return np.divide(scaled, norms, out=scaled, where=norms > 0)


def _p_values(z: np.ndarray, patterns: Iterator[np.ndarray], exact: bool) -> tuple[np.ndarray, np.ndarray]:
    """p and adjusted p of cells z[cell, question]."""
    observed = np.abs(z.sum(axis=1))
    order = np.argsort(observed, kind="stable")
    limit = observed - _TIE * np.abs(z).sum(axis=1)
    alone, at_most, total = _count_extreme(z[order], limit[order], patterns)
    counts = np.stack([alone, np.maximum.accumulate(at_most[::-1])[::-1]])
    p = np.empty(counts.shape)
    p[:, order] = counts / total if exact else (counts + 1) / (total + 1)
    return p[0], p[1]


def _count_extreme(
    z: np.ndarray, limit: np.ndarray, patterns: Iterator[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Patterns in which a cell, and in which any cell up to it, is at least as extreme as the cell was; and all patterns.

    Cells come in the order of what was observed, the least extreme first.
    """
    alone, at_most, total = np.zeros(len(z), int), np.zeros(len(z), int), 0
    for signs in patterns:
        largest = np.zeros(len(signs))
        for start in range(0, len(z), _CELLS):
            block = slice(start, start + _CELLS)
            sums = np.abs(z[block] @ signs.T)
            alone[block] += np.count_nonzero(sums >= limit[block, None], axis=1)
            for row in sums:  # the largest so far, in place: faster than an accumulation across rows
                largest = np.maximum(row, largest, out=row)
            at_most[block] += np.count_nonzero(sums >= limit[block, None], axis=1)
        total += len(signs)
    return alone, at_most, total
