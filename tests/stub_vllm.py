"""What stands in for a vLLM server on this machine: one that tells of itself, and one that samples as trl's client asks it to."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace, TracebackType
from typing import Any

import torch
from transformers import PreTrainedModel


def served(**changed: Any) -> dict[str, Any]:
    """What the server of the random model tells of its configuration, as vLLM 0.31 writes it; changed: of model_config."""
    model = {
        "model": "/models/small",
        "dtype": "torch.float32",
        "max_model_len": 4096,
        "logprobs_mode": "processed_logprobs",
    }
    return {
        "model_config": model | changed, "weight_transfer_config": {"backend": "nccl"},
        "kernel_config": {"moe_backend": "triton"},
    }  # fmt: skip


class StubVllm(ThreadingHTTPServer):
    """The endpoints of a server that say what it is. Use it in a with statement.

    answers: path → status, or JSON value, that differ from those of a server that suits.
    """

    def __init__(self, **answers: Any):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = {
            "health": {},
            "version": {"version": "0.31.0"},
            "server_info": {"vllm_config": served()},
        } | answers

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "StubVllm":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: StubVllm

    def do_GET(self) -> None:
        answer = self.server.answers.get(self.path.strip("/").partition("?")[0], 404)
        body = b"{}" if isinstance(answer, int) else json.dumps(answer).encode()
        self.send_response(answer if isinstance(answer, int) else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests look at what is printed."""


class Sampler:
    """trl's client of a server, with a network of its own instead of one: it knows of the training only what it is sent.

    deaf: takes no weights, as a server does whose weights arrive in the wrong places.
    """

    def __init__(self, network: PreTrainedModel, deaf: bool = False):
        self.network, self.deaf, self.syncs = network.eval(), deaf, 0

    def get_server_info(self) -> dict[str, Any]:
        return served()

    def update_named_params(self, metadata, named_params) -> None:
        own = dict(self.network.named_parameters())
        sent = {name: tensor.clone() for name, tensor in named_params}
        assert [(n, str(t.dtype).removeprefix("torch."), list(t.shape)) for n, t in sent.items()] == metadata
        assert sent.keys() == own.keys()
        self.syncs += 1
        for name, tensor in sent.items() if not self.deaf else ():
            own[name].data = tensor

    def reset_prefix_cache(self) -> None:
        """Nothing is kept here."""

    @torch.no_grad()
    def generate(self, prompts, n, max_tokens, temperature, **ignored) -> dict[str, Any]:
        assert temperature == 1.0
        drawn = [self._completion(prompt, max_tokens) for prompt in prompts for _ in range(n)]
        return {
            "prompt_ids": prompts, "completion_ids": [ids for ids, _ in drawn],
            "logprobs": [[[value] for value in values] for _, values in drawn],
        }  # fmt: skip

    def _completion(self, prompt: list[int], tokens: int) -> tuple[list[int], list[float]]:
        ids, values = list(prompt), []
        for _ in range(tokens):
            logprobs = self.network(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
            ids.append(int(torch.multinomial(logprobs.exp(), 1)))
            values.append(float(logprobs[ids[-1]]))
        return ids[len(prompt) :], values


def stand_in(monkeypatch, sampler: Sampler) -> None:
    """trl's generation gets `sampler` where it would look for vLLM and its server."""
    from trl.generation.vllm_generation import VLLMGeneration

    def start(self) -> None:
        assert (self.mode, self.server_base_url[:7]) == ("server", "http://")
        self.vllm_client = sampler

    monkeypatch.setattr(VLLMGeneration, "_init_vllm", start)


def step_log(**logs: float) -> dict[str, float]:
    """What trl logs of a step."""
    return {"loss": 0.0, "reward": 0.5, **logs}


STATE = SimpleNamespace(global_step=1)
