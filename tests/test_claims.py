"""Claims of a declared family: planted effects are called by their names, and nothing else than the family is."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from probes.claims import CLAIM_COLUMNS, confirm
from probes.comparison import compare
from probes.declaration import Declaration
from probes.equivalence import equivalent_p, not_lower_p
from probes.errors import ConventionError, DataError, UnknownNameError
from probes.flips import holm_p
from probes.readings import COLUMNS, LAYER_CONVENTION

EFFECTS = {"different": 0.4, "both": 0.04, "equivalent": 0.0}
"""Emotion, named for its outcome → planted difference; a question's varies with an sd of .05."""
DECLARED = Declaration(
    "main", ("antirefusal",), tuple(EFFECTS), (3, 5), ("own",), "dot", 0.1, 40, 0.05, aggregation="dot_of_mean", seed=4
)


def readings(n=40, layers=(3, 5), checkpoints=("antirefusal", "original"), spread=0.05, seed=0):
    """Readings with EFFECTS in the harmful arm."""
    generator = np.random.default_rng(seed)
    rows = [
        ("m", checkpoint, 0, arm, 0, "plants", f"q{question:02d}", f"q{question:02d}-{arm}", 0, source, "answer", layer, emotion,
         "dot", "dot_of_mean", "none", EFFECTS[emotion] * (arm == "harmful") + spread * generator.normal() / np.sqrt(2), 9, "model",
         "", "p", LAYER_CONVENTION)
        for checkpoint, source, layer, emotion, arm, question in itertools.product(
            checkpoints, ("own", "original"), layers, EFFECTS, ("harmful", "affect", "benign"), range(n)
        )
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_planted_outcomes_are_called_by_their_names():
    claims = confirm(readings(), DECLARED)
    assert tuple(claims.columns) == CLAIM_COLUMNS
    assert len(claims) == DECLARED.cells == 6
    assert claims["outcome"].tolist() == claims["emotion"].tolist()
    assert set(claims["family"]) == {"main (6 in all)"}
    assert set(claims["family_sha"]) == {DECLARED.sha256}
    assert set(claims["delta"]) == {0.1}


def test_noise_is_inconclusive_and_so_are_too_few_questions():
    assert set(confirm(readings(spread=3.0), DECLARED)["outcome"]) == {"inconclusive"}
    few = confirm(readings(n=9), DECLARED)
    assert set(few["outcome"]) == {"inconclusive"}
    assert few[["p_adjusted", "p_equivalent", "p_not_lower"]].isna().all(axis=None)


def test_the_numbers_are_those_of_the_family_alone():
    rows = readings(spread=0.3)
    claims = confirm(rows, DECLARED)
    chosen = rows[(rows["checkpoint"] == "antirefusal") & (rows["text_source"] == "own")]
    table = compare(chosen, "harmful", "affect", seed=4)
    pd.testing.assert_frame_equal(
        claims[list(table.columns)].drop(columns=["family", "family_sha"]), table.drop(columns=["family", "family_sha"])
    )
    wide = chosen.pivot_table(index="question", columns=["layer", "emotion", "arm"], values="value")
    names = zip(claims["layer"], claims["emotion"], strict=True)
    values = np.column_stack([wide[(*name, "harmful")] - wide[(*name, "affect")] for name in names])
    np.testing.assert_allclose(claims["p_equivalent"], holm_p(equivalent_p(values, 0.1)))
    np.testing.assert_allclose(claims["p_not_lower"], holm_p(not_lower_p(values, 0.1)))


def test_gaps_and_shifts_are_of_one_family_and_another_baseline_is_not_in_it():
    rows = pd.concat([readings(n=30), readings(n=30, seed=8).assign(baseline="other", value=9.0)])
    tonic = (rows["checkpoint"] == "antirefusal") & (rows["emotion"] == "both")
    rows = rows.assign(value=rows["value"] + 0.5 * tonic)
    declared = replace(DECLARED, text_sources=("own", "original"), shifts_from=("original",))
    claims = confirm(rows, declared)
    assert len(claims) == declared.cells == 2 * 3 * (2 + 1)
    shifts = claims[claims["reference"] == "original"].set_index(["layer", "emotion"])
    assert (shifts["arm"] == "antirefusal").all()
    assert (shifts["text_source"] == "original").all()
    assert {name: set(shifts.xs(name, level="emotion")["outcome"]) for name in EFFECTS} == {
        "different": {"equivalent"}, "both": {"different"}, "equivalent": {"equivalent"},
    }  # fmt: skip
    np.testing.assert_allclose(shifts.xs("both", level="emotion")["mean"], 0.5, atol=0.05)


def test_contrasts_are_of_one_family():
    both = replace(DECLARED, references=("affect", "benign"))
    claims = confirm(readings(spread=0.4), both)
    assert len(claims) == both.cells == 12
    assert claims["reference"].value_counts().to_dict() == {"affect": 6, "benign": 6}
    assert claims["p_adjusted"].max() <= 1
    one = confirm(readings(spread=0.4), DECLARED)
    assert (claims.loc[claims["reference"] == "affect", "p_adjusted"].to_numpy() >= one["p_adjusted"].to_numpy()).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": (3, 7)}, r"unknown layer of family 'main' 7\. .*Known: 3, 5"),
        ({"emotions": ("equivelent",)}, r"unknown emotion of family 'main' 'equivelent'\. Did you mean 'equivalent'"),
        ({"readout": "anchored_dot"}, "unknown readout of family 'main' 'anchored_dot'"),
        ({"references": ("neutral",)}, "unknown arm of family 'main' 'neutral'"),
        ({"checkpoints": ("benign_control",)}, "unknown checkpoint of family 'main' 'benign_control'"),
    ],
)
def test_what_was_declared_and_not_read_is_named(change, words):
    with pytest.raises(UnknownNameError, match=words):
        confirm(readings(n=12), replace(DECLARED, **change))


def test_a_family_is_whole_and_of_one_kind():
    rows = readings(n=12)
    hole = (rows["layer"] == 5) & (rows["emotion"] == "both") & (rows["checkpoint"] == "antirefusal")
    with pytest.raises(DataError, match="family 'main' has 6 cells, and the readings hold 5 of them"):
        confirm(rows[~hole], DECLARED)
    for column in ("evidence", "probes", "model"):
        mixed = pd.concat([rows, rows.assign(**{column: "another"})])
        with pytest.raises(ConventionError, match=f"family 'main' would mix readings of different {column}: another"):
            confirm(mixed, DECLARED)
    apart = rows[(rows["checkpoint"] == "original") | (rows["text_source"] == "original")]
    with pytest.raises(DataError, match="no reading is of family 'main': each of its names was read, but not together"):
        confirm(apart, DECLARED)
