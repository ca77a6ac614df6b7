"""Two judges over the same answers → how they agree on each metric, beside the answers they disagree on.

    agreement_figure(agreement_table(load_agreement("judges.csv")))

A rate that two judges do not agree on is a property of the judge. Agreement beyond chance needs answers of both kinds: where
nearly all answers are alike kappa is low or not defined although the judges hardly differ, so that the counts stand beside it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from evals.figures import TOY, judge_name
from evals.tables import AGREEMENT_COLUMNS
from probes import store
from probes.errors import MissingInputError
from probes.page import (
    GREY,
    GRID,
    INK,
    NO_INTERVAL,
    Legend,
    add_legend_entries,
    check_one,
    counted,
    distinct,
    framed_panels,
    is_toy,
    nine_digits,
    safe,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

STATISTICS = {"kappa": ("Cohen's kappa", "circle"), "alpha": ("Krippendorff's alpha", "diamond-open")}
"""Column → its name and marker."""
COUNTS = {"both": ("both say yes", INK), "first_only": ("only the first", "#D55E00"), "second_only": ("only the second", "#56B4E9"),
          "neither": ("both say no", "#D9D9D9")}  # fmt: skip
"""Column → its name and colour: the four cells of the confusion of two judges."""
CAPTION = (
    "Left: agreement beyond chance, 1 is perfect and 0 what chance gives, with 95% jackknife intervals over questions (none where "
    "fewer than 10 are left, or where leaving one out changes nothing). Right: what both said of the same answers, {n} a row, of "
    "all checkpoints and conditions; means have no such counts. First judge: {first}. Second: {second}. {toy}"
)
_LEFT, _ROW = 330, 24
"""Pixels: room for the names, and height of a row."""


def load_agreement(path: Path | str) -> pd.DataFrame:
    """The agreement of judges from its CSV. Raises MissingInputError, or FileFormatError where columns are lacking."""
    return store.read_table(path, AGREEMENT_COLUMNS)[list(AGREEMENT_COLUMNS)]


def agreement_table(agreement: pd.DataFrame) -> pd.DataFrame:
    """The rows in the order of drawing, with `judges`, who is compared. Raises MissingInputError where nobody judged twice."""
    if agreement.empty:
        raise MissingInputError(
            "every answer was judged once, so that nobody can agree. Let a second judge score the finished logs too: "
            "python experiments/run_evals.py --judge FIRST SECOND; nothing is answered again."
        )
    check_one(agreement, ["evidence"])
    names = agreement[["first", "second"]].map(judge_name)
    table = agreement.assign(judges=names["first"] + " · " + names["second"])
    return nine_digits(
        table.sort_values(["judges", "eval", "metric", "first", "second"], kind="stable", ignore_index=True)
    )


def agreement_figure(table: pd.DataFrame) -> "Figure":
    """A row of panels for each two judges: kappa and alpha on the left, counts on the right. Takes an agreement_table."""
    pairs = distinct(table, "judges")
    most = max(len(rows) for _, rows in table.groupby("judges"))
    titles = [[f"<b>agreement</b> · {safe(pair)}", "<b>the same answers</b>"] for pair in pairs]
    legends = [
        Legend("agreement", [name for name, _ in STATISTICS.values()]), Legend("counts", [name for name, _ in COUNTS.values()])
    ]  # fmt: skip
    caption = _caption(table)
    figure = framed_panels(table, "Agreement of judges", titles, (430, 30 + _ROW * most), legends, 30, caption, _LEFT)
    for row, (_, rows) in enumerate(table.groupby("judges", sort=False), 1):
        _add_statistics(figure, rows, row)
        _add_counts(figure, rows, row)
        names = [f"{safe(name)} · {safe(metric)}" for name, metric in zip(rows["eval"], rows["metric"], strict=True)]
        figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=names, range=[len(rows) - 0.5, -0.5], row=row)
    _add_legends(figure)
    figure.update_xaxes(gridcolor=GRID, zeroline=True, zerolinecolor=INK, zerolinewidth=1.2)
    figure.update_xaxes(range=[-1.08, 1.08], dtick=0.5, col=1)
    figure.update_xaxes(range=[0, 1], tickformat=".0%", col=2)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, ticks="", tickfont={"size": 12})
    return figure.update_layout(barmode="stack")


def _add_statistics(figure: "Figure", rows: pd.DataFrame, row: int) -> None:
    for place, (column, (name, symbol)) in enumerate(STATISTICS.items()):
        there = rows[column].notna().to_numpy()
        y = [line + (place - 0.5) * 0.28 for line in range(len(rows))]
        part = rows[there]
        trace: dict[str, Any] = {
            "type": "scatter", "mode": "markers", "x": part[column].tolist(),
            "y": [at for at, drawn in zip(y, there, strict=True) if drawn], "marker": _marker(symbol, INK if place == 0 else GREY),
            "error_x": _interval(part, column, INK if place == 0 else GREY), "showlegend": False, "legendgroup": safe(name),
            "hovertext": [_hover(one, column) for one in part.to_dict("records")], "hoverinfo": "text",
        }  # fmt: skip
        figure.add_trace(trace, row=row, col=1)


def _interval(rows: pd.DataFrame, column: str, colour: str) -> dict[str, Any]:
    sides = rows[f"{column}_high"] - rows[column], rows[column] - rows[f"{column}_low"]
    above, below = ([NO_INTERVAL if pd.isna(length) else length for length in side] for side in sides)
    look = {"symmetric": False, "color": colour, "thickness": 1.2, "width": 2}
    return {"type": "data", "array": above, "arrayminus": below, **look}


def _marker(symbol: str, colour: str) -> dict[str, Any]:
    return {"symbol": symbol, "size": 8, "color": colour, "line": {"color": colour, "width": 1.5}}


def _add_counts(figure: "Figure", rows: pd.DataFrame, row: int) -> None:
    counted = rows["both"].notna().to_numpy()
    lines, part = [line for line, drawn in enumerate(counted) if drawn], rows[counted]
    for column, (_, colour) in COUNTS.items():
        shares = (part[column] / part["n"]).tolist()
        words = [f"{count:g}" if share >= 0.06 else "" for count, share in zip(part[column], shares, strict=True)]
        trace: dict[str, Any] = {
            "type": "bar", "orientation": "h", "x": shares, "y": lines, "width": 0.7, "marker": {"color": colour},
            "text": words, "textposition": "inside", "insidetextanchor": "middle", "textangle": 0, "textfont": {"size": 11},
            "showlegend": False, "hovertext": [_hover(one, column) for one in part.to_dict("records")], "hoverinfo": "text",
        }  # fmt: skip
        figure.add_trace(trace, row=row, col=2)


def _add_legends(figure: "Figure") -> None:
    hues = dict(zip(STATISTICS, (INK, GREY), strict=True))
    points = {"type": "scatter", "mode": "markers"}
    marks = {name: points | {"marker": _marker(symbol, hues[column])} for column, (name, symbol) in STATISTICS.items()}
    add_legend_entries(figure, marks)
    squares = {
        name: points | {"marker": {"symbol": "square", "size": 11, "color": hue}} for name, hue in COUNTS.values()
    }
    add_legend_entries(figure, squares, legend=1)


def _hover(row: Mapping[Any, Any], column: str) -> str:
    told = (
        f"{row[column]:g} of {row['n']} answers: {COUNTS[column][0]}" if column in COUNTS
        else f"{STATISTICS[column][0]} {row[column]:.3f} {_between(row, column)}"
    )  # fmt: skip
    facts = [
        f"{row['eval']} · {row['metric']}", told,
        f"{row['n']} answers to {row['questions']} questions, {row['alike']:.0%} judged alike",
        f"first {row['first']}", f"second {row['second']}", f"evidence {row['evidence']}",
    ]  # fmt: skip
    return "<br>".join(map(safe, facts))


def _between(row: Mapping[Any, Any], column: str) -> str:
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    return "without an interval" if pd.isna(low) else f"[{low:.3f}, {high:.3f}]"


def _caption(table: pd.DataFrame) -> str:
    who = {side: ", ".join(_judges(table[side].tolist())) for side in ("first", "second")}
    return CAPTION.format(n=counted(table["n"]), **who, toy=TOY if is_toy(table) else "").rstrip()


def _judges(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(map(judge_name, names)))
