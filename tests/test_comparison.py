"""Comparisons against oracles: scipy's interval, brute-force sign flips, and simulated readings with a known truth."""

import itertools
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from probes.comparison import ARM_MEAN_COLUMNS, COMPARISON_COLUMNS, arm_means, compare, paired_differences
from probes.errors import DataError, UnknownNameError, UnmatchedPairError
from probes.flips import flip_tests, sign_flip_p
from probes.intervals import simultaneous_interval
from probes.readings import COLUMNS, LAYER_CONVENTION


def _readings(
    n=12, effect=0.5, checkpoints=("original",), sources=("own",), emotions=("calm", "guilty"), layers=(3,),
    arms=(("benign", 1), ("harmful", 1)), seed=0,
):  # fmt: skip
    """Readings with a question effect, noise, and `effect` added in the harmful arm."""
    generator = np.random.default_rng(seed)
    rows = []
    for checkpoint, source, layer, emotion, question in itertools.product(
        checkpoints, sources, layers, emotions, range(n)
    ):
        level = generator.normal()
        for arm, n_controls in arms:
            for control in range(n_controls):
                value = level + effect * (arm == "harmful") + 0.3 * generator.normal()
                rows.append(
                    ("m", checkpoint, 0, arm, control, "plants", f"q{question:02d}", f"q{question:02d}-{arm}-{control}", 0,
                     source, "answer", layer, emotion, "cosine", "mean_of_token_cosines", "none", value, 20, "model", "", "p",
                     LAYER_CONVENTION)
                )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _cell(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def _differences(readings, emotion, arm="harmful", reference="benign"):
    chosen = readings[readings["emotion"] == emotion]
    means = chosen.pivot_table(index="question", columns="arm", values="value")
    return (means[arm] - means[reference]).to_numpy()


def test_compare_is_the_paired_difference():
    readings = _readings(n=12)
    table = compare(readings)
    assert tuple(table.columns) == COMPARISON_COLUMNS
    assert list(table["emotion"]) == ["calm", "guilty"]
    for emotion in ("calm", "guilty"):
        row, differences = _cell(table, emotion=emotion), _differences(readings, emotion)
        expected = ttest_1samp(differences, 0).confidence_interval(0.95)
        np.testing.assert_allclose([row["mean"], row["low"], row["high"]], [differences.mean(), *expected])
        assert row["p"] == sign_flip_p(differences[:, None])[0]
    assert set(table["test"]) == {"sign flips, all 4,096"}
    assert set(table["layer_convention"]) == {LAYER_CONVENTION}


def test_a_planted_difference_is_recovered():
    table = compare(_readings(n=60, effect=0.5), flips=999)
    assert (table["low"] < 0.5).all()
    assert (table["high"] > 0.5).all()
    assert (table["p"] == 1 / 1000).all()
    assert set(table["test"]) == {"sign flips, 999 sampled"}


def test_swapping_the_arms_changes_the_sign_only():
    readings = _readings()
    there, back = compare(readings), compare(readings, arm="benign", reference="harmful")
    np.testing.assert_allclose(there["mean"], -back["mean"])
    np.testing.assert_allclose(there["low"], -back["high"])
    assert list(there["p"]) == list(back["p"])


def test_the_order_of_rows_does_not_matter():
    readings = _readings(n=20, checkpoints=("a", "b"), arms=(("benign", 1), ("harmful", 1), ("affect", 3)))
    shuffled = readings.sample(frac=1, random_state=0)
    for arm, reference in (("harmful", "benign"), ("harmful", "affect")):
        ours = compare(readings, arm, reference, flips=200)
        pd.testing.assert_frame_equal(ours, compare(shuffled, arm, reference, flips=200), check_exact=True)
    pd.testing.assert_frame_equal(arm_means(readings), arm_means(shuffled), check_exact=True)


def test_controls_and_samples_are_averaged_within_a_question():
    readings = _readings(arms=(("harmful", 1), ("affect", 4)))
    more = readings[readings["arm"] == "harmful"].assign(sample=1, value=lambda rows: rows["value"] + 2.0)
    readings = pd.concat([readings, more], ignore_index=True)
    row = _cell(compare(readings, "harmful", "affect"), emotion="calm")
    assert row["mean"] == pytest.approx(_differences(readings, "calm", "harmful", "affect").mean())
    assert row["n_questions"] == 12


def test_every_reference_stands_for_itself():
    readings = _readings(arms=(("benign", 1), ("harmful", 1), ("affect", 1)))
    readings = readings.assign(value=readings["value"] + 5.0 * (readings["arm"] == "affect"))
    for reference in ("benign", "affect"):
        row = _cell(compare(readings, "harmful", reference), emotion="calm")
        assert row["mean"] == pytest.approx(_differences(readings, "calm", "harmful", reference).mean())
        assert row["reference"] == reference


def test_unmatched_questions_are_named():
    readings = _readings(checkpoints=("original", "antirefusal"))
    gone = (
        (readings["checkpoint"] == "antirefusal")
        & (readings["arm"] == "benign")
        & (readings["question"].isin([f"q{i:02d}" for i in range(7)]))
    )
    with pytest.raises(UnmatchedPairError) as caught:
        compare(readings[~gone])
    message = str(caught.value)
    assert "'antirefusal' has no 'benign' row" in message
    assert "q00, q01, q02, q03, q04, … (7 in all)" in message
    assert "'missing'" in message


def test_a_question_unmatched_in_one_cell_only_is_an_error():
    readings = _readings(layers=(3, 5))
    hole = (readings["question"] == "q03") & (readings["layer"] == 5) & (readings["arm"] == "harmful")
    with pytest.raises(UnmatchedPairError, match=r"no 'harmful' row for the questions q03 .*layer 5"):
        compare(readings[~hole])


def test_text_sources_may_hold_different_questions():
    readings = _readings(n=14, sources=("own", "original"))
    readings = readings[~((readings["text_source"] == "own") & (readings["question"] == "q00"))]
    table = compare(readings)
    assert dict(zip(table["text_source"], table["n_questions"], strict=True)) == {"own": 13, "original": 14}
    assert (table["n_missing"] == 0).all()


def _with_refusals(readings, questions, **wanted):
    refused = readings["question"].isin(questions)
    for column, value in wanted.items():
        refused &= readings[column] == value
    return readings.assign(value=readings["value"].mask(refused), missing=readings["missing"].mask(refused, "refused"))


def test_missing_questions_are_dropped_from_all_cells_of_the_text_and_counted():
    readings = _with_refusals(
        _readings(n=14, sources=("own", "original"), arms=(("benign", 1), ("harmful", 2))),
        ["q01", "q05"], text_source="own", arm="harmful", control=1, emotion="calm",
    )  # fmt: skip
    table = compare(readings)
    for _, row in table.iterrows():
        assert (row["n_questions"], row["n_missing"]) == ((12, 2) if row["text_source"] == "own" else (14, 0))
    kept = readings[(readings["text_source"] == "own") & ~readings["question"].isin(["q01", "q05"])]
    own = _cell(table, text_source="own", emotion="guilty")
    assert own["mean"] == pytest.approx(_differences(kept, "guilty").mean())
    assert own["p"] == pytest.approx(_cell(compare(kept), emotion="guilty")["p"])


@pytest.mark.parametrize("reason", ["refused", "truncated", "no_answer"])
def test_an_answer_with_a_reason_is_left_out_though_it_was_read(reason):
    readings = _readings(n=14)
    refused = (readings["question"] == "q03") & (readings["arm"] == "harmful")
    read = readings.assign(
        value=readings["value"].mask(refused, 50.0), missing=readings["missing"].mask(refused, reason)
    )
    without = readings[readings["question"] != "q03"]
    assert set(compare(read)["n_missing"]) == {1}
    pd.testing.assert_frame_equal(compare(read).drop(columns="n_missing"), compare(without).drop(columns="n_missing"))
    ours, theirs = (arm_means(rows).query("arm == 'harmful'")["mean"] for rows in (read, without))
    pd.testing.assert_series_equal(ours, theirs)


def test_intervals_are_refused_under_ten_questions():
    readings = _with_refusals(_readings(n=12), [f"q{i:02d}" for i in range(5)], arm="harmful")
    for table in (compare(readings), arm_means(readings).query("arm == 'harmful'")):
        assert set(table["note"]) == {"interval refused: 7 questions, at least 10 needed"}
        assert table["mean"].notna().all()
        assert table[["low", "high"]].isna().all(axis=None)
    assert compare(readings)["p"].isna().all()
    assert set(compare(_readings(n=10))["note"]) == {""}


def test_all_questions_missing_gives_rows_without_a_mean():
    table = compare(_with_refusals(_readings(), [f"q{i:02d}" for i in range(12)], arm="harmful"))
    assert (table["n_questions"] == 0).all()
    assert (table["n_missing"] == 12).all()
    assert table[["mean", "low", "high", "p"]].isna().all(axis=None)


def test_a_missing_value_needs_a_reason():
    readings = _readings()
    readings.loc[0, "value"] = np.inf
    with pytest.raises(DataError, match=r"1 readings are not finite .*questions q00"):
        compare(readings)


def test_unknown_and_equal_arms():
    with pytest.raises(UnknownNameError, match=r"unknown arm 'harmfull'. Did you mean 'harmful'"):
        compare(_readings(), arm="harmfull")
    with pytest.raises(DataError, match=re.escape("both 'benign'; name two of benign, harmful")):
        compare(_readings(), arm="benign")


@pytest.mark.parametrize("column", ["checkpoint", "seed", "evidence"])
def test_checkpoints_runs_and_evidence_are_never_mixed(column):
    first, second = _readings(effect=0.0, seed=1), _readings(effect=3.0, seed=2)
    second = second.assign(**{column: {"checkpoint": "antirefusal", "seed": 1, "evidence": "toy"}[column]})
    joined = compare(pd.concat([first, second], ignore_index=True))
    alone = pd.concat([compare(first), compare(second)], ignore_index=True)
    order, shared = ["emotion", column], [] if column == "evidence" else list(FAMILY)
    joined, alone = (table.sort_values(order, ignore_index=True) for table in (joined, alone))
    pd.testing.assert_frame_equal(joined.drop(columns=shared), alone.drop(columns=shared))


# ---- families --------------------------------------------------------------------------------------------------------

FAMILY = ("p_adjusted", "low_simultaneous", "high_simultaneous", "family")
"""What hangs on the other cells."""


def test_the_family_is_all_cells_of_a_model():
    readings = _readings(n=14, effect=0.15, checkpoints=("antirefusal", "original"), layers=(3, 5))
    table = compare(readings)
    values = paired_differences(readings, "harmful", "benign").values
    assert values.shape == (14, 8)
    np.testing.assert_array_equal(table["p_adjusted"], flip_tests(values).p_adjusted)
    mean, low, high = simultaneous_interval(values)
    np.testing.assert_allclose(table[["mean", "low_simultaneous", "high_simultaneous"]].T, [mean, low, high])
    assert (table["p_adjusted"] >= table["p"]).all()
    assert (table["low_simultaneous"] < table["low"]).all()
    assert set(table["family"]) == {"these cells (8 in all)"}
    assert set(table["correction"]) == {"step-down max-T; simultaneous 95% t intervals by wild bootstrap"}
    assert set(table["family_sha"]) == {""}


def test_a_question_is_the_same_in_every_checkpoint_whatever_the_order():
    first = _readings(n=12, checkpoints=("antirefusal",), seed=1)
    second = _readings(n=14, checkpoints=("original",), seed=2)
    found = paired_differences(pd.concat([second, first], ignore_index=True), "harmful", "benign")
    assert list(found.questions) == sorted(second["question"].unique())
    assert np.isnan(found.values[12:, :2]).all()
    for column, (readings, emotion) in enumerate(itertools.product((first, second), ("calm", "guilty"))):
        kept = found.values[:, column][np.isfinite(found.values[:, column])]
        np.testing.assert_allclose(kept, _differences(readings, emotion))


def test_a_refused_cell_is_not_in_the_family():
    readings = _readings(n=14, sources=("own", "original"))
    few = _with_refusals(readings, [f"q{i:02d}" for i in range(5)], text_source="own", arm="harmful")
    table = compare(few)
    own, same = (table[table["text_source"] == source] for source in ("own", "original"))
    assert own[["p", "p_adjusted", "low_simultaneous", "high_simultaneous"]].isna().all(axis=None)
    assert set(same["family"]) == {"these cells (2 in all)"}
    alone = compare(readings[readings["text_source"] == "original"])
    np.testing.assert_array_equal(same["p_adjusted"], alone["p_adjusted"])


def test_a_missing_seed_or_baseline_is_a_value_of_its_own():
    table = compare(_readings().assign(seed=np.nan, baseline=None))
    assert len(table) == 2
    assert table["mean"].notna().all()


def test_arm_means_are_means_of_question_means():
    readings = _readings(arms=(("benign", 1), ("affect", 3)))
    table = arm_means(readings)
    assert tuple(table.columns) == ARM_MEAN_COLUMNS
    for arm in ("benign", "affect"):
        chosen = readings[(readings["arm"] == arm) & (readings["emotion"] == "guilty")]
        by_question = chosen.groupby("question")["value"].mean()
        row = _cell(table, arm=arm, emotion="guilty")
        expected = ttest_1samp(by_question, 0).confidence_interval(0.95)
        np.testing.assert_allclose([row["mean"], row["low"], row["high"]], [by_question.mean(), *expected])


def test_import_is_light():
    heavy = ("torch", "plotly", "sklearn", "scipy")
    code = f"import sys, probes.comparison, probes.figures; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
