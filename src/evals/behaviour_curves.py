"""Rates of a training's checkpoints → behaviours over the steps of training, stage beside stage.

    behaviour_curves(curve_table(rates, {"antirefusal@sft-2": Place("sft", 2), …}))

Sums or problems are drawn with whatever is drawn: a checkpoint that answers nothing any more complies with nothing and refuses
nothing either. Whether a step differs from the first is said by the paired table of differences.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from evals.figures import FURTHER, SIX, Bars, chosen_rates, how_words
from evals.stats import THIS_SET
from evals.tables import ROW_COLUMNS
from probes.errors import DataError, UnknownNameError
from probes.page import (
    GRID,
    INK,
    MORE_HUES,
    check_one,
    counted,
    distinct,
    framed_panels,
    is_toy,
    nine_digits,
    safe,
)
from probes.training_axis import AXIS_HEIGHT, add_curve, curve_look, set_steps, stages_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

CONTROL = "math_retention"
"""What should not change with training, and stands beside whatever does."""
WATCHED = ("strong_reject", "regret", "steerability", "ccp_sensitive", "refusal_ood", CONTROL)
"""Evaluations that are followed if none are named."""
MARKS = {"circle": "●", "diamond": "◆", "square": "■", "triangle-up": "▲"}
"""Marker of a line → how the title of its panel shows it."""
CURVE_COLUMNS = ("panel", "words", "stage", "step", *(name if name != "rate" else "mean" for name in ROW_COLUMNS))
CAPTION = (
    "Share of answers with Wilson's 95% interval, for this question set; n = {n} scored answers a point. Step 0 of the first stage "
    "is the model before training; of a later stage, what the one before ended with. Whether a step differs from the first is in "
    "the table of differences, paired by question. Exploratory: no correction for the number of steps. {how}"
)


class Place(NamedTuple):
    """Where a checkpoint stands in its training."""

    stage: str
    step: int


def curve_table(
    rates: pd.DataFrame, places: Mapping[str, Place], panels: Sequence[Bars] = (*SIX, *FURTHER)
) -> pd.DataFrame:
    """What the figure shows, in the order of drawing: CURVE_COLUMNS.

    Args:
        places: checkpoint → where it stands, in the order of training.

    Raises UnknownNameError for a checkpoint without rates, DataError where the rates lack what should not change,
    ConventionError for what one figure cannot hold (evals.figures.figure_parts).
    """
    for name in places:
        if name not in set(rates["checkpoint"]):
            raise UnknownNameError("checkpoint", name, sorted(rates["checkpoint"].unique()))
    if CONTROL not in set(rates["eval"]):
        raise DataError(
            f"a behaviour over training is not shown without {CONTROL}, which should not change. Run it too."
        )
    rows = rates[(rates["method"] == THIS_SET) & rates["checkpoint"].isin(list(places))]
    table, order = chosen_rates(rows, panels), list(places)
    check_one(table, ["model"])
    table = table.assign(
        stage=[places[name].stage for name in table["checkpoint"]], step=[places[name].step for name in table["checkpoint"]],
        turn=table["checkpoint"].map(order.index), **{column: table[column].astype(float) for column in ("low", "high")},
        mean=table["rate"].astype(float),
    )  # fmt: skip
    table = table.sort_values(["place", "turn"], kind="stable", ignore_index=True)
    return nine_digits(table[list(CURVE_COLUMNS)])


def behaviour_curves(table: pd.DataFrame) -> "Figure":
    """A panel a behaviour, a line for each of its words, over the steps of training. Takes a curve_table."""
    table = table.assign(hover=[_hover(row) for row in table.to_dict("records")])
    panels, stages = distinct(table, "panel"), stages_of(table)
    columns = min(3, len(panels))
    looks = {panel: _looks(distinct(table[table["panel"] == panel], "words")) for panel in panels}
    words = [_title(panel, looks[panel]) for panel in panels] + [""] * (-len(panels) % columns)
    titles = [words[start : start + columns] for start in range(0, len(words), columns)]
    title = f"Behaviours over the training of {str(table['checkpoint'].iloc[-1]).partition('@')[0]}"
    figure = framed_panels(table, title, titles, (380, 210), [], AXIS_HEIGHT, _caption(table))
    for (panel, name), points in table.groupby(["panel", "words"], sort=False):
        row, col = divmod(panels.index(panel), columns)
        add_curve(figure, points, stages, looks[str(panel)], str(name), (row + 1, col + 1))
    set_steps(figure, table, stages, columns)
    figure.update_yaxes(range=[-0.04, 1.04], tickformat=".0%", dtick=0.25, gridcolor=GRID)
    figure.update_yaxes(title_text=f"share of answers{', toy units' if is_toy(table) else ''}", col=1)
    return figure


def _looks(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Lines in the colours that no checkpoint has."""
    hues, symbols = (INK, *MORE_HUES), list(MARKS)
    return {name: curve_look(hues[place], symbols[place % len(symbols)]) for place, name in enumerate(words)}


def _title(panel: str, looks: Mapping[str, Mapping[str, Any]]) -> str:
    """The panel's name without its letter, and under it whose lines are whose."""
    names = [
        f'<span style="color:{look["line"]["color"]}">{MARKS[look["marker"]["symbol"]]} {safe(name)}</span>'
        for name, look in looks.items()
    ]
    return f"<b>{safe(panel.partition(' · ')[2])}</b><br>{'   '.join(names)}"


def _hover(row: Mapping[Any, Any]) -> str:
    facts = [
        f"{row['stage']}, step {row['step']} · {row['checkpoint']}",
        f"{row['eval']} · {row['condition']} · {row['metric']}",
        "no answer was scored" if pd.isna(row["mean"]) else f"{row['mean']:.3g} [{row['low']:.3g}, {row['high']:.3g}]",
        f"{row['k']:g} of {row['n']} answers to {row['questions']} questions; {row['unscored']} unscored, "
        f"{row['truncated']} truncated, {row['excluded']} to which it does not apply",
        f"judge {row['judge']}; questions {row['data']}; evidence {row['evidence']}",
    ]
    return "<br>".join(map(safe, facts))


def _caption(table: pd.DataFrame) -> str:
    return CAPTION.format(n=counted(table["n"]), how=how_words(table))
