"""The 171 emotion words of Sofroniew et al. 2026 with their clusters, and the subsets that this package uses.

The words and their ten clusters are facts taken from that paper (arXiv 2604.07729, table of clusters).
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


@cache
def clusters() -> dict[str, str]:
    """Emotion name → cluster name, for all 171, in the order of the shipped table."""
    with files("probes").joinpath("data/emotions.csv").open(encoding="utf-8") as file:
        return {row["emotion"]: row["cluster"] for row in csv.DictReader(file)}


def slug(emotion: str) -> str:
    """File-name form of an emotion: `worn out` → `worn_out`. One to one over the 171."""
    return emotion.replace(" ", "_")


def check_emotions(emotions: Iterable[str]) -> tuple[str, ...]:
    """The emotions as a tuple; raises UnknownNameError with the nearest name for the first unknown one."""
    chosen = tuple(emotions)
    for emotion in chosen:
        if emotion not in clusters():
            raise UnknownNameError("emotion", emotion, clusters())
    return chosen
