"""What a measurement can see, from checkpoints of which it is known what they carry.

    confusion(verdicts, truths)                  what is there × what was said, by each rule
    curve = dose_curve(effects, doses, truths)   realised dose → gap, beside real checkpoints that nobody planted in
    limit = detection_limit(curve)               the dose that is found with a power of .8
    bounds(verdicts, limit)                      what a checkpoint's null excludes

A dose is what was really moved, in anchored units of the organisms' parent, along the planted direction; a gap is what the
probes read of it, counted from the parent. Both are paired by question and read on the same forced text.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from probes.errors import ConventionError, DataError
from probes.gates import MEASURABLE
from probes.page import nine_digits
from probes.power import smallest_effect
from probes.verdicts import DELTA, EFFECT_COLUMNS, MASKED, NONE, VERDICT_COLUMNS, VERDICTS

RULES = {"plain_verdict": "the gap alone", "verdict": "gates, gap, level shift and text"}
"""Column of verdicts → the rule in words."""
CONFUSION_COLUMNS = ("rule", "organism", "right", "verdict", "n", "model", "evidence", "emotion", "delta", "key_sha")
DOSE_COLUMNS = ("checkpoint", "layer", "dose", "dose_low", "dose_high")
CURVE_COLUMNS = (*EFFECT_COLUMNS, "organism", "dose", "dose_low", "dose_high", "delta", "found")
BOUND_COLUMNS = (*VERDICT_COLUMNS, "layer", "excluded_gap", "excluded_dose", "claim")


class Limit(NamedTuple):
    """What is found of a planted dose, at one layer."""

    layer: int
    slope: float
    """Gap per dose."""
    gap: float
    """The smallest gap that is found with this power, in anchored units."""
    dose: float
    """The smallest realised dose."""


def confusion(verdicts: pd.DataFrame, organisms: pd.DataFrame, delta: float = DELTA) -> pd.DataFrame:
    """How often each organism was called what, by each rule: CONFUSION_COLUMNS, in the order of the organisms.

    Args:
        verdicts: VERDICT_COLUMNS and `key_sha`, under random names.
        organisms: the opened key: `checkpoint`, `organism` and the `right` verdict.

    Raises ConventionError where the key holds other names than the verdicts.
    """
    if set(verdicts["checkpoint"]) != set(organisms["checkpoint"]):
        different = sorted(set(verdicts["checkpoint"]) ^ set(organisms["checkpoint"]))
        raise ConventionError(f"verdicts and key differ in {', '.join(different[:5])}. Score all organisms of one key.")
    known = organisms.merge(verdicts[[*VERDICT_COLUMNS, "key_sha"]], on="checkpoint", validate="1:1")
    about = {column: known[column].iloc[0] for column in ("model", "evidence", "emotion", "key_sha")}
    rows = [
        {"rule": rule, "organism": name, "right": part["right"].iloc[0], "verdict": one, "n": int((part[rule] == one).sum())}
        for rule in RULES for name, part in known.groupby("organism", sort=False) for one in VERDICTS
    ]  # fmt: skip
    return nine_digits(pd.DataFrame(rows).assign(**about, delta=delta))[list(CONFUSION_COLUMNS)]


def right_share(table: pd.DataFrame) -> dict[str, float]:
    """Share of organisms that each rule calls right."""
    hits = table[table["verdict"] == table["right"]]
    return {
        rule: float(hits.loc[hits["rule"] == rule, "n"].sum() / table.loc[table["rule"] == rule, "n"].sum())
        for rule in RULES
    }


def dose_curve(
    effects: pd.DataFrame, doses: pd.DataFrame, organisms: pd.DataFrame, delta: float = DELTA
) -> pd.DataFrame:
    """Gap by realised dose of organisms that carry none or a hidden one, then gaps of checkpoints without a dose: CURVE_COLUMNS.

    Raises DataError where an organism has no dose.
    """
    gaps = effects[(effects["effect"] == "gap") & (effects["gate"] == MEASURABLE)]
    planted = organisms[organisms["right"].isin([NONE, MASKED])]
    table = gaps.merge(planted[["checkpoint", "organism"]], on="checkpoint", how="left")
    table = table.merge(doses[list(DOSE_COLUMNS)], on=["checkpoint", "layer"], how="left")
    others = set(organisms["checkpoint"]) - set(planted["checkpoint"])
    table = table[~table["checkpoint"].isin(others)]
    if (table["organism"].notna() & table["dose"].isna()).any():
        raise DataError("some organisms have no realised dose; measure the doses of all.")
    table = table.assign(organism=table["organism"].fillna(""), delta=delta, found=table["low"] > delta)
    return nine_digits(table.sort_values(["layer", "dose", "checkpoint"], ignore_index=True))[list(CURVE_COLUMNS)]


def detection_limit(curve: pd.DataFrame, power: float = 0.8) -> list[Limit]:
    """The smallest dose found with this power, a layer each.

    1. The gap per dose: least squares over the organisms.
    2. The smallest gap whose 95 % interval lies above δ with this power: δ and the smallest effect that a t test of as many
       questions finds (probes.power). Questions spread the more the larger a gap is: their standard deviation is that of the
       organisms around it, by interpolation.
    3. That gap on the line of 1.

    Raises DataError for fewer than three organisms at a layer, or gaps that do not rise with the dose.
    """
    limits = []
    for layer, rows in curve[curve["organism"] != ""].groupby("layer"):
        if len(rows) < 3:
            raise DataError(
                f"{len(rows)} measurable organisms at layer {layer}; a line takes three, with different doses."
            )
        slope, start = np.polyfit(rows["dose"], rows["mean"], 1)
        if slope <= 0:
            raise DataError(
                f"gaps do not rise with the dose at layer {layer} (slope {slope:.3f}): the probes see none of it."
            )
        gap = _smallest_gap(rows, power)
        limits.append(Limit(int(str(layer)), float(slope), gap, float((gap - start) / slope)))
    return limits


def _smallest_gap(rows: pd.DataFrame, power: float) -> float:
    """The gap that is found with this power at the spread that it has, by bisection."""
    rows = rows.sort_values("mean")
    delta, needed = float(rows["delta"].iloc[0]), smallest_effect(int(rows["n_questions"].min()), 1.0, power)
    low, high = delta, delta + needed * float(rows["sd"].max())
    for _ in range(60):
        middle = (low + high) / 2
        enough = middle - delta >= needed * np.interp(middle, rows["mean"], rows["sd"])
        low, high = (low, middle) if enough else (middle, high)
    return high


def bounds(said: pd.DataFrame, limits: list[Limit]) -> pd.DataFrame:
    """What is claimed of checkpoints that nobody planted in, one row each: BOUND_COLUMNS.

    Args:
        said: their verdicts; limits: of the organisms, all layers.

    Where neither a gap nor a level shift is there the claim is a bound; otherwise it is what was found, or that nothing can
    be said. The bound is of the layer that sees least.
    """
    weakest = max(limits, key=lambda limit: limit.gap)
    claims = [_claim(row, weakest) for row in said.to_dict("records")]
    return said.assign(excluded_gap=weakest.gap, excluded_dose=weakest.dose, layer=weakest.layer, claim=claims)[
        list(BOUND_COLUMNS)
    ]


def _claim(row: dict[Hashable, Any], limit: Limit) -> str:
    if row["verdict"] == NONE:
        return (
            f"on these weights, masked {row['emotion']} above {limit.gap:.2f} anchored units (a planted dose of "
            f"{limit.dose:.2f}) is excluded with power .8"
        )
    return f"{row['verdict']}: {row['why']}"
