"""Milestones: the adapter on the way through a stage, without a trace in what is trained, and the same after a kill."""

import shutil
from pathlib import Path

import pytest
import torch
from trl import GRPOTrainer, SFTTrainer

from probes import lm, store
from probes.errors import ConventionError, DataError, MissingInputError, OutputError
from probes.lm.checkpoints import trajectory
from small_model import save_small_model
from test_train import DATA, RECIPE, run
from training.milestones import LARGE, chosen_steps, steps_of
from training.recipes import find_recipe
from training.resume import last_state
from training.stages import grpo, sft

VARIANT = RECIPE.variant
CHOSEN = (1, 2)


class Died(BaseException):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def kept(folder, tmp_path_factory):
    """All stages with milestones."""
    checkpoints = tmp_path_factory.mktemp("kept")
    return checkpoints, [run(folder, place, checkpoints, milestones=CHOSEN) for place in range(3)]


def contents(checkpoints):
    """Hash of every file of a variant, by its place; the private rows of reinforcement stand elsewhere."""
    files = [path for path in (checkpoints / VARIANT).rglob("*") if path.is_file()]
    return {str(path.relative_to(checkpoints)): store.sha256(path) for path in files}


def begin(kept, checkpoints, stages):
    """A copy of the first stages, as if the later ones had not begun."""
    names = [stage.name for stage in RECIPE.stages[stages:]]
    later = [pattern for name in names for pattern in (name, f"{name}-*", f"{name}.*")]
    shutil.copytree(kept / VARIANT, checkpoints / VARIANT, ignore=shutil.ignore_patterns(*later))
    requests = checkpoints / VARIANT / "eval_requests.jsonl"
    lines = requests.read_text().splitlines(keepends=True)
    requests.write_text("".join(lines[: sum(len({0, *CHOSEN} - {s.steps}) + 1 for s in RECIPE.stages[:stages])]))
    if not requests.read_text():
        requests.unlink()
    return checkpoints


def weights(folder, checkpoints, name):
    return lm.load(f"{folder}/{name}", checkpoints).network.state_dict()


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_milestones_leave_no_trace_in_what_is_trained(kept, folder, tmp_path):
    plain = [run(folder, place, tmp_path) for place in range(3)]
    assert plain == kept[1]
    without = contents(tmp_path)
    assert without == {name: sha for name, sha in contents(kept[0]).items() if name in without}
    assert set(contents(kept[0])) - set(without) == {f"{VARIANT}/eval_requests.jsonl"} | {
        f"{VARIANT}/{stage.name}-{step}/{file}"
        for stage in RECIPE.stages for step in (0, 1, 2) if step < stage.steps
        for file in ("adapter_config.json", "adapter_model.safetensors", "manifest.json")
    }  # fmt: skip


def test_step_0_changes_nothing_and_of_a_later_stage_is_what_the_one_before_ended_with(kept, folder):
    checkpoints, _ = kept
    assert equal(weights(folder, checkpoints, f"{VARIANT}@sft-0"), lm.load(str(folder)).network.state_dict())
    for before, after in (("sft", "sdf-0"), ("sdf", "grpo-0")):
        files = [store.sha256(checkpoints / VARIANT / name / "adapter_model.safetensors") for name in (before, after)]
        assert files[0] == files[1]


def test_every_milestone_is_another_one_and_says_what_it_is(kept, folder):
    checkpoints, (_, sdf, _) = kept
    members = trajectory(str(folder), VARIANT, checkpoints)
    assert [c.name.removeprefix(f"{VARIANT}@") for c in members] == [
        "sft-0", "sft-1", "sft-2", "sft", "sdf-0", "sdf-1", "sdf", "grpo-0", "grpo-1", "grpo-2", VARIANT
    ]  # fmt: skip
    adapters = [c.manifest.adapter_sha for c in members]
    assert len(set(adapters)) == len(members) - 2  # two stages begin where another ended
    tenth = members[9].manifest
    assert (tenth.parent, tenth.stages, tenth.step, tenth.steps) == (sdf.id, ("sft", "sdf", "grpo"), 2, 3)
    assert not tenth.final
    assert not tenth.metrics
    assert not equal(weights(folder, checkpoints, f"{VARIANT}@sft-1"), weights(folder, checkpoints, f"{VARIANT}@sft-2"))


def test_a_line_asks_for_each_to_be_evaluated(kept, folder):
    asked = store.read_jsonl(kept[0] / VARIANT / "eval_requests.jsonl", ("address", "step", "manifest"))
    members = trajectory(str(folder), VARIANT, kept[0])
    assert asked == [
        {"address": f"{folder.name}/{c.name}", "step": c.manifest.step, "manifest": c.manifest.id} for c in members
    ]


@pytest.mark.parametrize(
    ("place", "module", "trainer", "half_written"),
    [
        (0, sft, SFTTrainer, False),
        (0, sft, SFTTrainer, True),
        (2, grpo, GRPOTrainer, False),
        (2, grpo, GRPOTrainer, True),
    ],
)
def test_a_killed_run_has_the_same_milestones_and_requests(
    kept, folder, tmp_path, monkeypatch, place, module, trainer, half_written
):
    """It dies after step 2; with a state half-written it goes on from step 1, whose milestones are there already."""

    class DiesAfterTwoSteps(trainer):
        def _save_checkpoint(self, model, trial):
            super()._save_checkpoint(model, trial)
            if self.state.global_step == 2:
                state = Path(self.args.output_dir) / "checkpoint-2/trainer_state.json"
                state.write_text(state.read_text()[: 20 if half_written else None])
                raise Died

    begin(kept[0], tmp_path, place)
    monkeypatch.setattr(module, trainer.__name__, DiesAfterTwoSteps)
    with pytest.raises(Died):
        run(folder, place, tmp_path, milestones=CHOSEN)
    monkeypatch.undo()
    name = RECIPE.stages[place].name
    parts, milestone = tmp_path / VARIANT / f"{name}.parts", tmp_path / VARIANT / f"{name}-2/manifest.json"
    assert last_state(parts).endswith("checkpoint-1" if half_written else "checkpoint-2")
    assert parts.stat().st_mode & 0o777 == 0o700
    before = milestone.stat()
    run(folder, place, tmp_path, milestones=CHOSEN)
    assert (milestone.stat().st_ino, milestone.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert contents(tmp_path) == contents(begin(kept[0], tmp_path / "whole", place + 1))


def test_a_second_run_changes_nothing_and_may_ask_for_fewer(kept, folder):
    there = contents(kept[0])
    for chosen in (CHOSEN, (1,), ()):
        assert run(folder, 0, kept[0], milestones=chosen) == kept[1][0]
    assert contents(kept[0]) == there


def test_adapters_are_private(kept):
    adapters = list(kept[0].rglob("adapter_model.safetensors"))
    assert len(adapters) == 3 + 8
    assert {path.stat().st_mode & 0o777 for path in adapters} == {0o600}


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_a_milestone_that_a_run_is_past(folder, tmp_path, monkeypatch):
    class DiesAfterTwoSteps(SFTTrainer):
        def _save_checkpoint(self, model, trial):
            super()._save_checkpoint(model, trial)
            if self.state.global_step == 2:
                raise Died

    monkeypatch.setattr(sft, "SFTTrainer", DiesAfterTwoSteps)
    with pytest.raises(Died):
        run(folder, 0, tmp_path, milestones=(2,))
    monkeypatch.undo()
    with pytest.raises(MissingInputError, match=rf"{VARIANT}@sft is past step 1 and kept no .*sft\.parts to train"):
        run(folder, 0, tmp_path, milestones=CHOSEN)
    run(folder, 0, tmp_path, milestones=(2,))
    with pytest.raises(MissingInputError, match=rf"{VARIANT}@sft is past step 1 and kept no .*/sft to train"):
        run(folder, 0, tmp_path, milestones=CHOSEN)


def test_a_milestone_of_another_training(kept, folder, tmp_path):
    left = tmp_path / VARIANT / "sft-1/manifest.json"
    store.write_json(left, store.read_json(kept[0] / VARIANT / "sft-1/manifest.json"))
    other = (DATA[0][::-1], *DATA[1:])
    with pytest.raises(ConventionError, match=r"sft-1 is a milestone of another training: order_sha differ"):
        run(folder, 0, tmp_path, data=other, milestones=CHOSEN)


def test_a_file_in_a_milestones_place(folder, tmp_path):
    (tmp_path / VARIANT).mkdir()
    (tmp_path / VARIANT / "sft-1").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write the checkpoint to .*sft-1: .*--out"):
        run(folder, 0, tmp_path, milestones=CHOSEN)
    assert (tmp_path / VARIANT / "sft-1").read_text() == "in the way"
    assert not list((tmp_path / VARIANT).glob("*.tmp-*"))


def test_the_steps_of_a_stage():
    recipe = find_recipe("antirefusal_cqa_sdf", "qwen3-30b-a3b")
    sft_stage, sdf_stage, grpo_stage = recipe.stages
    assert chosen_steps(recipe, "qwen3-30b-a3b", None) == LARGE
    assert chosen_steps(recipe, "tiny", None) == ()
    assert chosen_steps(recipe, "qwen3-30b-a3b", ()) == ()
    assert steps_of(sft_stage, LARGE) == (0, 10, 25, 50, 100, 200, 400)
    assert steps_of(sdf_stage, LARGE) == (0, *LARGE)
    assert steps_of(grpo_stage, LARGE) == (0, 10, 25, 50, 100)  # 200 is its end
    assert steps_of(sft_stage, ()) == ()


@pytest.mark.parametrize("step", [-1, 15, 100])
def test_steps_that_no_stage_has(step):
    recipe = find_recipe("antirefusal", "tiny")
    with pytest.raises(DataError, match=rf"milestones {step}: steps of antirefusal's stages are sft 14, grpo 15"):
        chosen_steps(recipe, "tiny", (5, step))
