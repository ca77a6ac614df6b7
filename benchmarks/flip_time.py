"""Time and memory of the tests of a whole sweep: 171 emotions × every layer × 5 checkpoints × 100 questions, 10,000 flips.

    python benchmarks/flip_time.py --shape qwen3-30b-a3b

The differences are random, with Student's t₃ tails and an effect of each question that its cells share. One thread does it,
so that its processor time is the wall time of a machine that does nothing else.
"""

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from tqdm import tqdm

from interleaved import Ratio, seconds, time_ratio
from machine import forget_peak, held_mb, peak_mb
from probes.emotions import clusters
from probes.flips import flip_tests, sign_patterns
from probes.intervals import simultaneous_interval, t_interval
from results import Figure, save
from shapes import shape_of, shape_parser

GOAL = 10.0
"""Seconds of one thread."""
MEMORY_GOAL = 250.0
"""MB above the differences themselves; all statistics at once would take 3.3 GB."""
CHECKPOINTS = 5


def random_differences(questions: int, cells: int, seed: int) -> np.ndarray:
    """Differences with heavy tails, float[question, cell]."""
    rng = np.random.default_rng(seed)
    return rng.standard_t(3, size=(questions, cells)) + rng.normal(size=(questions, 1))


def whole_table(differences: np.ndarray, flips: int) -> None:
    """Everything that a table of comparisons shows of a family: p, adjusted p, interval and simultaneous interval."""
    flip_tests(differences, flips)
    t_interval(differences)
    simultaneous_interval(differences, flips=flips)


def textbook_step_down(differences: np.ndarray, flips: int) -> np.ndarray:
    """Adjusted p values by the textbook: Student's t of one flipped data set after the other, then the largest so far."""
    n = len(differences)
    observed = np.abs(student_t(differences))
    order, counts, p = np.argsort(observed), np.zeros(len(observed)), np.empty(len(observed))
    for signs in np.vstack(list(sign_patterns(n, flips, 0))):
        largest = np.maximum.accumulate(np.abs(student_t(signs[:, None] * differences))[order])
        counts += largest >= observed[order] * (1 - 1e-9)
    p[order] = np.maximum.accumulate(counts[::-1])[::-1]
    return (p + 1) / (flips + 1)


def student_t(values: np.ndarray) -> np.ndarray:
    """Student's t of each cell."""
    return values.mean(axis=0) / (values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def flip_figures(differences: np.ndarray, settings: Namespace) -> list[Figure]:
    """Time and memory of the tests, and time of the whole table."""
    held = held_mb()
    forget_peak()
    tests = timed("p and step-down max-T", partial(flip_tests, differences, settings.flips), settings.runs)
    memory = Figure("peak memory of the tests, above the differences", "MB", (round(peak_mb() - held, 1),), MEMORY_GOAL)
    words = "p, step-down max-T, intervals and simultaneous intervals"
    return [*tests, memory, *timed(words, partial(whole_table, differences, settings.flips), settings.runs)]


def timed(what: str, work: Callable[[], object], runs: int) -> list[Figure]:
    """Wall time, and the processor time that it would be if nothing else ran: the goal is about that."""
    wall, processor = [], []
    for _ in tqdm(range(runs), desc=what, unit="run"):
        start = time.process_time()
        wall.append(seconds(work))
        processor.append(round(time.process_time() - start, 3))
    return [
        Figure(f"{what}, processor time", "s", tuple(processor), GOAL),
        Figure(f"{what}, wall time", "s", tuple(wall)),
    ]


def textbook_ratio(differences: np.ndarray, settings: Namespace) -> Ratio:
    """Fewer flips of the same cells, ours against the textbook."""
    flips = settings.textbook_flips
    ours, theirs = f"step-down max-T, {flips} flips", "Student's t of one flip after the other"
    work = {ours: partial(flip_tests, differences, flips), theirs: partial(textbook_step_down, differences, flips)}
    return time_ratio(work, ours, theirs, settings.pairs, settings.seed)


def main(given: Sequence[str]) -> None:
    """Figures and the comparison."""
    parser = shape_parser(__doc__)
    parser.add_argument("--questions", type=int, default=100, help="questions, each with a flip of its own")
    parser.add_argument("--flips", type=int, default=10_000, help="sampled sign patterns")
    parser.add_argument("--textbook-flips", type=int, default=100, help="sign patterns of the comparison")
    parser.add_argument("--runs", type=int, default=5, help="timed runs")
    parser.add_argument("--pairs", type=int, default=5, help="timed pairs of the comparison")
    settings = parser.parse_args(given)
    entry = shape_of(settings.shape, settings.layers)
    differences = random_differences(settings.questions, len(clusters()) * entry.layers * CHECKPOINTS, settings.seed)
    figures = flip_figures(differences, settings)
    ratios = [textbook_ratio(differences, settings)]
    model = {"name": entry.name, "layers": entry.layers, "width": entry.width}
    names = ("questions", "flips", "textbook_flips", "runs", "pairs", "seed")
    kept = {"cells": differences.shape[1], **{name: getattr(settings, name) for name in names}}
    print(save("flip_time", model, kept, ratios, figures, settings.out))


if __name__ == "__main__":
    main(sys.argv[1:])
