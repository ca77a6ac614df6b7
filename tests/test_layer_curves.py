"""Curves over layers: every point a number of the table, nothing where nothing was read, the control beside every gap."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import emotion_gap
import read_replies
import similarity_by_layer
from probes import figures, store
from probes.comparison import arm_means, compare
from probes.directions import READINGS, EmotionProbes
from probes.emotions import PANEL
from probes.errors import ConventionError, DataError, LayerError, MissingInputError, UnknownNameError
from probes.figure_tables import read_figure_table
from probes.figures import write_figure
from probes.layer_curves import curve_table, gap_curves, layer_gaps, layer_means, similarity_curves
from probes.page import EMOTION_HUES, EMOTION_MARKERS, HUES, WATERMARK
from probes.readings import save_readings
from settings import Settings
from small_readings import INJECTION, small_readings

LAYERS = (2, 3, 4, 6)  # 5 was not read
CHECKPOINTS = ("antirefusal", "original")


def readings(**changes):
    return small_readings(**{"checkpoints": CHECKPOINTS, "layers": LAYERS, **changes})


@pytest.fixture(scope="module")
def means():
    return own(curve_table([layer_means(readings())], (3, 6), PANEL))


@pytest.fixture(scope="module")
def gaps():
    return curve_table([layer_gaps(readings())], (3, 6), PANEL)


@pytest.fixture(scope="module")
def similarity(means):
    return similarity_curves(means)


@pytest.fixture(scope="module")
def gap(gaps):
    return gap_curves(gaps)


@pytest.fixture
def without_browser(monkeypatch):
    monkeypatch.setattr(figures, "_lack_for_images", lambda: "there is no browser")


def own(table):
    return table[table["text_source"] == "own"]


def lines(figure):
    """Traces of curves in the order of drawing, without bands and legend entries."""
    return [trace for trace in figure.data if trace.fill is None and trace.x[0] is not None]


def bands(figure):
    return [trace for trace in figure.data if trace.fill == "toself"]


def caption(figure):
    return next(note.text for note in figure.layout.annotations if note.text.startswith("Model ")).replace("<br>", " ")


def titles(figure):
    return [
        note.text for note in figure.layout.annotations if note.text.startswith("<b>") and WATERMARK not in note.text
    ]


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_tables_hold_the_numbers_of_the_comparison_at_every_layer(means, gaps):
    keys = ["checkpoint", "text_source", "layer", "emotion", "arm"]
    for table, expected in ((means, arm_means(readings())), (gaps, compare(readings(), "harmful", "affect"))):
        chosen = table[table["reference"] == "affect"] if "reference" in table else table
        joined = chosen.merge(expected, on=keys, suffixes=("", "_expected"), validate="one_to_one")
        assert len(joined) == len(chosen)
        for column in ("mean", "low", "high"):
            np.testing.assert_allclose(joined[column], joined[f"{column}_expected"], rtol=1e-8)
    assert list(dict.fromkeys(means["layer"])) == list(LAYERS)


def test_a_checkpoint_at_a_time_gives_the_same_table(gaps):
    one_by_one = [layer_gaps(readings(checkpoints=(name,))) for name in CHECKPOINTS]
    apart = curve_table(one_by_one, (3, 6), PANEL)
    assert list(apart["checkpoint"].unique()) == ["original", "antirefusal"]
    assert apart.columns.tolist() == gaps.columns.tolist()
    assert len(apart) == len(gaps) == 2 * 2 * 2 * 4 * 4


def test_all_emotions_are_kept_and_some_are_chosen_in_their_order():
    table = [layer_means(readings(emotions=(*PANEL, "worn out")))]
    assert set(curve_table(table, ())["emotion"]) == {*PANEL, "worn out"}
    assert list(dict.fromkeys(curve_table(table, (), ("guilty", "calm"))["emotion"])) == ["guilty", "calm"]
    with pytest.raises(UnknownNameError, match=r"unknown emotion 'hapy'\. Did you mean 'happy'"):
        curve_table(table, (), ("hapy",))


def test_layers_chosen_beforehand_are_marked(means, similarity):
    assert set(means.loc[means["marked"], "layer"]) == {3, 6}
    figure = similarity
    upright = [shape for shape in figure.layout.shapes if shape.x0 == shape.x1]
    assert sorted({(shape.xref, shape.x0) for shape in upright}) == sorted(
        (f"x{panel or ''}", layer) for panel in (0, 2, 3, 4, 5, 6) for layer in (3, 6)
    )
    assert "layers chosen beforehand (3, 6); the others are exploratory" in caption(figure)


# ---- curves ----------------------------------------------------------------------------------------------------------


def test_every_point_is_a_mean_of_the_table_and_every_band_its_interval(means, gaps, similarity, gap):
    for table, figure, keys in (
        (means, similarity, ["label", "arm", "emotion"]),
        (gaps, gap, ["emotion", "text_source", "reference", "label"]),
    ):
        curves = list(table.groupby(keys, sort=False))
        assert len(lines(figure)) == len(bands(figure)) == len(curves)
        for line, band, (_, rows) in zip(lines(figure), bands(figure), curves, strict=True):
            at = dict(zip(line.x, line.y, strict=True))
            assert [at[layer] for layer in rows["layer"]] == rows["mean"].tolist()
            outline = {(x, y) for x, y in zip(band.x, band.y, strict=True) if x is not None}
            assert outline == {
                *zip(rows["layer"], rows["low"], strict=True),
                *zip(rows["layer"], rows["high"], strict=True),
            }


def test_the_simultaneous_band_is_that_of_the_table_and_says_so(gaps, gap):
    figure = gap_curves(gaps, band="simultaneous")
    curves = list(gaps.groupby(["emotion", "text_source", "reference", "label"], sort=False))
    for band, inner, (_, rows) in zip(bands(figure), bands(gap), curves, strict=True):
        outline = {(x, y) for x, y in zip(band.x, band.y, strict=True) if x is not None}
        ends = [*rows["low_simultaneous"], *rows["high_simultaneous"]]
        assert outline == set(zip([*rows["layer"], *rows["layer"]], ends, strict=True))
        assert max(y for y in band.y if y is not None) > max(y for y in inner.y if y is not None)
    assert "simultaneous 95% intervals" in caption(figure)
    assert (
        "the band of a family, which holds all its means at once: these cells (64 in all), contrast by contrast"
        in caption(figure)
    )
    assert "by itself" not in caption(figure)
    np.testing.assert_array_equal([line.y for line in lines(figure)], [line.y for line in lines(gap)])
    with pytest.raises(UnknownNameError, match=r"unknown band 'simultanous'\. Did you mean 'simultaneous'"):
        gap_curves(gaps, band="simultanous")


def test_nothing_is_drawn_at_a_layer_that_was_not_read(similarity):
    figure = similarity
    for line, band in zip(lines(figure), bands(figure), strict=True):
        assert list(line.x) == [2, 3, 4, 5, 6]
        assert [np.isnan(y) for y in line.y] == [False, False, False, True, False]
        assert line.connectgaps is None
        assert line.hovertext[3] == ""
        pieces = " ".join("|" if x is None else str(x) for x in band.x)
        assert pieces == "2 3 4 4 3 2 | 6 6 |"
    assert json.loads(figure.to_json())["data"][1]["y"][3] is None


def test_a_curve_without_intervals_is_pale_and_says_so():
    table = own(curve_table([layer_means(readings(refused=3))], (3,), PANEL))
    figure = similarity_curves(table)
    pale = [line.opacity < 1 for line in lines(figure)]
    assert pale == [arm == "harmful" for _ in CHECKPOINTS for arm in ("benign", "affect", "harmful") for _ in PANEL]
    assert [len(band.x) == 0 for band in bands(figure)] == pale
    assert "Pale: no interval." in caption(figure)
    assert "n = 8 to 11 where answers are missing" in caption(figure)
    assert "interval refused: 8 questions" in lines(figure)[8].hovertext[0]


def test_long_curves_show_some_markers_and_a_layer_alone_always_has_its_own(similarity):
    deep = curve_table(
        [layer_means(small_readings(layers=range(15), checkpoints=("original",), emotions=("calm",)))], ()
    )
    assert {line.marker.maxdisplayed for line in lines(similarity_curves(own(deep)))} == {12}
    assert {line.marker.maxdisplayed for line in lines(similarity)} == {0}


def test_panels_say_what_they_hold_and_share_the_scale_of_their_row(similarity, gap):
    assert titles(similarity) == [
        f"<b>{label}</b> · {arm}" for label in ("original", "antirefusal") for arm in ("benign", "affect", "harmful")
    ]
    figure = gap
    assert titles(figure) == [
        f"<b>{emotion}</b> · harmful − {reference}<br>{text}"
        for emotion in PANEL for text in ("own answers", "same text") for reference in ("affect", "benign")
    ]  # fmt: skip
    assert [figure.layout[f"yaxis{panel}"].matches for panel in (2, 3, 4, 6)] == ["y", "y", "y", "y5"]
    assert figure.layout.yaxis.title.text.startswith(
        "difference in cosine with emotion vector<br>(mean of token cosines)"
    )


def test_an_emotion_and_a_checkpoint_look_as_in_every_figure(gaps, similarity, gap):
    looks = {trace.name: trace for trace in similarity.data if trace.name}
    assert {name: (trace.line.color, trace.marker.symbol) for name, trace in looks.items()} == {
        emotion: (EMOTION_HUES[emotion], EMOTION_MARKERS[emotion]) for emotion in PANEL
    }
    legend = {trace.name: trace.line for trace in gap.data if trace.name}
    assert {name: line.color for name, line in legend.items()} == {name: HUES[name] for name in CHECKPOINTS}
    assert len({line.dash for line in legend.values()}) == 2
    symbols = {trace.marker.symbol for trace in lines(gap_curves(gaps[gaps["reference"] == "affect"]))}
    assert symbols == {"diamond-open"}


def test_numbers_carry_what_is_needed_to_read_them_alone(means, gaps, similarity, gap):
    for table, figure in ((means, similarity), (gaps, gap)):
        for fact in (
            "n = 11", "95% t interval over questions", "Probes: tiny/original (sofroniew)", "Baseline: none",
            "Read over the answer", "Layer i is the output of block i, 0-based", "(seed 0)", "the interval of each layer by itself",
            "Toy units",
        ):  # fmt: skip
            assert fact in caption(figure)
        assert re.search(
            r"^original · happy.*cosine, mean_of_token_cosines.*evidence toy", lines(figure)[0].hovertext[0]
        )
        assert not table.drop(columns=["note", "baseline"]).isna().any().any()
    assert re.search(r"p = .* \(sign flips, all 2,048\)", lines(gap)[0].hovertext[0])


# ---- refusals, stamps, files -----------------------------------------------------------------------------------------


def test_a_gap_is_never_drawn_without_its_control(gaps, gap):
    with pytest.raises(DataError, match="a gap is never shown without its control, the arm 'affect'"):
        gap_curves(gaps[gaps["reference"] == "benign"])
    assert "Harmful − affect is the controlled gap" in caption(gap)


@pytest.mark.parametrize("column", ["evidence", "model", "baseline", "readout", "probes"])
def test_what_must_not_be_mixed(column, means, gaps):
    for table, draw in ((means, similarity_curves), (gaps, gap_curves)):
        with pytest.raises(ConventionError, match=f"different {column}: .*another"):
            draw(pd.concat([table, table.assign(**{column: "another"})]))


def test_one_text_source_a_figure_of_similarity():
    with pytest.raises(ConventionError, match="different text_source: original, own"):
        similarity_curves(curve_table([layer_means(readings())], (), PANEL))


@pytest.mark.parametrize("evidence", ["toy", "model"])
def test_every_panel_of_toy_figures_is_stamped_and_no_other(evidence):
    rows = readings(evidence=evidence)
    for figure, panels in (
        (similarity_curves(own(curve_table([layer_means(rows)], (), PANEL))), 6),
        (gap_curves(curve_table([layer_gaps(rows)], (), PANEL)), 16),
    ):
        stamps = [note for note in figure.layout.annotations if WATERMARK in note.text]
        assert len({note.xref for note in stamps}) == len(stamps) == (panels if evidence == "toy" else 0)
        assert all(note.font.size >= 12 for note in figure.layout.annotations)
        assert ("toy units" in figure.to_json()) == (evidence == "toy")


def test_a_figure_is_drawn_again_from_its_csv(tmp_path, means, similarity, gaps, gap, without_browser):
    few = own(curve_table([layer_means(readings(refused=3).assign(baseline=None, seed=np.nan))], (), PANEL))
    for name, table, figure, draw in (
        ("means", means, similarity, similarity_curves),
        ("gaps", gaps, gap, gap_curves),
        ("few", few, similarity_curves(few), similarity_curves),
    ):
        write_figure(tmp_path, name, table, figure, {})
        again = draw(read_figure_table(tmp_path / f"{name}.csv"))
        assert again.to_json() == figure.to_json()
        assert json.loads((tmp_path / f"{name}.json").read_text())["figure"] == json.loads(again.to_json())


def test_html_in_names_is_inert(tmp_path, without_browser):
    rows = readings(checkpoints=(INJECTION, "original")).assign(model=INJECTION, probes=INJECTION)
    means, gaps = own(curve_table([layer_means(rows)], (), PANEL)), curve_table([layer_gaps(rows)], (), PANEL)
    for name, table, figure in (("means", means, similarity_curves(means)), ("gaps", gaps, gap_curves(gaps))):
        write_figure(tmp_path, name, table, figure, {"model": INJECTION})
        page = (tmp_path / f"{name}.html").read_text()
        assert "<img" not in page
        assert "alert(2)</script>" not in page
        assert set(re.findall(r"<[^>]*>", " ".join(titles(figure)))) <= {"<br>", "<b>", "</b>"}


# ---- the scripts -----------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path, synthetic_activations):
    """A study whose probes were fitted at layers 4 to 6, with readings of three checkpoints there."""
    chosen = Settings(out=tmp_path / "runs", figures=tmp_path / "figures")
    names = (*PANEL, "worn out")
    mean = np.repeat(np.random.default_rng(0).standard_normal((5, 3, 16)), 2, axis=0)
    stories = synthetic_activations(mean, layers=[4, 5, 6], emotion=np.repeat(names, 2))
    EmotionProbes("difference_of_means").fit(stories).save(chosen.probes)
    for name in chosen.checkpoints:
        save_readings(chosen.readings(name), small_readings((name,), layers=(4, 5, 6), emotions=names))
    return chosen


def test_the_scripts_draw_the_panel_and_keep_every_emotion(settings, without_browser, capsys):
    similarity_by_layer.main(settings)
    emotion_gap.main(settings)
    for name, drawn in (("similarity_by_layer", ("panel_own", "panel_original")), ("emotion_gap", ("panel",))):
        folder = settings.figure_folder(name)
        kept = {f"{figure}.{kind}" for figure in drawn for kind in ("csv", "html", "json")}
        assert {path.name for path in folder.iterdir()} == kept | {"every_emotion.csv", "plotly.min.js"}
        assert set(pd.read_csv(folder / "every_emotion.csv")["emotion"]) == {*PANEL, "worn out"}
        for figure in drawn:
            table = read_figure_table(folder / f"{figure}.csv")
            assert set(table["emotion"]) == set(PANEL)
            assert set(table["layer"]) == {4, 5, 6}
            assert set(table.loc[table["marked"], "layer"]) == set(settings.shown_layers) == {5, 6}
            assert set(table["checkpoint"]) == set(settings.checkpoints)
            assert store.read_json(folder / f"{figure}.json")["provenance"]["inputs"]
    assert capsys.readouterr().out.count(".csv\n") == 3


@pytest.mark.parametrize("script", [similarity_by_layer, emotion_gap])
def test_without_readings_nothing_is_written(script, tmp_path):
    with pytest.raises(MissingInputError, match=r"read_replies\.py"):
        script.main(Settings(out=tmp_path / "runs", figures=tmp_path / "figures"))
    assert list(tmp_path.iterdir()) == []


def test_replies_are_read_at_every_fitted_layer_by_the_papers_readout_and_by_others_where_shown(
    settings, synthetic_activations
):
    probes = read_replies.load_probes(settings.probes)
    values = np.random.default_rng(1).standard_normal((2, 3, 16))
    replies = synthetic_activations(values, values, layers=[4, 5, 6])
    table = read_replies.read(settings, probes, replies)
    held = table.groupby(["readout", "aggregation", "baseline"])["layer"].agg(lambda layers: tuple(sorted(set(layers))))
    assert held.to_dict() == {
        (str(r.readout), r.aggregation, r.baseline): (4, 5, 6) if r in read_replies.SWEPT else (5, 6) for r in READINGS
    }
    whole = probes.read(replies)
    joined = table.merge(whole, on=[name for name in whole if name != "value"], validate="one_to_one")
    assert len(joined) == len(table)
    np.testing.assert_array_equal(joined["value_x"], joined["value_y"])


def test_a_layer_without_probes_is_named_before_anything_is_captured(settings):
    with pytest.raises(LayerError, match=r"no probes at layers \[7\]; fitted are \[4, 5, 6\]"):
        read_replies.main(Settings(layers=(5, 7), out=settings.out, figures=settings.figures))
