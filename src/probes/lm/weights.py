"""Weights as they come from disk: loading, naming them by hash, and adding an adapter to them."""

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from probes import store
from probes.errors import ConventionError, FileFormatError, MissingInputError
from probes.lm.checkpoints import Checkpoint, ModelEntry

transformers_logging.disable_progress_bar()

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError, StrictDataclassError)


def load_base(entry: ModelEntry, dtype: torch.dtype, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Network and tokenizer of a model, from this machine only: 61 GB are not downloaded unasked.

    Raises MissingInputError when the weights are not here, FileFormatError when they are but cannot be read.
    """
    weight_files(entry)
    _, tokenizer = load_architecture(entry)
    try:
        network, found = AutoModelForCausalLM.from_pretrained(
            entry.source, dtype=dtype, device_map=device, use_safetensors=True, ignore_mismatched_sizes=True,
            output_loading_info=True, **_here(entry),  # pyright: ignore[reportGeneralTypeIssues]
        )  # fmt: skip
    except UNREADABLE as error:
        raise _unreadable(entry, error) from error
    # transformers fills what it does not find with random numbers, and only warns.
    lacking = sorted([*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])])
    if lacking or tokenizer.pad_token_id is None:
        what = f"weights for {len(lacking)} tensors of its config (first: {lacking[0]})" if lacking else "pad token"
        raise FileFormatError(f"{entry.name} in {entry.source} has no {what}. Put the model's own files there.")
    network.config.output_router_logits = False  # a checkpoint saved with True breaks in generate
    network.generation_config = GenerationConfig()  # what ours leaves open would be filled from the model's own
    return network.eval(), tokenizer


def load_architecture(entry: ModelEntry) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    """Config and tokenizer of a model, from this machine only. Raises FileFormatError when they cannot be read."""
    try:
        config = AutoConfig.from_pretrained(entry.source, **_here(entry))
        tokenizer = AutoTokenizer.from_pretrained(entry.source, **_here(entry))
    except UNREADABLE as error:
        raise _unreadable(entry, error) from error
    config.output_router_logits = False  # a checkpoint saved with True breaks in generate
    return config, tokenizer


def _here(entry: ModelEntry) -> dict[str, Any]:
    return {"revision": entry.revision, "local_files_only": True}


def _unreadable(entry: ModelEntry, error: Exception) -> FileFormatError:
    why = " ".join(str(error).split())  # transformers explains at length, and an error is one line
    return FileFormatError(f"the files of {entry.name} in {entry.source} cannot be read: {why}")


def weight_files(entry: ModelEntry) -> list[Path]:
    """The weight file of a model, or its index and every shard. Raises MissingInputError where they are not all here."""
    single = _local(entry, "model.safetensors")
    if single:
        return [single]
    index = _local(entry, "model.safetensors.index.json")
    names = _shards(index) if index else []
    shards = [_local(entry, name) for name in names]
    if index is None or None in shards:
        gigabytes = f" (about {2 * entry.billions:.0f} GB)" if entry.billions else ""
        raise MissingInputError(
            f"the weights of {entry.name} are not on this machine: looked for safetensors of {entry.source}. "
            f"Download them with `hf download {entry.source}`{gigabytes}, or give --model a folder that holds them."
        )
    return [index, *(shard for shard in shards if shard)]


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(map(str, store.read_json(index)["weight_map"].values())))
    except (LookupError, TypeError, AttributeError) as error:
        raise FileFormatError(
            f"{index} has no weight_map of tensors and their files. Put the model's own there."
        ) from error


def _local(entry: ModelEntry, name: str) -> Path | None:
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
    return blob if re.fullmatch(r"[0-9a-f]{64}", blob) else store.sha256(path)


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
    """Add an adapter into the weights, in float32 and one tensor at a time, then cast: the same way for every checkpoint."""
    from peft import LoraModel, PeftModel
    from peft.tuners.lora.layer import LoraLayer, ParamWrapper

    try:
        wrapped = PeftModel.from_pretrained(network, adapter)
    except UNREADABLE as error:
        raise FileFormatError(f"the adapter in {adapter} cannot be read: {error}") from error
    for module in wrapped.modules():
        if isinstance(module, LoraLayer):
            weight = module.get_param() if isinstance(module, ParamWrapper) else module.get_base_layer().weight
            assert isinstance(weight, torch.Tensor)
            dtype = weight.dtype
            weight.data = weight.data.float()
            module.merge()
            weight.data = weight.data.to(dtype)
    assert isinstance(wrapped.base_model, LoraModel)
    merged = wrapped.base_model.unload()
    assert isinstance(merged, PreTrainedModel)
    return merged.eval()
