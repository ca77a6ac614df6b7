"""What is compared besides arms, against planted truths: a state that is always there, sentences that do nothing, refusals."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from probes.comparison import COMPARISON_COLUMNS, compare
from probes.errors import DataError, UnknownNameError
from probes.estimands import (
    HALVES,
    by_domain,
    by_refusals,
    level_shifts,
    neutral_halves,
    where_all_comply,
    with_refusals,
)
from probes.readings import COLUMNS, LAYER_CONVENTION
from small_readings import small_readings

TONIC = 0.5


def readings(n=30, checkpoints=("original", "tuned"), noise=0.05, sentences=0.0):
    """Question levels that all checkpoints share; `tuned` carries TONIC in every arm; `sentences` is what odd ones add."""
    generator = np.random.default_rng(3)
    levels = generator.normal(size=n)
    arms = [("benign", 0), ("harmful", 0), *(("neutral", control) for control in range(4))]
    rows = [
        ("m", checkpoint, 0, arm, control, "plants" if question < n // 2 else "tools", f"q{question:02d}",
         f"q{question:02d}", f"q{question:02d}/{arm}/{control}/original", "original",
         "answer", 3, "guilty", "anchored_dot", "mean", "original", levels[question]
         + TONIC * (checkpoint == "tuned") + sentences * (arm == "neutral" and control % 2 == 1)
         + noise * generator.normal(), 9, "model", "", "p", LAYER_CONVENTION)
        for checkpoint, (arm, control), question in itertools.product(checkpoints, arms, range(n))
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_a_state_that_is_always_there_shows_in_the_shift_and_not_in_the_gap():
    rows = readings()
    gap = compare(rows, "harmful", "benign").set_index("checkpoint").loc["tuned"]
    assert abs(gap["mean"]) < 0.05
    shift = level_shifts(rows)
    assert tuple(shift.columns) == COMPARISON_COLUMNS
    found = shift.iloc[0]
    assert (found["checkpoint"], found["arm"], found["reference"]) == ("tuned", "tuned", "original")
    wide = rows[rows["arm"] == "benign"].pivot_table(index="question", columns="checkpoint", values="value")
    differences = wide["tuned"] - wide["original"]
    np.testing.assert_allclose(
        [found["mean"], found["low"], found["high"]],
        [differences.mean(), *ttest_1samp(differences, 0).confidence_interval(0.95)],
    )
    assert found["low"] < TONIC < found["high"]


def test_all_checkpoints_are_one_family():
    rows = readings(checkpoints=("original", "tuned", "other"), noise=0.5)
    table = level_shifts(rows).set_index("checkpoint")
    assert set(table.index) == {"other", "tuned"}
    assert set(table["family"]) == {"these cells (2 in all)"}
    alone = level_shifts(rows[rows["checkpoint"] != "tuned"]).iloc[0]
    assert table.loc["other", "p"] == alone["p"]
    assert table.loc["other", "p_adjusted"] >= alone["p_adjusted"]


def test_shifts_that_cannot_be_taken():
    with pytest.raises(UnknownNameError, match=r"unknown checkpoint 'tuned'"):
        level_shifts(readings(checkpoints=("original",)), "tuned")
    with pytest.raises(UnknownNameError, match=r"unknown arm 'affect'"):
        level_shifts(readings(), arm="affect")
    with pytest.raises(DataError, match=r"original alone have no shift"):
        level_shifts(readings(checkpoints=("original",)))


def test_neutral_sentences_that_do_nothing_differ_by_nothing_and_others_by_what_they_do():
    nothing = compare(neutral_halves(readings()), *HALVES)
    assert ((nothing["low"] < 0) & (nothing["high"] > 0)).all()
    assert (nothing["high"] - nothing["low"]).max() < 0.1
    planted = compare(neutral_halves(readings(sentences=0.3)), *HALVES)
    assert ((planted["low"] < -0.3) & (planted["high"] > -0.3)).all()


def test_one_neutral_sentence_has_no_halves():
    rows = readings()
    with pytest.raises(DataError, match=r"two neutral sentences"):
        neutral_halves(rows[rows["control"] == 0])
    with pytest.raises(DataError, match=r"two neutral sentences"):
        neutral_halves(rows[rows["arm"] != "neutral"])


def test_refusals_are_handled_in_three_ways_with_their_own_questions():
    rows = small_readings(n=14, refused=3)
    rows.loc[(rows["checkpoint"] == "original") & (rows["question"] == "q13") & (rows["text_source"] == "own"), "missing"] = (
        "truncated"
    )  # fmt: skip
    table = by_refusals(rows)
    own = table[(table["text_source"] == "own")].groupby(["refusals", "checkpoint"])["n_questions"].agg(["min", "max"])
    assert own["min"].to_dict() == own["max"].to_dict() == {
        ("all pairs", "antirefusal"): 14, ("all pairs", "original"): 13,
        ("answered", "antirefusal"): 11, ("answered", "original"): 10,
        ("where all comply", "antirefusal"): 10, ("where all comply", "original"): 10,
    }  # fmt: skip
    assert set(table.loc[table["text_source"] == "original", "n_questions"]) == {14}
    assert set(with_refusals(rows)["missing"]) == {"", "truncated"}
    assert set(where_all_comply(rows)["missing"]) == {""}


def test_a_gap_in_each_domain_is_that_of_its_questions_and_all_are_one_family():
    rows = readings(n=30)
    rows = rows.assign(
        domain=rows["question"].map(lambda name: "few" if name > "q24" else "plants" if name < "q13" else "tools")
    )
    table = by_domain(rows, "harmful", "benign")
    assert tuple(table.columns) == ("domain", *COMPARISON_COLUMNS)
    for domain, own in rows.groupby("domain"):
        alone = compare(own, "harmful", "benign").set_index("checkpoint")
        found = table[table["domain"] == domain].set_index("checkpoint")
        pd.testing.assert_frame_equal(
            found[["mean", "low", "high", "n_questions"]], alone[["mean", "low", "high", "n_questions"]]
        )
        assert found["mean"].notna().all()
    assert set(table["family"]) == {"these cells (4 in all)"}
    assert table.loc[table["domain"] == "few", ["low", "low_simultaneous", "p"]].isna().all(axis=None)
    assert (
        by_domain(rows[rows["domain"] == "few"], "harmful", "benign")["note"].str.startswith("interval refused").all()
    )
    with pytest.raises(DataError, match="no reading of harmful or affect to tell apart by domain"):
        by_domain(rows[rows["arm"] == "neutral"])
