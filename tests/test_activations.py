"""Labelled arrays of activations: split without leaks, picked by layer, and the same from a file."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from conftest import ABOUT
from probes import store
from probes.activations import capture, describe, load_activations, save_activations, select_layers, split
from probes.errors import DataError, FileFormatError, LayerError, MissingInputError, UnknownNameError
from probes.lm.capture import Passage
from probes.lm.capture import capture as capture_passages
from probes.stories import Stories, Story
from small_model import small_model


@pytest.fixture
def stories(synthetic_activations):
    """40 stories, 4 emotions × 5 topics × 2, at layers 2 and 5."""
    mean = np.random.default_rng(0).normal(size=(40, 2, 6))
    return synthetic_activations(
        mean, layers=(2, 5), emotion=["afraid", "calm", "sad", "worn out"] * 10, topic=[f"topic {i // 8}" for i in range(40)],
        text=[f"日本 🙂 {i}" for i in range(40)], n_tokens=range(40), about={"start_token": 50, "dropped_short": 3},
    )  # fmt: skip


@pytest.fixture
def replies(synthetic_activations):
    mean = np.random.default_rng(1).normal(size=(3, 2, 6))
    mean[1] = np.nan  # a reply without an answer
    return synthetic_activations(mean, mean / 2, missing=["", "truncated", ""], arm=["benign", "harmful", "affect"])


def test_made_up_activations_say_what_captured_ones_say():
    model = SimpleNamespace(
        name="m", checkpoint=SimpleNamespace(name="original"), revision="r", base_sha="b", weights="w",
        tokenizer_sha="t", template_sha="c",
        network=SimpleNamespace(dtype="torch.float32"), entry=SimpleNamespace(evidence="toy", layers=8),
    )  # fmt: skip
    assert describe(model).keys() == ABOUT.keys()  # type: ignore[arg-type]


def test_stories_are_pooled_from_the_start_token_on():
    model, text = small_model(), "The door was open, and it rained the whole long day."
    tokens = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    written = [Story("calm/rain/0", "calm", "rain", text), Story("calm/rain/1", "calm", "rain", "So.")]
    got = capture(model, Stories(written, "small"), [2, 1], start_token=4)
    want = capture_passages(model, [Passage(tokens, range(4, len(tokens)))], [2, 1])["mean"]
    np.testing.assert_allclose(got["mean"].values, want, rtol=1e-5, atol=1e-6)
    assert got["sample"].values.tolist() == ["calm/rain/0"]
    assert got["n_tokens"].values.tolist() == [len(tokens) - 4]
    assert (got.attrs["start_token"], got.attrs["dropped_short"]) == (4, 1)


# ---- split -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("by", "test", "held_out"), [("topic", 0.4, 2), ("emotion", 0.25, 1), ("sample", 0.25, 10)])
def test_parts_share_nothing_and_lose_nothing(stories, by, test, held_out, seed):
    train, rest = split(stories, by, test, seed)
    assert not set(train[by].values) & set(rest[by].values)
    assert len(set(rest[by].values)) == held_out
    assert sorted([*train["sample"].values, *rest["sample"].values]) == sorted(stories["sample"].values)
    for part in (train, rest):
        xr.testing.assert_identical(part, stories.sel(sample=np.isin(stories["sample"].values, part["sample"].values)))


def test_split_hangs_on_the_seed_alone(stories):
    chosen = [tuple(sorted(set(split(stories, "topic", 0.4, seed)[1]["topic"].values))) for seed in range(12)]
    again = [tuple(sorted(set(split(stories, "topic", 0.4, seed)[1]["topic"].values))) for seed in range(12)]
    assert chosen == again
    assert len(set(chosen)) > 3
    shuffled = stories.isel(sample=np.random.default_rng(0).permutation(40))
    assert set(split(shuffled, "topic", 0.4, 0)[1]["topic"].values) == set(chosen[0])


@pytest.mark.parametrize(("test", "held_out"), [(0.01, 1), (0.99, 4)])
def test_neither_part_is_empty(stories, test, held_out):
    assert len(set(split(stories, "topic", test, 0)[1]["topic"].values)) == held_out


@pytest.mark.parametrize("test", [0.0, 1.0, -0.5, 2.0, float("nan")])
def test_share_out_of_range(stories, test):
    with pytest.raises(DataError, match=r"cannot split by topic: 5 value\(s\), test share"):
        split(stories, "topic", test, 0)


def test_nothing_to_split(stories):
    with pytest.raises(DataError, match=r"1 value\(s\)"):
        split(stories.isel(sample=slice(8)), "topic", 0.5, 0)
    with pytest.raises(UnknownNameError, match=r"unknown coordinate 'topics'.* 'topic'"):
        split(stories, "topics", 0.5, 0)


# ---- layers ----------------------------------------------------------------------------------------------------------


def test_layers_are_picked_by_their_number(stories):
    picked = select_layers(stories, (5,))
    assert picked["layer"].values.tolist() == [5]
    np.testing.assert_array_equal(picked["mean"].values[:, 0], stories["mean"].values[:, 1])
    np.testing.assert_array_equal(select_layers(stories, (5, 2))["mean"].values, stories["mean"].values[:, ::-1])


def test_layers_that_are_not_there(stories):
    with pytest.raises(LayerError, match=r"layers \[0, -1\] were not captured; there are \[2, 5\]"):
        select_layers(stories, (0, 2, -1))


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stories", "replies"])
def test_save_and_load(tmp_path, kind, request):
    activations = request.getfixturevalue(kind)
    path = save_activations(tmp_path / "a.safetensors", activations)
    back = load_activations(path)
    xr.testing.assert_identical(back, activations)
    assert all(array.dtype == np.float32 for array in back.values())
    assert back["sample"].dtype == activations["sample"].dtype
    assert save_activations(tmp_path / "b.safetensors", back).read_bytes() == path.read_bytes()


def test_a_part_comes_back_too(tmp_path, stories):
    part = select_layers(split(stories, "topic", 0.4, 0)[1], (5,))
    xr.testing.assert_identical(load_activations(save_activations(tmp_path / "a.safetensors", part)), part)


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_truncated_file(tmp_path, stories, keep):
    path = save_activations(tmp_path / "a.safetensors", stories)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match=r"a\.safetensors"):
        load_activations(path)


def test_another_kind_of_file(tmp_path):
    path = store.write_arrays(tmp_path / "a.safetensors", {"mean": np.zeros((1, 1, 1))}, {"kind": "probes"})
    with pytest.raises(FileFormatError, match=r"a\.safetensors holds 'probes', not activations"):
        load_activations(path)
    with pytest.raises(MissingInputError, match="nothing"):
        load_activations(tmp_path / "nothing")
