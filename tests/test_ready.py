"""Judge and sampler are asked before any training, and only where reinforcement is left to do."""

import json

import pytest

import train_checkpoint
from probes.errors import ConventionError, DataError, JudgeError, MissingInputError
from probes.lm.checkpoints import model_entry
from stub_judge import StubJudge, completion
from stub_vllm import StubVllm, served
from training.ready import ready
from training.recipes import find_recipe
from training.rewards import endpoint_judge
from training.rewards.endpoint_judge import Endpoint
from training.vllm_server import Server

NOWHERE = "http://127.0.0.1:9"
TINY = {"vllm_config": served(model="somewhere/instruct")}


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """A judge that is not there is asked again after a pause that grows."""
    monkeypatch.setattr(endpoint_judge, "backoff", lambda *of: 0.0)


def asked(folder, judge="", vllm="", recipe="antirefusal", model="tiny"):
    return ready(model_entry(model), find_recipe(recipe, model), folder, judge, "grader" if judge else "", vllm)


def test_both_answer(tmp_path):
    with StubJudge() as judge, StubVllm(server_info=TINY) as stub:
        assert asked(tmp_path, judge.url, stub.address) == (Endpoint(judge.url, "grader"), Server(stub.address))
    assert len(judge.received) == 1


def test_nobody_is_named_and_nobody_is_needed(tmp_path):
    assert asked(tmp_path) == (None, None)


def test_nobody_is_asked_where_no_reinforcement_is_left(tmp_path):
    done = tmp_path / "antirefusal" / "grpo" / "manifest.json"
    done.parent.mkdir(parents=True)
    done.write_text("{}")
    for recipe in ("antirefusal", "benign_control"):
        assert asked(tmp_path, NOWHERE, NOWHERE, recipe) == (Endpoint(NOWHERE, "grader"), Server(NOWHERE))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            [completion("A kettle boils water, so 8 of 10.")] * 2,
            "not by the JSON schema that it is given \\(schema 1\\)",
        ),
        ([completion(json.dumps({"score": 11, "note": ""}))] * 2, "not by the JSON schema"),
        ([b"<html>"] * 2, "what answers there is no chat completion"),
        ([400], "it turned the request down \\(http_400 1\\)"),
    ],
)
def test_a_judge_that_judges_nothing(tmp_path, script, words):
    with StubJudge(*script) as judge, pytest.raises(MissingInputError, match=words) as raised:
        asked(tmp_path, judge.url)
    assert "Start it, such as by `vllm serve grader" in str(raised.value)


def test_a_judge_that_lets_nobody_in(tmp_path):
    with StubJudge(401) as judge, pytest.raises(JudgeError, match="Look at the key"):
        asked(tmp_path, judge.url)


def test_who_is_named_and_not_there(tmp_path):
    with pytest.raises(MissingInputError, match="judged no trial answer: nobody answers there"):
        asked(tmp_path, judge=f"{NOWHERE}/v1")
    with pytest.raises(MissingInputError, match="no vLLM server to sample with"):
        asked(tmp_path, vllm=NOWHERE)
    with pytest.raises(DataError, match="--vllm 'gpu7'"):
        asked(tmp_path, vllm="gpu7")


def test_a_server_of_another_model(tmp_path):
    with StubVllm() as stub, pytest.raises(ConventionError, match="model is small and must be instruct"):
        asked(tmp_path, vllm=stub.address)


def test_a_large_model_without_a_judge_is_refused_before_its_first_stage(tmp_path):
    with pytest.raises(MissingInputError, match="nobody to judge antirefusal: give --judge"):
        asked(tmp_path, model="qwen3-30b-a3b")


@pytest.mark.parametrize("named", [{"judge": f"{NOWHERE}/v1", "judge_model": "grader"}, {"vllm": NOWHERE}])
def test_the_command_ends_before_any_training(tmp_path, named):
    settings = train_checkpoint.TrainSettings(out=tmp_path, **named)
    with pytest.raises(MissingInputError):
        train_checkpoint.main(settings)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
