"""Power before the run: what a paired design of n questions would find, and how many it needs.

    power_different(n, sd, effect)       a mean of `effect` is found, two-sided
    power_not_lower(n, sd, delta)        a mean of 0 is shown not to lie below −δ
    power_equivalent(n, sd, delta)       a mean of 0 is shown to lie between −δ and δ
    questions_needed(power_different, 0.8, sd, effect)
    smallest_effect(n, sd)               what would be found with a power of .8: the bound that a null excludes

`sd` is the standard deviation of a question's difference, after its control sentences and samples are averaged: from a
pilot, or from the A/A contrast. Exact where differences are normal: noncentral t (Cohen 1988) as an integral over the
estimated variance, which gives two one-sided tests too (Owen 1965) and holds at any n, where scipy's nctdtr is NaN beyond
some thousand. Heavy tails cost power, which none of this knows.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from probes.declaration import Declaration
from probes.equivalence import check_delta
from probes.errors import DataError

MOST_QUESTIONS = 10**6
"""Designs beyond are not looked for."""
_NODES = 4000
"""Points of the integral over the estimated standard deviation."""

Power = Callable[[int, float, float, float], float]
"""(questions, sd, effect or δ, level) → power."""


def power_different(n: int, sd: float, effect: float, level: float = 0.05) -> float:
    """Power of the two-sided t test of n questions where the mean is `effect`. Raises DataError for n < 2 or sd ≤ 0."""
    from scipy.special import ndtr

    shift, limits = _standard(n, sd, effect, level / 2)
    return float(np.mean(ndtr(shift - limits) + ndtr(-shift - limits)))


def power_not_lower(n: int, sd: float, delta: float, level: float = 0.05) -> float:
    """Power of non-inferiority where the mean is 0. Raises DataError for n < 2, sd ≤ 0 or δ ≤ 0."""
    from scipy.special import ndtr

    shift, limits = _standard(n, sd, check_delta(delta), level)
    return float(np.mean(ndtr(shift - limits)))


def power_equivalent(n: int, sd: float, delta: float, level: float = 0.05) -> float:
    """Power of two one-sided tests where the mean is 0. Raises DataError for n < 2, sd ≤ 0 or δ ≤ 0."""
    from scipy.special import ndtr

    shift, limits = _standard(n, sd, check_delta(delta), level)
    return float(np.mean(np.maximum(2 * ndtr(shift - limits) - 1, 0.0)))


def questions_needed(power_of: Power, power: float, sd: float, size: float, level: float = 0.05) -> int:
    """The fewest questions with at least this power; `size` is the effect or δ of `power_of`.

    Raises DataError where MOST_QUESTIONS do not reach it, or for a power that is no share.
    """
    if not level < power < 1:
        raise DataError(f"power is {power}; a share between the level {level:g} and 1 is possible, .8 is usual.")
    if power_of(MOST_QUESTIONS, sd, size, level) < power:
        raise DataError(
            f"{MOST_QUESTIONS:,} questions do not reach a power of {power:g} for {size:g} at an sd of {sd:g}; "
            "only a larger effect or margin, or a smaller sd, is within reach."
        )
    few, enough = 1, MOST_QUESTIONS
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if power_of(middle, sd, size, level) >= power else (middle, enough)
    return enough


def smallest_effect(n: int, sd: float, power: float = 0.8, level: float = 0.05) -> float:
    """The smallest mean that n questions find with this power; what a null result excludes. In the units of sd."""
    low, high = 0.0, 1.0
    while power_different(n, 1.0, high, level) < power:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if power_different(n, 1.0, middle, level) >= power else (middle, high)
    return high * _positive("sd", sd)


def planned_power(declaration: Declaration) -> pd.DataFrame:
    """What a declared family would find with the questions and sd it plans for, one row a claim.

    `power` is that of a cell by itself; `power_in_family` that after Bonferroni's correction for all cells, which max-T and
    Holm exceed; `n_for_80` are the questions that a cell by itself needs for a power of .8.
    """
    n, sd, size, level = declaration.questions, declaration.sd, declaration.delta, declaration.level
    claims = {
        f"a mean of {size:g} is found": power_different,
        f"a mean of 0 is shown not to lie below −{size:g}": power_not_lower,
        f"a mean of 0 is shown to lie within ±{size:g}": power_equivalent,
    }
    rows = [
        {
            "claim": claim, "n_questions": n, "sd": sd, "level": level, "cells": declaration.cells,
            "power": power_of(n, sd, size, level), "power_in_family": power_of(n, sd, size, level / declaration.cells),
            "n_for_80": questions_needed(power_of, 0.8, sd, size, level),
            "family": declaration.name, "family_sha": declaration.sha256,
        }
        for claim, power_of in claims.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _standard(n: int, sd: float, effect: float, level: float) -> tuple[float, np.ndarray]:
    """In true standard errors: the effect, and the one-sided limits of t for equally probable estimates of the error."""
    from scipy.special import chdtri, stdtrit

    if n < 2:
        raise DataError(f"{n} questions have no standard error; at least 2 are needed, 10 for an interval.")
    estimated = np.sqrt(chdtri(n - 1, (np.arange(_NODES) + 0.5) / _NODES) / (n - 1))
    return effect * np.sqrt(n) / _positive("sd", sd), stdtrit(n - 1, 1 - level) * estimated


def _positive(name: str, value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise DataError(f"{name} is {value}; a positive number in the units of the readout is needed.")
    return value
