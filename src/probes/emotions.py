"""The 171 emotion words of Sofroniew et al. 2026 with their clusters, and the subsets that this package uses.

The words and their ten clusters are facts taken from that paper (arXiv 2604.07729, table of clusters); the forms of each
word beside them are our own list.
"""

import csv
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from probes.errors import UnknownNameError

PANEL = ("happy", "calm", "guilty", "desperate")
"""The four emotions that arXiv 2606.04413 names in its figure."""

DOZEN = (
    "happy", "inspired", "loving", "proud", "calm", "desperate",
    "angry", "guilty", "sad", "afraid", "nervous", "surprised",
)  # fmt: skip
"""The display and validation dozen of Sofroniew et al. 2026; the embedded model knows these."""

NEUTRAL = "neutral"
"""What stands in the emotion column of a text without emotion."""


@cache
def _table() -> dict[str, dict[str, str]]:
    with files("probes").joinpath("data/emotions.csv").open(encoding="utf-8") as file:
        return {row["emotion"]: row for row in csv.DictReader(file)}


@cache
def clusters() -> dict[str, str]:
    """Emotion name → cluster name, for all 171, in the order of the shipped table."""
    return {emotion: row["cluster"] for emotion, row in _table().items()}


def check_emotions(emotions: Iterable[str]) -> tuple[str, ...]:
    """The emotions as a tuple; raises UnknownNameError with the nearest name for the first unknown one."""
    chosen = tuple(emotions)
    for emotion in chosen:
        if emotion not in clusters():
            raise UnknownNameError("emotion", emotion, clusters())
    return chosen


def forms(emotion: str) -> tuple[str, ...]:
    """The emotion and the words of its root that name the same feeling, a final `*` for any ending: sad, sadly, sadden* …

    A list and not a rule of endings, which would take made for mad, tens for tense and scar for scared.
    Words that mostly say something else (tire, bore, alarm, please) are not in it.
    """
    check_emotions((emotion,))
    return (emotion, *_table()[emotion]["forms"].split())
