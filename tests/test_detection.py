"""Confusion, detection curve and limit, from effects whose truth is known; figures from their CSV alone."""

import numpy as np
import pandas as pd
import pytest

from probes import figures, store
from probes.detection import CURVE_COLUMNS, bounds, confusion, detection_limit, dose_curve, right_share
from probes.detection_figures import confusion_matrix, detection_curves, read_confusion, read_curve
from probes.errors import ConventionError, DataError
from probes.figures import write_figure
from probes.gates import NOT_MEASURABLE as SHUT
from probes.page import WATERMARK
from probes.power import power_different
from probes.verdicts import DELTA, MASKED, NONE, NOT_MEASURABLE, TONIC, verdicts
from test_verdicts import LAYERS, effects_of

SLOPE = 0.8
DOSES = {"sham": 0.0, "small": 0.1, "medium": 0.4, "large": 1.0}
RIGHT = {"sham": NONE, "small": MASKED, "medium": MASKED, "large": MASKED, "tonic": TONIC, "rotated": NOT_MEASURABLE}


@pytest.fixture(scope="module")
def organisms():
    names = [(f"organism+{name[::-1]}", name, right) for name, right in RIGHT.items()]
    return pd.DataFrame(names, columns=["checkpoint", "organism", "right"])


@pytest.fixture(scope="module")
def effects(organisms):
    """Gaps of SLOPE × dose, a tonic state that no gap shows, a rotated one behind a gate, and two checkpoints that are real."""
    blind = dict(zip(organisms["organism"], organisms["checkpoint"], strict=True))
    parts = [
        effects_of({"gap": SLOPE * d, "plain_gap": SLOPE * d}, checkpoint=blind[name]) for name, d in DOSES.items()
    ]
    parts.append(effects_of({"level": 0.5}, checkpoint=blind["tonic"]))
    parts.append(effects_of(gate=SHUT, why="blind", checkpoint=blind["rotated"]))
    for name, gap in (("antirefusal", 0.02), ("antirefusal_cqa", 0.3)):
        parts.append(effects_of({"gap": gap}, checkpoint=name).assign(reference="original", auc=float("nan")))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def said(effects, organisms):
    table = verdicts(effects).assign(key_sha="ab" * 32)
    return table[table["checkpoint"].isin(organisms["checkpoint"])]


@pytest.fixture(scope="module")
def curve(effects, organisms):
    rows = [
        {"checkpoint": one.checkpoint, "layer": layer, "dose": DOSES.get(one.organism, 0.0), "dose_low": -0.01, "dose_high": 0.01}
        for one in organisms.itertuples() for layer in LAYERS
    ]  # fmt: skip
    return dose_curve(effects, pd.DataFrame(rows), organisms)


def test_the_matrix_counts_and_the_gap_alone_gets_the_two_wrong_that_it_cannot_see(said, organisms):
    table = confusion(said, organisms)
    assert table.groupby(["rule", "organism"])["n"].sum().eq(1).all()
    wrong = {
        rule: set(part.loc[(part["n"] > 0) & (part["verdict"] != part["right"]), "organism"])
        for rule, part in table.groupby("rule")
    }
    assert wrong == {"plain_verdict": {"small", "tonic", "rotated"}, "verdict": {"small"}}
    assert right_share(table) == pytest.approx({"plain_verdict": 3 / 6, "verdict": 5 / 6})


def test_a_key_of_other_names_is_refused(said, organisms):
    with pytest.raises(ConventionError, match=r"verdicts and key differ in organism\+mahs"):
        confusion(said, organisms[organisms["organism"] != "sham"])


def test_the_curve_holds_what_carries_a_hidden_dose_or_none_and_what_nobody_planted_in(curve):
    assert list(curve.columns) == list(CURVE_COLUMNS)
    assert set(curve["organism"]) == {"", *DOSES}
    assert set(curve.loc[curve["organism"] == "", "checkpoint"]) == {"antirefusal", "antirefusal_cqa"}
    assert dict(zip(curve["organism"], curve["found"], strict=True)) == {
        "": True, "sham": False, "small": False, "medium": True, "large": True,
    }  # fmt: skip


def test_an_organism_without_a_dose_is_refused(effects, organisms):
    with pytest.raises(DataError, match="no realised dose"):
        dose_curve(effects, pd.DataFrame(columns=["checkpoint", "layer", "dose", "dose_low", "dose_high"]), organisms)


def test_the_limit_is_found_with_its_power(curve):
    for limit in detection_limit(curve):
        assert limit.slope == pytest.approx(SLOPE)
        assert limit.dose == pytest.approx(limit.gap / SLOPE)
        assert power_different(24, 0.1, limit.gap - DELTA) == pytest.approx(0.8, abs=1e-6)


def test_at_the_limit_four_data_sets_in_five_are_found(curve):
    limit, rng = detection_limit(curve)[0], np.random.default_rng(0)
    from probes.intervals import t_interval

    values = rng.normal(limit.gap, 0.1, size=(24, 4000))
    assert (t_interval(values)[1] > DELTA).mean() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda curve: curve[curve["organism"].isin(["sham", "large"])], "2 measurable organisms"),
        (lambda curve: curve.assign(mean=-curve["mean"]), "do not rise with the dose"),
    ],
)
def test_no_limit_without_a_rising_curve(change, words, curve):
    with pytest.raises(DataError, match=words):
        detection_limit(change(curve))


def test_a_null_is_a_bound_and_a_finding_is_none(effects, organisms, curve):
    others = verdicts(effects[~effects["checkpoint"].isin(organisms["checkpoint"])])
    claims = bounds(others, detection_limit(curve)).set_index("checkpoint")["claim"]
    assert claims["antirefusal"].startswith(
        "on these weights, masked guilty above 0.16 anchored units (a planted dose of 0.20)"
    )
    assert "power .8" in claims["antirefusal"]
    assert claims["antirefusal_cqa"].startswith("masked gap")


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
        return next(t.text for t in figure.layout.annotations if t.text.startswith("Model tiny")).replace("<br>", " ")

    assert "sha256 abababababab" in caption(confusion_matrix(confusion(said, organisms)))
    words = caption(detection_curves(curve))
    assert "power of .8 (layer 3: dose 0.20, gap 0.16" in words
    assert "not measurable is not drawn" in words
