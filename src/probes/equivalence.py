"""Claims of no difference: non-inferiority and equivalence against a margin δ that is fixed beforehand.

    not_lower_p(differences, delta)      small: the mean is not below −δ
    equivalent_p(differences, delta)     small: the mean lies between −δ and δ
    outcomes(p_different, p_equivalent)  different · equivalent · both · inconclusive

A large p of a test of difference says nothing of this: with few questions everything is `not different`.
Methods: Student's t on question means; two one-sided tests (Schuirmann 1987; Wellek 2010). δ is in the units of the
differences. δ comes from a probes.declaration, where it is hashed before there are readings.

One-sided t tests are not robust to skew: at the margin, exponential differences turned to the worse side were called not
lower in .12, .09 and .08 of 5,000 data sets of 12, 30 and 100 questions, instead of .05; heavy tails do no harm (.04 to .05).
Where skew is possible, see that the lower end of wider_interval(differences, 1 − 2·level) lies above −δ (.07, .06, .05).
"""

import numpy as np

from probes.errors import DataError
from probes.flips import check_differences
from probes.intervals import mean_and_error, ratio

DELTA = 0.1
"""Margin in anchored units unless another is declared: a smaller difference does not matter (MEASUREMENT)."""
OUTCOMES = ("different", "equivalent", "both", "inconclusive")
"""`both` is a difference that is there and too small to matter."""


def not_lower_p(differences: np.ndarray, delta: float) -> np.ndarray:
    """One-sided p of each cell against a mean of −δ or less: float[question, cell] → float[cell].

    Small values say that the mean is not meaningfully lower than 0. Fewer than two questions give NaN. Raises DataError for
    a margin that is not positive.
    """
    return _above_p(check_differences(differences), -check_delta(delta))


def equivalent_p(differences: np.ndarray, delta: float) -> np.ndarray:
    """p of two one-sided tests of each cell against a mean of −δ or less, and of δ or more: float[question, cell] → float[cell].

    Under `level` where the t interval of 1 − 2·level lies between −δ and δ. Fewer than two questions give NaN. Raises
    DataError for a margin that is not positive.
    """
    values, margin = check_differences(differences), check_delta(delta)
    return np.maximum(_above_p(values, -margin), _above_p(-values, -margin))


def outcomes(p_different: np.ndarray, p_equivalent: np.ndarray, level: float = 0.05) -> np.ndarray:
    """One of OUTCOMES for each cell; a NaN on either side is inconclusive."""
    different, equivalent = np.asarray(p_different) <= level, np.asarray(p_equivalent) <= level
    known = ~(np.isnan(p_different) | np.isnan(p_equivalent))
    cases = [known & different & equivalent, known & different, known & equivalent]
    return np.select(cases, ["both", "different", "equivalent"], "inconclusive")


def check_delta(delta: float) -> float:
    """The margin. Raises DataError where it is not positive: every mean of 0 would fail."""
    if not (np.isfinite(delta) and delta > 0):
        raise DataError(f"delta is {delta}; a margin is a positive number in the units of the readout, such as 0.1.")
    return float(delta)


def _above_p(values: np.ndarray, margin: float) -> np.ndarray:
    """One-sided p against a mean of `margin` or less; 0 or 1 where nothing varies."""
    from scipy.special import stdtr

    mean, error, n = mean_and_error(values)
    p = stdtr(np.maximum(n - 1, 1), -ratio(mean - margin, error))
    flat = np.where(mean > margin, 0.0, 1.0)
    return np.where(n < 2, np.nan, np.where(error > 0, p, flat))
