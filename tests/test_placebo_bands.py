"""Bands of directions without an emotion: the same arithmetic as claims, the spread of a closed form, and who is inside."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import stdtrit

from conftest import ABOUT
from probes.comparison import compare
from probes.directions import DOT, EmotionProbes
from probes.errors import DataError
from probes.estimands import level_shifts
from probes.gates import NOT_MEASURABLE
from probes.null_directions import MATCHED
from probes.placebo_bands import BAND_COLUMNS, placebo_bands, placebo_probes, text_centres, within_placebos
from probes.unseen import Bank
from probes.verdict import BY_BOTH, BY_GAP, BY_LEVEL

LAYERS, WIDTH = (2, 4), 24
ARMS = [("benign", 0), ("harmful", 0), ("harmful", 1), ("affect", 0), ("affect", 1), ("affect", 2)]


@pytest.fixture
def answers(synthetic_activations):
    """Twelve questions in three arms with unequally many sentences, on one text and on own ones, of a checkpoint."""

    def make(checkpoint, seed, lost=()):
        rng = np.random.default_rng(seed)
        rows = [(q, arm, k, source) for q in range(12) for arm, k in ARMS for source in ("original", "own")]
        columns = {
            "question": [f"q{q:02d}" for q, *_ in rows], "arm": [arm for _, arm, *_ in rows], "control": [row[2] for row in rows],
            "text_source": [row[3] for row in rows], "missing": ["refused" if q in lost else "" for q, *_ in rows],
        }  # fmt: skip
        level = np.array([3.0 * (arm == "harmful") + 0.2 * q * k for q, arm, k, _ in rows])
        mean = rng.standard_normal((len(rows), len(LAYERS), WIDTH)) + level[:, None, None]
        about = {"checkpoint": checkpoint}
        return synthetic_activations(
            mean, mean, LAYERS, about, sample=[f"s{i}" for i in range(len(rows))], checkpoint=checkpoint, **columns
        )

    return make


@pytest.fixture
def probes(synthetic_activations):
    vectors = np.random.default_rng(1).standard_normal((30, len(LAYERS), WIDTH))
    stories = synthetic_activations(vectors, layers=LAYERS, emotion=["calm", "guilty", "happy"] * 10)
    return EmotionProbes("difference_of_means").fit(stories)


def test_emotions_in_the_place_of_placebos_read_what_their_claims_say(answers, probes):
    """The oracle: paired differences of readings, question by question."""
    both = {name: answers(name, seed, lost=(3,)) for seed, name in enumerate(("original", "tuned"))}
    read = pd.concat([probes.read(one, [DOT]) for one in both.values()], ignore_index=True)
    gap = compare(read[read["checkpoint"] == "tuned"], "harmful", "affect", flips=100)
    claims = pd.concat([gap, level_shifts(read, "original", flips=100)]).assign(outcome="equivalent")
    gates = claims.drop_duplicates(["checkpoint", "layer", "emotion"]).assign(gain=4.0)
    centres = {name: text_centres(one) for name, one in both.items()}
    bands = placebo_bands({"emotions": probes}, centres, claims, gates, "benign")
    assert tuple(bands.columns) == BAND_COLUMNS
    assert (bands["n_questions"] == 11).all()
    same = claims[claims["text_source"] == "original"]
    means = same.groupby(["layer", "arm", "reference"])["mean"]
    found = bands.groupby(["layer", "arm", "reference"])[["low", "high"]].first()
    np.testing.assert_allclose(found["low"], means.min() / 4, atol=1e-5)
    np.testing.assert_allclose(found["high"], means.max() / 4, atol=1e-5)
    assert len(bands) == len(same) == 2 * 2 * 3
    lost = claims.assign(outcome=np.where(claims["emotion"] == "calm", NOT_MEASURABLE, "equivalent"))
    assert set(placebo_bands({"emotions": probes}, centres, lost, gates, "benign")["emotion"]) == {"guilty", "happy"}


def test_one_text_has_the_same_questions_in_every_arm(answers):
    there = answers("original", 0)
    assert text_centres(there)["n_questions"].values.tolist() == [12] * 3
    some = there.isel(sample=~((there["arm"].values == "affect") & (there["question"].values == "q03")))
    with pytest.raises(DataError, match=r"the same questions in every arm, and has benign 12, harmful 12, affect 11"):
        text_centres(some)
    with pytest.raises(DataError, match=r"and has none"):
        text_centres(there.isel(sample=there["text_source"].values == "own"))


def bank_of(synthetic_activations, covariance):
    rng = np.random.default_rng(2)
    texts = [f"I said it {'was' if i % 2 else 'is'} here." + " Rain." * (i % 3) for i in range(48)]
    told = synthetic_activations(rng.standard_normal((48, 2, WIDTH)), layers=LAYERS, text=texts)
    plain = synthetic_activations(rng.standard_normal((6, 2, WIDTH)), layers=LAYERS)
    return Bank(SimpleNamespace(covariance=lambda layer: covariance, about=ABOUT), plain, plain)._replace(held_out=told)


def spread(probes, axis):
    """97.5 % of what the directions read along an axis."""
    return np.quantile(probes.directions_.sel(layer=LAYERS[0]).values @ axis, 0.975)


def test_directions_spread_as_the_stories_do(synthetic_activations):
    """The closed form of an even sphere; and of one wide axis, along which all directions lie."""
    one = np.eye(WIDTH)[0]
    even = placebo_probes(bank_of(synthetic_activations, np.eye(WIDTH)), LAYERS, "difference_of_means")
    t = stdtrit(WIDTH - 1, 0.975)
    assert spread(even[MATCHED], one) == pytest.approx(t / np.sqrt(WIDTH - 1 + t**2), rel=0.1)
    wide = placebo_probes(
        bank_of(synthetic_activations, np.diag([1e4] + [1.0] * (WIDTH - 1))), LAYERS, "difference_of_means"
    )
    assert spread(wide[MATCHED], one) > 0.99
    assert spread(wide[MATCHED], np.eye(WIDTH)[5]) < 0.2


def test_placebos_whose_stories_are_all_alike_are_not_made(synthetic_activations):
    made = placebo_probes(bank_of(synthetic_activations, np.eye(WIDTH)), LAYERS, "difference_of_means")
    assert set(made) == {MATCHED, "topic", "tense", "length"}  # all tell of themselves
    assert made["tense"].emotions == ("past", "present")
    np.testing.assert_allclose(made["tense"].directions_.sum("emotion"), 0, atol=1e-5)  # two kinds, one axis


def test_a_verdict_is_within_where_all_it_rests_on_is():
    claims = pd.DataFrame(
        [("tuned", 3, emotion, "original", *what, mean)
         for emotion, *means in (("a", 0.5, 0.1, 0.5), ("b", 0.1, 0.5, 0.5), ("c", 0.1, 0.5, 0.1))
         for what, mean in zip((("harmful", "affect"), ("tuned", "original"), ("tuned", "control")), means, strict=True)]
        + [("tuned", 3, "b", "original", "harmful", "benign", 0.5)],
        columns=["checkpoint", "layer", "emotion", "text_source", "arm", "reference", "mean"],
    )  # fmt: skip
    bands = claims.drop(columns="mean").assign(placebo=MATCHED, low=-0.2, high=0.2)
    verdicts = pd.DataFrame(
        [("tuned", 3, emotion, by) for emotion in "abc" for by in (BY_GAP, BY_LEVEL, BY_BOTH, "")],
        columns=["checkpoint", "layer", "emotion", "by"],
    )
    found = within_placebos(verdicts, claims, bands, "affect")["within_placebos"].tolist()
    assert found == [False, True, False, False, True, False, False, False, True, True, True, False]
