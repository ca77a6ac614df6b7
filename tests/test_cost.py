"""What a study takes: arithmetic that is checked by other arithmetic, and what is said before a step begins."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from conftest import ABOUT
from probes import cost
from probes.cost import ASSUMED, Rates, announcement, estimate, loads, merging_bytes, read_rates
from probes.errors import FileFormatError
from probes.lm.checkpoints import MODELS
from probes.lm.model import Model
from probes.lm.writers.server import ServerWriter
from probes.lm.writers.vllm import VllmWriter
from probes.moments import Moments, merge, moments_bytes, triangle
from probes.pairs import ARMS, load_pairs, prompts
from probes.parts import units
from probes.presets import PRESETS
from probes.shards import Shard

LARGE, PAPER = MODELS["qwen3-30b-a3b"], PRESETS["paper"]


def test_loads_of_the_papers_size():
    given = loads(LARGE, PAPER, checkpoints=5)
    assert given["write_stories"].written == (205_200 + 1_200 + 171 * 24 + 24 * 12) * 200
    assert given["write_stories"].units(Shard()) == 401 + 3 + 9 + 1
    assert given["capture_stories"].read == (205_200 + 171 * 24 + 2 * 1_200) * 200
    assert given["check_gates"].units(Shard()) == 4 * 13
    own = len(prompts(load_pairs(), ARMS, 4)) * 4
    assert given["write_replies"].files == (-(-own // 512), 2) * 5  # 2 · 3 · 120 texts are asked about
    assert given["capture_stories"].files == (13, 2, 5)
    assert set(given) == {
        "write_stories", "capture_stories", "capture_controls", "check_gates", "write_replies", "read_replies", "capture_replies",
        "own_stories",
    }  # fmt: skip


@pytest.mark.parametrize("of", [1, 3, 8, 64])
def test_shards_make_every_unit_between_them(of):
    for load in loads(LARGE, PAPER, 5).values():
        assert sum(load.units(Shard(rank, of)) for rank in range(of)) == load.units(Shard())
        assert sum(load.part(Shard(rank, of)) for rank in range(of)) == pytest.approx(1)


@pytest.mark.parametrize("writer", ["transformers", "vllm", "server"])
def test_announced_units_are_those_that_the_writer_makes(writer):
    """A generation of so many texts leaves so many files of completions: the class says how many each holds."""
    made = {"transformers": Model, "vllm": VllmWriter, "server": ServerWriter}[writer]
    files = (len(units(range(count), made.unit)) for count in (205_200, 1_200, 171 * 24, 24 * 12))
    assert loads(LARGE, PAPER, 5, writer)["write_stories"].files == tuple(files)


def test_hours_follow_from_tokens_and_rates():
    assert Rates(100, 1_000, "").hours(360_000, 7_200_000) == 1 + 2
    slow, fast = (estimate(LARGE, PAPER, 5, Rates(rate, rate, "measured"))[-1] for rate in (1_000, 10_000))
    assert "write_stories 11.7" in slow
    assert "write_stories 1.2" in fast


def test_what_is_said_before_a_step_begins(monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "memory_words", lambda entry: "weights 61.1 GB, 139.2 GB free on cuda:3")
    said = announcement(
        LARGE, PAPER, "write_stories", 5, Shard(3, 8), Rates(2_000, 8_000, "measured by the rehearsal"), tmp_path
    )
    assert said.startswith(
        "write_stories: 51 of 414 units (shard 3/8); 5.26 million tokens to write and 0.00 to read, about 0.7 hours of one process"
    )
    for words in ("measured by the rehearsal", "GB on disk in all", "weights 61.1 GB, 139.2 GB free on cuda:3"):
        assert words in said
    toy = announcement(
        MODELS["tiny"], PRESETS["tiny"], "write_stories", 5, Shard(), ASSUMED, tmp_path / "not" / "there"
    )
    assert "hours" not in toy, "a rate of large models says nothing about the embedded one"
    assert "shard" not in toy


def test_memory_of_this_machine_stands_beside_what_the_model_takes():
    assert cost.memory_words(MODELS["tiny"]).startswith("weights 0.02 GB and second moments 0.00 GB, ")


def test_rates_of_a_rehearsal_are_taken_where_there_was_one(tmp_path):
    path = tmp_path / "rehearsal.json"
    assert read_rates(path) is ASSUMED
    found = {"rates": {"written": 50.5, "read": 900}, "writer": "vllm", "engine": "nnsight"}
    path.write_text(json.dumps(found))
    measured = "measured by the rehearsal with"
    assert read_rates(path, "nnsight", "vllm") == Rates(
        50.5, 900.0, f"writing {measured} vllm, reading {measured} nnsight"
    )
    assert read_rates(path, "vllm", "vllm") == Rates(
        50.5, 1000, f"writing {measured} vllm, reading assumed: the rehearsal was with nnsight"
    )
    assert read_rates(path, "nnsight", "server").written == ASSUMED.written
    assert read_rates(path) is ASSUMED
    for broken in (
        {"rates": found["rates"], "writer": "vllm"},
        {"rates": {"written": 0, "read": 1}},
        {"rates": None},
        [],
        {"rates": {"written": "fast", "read": 1}},
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises(FileFormatError, match=r"of no rehearsal.*rehearsal.py again"):
            read_rates(path)


def full(emotions: int, folds: int, layers: int, width: int, seed: int) -> Moments:
    """Moments of stories in every cell."""
    rng = np.random.default_rng(seed)
    scatter = {half: rng.normal(size=(layers, triangle(width))).astype(np.float32) for half in (0, 1)}
    offsets = rng.normal(size=(emotions, folds, layers, width)).astype(np.float32)
    names = tuple(f"e{i:03d}" for i in range(emotions))
    topics = {f"topic {i}": i for i in range(folds)}
    return Moments(names, tuple(range(layers)), topics, np.full((emotions, folds), 3), rng.normal(size=(layers, width)), offsets,
                   scatter, ABOUT)  # fmt: skip


def test_merging_holds_what_is_said_and_no_more():
    """Two full sums and the new one, layer by layer: 4 GB at the paper's size, whatever the number of units."""
    emotions, folds, layers, width = 20, cost.FOLDS, 24, 160
    tracemalloc.start()
    total = full(emotions, folds, layers, width, 0)
    for seed in (1, 2):
        total = merge(total, full(emotions, folds, layers, width, seed))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total.nbytes == moments_bytes(emotions, folds, layers, width)
    assert total.nbytes * 2 < peak < 1.15 * 3 * total.nbytes
    assert merging_bytes(LARGE, PAPER) == 3 * moments_bytes(171, 8, 48, 2048) < 4.1e9


def test_disk_is_counted_where_a_folder_will_be(tmp_path):
    assert cost.free_disk(tmp_path / "not" / "yet") == cost.free_disk(Path(tmp_path))
