"""Capture against a bare pass, and against what one would write with transformers, TransformerLens and nnsight.

    python benchmarks/capture_overhead.py
    python benchmarks/capture_overhead.py --shape qwen3-30b-a3b --texts 256

Peak memory is that of processes of their own, one a way. All but capture run on batches that are padded beforehand, so that
the ratio to the bare pass counts all that capture does: padding, hooks, pooling, checks and copies. Ways of a library that is
not installed are left out. TransformerLens is given a copy of the network, which counts as loaded.
"""

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from interleaved import Ratio, ratio, seconds, time_ratio
from machine import MB, forget_peak, held_mb, peak_mb
from passes import bare_trunk, hidden_states, lens_cache, means_of, padded, stopped_trace, whole_trace
from probes.lm.capture import Passage, capture
from probes.lm.engines.nnsight import NNsight
from probes.lm.engines.transformer_lens import TransformerLens
from probes.lm.generate import batches
from probes.lm.model import Model
from probes.lm.reducers import MeanPool
from results import Figure, save
from shapes import describe, load_shape, random_passages, shape_of, shape_parser

CAPTURE, BOTH, BARE = "capture of mean", "capture of mean and unit_mean", "bare trunk"
STATES, LOOP = "output_hidden_states", "output_hidden_states, one text at a time"
REPORTED = "capture of mean, report layers"
LENS, LENS_REPORTED = "TransformerLens run_with_cache", "TransformerLens run_with_cache, report layers"
TRACE, TRACE_REPORTED = "nnsight trace", "nnsight trace, report layers"
STOPPED = "nnsight trace, report layers, stopped"
ALL_WAYS = (CAPTURE, BOTH, BARE, STATES, LOOP, REPORTED, LENS, LENS_REPORTED, TRACE, TRACE_REPORTED, STOPPED)
LIBRARIES = {LENS: "transformer_lens", LENS_REPORTED: "transformer_lens"} | dict.fromkeys(
    (TRACE, TRACE_REPORTED, STOPPED), "nnsight"
)
WAYS = tuple(way for way in ALL_WAYS if find_spec(LIBRARIES.get(way, "torch")))
PAIRS = (
    (CAPTURE, BARE), (BOTH, BARE), (CAPTURE, STATES), (CAPTURE, LOOP), (CAPTURE, LENS), (CAPTURE, TRACE),
    (REPORTED, LENS_REPORTED), (REPORTED, TRACE_REPORTED), (REPORTED, STOPPED),
)  # fmt: skip
COMPARED = tuple(pair for pair in PAIRS if set(pair) <= set(WAYS))
TIME_GOAL, MEMORY_GOAL = 1.02, 1.05


def ways(
    model: Model, passages: Sequence[Passage], batch_tokens: int, names: Sequence[str] = WAYS
) -> dict[str, Callable[[], Any]]:
    """What is compared, by name."""
    lengths = [len(passage.token_ids) for passage in passages]
    made, single = padded(model, passages, batches(lengths, batch_tokens)), [[i] for i in range(len(passages))]
    every, reported = range(model.entry.layers), model.entry.report_layers

    def by_library(library: Callable[[Model], Any], states: Callable[..., Sequence[Tensor]], layers: Sequence[int]):
        return partial(means_of, made, partial(states, library(model), layers))

    build: dict[str, Callable[[], Callable[[], Any]]] = {
        CAPTURE: lambda: partial(capture, model, passages, "all", [MeanPool()], batch_tokens),
        BOTH: lambda: partial(capture, model, passages, "all", batch_tokens=batch_tokens),
        BARE: lambda: partial(bare_trunk, model, made),
        STATES: lambda: partial(means_of, made, partial(hidden_states, model)),
        LOOP: lambda: lambda: means_of(padded(model, passages, single), partial(hidden_states, model)),
        REPORTED: lambda: partial(capture, model, passages, reported, [MeanPool()], batch_tokens),
        LENS: lambda: by_library(TransformerLens, lens_cache, every),
        LENS_REPORTED: lambda: by_library(TransformerLens, lens_cache, reported),
        TRACE: lambda: by_library(NNsight, whole_trace, every),
        TRACE_REPORTED: lambda: by_library(NNsight, whole_trace, reported),
        STOPPED: lambda: by_library(NNsight, stopped_trace, reported),
    }
    return {name: build[name]() for name in names}


def kept_figures(model: Model, settings: Namespace) -> list[Figure]:
    """What is held of the texts at the end: their means, or every hidden state where nobody pools."""
    passages = random_passages(model, settings.texts, settings.seed)
    made = padded(model, passages, batches([len(passage.token_ids) for passage in passages], settings.batch_tokens))
    means = ways(model, passages, settings.batch_tokens, [CAPTURE])[CAPTURE]()["mean"]
    with torch.inference_mode():
        states = sum(state.nbytes for batch in made for state in hidden_states(model, batch))
    return [
        Figure(f"{CAPTURE}, kept", "MB", (round(means.nbytes / MB, 2),)),
        Figure("all hidden states, kept", "MB", (round(states / MB, 2),)),
    ]


# ---- memory ----------------------------------------------------------------------------------------------------------


def peak(settings: Namespace) -> dict[str, float]:
    """Memory with the model loaded, and the most it took one way to be done, in MB."""
    model = load_shape(shape_of(settings.shape, settings.layers), settings.seed)
    passages, name = random_passages(model, settings.texts, settings.seed), settings.peak_of
    work = ways(model, passages, settings.batch_tokens, [name])[name]
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
    """Ratios of the peaks, weights included, of ways that run the same network."""
    totals = {way: [run["peak"] for run in runs] for way, runs in found.items()}
    return [
        ratio(f"{a}, peak memory", b, "MB", totals[a], totals[b], seed, MEMORY_GOAL if b == BARE else None)
        for a, b in COMPARED
        if LIBRARIES.get(b) != "transformer_lens"
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
    figures = [*memory_figures(found), *kept_figures(model, settings)]
    kept = {name: getattr(settings, name) for name in ("texts", "batch_tokens", "pairs", "memory_runs", "seed")}
    print(save("capture_overhead", describe(model), kept, ratios, figures, settings.out))


if __name__ == "__main__":
    main(sys.argv[1:])
