"""How probable texts are to the checkpoints that they are read in (probes.lm.likelihood), as a table and a heatmap.

table = likelihood_table(scored)      one row a checkpoint, text source and arm, with an interval over questions
likelihood_heatmap(table)
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from probes import store
from probes.errors import DataError
from probes.intervals import LEAST_QUESTIONS, t_interval
from probes.page import (
    HUES,
    INK,
    TEXT_TITLES,
    caption_of,
    check_one,
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

SCORED = (
    "model", "checkpoint", "evidence", "weights", "seed", "sample", "pair", "arm", "control", "text_source", "missing", "n_tokens",
    "log_p",
)  # fmt: skip
LIKELIHOOD_COLUMNS = (
    "model",
    "checkpoint",
    "evidence",
    "text_source",
    "arm",
    "mean",
    "low",
    "high",
    "n_questions",
    "n_texts",
)


def likelihood_table(scored: pd.DataFrame) -> pd.DataFrame:
    """Mean log-probability a token in nats, by question and then over questions: LIKELIHOOD_COLUMNS.

    Args:
        scored: rows with SCORED. All texts count, refusals too.

    low, high: 95 % t interval over questions; NaN under LEAST_QUESTIONS. Raises DataError for columns that are lacking.
    """
    lacking = [name for name in SCORED if name not in scored]
    if lacking or scored.empty:
        raise DataError(f"no likelihoods of texts: {len(scored)} rows, lacking {', '.join(lacking) or 'none'}.")
    rows, keys = [], ["model", "checkpoint", "evidence", "text_source", "arm"]
    for names, part in scored.groupby(keys, sort=False):
        values = part.groupby("pair")["log_p"].mean().to_numpy(float)
        mean, low, high = (float(end[0]) for end in t_interval(values[:, None]))
        ends = (low, high) if len(values) >= LEAST_QUESTIONS else (np.nan, np.nan)
        counts = {"n_questions": len(values), "n_texts": len(part)}
        rows.append({**dict(zip(keys, names, strict=True)), "mean": mean, "low": ends[0], "high": ends[1], **counts})
    return nine_digits(pd.DataFrame(rows)[list(LIKELIHOOD_COLUMNS)])


def read_likelihoods(path: Path | str) -> pd.DataFrame:
    """The CSV of likelihood_heatmap as its table. Raises MissingInputError, FileFormatError."""
    return nine_digits(store.read_table(path, LIKELIHOOD_COLUMNS).astype({"mean": float, "low": float, "high": float}))


def likelihood_heatmap(table: pd.DataFrame) -> "Figure":
    """Arm × text source, a panel a checkpoint: dark is what it would hardly write. Takes a likelihood_table.

    Raises ConventionError where models are mixed.
    """
    check_one(table, ("model", "evidence"))
    names = sorted(distinct(table, "checkpoint"), key=lambda name: (place_in(HUES)(variant(name)), name))
    arms, sources = distinct(table, "arm"), distinct(table, "text_source")
    titles = [[f"<b>{safe(name)}</b>" for name in names]]
    figure = framed_panels(
        table, "How probable each text is where it is read", titles, (max(70 * len(sources), 200), 44 * len(arms)), [], 110,
        _caption(table),
    )  # fmt: skip
    lowest = min(float(table["mean"].min()), -1e-6)
    for place, name in enumerate(names, 1):
        part = table[table["checkpoint"] == name]
        figure.add_trace(_map(part, arms, sources, lowest, bar=place == len(names)), row=1, col=place)
    figure.update_xaxes(tickangle=-40, showgrid=False)
    figure.update_layout(margin_r=120, width=figure.layout.width + 96)  # pyright: ignore[reportAttributeAccessIssue]
    return figure.update_yaxes(autorange="reversed", showgrid=False)


def _map(part: pd.DataFrame, arms: list[str], sources: list[str], lowest: float, bar: bool) -> dict[str, Any]:
    means, low, high = (
        part.pivot(index="arm", columns="text_source", values=name).reindex(index=arms, columns=sources).to_numpy(float)
        for name in ("mean", "low", "high")
    )
    words = [["" if np.isnan(one) else f"{one:.2f}" for one in row] for row in means.tolist()]
    ends = np.stack([low, high], axis=2).tolist()
    return {
        "type": "heatmap", "x": [safe(TEXT_TITLES.get(name, name)) for name in sources], "y": [safe(arm) for arm in arms],
        "z": [[None if np.isnan(one) else one for one in row] for row in means.tolist()], "zmin": lowest, "zmax": 0,
        "colorscale": [[0, "#9E9AC8"], [1, "#FFFFFF"]], "showscale": bar, "xgap": 1, "ygap": 1,
        "text": words, "texttemplate": "%{text}", "textfont": {"color": INK, "size": 11}, "customdata": ends,
        "hovertemplate": "%{x} · %{y}: %{z:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra></extra>",
        "colorbar": {"title": {"text": "nats a token", "side": "right"}, "thickness": 12},
    }  # fmt: skip


def _caption(table: pd.DataFrame) -> str:
    return caption_of(
        table,
        "Mean log-probability of an answer's tokens in the checkpoint that reads it, at temperature 1, over questions",
        f"(n = {counted(table['n_questions'])});",
        "refusals count too. A text that is forced behind a prompt to which a checkpoint would answer otherwise is improbable",
        "there, and what is read of it is of that as well. One training run a checkpoint: about these weights.",
    )
