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
from transformers.distributed import DistributedConfig

from probes.errors import ConventionError, DataError, UnknownNameError
from probes.lm.checkpoints import Checkpoint, ModelEntry, find_checkpoint, model_entry
from probes.lm.device_map import ROOM, device_map, dispatch
from probes.lm.memory import check_memory, free_bytes
from probes.lm.weights import (
    attention,
    load_architecture,
    load_base,
    merge_adapter,
    parameters,
    text_model,
    weights_sha,
    without_weights,
)
from probes.lm.writers import UNITS, Writer

if TYPE_CHECKING:
    from probes.lm.generate import Sampling

RANDOM_WEIGHTS = "random weights"
"""How the hash begins of a base whose weights are in no file."""
WITHOUT_WEIGHTS = "meta"
"""The device of a network that is a shape alone."""
TENSOR_PARALLEL = "tensor_parallel"
"""The device of a network of which each process that torchrun started holds a part of every layer."""
ALL_GPUS = "auto"
"""The device of a network that lies on all GPUs that this process sees, some blocks on each (probes.lm.device_map)."""


@dataclass(frozen=True)
class Model(Writer):
    """What lm.load returns: a checkpoint with its network, the transformers model, which is read and writes."""

    network: PreTrainedModel

    kind = "transformers"
    unit = UNITS[kind]

    def __repr__(self) -> str:
        shape = f"{self.entry.layers} layers × {self.entry.width}"
        where = ", ".join(self.devices)
        return f"Model({self.address}, revision {self.revision}, {shape}, {self.network.dtype}, {where})"

    @property
    def devices(self) -> tuple[str, ...]:
        """Where the weights are, in the order of the blocks."""
        return tuple(dict.fromkeys(str(weights.device) for weights in self.network.parameters()))

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
        device: default the GPU if there is one, or all of them where one does not hold the weights; "auto" for all of them
            anyway; "meta" for a network without weights, which takes no memory: all that an engine needs which loads them itself;
            "tensor_parallel" for a part of every layer in each process that torchrun started, which all make the same calls.

    Raises UnknownNameError, DataError (dtype), MissingInputError (weights or checkpoint not there), FileFormatError (damaged
    files), TooLargeError (said before anything is read), ConventionError (an architecture that is not known; adapter of another
    base, or not the one of its manifest, or for processes that share every layer).
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = find_checkpoint(str(checkpoint), checkpoints)
    if device == TENSOR_PARALLEL and checkpoint.adapter is not None:
        raise ConventionError(
            f"{checkpoint.address} is an adapter, which is merged into whole weights, and each process has a part of them. Let "
            "one process load it over several GPUs; or export it, and load the folder as a model."
        )
    entry, (dtype, _) = model_entry(checkpoint.model), placement(dtype, device)
    network, tokenizer = (
        _without_weights(entry, dtype) if device == WITHOUT_WEIGHTS else _with_weights(entry, dtype, device)
    )
    model = Model(entry, checkpoint, network.config, tokenizer, weights_sha(entry), network)
    if checkpoint.adapter is None:
        return model
    model.check_adapter()
    return model if device == WITHOUT_WEIGHTS else replace(model, network=merge_adapter(network, checkpoint.adapter))


def _without_weights(entry: ModelEntry, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    config, tokenizer = load_architecture(entry)
    return without_weights(config, dtype), tokenizer


def _with_weights(
    entry: ModelEntry, dtype: torch.dtype, device: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if device == TENSOR_PARALLEL:
        check_memory(entry, dtype, [placement()[1]], int(os.environ["WORLD_SIZE"]))
        return load_base(entry, dtype, DistributedConfig(tp_plan="auto"))
    devices = devices_for(parameters(entry) * dtype.itemsize, device)
    check_memory(entry, dtype, devices)
    if len(devices) == 1:
        return load_base(entry, dtype, devices[0])
    shape, _ = _without_weights(entry, dtype)
    return load_base(entry, dtype, device_map(shape, {device: free_bytes(device) for device in devices}))


def placement(dtype: torch.dtype | None = None, device: str | None = None) -> tuple[torch.dtype, str]:
    """float32 on a CPU and bfloat16 on a GPU, unless told otherwise; of several processes on a machine each has its own GPU."""
    here = _own_gpu() if torch.cuda.is_available() else "cpu"
    _check_place(dtype, device or here)
    computed = here if device in (None, WITHOUT_WEIGHTS, TENSOR_PARALLEL) else device
    return dtype or (torch.float32 if computed == "cpu" else torch.bfloat16), device or here


def devices_for(needed: int, device: str | None = None) -> list[str]:
    """Where weights of so many bytes go: the device that is named; else the GPU of this process, or all that it sees where
    one does not hold them and leave room for the rest.
    """
    several = _all_gpus()
    if device == ALL_GPUS:
        return several
    _, one = placement(device=device)
    spread = device is None and len(several) > 1 and needed > ROOM * free_bytes(one)
    return several if spread else [one]


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as configs and command lines have it: bfloat16."""
    return str(dtype).removeprefix("torch.")


def _own_gpu() -> str:
    """The GPU of this process; torchrun and others that start several on a machine number them in LOCAL_RANK."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"


def _all_gpus() -> list[str]:
    """What one process may take; where torchrun or others started several on the machine, each has its own alone."""
    return [] if "LOCAL_RANK" in os.environ else [f"cuda:{i}" for i in range(torch.cuda.device_count())]


def _check_place(dtype: torch.dtype | None, device: str | None) -> None:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise DataError(
            f"dtype {dtype!r} is none of torch's floating-point types; take torch.bfloat16 or torch.float32."
        )
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    numbered = [f"{kind.type}:{i}" for i in range(torch.accelerator.device_count())] if kind else []
    together = [ALL_GPUS] if len(_all_gpus()) > 1 else []
    together += [TENSOR_PARALLEL] if int(os.environ.get("WORLD_SIZE", 1)) > 1 else []
    here = ["cpu", WITHOUT_WEIGHTS, *([kind.type] if kind else []), *numbered, *together]
    if device is not None and str(device) not in here:
        raise UnknownNameError("device", device, here)


def random_twin(model: Model, seed: int) -> Model:
    """The same architecture and tokenizer with random weights: a control for everything that is read from a model."""
    network = model.network
    return _random(model.entry, network.config, model.tokenizer, seed, network.dtype, model.devices)


def load_random(name: str, seed: int, dtype: torch.dtype | None = None, device: str | None = None) -> Model:
    """The random twin of a model that is not in memory: the device need not hold two. Raises what load raises."""
    entry, (dtype, _) = model_entry(name), placement(dtype, device)
    config, tokenizer = load_architecture(entry)
    needed = sum(weights.nbytes for weights in without_weights(config, dtype).parameters())
    return _random(entry, config, tokenizer, seed, dtype, devices_for(needed, device))


def _random(
    entry: ModelEntry,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    dtype: torch.dtype,
    devices: Sequence[str],
) -> Model:
    """Made on the device, or where there are several in the memory of the CPU, from where it goes to them."""
    torch.manual_seed(seed)
    with torch.device("cpu" if len(devices) > 1 else devices[0]):
        network = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention(config))
    if len(devices) > 1:
        dispatch(network, device_map(network, {device: free_bytes(device) for device in devices}))
    entry = replace(entry, name=f"{entry.name}-random")
    known = entry, Checkpoint(entry.name, "original"), network.config, tokenizer, f"{RANDOM_WEIGHTS}, seed {seed}"
    return Model(*known, network.eval())
