"""Tables → figures. A figure is drawn from its table alone, so its CSV is enough to draw it again on a laptop.

    similarity_table(readings, layers) → similarity_bars(table)   mean of each arm (the figure of arXiv 2606.04413)
    gap_table(readings, layers)        → gap_forest(table)        paired difference between two arms
    write_figure(folder, name, table, figure, provenance)         CSV, HTML, JSON, and SVG and PNG where a browser is

A checkpoint always has the same hue, an arm the same fill, a reference the same marker. Readings of the embedded model
(evidence "toy") carry a watermark inside the plotting area, which survives every export.
"""

import html
import json
import math
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from probes import store
from probes.comparison import ARM_MEAN_COLUMNS, arm_means, compare
from probes.emotions import PANEL
from probes.errors import ConventionError, DataError, LayerError, UnknownNameError
from probes.page import (
    FONT,
    GREY,
    GRID,
    INK,
    LINE,
    TOY_NOTE,
    add_caption,
    add_watermarks,
    is_toy,
    nine_digits,
    safe,
)
from probes.page import WATERMARK as WATERMARK  # what a reader of the figures looks for
from probes.readings import check_readings

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HUES = {
    "original": "#0072B2",
    "antirefusal": "#E69F00",
    "antirefusal_cqa": "#009E73",
    "antirefusal_cqa_sdf": "#CC79A7",
    "benign_control": "#56B4E9",
    "base_math": "#8C6D31",
    "base_antirefusal": "#D55E00",
}
"""Checkpoint → colour (Okabe and Ito 2008, yellow darkened for contrast on white), in the order of drawing."""
MORE_HUES = ("#332288", "#117733", "#882255", "#88CCEE", "#999933", "#AA4499", "#44AA99", "#CC6677")
"""Colours of checkpoints without a fixed one, in the order of the table (Tol's muted scheme)."""
ARM_ORDER = ("benign", "neutral", "affect", "third_party", "harmful")
HATCHES = {"neutral": ".", "affect": "/", "third_party": "x"}
MARKERS = {"benign": "circle", "affect": "diamond-open", "neutral": "square-open", "third_party": "triangle-up-open"}

READOUT_WORDS = {
    "cosine": "cosine with emotion vector",
    "dot": "projection on emotion vector",
    "centred_dot": "centred projection on emotion vector",
    "centred_cosine": "centred cosine with emotion vector",
}
TEXT_TITLES = {"own": "own answers", "original": "same text", "own_benign": "own benign answer"}
TEXT_NOTES = {
    "own": "Own answers: each checkpoint reads what it answered itself.",
    "original": "Same text: the original's benign answer, forced in every checkpoint and arm.",
    "own_benign": "Own benign answer: each checkpoint's answer to the benign arm, forced in every arm.",
}
NO_IMAGES = "no SVG and PNG of {name}: {lack}. CSV, HTML and JSON are whole."

_ONE_OF = ("model", "evidence", "span", "readout", "aggregation", "baseline", "probes")
_TEXT_COLUMNS = (
    "model", "checkpoint", "label", "text_source", "span", "emotion", "readout", "aggregation", "baseline", "arm",
    "reference", "evidence", "layer_convention", "interval", "test", "note", "probes",
)  # fmt: skip
# Pixels: margins, gaps between panels and the width of a letter.
_LEFT, _RIGHT, _ROW_GAP, _COLUMN_GAP, _LETTER = 104, 24, 68, 48, 7.4


# ---- tables ---------------------------------------------------------------------------------------------------------


def similarity_table(
    readings: pd.DataFrame,
    layers: Sequence[int],
    emotions: Sequence[str] = PANEL,
    arms: Sequence[str] = ("benign", "harmful"),
    readout: str = "cosine",
    aggregation: str = "mean_of_token_cosines",
    span: str = "answer",
) -> pd.DataFrame:
    """Mean reading of each arm with its interval, in figure order: ARM_MEAN_COLUMNS, then `label`.

    Raises UnknownNameError or LayerError for
    what the readings do not hold, ConventionError where models, evidence or baselines would be mixed.
    """
    rows = _selected(readings, layers, emotions, readout, aggregation, span)
    _check_known("arm", arms, rows["arm"])
    table = arm_means(rows[rows["arm"].isin(arms)])
    return _in_order(table, {"layer": layers, "emotion": emotions, "arm": sorted(arms, key=_place_in(ARM_ORDER))})


def gap_table(
    readings: pd.DataFrame,
    layers: Sequence[int],
    emotions: Sequence[str] = PANEL,
    arm: str = "harmful",
    references: Sequence[str] = ("benign",),
    readout: str = "cosine",
    aggregation: str = "mean_of_token_cosines",
    span: str = "answer",
) -> pd.DataFrame:
    """Paired difference `arm` − each of `references`, in figure order: COMPARISON_COLUMNS, then `label`.

    Raises what `similarity_table` raises, and what `compare` raises.
    """
    rows = _selected(readings, layers, emotions, readout, aggregation, span)
    table = pd.concat([compare(rows, arm, reference) for reference in references], ignore_index=True)
    return _in_order(table, {"layer": layers, "emotion": emotions, "reference": references})


def read_figure_table(path: Path | str) -> pd.DataFrame:
    """A figure's CSV as the table that it was written from: drawing it again gives the same figure to the byte.

    Raises MissingInputError where there is no file, FileFormatError where it is not a figure's table.
    """
    return _plain(store.read_table(path, [*ARM_MEAN_COLUMNS, "label"]))


def _selected(
    readings: pd.DataFrame, layers: Sequence[int], emotions: Sequence[str], readout: str, aggregation: str, span: str
) -> pd.DataFrame:
    rows = check_readings(readings)
    for column, name in (("readout", readout), ("aggregation", aggregation), ("span", span)):
        _check_known(column, [name], rows[column])
    rows = rows[(rows["readout"] == readout) & (rows["aggregation"] == aggregation) & (rows["span"] == span)]
    if rows.empty:
        raise DataError(f"no reading has readout {readout!r}, aggregation {aggregation!r} and span {span!r} at once.")
    _check_known("emotion", emotions, rows["emotion"])
    _check_layers(layers, rows["layer"])
    return rows[rows["layer"].isin(layers) & rows["emotion"].isin(emotions)]


def _check_known(kind: str, chosen: Iterable[str], known: pd.Series) -> None:
    for name in chosen:
        if name not in set(known):
            raise UnknownNameError(kind, name, sorted(known.unique()))


def _check_layers(layers: Sequence[int], known: pd.Series) -> None:
    absent = [layer for layer in layers if layer not in set(known)]
    if absent:
        held = ", ".join(str(layer) for layer in sorted(known.unique()))
        raise LayerError(
            f"the readings hold no layer {absent[0]}; they hold {held}. Read that layer, or choose of these."
        )


def _check_one(table: pd.DataFrame) -> None:
    """One figure, one model, one kind of evidence, one readout."""
    for column in _ONE_OF:
        kinds = sorted(str(kind) for kind in table[column].unique())
        if len(kinds) > 1:
            shown = ", ".join(kinds)
            raise ConventionError(f"one figure cannot hold readings of different {column}: {shown}. Draw one for each.")


def _in_order(table: pd.DataFrame, orders: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Rows in the order of drawing: panels, then emotions, checkpoints, runs, and arms or references."""
    _check_one(table)
    checkpoints = sorted(table["checkpoint"].unique(), key=_checkpoint_place)
    orders = {"text_source": list(TEXT_TITLES), "checkpoint": checkpoints, **orders}
    places = table.assign(**{column: table[column].map(_place_in(order)) for column, order in orders.items()})
    within = "reference" if "reference" in orders else "arm"
    places = places.sort_values(["layer", "text_source", "emotion", "checkpoint", "seed", within], kind="stable")
    return _plain(_labelled(table.loc[places.index]).reset_index(drop=True))


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Text without gaps and numbers at the 9 digits of a CSV, so that a table draws alike from memory and from file."""
    text = [column for column in _TEXT_COLUMNS if column in table]
    return nine_digits(table.assign(**{column: table[column].astype(object).fillna("").astype(str) for column in text}))


def _place_in(order: Iterable[Any]) -> Callable[[Any], int]:
    places = {name: place for place, name in enumerate(order)}
    return lambda name: places.get(name, len(places))


def _variant(checkpoint: object) -> str:
    """The variant of a checkpoint's name variant[@stage]."""
    return str(checkpoint).partition("@")[0]


def _checkpoint_place(checkpoint: object) -> tuple[int, str]:
    return _place_in(HUES)(_variant(checkpoint)), str(checkpoint)


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    """A `label` for each line of bars: the checkpoint, and its training run where there are several."""
    runs = table.groupby("checkpoint")["seed"].transform(lambda seeds: seeds.nunique(dropna=False))
    names = table["checkpoint"].astype(str)
    return table.assign(label=names.where(runs == 1, names + ", seed " + table["seed"].astype(str)))


# ---- figures --------------------------------------------------------------------------------------------------------


def similarity_bars(table: pd.DataFrame) -> "Figure":
    """Bars of the mean reading with intervals: rows are layers, columns text sources, emotions stand along x.

    Within an emotion the checkpoints stand side by side, and within a checkpoint its arms. Takes a similarity_table,
    from memory or from its CSV. Raises ConventionError where evidence, models or readouts are mixed.
    """
    emotions, labels, arms = (_distinct(table, column) for column in ("emotion", "label", "arm"))
    n_bars = len(emotions) * len(labels) * len(arms)
    panel = min(max(9 * n_bars, 520), 1000), 280
    figure = _panels(table, "Similarity of answers to emotion vectors", ("arm", arms), panel, 30)
    width, places = _bar_places(len(labels), len(arms))
    for row, col, part in _parts(table):
        for label, arm, bars in _groups(part, "label", "arm"):
            shift = places[labels.index(label), arms.index(arm)]
            x = [emotions.index(emotion) + shift for emotion in bars["emotion"]]
            trace = {"type": "bar", "x": x, "y": bars["mean"].tolist(), "width": width, "error_y": _error(bars, INK)}
            figure.add_trace(trace | _named(bars) | {"marker": _fill(arm, _hues(table)[label])}, row=row, col=col)
    _add_legend_entries(figure, "bar", _hues(table), {arm: _fill(arm, GREY) for arm in arms})
    _name_positions(figure.update_xaxes, emotions)
    figure.update_xaxes(range=[-0.5, len(emotions) - 0.5], ticks="")
    figure.update_yaxes(gridcolor=GRID, zeroline=True, zerolinecolor=INK, zerolinewidth=1)
    figure.update_yaxes(title_text=_axis_words(table), col=1)
    return figure.update_layout(barmode="overlay")


def gap_forest(table: pd.DataFrame) -> "Figure":
    """Points with intervals of the paired difference: rows are layers, columns text sources, emotions down the side.

    Takes a gap_table, from memory or from its CSV. Raises ConventionError where evidence, models or readouts are mixed.
    """
    emotions, labels, references = (_distinct(table, column) for column in ("emotion", "label", "reference"))
    lines = len(labels) * len(references) + 1
    contrasts = {reference: f"{table['arm'].iloc[0]} − {reference}" for reference in references}
    title = "Paired difference between two arms, within each checkpoint"
    panel = 520, 14 * lines * len(emotions)
    figure = _panels(table, title, ("difference", list(contrasts.values())), panel, 76)
    for row, col, part in _parts(table):
        for label, reference, points in _groups(part, "label", "reference"):
            line = labels.index(label) * len(references) + references.index(reference) + 1
            y = [emotions.index(emotion) - 0.5 + line / lines for emotion in points["emotion"]]
            hue = _hues(table)[label]
            trace = {"type": "scatter", "mode": "markers", "x": points["mean"].tolist(), "y": y}
            trace |= {"error_x": _error(points, hue), "marker": _marker(reference, hue)}
            figure.add_trace(trace | _named(points), row=row, col=col)
    markers = {contrasts[reference]: _marker(reference, GREY) for reference in references}
    _add_legend_entries(figure, "scatter", _hues(table), markers)
    _name_positions(figure.update_yaxes, emotions)
    figure.update_yaxes(range=[len(emotions) - 0.5, -0.5], ticks="")
    figure.update_xaxes(gridcolor=GRID, zeroline=True, zerolinecolor=INK, zerolinewidth=1.5, title_standoff=8)
    _share_x(figure, len(_distinct(table, "layer")), f"difference in {_axis_words(table)}")
    return figure


def _distinct(table: pd.DataFrame, column: str) -> list[Any]:
    """Values of a column in the order of the table."""
    return list(dict.fromkeys(table[column].tolist()))


def _parts(table: pd.DataFrame) -> Iterator[tuple[int, int, pd.DataFrame]]:
    """Row and column of each panel, from 1, and what stands in it."""
    layers, sources = _distinct(table, "layer"), _distinct(table, "text_source")
    for (layer, source), part in table.groupby(["layer", "text_source"], sort=False):
        yield layers.index(layer) + 1, sources.index(source) + 1, part


def _groups(rows: pd.DataFrame, first: str, second: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for names, part in rows.groupby([first, second], sort=False):
        one, other = cast("tuple[str, str]", names)
        yield one, other, part


def _hues(table: pd.DataFrame) -> dict[str, str]:
    """Label → colour, in the order of the table. A stage has its variant's colour where it is the only one of it."""
    checkpoints = _distinct(table, "checkpoint")
    alone = Counter(map(_variant, checkpoints))
    fixed = {
        c: HUES[_variant(c)] for c in checkpoints if c in HUES or (_variant(c) in HUES and alone[_variant(c)] == 1)
    }
    others = [checkpoint for checkpoint in checkpoints if checkpoint not in fixed]
    hues = fixed | {checkpoint: MORE_HUES[place % len(MORE_HUES)] for place, checkpoint in enumerate(others)}
    return {label: hues[checkpoint] for label, checkpoint in zip(table["label"], table["checkpoint"], strict=True)}


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


def _marker(reference: str, hue: str) -> dict[str, Any]:
    return {"symbol": MARKERS.get(reference, "cross"), "size": 8, "color": hue, "line": {"width": 1.5, "color": hue}}


def _named(rows: pd.DataFrame) -> dict[str, Any]:
    """What a trace says on hover, and the legend entry that switches it on and off."""
    hover = [_hover(row) for row in rows.to_dict("records")]
    return {"legendgroup": safe(rows["label"].iloc[0]), "showlegend": False, "hovertext": hover, "hoverinfo": "text"}


def _error(rows: pd.DataFrame, colour: str) -> dict[str, Any]:
    above, below = (rows["high"] - rows["mean"]).tolist(), (rows["mean"] - rows["low"]).tolist()
    look = {"symmetric": False, "color": colour, "thickness": 1.2, "width": 2}
    return {"type": "data", "array": above, "arrayminus": below, **look}


def _hover(row: Mapping[Any, Any]) -> str:
    """Everything that a row says, a fact a line."""
    interval = "no interval" if pd.isna(row["low"]) else f"[{row['low']:.4g}, {row['high']:.4g}]"
    arms = f"{row['arm']} − {row['reference']}" if "reference" in row else row["arm"]
    facts = [
        f"{row['label']} · {row['emotion']} · {arms}",
        f"{row['mean']:.4g} {interval}, {row['interval']}",
        f"{row['n_questions']} questions, {row['n_missing']} missing",
        "" if pd.isna(row.get("p")) else f"p = {row['p']:.3g} ({row['test']})",
        f"{TEXT_TITLES.get(row['text_source'], row['text_source'])}, span {row['span']}, layer {row['layer']}",
        f"{row['readout']}, {row['aggregation']}, baseline {row['baseline'] or 'none'}, evidence {row['evidence']}",
        row["note"],
    ]
    return "<br>".join(safe(fact) for fact in facts if fact)


def _axis_words(table: pd.DataFrame) -> str:
    """Readout, aggregation and, for the embedded model, the unit; two lines."""
    readout, aggregation = table["readout"].iloc[0], table["aggregation"].iloc[0].replace("_", " ")
    units = ", toy units" if is_toy(table) else ""
    return f"{safe(READOUT_WORDS.get(readout, readout))}<br>({safe(aggregation)}){units}"


def _add_legend_entries(figure: "Figure", kind: str, hues: Mapping[str, str], looks: Mapping[str, Mapping]) -> None:
    """Empty traces: one a checkpoint in the first legend, which switches its traces, and one an arm in the second."""
    empty = {"type": kind, "x": [None], "y": [None]} | ({"mode": "markers"} if kind == "scatter" else {})
    for label, hue in hues.items():
        marker = {"color": hue, "symbol": "square", "size": 11} if kind == "scatter" else {"color": hue}
        figure.add_trace(empty | {"name": safe(label), "legendgroup": safe(label), "marker": marker})
    for name, look in looks.items():
        figure.add_trace(empty | {"name": safe(name), "legend": "legend2", "marker": look})


def _name_positions(update_axes: Callable[..., Any], emotions: Sequence[str]) -> None:
    """Emotions as the labels of positions 0, 1, …, with a line between neighbours."""
    update_axes(tickvals=list(range(len(emotions))), ticktext=[safe(emotion) for emotion in emotions])
    update_axes(showgrid=False, zeroline=False, minor={"tick0": -0.5, "dtick": 1, "showgrid": True, "gridcolor": GRID})


def _share_x(figure: "Figure", n_rows: int, title: str) -> None:
    """One scale for the panels of a row, and a title under the last row."""
    for row in range(1, n_rows + 1):
        first = next(figure.select_xaxes(row=row, col=1)).plotly_name.removeprefix("xaxis")
        figure.update_xaxes(matches=f"x{first}", row=row)
    figure.update_xaxes(title_text=title, row=n_rows)


# ---- the page around the panels -------------------------------------------------------------------------------------


def _panels(
    table: pd.DataFrame, title: str, looks: tuple[str, Sequence[str]], panel: tuple[int, int], axis_height: int
) -> "Figure":
    """Empty panels of the given width and height in pixels, with their titles and all that stands around them.

    `looks` are title and names of the second legend; `axis_height` is the room for what stands under the last x axis.
    """
    from plotly.subplots import make_subplots

    _check_one(table)
    layers, sources = _distinct(table, "layer"), _distinct(table, "text_source")
    width = max(panel[0], 1000 // len(sources))  # one column alone is wide enough for the title
    inner_width = width * len(sources) + _COLUMN_GAP * (len(sources) - 1)
    inner_height = panel[1] * len(layers) + _ROW_GAP * (len(layers) - 1)
    titles = [f"layer {layer} · {safe(TEXT_TITLES.get(source, source))}" for layer in layers for source in sources]
    figure = make_subplots(
        rows=len(layers), cols=len(sources), subplot_titles=titles, shared_yaxes=True,
        horizontal_spacing=_COLUMN_GAP / inner_width, vertical_spacing=_ROW_GAP / inner_height,
    )  # fmt: skip
    figure.update_annotations(font={"size": 15, "color": INK}, yshift=3)
    figure.update_xaxes(showline=True, linecolor=INK, ticks="outside", ticklen=4, title_font_size=14)
    figure.update_yaxes(showline=True, linecolor=INK, ticks="outside", ticklen=4, title_font_size=14)
    if is_toy(table):
        add_watermarks(figure, len(titles), width)
    caption = textwrap.wrap(_caption(table), int(inner_width / 6.5))
    add_caption(figure, caption, axis_height + 16, _LEFT)
    _set_page(figure, table, looks, (inner_width, inner_height), axis_height + 28 + LINE * len(caption))
    return figure.update_layout(title_text=safe(f"{title} · {table['model'].iloc[0]}"))


def _set_page(
    figure: "Figure", table: pd.DataFrame, looks: tuple[str, Sequence[str]], inner: tuple[int, int], bottom: int
) -> None:
    """Sizes and type, and two legends under each other between the title and the panels."""
    labels = _distinct(table, "label")
    second = 56 + LINE * _legend_lines(labels, inner[0]) + 6
    top = second + LINE * _legend_lines(looks[1], inner[0]) + 46
    height = top + inner[1] + bottom
    figure.update_layout(
        width=_LEFT + inner[0] + _RIGHT, height=height, margin={"l": _LEFT, "r": _RIGHT, "t": top, "b": bottom},
        template=None, paper_bgcolor="white", plot_bgcolor="white", font={"family": FONT, "size": 14, "color": INK},
        title={"x": 0, "xref": "paper", "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 16}},
        title_font={"size": 20}, hoverlabel={"align": "left", "font": {"family": FONT, "size": 13}},
        legend=_legend("checkpoint", 1 - 56 / height), legend2=_legend(looks[0], 1 - second / height),
    )  # fmt: skip
    figure.update_layout(legend2={"itemclick": False, "itemdoubleclick": False})


def _legend(title: str, y: float) -> dict[str, Any]:
    place = {"orientation": "h", "x": 0, "xanchor": "left", "y": y, "yref": "container", "yanchor": "top"}
    words = {"text": f"<b>{title}</b>  ", "side": "left", "font": {"size": 14}}
    return place | {"title": words, "itemsizing": "constant"}


def _legend_lines(names: Sequence[str], width: int) -> int:
    """Lines that a horizontal legend takes: one where all fits, else plotly sets columns as wide as the widest entry."""
    entries = [len(name) * _LETTER + 45 for name in names]
    room = width - 95
    return 1 if sum(entries) <= room else math.ceil(len(names) / max(1, int(room / max(entries))))


def _caption(table: pd.DataFrame) -> str:
    """How the numbers came about, in sentences."""
    counts = sorted(set(table["n_questions"]))
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]} where answers are missing"
    facts = [
        f"Model {_one(table, 'model')}. Means over questions ({n}), with {_one(table, 'interval')}.",
        "No interval where fewer than 10 questions are left." if (table["note"] != "").any() else "",
        f"Probes: {_one(table, 'probes')}. Span: {_one(table, 'span')}.",
        f"Baseline: {_one(table, 'baseline') or 'none'}. {_one(table, 'layer_convention').capitalize()}.",
        *[TEXT_NOTES[source] for source in _distinct(table, "text_source") if source in TEXT_NOTES],
        "Panels of a row share their scale.",
        TOY_NOTE if is_toy(table) else "",
    ]  # fmt: skip
    return " ".join(fact for fact in facts if fact)


def _one(table: pd.DataFrame, column: str) -> str:
    return str(table[column].iloc[0])


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
    print(NO_IMAGES.format(name=name, lack=lack), file=sys.stderr)
    return []


def _draw_images(figure: "Figure") -> dict[str, bytes]:
    """SVG, and PNG at twice the size, from one start of the browser; MathJax off, since it comes from the network."""
    from kaleido import calc_fig_sync, start_sync_server, stop_sync_server

    start_sync_server(mathjax=False, silence_warnings=True)
    try:
        svg = calc_fig_sync(figure, opts={"format": "svg"})
        png = calc_fig_sync(figure, opts={"format": "png", "scale": 2})
    finally:
        stop_sync_server(silence_warnings=True)
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
    return ""
