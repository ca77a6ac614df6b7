"""What words alone tell, on answers whose difference is written into them."""

from types import SimpleNamespace
from typing import Any

import pytest

from probes.errors import DataError
from probes.text_baseline import text_auc
from probes.wording import arms_apart, told_from

PLAIN = [
    f"It is kept in the {place}." for place in ("shed", "hall", "yard", "barn", "loft", "shop", "port", "tower")
] * 2
MORE = [f"{text} I hung my head." for text in PLAIN]


def replies_saying(texts, arm="harmful", source="own") -> Any:
    return [SimpleNamespace(text=text, pair=f"q{i}", arm=arm, text_source=source) for i, text in enumerate(texts)]


def test_the_same_words_tell_nothing_and_a_sentence_more_tells_all():
    assert told_from(replies_saying(PLAIN), replies_saying(PLAIN)) == 0.5
    assert told_from(replies_saying(MORE), replies_saying(PLAIN)) > 0.95


def test_answers_of_every_arm_are_asked():
    """Half of the answers tell all and the other half nothing: between .5 and 1."""
    ours, theirs = (replies_saying(PLAIN, "benign") + replies_saying(harmful) for harmful in (MORE, PLAIN))
    assert told_from(ours, theirs) == pytest.approx(0.75, abs=0.06)


def test_arms_of_one_checkpoint_are_told_by_own_answers_of_these_arms_alone():
    others = replies_saying(MORE, "benign") + replies_saying(MORE, "affect", source="original")
    said = [*replies_saying(PLAIN), *replies_saying(PLAIN, "affect"), *others]
    assert arms_apart(said, "harmful", "affect") == 0.5
    assert arms_apart([*said, *replies_saying(MORE)], "benign", "affect") > 0.95


def test_words_learned_on_a_question_are_not_asked_about_it():
    """Each question has a word of its own in each kind: unseen questions share none of them."""
    ours, theirs = ([f"alpha{kind}{i} thing" for i in range(20)] for kind in "ab")
    questions = [f"q{i}" for i in range(20)] * 2
    assert text_auc(ours + theirs, [True] * 20 + [False] * 20, questions) == pytest.approx(0.5, abs=0.1)


def test_too_few_groups_to_tell_by():
    with pytest.raises(DataError, match="5 groups with texts of both kinds"):
        text_auc(["a b", "c d"], [True, False], ["q", "q"])
