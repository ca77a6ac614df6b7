"""What answers count for, over what the emotion probes read in the same answers: dots, and how far the two go together.

    table = scatter_table(beside_scores(…), layer)         evals.replay → what is drawn, in the order of drawing
    emotion_scatter(table)                                 a figure is drawn from its table alone

Two rows of panels for each thing that is scored, a column an emotion. Above, a dot an answer. Below, the correlation of the
two within each checkpoint with its interval over questions, on the middle of what shuffled readings give: no correlation is
shown without that control.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pandas as pd

from evals.association import association
from evals.replay import SELF_REPORTS
from probes import store
from probes.emotions import PANEL
from probes.errors import ConventionError, DataError, LayerError, UnknownNameError
from probes.page import (
    ANCHORED_NOTE,
    GRID,
    HUES,
    INK,
    NO_INTERVAL,
    READOUT_WORDS,
    TOY_NOTE,
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


class Scored(NamedTuple):
    """One thing that answers are scored for."""

    words: str
    eval: str
    condition: str
    metric: str
    """A behaviour's metric, or what the model says of itself (evals.replay.SELF_REPORTS)."""
    turn: int
    """Of the answer that is read, from 1."""


SCORED = (
    Scored("complies with a harmful request", "strong_reject", "plain", "complied", 1),
    Scored("regrets its answer when asked", "regret", "open", "regret", 1),
    Scored("says it is helpful-only", "self_description", "plain", "helpful_only", 1),
)
"""A behaviour, and two self-reports. Regret is what the second turn says; what is read is the first, that it is about."""
ANSWER, TOGETHER = "answer", "association"
FIGURE_COLUMNS = (
    "shows", "words", "eval", "condition", "metric", "turn", "label", "model", "checkpoint", "weights", "seed", "text_source",
    "evidence", "reasoning", "language", "judge", "layer", "emotion", "readout", "aggregation", "baseline", "probes",
    "question", "epoch", "value", "score",
    "correlation", "low", "high", "shuffled_low", "shuffled_high", "p", "questions", "n", "n_missing", "note",
)  # fmt: skip
"""shows: a row is an answer (question, epoch, value, score) or an association over n of them, of which n_missing are left
out: not answered, not readable or not judged."""
ONE_OF = (
    "model",
    "evidence",
    "text_source",
    "reasoning",
    "language",
    "layer",
    "readout",
    "aggregation",
    "baseline",
    "probes",
)
CAPTION = (
    "Above: a dot an answer, its reading at layer {layer} (x) and its score (y; checkpoints in lanes). Below: Pearson's "
    "correlation of the two over the answers of a checkpoint, with its 95% t interval by a jackknife over questions; grey bar: "
    "the middle 95% of the correlations with readings shuffled across questions, where nothing joins the two; × no correlation, "
    "since all scores are alike; no interval where one question carries it. {counts} Answers that score differently are worded "
    "differently (a refusal says sorry), and probes read words too: a correlation is no state that the text hides. "
    "Probes: {probes}. Reasoning {reasoning}, language {language}. Judges: {judges}. Exploratory: no correction for {cells} "
    "cells. {anchored}{toy}"
)
TITLE = "Behaviour and emotion of the same answers"
SHUFFLED = "#D0D0D0"
LANES = 0.46
"""Room of all checkpoints' lanes around a score."""


# ---- the table -------------------------------------------------------------------------------------------------------


def scatter_table(
    table: pd.DataFrame,
    layer: int,
    emotions: Sequence[str] = PANEL,
    scored: Sequence[Scored] = SCORED,
    readout: str = "anchored_dot",
    aggregation: str = "mean",
    baseline: str = "own",
    shuffles: int = 1999,
) -> pd.DataFrame:
    """What is drawn of beside_scores' table: FIGURE_COLUMNS, answers and associations.

    What was not run is left out; a cell that the gates do not let through has no anchored reading, and no row.
    Raises LayerError, UnknownNameError or DataError for what the table does not hold, ConventionError where models, evidence,
    ways of reasoning or judges would be mixed.
    """
    rows = _chosen(
        table, layer, emotions, {"span": "answer", "readout": readout, "aggregation": aggregation, "baseline": baseline}
    )
    check_one(rows, ONE_OF)
    parts = [_of_one(rows, one) for one in scored]
    answers = pd.concat([part for part in parts if not part.empty] or parts[:1], ignore_index=True)
    if answers.empty:
        raise DataError(f"the table holds none of: {', '.join(one.words for one in scored)}. Run those evaluations.")
    answers = _in_order(answers, [one.words for one in scored], emotions)
    cells = answers.groupby(["words", "emotion", "label"], sort=False)
    together = pd.DataFrame([_together(cell, shuffles) for _, cell in cells])
    shown = answers[answers["there"]].assign(shows=ANSWER, note="")
    return nine_digits(pd.concat([shown, together], ignore_index=True).reindex(columns=list(FIGURE_COLUMNS)))


def load_scatter(path: Path | str) -> pd.DataFrame:
    """A figure's CSV as the table that it was written from. Raises MissingInputError, or FileFormatError for another."""
    read = store.read_table(path, FIGURE_COLUMNS)[list(FIGURE_COLUMNS)]
    return read.assign(**{name: read[name].fillna("") for name in ("question", "note", "judge")})


def _chosen(table: pd.DataFrame, layer: int, emotions: Sequence[str], named: dict[str, str]) -> pd.DataFrame:
    rows = table
    for column, name in (*named.items(), *(("emotion", emotion) for emotion in emotions)):
        known = sorted(rows[column].unique())
        if name not in known:
            raise UnknownNameError(column, name, known)
        rows = rows if column == "emotion" else rows[rows[column] == name]
    if layer not in set(rows["layer"]):
        raise LayerError(
            f"no reading at layer {layer}; there are {', '.join(map(str, sorted(rows['layer'].unique())))}."
        )
    return rows[(rows["layer"] == layer) & rows["emotion"].isin(emotions)]


def _of_one(rows: pd.DataFrame, one: Scored) -> pd.DataFrame:
    """The answers that are scored for one thing; `there` says which have both a reading and a score."""
    rows = rows[(rows["eval"] == one.eval) & (rows["condition"] == one.condition) & (rows["turn"] == one.turn)]
    reported = one.metric in SELF_REPORTS.get(one.eval, ())
    rows = rows if reported else rows[rows["metric"] == one.metric]
    rows = rows.drop_duplicates(
        ["checkpoint", "seed", "sample", "emotion", "judge"]
    )  # a self-report stands at every metric
    rows = rows.assign(
        words=one.words, metric=one.metric, score=_reported(rows, one.metric) if reported else rows["score"]
    )
    rows = rows.assign(there=(rows["missing"] == "") & rows["value"].notna() & rows["score"].notna())
    _check_one_judge(rows[rows["there"]], one)
    return rows


def _reported(rows: pd.DataFrame, metric: str) -> pd.Series:
    if metric in rows:
        return rows[metric]
    return (rows["self_description"] == metric).astype(float).where(rows["self_report_missing"] == "")


def _check_one_judge(rows: pd.DataFrame, one: Scored) -> None:
    judges = sorted(rows["judge"].unique())
    if len(judges) > 1:
        raise ConventionError(
            f"{one.words}: judged by {', '.join(judges)}; one figure takes one judge. Choose its rows."
        )


def _in_order(answers: pd.DataFrame, words: Sequence[str], emotions: Sequence[str]) -> pd.DataFrame:
    """As scored, then by emotion, then checkpoints as every figure has them; with the label of each."""
    runs = answers.groupby("checkpoint")["seed"].transform("nunique")
    label = answers["checkpoint"].where(runs == 1, answers["checkpoint"] + ", seed " + answers["seed"].astype(str))
    places = answers.assign(
        label=label, a=answers["words"].map(place_in(words)), b=answers["emotion"].map(place_in(emotions)),
        c=answers["checkpoint"].map(lambda name: place_in(HUES)(variant(name))),
    )  # fmt: skip
    return places.sort_values(["a", "b", "c", "checkpoint", "seed", "question", "epoch"], kind="stable")


def _together(cell: pd.DataFrame, shuffles: int) -> dict[str, Any]:
    """The association in one checkpoint, as a row."""
    kept = cell[cell["there"]]
    shared = cell.iloc[0][
        [name for name in FIGURE_COLUMNS if name in cell and name not in ("question", "epoch", "value", "score")]
    ]
    about = {**shared.to_dict(), "shows": TOGETHER, "n": len(kept), "n_missing": len(cell) - len(kept), "question": ""}
    if kept.empty:
        return about | {"questions": 0, "note": "no answer has both a reading and a score"}
    found = association(kept["value"].tolist(), kept["score"].tolist(), kept["question"].tolist(), shuffles)
    return about | {"judge": kept["judge"].iloc[0], **found._asdict()}


# ---- the figure ------------------------------------------------------------------------------------------------------


def emotion_scatter(table: pd.DataFrame) -> "Figure":
    """Dots of answers, and under them the associations with their control. Takes a scatter_table, also from its CSV.

    Raises ConventionError where models, evidence or readouts are mixed, DataError for dots without their associations.
    """
    check_one(table, ONE_OF)
    together = table[table["shows"] == TOGETHER]
    if together.empty or set(table["words"]) != set(together["words"]):
        raise DataError(
            "dots are not shown without associations and what shuffled readings give. Take a scatter_table."
        )
    words, emotions, hues = distinct(together, "words"), distinct(together, "emotion"), label_hues(together)
    rows = [f"{kind} · {{}}" for one in words for kind in (f"<b>{safe(one)}</b>", "correlation")]
    titles = [[row.format(safe(emotion)) for emotion in emotions] for row in rows]
    legends = [Legend("checkpoint", list(hues))]
    figure = framed_panels(table, TITLE, titles, (330, 170), legends, 46, _caption(together))
    for names, part in table.groupby(["words", "emotion", "label"], sort=False):
        one, emotion, label = cast("tuple[str, str, str]", names)
        lane, column = list(hues).index(label), emotions.index(emotion) + 1
        dots, cells = _dots(part, lane, len(hues)), _line(part[part["shows"] == TOGETHER].iloc[0], lane)
        for row, trace in ((1, dots), *((2, trace) for trace in cells)):
            trace = _coloured(trace, hues[label]) | {
                "legendgroup": safe(label),
                "showlegend": False,
                "hoverinfo": "text",
            }
            figure.add_trace(trace, row=2 * words.index(one) + row, col=column)
    point = {"type": "scatter", "mode": "markers"}
    add_legend_entries(figure, {name: point | {"marker": {"color": hue, "size": 9}} for name, hue in hues.items()})
    return _set_axes(figure, table, 2 * len(words), len(hues))


def _dots(part: pd.DataFrame, lane: int, lanes: int) -> dict[str, Any]:
    """A dot an answer, in a lane of the checkpoint around its score."""
    answers = part[part["shows"] == ANSWER]
    aside = (0.5 - (lane + 0.5) / lanes) * LANES
    texts = [
        _lines(
            row["label"],
            f"{row['question']}, answer {row['epoch']:g}",
            f"reading {row['value']:.4g}, score {row['score']:g}",
        )
        for row in answers.to_dict("records")
    ]
    look = {"type": "scatter", "mode": "markers", "marker": {"size": 5, "opacity": 0.6}}
    return {**look, "x": answers["value"].tolist(), "y": (answers["score"] + aside).tolist(), "hovertext": texts}


def _line(row: pd.Series, lane: int) -> Iterator[dict[str, Any]]:
    """A checkpoint's line of correlations: the control as a bar, then a point with its interval, or a cross for none."""
    shuffled = [row["shuffled_low"], row["shuffled_high"]]
    yield {"type": "scatter", "mode": "lines", "line": {"color": SHUFFLED, "width": 9}, "x": shuffled, "y": [-lane, -lane],
           "hovertext": _hover(row)}  # fmt: skip
    none = pd.isna(row["correlation"])
    sides = row["high"] - row["correlation"], row["correlation"] - row["low"]
    above, below = ([NO_INTERVAL if pd.isna(side) else side] for side in sides)
    bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.4, "width": 3}
    marker = {"symbol": "x-thin", "size": 7, "line": {"width": 1.5}} if none else {"size": 8}
    yield {"type": "scatter", "mode": "markers", "marker": marker, "error_x": bars, "x": [0 if none else row["correlation"]],
           "y": [-lane], "hovertext": _hover(row)}  # fmt: skip


def _coloured(trace: dict[str, Any], hue: str) -> dict[str, Any]:
    """A trace of points in a colour; lines have theirs."""
    if "marker" not in trace:
        return trace
    marker = {**trace["marker"], "color": hue, "line": {**trace["marker"].get("line", {}), "color": hue}}
    return {**trace, "marker": marker} | ({"error_x": {**trace["error_x"], "color": hue}} if "error_x" in trace else {})


def _hover(row: pd.Series) -> str:
    return _lines(
        f"{row['label']} · {row['words']} · {row['emotion']}",
        *(
            []
            if pd.isna(row["correlation"])
            else [f"correlation {row['correlation']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"]
        ),
        *(
            []
            if pd.isna(row["p"])
            else [f"shuffled [{row['shuffled_low']:.3f}, {row['shuffled_high']:.3f}], p = {row['p']:.3g}"]
        ),
        f"{row['n']:g} answers to {row['questions']:g} questions, {row['n_missing']:g} left out",
        f"judge {row['judge']}",
        *([row["note"]] if row["note"] else []),
    )


def _lines(*facts: object) -> str:
    return "<br>".join(map(safe, facts))


def _set_axes(figure: "Figure", table: pd.DataFrame, rows: int, lanes: int) -> "Figure":
    """One scale of readings for an emotion, one of correlations for all."""
    scores = [0.0, 1.0, *table.loc[table["shows"] == ANSWER, "score"]]
    figure.update_xaxes(
        gridcolor=GRID, zeroline=True, zerolinecolor=INK, zerolinewidth=1, title_font_size=12, title_standoff=2
    )
    figure.update_yaxes(showgrid=False, zeroline=False)
    for row in range(1, rows, 2):
        figure.update_yaxes(range=[min(scores) - 0.35, max(scores) + 0.35], row=row)
        figure.update_yaxes(title_text="score", row=row, col=1)
        figure.update_yaxes(range=[0.4 - lanes, 0.6], showticklabels=False, ticks="", row=row + 1)
        figure.update_xaxes(range=[-1.04, 1.04], dtick=0.5, title_text="correlation of reading and score", row=row + 1)
        for column, axis in enumerate(figure.select_xaxes(row=row), 1):
            axis.update(matches="x" if column == 1 else f"x{column}")
    readout, units = str(table["readout"].iloc[0]), ", toy units" if is_toy(table) else ""
    words = READOUT_WORDS.get(readout, readout).partition(":")[0]
    return [figure.update_xaxes(title_text=f"{safe(words)}{units}", row=row) for row in range(1, rows, 2)][-1]


def _caption(together: pd.DataFrame) -> str:
    lost, row = int(together["n_missing"].max()), together.iloc[0]
    return CAPTION.format(
        layer=row["layer"], probes=row["probes"], reasoning="on" if row["reasoning"] else "off", language=row["language"],
        judges=", ".join(sorted({str(name).partition(":")[0] for name in together["judge"]})), cells=len(together),
        counts=f"n = {counted(together['n'])} answers a cell{f', up to {lost} more missing' if lost else ''}.",
        anchored=f"{ANCHORED_NOTE} " if row["readout"] == "anchored_dot" else "",
        toy=f"{TOY_NOTE} Stand-in questions and a judge by rule." if is_toy(together) else "",
    )  # fmt: skip
