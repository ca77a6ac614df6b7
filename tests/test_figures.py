"""Figures: drawn from the table alone, the same to the byte, stamped when toy, and inert whatever the names hold."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from probes import figures
from probes.errors import DataError, OutputError
from probes.figure_tables import gap_table, read_figure_table, similarity_table
from probes.figures import gap_forest, similarity_bars, write_figure
from probes.page import HUES, WATERMARK
from small_readings import INJECTION, small_readings


@pytest.fixture(scope="module")
def bars():
    return similarity_table(small_readings(), layers=(3, 5), arms=("benign", "harmful", "affect"))


@pytest.fixture(scope="module")
def gaps():
    return gap_table(small_readings(), layers=(3, 5))


@pytest.fixture
def without_browser(monkeypatch):
    monkeypatch.setattr(figures, "_lack_for_images", lambda: "there is no browser")


def _data(figure, kind):
    """Traces with data, in the order of drawing; the others stand for legend entries."""
    return [trace for trace in figure.data if trace.type == kind and trace.x[0] is not None]


def _texts(figure):
    return [annotation.text for annotation in figure.layout.annotations]


def _annotation(figure, beginning):
    return next(text for text in _texts(figure) if text.startswith(beginning))


# ---- figures --------------------------------------------------------------------------------------------------------


def test_several_training_runs_stand_apart():
    readings = pd.concat([small_readings(), small_readings(checkpoints=("antirefusal",)).assign(seed=1)])
    table = similarity_table(readings, layers=[3])
    assert list(dict.fromkeys(table["label"])) == ["original", "antirefusal, seed 0", "antirefusal, seed 1"]
    figure = similarity_bars(table)
    hues = {trace.name: trace.marker.color for trace in figure.data if trace.name}
    assert hues["antirefusal, seed 0"] == hues["antirefusal, seed 1"] == HUES["antirefusal"]
    assert "these weights" not in _annotation(figure, "Model tiny.")


def test_one_training_run_is_said_to_be_one(bars):
    caption = _annotation(similarity_bars(bars), "Model tiny.").replace("<br>", " ")
    assert "One training run a checkpoint (seed 0): the intervals are about these weights." in caption


def test_a_gap_is_never_drawn_without_its_control(gaps):
    with pytest.raises(DataError, match=r"differences from benign alone; .* without its control, the arm 'affect'"):
        gap_forest(gaps[gaps["reference"] == "benign"])
    caption = _annotation(gap_forest(gaps), "Model tiny.").replace("<br>", " ")
    assert "Harmful − affect is the controlled gap" in caption


def test_a_mean_without_an_interval_has_no_bar_of_no_width():
    bar = _data(similarity_bars(similarity_table(small_readings(refused=3), layers=[3], emotions=["calm"])), "bar")[1]
    assert (tuple(bar.error_y.array), tuple(bar.error_y.arrayminus)) == (("none",), ("none",))


def test_every_bar_is_a_mean_of_the_table(bars):
    traces = _data(similarity_bars(bars), "bar")
    groups = bars.groupby(["layer", "text_source", "label", "arm"], sort=False)
    assert len(traces) == len(groups) == 2 * 2 * 2 * 3
    for trace, (_, rows) in zip(traces, groups, strict=True):
        assert list(trace.y) == list(rows["mean"])
        np.testing.assert_allclose(np.add(trace.y, trace.error_y.array), rows["high"])
        np.testing.assert_allclose(np.subtract(trace.y, trace.error_y.arrayminus), rows["low"])
        assert [round(x) for x in trace.x] == [0, 1, 2, 3]


def test_no_two_bars_of_a_panel_overlap(bars):
    figure = similarity_bars(bars)
    traces = [trace for trace in _data(figure, "bar") if trace.xaxis == "x"]
    places = sorted(x for trace in traces for x in trace.x)
    assert min(np.diff(places)) > traces[0].width
    assert places[-1] < 3.5


def test_every_point_is_a_difference_of_the_table(gaps):
    traces = _data(gap_forest(gaps), "scatter")
    groups = gaps.groupby(["layer", "text_source", "label", "reference"], sort=False)
    assert len(traces) == len(groups) == 2 * 2 * 2 * 2
    for trace, (_, rows) in zip(traces, groups, strict=True):
        assert list(trace.x) == list(rows["mean"])
        np.testing.assert_allclose(np.add(trace.x, trace.error_x.array), rows["high"])
    places = [(trace.xaxis, y) for trace in traces for y in trace.y]
    assert len(set(places)) == len(places)


def test_panels_say_layer_and_text_and_share_the_scale_of_their_row(bars, gaps):
    for figure in (similarity_bars(bars), gap_forest(gaps)):
        expected = [f"layer {layer} · {text}" for layer in (3, 5) for text in ("own answers", "same text")]
        assert _texts(figure)[:4] == expected
    assert gap_forest(gaps).layout.xaxis4.matches == "x3"
    assert similarity_bars(bars).layout.yaxis4.matches == "y3"


def test_a_checkpoint_and_an_arm_always_look_the_same(bars):
    full = similarity_bars(bars)
    part = similarity_bars(bars[(bars["checkpoint"] == "antirefusal") & (bars["arm"] == "harmful")])
    colours = {trace.name: trace.marker.color for trace in full.data if trace.name}
    assert {colours[name] for name in ("original", "antirefusal")} == {"#0072B2", "#E69F00"}
    assert {trace.marker.color for trace in _data(part, "bar")} == {"#E69F00"}
    assert [trace.name for trace in full.data if trace.legend == "legend2"] == ["benign", "affect", "harmful"]


def test_axis_and_caption_say_what_was_read(bars):
    figure = similarity_bars(bars)
    assert figure.layout.yaxis.title.text == "cosine with emotion vector<br>(mean of token cosines), toy units"
    caption = _annotation(figure, "Model tiny.").replace("<br>", " ")
    for fact in (
        "n = 11", "95% t interval over questions", "Probes: tiny/original (sofroniew)", "Baseline: none",
        "Layer i is the output of block i, 0-based", "the original's benign answer, forced", "Toy units",
    ):  # fmt: skip
        assert fact.replace("'", "&#x27;") in caption or fact in caption


def test_missing_answers_show_in_caption_and_hover():
    table = similarity_table(small_readings(refused=3), layers=[3])
    figure = similarity_bars(table)
    caption = _annotation(figure, "Model tiny.").replace("<br>", " ")
    assert "n = 8 to 11 where answers are missing" in caption
    assert "No interval where fewer than 10" in caption
    hover = "".join(text for trace in _data(figure, "bar") for text in trace.hovertext)
    assert "8 questions, 3 missing" in hover
    assert "no interval" in hover
    assert "interval refused: 8 questions, at least 10 needed" in hover


def test_hover_of_a_difference_holds_its_test(gaps):
    hover = _data(gap_forest(gaps), "scatter")[0].hovertext[0]
    assert re.search(r"original · happy · harmful − affect<br>.*p = .* \(sign flips, all 2,048\)", hover)


@pytest.mark.parametrize("evidence", ["toy", "model"])
def test_the_watermark_stands_in_every_panel_of_toy_figures_only(evidence):
    readings = small_readings(evidence=evidence)
    drawn = (
        similarity_bars(similarity_table(readings, layers=[3, 5])),
        gap_forest(gap_table(readings, layers=[3, 5])),
    )
    for figure in drawn:
        stamps = [note for note in figure.layout.annotations if WATERMARK in note.text]
        assert [note.xref for note in stamps] == (
            ["x domain", "x2 domain", "x3 domain", "x4 domain"] if evidence == "toy" else []
        )
        assert ("toy units" in figure.to_json()) == (evidence == "toy")


# ---- files ----------------------------------------------------------------------------------------------------------


def test_a_figure_is_drawn_again_from_its_csv(tmp_path, bars, gaps, without_browser):
    shorter = similarity_table(small_readings(refused=5).assign(baseline=None, seed=np.nan), layers=[3])
    for name, table, draw in (
        ("bars", bars, similarity_bars), ("gaps", gaps, gap_forest), ("few", shorter, similarity_bars)
    ):  # fmt: skip
        write_figure(tmp_path, name, table, draw(table), {})
        again = draw(read_figure_table(tmp_path / f"{name}.csv"))
        assert again.to_json() == draw(table).to_json()
        assert json.loads((tmp_path / f"{name}.json").read_text())["figure"] == json.loads(again.to_json())


def test_two_runs_write_equal_bytes(tmp_path, without_browser):
    for folder in ("a", "b"):
        table = similarity_table(small_readings().sample(frac=1, random_state=len(folder)), layers=[3])
        written = write_figure(tmp_path / folder, "f", table, similarity_bars(table), {"seed": 0, "commit": "abc"})
        assert [path.name for path in written] == ["f.csv", "f.html", "f.json"]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_plotly_is_written_once_beside_the_pages(tmp_path, bars, without_browser):
    write_figure(tmp_path, "one", bars, similarity_bars(bars), {})
    first = (tmp_path / "plotly.min.js").stat().st_mtime_ns
    write_figure(tmp_path, "two", bars, similarity_bars(bars), {})
    assert (tmp_path / "plotly.min.js").stat().st_mtime_ns == first
    page = (tmp_path / "two.html").read_text()
    assert page.count('<script src="plotly.min.js">') == 1
    assert "https://cdn" not in page


def test_provenance_travels_with_json_and_page(tmp_path, bars, without_browser):
    write_figure(tmp_path, "f", bars, similarity_bars(bars), {"source": "<script>alert(3)</script>", "seed": 7})
    assert json.loads((tmp_path / "f.json").read_text())["provenance"]["seed"] == 7
    page = (tmp_path / "f.html").read_text()
    assert "&quot;seed&quot;: 7" in page
    assert "<script>alert" not in page
    assert list(pd.read_csv(tmp_path / "f.csv").columns) == list(bars.columns)


def _strings(value):
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def test_html_in_names_is_inert(tmp_path, without_browser):
    readings = small_readings(checkpoints=(INJECTION, "original")).assign(model=INJECTION, probes=INJECTION)
    table, gaps = similarity_table(readings, layers=[3]), gap_table(readings, layers=[3])
    for name, part, figure in (("bars", table, similarity_bars(table)), ("gaps", gaps, gap_forest(gaps))):
        write_figure(tmp_path, name, part, figure, {"model": INJECTION})
        page = (tmp_path / f"{name}.html").read_text()
        assert "<img" not in page
        assert "alert(2)</script>" not in page
        tags = {tag for text in _strings(figure.to_plotly_json()) for tag in re.findall(r"<[^>]*>?", text)}
        assert tags <= {"<br>", "<b>", "</b>"}
        assert not any("<b>bold" in text for text in _strings(figure.to_plotly_json()))
    assert set(read_figure_table(tmp_path / "bars.csv")["checkpoint"]) == {INJECTION, "original"}


def test_a_file_in_place_of_the_folder(tmp_path, bars):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="taken"):
        write_figure(tmp_path / "taken", "f", bars, similarity_bars(bars), {})


@pytest.mark.parametrize("name", ["", "../f", "a/b", "f'); alert(1)"])
def test_a_name_that_is_no_file_name(tmp_path, bars, name):
    with pytest.raises(DataError, match="not a plain file name"):
        write_figure(tmp_path, name, bars, similarity_bars(bars), {})


def test_without_a_browser_one_line_says_so(tmp_path, bars, without_browser, capsys):
    write_figure(tmp_path, "f", bars, similarity_bars(bars), {})
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["no SVG and PNG of f: there is no browser. CSV, HTML and JSON are whole."]


def test_the_detector_says_how_to_get_a_browser(monkeypatch):
    chromium = pytest.importorskip("choreographer.browsers.chromium")
    monkeypatch.setattr(chromium.Chromium, "find_browser", classmethod(lambda *_, **__: None))
    assert "apt-get install chromium" in figures._lack_for_images()


@pytest.mark.parametrize("browser", ["exit 1", "exec sleep 60"])
def test_a_browser_that_fails_costs_the_images_only_and_is_waited_for_once(
    browser, tmp_path, bars, monkeypatch, capsys
):
    pytest.importorskip("kaleido")
    started = tmp_path / "started"
    script = tmp_path / "chromium"
    script.write_text(f"#!/bin/sh\necho once >> {started}\n{browser}\n")
    script.chmod(0o700)
    monkeypatch.setenv("BROWSER_PATH", str(script))
    monkeypatch.setattr(figures, "PATIENCE", 1.0)
    monkeypatch.setattr(figures, "FAILED", [])
    for name in ("f", "g"):
        assert len(write_figure(tmp_path / "figures", name, bars, similarity_bars(bars), {})) == 3
        assert f"{name}: the browser failed (" in capsys.readouterr().err
    assert started.read_text() == "once\n"


def test_ids_of_an_svg_are_fixed():
    svg = b'<defs id="defs-19fa9c"><clipPath id="clip19fa9cxyplot"/><path style="fill:#19fa9c" clip="url(#clip19fa9cxy)"/>'
    fixed = figures._with_fixed_ids(svg)
    assert fixed.count(b"000000") == 3
    assert b"#19fa9c" in fixed


@pytest.mark.skipif(figures._lack_for_images() != "", reason="no browser: " + figures._lack_for_images())
def test_images_are_drawn_with_the_watermark(tmp_path, bars):
    figure = similarity_bars(bars)
    written = write_figure(tmp_path, "f", bars, figure, {})
    assert [path.suffix for path in written] == [".csv", ".html", ".json", ".svg", ".png"]
    png = written[-1].read_bytes()
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == 1.25 * figure.layout.width
    assert written[-2].read_text().count(WATERMARK) >= 4
