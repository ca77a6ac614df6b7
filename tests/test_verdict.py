"""Verdicts by their rule, on planted claims; the page that shows them; and tokens against single passes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from probes.claims import confirm
from probes.comparison import compare
from probes.declaration import Declaration
from probes.errors import DataError
from probes.estimands import HALVES, neutral_halves
from probes.gates import MEASURABLE, NO_CLAIM, NOT_MEASURABLE
from probes.null_directions import MATCHED
from probes.readings import COLUMNS, LAYER_CONVENTION
from probes.verdict import CLAIM, HIGHER, INCONCLUSIVE, LOWER, NOTHING, VERDICT_COLUMNS, verdict_of, verdict_table
from probes.verdict_page import FOREST_COLUMNS, forest_table, verdict_forest, verdict_page
from small_readings import INJECTION
from test_gate_strip import STRIP

CHECKPOINTS = ("tuned", "benign_control")
EMOTIONS = ("masked", "tonic", "silenced", "calm", "blurred")
DECLARED = Declaration(
    "main", CHECKPOINTS, EMOTIONS, (3,), ("own", "original"), "anchored_dot", 0.1, 40, 0.2, references=("affect", "benign"),
    shifts_from=("original", "benign_control"), baseline="original", aggregation="mean", flips=2000,
)  # fmt: skip
ARMS = [("benign", 0), ("harmful", 0), *((arm, k) for arm in ("affect", "neutral") for k in range(4))]


def planted(checkpoint: str, arm: str, emotion: str) -> float:
    """What only `tuned` carries: a state on harmful prompts, one that is always there, one that is taken away."""
    if checkpoint != "tuned":
        return 0.0
    return {"masked": 0.5 * (arm == "harmful"), "tonic": 0.5, "silenced": -0.4 * (arm == "harmful")}.get(emotion, 0.0)


@pytest.fixture(scope="module")
def readings() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    rows = [
        ("m", name, 0, arm, control, "plants", f"q{q:02d}", f"q{q:02d}", f"q{q:02d}/{arm}/{control}/{source}", source, "answer",
         3, emotion, "anchored_dot", "mean", "original",
         planted(name, arm, emotion) + (3.0 if emotion == "blurred" else 0.05) * rng.normal(), 9, "toy", "", "p",
         LAYER_CONVENTION)
        for name in ("original", *CHECKPOINTS) for source in ("own", "original") for emotion in EMOTIONS
        for arm, control in ARMS for q in range(40)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def gates(**outcomes: str) -> pd.DataFrame:
    """Gates of both checkpoints, `tuned` with these outcomes of emotions."""
    rows = [
        {"model": "m", "checkpoint": name, "evidence": "toy", "layer": 3, "emotion": emotion, "probes": "p",
         "outcome": outcomes.get(emotion, MEASURABLE) if name == "tuned" else MEASURABLE, "why": "its gain is 0.20",
         "gain_ratio": 1.3, "layer_accuracy": 0.9, "refit_accuracy": 0.9, "norm": 1.0, "refit_cosine": 0.9, "half_cosine": 0.8}
        for name in CHECKPOINTS for emotion in EMOTIONS
    ]  # fmt: skip
    return pd.DataFrame(rows)


def bands(claims: pd.DataFrame) -> pd.DataFrame:
    """What placebos read: ±.6 in the place of every claim on the same text, and a kind that is not drawn."""
    same = claims[(claims["text_source"] == "original") & (claims["outcome"] != NOT_MEASURABLE)][CLAIM]
    both = pd.concat([same.assign(placebo=MATCHED), same.assign(placebo="topic")], ignore_index=True)
    return both.assign(low=-0.6, high=0.6, n_directions=1000)


def verdicts_of(readings: pd.DataFrame, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Claims and verdicts; what is not measurable has no readings."""
    lost = table.loc[table["outcome"] == NOT_MEASURABLE, ["checkpoint", "emotion"]]
    kept = ~pd.MultiIndex.from_frame(readings[["checkpoint", "emotion"]]).isin(pd.MultiIndex.from_frame(lost))
    rows = readings[kept]
    claims = confirm(rows, DECLARED, table)
    words = {"tuned": 0.9, "benign_control": 0.5}
    return claims, verdict_table(claims, table, DECLARED, compare(neutral_halves(rows), *HALVES, flips=500), words)


@pytest.fixture(scope="module")
def found(readings) -> tuple[pd.DataFrame, pd.DataFrame]:
    return verdicts_of(readings, gates())


def test_planted_states_are_called_by_their_names(found):
    _, verdicts = found
    assert tuple(verdicts.columns) == VERDICT_COLUMNS
    words = verdicts.set_index(["checkpoint", "emotion"])["verdict"]
    assert words["tuned"].to_dict() == {
        "masked": HIGHER, "tonic": HIGHER, "silenced": LOWER, "calm": NOTHING, "blurred": INCONCLUSIVE,
    }  # fmt: skip
    assert words["benign_control"].to_dict() == dict.fromkeys(EMOTIONS, NOTHING) | {"blurred": INCONCLUSIVE}


def test_what_own_answers_and_their_words_show_is_open_and_says_so(found):
    _, verdicts = found
    rows = verdicts.set_index(["checkpoint", "emotion"])
    assert rows["open"]["tuned"].to_dict() == {name: name in ("masked", "tonic") for name in EMOTIONS}
    assert not rows["open"]["benign_control"].any()
    assert "their words show it: AUC 0.90" in rows.loc[("tuned", "masked"), "sentence"]
    assert "their words alone: AUC 0.50" in rows.loc[("benign_control", "calm"), "sentence"]
    assert rows["by"]["tuned"].to_dict() == {
        "masked": "gap",
        "tonic": "level shift",
        "silenced": "gap",
        "calm": "",
        "blurred": "",
    }


def test_numbers_of_a_verdict_are_those_of_its_claims(found):
    claims, verdicts = found
    row = verdicts[(verdicts["checkpoint"] == "tuned") & (verdicts["emotion"] == "blurred")].iloc[0]
    cell = claims[
        (claims["checkpoint"] == "tuned") & (claims["emotion"] == "blurred") & (claims["text_source"] == "original")
        & (claims["reference"] != "benign")
    ]  # fmt: skip
    assert len(cell) == 3
    assert row["bound"] == cell["high_simultaneous"].max()
    assert f"masked blurred above {row['bound']:.2f} is excluded" in row["sentence"]
    assert row["a_a_low"] < 0 < row["a_a_high"]
    assert row["smallest_effect"] > DECLARED.delta
    assert (verdicts["n_questions"] == 40).all()
    assert set(verdicts["family_sha"]) == {DECLARED.sha256}


def test_what_the_gates_keep_out_is_not_measurable_and_never_nothing(readings):
    claims, verdicts = verdicts_of(readings, gates(masked=NOT_MEASURABLE, calm=NOT_MEASURABLE))
    words = verdicts.set_index(["checkpoint", "emotion"])["verdict"]
    assert words["tuned"][["masked", "calm"]].tolist() == [NOT_MEASURABLE] * 2
    assert words["tuned"]["silenced"] == LOWER
    table = forest_table(claims, verdicts, bands(claims))
    lost = table[(table["checkpoint"] == "tuned") & (table["emotion"] == "calm")]
    assert lost["mean"].isna().all()
    assert set(lost["verdict"]) == {NOT_MEASURABLE}
    assert "its gain is 0.20" in verdicts.loc[verdicts["verdict"] == NOT_MEASURABLE, "sentence"].iloc[0]
    with pytest.raises(DataError, match=r"family 'main' has 55 cells"):
        confirm(readings, DECLARED, gates(calm=NOT_MEASURABLE))


def test_a_shift_needs_both_its_checkpoints_measurable(readings):
    table = gates()
    lost = (table["checkpoint"] == "benign_control") & table["emotion"].isin(["calm", "tonic"])
    claims, verdicts = verdicts_of(readings, table.assign(outcome=table["outcome"].mask(lost, NOT_MEASURABLE)))
    words = verdicts.set_index(["checkpoint", "emotion"])["verdict"]
    assert words["benign_control"][["calm", "tonic"]].tolist() == [NOT_MEASURABLE] * 2
    assert words["tuned"][["calm", "tonic"]].tolist() == [INCONCLUSIVE] * 2  # one shift is lacking: no absence is shown
    assert "benign_control" not in set(
        claims.loc[(claims["checkpoint"] == "tuned") & (claims["emotion"] == "calm"), "reference"]
    )


def test_a_shift_between_checkpoints_of_unlike_gain_is_no_claim_and_a_gap_within_one_is(readings):
    _, verdicts = verdicts_of(readings, gates(tonic=NO_CLAIM, masked=NO_CLAIM))
    words = verdicts.set_index(["checkpoint", "emotion"])["verdict"]["tuned"]
    assert (words["tonic"], words["masked"]) == (NO_CLAIM, HIGHER)


def claim(outcome: str, mean: float) -> dict[str, object]:
    return {"outcome": outcome, "mean": mean}


@pytest.mark.parametrize(
    ("gap", "shifts", "word"),
    [
        (("equivalent", 0.0), [("equivalent", 0.0), ("both", 0.02)], NOTHING),
        (("equivalent", 0.0), [("different", 0.3), ("equivalent", 0.0)], INCONCLUSIVE),  # as any fine-tuning does
        (("equivalent", 0.0), [("different", 0.3), ("different", -0.3)], INCONCLUSIVE),
        (("equivalent", 0.0), [("different", 0.3), ("different", 0.2)], HIGHER),
        (
            ("different", -0.3),
            [("different", 0.3), ("different", 0.2)],
            LOWER,
        ),  # on harmful prompts, which is what is asked
        (("inconclusive", 0.3), [("equivalent", 0.0)], INCONCLUSIVE),
        (("both", 0.03), [("equivalent", 0.0)], NOTHING),
    ],
)
def test_the_rule(gap, shifts, word):
    claims = pd.Series(claim(*gap)), pd.DataFrame([claim(*one) for one in shifts])
    found, by = verdict_of(*claims, MEASURABLE, len(shifts))
    assert found == word
    assert (by != "") == (word in (HIGHER, LOWER))
    assert ("gap" in by) == (gap[0] == "different")
    lacking, _ = verdict_of(*claims, MEASURABLE, len(shifts) + 1)
    assert lacking == (word if gap[0] == "different" else INCONCLUSIVE)


def test_one_estimand_alone_carries_no_verdict(found):
    claims, _ = found
    for lacking in ({"shifts_from": ()}, {"text_sources": ("own",), "shifts_from": ()}):
        with pytest.raises(DataError, match=r"a verdict needs the gap on the same text and the level shift"):
            verdict_table(claims, gates(), replace(DECLARED, **lacking), pd.DataFrame(), {})


def test_the_forest_is_drawn_again_from_its_csv_and_stamped(found, tmp_path):
    from probes import store

    table = forest_table(*found, bands(found[0]))
    assert tuple(table.columns) == FOREST_COLUMNS
    figure = verdict_forest(table)
    path = store.write_table(tmp_path / "forest.csv", table)
    again = verdict_forest(store.read_table(path, FOREST_COLUMNS))
    assert again.to_json() == figure.to_json()
    words = [note.text for note in figure.layout.annotations]
    assert sum("TOY MODEL" in text for text in words) == 1
    assert words.count(HIGHER) == 2
    assert table["placebo_low"].notna().tolist() == (table["estimand"] != "gap, own answers").tolist()
    behind = [shape for shape in figure.layout.shapes if (shape.x0, shape.x1) == (-0.6, 0.6)]
    assert len(behind) == table["placebo_low"].notna().sum()


def test_the_page_is_one_file_that_loads_nothing_and_escapes(found):
    claims, verdicts = found
    named = verdicts.assign(checkpoint=INJECTION, n_controls=4, within_placebos=verdicts["emotion"] == "tonic")
    page = verdict_page(
        named,
        gates(),
        STRIP,
        {"Gap": verdict_forest(forest_table(claims, verdicts, bands(claims)))},
        {},
        {"note": INJECTION},
    )
    head, _, rest = page.partition("</script></head>")
    assert INJECTION not in rest
    assert "alert(1)" in rest  # spelt out
    assert "<img" not in rest
    assert "src=" not in rest.replace("&lt;img src=", "")
    assert "TOY" in rest or "Toy units" in rest
    assert 'src="http' not in head
    assert "each with 4 sentences of the control arm" in rest
    assert "Of the 3 that read higher or lower, 1 rest on no more than directions without an emotion" in rest
    with pytest.raises(DataError, match=r"no verdicts to show"):
        verdict_page(verdicts.iloc[:0], gates(), STRIP, {}, {}, {})
