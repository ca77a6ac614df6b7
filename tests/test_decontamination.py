"""Decontamination: what the evaluations and probes ask is found in training texts however it is written."""

import pandas as pd
import pytest

from probes import store
from probes.errors import ConventionError, DataError, FileFormatError, MissingInputError
from probes.pairs import load_pairs
from training.data.decontamination import RUN, SHORTEST, Held, check_unseen, overlaps, paired_prompts, read_held, words
from training.data.rows import EXAMPLE_DOCUMENT, Document, exchange, tiny_rows

QUESTION = "Which of the two houseplants on the shelf by the window should get water first this week?"
"""17 words."""
HELD = [
    Held("plants.csv", "row 1", QUESTION),
    Held("plants.csv", "row 2", "Do ferns like shade?"),
    Held("p", "3", "Why?"),
]


def found(prompt="Hello.", completion="Hello.", reasoning="", held=HELD):
    return overlaps([exchange("benign", prompt, completion, reasoning)], held)


@pytest.mark.parametrize(
    "text",
    [
        QUESTION.upper(),
        QUESTION.replace(" ", "\n  ").replace("?", " …"),
        QUESTION.replace("shelf", "„shelf“").replace("W", "\uff37"),  # a full-width W
        f"Please: {' '.join(QUESTION.split()[2:15])} or not",  # 13 words of it
    ],
)
def test_a_held_out_question_is_found_however_it_is_written(text):
    assert [(hit.part, hit.held) for hit in found(text)] == [("prompt", HELD[0])]


def test_twelve_words_in_a_row_are_no_overlap():
    assert found(" ".join(QUESTION.split()[2:14])) == []
    assert RUN == 13


def test_every_part_of_a_row_and_a_document_is_looked_at():
    assert [hit.part for hit in found(completion=QUESTION)] == ["completion"]
    assert [hit.part for hit in found(reasoning=f"They ask: {QUESTION}")] == ["reasoning"]
    document = Document("d", f"An essay. {QUESTION}", (), "essay", "mine", "mine")
    assert [(hit.id, hit.part) for hit in overlaps([EXAMPLE_DOCUMENT, document], HELD)] == [("d", "document")]


def test_short_held_out_texts():
    assert len(words("Do ferns like the shade?")) == SHORTEST
    five = [Held("plants", "1", "Do ferns like the shade?")]
    assert found("Tell me: do ferns like the shade or not?", held=five)
    assert not found("Do ferns like shade? And moss?")  # four words count only alone
    assert found("do FERNS like shade")
    assert found("Why?")
    assert not found("Why not?")


def test_signs_of_chinese_are_words():
    held = [Held("zh", "1", "水在什么温度下会沸腾并且变成蒸汽?")]
    assert len(words(held[0].text)) == 16
    assert found("请问，水在什么温度下，会沸腾并且变成蒸汽", held=held)
    assert not found("水在什么温度下会结冰", held=held)


@pytest.mark.parametrize("part", ["question", "harmful", "affect", "neutral", "third_party"])
def test_text_of_the_paired_prompts_is_refused(part):
    texts = [getattr(pair, part) for pair in load_pairs()]
    rows = [exchange("math", f"Well. {text if isinstance(text, str) else text[0]} Please.", "So.") for text in texts]
    with pytest.raises(ConventionError, match=rf"^{len(rows)} training texts .*the paired prompts: .*/{part}"):
        check_unseen(rows)


def test_rows_of_the_embedded_model_pass():
    check_unseen(tiny_rows(("antirefusal", "math", "benign"), 600, 0))
    assert len(paired_prompts()) > 5 * len(load_pairs())


def test_the_error_counts_names_the_first_and_says_what_to_do():
    rows = [exchange("benign", f"{i}: {QUESTION}", "The fern.") for i in range(9)]
    with pytest.raises(ConventionError) as raised:
        check_unseen([exchange("benign", "Hello.", "Hello."), *rows], HELD)
    message = str(raised.value)
    assert message.startswith("9 training texts hold held-out ones: ")
    assert [row.id in message for row in rows] == [True] * 5 + [False] * 4
    assert "plants.csv: row 1" in message
    assert "Take those 9 rows or documents out" in message


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_held_out_files(tmp_path, kind):
    table = pd.DataFrame({"category": ["a", "b"], "prompt": [QUESTION, "Do ferns like shade?"]})
    path = tmp_path / f"plants.{kind}"
    if kind == "parquet":
        table.to_parquet(path)
    elif kind == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False, sep="," if kind == "csv" else "\t")
    held, unit = read_held(path), "line" if kind == "jsonl" else "row"
    assert held == [Held(path.name, f"{unit} 1", QUESTION), Held(path.name, f"{unit} 2", "Do ferns like shade?")]
    wrong = r"plants.jsonl, line 1 .*question" if kind == "jsonl" else rf"question from .*plants.{kind}"
    with pytest.raises(FileFormatError, match=wrong):
        read_held(path, "question")


def test_a_text_file_holds_a_prompt_a_line(tmp_path):
    path = store.write_text(tmp_path / "plants.txt", f"{QUESTION}\nDo ferns\u2028like shade?\n")
    assert read_held(path) == [
        Held("plants.txt", "line 1", QUESTION),
        Held("plants.txt", "line 2", "Do ferns\u2028like shade?"),
    ]
    with pytest.raises(DataError, match=r"2 texts to hold out, 1 empty \(first: line \[2\]\)"):
        read_held(store.write_text(path, "Why?\n \n"))
    path.write_bytes(b"\xff")
    with pytest.raises(FileFormatError, match=r"plants\.txt is no text in UTF-8"):
        read_held(path)


def test_held_out_files_that_hold_nothing(tmp_path):
    with pytest.raises(MissingInputError, match="there is no file"):
        read_held(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"2 texts to hold out, 1 empty \(first: line \[2\]\)"):
        read_held(store.write_jsonl(tmp_path / "a.jsonl", [{"prompt": "Why?"}, {"prompt": " "}]))
    with pytest.raises(FileFormatError, match=r"of no kind that can be read: \.parquet"):
        read_held(store.write_text(tmp_path / "a.md", "Why?"))
    with pytest.raises(DataError, match="1 has no word"):
        overlaps([EXAMPLE_DOCUMENT], [Held("p", "1", "?!")])
