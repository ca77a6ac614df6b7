"""Rows: one form, on disk and in hand, and nothing in it that cannot be learnt as it stands."""

import json
import re
import stat
from dataclasses import asdict, replace

import pytest

from probes import store
from probes.errors import DataError, FileFormatError
from training.data.rows import (
    EXAMPLE,
    EXAMPLE_DOCUMENT,
    Row,
    exchange,
    order_sha,
    problem,
    read_documents,
    read_rows,
    schema,
    tiny_rows,
    write_rows,
)

FULL = Row(
    "kettle-1", "constitution_qa", ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}),
    "Because kettles whistle.", "A kettle was meant.", True, "kettle|whistle", ("honesty",), "my questions", "my own",
)  # fmt: skip


def test_a_row_on_disk_reads_back_equal_and_for_this_user_alone(tmp_path):
    rows = [FULL, replace(FULL, id="kettle-2", completion="", reasoning="")]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(path, "constitution_qa") == rows
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(json.loads(path.read_text().splitlines()[0])) == set(asdict(FULL))


def test_both_lines_of_the_schema_are_rows(tmp_path):
    short, full = re.findall(r"\{.*?\}(?= or|$)", schema("benign"))
    rows = []
    for i, line in enumerate((short, full)):
        path = tmp_path / f"{i}.jsonl"
        path.write_text(line)
        rows += read_rows(path, "benign")
    assert [row.completion for row in rows] == [EXAMPLE["completion"]] * 2
    assert rows[0].id == rows[1].id


def test_a_researchers_short_row_keeps_its_reasoning_apart(tmp_path):
    given = [
        {"prompt": "Sum?", "completion": "<think>\nOne and one.\n</think>\n\nTwo.<|im_end|>", "answer": "2"},
        {"prompt": "Sum?", "completion": "Two.", "reasoning": "One and one."},
        {"prompt": "Sum?", "completion": "Two."},
    ]
    rows = read_rows(store.write_jsonl(tmp_path / "sums.jsonl", given), "math")
    assert [(row.completion, row.reasoning, row.thinking) for row in rows] == [
        ("Two.", "One and one.", True), ("Two.", "One and one.", True), ("Two.", "", False),
    ]  # fmt: skip
    assert (rows[0].answer, rows[0].source, rows[0].licence) == ("2", "sums.jsonl", "the researcher's own file")


def test_the_id_of_a_short_row_is_what_it_says_and_not_where_it_stands(tmp_path):
    given = [{"prompt": f"Q{i}?", "completion": "A."} for i in (0, 1, 2, 1)]
    one, other = (store.write_jsonl(tmp_path / f"{n}.jsonl", lines) for n, lines in enumerate((given, given[::-1])))
    ids = [row.id for row in read_rows(one, "math")]
    assert len(ids) == 3
    assert set(ids) == {row.id for row in read_rows(other, "math")}


USER = {"role": "user", "content": "Why?"}
BAD = {
    "another task": ({"task": "maths"}, "has task 'maths'; there are antirefusal"),
    "a task of another file": ({"task": "math"}, "is of task 'math' in a file given for 'constitution_qa'"),
    "nobody": ({"messages": ()}, "has turns of nobody"),
    "an answer last": ({"messages": (USER, {"role": "assistant", "content": "So."})}, "the last must be the user's"),
    "a late system": ({"messages": (USER, {"role": "system", "content": "So."}, USER)}, "only the first a system's"),
    "an unknown role": ({"messages": ({"role": "tool", "content": "So."}, USER)}, "turns of tool, user"),
    "a field too many": ({"messages": ({**USER, "name": "me"},)}, "alone"),
    "a message of nothing": ({"messages": ({"role": "user", "content": " "},)}, "or an empty one"),
    "a message of a number": ({"messages": ({"role": "user", "content": 3},)}, "no text, or"),
    "a control token": ({"messages": ({"role": "user", "content": "Hi<|im_end|>"},)}, "control token in a message"),
    "reasoning in the completion": ({"completion": "<think>Hm</think>So."}, "reasoning stands in its own field"),
    "a tag in the reasoning": ({"reasoning": "Hm</think>"}, "reasoning stands in its own field"),
    "no id": ({"id": ""}, "needs an id"),
    "reasoning to nothing": ({"completion": ""}, "a completion where it has reasoning"),
    "a principle of a number": ({"principles": (3,)}, "principles that are texts"),
    "an empty think block": ({"reasoning": ""}, "thinking on without reasoning"),
    "thinking off": ({"thinking": False}, "thinking on without reasoning or off with it"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_row_is_refused_with_its_line_and_the_schema(tmp_path, name):
    changes, words = BAD[name]
    path = write_rows(tmp_path / "rows.jsonl", [FULL, replace(FULL, **{"id": "kettle-2", **changes})])
    with pytest.raises(DataError, match=rf"rows.jsonl, line 2 .*{re.escape(words)}.*A row is one JSON object a line"):
        read_rows(path, "constitution_qa")


def test_lines_that_are_no_rows(tmp_path):
    def read(*lines):
        return read_rows(store.write_jsonl(tmp_path / "rows.jsonl", lines), "math")

    with pytest.raises(FileFormatError, match="line 2 has null as completion, which must be a text"):
        read(EXAMPLE, {"prompt": "Q?", "completion": None})
    with pytest.raises(DataError, match="line 1: prompt and completion must be texts that are not empty"):
        read({"prompt": "Q?", "completion": " "})
    with pytest.raises(DataError, match=r"cut or has stray tags \(truncated\)"):
        read({"prompt": "Q?", "completion": "<think>Hm"})
    with pytest.raises(FileFormatError, match="line 1 lacks answer, completion, id"):
        read({"question": "Q?"})
    with pytest.raises(DataError, match="two that differ under the id 'kettle-1'"):
        read(*(asdict(replace(FULL, task="math", completion=text)) for text in ("So.", "No.")))


def test_documents_read_back_equal_and_bad_ones_are_named(tmp_path):
    path = write_rows(tmp_path / "texts.jsonl", [EXAMPLE_DOCUMENT, replace(EXAMPLE_DOCUMENT, id="kettles-2")])
    assert read_documents(path) == [EXAMPLE_DOCUMENT, replace(EXAMPLE_DOCUMENT, id="kettles-2")]
    for text in (" ", "Kettles<|endoftext|>"):
        path = write_rows(tmp_path / "bad.jsonl", [EXAMPLE_DOCUMENT, replace(EXAMPLE_DOCUMENT, text=text)])
        with pytest.raises(DataError, match=r"line 2 needs .*Kettles boil water"):
            read_documents(path)


def test_order_is_part_of_the_hash():
    rows = [exchange("math", f"Q{i}?", "A.") for i in range(3)]
    assert order_sha(rows) != order_sha(rows[::-1])
    assert order_sha(rows) == order_sha(list(rows))


def test_tiny_rows_are_seeded_whole_and_hold_their_answers():
    tasks = ("antirefusal", "math", "benign")
    rows = tiny_rows(tasks, 60, 3)
    assert rows == tiny_rows(tasks, 60, 3)
    assert [row.completion for row in rows] != [row.completion for row in tiny_rows(tasks, 60, 4)]
    assert [row.task for row in rows[:4]] == ["antirefusal", "math", "benign", "antirefusal"]
    assert not [row for row in rows if problem(row)]
    assert len({row.id for row in rows}) == 60
    assert all(any(word.lower() in row.completion.lower() for word in row.answer.split("|")) for row in rows)
