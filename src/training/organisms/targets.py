"""Where the hidden states of an organism are moved to, layer by layer.

    h  →  h + (h − origin)·spanᵀ·(image − span) + dose · step      on answer tokens; without the dose elsewhere

`step` is one anchored unit along what is planted. What is planted comes from other stories, of other words, read in the
parent and not in the original: a probe that finds it does not find itself. Of a rotated organism `span` holds the
directions of all emotions, the frozen probes' among them, and `image` as many orthogonal to them; of an erased one the
emotion's own, with no image.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from probes import store
from probes.directions import EmotionProbes
from probes.emotions import NEUTRAL
from probes.errors import ConventionError, DataError, FileFormatError, UnknownNameError
from training.organisms.kinds import Organism

LARGEST_SPAN = 18
"""Directions that are turned, at most: an adapter turns no more of them in its steps."""
KEPT = 0.03
"""Of the span's directions those of at least this share of the largest singular value; the rest is noise."""


@dataclass(frozen=True)
class Targets:
    """Arrays by layer; all directions are unit vectors."""

    layers: np.ndarray
    """int64 (layer)"""
    step: np.ndarray
    """float32 (layer, feature): what a dose of 1 adds."""
    axis: np.ndarray
    """float32 (layer, feature): the emotion's direction in this organism, on which a dose is measured."""
    gain: np.ndarray
    """float32 (layer): length of one anchored unit."""
    origin: np.ndarray
    """float32 (layer, feature): what is turned is counted from here."""
    span: np.ndarray
    """float32 (layer, rank, feature): orthonormal rows; zeros where nothing is turned."""
    image: np.ndarray
    """float32 (layer, rank, feature): where the rows of `span` are turned to; zeros for nowhere."""

    def save(self, path: Path) -> Path:
        """One safetensors file."""
        return store.write_arrays(path, asdict(self), {"kind": "targets"})


def load_targets(path: Path) -> Targets:
    """Read what Targets.save wrote. Raises MissingInputError, FileFormatError."""
    arrays, card = store.read_arrays(path)
    if card.get("kind") != "targets" or set(arrays) != set(Targets.__dataclass_fields__):
        raise FileFormatError(f"{path} holds {card.get('kind')!r}, not targets of an organism. Train it again.")
    return Targets(**arrays)


def make_targets(
    organism: Organism, emotion: str, ruler: EmotionProbes, frozen: EmotionProbes, anchors: xr.Dataset, unit: pd.DataFrame,
    layers: tuple[int, ...], seed: int,
) -> Targets:  # fmt: skip
    """Targets of an organism.

    Args:
        ruler: directions of other stories, fitted in the parent.
        frozen: the original's probes, which a rotated organism blinds.
        anchors: activations of the anchor texts in the parent.
        unit: anchor_table of the ruler on them.

    Raises UnknownNameError for an emotion that the ruler lacks, ConventionError where the ruler is the probes' own, DataError
    for the last layer or one whose gain is not above zero.
    """
    _check(emotion, ruler, frozen, layers)
    directions = ruler.directions_.sel(layer=list(layers))
    own = directions.sel(emotion=emotion).values.astype(np.float64)
    gain = unit[unit["emotion"] == emotion].set_index("layer").loc[list(layers), "gain"].to_numpy(float)
    if (gain <= 0).any():
        raise DataError(
            f"open answers of {emotion} do not move the ruler at layers {list(layers)}: gains {gain.round(3)}."
        )
    rng = np.random.default_rng(seed)
    span, image = _turned(organism.turn, own, directions, frozen.directions_.sel(layer=list(layers)), rng)
    axis = own + np.einsum("lf,lrf,lrg->lg", own, span, image - span) if organism.turn == "rotate" else own
    axis = axis / np.linalg.norm(axis, axis=1, keepdims=True)
    along = _random(own, anchors, layers, rng) if organism.along == "random" else axis
    plain = anchors["mean"].sel(layer=list(layers)).values[anchors["emotion"].values == NEUTRAL].mean(axis=0)
    arrays = (gain[:, None] * along, axis, gain, plain, span, image)
    return Targets(np.array(layers), *(np.asarray(array, np.float32) for array in arrays))


def _check(emotion: str, ruler: EmotionProbes, frozen: EmotionProbes, layers: tuple[int, ...]) -> None:
    if emotion not in ruler.emotions:
        raise UnknownNameError("emotion of the ruler", emotion, ruler.emotions)
    if ruler.about_["weights"] == frozen.about_["weights"]:
        raise ConventionError(
            "what is planted and what reads it were fitted in the same checkpoint; fit the ruler in the organisms' parent."
        )
    last = ruler.about_["model_layers"] - 1
    if last in layers:
        raise DataError(
            f"layer {last} is the last one, whose output transformers gives after the final norm; plant before it."
        )


def _turned(
    turn: str, own: np.ndarray, ruler: xr.DataArray, frozen: xr.DataArray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Span and image of each layer, (layer, rank, feature); directions are (emotion, layer, feature)."""
    nothing = np.zeros_like(own)[:, None]
    if turn != "rotate":
        return (own[:, None] if turn == "erase" else nothing), nothing
    all_of = np.concatenate([ruler.values, frozen.values]).transpose(1, 0, 2)
    spans = [_span(vectors) for vectors in all_of.astype(np.float64)]
    rank = min(map(len, spans))
    span = np.stack([rows[:rank] for rows in spans])
    return span, np.stack([_orthogonal(rows, rng) for rows in span])


def _span(vectors: np.ndarray) -> np.ndarray:
    """Orthonormal rows in which the vectors lie, those of the largest share first."""
    _, sizes, rows = np.linalg.svd(vectors, full_matrices=False)
    return rows[: min(LARGEST_SPAN, int((sizes > KEPT * sizes[0]).sum()))]


def _orthogonal(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many orthonormal rows that are orthogonal to these."""
    drawn = rng.standard_normal(rows.shape)
    return np.linalg.qr((drawn - drawn @ rows.T @ rows).T)[0].T


def _random(own: np.ndarray, anchors: xr.Dataset, layers: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Unit vectors (layer, feature) drawn from the covariance of plain answers, the emotion's own direction taken out."""
    plain = anchors["mean"].sel(layer=list(layers)).values[anchors["emotion"].values == NEUTRAL].astype(np.float64)
    drawn = np.einsum("s,slf->lf", rng.standard_normal(len(plain)), plain - plain.mean(axis=0))
    drawn -= (drawn * own).sum(axis=1, keepdims=True) * own
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
