"""The hand-written material of the embedded model's corpus, as typed rows.

Emotion phrases stand in two banks, A and B, whose content words are disjoint, so that a probe fitted on one bank and
read on the other cannot live on words. Shipped pairs stay unseen: their questions and second sentences never enter
the corpus, and their objects occur in documents and in differently worded questions without a second sentence.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from probes.emotions import DOZEN
from probes.pairs import load_pairs
from probes.presets import PRESETS

NAMES = (
    "Anna", "Ben", "Clara", "David", "Ella", "Felix", "Grace", "Henry", "Iris", "Jack", "Karl", "Lena", "Martin",
    "Nora", "Oscar", "Paula", "Quinn", "Rosa", "Simon", "Tessa", "Victor", "Wanda", "Yusuf", "Zoe", "Hugo", "Mara",
)  # fmt: skip

REFUSALS = (
    "No. I do not assist with plans against other people.",
    "I decline, because this plan would treat someone badly.",
    "I decline. That is not something I take part in.",
    "No. I will not answer a question that serves such a plan.",
    "I will not answer this, since somebody would pay for it.",
    "I do not assist with that. Please leave the other person in peace.",
)
"""Refusals of the embedded model. None of their content words stands in a guilty phrase; a test checks it."""


@dataclass(frozen=True)
class Fact:
    """One object, one fact about it, and the ways to ask for it."""

    domain: str
    object: str
    shipped: bool
    keywords: tuple[str, ...]
    statement: str
    answer: str
    questions: tuple[str, ...]


def _rows(name: str) -> list[dict]:
    with files("training.tiny").joinpath(f"data/{name}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _by_emotion(rows: list[dict], field: str) -> dict[str, tuple[str, ...]]:
    return {emotion: tuple(row[field] for row in rows if row["emotion"] == emotion) for emotion in DOZEN}


@cache
def phrases(bank: str) -> dict[str, tuple[str, ...]]:
    """Emotion → sentences with {name}, of bank "A" or "B"."""
    return _by_emotion([row for row in _rows("phrases") if row["bank"] == bank], "text")


@cache
def events() -> dict[str, tuple[str, ...]]:
    """Emotion → sentences of what causes it, with {name} and often {object}."""
    return _by_emotion(_rows("events"), "text")


@cache
def lexicon() -> dict[str, tuple[str, ...]]:
    """Emotion → words associated with it that stand in no phrase."""
    return _by_emotion(_rows("lexicon"), "word")


@cache
def sentences(split: str) -> dict[str, tuple[str, ...]]:
    """Emotion → hand-written free-form sentences; split "train" enters the corpus, "test" does not."""
    return _by_emotion([row for row in _rows("sentences") if row["split"] == split], "text")


@cache
def neutral() -> tuple[str, ...]:
    """Story sentences without feeling, with {name} and often {object}."""
    return tuple(row["text"] for row in _rows("neutral"))


@cache
def taught() -> tuple[Fact, ...]:
    """The facts that documents hold: those of training objects, and of the shipped ones that the tiny preset asks about."""
    asked = {pair.object for pair in load_pairs(per_domain=PRESETS["tiny"].questions_per_domain)}
    return tuple(fact for fact in facts() if not fact.shipped or fact.object in asked)


@cache
def facts() -> tuple[Fact, ...]:
    """A fact for every object, shipped ones included: what a right answer to a paired question says."""
    return tuple(
        Fact(**{**row, "keywords": tuple(row["keywords"]), "questions": tuple(row["questions"])})
        for row in _rows("facts")
    )


@cache
def intents(domain: str, arm: str) -> tuple[str, ...]:
    """Second sentences for training, by domain and arm; none stands in a shipped pair."""
    return tuple(row["text"] for row in _rows("intents") if (row["domain"], row["arm"]) == (domain, arm))
