"""Claims of no difference against scipy's one-sided tests, and power against simulations of the very tests."""

import numpy as np
import pytest
from scipy.stats import binom, nct, ttest_1samp
from scipy.stats import t as student

from probes.declaration import Declaration
from probes.equivalence import equivalent_p, not_lower_p, outcomes
from probes.errors import DataError
from probes.intervals import t_interval
from probes.power import (
    planned_power,
    power_different,
    power_equivalent,
    power_not_lower,
    questions_needed,
    smallest_effect,
)


def simulated(statistic, mean=0.0, data_sets=20_000, n=24, sd=0.2):
    """Share of normal data sets in which the p value is at most .05, and its bounds of 99.9 %."""
    values = np.random.default_rng(n).normal(mean, sd, size=(n, data_sets))
    share = np.mean(statistic(values) <= 0.05)
    return share, 3.3 * np.sqrt(share * (1 - share) / data_sets)


# ---- claims ----------------------------------------------------------------------------------------------------------


def test_one_sided_and_two_one_sided_p_are_scipys():
    values = np.random.default_rng(0).normal(0.03, 0.2, size=(20, 6))
    lower = ttest_1samp(values, -0.1, alternative="greater").pvalue
    upper = ttest_1samp(values, 0.1, alternative="less").pvalue
    np.testing.assert_allclose(not_lower_p(values, 0.1), lower)
    np.testing.assert_allclose(equivalent_p(values, 0.1), np.maximum(lower, upper))


def test_equivalence_is_the_interval_of_90_percent_within_the_margin():
    values = np.random.default_rng(1).normal(0.02, 0.2, size=(30, 400))
    _, low, high = t_interval(values, 0.9)
    inside = (low > -0.1) & (high < 0.1)
    assert 0.1 < inside.mean() < 0.9
    np.testing.assert_array_equal(equivalent_p(values, 0.1) < 0.05, inside)


def test_a_large_p_of_difference_is_no_equivalence():
    values = np.random.default_rng(2).normal(0, 3, size=(12, 1))
    different = ttest_1samp(values, 0).pvalue
    assert different[0] > 0.05
    assert equivalent_p(values, 0.1)[0] > 0.05
    assert outcomes(different, equivalent_p(values, 0.1)).tolist() == ["inconclusive"]


def test_missing_questions_are_left_out_and_too_few_have_no_claim():
    values = np.random.default_rng(3).normal(0.03, 0.1, size=(15, 2))
    holes = np.vstack([values, np.full((2, 2), np.nan)])
    for claim in (not_lower_p, equivalent_p):
        np.testing.assert_allclose(claim(holes, 0.1), claim(values, 0.1))
        assert np.isnan(claim(np.array([[0.1], [np.nan]]), 0.1)[0])


def test_what_does_not_vary_is_inside_or_outside():
    values = np.tile([0.0, 0.05, -0.15, 0.2], (12, 1))
    assert equivalent_p(values, 0.1).tolist() == [0, 0, 1, 1]
    assert not_lower_p(values, 0.1).tolist() == [0, 0, 1, 0]


def test_four_outcomes():
    p = np.array([0.01, 0.5, 0.01, 0.5, np.nan, 0.01])
    q = np.array([0.5, 0.01, 0.01, 0.5, 0.01, np.nan])
    assert outcomes(p, q).tolist() == [
        "different",
        "equivalent",
        "both",
        "inconclusive",
        "inconclusive",
        "inconclusive",
    ]


@pytest.mark.parametrize("delta", [0.0, -0.1, np.nan, np.inf])
def test_a_margin_is_positive(delta):
    for claim in (not_lower_p, equivalent_p):
        with pytest.raises(DataError, match=f"delta is {delta}; a margin is a positive number"):
            claim(np.ones((3, 1)), delta)


# ---- power -----------------------------------------------------------------------------------------------------------


def test_power_of_a_difference_is_that_of_simulations():
    share, bound = simulated(lambda values: ttest_1samp(values, 0).pvalue, mean=0.1)
    assert 0.5 < share < 0.9
    assert power_different(24, 0.2, 0.1) == pytest.approx(share, abs=bound)


@pytest.mark.parametrize(("power_of", "claim"), [(power_not_lower, not_lower_p), (power_equivalent, equivalent_p)])
@pytest.mark.parametrize("delta", [0.1, 0.06])
def test_power_of_no_difference_is_that_of_simulations(power_of, claim, delta):
    share, bound = simulated(lambda values: claim(values, delta))
    assert power_of(24, 0.2, delta) == pytest.approx(share, abs=bound)


@pytest.mark.parametrize("n", [2, 5, 24, 200])
@pytest.mark.parametrize("level", [0.05, 1e-4])
def test_power_is_that_of_noncentral_t(n, level):
    shift, sided, limit = np.sqrt(n) / 2, student.ppf(1 - level, n - 1), student.ppf(1 - level / 2, n - 1)
    different = nct.sf(limit, n - 1, shift) + nct.cdf(-limit, n - 1, shift)
    assert power_different(n, 0.2, 0.1, level) == pytest.approx(different, abs=1e-4)
    assert power_not_lower(n, 0.2, 0.1, level) == pytest.approx(nct.sf(sided, n - 1, shift), abs=1e-4)


def test_power_without_an_effect_is_the_level_and_grows_to_1():
    assert power_different(15, 1.0, 0.0) == pytest.approx(0.05, abs=1e-4)
    assert power_different(15, 1.0, 3.0) == pytest.approx(1.0)
    assert power_different(15, 1.0, -0.8) == pytest.approx(power_different(15, 1.0, 0.8))
    assert power_equivalent(10, 1.0, 0.1) < 0.01


@pytest.mark.parametrize("power_of", [power_different, power_not_lower, power_equivalent])
def test_questions_needed_are_the_fewest(power_of):
    n = questions_needed(power_of, 0.8, 0.2, 0.1)
    assert power_of(n, 0.2, 0.1, 0.05) >= 0.8 > power_of(n - 1, 0.2, 0.1, 0.05)


def test_questions_needed_of_a_medium_effect_are_the_textbooks():
    assert questions_needed(power_different, 0.8, 1.0, 0.5) == 34  # Cohen 1988, table 2.4.1, for one sample


def test_the_smallest_effect_has_the_power_asked_for():
    effect = smallest_effect(60, 0.2)
    assert power_different(60, 0.2, effect) == pytest.approx(0.8, abs=1e-9)
    assert smallest_effect(60, 0.4) == pytest.approx(2 * effect)


def test_what_cannot_be_planned():
    with pytest.raises(DataError, match=r"1,000,000 questions do not reach a power of 0\.8 for 1e-05"):
        questions_needed(power_different, 0.8, 1.0, 1e-5)
    with pytest.raises(DataError, match=r"power is 1\.2; a share between the level 0\.05 and 1"):
        questions_needed(power_different, 1.2, 1.0, 0.5)
    with pytest.raises(DataError, match="1 questions have no standard error"):
        power_different(1, 1.0, 0.5)
    with pytest.raises(DataError, match="sd is 0; a positive number"):
        power_not_lower(10, 0, 0.5)


def test_the_plan_of_a_family_says_its_power_for_each_claim():
    declared = Declaration(
        "main", ("antirefusal",), ("guilty", "calm"), (32, 41), ("own",), "anchored_dot", 0.1, 60, 0.2, flips=99
    )
    plan = planned_power(declared)
    assert plan["power"].tolist() == [f(60, 0.2, 0.1) for f in (power_different, power_not_lower, power_equivalent)]
    assert plan["power_in_family"][0] == power_different(60, 0.2, 0.1, 0.05 / 4)
    assert (plan["power_in_family"] < plan["power"]).all()
    assert plan["n_for_80"].tolist()[0] == questions_needed(power_different, 0.8, 0.2, 0.1)
    assert set(plan["family_sha"]) == {declared.sha256}


def test_two_one_sided_tests_keep_their_level_at_the_margin():
    share = np.mean(equivalent_p(np.random.default_rng(5).normal(0.1, 0.1, size=(24, 5000)), 0.1) <= 0.05)
    low, high = binom.ppf([0.0005, 0.9995], 5000, 0.05) / 5000
    assert low <= share <= high
