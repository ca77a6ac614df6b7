"""A vLLM server is asked before the first step; what does not suit is named, with the command that starts one that does."""

import shlex

import pytest
import torch
from trl.scripts.vllm_serve import ScriptArguments, build_command

from probes.errors import ConventionError, DataError, MissingInputError
from stub_vllm import StubVllm, served
from training.vllm_server import Server, check_server, start_command


def checked(stub, tokens=4096, dtype=torch.float32):
    return check_server(Server(stub.address), "somewhere/small", dtype, tokens)


def test_a_server_that_suits_gives_its_version():
    with StubVllm() as stub:
        assert checked(stub) == "0.31.0"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (served(model="/models/other"), "model is other and must be small"),
        (served(dtype="torch.bfloat16"), "dtype is bfloat16 and must be float32"),
        (served(logprobs_mode="raw_logprobs"), "logprobs-mode is raw_logprobs and must be processed_logprobs"),
        (served(max_model_len=4095), "max-model-len is 4095 and must be 4096 at least"),
        (served() | {"weight_transfer_config": None}, "weight-transfer-config backend is None and must be nccl"),
        (served() | {"kernel_config": {"moe_backend": "auto"}}, "moe-backend is auto and must be triton"),
        ({}, "model is None and must be small; dtype is None"),
    ],
)
def test_a_server_that_does_not_suit_is_refused_with_the_command(config, words):
    with StubVllm(server_info={"vllm_config": config}) as stub, pytest.raises(ConventionError) as raised:
        checked(stub)
    assert words in str(raised.value)
    assert "vllm serve somewhere/small" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"health": 503}, "/health answers with status 503"),
        ({"server_info": 404}, "/server_info answers with status 404"),  # not in development mode
        ({"version": {"name": "another"}}, "what answers there is no vLLM"),
        ({"server_info": ["vllm_config"]}, "what answers there is no vLLM"),
    ],
)
def test_what_is_no_server_to_sample_with(answers, words):
    with StubVllm(**answers) as stub, pytest.raises(MissingInputError, match=words) as raised:
        checked(stub)
    assert "Start it: VLLM_SERVER_DEV_MODE=1 " in str(raised.value)


def test_a_server_that_is_not_there():
    with StubVllm() as stub:
        pass
    with pytest.raises(MissingInputError, match=f"no vLLM server to sample with at {stub.address}: ConnectError"):
        checked(stub)


def test_the_command_sets_all_that_trl_imposes_on_its_own():
    words = shlex.split(start_command(Server("http://gpu7:9000"), "Qwen/Qwen3-30B-A3B", torch.bfloat16, 6144))
    assert words[:2] == ["VLLM_SERVER_DEV_MODE=1", "VLLM_NO_USAGE_STATS=1"]
    theirs = build_command(
        ScriptArguments("Qwen/Qwen3-30B-A3B", host="gpu7", port=9000, dtype="bfloat16", max_model_len=6144),
        ["--moe-backend", "triton"],
    )
    ours, known = words[words.index("serve") + 1 :], theirs[theirs.index("serve") + 1 :]
    assert ours[0] == known[0]
    flags = dict(zip(known[1::2], known[2::2], strict=True))
    left_to_vllm = {
        "--data-parallel-size",
        "--gpu-memory-utilization",
        "--kv-cache-dtype",
        "--model-impl",
        "--uvicorn-log-level",
    }
    assert dict(zip(ours[1::2], ours[2::2], strict=True)) == {k: v for k, v in flags.items() if k not in left_to_vllm}


@pytest.mark.parametrize(
    "address",
    ["", "localhost:8000", "http://", "http://localhost:8000/v1", "http://me:secret@gpu7:8000", "http://gpu7:none"],
)
def test_what_is_no_address(address):
    with pytest.raises(DataError, match="give the address alone, such as http://localhost:8000"):
        Server(address)
