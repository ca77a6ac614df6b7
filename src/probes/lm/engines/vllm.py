"""vLLM 0.31: residual streams reduced inside its workers (vllm_worker), which load the weights themselves.

Shown on a CPU build of vLLM, with one worker and with two that share the weights: benchmarks/engine_parity.py. Not shown on a
GPU: the copies to pinned memory, and the share of its memory that vLLM is given. Pipeline parallelism is never asked for:
the CPU build fails with it before any extension, and only a stand-in has shown that ranks with layers of their own add up.
"""

import gc
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probes import store
from probes.errors import ConventionError, MissingInputError
from probes.lm.checkpoints import EXPORT_RECORD
from probes.lm.engines import Engine, Padded, Visit
from probes.lm.engines.vllm_worker import TEXT, Asked, Kept, ResidualReduction, name_of
from probes.lm.model import RANDOM_WEIGHTS, Model
from probes.lm.reducers import EachToken, Reducer
from probes.lm.weights import local_file

STEP_TOKENS = 8192
"""Tokens of one step: enough to keep a GPU busy, and 70 MB of float32 for a width of 2048."""
FREE_SHARE = 0.9
"""Of the memory that is free when vLLM starts, what it takes; the model that it is held against may be there too."""
ENVIRONMENT = {
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the extension reads the first one's batches; the second keeps its own to itself
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # no process beside this one unless the weights are spread over several GPUs
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # one more position than the model has: that of the token which is never run
    "VLLM_NO_USAGE_STATS": "1",
}
DEFAULTS = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_KVCACHE_SPACE": "2"}
"""What the user's own environment goes before. The second, in GB, is for a machine without a GPU."""


class VLLM(Engine):
    """Reads a checkpoint's whole model from its folder; all GPUs that are visible share it (tensor parallelism).

    The model beside it needs no weights (lm.load with device="meta"). Each text is a request that writes one token, so that
    its own tokens are all run; the LM head and the layers after the last one asked for are run too.

    Raises ModuleNotFoundError without vllm, MissingInputError for a trained checkpoint that was not merged, ConventionError for
    a folder with another one or weights that are in no file, and what vLLM raises.
    """

    name = "vllm"
    reads_blocks = False
    keeps_prefixes = False
    device = "cpu"  # where the workers' results arrive
    extension: type = ResidualReduction

    def __init__(self, model: Model, merged: Path | None = None):
        self.model, self.examined = model, {}
        self.chunk_tokens: int | None = min(STEP_TOKENS, model.max_tokens // 3)  # the longest text takes several steps
        os.environ.update(ENVIRONMENT | {name: os.environ.get(name, value) for name, value in DEFAULTS.items()})
        self.vllm = import_module("vllm")
        self.llm = self.vllm.LLM(**self.options(_folder(model, merged)))

    def options(self, folder: Path) -> dict[str, Any]:
        """What vLLM is started with. Hooks do not outlive a graph, and what is cached is not computed: neither is used."""
        return {
            "model": str(folder), "dtype": _dtype(self.model), "skip_tokenizer_init": True,
            "enforce_eager": True, "enable_prefix_caching": False, "async_scheduling": False,
            "enable_chunked_prefill": True, "max_num_batched_tokens": self.chunk_tokens,
            "max_model_len": self.model.max_tokens + 1, "tensor_parallel_size": max(torch.cuda.device_count(), 1),
            "gpu_memory_utilization": FREE_SHARE * _free_share(), "seed": 0,
            "worker_extension_cls": f"{self.extension.__module__}.{self.extension.__qualname__}",
        }  # fmt: skip

    def run(self, input_ids: Tensor, attention_mask: Tensor, layers: Sequence[int], visit: Visit) -> None:
        """One pass, of which every row leaves the workers: for a few texts, as the doctor has them."""
        wanted, text = sorted(set(layers)), attention_mask.bool()
        tokens = self.reduce((input_ids, attention_mask, text), wanted, [EachToken()])["token"]
        for i, layer in enumerate(wanted):
            hidden = torch.zeros(*text.shape, tokens.shape[-1])
            hidden[text] = tokens[:, i]
            visit(layer, hidden)

    def reduce(
        self, padded: Padded, layers: Sequence[int], reducers: Sequence[Reducer], row: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Reduced in the workers; what arrives is in the memory of the host, in the order of the passages."""
        ids, attention, span = padded
        texts = [tokens[mask.bool()].tolist() for tokens, mask in zip(ids, attention, strict=True)]
        asked = _asked(attention.bool(), span, torch.arange(len(ids)) if row is None else row)
        watched = (list(layers), [name_of(reducer) for reducer in reducers], asked)
        self.llm.collective_rpc("watch_residuals", args=watched)
        prompts, sampling = (
            [{"prompt_token_ids": text} for text in texts],
            [self._sampling(i) for i in range(len(texts))],
        )
        self.llm.generate(prompts, sampling, use_tqdm=False)
        kept = _checked(self.llm.collective_rpc("collect_residuals"), self.model)
        return {
            reducer.name: torch.stack([kept[reducer.name, layer] for layer in layers], dim=1) for reducer in reducers
        }

    def _sampling(self, text: int) -> Any:
        return self.vllm.SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, extra_args={TEXT: text})

    def close(self) -> None:
        """End vLLM, so that its memory is free."""
        vllm = self.vllm
        self.llm.llm_engine.engine_core.shutdown()
        self.__dict__.clear()
        gc.collect()
        vllm.distributed.cleanup_dist_env_and_memory()


def _folder(model: Model, merged: Path | None) -> Path:
    """What vLLM loads: the model's own folder, or that of a trained checkpoint merged into a whole model."""
    if model.base_sha.startswith(RANDOM_WEIGHTS):
        raise ConventionError(
            f"vLLM loads weights from files, and those of {model.address} are in no file. Take transformers_hooks."
        )
    if model.checkpoint.adapter is None:
        config = local_file(model.entry, "config.json")
        assert config is not None  # the model was loaded from there
        return config.parent
    if merged is None or not (merged / EXPORT_RECORD).is_file():
        raise MissingInputError(
            f"vLLM reads {model.address} as a whole model, and {merged or 'no folder'} holds none. Write it: python "
            f"experiments/export_checkpoint.py --model {model.name} --checkpoint {model.checkpoint.name} --to FOLDER"
        )
    record = store.read_json(merged / EXPORT_RECORD)
    if (record.get("manifest"), record.get("dtype")) != (model.weights, _dtype(model)):
        raise ConventionError(
            f"{merged} holds {record.get('checkpoint')} in {record.get('dtype')}, and not {model.address} as it is trained now "
            f"in {_dtype(model)}. Remove it, and export the checkpoint again."
        )
    return merged


def _dtype(model: Model) -> str:
    return str(model.network.dtype).removeprefix("torch.")


def _free_share() -> float:
    """Of the GPUs' memory the share that is free, on the one that has least."""
    gc.collect()
    torch.cuda.empty_cache()  # what torch holds back counts as taken
    free = [torch.cuda.mem_get_info(i) for i in range(torch.cuda.device_count())]
    return min((left / total for left, total in free), default=1.0)


def _asked(attention: Tensor, span: Tensor, row: Tensor) -> list[Asked]:
    """What the workers are told of each text; positions are counted among its own tokens."""
    asked: list[Asked] = [(int(mask.sum()), []) for mask in attention]
    for number, (text, mask) in enumerate(zip(row.tolist(), span, strict=True)):
        positions = mask[attention[text]].nonzero()[:, 0]
        asked[text][1].append((number, int(positions[0]), int(positions[-1]) + 1))
    return asked


def _checked(answers: Sequence[tuple[str, list[Kept]]], model: Model) -> dict[tuple[str, int], Tensor]:
    """What all ranks kept, by reducer and layer. Raises ConventionError for what went wrong."""
    problems = [problem for problem, _ in answers if problem]
    if problems:
        raise ConventionError(
            f"vLLM does not give the residual streams of {model.address}: {problems[0]}. Take another engine."
        )
    return {
        (name, layer): torch.from_numpy(np.frombuffer(values, np.float32).reshape(shape).copy())
        for _, kept in answers
        for name, layer, shape, values in kept
    }
