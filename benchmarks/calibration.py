"""How often each test finds what is not there, and how often each interval misses its mean, on simulated differences.

    python benchmarks/calibration.py

Every number is a share of 5,000 data sets, at a level of .05, with one value for each of --questions in their order; its
goal is the upper 99.9 % binomial bound of .05. A method that is over it where tails are heavy or skewed is shown as it is:
probes.intervals says what to use then.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from scipy.stats import binom
from tqdm import tqdm

from probes.equivalence import equivalent_p, not_lower_p
from probes.flips import flip_tests
from probes.intervals import bootstrap_t_interval, simultaneous_interval, t_interval, wider_interval
from results import Figure, result_parser, save

LEVEL = 0.05
MOST = 0.999
"""A rate of exactly .05 stays within the bound with this probability."""
BATCH = 250
"""Data sets that share their flips and bootstrap samples."""
DELTA = 1.0
"""Margin of equivalence, in standard deviations where they exist."""

EFFECTS = (0, 6)
"""Cells of a family with an effect."""

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
"""(generator, (questions, cells)) → differences with mean 0."""


def normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.normal(size=shape)


def heavy(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Student's t with 3 degrees of freedom."""
    return rng.standard_t(3, size=shape)


def skewed(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Exponential less its mean: skewness 2, and no symmetry for the sign flips to rest on."""
    return rng.exponential(size=shape) - 1


def clustered(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Means of 1 to 8 readings a question, with an effect of the question and scales that differ tenfold between questions."""
    readings = rng.integers(1, 9, size=(shape[0], 1))
    scale = 10 ** rng.uniform(-1, 0, size=(shape[0], 1))
    return scale * (rng.standard_t(3, size=shape) + rng.standard_t(3, size=shape) / np.sqrt(readings))


def domains(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Normal, with a tenth of the variance between 12 domains of questions: the question is the wrong cluster then."""
    domain = np.arange(shape[0]) % 12
    return np.sqrt(0.1) * rng.normal(size=(12, shape[1]))[domain] + np.sqrt(0.9) * rng.normal(size=shape)


DRAWS: Mapping[str, Draw] = {
    "normal": normal, "t₃ tails": heavy, "exponential": skewed, "clusters of t₃": clustered, "questions within 12 domains": domains,
}  # fmt: skip


def missed(interval: tuple[np.ndarray, np.ndarray, np.ndarray], truth: float = 0.0) -> np.ndarray:
    """Whether the interval of each cell lies beside the true mean."""
    _, low, high = interval
    return (low > truth) | (high < truth)


# ---- one cell a data set ---------------------------------------------------------------------------------------------


def cell_methods(values: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Method → whether it errs in each data set; values[question, data set] with mean 0."""
    by_t, by_bootstrap = missed(t_interval(values)), missed(bootstrap_t_interval(values, seed=seed))
    _, low, high = wider_interval(values, 1 - 2 * LEVEL, seed=seed)
    return {
        "sign flips": flip_tests(values, 1999, seed).p <= LEVEL,
        "t interval": by_t,
        "bootstrap-t interval": by_bootstrap,
        "wider of both intervals": by_t & by_bootstrap,  # both hold the mean, so nothing lies between them
        "equivalent by t, at the margin": equivalent_p(values - DELTA, DELTA) <= LEVEL,
        "not lower by t, at the margin": not_lower_p(values - DELTA, DELTA) <= LEVEL,
        "not lower by t, at the margin, mirrored": not_lower_p(-values - DELTA, DELTA) <= LEVEL,
        "not lower by the wider interval, at the margin": low > 0,
        "not lower by the wider interval, at the margin, mirrored": high < 0,
    }


def cell_rates(draw: Draw, questions: int, data_sets: int, seed: int) -> dict[str, float]:
    """Share of data sets in which each method errs."""
    batches = [cell_methods(draw(rng, (questions, size)), part) for part, size, rng in _batches(data_sets, seed)]
    return {method: float(np.mean(np.concatenate([batch[method] for batch in batches]))) for method in batches[0]}


def _batches(data_sets: int, seed: int) -> Iterator[tuple[int, int, np.random.Generator]]:
    for part, start in enumerate(range(0, data_sets, BATCH)):
        yield part, min(BATCH, data_sets - start), np.random.default_rng((seed, part))


# ---- a family a data set ---------------------------------------------------------------------------------------------


def family_methods(values: np.ndarray, effect: np.ndarray, flips: int, seed: int) -> dict[str, bool]:
    """Method → whether it errs anywhere in the family; values[question, cell] with mean 0, effects of the cells."""
    errs = {"step-down max-T": bool((flip_tests(values + effect, flips, seed).p_adjusted[effect == 0] <= LEVEL).any())}
    if not effect.any():  # intervals move with the effects: theirs would be the same rate again
        errs["simultaneous intervals"] = bool(missed(simultaneous_interval(values, 1 - LEVEL, flips, seed)).any())
    return errs


def family_rates(draw: Draw, questions: int, cells: int, found: int, data_sets: int, seed: int) -> dict[str, float]:
    """Share of families with any error: false positives among cells without an effect, intervals that miss their mean.

    Half of the variance is shared by all cells; `found` of them have an effect that is always found.
    """
    effect = np.where(np.arange(cells) < found, 5.0, 0.0)
    errs = []
    for data_set in range(data_sets):
        rng = np.random.default_rng((seed, data_set))
        values = np.sqrt(0.5) * (draw(rng, (questions, cells)) + draw(rng, (questions, 1)))
        errs.append(family_methods(values, effect, 499, data_set))
    return {method: float(np.mean([one[method] for one in errs])) for method in errs[0]}


# ---- the table -------------------------------------------------------------------------------------------------------


def bound(data_sets: int) -> float:
    """The most that a true rate of LEVEL shows."""
    return float(binom.ppf(MOST, data_sets, LEVEL) / data_sets)


def all_figures(settings: Namespace) -> list[Figure]:
    """Rates of every method and distribution, one value a number of questions."""
    goal, figures = bound(settings.data_sets), []
    for name, draw in tqdm(DRAWS.items(), desc="distributions", unit="distribution"):
        plans = {
            "": [cell_rates(draw, n, settings.data_sets, settings.seed) for n in settings.questions],
            **{
                f", {found} of {settings.cells} cells with an effect": families(draw, found, settings)
                for found in EFFECTS
            },
        }
        for words, rates in plans.items():
            for method in rates[0]:
                values = tuple(rate[method] for rate in rates)
                figures.append(Figure(f"{method}{words}, {name}", "share in error", values, goal))
    return figures


def families(draw: Draw, found: int, settings: Namespace) -> list[dict[str, float]]:
    """Rates of families, one a number of questions."""
    return [
        family_rates(draw, n, settings.cells, found, settings.data_sets, settings.seed)
        for n in tqdm(settings.questions, desc=f"families, {found} with an effect", unit="size", leave=False)
    ]


def main(given: Sequence[str]) -> None:
    """Write the table."""
    parser = result_parser(__doc__)
    parser.add_argument("--data-sets", type=int, default=5000, help="simulated data sets of each plan")
    parser.add_argument("--questions", type=int, nargs="+", default=[12, 30, 100], help="numbers of questions")
    parser.add_argument("--cells", type=int, default=12, help="cells of a family")
    settings = parser.parse_args(given)
    kept = {name: getattr(settings, name) for name in ("data_sets", "questions", "cells", "seed")}
    print(save("calibration", {"name": "simulated"}, kept, [], all_figures(settings), settings.out))


if __name__ == "__main__":
    main(sys.argv[1:])
