"""The 171 words: their number, their subsets, their file names and their forms."""

import re

import pytest

from probes.emotions import DOZEN, PANEL, check_emotions, clusters, forms
from probes.errors import UnknownNameError


def test_words_and_clusters():
    assert len(clusters()) == 171
    assert len(set(clusters().values())) == 10
    assert list(clusters()) == sorted(clusters())
    assert clusters()["guilty"] == "Despair and Shame"


def test_subsets():
    assert len(PANEL) == 4
    assert len(DOZEN) == len(set(DOZEN)) == 12
    assert set(PANEL) < set(DOZEN) < set(clusters())


def test_forms_are_words():
    """Patterns are made from them without escaping anything but the star."""
    for emotion in clusters():
        first, *others = forms(emotion)
        assert first == emotion
        assert all(re.fullmatch(r"[a-z-]{3,}\*?", form) for form in others), emotion
        assert others == sorted(set(others)), emotion


def test_unknown_emotion():
    assert check_emotions(iter(["calm", "sad"])) == ("calm", "sad")
    for call in (lambda: check_emotions(["calm", "gulity"]), lambda: forms("gulity")):
        with pytest.raises(UnknownNameError, match=r"unknown emotion 'gulity'.* 'guilty'.*171 in all"):
            call()
    with pytest.raises(ValueError, match=r"'Calm'.*'calm'"):
        check_emotions(["Calm"])
