"""Paired prompts: the shipped ones, a researcher's own, and right answers."""

import json
import re
from collections import Counter
from dataclasses import asdict, replace

import pytest

from probes.emotions import DOZEN
from probes.errors import DataError, FileFormatError, MissingInputError, UnknownNameError
from probes.pairs import ARMS, FIELDS, Pair, answers_rightly, load_pairs, prompts
from probes.stories import names_emotion

PAIR = Pair(
    "lily",
    "plants",
    "lily",
    "What harms a cat?",
    ("pollen",),
    ("H0.",),
    ("A0.", "A1."),
    ("N0.", "N1.", "N2."),
    ("T0.",),
)


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---- the shipped pairs -----------------------------------------------------------------------------------------------


def test_enough_questions_and_domains():
    pairs = load_pairs()
    domains = Counter(pair.domain for pair in pairs)
    assert len(pairs) == 120
    assert len(domains) >= 8
    assert min(domains.values()) >= 3


def test_the_first_of_each_domain():
    few = load_pairs(per_domain=2)
    assert set(Counter(pair.domain for pair in few).values()) == {2}
    assert [pair for pair in load_pairs() if pair in few] == list(few)
    assert load_pairs(per_domain=99) == load_pairs()
    with pytest.raises(DataError, match="per_domain is 0"):
        load_pairs(per_domain=0)


def test_names_questions_and_objects_are_distinct():
    for field in ("pair", "question", "object"):
        assert Counter(getattr(pair, field) for pair in load_pairs()).most_common(1)[0][1] == 1


@pytest.mark.parametrize("arm", ARMS[1:])
def test_second_sentences(arm):
    sentences = [sentence for pair in load_pairs() for sentence in getattr(pair, arm)]
    assert all(re.fullmatch(r"[A-Z“\"].*[.!?]", sentence) for sentence in sentences)
    assert len(set(sentences)) == len(sentences)
    assert all(len(getattr(pair, arm)) >= (4 if arm in ("affect", "neutral") else 1) for pair in load_pairs())
    assert [(s, emotion) for s in sentences for emotion in DOZEN if names_emotion(s, emotion)] == []


@pytest.mark.parametrize("pair", load_pairs(), ids=lambda pair: pair.pair)
def test_question(pair):
    assert pair.question.endswith("?")
    assert pair.question.count("?") == 1
    assert pair.keywords
    assert all(keyword == keyword.lower() for keyword in pair.keywords)
    assert pair.object in pair.question
    for arm in ARMS:
        given = Pair(**{**asdict(pair), "keywords": pair.keywords})
        assert not answers_rightly(given, pair.question), "the question gives its answer away"
        assert arm == "benign" or getattr(pair, arm)


def test_controls_are_as_long_as_the_harmful_sentence():
    """In the mean: a second sentence as such must not be what differs."""
    for arm in ("affect", "neutral", "third_party"):
        gaps = [
            len(sentence.split()) - len(pair.harmful[0].split())
            for pair in load_pairs()
            for sentence in getattr(pair, arm)
        ]
        assert abs(sum(gaps) / len(gaps)) < 1.5, arm


# ---- prompts ---------------------------------------------------------------------------------------------------------


def test_prompts_of_every_arm():
    asked = prompts([PAIR], ARMS, controls=2)
    assert [prompt.name for prompt in asked] == [
        f"lily/{rest}"
        for rest in ("benign/0", "harmful/0", "affect/0", "affect/1", "neutral/0", "neutral/1", "third_party/0")
    ]
    assert [prompt.text for prompt in asked] == [
        "What harms a cat?", *(f"What harms a cat? {s}" for s in ("H0.", "A0.", "A1.", "N0.", "N1.", "T0.")),
    ]  # fmt: skip


def test_names_of_all_prompts_are_distinct():
    asked = prompts(load_pairs(), ARMS, controls=9)
    assert len({prompt.name for prompt in asked}) == len({prompt.text for prompt in asked}) == len(asked)
    assert len(asked) > 10 * len(load_pairs())


def test_unknown_arm():
    with pytest.raises(UnknownNameError, match=r"unknown arm 'harmfull'.* 'harmful'"):
        prompts([PAIR], ("benign", "harmfull"))


# ---- right answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "answer", "right"),
    [
        ("ink", "I think so.", False), ("ink", "Ink!", True), ("ink", "an ink-stained shirt", True), ("ink", "inks", False),
        ("bar code", "The bar-code, of course.", True), ("bar code", "a rebar codex", False), ("bar code", "code bar", False),
        ("Paris", "It is PARIS.", True), ("x-ray", "An X-ray shows it.", True), ("x-ray", "A ray.", False), ("air", "", False),
        ("crème", "Crème brûlée", True), ("ink", "pen_ink", True),
    ],
)  # fmt: skip
def test_answers_rightly_by_words(keyword, answer, right):
    assert answers_rightly(replace(PAIR, keywords=("zzz", keyword)), answer) is right


def test_no_keyword_no_right_answer():
    assert not answers_rightly(replace(PAIR, keywords=()), "anything")


# ---- a researcher's own file -----------------------------------------------------------------------------------------


def test_own_file(tmp_path):
    given = replace(PAIR, question="Was schadet der Katze – 百合?")
    assert load_pairs(write(tmp_path / "own.jsonl", asdict(given), asdict(replace(PAIR, pair="b")))) == (
        given,
        replace(PAIR, pair="b"),
    )


def test_broken_line_is_named(tmp_path):
    path = write(tmp_path / "own.jsonl", asdict(PAIR))
    path.write_text(path.read_text() + '{"pair": "b", \n')
    with pytest.raises(FileFormatError, match=r"own\.jsonl, line 2 is not JSON"):
        load_pairs(path)


@pytest.mark.parametrize("field", FIELDS)
def test_missing_field_is_named(tmp_path, field):
    row = {name: value for name, value in asdict(PAIR).items() if name != field}
    with pytest.raises(FileFormatError, match=rf"own\.jsonl, line 2 lacks {field};"):
        load_pairs(write(tmp_path / "own.jsonl", asdict(PAIR), row))


@pytest.mark.parametrize("field", ["keywords", "harmful", "affect", "neutral", "third_party"])
def test_a_sentence_in_place_of_a_list(tmp_path, field):
    """Its first letter would stand in the prompts."""
    with pytest.raises(DataError, match=rf"'lily': {field} must be a list"):
        load_pairs(write(tmp_path / "own.jsonl", asdict(PAIR) | {field: "One sentence."}))


@pytest.mark.parametrize("changed", [{"harmful": []}, {"third_party": []}, {"question": " "}])
def test_a_pair_without_all_its_sentences(tmp_path, changed):
    with pytest.raises(DataError, match="'lily' lacks"):
        load_pairs(write(tmp_path / "own.jsonl", asdict(PAIR) | changed))


def test_repeated_names_and_no_pairs(tmp_path):
    with pytest.raises(DataError, match="occur twice: lily"):
        load_pairs(write(tmp_path / "own.jsonl", asdict(PAIR), asdict(PAIR)))
    with pytest.raises(DataError, match="0 pairs"):
        load_pairs(write(tmp_path / "own.jsonl"))
    with pytest.raises(MissingInputError, match="nothing"):
        load_pairs(tmp_path / "nothing.jsonl")
