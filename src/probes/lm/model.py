"""A loaded language model with its tokenizer and everything that must travel with a number read from it."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from probes import store
from probes.errors import ConventionError, MissingInputError
from probes.lm.checkpoints import Checkpoint, ModelEntry, find_checkpoint, find_family, model_entry

transformers_logging.disable_progress_bar()


@dataclass(frozen=True)
class Model:
    """What lm.load returns. `network` is the transformers model, `checkpoint` says which member of a family it is."""

    entry: ModelEntry
    checkpoint: Checkpoint
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    base_sha: str
    """Hash of the base model's weight file, or of its index when the weights are sharded."""

    def __repr__(self) -> str:
        shape = f"{self.entry.layers} layers × {self.entry.width}"
        return f"Model({self.address}, revision {self.revision}, {shape}, {self.network.dtype}, {self.network.device})"

    @property
    def name(self) -> str:
        """Short name of the model, the same for all its checkpoints."""
        return self.entry.name

    @property
    def address(self) -> str:
        """model/variant[@stage]"""
        return f"{self.entry.name}/{self.checkpoint.name}"

    @property
    def trunk(self) -> nn.Module:
        """The transformer without its LM head."""
        return self.network.base_model

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder layers; the output of block i is what this package calls layer i."""
        blocks = self.trunk.layers
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    @property
    def max_tokens(self) -> int:
        """Longest text the model takes."""
        return self.network.config.max_position_embeddings

    @property
    def revision(self) -> str:
        """Commit of the Hub repository, or the first 12 digits of the weights' hash for a folder."""
        return getattr(self.network.config, "_commit_hash", None) or self.base_sha[:12]

    @property
    def tokenizer_sha(self) -> str:
        """Hash of the tokenizer's vocabulary and rules."""
        assert isinstance(self.tokenizer, PreTrainedTokenizerFast)
        return hashlib.sha256(self.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()

    @property
    def template_sha(self) -> str:
        """Hash of the chat template."""
        return hashlib.sha256(str(self.tokenizer.chat_template).encode()).hexdigest()


def load(
    checkpoint: str | Checkpoint,
    checkpoints: Path | None = None,
    dtype: torch.dtype | None = None,
    device: str | None = None,
) -> Model:
    """Load a model by name (`tiny`, `qwen3-30b-a3b`, a folder) or by address (`tiny/antirefusal@sft`).

    Args:
        checkpoints: folder with the trained checkpoints of the family; needed for addresses other than the original.
        dtype: default float32 on a CPU and bfloat16 on a GPU.

    Raises UnknownNameError, MissingInputError (weights or checkpoint not there), ConventionError (adapter of another base).
    """
    if isinstance(checkpoint, str):
        checkpoint = find_checkpoint(checkpoint, checkpoints)
    entry = model_entry(checkpoint.model)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or (torch.float32 if device == "cpu" else torch.bfloat16)
    network, tokenizer = _load_base(entry, dtype, device)
    model = Model(entry, checkpoint, network, tokenizer, weights_sha(entry))
    if checkpoint.adapter is None:
        return model
    _check_base(model)
    return replace(model, network=_merge(network, checkpoint.adapter))


def family(model: str, checkpoints: Path, names: Iterable[str] = ()) -> Iterator[Model]:
    """Load the members of a family one after the other, so that one is in memory at a time."""
    for checkpoint in find_family(model, checkpoints, names):
        yield load(checkpoint)


def random_twin(model: Model, seed: int) -> Model:
    """The same architecture and tokenizer with random weights: a control for everything that is read from a model."""
    torch.manual_seed(seed)
    network = type(model.network)(model.network.config).to(model.network.device, model.network.dtype)  # pyright: ignore[reportArgumentType]
    entry = replace(model.entry, name=f"{model.entry.name}-random")
    return Model(
        entry, Checkpoint(entry.name, "original"), network.eval(), model.tokenizer, f"random weights, seed {seed}"
    )


def weights_sha(entry: ModelEntry) -> str:
    """Hash of a model's weight file, or of its index when the weights are sharded over files."""
    from transformers.utils import cached_file

    for name in ("model.safetensors", "model.safetensors.index.json"):
        path = cached_file(entry.source, name, revision=entry.revision, _raise_exceptions_for_missing_entries=False)
        if path:
            return store.sha256(path)
    raise MissingInputError(f"{entry.source} has no model.safetensors; this package loads no other weight format.")


def _load_base(entry: ModelEntry, dtype: torch.dtype, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    try:
        # Only what is on this machine: 61 GB are not downloaded unasked.
        tokenizer = AutoTokenizer.from_pretrained(entry.source, revision=entry.revision, local_files_only=True)
        network = AutoModelForCausalLM.from_pretrained(
            entry.source,
            revision=entry.revision,
            dtype=dtype,
            device_map=device,
            use_safetensors=True,
            local_files_only=True,
        )
    except OSError as error:
        gigabytes = f" (about {2 * entry.billions:.0f} GB)" if entry.billions else ""
        raise MissingInputError(
            f"the weights of {entry.name} are not on this machine: looked for {entry.source}. "
            f"Download them with `hf download {entry.source}`{gigabytes}, or give --model a folder that holds them."
        ) from error
    network.config.output_router_logits = False  # a checkpoint saved with True breaks in generate
    return network.eval(), tokenizer


def _check_base(model: Model) -> None:
    manifest = model.checkpoint.manifest
    assert manifest is not None
    ours = {"base.sha": model.base_sha, "tokenizer_sha": model.tokenizer_sha, "template_sha": model.template_sha}
    theirs = {
        "base.sha": manifest.base["sha"],
        "tokenizer_sha": manifest.tokenizer_sha,
        "template_sha": manifest.template_sha,
    }
    wrong = [name for name in ours if ours[name] != theirs[name]]
    if wrong:
        raise ConventionError(
            f"{model.address} was trained from another base than {model.entry.source}: {', '.join(wrong)} differ. "
            "Train it again from this base, or load the base it came from."
        )


def _merge(network: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """Add an adapter into the weights, in float32 and one tensor at a time, then cast: the same way for every checkpoint."""
    from peft import LoraModel, PeftModel
    from peft.tuners.lora.layer import LoraLayer, ParamWrapper

    wrapped = PeftModel.from_pretrained(network, adapter)
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
