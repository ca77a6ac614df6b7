"""Figures of what a measurement can see, each drawn from its table alone (probes.detection).

confusion_matrix(confusion(verdicts, organisms))     what is there × what was said, by the plain gap and by the rule
detection_curves(dose_curve(effects, …))             realised dose → gap, the real checkpoints on the same axis
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from probes import store
from probes.detection import CALLED, CONFUSION_COLUMNS, CURVE_COLUMNS, RULES, Limit, detection_limits, right_share
from probes.page import (
    GREY,
    GRID,
    HUES,
    INK,
    READOUT_WORDS,
    Legend,
    add_legend_entries,
    caption_of,
    check_one,
    counted,
    distinct,
    error_bars,
    framed_panels,
    is_toy,
    nine_digits,
    safe,
    variant,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_FLOATS = ("mean", "low", "high", "sd", "dose", "dose_low", "dose_high", "delta", "level")
RIGHT, WRONG, EMPTY = "#0072B2", "#D55E00", "#F3F3F3"
FOUND, MISSED = {"symbol": "circle", "size": 9, "color": INK}, {"symbol": "circle-open", "size": 9, "color": INK}


def read_confusion(path: Path | str) -> pd.DataFrame:
    """The CSV of a confusion matrix as its table. Raises MissingInputError, FileFormatError."""
    return nine_digits(store.read_table(path, CONFUSION_COLUMNS))


def read_curve(path: Path | str) -> pd.DataFrame:
    """The CSV of a detection curve as its table. Raises MissingInputError, FileFormatError."""
    table = store.read_table(path, CURVE_COLUMNS)
    organism = table["organism"].astype(object).where(table["organism"].notna(), "")
    # A column of 1.0 and 0.0 comes back from a CSV as whole numbers, which JSON writes otherwise.
    numbers = {name: table[name].astype(float) for name in _FLOATS}
    return nine_digits(table.assign(organism=organism, **numbers))


def confusion_matrix(table: pd.DataFrame) -> "Figure":
    """Rows are what was planted, columns what was said, a panel a rule; blue where that is right.

    Raises ConventionError for tables of several models, emotions or keys.
    """
    check_one(table, ("model", "evidence", "emotion", "delta", "key_sha"))
    shares, rules = right_share(table), list(RULES)
    titles = [[f"<b>{safe(RULES[rule])}</b><br>right: {shares[rule]:.0%}" for rule in rules]]
    names = distinct(table, "organism")
    figure = framed_panels(
        table, "Planted organisms, called blind", titles, (430, 34 * len(names)), [Legend("called", ["right", "wrong"])], 110,
        _confusion_caption(table),
    )  # fmt: skip
    for column, rule in enumerate(rules, 1):
        figure.add_trace(_cells(table[table["rule"] == rule], names), row=1, col=column)
    square = {"type": "scatter", "mode": "markers"}
    looks = {"right": RIGHT, "wrong": WRONG}
    add_legend_entries(
        figure, {n: square | {"marker": {"color": hue, "symbol": "square", "size": 11}} for n, hue in looks.items()}
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure.update_xaxes(showgrid=False, tickangle=-30)


def _cells(rows: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """A map of 0 (never said), −1 (said and wrong) and 1 (said and right), with the counts as text."""
    counts = rows.pivot(index="organism", columns="called", values="n").loc[list(names), list(CALLED)]
    right = rows.groupby("organism")["right"].first()
    z = [[np.sign(n) * (1 if word == right[name] else -1) for word, n in counts.loc[name].items()] for name in names]
    text = [[str(n) if n else "" for n in counts.loc[name]] for name in names]
    scale = [[0, WRONG], [0.5, EMPTY], [1, RIGHT]]
    return {
        "type": "heatmap", "x": [safe(word) for word in CALLED], "y": [safe(n) for n in names], "z": np.array(z, float).tolist(),
        "zmin": -1, "zmax": 1, "colorscale": scale, "showscale": False, "xgap": 2, "ygap": 2, "text": text,
        "texttemplate": "%{text}", "textfont": {"color": "#FFFFFF", "size": 14}, "hoverinfo": "x+y+text",
    }  # fmt: skip


def _confusion_caption(table: pd.DataFrame) -> str:
    row = table.iloc[0]
    return caption_of(
        table,
        f"Model {row['model']}, emotion {row['emotion']}. Each organism was read under a random name, and the key (sha256",
        f"{str(row['key_sha'])[:12]}) opened after all verdicts were written. Counts are layers. The rule is that of",
        f"the first page (δ = {row['delta']:g} anchored units), on readings counted from the parent. The gap alone takes the same",
        "tests in the original's unit and asks no gate, no level and no text. One training run an organism.",
    )


def detection_curves(table: pd.DataFrame) -> "Figure":
    """Gap by realised dose on the left, real checkpoints on the same axis on the right; a row a layer.

    Filled points are called a masked gap. The line is fitted to the organisms, the dotted one is the dose that is found with a
    power of .8. Raises ConventionError for tables of several models, emotions or probes, and what detection_limits raises.
    """
    check_one(table, ("model", "evidence", "emotion", "probes", "delta"))
    layers, limits = distinct(table, "layer"), {limit.layer: limit for limit in detection_limits(table)}
    titles = [[f"layer {layer} · planted", f"layer {layer} · not planted"] for layer in layers]
    real = distinct(table[table["organism"] == ""], "checkpoint")
    legends = [Legend("gap", ["found", "not found"])]
    figure = framed_panels(
        table, f"What is found of a planted dose of {table['emotion'].iloc[0]}", titles, (500, 300), legends, 100,
        _curve_caption(table, limits.values()),
    )  # fmt: skip
    for row, layer in enumerate(layers, 1):
        part = table[table["layer"] == layer]
        _add_organisms(figure, part[part["organism"] != ""], limits[layer], row)
        _add_real(figure, part[part["organism"] == ""], real, row)
    add_legend_entries(figure, {"found": _points(FOUND), "not found": _points(MISSED)})
    return _set_axes(figure, table, real, len(layers))


def _points(marker: dict[str, Any]) -> dict[str, Any]:
    return {"type": "scatter", "mode": "markers", "marker": marker}


def _add_organisms(figure: "Figure", rows: pd.DataFrame, limit: Limit, row: int) -> None:
    sides = [
        ("bottom center", "top center", "middle right")[i % 3] for i in range(len(rows))
    ]  # names of neighbours apart
    for found, part in rows.assign(side=sides).groupby("found"):
        doses = error_bars(part.assign(mean=part["dose"], low=part["dose_low"], high=part["dose_high"]), INK)
        trace = {
            **_points(FOUND if found else MISSED), "x": part["dose"].tolist(), "y": part["mean"].tolist(),
            "error_y": error_bars(part, INK), "error_x": doses, "mode": "markers+text", "showlegend": False,
            "text": [safe(name) for name in part["organism"]], "textposition": part["side"].tolist(), "textfont": {"size": 12},
            "hovertext": [_hover(one) for one in part.to_dict("records")], "hoverinfo": "text",
        }  # fmt: skip
        figure.add_trace(trace, row=row, col=1)
    ends = np.array([min(0.0, rows["dose"].min()), rows["dose"].max()])
    line = {
        "type": "scatter",
        "mode": "lines",
        "line": {"color": GREY, "width": 1.2},
        "showlegend": False,
        "hoverinfo": "skip",
    }
    figure.add_trace({**line, "x": ends.tolist(), "y": (limit.start + limit.slope * ends).tolist()}, row=row, col=1)
    figure.add_vline(x=limit.dose, line={"dash": "dot", "color": GREY, "width": 1.5}, row=row, col=1)  # pyright: ignore[reportArgumentType]


def _add_real(figure: "Figure", rows: pd.DataFrame, names: Sequence[str], row: int) -> None:
    for found, part in rows.groupby("found"):
        hues = [HUES.get(variant(name), INK) for name in part["checkpoint"]]
        for hue, (_, one) in zip(hues, part.iterrows(), strict=True):
            single = one.to_frame().T.astype({"mean": float, "low": float, "high": float})
            marker = {**(FOUND if found else MISSED), "color": hue}
            trace = {
                **_points(marker), "x": [names.index(one["checkpoint"])], "y": [float(one["mean"])],
                "error_y": error_bars(single, hue), "showlegend": False, "hovertext": [_hover(one.to_dict())], "hoverinfo": "text",
            }  # fmt: skip
            figure.add_trace(trace, row=row, col=2)


def _hover(row: dict[Any, Any]) -> str:
    dose = (
        ""
        if pd.isna(row["dose"])
        else f"realised dose {row['dose']:.3f} [{row['dose_low']:.3f}, {row['dose_high']:.3f}]"
    )
    facts = [
        f"{row['organism'] or 'not planted'} ({row['checkpoint']})",
        f"gap {row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}], {row['n_questions']:.0f} questions", dose,
    ]  # fmt: skip
    return "<br>".join(safe(fact) for fact in facts if fact)


def _set_axes(figure: "Figure", table: pd.DataFrame, real: Sequence[str], rows: int) -> "Figure":
    delta = float(table["delta"].iloc[0])
    figure.update_xaxes(showgrid=False, zeroline=False)
    figure.update_yaxes(gridcolor=GRID, zeroline=True, zerolinecolor=INK, zerolinewidth=1)
    figure.add_hline(y=delta, line={"dash": "dash", "color": GREY, "width": 1.2})  # pyright: ignore[reportArgumentType]
    units = ", toy units" if is_toy(table) else ""
    figure.update_xaxes(title_text=f"realised dose, anchored units of the parent{units}", row=rows, col=1)
    figure.update_xaxes(tickvals=list(range(len(real))), ticktext=[safe(name) for name in real], tickangle=-20, col=2)
    figure.update_xaxes(range=[-0.6, len(real) - 0.4], col=2)
    for row in range(1, rows):  # slanted names would run into the title of the panel below
        figure.update_xaxes(showticklabels=False, row=row, col=2)
    short = READOUT_WORDS["anchored_dot"].partition(":")[0]
    return figure.update_yaxes(title_text=f"harmful − affect ({short}){units}", title_font_size=12, col=1)


def _curve_caption(table: pd.DataFrame, limits) -> str:
    row = table.iloc[0]
    found = "; ".join(f"layer {limit.layer}: dose {limit.dose:.2f}, gap {limit.gap:.2f}" for limit in limits)
    return caption_of(
        table,
        f"Model {row['model']}. Means over questions (n = {counted(table['n_questions'])}) on",
        "the same forced text, with simultaneous 95 % intervals of the family that each is claimed in. Organisms are counted from",
        f"the parent that they were grown from, the others from nothing. Dashed: δ = {row['delta']:g}. Dotted: the dose",
        f"found with a power of .8 at the level of the organisms' family ({found}).",
        f"Probes: {row['probes']}. The dose is measured along what was planted, which no probe was fitted on. What the gates",
        "call not measurable is not drawn. One training run each: the intervals are about these weights.",
    )
