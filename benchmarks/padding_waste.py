"""How much of the batches is padding, sorted by length and as texts arrive, and what that costs in time.

    python benchmarks/padding_waste.py
    python benchmarks/padding_waste.py --shape qwen3-30b-a3b --texts 2048 --batch-tokens 16384

By default there are about as many batches as capture makes of the 2,048 stories that it sorts at a time, in an eighth of
the tokens.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial

from interleaved import Ratio, time_ratio
from passes import bare_trunk, padded
from probes.lm.generate import batches
from probes.lm.model import Model
from results import Figure, save
from shapes import describe, load_shape, random_passages, shape_of, shape_parser

SORTED, ARRIVAL = "batches sorted by length", "batches as texts arrive"


def as_they_arrive(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Positions in order, in groups that hold at most `budget` tokens when padded."""
    groups: list[list[int]] = []
    for i in range(len(lengths)):
        if groups and (len(groups[-1]) + 1) * max(lengths[j] for j in [*groups[-1], i]) <= budget:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def waste(lengths: Sequence[int], groups: Sequence[Sequence[int]]) -> float:
    """Share of all positions of the padded groups that hold no token."""
    positions = sum(len(group) * max(lengths[i] for i in group) for group in groups)
    return 1 - sum(lengths[i] for group in groups for i in group) / positions


def grouped(lengths: Sequence[int], budget: int) -> dict[str, list[list[int]]]:
    """The groups of both orders."""
    return {SORTED: batches(lengths, budget), ARRIVAL: as_they_arrive(lengths, budget)}


def measured(model: Model, settings: Namespace) -> tuple[list[Ratio], list[Figure]]:
    """Time of a bare pass over both, and their waste."""
    passages = random_passages(model, settings.texts, settings.seed)
    lengths = [len(passage.token_ids) for passage in passages]
    groups = grouped(lengths, settings.batch_tokens)
    work = {name: partial(bare_trunk, model, padded(model, passages, order)) for name, order in groups.items()}
    shares = [Figure(f"padding, {name}", "share", (round(waste(lengths, order), 6),)) for name, order in groups.items()]
    counts = [Figure(f"number of {name}", "batches", (len(order),)) for name, order in groups.items()]
    return [time_ratio(work, SORTED, ARRIVAL, settings.pairs, settings.seed)], [*shares, *counts]


def main(given: Sequence[str]) -> None:
    """Count and time."""
    parser = shape_parser(__doc__)
    parser.add_argument("--texts", type=int, default=256, help="number of texts")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="tokens of a padded batch")
    parser.add_argument("--pairs", type=int, default=7, help="timed pairs")
    settings = parser.parse_args(given)
    model = load_shape(shape_of(settings.shape, settings.layers), settings.seed)
    kept = {name: getattr(settings, name) for name in ("texts", "batch_tokens", "pairs", "seed")}
    print(save("padding_waste", describe(model), kept, *measured(model, settings), settings.out))


if __name__ == "__main__":
    main(sys.argv[1:])
