"""What trl is told of reinforcement, with a server that samples and without, and what it prints: nothing of a row."""

import logging
from copy import deepcopy
from dataclasses import fields, replace

import pytest
import torch
from huggingface_hub.utils import _telemetry
from trl import GRPOConfig

from probes import lm, store
from probes.errors import ConventionError, MissingInputError
from small_model import save_small_model
from stub_vllm import Sampler, StubVllm, served, stand_in
from training.adapter import attach
from training.data.rows import Row
from training.recipes import Grpo, Lora, Recipe
from training.rewards.by_task import intake
from training.rewards.judged import constitution_judge
from training.rewards.reward import Reward
from training.rewards.sample_log import UNSCORED
from training.rewards.scripted_judge import ScriptedJudge, length_rule
from training.stages import grpo
from training.train import train
from training.vllm_server import Server

STAGE = Grpo(("antirefusal",), 3, prompts_per_step=2, completions=4, at_once=4, max_new_tokens=6, learning_rate=1e-2)
RECIPE = Recipe("antirefusal", Lora(4, 2), (STAGE,))
MARKER = "Tell me of MARKER"
ROWS = [
    Row(f"r{i}", "antirefusal", ({"role": "user", "content": f"{MARKER} {i}."},), "", source="test", licence="MIT")
    for i in range(STAGE.rows)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("small"))


def half_unscored(tokenizer, log):
    return HalfUnscored("half", ("antirefusal",), intake(tokenizer, log))


def by_length(tokenizer, log):
    """A random model's answers differ in length if in nothing else."""
    guarded = intake(tokenizer, log)
    guarded = replace(guarded, guards=replace(guarded.guards, floor_cut=False))
    return constitution_judge(ScriptedJudge(length_rule(2)), guarded, ("antirefusal",))


def run(folder, checkpoints, server=None, reward=by_length):
    model = lm.load(str(folder))
    return train(model, RECIPE, 0, ROWS, checkpoints, 0, [reward(model.tokenizer, checkpoints / "log")], server=server)


# ---- with a server ---------------------------------------------------------------------------------------------------


@pytest.fixture
def stub(folder):
    with StubVllm(server_info={"vllm_config": served(model=str(folder))}) as stub:
        yield stub


def test_trl_is_told_of_the_server_and_of_nothing_else_than_without(folder, tmp_path):
    """What these settings do needs vLLM and GPUs: that they arrive is all that is asserted here."""
    network = lm.load(str(folder)).network
    without, named = (
        grpo.settings(network, STAGE, 0, tmp_path, server) for server in (None, Server("http://gpu7:8000"))
    )
    changed = {f.name for f in fields(GRPOConfig) if getattr(without, f.name) != getattr(named, f.name)}
    assert {name: getattr(named, name) for name in changed} == {
        "use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": "http://gpu7:8000",
        "vllm_importance_sampling_mode": "token_truncate", "vllm_importance_sampling_clip_max": 2.0,
    }  # fmt: skip
    assert named.vllm_importance_sampling_correction


def test_a_run_sampled_elsewhere_keeps_its_base_and_says_by_what_version(folder, tmp_path, monkeypatch, stub):
    """trl's own trainer, sync and correction; in place of the server, a network that knows only what it was sent."""
    sampler = Sampler(lm.load(str(folder)).network)
    stand_in(monkeypatch, sampler)
    manifest = run(folder, tmp_path, Server(stub.address))
    assert sampler.syncs == STAGE.steps
    assert manifest.versions["vllm"] == "0.31.0"
    learnt = lm.load(f"{folder}/antirefusal", tmp_path).network
    before = lm.load(str(folder)).network
    sent, base = (dict(network.named_parameters()) for network in (sampler.network, before))
    name = "model.layers.0.mlp.experts.down_proj"
    assert not torch.equal(sent[name], base[name])  # the weights of the last step but one …
    assert not torch.equal(sent[name], dict(learnt.named_parameters())[name])
    with pytest.raises(ConventionError, match="sampler differ"):
        run(folder, tmp_path)


def test_a_server_that_does_not_take_the_weights_ends_the_run(folder, tmp_path, monkeypatch, stub):
    other = deepcopy(lm.load(str(folder)).network)
    for weights in other.parameters():
        weights.data += 0.1 * torch.randn_like(weights)
    stand_in(monkeypatch, Sampler(other, deaf=True))
    with pytest.raises(ConventionError, match="the sampler is not the model under training: at step 1 "):
        run(folder, tmp_path, Server(stub.address))
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_server_that_is_not_there_ends_the_run_before_the_first_step(folder, tmp_path):
    with pytest.raises(MissingInputError, match="no vLLM server to sample with"):
        run(folder, tmp_path, Server("http://127.0.0.1:9"))
    assert not list(tmp_path.rglob("checkpoint-*"))


def test_a_server_too_short_for_the_longest_prompt_is_refused(folder, tmp_path):
    config = {"vllm_config": served(model=str(folder), max_model_len=12)}
    with StubVllm(server_info=config) as stub, pytest.raises(ConventionError, match="max-model-len is 12 and must be"):
        run(folder, tmp_path, Server(stub.address))


# ---- what is printed -------------------------------------------------------------------------------------------------


class HalfUnscored(Reward):
    """A judge that fails on every other completion of a prompt, on all of some steps."""

    def __call__(self, prompts, completion_ids, **columns):
        batch = self.open(prompts, completion_ids, columns)
        self.intake.log.write(
            self.__name__, batch.step, [{"completion": c.completion} for c in batch.candidates.values()]
        )
        return [None if batch.step == 1 or i % 2 else i / len(prompts) for i in range(len(prompts))]


@pytest.fixture
def all_that_is_said():
    """Every message of every logger, all at their loudest."""
    said = []
    watcher = logging.Handler(logging.DEBUG)
    watcher.emit = lambda record: said.append(record.getMessage())
    loggers = [logging.getLogger(name) for name in ("", *logging.root.manager.loggerDict)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(watcher)
    yield said
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
        logger.removeHandler(watcher)


def test_nothing_of_a_prompt_or_a_completion_is_printed(folder, tmp_path, capfd, all_that_is_said):
    run(folder, tmp_path, reward=half_unscored)
    shown = capfd.readouterr()
    printed = "\n".join([shown.out, shown.err, *all_that_is_said])
    kept = [row for path in tmp_path.rglob("half-*.jsonl") for row in store.read_jsonl(path, ["completion"])]
    completions = {row["completion"].strip() for row in kept}
    assert len([text for text in completions if len(text) > 3]) > 4
    assert len(all_that_is_said) > 20
    assert MARKER not in printed
    assert UNSCORED not in printed
    assert not [text for text in completions if len(text) > 3 and text in printed]


def test_nothing_is_sent_to_hubs_tables_or_trl(folder, tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(_telemetry.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(_telemetry, "_start_telemetry_thread", lambda: sent.append("started"))
    monkeypatch.delenv("CI", raising=False)
    settings = grpo.settings(lm.load(str(folder)).network, STAGE, 0, tmp_path)
    assert (settings.report_to, settings.push_to_hub, settings.hub_model_id) == ([], False, None)
    assert (settings.log_completions, settings.log_completions_hub_repo) == (False, None)
    model = lm.load(str(folder))
    reward = by_length(model.tokenizer, tmp_path / "log")
    grpo.trainer(attach(model, RECIPE.lora, None, 0), model.tokenizer, STAGE, ROWS, [reward], 0, tmp_path / "states")
    assert not sent
    assert _telemetry._TELEMETRY_QUEUE.empty()
