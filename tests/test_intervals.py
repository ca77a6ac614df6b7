"""Intervals against scipy's, against all bootstrap samples of a few questions, and against the definition of the band."""

import itertools

import numpy as np
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from probes.errors import DataError
from probes.flips import sign_patterns
from probes.intervals import bootstrap_t_interval, simultaneous_interval, simultaneous_level, t_interval


def test_interval_is_scipys():
    values = np.random.default_rng(0).standard_t(3, size=(17, 5))
    mean, low, high = t_interval(values)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(mean, values.mean(axis=0))
    np.testing.assert_allclose(low, expected.low)
    np.testing.assert_allclose(high, expected.high)


def test_interval_leaves_missing_questions_out():
    values = np.random.default_rng(1).normal(size=(15, 3))
    values[:4, 0], values[:, 1], values[1:, 2] = np.nan, np.nan, np.nan
    mean, low, high = t_interval(values)
    expected = ttest_1samp(values[4:, 0], 0).confidence_interval(0.95)
    np.testing.assert_allclose([mean[0], low[0], high[0]], [values[4:, 0].mean(), expected.low, expected.high])
    assert np.isnan(mean[1])
    assert mean[2] == values[0, 2]
    assert np.isnan([low[1], low[2], high[1], high[2]]).all()


# ---- bootstrap-t -----------------------------------------------------------------------------------------------------


def all_bootstrap_ends(values, level):
    """Ends of the interval of one cell from all n^n samples, by the textbook."""
    n = len(values)
    drawn = values[np.array(list(itertools.product(range(n), repeat=n)))]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (drawn.mean(axis=1) - values.mean()) / (drawn.std(axis=1, ddof=1) / np.sqrt(n))
    t = np.nan_to_num(t, nan=0.0, posinf=np.inf, neginf=-np.inf)
    below, above = np.quantile(t, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    error = values.std(ddof=1) / np.sqrt(n)
    return values.mean() - above * error, values.mean() - below * error


@pytest.mark.parametrize("seed", [0, 1])
def test_bootstrap_t_is_that_of_all_samples(seed):
    values = np.random.default_rng(seed).gamma(1.0, size=(6, 2))
    mean, low, high = bootstrap_t_interval(values, 0.8, draws=9999)
    for cell in range(2):
        expected = all_bootstrap_ends(values[:, cell], 0.8)
        np.testing.assert_allclose([low[cell], high[cell]], expected, rtol=0.1)
    np.testing.assert_allclose(mean, values.mean(axis=0))


def test_bootstrap_t_follows_skew_and_the_t_interval_does_not():
    values = np.random.default_rng(2).lognormal(sigma=1.0, size=(40, 200))
    mean, low, high = bootstrap_t_interval(values)
    assert np.median((high - mean) / (mean - low)) > 1.5
    mean, low, high = t_interval(values)
    np.testing.assert_allclose(high - mean, mean - low)


def test_bootstrap_t_of_many_normal_questions_is_the_t_interval():
    values = np.random.default_rng(3).normal(size=(400, 8))
    for ours, theirs in zip(bootstrap_t_interval(values, draws=3999)[1:], t_interval(values)[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.015)


def test_bootstrap_t_leaves_missing_questions_out_and_cells_share_draws():
    values = np.random.default_rng(4).normal(size=(12, 3))
    holes = np.vstack([values, np.full((3, 3), np.nan)])
    holes[12:, 2] = 1.0
    for ours, theirs in zip(bootstrap_t_interval(holes), bootstrap_t_interval(values), strict=True):
        np.testing.assert_allclose(ours[:2], theirs[:2])
    same = bootstrap_t_interval(np.column_stack([values[:, 0], 2 * values[:, 0] + 1]))
    for both in same:
        assert both[1] == pytest.approx(2 * both[0] + 1)


def test_bootstrap_t_of_what_does_not_vary():
    values = np.column_stack([np.full(10, 0.3), [1.0] + [0.0] * 9, [1.0] + [np.nan] * 9])
    mean, low, high = bootstrap_t_interval(values)
    assert mean[0] == low[0] == high[0]
    assert np.isinf(high[1])  # a third of the draws lack the one that differs
    assert np.isnan([low[2], high[2]]).all()
    assert not np.isnan([low[1], high[1]]).any()


def test_too_few_draws_are_named():
    with pytest.raises(DataError, match=r"19 draws are too few for a level of 0\.95; take 40"):
        bootstrap_t_interval(np.ones((10, 1)), draws=19)


# ---- a family --------------------------------------------------------------------------------------------------------


def naive_level(values, level, flips, seed):
    """By the definition: double precision, Student's t of every pattern and cell, one at a time."""
    centred = values - np.nanmean(values, axis=0)
    smallest = []
    for signs in np.vstack(list(sign_patterns(len(values), flips, seed))):
        p = []
        for cell in centred.T:
            x = (signs * cell)[np.isfinite(cell)]
            t = abs(x.mean()) / (x.std(ddof=1) / np.sqrt(len(x)))
            p.append(2 * student.sf(t, len(x) - 1))
        smallest.append(min(p))
    undercut = int((1 - level) * (len(smallest) + 1) + 1e-9)
    return max(level, 1 - sorted(smallest)[undercut - 1])


@pytest.mark.parametrize(("n", "flips"), [(9, 1), (24, 400)])
def test_the_level_of_a_family_is_its_definition(n, flips):
    generator = np.random.default_rng(n)
    values = generator.standard_t(3, size=(n, 7)) + generator.normal(size=(n, 1)) + 2.0
    values[:2, 3] = np.nan
    expected = naive_level(values, 0.95, flips, 5)
    assert 0.95 < expected < 1
    assert 1 - simultaneous_level(values, 0.95, flips, 5) == pytest.approx(1 - expected, rel=1e-4)


def test_single_precision_moves_the_level_by_a_millionth(monkeypatch):
    values = np.random.default_rng(6).standard_t(3, size=(60, 300))
    single = simultaneous_level(values, flips=1000)
    monkeypatch.setattr(np, "float32", np.float64)
    double = simultaneous_level(values, flips=1000)
    assert single != double
    assert abs(single - double) < 1e-6 * (1 - double) * 1000


def test_a_family_of_one_has_its_own_interval_or_a_wider_one():
    values = np.random.default_rng(7).normal(size=(30, 1))
    _, low, high = t_interval(values)
    _, wide_low, wide_high = simultaneous_interval(values)
    assert wide_low <= low < high <= wide_high
    assert (wide_high - wide_low) / (high - low) == pytest.approx(1, abs=0.03)


def test_more_independent_cells_are_wider_and_copies_are_not():
    values = np.random.default_rng(8).normal(size=(40, 50))
    level = simultaneous_level(values)
    assert level == pytest.approx(0.95 ** (1 / 50), abs=5e-4)  # Šidák's level of independent cells
    assert simultaneous_level(values[:, :5]) < level
    assert simultaneous_level(np.tile(values[:, :1], 50)) == simultaneous_level(values[:, :1])


def test_an_effect_that_cells_share_does_not_pass_for_dependence():
    values = np.random.default_rng(9).normal(size=(40, 50))
    assert simultaneous_level(values + 100.0) == pytest.approx(simultaneous_level(values), abs=1e-6)


def test_a_question_without_any_answer_moves_no_pattern():
    values = np.random.default_rng(10).normal(size=(11, 4))
    holes = np.vstack([values[:3], np.full((2, 4), np.nan), values[3:]])
    assert simultaneous_level(holes) == simultaneous_level(values)


def test_families_without_an_interval():
    with pytest.raises(DataError, match="no cell has two questions"):
        simultaneous_interval(np.array([[1.0, np.nan]]))
    with pytest.raises(DataError, match=r"10 flips are too few for a level of 0\.95; take 20"):
        simultaneous_interval(np.random.default_rng(0).normal(size=(30, 2)), flips=10)
