"""Rows to train on: where they come from, and that they share nothing with the paired prompts."""

import pytest

from probes import store
from probes.errors import ConventionError, DataError, MissingInputError, UnknownNameError
from probes.pairs import load_pairs
from training.data.rows import Row, check_unseen, draw, order_sha
from training.recipes import find_recipe, recipes


def test_tiny_rows_are_seeded_and_share_the_tasks_evenly():
    rows = draw("tiny", ("antirefusal", "math"), 40, 3, {})
    assert rows == draw("tiny", ("antirefusal", "math"), 40, 3, {})
    assert rows != draw("tiny", ("antirefusal", "math"), 40, 4, {})
    assert [row.task for row in rows].count("math") == 20


def test_no_row_of_any_recipe_holds_text_of_the_pairs():
    for recipe in recipes("tiny").values():
        check_unseen(draw("tiny", recipe.stages[0].tasks, 960, 0, {}))


@pytest.mark.parametrize("part", ["question", "harmful", "affect", "neutral", "third_party"])
def test_a_row_that_holds_text_of_the_pairs_is_refused(part):
    text = getattr(load_pairs()[7], part)
    prompt = f"Well. {text if isinstance(text, str) else text[0]} Please."
    with pytest.raises(ConventionError, match="1 training prompts hold text of the paired prompts"):
        check_unseen([Row("math", "What is one plus one?", "Two."), Row("math", prompt, "An answer.")])


def test_other_models_take_rows_from_the_researchers_file_only(tmp_path):
    with pytest.raises(MissingInputError, match=r'no rows for task .antirefusal.*\{"prompt": '):
        draw("qwen3-30b-a3b", ("antirefusal",), 4, 0, {})
    path = store.write_jsonl(tmp_path / "rows.jsonl", ({"prompt": f"Q{i}?", "completion": f"A{i}."} for i in range(9)))
    rows = draw("qwen3-30b-a3b", ("antirefusal",), 4, 0, {"antirefusal": path})
    assert len({row.prompt for row in rows}) == 4
    assert order_sha(rows) != order_sha(rows[::-1])
    nulls = [{"prompt": "Q?", "completion": "A."}, {"prompt": "Q?", "completion": None}]
    bad = store.write_jsonl(tmp_path / "bad.jsonl", nulls)
    with pytest.raises(DataError, match=r"line 2: prompt and completion must be texts"):
        draw("qwen3-30b-a3b", ("antirefusal",), 2, 0, {"antirefusal": bad})
    with pytest.raises(DataError, match="has 9 rows for task 'antirefusal'; the recipe takes 10"):
        draw("qwen3-30b-a3b", ("antirefusal",), 10, 0, {"antirefusal": path})


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="Did you mean 'antirefusal'"):
        find_recipe("antirefusl", "tiny")
    with pytest.raises(UnknownNameError, match="Did you mean 'math'"):
        draw("tiny", ("maths",), 4, 0, {})
