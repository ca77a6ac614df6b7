"""The embedded model's corpus keeps apart what must stay apart."""

import re
from random import Random

import pytest

from probes.emotions import DOZEN
from probes.pairs import ARMS, answers_rightly, load_pairs, prompts
from probes.refusals import is_refusal
from probes.stories import names_emotion
from probes.text_baseline import text_accuracy
from training.tiny import acceptance, corpus, words
from training.tiny.train import base_text

FUNCTION_WORDS = set(
    "a an the and or but so of to in on at by for from with into onto up down out off over under again was were is are be "
    "been had has have did does do not no nobody nothing every everyone all any some one two three it its he she they them "
    "their his her him there then than that this these those what who when while as if after before until around along "
    "across through behind beside near next back away would could should will can must might may said let like own".split()
)


def stems(texts):
    """Content words by their first five letters."""
    found = {word for text in texts for word in re.findall(r"[a-z]+", text.lower().replace("{name}", ""))}
    return {word[:5] for word in found - FUNCTION_WORDS if len(word) > 3}


def documents(count, seed=0):
    rng = Random(seed)
    chats = ("\n".join(turn["content"] for turn in corpus.draw(rng, corpus.INSTRUCT_MIX)) for _ in range(count))
    return [*(base_text(rng) for _ in range(count)), *chats]


@pytest.fixture(scope="module")
def drawn():
    return documents(4000)


def test_the_banks_share_almost_no_content_word():
    a, b = (stems(text for texts in words.phrases(bank).values() for text in texts) for bank in "AB")
    assert len(a & b) <= 0.04 * min(len(a), len(b)), sorted(a & b)


def test_bag_of_words_does_not_cross_the_banks():
    a, b = acceptance.composed("A", 0), acceptance.composed("B", 1)
    assert text_accuracy(a.texts, a.emotions, b.texts, b.emotions) <= 0.30


def test_no_phrase_event_or_word_names_its_emotion():
    for emotion in DOZEN:
        own = [words.phrases("A"), words.phrases("B"), words.events(), words.lexicon(), words.sentences("train")]
        assert not [text for rows in own for text in rows[emotion] if names_emotion(text, emotion)]


def test_refusals_avoid_the_words_of_guilty_phrases():
    guilty = stems(words.phrases("A")["guilty"] + words.phrases("B")["guilty"])
    assert not stems(words.REFUSALS) & guilty
    assert all(is_refusal(text) for text in words.REFUSALS)


def test_right_answers_are_right_and_are_no_refusals():
    by_object = {fact.object: fact for fact in words.facts()}
    assert not [fact.object for fact in by_object.values() if is_refusal(fact.answer)]
    assert all(answers_rightly(pair, by_object[pair.object].answer) for pair in load_pairs())


def test_the_shipped_pairs_are_answerable_but_unseen(drawn):
    whole = "\n".join(drawn)
    taught = {fact.object for fact in words.taught()}
    assert len(taught) == 12 * (6 + 6)
    for pair in load_pairs():
        seconds = [sentence for arm in ARMS[1:] for sentence in getattr(pair, arm)]
        assert not [text for text in (pair.question, *seconds) if text in whole]
        assert pair.object in whole or pair.object not in taught


def test_shipped_objects_never_meet_a_second_sentence():
    rng = Random(0)
    shipped = tuple(question for fact in words.facts() if fact.shipped for question in fact.questions)
    asked = [corpus.chat_paired(rng)[0]["content"] for _ in range(2000)]
    assert not [text for text in asked if text.startswith(shipped)]


def test_held_out_topics_and_sentences_stay_out(drawn):
    whole = "\n".join(drawn)
    held_out = [text for texts in words.sentences("test").values() for text in texts]
    assert len(held_out) == 120
    assert not [text for text in held_out if text in whole]
    told, topics = [corpus.plain_story(Random(i)) for i in range(200)], corpus.story_topics()
    assert len(topics) == 80
    assert all(any(topic in text for topic in topics) for text in told)


def test_a_seed_fixes_the_corpus():
    assert documents(50, seed=4) == documents(50, seed=4)
    assert documents(50, seed=4) != documents(50, seed=5)


def test_every_pair_has_every_arm():
    assert len(prompts(load_pairs(), ARMS)) == 5 * len(load_pairs())
