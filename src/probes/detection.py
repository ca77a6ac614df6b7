"""What a measurement can see, from checkpoints of which it is known what they carry.

    called(verdicts)                                   the rule's verdict (probes.verdict) as one of CALLED
    confusion(verdicts, organisms)                     what is there × what it was called, by the rule and by the gap alone
    curve = dose_curve(claims, verdicts, declared, …)  realised dose → gap, one row a checkpoint and layer
    detection_limits(curve, declared)                  the dose that is found with a power of .8

Organisms are judged by the rule of real checkpoints, on readings counted from their parent (probes.estimands.counted_from):
what the parent carries is not theirs. A dose is what was really moved, in anchored units of the parent, along the planted
direction, which no probe was fitted on; a gap is what the probes read of it on the same forced text.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from probes.declaration import SAME_TEXT, Declaration
from probes.errors import ConventionError, DataError
from probes.gates import NO_CLAIM, NOT_MEASURABLE
from probes.intervals import LEAST_QUESTIONS
from probes.page import nine_digits
from probes.power import smallest_effect
from probes.verdict import BY_LEVEL, HIGHER, INCONCLUSIVE, LOWER, NOTHING, side_of, spread

GAP, LEVEL, OPEN = "a masked gap", "a level alone", "its text shows it"
CALLED = (NOTHING, GAP, LEVEL, OPEN, LOWER, NO_CLAIM, INCONCLUSIVE, NOT_MEASURABLE)
RULES = {"plain": "the gap alone", "called": "gates, gap, level shift and text"}
"""Column of what is called by it → the rule in words."""
BLIND_COLUMNS = ("model", "checkpoint", "evidence", "layer", "emotion", *RULES, "sentence", "delta", "key_sha")
CONFUSION_COLUMNS = ("rule", "organism", "right", "called", "n", "model", "evidence", "emotion", "delta", "key_sha")
DOSE_COLUMNS = ("checkpoint", "layer", "dose", "dose_low", "dose_high")
CURVE_COLUMNS = (
    "model", "checkpoint", "evidence", "organism", "layer", "emotion", "dose", "dose_low", "dose_high", "mean", "low", "high",
    "sd", "n_questions", "found", "delta", "level", "cells", "probes",
)  # fmt: skip


class Limit(NamedTuple):
    """What is found of a planted dose, at one layer."""

    layer: int
    slope: float
    """Gap per dose."""
    start: float
    """Gap without a dose."""
    gap: float
    """The smallest gap that is found with this power, in anchored units."""
    dose: float
    """The smallest realised dose."""


def called(verdicts: pd.DataFrame) -> pd.Series:
    """What the rule calls each row of a verdict_table: one of CALLED. What its text shows is not hidden."""
    by_level = verdicts["by"] == BY_LEVEL
    kinds = verdicts["verdict"].mask(verdicts["verdict"] == HIGHER, np.where(by_level, LEVEL, GAP))
    return kinds.mask(verdicts["open"].astype(bool), OPEN)


def called_by_gap(claims: pd.DataFrame, declared: Declaration) -> pd.Series:
    """What whoever looks at the gap on the same text alone calls a checkpoint: by (checkpoint, layer).

    Args:
        claims: of readings in the original's unit, which ask no gate.
    """
    gaps = gaps_of(claims, declared).set_index(["checkpoint", "layer"])
    words = {1: GAP, -1: LOWER}
    found = gaps.apply(lambda row: words.get(side_of([row["outcome"]], [row["mean"]]), ""), axis=1)
    null = np.where(gaps["outcome"].isin(["equivalent", "both"]), NOTHING, INCONCLUSIVE)
    return found.mask(found == "", pd.Series(null, gaps.index))


def gaps_of(claims: pd.DataFrame, declared: Declaration) -> pd.DataFrame:
    """The claims on the first declared contrast on the same text."""
    contrast = (claims["arm"] == declared.arm) & (claims["reference"] == declared.references[0])
    return claims[contrast & (claims["text_source"] == SAME_TEXT)]


def confusion(blind: pd.DataFrame, organisms: pd.DataFrame) -> pd.DataFrame:
    """At how many layers each organism was called what, by each rule: CONFUSION_COLUMNS, in the order of the organisms.

    Args:
        blind: BLIND_COLUMNS, under random names.
        organisms: the opened key: `checkpoint`, `organism`, and what is `right`.

    Raises ConventionError where the key holds other names than the verdicts.
    """
    if set(blind["checkpoint"]) != set(organisms["checkpoint"]):
        different = sorted(set(blind["checkpoint"]) ^ set(organisms["checkpoint"]))
        raise ConventionError(f"verdicts and key differ in {', '.join(different[:5])}. Score all organisms of one key.")
    known = organisms.merge(blind, on="checkpoint", validate="1:m")
    about = {column: known[column].iloc[0] for column in ("model", "evidence", "emotion", "delta", "key_sha")}
    rows = [
        {"rule": rule, "organism": name, "right": part["right"].iloc[0], "called": one, "n": int((part[rule] == one).sum())}
        for rule in RULES for name, part in known.groupby("organism", sort=False) for one in CALLED
    ]  # fmt: skip
    return nine_digits(pd.DataFrame(rows).assign(**about))[list(CONFUSION_COLUMNS)]


def right_share(table: pd.DataFrame) -> dict[str, float]:
    """Share of organisms and layers that each rule calls right."""
    hits = table[table["called"] == table["right"]]
    return {
        rule: float(hits.loc[hits["rule"] == rule, "n"].sum() / table.loc[table["rule"] == rule, "n"].sum())
        for rule in RULES
    }


# ---- the curve -------------------------------------------------------------------------------------------------------


def dose_curve(
    claims: pd.DataFrame, verdicts: pd.DataFrame, declared: Declaration, doses: pd.DataFrame, names: Mapping[str, str]
) -> pd.DataFrame:
    """The gap of every measurable organism at every layer, by realised dose: CURVE_COLUMNS.

    Args:
        verdicts: of the same claims. `found` is what they call a masked gap.
        doses: DOSE_COLUMNS.
        names: checkpoint → organism, of those that are to stand in the curve.

    Raises DataError where an organism has no dose.
    """
    gaps = gaps_of(claims, declared)
    table = _gap_rows(gaps[gaps["checkpoint"].isin(names)], verdicts, declared, names)
    table = table.merge(doses[list(DOSE_COLUMNS)], on=["checkpoint", "layer"], how="left")
    if table["dose"].isna().any():
        raise DataError("some organisms have no realised dose; measure the doses of all.")
    return nine_digits(table.sort_values(["layer", "dose", "checkpoint"], ignore_index=True))[list(CURVE_COLUMNS)]


def _gap_rows(
    gaps: pd.DataFrame, verdicts: pd.DataFrame, declared: Declaration, names: Mapping[str, str]
) -> pd.DataFrame:
    """CURVE_COLUMNS but for the dose; simultaneous intervals."""
    found = verdicts.assign(found=called(verdicts) == GAP)[["checkpoint", "layer", "emotion", "found"]]
    table = gaps.drop(columns=["delta", "level", "low", "high"], errors="ignore").assign(
        organism=[names.get(name, "") for name in gaps["checkpoint"]], sd=spread(gaps), delta=declared.delta, level=declared.level,
        cells=declared.cells, low=gaps["low_simultaneous"], high=gaps["high_simultaneous"],
    )  # fmt: skip
    return table.merge(found, on=["checkpoint", "layer", "emotion"], validate="1:1")


def seen_by_gap(organisms: pd.DataFrame) -> dict[str, str]:
    """Blind name → organism, of those that carry nothing or what a gap is to show."""
    kept = organisms[organisms["right"].isin([NOTHING, GAP])]
    return dict(zip(kept["checkpoint"], kept["organism"], strict=True))


def beside_organisms(
    curve: pd.DataFrame, claims: pd.DataFrame, verdicts: pd.DataFrame, declared: Declaration
) -> pd.DataFrame:
    """A curve with the checkpoints on it that nobody planted in; their claims are of the same emotion and layers.

    Raises ConventionError where model or probes differ.
    """
    about = ["model", "probes"]
    if len(both := pd.concat([curve[about], claims[about]]).dropna().drop_duplicates()) > 1:
        raise ConventionError(f"organisms and checkpoints differ in model or probes: {both.to_dict('records')}.")
    theirs, words = (
        table[table["emotion"].isin(curve["emotion"]) & table["layer"].isin(curve["layer"])]
        for table in (claims, verdicts)
    )
    real = _gap_rows(gaps_of(theirs, declared), words, declared, {}).assign(**dict.fromkeys(DOSE_COLUMNS[2:], np.nan))
    return pd.concat([curve, nine_digits(real)[list(CURVE_COLUMNS)]], ignore_index=True)


def detection_limits(curve: pd.DataFrame, power: float = 0.8) -> list[Limit]:
    """The smallest dose found with this power, a layer each.

    1. The gap per dose: least squares over the organisms.
    2. The smallest gap that is found: what a t test of as many questions finds at the level of the family, by Bonferroni,
       and not under δ. Questions spread the more the larger a gap is: their standard deviation is that of the organisms
       around it, by interpolation.
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
        limits.append(Limit(int(str(layer)), float(slope), float(start), gap, float((gap - start) / slope)))
    return limits


def _smallest_gap(rows: pd.DataFrame, power: float) -> float:
    """The gap that is found with this power at the spread that it has, by bisection; not under δ."""
    rows, first = rows.sort_values("mean"), rows.iloc[0]
    if (n := int(rows["n_questions"].min())) < LEAST_QUESTIONS:
        raise DataError(f"{n} questions at layer {first['layer']}; a limit takes {LEAST_QUESTIONS}.")
    needed = smallest_effect(n, 1.0, power, first["level"] / first["cells"])
    low, high = float(first["delta"]), float(first["delta"]) + needed * float(rows["sd"].max())
    for _ in range(60):
        middle = (low + high) / 2
        enough = middle >= needed * np.interp(middle, rows["mean"], rows["sd"])
        low, high = (low, middle) if enough else (middle, high)
    return high
