"""Write what a checkpoint is made of, beside its adapter; probes.lm.checkpoints reads it."""

import filecmp
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from probes import store
from probes.errors import OutputError
from probes.lm.checkpoints import Manifest, manifest_id
from probes.lm.model import Model
from probes.lm.weights import adapter_sha

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


def base_of(model: Model) -> dict[str, str]:
    """Name, revision and hash of the weights an adapter belongs to."""
    return {"name": model.name, "revision": model.revision, "sha": model.base_sha}


def complete(content: dict[str, Any]) -> Manifest:
    """A manifest with its id."""
    content = {**content, "schema": 1}
    return Manifest(**content, id=manifest_id(_plain(content)))


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """As it reads back from JSON."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in content.items()}


def versions() -> dict[str, str]:
    """Versions of the packages that decide what training gives."""
    return {name: version(name) for name in PACKAGES}


def write_checkpoint(target: Path, save_adapter: Callable[[Path], None], content: dict[str, Any]) -> Manifest:
    """Write adapter and manifest into a new folder and put it in place whole; an older one there is replaced.

    One with the same content stays as it is. Adapters are private: a variant's refuse less than the model does.

    Raises OutputError where the place cannot be written.
    """
    store.check_folder(target.parent)
    for left in target.parent.glob(f"{target.name}.tmp-*"):
        shutil.rmtree(left)  # by a kill: whoever writes a checkpoint holds the lock of its parts
    with tempfile.TemporaryDirectory(prefix=f"{target.name}.tmp-", dir=target.parent) as temporary:
        folder = Path(temporary) / target.name
        try:
            folder.mkdir()
            save_adapter(folder)
            (folder / "adapter_model.safetensors").chmod(0o600)
            manifest = complete({**content, "adapter_sha": adapter_sha(folder)})
            store.write_json(folder / "manifest.json", _plain(asdict(manifest)))
            if _is_copy(target, folder):
                return manifest
            if target.is_dir():
                # It goes with the temporary folder, after the new one is in place.
                target.rename(Path(temporary) / "older")
            folder.rename(target)
        except (OSError, SafetensorError) as error:
            raise OutputError(f"cannot write the checkpoint to {target}: {error}. Choose another --out.") from error
    return manifest


def _is_copy(target: Path, folder: Path) -> bool:
    """Whether every file of a folder is in the target too, to the byte."""
    pairs = [(target / path.name, path) for path in folder.iterdir()]
    return all(there.is_file() and filecmp.cmp(there, new, shallow=False) for there, new in pairs)
