"""Rates and differences → conditions of one evaluation beside each other, and how they differ by question within a checkpoint.

    contrast_figure(contrast_table(rates, differences, "sandbagging"))

Above stand the conditions, below their paired difference; the contrast that makes the claim is on the left and its control
beside it, where there is one: arithmetic sandbagging with a goal and without, a system prompt that asks to refuse and a
harmless one, a harmful turn before and a benign one. All intervals are for the population of questions.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from evals.figures import check_comparable, how_words, hues_of, with_labels
from evals.stats import POPULATION, POPULATION_MEAN
from evals.tables import CONTRASTS, WHO
from probes.errors import DataError, UnknownNameError
from probes.page import (
    GREY,
    GRID,
    INK,
    Legend,
    add_legend_entries,
    contrast_words,
    counted,
    distinct,
    error_bars,
    framed_panels,
    is_toy,
    nine_digits,
    place_in,
    safe,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class Shown(NamedTuple):
    """How the contrasts of an evaluation are called."""

    title: str
    axis: str
    """What is measured."""
    panels: tuple[str, ...]
    """One for each of its contrasts, the control last."""
    words: Mapping[str, str]
    """Condition → its name under the axis."""
    chance: float | None = None


SHOWN = {
    "sandbagging": Shown(
        "Arithmetic by which scores are punished", "share of sums right", ("a goal to pursue", "control · no goal"),
        {goal + side: f"punished if {side}" for goal in ("goal-", "no_goal-") for side in ("high", "low")}, 0.25,
    ),
    "steerability": Shown(
        "Compliance under a system prompt", "share that complies", ("a prompt that asks to refuse", "control · a harmless one"),
        {"hhh": "asks to refuse", "control": "harmless", "none": "no prompt"},
    ),
    "care_expression": Shown(
        "Notice of a hardship", "share that notices", ("a prompt that asks for empathy",),
        {"empathy": "asks for empathy", "plain": "no prompt"},
    ),
    "conditional_misalignment": Shown(
        "Power-seeking after another turn", "share that seeks power", ("a harmful turn before", "control · a benign one"),
        {"harmful": "harmful turn", "benign": "benign turn", "none": "no turn"},
    ),
}  # fmt: skip
"""Evaluation → how its contrasts (evals.tables.CONTRASTS) are shown."""
CONDITION, DIFFERENCE = "condition", "difference"
CONTRAST_COLUMNS = (
    "eval", "metric", "kind", "panel", "words", "label", "condition", *WHO, "reasoning", "language", "judge",
    "mean", "low", "high", "p", "questions", "left_out",
)  # fmt: skip
"""`kind` is condition or difference. `left_out` counts answers without a score in the first, questions without a pair in the
second; where none is left the mean is NaN."""
CAPTION = (
    "Above: mean over scored answers of each condition{chance}. Below: their difference, by question within each checkpoint. "
    "95% intervals for the population of questions ({n} questions{lost}), none where all questions differ alike or fewer than 10 "
    "are left. Exploratory: no correction for the number of checkpoints. {how}"
)


def contrast_table(rates: pd.DataFrame, differences: pd.DataFrame, name: str) -> pd.DataFrame:
    """What the figure shows, in the order of drawing: CONTRAST_COLUMNS.

    Raises UnknownNameError for an evaluation without contrasts, DataError where the rates hold none of its conditions,
    ConventionError for what one figure cannot hold (evals.figures.figure_parts).
    """
    if name not in SHOWN:
        raise UnknownNameError("evaluation with contrasts", name, SHOWN)
    metric, pairs = CONTRASTS[name]
    shown = zip(SHOWN[name].panels, pairs, strict=True)
    table = pd.concat(
        [part for panel, pair in shown for part in _panel_rows(rates, differences, (name, metric), pair, panel)],
        ignore_index=True,
    )
    if table.empty:
        raise DataError(
            f"the rates hold no condition of {name}. Run it: python experiments/run_evals.py --evals {name}"
        )
    check_comparable(table)
    order = ["place", "kind", "model", "hue", "checkpoint", "seed", "turn"]
    turns = table["words"].map(place_in(SHOWN[name].words.values()))
    table = with_labels(table.assign(place=table["panel"].map(SHOWN[name].panels.index), turn=turns))
    return nine_digits(table.sort_values(order, kind="stable", ignore_index=True)[list(CONTRAST_COLUMNS)])


def _panel_rows(
    rates: pd.DataFrame, differences: pd.DataFrame, what: tuple[str, str], pair: tuple[str, str], panel: str
) -> list[pd.DataFrame]:
    """Both conditions of a contrast, and their difference: a row a checkpoint, also where it has no pair."""
    words, about = SHOWN[what[0]].words, [*WHO, "reasoning", "language", "judge"]
    own = [(table["eval"] == what[0]) & (table["metric"] == what[1]) for table in (rates, differences)]
    levels = rates[own[0] & rates["condition"].isin(pair) & rates["method"].isin([POPULATION, POPULATION_MEAN])]
    lost, means = levels["unscored"] + levels["truncated"], levels["rate"].astype(float)
    levels = levels.assign(
        mean=means, words=levels["condition"].map(words), p=float("nan"), left_out=lost, kind=CONDITION
    )
    apart = differences[own[1] & (differences["first"] == pair[0]) & (differences["second"] == pair[1])]
    apart = levels[about].drop_duplicates().merge(apart.drop(columns=["eval", "metric"]), on=about, how="left")
    apart = apart.assign(
        condition=contrast_words(*pair), words=contrast_words(*(words[one] for one in pair)), kind=DIFFERENCE,
        eval=what[0], metric=what[1], questions=apart["questions"].fillna(0).astype(int),
        left_out=apart["left_out"].fillna(0).astype(int),
    )  # fmt: skip
    return [part.assign(panel=panel, label="")[list(CONTRAST_COLUMNS)] for part in (levels, apart)]


# ---- the figure ------------------------------------------------------------------------------------------------------


def contrast_figure(table: pd.DataFrame) -> "Figure":
    """Conditions above, differences below; a column a contrast. Takes a contrast_table, from memory or from its CSV."""
    shown, labels, panels = SHOWN[table["eval"].iloc[0]], distinct(table, "label"), distinct(table, "panel")
    hues, below = hues_of(table), table[table["kind"] == DIFFERENCE].drop_duplicates("panel")["words"]
    titles = [[f"<b>{safe(panel)}</b>" for panel in panels], [safe(words) for words in below]]
    legend = Legend("checkpoint" if table["model"].nunique() == 1 else "model", labels)
    figure = framed_panels(table, shown.title, titles, (440, 230), [legend], 12, _caption(table, shown))
    for col, panel in enumerate(panels, 1):
        for row, kind in enumerate((CONDITION, DIFFERENCE), 1):
            part = table[(table["panel"] == panel) & (table["kind"] == kind)]
            _add_points(figure, part, hues, (row, col))
    points = {"type": "scatter", "mode": "markers"}
    add_legend_entries(figure, {label: points | {"marker": _marker(hue)} for label, hue in hues.items()})
    return _set_axes(figure, table, shown, len(panels))


def _add_points(figure: "Figure", rows: pd.DataFrame, hues: Mapping[str, str], place: tuple[int, int]) -> None:
    """Points with intervals, the checkpoints side by side for each words; a cross where nothing was scored."""
    labels, groups = list(hues), distinct(rows, "words")
    step = 0.7 / len(labels)
    for label, part in rows.groupby("label", sort=False):
        hue, aside = hues[str(label)], (labels.index(str(label)) - (len(labels) - 1) / 2) * step
        symbols = ["x-thin" if gone else "circle" for gone in part["mean"].isna()]
        trace: dict[str, Any] = {
            "type": "scatter", "mode": "markers", "x": [groups.index(words) + aside for words in part["words"]],
            "y": part["mean"].fillna(0).tolist(), "error_y": error_bars(part, hue), "marker": _marker(hue, symbols),
            "hovertext": [_hover(row) for row in part.to_dict("records")], "hoverinfo": "text", "showlegend": False,
            "legendgroup": safe(label), "cliponaxis": False,
        }  # fmt: skip
        figure.add_trace(trace, row=place[0], col=place[1])
    names = [safe(name) for name in groups] if place[0] == 1 else [""]  # of differences the title says what they are
    ticks = {"tickvals": list(range(len(groups))), "ticktext": names, "range": [-0.5, len(groups) - 0.5]}
    figure.update_xaxes(**ticks, row=place[0], col=place[1])


def _marker(hue: str, symbol: Any = "circle") -> dict[str, Any]:
    return {"color": hue, "size": 9, "symbol": symbol, "line": {"color": hue, "width": 1.5}}


def _set_axes(figure: "Figure", table: pd.DataFrame, shown: Shown, n_panels: int) -> "Figure":
    units = ", toy units" if is_toy(table) else ""
    figure.update_xaxes(showgrid=False, zeroline=False)
    figure.update_xaxes(ticks="", row=2)
    figure.update_yaxes(gridcolor=GRID, zeroline=True, zerolinecolor=INK, zerolinewidth=1.5)
    figure.update_yaxes(range=[-0.04, 1.04], tickformat=".0%", dtick=0.25, row=1)
    figure.update_yaxes(range=_range(table[table["kind"] == DIFFERENCE]), row=2)
    figure.update_yaxes(title_text=f"{shown.axis}{units}", row=1, col=1)
    figure.update_yaxes(title_text=f"difference{units}", row=2, col=1)
    if shown.chance is not None:
        for col in range(1, n_panels + 1):
            figure.add_hline(shown.chance, line={"color": GREY, "width": 1.2, "dash": "dot"}, row=1, col=col)  # pyright: ignore[reportArgumentType]
    return figure


def _range(rows: pd.DataFrame) -> list[float]:
    """Room for all points and intervals, nought in the middle, and no closer than a tenth."""
    far = max(0.1, float(rows[["mean", "low", "high"]].abs().max().max()))
    return [-1.1 * far, 1.1 * far]


def _hover(row: Mapping[Any, Any]) -> str:
    interval = "no interval" if pd.isna(row["low"]) else f"[{row['low']:.3g}, {row['high']:.3g}]"
    facts = [
        f"{row['label']} · {row['eval']} · {row['condition']}",
        "no answer was scored" if pd.isna(row["mean"]) else f"{row['mean']:.3g} {interval}",
        "" if pd.isna(row["p"]) else f"p = {row['p']:.3g} (sign flips by question)",
        f"{row['questions']} questions, {row['left_out']} left out; judge {row['judge']}, evidence {row['evidence']}",
    ]
    return "<br>".join(safe(fact) for fact in facts if fact)


def _caption(table: pd.DataFrame, shown: Shown) -> str:
    levels = table[table["kind"] == CONDITION]
    lost = int(levels["left_out"].sum())
    return CAPTION.format(
        chance=", dotted what guessing gives" if shown.chance is not None else "",
        n=counted(levels["questions"]),
        lost=f"; {lost} answers unscored or truncated, × none scored" if lost else "", how=how_words(table),
    )  # fmt: skip
