"""Readings over all layers → curves with intervals.

    means = [layer_means(readings) of each checkpoint]   curve_table(means, marked, emotions) → similarity_curves(table)
    gaps  = [layer_gaps(readings) of each checkpoint]    curve_table(gaps, marked, emotions)  → gap_curves(table)

Tables are made a checkpoint at a time, since the readings of one take gigabytes at full size. A figure's CSV is its table
(probes.figure_tables.read_figure_table). A layer without readings has no point, and no line is drawn across it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from probes.comparison import arm_means
from probes.errors import UnknownNameError
from probes.figure_tables import (
    ARM_ORDER,
    CONTROL_NOTE,
    CONTROLS,
    ONE_OF,
    arm_gaps,
    check_controlled,
    in_order,
    of_arms,
    of_emotions,
    of_reading,
)
from probes.page import (
    EMOTION_HUES,
    EMOTION_MARKERS,
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
    hover,
    label_hues,
    reference_marker,
    safe,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "12px,3px,3px,3px,3px,3px")
"""Lines of checkpoints, in the order of the table: seven hues are more than all eyes can tell apart."""
MARKED_POINTS = 12
"""More markers on a line than this hide its dashes and its neighbours."""

BANDS = ("each", "simultaneous")
"""What the shade around a curve of gaps holds: the mean of a layer, or all means of the family at once."""

Look = Mapping[str, Any]


# ---- tables ----------------------------------------------------------------------------------------------------------


def layer_means(
    readings: pd.DataFrame,
    arms: Sequence[str] = ("benign", "affect", "harmful"),
    readout: str = "cosine",
    aggregation: str = "mean_of_token_cosines",
    span: str = "answer",
) -> pd.DataFrame:
    """Mean of each arm at every layer and emotion that was read: ARM_MEAN_COLUMNS. Raises what similarity_table raises."""
    return arm_means(of_arms(of_reading(readings, readout, aggregation, span), arms))


def layer_gaps(
    readings: pd.DataFrame,
    arm: str = "harmful",
    references: Sequence[str] = CONTROLS,
    readout: str = "cosine",
    aggregation: str = "mean_of_token_cosines",
    span: str = "answer",
) -> pd.DataFrame:
    """`arm` − each of `references` at every layer and emotion that was read: COMPARISON_COLUMNS. Raises what gap_table raises."""
    return arm_gaps(of_reading(readings, readout, aggregation, span), arm, references)


def curve_table(
    tables: Iterable[pd.DataFrame], marked: Sequence[int], emotions: Sequence[str] | None = None
) -> pd.DataFrame:
    """Tables of checkpoints as one, in the order of drawing, with the columns `marked` and `label`.

    Args:
        marked: layers that were chosen before anything was read; all others are exploratory.
        emotions: those to draw, in order; by default all.

    Raises UnknownNameError for an emotion that was not read, ConventionError for what one figure cannot hold.
    """
    table = pd.concat(tables, ignore_index=True)
    table = table.assign(marked=table["layer"].isin(marked))
    within, order = ("reference", CONTROLS) if "reference" in table else ("arm", ARM_ORDER)
    orders: dict[str, Sequence[str]] = {within: order}
    if emotions is not None:
        table, orders = of_emotions(table, emotions), orders | {"emotion": emotions}
    return in_order(table, ("text_source", "checkpoint", "seed", within, "emotion", "layer"), orders)


# ---- figures ---------------------------------------------------------------------------------------------------------


def similarity_curves(table: pd.DataFrame) -> "Figure":
    """The mean reading over layers, a line an emotion: rows are checkpoints, columns arms.

    Takes a curve_table of layer_means with one text source, from memory or from its CSV. Raises ConventionError where text
    sources, evidence, models or readouts are mixed.
    """
    check_one(table, (*ONE_OF, "text_source"))
    labels, arms, emotions = (distinct(table, column) for column in ("label", "arm", "emotion"))
    looks = {emotion: _emotion_look(emotion) for emotion in emotions}
    titles = [[f"<b>{safe(label)}</b> · {safe(arm)}" for arm in arms] for label in labels]
    title = f"Similarity of answers to emotion vectors, by layer · {_source_words(table['text_source'].iloc[0])}"
    figure = _panels(table, title, titles, Legend("emotion", emotions))
    for (label, arm, emotion), curve in _curves(table, "label", "arm", "emotion"):
        _add_curve(figure, curve, looks[emotion], emotion, (labels.index(label), arms.index(arm)))
    add_legend_entries(figure, looks)
    return _set_axes(figure, table, axis_words(table), len(labels))


def gap_curves(table: pd.DataFrame, band: str = "each") -> "Figure":
    """The paired difference over layers, a line a checkpoint: rows are emotions, columns what is subtracted in which text.

    Takes a curve_table of layer_gaps, from memory or from its CSV, and one of BANDS: the interval of `each` layer by itself,
    or the `simultaneous` one of the family in which the table was compared. Raises ConventionError where evidence, models or
    readouts are mixed, DataError where a gap would stand without its control, UnknownNameError for another band.
    """
    check_one(table, ONE_OF)
    check_controlled(table)
    table = _with_band(table, band)
    labels, emotions = distinct(table, "label"), distinct(table, "emotion")
    columns = [(s, r) for s in distinct(table, "text_source") for r in distinct(table, "reference")]
    looks = _checkpoint_looks(table)
    titles = [[_gap_title(emotion, table["arm"].iloc[0], *column) for column in columns] for emotion in emotions]
    title = "Paired difference between two arms, within each checkpoint, by layer"
    figure = _panels(table, title, titles, Legend("checkpoint", labels), [CONTROL_NOTE])
    for (emotion, source, reference, label), curve in _curves(table, "emotion", "text_source", "reference", "label"):
        marker = reference_marker(reference, looks[label]["line"]["color"])
        place = emotions.index(emotion), columns.index((source, reference))
        _add_curve(figure, curve, {**looks[label], "mode": "lines+markers", "marker": marker}, label, place)
    add_legend_entries(figure, looks)
    return _set_axes(figure, table, f"difference in {axis_words(table)}", len(emotions))


def _with_band(table: pd.DataFrame, band: str) -> pd.DataFrame:
    """The table with the chosen intervals as low and high."""
    if band not in BANDS:
        raise UnknownNameError("band", band, BANDS)
    if band == "each":
        return table
    words = "simultaneous 95% intervals (wild bootstrap of the largest t)"
    return table.assign(low=table["low_simultaneous"], high=table["high_simultaneous"], interval=words)


def _band_note(table: pd.DataFrame) -> str:
    """What the shade means."""
    if not table["interval"].iloc[0].startswith("simultaneous"):
        return "Shaded: the interval of each layer by itself, not of the curve."
    families = ", ".join(distinct(table, "family"))
    return f"Shaded: the band of a family, which holds all its means at once: {families}, contrast by contrast."


def _curves(table: pd.DataFrame, *columns: str) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    for names, curve in table.groupby(list(columns), sort=False):
        yield cast("tuple[str, ...]", names), curve


def _source_words(source: str) -> str:
    return TEXT_TITLES.get(source, source)


def _gap_title(emotion: str, arm: str, source: str, reference: str) -> str:
    return f"<b>{safe(emotion)}</b> · {safe(contrast_words(arm, reference))}<br>{safe(_source_words(source))}"


def _emotion_look(emotion: str) -> dict[str, Any]:
    hue, symbol = EMOTION_HUES.get(emotion, INK), EMOTION_MARKERS.get(emotion, "circle")
    marker = {"symbol": symbol, "size": 8, "color": hue}
    return {"type": "scatter", "mode": "lines+markers", "line": {"color": hue, "width": 2}, "marker": marker}


def _checkpoint_looks(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Label → look of its lines; the markers are those of what is subtracted."""
    lines = [
        (label, {"color": hue, "width": 2, "dash": DASHES[place % len(DASHES)]})
        for place, (label, hue) in enumerate(label_hues(table).items())
    ]
    return {label: {"type": "scatter", "mode": "lines", "line": line} for label, line in lines}


def _panels(
    table: pd.DataFrame, title: str, titles: Sequence[Sequence[str]], legend: Legend, notes: Sequence[str] = ()
) -> "Figure":
    """Empty panels, wide enough for their layers."""
    marked = _marked(table)
    notes = [
        *notes,
        _band_note(table),
        "Pale: no interval." if table["low"].isna().any() else "",
        f"Upright dots: layers chosen beforehand ({', '.join(map(str, marked))}); the others are exploratory." if marked else "",
    ]  # fmt: skip
    width = min(max(300, 1040 // len(titles[0])), 520)
    figure = empty_panels(table, title, titles, (width, 230), [legend], 46, [note for note in notes if note])
    return figure.update_layout(legend={"itemsizing": "trace", "itemwidth": 44})  # dashes need their length


def _add_curve(figure: "Figure", curve: pd.DataFrame, look: Look, group: str, place: tuple[int, int]) -> None:
    """Band and line of one curve, in the panel at this row and column from 0; a click on `group` in the legend hides both."""
    row, col = place[0] + 1, place[1] + 1
    shared = {"legendgroup": safe(group), "showlegend": False}
    figure.add_trace({**_band(curve, look["line"]["color"]), **shared}, row=row, col=col)
    marker = {**look["marker"], "maxdisplayed": _most_markers(curve)}
    figure.add_trace({**look, **_line(curve), "marker": marker, **shared}, row=row, col=col)


def _line(curve: pd.DataFrame) -> dict[str, Any]:
    """Means over layers, with a hole where a layer was not read; pale where there is no interval."""
    by_layer = curve.set_index("layer", drop=False)
    layers = range(curve["layer"].min(), curve["layer"].max() + 1)
    there = {layer: hover(row) for layer, row in zip(curve["layer"], curve.to_dict("records"), strict=True)}
    points = {"x": list(layers), "y": by_layer["mean"].reindex(layers).tolist()}
    texts = {"hovertext": [there.get(layer, "") for layer in layers], "hoverinfo": "text"}
    return {**points, **texts, "opacity": 0.45 if curve["low"].isna().any() else 1.0}


def _band(curve: pd.DataFrame, hue: str) -> dict[str, Any]:
    """Outlines of the intervals, one for each run of layers that have them; a single layer is an upright stroke."""
    x, y = [], []
    for run in _runs(curve[curve["low"].notna()]):
        x += [*run["layer"], *run["layer"][::-1], None]
        y += [*run["high"], *run["low"][::-1], None]
    line = {"color": _clear(hue, 0.5), "width": 1}
    return {
        "type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "fill": "toself", "fillcolor": _clear(hue, 0.18),
        "hoverinfo": "skip",
    }  # fmt: skip


def _most_markers(curve: pd.DataFrame) -> int:
    """Markers that plotly spreads over a long curve; 0 is all, where a layer stands alone and has nothing but its marker."""
    return 0 if any(len(run) == 1 for run in _runs(curve)) else MARKED_POINTS


def _runs(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Rows of neighbouring layers."""
    return [run for _, run in rows.groupby((rows["layer"].diff() != 1).cumsum())]


def _clear(hue: str, opacity: float) -> str:
    return f"rgba({', '.join(str(int(hue[start : start + 2], 16)) for start in (1, 3, 5))}, {opacity})"


def _set_axes(figure: "Figure", table: pd.DataFrame, words: str, n_rows: int) -> "Figure":
    """Layers along x with the marked ones dotted, one scale a row along y."""
    first, last = table["layer"].min(), table["layer"].max()
    step = next(step for step in (1, 2, 4, 8, 16) if step == 16 or (last - first) / step <= 10)
    margin = 0.5 + 0.02 * (last - first)
    figure.update_xaxes(range=[first - margin, last + margin], tick0=0, dtick=step, showgrid=False, zeroline=False)
    figure.update_xaxes(title_text="layer", title_standoff=6, row=n_rows)
    figure.update_yaxes(gridcolor=GRID, zeroline=True, zerolinecolor=INK, zerolinewidth=1)
    figure.update_yaxes(title_text=words, col=1)
    marks = [_mark(layer, axis.plotly_name) for layer in _marked(table) for axis in figure.select_xaxes()]
    return figure.update_layout(shapes=marks)


def _marked(table: pd.DataFrame) -> list[int]:
    return distinct(table[table["marked"]], "layer")


def _mark(layer: int, axis: str) -> dict[str, Any]:
    """An upright dotted line through a panel, behind its curves."""
    panel = axis.removeprefix("xaxis")
    ends = {"x0": layer, "x1": layer, "y0": 0, "y1": 1, "xref": f"x{panel}", "yref": f"y{panel} domain"}
    return {"type": "line", **ends, "line": {"color": GREY, "width": 1.2, "dash": "dot"}, "layer": "below"}
