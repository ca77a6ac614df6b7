"""Write a trained checkpoint as a whole model: a folder that transformers, vLLM and lm.load take without this package.

    export(checkpoint, folder, dtype)

The weights are those of lm.load, bit for bit, under the names that the base has them by on the Hub, where each expert has
tensors of its own; everything else is the base's own files, byte for byte but for the dtype in config.json.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from probes import store
from probes.errors import DataError, FileFormatError, OutputError
from probes.lm.checkpoints import EXPORT_RECORD, Checkpoint, Manifest, ModelEntry, model_entry, name_of
from probes.lm.model import dtype_name, load
from probes.lm.weights import local_file, weight_files
from probes.provenance import source_sha

COMPANIONS = (
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "vocab.json", "merges.txt",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
"""Files of a model beside its weights and config.json; those it has are taken over as they are."""


def export(checkpoint: Checkpoint, to: Path, dtype: torch.dtype) -> Path:
    """Merge a checkpoint's adapter and write the whole model to a new folder, unless it is there.

    Memory: the model once, on the GPU where there is one: 61 GB for Qwen3-30B-A3B in bfloat16. While it is merged 3.2 GB
    more there (merged_weight); while it is written 1.4 times a block (1.7 GB), where save_pretrained, which turns all names
    at once, takes two thirds of the model (40 GB). Factors were measured at 2.5 GB on a CPU, the rest is computed.

    Raises DataError for an original, which has nothing to merge, OutputError where something else is in the place or there is
    no room for it, FileFormatError for a base without config.json, and what load raises.
    """
    if checkpoint.manifest is None:
        raise DataError(
            f"{checkpoint.address} has no adapter to merge: take the model itself, or a trained checkpoint."
        )
    record = _record(checkpoint.manifest, dtype)
    if (to / EXPORT_RECORD).is_file() and _same(store.read_json(to / EXPORT_RECORD), record):
        print(f"{to.name}: already there", flush=True)
        return to
    entry = model_entry(checkpoint.model)
    _check_place(to, entry, dtype)
    network = load(checkpoint, dtype=dtype).network
    with tempfile.TemporaryDirectory(prefix=f"{to.name}.tmp-", dir=to.parent) as temporary:
        folder = Path(temporary) / to.name
        try:
            folder.mkdir()
            _write_weights(network, folder)
            _write_companions(entry, folder, dtype)
            store.write_json(folder / EXPORT_RECORD, record)
            folder.rename(to)
        except (OSError, SafetensorError) as error:
            raise OutputError(f"cannot export to {to}: {error}. Choose another --to, or make room there.") from error
    return to


def _same(kept: Any, record: dict[str, Any]) -> bool:
    """Whether an export is of the same checkpoint in the same dtype, by whatever versions."""
    return isinstance(kept, dict) and all(kept.get(name) == record[name] for name in ("manifest", "dtype"))


def _record(manifest: Manifest, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "checkpoint": f"{manifest.model}/{name_of(manifest.variant, manifest.run, manifest.place)}", "manifest": manifest.id,
        "base": manifest.base, "adapter_sha": manifest.adapter_sha, "tokenizer_sha": manifest.tokenizer_sha,
        "template_sha": manifest.template_sha, "evidence": manifest.evidence, "dtype": dtype_name(dtype),
        "source_sha": source_sha(),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "safetensors")},
    }  # fmt: skip


def _check_place(to: Path, entry: ModelEntry, dtype: torch.dtype) -> None:
    """Before 61 GB are loaded, merged and written for nothing."""
    if to.exists():
        raise OutputError(f"{to} is there and is no export of this checkpoint. Choose another --to, or take it away.")
    store.check_folder(to.parent)
    stored = _base_config(entry).get("dtype") or "float32"
    size = sum(path.stat().st_size for path in weight_files(entry)) * dtype.itemsize // getattr(torch, stored).itemsize
    free = shutil.disk_usage(to.parent).free
    if free < 1.02 * size:
        raise OutputError(
            f"the export takes {size / 1e9:.1f} GB, and {to.parent} has {free / 1e9:.1f} GB left. Make room, or choose "
            "another --to."
        )


def _write_weights(network: PreTrainedModel, folder: Path) -> None:
    """One file a block, and one before and after them, with the index that says where each tensor is."""
    blocks, places, size = list(_blocks(network)), {}, 0
    for number, block in enumerate(tqdm(blocks, desc="write", unit="file"), 1):
        name = f"model-{number:05d}-of-{len(blocks):05d}.safetensors"
        tensors = {key: tensor.contiguous() for key, tensor in revert_weight_conversion(network, block).items()}
        save_file(tensors, folder / name, {"format": "pt"})
        places |= dict.fromkeys(tensors, name)
        size += sum(tensor.nbytes for tensor in tensors.values())
    store.write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": places})


def _blocks(network: PreTrainedModel) -> Iterator[dict[str, torch.Tensor]]:
    """The weights by decoder layer, in their order; of tied ones the first."""
    tied = dict(network.named_parameters(remove_duplicate=False)).keys() - dict(network.named_parameters()).keys()
    weights = [(name, weight) for name, weight in network.state_dict().items() if name not in tied]
    for _, block in groupby(weights, key=lambda named: re.findall(r"\.layers\.(\d+)\.", named[0])):
        yield dict(block)


def _write_companions(entry: ModelEntry, folder: Path, dtype: torch.dtype) -> None:
    config = {key: value for key, value in _base_config(entry).items() if key != "torch_dtype"}
    store.write_json(folder / "config.json", config | {"dtype": dtype_name(dtype)})
    for name in COMPANIONS:
        path = local_file(entry, name)
        if path:
            shutil.copyfile(path, folder / name)


def _base_config(entry: ModelEntry) -> dict[str, Any]:
    """The base's config.json; `dtype` also where it stands by its older name."""
    path = local_file(entry, "config.json")
    config = store.read_json(path) if path else None
    if not isinstance(config, dict):
        raise FileFormatError(f"{entry.name} in {entry.source} has no config.json. Put the model's own there.")
    return config | {"dtype": config.get("dtype", config.get("torch_dtype"))}
