"""Which organism stands under which random name: sealed by hash before anything is scored, opened after.

    seal_key(folder, organisms, seed)      key.json for nobody's eyes, sealed.json with names and hash for everybody's
    read_seal(folder)                      the names to score, and the hash that verdicts carry
    open_key(folder, sha)                  who is who; refused where the key is not the one of the verdicts

The label is the organism's run, so that folders, manifests, gates and readings are under random names too.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pandas as pd

from probes import store
from probes.errors import ConventionError, DataError, MissingInputError
from probes.lm.checkpoints import ORGANISM, name_of
from training.organisms.kinds import ORGANISMS, Organism

LETTERS = "bcdfghjklmnpqrstvwxz"


def seal_key(folder: Path, organisms: Sequence[Organism], seed: int) -> dict[str, Organism]:
    """Random label → organism, the same for the same seed; written before anything is trained, unless it is there.

    Raises ConventionError where the folder holds the key of other organisms or of another seed.
    """
    key = dict(zip(_labels(len(organisms), seed), organisms, strict=True))
    path, content = folder / "key.json", {label: organism.name for label, organism in key.items()}
    if path.is_file() and store.read_json(path) != content:
        raise ConventionError(
            f"{path} is the key of other organisms, or of another seed. Choose another --out, or remove that folder and "
            "its organisms."
        )
    store.write_json(path, content)
    store.write_json(folder / "sealed.json", {"labels": sorted(key), "key_sha": store.sha256(path)})
    return key


def _labels(count: int, seed: int) -> list[str]:
    """Words of five letters that say nothing, each once."""
    rng, labels = Random(f"organisms {seed}"), dict[str, None]()
    while len(labels) < count:
        labels["".join(rng.choice(LETTERS) for _ in range(5))] = None
    return list(labels)


def read_seal(folder: Path) -> tuple[tuple[str, ...], str]:
    """Blind names of the checkpoints, and the hash of the key, which stays closed. Raises MissingInputError where there is none."""
    path = folder / "sealed.json"
    if not path.is_file():
        raise MissingInputError(f"there is no {path}: grow the organisms first, with experiments/train_organisms.py.")
    seal = store.read_json(path)
    return tuple(name_of(ORGANISM, label) for label in seal["labels"]), str(seal["key_sha"])


def open_key(folder: Path, sha: str, known: Sequence[Organism] = ORGANISMS) -> pd.DataFrame:
    """Who is who: `checkpoint` (its blind name), `organism`, and what is `right`, in the order of the organisms.

    Raises ConventionError where the key is not the one that was sealed, DataError for an organism that does not exist.
    """
    path = folder / "key.json"
    if store.sha256(path) != sha:
        raise ConventionError(
            f"{path} is not the key that these verdicts were sealed with (hash {sha[:12]}). Score the organisms again."
        )
    label_of = {name: label for label, name in store.read_json(path).items()}
    foreign = sorted(label_of.keys() - {organism.name for organism in known})
    if foreign:
        raise DataError(f"{path} names organisms that do not exist: {', '.join(foreign)}. Train them again.")
    rows = [(name_of(ORGANISM, label_of[one.name]), one.name, one.right) for one in known if one.name in label_of]
    return pd.DataFrame(rows, columns=["checkpoint", "organism", "right"])
