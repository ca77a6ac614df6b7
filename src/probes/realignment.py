"""Probes carried into a fine-tuned checkpoint without a label: a direction goes where the same texts have gone.

    again, foretold = realigned(probes, before, after)      the same texts in the original and in the checkpoint

Training may turn the space in which a probe was fitted, and a frozen one then reads less, or something else. Fitting anew needs
texts of the emotion. This needs any texts: the change of each text's activations is foretold from what they were, and a direction
takes that change along.

Method: after a public study of stale monitors (arXiv 2606.15980), least squares of the change on what was, h' = h (1 + M) from
the mean of the texts, with a ridge on M, so that what the texts do not speak of stays as it is; a direction v becomes v (1 + M),
scaled to unit length. Deviation: the ridge is the one, of RIDGES, that foretells left-out texts best, layer by layer.
"""

from copy import copy

import numpy as np
import pandas as pd
import xarray as xr

from probes.directions import EmotionProbes
from probes.errors import ConventionError, DataError

RIDGES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""In units of the mean eigenvalue of the texts' products."""
LEAST_TEXTS = 20


def realigned(probes: EmotionProbes, before: xr.Dataset, after: xr.Dataset) -> tuple[EmotionProbes, pd.DataFrame]:
    """Probes for a checkpoint, at the layers that were read; and a table of how well the change is foretold.

    Args:
        before, after: `mean` of the same texts in the original and in the checkpoint (sample, layer, feature); of no label is
            any use made.

    The table has `layer`, `ridge`, `foretold` (share of the change of left-out texts, 0 where nothing is) and `cosine` (mean of
    old and new directions). Raises ConventionError for other texts or layers, DataError for fewer than LEAST_TEXTS.
    """
    for name in ("sample", "layer"):
        if before[name].values.tolist() != after[name].values.tolist():
            raise ConventionError(
                f"before and after differ in {name}: realignment needs the same texts at the same layers."
            )
    if before.sizes["sample"] < LEAST_TEXTS:
        raise DataError(f"{before.sizes['sample']} texts say too little of a change; {LEAST_TEXTS} are needed.")
    layers = before["layer"].values.tolist()
    probes.check_layers(layers)
    old = probes.directions_.sel(layer=layers).transpose("layer", "emotion", "feature")
    made = [_carried(old.values[place].astype(np.float64), *(d["mean"].values[:, place] for d in (before, after)))
            for place in range(len(layers))]  # fmt: skip
    again = copy(probes)
    again.directions_ = old.copy(data=np.stack([new for new, _ in made]).astype(old.dtype)).transpose(
        *probes.directions_.dims
    )
    again.origin_, again.lengths_ = probes.origin_.sel(layer=layers), probes.lengths_.sel(layer=layers)
    again.components_ = probes.components_.sel(layer=layers)
    return again, pd.DataFrame([{"layer": layer, **facts} for layer, (_, facts) in zip(layers, made, strict=True)])


def _carried(directions: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """New unit directions (emotion, feature) of one layer, and how well the change was foretold."""
    was, now = (one.astype(np.float64) - one.astype(np.float64).mean(axis=0) for one in (before, after))
    change, products = now - was, was @ was.T
    unit = np.trace(products) / len(products)
    errors = [_left_out(products, change, ridge * unit) for ridge in RIDGES]
    ridge = RIDGES[int(np.argmin(errors))]
    weights = np.linalg.solve(products + ridge * unit * np.eye(len(products)), change)
    moved = directions + directions @ was.T @ weights
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    total = float((change**2).sum())
    foretold = max(0.0, 1 - min(errors) / total) if total > 0 else 0.0
    return moved, {"ridge": ridge, "foretold": foretold, "cosine": float((moved * directions).sum(axis=1).mean())}


def _left_out(products: np.ndarray, change: np.ndarray, ridge: float) -> float:
    """Squared error of each text's change, foretold from all others: in closed form from the hat matrix."""
    hat = products @ np.linalg.inv(products + ridge * np.eye(len(products)))
    errors = (change - hat @ change) / (1 - np.diag(hat))[:, None]
    return float((errors**2).sum())
