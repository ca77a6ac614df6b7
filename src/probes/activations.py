"""Residual streams pooled over each text, as labelled arrays (sample, layer, feature).

A dataset of activations has the variables `mean` (mean of h over the text's span) and, for replies, `unit_mean` (mean of
h/‖h‖), float32, with everything known of a text as coordinates of `sample`, and model, convention and span as attributes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from probes import store
from probes.errors import ConventionError, DataError, FileFormatError, LayerError, UnknownNameError

if TYPE_CHECKING:
    from probes.lm.capture import Passage
    from probes.lm.model import Model
    from probes.replies import Replies
    from probes.stories import Stories

LAYER_CONVENTION = "layer i is the output of block i, 0-based; the last one is taken before the final norm"


def capture(
    model: "Model",
    texts: "Stories | Replies",
    layers: Sequence[int] | Literal["all"] = "all",
    start_token: int = 50,
    batch_tokens: int = 16_384,
) -> xr.Dataset:
    """Run stories (as raw text) or replies (in their conversations) through a model and pool every layer.

    Args:
        start_token: stories are pooled from this 0-based token on (Sofroniew et al. 2026: from the 50th token on);
            shorter ones are dropped and counted in the attribute `dropped_short`. Replies are pooled over their answer.

    Returns `mean` (sample, layer, feature), and `unit_mean` too for replies; a reply without an answer is NaN.
    Raises what probes.lm.capture raises.
    """
    from probes.replies import Replies

    if isinstance(texts, Replies):
        return _capture_replies(model, texts, layers, batch_tokens)
    return _capture_stories(model, texts, layers, start_token, batch_tokens)


def _capture_stories(model: "Model", stories: "Stories", layers, start_token: int, batch_tokens: int) -> xr.Dataset:
    from probes.lm.capture import capture, check_layers
    from probes.lm.reducers import MeanPool

    chosen = check_layers(layers, len(model.blocks))
    passages, labels, short = story_passages(model, stories, start_token)
    arrays = capture(model, passages, chosen, [MeanPool()], batch_tokens, label="capture stories")
    return label(arrays, labels, chosen, {"start_token": start_token, "dropped_short": short, **describe(model)})


def _capture_replies(model: "Model", replies: "Replies", layers, batch_tokens: int) -> xr.Dataset:
    from probes.lm.capture import capture, check_layers

    chosen = check_layers(layers, len(model.blocks))
    _check_own(model, replies)
    passages, kept, labels = replies.passages()
    captured = capture(model, passages, chosen, batch_tokens=batch_tokens, label="capture replies")
    arrays = {name: np.full((len(replies), *values.shape[1:]), np.nan, np.float32) for name, values in captured.items()}
    for name, values in captured.items():
        arrays[name][kept] = values
    return label(arrays, labels, chosen, describe(model))


def _check_own(model: "Model", replies: "Replies") -> None:
    """Readings are labelled with the checkpoint that the replies name: it must be the one that reads them."""
    named = {f"{reply.model}/{reply.checkpoint}" for reply in replies}
    if named != {model.address}:
        raise ConventionError(
            f"replies of {', '.join(sorted(named))} given to {model.address}. Load that checkpoint to read them, or put "
            "a fixed text through this one with force_replies."
        )


def story_passages(model: "Model", stories: "Stories", start_token: int) -> "tuple[list[Passage], pd.DataFrame, int]":
    """Stories as passages from `start_token` on, their labels, and how many were too short. Raises DataError for none left."""
    from probes.lm.capture import Passage

    ids = [model.tokenizer(story.text, add_special_tokens=False)["input_ids"] for story in stories]
    kept = [i for i, tokens in enumerate(ids) if len(tokens) > start_token]
    if not kept:
        raise DataError(f"none of {len(stories)} stories has more than {start_token} tokens; lower the start token.")
    passages = [Passage(ids[i], range(start_token, len(ids[i]))) for i in kept]
    rows = [
        {"sample": s.sample, "emotion": s.emotion, "topic": s.topic, "text": s.text} for s in (stories[i] for i in kept)
    ]
    labels = pd.DataFrame(rows).assign(n_tokens=[len(passage.span) for passage in passages])
    return passages, labels, len(ids) - len(kept)


def describe(model: "Model") -> dict[str, Any]:
    """What must travel with every number read from a model."""
    return {
        "model": model.name, "checkpoint": model.checkpoint.name, "revision": model.revision, "base_sha": model.base_sha,
        "tokenizer_sha": model.tokenizer_sha, "template_sha": model.template_sha, "dtype": str(model.network.dtype),
        "evidence": model.entry.evidence, "engine": "transformers_hooks", "layer_convention": LAYER_CONVENTION,
        "model_layers": model.entry.layers,
    }  # fmt: skip


def label(
    arrays: dict[str, np.ndarray], labels: pd.DataFrame, layers: Sequence[int], about: dict[str, Any]
) -> xr.Dataset:
    """Arrays (sample, layer, feature) with the labels of their samples and where they come from."""
    variables = {name: (("sample", "layer", "feature"), values) for name, values in arrays.items()}
    coords = {name: ("sample", column.to_numpy()) for name, column in labels.items()}
    return xr.Dataset(variables, {**coords, "layer": list(layers)}, attrs=about)


def select_layers(activations: xr.Dataset, layers: Sequence[int]) -> xr.Dataset:
    """Some layers of the activations. Raises LayerError naming those that were not captured."""
    there = activations["layer"].values.tolist()
    lacking = [layer for layer in layers if layer not in there]
    if lacking:
        raise LayerError(f"layers {lacking} were not captured; there are {there}. Capture again with --layers.")
    return activations.sel(layer=list(layers))


def split(activations: xr.Dataset, by: str, test: float, seed: int) -> tuple[xr.Dataset, xr.Dataset]:
    """Train and test parts that share no value of the coordinate `by`, so that nothing of a topic is in both.

    Args:
        test: share of the values of `by` that go to the test part, at least one and not all.

    Raises UnknownNameError for a coordinate that is not there, DataError when it has fewer than two values.
    """
    if by not in activations.coords:
        raise UnknownNameError("coordinate", by, map(str, activations.coords))
    values = np.unique(activations[by].values)
    if len(values) < 2 or not 0 < test < 1:
        raise DataError(
            f"cannot split by {by}: {len(values)} value(s), test share {test}; need two values and a share in (0, 1)."
        )
    count = min(max(1, round(test * len(values))), len(values) - 1)
    held_out = np.random.default_rng(seed).permutation(values)[:count]
    mask = np.isin(activations[by].values, held_out)
    return activations.isel(sample=~mask), activations.isel(sample=mask)


def save_activations(path: Path | str, activations: xr.Dataset) -> Path:
    """Write a dataset of activations as one safetensors file."""
    coords = {name: coord.values.tolist() for name, coord in activations.coords.items() if coord.dims == ("sample",)}
    metadata = {
        "kind": "activations",
        "coords": coords,
        "layers": activations["layer"].values.tolist(),
        "about": activations.attrs,
    }
    return store.write_arrays(path, {str(name): array.values for name, array in activations.items()}, metadata)


def load_activations(path: Path | str) -> xr.Dataset:
    """Read what save_activations wrote. Raises FileFormatError for another kind of file."""
    arrays, metadata = store.read_arrays(path)
    if metadata.get("kind") != "activations":
        raise FileFormatError(f"{path} holds {metadata.get('kind')!r}, not activations.")
    return label(arrays, pd.DataFrame(metadata["coords"]), metadata["layers"], metadata["about"])
