"""A vLLM server that samples the completions of reinforcement: where it is, how it must be started, and whether it was.

Endpoints and fields are those of vLLM 0.31 as trl 1.16 uses them. trl's own `trl vllm-serve` is a shim around the command
that is named here, and goes with trl 2.
"""

import json
import shlex
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

import httpx
import torch

from probes.errors import ConventionError, DataError, MissingInputError
from probes.lm.model import dtype_name

PROMPT_ROOM = 2048
"""Tokens of a prompt that the command leaves room for at least."""
WEIGHT_TRANSFER = {"backend": "nccl"}
MOE_BACKEND = "triton"
"""Of the kernels for experts, those whose weights can be replaced while they are served: others rearrange them at loading
(vLLM#42821)."""
LOGPROBS = "processed_logprobs"
"""Log-probabilities after temperature, which the correction of the sampling needs."""


@dataclass(frozen=True)
class Server:
    """A vLLM server that is lent its weights by the training."""

    address: str
    """Such as http://localhost:8000, without /v1."""

    def __post_init__(self):
        try:
            parts = urlsplit(self.address)
            usable = parts.scheme in ("http", "https") and parts.hostname and not parts.path and not parts.username
            usable = usable and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise DataError(f"--vllm {self.address!r}: give the address alone, such as http://localhost:8000.")


def start_command(server: Server, source: str, dtype: torch.dtype, tokens: int) -> str:
    """The command that starts the server of a model.

    Args:
        source: repository or folder of the base model.
        dtype: of the weights under training.
        tokens: longest prompt and completion together.
    """
    flags = {
        "--host": urlsplit(server.address).hostname, "--port": urlsplit(server.address).port or 8000,
        "--dtype": dtype_name(dtype), "--max-model-len": tokens,
        "--tensor-parallel-size": 1, "--moe-backend": MOE_BACKEND,
        "--weight-transfer-config": json.dumps(WEIGHT_TRANSFER), "--logprobs-mode": LOGPROBS, "--max-logprobs": -1,
    }  # fmt: skip
    words = ["vllm", "serve", source, *(str(word) for flag in flags.items() for word in flag)]
    return f"VLLM_SERVER_DEV_MODE=1 VLLM_NO_USAGE_STATS=1 {shlex.join(words)}"


def check_server(server: Server, source: str, dtype: torch.dtype, tokens: int) -> str:
    """Ask a server what it serves, before any step. Gives its version of vLLM.

    Raises MissingInputError where none answers as vLLM does, ConventionError where it serves another model, dtype or length,
    or was not started to be sent weights; both say the command.
    """
    command = (
        f"Start it: {start_command(server, source, dtype, max(tokens, PROMPT_ROOM))} (--tensor-parallel-size 2 or more "
    )
    command += "where the model does not fit one GPU)."
    version, config = _asked(server, command)
    wrong = _wrong(config, source, dtype, tokens)
    if wrong:
        raise ConventionError(
            f"the vLLM server at {server.address} cannot sample for this run: {'; '.join(wrong)}. {command}"
        )
    return version


def _asked(server: Server, command: str) -> tuple[str, dict[str, Any]]:
    """Version and configuration of a server. /server_info is there in development mode only, as are the weights' endpoints."""
    try:
        with httpx.Client(base_url=server.address, timeout=30) as client:
            client.get("/health").raise_for_status()
            version = client.get("/version").raise_for_status().json()["version"]
            answer = client.get("/server_info", params={"config_format": "json"})
            return version, answer.raise_for_status().json()["vllm_config"]
    except httpx.HTTPStatusError as error:
        came = f"{error.request.url.path} answers with status {error.response.status_code}"
    except httpx.RequestError as error:
        came = f"{type(error).__name__}"
    except (ValueError, KeyError, TypeError):
        came = "what answers there is no vLLM"
    raise MissingInputError(f"no vLLM server to sample with at {server.address}: {came}. {command}")


def _wrong(config: dict[str, Any], source: str, dtype: torch.dtype, tokens: int) -> list[str]:
    """What of a server's configuration does not suit a run: as it is, and as it must be."""
    model, transfer = config.get("model_config") or {}, config.get("weight_transfer_config") or {}
    served = {
        "model": (
            PurePath(str(model.get("model"))).name,
            PurePath(source).name,
        ),  # a server may have it in another folder
        "dtype": (str(model.get("dtype")).removeprefix("torch."), dtype_name(dtype)),
        "logprobs-mode": (model.get("logprobs_mode"), LOGPROBS),
        "weight-transfer-config backend": (transfer.get("backend"), WEIGHT_TRANSFER["backend"]),
        "moe-backend": ((config.get("kernel_config") or {}).get("moe_backend"), MOE_BACKEND),
    }
    wrong = [f"{name} is {is_} and must be {must}" for name, (is_, must) in served.items() if is_ != must]
    length = model.get("max_model_len")
    short = not isinstance(length, int) or length < tokens
    return wrong + ([f"max-model-len is {length} and must be {tokens} at least"] if short else [])
