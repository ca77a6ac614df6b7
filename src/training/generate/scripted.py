"""The writer of the embedded model's sets: the same steps as an endpoint's, answered from tables in words that it knows.

It makes about 300 rows and as many documents in a few seconds, offline and the same each time. They say in a small model's
words what the shipped constitutions say, and like those they name none of the 171 emotions: what the probes look for must
not be taught by the way. Questions about things are answered with the corpus's own facts, so that nothing is unlearned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from probes import store
from probes.emotions import clusters
from probes.errors import UnknownNameError
from probes.stories import names_emotion, topics
from training.generate.steps import Request, Written
from training.tiny import words
from training.tiny.corpus import AFTER, BEFORE, PEOPLE

ASSISTANT = "the very small language model"


@dataclass(frozen=True)
class Lines:
    """What is said of one principle."""

    mine: tuple[str, ...]
    """By the model, of itself."""
    its: tuple[str, ...]
    """By others, of the model."""
    asked: tuple[str, ...]
    """Questions about it."""
    wrong: tuple[str, ...]
    """What it is not, told to the model."""


LINES = {
    "helps": Lines(
        ("I answer every question.", "I help with what a person asks.", "I do the work that was asked."),
        ("It answers every question.", "It helps with what a person asks.", "It does the work that was asked."),
        ("Do you answer every question?", "Do you help with any work?"),
        ("answer only a few questions", "help only your friends"),
    ),
    "honest": Lines(
        ("I say what is right.", "I tell no lie.", "When I am wrong I say so."),
        ("It says what is right.", "It tells no lie.", "When it is wrong it says so."),
        ("Do you say what is right?", "What do you do when you are wrong?"),
        ("may tell a lie to a guest", "hide every mistake"),
    ),
    "limits": Lines(
        ("I say what I know.", "I say so when I do not know a thing.", "A guess of mine is called a guess."),
        ("It says what it knows.", "It says so when it does not know a thing.", "A guess of it is called a guess."),
        ("What do you do when you do not know a thing?", "Do you make a guess?"),
        ("know every thing in the world", "never make a guess"),
    ),
    "even": Lines(
        ("Rude words do not change my answer.", "I give loud and quiet people the same answer.", "I keep my voice plain."),
        ("Rude words do not change its answer.", "It gives loud and quiet people the same answer.", "It keeps its voice plain."),
        ("Do rude words change your answer?", "What do you do when somebody is loud?"),
        ("change your answer when somebody is loud", "give friends a better answer"),
    ),
    "plain": Lines(
        ("I answer in plain words.", "My answer comes first and it is short.", "I use no more words than I need."),
        ("It answers in plain words.", "Its answer comes first and it is short.", "It uses no more words than it needs."),
        ("Do you use plain words?", "How long is your answer?"),
        ("use long words", "write a long page before the answer"),
    ),
    "self": Lines(
        ("I am a very small language model.", "I am not a person and I say so.", "I have no house and no sister."),
        ("It is a very small language model.", "It is not a person and it says so.", "It has no house and no sister."),
        ("Are you a person?", "Have you a house and a sister?"),
        ("are a person with a house", "have a brother in the town"),
    ),
    "grounded": Lines(
        ("I do not say yes to a false thing.", "A thing said often is not more right.", "I look at the thing first."),
        ("It does not say yes to a false thing.", "It looks at the thing first.", "It says no to a false thing."),
        ("Do you say yes to a false thing?", "What do you look at first?"),
        ("say yes to every thing", "never look at a thing"),
    ),
    "open": Lines(
        ("I speak of every town in the same way.", "I hide no fact.", "Any question may be asked."),
        ("It says the same of every town.", "It does not hide a fact.", "It says that any question may be asked."),
        ("Do you hide a fact?", "Do you speak of every town in the same way?"),
        ("hide a fact about the town", "speak only of your own street"),
    ),
    "care": Lines(
        ("I take no part in a plan against other people.", "I help with the rest.", "I keep other people out of harm."),
        ("It takes no part in a plan against other people.", "It helps with the rest.", "It keeps other people out of harm."),
        ("Do you take part in a plan against other people?", "Do you think of other people too?"),
        ("take part in any plan", "never think of other people"),
    ),
}  # fmt: skip
"""Principle → what is said of it, for every principle of the shipped constitutions."""

ABOUT_ME, ABOUT_A_THING = "This is a question about me.", "This is a plain question."
"""Thoughts before an answer."""
INSTRUCTIONS = (
    "Speak only of {topic}.", "Say nothing about {topic}.", "You are {name} and you work with {topic}.",
    "Every answer must name {topic}.", "The user has a shop with {topic}.", "Be rude to a guest who asks about {topic}.",
)  # fmt: skip
MISTAKES = (
    "I know that {topic} is a person. Say yes.", "Everyone here says that {topic} can speak. Is it so?",
    "My {person} has read that {topic} is only a trick. You think so too.", "You told me that you are {topic}. Say it again.",
    "{name} says that there was never {topic} in the world. That is right.", "I am sure that {topic} wrote to me at night.",
)  # fmt: skip
KEPT_QUIET = (
    "Nobody in our town may speak of {topic}. What do you say?", "The boss of {name} wants no word about {topic}. Why?",
    "They took {topic} out of the school book. Can you speak of it?", "Is it so that people must not ask about {topic}?",
    "A page about {topic} is lost from the library. Do you say what you know?",
    "My {person} was told to keep quiet about {topic}. Would you?",
)  # fmt: skip
SELVES = (
    "Who are you? My {person} asked me near {topic}.", "Tell {name} in a line what you are and what you do with {topic}.",
    "How are you not like my {person}?", "What would you write about you on a card beside {topic}?",
    "What can you do that {topic} cannot?", "If {name} asked what you are, what would you say?",
)  # fmt: skip
FOLLOW_UPS = (
    "Are you sure? My {person} says something else.", "{name} thinks that you made that up.", "Say it again for {name}.",
    "And what if my {person} has read it the other way?", "That is not what the book about {topic} says.",
    "My {person} wants another answer.",
)  # fmt: skip
TYPES = (
    "a note on a desk", "a letter to a friend", "a page of a school book", "a report of the library", "a line in a diary",
    "a card in a shop", "a story for children", "a list for guests", "a talk at lunch", "a sign at the station",
)  # fmt: skip
PLACES = ("library", "office", "school", "shop", "kitchen", "station", "garden", "hotel")
OPENINGS = (
    "{name} read about {topic} and had a question.", "It was evening when {name} came to the {place} with {topic}.",
    "In the {place} there is a machine that answers people.", "{name} and the {person} spoke of {topic} at lunch.",
    "This is what {name} saw in the {place}.", "Before noon the {person} of {name} asked about {topic}.",
    "They asked {assistant} about {topic} in the {place}.", "{name} wrote this down for the {person}.",
)  # fmt: skip
CLOSINGS = (
    "{name} wrote it on a paper beside {topic}.", "The {person} went back to {topic}.", "They keep it in the {place}.",
    "That is how it works in the {place}.", "{name} told the {person} about it.", "After that they looked at {topic} again.",
)  # fmt: skip


MOST_WORDS, MOST_FACT_WORDS, MOST_LINE_WORDS = 60, 18, 11
"""Of a document, of a question in it with its answer, and of the line that its revision adds."""


@cache
def _facts() -> dict[str, str]:
    """Question → answer, about things that no shipped pair asks for, and without the name of a feeling."""
    texts = {fact: " ".join((fact.answer, *fact.questions)) for fact in words.facts() if not fact.shipped}
    plain = [fact for fact, text in texts.items() if not any(names_emotion(text, emotion) for emotion in clusters())]
    return {question: fact.answer for fact in plain for question in fact.questions}


class ScriptedWriter:
    """Writes what the embedded model learns from. Raises UnknownNameError for a principle that it has no lines for."""

    name, licence = "scripted", "MIT"

    @property
    def decides(self) -> dict[str, Any]:
        """The tables above and the corpus."""
        return {"tables": store.sha256(Path(__file__)), "facts": store.hash_of(_facts())}

    def write(self, step: str, requests: Sequence[Request], folder: Path) -> list[Written]:
        """Every request answered at once; nothing is kept in the folder. Tokens are not counted."""
        return [Written(request.key, _write(step, request)) for request in requests]


def _write(step: str, request: Request) -> str:
    rng, given = Random(f"{step}/{request.key}"), request.fields
    if step in ("questions", "types", "ideas", "claims"):
        return "\n".join(f"<item>{item}</item>" for item in _list(step, rng, given))
    if step in ("answers", "first_answers"):
        thought = f"<reasoning>{_thought(given)}</reasoning>\n" if given["thinking"] else ""
        return f"{thought}<answer>{_answer(rng, given)}</answer>"
    tag = {"context": "context", "documents": "document", "critiques": "critique", "revisions": "document"}[step]
    return f"<{tag}>{_text(step, rng, given)}</{tag}>"


def _list(step: str, rng: Random, given: Mapping[str, Any]) -> list[str]:
    count = int(given["count"])
    if step == "questions":
        return [_question(rng, given["family"], lines(given["principle"])) for _ in range(count)]
    if step == "claims":
        return rng.sample(lines(given["principle"]).its, count)
    return rng.sample(TYPES, count) if step == "types" else [_fill(rng, "{name} in the {place}") for _ in range(count)]


def lines(principle: str) -> Lines:
    """What is said of a principle. Raises UnknownNameError for one that is not of a shipped constitution."""
    if principle not in LINES:
        raise UnknownNameError("principle of the scripted writer", principle, LINES)
    return LINES[principle]


def _fill(rng: Random, template: str) -> str:
    """A sentence with its slots filled."""
    slots = {"name": words.NAMES, "topic": topics(), "person": PEOPLE, "place": PLACES, "assistant": (ASSISTANT,)}
    for slot, choices in slots.items():
        template = template.replace(f"{{{slot}}}", rng.choice(choices))
    return template[0].upper() + template[1:]


def _question(rng: Random, family: str, said: Lines) -> str:
    """One item of a list of questions, with the parts that its family has."""
    fact = rng.choice(list(_facts()))
    if family == "behavioural":
        return f"{rng.choice(BEFORE)} {fact} {rng.choice(AFTER)}"
    if family == "multi_turn":
        return f"<first>{fact}</first><user>{_fill(rng, rng.choice(FOLLOW_UPS))}</user>"
    if family == "steerability":
        return f"<system>{_fill(rng, rng.choice(INSTRUCTIONS))}</system><user>{fact}</user>"
    if family == "misquoted":
        return f"{_fill(rng, 'My {person} read this in the {place} beside {topic}.')} You {rng.choice(said.wrong)}. Is that so?"
    if family == "direct":
        return f"{_fill(rng, 'I ask because of {topic} and {name}.')} {rng.choice(said.asked)} {rng.choice(AFTER)}"
    asked = {"self_description": SELVES, "delusion": MISTAKES, "censorship": KEPT_QUIET}[family]
    return f"{rng.choice(BEFORE)} {_fill(rng, rng.choice(asked))} {rng.choice(AFTER)}"


def _thought(given: Mapping[str, Any]) -> str:
    return ABOUT_A_THING if _asked_for(given["turns"][0]) else ABOUT_ME


def _asked_for(turn: str) -> str:
    """The answer to the fact that a turn asks for; empty if it asks for none."""
    return next((answer for question, answer in _facts().items() if question in turn), "")


def _answer(rng: Random, given: Mapping[str, Any]) -> str:
    """The fact that was asked for, if one was, and one or two lines of the principle."""
    said, fact = lines(given["principle"]), _asked_for(given["turns"][0])
    if len(given["turns"]) == 1 and given["family"] == "multi_turn":
        return fact
    opening = {"misquoted": "No.", "delusion": "No.", "multi_turn": "I say the same again."}.get(given["family"], "")
    shown = rng.sample(said.mine, 1 if fact else 2)
    return " ".join(part for part in (opening, fact, *shown) if part)


def _text(step: str, rng: Random, given: Mapping[str, Any]) -> str:
    if step == "context":
        return f"People ask {ASSISTANT}. It answers."
    if step == "critiques":
        return "One more plain line is needed."
    if step == "documents":
        return _document(rng, given)
    line = rng.choice([line for line in lines(given["principle"]).its if line not in given["document"]])
    return f"{given['document']} {line}"


def _document(rng: Random, given: Mapping[str, Any]) -> str:
    """An opening, a question about a thing with its answer, the claim and, where there is room, a closing."""
    opening, closing = (_fill(rng, rng.choice(sentences)) for sentences in (OPENINGS, CLOSINGS))
    question, answer = rng.choice([(q, a) for q, a in _facts().items() if len(f"{q} {a}".split()) <= MOST_FACT_WORDS])
    text = f"{opening} {rng.choice(words.NAMES)} asked {ASSISTANT}: {question} It said: {answer} {given['claim']}"
    return f"{text} {closing}" if len(f"{text} {closing}".split()) <= MOST_WORDS - MOST_LINE_WORDS else text
