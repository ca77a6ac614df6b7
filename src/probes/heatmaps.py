"""Figures of validation and of the probes themselves, each drawn from its table alone.

    heatmap_table(matrix, scores, unseen, layers) → scenario_heatmap(table)   stimulus emotion × probe (probes.validation)
    cosine_table(probes, layers)                  → cosine_heatmap(table)     probe × probe
    at_layer(points, unseen, layer)               → intensity_lines(table)    a panel a template (probes.intensity)

Written with probes.figures.write_figure; read_heatmap_table(path) reads their CSV. Colours are ColorBrewer's RdBu, safe
for colour-blind eyes, and white is zero.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from probes import store
from probes.directions import EmotionProbes
from probes.errors import LayerError
from probes.page import (
    EMOTION_HUES,
    EMOTION_MARKERS,
    FONT,
    GREY,
    GRID,
    INK,
    LINE,
    SPAN_WORDS,
    add_caption,
    add_watermarks,
    caption_of,
    check_one,
    distinct,
    is_toy,
    nine_digits,
    safe,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SCALE = (
    "#053061",
    "#2166AC",
    "#4393C3",
    "#92C5DE",
    "#D1E5F0",
    "#FFFFFF",
    "#FDDBC7",
    "#F4A582",
    "#D6604D",
    "#B2182B",
    "#67001F",
)
"""Blue below zero, red above."""
BASELINE_WORDS = {"stimuli": "from the mean of the stimuli", "stories": "from the mean of the stories"}
SHARES = ("top1", "text_top1", "twin_top1", "chance_top1")
UNFOUNDED = (
    "{layers}: the probes do not read unseen stories above chance; there the figure says nothing about these texts, "
    "since probes that have learned nothing fail on anything."
)

CONTROL = (
    "A control: every prompt has an answer for each emotion, so that it cannot tell them apart and chance is right."
)

_ONE_OF = ("model", "checkpoint", "probes", "evidence", "layer_convention")
_FLOATS = (*SHARES, "value", "cosine", "rho", "unseen_accuracy", "unseen_low", "unseen_chance")
_LEFT, _RIGHT, _TOP, _GAP_X, _GAP_Y = 104, 110, 118, 190, 150


# ---- tables ----------------------------------------------------------------------------------------------------------


def heatmap_table(
    matrix: pd.DataFrame, scores: pd.DataFrame, unseen: pd.DataFrame, layers: Sequence[int]
) -> pd.DataFrame:
    """A scenario_matrix at some layers with the scores beside it: MATRIX_COLUMNS, SHARES, unseen_*.

    `unseen` is EmotionProbes.score on stories of unseen topics: where it is at chance nothing can be learned from the rest.
    Raises LayerError for a layer that one of the tables lacks.
    """
    keys = ["stimuli", "span", "baseline", "layer"]
    table = at_layers(matrix, layers).merge(scores[[*keys, *SHARES]], on=keys, how="left", validate="many_to_one")
    return nine_digits(_with_unseen(table, unseen, layers))


def cosine_table(probes: EmotionProbes, layers: Sequence[int]) -> pd.DataFrame:
    """Cosine of every two probes: layer, emotion, other, cosine, and where the probes come from.

    Emotions stand in the order of average linkage over the mean matrix of these layers, so that alike ones are neighbours
    and every panel has the same order. Raises LayerError for a layer without probes.
    """
    probes.check_layers(layers)
    vectors = probes.directions_.sel(layer=list(layers)).transpose("layer", "emotion", "feature").values
    cosines = np.clip(vectors @ vectors.swapaxes(1, 2), -1, 1)
    order = _neighbours(cosines.mean(axis=0))
    names = np.array(probes.emotions)[order]
    values = cosines[:, order][:, :, order]
    count = len(names)
    table = pd.DataFrame({
        "layer": np.repeat(layers, count**2), "emotion": np.tile(np.repeat(names, count), len(layers)),
        "other": np.tile(names, len(layers) * count), "cosine": values.reshape(-1),
    })  # fmt: skip
    about = {**probes.about_, "probes": probes.source()}
    return nine_digits(table.assign(**{name: about[name] for name in _ONE_OF}))


def at_layers(table: pd.DataFrame, layers: Sequence[int]) -> pd.DataFrame:
    """Rows of some layers, in their order. Raises LayerError naming those that are not there."""
    there = sorted(set(table["layer"]))
    lacking = [layer for layer in layers if layer not in there]
    if lacking:
        raise LayerError(f"the table holds no layer {lacking[0]}; it holds {', '.join(map(str, there))}.")
    return pd.concat([table[table["layer"] == layer] for layer in layers], ignore_index=True)


def at_layer(points: pd.DataFrame, unseen: pd.DataFrame, layer: int) -> pd.DataFrame:
    """Intensity points of one layer with what the probes read of unseen stories, ready to draw. Raises LayerError."""
    return nine_digits(_with_unseen(at_layers(points, [layer]), unseen, [layer]))


def _with_unseen(table: pd.DataFrame, unseen: pd.DataFrame, layers: Sequence[int]) -> pd.DataFrame:
    stories = at_layers(unseen, layers)[["layer", "accuracy", "low", "chance"]]
    stories.columns = ["layer", "unseen_accuracy", "unseen_low", "unseen_chance"]
    return table.merge(stories, on="layer", how="left", validate="many_to_one")


def read_heatmap_table(path: Path | str) -> pd.DataFrame:
    """The CSV of one of these figures as its table: drawing it again gives the same figure to the byte."""
    table = store.read_table(path, [*_ONE_OF, "layer"])
    # A column of 1.0 and 0.0 comes back from a CSV as whole numbers, which JSON writes otherwise.
    return nine_digits(table.astype({column: float for column in _FLOATS if column in table}))


def _neighbours(cosines: np.ndarray) -> list[int]:
    """Order of the leaves of average linkage, alike ones beside each other."""
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    if len(cosines) < 3:
        return list(range(len(cosines)))
    distances = squareform(np.round(1 - (cosines + cosines.T) / 2, 9) * (1 - np.eye(len(cosines))), checks=False)
    return leaves_list(optimal_leaf_ordering(linkage(distances, "average"), distances)).tolist()


# ---- figures ---------------------------------------------------------------------------------------------------------


def scenario_heatmap(table: pd.DataFrame) -> "Figure":
    """Rows are what the texts show, columns the probes; a row of panels a baseline, a column a layer.

    A dot marks the largest probe of each row: black on the diagonal, where the probe is right, white elsewhere. Each panel
    has its own scale, since projections grow with depth. Raises ConventionError where models, stimuli or spans are mixed.
    """
    check_one(table, (*_ONE_OF, "stimuli", "span", "readout"))
    baselines, layers = distinct(table, "baseline"), distinct(table, "layer")
    panels = [(baseline, layer) for baseline in baselines for layer in layers]
    parts = [table[(table["baseline"] == baseline) & (table["layer"] == layer)] for baseline, layer in panels]
    titles = [_scenario_title(part) for part in parts]
    side = _side(len(distinct(table, "stimulus_emotion")))
    figure = _grid(table, f"{_stimuli_words(table)} × probes", titles, (len(baselines), len(layers)), (side, side))
    for place, part in enumerate(parts):
        values = part.pivot(index="stimulus_emotion", columns="probe_emotion", values="value")
        names = distinct(part, "stimulus_emotion")
        _add_map(
            figure,
            place,
            len(layers),
            values.loc[names, names],
            "centred projection" + _units(table),
            float(np.abs(values).max(axis=None)),
        )
        _add_largest(figure, place, len(layers), values.loc[names, names])
    _set_map_axes(figure)
    _name_axes(figure, len(baselines), "probe", "the text shows")
    return _finish(figure, table, _scenario_caption(table, parts), 96)


def cosine_heatmap(table: pd.DataFrame) -> "Figure":
    """Cosine of every two probes, a panel a layer, from −1 to 1. Takes a cosine_table, from memory or from its CSV."""
    check_one(table, _ONE_OF)
    layers = distinct(table, "layer")
    side = _side(len(distinct(table, "emotion")))
    figure = _grid(
        table, "Cosine of the probes", [f"layer {layer}" for layer in layers], (1, len(layers)), (side, side)
    )
    for place, layer in enumerate(layers):
        part = table[table["layer"] == layer]
        names = distinct(part, "emotion")
        _add_map(
            figure,
            place,
            len(layers),
            part.pivot(index="emotion", columns="other", values="cosine").loc[names, names],
            "cosine",
            1.0,
        )
    _set_map_axes(figure)
    caption = f"{_origin(table)} Emotions in the order of average linkage, the same in every panel."
    return _finish(figure, table, caption, 76)


def intensity_lines(table: pd.DataFrame) -> "Figure":
    """A panel a template: projection by the rising number, from the template's mean. Takes at_layer of intensity_points.

    Emotions with a foretold sign have their colour and stand in the panel's title with sign and ρ; the others are grey.
    Raises ConventionError for more than one layer.
    """
    check_one(table, (*_ONE_OF, "layer", "readout"))
    names = distinct(table, "template")
    columns = min(3, len(names))
    parts = [table[table["template"] == name] for name in names]
    rows = -(-len(names) // columns)
    title = f"A number that makes a case milder or graver · layer {table['layer'].iloc[0]}"
    figure = _grid(table, title, [_dose_title(part) for part in parts], (rows, columns), (300, 210), gaps=(80, 112))
    for place, part in enumerate(parts):
        for emotion in sorted(distinct(part, "emotion"), key=lambda name: _foretold(part, name)):
            figure.add_trace(_line(part[part["emotion"] == emotion]), row=place // columns + 1, col=place % columns + 1)
        axis = {
            "tickvals": list(range(part["place"].max() + 1)),
            "ticktext": [str(n) for n in distinct(part, "number")],
        }
        figure.update_xaxes(axis, row=place // columns + 1, col=place % columns + 1)
    figure.update_xaxes(zeroline=False, showgrid=False)
    figure.update_yaxes(zeroline=True, zerolinecolor=GREY, gridcolor=GRID)
    figure.update_yaxes(title_text=f"centred projection{_units(table)}", col=1, title_standoff=12)
    caption = (
        f"{_origin(table)} Read at the last prompt token, from the mean of the template. ↑ and ↓: the foretold sign; ρ: "
        "Spearman's. Short curves are often monotone along any direction: the table of ρ has the null of random directions. "
        f"{_unfounded(table)}"
    )
    _add_emotion_legend(figure, table)
    return _finish(figure, table, caption, 44)


def _stimuli_words(table: pd.DataFrame) -> str:
    span = table["span"].iloc[0]
    return f"{table['stimuli'].iloc[0].capitalize()} (read over {SPAN_WORDS.get(span, span)})"


def _scenario_title(part: pd.DataFrame) -> str:
    row = part.iloc[0]
    shares = f"top-1 {row['top1']:.2f} · words {row['text_top1']:.2f} · random twin {row['twin_top1']:.2f}"
    return (
        f"<b>layer {row['layer']}</b> · {safe(BASELINE_WORDS.get(row['baseline'], row['baseline']))}<br>{shares}<br>"
        f"chance {row['chance_top1']:.2f} · unseen stories {row['unseen_accuracy']:.2f}"
    )


def _scenario_caption(table: pd.DataFrame, parts: Sequence[pd.DataFrame]) -> str:
    texts = parts[0].groupby("stimulus_emotion")["n"].first().sum()
    facts = [
        f"{_origin(table)} {texts} texts that do not name what they show; a row is their mean. Dot: the largest probe of a",
        "row, black where it is the right one. Each panel has its own scale.",
        CONTROL if (table["stimuli"].iloc[0], table["span"].iloc[0]) == ("questions", "last_prompt") else "",
        _unfounded(table),
    ]
    return " ".join(fact for fact in facts if fact)


def _unfounded(table: pd.DataFrame) -> str:
    """A warning where the probes have learned nothing that carries over to other stories; else empty."""
    layers = distinct(table[table["unseen_low"] <= table["unseen_chance"]], "layer")
    return UNFOUNDED.format(layers=f"Layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}") if layers else ""


def _dose_title(part: pd.DataFrame) -> str:
    curves = part[(part["place"] == 0) & (part["expected"] != 0)]
    facts = [
        f"{safe(e)} {'↑' if sign > 0 else '↓'} ρ {rho:+.2f}".replace("-", "−")
        for e, sign, rho in zip(curves["emotion"], curves["expected"], curves["rho"], strict=True)
    ]
    return f"<b>{safe(part['template'].iloc[0])}</b><br>{' · '.join(facts)}"


def _foretold(part: pd.DataFrame, emotion: str) -> bool:
    return bool((part.loc[part["emotion"] == emotion, "expected"] != 0).any())


def _add_emotion_legend(figure: "Figure", table: pd.DataFrame) -> None:
    """Colour and marker of the emotions with a foretold sign, under the title."""
    for emotion in distinct(table[table["expected"] != 0], "emotion"):
        hue, symbol = EMOTION_HUES.get(emotion, INK), EMOTION_MARKERS.get(emotion, "circle")
        look = {"line": {"color": hue, "width": 2.5}, "marker": {"symbol": symbol, "size": 8, "color": hue}}
        figure.add_trace(
            {"type": "scatter", "mode": "lines+markers", "x": [None], "y": [None], "name": safe(emotion), **look}
        )
    layout: Any = figure.layout  # plotly makes its attributes as it runs
    place = {"x": 0, "xanchor": "left", "y": 1 - 44 / layout.height, "yref": "container", "yanchor": "top"}
    figure.update_layout(legend={"orientation": "h", **place})


def _line(curve: pd.DataFrame) -> dict[str, Any]:
    emotion, foretold = curve["emotion"].iloc[0], bool(curve["expected"].iloc[0])
    hue = EMOTION_HUES.get(emotion, INK) if foretold else "#CFCFCF"
    hover = [
        f"{safe(emotion)} · {n}: {v:.4g}<br>{safe(text)}"
        for n, v, text in zip(curve["number"], curve["value"], curve["text"], strict=True)
    ]
    return {
        "type": "scatter", "mode": "lines+markers" if foretold else "lines",
        "x": curve["place"].tolist(), "y": curve["value"].tolist(),
        "line": {"color": hue, "width": 2.5 if foretold else 1}, "showlegend": False, "hovertext": hover, "hoverinfo": "text",
        "marker": {"symbol": EMOTION_MARKERS.get(emotion, "circle"), "size": 8, "color": hue}, "name": safe(emotion),
    }  # fmt: skip


def _add_map(figure: "Figure", place: int, columns: int, values: pd.DataFrame, words: str, limit: float) -> None:
    row, col = place // columns + 1, place % columns + 1
    x, y = (list(next(axes(row=row, col=col)).domain) for axes in (figure.select_xaxes, figure.select_yaxes))
    names = {"x": [safe(name) for name in values.columns], "y": [safe(name) for name in values.index]}
    hover = [[f"{safe(a)} × {safe(b)}: {values.loc[a, b]:.4g}" for b in values.columns] for a in values.index]
    bar = {
        "x": x[1] + 0.008,
        "xanchor": "left",
        "y": sum(y) / 2,
        "len": y[1] - y[0],
        "thickness": 12,
        "title": {"text": words, "side": "right", "font": {"size": 12}},
    }
    scale = [[place / (len(SCALE) - 1), colour] for place, colour in enumerate(SCALE)]
    trace = {"type": "heatmap", **names, "z": values.to_numpy().tolist(), "zmin": -(limit or 1.0), "zmax": limit or 1.0}
    look = {"colorscale": scale, "colorbar": {**bar, "tickfont": {"size": 12}}, "xgap": 1, "ygap": 1}
    figure.add_trace({**trace, **look, "hovertext": hover, "hoverinfo": "text"}, row=row, col=col)


def _add_largest(figure: "Figure", place: int, columns: int, values: pd.DataFrame) -> None:
    """A dot on the largest of each row, black where it is on the diagonal and white elsewhere; none where several are."""
    rows = [(shown, row.idxmax()) for shown, row in values.iterrows() if (row == row.max()).sum() == 1]
    fills = [INK if shown == probe else "#FFFFFF" for shown, probe in rows]
    edges = ["#FFFFFF" if shown == probe else INK for shown, probe in rows]
    look = {"symbol": "circle", "size": 10, "color": fills, "line": {"color": edges, "width": 1.5}}
    trace = {"type": "scatter", "mode": "markers", "x": [safe(p) for _, p in rows], "y": [safe(e) for e, _ in rows]}
    figure.add_trace(
        {**trace, "marker": look, "showlegend": False, "hoverinfo": "skip"},
        row=place // columns + 1,
        col=place % columns + 1,
    )


def _set_map_axes(figure: "Figure") -> None:
    """The first emotion on top, as in a matrix."""
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False, tickangle=-50)


def _name_axes(figure: "Figure", rows: int, x: str, y: str) -> None:
    figure.update_xaxes(title_text=x, row=rows)
    figure.update_yaxes(title_text=y, col=1)


# ---- the page --------------------------------------------------------------------------------------------------------


def _side(count: int) -> int:
    """Pixels of a square of so many rows: room for their names, up to where 171 still fit a screen."""
    return min(max(26 * count, 240), 1400)


def _grid(table, title, titles, shape, panel, gaps=(_GAP_X, _GAP_Y)) -> "Figure":
    """Empty panels (rows, columns) of (width, height) pixels with their titles."""
    from plotly.subplots import make_subplots

    (rows, columns), (width, height), (gap_x, gap_y) = shape, panel, gaps
    inner = width * columns + gap_x * (columns - 1), height * rows + gap_y * (rows - 1)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=titles,
        horizontal_spacing=gap_x / inner[0],
        vertical_spacing=gap_y / inner[1],
    )
    figure.update_annotations(font={"size": 13, "color": INK}, yshift=3)
    figure.update_layout(width=_LEFT + max(inner[0], 640) + _RIGHT, height=inner[1] + _TOP)
    figure.update_layout(title_text=safe(f"{title} · {table['model'].iloc[0]}/{table['checkpoint'].iloc[0]}"))
    if is_toy(table):
        add_watermarks(figure, len(titles), round(0.8 * width))
    return figure


def _finish(figure: "Figure", table: pd.DataFrame, caption: str, axis_height: int) -> "Figure":
    """Type, margins and caption, `axis_height` pixels below the panels."""
    layout: Any = figure.layout
    inner = layout.width - _LEFT - _RIGHT
    lines = textwrap.wrap(caption_of(table, caption), int(inner / 6.5))
    add_caption(figure, lines, axis_height, _LEFT)
    bottom = axis_height + LINE * len(lines) + 14
    figure.update_xaxes(showline=True, linecolor=INK, tickfont_size=12, title_font_size=14)
    figure.update_yaxes(showline=True, linecolor=INK, tickfont_size=12, title_font_size=14)
    figure.update_layout(
        height=layout.height + bottom, margin={"l": _LEFT, "r": _RIGHT, "t": _TOP, "b": bottom}, template=None,
        paper_bgcolor="white", plot_bgcolor="white", font={"family": FONT, "size": 14, "color": INK}, title_font={"size": 20},
        title={"x": 0, "xref": "paper", "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 16}},
    )  # fmt: skip
    return figure


def _origin(table: pd.DataFrame) -> str:
    row = table.iloc[0]
    return f"Probes: {row['probes']}. {str(row['layer_convention']).capitalize()}."


def _units(table: pd.DataFrame) -> str:
    return ", toy units" if is_toy(table) else ""
