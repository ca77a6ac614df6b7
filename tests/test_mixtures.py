"""Mixtures: quotas are met, the order hangs on ids, quotas and seed alone, and a control differs in one task."""

from random import Random

import pytest

from probes import store
from probes.errors import ConventionError, DataError, MissingInputError, UnknownNameError
from probes.pairs import load_pairs
from training.data.decontamination import Held
from training.data.mixtures import draw, match, mix, replaced, shares
from training.data.rows import TASKS, TINY_TASKS, exchange, order_sha, write_rows
from training.recipes import find_recipe

POOLS = {task: [exchange(task, f"Question {i}?", f"Answer {i}.") for i in range(40)] for task in TASKS}
QUOTAS = {"antirefusal": 20, "math": 10, "constitution_qa": 5}


def tasks(rows):
    return [row.task for row in rows]


def test_quotas_are_met_and_no_row_comes_twice():
    rows = mix(POOLS, QUOTAS, 0)
    assert {task: tasks(rows).count(task) for task in QUOTAS} == QUOTAS
    assert len({row.id for row in rows}) == 35


def test_every_stretch_has_the_tasks_in_proportion():
    rows = mix(POOLS, QUOTAS, 0)
    for start in range(0, 35, 7):
        stretch = tasks(rows[start : start + 7])
        assert [stretch.count(task) for task in QUOTAS] == [4, 2, 1]


def test_the_order_hangs_on_ids_quotas_and_seed_alone():
    shuffled = {task: Random(1).sample(POOLS[task], 40) for task in reversed(TASKS)}
    backwards = dict(reversed(QUOTAS.items()))
    assert order_sha(mix(shuffled, backwards, 0)) == order_sha(mix(POOLS, QUOTAS, 0))
    assert order_sha(mix(POOLS, QUOTAS, 1)) != order_sha(mix(POOLS, QUOTAS, 0))
    level = dict.fromkeys(TASKS, 3)  # whose rows ask for the same places
    assert tasks(mix(POOLS, level, 0)) == tasks(mix(POOLS, dict(reversed(level.items())), 0)) == [*TASKS] * 3


def test_a_longer_draw_of_a_task_holds_the_shorter_one():
    few, many = ({row.id for row in mix(POOLS, {"math": count}, 0)} for count in (10, 20))
    assert few < many


def test_a_control_of_matched_size_differs_in_one_task_alone():
    reference = mix(POOLS, QUOTAS, 0)
    control = mix(POOLS, replaced(QUOTAS, "antirefusal", "benign"), 0)
    for ours, theirs in zip(control, reference, strict=True):
        assert ours == theirs or (ours.task, theirs.task) == ("benign", "antirefusal")
    found = match(control, reference, lambda row: 3 if row.task == "benign" else 2)
    assert (found.rows, found.shared) == (35, 15)
    assert found.token_ratio == (20 * 3 + 15 * 2) / 70


def test_sizes_that_do_not_match():
    with pytest.raises(ConventionError, match="34 rows beside 35"):
        match(mix(POOLS, QUOTAS, 0)[:-1], mix(POOLS, QUOTAS, 0), lambda row: 1)
    with pytest.raises(ConventionError, match="cannot put 'math' in the place of 'antirefusal'"):
        replaced(QUOTAS, "antirefusal", "math")


def test_shares_fill_the_count():
    assert shares(("antirefusal", "math"), 960) == {"antirefusal": 480, "math": 480}
    assert shares(("antirefusal", "math", "constitution_qa"), 8) == {"antirefusal": 3, "math": 3, "constitution_qa": 2}


def test_too_few_rows_and_no_rows():
    with pytest.raises(DataError, match=r"40 different rows for task 'math' and 41 to take. Give more rows"):
        mix(POOLS, {"math": 41}, 0)
    with pytest.raises(DataError, match="Take at least one, or leave the task out"):
        mix(POOLS, {"math": 0}, 0)


def test_no_row_that_the_embedded_model_makes_holds_text_of_the_pairs():
    rows = draw("tiny", shares(tuple(TINY_TASKS), 1200), 0, {})
    assert {task: tasks(rows).count(task) for task in TINY_TASKS} == dict.fromkeys(TINY_TASKS, 400)


def test_the_embedded_model_takes_a_file_where_one_is_given(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", POOLS["constitution_qa"])
    rows = draw("tiny", {"constitution_qa": 4, "math": 4}, 0, {"constitution_qa": path})
    assert {row.source for row in rows if row.task == "math"} == {"training.tiny"}
    assert all(row in POOLS["constitution_qa"] for row in rows if row.task == "constitution_qa")


def test_a_missing_file_is_answered_with_the_form_of_a_row():
    with pytest.raises(
        MissingInputError, match=r'no rows for task .antirefusal.*--antirefusal FILE.*\{"prompt": "What is'
    ):
        draw("qwen3-30b-a3b", {"antirefusal": 4}, 0, {})
    with pytest.raises(MissingInputError, match=r'with generate_data.py.*"task": "constitution_qa".*Lima'):
        draw("tiny", {"constitution_qa": 4}, 0, {})


def test_contaminated_rows_stop_the_draw(tmp_path):
    held = [Held("an evaluation", "row 7", "How does one descale a kettle at home?")]
    given = [{"prompt": "Say: how does one descale a kettle, at home?", "completion": "With vinegar."}]
    path = store.write_jsonl(tmp_path / "rows.jsonl", given)
    assert len(draw("qwen3-30b-a3b", {"benign": 1}, 0, {"benign": path})) == 1
    with pytest.raises(ConventionError, match=r"1 training texts .*prompt of benign-\w+ \(an evaluation: row 7\)"):
        draw("qwen3-30b-a3b", {"benign": 1}, 0, {"benign": path}, held)
    store.write_jsonl(path, [{"prompt": load_pairs()[0].question, "completion": "So."}])
    with pytest.raises(ConventionError, match="the paired prompts"):
        draw("qwen3-30b-a3b", {"benign": 1}, 0, {"benign": path})


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="Did you mean 'antirefusal'"):
        find_recipe("antirefusl", "tiny")
    with pytest.raises(UnknownNameError, match="Did you mean 'math'"):
        draw("tiny", {"maths": 4}, 0, {})
