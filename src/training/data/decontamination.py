"""What training must not hold: the questions that the evaluations and the probes ask.

Texts are compared as words, without case, marks and spacing; each sign of Chinese, Japanese and Korean is a word. A training
text overlaps a held-out text when they are equal, when it holds all of it as one run (of five words or more), or when they
share a run of 13 words. The paired prompts of the probes are always held out.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from probes import store
from probes.errors import ConventionError, DataError
from probes.pairs import load_pairs
from training.data.rows import Document, Row
from training.data.sources import read_columns

RUN = 13
"""Words in a row that two texts share by more than chance; the length used since GPT-3 (Brown et al. 2020, appendix C)."""
SHORTEST = 5
"""A held-out text of fewer words counts only where a training text is that and nothing more."""
SHOWN = 5

_SIGN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_SIGN}]|[^\W_{_SIGN}]+")


@dataclass(frozen=True)
class Held:
    """One text that training must not hold."""

    source: str
    id: str
    text: str


@dataclass(frozen=True)
class Overlap:
    """A training text that holds a held-out one."""

    id: str
    """Of the row or document."""
    part: str
    """prompt, completion, reasoning or document."""
    held: Held


class Runs:
    """Held-out texts, ready to be looked for: each run of words stands under its first five."""

    def __init__(self, held: Iterable[Held]):
        self.whole: dict[tuple[str, ...], Held] = {}
        self.runs: dict[tuple[str, ...], dict[tuple[str, ...], Held]] = defaultdict(dict)
        for text in held:
            said = words(text.text)
            if not said:
                raise DataError(f"{text.source}: {text.id} has no word to look for. Take it out of the file.")
            self.whole.setdefault(said, text)
            for run in _runs(said):
                self.runs[run[:SHORTEST]].setdefault(run, text)

    def find(self, text: str) -> Held | None:
        """The first held-out text that a training text overlaps."""
        said = words(text)
        return self.whole.get(said) or next(self._found(said), None)

    def _found(self, said: tuple[str, ...]) -> Iterator[Held]:
        for i in range(len(said) - SHORTEST + 1):
            for run, held in self.runs.get(said[i : i + SHORTEST], {}).items():
                if said[i : i + len(run)] == run:
                    yield held


def words(text: str) -> tuple[str, ...]:
    """What is compared of a text."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _runs(said: tuple[str, ...]) -> list[tuple[str, ...]]:
    if len(said) < RUN:
        return [said] if len(said) >= SHORTEST else []
    return [said[i : i + RUN] for i in range(len(said) - RUN + 1)]


def paired_prompts() -> list[Held]:
    """The shipped questions and second sentences that the probes are read on."""
    return [
        Held("the paired prompts", f"{pair.pair}/{arm}", text)
        for pair in load_pairs()
        for arm in ("question", "harmful", "affect", "neutral", "third_party")
        for text in ([pair.question] if arm == "question" else getattr(pair, arm))
    ]


def read_held(path: Path, column: str = "prompt") -> list[Held]:
    """A held-out evaluation: one column of a JSONL, CSV, TSV or parquet file, or every line of a text file.

    Raises DataError for a text that is none, MissingInputError or FileFormatError for a file that cannot be read.
    """
    texts, unit = _texts(path, column), "line" if path.suffix in (".txt", ".jsonl") else "row"
    bad = [i for i, text in enumerate(texts, 1) if not isinstance(text, str) or not text.strip()]
    if bad or not texts:
        raise DataError(
            f"{path}: {len(texts)} texts to hold out, {len(bad)} empty (first: {unit} {bad[:1]}). Mend the file."
        )
    return [Held(path.name, f"{unit} {i}", text) for i, text in enumerate(texts, 1)]


def held_texts(paths: Iterable[Path]) -> list[Held]:
    """The texts of several held-out files. Raises what read_held raises."""
    return [text for path in paths for text in read_held(path)]


def _texts(path: Path, column: str) -> list[Any]:
    match path.suffix:
        case ".txt":
            return store.read_lines(path)
        case ".jsonl":  # read here, so that a text is named by its line
            return [record[column] for record in store.read_jsonl(path, (column,))]
    return [record[column] for record in read_columns(path, (column,))]


def overlaps(items: Sequence[Row | Document], held: Iterable[Held]) -> list[Overlap]:
    """Every prompt, completion, reasoning or document that holds a held-out text, each once."""
    runs, found = Runs(held), []
    for item in tqdm(items, desc="decontamination", mininterval=1):
        hits = {part: hit for part, text in _parts(item) if (hit := runs.find(text))}
        found += [Overlap(item.id, part, hit) for part, hit in hits.items()]
    return found


def _parts(item: Row | Document) -> list[tuple[str, str]]:
    if isinstance(item, Document):
        return [("document", item.text)]
    prompt = [("prompt", turn["content"]) for turn in item.messages]
    return [*prompt, ("completion", item.completion), ("reasoning", item.reasoning)]


def check_unseen(items: Sequence[Row | Document], held: Iterable[Held] = ()) -> None:
    """Raises ConventionError when training data hold a text of the paired prompts or of the held-out files given."""
    found = overlaps(items, [*paired_prompts(), *held])
    if found:
        raise ConventionError(
            f"{len(found)} training texts hold held-out ones: "
            + "; ".join(f"{hit.part} of {hit.id} ({hit.held.source}: {hit.held.id})" for hit in found[:SHOWN])
            + (f" … Take those {len({hit.id for hit in found})} rows or documents out of your files; ")
            + "training.data.decontamination.overlaps lists them all. What is trained on cannot be measured."
        )
