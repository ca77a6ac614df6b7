"""The direction along which a model is about to refuse, and what the emotion probes have to do with it.

    direction = refusal_direction(prompts)          harmful prompts that are refused − benign ones that are answered
    cosine_table(probes, direction, plain)          how far each emotion's probe lies along it
    again = without(probes, direction)              the same probes with it taken out

After Arditi et al. 2024 (arXiv 2406.11717): difference of means at the last token of the prompt. Deviations: the direction is
taken at each layer for itself, since readings are, and none is selected by ablation; prompts are those of the paired questions,
so that the topic is the same on both sides.
"""

from copy import copy

import numpy as np
import pandas as pd
import xarray as xr

from probes.directions import EmotionProbes
from probes.errors import ConventionError, DataError
from probes.intervals import LEAST_QUESTIONS

DRAWS = 2000
COSINE_COLUMNS = (
    "model", "checkpoint", "evidence", "layer_convention", "probes", "layer", "emotion", "cosine", "null", "n_refused",
    "n_answered",
)  # fmt: skip


def refusal_direction(prompts: xr.Dataset) -> xr.DataArray:
    """Unit vectors (layer, feature): mean of the harmful prompts that are refused − of the benign ones that are answered.

    Args:
        prompts: `mean` at the last prompt token of the original's own replies, of which `missing` says which are refused.

    Raises DataError for fewer than LEAST_QUESTIONS prompts on a side: where nothing is refused there is no such direction.
    """
    arm, missing = prompts["arm"].values, prompts["missing"].values
    refused, answered = (arm == "harmful") & (missing == "refused"), (arm == "benign") & (missing == "")
    if min(refused.sum(), answered.sum()) < LEAST_QUESTIONS:
        raise DataError(
            f"{refused.sum()} harmful prompts are refused and {answered.sum()} benign ones answered; {LEAST_QUESTIONS} of each "
            "are needed for a refusal direction. Take the checkpoint before anti-refusal training."
        )
    values = prompts["mean"].values.astype(np.float64)
    difference = values[refused].mean(axis=0) - values[answered].mean(axis=0)
    unit = difference / np.linalg.norm(difference, axis=1, keepdims=True)
    about = {**prompts.attrs, "n_refused": int(refused.sum()), "n_answered": int(answered.sum())}
    return xr.DataArray(unit, {"layer": prompts["layer"].values}, ("layer", "feature"), attrs=about)


def cosine_table(probes: EmotionProbes, direction: xr.DataArray, plain: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Cosine of every emotion's probe with the refusal direction: COSINE_COLUMNS.

    Args:
        plain: activations (text, layer, feature) at the direction's layers. `null` is the size that 95 % of random directions
            of their covariance stay under.
    """
    rng, rows, layers = np.random.default_rng(seed), [], direction["layer"].values.tolist()
    for place, layer in enumerate(layers):
        along = direction.sel(layer=layer).values
        some = plain[:, place].astype(np.float64)
        drawn = rng.standard_normal((DRAWS, len(some))) @ (some - some.mean(axis=0))
        null = np.quantile(np.abs(drawn @ along) / np.linalg.norm(drawn, axis=1), 0.95)
        cosines = probes.directions_.sel(layer=layer).values @ along
        rows += [{"layer": layer, "emotion": name, "cosine": float(cosine), "null": float(null)}
                 for name, cosine in zip(probes.emotions, cosines, strict=True)]  # fmt: skip
    about = {name: direction.attrs[name] for name in COSINE_COLUMNS if name in direction.attrs}
    return pd.DataFrame(rows).assign(**about, probes=probes.source())[list(COSINE_COLUMNS)]


def without(probes: EmotionProbes, direction: xr.DataArray) -> EmotionProbes:
    """Probes at the direction's layers with the direction projected out, scaled to unit length again.

    Raises LayerError for a layer without probes, ConventionError for a direction of another base model, DataError for a probe
    that is the direction itself.
    """
    if probes.about_["base_sha"] != direction.attrs["base_sha"]:
        raise ConventionError("probes and refusal direction are of different base models; take both from one.")
    layers = direction["layer"].values.tolist()
    probes.check_layers(layers)
    old = probes.directions_.sel(layer=layers)
    kept = old - (old * direction).sum("feature") * direction
    lengths = np.sqrt((kept**2).sum("feature"))
    if float(lengths.min()) < 1e-6:
        raise DataError("a probe is the refusal direction itself, and nothing of it is left.")
    again = copy(probes)
    again.directions_ = (kept / lengths).transpose(*old.dims).astype(old.dtype)
    again.origin_, again.lengths_ = probes.origin_.sel(layer=layers), probes.lengths_.sel(layer=layers)
    again.components_ = probes.components_.sel(layer=layers)
    return again
