"""How two ways of doing one thing are compared: in turns A B B A …, by the median of the paired ratios and its interval.

A machine warms up, slows down and has other work. The two of a pair share their moment, and turning the order in every
other pair takes out what drifts steadily.
"""

import io
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

DRAWS = 10_000
"""Bootstrap samples of an interval."""
SHARE = 0.95
"""Share of them inside the interval."""


@dataclass(frozen=True)
class Ratio:
    """What one way takes of what another takes; below 1 it takes less."""

    what: str
    against: str
    unit: str
    values: tuple[float, ...]
    """Of `what`, one a pair."""
    against_values: tuple[float, ...]
    """Of `against`, in the same pairs."""
    median: float
    low: float
    high: float
    goal: float | None
    """The median is to be at most this."""


def turns(pairs: int) -> str:
    """Who goes when: A B B A A B B A …, a pair at a time."""
    return "".join("AB" if pair % 2 == 0 else "BA" for pair in range(pairs))


def in_turns(
    a: Callable[[], float], b: Callable[[], float], pairs: int, label: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What a and b measure, called in turns; value i of both is of pair i."""
    values: dict[str, list[float]] = {"A": [], "B": []}
    for which in tqdm(turns(pairs), desc=label, unit="run"):
        values[which].append(a() if which == "A" else b())
    return tuple(values["A"]), tuple(values["B"])


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call; what it leaves queued on a GPU is waited for."""
    _wait()
    with redirect_stderr(io.StringIO()):  # progress bars are drawn, as they are in use, but not onto ours
        start = time.perf_counter()
        work()
        _wait()
        return round(time.perf_counter() - start, 6)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def interval(ratios: Sequence[float], seed: int) -> tuple[float, float]:
    """Percentile bootstrap interval of the median: ratios are drawn again, as many as there are, 10,000 times."""
    drawn = np.random.default_rng(seed).choice(np.asarray(ratios), (DRAWS, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return float(low), float(high)


def ratio(
    what: str, against: str, unit: str, values: Sequence[float], others: Sequence[float], seed: int, goal: float | None
) -> Ratio:
    """The ratio of values to others, paired by position."""
    ratios = np.divide(values, others)
    low, high = interval(ratios.tolist(), seed)
    return Ratio(what, against, unit, tuple(values), tuple(others), float(np.median(ratios)), low, high, goal)


def time_ratio(
    ways: Mapping[str, Callable[[], object]], what: str, against: str, pairs: int, seed: int, goal: float | None = None
) -> Ratio:
    """The ratio of the wall times of two of the ways, after one call of each that does not count."""
    a, b = partial(seconds, ways[what]), partial(seconds, ways[against])
    for warm_up in (a, b):
        warm_up()
    values, others = in_turns(a, b, pairs, f"{what} / {against}")
    return ratio(what, against, "s", values, others, seed, goal)
