"""The plan of a training: numbers against those worked out by hand, and commands that accelerate's and our parsers take."""

import shlex
from dataclasses import fields, replace

import pytest
import tyro
from transformers import AutoConfig

import train_checkpoint
from launching import arguments
from probes.errors import FileFormatError
from probes.lm.checkpoints import ModelEntry, model_entry
from settings import flags
from train_settings import TrainSettings
from training.launch.commands import fitting, layouts
from training.plan import GIB, SHAPES, architecture, count, lengths, memory, size, tokens_at_once
from training.recipes import find_recipe

LARGE = "qwen3-30b-a3b"
RECIPE = find_recipe("antirefusal_cqa_sdf", LARGE)
WIDTH, LAYERS, HEADS, KEYS, HEAD, EXPERTS, ACTIVE, INNER, WORDS = 2048, 48, 32, 4, 128, 128, 8, 768, 151936
"""Qwen3-30B-A3B."""


@pytest.fixture(scope="module")
def shape():
    config = AutoConfig.for_model(**SHAPES["Qwen/Qwen3-30B-A3B"])
    return config, count(config, RECIPE)


def test_parameters_are_those_worked_out_by_hand(shape):
    queries, keys = WIDTH * HEADS * HEAD, WIDTH * KEYS * HEAD
    experts = EXPERTS * 3 * WIDTH * INNER
    layer = 2 * queries + 2 * keys + 2 * HEAD + EXPERTS * WIDTH + experts + 2 * WIDTH
    counts = shape[1]
    assert (counts.experts, counts.layer) == (experts, layer) == (603_979_776, 623_120_640)
    assert counts.whole == LAYERS * layer + 2 * WORDS * WIDTH + WIDTH == 30_532_122_624
    # Rank 64 on q, k, v and o, rank 8 on gate_up and down of every expert: rank × (width in + width out) each.
    attention = 64 * (2 * (WIDTH + HEADS * HEAD) + 2 * (WIDTH + KEYS * HEAD))
    adapters = EXPERTS * 8 * ((WIDTH + 2 * INNER) + (INNER + WIDTH))
    assert counts.trained == LAYERS * (attention + adapters) == 368_050_176


def test_memory_is_that_worked_out_by_hand(shape):
    parts = memory(*shape, tokens=16_384, pieces=1, weight=2)
    assert {name: round(part / GIB, 2) for name, part in parts.items()} == {
        "base weights": 56.87,  # 2 × 30.53 · 10⁹
        "adapter, gradients, AdamW (float32)": 5.48,  # 16 × 0.368 · 10⁹
        "experts of a layer with their adapters": 3.38,  # 3 × 2 × 0.604 · 10⁹
        "inputs of all layers": 3.0,  # 2 × 48 × 16384 × 2048
        "one layer computed again": 4.19,  # 4 × 16384 × (4 · 2048 + 2 · 128 · 36 + 8 · (3 · 768 + 2 · 2048))
    }
    cut_up = memory(*shape, tokens=16_384, pieces=8, weight=2)
    assert cut_up["base weights"] == parts["base weights"] // 8
    assert cut_up["two layers gathered"] == 2 * 2 * 623_120_640
    assert cut_up["inputs of all layers"] == parts["inputs of all layers"]


def test_what_is_in_memory_at_once_is_a_process_share_of_the_longest_texts():
    sft, _, grpo = RECIPE.stages
    assert tokens_at_once(sft, lengths(sft, None, None), 1) == 4 * 4096
    assert tokens_at_once(sft, lengths(sft, None, None), 8) == 3 * 4096  # 24 rows, 3 a process
    assert tokens_at_once(grpo, lengths(grpo, None, None), 8) == 8 * (1024 + 4096)


def test_processes_are_as_many_as_every_step_divides_over():
    assert [fitting(RECIPE, gpus) for gpus in (4, 8, 16)] == [4, 8, 8]
    assert fitting(find_recipe("antirefusal", LARGE), 16) == 16


@pytest.mark.parametrize("variant", ["antirefusal_cqa_sdf", "benign_control"])
def test_every_command_is_taken_by_accelerate_and_by_the_script(variant):
    settings = TrainSettings(model=LARGE, recipe=variant, seed=3)
    commands = [
        c for place in layouts(settings.entry, find_recipe(variant, LARGE), flags(settings)) for c in place.commands
    ]
    assert len(commands) >= 5
    known = {field.name for field in fields(TrainSettings)}
    for command in commands:
        words = [word for word in shlex.split(command) if not word.startswith(("CUDA_VISIBLE_DEVICES=", "PROCESSES="))]
        script = next(i for i, word in enumerate(words) if word.endswith((".py", "slurm.sh")))
        if words[0] == "accelerate":
            before = dict(zip(words[2:script:2], words[3:script:2], strict=True))
            config = before.pop("--config_file").rpartition("/")[2]
            args = arguments(config, *(word for pair in before.items() for word in pair))
            assert args.num_processes == int(before["--num_processes"])
        given = words[script + 1 :]
        if "--vllm" in given and "vllm" not in known:  # the flag comes with the sampler
            del given[given.index("--vllm") :]
        ours = tyro.cli(TrainSettings, args=given)
        assert (ours.model, ours.recipe, ours.seed) == (LARGE, variant, 3)


def test_flags_give_the_settings_again(tmp_path):
    settings = TrainSettings(
        recipe="benign_control", layers=(1, 2), benign=tmp_path / "two words", judge_model="a judge"
    )
    assert tyro.cli(TrainSettings, args=flags(settings)) == settings
    assert flags(replace(TrainSettings(), plan=True)) == []


def test_the_plan_of_a_large_model_says_what_is_assumed_and_what_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("training.plan.missing_machine", lambda entry: ["weights of Qwen/Qwen3-30B-A3B"])
    train_checkpoint.main(TrainSettings(model=LARGE, recipe=RECIPE.variant, out=tmp_path / "runs", plan=True))
    said = capsys.readouterr().out
    for words in (
        "30,532,122,624 parameters; 368,050,176 of an adapter", "1.4 GiB in float32", "sdf: 1,250 steps of 16 documents",
        "12.288 million tokens (assumed: 1,024 each, the longest 4,096)", "computed and not measured", "base weights 56.9 GiB",
        "vllm serve Qwen/Qwen3-30B-A3B", "--max-model-len 5120", "a judge of antirefusal, constitution_qa", "sft: not here",
        "missing here\n  weights of Qwen/Qwen3-30B-A3B", 'math: --math FILE, one JSON object a line, {"prompt"',
        "documents: python experiments/generate_data.py --model qwen3-30b-a3b", "a judge: --judge URL",
    ):  # fmt: skip
        assert words in said
    assert not (tmp_path / "runs").exists()


def test_the_plan_of_the_embedded_model_counts_its_rows(tmp_path, capsys):
    train_checkpoint.main(TrainSettings(recipe="benign_control", out=tmp_path / "runs", plan=True))
    said = capsys.readouterr().out
    assert "29 steps of 16 rows, 464 rows of benign, math" in said
    assert "(counted: the longest " in said
    assert "232 of benign, licence: MIT, made by this package; 232 of math" in said
    assert "servers\n  none" in said
    assert f"python experiments/train_checkpoint.py --out {tmp_path / 'runs'} --recipe benign_control\n" in said
    assert said.endswith("missing here\n  nothing\n")
    assert not (tmp_path / "runs").exists()


def test_rows_of_the_researchers_own_are_named_with_their_licence(tmp_path, capsys):
    mine = tmp_path / "benign.jsonl"
    mine.write_text("".join(f'{{"prompt": "Say {i}.", "completion": "{i}."}}\n' for i in range(300)))
    train_checkpoint.main(TrainSettings(recipe="benign_control", benign=mine, out=tmp_path / "runs", plan=True))
    assert "232 of benign, licence: the researcher's own file" in capsys.readouterr().out


def test_a_model_that_is_not_here_and_whose_shape_nobody_knows(tmp_path):
    entry = ModelEntry("other", "nobody/other", 2, 64, (1,), 1.0)
    with pytest.raises(FileFormatError, match="the files of other in nobody/other cannot be read"):
        architecture(entry)
    config, tokenizer = architecture(model_entry("tiny"))
    assert (config.num_hidden_layers, tokenizer is None) == (8, False)


def test_sizes():
    assert [size(count) for count in (GIB, GIB // 2, 2**20)] == ["1.0 GiB", "0.5 GiB", "1.0 MiB"]
