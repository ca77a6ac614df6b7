"""A loaded language model with its tokenizer and everything that must travel with a number read from it."""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from probes import store
from probes.errors import DataError, UnknownNameError
from probes.lm.checkpoints import Checkpoint, ModelEntry, find_checkpoint, model_entry
from probes.lm.memory import check_memory
from probes.lm.weights import (
    attention,
    check_adapter,
    load_architecture,
    load_base,
    merge_adapter,
    text_model,
    weights_sha,
)


@dataclass(frozen=True)
class Model:
    """What lm.load returns. `network` is the transformers model, `checkpoint` says which member of a family it is."""

    entry: ModelEntry
    checkpoint: Checkpoint
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    base_sha: str
    """Hash of the base model's weights."""

    def __repr__(self) -> str:
        shape = f"{self.entry.layers} layers × {self.entry.width}"
        return f"Model({self.address}, revision {self.revision}, {shape}, {self.network.dtype}, {self.network.device})"

    @property
    def name(self) -> str:
        """Short name of the model, the same for all its checkpoints."""
        return self.entry.name

    @property
    def address(self) -> str:
        """model/variant[+run][@stage]"""
        return f"{self.entry.name}/{self.checkpoint.name}"

    @property
    def trunk(self) -> nn.Module:
        """The transformer of text without its LM head. Raises ConventionError for an architecture that is not known."""
        return text_model(self.network)

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder layers; the output of block i is what this package calls layer i."""
        blocks = self.trunk.layers
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    @property
    def max_tokens(self) -> int:
        """Longest text the model takes."""
        return self.network.config.get_text_config().max_position_embeddings

    @property
    def weights(self) -> str:
        """What names the weights as they are: id of the checkpoint's manifest, or hash of the base for the original."""
        return self.checkpoint.manifest.id if self.checkpoint.manifest else self.base_sha

    @property
    def revision(self) -> str:
        """Commit of the Hub repository, or the first 12 digits of the weights' hash for a folder."""
        return getattr(self.network.config, "_commit_hash", None) or self.base_sha[:12]

    @property
    def tokenizer_sha(self) -> str:
        """Hash of the tokenizer's vocabulary and rules; how it last padded or cut is no part of it."""
        assert isinstance(self.tokenizer, PreTrainedTokenizerFast)
        rules = json.loads(self.tokenizer.backend_tokenizer.to_str())
        return store.hash_of({**rules, "padding": None, "truncation": None})

    @property
    def template_sha(self) -> str:
        """Hash of the chat template."""
        return hashlib.sha256(str(self.tokenizer.chat_template).encode()).hexdigest()


def load(
    checkpoint: str | Path | Checkpoint,
    checkpoints: Path | None = None,
    dtype: torch.dtype | None = None,
    device: str | None = None,
) -> Model:
    """Load a model by name (`tiny`, `qwen3-30b-a3b`, a folder) or by address (`tiny/antirefusal@sft`).

    Args:
        checkpoints: folder with the trained checkpoints of the family; needed for addresses other than the original.
        dtype: default float32 on a CPU and bfloat16 on a GPU.

    Raises UnknownNameError, DataError (dtype), MissingInputError (weights or checkpoint not there), FileFormatError (damaged
    files), TooLargeError (said before anything is read), ConventionError (an architecture that is not known; adapter of another
    base, or not the one of its manifest).
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = find_checkpoint(str(checkpoint), checkpoints)
    entry, (dtype, device) = model_entry(checkpoint.model), placement(dtype, device)
    check_memory(entry, dtype, device)
    network, tokenizer = load_base(entry, dtype, device)
    model = Model(entry, checkpoint, network, tokenizer, weights_sha(entry))
    if checkpoint.adapter is None:
        return model
    ours = {"base.sha": model.base_sha, "tokenizer_sha": model.tokenizer_sha, "template_sha": model.template_sha}
    check_adapter(checkpoint, ours)
    return replace(model, network=merge_adapter(network, checkpoint.adapter))


def placement(dtype: torch.dtype | None = None, device: str | None = None) -> tuple[torch.dtype, str]:
    """float32 on a CPU and bfloat16 on a GPU, unless told otherwise; of several processes on a machine each has its own GPU."""
    device = device or (_own_gpu() if torch.cuda.is_available() else "cpu")
    _check_place(dtype, device)
    return dtype or (torch.float32 if device == "cpu" else torch.bfloat16), device


def _own_gpu() -> str:
    """The GPU of this process; torchrun and others that start several on a machine number them in LOCAL_RANK."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"


def _check_place(dtype: torch.dtype | None, device: str | None) -> None:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise DataError(
            f"dtype {dtype!r} is none of torch's floating-point types; take torch.bfloat16 or torch.float32."
        )
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    numbered = [f"{kind.type}:{i}" for i in range(torch.accelerator.device_count())] if kind else []
    here = ["cpu", *([kind.type] if kind else []), *numbered]
    if device is not None and str(device) not in here:
        raise UnknownNameError("device", device, here)


def random_twin(model: Model, seed: int) -> Model:
    """The same architecture and tokenizer with random weights: a control for everything that is read from a model."""
    network = model.network
    return _random(model.entry, network.config, model.tokenizer, seed, network.dtype, str(network.device))


def load_random(name: str, seed: int, dtype: torch.dtype | None = None, device: str | None = None) -> Model:
    """The random twin of a model that is not in memory: the device need not hold two. Raises what load raises."""
    entry, (dtype, device) = model_entry(name), placement(dtype, device)
    config, tokenizer = load_architecture(entry)
    return _random(entry, config, tokenizer, seed, dtype, device)


def _random(
    entry: ModelEntry,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    dtype: torch.dtype,
    device: str,
) -> Model:
    torch.manual_seed(seed)
    with torch.device(device):
        network = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention(config))
    entry = replace(entry, name=f"{entry.name}-random")
    return Model(entry, Checkpoint(entry.name, "original"), network.eval(), tokenizer, f"random weights, seed {seed}")
