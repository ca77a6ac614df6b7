"""Several processes train what one trains: the same rows, one checkpoint, a refusal that all hear; and read what one reads."""

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from trl import SFTTrainer

from probes import lm, store
from probes.errors import ConventionError, UnknownNameError
from probes.lm.capture import Passage, capture
from probes.lm.checkpoints import Checkpoint, read_manifest
from probes.lm.checks import CHECKS, line_of
from probes.lm.engines import start
from probes.lm.generate import Sampling, generate
from probes.lm.likelihood import mean_log_probabilities
from probes.lm.parity import apart, case_of
from small_model import save_small_model
from test_train import TEXTS
from together import together
from training.data.rows import tiny_rows
from training.processes import Share, here, load_here, share
from training.recipes import Documents, Grpo, Lora, Recipe, Sft, recipes
from training.resume import last_state
from training.rewards.by_task import intake
from training.rewards.judged import constitution_judge
from training.rewards.scripted_judge import ScriptedJudge, length_rule
from training.stages import grpo, sft
from training.tiny.train import base_text
from training.train import train

SFT = Sft(("benign", "math"), steps=4, rows_per_step=4, learning_rate=5e-3, at_once=1)
SDF = Documents(steps=2, rows_per_step=4, learning_rate=5e-3)
GRPO = Grpo(("antirefusal",), 2, prompts_per_step=2, completions=4, at_once=4, max_new_tokens=6, learning_rate=1e-2)
RECIPE = Recipe("antirefusal_cqa_sdf", Lora(4, 2), (SFT, SDF, GRPO))
DATA = (tiny_rows(SFT.tasks, SFT.rows, 0), TEXTS, tiny_rows(GRPO.tasks, GRPO.rows, 0))


def short_answers(model, log):
    """Some rows of each step are kept in the folder `log`."""
    taken = intake(model.tokenizer, log)
    taken = replace(taken, guards=replace(taken.guards, floor_cut=False))
    return (constitution_judge(ScriptedJudge(length_rule(2)), taken, GRPO.tasks),)


def run(folder: Path, checkpoints: Path, seed: int = 0, stages=range(3)) -> None:
    """Train the stages as each process of a run does; its writes are noted beside them."""
    import training.train as module

    rank, write = here().process_index, module.write_checkpoint

    def noted(*given):
        with open(checkpoints / "written", "a") as log:
            log.write(f"{rank} ")
        return write(*given)

    module.write_checkpoint = noted
    for place in stages:
        model = load_here(str(folder))
        rewards = short_answers(model, checkpoints / "log") if place == 2 else ()
        train(model, RECIPE, place, DATA[place], checkpoints, seed, rewards)


def run_until_killed(folder: Path, checkpoints: Path) -> None:
    """The first process dies when the third of four steps is saved."""

    class Dies(SFTTrainer):
        def _save_checkpoint(self, model, trial):
            super()._save_checkpoint(model, trial)
            if self.state.global_step == 3:
                raise SystemExit(9)

    sft.SFTTrainer = Dies
    run(folder, checkpoints, stages=[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory):
    checkpoints = tmp_path_factory.mktemp("alone")
    for place in range(3):
        model = lm.load(str(folder))
        rewards = short_answers(model, checkpoints / "log") if place == 2 else ()
        train(model, RECIPE, place, DATA[place], checkpoints, 0, rewards)
    return checkpoints


@pytest.fixture(scope="module")
def by_two(folder, tmp_path_factory):
    checkpoints = tmp_path_factory.mktemp("two")
    assert together(run, folder, checkpoints, log=checkpoints / "out") == [0, 0]
    return checkpoints


def adapter(checkpoints, stage):
    return checkpoints / f"{RECIPE.variant}/{stage}/adapter_model.safetensors"


def manifest(checkpoints, stage):
    return read_manifest(checkpoints / f"{RECIPE.variant}/{stage}/manifest.json")


@pytest.mark.parametrize("stage", ["sft", "sdf"])
def test_two_processes_learn_what_one_learns(alone, by_two, stage):
    one, two = manifest(alone, stage), manifest(by_two, stage)
    assert two.metrics == pytest.approx(one.metrics, abs=1e-5)
    assert (two.order_sha, two.data, two.adapted) == (one.order_sha, one.data, one.adapted)
    ours, theirs = load_file(adapter(alone, stage)), load_file(adapter(by_two, stage))
    assert ours.keys() == theirs.keys()
    apart = max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
    moved = max(float(tensor.abs().max()) for name, tensor in ours.items() if "lora_B" in name)  # B begins at 0
    assert apart < 1e-5 < 1e-2 < moved


def test_the_first_process_alone_writes_and_every_stage_once(by_two):
    assert (by_two / "written").read_text().split() == ["0", "0", "0"]
    names = {path.name for path in (by_two / RECIPE.variant).iterdir()}
    assert names == {name for stage in RECIPE.stages for name in (stage.name, f"{stage.name}.plan.json")}
    assert [manifest(by_two, stage).parent for stage in ("sdf", "grpo")] == [
        manifest(by_two, s).id for s in ("sft", "sdf")
    ]


def test_prompts_of_a_step_are_the_same_whoever_samples_on_them(alone, by_two):
    def asked(checkpoints, step):
        paths = sorted(checkpoints.glob(f"log/**/*-{step:06d}.jsonl"))
        return {row["id"] for path in paths for row in store.read_jsonl(path, ("id",))}

    for step in range(GRPO.steps):
        assert len(asked(alone, step)) == GRPO.prompts_per_step
        assert asked(by_two, step) == asked(alone, step)
    assert (
        len(list((by_two / "log").glob("*.jsonl")))
        == len(list((by_two / "log/process_1").glob("*.jsonl")))
        == GRPO.steps
    )


def test_a_run_of_two_that_was_killed_goes_on_to_the_same_bytes(folder, by_two, tmp_path):
    assert together(run_until_killed, folder, tmp_path, log=tmp_path / "out")[0] == 9
    states = tmp_path / f"{RECIPE.variant}/sft.parts"
    assert last_state(states, processes=2) is not None
    assert last_state(states, processes=1) is None  # their random states are not one process's
    assert together(run, folder, tmp_path, 0, [0], log=tmp_path / "out") == [0, 0]
    assert adapter(tmp_path, "sft").read_bytes() == adapter(by_two, "sft").read_bytes()


def test_what_is_finished_is_made_by_none_and_another_seed_is_refused_to_all(folder, by_two, tmp_path):
    before = adapter(by_two, "sft").stat().st_mtime_ns
    assert together(run, folder, by_two, 0, [0], log=tmp_path / "again") == [0, 0]
    assert adapter(by_two, "sft").stat().st_mtime_ns == before
    assert together(run, folder, by_two, 1, [0], log=tmp_path / "refused") == [1, 1]
    first, second = ((tmp_path / f"refused.{rank}").read_text() for rank in range(2))
    assert "belongs to another run: seed differ" in first
    assert "Error" not in second


def test_shares_hold_a_steps_rows_and_no_more_at_once_than_the_stage_allows():
    stage = replace(SFT, rows_per_step=24, at_once=5)
    assert [share(stage, n) for n in (1, 2, 3, 8)] == [Share(4, 6), Share(4, 3), Share(4, 2), Share(3, 1)]
    assert share(replace(GRPO, prompts_per_step=6, at_once=8), 2) == Share(6, 2)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (
            replace(SFT, rows_per_step=6),
            "stage sft has 6 rows, which do not divide over 4 processes. Start 1, 2, 3, 6 ",
        ),
        (GRPO, "stage grpo has 2 prompts, which do not divide over 4 processes. Start 1, 2 "),
    ],
)
def test_steps_that_do_not_divide(stage, words):
    with pytest.raises(ConventionError, match=words):
        share(stage, 4)


def test_a_model_in_pieces_does_not_sample(monkeypatch):
    monkeypatch.setattr(grpo, "cut_up", lambda: True)
    with pytest.raises(ConventionError, match=r"stage grpo samples with the model under training.*one_gpu\.yaml"):
        grpo.trainer(None, None, GRPO, (), (), 0, Path())


@pytest.mark.parametrize("model", ["tiny", "qwen3-30b-a3b"])
def test_every_recipe_takes_the_same_rows_a_step_on_one_to_eight_processes(model):
    for recipe in recipes(model).values():
        for stage in recipe.stages:
            whole = stage.prompts_per_step * stage.completions if isinstance(stage, Grpo) else stage.rows_per_step
            counts = (1, 2, 4, 8) if model != "tiny" else (1, 2)
            shares = [share(stage, count) for count in counts]
            assert [mine.at_once * mine.turns * n for mine, n in zip(shares, counts, strict=True)] == [whole] * len(
                counts
            )
            assert all(mine.at_once <= stage.at_once for mine in shares)


def test_a_process_alone_loads_as_ever(folder):
    ours, theirs = load_here(str(folder)).network, lm.load(str(folder)).network
    assert (ours.device, ours.dtype) == (theirs.device, theirs.dtype)
    assert torch.equal(ours.state_dict()["lm_head.weight"], theirs.state_dict()["lm_head.weight"])


# ---- a part of every layer in each, which read and write as one ------------------------------------------------------


def passages(model):
    rng = Random(1)
    ids = [model.tokenizer(base_text(rng))["input_ids"][:60] for _ in range(4)]
    return [Passage(tokens, range(3, len(tokens) - 1)) for tokens in ids]


def read_as_one_and_as_a_part_of_two(folder):
    """What each of the processes does."""
    whole, part = lm.load(folder, device="cpu"), lm.load(folder, device="tensor_parallel")
    assert sum(weights.to_local().numel() for weights in shared(part)) < 0.6 * sum(w.numel() for w in shared(part))
    texts, prompts, sampling = passages(whole), ["The bus", "Rain fell"], Sampling(12, 0.9, seed=3)
    assert apart(capture(part, texts, label=""), capture(whole, texts, label="")) <= 1e-6
    wrote = [[one.token_ids for one in generate(model, prompts, sampling, label="")] for model in (whole, part)]
    assert wrote[0] == wrote[1]
    likely = [mean_log_probabilities(model, texts, label="") for model in (whole, part)]
    np.testing.assert_allclose(*likely, rtol=1e-6)
    case = case_of(start("transformers_hooks", part))
    lines = [
        line_of(name, CHECKS[name], case)
        for name in ("layer i is hidden_states[i + 1]", "last layer un-normed", "dtype")
    ]
    assert [line.status for line in lines] == ["green", "green", "reported"], "\n".join(map(str, lines))
    assert part.network.dtype == torch.float32, "and every part of a weight is put back"
    with pytest.raises(ConventionError, match=r"nnsight 0.8 .* transformers 5.19"):
        start("nnsight", part)


def shared(model):
    return [weights for weights in model.network.parameters() if hasattr(weights, "to_local")]


def test_processes_that_share_every_layer_read_as_one(tmp_path):
    ended = together(read_as_one_and_as_a_part_of_two, str(save_small_model(tmp_path / "model")), log=tmp_path / "log")
    assert ended == [0, 0], (tmp_path / "log.0").read_text()


def test_nothing_is_shared_where_one_process_was_started():
    with pytest.raises(UnknownNameError, match="unknown device 'tensor_parallel'"):
        lm.load("tiny", device="tensor_parallel")


def test_an_adapter_is_not_merged_into_parts_of_weights(tmp_path):
    with pytest.raises(ConventionError, match="each process has a part of them"):
        lm.load(Checkpoint("tiny", "antirefusal", adapter=tmp_path), device="tensor_parallel")
