"""What several tests share: one thread, no network, and activations made of numbers."""

import os
import sys
from collections.abc import Callable

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")  # before anything imports torch

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probes.activations import LAYER_CONVENTION, label

ABOUT = {
    "model": "synthetic", "checkpoint": "original", "revision": "r", "base_sha": "base", "weights": "weights",
    "tokenizer_sha": "tokenizer",
    "template_sha": "template", "dtype": "torch.float32", "evidence": "toy", "engine": "transformers_hooks",
    "layer_convention": LAYER_CONVENTION, "model_layers": 8,
}  # fmt: skip
"""What probes.activations.describe says of a model."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    """Two threads are slower than one on two cores; torch is not imported for it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def synthetic_activations() -> Callable[..., xr.Dataset]:
    """Stories, or with `unit_mean` replies, of a model that does not exist.

    mean and unit_mean: (sample, layer, feature); layers: 0 … by default; about: attributes that differ from ABOUT;
    columns: labels of the samples, by name.
    """

    def make(mean, unit_mean=None, layers=None, about=None, **columns) -> xr.Dataset:
        n, depth, _ = mean.shape
        arrays = {"mean": np.asarray(mean, np.float32)}
        given: dict[str, object] = {"sample": [f"s{i}" for i in range(n)], "n_tokens": 30}
        if unit_mean is None:
            given |= {"emotion": "calm", "topic": [f"topic {i % 4}" for i in range(n)], "text": "It rained."}
        else:
            arrays["unit_mean"] = np.asarray(unit_mean, np.float32)
            given |= {
                "pair": "lily", "question": "lily", "domain": "plants", "arm": "benign", "control": 0, "checkpoint": "original",
                "seed": 0, "text_source": "own", "missing": "", "span": "answer",
            }  # fmt: skip
        labels = pd.DataFrame(given | columns, index=range(n))
        return label(arrays, labels, range(depth) if layers is None else layers, ABOUT | (about or {}))

    return make
