"""Where a file comes from: source, versions, settings and inputs. No clock, no user, no absolute path.

The source is named by a hash of its files and not by a commit, so that an installed wheel and a checkout of the same
code say the same.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path, PurePath
from typing import Any

from probes import store

CODE_AND_DATA = {".py", ".csv", ".jsonl", ".jinja"}
PACKAGES = ("probes", "training", "evals")
VERSIONS = ("emotion-probes", "torch", "transformers", "numpy", "scipy", "xarray", "scikit-learn", "peft", "trl")


def provenance(settings: Any, about: Mapping[str, Any], inputs: Mapping[str, Path]) -> dict[str, Any]:
    """A record of how something was made.

    Args:
        settings: the step's settings, a dataclass.
        about: facts of the model and probes it rests on.
        inputs: name → file read; recorded by hash.
    """
    assert is_dataclass(settings)
    return {
        "source_sha": source_sha(), "versions": {name: version(name) for name in VERSIONS},
        "settings": plain(asdict(settings)), "about": plain(dict(about)),  # pyright: ignore[reportArgumentType]
        "inputs": {name: store.sha256(path) for name, path in inputs.items()},
    }  # fmt: skip


def plain(value: Any) -> Any:
    """A value as JSON has it; of a path only its name, also where a folder stands for a model's name."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    is_path = isinstance(value, PurePath) or (isinstance(value, str) and PurePath(value).is_absolute())
    return PurePath(value).name if is_path else value


def content_sha(*names: str) -> str:
    """Hash of some files of the package `probes`, by name below it: what a request was made of."""
    root = Path(str(files("probes")))
    return store.hash_of({name: store.sha256(root / name) for name in names})


@cache
def source_sha() -> str:
    """Hash of every file of code and data of this package, by relative name and content; weights have hashes of their own."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        root = Path(str(files(package)))
        for path in sorted(path for path in root.rglob("*") if path.suffix in CODE_AND_DATA):
            digest.update(f"{package}/{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()
