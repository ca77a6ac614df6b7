"""Figures of the validity report, each drawn from its table alone.

forest_table(evidence, verdicts, layers)  → reader_forest(table)      who reads each emotion on unseen topics
by_layer_table(evidence, layers)          → validity_by_layer(table)  the same over all layers, and how far halves agree
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from probes import store
from probes.page import (
    GREY,
    GRID,
    INK,
    Legend,
    add_legend_entries,
    caption_of,
    check_one,
    counted,
    distinct,
    framed_panels,
    nine_digits,
    place_in,
    safe,
)
from probes.unseen import ALL
from probes.validity import NO_BETTER, NOT_USABLE, READER_WORDS, USABLE, Evidence

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SPREAD = "covariance_matched"
LOOKS = {
    "probes": ("#0072B2", "circle", 10), "words": ("#D55E00", "diamond", 9), "embeddings": ("#E69F00", "square", 8),
    "random_weights": ("#009E73", "cross", 8), "length": ("#8C6D31", "x", 8), "shuffled_labels": ("#666666", "star", 8),
}  # fmt: skip
"""Reader → colour, marker and its size, in the order of drawing."""
VERDICT_MARKS = {USABLE: "●", NO_BETTER: "◐", NOT_USABLE: "○"}
WITHOUT_LAYERS = ("words", "embeddings", "length")
"""Readers that are the same at every layer: a dashed line."""
DODGE = 0.16
"""Of the height of a row, between two readers."""
_ONE_OF = ("model", "checkpoint", "weights", "evidence", "layer_convention")
_DRAWN = (*LOOKS, SPREAD)
_NUMBERS = ("auc", "low", "high", "accuracy", "accuracy_low", "accuracy_high", "n")
MEASURES = {
    "auc": "AUC on unseen topics",
    "accuracy": "share read rightly, of all emotions",
    "agreement": "cosine of two halves",
}


# ---- tables ----------------------------------------------------------------------------------------------------------


def forest_table(evidence: Evidence, verdicts: pd.DataFrame, layers: Sequence[int]) -> pd.DataFrame:
    """Readers at some layers with the verdict of each emotion; what has no layer stands at each of them."""
    emotions = verdicts["emotion"].unique().tolist()
    unseen = evidence.unseen
    rows = _of_bank(unseen[unseen["reader"].isin(_DRAWN) & unseen["emotion"].isin(emotions)])
    blocks = [rows[(rows["layer"] == layer) | (rows["layer"] < 0)].assign(layer=layer) for layer in layers]
    table = pd.concat(blocks, ignore_index=True).merge(
        verdicts[["layer", "emotion", "verdict"]], on=["layer", "emotion"], validate="many_to_one"
    )
    return _ordered(table, {"layer": list(layers), "emotion": emotions, "reader": _DRAWN})


def by_layer_table(evidence: Evidence, marked: Sequence[int]) -> pd.DataFrame:
    """AUC and accuracy of each reader over layers, and the cosine of halves with its range over emotions, as rows `measure`."""
    unseen = evidence.unseen
    rows = _of_bank(unseen[unseen["reader"].isin(_DRAWN) & (unseen["emotion"] == ALL)])
    there = sorted(set(rows.loc[rows["layer"] >= 0, "layer"]))
    fixed = rows[rows["layer"] < 0]
    rows = pd.concat([rows[rows["layer"] >= 0], *(fixed.assign(layer=layer) for layer in there)], ignore_index=True)
    blocks = [
        rows.assign(measure="auc", mean=rows["auc"]),
        rows.assign(measure="accuracy", mean=rows["accuracy"], low=rows["accuracy_low"], high=rows["accuracy_high"]),
        _halves(evidence.agreement),
    ]
    table = pd.concat(blocks, ignore_index=True).dropna(subset="mean")
    table = table.assign(marked=table["layer"].isin(marked))
    columns = [*_ONE_OF, "measure", "reader", "layer", "mean", "low", "high", "n", "marked"]
    return _ordered(table[columns], {"measure": list(MEASURES), "reader": _DRAWN, "layer": there})


def _of_bank(rows: pd.DataFrame) -> pd.DataFrame:
    """Every reader under the name of the model whose probes are judged; a random twin has one of its own."""
    own = rows[rows["reader"] == "probes"].iloc[0]
    return rows.assign(**{column: own[column] for column in _ONE_OF})


def _halves(agreement: pd.DataFrame) -> pd.DataFrame:
    """Median, least and greatest over emotions; beside it the nearest other emotion, which is the control."""
    groups = agreement.groupby("layer")
    about = {column: agreement[column].iloc[0] for column in _ONE_OF}
    halves = groups["split_half"].agg(mean="median", low="min", high="max", n="size").assign(reader="probes")
    other = groups["neighbour_cosine"].agg(mean="median", low="min", high="max", n="size").assign(reader=SPREAD)
    return pd.concat([halves, other]).reset_index().assign(measure="agreement", **about)


def _ordered(table: pd.DataFrame, orders: dict[str, Sequence[Any]]) -> pd.DataFrame:
    places = table.assign(**{column: table[column].map(place_in(order)) for column, order in orders.items()})
    ordered = table.loc[places.sort_values(list(orders), kind="stable").index].reset_index(drop=True)
    return _plain(ordered)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    return nine_digits(table.astype({column: float for column in (*_NUMBERS, "mean") if column in table}))


def read_validity_table(path: Path | str) -> pd.DataFrame:
    """The CSV of one of these figures as its table."""
    return _plain(store.read_table(path, [*_ONE_OF, "reader", "layer"]))


# ---- figures ---------------------------------------------------------------------------------------------------------


def reader_forest(table: pd.DataFrame) -> "Figure":
    """A panel a layer, a row an emotion: AUC of each reader on stories of unseen topics, with intervals.

    The grey bar holds the middle 95 % of directions that stories scatter along. Takes a forest_table, from memory or from its
    CSV; raises ConventionError where models or weights are mixed.
    """
    check_one(table, _ONE_OF)
    layers, emotions = distinct(table, "layer"), distinct(table, "emotion")
    readers = [reader for reader in distinct(table, "reader") if reader in LOOKS]
    figure = framed_panels(
        table, "Who reads each emotion in stories of unseen topics", [[f"layer {layer}" for layer in layers]],
        (460, min(max(40 * len(emotions), 240), 7000)), _legends(readers), 52, _forest_caption(table),
    )  # fmt: skip
    for column, layer in enumerate(layers, 1):
        part = table[table["layer"] == layer]
        for reader in (SPREAD, *readers):
            rows, place = part[part["reader"] == reader], readers.index(reader) if reader in readers else 0
            shift = 0.0 if reader == SPREAD else (place - (len(readers) - 1) / 2) * DODGE
            y = [emotions.index(emotion) + shift for emotion in rows["emotion"]]
            figure.add_trace(_spread_bars(rows, y) if reader == SPREAD else _points(rows, y), row=1, col=column)
    _name_rows(figure, table, emotions)
    figure.update_xaxes(title_text="AUC (.5: knows nothing)", range=[-0.02, 1.03], gridcolor=GRID, title_standoff=8)
    figure.add_vline(x=0.5, line={"color": INK, "width": 1, "dash": "dot"})
    return figure


def validity_by_layer(table: pd.DataFrame) -> "Figure":
    """A panel a measure over all layers, a line a reader. Takes a by_layer_table, from memory or from its CSV."""
    check_one(table, _ONE_OF)
    measures, readers = distinct(table, "measure"), [r for r in LOOKS if r in set(table["reader"])]
    figure = framed_panels(
        table, "What is read at every layer", [[MEASURES[measure] for measure in measures]], (340, 300), _legends(readers), 46,
        _by_layer_caption(table),
    )  # fmt: skip
    for column, measure in enumerate(measures, 1):
        part = table[table["measure"] == measure]
        for reader in [SPREAD, *reversed(readers)]:
            rows = part[part["reader"] == reader]
            if len(rows) and (measure, reader) != ("auc", "shuffled_labels"):  # its spread is that of the grey band
                figure.add_trace(_band(rows, reader), row=1, col=column)
            if len(rows) and reader in LOOKS:
                figure.add_trace(_curve(rows), row=1, col=column)
    _add_reader_entries(figure, readers)
    for layer in distinct(table[table["marked"]], "layer"):
        figure.add_vline(x=layer, line={"color": GREY, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="layer", gridcolor=GRID, zeroline=False)
    return figure.update_yaxes(gridcolor=GRID, range=[-0.03, 1.03])


def _legends(readers: Sequence[str]) -> list[Legend]:
    return [Legend("reader", [READER_WORDS[reader] for reader in (*readers, SPREAD)])]


def _marker(reader: str) -> dict[str, Any]:
    hue, symbol, size = LOOKS[reader]
    return {"color": hue, "symbol": symbol, "size": size, "line": {"color": "#FFFFFF", "width": 0.5}}


def _named(rows: pd.DataFrame) -> dict[str, Any]:
    reader = rows["reader"].iloc[0]
    names = rows["emotion"] if "emotion" in rows else [f"layer {layer}" for layer in rows["layer"]]
    values = rows["mean"] if "mean" in rows else rows["auc"]
    texts = [
        f"{safe(name)} · {safe(READER_WORDS[reader])}<br>{value:.3f} [{low:.3f}, {high:.3f}], n = {n:g}"
        for name, value, low, high, n in zip(names, values, rows["low"], rows["high"], rows["n"], strict=True)
    ]
    return {"legendgroup": READER_WORDS[reader], "showlegend": False, "hovertext": texts, "hoverinfo": "text"}


def _points(rows: pd.DataFrame, y: Sequence[float]) -> dict[str, Any]:
    reader = rows["reader"].iloc[0]
    bars = {"color": LOOKS[reader][0], "thickness": 1, "width": 0, "symmetric": False, "type": "data"}
    ends = {"array": (rows["high"] - rows["auc"]).tolist(), "arrayminus": (rows["auc"] - rows["low"]).tolist()}
    place = {"type": "scatter", "mode": "markers", "x": rows["auc"].tolist(), "y": list(y), "marker": _marker(reader)}
    return {**place, "error_x": {**bars, **ends}, **_named(rows)}


def _spread_bars(rows: pd.DataFrame, y: Sequence[float]) -> dict[str, Any]:
    width = (rows["high"] - rows["low"]).tolist()
    look = {"color": "#D9D9D9", "line": {"width": 0}}
    return {
        "type": "bar", "orientation": "h", "base": rows["low"].tolist(), "x": width, "y": list(y), "width": 0.86, "marker": look,
        **_named(rows),
    }  # fmt: skip


def _curve(rows: pd.DataFrame) -> dict[str, Any]:
    reader = rows["reader"].iloc[0]
    line = {"color": LOOKS[reader][0], "width": 2, "dash": "dash" if reader in WITHOUT_LAYERS else "solid"}
    mode = "lines" if reader in WITHOUT_LAYERS else "lines+markers"
    place = {"type": "scatter", "mode": mode, "x": rows["layer"].tolist(), "y": rows["mean"].tolist()}
    return {**place, "line": line, "marker": _marker(reader), **_named(rows)}


def _band(rows: pd.DataFrame, reader: str) -> dict[str, Any]:
    hue = LOOKS[reader][0] if reader in LOOKS else "#BBBBBB"
    around = {"x": [*rows["layer"], *rows["layer"][::-1]], "y": [*rows["high"], *rows["low"][::-1]]}
    look = {"fill": "toself", "fillcolor": hue, "opacity": 0.16 if reader in LOOKS else 0.4, "line": {"width": 0}}
    shared = {"legendgroup": READER_WORDS[reader], "showlegend": False, "hoverinfo": "skip"}
    return {"type": "scatter", "mode": "lines", **around, **look, **shared}


def _name_rows(figure: "Figure", table: pd.DataFrame, emotions: Sequence[str]) -> None:
    """Emotions beside their row, with a mark for each panel's verdict."""
    given = table.groupby(["emotion", "layer"], sort=False)["verdict"].first()
    marks = {emotion: "".join(map(VERDICT_MARKS.__getitem__, given[emotion])) for emotion in emotions}
    names = [f"{safe(emotion)} {marks[emotion]}" for emotion in emotions]
    figure.update_yaxes(
        tickvals=list(range(len(emotions))), ticktext=names, range=[len(emotions) - 0.5, -0.5], ticks=""
    )
    figure.update_yaxes(
        showgrid=False, zeroline=False, minor={"tick0": -0.5, "dtick": 1, "showgrid": True, "gridcolor": GRID}
    )
    readers = [reader for reader in LOOKS if reader in set(table["reader"])]
    _add_reader_entries(figure, readers)


def _add_reader_entries(figure: "Figure", readers: Sequence[str]) -> None:
    looks = {READER_WORDS[r]: {"type": "scatter", "mode": "markers", "marker": _marker(r)} for r in readers}
    square = {"color": "#D9D9D9", "symbol": "square", "size": 13}
    add_legend_entries(
        figure, {**looks, READER_WORDS[SPREAD]: {"type": "scatter", "mode": "markers", "marker": square}}
    )


def _forest_caption(table: pd.DataFrame) -> str:
    counts = counted(table.loc[table["reader"] == "probes", "n"])
    marks = ", ".join(f"{mark} {words}" for words, mark in VERDICT_MARKS.items())
    return caption_of(
        table,
        f"{_origin(table)} {counts} held-out stories an emotion; pairs are within a topic that no reader was fitted on. Lines: the",
        "wider of the 95% t interval over topics and Wilson's over stories. Grey: middle 95% of directions drawn with",
        f"the covariance of stories. Behind a name, layer by layer: {marks}.",
    )  # fmt: skip


def _by_layer_caption(table: pd.DataFrame) -> str:
    marked = ", ".join(map(str, distinct(table[table["marked"]], "layer")))
    return caption_of(
        table,
        f"{_origin(table)} Shades: intervals as in the forest; of directions and shuffled labels the middle 95%;",
        "dashed: what has no layers. Right: median",
        "and range over emotions of the cosine of one half of the stories with the other (blue), and with the nearest other",
        f"emotion of the other half (grey). Dotted: layers chosen beforehand ({marked}).",
    )  # fmt: skip


def _origin(table: pd.DataFrame) -> str:
    row = table.iloc[0]
    return f"{row['model']}/{row['checkpoint']}, weights {str(row['weights'])[:12]}. {str(row['layer_convention']).capitalize()}."
