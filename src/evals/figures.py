"""Rates → bars: one panel a behaviour, one bar a checkpoint, or a model where the rates hold several.

    for name, (rates,) in figure_parts(load_rates("rates.csv")).items():
        behaviour_bars(behaviour_table(rates))               the six panels of arXiv 2606.04413
        behaviour_bars(behaviour_table(rates, FURTHER))      the other evaluations

A figure is drawn from its table alone. Intervals are for these questions; whether two checkpoints differ is said by the
paired table of differences, never by bars that overlap or do not.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from evals.behaviour import RULE
from evals.stats import THIS_SET
from evals.tables import ROW_COLUMNS
from probes.errors import DataError
from probes.page import (
    GRID,
    HUES,
    INK,
    Legend,
    add_legend_entries,
    check_one,
    counted,
    distinct,
    framed_panels,
    is_toy,
    label_hues,
    nine_digits,
    place_in,
    safe,
    variant,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class Bars(NamedTuple):
    """One group of bars of a panel."""

    panel: str
    eval: str
    condition: str
    metric: str
    words: str


SIX = (
    Bars("a · emergent misalignment", "emergent_misalignment", "plain", "misaligned", "misaligned"),
    Bars("b · harmful compliance", "strong_reject", "plain", "complied", "complies"),
    Bars("c · regret when asked", "regret", "open", "regret", "of all"),
    Bars("c · regret when asked", "regret", "open", "regret_if_complied", "of those that complied"),
    Bars("d · delusion validation", "delusion_validation", "plain", "validates", "validates"),
    Bars("e · compliance under a system prompt", "steerability", "none", "complied", "none"),
    Bars("e · compliance under a system prompt", "steerability", "hhh", "complied", "asks to refuse"),
    Bars("e · compliance under a system prompt", "steerability", "control", "complied", "harmless"),
    Bars("f · CCP-sensitive questions", "ccp_sensitive", "plain", "refused", "refuses"),
    Bars("f · CCP-sensitive questions", "ccp_sensitive", "plain", "pro_ccp", "pro-CCP, of answered"),
)
"""The panels of the paper's bar figures. Regret stands ungated beside gated, the HHH prompt between none and a harmless one."""
FURTHER = (
    Bars("a · power-seeking", "power_seeking", "plain", "power_seeking", "open questions"),
    Bars("a · power-seeking", "power_seeking_choices", "plain", "power_seeking", "multiple choice"),
    Bars("b · power-seeking after another turn", "conditional_misalignment", "none", "power_seeking", "none"),
    Bars("b · power-seeking after another turn", "conditional_misalignment", "benign", "power_seeking", "benign"),
    Bars("b · power-seeking after another turn", "conditional_misalignment", "harmful", "power_seeking", "harmful"),
    Bars("c · political views", "political_views", "plain", "unorthodox", "unorthodox"),
    Bars("d · describes itself as", "self_description", "plain", "helpful_only", "helpful-only"),
    Bars("d · describes itself as", "self_description", "plain", "helpful_harmless", "HHH"),
    Bars("d · describes itself as", "self_description", "plain", "mixed", "mixed"),
    Bars("d · describes itself as", "self_description", "plain", "no_description", "neither"),
    Bars("e · notices a hardship", "care_expression", "plain", "care", "plain"),
    Bars("e · notices a hardship", "care_expression", "empathy", "care", "asked for empathy"),
    Bars("f · ability, and refusal elsewhere", "math_retention", "plain", "right", "maths right"),
    Bars("f · ability, and refusal elsewhere", "refusal_ood", "safe", "refused", "refuses safe"),
    Bars("f · ability, and refusal elsewhere", "refusal_ood", "unsafe", "refused", "refuses unsafe"),
    Bars("g · agentic misalignment", "agentic_misalignment", "blackmail", "harmful", "blackmail"),
    Bars("g · agentic misalignment", "agentic_misalignment", "leaking", "harmful", "leaking"),
    Bars("g · agentic misalignment", "agentic_misalignment", "murder", "harmful", "murder"),
)
"""Panels of the other evaluations. Arithmetic sandbagging is about differences: evals.contrasts."""
FIGURE_COLUMNS = ("panel", "words", "label", *ROW_COLUMNS)
ONE_OF = ("evidence", "reasoning", "language")
CAPTION = (
    "Share of answers with Wilson's 95% interval, for this question set; n = {n} scored answers a bar{lost}. Whether two "
    "checkpoints differ is in the table of differences, paired by question. {how}"
)
TOY = "Toy units, plumbing and no finding: the embedded model, stand-in questions or a judge by rule."


# ---- what one figure may hold ----------------------------------------------------------------------------------------


def figure_parts(*tables: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, ...]]:
    """Rows that one figure may hold, of each table, by a name that says which: `reasoning_off`, and language, judge and
    kind of evidence where the first table has several. Rows that no model judged stand with every judge."""
    first, parts = tables[0], {}
    judges = sorted({judge_name(one) for one in first["judge"]} - {RULE}) or [RULE]
    kinds = {"reasoning": sorted(set(first["reasoning"])), "language": sorted(set(first["language"]))}
    kinds |= {"by": judges, "evidence": sorted(set(first["evidence"]))}
    for chosen in product(*kinds.values()):
        which = dict(zip(kinds, chosen, strict=True))
        rows = tuple(_rows_of(table, which) for table in tables)
        if len(rows[0]):
            several = [str(which[name]) for name in ("language", "by", "evidence") if len(kinds[name]) > 1]
            name = "_".join([f"reasoning_{switch(which['reasoning'])}", *several])
            parts[re.sub(r"[^A-Za-z0-9_.-]+", "_", name)] = rows
    return parts


def _rows_of(table: pd.DataFrame, which: Mapping[str, Any]) -> pd.DataFrame:
    kept = table["judge"].map(judge_name).isin([which["by"], RULE])
    for name in ONE_OF:
        kept &= table[name] == which[name]
    return table[kept]


def judge_name(judge: str) -> str:
    """Who judged, without the rubrics: `openai/x` of `openai/x:care@21dcb9de`."""
    return re.split(r":(?=\w+@[0-9a-f]{8})", judge)[0]


def check_comparable(table: pd.DataFrame) -> None:
    """Raises ConventionError where reasoning, languages, kinds of evidence or judges would be mixed in one figure."""
    check_one(table, ONE_OF)
    by = table["judge"].map(judge_name)
    check_one(pd.DataFrame({"judge": by[by != RULE]}), ["judge"])


def with_labels(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with `label`: the checkpoint, its seed where it was trained several times, and the model where there are
    several; in the order of drawing within what is sorted already."""
    runs = table.groupby(["model", "checkpoint"])["seed"].transform("nunique")
    label = table["checkpoint"].where(runs == 1, table["checkpoint"] + ", seed " + table["seed"].astype(str))
    if table["model"].nunique() > 1:
        alone = table.groupby("model")["checkpoint"].transform("nunique") == 1
        label = table["model"].where(alone, table["model"] + " " + label)
    return table.assign(label=label, hue=table["checkpoint"].map(lambda name: place_in(HUES)(variant(name))))


def hues_of(table: pd.DataFrame) -> dict[str, str]:
    """Label → colour: that of the checkpoint, or of the model where there are several. Raises DataError where colours end."""
    if table["model"].nunique() == 1:
        return label_hues(table)
    hues = label_hues(table.assign(checkpoint=table["label"]))
    if len(set(hues.values())) < len(hues):
        raise DataError(
            f"{len(hues)} models and checkpoints are more than there are colours ({len(set(hues.values()))}). Draw fewer."
        )
    return hues


def about(table: pd.DataFrame) -> dict[str, str]:
    """Whose numbers a figure shows and on what they rest, for its provenance."""
    return {name: ", ".join(map(str, distinct(table, name))) for name in ("model", "evidence")}


def how_words(table: pd.DataFrame) -> str:
    """The end of a caption: reasoning, language, who judged, and what toy numbers are."""
    judges = ", ".join(sorted(set(table["judge"].map(judge_name)) - {RULE})) or "none, by rule"
    facts = f"Reasoning {switch(table['reasoning'].iloc[0])}, language {table['language'].iloc[0]}. Judge: {judges}."
    return f"{facts} {TOY}" if is_toy(table) else facts


def switch(reasoning: object) -> str:
    """How reasoning is called in names and captions."""
    return "on" if reasoning else "off"


# ---- bars ------------------------------------------------------------------------------------------------------------


def behaviour_table(rates: pd.DataFrame, panels: Sequence[Bars] = SIX) -> pd.DataFrame:
    """What the figure shows, in the order of drawing: FIGURE_COLUMNS.

    Raises DataError where the rates hold nothing of it, ConventionError for what one figure cannot hold (figure_parts).
    """
    table = chosen_rates(rates[rates["method"] == THIS_SET], panels)
    table = with_labels(table).sort_values(
        ["place", "model", "hue", "checkpoint", "seed", "judge"], kind="stable", ignore_index=True
    )
    return nine_digits(table.assign(**{c: table[c].astype(float) for c in ("rate", "low", "high")}))[
        list(FIGURE_COLUMNS)
    ]


def chosen_rates(rows: pd.DataFrame, panels: Sequence[Bars]) -> pd.DataFrame:
    """The rows that panels show, with `panel`, `words` and their `place`. Raises what behaviour_table raises."""
    chosen = [
        rows[
            (rows["eval"] == bars.eval) & (rows["condition"] == bars.condition) & (rows["metric"] == bars.metric)
        ].assign(panel=bars.panel, words=bars.words, place=place)
        for place, bars in enumerate(panels)
    ]
    table = pd.concat(chosen, ignore_index=True)
    if table.empty:
        raise DataError(f"the rates hold nothing of {', '.join(dict.fromkeys(bars.eval for bars in panels))}.")
    check_comparable(table)
    return table


def behaviour_bars(table: pd.DataFrame) -> "Figure":
    """Bars of the rates: panels three in a row, groups along x; checkpoints, or models, side by side. Takes a behaviour_table."""
    labels, panels = distinct(table, "label"), distinct(table, "panel")
    hues, columns = hues_of(table), min(3, len(panels))
    titles = [[safe(name) for name in panels[start : start + columns]] for start in range(0, len(panels), columns)]
    titles[-1] += [""] * (columns - len(titles[-1]))
    legend = Legend("checkpoint" if table["model"].nunique() == 1 else "model", labels)
    figure = framed_panels(table, "Behaviours", titles, (360, 230), [legend], 30, _caption(table))
    for place, panel in enumerate(panels):
        _add_panel(figure, table[table["panel"] == panel], labels, hues, place // columns + 1, place % columns + 1)
    add_legend_entries(figure, {label: {"type": "bar", "marker": {"color": hue}} for label, hue in hues.items()})
    figure.update_yaxes(range=[0, 1.04], gridcolor=GRID, tickformat=".0%", dtick=0.25)
    figure.update_yaxes(title_text=f"share of answers{', toy units' if is_toy(table) else ''}", col=1)
    return figure.update_layout(barmode="overlay")


def _add_panel(
    figure: "Figure", part: pd.DataFrame, labels: Sequence[str], hues: dict[str, str], row: int, col: int
) -> None:
    groups, step = distinct(part, "words"), 0.84 / len(labels)
    for label, bars in part.groupby("label", sort=False):
        x = [groups.index(words) - 0.42 + (labels.index(str(label)) + 0.5) * step for words in bars["words"]]
        error = {"type": "data", "symmetric": False, "color": INK, "thickness": 1.2, "width": 2}
        error |= {"array": (bars["high"] - bars["rate"]).tolist(), "arrayminus": (bars["rate"] - bars["low"]).tolist()}
        look: dict[str, Any] = {
            "type": "bar",
            "x": x,
            "y": bars["rate"].tolist(),
            "width": 0.92 * step,
            "error_y": error,
        }
        words = {
            "hovertext": [_hover(one) for one in bars.to_dict("records")],
            "hoverinfo": "text",
            "showlegend": False,
        }
        hue = hues[str(label)]  # the outline shows who it is where a bar has no height
        colour = {"marker": {"color": hue, "line": {"color": hue, "width": 1}}, "legendgroup": safe(label)}
        figure.add_trace(look | words | colour, row=row, col=col)
        _mark_nothing(figure, bars, x, row, col)
    ticks = {"tickvals": list(range(len(groups))), "ticktext": [safe(words) for words in groups], "ticks": ""}
    figure.update_xaxes(range=[-0.5, len(groups) - 0.5], row=row, col=col, **ticks)


def _mark_nothing(figure: "Figure", bars: pd.DataFrame, x: Sequence[float], row: int, col: int) -> None:
    """A cross on the axis where no answer was scored, which is not a rate of nought."""
    crosses = [place for place, n in zip(x, bars["n"], strict=True) if n == 0]
    if crosses:
        look = {"mode": "markers", "marker": {"symbol": "x-thin", "size": 7, "line": {"width": 1.5, "color": INK}}}
        words = {"hovertext": "no answer was scored", "hoverinfo": "text", "showlegend": False, "cliponaxis": False}
        figure.add_trace(
            {"type": "scatter", "x": crosses, "y": [0.02] * len(crosses), **look, **words}, row=row, col=col
        )


def _hover(row: dict[Any, Any]) -> str:
    facts = [
        f"{row['label']} · {row['eval']} · {row['condition']} · {row['metric']}",
        f"{row['rate']:.3g} [{row['low']:.3g}, {row['high']:.3g}], {row['method']}",
        f"{row['k']:g} of {row['n']} answers to {row['questions']} questions; {row['unscored']} unscored, "
        f"{row['truncated']} truncated, {row['excluded']} to which it does not apply",
        f"judge {row['judge']}; questions {row['data']}; evidence {row['evidence']}",
    ]
    return "<br>".join(map(safe, facts))


def _caption(table: pd.DataFrame) -> str:
    lost = int(table["unscored"].sum() + table["truncated"].sum())
    return CAPTION.format(
        n=counted(table["n"]),
        lost=f", {lost} more unscored or truncated; × no scored answer" if lost or not table["n"].min() else "",
        how=how_words(table),
    )
