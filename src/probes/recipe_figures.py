"""Emotion by recipe as a picture: what each recipe would have concluded (probes.conclusions)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from probes import store
from probes.conclusions import CELL, FALLS, NO_DIFFERENT, NOT_MEASURABLE, OPEN, RISES
from probes.errors import DataError
from probes.heatmaps import SCALE as BLUE_TO_RED
from probes.own_stories import OWN
from probes.page import (
    GREY,
    HUES,
    INK,
    TEXT_TITLES,
    caption_of,
    check_one,
    contrast_words,
    counted,
    distinct,
    framed_panels,
    nine_digits,
    place_in,
    safe,
    variant,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

OWN_NOTE = (
    "Probes of own stories are fitted in each checkpoint on what it wrote itself and kept of the same design by the same filters: "
    "above each panel how many, how many named their emotion, and the share of held-out ones read rightly. They are reported, and "
    "do not decide whether the other three agree."
)
MARKS = {RISES: "▲", FALLS: "▼", NO_DIFFERENT: "=", OPEN: "", NOT_MEASURABLE: "–"}


def heatmap_table(table: pd.DataFrame, text_source: str = "original", reference: str = "affect") -> pd.DataFrame:
    """Mean over story seeds of each recipe's estimate, and the verdict that all seeds share, else `open`, ready to draw."""
    rows = table[(table["text_source"] == text_source) & (table["reference"] == reference)]
    if rows.empty:
        raise DataError(f"no conclusion of {reference!r} on {text_source!r} text; read those arms.")
    groups = rows.groupby([*CELL, "recipe"], sort=False, dropna=False)
    means = groups.agg(
        mean=("mean", "mean"), n_story_seeds=("story_seed", "nunique"), n_questions=("n_questions", "min"),
        layer_convention=("layer_convention", "first"), delta=("delta", "first"),
    )  # fmt: skip
    # A mark stands where every set of stories gives it.
    shared = groups["verdict"].agg(lambda verdicts: verdicts.iloc[0] if verdicts.nunique() == 1 else OPEN)
    return nine_digits(
        means.assign(verdict=shared).reset_index().astype({"mean": float, "n_questions": float, "delta": float})
    )


def read_heatmap(path: Path | str) -> pd.DataFrame:
    """The CSV of recipe_heatmap as its table."""
    table = store.read_table(path, [*CELL, "recipe", "mean", "verdict"])
    return nine_digits(table.astype({"mean": float, "n_questions": float, "delta": float}))


def recipe_heatmap(table: pd.DataFrame, by: str = "recipe") -> "Figure":
    """Emotion × recipe, a row of panels a layer and a column a checkpoint: colour is the estimate, a mark the verdict.

    Takes a heatmap_table, from memory or from its CSV; `by` is what the title calls what differs between its columns. With a
    column `note` its lines stand above the panel of their checkpoint and layer, and with one `why` hovering over a cell says it
    (probes.own_stories). Raises ConventionError where models, contrasts or texts are mixed.
    """
    check_one(table, ("model", "evidence", "text_source", "arm", "reference", "layer_convention"))
    layers = distinct(table, "layer")
    checkpoints = sorted(distinct(table, "checkpoint"), key=lambda name: (place_in(HUES)(variant(name)), name))
    emotions, recipes = distinct(table, "emotion"), distinct(table, "recipe")
    titles = [
        [f"<b>{safe(c)}</b> · layer {layer}{_note(_cells(table, layer, c))}" for c in checkpoints] for layer in layers
    ]
    row = table.iloc[0]
    title = f"{contrast_words(row['arm'], row['reference'])} by {by} · {TEXT_TITLES.get(row['text_source'], row['text_source'])}"
    size = (max(26 * len(recipes), 200), min(max(24 * len(emotions), 120), 4200))
    figure = framed_panels(table, title, titles, size, [], 150, _caption(table))
    limit = float(np.nanmax(np.abs(table["mean"]))) or 1.0
    for at, layer in enumerate(layers, 1):
        for place, checkpoint in enumerate(checkpoints, 1):
            part = _cells(table, layer, checkpoint)
            figure.add_trace(
                _map(part, emotions, recipes, limit, bar=(at, place) == (1, len(checkpoints))), row=at, col=place
            )
    if OWN in recipes:  # apart from those that decide
        figure.add_vline(recipes.index(OWN) - 0.5, line={"color": INK, "width": 1, "dash": "dot"})
    figure.update_xaxes(tickangle=-55, showticklabels=False, showgrid=False)
    figure.update_xaxes(showticklabels=True, row=len(layers))
    figure.update_layout(margin_r=110, width=figure.layout.width + 86)  # pyright: ignore[reportAttributeAccessIssue]
    return figure.update_yaxes(autorange="reversed", showgrid=False)


def _cells(table: pd.DataFrame, layer: int, checkpoint: str) -> pd.DataFrame:
    return table[(table["layer"] == layer) & (table["checkpoint"] == checkpoint)]


def _note(part: pd.DataFrame) -> str:
    """What stands above a panel, smaller than its title."""
    if "note" not in part:
        return ""
    lines = "<br>".join(safe(line) for line in str(part["note"].iloc[0]).split(" · "))
    return f"<br><span style='font-size:11px'>{lines}</span>"


def _said(part: pd.DataFrame) -> pd.Series:
    """The verdict of a cell, and why it is not measurable."""
    why = part["why"].fillna("") if "why" in part else ""
    return (part["verdict"] + ": " + why).str.removesuffix(": ")


def _map(
    part: pd.DataFrame, emotions: Sequence[str], recipes: Sequence[str], limit: float, bar: bool
) -> dict[str, Any]:
    part = part.assign(mark=part["verdict"].map(MARKS), said=_said(part))
    means, marks, said = (
        part.pivot(index="emotion", columns="recipe", values=name).reindex(index=list(emotions), columns=list(recipes))
        for name in ("mean", "mark", "said")
    )
    scale = [[at / (len(BLUE_TO_RED) - 1), hue] for at, hue in enumerate(BLUE_TO_RED)]
    values = [[None if pd.isna(value) else value for value in row] for row in means.to_numpy(float).tolist()]
    marks, said = marks.fillna("").to_numpy(str).tolist(), said.fillna("not read").to_numpy(str).tolist()
    look = {"xgap": 1, "ygap": 1, "colorscale": scale, "showscale": bar, "textfont": {"color": INK, "size": 11}}
    return {
        "type": "heatmap", "x": [safe(name.replace("_", " ")) for name in recipes], "y": [safe(name) for name in emotions],
        "z": values, "zmin": -limit, "zmax": limit, "text": marks,
        "texttemplate": "%{text}", "customdata": said, "hovertemplate": "%{y} · %{x}: %{z:.3g}, %{customdata}<extra></extra>",
        "colorbar": {"title": {"text": "anchored units", "side": "right"}, "thickness": 12, "outlinecolor": GREY}, **look,
    }  # fmt: skip


def _caption(table: pd.DataFrame) -> str:
    row, sets = table.iloc[0], int(table["n_story_seeds"].max())
    return caption_of(
        table,
        f"Mean over {sets} set{'s' if sets > 1 else ''} of stories of the paired difference in anchored units",
        f"(n = {counted(table['n_questions'])} questions).",
        "▲ rises, ▼ falls: the 95% t interval over questions excludes 0 with every set of stories; =: two",
        f"one-sided tests place it within ±{row['delta']:g} with every set; –: not measurable; no mark: open, or the sets",
        "disagree. A mark of direction says nothing of size: see the scale. One training run a checkpoint: about these",
        f"weights. {str(row['layer_convention']).capitalize()}.",
        OWN_NOTE if (table["recipe"] == OWN).any() else "",
    )  # fmt: skip
