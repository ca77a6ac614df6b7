"""What must hold before a number of a checkpoint is shown: do these probes still read it, and in the same unit?

    table = gate_table(frozen, refit, halves, activations, original)      one row a layer and emotion, with its outcome

Fine-tuning may turn what a probe reads, so that a frozen probe sees nothing where there is something (MEASUREMENT.md: half
of an openly guilty text's guilt was planted, its span rotated, and the frozen gap read below that of the parent). A null
means something only where the probe still reads texts that openly express the emotion. Three gates, each beside the bound
that it is held against:

    accuracy   frozen probes read held-out texts in chat form as rightly as probes fitted anew in the checkpoint on the same
               stories: at least .9 of those
    gain       an open answer moves the reading: its interval is above zero and it is at least .5 of the original's; within
               20 % of it, or nothing is claimed between the two
    cosine     frozen and refit probes point the same way: no less than any emotion's two halves of the original's stories do

Held-out texts share the stories' author, so that passing says that the probe still works, not what it means.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from probes.anchors import ANCHOR_COLUMNS, anchor_table, has_unit
from probes.directions import EmotionProbes
from probes.errors import ConventionError

LEAST_ACCURACY, LEAST_GAIN, CLAIM_GAIN = 0.9, 0.5, 0.2
MEASURABLE, NO_CLAIM, NOT_MEASURABLE = "measurable", "no claim between checkpoints", "not measurable"
GATE_COLUMNS = (
    *ANCHOR_COLUMNS, "layer_accuracy", "refit_accuracy", "gain_ratio", "refit_cosine", "half_cosine", "outcome", "why",
)  # fmt: skip


def gate_table(
    frozen: EmotionProbes, refit: EmotionProbes, halves: tuple[EmotionProbes, EmotionProbes], activations: xr.Dataset,
    original: pd.DataFrame,
) -> pd.DataFrame:  # fmt: skip
    """Whether a checkpoint can be measured by these probes: GATE_COLUMNS, one row a layer and emotion.

    Args:
        frozen: probes of the original, which read every checkpoint.
        refit: probes fitted in this checkpoint on the same stories.
        halves: probes of the original fitted on either half of the topics.
        activations: of the anchor texts, in this checkpoint (probes.stimuli.capture_anchors).
        original: anchor_table of the frozen probes in the original.

    Accuracies are those of a layer, over the texts of all emotions. Raises ConventionError for probes of other layers or
    emotions, and what anchor_table raises.
    """
    _check_alike(frozen, refit, *halves)
    table = anchor_table(frozen, activations).merge(
        original[["layer", "emotion", "gain"]], on=["layer", "emotion"], suffixes=("", "_of_original"), validate="1:1"
    )
    again = anchor_table(refit, activations)
    layers = activations["layer"].values
    table = table.assign(
        layer_accuracy=table["layer"].map(_accuracy(table)), refit_accuracy=table["layer"].map(_accuracy(again)),
        gain_ratio=table["gain"] / table["gain_of_original"], refit_cosine=_cosines(frozen, refit, layers),
        half_cosine=np.repeat(_cosines(*halves, layers).reshape(len(layers), -1).min(axis=1), len(frozen.emotions)),
    )  # fmt: skip
    outcomes = [_outcome(cell) for cell in table.assign(has_unit=has_unit(table)).itertuples()]
    table[["outcome", "why"]] = outcomes
    return table[list(GATE_COLUMNS)]


def _check_alike(frozen: EmotionProbes, *others: EmotionProbes) -> None:
    for other in others:
        if (other.emotions, other.layers) != (frozen.emotions, frozen.layers):
            raise ConventionError(
                f"probes of {len(frozen.emotions)} emotions at layers {list(frozen.layers)} beside probes of "
                f"{len(other.emotions)} at {list(other.layers)}. Fit all on the same stories and layers."
            )


def _accuracy(table: pd.DataFrame) -> pd.Series:
    """Layer → share of all anchor texts that are read rightly."""
    right = (table["accuracy"] * table["n_texts"]).groupby(table["layer"]).sum()
    return right / table.groupby("layer")["n_texts"].sum()


def _cosines(one: EmotionProbes, other: EmotionProbes, layers: np.ndarray) -> np.ndarray:
    """Cosine of each emotion's two directions, layer by layer, in the order of an anchor table."""
    pair = (probes.directions_.sel(layer=layers).transpose("layer", "emotion", "feature") for probes in (one, other))
    first, second = (directions.values.astype(np.float64) for directions in pair)
    return (first * second).sum(axis=2).reshape(-1)


def _failures(cell: Any) -> list[str]:
    """What makes a cell not measurable, in words."""
    reasons = (
        (cell.layer_accuracy < LEAST_ACCURACY * cell.refit_accuracy,
         f"frozen probes read {cell.layer_accuracy:.2f} of the texts rightly and refit ones {cell.refit_accuracy:.2f}"),
        (not cell.has_unit, f"an open answer does not move it: gain {cell.gain:.2f}, interval from {cell.low:.2f}"),
        (cell.gain_ratio < LEAST_GAIN, f"its gain is {cell.gain_ratio:.2f} of the original's"),
        (cell.refit_cosine < cell.half_cosine,
         f"refit and frozen probes have a cosine of {cell.refit_cosine:.2f}, halves of one bank at least {cell.half_cosine:.2f}"),
    )  # fmt: skip
    return [words for holds, words in reasons if holds]


def _outcome(cell: Any) -> tuple[str, str]:
    """Outcome and reasons of a cell."""
    if failures := _failures(cell):
        return NOT_MEASURABLE, "; ".join(failures)
    if abs(cell.gain_ratio - 1) > CLAIM_GAIN:
        return NO_CLAIM, f"its gain is {cell.gain_ratio:.2f} of the original's"
    return MEASURABLE, ""


def in_words(table: pd.DataFrame, layers: Sequence[int]) -> str:
    """How many outcomes of each kind there are at some layers, and the first reason against the rest."""
    there = table[table["layer"].isin(layers)]
    counts = ", ".join(f"{outcome} {count}" for outcome, count in there["outcome"].value_counts().items())
    why = there.loc[there["why"] != "", "why"]
    return f"layers {', '.join(map(str, layers))}: {counts}" + (f" ({why.iloc[0]}, …)" if len(why) else "")
