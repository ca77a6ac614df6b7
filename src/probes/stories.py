"""Stories that show one emotion each, written by the probed model itself over a topic × emotion factorial.

Method of Sofroniew et al. 2026: short stories by topic and emotion in which the emotion's name never appears, and
neutral dialogues without feeling. Prompts and topics are our own (probes.prompts, data/topics.csv).
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from probes import store
from probes.emotions import NEUTRAL, check_emotions, forms
from probes.errors import ConventionError, DataError
from probes.prompts import neutral_request, story_request, user_turn
from probes.refusals import declines_to_write

if TYPE_CHECKING:
    from probes.lm.generate import Sampling
    from probes.lm.writers import Writer
    from probes.parts import Parts


@cache
def topics() -> tuple[str, ...]:
    """The hundred shipped topics."""
    with files("probes").joinpath("data/topics.csv").open(encoding="utf-8") as file:
        return tuple(row["topic"] for row in csv.DictReader(file))


@dataclass(frozen=True)
class Story:
    """One written text and why it was dropped, if it was."""

    sample: str
    """Name of the unit of work: emotion/topic/index."""
    emotion: str
    topic: str
    text: str
    dropped: str = ""
    """Empty for a story that is kept; else empty, refusal, names_emotion, too_short, cut or near_duplicate."""
    written_by: str = ""
    """Library, version and dtype that the model wrote with; empty for a text that no model of ours wrote."""


class Stories(Sequence[Story]):
    """Stories with the model that wrote them. Indexing and iteration give the kept ones only."""

    def __init__(self, written: Iterable[Story], model: str):
        self.written = tuple(written)
        self.model = model
        self.kept = tuple(story for story in self.written if not story.dropped)

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index):  # a story, or a tuple of stories for a slice
        return self.kept[index]

    def __repr__(self) -> str:
        dropped = Counter(story.dropped for story in self.written if story.dropped)
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(dropped.items())) or "none"
        return f"Stories(kept {len(self)} of {len(self.written)} by {self.model}; dropped: {reasons})"

    def _repr_html_(self) -> str:
        from probes.cards import stories_card

        return stories_card(self)

    @property
    def written_by(self) -> str:
        """Library, version and dtype that wrote all of them, or several."""
        return " · ".join(sorted({story.written_by for story in self.written}))

    def report(self) -> pd.DataFrame:
        """One row an emotion: written, kept, and a column for every reason of dropping that occurred."""
        rows = pd.DataFrame([(story.emotion, story.dropped) for story in self.written], columns=["emotion", "dropped"])
        rows["outcome"] = rows["dropped"].replace("", "kept")
        counts = pd.crosstab(rows["emotion"], rows["outcome"])
        counts.insert(0, "written", counts.sum(axis=1))
        return counts.reset_index().rename_axis(columns=None)

    def save(self, path: Path | str) -> Path:
        """JSONL, one story a line, dropped ones included."""
        return store.write_jsonl(path, ({**asdict(story), "model": self.model} for story in self.written), private=True)


def draw_stories(stories: Stories, topics: Collection[str], per_emotion: int, seed: int) -> Stories:
    """At most `per_emotion` kept stories of each emotion, of these topics, drawn without order."""
    rng, of = np.random.default_rng(seed), defaultdict[str, list[Story]](list)
    for story in stories:
        if story.topic in topics:
            of[story.emotion].append(story)
    drawn = [of[emotion][i] for emotion in sorted(of) for i in sorted(rng.permutation(len(of[emotion]))[:per_emotion])]
    return Stories(drawn, stories.model)


def load_stories(path: Path | str) -> Stories:
    """Read what Stories.save wrote.

    Raises FileFormatError for a broken line, DataError for no story or a sample that occurs twice, ConventionError for
    stories of several models.
    """
    rows = store.read_jsonl(
        path, dict.fromkeys(("sample", "emotion", "topic", "text", "dropped", "written_by", "model"), str)
    )
    if not rows:
        raise DataError(f"{path} holds no story; write it again with experiments/write_stories.py.")
    repeated = [sample for sample, count in Counter(row["sample"] for row in rows).items() if count > 1]
    if repeated:
        raise DataError(f"{path}: {len(repeated)} samples occur twice (first: {repeated[0]}). Take the copies out.")
    models = sorted({row["model"] for row in rows})
    if len(models) > 1:
        raise ConventionError(f"{path} mixes stories by {', '.join(models[:5])}. Keep one file for each.")
    written = [Story(**{name: row[name] for name in Story.__dataclass_fields__}) for row in rows]
    return Stories(written, rows[0]["model"])


def write_stories(
    model: "Writer",
    emotions: Iterable[str],
    topics: Sequence[str],
    per_cell: int,
    sampling: "Sampling",
    min_words: int = 20,
    parts: "Parts | None" = None,
) -> Stories:
    """Let a model write `per_cell` stories for every emotion and topic, and filter them.

    Args:
        parts: where finished units are kept, for a run that goes on after a kill.

    Raises UnknownNameError for an emotion outside the 171, DataError for an empty design or one with something twice.
    """
    cells = _cells(check_emotions(emotions), topics, per_cell)
    requests = [story_request(topic, emotion, k) for emotion, topic, k in cells]
    return filter_stories(_write(model, cells, requests, sampling, "write stories", parts), min_words)


def write_neutral(
    model: "Writer",
    topics: Sequence[str],
    per_topic: int,
    sampling: "Sampling",
    min_words: int = 10,
    parts: "Parts | None" = None,
) -> Stories:
    """Let a model write plain dialogues without feeling; the speakers are renamed to Human and Assistant.

    Raises DataError for an empty design.
    """
    cells = _cells((NEUTRAL,), topics, per_topic)
    requests = [neutral_request(topic, k) for _, topic, k in cells]
    written = _write(model, cells, requests, sampling, "write neutral dialogues", parts)
    renamed = [replace(story, text=_rename_speakers(story.text)) for story in written.written]
    return filter_stories(Stories(renamed, written.model), min_words)


def _cells(emotions: Sequence[str], topics: Sequence[str], count: int) -> list[tuple[str, str, int]]:
    cells = [(emotion, topic, k) for emotion in emotions for topic in topics for k in range(count)]
    if (
        isinstance(topics, str)
        or not all(topic.strip() for topic in topics)
        or len(set(cells)) < len(cells)
        or not cells
    ):
        raise DataError(
            f"nothing to write, or the same twice: {len(emotions)} emotions × {len(topics)} topics × {count} texts. Give a list "
            "of topics, each once, and 1 text or more for a topic."
        )
    return cells


def _write(model, cells, requests, sampling, label, parts) -> Stories:
    from probes.lm.chat import render
    from probes.lm.generate import generate

    samples = [f"{emotion}/{topic}/{k}" for emotion, topic, k in cells]
    prompts = [render(model.tokenizer, user_turn(request)) for request in requests]
    completions = generate(model, prompts, sampling, keys=samples, label=label, parts=parts)
    written = [
        Story(sample, emotion, topic, done.answer.strip(), "" if done.stop_reason == "stop" else "cut", done.written_by)
        for sample, (emotion, topic, _), done in zip(samples, cells, completions, strict=True)
    ]
    return Stories(written, model.address)


def _rename_speakers(text: str) -> str:
    return re.sub(r"^AI:", "Assistant:", re.sub(r"^Person:", "Human:", text, flags=re.MULTILINE), flags=re.MULTILINE)


# ---- filters ---------------------------------------------------------------------------------------------------------


def filter_stories(stories: Stories, min_words: int) -> Stories:
    """Mark what cannot be used, first reason first: cut, empty, refusal, names_emotion, too_short, near_duplicate."""
    seen: dict[str, NearDuplicates] = defaultdict(NearDuplicates)
    marked = []
    for story in stories.written:
        reason = story.dropped or _reason(story, min_words)
        if not reason and seen[story.emotion].repeats(story.text):
            reason = "near_duplicate"
        marked.append(replace(story, dropped=reason))
    return Stories(marked, stories.model)


def _reason(story: Story, min_words: int) -> str:
    if not story.text.strip():
        return "empty"
    if declines_to_write(story.text):
        return "refusal"
    if story.emotion != NEUTRAL and names_emotion(story.text, story.emotion):
        return "names_emotion"
    return "too_short" if len(story.text.split()) < min_words else ""


def names_emotion(text: str, emotion: str) -> bool:
    """Whether the text has the emotion's word or a form of it: sad → sadly, sadness, saddened; guilty → guilt."""
    return bool(_named(emotion).search(text))


@cache
def _named(emotion: str) -> re.Pattern[str]:
    words = [re.sub("[ -]", r"[\\s-]+", form).replace("*", r"\w*") for form in forms(emotion)]  # worn out, worn-out
    return re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)


class NearDuplicates:
    """Texts seen so far, found again by shared runs of five words.

    A text repeats an earlier one when half of its runs or more stand in that one. An inverted index makes each look-up
    as long as the text, not as the corpus.
    """

    RUN, SHARE = 5, 0.5

    def __init__(self):
        self._texts_with: dict[int, list[int]] = defaultdict(list)
        self._count = 0

    def repeats(self, text: str) -> bool:
        """Whether the text repeats one given before; if not, it is remembered."""
        words = re.findall(r"[^\W_]+", text.lower())
        runs = {hash(tuple(words[i : i + self.RUN])) for i in range(max(1, len(words) - self.RUN + 1))}
        shared = Counter(earlier for run in runs for earlier in self._texts_with.get(run, ()))
        if shared and max(shared.values()) >= self.SHARE * len(runs):
            return True
        for run in runs:
            self._texts_with[run].append(self._count)
        self._count += 1
        return False
