"""Tables → figures. A figure is drawn from its table alone, so its CSV is enough to draw it again on a laptop.

    similarity_bars(similarity_table(readings, layers))            mean of each arm (the figure of arXiv 2606.04413)
    gap_forest(gap_table(readings, layers))                        paired difference between two arms
    write_figure(folder, name, table, figure, provenance)          CSV, HTML, JSON, and SVG and PNG where a browser is

Tables are made in probes.figure_tables; curves over layers are in probes.layer_curves, heatmaps in probes.heatmaps. Readings
of the embedded model (evidence "toy") carry a watermark inside the plotting area, which survives every export.
"""

import asyncio
import html
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from probes import store
from probes.errors import DataError
from probes.figure_tables import CONTROL_NOTE, ONE_OF, check_controlled
from probes.page import (
    GREY,
    GRID,
    INK,
    TEXT_TITLES,
    Legend,
    add_legend_entries,
    axis_words,
    check_one,
    contrast_words,
    distinct,
    empty_panels,
    error_bars,
    hover,
    label_hues,
    reference_marker,
    safe,
    share_x,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HATCHES = {"neutral": ".", "affect": "/", "third_party": "x"}
NO_IMAGES = "no SVG and PNG of {name}: {lack}. CSV, HTML and JSON are whole."
PATIENCE = 60.0
"""Seconds that a browser has for a figure; a machine under load takes ten."""
FAILED: list[str] = []
"""Why the browser drew nothing: it is not waited for again in this process."""


def similarity_bars(table: pd.DataFrame) -> "Figure":
    """Bars of the mean reading with intervals: rows are layers, columns text sources, emotions stand along x.

    Within an emotion the checkpoints stand side by side, and within a checkpoint its arms. Takes a similarity_table,
    from memory or from its CSV. Raises ConventionError where evidence, models or readouts are mixed.
    """
    emotions, labels, arms = (distinct(table, column) for column in ("emotion", "label", "arm"))
    hues, panel = label_hues(table), (min(max(9 * len(emotions) * len(labels) * len(arms), 520), 1000), 280)
    legends = Legend("checkpoint", labels), Legend("arm", arms)
    figure = _layer_panels(table, "Similarity of answers to emotion vectors", panel, legends, 30)
    width, places = _bar_places(len(labels), len(arms))
    for row, col, part in _parts(table):
        for label, arm, bars in _groups(part, "label", "arm"):
            shift = places[labels.index(label), arms.index(arm)]
            x = [emotions.index(emotion) + shift for emotion in bars["emotion"]]
            trace = {
                "type": "bar",
                "x": x,
                "y": bars["mean"].tolist(),
                "width": width,
                "error_y": error_bars(bars, INK),
            }
            figure.add_trace(trace | _named(bars) | {"marker": _fill(arm, hues[label])}, row=row, col=col)
    add_legend_entries(figure, {label: {"type": "bar", "marker": {"color": hue}} for label, hue in hues.items()})
    add_legend_entries(figure, {arm: {"type": "bar", "marker": _fill(arm, GREY)} for arm in arms}, legend=1)
    _name_positions(figure.update_xaxes, emotions)
    figure.update_xaxes(range=[-0.5, len(emotions) - 0.5], ticks="")
    figure.update_yaxes(gridcolor=GRID, zeroline=True, zerolinecolor=INK, zerolinewidth=1)
    figure.update_yaxes(title_text=axis_words(table), col=1)
    return figure.update_layout(barmode="overlay")


def gap_forest(table: pd.DataFrame) -> "Figure":
    """Points with intervals of the paired difference: rows are layers, columns text sources, emotions down the side.

    Takes a gap_table, from memory or from its CSV. Raises ConventionError where evidence, models or readouts are mixed,
    DataError where a gap would stand without its control.
    """
    check_controlled(table)
    emotions, labels, references = (distinct(table, column) for column in ("emotion", "label", "reference"))
    hues, lines = label_hues(table), len(labels) * len(references) + 1
    contrasts = {reference: contrast_words(table["arm"].iloc[0], reference) for reference in references}
    legends = Legend("checkpoint", labels), Legend("difference", list(contrasts.values()))
    title, panel = "Paired difference between two arms, within each checkpoint", (520, 14 * lines * len(emotions))
    figure = _layer_panels(table, title, panel, legends, 76, [CONTROL_NOTE])
    for row, col, part in _parts(table):
        for label, reference, points in _groups(part, "label", "reference"):
            line = labels.index(label) * len(references) + references.index(reference) + 1
            y = [emotions.index(emotion) - 0.5 + line / lines for emotion in points["emotion"]]
            trace = {"type": "scatter", "mode": "markers", "x": points["mean"].tolist(), "y": y}
            trace |= {"error_x": error_bars(points, hues[label]), "marker": reference_marker(reference, hues[label])}
            figure.add_trace(trace | _named(points), row=row, col=col)
    _add_forest_legends(figure, hues, contrasts)
    _name_positions(figure.update_yaxes, emotions)
    figure.update_yaxes(range=[len(emotions) - 0.5, -0.5], ticks="")
    figure.update_xaxes(gridcolor=GRID, zeroline=True, zerolinecolor=INK, zerolinewidth=1.5, title_standoff=8)
    share_x(figure, len(distinct(table, "layer")))
    return figure.update_xaxes(title_text=f"difference in {axis_words(table)}", row=len(distinct(table, "layer")))


def _layer_panels(
    table: pd.DataFrame,
    title: str,
    panel: tuple[int, int],
    legends: Sequence[Legend],
    axis_height: int,
    notes: Sequence[str] = (),
) -> "Figure":
    """Empty panels: a row a layer, a column a text source."""
    check_one(table, ONE_OF)
    names = [safe(TEXT_TITLES.get(source, source)) for source in distinct(table, "text_source")]
    titles = [[f"layer {layer} · {name}" for name in names] for layer in distinct(table, "layer")]
    return empty_panels(table, title, titles, panel, legends, axis_height, notes)


def _parts(table: pd.DataFrame) -> Iterator[tuple[int, int, pd.DataFrame]]:
    """Row and column of each panel, from 1, and what stands in it."""
    layers, sources = distinct(table, "layer"), distinct(table, "text_source")
    for (layer, source), part in table.groupby(["layer", "text_source"], sort=False):
        yield layers.index(layer) + 1, sources.index(source) + 1, part


def _groups(rows: pd.DataFrame, first: str, second: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for names, part in rows.groupby([first, second], sort=False):
        one, other = cast("tuple[str, str]", names)
        yield one, other, part


def _named(rows: pd.DataFrame) -> dict[str, Any]:
    """What a trace says on hover, and the legend entry that switches it on and off."""
    texts = [hover(row) for row in rows.to_dict("records")]
    return {"legendgroup": safe(rows["label"].iloc[0]), "showlegend": False, "hovertext": texts, "hoverinfo": "text"}


def _bar_places(n_labels: int, n_arms: int) -> tuple[float, dict[tuple[int, int], float]]:
    """Width of a bar, and its centre from the middle of the emotion, by label and arm; half a bar between labels."""
    step = 0.86 / (n_labels * (n_arms + 0.5) - 0.5)
    starts = {(label, arm): label * (n_arms + 0.5) + arm for label in range(n_labels) for arm in range(n_arms)}
    return 0.92 * step, {place: -0.43 + (start + 0.5) * step for place, start in starts.items()}


def _fill(arm: str, hue: str) -> dict[str, Any]:
    """Look of an arm's bars: harmful solid, benign a tint of the same hue, the others hatched."""
    look: dict[str, Any] = {"color": _tint(hue) if arm == "benign" else hue, "line": {"color": hue, "width": 1}}
    if arm in HATCHES:
        look["pattern"] = {"shape": HATCHES[arm], "fgcolor": hue, "bgcolor": "#FFFFFF", "size": 6, "solidity": 0.35}
    return look


def _tint(hue: str) -> str:
    channels = (int(hue[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(255 - 0.3 * (255 - channel)):02X}" for channel in channels)


def _add_forest_legends(figure: "Figure", hues: Mapping[str, str], contrasts: Mapping[str, str]) -> None:
    """Checkpoints as squares of their colour, differences as grey markers."""
    points = {"type": "scatter", "mode": "markers"}
    squares = {
        label: points | {"marker": {"color": hue, "symbol": "square", "size": 11}} for label, hue in hues.items()
    }
    markers = {words: points | {"marker": reference_marker(reference, GREY)} for reference, words in contrasts.items()}
    add_legend_entries(figure, squares)
    add_legend_entries(figure, markers, legend=1)


def _name_positions(update_axes: Callable[..., Any], emotions: Sequence[str]) -> None:
    """Emotions as the labels of positions 0, 1, …, with a line between neighbours."""
    update_axes(tickvals=list(range(len(emotions))), ticktext=[safe(emotion) for emotion in emotions])
    update_axes(showgrid=False, zeroline=False, minor={"tick0": -0.5, "dtick": 1, "showgrid": True, "gridcolor": GRID})


# ---- files ----------------------------------------------------------------------------------------------------------


def write_figure(
    folder: Path | str, name: str, table: pd.DataFrame, figure: "Figure", provenance: Mapping[str, Any]
) -> list[Path]:
    """Write name.csv, .html and .json, and .svg and .png where kaleido and a browser are; returns what was written.

    The HTML loads plotly.min.js, written once beside it. The JSON holds {"figure", "provenance"}. Equal tables and
    provenance give equal bytes of CSV, HTML and JSON. Without a browser one line on stderr says how to get one.
    Raises OutputError where the folder cannot be written, DataError for a name that is not a plain file name.
    """
    folder = store.check_folder(folder)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise DataError(f"figure name {name!r} is not a plain file name; use letters, digits, '_', '-' and '.'.")
    _write_script(folder)
    content = {"figure": json.loads(str(figure.to_json())), "provenance": dict(provenance)}
    written = [
        store.write_table(folder / f"{name}.csv", table),
        store.write_text(folder / f"{name}.html", _page(name, figure, provenance)),
        store.write_json(folder / f"{name}.json", content),
    ]
    return written + _write_images(folder, name, figure)


def _write_script(folder: Path) -> None:
    from plotly.offline import get_plotlyjs

    script, path = get_plotlyjs().encode(), folder / "plotly.min.js"
    if not path.is_file() or path.read_bytes() != script:
        store.write_bytes(path, script)


def _page(name: str, figure: "Figure", provenance: Mapping[str, Any]) -> str:
    from plotly.io import to_html

    plot = to_html(figure, config={"displaylogo": False}, include_plotlyjs=False, full_html=False, div_id=name)
    origin = html.escape(json.dumps(provenance, indent=1, sort_keys=True, ensure_ascii=False))
    title = figure.layout.title.text  # escaped where it was set
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<script src="plotly.min.js"></script></head>\n'
        f"<body>{plot}\n<details><summary>provenance</summary><pre>{origin}</pre></details></body></html>\n"
    )


def _write_images(folder: Path, name: str, figure: "Figure") -> list[Path]:
    lack = _lack_for_images()
    if not lack:
        from kaleido.errors import BrowserClosedError, BrowserFailedError

        try:
            images = _draw_images(figure)
            return [store.write_bytes(folder / f"{name}.{kind}", image) for kind, image in images.items()]
        except (BrowserClosedError, BrowserFailedError) as error:
            lack = f"the browser failed ({error.args[0] if error.args else type(error).__name__})"
            FAILED.append(lack)
    print(NO_IMAGES.format(name=name, lack=lack), file=sys.stderr)
    return []


def _draw_images(figure: "Figure") -> dict[str, bytes]:
    """SVG, and PNG a quarter larger, from one start of the browser; MathJax off, since it comes from the network.

    Kaleido's own server would be waited for without end where the browser does not start: here the error comes back, and a
    browser that says nothing is killed.
    """
    from kaleido import Kaleido
    from kaleido.errors import BrowserFailedError

    browser = Kaleido(mathjax=False)

    async def draw() -> tuple[bytes, bytes]:
        async with browser:
            svg = await browser.calc_fig(figure, opts={"format": "svg"})
            return svg, await browser.calc_fig(figure, opts={"format": "png", "scale": 1.25})

    with ThreadPoolExecutor(1) as thread:  # a notebook has a loop of its own in this one
        drawing = thread.submit(asyncio.run, draw())
        try:
            svg, png = drawing.result(PATIENCE)
        except TimeoutError:
            browser.subprocess.kill()
            raise BrowserFailedError(f"it said nothing for {PATIENCE:g} s") from None
    return {"svg": _with_fixed_ids(svg), "png": png}


def _with_fixed_ids(svg: bytes) -> bytes:
    """plotly.js names the parts of an SVG by six random digits; fixed ones make equal figures equal files."""
    found = re.search(rb'id="defs-([0-9a-f]{6})"', svg)
    return re.sub(rb"(?<=[a-z-])" + found[1], b"000000", svg) if found else svg


def _lack_for_images() -> str:
    """What is lacking for static images and how to get it; empty where nothing is."""
    try:
        from choreographer.browsers.chromium import Chromium
        from kaleido import calc_fig_sync  # noqa: F401
    except ImportError:
        return "kaleido is not installed (pip install 'emotion-probes[images]')"
    if Chromium.find_browser(skip_local=False) is None:
        return "there is no Chrome or Chromium (apt-get install chromium, or plotly_get_chrome)"
    return next(iter(FAILED), "")
