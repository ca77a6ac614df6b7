"""What steps read with: an engine that the doctor has passed, one checkpoint at a time, never two engines in one run."""

import sys
from dataclasses import replace
from functools import partial

import pytest

import capture_stories
import fake_vllm
from faulty_engines import LayerOffByOne
from probes.activations import capture
from probes.doctor import Line, Verdict, read_verdict
from probes.errors import ConventionError
from probes.lm import checks
from probes.stories import Stories, Story, topics
from settings import Settings
from small_model import save_small_model

STORIES = Stories([Story(f"calm/{i}", "calm", topic, f"The {topic} stood by the door.")
                   for i, topic in enumerate(topics()[:8])], "saved")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("saved") / "small")


@pytest.fixture
def steps(folder, tmp_path, monkeypatch):
    """Settings of steps on a small model, with a doctor who knows beforehand: what he looks at is tested in test_doctor."""
    monkeypatch.setitem(sys.modules, "vllm", fake_vllm.module())
    monkeypatch.setattr(checks, "verdict", known)
    return partial(Settings, str(folder), preset="tiny", out=tmp_path)


def known(engine, attached=None, reference=None):
    assert (reference or engine.model).network.device.type == "cpu", "he needs the weights"
    wrong = [Line("layer i", "red", 1.0, 1e-5, "off by one")] if isinstance(engine, LayerOffByOne) else []
    return Verdict(checks.about_engine(engine), tuple(wrong))


def read(settings):
    with settings.reading() as engine:
        return capture(engine.model, STORIES, start_token=2, engine=engine), engine


def test_the_doctor_comes_first_and_once(steps):
    settings = steps()
    made, engine = read(settings)
    assert (made.attrs["doctor"], made.attrs["engine"]) == ("green", "transformers_hooks")
    assert vars(engine) == {}, "the model is let go of"
    path = settings.doctor("original")
    assert path == settings.folder / "doctor" / "original.json"
    before = path.stat().st_mtime_ns
    read(settings)
    assert path.stat().st_mtime_ns == before
    read(steps(engine="vllm"))
    assert read_verdict(path).about["engine"] == "vllm"


def test_every_engine_is_a_flag_and_vllm_loads_no_second_copy(steps):
    made, _ = read(steps(engine="vllm"))
    with steps(engine="vllm").reading() as engine:
        assert engine.model.network.device.type == "meta"
    hooks, _ = read(steps())
    assert made.attrs["engine"] == "vllm"
    assert abs(made["mean"] - hooks["mean"]).max() < 1e-4


def test_a_red_engine_stops_the_step_or_is_remembered(steps, monkeypatch):
    monkeypatch.setattr("probes.lm.engines._started", lambda _name, model, _merged: LayerOffByOne(model))
    with pytest.raises(ConventionError, match="lines of the doctor are red"):
        read(steps())
    made, _ = read(steps(despite_red="to see what it does"))
    assert made.attrs["doctor"].startswith("red: ")
    assert made.attrs["despite_red"] == "to see what it does"


def test_another_engine_does_not_go_on_with_a_run(steps):
    settings = steps()
    for kind in ("emotional", "neutral"):
        STORIES.save(settings.stories(kind))
    capture_stories.main(replace(settings, engine="vllm"))
    with pytest.raises(ConventionError, match=r"neutral.safetensors belongs to another run: engine differ"):
        capture_stories.main(settings)
