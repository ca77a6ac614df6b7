"""Variance components: the analysis of variance where it is balanced, dense matrices where it is not, and planted truth."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest

from probes.errors import ConventionError, DataError, UnknownNameError, UnmatchedPairError
from probes.variance import COLUMNS, CROSSED, FACTORS, NEEDED, RESIDUAL, TERMS, observations, variance_components
from test_comparison import _readings

TRUTH = {
    "question": 1.0, "control sentence": 0.5, "sample": 0.3, "story seed": 0.4, "training run": 0.6,
    "question × story seed": 0.2, "question × training run": 0.25, RESIDUAL: 0.1,
}  # fmt: skip


def layout(questions=12, controls=3, samples=2, seeds=3, runs=3):
    sizes = (questions, controls, samples, seeds, runs)
    return pd.DataFrame(list(itertools.product(*map(range, sizes))), columns=list(FACTORS))


def drawn(table, seed=0, truth=TRUTH):
    """Values with an effect of every term."""
    generator = np.random.default_rng(seed)
    value = 5.0 + np.sqrt(truth[RESIDUAL]) * generator.normal(size=len(table))
    for term, labels in TERMS.items():
        codes = table.groupby(list(labels)).ngroup().to_numpy()
        value = value + np.sqrt(truth[term]) * generator.normal(size=codes.max() + 1)[codes]
    return table.assign(value=value)


def row(table, term):
    return table.set_index("term").loc[term]


def test_one_factor_is_the_analysis_of_variance():
    table = drawn(layout(controls=1, samples=6, seeds=1, runs=1))
    groups = table.groupby("question")["value"]
    within = groups.var(ddof=1).mean()
    between = groups.mean().var(ddof=1)
    found = variance_components(table)
    assert row(found, RESIDUAL)["variance"] == pytest.approx(within)
    assert row(found, "question")["variance"] == pytest.approx(between - within / 6)


def test_two_crossed_factors_are_the_analysis_of_variance():
    """Questions by training runs with two samples each: the mean squares of Searle's textbook table."""
    table = drawn(layout(controls=1, samples=2, seeds=1, runs=3))
    cube = table.pivot_table(index="question", columns=["training_run", "sample"], values="value").to_numpy()
    cube = cube.reshape(12, 3, 2)
    cells, q, r, m = cube.mean(axis=2), cube.mean(axis=(1, 2)), cube.mean(axis=(0, 2)), cube.mean()
    ms_e = ((cube - cells[:, :, None]) ** 2).sum() / (12 * 3)
    ms_qr = 2 * ((cells - q[:, None] - r + m) ** 2).sum() / (11 * 2)
    ms_q, ms_r = 6 * q.var(ddof=1), 24 * r.var(ddof=1)
    found = variance_components(table)
    assert row(found, RESIDUAL)["variance"] == pytest.approx(ms_e)
    assert row(found, "question × training run")["variance"] == pytest.approx((ms_qr - ms_e) / 2)
    assert row(found, "question")["variance"] == pytest.approx((ms_q - ms_qr) / 6)
    assert row(found, "training run")["variance"] == pytest.approx((ms_r - ms_qr) / 24)


def dense(table):
    """The moment equations with matrices of every pair of observations."""
    n = len(table)
    centre = np.eye(n) - 1 / n
    alike = [
        np.equal.outer(codes, codes).astype(float)
        for codes in (table.groupby(list(labels)).ngroup().to_numpy() for labels in TERMS.values())
    ]
    forms = [centre @ one @ centre for one in [*alike, np.eye(n)]]
    value = table["value"].to_numpy()
    matrix = [[np.sum(a * b) for b in forms] for a in forms]
    return dict(zip(TRUTH, np.linalg.solve(matrix, [value @ form @ value for form in forms]), strict=True))


def test_a_layout_with_holes_is_that_of_dense_matrices():
    table = drawn(layout(questions=5)).sample(frac=0.7, random_state=0)
    found = variance_components(table).set_index("term")["variance"]
    for term, expected in dense(table).items():
        assert found[term] == pytest.approx(expected), term


def test_planted_variances_are_found_without_bias():
    holes = layout(questions=9, controls=2).sample(frac=0.85, random_state=1)
    found = pd.DataFrame([variance_components(drawn(holes, seed)).set_index("term")["variance"] for seed in range(120)])
    error = found.std() / np.sqrt(len(found))
    for term, truth in TRUTH.items():
        assert abs(found[term].mean() - truth) < 3.5 * error[term], term


def test_intervals_cover_what_was_planted():
    plan = layout(questions=20, controls=2, runs=3)
    tables = [variance_components(drawn(plan, seed)).set_index("term") for seed in range(40)]
    for term, truth in TRUTH.items():
        covered = np.mean([one.loc[term, "low"] <= truth <= one.loc[term, "high"] for one in tables])
        assert covered >= 0.825, term  # 95 % would be below that once in a thousand times
    assert all((one["low"] >= 0).all() and (one["low"] < one["high"]).all() for one in tables)


@pytest.mark.parametrize(
    ("sizes", "lacking", "holds"),
    [
        ({"runs": 1}, {"training run", "question × training run"}, {"question": "holds question × training run"}),
        ({"seeds": 1}, {"story seed", "question × story seed", "sample"}, {RESIDUAL: "holds sample"}),
        ({"samples": 1, "runs": 1}, {"sample", "training run", "question × training run"}, {"control sentence": "holds sample"}),
        (
            {"samples": 1, "runs": 1, "seeds": 1},
            {"control sentence", "sample", "training run", "question × training run", "story seed", "question × story seed"},
            {RESIDUAL: "holds control sentence, sample"},
        ),
    ],
)  # fmt: skip
def test_what_the_layout_cannot_tell_has_a_reason_and_no_number(sizes, lacking, holds):
    found = variance_components(drawn(layout(**sizes)))
    assert tuple(found.columns) == COLUMNS
    assert set(found.loc[found["variance"].isna(), "term"]) == lacking
    for term in lacking:
        assert row(found, term)["note"].startswith("not estimable: ")
        assert row(found, term)["note"].endswith(f"; needs {NEEDED[term]}")
        assert np.isnan([row(found, term)["low"], row(found, term)["high"]]).all()
        assert row(found, term)["interval"] == ""
    for term, note in holds.items():
        assert row(found, term)["note"] == note
    others = found[found["variance"].notna() & ~found["term"].isin(holds)]
    assert all(re.fullmatch(r"(holds question × .*)?", note) for note in others["note"])


def test_a_layout_that_mixes_two_terms_determines_neither():
    """Each training run has a story seed of its own."""
    table = drawn(layout()).query("story_seed == training_run")
    found = variance_components(table)
    assert row(found, "training run")["note"].startswith("not estimable: its groups are those of story seed")
    assert "holds training run" in row(found, "story seed")["note"]


def test_few_questions_have_no_interval_and_runs_keep_theirs():
    found = variance_components(drawn(layout(questions=6))).set_index("term")
    assert found["variance"].notna().all()
    assert set(found.loc[found["high"].notna()].index) == set(CROSSED)
    assert found.loc["question", "note"] == "interval refused: 6 questions, at least 10 needed"


def test_observations_are_differences_from_the_mean_of_the_reference():
    readings = _readings(n=12, arms=(("harmful", 1), ("affect", 3)), emotions=("calm",))
    table = observations(readings, "affect", "harmful")
    harmful = readings[readings["arm"] == "harmful"].set_index("question")["value"]
    affect = readings[readings["arm"] == "affect"]
    np.testing.assert_allclose(table["value"], affect["value"] - affect["question"].map(harmful).to_numpy())
    assert tuple(table.columns) == (*FACTORS, "value")
    found = variance_components(table)
    assert row(found, "question")["levels"] == 12
    assert row(found, "training run")["note"].startswith("not estimable: one level; needs several training runs")
    assert variance_components(observations(readings, "affect"))["variance"].notna().sum() == 2


def test_observations_leave_out_what_is_missing_and_mix_nothing():
    readings = _readings(n=12, arms=(("harmful", 1), ("affect", 2)), emotions=("calm",))
    refused = readings.assign(missing=["refused" if q == "q03" else "" for q in readings["question"]])
    assert "q03" not in set(observations(refused, "affect", "harmful")["question"])
    with pytest.raises(ConventionError, match="of one cell, these readings have several of emotion: calm, guilty"):
        observations(_readings(), "harmful")
    with pytest.raises(UnknownNameError, match="unknown arm 'neutral'"):
        observations(readings, "neutral")
    alone = readings.assign(missing=["refused" if arm == "harmful" else "" for arm in readings["arm"]])
    with pytest.raises(UnmatchedPairError, match=r"no question has a reading of 'harmful' beside it \(12 questions\)"):
        observations(alone, "affect", "harmful")


def test_observations_that_are_none():
    with pytest.raises(DataError, match="1 observations, lacking columns: training_run"):
        variance_components(drawn(layout()).head(1).drop(columns="training_run"))
    with pytest.raises(DataError, match="no finite value"):
        variance_components(layout().assign(value=np.nan))
