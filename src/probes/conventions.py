"""What activations must hold, and what two of them must agree in, before anything is computed from them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from probes.errors import ConventionError, DataError, LayerError

ABOUT = (
    "model", "checkpoint", "base_sha", "weights", "tokenizer_sha", "evidence", "engine", "layer_convention", "model_layers",
)  # fmt: skip
"""Attributes without which nothing can be said of a number that is read from activations."""
RED = "red: "
"""How the attribute `doctor` begins where the doctor found something wrong (probes.doctor)."""
EMBEDDINGS = -1
"""The layer before the first block."""
DIMS = ("sample", "layer", "feature")


def check_activations(activations: Any, *labels: str) -> xr.Dataset:
    """The activations, if they are what capture gives and every sample has these labels.

    Values that are not finite pass here: a reply without an answer is NaN. So do samples drawn twice, as a bootstrap does.
    Raises DataError for another object, array or dtype, no sample, labels that are lacking or no texts, and attributes that
    do not say what was read; LayerError for layers that are not block outputs, each once.
    """
    if not isinstance(activations, xr.Dataset) or "mean" not in activations:
        raise DataError(
            f"activations are a dataset with the variable 'mean', got {_described(activations)}. "
            "Make them with capture, or read them with load_activations."
        )
    for name in ("mean", *({"unit_mean"} & set(activations))):
        _check_array(name, activations[name])
    _check_layers(activations)
    _check_samples(activations, labels)
    check_about(activations.attrs)
    return activations


def check_about(about: Any) -> None:
    """Raises DataError for attributes that do not say which model was read, and how."""
    lacking = [key for key in ABOUT if key not in about] if isinstance(about, Mapping) else ABOUT
    if lacking:
        raise DataError(
            f"nothing says the {', '.join(lacking)} of these activations. Arithmetic in xarray drops attributes unless "
            "keep_attrs is True: assign those of the activations as they were captured."
        )


def check_alike(ours: Mapping[str, Any], theirs: Mapping[str, Any], keys: Iterable[str], what: str) -> None:
    """Raises ConventionError where two sets of attributes differ; `what` names the two."""
    for key in keys:
        if ours.get(key) != theirs.get(key):
            raise ConventionError(
                f"{what} differ in {key}: {ours.get(key)!r} and {theirs.get(key)!r}. Capture both alike."
            )


def _described(value: Any) -> str:
    return f"one with {', '.join(map(str, value)) or 'none'}" if isinstance(value, xr.Dataset) else type(value).__name__


def _check_array(name: str, array: xr.DataArray) -> None:
    if array.dims != DIMS:
        raise DataError(f"{name} has the dimensions {array.dims}; needed are {DIMS}, in this order: transpose it.")
    if array.dtype not in (np.float32, np.float64):
        raise DataError(
            f"{name} is {array.dtype}; float32 is needed, as capture gives it: residual streams overflow float16, and other "
            "kinds are no activations."
        )


def _check_layers(activations: xr.Dataset) -> None:
    layers = activations["layer"].values.tolist()
    if len(set(layers)) < len(layers) or not all(type(layer) is int and layer >= EMBEDDINGS for layer in layers):
        raise LayerError(
            f"activations of layers {layers}; layers are block outputs from 0 on, or {EMBEDDINGS} for the embeddings, each once."
        )


def _check_samples(activations: xr.Dataset, labels: Iterable[str]) -> None:
    if not activations.sizes["sample"]:
        raise DataError("these activations hold no sample; capture some texts, or select fewer away.")
    for name in labels:
        if name not in activations.coords or activations[name].dims != ("sample",):
            have = ", ".join(str(coord) for coord in activations.coords if activations[coord].dims == ("sample",))
            raise DataError(f"these activations have no {name} of each sample; they have {have}. Capture stories anew.")
        wrong = [value for value in activations[name].values.tolist() if not isinstance(value, str)]
        if wrong:
            raise DataError(
                f"{len(wrong)} samples have a label {name} that is no text (first: {wrong[0]!r}). Name them."
            )
