"""Directions carried along with what texts became, on changes that are known."""

import numpy as np
import pytest

from probes.directions import EmotionProbes
from probes.errors import ConventionError, DataError
from probes.realignment import RIDGES, _left_out, realigned

EMOTIONS, FEATURES = ("calm", "guilty", "happy"), 16


@pytest.fixture
def probes(synthetic_activations):
    emotions = np.repeat(EMOTIONS, 6)
    mean = np.repeat(5 * np.eye(3, FEATURES), 6, axis=0)[:, None]
    return EmotionProbes("difference_of_means").fit(synthetic_activations(mean, emotion=emotions))


@pytest.fixture
def pair(synthetic_activations):
    """The same texts before and after a change of their activations."""

    def make(change, texts=80, noise=0.01):
        rng = np.random.default_rng(0)
        before = rng.standard_normal((texts, 1, FEATURES))
        after = change(before) + noise * rng.standard_normal(before.shape)
        return synthetic_activations(before), synthetic_activations(after)

    return make


def turned(values):
    """The first axis becomes the last one."""
    new = values.copy()
    new[..., 0], new[..., -1] = -values[..., -1], values[..., 0]
    return new


def test_a_direction_goes_where_the_texts_have_gone(probes, pair):
    again, facts = realigned(probes, *pair(turned))
    was, now = (one.directions_.sel(layer=0, emotion="calm").values for one in (probes, again))
    np.testing.assert_allclose(now, turned(was), atol=0.02)
    assert facts["foretold"].item() > 0.95
    assert facts["cosine"].item() < 0.95


def test_an_offset_turns_nothing_and_a_scale_turns_nothing(probes, pair):
    for change in (lambda values: values + 3.0, lambda values: 2.0 * values):
        again, _ = realigned(probes, *pair(change))
        np.testing.assert_allclose(again.directions_.values, probes.directions_.values, atol=0.02)


def test_noise_that_nothing_foretells_turns_a_direction_little(probes, pair):
    rng = np.random.default_rng(5)
    again, facts = realigned(probes, *pair(lambda values: values + rng.standard_normal(values.shape)))
    assert facts["ridge"].item() == RIDGES[-1]
    assert facts["foretold"].item() < 0.1
    assert facts["cosine"].item() > 0.99
    np.testing.assert_allclose(np.linalg.norm(again.directions_.values, axis=2), 1, rtol=1e-6)


def test_what_the_texts_do_not_speak_of_stays_as_it_is(probes, synthetic_activations):
    """Texts that differ along the last eight axes alone say nothing of the first ones, along which the probes lie."""
    values = np.random.default_rng(0).standard_normal((40, 1, FEATURES)) * (np.arange(FEATURES) >= 8)
    again, _ = realigned(probes, synthetic_activations(values), synthetic_activations(values[..., ::-1].copy()))
    np.testing.assert_allclose(again.directions_.values, probes.directions_.values, atol=1e-5)


def test_left_out_errors_are_those_of_leaving_texts_out():
    rng = np.random.default_rng(0)
    was, change, ridge = rng.standard_normal((12, 5)), rng.standard_normal((12, 5)), 0.7
    errors = 0.0
    for left in range(12):
        kept = np.arange(12) != left
        learnt = np.linalg.solve(was[kept].T @ was[kept] + ridge * np.eye(5), was[kept].T @ change[kept])
        errors += ((change[left] - was[left] @ learnt) ** 2).sum()
    assert _left_out(was @ was.T, change, ridge) == pytest.approx(errors)


def test_other_texts_and_few_texts_are_refused(probes, pair):
    before, after = pair(turned)
    with pytest.raises(ConventionError, match="differ in sample"):
        realigned(probes, before, after.isel(sample=slice(1, None)))
    with pytest.raises(DataError, match="12 texts say too little"):
        realigned(probes, *pair(turned, texts=12))
