"""Sign flips against brute force over all patterns, scipy's permutation test, and a naive loop for the step-down."""

import itertools

import numpy as np
import pytest
from scipy.stats import binom, permutation_test, ttest_1samp

from probes.errors import DataError
from probes.flips import flip_tests, holm_p, is_exact, sign_flip_p, sign_patterns


def all_patterns(n):
    return np.array(list(itertools.product([1, -1], repeat=n)))


def naive_step_down(values):
    """Westfall and Young's step-down by its definition: Student's t of every pattern, the most extreme cell left at a time."""
    n, cells = values.shape
    flipped = all_patterns(n)[:, :, None] * values
    t = np.abs(flipped.mean(axis=1) / (flipped.std(axis=1, ddof=1) / np.sqrt(n)))
    observed = np.abs(ttest_1samp(values, 0).statistic)
    left, largest_p, p = list(range(cells)), 0.0, np.empty(cells)
    while left:
        cell = max(left, key=lambda c: observed[c])
        beaten = t[:, left].max(axis=1) >= observed[cell] * (1 - 1e-9)
        largest_p = max(largest_p, beaten.mean())
        p[cell] = largest_p
        left.remove(cell)
    return p


# ---- a cell by itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_exact_flips_are_brute_force(n):
    values = np.random.default_rng(n).normal(0.4, 1, size=(n, 3))
    values[:, 2] = 1.0  # ties everywhere
    patterns = np.array(list(itertools.product([1, -1], repeat=n)))
    expected = (np.abs(patterns @ values) >= np.abs(values.sum(axis=0)) - 1e-9).mean(axis=0)
    np.testing.assert_allclose(sign_flip_p(values), expected)
    assert sign_flip_p(values)[2] == 2 / 2**n


def test_exact_flips_are_scipys_permutation_test():
    pairs = np.random.default_rng(12).gamma(1.0, size=(2, 9))
    theirs = permutation_test(pairs, lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p((pairs[0] - pairs[1])[:, None])[0] == pytest.approx(theirs.pvalue)


def test_sampled_flips_are_near_the_exact_ones(monkeypatch):
    values = np.random.default_rng(3).normal(0.4, 1, size=(13, 4))
    exact = sign_flip_p(values)
    monkeypatch.setattr("probes.flips.EXACT_FLIPS", 1)
    sampled = sign_flip_p(values, flips=40_000, seed=1)
    np.testing.assert_allclose(sampled, exact, atol=4 * np.sqrt(0.25 / 40_000))
    assert not np.array_equal(sampled, exact)


def test_a_sampled_p_is_never_zero():
    assert sign_flip_p(np.ones((30, 1)), flips=99)[0] == 1 / 100


def test_a_flip_of_a_question_is_shared_by_all_cells():
    values = np.random.default_rng(4).normal(size=(25, 1))
    p = sign_flip_p(np.hstack([values, 2 * values, -values]), flips=500)
    assert p[0] == p[1] == p[2]


def test_missing_questions_move_no_pattern():
    values = np.random.default_rng(5).normal(0.5, 1, size=(11, 1))
    holes = np.vstack([values, np.full((3, 1), np.nan)])
    assert sign_flip_p(holes)[0] == sign_flip_p(values)[0]
    assert np.isnan(sign_flip_p(np.full((3, 1), np.nan))[0])


def test_no_flips_is_an_error():
    with pytest.raises(DataError, match="flips is 0"):
        sign_flip_p(np.ones((3, 1)), flips=0)


def test_the_test_keeps_its_level_under_heavy_tails():
    data_sets = 400
    values = np.random.default_rng(11).standard_t(2, size=(24, data_sets))
    rejected = int((sign_flip_p(values, flips=2_000, seed=2) <= 0.05).sum())
    low, high = binom.ppf([0.0005, 0.9995], data_sets, 0.05)
    assert low <= rejected <= high


# ---- a family --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [4, 7, 10])
def test_the_step_down_is_the_naive_loop(n):
    generator = np.random.default_rng(n)
    shared = generator.standard_t(3, size=(n, 1))
    values = 0.7 * shared + generator.standard_t(3, size=(n, 6)) + np.linspace(0, 1.5, 6)
    tests = flip_tests(values)
    np.testing.assert_allclose(tests.p_adjusted, naive_step_down(values))
    assert tests.patterns == f"all {2**n:,}"


def test_cells_with_more_than_a_block_of_neighbours_are_the_naive_loop(monkeypatch):
    monkeypatch.setattr("probes.flips._CELLS", 3)
    monkeypatch.setattr("probes.flips._PATTERNS", 5)
    values = np.random.default_rng(0).normal(0.5, 1, size=(7, 11))
    np.testing.assert_allclose(flip_tests(values).p_adjusted, naive_step_down(values))


def test_sampled_patterns_are_counted_with_the_identity(monkeypatch):
    monkeypatch.setattr("probes.flips.EXACT_FLIPS", 1)
    values = np.random.default_rng(2).normal(0.4, 1, size=(9, 4))
    signs = np.vstack(list(sign_patterns(9, 3000, seed=7)))
    flipped = signs[:, :, None] * values
    t = np.abs(flipped.mean(axis=1) / flipped.std(axis=1, ddof=1))
    observed = np.abs(values.mean(axis=0) / values.std(axis=0, ddof=1))
    tests = flip_tests(values, flips=3000, seed=7)
    np.testing.assert_allclose(tests.p, ((t >= observed * (1 - 1e-9)).sum(axis=0) + 1) / 3001)
    first = observed.argmax()
    assert tests.p_adjusted[first] == ((t.max(axis=1) >= observed[first] * (1 - 1e-9)).sum() + 1) / 3001
    assert tests.patterns == "3,000 sampled"


def test_identical_cells_cost_nothing_and_independent_ones_do():
    values = np.random.default_rng(3).normal(0.6, 1, size=(12, 1))
    alone = flip_tests(values).p[0]
    same = flip_tests(np.hstack([values, 3 * values, -values]))
    assert set(same.p_adjusted) == {alone}
    others = np.random.default_rng(4).normal(size=(12, 40))
    assert flip_tests(np.hstack([values, others])).p_adjusted[0] > alone


def test_adjusted_p_is_at_least_p_and_in_its_order():
    values = np.random.default_rng(5).normal(0.3, 1, size=(14, 30))
    tests = flip_tests(values)
    order = np.argsort(tests.p)
    assert (tests.p_adjusted >= tests.p).all()
    assert (np.diff(tests.p_adjusted[order]) >= 0).all()


def test_the_scale_of_a_cell_does_not_matter():
    values = np.random.default_rng(6).normal(0.4, 1, size=(11, 5))
    scales = np.array([1e-200, 1e-3, 1.0, 1e5, 1e200])
    for ours, theirs in zip(flip_tests(values)[:2], flip_tests(values * scales)[:2], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_cells_of_zeros_and_of_one_number_have_a_p():
    values = np.column_stack([np.zeros(6), np.full(6, 0.1), np.random.default_rng(7).normal(size=6)])
    tests = flip_tests(values)
    assert tests.p[:2].tolist() == [1.0, 2 / 2**6]
    assert np.isfinite(tests.p_adjusted).all()


def test_a_cell_without_questions_is_not_in_the_family():
    values = np.random.default_rng(8).normal(0.5, 1, size=(10, 3))
    holes = np.column_stack([values, np.full(10, np.nan)])
    tests = flip_tests(holes)
    assert np.isnan(tests.p[3])
    assert np.isnan(tests.p_adjusted[3])
    np.testing.assert_array_equal(tests.p_adjusted[:3], flip_tests(values).p_adjusted)


def test_cells_of_different_n_are_held_against_each_other_by_self_normalised_sums():
    values = np.random.default_rng(9).normal(0.5, 1, size=(10, 3))
    values[:3, 0] = np.nan
    used = np.nan_to_num(values)
    z = np.abs(all_patterns(10) @ used) / np.sqrt((used**2).sum(axis=0))
    first = np.argmax(z[0])
    assert flip_tests(values).p_adjusted[first] == (z.max(axis=1) >= z[0, first] * (1 - 1e-9)).mean()


def test_patterns_are_half_of_all_and_their_opposites_are_the_rest():
    signs = np.vstack(list(sign_patterns(6, 1, 0)))
    both = {tuple(row) for row in np.vstack([signs, -signs])}
    assert len(signs) == 32
    assert both == {tuple(row) for row in all_patterns(6)}
    assert is_exact(19)
    assert not is_exact(20)


def test_holm_is_its_definition_and_refused_where_flips_are_too_few():
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(holm_p(p, flips=99), [0.03, np.nan, 0.06, 0.06, 0.02])
    with pytest.raises(
        DataError, match=r"99 flips cannot carry Holm's correction of 41 cells at 0.05: at least 819 are"
    ):
        holm_p(np.full(41, 0.5), flips=99)
    assert (holm_p(np.full(41, 0.5), flips=819) == 1).all()


def test_differences_are_a_table():
    with pytest.raises(DataError, match=r"differences have the shape \(4,\); a table of questions by cells"):
        flip_tests(np.ones(4))
