"""Heatmaps and intensity lines: drawn from the table alone, stamped when toy, warned when the probes learned nothing."""

import json

import numpy as np
import pandas as pd
import pytest

from probes import figures
from probes.directions import EmotionProbes
from probes.emotions import DOZEN
from probes.errors import ConventionError, FileFormatError, LayerError
from probes.figures import write_figure
from probes.heatmaps import (
    at_layer,
    cosine_heatmap,
    cosine_table,
    heatmap_table,
    intensity_lines,
    read_heatmap_table,
    scenario_heatmap,
)
from probes.page import EMOTION_HUES, EMOTION_MARKERS, WATERMARK

ABOUT = {
    "model": "tiny",
    "checkpoint": "original",
    "probes": "tiny/original",
    "evidence": "toy",
    "layer_convention": "layer i",
}
READ = ABOUT | {"stimuli": "scenarios", "span": "last_prompt", "readout": "centred_dot", "aggregation": "mean"}
NAMES = DOZEN[:4]
INJECTION = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
WARNING = "the probes do not read unseen stories above chance"


def unseen(low=0.5, layers=(0, 1)):
    return pd.DataFrame({"layer": layers, "accuracy": 0.6, "low": low, "chance": 0.25})


def matrix(values=None, **about):
    """Two baselines and layers of a matrix that is right everywhere but at `sad`, or of the values given."""
    values = np.eye(4) if values is None else np.asarray(values, float)
    rows = [
        {"baseline": b, "layer": layer, "stimulus_emotion": s, "probe_emotion": p, "value": values[i, j] * (1 + layer), "n": 3}
        for b in ("stimuli", "stories") for layer in (0, 1) for i, s in enumerate(NAMES) for j, p in enumerate(NAMES)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**{**READ, **about})


def scores():
    rows = [{"baseline": b, "layer": layer, "top1": 0.75} for b in ("stimuli", "stories") for layer in (0, 1)]
    return pd.DataFrame(rows).assign(**READ, text_top1=0.5, twin_top1=0.2, chance_top1=0.25)


def table_of(values=None, low=0.5, **about):
    kinds = {key: value for key, value in about.items() if key in ("stimuli", "span")}
    return heatmap_table(matrix(values, **about), scores().assign(**kinds), unseen(low), (0, 1))


def points(layer=0, **about):
    rows = [
        {"template": t, "emotion": e, "expected": sign, "place": k, "number": 10**k, "text": f"{t} {10**k}",
         "value": k - 1.0 + i, "rho": 1.0}
        for t in ("dog", "exam") for i, (e, sign) in enumerate((("sad", 1), ("calm", -1), ("bored", 0))) for k in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**{**READ, **about}, source="ours", baseline="template", layer=layer)


def probes(synthetic_activations, names=DOZEN, layers=2):
    rng = np.random.default_rng(0)
    mean = np.repeat(rng.standard_normal((len(names), layers, 30)), 3, axis=0)
    mean = mean + 0.01 * rng.standard_normal(mean.shape)
    return EmotionProbes("difference_of_means").fit(synthetic_activations(mean, emotion=np.repeat(names, 3)))


def maps(figure):
    return [trace for trace in figure.data if trace.type == "heatmap"]


def dots(figure):
    return [trace for trace in figure.data if trace.type == "scatter"]


def words(figure):
    return " ".join(note.text for note in figure.layout.annotations).replace("<br>", " ")


def drawings(synthetic_activations, **about):
    cosines = cosine_table(probes(synthetic_activations), (0, 1)).assign(**about)
    curves = at_layer(points(**about), unseen(), 0)
    return ((table_of(**about), scenario_heatmap), (cosines, cosine_heatmap), (curves, intensity_lines))


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def test_every_cell_is_a_value_of_the_table_and_white_is_zero():
    values = np.random.default_rng(0).standard_normal((4, 4))
    figure = scenario_heatmap(table_of(values))
    assert len(maps(figure)) == 4
    for trace, layer in zip(maps(figure), (0, 1, 0, 1), strict=True):
        assert tuple(trace.x) == tuple(trace.y) == NAMES
        np.testing.assert_allclose(trace.z, values * (1 + layer), rtol=1e-8)
        assert trace.zmin == -trace.zmax == pytest.approx(-np.abs(values).max() * (1 + layer))
        assert trace.colorscale[5] == (0.5, "#FFFFFF")
    assert figure.layout.yaxis.autorange == "reversed"


def test_a_dot_is_black_where_the_own_probe_is_largest_and_white_elsewhere():
    values = np.eye(4)
    values[1] = [0, 0, 5, 0]
    values[3] = 0.7
    marks = dots(scenario_heatmap(table_of(values)))[0]
    assert list(zip(marks.y, marks.x, strict=True)) == [
        (NAMES[0], NAMES[0]),
        (NAMES[1], NAMES[2]),
        (NAMES[2], NAMES[2]),
    ]
    assert list(marks.marker.color) == ["#222222", "#FFFFFF", "#222222"]


def test_a_matrix_of_nothing_has_no_dot_and_no_colour():
    figure = scenario_heatmap(table_of(np.zeros((4, 4))))
    assert all(len(trace.x) == 0 for trace in dots(figure))
    assert {trace.zmax for trace in maps(figure)} == {1.0}


def test_scores_and_baselines_stand_over_every_panel():
    notes = [note.text for note in scenario_heatmap(table_of()).layout.annotations]
    over = [text for text in notes if "top-1" in text]
    assert len(over) == 4
    for text in over:
        assert "top-1 0.75 · words 0.50 · random twin 0.20" in text
        assert "chance 0.25 · unseen stories 0.60" in text
    assert ["mean of the stories" in text for text in over] == [False, False, True, True]


@pytest.mark.parametrize(("low", "warned"), [(0.5, False), (0.25, True), (0.1, True)])
def test_probes_that_read_no_unseen_story_are_named_as_such(low, warned):
    for figure in (scenario_heatmap(table_of(low=low)), intensity_lines(at_layer(points(), unseen(low), 0))):
        assert (WARNING in words(figure)) == warned
    assert ("Layers 0, 1: " in words(scenario_heatmap(table_of(low=low)))) == warned


def test_the_control_says_that_chance_is_right():
    assert "A control" in words(scenario_heatmap(table_of(stimuli="questions", span="last_prompt")))
    assert "A control" not in words(scenario_heatmap(table_of(stimuli="questions", span="answer")))
    assert "A control" not in words(scenario_heatmap(table_of()))


def test_cosines_are_those_of_the_probes_in_one_order(synthetic_activations):
    fitted = probes(synthetic_activations)
    table = cosine_table(fitted, (1, 0))
    vectors = fitted.directions_
    for row in table.itertuples():
        expected = float(
            vectors.sel(emotion=row.emotion, layer=row.layer) @ vectors.sel(emotion=row.other, layer=row.layer)
        )
        assert row.cosine == pytest.approx(expected, abs=1e-6)
    orders = [part["emotion"].drop_duplicates().tolist() for _, part in table.groupby("layer", sort=False)]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == sorted(DOZEN)
    assert [(trace.zmin, trace.zmax) for trace in maps(cosine_heatmap(table))] == [(-1, 1)] * 2
    assert cosine_table(probes(synthetic_activations, DOZEN[:2]), (0,))["cosine"].min() == pytest.approx(-1)


def test_alike_probes_are_neighbours(synthetic_activations):
    rng = np.random.default_rng(0)
    basis, names = np.eye(30)[:6], DOZEN[:6]
    centres = basis[[0, 1, 2, 0, 1, 2]] + 0.3 * basis[[3, 3, 3, 4, 4, 4]]  # 0 and 3, 1 and 4, 2 and 5 are alike
    mean = np.repeat(centres, 3, axis=0)[:, None] + 0.001 * rng.standard_normal((18, 1, 30))
    fitted = EmotionProbes("difference_of_means").fit(synthetic_activations(mean, emotion=np.repeat(names, 3)))
    order = cosine_table(fitted, (0,))["emotion"].drop_duplicates().tolist()
    assert all(abs(order.index(names[i]) - order.index(names[i + 3])) == 1 for i in range(3))


def test_lines_are_the_curves_and_only_foretold_ones_have_colour():
    figure = intensity_lines(at_layer(points(), unseen(), 0))
    curves = [trace for trace in figure.data if trace.x[0] is not None]
    assert len(curves) == 2 * 3
    by_name = {trace.name: trace for trace in curves}
    assert list(by_name["calm"].y) == [0.0, 1.0, 2.0]
    assert by_name["calm"].line.color == EMOTION_HUES["calm"]
    assert by_name["bored"].line.color == "#CFCFCF"
    assert [trace.name for trace in figure.data if trace.x[0] is None] == ["sad", "calm"]
    assert tuple(figure.layout.xaxis.ticktext) == ("1", "10", "100")
    assert "sad ↑ ρ +1.00 · calm ↓ ρ +1.00" in words(figure)


def test_every_emotion_of_the_dozen_has_a_colour_and_a_marker_of_its_own():
    assert tuple(EMOTION_HUES) == tuple(EMOTION_MARKERS) == DOZEN
    assert len(set(EMOTION_HUES.values())) == len(set(EMOTION_MARKERS.values())) == 12


# ---- stamps, files, refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("evidence", ["toy", "model"])
def test_every_panel_of_toy_figures_is_stamped_and_no_other(synthetic_activations, evidence):
    for table, draw in drawings(synthetic_activations, evidence=evidence):
        figure = draw(table)
        stamps = [note.xref for note in figure.layout.annotations if WATERMARK in note.text]
        panels = sum(1 for key in figure.layout if key.startswith("xaxis"))
        assert len(set(stamps)) == len(stamps) == (panels if evidence == "toy" else 0)
        assert ("Toy units" in words(figure)) == (evidence == "toy")


def test_a_figure_is_drawn_again_from_its_csv(tmp_path, monkeypatch, synthetic_activations):
    monkeypatch.setattr(figures, "_lack_for_images", lambda: "there is no browser")
    for number, (table, draw) in enumerate(drawings(synthetic_activations)):
        write_figure(tmp_path, f"f{number}", table, draw(table), {})
        again = draw(read_heatmap_table(tmp_path / f"f{number}.csv"))
        assert again.to_json() == draw(table).to_json()
        assert json.loads((tmp_path / f"f{number}.json").read_text())["figure"] == json.loads(again.to_json())


def test_html_in_names_is_inert(tmp_path, monkeypatch, synthetic_activations):
    monkeypatch.setattr(figures, "_lack_for_images", lambda: "there is no browser")
    about = {"model": INJECTION, "probes": INJECTION}
    for number, (table, draw) in enumerate(drawings(synthetic_activations, **about)):
        table = table.assign(**{name: table[name].replace("dog", INJECTION) for name in ("template",) if name in table})
        write_figure(tmp_path, f"f{number}", table, draw(table), about)
        page = (tmp_path / f"f{number}.html").read_text()
        assert "<img" not in page
        assert "<script>alert" not in page


def test_what_must_not_be_mixed(synthetic_activations):
    for table, draw in drawings(synthetic_activations):
        for column in ("model", "evidence"):
            with pytest.raises(ConventionError, match=f"different {column}: .*another"):
                draw(pd.concat([table, table.assign(**{column: "another"})]))
    with pytest.raises(ConventionError, match="different layer: 0, 1"):
        intensity_lines(pd.concat([at_layer(points(layer), unseen(), layer) for layer in (0, 1)]))


def test_layers_that_are_not_there(synthetic_activations):
    with pytest.raises(LayerError, match="no layer 7; it holds 0, 1"):
        heatmap_table(matrix(), scores(), unseen(), (0, 7))
    with pytest.raises(LayerError, match="no layer 1; it holds 0"):
        heatmap_table(matrix(), scores(), unseen(layers=[0]), (0, 1))
    with pytest.raises(LayerError, match=r"no probes at layers \[7\]"):
        cosine_table(probes(synthetic_activations), (7,))


def test_another_csv_is_refused(tmp_path):
    (tmp_path / "f.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileFormatError, match="lacks the columns model, checkpoint"):
        read_heatmap_table(tmp_path / "f.csv")
