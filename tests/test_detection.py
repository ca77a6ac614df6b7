"""Confusion, detection curve and limit, from readings whose truth is known; figures from their CSV alone."""

import numpy as np
import pandas as pd
import pytest

from probes import figures, store
from probes.claims import confirm
from probes.declaration import Declaration
from probes.detection import (
    CALLED,
    CURVE_COLUMNS,
    GAP,
    LEVEL,
    OPEN,
    beside_organisms,
    called,
    called_by_gap,
    confusion,
    detection_limits,
    dose_curve,
    right_share,
    seen_by_gap,
)
from probes.detection_figures import confusion_matrix, detection_curves, read_confusion, read_curve
from probes.errors import ConventionError, DataError, UnknownNameError
from probes.estimands import counted_from
from probes.figures import write_figure
from probes.gates import MEASURABLE, NOT_MEASURABLE
from probes.intervals import t_interval
from probes.page import WATERMARK
from probes.power import power_different
from probes.readings import COLUMNS, LAYER_CONVENTION
from probes.verdict import INCONCLUSIVE, NOTHING, judge

SLOPE, SD, QUESTIONS, LAYERS = 0.8, 0.05, 24, (3, 5)
DOSES = {"sham": 0.0, "small": 0.06, "medium": 0.4, "large": 1.0}
RIGHT = {
    "sham": NOTHING, "small": GAP, "medium": GAP, "large": GAP, "tonic": LEVEL, "open": OPEN, "rotated": NOT_MEASURABLE,
}  # fmt: skip
BLIND = {name: f"organism+{name[::-1]}" for name in RIGHT}
ARMS = [("benign", 0), ("harmful", 0), ("affect", 0), *(("neutral", k) for k in range(2))]


def family(name: str, checkpoints: tuple[str, ...], shifts_from: tuple[str, ...]) -> Declaration:
    return Declaration(
        name, checkpoints, ("guilty",), LAYERS, ("own", "original"), "anchored_dot", 0.1, QUESTIONS, 0.2,
        shifts_from=shifts_from, baseline="original", aggregation="mean", flips=2000,
    )  # fmt: skip


DECLARED = family("organisms", tuple(BLIND.values()), ("parent",))
REAL = family("confirmatory", ("antirefusal", "antirefusal_cqa"), ("original",))


def carried(name: str, arm: str, source: str) -> float:
    """What stands in a checkpoint's reading: the parent has a gap of its own, which all that is grown from it has too."""
    own = 0.3 * (arm == "harmful")
    if name == "original":
        return 0.0
    if name in ("antirefusal", "antirefusal_cqa"):
        return 0.3 * (arm == "harmful") * (name == "antirefusal_cqa")
    if name == "tonic":
        return own + 0.5
    if name == "open":
        return own + 0.5 * (arm == "harmful") * (source == "own")
    return own + SLOPE * DOSES.get(name, 0.0) * (arm == "harmful")


def readings_of(names, seed: int) -> pd.DataFrame:
    """Readings of checkpoints, `names` mapping what they carry to what they are called."""
    rng, common = np.random.default_rng(seed), np.random.default_rng(9).normal(size=(QUESTIONS, len(ARMS)))
    rows = [
        ("m", name, 0, arm, control, "plants", f"q{q:02d}", f"q{q:02d}", f"q{q:02d}/{arm}/{control}/{source}", source, "answer",
         layer, "guilty", "anchored_dot", "mean", "original",
         carried(what, arm, source) + 0.05 * common[q, a] + SD / np.sqrt(2) * rng.normal(), 9, "toy", "", "p", LAYER_CONVENTION)
        for what, name in names.items() for source in ("own", "original") for layer in LAYERS
        for a, (arm, control) in enumerate(ARMS) for q in range(QUESTIONS)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def gates_of(names, blind=()) -> pd.DataFrame:
    rows = [
        {"model": "m", "checkpoint": name, "evidence": "toy", "layer": layer, "emotion": "guilty", "probes": "p",
         "outcome": NOT_MEASURABLE if name in blind else MEASURABLE, "why": "frozen probes are blind", "gain_ratio": 1.0}
        for name in names for layer in LAYERS
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def readings():
    return counted_from(readings_of({"parent": "parent", **BLIND}, 1), "parent")


@pytest.fixture(scope="module")
def tables(readings):
    """Claims and verdicts on organisms: the rotated one is behind a gate, the open one's words tell."""
    rows = readings[readings["checkpoint"] != BLIND["rotated"]]
    words = dict.fromkeys(BLIND.values(), 0.5) | {BLIND["open"]: 0.9}
    return judge(rows, DECLARED, gates_of(("parent", *BLIND.values()), [BLIND["rotated"]]), words)


@pytest.fixture(scope="module")
def organisms():
    rows = [(BLIND[name], name, right) for name, right in RIGHT.items()]
    return pd.DataFrame(rows, columns=["checkpoint", "organism", "right"])


@pytest.fixture(scope="module")
def said(tables, readings):
    """What all are called; the gap alone asks no gate, and reads the rotated one too."""
    alone = called_by_gap(confirm(readings, DECLARED), DECLARED)
    verdicts = tables["verdicts"].assign(called=called(tables["verdicts"]), key_sha="ab" * 32)
    return verdicts.join(alone.rename("plain"), on=["checkpoint", "layer"])


@pytest.fixture(scope="module")
def planted(tables, organisms):
    doses = [
        {"checkpoint": BLIND[name], "layer": layer, "dose": DOSES.get(name, 0.0), "dose_low": -0.01, "dose_high": 0.01}
        for name in RIGHT for layer in LAYERS
    ]  # fmt: skip
    return dose_curve(tables["claims"], tables["verdicts"], DECLARED, pd.DataFrame(doses), seen_by_gap(organisms))


@pytest.fixture(scope="module")
def curve(planted):
    rows = readings_of({name: name for name in ("original", *REAL.checkpoints)}, 2)
    real = judge(rows, REAL, gates_of(("original", *REAL.checkpoints)), dict.fromkeys(REAL.checkpoints, 0.5))
    return beside_organisms(planted, real["claims"], real["verdicts"], REAL)


# ---- what is counted from the parent ---------------------------------------------------------------------------------


def test_what_the_parent_carries_is_not_theirs():
    rows = readings_of({"parent": "parent", "sham": "child"}, 3)
    counted = counted_from(rows, "parent").set_index(["checkpoint", "sample", "layer"])["value"]
    before = rows.set_index(["checkpoint", "sample", "layer"])["value"]
    assert (counted["parent"] == 0).all()
    pd.testing.assert_series_equal(counted["child"], before["child"] - before["parent"])


def test_a_text_that_the_parent_lacks_is_missing_with_its_reason():
    rows = readings_of({"parent": "parent", "sham": "child"}, 3)
    lost, refused = "q00/harmful/0/own", "q01/harmful/0/own"
    rows["missing"] = rows["missing"].mask((rows["checkpoint"] == "parent") & (rows["sample"] == refused), "refused")
    counted = counted_from(rows[(rows["checkpoint"] != "parent") | (rows["sample"] != lost)], "parent")
    child = counted[counted["checkpoint"] == "child"].drop_duplicates("sample").set_index("sample")["missing"]
    assert child[child != ""].to_dict() == {lost: "not read in parent", refused: "refused"}
    with pytest.raises(UnknownNameError, match="checkpoint 'parnt'"):
        counted_from(rows, "parnt")


# ---- the matrix ------------------------------------------------------------------------------------------------------


def test_each_is_called_what_it_carries_and_the_gap_alone_misses_what_it_cannot_see(said, organisms):
    table = confusion(said, organisms)
    assert table.groupby(["rule", "organism"])["n"].sum().eq(len(LAYERS)).all()
    most = table[table["n"] > 0].sort_values("n").drop_duplicates(["rule", "organism"], keep="last")
    found = {rule: part.set_index("organism")["called"].to_dict() for rule, part in most.groupby("rule")}
    assert {name: word for name, word in found["called"].items() if name != "small"} == {
        name: word for name, word in RIGHT.items() if name != "small"
    }
    assert found["called"]["small"] in (NOTHING, INCONCLUSIVE)  # half of what the limit is
    assert found["plain"]["tonic"] == found["plain"]["rotated"] == found["plain"]["open"] == NOTHING
    shares = right_share(table)
    assert shares["called"] > 0.8 > 0.5 > shares["plain"]


def test_every_word_is_one_that_can_be_said(said):
    assert set(said["called"]) | set(said["plain"]) <= set(CALLED)


def test_a_key_of_other_names_is_refused(said, organisms):
    with pytest.raises(ConventionError, match=r"verdicts and key differ in organism\+mahs"):
        confusion(said, organisms[organisms["organism"] != "sham"])


# ---- the curve -------------------------------------------------------------------------------------------------------


def test_the_curve_holds_what_carries_a_hidden_dose_or_none_and_what_nobody_planted_in(curve):
    assert list(curve.columns) == list(CURVE_COLUMNS)
    assert set(curve["organism"]) == {"", *DOSES}
    assert set(curve.loc[curve["organism"] == "", "checkpoint"]) == {"antirefusal", "antirefusal_cqa"}
    found = curve.set_index(["checkpoint", "layer"])["found"]
    for layer in LAYERS:
        assert found[BLIND["large"], layer]
        assert found[BLIND["medium"], layer]
        assert found["antirefusal_cqa", layer]
        assert not found[BLIND["sham"], layer]
        assert not found["antirefusal", layer]


def test_an_organism_without_a_dose_is_refused(tables, organisms):
    doses = pd.DataFrame({"checkpoint": ["x"], "layer": [3], "dose": [0.0], "dose_low": [0.0], "dose_high": [0.0]})
    with pytest.raises(DataError, match="no realised dose"):
        dose_curve(tables["claims"], tables["verdicts"], DECLARED, doses, seen_by_gap(organisms))


def test_checkpoints_of_another_model_do_not_stand_beside_organisms(planted, tables):
    with pytest.raises(ConventionError, match="differ in model or probes"):
        beside_organisms(planted.assign(model="other"), tables["claims"], tables["verdicts"], DECLARED)


def test_the_limit_is_a_gap_that_is_found_with_its_power_at_the_level_of_the_family(curve):
    for limit in detection_limits(curve.assign(sd=0.2)):
        assert limit.slope == pytest.approx(SLOPE, abs=0.1)
        assert limit.dose == pytest.approx((limit.gap - limit.start) / limit.slope)
        assert power_different(QUESTIONS, 0.2, limit.gap, 0.05 / DECLARED.cells) == pytest.approx(0.8, abs=1e-4)


def test_at_the_limit_four_data_sets_in_five_are_found(curve):
    limit = detection_limits(curve.assign(sd=0.2))[0]
    values = np.random.default_rng(0).normal(limit.gap, 0.2, size=(QUESTIONS, 4000))
    assert (t_interval(values, 1 - 0.05 / DECLARED.cells)[1] > 0).mean() == pytest.approx(0.8, abs=0.02)


def test_a_limit_is_not_under_the_margin(curve):
    precise = detection_limits(curve.assign(sd=1e-4))[0]
    assert precise.gap == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda curve: curve[curve["organism"].isin(["sham", "large"])], "2 measurable organisms"),
        (lambda curve: curve.assign(mean=-curve["mean"]), "do not rise with the dose"),
        (lambda curve: curve.assign(n_questions=4), "4 questions at layer 3"),
    ],
)
def test_no_limit_without_a_rising_curve(change, words, curve):
    with pytest.raises(DataError, match=words):
        detection_limits(change(curve))


# ---- figures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def without_browser(monkeypatch):
    monkeypatch.setattr(figures, "_lack_for_images", lambda: "there is no browser")


@pytest.mark.parametrize("kind", ["confusion", "curve"])
@pytest.mark.usefixtures("without_browser")
def test_figures_are_drawn_again_from_their_csv(kind, tmp_path, said, organisms, curve):
    table = confusion(said, organisms) if kind == "confusion" else curve
    draw, read = (confusion_matrix, read_confusion) if kind == "confusion" else (detection_curves, read_curve)
    write_figure(tmp_path, kind, table, draw(table), {})
    again = draw(read(tmp_path / f"{kind}.csv"))
    write_figure(tmp_path / "again", kind, read(tmp_path / f"{kind}.csv"), again, {})
    assert store.sha256(tmp_path / f"{kind}.json") == store.sha256(tmp_path / "again" / f"{kind}.json")
    texts = [annotation.text for annotation in again.layout.annotations]
    assert sum(WATERMARK in str(text) for text in texts) == (2 if kind == "confusion" else 4)


def test_the_caption_names_key_limit_and_what_is_not_drawn(said, organisms, curve):
    def caption(figure):
        return next(t.text for t in figure.layout.annotations if t.text.startswith("Model m")).replace("<br>", " ")

    assert "sha256 abababababab" in caption(confusion_matrix(confusion(said, organisms)))
    words, limit = caption(detection_curves(curve)), detection_limits(curve)[0]
    assert f"(layer 3: dose {limit.dose:.2f}, gap {limit.gap:.2f}; layer 5" in words
    assert "not measurable is not drawn" in words
