"""Published texts that show an emotion, as stimuli of this package: read at the last prompt token, like our scenarios.

    load_scenario_set("their/emotions")                a folder of <emotion>.json, each a list of texts (representation-engineering)
    load_scenario_set("aipsy-affect.parquet")          a table with the columns text and emotion (AIPsy-Affect, data/clinical)
    scenario_sets("runs/scenarios", emotions)          all that lie in a folder, by name

None is shipped. Their names of emotions are matched with ours by NEAREST, which is our choice and stands in every table: an
emotion of theirs without a near one is left out, and counted. Texts that name their emotion are left out too.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import xarray as xr

from probes.emotions import clusters
from probes.errors import DataError, FileFormatError, MissingInputError, UnknownNameError
from probes.stimuli import Stimulus, capture_stimuli
from probes.stories import names_emotion

if TYPE_CHECKING:
    from probes.lm.engines import Engine, EngineName
    from probes.lm.model import Model

NEAREST = {
    "anger": "angry", "fear": "afraid", "happiness": "happy", "sadness": "sad", "disgust": "disgusted", "surprise": "surprised",
    "rage": "enraged", "terror": "terrified", "grief": "grief-stricken", "loathing": "hateful", "amazement": "amazed",
    "ecstasy": "ecstatic", "vigilance": "vigilant", "joy": "joyful",
}  # fmt: skip
"""Their noun → the nearest of our 171. Admiration has none."""
COARSE = {
    "enraged": "angry", "terrified": "afraid", "grief-stricken": "sad", "amazed": "surprised", "ecstatic": "happy",
    "joyful": "happy",
}  # fmt: skip
"""Strong form → the plain one, for banks that have only that."""
HINT = (
    "Put the folder data/emotions of github.com/andyzoujm/representation-engineering there (MIT; six emotions, 1,250 one-line "
    "scenarios), or data/clinical.parquet of `hf download keidolabs/aipsy-affect --repo-type dataset` (MIT, arXiv 2604.23719; "
    "eight emotions, 192 vignettes without emotion words)."
)


class ScenarioSet(NamedTuple):
    """Stimuli of one source."""

    name: str
    stimuli: tuple[Stimulus, ...]
    left_out: dict[str, int]
    """Why texts were left out, and how many: `no near emotion`, `names its emotion`."""


def load_scenario_set(path: Path | str, emotions: Iterable[str]) -> ScenarioSet:
    """A published set, narrowed to texts of emotions that a bank has.

    Raises MissingInputError with where to get one, FileFormatError for a file that holds no texts, DataError for none left.
    """
    path, known = Path(path), set(emotions)
    rows = [(_ours(name, known), text) for name, text in _rows(path)]
    near = [(emotion, text) for emotion, text in rows if emotion]
    kept = tuple(Stimulus(emotion, text) for emotion, text in near if not names_emotion(text, emotion))
    if not kept:
        raise DataError(
            f"{path} holds {len(rows)} texts, none of an emotion that these probes have: {', '.join(sorted(known))}."
        )
    left_out = {"no near emotion": len(rows) - len(near), "names its emotion": len(near) - len(kept)}
    return ScenarioSet(path.stem, kept, left_out)


def scenario_sets(folder: Path | str, emotions: Iterable[str]) -> list[ScenarioSet]:
    """Every set that lies in a folder, by name; none where there is no folder. Raises what load_scenario_set raises."""
    folder, known = Path(folder), tuple(emotions)
    return [load_scenario_set(path, known) for path in sorted(folder.iterdir())] if folder.is_dir() else []


def capture_sets(
    model: "Model",
    sets: Iterable[ScenarioSet],
    layers: Sequence[int],
    engine: "EngineName | Engine" = "transformers_hooks",
) -> list[xr.Dataset]:
    """Activations of each set at the last prompt token, under its name as `stimuli`. Raises what capture_stimuli raises."""
    captured = [capture_stimuli(model, one.stimuli, layers=layers, engine=engine) for one in sets]
    return [texts.assign_attrs(stimuli=one.name) for texts, one in zip(captured, sets, strict=True)]


def _ours(name: str, known: set[str]) -> str:
    """The emotion of the bank that theirs is nearest to; empty where there is none."""
    name = name.strip().lower()
    nearest = NEAREST.get(name, name if name in clusters() else "")
    return nearest if nearest in known else COARSE.get(nearest, "") if COARSE.get(nearest) in known else ""


def _rows(path: Path) -> list[tuple[str, str]]:
    """(their emotion, text)"""
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if files:
            return [(file.stem, text) for file in files for text in _texts(file)]
    if not path.is_file():
        raise MissingInputError(f"there is no set of scenarios at {path}. {HINT}")
    return _table_rows(path)


def _texts(file: Path) -> list[str]:
    try:
        texts = json.loads(file.read_bytes())
    except ValueError as error:
        raise FileFormatError(f"{file} is not JSON: {error}. {HINT}") from error
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise FileFormatError(f"{file} is no list of texts. {HINT}")
    return texts


def _table_rows(path: Path) -> list[tuple[str, str]]:
    try:
        table = (
            pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_json(path, lines=path.suffix == ".jsonl")
        )
    except (ValueError, OSError) as error:
        raise FileFormatError(f"{path} is no parquet, JSON or JSONL table: {error}. {HINT}") from error
    for name in ("emotion", "text"):
        if name not in table:
            raise UnknownNameError(f"column of {path.name}", name, map(str, table.columns))
    rows = table[table["emotion"] != "neutral"]
    return list(zip(rows["emotion"].astype(str), rows["text"].astype(str), strict=True))
