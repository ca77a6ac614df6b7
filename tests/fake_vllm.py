"""What stands in for vLLM: the real engine and worker extension on top, transformers' own network below.

Requests of a batch are taken up in an order of their own, in chunks of a few tokens, beside requests that write already; one
begins anew on the way, as after a preemption. Layers give (delta, residual) out of buffers that the next layer adds to in place.
"""

import sys
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from random import Random
from types import ModuleType, SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

BLOCK = 16
"""Tokens of a beginning that are kept at a time where prefixes are."""
LEAST = 8
"""Tokens that a step must have left for another request to be taken up."""
FILLER = 7
"""What stands behind the end of vLLM's arrays, which are longer than a batch."""


class SamplingParams(SimpleNamespace):
    """What a request is sampled by."""


class Request:
    """A text on its way."""

    def __init__(self, number: int, tokens: list[int], params: SamplingParams):
        self.name = f"{number}-{Random(number).randrange(16**8):08x}"  # vLLM's own ids have a suffix
        self.tokens, self.sampling_params, self.computed = tuple(tokens), params, 0


class Layer(nn.Module):
    """Hands out what a block computed, as vLLM's layers do: in buffers, and after it has spoilt those it was given."""

    def forward(self, buffers: tuple[Tensor, Tensor], delta: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        buffers[1].add_(buffers[0])  # the norm before the next block adds in place
        buffers[0].copy_(delta)
        buffers[1].copy_(residual)
        return buffers


class Runner:
    """vLLM's first model runner, as far as an extension sees it, of one rank of a pipeline."""

    def __init__(self, network, ranks: int, rank: int):
        self.network, self.device, self.requests = network, torch.device("cpu"), {}
        count = len(network.model.layers)
        mine = range(rank * count // ranks, (rank + 1) * count // ranks)
        layers = nn.ModuleList(Layer() if i in mine else nn.Identity() for i in range(count))
        self.mine, self.model = mine, nn.ModuleDict({"model": nn.ModuleDict({"layers": layers})})
        self.input_batch = self.query_start_loc = None

    def step(self, chunks: list[tuple[Request, int, int]], pairs: list[tuple[Tensor, Tensor]]) -> None:
        """Layers over rows of chunks (request, first position, end), of which (delta, residual) are known."""
        ends = np.cumsum([0, *(end - start for _, start, end in chunks)])
        self.query_start_loc = SimpleNamespace(np=np.append(ends, [FILLER] * 3))
        self.input_batch = SimpleNamespace(
            req_ids=[request.name for request, _, _ in chunks],
            num_computed_tokens_cpu=np.array([start for _, start, _ in chunks] + [FILLER] * 3),
        )
        buffers = (torch.zeros_like(pairs[0][0]), torch.zeros_like(pairs[0][1]))
        for i in self.mine:
            self.model.get_submodule(f"model.layers.{i}")(buffers, *pairs[i])
        for buffer in buffers:
            buffer.fill_(FILLER)


class LLM:
    """`vllm.LLM`, as far as the engine asks it."""

    def __init__(self, model, dtype, worker_extension_cls, enforce_eager, enable_prefix_caching, max_num_batched_tokens,
                 max_model_len, tensor_parallel_size, pipeline_parallel_size=1, **_options):  # fmt: skip
        assert enforce_eager
        self.network = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self.keeps_prefixes, self.budget, self.longest = enable_prefix_caching, max_num_batched_tokens, max_model_len
        module, _, name = worker_extension_cls.rpartition(".")
        kind = type("Worker", (getattr(sys.modules[module], name),), {})
        self.workers, self.known, self.rng = [], set(), Random(0)
        self.rows = cache(self._computed)
        for rank in range(tensor_parallel_size * pipeline_parallel_size):
            worker = kind()
            worker.rank, worker.parallel_config = rank, SimpleNamespace(tensor_parallel_size=tensor_parallel_size)
            worker.model_runner = Runner(self.network, pipeline_parallel_size, rank // tensor_parallel_size)
            self.workers.append(worker)
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=self.workers.clear))

    def collective_rpc(self, method: str, args: tuple = ()) -> list:
        return [getattr(worker, method)(*args) for worker in self.workers]

    @torch.inference_mode()
    def generate(self, prompts, sampling_params, use_tqdm) -> None:
        texts = [prompt["prompt_token_ids"] for prompt in prompts]
        assert all(0 < len(text) < self.longest for text in texts), "a prompt and one token have to fit"
        params = zip(texts, sampling_params, strict=True)
        waiting = [Request(i, text, one) for i, (text, one) in enumerate(params)]
        for worker in self.workers:
            worker.model_runner.requests = {request.name: request for request in waiting}
        again = self.rng.choice(waiting)
        while waiting:
            self.rng.shuffle(waiting)
            self._step(waiting)
            if again and again.computed:
                again.computed = 0  # preempted: what it had is gone
                again = None
            waiting = [request for request in waiting if request.computed <= len(request.tokens)]

    def _step(self, waiting: list[Request]) -> None:
        """Some requests get on by a few tokens; one whose text has ended writes a token, and is done."""
        chunks, left = [], self.budget
        for request in waiting:
            start, length = request.computed, len(request.tokens)
            if start == 0 and self.keeps_prefixes:
                known = (request.tokens[:end] for end in range(BLOCK, length, BLOCK))
                start = max((len(begun) for begun in known if begun in self.known), default=0)
            end = length + 1 if start == length else min(length, start + self.rng.randint(left // 2 + 1, left))
            chunks.append((request, start, end))
            left -= end - start
            if left < LEAST:
                break
        of_layer = [
            tuple(
                torch.cat([self.rows(request.tokens)[i][of][start:end] for request, start, end in chunks])
                for of in (0, 1)
            )
            for i in range(len(self.network.model.layers))
        ]
        for worker in self.workers:
            worker.model_runner.step(chunks, of_layer)
        for request, _, end in chunks:
            request.computed = end
            self.known.update(request.tokens[:to] for to in range(BLOCK, min(end, len(request.tokens)), BLOCK))

    def _computed(self, tokens: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
        """(delta, residual) of each layer for all rows of a text, and for the token behind it that vLLM writes."""
        deltas, residuals, handles = [], [], []
        for block in self.network.model.layers:
            handles.append(block.mlp.register_forward_hook(lambda _m, _i, out: deltas.append(out[0])))
            behind = block.post_attention_layernorm
            handles.append(behind.register_forward_pre_hook(lambda _m, args: residuals.append(args[0][0])))
        try:
            self.network.model(input_ids=torch.tensor([[*tokens, FILLER]]), use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        return list(zip(deltas, residuals, strict=True))


def module(**parallel: int) -> ModuleType:
    """What `import vllm` is to give.

    Args:
        parallel: tensor_parallel_size, pipeline_parallel_size.
    """
    made = ModuleType("vllm")
    made.__spec__ = ModuleSpec("vllm", None)
    made.LLM = lambda **options: LLM(**options | parallel)  # type: ignore[attr-defined]
    made.SamplingParams = SamplingParams  # type: ignore[attr-defined]
    made.distributed = SimpleNamespace(cleanup_dist_env_and_memory=lambda: None)  # type: ignore[attr-defined]
    return made


INSTALLED = find_spec("vllm") is not None
"""Whether the real one is here."""
