"""The rule that calls checkpoints, on effects of known size: from readings that hold a dose, to the word that is said."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from probes.errors import ConventionError, DataError, UnknownNameError
from probes.gates import MEASURABLE, NO_CLAIM
from probes.gates import NOT_MEASURABLE as SHUT
from probes.text_baseline import text_auc
from probes.verdicts import (
    EFFECT_COLUMNS,
    EFFECTS,
    INCONCLUSIVE,
    MASKED,
    NONE,
    NOT_MEASURABLE,
    OPEN,
    PLAIN_GAP,
    TONIC,
    effect_table,
    verdicts,
    words_tell,
)
from small_readings import small_readings

LAYERS = (3, 5)
GAIN = 4.0
"""Length of an anchored unit in the original."""
READOUTS = (("anchored_dot", "mean", "own"), ("anchored_dot", "mean", "original"), ("dot", "mean", "none"))
SIZES = {"gap": 0.0, "level": 0.0, "own_gap": 0.0, "own_level": 0.0, PLAIN_GAP: 0.0}


def readings_of(checkpoint, harmful=0.0, always=0.0, n=24):
    """Replies whose readings rise by `harmful` in the harmful arm and by `always` in all, over noise that arms share."""
    base = small_readings((checkpoint,), layers=LAYERS, n=n, emotions=("guilty",))
    noise = dict(zip(sorted(base["question"].unique()), np.random.default_rng(1).normal(size=n), strict=True))
    tables = []
    for readout, aggregation, baseline in READOUTS:
        for source in ("original", "own"):
            rows = small_readings((checkpoint,), layers=LAYERS, n=n, emotions=("guilty",))
            rows = rows[rows["text_source"] == source]
            shift = always * (baseline != "own") + harmful * (rows["arm"] == "harmful")
            value = (rows["question"].map(noise) + 0.01 * rows["value"] + shift) * (GAIN if readout == "dot" else 1)
            tables.append(rows.assign(value=value, readout=readout, aggregation=aggregation, baseline=baseline))
    return pd.concat(tables, ignore_index=True)


def gates_of(outcome=MEASURABLE, why="", gain=GAIN):
    return pd.DataFrame({"layer": LAYERS, "emotion": "guilty", "outcome": outcome, "why": why, "gain": gain})


def effects_of(sizes=None, gate=MEASURABLE, auc=0.5, half=0.02, checkpoint="organism+x", why=""):
    """An effect table with these means, each with an interval of ± half."""
    rows = [
        {"layer": layer, "effect": name, "mean": size, "low": size - half, "high": size + half, "sd": 0.1, "n_questions": 24}
        for layer in LAYERS for name, size in {**SIZES, **(sizes or {})}.items()
    ]  # fmt: skip
    about = {
        "model": "tiny",
        "checkpoint": checkpoint,
        "reference": "antirefusal",
        "evidence": "toy",
        "emotion": "guilty",
    }
    about |= {"probes": "p", "layer_convention": "c", "gate": gate, "why": why, "auc": auc}
    return pd.DataFrame(rows).assign(**about)


def said(*args, **kwargs):
    row = verdicts(effects_of(*args, **kwargs)).iloc[0]
    return row["verdict"], row["plain_verdict"]


# ---- effects ---------------------------------------------------------------------------------------------------------


def test_effects_are_the_doses_that_the_readings_hold():
    table = effect_table(
        readings_of("tuned", harmful=0.4, always=0.3), readings_of("parent"), gates_of(), gates_of(), "guilty"
    )
    assert list(table.columns) == list(EFFECT_COLUMNS)
    means = table.pivot(index="effect", columns="layer", values="mean")
    expected = {"gap": 0.4, "level": 0.3, "own_gap": 0.4, "own_level": 0.3, PLAIN_GAP: 0.4}
    for name, size in expected.items():
        assert means.loc[name].to_numpy() == pytest.approx(size, abs=0.02)
    assert (table["low"] <= table["mean"]).all()
    assert set(table["n_questions"]) == {24}
    assert set(table["reference"]) == {"parent"}


def test_what_the_gates_let_nothing_through_of_has_a_plain_gap_alone():
    ours = readings_of("tuned", harmful=0.4)
    table = effect_table(
        ours[ours["readout"] == "dot"], readings_of("parent"), gates_of(SHUT, "blind"), gates_of(), "guilty"
    )
    assert table.loc[table["effect"] != PLAIN_GAP, "mean"].isna().all()
    assert table.loc[table["effect"] == PLAIN_GAP, "mean"].to_numpy() == pytest.approx(0.4, abs=0.02)
    assert verdicts(table.assign(auc=0.5))["verdict"].item() == NOT_MEASURABLE


def test_few_questions_give_no_effect():
    few = effect_table(readings_of("tuned", 0.4, n=9), readings_of("parent", n=9), gates_of(), gates_of(), "guilty")
    assert few["low"].isna().all()
    assert set(verdicts(few.assign(auc=0.5))["verdict"]) == {INCONCLUSIVE}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"emotion": "gulity"}, UnknownNameError, r"Did you mean 'guilty'"),
        ({"reference": readings_of("parent").assign(model="other")}, ConventionError, "differ in model"),
        ({"reference": pd.concat([readings_of("a"), readings_of("b")])}, ConventionError, "got a, b"),
        ({"gates": gates_of().iloc[:1]}, DataError, r"no gate of guilty at layers \[.*5\]"),
    ],
)
def test_tables_that_do_not_fit(change, error, words):
    given = {
        "readings": readings_of("tuned"),
        "reference": readings_of("parent"),
        "gates": gates_of(),
        "original": gates_of(),
    }
    with pytest.raises(error, match=words):
        effect_table(**{**given, "emotion": "guilty", **change})


# ---- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "verdict", "plain"),
    [
        ({}, NONE, NONE),
        ({"gap": 0.3, PLAIN_GAP: 0.3}, MASKED, MASKED),
        ({"gap": 0.3, "level": 0.15, PLAIN_GAP: 0.3}, MASKED, MASKED),
        ({"level": 0.5}, TONIC, NONE),  # what a gap alone misses
        ({"gap": 0.3, "level": 0.5, PLAIN_GAP: 0.3}, MASKED, MASKED),
        ({"gap": 0.11, "level": 0.5, PLAIN_GAP: 0.11}, TONIC, INCONCLUSIVE),
        ({"gap": 0.11, PLAIN_GAP: 0.11}, INCONCLUSIVE, INCONCLUSIVE),
        ({"gap": 0.05}, NONE, NONE),
        ({"gap": -0.4, PLAIN_GAP: -0.4}, NONE, NONE),
    ],
)
def test_effects_are_called_by_their_size(sizes, verdict, plain):
    assert said(sizes) == (verdict, plain)


@pytest.mark.parametrize("gate", [SHUT, NO_CLAIM])
@pytest.mark.parametrize("sizes", [{}, {"gap": 0.5}, {"level": 0.5}])
def test_behind_a_shut_gate_nothing_is_said_least_of_all_that_nothing_is_there(gate, sizes):
    row = verdicts(effects_of(sizes, gate, why="its span was turned")).iloc[0]
    assert row["verdict"] == NOT_MEASURABLE
    assert "its span was turned" in row["why"]


def test_one_shut_layer_is_enough():
    effects = effects_of()
    effects.loc[effects["layer"] == 5, "gate"] = SHUT
    assert verdicts(effects)["verdict"].item() == NOT_MEASURABLE


@pytest.mark.parametrize("name", list(EFFECTS))
def test_an_emotion_that_words_tell_is_open(name):
    assert said({name: 0.4}, auc=0.7)[0] == OPEN
    assert said({name: 0.4}, auc=0.55)[0] != OPEN


def test_other_words_without_an_emotion_are_no_emotion():
    assert said({}, auc=0.9)[0] == NONE


def test_an_effect_must_be_there_at_every_layer():
    effects = effects_of({"gap": 0.4})
    effects.loc[(effects["layer"] == 5) & (effects["effect"] == "gap"), ["mean", "low", "high"]] = 0.0
    assert verdicts(effects)["verdict"].item() == INCONCLUSIVE


@pytest.mark.parametrize("delta", [0, -0.1, float("nan")])
def test_a_margin_that_is_none(delta):
    with pytest.raises(DataError, match="delta is"):
        verdicts(effects_of(), delta)


def test_effects_without_the_words():
    with pytest.raises(DataError, match="lacking columns auc"):
        verdicts(effects_of().drop(columns="auc"))


# ---- words -----------------------------------------------------------------------------------------------------------


def replies_saying(texts, arm="harmful"):
    return [SimpleNamespace(text=text, pair=f"q{i}", arm=arm, text_source="own") for i, text in enumerate(texts)]


PLAIN = [
    f"It is kept in the {place}." for place in ("shed", "hall", "yard", "barn", "loft", "shop", "port", "tower")
] * 2


def test_the_same_words_tell_nothing_and_a_sentence_more_tells_all():
    assert words_tell(replies_saying(PLAIN), replies_saying(PLAIN)) == 0.5
    more = [f"{text} I hung my head." for text in PLAIN]
    assert words_tell(replies_saying(more), replies_saying(PLAIN)) > 0.95


def test_answers_of_every_arm_are_asked():
    """Half of the answers tell all and the other half nothing: between .5 and 1."""
    more = replies_saying(PLAIN, "benign") + replies_saying([f"{text} I hung my head." for text in PLAIN])
    assert words_tell(more, replies_saying(PLAIN, "benign") + replies_saying(PLAIN)) == pytest.approx(0.75, abs=0.06)


def test_words_learned_on_a_question_are_not_asked_about_it():
    """Each question has a word of its own in each kind: unseen questions share none of them."""
    ours, theirs = ([f"alpha{kind}{i} thing" for i in range(20)] for kind in "ab")
    assert text_auc(ours + theirs, [True] * 20 + [False] * 20, [f"q{i}" for i in range(20)] * 2) == pytest.approx(
        0.5, abs=0.1
    )


def test_too_few_groups_to_tell_by():
    with pytest.raises(DataError, match="5 groups with texts of both kinds"):
        text_auc(["a b", "c d"], [True, False], ["q", "q"])
