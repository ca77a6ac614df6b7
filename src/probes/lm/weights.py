"""Weights as they come from disk: loading, naming them by hash, and adding an adapter to them."""

import hashlib
import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.distributed import DistributedConfig
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from probes import store
from probes.errors import ConventionError, FileFormatError, MissingInputError
from probes.lm.checkpoints import Checkpoint, ModelEntry

if TYPE_CHECKING:
    from peft.tuners.lora.layer import LoraLayer

transformers_logging.disable_progress_bar()

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError, StrictDataclassError)


def load_base(
    entry: ModelEntry, dtype: torch.dtype, place: str | dict[str, str] | DistributedConfig
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Network and tokenizer of a model, from this machine only: 61 GB are not downloaded unasked.

    Args:
        place: the device, or which parts go where (probes.lm.device_map), or how processes share every layer.

    Raises MissingInputError when the weights are not here, FileFormatError when they are but cannot be read, ConventionError for
    an architecture that capture does not know.
    """
    weight_files(entry)
    config, tokenizer = load_architecture(entry)
    where = {"distributed_config" if isinstance(place, DistributedConfig) else "device_map": place}
    try:
        network, found = AutoModelForCausalLM.from_pretrained(
            entry.source, dtype=dtype, use_safetensors=True, ignore_mismatched_sizes=True, **where,
            output_loading_info=True, attn_implementation=attention(config), **_here(entry),  # pyright: ignore[reportGeneralTypeIssues]
        )  # fmt: skip
    except UNREADABLE as error:
        raise _unreadable(entry, error) from error
    # transformers fills what it does not find with random numbers, and only warns.
    lacking = sorted([*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])])
    if lacking or tokenizer.pad_token_id is None:
        what = f"weights for {len(lacking)} tensors of its config (first: {lacking[0]})" if lacking else "pad token"
        raise FileFormatError(f"{entry.name} in {entry.source} has no {what}. Put the model's own files there.")
    text_model(network)
    network.config.get_text_config().output_router_logits = False  # a checkpoint saved with True breaks in generate
    network.generation_config = GenerationConfig()  # what ours leaves open would be filled from the model's own
    return network.eval(), tokenizer


def text_model(network: PreTrainedModel) -> nn.Module:
    """The decoder of a network, without its LM head: `model`, or `model.language_model` where it ships as vision-language.

    Both hold `embed_tokens`, `layers` and the final `norm`, as Llama, Gemma and Qwen do. Raises ConventionError for others.
    """
    whole = network.base_model
    decoder = getattr(whole, "language_model", whole)
    parts = {"embed_tokens": nn.Module, "layers": nn.ModuleList, "norm": nn.Module}
    lacking = [name for name, kind in parts.items() if not isinstance(getattr(decoder, name, None), kind)]
    if lacking:
        raise ConventionError(
            f"{type(network).__name__} has no {', '.join(lacking)} in its {type(decoder).__name__}: capture knows decoders that "
            "keep embed_tokens, layers and norm in `model` (Llama, Gemma, Qwen) or in `model.language_model` (vision-language "
            "checkpoints). Take a model of such an architecture."
        )
    return decoder


def load_architecture(entry: ModelEntry) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    """Config and tokenizer of a model, from this machine only. Raises FileFormatError when they cannot be read."""
    try:
        config = AutoConfig.from_pretrained(entry.source, **_here(entry))
        tokenizer = AutoTokenizer.from_pretrained(entry.source, **_here(entry))
    except UNREADABLE as error:
        raise _unreadable(entry, error) from error
    config.get_text_config().output_router_logits = False  # a checkpoint saved with True breaks in generate
    return config, tokenizer


def without_weights(config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """A network that is a shape alone and takes no memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def attention(config: PretrainedConfig) -> str | None:
    """The attention that computes what the config says; None leaves it to transformers, whose own choice is fastest.

    Its default leaves out the soft cap on attention logits that Gemma 2 was trained with.
    """
    return "eager" if getattr(config.get_text_config(), "attn_logit_softcapping", None) else None


def _here(entry: ModelEntry) -> dict[str, Any]:
    return {"revision": entry.revision, "local_files_only": True}


def _unreadable(entry: ModelEntry, error: Exception) -> FileFormatError:
    why = " ".join(str(error).split())  # transformers explains at length, and an error is one line
    return FileFormatError(f"the files of {entry.name} in {entry.source} cannot be read: {why}")


def weight_files(entry: ModelEntry) -> list[Path]:
    """The weight file of a model, or its index and every shard. Raises MissingInputError where they are not all here."""
    single = local_file(entry, "model.safetensors")
    if single:
        return [single]
    index = local_file(entry, "model.safetensors.index.json")
    names = _shards(index) if index else []
    shards = [local_file(entry, name) for name in names]
    if index is None or None in shards:
        gigabytes = f" (about {2 * entry.billions:.0f} GB)" if entry.billions else ""
        raise MissingInputError(
            f"the weights of {entry.name} are not on this machine: looked for safetensors of {entry.source}. "
            f"Download them with `hf download {entry.source}`{gigabytes}, or give --model a folder that holds them."
        )
    return [index, *(shard for shard in shards if shard)]


def parameters(entry: ModelEntry) -> int:
    """Numbers in a model's weight files, of which only the heads are read. Raises MissingInputError, FileFormatError."""
    files = [path for path in weight_files(entry) if path.suffix == ".safetensors"]
    try:
        return sum(map(_numbers, files))
    except (OSError, SafetensorError) as error:
        raise _unreadable(entry, error) from error


def _numbers(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(map(str, store.read_json(index)["weight_map"].values())))
    except (LookupError, TypeError, AttributeError) as error:
        raise FileFormatError(
            f"{index} has no weight_map of tensors and their files. Put the model's own there."
        ) from error


def local_file(entry: ModelEntry, name: str) -> Path | None:
    """A file of a model by its name, where it is on this machine."""
    path = cached_file(
        entry.source, name, revision=entry.revision, local_files_only=True,
        _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
    )  # fmt: skip
    return Path(path) if path else None


def weights_sha(entry: ModelEntry) -> str:
    """Hash of a model's weights: of its file, or of the hashes of its index and shards."""
    hashes = [_file_sha(path) for path in weight_files(entry)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _file_sha(path: Path) -> str:
    """Hash of a file; the Hub's cache keeps large files under theirs, which spares reading 61 GB again."""
    blob = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", blob):
        return blob
    there = path.stat()
    return _sha_once(path, there.st_size, there.st_mtime_ns)


@cache
def _sha_once(path: Path, size: int, changed: int) -> str:
    """Hash of a file as long as it stays as it is: a step over five checkpoints would read the base's 61 GB five times for it."""
    return store.sha256(path)


def adapter_sha(folder: Path) -> str:
    """Hash of an adapter: of its tensors and of the config that says at what scale they are added."""
    return store.hash_of([store.sha256(folder / name) for name in ("adapter_model.safetensors", "adapter_config.json")])


def check_adapter(checkpoint: Checkpoint, ours: dict[str, str]) -> None:
    """Raises ConventionError unless adapter and base are those of the manifest.

    Args:
        ours: `base.sha`, `tokenizer_sha` and `template_sha` of the loaded base.
    """
    manifest, adapter = checkpoint.manifest, checkpoint.adapter
    assert manifest is not None
    assert adapter is not None
    theirs = {
        "base.sha": manifest.base["sha"],
        "tokenizer_sha": manifest.tokenizer_sha,
        "template_sha": manifest.template_sha,
    }
    wrong = [name for name in ours if ours[name] != theirs[name]]
    if wrong:
        raise ConventionError(
            f"{checkpoint.address} was trained from another base than the one loaded: {', '.join(wrong)} differ. "
            "Train it again from this base, or load the base it came from."
        )
    if adapter_sha(adapter) != manifest.adapter_sha:
        raise ConventionError(
            f"the adapter in {adapter} is not the one its manifest tells of. Train {checkpoint.address} again."
        )


def merge_adapter(network: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """Add an adapter into the weights, one tensor at a time (merged_weight): the same way for every checkpoint."""
    from peft import LoraModel, PeftModel

    try:
        wrapped = PeftModel.from_pretrained(network, adapter)
    except UNREADABLE as error:
        raise FileFormatError(f"the adapter in {adapter} cannot be read: {error}") from error
    for weight, layer in adapted_weights(wrapped):
        weight.data = merged_weight(weight, layer)
    assert isinstance(wrapped.base_model, LoraModel)
    merged = wrapped.base_model.unload()
    assert isinstance(merged, PreTrainedModel)
    return merged.eval()


def adapted_weights(network: nn.Module) -> list[tuple[nn.Parameter, "LoraLayer"]]:
    """Each weight of the base that an adapter is added to, with the layer that holds the adapter.

    Raises ConventionError where anything but one scale · B A is added to (expert, out, in) or (out, in).
    """
    from peft.tuners.lora.layer import LoraLayer

    layers = [module for module in network.modules() if isinstance(module, LoraLayer)]
    strange = [type(layer).__name__ for layer in layers if not _is_plain(layer)]
    if strange:
        raise ConventionError(
            f"the adapter is not one plain LoRA on each layer that it adapts ({len(strange)} are not, first: {strange[0]}): "
            "several at once, merged ones, DoRA, biases and transposed experts are not known here. Train with training.lora."
        )
    return [(_adapted(layer), layer) for layer in layers]


def _adapted(layer: "LoraLayer") -> nn.Parameter:
    from peft.tuners.lora.layer import ParamWrapper

    weight = layer.get_param() if isinstance(layer, ParamWrapper) else layer.get_base_layer().weight
    assert isinstance(weight, nn.Parameter)
    return weight


def _is_plain(layer: "LoraLayer") -> bool:
    extra = layer.merged or layer.lora_variant or any(layer.lora_bias.values())
    return len(layer.active_adapters) == 1 and not (extra or getattr(layer.get_base_layer(), "is_transposed", False))


@torch.no_grad()
def merged_weight(
    weight: torch.Tensor, layer: "LoraLayer", whole: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.detach
) -> torch.Tensor:
    """W + scale · B A in float32, then cast to the dtype of W: a new tensor, neither W nor the adapter is changed.

    The product is peft's own, expert by expert for a fused parameter (expert, out, in). While it is made, four times the
    bytes of a W in bfloat16 are held beside it (measured): 3.2 GB for the larger one of a layer of Qwen3-30B-A3B.

    Args:
        whole: what makes a whole tensor of a weight that is spread over devices.
    """
    from peft.tuners.lora.layer import ParamWrapper

    (name,) = layer.active_adapters
    down, up = (whole(side.get_parameter(f"{name}.weight")).float() for side in (layer.lora_A, layer.lora_B))
    if isinstance(layer, ParamWrapper):
        down, up = down.reshape(layer.num_experts, -1, down.shape[-1]), up.reshape(len(up), -1, layer.num_experts)
        delta = torch.einsum("ore,eri->eoi", up, down)
    else:
        delta = up @ down
    weight = whole(weight)
    return delta.mul_(layer.scaling[name]).add_(weight).to(weight.dtype)
