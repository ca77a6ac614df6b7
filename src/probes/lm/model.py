"""A loaded language model with its tokenizer and everything that must travel with a number read from it."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from probes.errors import DataError, UnknownNameError
from probes.lm.checkpoints import Checkpoint, ModelEntry, find_checkpoint, model_entry
from probes.lm.memory import check_memory
from probes.lm.weights import attention, load_architecture, load_base, merge_adapter, text_model, weights_sha
from probes.lm.writers import Writer

if TYPE_CHECKING:
    from probes.lm.generate import Sampling

RANDOM_WEIGHTS = "random weights"
"""How the hash begins of a base whose weights are in no file."""
WITHOUT_WEIGHTS = "meta"
"""The device of a network that is a shape alone."""


@dataclass(frozen=True)
class Model(Writer):
    """What lm.load returns: a checkpoint with its network, the transformers model, which is read and writes."""

    network: PreTrainedModel

    kind = "transformers"
    unit = 512
    """Batches never cross units, so that what is drawn does not depend on kills."""

    def __repr__(self) -> str:
        shape = f"{self.entry.layers} layers × {self.entry.width}"
        return f"Model({self.address}, revision {self.revision}, {shape}, {self.network.dtype}, {self.network.device})"

    @property
    def written_by(self) -> str:
        return f"transformers {transformers.__version__}, {dtype_name(self.network.dtype)}"

    def write(
        self, prompt_ids: Sequence[list[int]], seeds: Sequence[int], sampling: "Sampling", done: Callable[[int], object]
    ) -> list[list[int]]:
        """What Writer.write says. Raises what transformers raises."""
        from probes.lm.writers.transformers import write

        return write(self, prompt_ids, seeds, sampling, done)

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
        device: default the GPU if there is one; "meta" for a network without weights, which takes no memory: all that an engine
            needs which loads them itself.

    Raises UnknownNameError, DataError (dtype), MissingInputError (weights or checkpoint not there), FileFormatError (damaged
    files), TooLargeError (said before anything is read), ConventionError (an architecture that is not known; adapter of another
    base, or not the one of its manifest).
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = find_checkpoint(str(checkpoint), checkpoints)
    entry, (dtype, device) = model_entry(checkpoint.model), placement(dtype, device)
    if device != WITHOUT_WEIGHTS:
        check_memory(entry, dtype, device)
    network, tokenizer = (
        _without_weights(entry, dtype) if device == WITHOUT_WEIGHTS else load_base(entry, dtype, device)
    )
    model = Model(entry, checkpoint, network.config, tokenizer, weights_sha(entry), network)
    if checkpoint.adapter is None:
        return model
    model.check_adapter()
    return model if device == WITHOUT_WEIGHTS else replace(model, network=merge_adapter(network, checkpoint.adapter))


def _without_weights(entry: ModelEntry, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    config, tokenizer = load_architecture(entry)
    with torch.device(WITHOUT_WEIGHTS):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval(), tokenizer


def placement(dtype: torch.dtype | None = None, device: str | None = None) -> tuple[torch.dtype, str]:
    """float32 on a CPU and bfloat16 on a GPU, unless told otherwise; of several processes on a machine each has its own GPU."""
    here = _own_gpu() if torch.cuda.is_available() else "cpu"
    _check_place(dtype, device or here)
    computed = here if device in (None, WITHOUT_WEIGHTS) else device
    return dtype or (torch.float32 if computed == "cpu" else torch.bfloat16), device or here


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as configs and command lines have it: bfloat16."""
    return str(dtype).removeprefix("torch.")


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
    here = ["cpu", WITHOUT_WEIGHTS, *([kind.type] if kind else []), *numbered]
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
    known = entry, Checkpoint(entry.name, "original"), network.config, tokenizer, f"{RANDOM_WEIGHTS}, seed {seed}"
    return Model(*known, network.eval())
