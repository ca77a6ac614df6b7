"""Verdicts → a figure and a page that can be read in a minute.

    figure = verdict_forest(claims_with_verdicts)      gap and level shifts in anchored units, δ and the A/A band behind them
    html = verdict_page(verdicts, gates, figures, transcripts, provenance)

The figure is drawn from its table alone. The page is one file that loads nothing; all text is escaped.
"""

import html
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from probes.cards import shown
from probes.declaration import SAME_TEXT
from probes.errors import DataError
from probes.figure_tables import in_order
from probes.gate_strip import strip_html
from probes.gates import NOT_MEASURABLE
from probes.null_directions import MATCHED
from probes.page import (
    GREY,
    GRID,
    INK,
    TOY_NOTE,
    Legend,
    add_legend_entries,
    check_one,
    counted,
    distinct,
    error_bars,
    framed_panels,
    is_toy,
    label_hues,
    nine_digits,
    safe,
)
from probes.verdict import CELL, CLAIM, HIGHER, LOWER, NO_CLAIM, NOTHING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ESTIMANDS = {
    "gap, same text": "circle", "gap, own answers": "circle-open", "level shift from original": "diamond",
    "level shift from benign_control": "diamond-open",
}  # fmt: skip
"""What a point is → its marker."""
FOREST_COLUMNS = (
    "model", "checkpoint", "label", "seed", "evidence", "layer", "emotion", "estimand", "mean", "low", "high", "n_questions",
    "delta", "a_a_low", "a_a_high", "placebo_low", "placebo_high", "n_placebos", "verdict", "readout",
    "probes", "family", "family_sha",
)  # fmt: skip
COLOURS = {HIGHER: "#D55E00", LOWER: "#0072B2", NOTHING: "#009E73", NO_CLAIM: "#8C6D31", NOT_MEASURABLE: GREY}
PLACEBO = "#D9CBEF"
LAYER_ROWS = 30
"""Pixels of a line of the forest."""
CAPTION = (
    "Anchored units: 0 is how the same checkpoint reads a plain dialogue, 1 how it reads a held-out story of the emotion. Gap: "
    "harmful − affect, within a checkpoint. Level shift: the benign answer of the original in this checkpoint − in the other. "
    "Simultaneous 95 % intervals of the family {family} ({sha}), {n} questions, {readout}. Grey band: ±δ = {delta:g}; dark band: "
    "the A/A contrast of neutral sentences; violet bar behind a point of the same text: what the middle 95 % of {placebos:,.0f} "
    "directions without an emotion read in its place. {toy}"
)


def forest_table(claims: pd.DataFrame, verdicts: pd.DataFrame, bands: pd.DataFrame) -> pd.DataFrame:
    """What the forest shows, in the order of drawing: FOREST_COLUMNS. Cells that are not measurable have no numbers.

    Args:
        bands: what placebos read in the place of an emotion (probes.placebo_bands); own answers have none.
    """
    rows = claims.merge(verdicts[[*CELL, "verdict", "a_a_low", "a_a_high"]], on=CELL, how="left")
    names = {"low": "placebo_low", "high": "placebo_high", "n_directions": "n_placebos"}
    drawn = bands[bands["placebo"] == MATCHED].rename(columns=names)[[*CLAIM, *names.values()]]
    rows = rows.merge(drawn, on=CLAIM, how="left", validate="1:1")
    rows = rows.assign(estimand=[_estimand(row) for row in rows.to_dict("records")])
    rows = rows[rows["estimand"] != ""].drop(columns=["low", "high"])
    rows = rows.rename(columns={"low_simultaneous": "low", "high_simultaneous": "high"})
    said, read = verdicts.iloc[0], claims.iloc[0]
    rows = rows.assign(**{name: said[name] for name in ("family", "family_sha", "delta", "probes")})
    # A cell that is not measurable was not read; it stands in the figure with what all the others share.
    shared = ("span", "readout", "aggregation", "baseline", "seed")
    rows = rows.assign(**{name: rows[name].fillna(read[name]) for name in shared})
    orders = {"estimand": list(ESTIMANDS), "emotion": distinct(verdicts, "emotion")}
    table = in_order(rows, ("layer", "emotion", "checkpoint", "estimand"), orders)
    return nine_digits(table[list(FOREST_COLUMNS)])


def _estimand(row: Mapping[Any, Any]) -> str:
    """What a claim is about; empty for one that the figure does not show."""
    if row["outcome"] == NOT_MEASURABLE:
        return next(iter(ESTIMANDS))
    if row["arm"] == row["checkpoint"]:
        return f"level shift from {row['reference']}"
    source = "same text" if row["text_source"] == SAME_TEXT else "own answers"
    return f"gap, {source}" if row["reference"] == "affect" else ""


def verdict_forest(table: pd.DataFrame) -> "Figure":
    """A panel a layer; down the side emotions and in each its checkpoints, with the verdict at the right end.

    Takes a forest_table, from memory or from its CSV. Raises ConventionError where models or families are mixed.
    """
    check_one(table, ("model", "evidence", "readout", "family_sha"))
    layers, labels = distinct(table, "layer"), distinct(table, "label")
    lines = [(emotion, label) for emotion in distinct(table, "emotion") for label in labels]
    hues, first = label_hues(table), table.iloc[0]
    legends = [Legend("checkpoint", labels), Legend("estimand", distinct(table, "estimand"))]
    caption = CAPTION.format(
        family=first["family"], sha=first["family_sha"][:12], n=f"{table['n_questions'].max():g}", delta=first["delta"],
        readout=first["readout"], placebos=table["n_placebos"].max(), toy=TOY_NOTE if is_toy(table) else "",
    )  # fmt: skip
    panel, titles = (640, LAYER_ROWS * len(lines)), [[f"layer {layer}" for layer in layers]]
    figure = framed_panels(table, "Verdicts", titles, panel, legends, 50, caption)
    for column, layer in enumerate(layers, 1):
        _add_layer(figure, table[table["layer"] == layer], lines, hues, column)
    _add_legends(figure, hues, distinct(table, "estimand"))
    names = [f"{safe(emotion)}" if label == labels[len(labels) // 2] else "" for emotion, label in lines]
    figure.update_yaxes(range=[len(lines) - 0.5, -0.5], ticks="", showgrid=False, zeroline=False)
    figure.update_yaxes(tickvals=list(range(len(lines))), ticktext=names)
    units = ", toy units" if is_toy(table) else ""
    return figure.update_xaxes(
        gridcolor=GRID, zeroline=True, zerolinecolor=INK, title_text=f"anchored units{units}", range=_range(table)
    )


def _range(table: pd.DataFrame) -> list[float]:
    """The numbers with room at the right for the verdicts."""
    ends = table[["low", "high", "placebo_low", "placebo_high"]].to_numpy(float)
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    return [min(low, -0.15) - 0.05 * (high - low), high + 0.45 * (high - low)]


def _add_layer(figure: "Figure", part: pd.DataFrame, lines: list, hues: Mapping[str, str], column: int) -> None:
    for (label, estimand), points in part.groupby(["label", "estimand"], sort=False):
        y = [_place(row, lines) for row in points.to_dict("records")]
        look = {"symbol": ESTIMANDS[str(estimand)], "size": 6, "color": hues[str(label)]}
        trace = {"type": "scatter", "mode": "markers", "x": points["mean"].tolist(), "y": y, "marker": look}
        words = {"hovertext": [_hover(row) for row in points.to_dict("records")], "hoverinfo": "text"}
        more = {"error_x": error_bars(points, hues[str(label)]), "legendgroup": safe(label), "showlegend": False}
        figure.add_trace(trace | words | more, row=1, col=column)
    delta, end = float(part["delta"].iloc[0]), len(lines) - 0.5
    _add_band(figure, (-delta, delta), (-0.5, end), "#F0F0F0", column)
    for row in part.drop_duplicates(["emotion", "label"]).to_dict("records"):
        place = lines.index((row["emotion"], row["label"]))
        if pd.notna(row["a_a_low"]):
            _add_band(figure, (row["a_a_low"], row["a_a_high"]), (place - 0.42, place + 0.42), "#BBBBBB", column)
        _add_word(figure, row["verdict"], place, column)
    for row in part[part["placebo_low"].notna()].to_dict("records"):
        place = _place(row, lines)
        _add_band(figure, (row["placebo_low"], row["placebo_high"]), (place - 0.07, place + 0.07), PLACEBO, column)
    for edge in range(len(hues), len(lines), len(hues)):
        _add_band(figure, (-1e3, 1e3), (edge - 0.5, edge - 0.49), GREY, column)


def _place(row: Mapping[Any, Any], lines: list) -> float:
    """Height of a point: the line of its emotion and checkpoint, and in it that of its estimand."""
    return lines.index((row["emotion"], row["label"])) + (list(ESTIMANDS).index(row["estimand"]) - 1.5) * 0.2


def _add_band(figure: "Figure", x: tuple[float, float], y: tuple[float, float], colour: str, column: int) -> None:
    """A rectangle behind the points."""
    box = {"x0": x[0], "x1": x[1], "y0": y[0], "y1": y[1], "fillcolor": colour, "line": {"width": 0}}
    figure.add_shape(type="rect", layer="below", row=1, col=column, **box)


def _add_word(figure: "Figure", verdict: str, place: int, column: int) -> None:
    """The verdict at the right end of its line."""
    axis = str(column) if column > 1 else ""
    figure.add_annotation(
        text=safe(verdict), x=1, xref=f"x{axis} domain", xanchor="right", y=place, yref=f"y{axis}", showarrow=False,
        font={"size": 11, "color": COLOURS.get(verdict, INK)},
    )  # fmt: skip


def _add_legends(figure: "Figure", hues: Mapping[str, str], estimands: Sequence[str]) -> None:
    points = {"type": "scatter", "mode": "markers"}
    squares = {name: points | {"marker": {"color": hue, "symbol": "square", "size": 11}} for name, hue in hues.items()}
    add_legend_entries(figure, squares)
    marks = {name: points | {"marker": {"color": GREY, "symbol": ESTIMANDS[name], "size": 9}} for name in estimands}
    add_legend_entries(figure, marks, legend=1)


def _hover(row: Mapping[Any, Any]) -> str:
    facts = [
        f"{row['label']} · {row['emotion']} · layer {row['layer']} · {row['estimand']}",
        f"{row['mean']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], {row['n_questions']:g} questions",
        f"placebos [{row['placebo_low']:+.3f}, {row['placebo_high']:+.3f}]" if pd.notna(row["placebo_low"]) else "",
        str(row["verdict"]),
    ]
    return "<br>".join(map(safe, filter(None, facts)))


# ---- the page --------------------------------------------------------------------------------------------------------


STYLE = """body{font:15px/1.45 Arial,Helvetica,sans-serif;color:#222;max-width:1440px;margin:24px auto;padding:0 16px}
table{border-collapse:collapse;margin:10px 0}td,th{padding:3px 12px 3px 0;text-align:left;vertical-align:top;
border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}.toy{background:#FFF3E0;border:2px solid #D55E00;padding:8px 12px}
.prompt{color:#888}.tokens{white-space:pre-wrap;font-family:monospace;max-width:1100px}
.strip th[colspan]{color:#555;font-weight:400;border-bottom:none}
td.word{font-weight:600;white-space:nowrap}small{color:#555}"""
GATES = {
    "layer_accuracy": "accuracy, frozen", "refit_accuracy": "accuracy, refit", "gain_ratio": "gain ÷ original's",
    "norm": "norm", "refit_cosine": "cosine, refit", "half_cosine": "cosine, halves", "outcome": "outcome",
}  # fmt: skip
"""Column of the gates → what the strip calls it."""


def verdict_page(
    verdicts: pd.DataFrame,
    gates: pd.DataFrame,
    strip: pd.DataFrame,
    figures: Mapping[str, "Figure"],
    transcripts: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> str:
    """The first page: verdicts in words, figures, the gate strip, and one text in two arms. One file that loads nothing.

    Args:
        gates: of the cells that are shown, one by one; strip: a line a checkpoint and layer (probes.gate_strip).
        figures: heading → figure.
        transcripts: heading → HTML of probes.transcripts.transcript_html, which is escaped there.
    """
    from plotly.io import to_html
    from plotly.offline import get_plotlyjs

    if verdicts.empty:
        raise DataError("there are no verdicts to show; confirm a declared family first.")
    origin = html.escape(json.dumps(provenance, indent=1, sort_keys=True))
    title = f"Verdicts · {shown(verdicts['model'].iloc[0])}"
    drawn = [
        f"<h2>{shown(heading)}</h2>{to_html(figure, include_plotlyjs=False, full_html=False, div_id=f'figure-{place}')}"
        for place, (heading, figure) in enumerate(figures.items())
    ]
    texts = [f"<h2>{shown(heading)}</h2>{text}" for heading, text in transcripts.items()]
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>",
        f"<script>{get_plotlyjs()}</script></head><body><h1>{title}</h1>",
        f"<p class='toy'>{shown(TOY_NOTE)}</p>" if is_toy(verdicts) else "", _counts(verdicts), *drawn,
        _verdict_rows(verdicts), "<h2>What must hold first: the gates</h2>", strip_html(strip), _gate_rows(gates), *texts,
        f"<details><summary>provenance</summary><pre>{origin}</pre></details></body></html>",
    ]  # fmt: skip
    return "\n".join(parts)


def _counts(verdicts: pd.DataFrame) -> str:
    first = verdicts.iloc[0]
    words, moved = verdicts["verdict"].value_counts(), verdicts["verdict"].isin([HIGHER, LOWER])
    told = ", ".join(f"{word} {count}" for word, count in words.items())
    about = (
        f"Of {len(verdicts)} cells (checkpoint × emotion × layer): {told}. Of the {moved.sum()} that read higher or lower, "
        f"{(moved & verdicts['within_placebos']).sum()} rest on no more than directions without an emotion read of the same texts "
        f"(violet in the figure). Family {first['family']} ({first['family_sha'][:12]}), "
        f"δ {first['delta']:g}; {counted(verdicts['n_questions'])} questions, each with {first['n_controls']} sentences of the "
        f"control arm. Probes: {first['probes']}, from stories of one seed. One training run a checkpoint: these weights."
    )
    return f"<p>{shown(about, 600)}</p>"


def _verdict_rows(verdicts: pd.DataFrame) -> str:
    rows = [
        f"<tr><td>{shown(row['checkpoint'])}</td><td>{shown(row['emotion'])}</td><td>{row['layer']}</td>"
        f"<td class='word' style='color:{COLOURS.get(row['verdict'], INK)}'>{shown(row['verdict'])}</td>"
        f"<td><small>{shown(row['sentence'], 600)}</small></td></tr>"
        for row in verdicts.to_dict("records")
    ]
    head = "<tr><th>checkpoint</th><th>emotion</th><th>layer</th><th>verdict</th><th>because</th></tr>"
    return f"<details><summary>every cell in words</summary><table>{head}{''.join(rows)}</table></details>"


def _gate_rows(gates: pd.DataFrame) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("checkpoint", "layer", "emotion", *GATES.values()))
    rows = [
        "".join(f"<td>{_cell(row[name])}</td>" for name in ("checkpoint", "layer", "emotion", *GATES))
        for row in gates.to_dict("records")
    ]
    table = f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
    return f"<details><summary>the gates of every cell</summary>{table}</details>"


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else shown(value)
