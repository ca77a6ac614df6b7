"""Capture of all layers against a bare pass, against `output_hidden_states`, and against a loop over single texts.

    python benchmarks/capture_overhead.py
    python benchmarks/capture_overhead.py --shape qwen3-30b-a3b --texts 256

Peak memory is that of processes of their own, one a way. The bare pass runs on batches that are padded beforehand, so that
the ratio to it counts all that capture does: padding, hooks, pooling, checks and copies.
"""

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial

from tqdm import tqdm

from interleaved import Ratio, ratio, seconds, time_ratio
from machine import forget_peak, held_mb, peak_mb
from passes import bare_trunk, hidden_states, padded
from probes.lm.capture import Passage, capture
from probes.lm.generate import batches
from probes.lm.model import Model
from probes.lm.reducers import MeanPool
from results import Figure, save
from shapes import describe, load_shape, random_passages, shape_of, shape_parser

CAPTURE, BOTH, BARE = "capture of mean", "capture of mean and unit_mean", "bare trunk"
STATES, LOOP = "output_hidden_states", "output_hidden_states, one text at a time"
WAYS = (CAPTURE, BOTH, BARE, STATES, LOOP)
COMPARED = ((CAPTURE, BARE), (BOTH, BARE), (CAPTURE, STATES), (CAPTURE, LOOP))
TIME_GOAL, MEMORY_GOAL = 1.02, 1.05


def ways(model: Model, passages: Sequence[Passage], batch_tokens: int) -> dict[str, Callable[[], object]]:
    """What is compared, by name."""
    lengths = [len(passage.token_ids) for passage in passages]
    made, single = padded(model, passages, batches(lengths, batch_tokens)), [[i] for i in range(len(passages))]
    return {
        CAPTURE: partial(capture, model, passages, "all", [MeanPool()], batch_tokens),
        BOTH: partial(capture, model, passages, "all", batch_tokens=batch_tokens),
        BARE: partial(bare_trunk, model, made),
        STATES: partial(hidden_states, model, made),
        LOOP: lambda: hidden_states(model, padded(model, passages, single)),
    }


# ---- memory ----------------------------------------------------------------------------------------------------------


def peak(settings: Namespace) -> dict[str, float]:
    """Memory with the model loaded, and the most it took one way to be done, in MB."""
    model = load_shape(shape_of(settings.shape, settings.layers), settings.seed)
    work = ways(model, random_passages(model, settings.texts, settings.seed), settings.batch_tokens)[settings.peak_of]
    forget_peak()
    loaded = held_mb()
    seconds(work)
    return {"loaded": round(loaded, 1), "peak": round(peak_mb(), 1)}


def peaks(arguments: Sequence[str], runs: int) -> dict[str, list[dict[str, float]]]:
    """What `peak` gives for every way, each time in a process of its own; the ways in turns."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for way in tqdm([way for _ in range(runs) for way in WAYS], desc="peak memory", unit="process"):
        command = [sys.executable, __file__, *arguments, "--peak-of", way]
        found[way].append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
    return found


def memory_ratios(found: dict[str, list[dict[str, float]]], seed: int) -> list[Ratio]:
    """Ratios of the peaks, weights included."""
    totals = {way: [run["peak"] for run in runs] for way, runs in found.items()}
    goals = [MEMORY_GOAL if b == BARE else None for _, b in COMPARED]
    return [
        ratio(f"{a}, peak memory", b, "MB", totals[a], totals[b], seed, goal)
        for (a, b), goal in zip(COMPARED, goals, strict=True)
    ]


def memory_figures(found: dict[str, list[dict[str, float]]]) -> list[Figure]:
    """What each way takes on top of the loaded model."""
    return [
        Figure(
            f"{way}, peak above the loaded model", "MB", tuple(round(run["peak"] - run["loaded"], 1) for run in runs)
        )
        for way, runs in found.items()
    ]


# ---- all of it -------------------------------------------------------------------------------------------------------


def time_ratios(model: Model, settings: Namespace) -> list[Ratio]:
    """Ratios of the times of all that is compared."""
    work = ways(model, random_passages(model, settings.texts, settings.seed), settings.batch_tokens)
    return [
        time_ratio(work, a, b, settings.pairs, settings.seed, TIME_GOAL if b == BARE else None) for a, b in COMPARED
    ]


def arguments(given: Sequence[str]) -> Namespace:
    """The command line."""
    parser = shape_parser(__doc__)
    parser.add_argument("--texts", type=int, default=128, help="number of texts")
    parser.add_argument("--batch-tokens", type=int, default=16_384, help="tokens of a padded batch; capture's default")
    parser.add_argument("--pairs", type=int, default=11, help="timed pairs of each comparison")
    parser.add_argument("--memory-runs", type=int, default=3, help="processes a way for peak memory")
    parser.add_argument("--peak-of", choices=WAYS, help="print the peak memory of one way, as JSON, and end")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> None:
    """Memory first, while this process holds none on the device; then times."""
    settings = arguments(given)
    if settings.peak_of:
        print(json.dumps(peak(settings)))
        return
    found = peaks(given, settings.memory_runs)
    model = load_shape(shape_of(settings.shape, settings.layers), settings.seed)
    ratios = [*time_ratios(model, settings), *memory_ratios(found, settings.seed)]
    kept = {name: getattr(settings, name) for name in ("texts", "batch_tokens", "pairs", "memory_runs", "seed")}
    print(save("capture_overhead", describe(model), kept, ratios, memory_figures(found), settings.out))


if __name__ == "__main__":
    main(sys.argv[1:])
