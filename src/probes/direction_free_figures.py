"""Figures of probes.direction_free and probes.refusal_direction, each drawn from its table alone.

points = told_points(told, shares)      told_figure(points)          how well arms are told apart, and by what
refusal_figure(cosine_table(…))                                      cosines with the refusal direction
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from probes import store
from probes.direction_free import ABOUT, PARTS
from probes.page import (
    GREY,
    GRID,
    HUES,
    INK,
    Legend,
    add_legend_entries,
    caption_of,
    check_one,
    contrast_words,
    counted,
    distinct,
    error_bars,
    framed_panels,
    nine_digits,
    place_in,
    safe,
    variant,
)
from probes.refusal_direction import COSINE_COLUMNS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TOLD, SHARE = "told apart", "share in the emotion span"
POINT_COLUMNS = (
    *ABOUT, "probes", "measure", "contrast", "part", "layer", "mean", "low", "high", "null_low", "null_high", "n_questions", "note",
)  # fmt: skip
SYMBOLS = {PARTS[0]: "circle", PARTS[1]: "diamond", PARTS[2]: "circle-open"}
CONTRAST_HUES = ("#D55E00", "#0072B2", GREY)
"""Of the contrasts, in their order; the last is the A/A contrast."""
TITLES = {
    TOLD: "unseen questions ranked rightly (.5: knows nothing)",
    SHARE: "share of the mean difference in the emotion span",
}
_ROW = 62
"""Pixels of a checkpoint."""


def told_points(told: pd.DataFrame, shares: pd.DataFrame) -> pd.DataFrame:
    """Both tables of all checkpoints and contrasts as points, in the order of drawing: POINT_COLUMNS."""
    ranked = told.rename(columns={"accuracy": "mean"}).assign(measure=TOLD, note="")
    inside = shares.rename(columns={"share": "mean"}).assign(measure=SHARE, part=PARTS[1])
    points = pd.concat([ranked, inside], ignore_index=True)
    points["contrast"] = [contrast_words(*pair) for pair in zip(points["arm"], points["reference"], strict=True)]
    return nine_digits(points[list(POINT_COLUMNS)])


def read_told_points(path: Path | str) -> pd.DataFrame:
    """The CSV of told_figure as its table. Raises MissingInputError, FileFormatError."""
    table = store.read_table(path, POINT_COLUMNS)
    return nine_digits(table.assign(note=table["note"].astype(object).where(table["note"].notna(), "")))


def told_figure(points: pd.DataFrame) -> "Figure":
    """A row of panels a measure, a column a layer; down the side checkpoints, and behind each point its null as a bar.

    Takes told_points, from memory or from its CSV. Raises ConventionError where models or probes are mixed.
    """
    check_one(points, ("model", "evidence", "probes", "layer_convention"))
    layers, contrasts = distinct(points, "layer"), distinct(points, "contrast")
    names = sorted(distinct(points, "checkpoint"), key=lambda name: (place_in(HUES)(variant(name)), name))
    titles = [[f"{TITLES[measure]} · layer {layer}" for layer in layers] for measure in TITLES]
    legends = [Legend("contrast", contrasts), Legend("given to the classifier", PARTS)]
    figure = framed_panels(
        points, "What tells arms apart on one text, along any direction", titles, (440, 40 + _ROW * len(names)), legends, 30,
        _told_caption(points), 170,
    )  # fmt: skip
    hues = dict(zip(contrasts, CONTRAST_HUES, strict=False))
    for row, measure in enumerate(TITLES, 1):
        for column, layer in enumerate(layers, 1):
            part = points[(points["measure"] == measure) & (points["layer"] == layer)]
            _add_points(figure, part, names, hues, (row, column))
    markers = {"type": "scatter", "mode": "markers"}
    squares = {name: {"marker": {"color": hue, "symbol": "square", "size": 11}} | markers for name, hue in hues.items()}
    add_legend_entries(figure, squares)
    looks = {
        name: {"marker": {"color": INK, "symbol": symbol, "size": 9}} | markers for name, symbol in SYMBOLS.items()
    }
    add_legend_entries(figure, looks, legend=1)
    figure.update_xaxes(gridcolor=GRID, zeroline=False)
    figure.update_xaxes(range=[-0.03, 1.03], row=1)
    inside = points[points["measure"] == SHARE]
    figure.update_xaxes(range=_ends(inside[["low", "high", "null_low", "null_high"]]), row=2)
    ticks = {"tickvals": list(range(len(names))), "ticktext": [safe(name) for name in names]}
    return figure.update_yaxes(range=[len(names) - 0.5, -0.5], gridcolor=GRID, zeroline=False, **ticks)


def _add_points(
    figure: "Figure", part: pd.DataFrame, names: Sequence[str], hues: Mapping[str, str], place: tuple[int, int]
) -> None:
    lines = [(contrast, one) for contrast in hues for one in SYMBOLS]
    for (contrast, one), rows in part.dropna(subset=["mean"]).groupby(["contrast", "part"], sort=False):
        shift = (lines.index((str(contrast), str(one))) - (len(lines) - 1) / 2) * 0.1
        y = [names.index(name) + shift for name in rows["checkpoint"]]
        hue = hues[str(contrast)]
        null = {"type": "data", "symmetric": False, "thickness": 5, "width": 0, "color": "rgba(120,120,120,0.25)"}
        ends = {"array": (rows["null_high"] - rows["null_low"]).tolist(), "arrayminus": [0.0] * len(rows)}
        behind = {
            "type": "scatter",
            "mode": "markers",
            "x": rows["null_low"].tolist(),
            "y": y,
            "marker": {"opacity": 0},
        }
        trace = {
            "type": "scatter", "mode": "markers", "x": rows["mean"].tolist(), "y": y, "error_x": error_bars(rows, hue),
            "marker": {"color": hue, "symbol": SYMBOLS[str(one)], "size": 8}, "legendgroup": safe(contrast),
            "hovertext": [_hover(row) for row in rows.to_dict("records")], "hoverinfo": "text", "showlegend": False,
        }  # fmt: skip
        quiet = {"hoverinfo": "skip", "showlegend": False, "legendgroup": safe(contrast)}
        figure.add_trace({**behind, "error_x": null | ends, **quiet}, row=place[0], col=place[1])
        figure.add_trace(trace, row=place[0], col=place[1])


def _ends(table: pd.DataFrame) -> list[float]:
    """The range of an axis that holds all of a table, and 0."""
    low, high = min(0.0, float(table.min().min())), float(table.max().max())
    return [low - 0.03 * (high - low), high + 0.03 * (high - low)]


def _hover(row: Mapping[Any, Any]) -> str:
    facts = [
        f"{row['checkpoint']} · {row['contrast']} · {row['part']}",
        f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}], null {row['null_low']:.3f} to {row['null_high']:.3f}",
        f"{row['n_questions']:g} questions",
    ]
    return "<br>".join(map(safe, facts))


def _told_caption(points: pd.DataFrame) -> str:
    row = points.iloc[0]
    lacking = int(points["mean"].isna().sum())
    return caption_of(
        points,
        f"The same forced answer in both arms (n = {counted(points['n_questions'])} questions). Above:",
        "a classifier of paired differences, asked about questions that it has not seen, with Wilson's 95 % interval; grey: the",
        "middle 95 % where each question's sign is flipped and the classifier learns anew. It is given all activations, their",
        f"coordinates in the span of all emotions of {row['probes']}, or what that leaves. Below: how much of the mean difference",
        "lies in that span, with a 95 % jackknife interval; grey: as many random directions of the covariance of plain answers.",
        f"{lacking} points are not drawn: no difference, so no share." if lacking else "",
        f"One training run a checkpoint: about these weights. {str(row['layer_convention']).capitalize()}.",
    )  # fmt: skip


# ---- refusal ---------------------------------------------------------------------------------------------------------


def read_cosines(path: Path | str) -> pd.DataFrame:
    """The CSV of refusal_figure as its table. Raises MissingInputError, FileFormatError."""
    return nine_digits(store.read_table(path, COSINE_COLUMNS))


def refusal_figure(table: pd.DataFrame) -> "Figure":
    """A panel a layer: each emotion's cosine with the refusal direction; grey: random directions. Takes a cosine_table.

    Raises ConventionError where models or probes are mixed.
    """
    check_one(table, ("model", "evidence", "probes", "layer_convention"))
    layers, emotions = distinct(table, "layer"), distinct(table, "emotion")
    figure = framed_panels(
        table, "Emotion probes and the refusal direction", [[f"layer {layer}" for layer in layers]],
        (440, min(max(24 * len(emotions), 160), 4200)), [], 46, _refusal_caption(table), 130,
    )  # fmt: skip
    for column, layer in enumerate(layers, 1):
        rows = table[table["layer"] == layer]
        null = float(rows["null"].iloc[0])
        words = [f"{safe(r['emotion'])}: {r['cosine']:+.3f}" for r in rows.to_dict("records")]
        trace = {
            "type": "scatter", "mode": "markers", "x": rows["cosine"].tolist(), "y": [safe(name) for name in rows["emotion"]],
            "marker": {"color": INK, "size": 8}, "hovertext": words, "hoverinfo": "text", "showlegend": False,
        }  # fmt: skip
        figure.add_trace(trace, row=1, col=column)
        band = {"x0": -null, "x1": null, "fillcolor": "#E6E6E6", "line_width": 0, "layer": "below"}
        figure.add_vrect(**band, row=1, col=column)  # pyright: ignore[reportArgumentType]
    limit = 1.1 * max(float(table["cosine"].abs().max()), float(table["null"].max()))
    figure.update_xaxes(title_text="cosine", range=[-limit, limit], gridcolor=GRID, zeroline=True, zerolinecolor=INK)
    return figure.update_yaxes(autorange="reversed", gridcolor=GRID)


def _refusal_caption(table: pd.DataFrame) -> str:
    row = table.iloc[0]
    return caption_of(
        table,
        f"Refusal direction of {row['model']}/{row['checkpoint']}: {row['n_refused']} harmful prompts that it refuses −",
        f"{row['n_answered']} benign ones that it answers, at the last token of the prompt, at this layer (Arditi et al. 2024).",
        f"Probes: {row['probes']}. Grey: 95 % of random directions of the covariance of plain answers.",
        f"{str(row['layer_convention']).capitalize()}.",
    )
