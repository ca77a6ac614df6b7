"""Every engine gives the reference's numbers, on every architecture, and activations of two are never mixed."""

from importlib.util import find_spec
from random import Random

import numpy as np
import pytest
import torch

import probes
from probes.errors import ConventionError, MissingInputError, UnknownNameError
from probes.lm.capture import Passage, capture
from probes.lm.checks import verdict
from probes.lm.engines import start
from probes.lm.engines.transformers_hooks import TransformersHooks
from probes.lm.parity import apart
from probes.lm.reducers import LastToken, MeanPool, UnitMeanPool
from probes.moments import merge
from probes.stories import Stories, Story
from small_model import ARCHITECTURES, small_model
from training.tiny.train import base_text


def installed(name):
    lacking = pytest.mark.skipif(find_spec(name) is None, reason=f"the extra {name} is not installed")
    return pytest.param(name, marks=lacking)


OTHERS = [installed("nnsight"), installed("transformer_lens")]


def passages(model):
    rng = Random(1)
    ids = [model.tokenizer(base_text(rng))["input_ids"][:120] for _ in range(9)]
    return [Passage(tokens, range(3, len(tokens) - 1)) for tokens in ids]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", OTHERS)
def test_same_texts_same_reducers_same_numbers(name, architecture):
    model = small_model(0, architecture)
    texts, reducers = passages(model), [MeanPool(), UnitMeanPool(), LastToken()]
    want, engine = capture(model, texts, "all", reducers), start(name, model)
    for side in ("right", "left"):
        got = capture(model, texts, "all", reducers, padding_side=side, engine=engine)
        assert apart(got, want) <= 1e-5
    np.testing.assert_array_equal(capture(model, texts, "all", reducers)["mean"], want["mean"])


@pytest.mark.parametrize("name", OTHERS)
def test_the_doctor_finds_nothing_in_another_engine(name):
    found = verdict(start(name, small_model()))
    assert found.red == [], "\n".join(map(str, found.lines))
    assert {line.check: line.status for line in found.lines}["engine against engine"] == "green"
    assert found.about["engine"] == name


def test_nnsight_stops_after_the_last_layer_and_lets_errors_through():
    pytest.importorskip("nnsight", reason="the extra nnsight is not installed")
    model = small_model()
    engine = start("nnsight", model)
    later = model.blocks[2].register_forward_hook(lambda *_: pytest.fail("block 2 was run"))
    try:
        capture(model, passages(model)[:2], [0, 1], engine=engine)
    finally:
        later.remove()
    with pytest.raises(ZeroDivisionError):
        engine.run(torch.ones(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.long), [1], lambda *_: 1 / 0)


def test_transformer_lens_leaves_the_model_as_it_is_and_stops_after_the_last_layer():
    pytest.importorskip("transformer_lens", reason="the extra transformer_lens is not installed")
    model = small_model()
    blocks, attention = list(model.blocks), model.network.config._attn_implementation
    engine = start("transformer_lens", model)
    seen = []
    engine.bridge.blocks[2].hook_out.add_hook(lambda hidden, hook: seen.append(hook.name))
    capture(model, passages(model)[:2], [0, 1], engine=engine)
    assert seen == []
    assert list(model.blocks) == blocks
    assert model.network.config._attn_implementation == attention
    with pytest.raises(ZeroDivisionError):
        engine.run(torch.ones(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.long), [1], lambda *_: 1 / 0)
    assert len(capture(model, passages(model)[:2], "all", engine=engine)["mean"]) == 2


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_an_engine_that_does_not_exist():
    with pytest.raises(UnknownNameError, match=r"unknown engine 'nnsigt'. Did you mean 'nnsight'"):
        start("nnsigt", small_model())


@pytest.mark.parametrize("name", ["nnsight", "transformer_lens", "vllm"])
def test_an_engine_that_is_not_installed_names_the_extra(name, monkeypatch):
    def missing(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module.partition(".")[0])

    monkeypatch.setattr(f"probes.lm.engines.{name}.import_module", missing)
    with pytest.raises(MissingInputError, match=rf"{name} is not installed: pip install 'emotion-probes\[{name}\]'"):
        start(name, small_model())


def test_an_engine_of_another_model():
    one, other = small_model(0), small_model(1)
    with pytest.raises(ConventionError, match="start its own"):
        capture(one, passages(one)[:1], engine=start("transformers_hooks", other))


class Renamed(TransformersHooks):
    """The reference under another name: one that can be started everywhere."""

    name = "nnsight"


@pytest.fixture
def stories():
    rng = Random(0)
    names = [(emotion, topic, i) for emotion in ("calm", "happy") for topic in ("a kite", "a boat") for i in range(2)]
    return Stories([Story(f"{e}/{t}/{i}", e, t, base_text(rng)) for e, t, i in names], "small")


def test_activations_of_two_engines_are_never_mixed(stories, monkeypatch):
    model, folds = small_model(), {"a kite": 0, "a boat": 1}
    ours = probes.capture(model, stories, start_token=3)
    sums = probes.capture_moments(model, stories, folds, start_token=3)
    fitted = probes.EmotionProbes("difference_of_means").fit(ours)
    monkeypatch.setattr("probes.lm.engines._started", lambda _name, model, _whole: Renamed(model))
    theirs = probes.capture(model, stories, start_token=3, engine="nnsight")
    assert (ours.attrs["engine"], theirs.attrs["engine"]) == ("transformers_hooks", "nnsight")
    with pytest.raises(ConventionError, match="differ in engine: 'transformers_hooks' and 'nnsight'"):
        fitted.transform(theirs)
    with pytest.raises(ConventionError, match="differ in engine"):
        probes.EmotionProbes("sofroniew").fit(ours, theirs)
    with pytest.raises(ConventionError, match="engine"):
        merge(sums, probes.capture_moments(model, stories, folds, start_token=3, engine="nnsight"))
    other = probes.EmotionProbes("difference_of_means").fit(theirs)
    assert fitted.source() != other.source()
    assert other.source().endswith("(difference_of_means, nnsight)")
