"""The one adapter that goes through all stages of a recipe: attached anew or from its parent, watched, and saved."""

from pathlib import Path

import torch
from peft import PeftModel, get_peft_model

from probes import store
from probes.errors import ConventionError
from probes.lm.model import Model
from probes.lm.weights import weight_files
from training.lora import lora_config
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


@torch.inference_mode()
def base_checksum(network: PeftModel) -> str:
    """Sums of the bits of all weights that are not trained: trainers have been seen to merge adapters into them."""
    sums = {name: _bits(weights) for name, weights in network.named_parameters() if not weights.requires_grad}
    return store.hash_of(sums)


def _bits(weights: torch.Tensor) -> int:
    """A tensor's bits as whole numbers of eight bytes, and what is left over of its own size, summed; they may wrap around.

    No tensor is made on the way. Summed as numbers of two bytes in eight, torch makes a copy four times the size of the
    tensor, 3.2 GB for the experts of a layer of Qwen3-30B-A3B, and takes 2.3 s a GB on one core, where this takes 0.06.
    """
    flat, size = weights.reshape(-1), weights.element_size()
    rest = flat.numel() % (8 // size)
    words, left = flat[: flat.numel() - rest], flat[flat.numel() - rest :]
    return int(words.view(torch.int64).sum()) + int(left.view(torch.uint8).sum(dtype=torch.int64))


def save_adapter(network: PeftModel, folder: Path, base: str) -> None:
    """Adapter weights and config, training or not; the base is named, not given as a path of this machine."""
    network.save_pretrained(str(folder), save_embedding_layers=False)  # "auto" looks for the base on disk by that name
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    config = store.read_json(folder / "adapter_config.json")
    config["target_modules"].sort()  # peft keeps a set, whose order changes from run to run
    config["base_model_name_or_path"] = base
    store.write_json(folder / "adapter_config.json", config)


def check_base(before: str, network: PeftModel, address: str) -> None:
    """Raises ConventionError when training has changed the weights that the adapter belongs to."""
    if base_checksum(network) != before:
        raise ConventionError(
            f"training {address} changed the base weights, so that its adapter belongs to no base that is kept. "
            "Nothing is written; take a trainer that does not merge in place."
        )
