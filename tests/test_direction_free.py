"""What tells arms apart, on differences whose direction is known; the classifier and the squares against their definitions."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probes import direction_free as free
from probes import figures
from probes.direction_free import PARTS, arm_differences, span_shares, told_apart
from probes.direction_free_figures import read_told_points, told_figure, told_points
from probes.directions import EmotionProbes
from probes.errors import DataError, UnknownNameError
from probes.estimands import HALVES
from probes.figures import write_figure
from probes.page import WATERMARK

EMOTIONS, FEATURES, QUESTIONS = ("calm", "guilty", "happy"), 40, 60
ABOUT = {"model": "m", "checkpoint": "tuned", "evidence": "toy", "layer_convention": "layer i is the output of block i"}


@pytest.fixture
def probes(synthetic_activations):
    """Three emotions along the first three axes: counted from their mean they span two directions."""
    emotions = np.repeat(EMOTIONS, 6)
    mean = np.repeat(5 * np.eye(3, FEATURES), 6, axis=0)[:, None]
    return EmotionProbes("difference_of_means").fit(synthetic_activations(mean, emotion=emotions))


def differences(along: np.ndarray, seed: int = 0, questions: int = QUESTIONS) -> xr.DataArray:
    """Noise of size 1 in every feature, moved by `along`."""
    values = along + np.random.default_rng(seed).standard_normal((questions, 1, FEATURES))
    names = [f"q{i:02d}" for i in range(questions)]
    about = {**ABOUT, "arm": "harmful", "reference": "affect"}
    return xr.DataArray(values, {"question": names, "layer": [0]}, ("question", "layer", "feature"), attrs=about)


def axis(*sizes: tuple[int, float]) -> np.ndarray:
    vector = np.zeros(FEATURES)
    for place, size in sizes:
        vector[place] = size
    return vector


INSIDE, OUTSIDE = axis((0, 1.5), (1, -1.5)), axis((30, 2.5))
PLAIN = np.random.default_rng(3).standard_normal((50, 1, FEATURES))


# ---- differences -----------------------------------------------------------------------------------------------------


@pytest.fixture
def replies(synthetic_activations):
    """Twelve questions: benign, harmful, and four sentences of affect and neutral; the value of a feature says which."""
    arms = [("benign", 0), ("harmful", 0), *((arm, k) for arm in ("affect", "neutral") for k in range(4))]
    rows = [(q, arm, k, source) for q in range(12) for source in ("own", "original") for arm, k in arms]
    values = {"benign": 1.0, "harmful": 2.0, "affect": 10.0, "neutral": 20.0}
    mean = np.array(
        [[[values[arm] + k * (arm != "harmful") + 100 * (source == "own") + q]] for q, arm, k, source in rows]
    )
    made = synthetic_activations(mean)
    coords = {
        "question": [f"q{q:02d}" for q, *_ in rows], "arm": [arm for _, arm, *_ in rows], "control": [k for *_, k, _ in rows],
        "text_source": [source for *_, source in rows], "missing": [""] * len(rows),
    }  # fmt: skip
    return made.assign_coords({name: ("sample", value) for name, value in coords.items()})


def test_a_difference_is_of_the_same_text_with_the_mean_over_sentences(replies):
    made = arm_differences(replies, "harmful", "affect")
    np.testing.assert_allclose(made.values, 2.0 - (10.0 + 1.5))
    assert made.dims == ("question", "layer", "feature")
    np.testing.assert_allclose(arm_differences(replies, *HALVES).values, -1.0)  # 0 and 2 against 1 and 3


def test_a_text_that_is_missing_takes_its_question_out(replies):
    lost = (replies["question"].values == "q03") & (replies["arm"].values == "harmful")
    made = arm_differences(
        replies.assign_coords(missing=("sample", np.where(lost, "refused", ""))), "harmful", "benign"
    )
    assert "q03" not in made["question"].values
    assert made.sizes["question"] == 11


def test_arms_and_questions_that_are_lacking(replies):
    with pytest.raises(UnknownNameError, match="arm of the same text 'harmfull'"):
        arm_differences(replies, "harmfull", "affect")
    few = replies.isel(sample=replies["question"].values < "q05")
    with pytest.raises(DataError, match="5 questions have the same text in harmful and affect; 10 are needed"):
        arm_differences(few, "harmful", "affect")


# ---- the classifier --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("along", "seen"), [(INSIDE, PARTS[:2]), (OUTSIDE, (PARTS[0], PARTS[2])), (axis(), ())])
def test_a_difference_is_told_where_it_is_and_nowhere_else(along, seen, probes):
    told = told_apart(differences(along), probes, flips=99).set_index("part")
    assert {part for part in PARTS if told["p"][part] <= 0.05} == set(seen)
    for part in seen:
        assert told["accuracy"][part] > told["null_high"][part]
        assert told["low"][part] < told["accuracy"][part] <= told["high"][part] + 1e-9


def test_the_classifier_is_ridge_least_squares_of_one_on_differences():
    vectors, rng = differences(INSIDE)[:, 0].values, np.random.default_rng(1)
    folds = rng.permutation(np.arange(QUESTIONS) % free.FOLDS)
    right = []
    for fold in range(free.FOLDS):
        seen = vectors[folds != fold]
        ridge = free.RIDGE * (seen**2).sum() / len(seen)
        weights = np.linalg.solve(seen.T @ seen + ridge * np.eye(FEATURES), seen.sum(axis=0))
        right += (vectors[folds == fold] @ weights > 0).tolist()
    signs = rng.choice([-1.0, 1.0], size=QUESTIONS)
    found = free._accuracies(vectors @ vectors.T, folds, np.stack([np.ones(QUESTIONS), signs]))
    assert found[0] == np.mean(right)
    flipped = vectors * signs[:, None]
    assert found[1] == free._accuracies(flipped @ flipped.T, folds, np.ones((1, QUESTIONS)))[0]


def test_where_there_is_nothing_few_data_sets_say_so(probes):
    """At a level of .1, of 60 data sets 13 or fewer in 99 % of cases."""
    p = [told_apart(differences(axis(), seed, 20), probes, flips=39)["p"].iloc[0] for seed in range(60)]
    assert sum(value <= 0.1 for value in p) <= 13


# ---- the span --------------------------------------------------------------------------------------------------------


def test_the_share_is_the_planted_one_and_random_spans_hold_less(probes):
    row = span_shares(
        differences(2 * (0.6 * INSIDE / np.linalg.norm(INSIDE) + 0.8 * OUTSIDE / 2.5)), probes, PLAIN
    ).iloc[0]
    assert row["low"] < 0.36 < row["high"]
    assert row["share"] == pytest.approx(0.36, abs=0.06)
    assert row["directions"] == 2
    assert row["null_high"] < row["low"]
    assert row["length"] == pytest.approx(2, abs=0.2)


def test_without_a_difference_there_is_no_share_but_a_reason(probes):
    row = span_shares(differences(axis()), probes, PLAIN).iloc[0]
    assert np.isnan(row["share"])
    assert row["note"] == free.NO_DIFFERENCE


def test_squares_are_products_of_two_different_questions():
    vectors = differences(INSIDE, questions=7)[:, 0].values
    products = vectors @ vectors.T
    pairs = [[products[i, j] for i in kept for j in kept if i != j]
             for kept in (range(7), *([i for i in range(7) if i != left] for left in range(7)))]  # fmt: skip
    np.testing.assert_allclose(free._squares(vectors), [np.mean(some) for some in pairs])


# ---- the figure ------------------------------------------------------------------------------------------------------


def test_the_figure_is_drawn_again_from_its_csv_and_stamped(probes, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "_lack_for_images", lambda: "there is no browser")
    made = [differences(OUTSIDE), differences(axis())]
    told = pd.concat([told_apart(one, probes, flips=19) for one in made])
    shares = pd.concat([span_shares(one, probes, PLAIN, spans=20) for one in made])
    second = told.assign(checkpoint="benign_control"), shares.assign(checkpoint="benign_control")
    points = told_points(
        pd.concat([told.iloc[:3], second[0].iloc[3:]]), pd.concat([shares.iloc[:1], second[1].iloc[1:]])
    )
    write_figure(tmp_path, "told", points, told_figure(points), {})
    again = told_figure(read_told_points(tmp_path / "told.csv"))
    write_figure(tmp_path / "again", "told", points, again, {})
    assert (tmp_path / "told.json").read_bytes() == (tmp_path / "again" / "told.json").read_bytes()
    texts = [str(annotation.text) for annotation in again.layout.annotations]
    assert sum(WATERMARK in text for text in texts) == 2
    assert any("1 points are not drawn" in text.replace("<br>", " ") for text in texts)
