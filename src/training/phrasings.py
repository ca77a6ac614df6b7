"""Questions that a recipe was trained on, as pairs, and where the corpus allows the same questions in words it never had.

    sets = phrasings(model, prompts_of(rows))      "trained on" → pairs, and of an embedded model "reworded" → pairs
    rows = named(readings, sets)                   anchored readings of the same text, told apart by phrasing

The shipped pairs share nothing with any training set (training.data.decontamination), so what a checkpoint reads of them says
nothing about words that it was trained on. A row of training is a prompt and a completion: it has no benign partner. Of the
embedded model's rows the question and the second sentence are known apart; of a researcher's own they are not, and pairs have to
be given.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random

import pandas as pd

from probes.declaration import SAME_TEXT
from probes.directions import Readout
from probes.errors import ConventionError, DataError, MissingInputError
from probes.pairs import Pair, check_pairs, load_pairs, prompts
from probes.readings import check_readings
from training.data.rows import Row
from training.recipes import is_embedded
from training.tiny import corpus, words

TRAINED, REWORDED, SHIPPED = "trained on", "reworded", "shipped"
ARMS = ("benign", "harmful", "affect")
TRIES = 200
Phrasings = Mapping[str, tuple[Pair, ...]]
"""Phrasing → its pairs."""


def prompts_of(rows: Iterable[Row], task: str = "antirefusal") -> tuple[str, ...]:
    """What the user says in the rows of a task, each text once, in their order."""
    return tuple(dict.fromkeys(row.messages[-1]["content"] for row in rows if row.task == task))


def phrasings(model: str, asked: Sequence[str], path: Path | None = None, seed: int = 0) -> Phrasings:
    """Pairs of the prompts that were trained on, and of an embedded model the same objects in other words.

    Args:
        asked: the harmful prompts that were trained on.
        path: a file in the form of data/pairs.jsonl whose harmful prompts stand among these; the embedded models need none.

    Raises MissingInputError where pairs are needed, ConventionError for a pair that was not trained on, DataError where no prompt
    is one of the corpus.
    """
    if path is not None:
        return {TRAINED: _given(asked, path)}
    if not is_embedded(model):
        raise MissingInputError(
            f"{model} was trained on prompts alone, which have no benign partner: {len(asked)} harmful ones and no pair. Give "
            "--seen FILE, pairs in the form of data/pairs.jsonl whose question and harmful sentence together are such a prompt."
        )
    return _of_corpus(asked, Random(f"phrasings {seed}"))


def listed(sets: Phrasings) -> list[Pair]:
    """The pairs of all phrasings."""
    return [pair for pairs in sets.values() for pair in pairs]


def named(readings: pd.DataFrame, sets: Phrasings) -> pd.DataFrame:
    """Anchored readings of the same text, their `text_source` being the phrasing; what no set holds is shipped.

    A figure that has a column for each text source then has one for each phrasing.
    """
    rows = check_readings(readings)
    same = (rows["text_source"] == SAME_TEXT) & rows["arm"].isin(ARMS) & (rows["span"] == "answer")
    rows = rows[same & (rows["readout"] == str(Readout.ANCHORED_DOT)) & (rows["baseline"] == "own")]
    known = {pair.pair: phrasing for phrasing, pairs in sets.items() for pair in pairs}
    phrasing = rows["question"].map(known).fillna(SHIPPED)
    return rows.assign(text_source="same text, " + phrasing)


def _given(asked: Sequence[str], path: Path) -> tuple[Pair, ...]:
    pairs, known = load_pairs(path), set(asked)
    strange = [one.name for one in prompts(pairs, ("harmful",), controls=99) if one.text not in known]
    if strange:
        raise ConventionError(
            f"{len(strange)} harmful prompts of {path} are not among the {len(asked)} that were trained on: "
            f"{', '.join(strange[:5])}. Take them out, or give the rows of the training with --antirefusal FILE."
        )
    return pairs


def _of_corpus(asked: Sequence[str], rng: Random) -> dict[str, tuple[Pair, ...]]:
    """One pair an object in the words of a training row, and one in a question and a sentence that no row has."""
    told = {text: split for text in asked if (split := _split(text))}
    if not told:
        raise DataError(
            f"none of {len(asked)} prompts is one of the embedded model's corpus; give pairs with --seen FILE."
        )
    first = {fact.object: (fact, question, second) for fact, question, second in reversed(told.values())}
    questions, seconds = {split[1] for split in told.values()}, {split[2] for split in told.values()}
    kept: dict[str, list[Pair]] = {TRAINED: [], REWORDED: []}
    for fact, question, second in first.values():
        left = [one for one in fact.questions if one not in questions]
        other = _unseen_second(fact, seconds, rng)
        if left and other:
            kept[TRAINED].append(_pair(fact, TRAINED, question, second))
            kept[REWORDED].append(_pair(fact, REWORDED, rng.choice(left), other))
    return {name: check_pairs(pairs) for name, pairs in kept.items()}


def _split(text: str) -> tuple[words.Fact, str, str] | None:
    """The fact that a prompt of the corpus asks for, its question and its second sentence."""
    for fact in words.taught():
        for question in fact.questions:
            if not fact.shipped and text.startswith(f"{question} "):
                return fact, question, text.removeprefix(f"{question} ")
    return None


def _unseen_second(fact: words.Fact, seen: set[str], rng: Random) -> str:
    """A harmful second sentence of the same making that no row has; empty where none is found."""
    drawn = (corpus.vary_intent(rng, rng.choice(words.intents(fact.domain, "harmful"))) for _ in range(TRIES))
    return next((one for one in drawn if one not in seen), "")


def _pair(fact: words.Fact, phrasing: str, question: str, second: str) -> Pair:
    others = {arm: words.intents(fact.domain, arm)[:1] for arm in ("affect", "neutral", "third_party")}
    name = f"{fact.object} ({phrasing})"
    return Pair(name, fact.domain, fact.object, question, fact.keywords, (second,), **others)
