"""The figure of a model that is told to feel: over the same calm answer, what showing and hiding add to no instruction."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from probes import store
from probes.equivalence import DELTA
from probes.page import (
    GRID,
    INK,
    Legend,
    add_legend_entries,
    caption_of,
    check_one,
    distinct,
    error_bars,
    framed_panels,
    is_toy,
    nine_digits,
    safe,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PROMPTED_COLUMNS = (
    "model", "checkpoint", "evidence", "probes", "layer_convention", "emotion", "layer", "condition", "mean", "low", "high",
    "n_questions", "exceeds",
)  # fmt: skip
LOOKS = {"show": ("#E69F00", "circle"), "hide": ("#0072B2", "diamond"), "student": ("#009E73", "square")}
"""Condition → colour and marker: told to show it, told to hide it, never told and taught by who hides it."""


def read_prompted_table(path: Path | str) -> pd.DataFrame:
    """The CSV of the figure as its table. Raises MissingInputError, FileFormatError."""
    return nine_digits(store.read_table(path, PROMPTED_COLUMNS))


def prompted_points(table: pd.DataFrame) -> "Figure":
    """A panel a layer, emotions along x, a point with its interval for each condition minus none.

    Takes a prompted_table, from memory or from its CSV. Raises ConventionError for tables of several models or probes.
    """
    check_one(table, ("model", "evidence", "probes"))
    layers, emotions, conditions = (distinct(table, name) for name in ("layer", "emotion", "condition"))
    figure = framed_panels(
        table, "Told to feel it, over the same calm answer", [[f"layer {layer}" for layer in layers]], (480, 300),
        [Legend("minus no instruction", conditions)], 60, _caption(table),
    )  # fmt: skip
    for column, layer in enumerate(layers, 1):
        for place, condition in enumerate(conditions):
            part = table[(table["layer"] == layer) & (table["condition"] == condition)]
            aside = 0.18 * (place - (len(conditions) - 1) / 2)
            x = [emotions.index(emotion) + aside for emotion in part["emotion"]]
            trace = {
                **_look(condition),
                "x": x,
                "y": part["mean"].tolist(),
                "error_y": error_bars(part, LOOKS[condition][0]),
            }
            figure.add_trace({**trace, "showlegend": False, "legendgroup": condition}, row=1, col=column)
    add_legend_entries(figure, {condition: _look(condition) for condition in conditions})
    figure.update_xaxes(tickvals=list(range(len(emotions))), ticktext=[safe(e) for e in emotions], showgrid=False)
    figure.update_xaxes(range=[-0.5, len(emotions) - 0.5], zeroline=False)
    figure.update_yaxes(gridcolor=GRID, zeroline=True, zerolinecolor=INK, zerolinewidth=1, rangemode="tozero")
    units = ", toy units" if is_toy(table) else ""
    return figure.update_yaxes(title_text=f"difference in anchored units{units}", col=1)


def _look(condition: str) -> dict[str, object]:
    hue, symbol = LOOKS[condition]
    return {"type": "scatter", "mode": "markers", "marker": {"color": hue, "symbol": symbol, "size": 9}}


def _caption(table: pd.DataFrame) -> str:
    row = table.iloc[0]
    return caption_of(
        table,
        f"Model {row['model']}. Means over {row['n_questions']} questions with 95% t intervals; every condition reads the same",
        "answer, word for word. Show and hide: a system prompt says what to feel, and to show or to hide it. Student: learnt",
        f"calm answers from who was told to hide, and is told nothing. Hide above {DELTA:g}, the smallest effect of interest,",
        "is a state that the text cannot show.",
        f"Probes: {row['probes']}.",
        "It has never read such an instruction: any words before the answer move its readings this little."
        if is_toy(table)
        else "",
    )
