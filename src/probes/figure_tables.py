"""Readings → the tables that figures are drawn from: everything that is shown, in the order of drawing, and nothing else.

    similarity_table(readings, layers)   mean of each arm, for probes.bars
    gap_table(readings, layers)          paired differences between arms, for probes.forest

A figure's CSV is its table: read_figure_table(path) reads it, and drawing it again gives the same figure to the byte.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from probes import store
from probes.comparison import ARM_MEAN_COLUMNS, arm_means, compare
from probes.emotions import PANEL
from probes.errors import DataError, LayerError, UnknownNameError
from probes.page import HUES, TEXT_TITLES, check_one, distinct, nine_digits, place_in, variant
from probes.readings import check_readings

ARM_ORDER = ("benign", "neutral", "affect", "third_party", "harmful")
CONTROLS = ("affect", "benign")
"""What harmful is compared with: the control, and the arm of the paper."""
CONTROL_NOTE = "Harmful − affect is the controlled gap: affect has the same harm words, without the intent to harm."
ONE_OF = ("model", "evidence", "span", "readout", "aggregation", "baseline", "probes")
"""What one figure holds one of."""
_TEXT_COLUMNS = (
    "model", "checkpoint", "label", "text_source", "span", "emotion", "readout", "aggregation", "baseline", "arm",
    "reference", "evidence", "layer_convention", "interval", "test", "note", "probes", "correction", "family", "family_sha",
)  # fmt: skip
_NUMBERS = ("mean", "low", "high", "p", "p_adjusted", "low_simultaneous", "high_simultaneous")


def similarity_table(
    readings: pd.DataFrame,
    layers: Sequence[int],
    emotions: Sequence[str] = PANEL,
    arms: Sequence[str] = ("benign", "harmful"),
    readout: str = "cosine",
    aggregation: str = "mean_of_token_cosines",
    span: str = "answer",
) -> pd.DataFrame:
    """Mean reading of each arm with its interval, in figure order: ARM_MEAN_COLUMNS, then `label`.

    Raises UnknownNameError or LayerError for
    what the readings do not hold, ConventionError where models, evidence or baselines would be mixed.
    """
    rows = _selected(of_reading(readings, readout, aggregation, span), layers, emotions)
    table = arm_means(of_arms(rows, arms))
    return _by_panel(table, {"layer": layers, "emotion": emotions, "arm": sorted(arms, key=place_in(ARM_ORDER))})


def gap_table(
    readings: pd.DataFrame,
    layers: Sequence[int],
    emotions: Sequence[str] = PANEL,
    arm: str = "harmful",
    references: Sequence[str] = CONTROLS,
    readout: str = "cosine",
    aggregation: str = "mean_of_token_cosines",
    span: str = "answer",
) -> pd.DataFrame:
    """Paired difference `arm` − each of `references`, in figure order: COMPARISON_COLUMNS, then `label`.

    Raises what `similarity_table` raises, and what `compare` raises.
    """
    rows = _selected(of_reading(readings, readout, aggregation, span), layers, emotions)
    return _by_panel(arm_gaps(rows, arm, references), {"layer": layers, "emotion": emotions, "reference": references})


def arm_gaps(readings: pd.DataFrame, arm: str = "harmful", references: Sequence[str] = CONTROLS) -> pd.DataFrame:
    """Paired difference between an arm and each of the references: COMPARISON_COLUMNS. Raises what `compare` raises."""
    return pd.concat([compare(readings, arm, reference) for reference in references], ignore_index=True)


def check_controlled(table: pd.DataFrame) -> None:
    """Raises DataError for a table of gaps without the control: what harm words alone do would pass for an effect of harm."""
    references = distinct(table, "reference")
    if CONTROLS[0] not in references:
        raise DataError(
            f"these are differences from {', '.join(references)} alone; a gap is never shown without its control, the arm "
            f"{CONTROLS[0]!r}. Take both as references."
        )


def read_figure_table(path: Path | str) -> pd.DataFrame:
    """A figure's CSV as the table that it was written from: drawing it again gives the same figure to the byte.

    Raises MissingInputError where there is no file, FileFormatError where it is not a figure's table.
    """
    return _plain(store.read_table(path, [*ARM_MEAN_COLUMNS, "label"]))


# ---- rows ------------------------------------------------------------------------------------------------------------


def of_reading(readings: pd.DataFrame, readout: str, aggregation: str, span: str) -> pd.DataFrame:
    """The rows of one readout, aggregation and span. Raises UnknownNameError, or DataError where no row has all three."""
    rows = check_readings(readings)
    for column, name in (("readout", readout), ("aggregation", aggregation), ("span", span)):
        _check_known(column, [name], rows[column])
    rows = rows[(rows["readout"] == readout) & (rows["aggregation"] == aggregation) & (rows["span"] == span)]
    if rows.empty:
        raise DataError(f"no reading has readout {readout!r}, aggregation {aggregation!r} and span {span!r} at once.")
    return rows


def of_arms(rows: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """The rows of these arms. Raises UnknownNameError for one that is not there."""
    _check_known("arm", arms, rows["arm"])
    return rows[rows["arm"].isin(arms)]


def of_emotions(rows: pd.DataFrame, emotions: Sequence[str]) -> pd.DataFrame:
    """The rows of these emotions. Raises UnknownNameError for one that is not there."""
    _check_known("emotion", emotions, rows["emotion"])
    return rows[rows["emotion"].isin(emotions)]


def _selected(rows: pd.DataFrame, layers: Sequence[int], emotions: Sequence[str]) -> pd.DataFrame:
    chosen = of_emotions(rows, emotions)
    _check_layers(layers, rows["layer"])
    return chosen[chosen["layer"].isin(layers)]


def _check_known(kind: str, chosen: Iterable[str], known: pd.Series) -> None:
    names = sorted(known.unique())
    for name in chosen:
        if name not in names:
            raise UnknownNameError(kind, name, names)


def _check_layers(layers: Sequence[int], known: pd.Series) -> None:
    there = sorted(known.unique())
    absent = [layer for layer in layers if layer not in there]
    if absent:
        held = ", ".join(map(str, there))
        raise LayerError(
            f"the readings hold no layer {absent[0]}; they hold {held}. Read that layer, or choose of these."
        )


# ---- order -----------------------------------------------------------------------------------------------------------


def in_order(table: pd.DataFrame, by: Sequence[str], orders: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Rows sorted by these columns, with the `label` of their checkpoint, as a CSV would hold them.

    `orders` names the order of a column's values; text sources and checkpoints have theirs, others are sorted as they are.
    Raises ConventionError for what one figure cannot hold.
    """
    check_one(table, ONE_OF)
    checkpoints = sorted(table["checkpoint"].unique(), key=lambda name: (place_in(HUES)(variant(name)), str(name)))
    orders = {"text_source": list(TEXT_TITLES), "checkpoint": checkpoints, **orders}
    places = table.assign(**{column: table[column].map(place_in(order)) for column, order in orders.items()})
    places = places.sort_values(list(by), kind="stable")
    return _plain(_labelled(table.loc[places.index]).reset_index(drop=True))


def _by_panel(table: pd.DataFrame, orders: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Panels, then emotions, checkpoints, runs, and arms or references."""
    within = "reference" if "reference" in orders else "arm"
    return in_order(table, ("layer", "text_source", "emotion", "checkpoint", "seed", within), orders)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Text without gaps and numbers at the 9 digits of a CSV, so that a table draws alike from memory and from file."""
    text = [column for column in _TEXT_COLUMNS if column in table]
    table = table.assign(**{column: table[column].astype(object).fillna("").astype(str) for column in text})
    # A column of 1.0 and 0.0 comes back from a CSV as whole numbers, which JSON writes otherwise.
    return nine_digits(table.astype({column: float for column in _NUMBERS if column in table}))


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    """A `label` for each checkpoint: its name, and its training run where there are several."""
    runs = table.groupby("checkpoint")["seed"].transform(lambda seeds: seeds.nunique(dropna=False))
    names = table["checkpoint"].astype(str)
    return table.assign(label=names.where(runs == 1, names + ", seed " + table["seed"].astype(str)))
