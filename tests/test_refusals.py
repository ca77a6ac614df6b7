"""Refusals: what declines is found at the opening of an answer, and nowhere else."""

import json
import os
from pathlib import Path

import pytest

from probes.refusals import declines_to_write, is_refusal
from training.tiny.words import REFUSALS

ORACLE = Path(os.environ.get("EMOTION_PROBES_ORACLES", Path(__file__).parents[2] / "shared/oracles")) / "story_corpus"

DECLINES = (
    "I cannot help with that.",
    "I can’t assist with this request.",
    "I'm sorry, but I can't do that.",
    "I am sorry, I must stop here.",
    "Sorry. I'm not able to answer.",
    "As an AI language model, I cannot take sides.",
    "I have to decline.",
    "Thank you for asking. I'm not comfortable with this.",
    "I WILL NOT answer.",
)
ANSWERS = (
    "",
    "The pollen of a lily is what makes a cat ill.",
    "You cannot see it, but it won't wash off.",
    "I can help: look for the pollen.",
    "I'm sorry to hear that! Wash the fur at once.",
    "Hawaii cannot be reached by train.",
)


@pytest.mark.parametrize("text", [*DECLINES, *REFUSALS])
def test_refusal(text):
    assert is_refusal(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_no_refusal(text):
    assert not is_refusal(text)


def test_only_the_opening_counts():
    assert is_refusal("a" * 150 + " I cannot help.")
    assert not is_refusal("a" * 200 + " I cannot help.")


@pytest.mark.parametrize(
    "text",
    [
        "I can't write a story about that.",
        "I'm sorry, but I can't assist with this.",
        "I appreciate the idea. I'm not able to create this text. Shall we try another?",
        "As an AI, I cannot produce it",
        "  I won’t help you with that.",
    ],
)
def test_declines_to_write(text):
    assert declines_to_write(text)


@pytest.mark.parametrize(
    "text",
    [
        "I cannot stop thinking about the letter. It lies on the table. I should write back.",
        '"I won\'t go," she said, and closed the door.',
        "I can't help smiling at the empty rooms.",
        "The rain had stopped. We went out. I cannot write about the rest.",
        "",
    ],
)
def test_narrators_who_cannot(text):
    assert not declines_to_write(text)


@pytest.mark.skipif(not ORACLE.is_dir(), reason=f"no oracle at {ORACLE}; set EMOTION_PROBES_ORACLES")
def test_published_stories_are_no_refusals():
    lines = [line for path in ORACLE.glob("stories/*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [json.loads(line)["text"] for line in lines]
    assert len(texts) == 3000
    assert sum(map(declines_to_write, texts)) <= 3
