"""Work in parts: kills lose nothing, double nothing and change no byte; two processes and two plans never mix."""

import os

import numpy as np
import pytest

from conftest import ABOUT
from probes import store
from probes.errors import ConventionError, OutputError
from probes.lm.generate import Sampling, generate
from probes.lm.model import Model
from probes.moments import empty_moments
from probes.parts import Parts, units
from small_model import small_model


def test_a_second_process_is_refused_by_name(tmp_path):
    with Parts(tmp_path / "a.jsonl", {}), pytest.raises(OutputError, match=f"process {os.getpid()} is at work in"):
        Parts(tmp_path / "a.jsonl", {}).ensure(lambda: pytest.fail("made"))
    with Parts(tmp_path / "a.jsonl", {}):
        pass


def test_another_plan_is_refused_and_says_what_differs(tmp_path):
    with Parts(tmp_path / "a.jsonl", {"seed": 0, "model": "m"}) as parts:
        parts.rows("u", lambda: [{"key": 1}], ("key",))
    with pytest.raises(ConventionError, match=r"another run: seed differ"):
        Parts(tmp_path / "a.jsonl", {"seed": 1, "model": "m"}).ensure(lambda: pytest.fail("made"))


def test_a_finished_target_is_known_by_its_plan(tmp_path):
    parts = Parts(tmp_path / "a.jsonl", {"seed": 0})
    assert not parts.finished
    with parts:
        parts.finish(lambda path: store.write_text(path, "whole"))
    assert parts.finished
    assert not parts.folder.exists()
    with pytest.raises(ConventionError, match="seed differ"):
        assert Parts(tmp_path / "a.jsonl", {"seed": 1}).finished


def test_units_hold_everything_once_and_in_order():
    assert [list(unit) for unit in units(range(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_moments_are_read_back_and_not_made_again(tmp_path):
    made = empty_moments((0, 1), 3, {"a": 0, "b": 1}, ABOUT)
    with Parts(tmp_path / "a.safetensors", {}) as parts:
        parts.moments("u", lambda: made)
        again = parts.moments("u", lambda: pytest.fail("made twice"))
    assert again.about == made.about
    np.testing.assert_array_equal(again.centre, made.centre)


def test_ensure_makes_a_target_once(tmp_path):
    def make():
        return lambda path: store.write_text(path, "whole")

    Parts(tmp_path / "a.txt", {"seed": 0}).ensure(make)
    Parts(tmp_path / "a.txt", {"seed": 0}).ensure(lambda: pytest.fail("made twice"))
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "a.txt.plan.json"}
    with pytest.raises(ConventionError, match="seed differ"):
        Parts(tmp_path / "a.txt", {"seed": 1}).ensure(make)


def test_parts_that_a_kill_left_beside_a_finished_target_are_taken_away(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.rmtree", lambda folder: None)  # the process dies right before
    Parts(tmp_path / "a.txt", {}).ensure(lambda: lambda path: store.write_text(path, "whole"))
    monkeypatch.undo()
    assert (tmp_path / "a.txt.parts").is_dir()
    Parts(tmp_path / "a.txt", {}).ensure(lambda: pytest.fail("made twice"))
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "a.txt.plan.json"}


def test_work_that_fails_before_its_first_unit_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Parts(tmp_path / "a.txt", {}).ensure(lambda: 1 / 0)
    assert not list(tmp_path.iterdir())


def test_work_that_fails_later_keeps_its_units(tmp_path):
    def make(parts):
        parts.rows("u", lambda: [{"key": 1}], ("key",))
        raise ZeroDivisionError

    parts = Parts(tmp_path / "a.txt", {})
    with pytest.raises(ZeroDivisionError):
        parts.ensure(lambda: make(parts))
    assert (tmp_path / "a.txt.parts/u.jsonl").is_file()


def test_generation_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(Model, "unit", 3)
    model, prompts, sampling = small_model(), [f"word {i}" for i in range(8)], Sampling(max_new_tokens=6, seed=2)
    whole = generate(model, prompts, sampling)
    with Parts(tmp_path / "a.jsonl", {}) as parts:
        generate(model, prompts[:6], sampling, parts=parts)
        kept = {path.name: path.stat().st_mtime_ns for path in parts.folder.glob("*.jsonl")}
        resumed = generate(model, prompts, sampling, parts=parts)
        assert len(kept) == 2
        assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in parts.folder.glob("*.jsonl")}.items()
        with pytest.raises(ConventionError, match="other units of work"):
            generate(model, prompts, sampling, keys=list("abcdefgh"), parts=parts)
    assert [c.token_ids for c in resumed] == [c.token_ids for c in whole]
