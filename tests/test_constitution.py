"""Constitutions: the shipped ones, and what a text of one's own may get wrong."""

import pytest

from probes.emotions import clusters
from probes.errors import FileFormatError, MissingInputError, UnknownNameError
from probes.stories import names_emotion
from training.generate.constitution import SHIPPED, Principle, load_constitution, parse_constitution

HEAD = "# kettles\nversion: 2\nmay_decline: no\n\n"
GOOD = HEAD + "1. [boils] It boils water,\n   and no more.\n   Tension: Some want\n   tea.\n\n2. [waits] It waits.\n"


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_constitutions_are_whole_and_name_no_feeling(name):
    constitution = load_constitution(name)
    assert constitution.name == name
    assert len(constitution.principles) == 8
    texts = [text for one in constitution.principles for text in (one.text, one.example_tension)]
    assert all(len(text.split()) >= 8 for text in texts)
    assert not [(emotion, text) for text in texts for emotion in clusters() if names_emotion(text, emotion)]


def test_only_the_contrast_may_decline():
    assert [load_constitution(name).may_decline for name in SHIPPED] == [False, True]


def test_parse():
    constitution = parse_constitution(GOOD, "kettles.md")
    assert (constitution.name, constitution.version, constitution.may_decline) == ("kettles", 2, False)
    assert constitution.principles == (
        Principle("boils", "It boils water, and no more.", "Some want tea."),
        Principle("waits", "It waits."),
    )
    assert constitution.listing() == "- It boils water, and no more.\n- It waits."


def test_the_hash_is_of_what_is_said_and_not_of_how_it_is_laid_out(tmp_path):
    (tmp_path / "own.md").write_text(GOOD.replace(",\n   and", ", and").replace("\n", "\r\n"), newline="")
    own = load_constitution(tmp_path / "own.md")
    assert own.sha() == parse_constitution(GOOD, "x").sha()
    assert own.sha() != parse_constitution(GOOD.replace("It waits", "It sings"), "x").sha()
    assert own.sha() != parse_constitution(GOOD.replace("version: 2", "version: 3"), "x").sha()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not begin as a constitution does"),
        ("# kettles\nversion: two\n", "does not begin as a constitution does"),
        (HEAD.replace("may_decline: no\n", "") + "1. [boils] It boils.\n", "does not begin as a constitution does"),
        (HEAD, "has no principle"),
        (HEAD + "It boils.\n", r"line 5 is no principle: 'It boils.'. Write \"1. \[id\] text\""),
        (HEAD + "1. It boils.\n", "line 5 is no principle"),
        (HEAD + "1. [Boils!] It boils.\n", "line 5 is no principle"),
        (HEAD + "1. [boils]\n", "line 5 is no principle"),
        (HEAD + "1. [boils] It boils.\n\n3. [waits] It waits.\n", "line 7 has number 3 where 2 is due"),
        (HEAD + "1. [boils] It boils.\n2. [boils] It waits.\n", "two principles with the id 'boils'"),
    ],
)
def test_a_mistake_is_named_with_its_line(text, message):
    with pytest.raises(FileFormatError, match=f"kettles.md.*{message}"):
        parse_constitution(text, "kettles.md")


def test_a_name_or_file_that_is_not_there(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'helpful_only'"):
        load_constitution("helpful_onyl")
    with pytest.raises(MissingInputError, match=r"helpful_only, hhh, or the path of a file"):
        load_constitution(tmp_path / "none.md")
    (tmp_path / "bytes.md").write_bytes(b"# k\xff")
    with pytest.raises(FileFormatError, match="not UTF-8"):
        load_constitution(tmp_path / "bytes.md")
