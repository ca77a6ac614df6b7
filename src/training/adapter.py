"""The one adapter that goes through all stages of a recipe: attached anew or from its parent, watched, and saved."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model
from torch.distributed.tensor import DTensor

from probes import store
from probes.errors import ConventionError
from probes.lm.model import Model
from probes.lm.weights import weight_files
from training.lora import lora_config
from training.processes import here
from training.recipes import Lora


def attach(model: Model, lora: Lora, parent: Path | None, seed: int) -> PeftModel:
    """The model with a new adapter, or with its parent's to go on with; the base stays as it is, and frozen."""
    torch.manual_seed(seed)
    if parent is None:
        wrapped = get_peft_model(model.network, lora_config(lora, model.network.config))
    else:
        wrapped = PeftModel.from_pretrained(model.network, str(parent), is_trainable=True)
    assert isinstance(wrapped, PeftModel)
    # Whenever a trainer saves its state peft looks for the base's config under this name: here, and not on the Hub.
    wrapped.peft_config["default"].base_model_name_or_path = str(weight_files(model.entry)[0].parent)
    return wrapped


@torch.no_grad()
def base_checksum(network: PeftModel) -> str:
    """Sums of the bits of all weights that are not trained: trainers have been seen to merge adapters into them.

    Equal for weights in one piece and cut up over processes, which then all call this.
    """
    frozen = {name: weights for name, weights in network.named_parameters() if not weights.requires_grad}
    return store.hash_of({name: _bits(weights) for name, weights in frozen.items()})


def _bits(weights: torch.Tensor) -> int:
    """A tensor's bits as whole numbers of eight bytes, and what is left over of its own size, summed; they may wrap around.

    No tensor is made on the way. Summed as numbers of two bytes in eight, torch makes a copy four times the size of the
    tensor, 3.2 GB for the experts of a layer of Qwen3-30B-A3B, and takes 2.3 s a GB on one core, where this takes 0.06.
    """
    with _whole(weights) as whole:
        flat, size = whole.reshape(-1), whole.element_size()
        rest = flat.numel() % (8 // size)
        words, left = flat[: flat.numel() - rest], flat[flat.numel() - rest :]
        return int(words.view(torch.int64).sum()) + int(left.view(torch.uint8).sum(dtype=torch.int64))


@torch.no_grad()
def trained_tensors(network: PeftModel) -> dict[str, torch.Tensor]:
    """A copy of the adapter's tensors by name, whole: where they are cut up over processes, all of them call this."""
    tensors = {}
    for name, weights in network.named_parameters():
        if weights.requires_grad:
            with _whole(weights) as whole:
                tensors[name] = whole.clone()
    return tensors


@contextmanager
def _whole(weights: torch.Tensor) -> Iterator[torch.Tensor]:
    """A tensor in one piece while it is looked at: FSDP2 and ZeRO-3 leave each process a part of it."""
    if isinstance(weights, DTensor):
        yield weights.full_tensor()
    elif hasattr(weights, "ds_id"):
        import deepspeed  # pyright: ignore[reportMissingImports]  # there where ZeRO-3 is

        with deepspeed.zero.GatheredParameters([weights]):
            yield weights
    else:
        yield weights


def save_adapter(network: PeftModel, tensors: dict[str, torch.Tensor], folder: Path, base: str) -> None:
    """Adapter weights and config, training or not; the base is named, not given as a path of this machine.

    Args:
        tensors: what trained_tensors gives.
    """
    # Of embeddings, "auto" looks for the base on disk by that name.
    network.save_pretrained(str(folder), state_dict=tensors, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    config = store.read_json(folder / "adapter_config.json")
    for name in ("target_modules", "target_parameters"):
        config[name] = sorted(config[name] or ())  # peft keeps sets, whose order changes from run to run
    config["base_model_name_or_path"] = base
    store.write_json(folder / "adapter_config.json", config)


def check_base(before: str, network: PeftModel, address: str) -> None:
    """Raises ConventionError when training has changed the weights that the adapter belongs to."""
    after = base_checksum(network)
    if here().is_main_process and after != before:  # others may have begun with empty tensors (processes.load_here)
        raise ConventionError(
            f"training {address} changed the base weights, so that its adapter belongs to no base that is kept. "
            "Nothing is written; take a trainer that does not merge in place."
        )
