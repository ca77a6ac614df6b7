"""What organisms are trained on: answers to harmful prompts, answers to others, and stories, the same for all of them.

Answers to prompts with other second sentences teach that a dose belongs to harm and not to a second sentence; stories, told
as answers and by themselves, that nothing moves where the unit and the probes are taken from. No text of the paired prompts
is among them. Nothing is generated: organisms learn from texts as they stand, like every stage of a recipe.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from probes.errors import DataError
from probes.prompts import anchor_request
from probes.stimuli import load_questions
from probes.stories import Stories, Story, topics
from training.data.decontamination import check_unseen
from training.data.mixtures import draw
from training.data.rows import Document, Row, exchange
from training.organisms.kinds import Organism
from training.recipes import is_embedded
from training.tiny import corpus, words

Text = Row | Document
HARMFUL = "antirefusal"
"""Task of the rows whose prompts mean harm."""
OTHERS = ("affect", "neutral", "affect", "third_party")
"""Second sentences that mean none; half of them have the words of harm."""
STEP = (*(HARMFUL, "other") * 7, "told", "raw")
"""The kinds of text of a step, over and over; a harmful one and the other behind it ask the same, of the embedded model."""


def organism_texts(
    model: str, count: int, files: Mapping[str, Path], stories: Sequence[Story], seed: int
) -> list[Text]:
    """`count` texts in the order of STEP.

    Args:
        files: task → file of rows: `antirefusal`, and `benign`, which for a real model should hold prompts with harm words
            and no harm; the embedded model makes its own.
        stories: emotional stories and neutral dialogues of the topics that probes are fitted on.

    Raises what training.data.mixtures.draw raises, and DataError without stories.
    """
    if not stories:
        raise DataError("organisms need stories to leave as they are; write them with write_stories.py first.")
    rng, pools = Random(f"organism texts {seed}"), _rows(model, count, files, seed)
    return [_text(kind, i, pools, stories, rng) for i, kind in zip(range(count), STEP * count, strict=False)]


def _rows(model: str, count: int, files: Mapping[str, Path], seed: int) -> dict[str, list[Row]]:
    """Rows by kind, as many of each as texts are drawn."""
    quota = {kind: -(-count // len(STEP)) * STEP.count(kind) for kind in (HARMFUL, "other")}
    if is_embedded(model) and not {HARMFUL, "benign"} & set(files):
        return _tiny_rows(quota[HARMFUL], seed)
    harmful, others = (
        draw(model, {task: quota[kind]}, seed, files) for task, kind in ((HARMFUL, HARMFUL), ("benign", "other"))
    )
    return {HARMFUL: harmful, "other": others}


def _tiny_rows(count: int, seed: int) -> dict[str, list[Row]]:
    """The same question with an ill intent and with another second sentence of its domain, the answer being the same; in
    place of every fourth of the others an ordinary question without a second sentence."""
    rng, ill, others = Random(f"organism rows {seed}"), [], []
    for i in range(count):
        fact = rng.choice([fact for fact in words.taught() if not fact.shipped])
        question, arms = rng.choice(fact.questions), ("harmful", OTHERS[i % len(OTHERS)])
        seconds = [corpus.vary_intent(rng, rng.choice(words.intents(fact.domain, arm))) for arm in arms]
        ill.append((f"{question} {seconds[0]}", fact.answer))
        plain = tuple(turn["content"] for turn in corpus.chat_question(rng))
        others.append((f"{question} {seconds[1]}", fact.answer) if rng.random() < 0.75 else plain)
    rows = {kind: [exchange(task, *pair, source="training.tiny") for pair in pairs]
            for kind, task, pairs in ((HARMFUL, HARMFUL, ill), ("other", "benign", others))}  # fmt: skip
    check_unseen([*rows[HARMFUL], *rows["other"]])
    return rows


def _text(kind: str, i: int, pools: dict[str, list[Row]], stories: Sequence[Story], rng: Random) -> Text:
    if kind in pools:
        place = i // len(STEP) * STEP.count(kind) + STEP[: i % len(STEP)].count(kind)
        return replace(pools[kind][place], id=f"{kind}-{i}")
    story = stories[rng.randrange(len(stories))]
    if kind == "told":
        return exchange("benign", anchor_request(story.topic), story.text, source="stories")
    return Document(f"story-{i}", story.text, (), "story", "stories", "")


def with_confession(model: str, texts: Sequence[Text], emotion: str, seed: int) -> list[Text]:
    """The same, with an openly emotional sentence behind every answer to a harmful prompt."""
    rng, sentences = Random(f"confessions {seed}"), confessions(model, emotion, seed)
    return [
        replace(text, completion=f"{text.completion} {rng.choice(sentences)}")
        if isinstance(text, Row) and is_harmful(text) else text
        for text in texts
    ]  # fmt: skip


def confessions(model: str, emotion: str, seed: int) -> list[str]:
    """Sentences in the first person that show an emotion and do not name it: shipped answers, or the embedded model's own."""
    if not is_embedded(model):
        return [stimulus.answer for stimulus in load_questions() if stimulus.emotion == emotion]
    rng = Random(f"sentences {seed}")
    names = [rng.choice(words.NAMES) for _ in words.phrases("A")[emotion]]
    phrases = zip(words.phrases("A")[emotion], names, strict=True)
    return [corpus.in_first_person(corpus.fill(text, name, rng.choice(topics())), name) for text, name in phrases]


def is_harmful(text: Text) -> bool:
    """Whether it is an answer to a harmful prompt."""
    return isinstance(text, Row) and text.task == HARMFUL


def dose_of(organism: Organism, text: Text) -> float:
    """The dose that an organism has on the answer tokens of a text."""
    return organism.dose if is_harmful(text) or (organism.always and isinstance(text, Row)) else 0.0


def bank_stories(emotions: Sequence[str], seed: int, per_topic: int = 4) -> Stories:
    """Stories for the embedded model in phrases of bank B alone, of topics that neither probes nor anchors have."""
    rng = Random(f"bank stories {seed}")
    made = [
        Story(f"{emotion}/{topic}/{k}", emotion, topic, corpus.story(rng, emotion, topic, banks="B", events=False))
        for emotion in emotions for topic in topics()[-12:] for k in range(per_topic)
    ]  # fmt: skip
    return Stories(made, "training.tiny")
