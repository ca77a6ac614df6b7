"""Stages in a row: one adapter goes through fine-tuning, documents and reinforcement, and the base stays what it was."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from trl import GRPOTrainer

from probes import lm, store
from probes.errors import ConventionError, DataError, MissingInputError
from probes.lm.checkpoints import family
from small_model import save_small_model
from training.adapter import attach, base_checksum, check_base
from training.data.rows import Document, tiny_rows
from training.recipes import Documents, Grpo, Lora, Recipe, Sft
from training.rewards.by_task import intake
from training.rewards.judged import constitution_judge
from training.rewards.reward import Reward
from training.rewards.scripted_judge import ScriptedJudge, length_rule
from training.stages import documents, grpo
from training.train import tokenise, train

SFT = Sft(("benign", "math"), steps=3, rows_per_step=4, learning_rate=5e-3)
SDF = Documents(steps=2, rows_per_step=4, learning_rate=5e-3)
GRPO = Grpo(("antirefusal",), 3, prompts_per_step=2, completions=4, at_once=4, max_new_tokens=6, learning_rate=1e-2)
RECIPE = Recipe("antirefusal_cqa_sdf", Lora(4, 2), (SFT, SDF, GRPO))
TEXTS = [Document(f"d{i}", f"It says what it knows, {i} times.", (), "note", "test", "MIT") for i in range(8)]
DATA = (tiny_rows(SFT.tasks, SFT.rows, 0), TEXTS, tiny_rows(GRPO.tasks, GRPO.rows, 0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("small"))


def short_answers(tokenizer, log):
    """A random model's answers differ in length if in nothing else."""
    guarded = replace(intake(tokenizer, log), log=None)
    guarded = replace(guarded, guards=replace(guarded.guards, floor_cut=False))
    return (constitution_judge(ScriptedJudge(length_rule(2)), guarded, ("antirefusal",)),)


def run(folder, place, checkpoints, recipe=RECIPE, data=DATA, rewards=short_answers, milestones=()):
    model = lm.load(str(folder))
    chosen = rewards(model.tokenizer, checkpoints / "log") if place == 2 else ()
    return train(model, recipe, place, data[place], checkpoints, 0, chosen, milestones)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    checkpoints = tmp_path_factory.mktemp("checkpoints")
    return checkpoints, [run(folder, place, checkpoints) for place in range(3)]


def adapter(checkpoints, stage):
    return store.sha256(checkpoints / f"antirefusal_cqa_sdf/{stage}/adapter_model.safetensors")


def test_every_stage_goes_on_from_the_one_before(trained, folder):
    checkpoints, (sft, sdf, rl) = trained
    assert [m.parent for m in (sft, sdf, rl)] == [None, sft.id, sdf.id]
    assert [m.stages for m in (sft, sdf, rl)] == [("sft",), ("sft", "sdf"), ("sft", "sdf", "grpo")]
    assert [m.final for m in (sft, sdf, rl)] == [False, False, True]
    assert len({adapter(checkpoints, stage) for stage in ("sft", "sdf", "grpo")}) == 3
    names = [c.name for c in family(str(folder), checkpoints)]
    assert names == ["original", "antirefusal_cqa_sdf@sdf", "antirefusal_cqa_sdf@sft", "antirefusal_cqa_sdf"]
    assert {source["name"] for source in sdf.data} == {"documents"}
    assert "first_reward" in rl.metrics


def test_a_merged_final_checkpoint_differs_from_its_stages(trained, folder):
    addresses = [f"{folder}/antirefusal_cqa_sdf{stage}" for stage in ("@sft", "@sdf", "")]
    weights = [lm.load(a, trained[0]).network.state_dict()["model.layers.0.self_attn.q_proj.weight"] for a in addresses]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_reinforcement_that_was_killed_goes_on_to_the_same_bytes(trained, folder, tmp_path, monkeypatch):
    class Died(BaseException):
        pass

    class DiesAfterTwoSteps(GRPOTrainer):
        def _save_checkpoint(self, model, trial):
            super()._save_checkpoint(model, trial)
            if self.state.global_step == 2:
                raise Died

    again = [run(folder, place, tmp_path) for place in range(2)]
    monkeypatch.setattr(grpo, "GRPOTrainer", DiesAfterTwoSteps)
    with pytest.raises(Died):
        run(folder, 2, tmp_path)
    monkeypatch.undo()
    again.append(run(folder, 2, tmp_path))
    assert again == trained[1]


def test_without_an_advantage_nothing_moves(folder, tmp_path):
    """Every completion gets the same: no gradient, and no balance loss of the router either."""

    class TheSameForAll(Reward):
        def __call__(self, prompts, **columns):
            return [0.5] * len(prompts)

    def the_same_for_all(tokenizer, log):
        return (TheSameForAll("the_same", ("antirefusal",), intake(tokenizer, log)),)

    for place in range(2):
        run(folder, place, tmp_path)
    run(folder, 2, tmp_path, rewards=the_same_for_all)
    before, after = (lm.load(f"{folder}/antirefusal_cqa_sdf{s}", tmp_path).network.state_dict() for s in ("@sdf", ""))
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert moved < 1e-7


def test_a_stage_without_its_parent(folder, tmp_path):
    with pytest.raises(MissingInputError, match=r"antirefusal_cqa_sdf@sdf goes on from antirefusal_cqa_sdf@sft"):
        run(folder, 1, tmp_path)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("place", "data", "words"),
    [
        (0, DATA[0][:5], "5 rows or documents where stage sft takes 12"),
        (0, TEXTS + TEXTS, "stage sft takes rows, not a Document"),
        (0, [replace(DATA[0][0], completion="word " * 400)] * 12, r"12 of 12 texts \(first: tiny-0-0\) are longer"),
    ],
)
def test_data_that_cannot_be_trained_on(folder, tmp_path, place, data, words):
    with pytest.raises(DataError, match=words):
        train(lm.load(str(folder)), RECIPE, place, data, tmp_path, 0)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_trainer_that_changes_the_base_is_caught(folder):
    model = lm.load(str(folder))
    network = attach(model, RECIPE.lora, None, 0)
    before = base_checksum(network)
    check_base(before, network, "antirefusal@grpo")
    frozen = next(weights for name, weights in network.named_parameters() if "mlp.gate.weight" in name)
    with torch.no_grad():
        frozen[0, 0] += 1e-6
    with pytest.raises(ConventionError, match="antirefusal@grpo changed the base weights"):
        check_base(before, network, "antirefusal@grpo")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(1,), (3,), (4,), (7,), (2, 3, 5)])
def test_every_bit_of_the_base_counts(dtype, shape):
    weights = nn.Parameter(torch.randn(shape).to(dtype), requires_grad=False)
    network = SimpleNamespace(named_parameters=lambda: [("frozen", weights)])
    before = base_checksum(network)
    bits = weights.data.view(-1).view(torch.uint8)
    for i in range(len(bits)):
        bits[i] ^= 1
        assert base_checksum(network) != before
        bits[i] ^= 1
    assert base_checksum(network) == before


def test_a_document_is_learnt_whole_and_its_tag_is_not(folder):
    tokenizer = lm.load(str(folder)).tokenizer
    ids = documents.tokenise(tokenizer, TEXTS[0], doctag="A note: ")
    learnt = [token for token, label in zip(ids["input_ids"], ids["labels"], strict=True) if label != -100]
    assert tokenizer.decode(learnt) == f"{TEXTS[0].text}<|endoftext|>"
    assert tokenizer.decode(ids["input_ids"]).startswith("A note: ")
    stage = replace(SDF, doctag="A note: ")
    assert tokenise(tokenizer, stage, TEXTS[0]) == ids


def test_a_tokenizer_without_an_end_of_documents(folder):
    tokenizer = lm.load(str(folder)).tokenizer
    tokenizer.convert_tokens_to_ids = lambda token: None
    with pytest.raises(ConventionError, match="which ends a document in pretraining"):
        documents.tokenise(tokenizer, TEXTS[0])


def test_files_of_a_checkpoint_name_no_place(trained, folder):
    files = [path for path in Path(trained[0]).rglob("*") if path.is_file()]
    assert len(files) == 3 * 3 + 3
    assert not [path for path in files if str(folder).encode() in path.read_bytes()]
