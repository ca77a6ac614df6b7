"""How much of a dose was really moved: along what was planted, in anchored units of the parent, and by no probe."""

import numpy as np
import pandas as pd
import xarray as xr

from probes.declaration import SAME_TEXT, Declaration
from probes.errors import ConventionError
from probes.intervals import t_interval
from training.organisms.targets import Targets


def dose_table(activations: xr.Dataset, parent: xr.Dataset, targets: Targets, declared: Declaration) -> pd.DataFrame:
    """Realised doses of an organism on the forced texts: one row a layer, DOSE_COLUMNS and the same of the level.

    Args:
        activations, parent: `mean` of the same replies in the organism and in its parent.
        declared: whose contrast the dose is a difference of, and in whose quiet arm the level is.

    Each is a mean over questions with its 95 % t interval.
    Raises ConventionError where the two were read on different texts.
    """
    ours, theirs = (_forced(table) for table in (activations, parent))
    if ours["sample"].values.tolist() != theirs["sample"].values.tolist():
        raise ConventionError(
            "a dose is counted on the same texts in both; write the replies of organism and parent anew."
        )
    moved = ours["mean"].values.astype(np.float64) - theirs["mean"].values
    rows = []
    for place, layer in enumerate(targets.layers.tolist()):
        at = ours["layer"].values.tolist().index(layer)
        along = moved[:, at] @ targets.axis[place].astype(np.float64) / targets.gain[place]
        arms = _by_question(along, ours)
        rows.append({"checkpoint": activations.attrs["checkpoint"], "layer": layer,
                     **_interval("dose", arms[declared.arm] - arms[declared.references[0]]),
                     **_interval("level", arms[declared.shift_arm])})  # fmt: skip
    return pd.DataFrame(rows)


def _forced(activations: xr.Dataset) -> xr.Dataset:
    kept = (activations["text_source"].values == SAME_TEXT) & (activations["missing"].values == "")
    return activations.isel(sample=kept)


def _by_question(values: np.ndarray, replies: xr.Dataset) -> pd.DataFrame:
    """Means (question, arm)."""
    rows = pd.DataFrame({"question": replies["question"].values, "arm": replies["arm"].values, "value": values})
    return rows.pivot_table(index="question", columns="arm", values="value")


def _interval(name: str, values: pd.Series) -> dict[str, float]:
    mean, low, high = (float(end[0]) for end in t_interval(values.to_numpy(float)[:, None]))
    return {name: mean, f"{name}_low": low, f"{name}_high": high}
