"""One-pass moments: what fits every mean-based recipe, in place of the vectors of 200,000 stories.

Kept are the number and mean of the stories of each cell (emotion × topic fold) at each layer, and, pooled over cells, the
scatter of stories about the mean of their cell, in two halves: the even and the odd folds. Parts merge in any order
(Chan, Golub, LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances, eq. 2.1).

Numerics. Means are float32 offsets from a common float64 centre, so that they carry 7 digits of what tells emotions apart
and not of the large offset that all stories share. The scatter is about cell means: total and between-cell scatter are
sums of it and of what the means give, while a within-cell scatter taken as a difference of the two would lose digits.
All arithmetic is float64; only what is kept is float32, so that a merge costs half a unit in the last place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from probes import store
from probes.conventions import check_about, check_activations
from probes.errors import ConventionError, DataError, FileFormatError, LayerError

SCHEMA = 1
HALVES = (0, 1)
FOLDS = 8
"""Folds that a study keeps apart: enough to see how much a direction hangs on its topics (probes.agreement)."""
ADDED_UP = "dropped_short"
"""The one attribute that parts of a whole may differ in: stories dropped as too short."""
FLOAT32, FLOAT64, INT64 = 4, 8, 8


def topic_folds(topics: Iterable[str], count: int = 2, seed: int = 0) -> dict[str, int]:
    """A fold, 0 … count − 1, for each topic: as even as can be, and the same for every shard that is given all topics.

    Raises DataError for fewer than two folds, fewer topics than folds, or a seed under 0.
    """
    names = sorted(set(topics))
    if not 2 <= count <= len(names) or seed < 0:
        raise DataError(
            f"{count} folds of {len(names)} topics, seed {seed}; need two folds or more, a topic for each and a seed from 0 on."
        )
    order = np.random.default_rng(seed).permutation(len(names))
    return {names[place]: i % count for i, place in enumerate(order)}


def check_folds(folds: Mapping[str, int], topics: Iterable[str]) -> None:
    """Raise DataError for a topic without a fold, or a fold that is no number from 0 on."""
    lacking = sorted(set(topics) - set(folds))
    if lacking or not folds or not all(type(fold) is int and fold >= 0 for fold in folds.values()):
        raise DataError(
            f"topics without a fold: {', '.join(lacking[:5]) or 'none'}; folds given: {sorted(set(folds.values()), key=str)}. "
            "Make them with topic_folds(all topics, count)."
        )


def moments_bytes(emotions: int, folds: int, layers: int, width: int, second_moment: bool = True) -> int:
    """Size of the arrays, in memory and in a file. It does not depend on the number of stories.

    171 emotions, 8 folds, 48 layers of 2048: 1.34 GB, of which the two triangles are 0.81; each fold more is 0.07.
    """
    means = emotions * folds * layers * width * FLOAT32 + layers * width * FLOAT64
    triangles = len(HALVES) * layers * triangle(width) * FLOAT32 if second_moment else 0
    return emotions * folds * INT64 + means + triangles


def triangle(width: int) -> int:
    """Numbers in a triangle with its diagonal."""
    return width * (width + 1) // 2


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over stories by emotion and topic fold. Made by capture_moments or moments_of; added by merge."""

    emotions: tuple[str, ...]
    """In alphabetical order."""
    layers: tuple[int, ...]
    """Block outputs, 0-based."""
    folds: Mapping[str, int]
    """Topic → fold. Half h holds the folds of parity h."""
    counts: np.ndarray
    """int64 (emotion, fold): stories."""
    centre: np.ndarray
    """float64 (layer, feature): a point amid the stories, that offsets are counted from."""
    offsets: np.ndarray
    """float32 (emotion, fold, layer, feature): mean of the cell − centre; 0 where there is no story."""
    scatter: Mapping[int, np.ndarray]
    """Half → float32 (layer, triangle): Σ (x − mean of its cell)(x − mean of its cell)ᵀ, the lower triangle row by row.
    Empty when only means were asked for."""
    about: dict[str, Any]
    """What activations say of themselves: model, checkpoint, convention, start token."""

    @property
    def stories(self) -> int:
        """Number of stories."""
        return int(self.counts.sum())

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        arrays = (self.counts, self.centre, self.offsets, *self.scatter.values())
        return sum(array.nbytes for array in arrays)

    def __repr__(self) -> str:
        shape = f"{len(self.emotions)} emotions × {self.counts.shape[1]} folds × {len(self.layers)} layers"
        second = "with" if self.scatter else "without"
        source = f"{self.about['model']}/{self.about['checkpoint']}"
        return f"Moments(of {self.stories:,} stories on {source}: {shape}, {second} second moment)"

    def _repr_html_(self) -> str:
        from probes.cards import moments_card

        return moments_card(self)

    # ---- first moment ------------------------------------------------------------------------------------------------

    def emotion_means(self) -> xr.Dataset:
        """`mean` float64 (emotion, layer, feature) and `stories` (emotion), of the emotions that have stories."""
        there = self.counts.sum(axis=1) > 0
        counts = self.counts[there]
        share = counts / counts.sum(axis=1, keepdims=True)
        means = np.einsum("ek,eklf->elf", share, self.offsets[there]) + self.centre
        names = np.array(self.emotions)[there]
        variables = {"mean": (("emotion", "layer", "feature"), means), "stories": ("emotion", counts.sum(axis=1))}
        return xr.Dataset(variables, {"emotion": names, "layer": list(self.layers)}, attrs=self.about)

    def without(self, *folds: int) -> "Moments":
        """All but the stories of some folds, to fit on what is left; the attribute `left_out_folds` says which.

        A half that loses some of its folds and keeps others loses its scatter: that one is pooled over the half.
        Raises DataError for a fold that there is not.
        """
        there = range(self.counts.shape[1])
        if not set(folds) <= set(there):
            raise DataError(f"there are no folds {sorted(set(folds) - set(there))}; folds are {list(there)}.")
        counts, offsets = self.counts.copy(), self.offsets.copy()
        counts[:, folds], offsets[:, folds] = 0, 0
        touched = {fold % 2 for fold in folds if self.counts[:, fold].any()}
        scatter = {half: values for half, values in self.scatter.items() if half not in touched}
        left_out = sorted({*self.about.get("left_out_folds", ()), *folds})
        about = {**self.about, "left_out_folds": left_out}
        return replace(self, counts=counts, offsets=offsets, scatter=scatter, about=about)

    def only(self, emotions: Sequence[str]) -> "Moments":
        """The stories of some emotions, to fit on them alone; the scatter, pooled over all, is lost where any is left out.

        Raises DataError for an emotion without a story here.
        """
        lacking = [name for name in emotions if name not in self.emotions]
        if lacking:
            raise DataError(f"no story of {', '.join(lacking)}; there are stories of {', '.join(self.emotions)}.")
        left = [name for name in self.emotions if name in emotions]
        if left == list(self.emotions):
            return self
        of = [self.emotions.index(name) for name in left]
        return replace(self, emotions=tuple(left), counts=self.counts[of], offsets=self.offsets[of], scatter={})

    def half(self, half: int) -> "Moments":
        """The stories of one half of the folds, to fit on what the other half is not. Raises DataError for no such half."""
        if half not in HALVES:
            raise DataError(f"there is no half {half}; halves are {list(HALVES)}: the even folds and the odd ones.")
        return self.without(*range(1 - half, self.counts.shape[1], 2))

    def at(self, layers: Sequence[int]) -> "Moments":
        """The same of some layers. Raises LayerError for one that is not there."""
        lacking = [layer for layer in layers if layer not in self.layers]
        if lacking:
            raise LayerError(f"no moments at layers {lacking}; there are layers {list(self.layers)}.")
        of = [self.layers.index(layer) for layer in layers]
        scatter = {half: values[of] for half, values in self.scatter.items()}
        return replace(
            self, layers=tuple(layers), centre=self.centre[of], offsets=self.offsets[:, :, of], scatter=scatter
        )

    # ---- second moment -----------------------------------------------------------------------------------------------

    def within_covariance(self, layer: int, halves: Sequence[int] | None = None) -> np.ndarray:
        """Covariance of stories about the mean of their cell, unbiased: float64 (feature, feature).

        Args:
            halves: which halves to take; default all that are there.

        Raises LayerError; DataError when a half was not kept or has no two stories in a cell.
        """
        total, counts, _ = self._scatter(layer, halves)
        return total / _positive(counts.sum() - len(counts))

    def covariance(self, layer: int, halves: Sequence[int] | None = None) -> np.ndarray:
        """Covariance of stories about the mean of them all, unbiased: float64 (feature, feature). Raises as within_covariance."""
        total, counts, means = self._scatter(layer, halves)
        means = means - np.average(means, axis=0, weights=counts)
        return (total + means.T @ (counts[:, None] * means)) / _positive(counts.sum() - 1)

    def emotion_covariance(self, layer: int, halves: Sequence[int] | None = None) -> tuple[np.ndarray, int]:
        """Covariance of stories about the mean of their emotion, unbiased, and its degrees of freedom.

        What folds of an emotion differ in is in it, unlike in within_covariance. Raises as that does.
        """
        total, counts, means = self._scatter(layer, halves)
        emotion = np.nonzero(self._cells(halves))[0]
        for code in np.unique(emotion):
            own, weights = means[emotion == code], counts[emotion == code]
            apart = own - np.average(own, axis=0, weights=weights)
            total += apart.T @ (weights[:, None] * apart)
        degrees = _positive(counts.sum() - len(np.unique(emotion)))
        return total / degrees, degrees

    def scattered_counts(self, halves: Sequence[int] | None = None) -> np.ndarray:
        """Stories that the second moment holds, of each emotion that has stories."""
        return np.where(self._cells(halves), self.counts, 0).sum(axis=1)[self.counts.sum(axis=1) > 0]

    def _cells(self, halves: Sequence[int] | None) -> np.ndarray:
        """Which cells (emotion, fold) of some halves have stories."""
        chosen = sorted(self.scatter) if halves is None else sorted(set(halves))
        return (self.counts > 0) & np.isin(np.arange(self.counts.shape[1]) % 2, chosen)

    def _scatter(self, layer: int, halves: Sequence[int] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scatter (feature, feature), counts (cell) and means from the centre on (cell, feature) of the cells with stories."""
        if layer not in self.layers:
            raise LayerError(f"no moments at layer {layer}; there are layers {list(self.layers)}.")
        chosen = sorted(self.scatter) if halves is None else sorted(set(halves))
        if not chosen or not set(chosen) <= set(self.scatter):
            raise DataError(
                f"the second moment of half {chosen or list(HALVES)} was not kept, or left with a fold; kept: "
                f"{sorted(self.scatter)}. Capture with second_moment=True."
            )
        at = self.layers.index(layer)
        cells = self._cells(halves)
        total = sum(np.float64(self.scatter[half][at]) for half in chosen)
        means = self.offsets[:, :, at][cells].astype(np.float64)
        return unpacked(np.asarray(total), self.centre.shape[1]), self.counts[cells], means

    # ---- files -------------------------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> Path:
        """Write everything as one safetensors file."""
        arrays = {"counts": self.counts, "centre": self.centre, "offsets": self.offsets}
        arrays |= {f"scatter_{half}": values for half, values in self.scatter.items()}
        card = {
            "kind": "moments", "schema": SCHEMA, "emotions": self.emotions, "layers": self.layers, "folds": dict(self.folds),
            "halves": sorted(self.scatter), "about": self.about,
        }  # fmt: skip
        return store.write_arrays(path, arrays, card)


def load_moments(path: Path | str) -> Moments:
    """Read what Moments.save wrote. Raises FileFormatError for another kind of file, or one that does not fit its card."""
    arrays, card = store.read_arrays(path)
    if (card.get("kind"), card.get("schema")) != ("moments", SCHEMA):
        raise FileFormatError(
            f"{path} holds {card.get('kind')!r}, schema {card.get('schema')!r}; moments of schema {SCHEMA} are needed."
        )
    try:
        check_about(card["about"])
        _check_shapes(arrays, card)
        scatter = {half: arrays[f"scatter_{half}"] for half in card["halves"]}
        emotions, layers = tuple(card["emotions"]), tuple(card["layers"])
        first = (arrays["counts"], arrays["centre"], arrays["offsets"])
        return Moments(emotions, layers, card["folds"], *first, scatter, card["about"])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} does not fit its own card: {str(error).rstrip('.')}. Capture again.") from error


def _check_shapes(arrays: dict[str, np.ndarray], card: dict[str, Any]) -> None:
    emotions, layers, width = len(card["emotions"]), len(card["layers"]), arrays["centre"].shape[-1]
    folds = 1 + max(card["folds"].values())
    expected = {
        "counts": ("int64", (emotions, folds)), "centre": ("float64", (layers, width)),
        "offsets": ("float32", (emotions, folds, layers, width)),
    }  # fmt: skip
    expected |= {f"scatter_{half}": ("float32", (layers, triangle(width))) for half in card["halves"]}
    found = {name: (str(array.dtype), array.shape) for name, array in arrays.items()}
    if found != expected:
        raise ValueError(f"arrays {found}, card {expected}")
    unsound = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if unsound or arrays["counts"].min(initial=0) < 0 or len(set(card["layers"])) < layers:
        raise ValueError(
            f"not finite: {unsound or 'none'}, least count {arrays['counts'].min()}, layers {card['layers']}"
        )


# ---- making and adding up --------------------------------------------------------------------------------------------


def empty_moments(
    layers: Sequence[int], width: int, folds: Mapping[str, int], about: dict[str, Any], second_moment: bool = True
) -> Moments:
    """Moments of no story, which merging changes nothing; but of one model and convention, as all moments are."""
    check_folds(folds, ())
    count = 1 + max(folds.values())
    scatter = {half: np.zeros((len(layers), triangle(width)), np.float32) for half in HALVES if second_moment}
    counts, offsets = np.zeros((0, count), np.int64), np.zeros((0, count, len(layers), width), np.float32)
    return Moments((), tuple(layers), dict(folds), counts, np.zeros((len(layers), width)), offsets, scatter, about)


def moments_of(activations: xr.Dataset, folds: Mapping[str, int], second_moment: bool = True) -> Moments:
    """Moments of vectors that are already there: `mean` (sample, layer, feature) with emotion and topic.

    Raises what check_activations raises; DataError for values not finite, or a topic without a fold.
    """
    check_activations(activations, "emotion", "topic")
    values, topics = activations["mean"].values, activations["topic"].values
    check_folds(folds, topics.tolist())
    if not np.isfinite(values).all():
        raise DataError("these activations have values that are not finite; drop those samples.")
    emotions, codes = np.unique(activations["emotion"].values, return_inverse=True)
    count = 1 + max(folds.values())
    cells = codes * count + np.array([folds[topic] for topic in topics], int)
    centre = values.mean(axis=0, dtype=np.float64)
    counts = np.bincount(cells, minlength=len(emotions) * count)
    means = np.zeros((len(counts), *centre.shape))
    for cell in np.flatnonzero(counts):
        means[cell] = values[cells == cell].mean(axis=0, dtype=np.float64) - centre

    def scatter_of(half: int, layer: int) -> np.ndarray:
        chosen = cells % count % 2 == half
        rows = values[chosen, layer] - centre[layer] - means[cells[chosen], layer]
        return rows.T @ rows

    layers = activations["layer"].values.tolist()
    halves = HALVES if second_moment else ()
    scatter = {half: pack(scatter_of(half, i) for i in range(len(layers))) for half in halves}
    shape = (len(emotions), count)
    offsets = means.astype(np.float32).reshape(*shape, *centre.shape)
    return Moments(
        tuple(emotions.tolist()), tuple(layers), dict(folds), counts.reshape(shape), centre, offsets, scatter,
        dict(activations.attrs),
    )  # fmt: skip


def merge(*parts: Moments) -> Moments:
    """Moments of all the stories of some parts, which share no story. Order and grouping change rounding only.

    Raises DataError for no part; ConventionError when parts differ in model, checkpoint, layers, start token or any other
    attribute, in what is kept, or in the fold of a topic.
    """
    if not parts:
        raise DataError("nothing to merge: no moments were given.")
    return reduce(_merge_two, parts)


def _merge_two(a: Moments, b: Moments) -> Moments:
    _check_alike(a, b)
    emotions = tuple(sorted({*a.emotions, *b.emotions}))
    counts = [_onto(part, part.counts, emotions) for part in (a, b)]
    total = counts[0] + counts[1]
    stories = max(a.stories + b.stories, 1)
    # Weights are exactly 0 and 1 when one of the two is empty, which makes it an identity to the last bit.
    centre = (a.stories / stories) * a.centre + (b.stories / stories) * b.centre
    offsets = np.zeros((*total.shape, *centre.shape), np.float32)
    scatter = {half: np.empty_like(values) for half, values in a.scatter.items()}
    weights = [count / np.maximum(total, 1) for count in counts]
    for at in range(len(a.layers)):  # layer by layer: the float64 in between stays small
        moved = [_onto(part, part.offsets[:, :, at], emotions) + (part.centre[at] - centre[at]) for part in (a, b)]
        offsets[:, :, at] = sum(weight[..., None] * means for weight, means in zip(weights, moved, strict=True))
        for half, values in scatter.items():
            apart = _between(moved[1] - moved[0], counts[0] * weights[1], half)
            values[at] = a.scatter[half][at].astype(np.float64) + b.scatter[half][at] + apart
    return Moments(emotions, a.layers, {**a.folds, **b.folds}, total, centre, offsets, scatter, _about_both(a, b))


def _between(apart: np.ndarray, weight: np.ndarray, half: int) -> np.ndarray:
    """Chan's term Σ n_a n_b / (n_a + n_b) · δδᵀ over the cells of a half; δ: (emotion, fold, feature). A packed triangle."""
    rows, weight = apart[:, half::2], weight[:, half::2]
    shared = weight > 0  # cells that only one part has need no correction
    rows, weight = rows[shared], weight[shared]
    return packed(rows.T @ (weight[:, None] * rows))


def _onto(part: Moments, values: np.ndarray, emotions: Sequence[str]) -> np.ndarray:
    """Values (emotion, …) of a part at the places of more emotions, 0 elsewhere."""
    spread = np.zeros((len(emotions), *values.shape[1:]), values.dtype)
    spread[[emotions.index(name) for name in part.emotions]] = values
    return spread


def _check_alike(a: Moments, b: Moments) -> None:
    facts = [
        {
            **{key: value for key, value in part.about.items() if key != ADDED_UP},
            "layers": part.layers, "width": part.centre.shape[1], "number of folds": part.counts.shape[1],
            "halves with a second moment": sorted(part.scatter),
        }
        for part in (a, b)
    ]  # fmt: skip
    for key in {**facts[0], **facts[1]}:
        ours, theirs = facts[0].get(key), facts[1].get(key)
        if ours != theirs:
            raise ConventionError(f"cannot merge moments that differ in {key}: {ours!r} and {theirs!r}.")
    moved = sorted(topic for topic in set(a.folds) & set(b.folds) if a.folds[topic] != b.folds[topic])
    if moved:
        raise ConventionError(
            f"cannot merge moments that put topics in different folds: {', '.join(moved[:5])}. Give every part the same folds."
        )


def _about_both(a: Moments, b: Moments) -> dict[str, Any]:
    if ADDED_UP not in {*a.about, *b.about}:
        return a.about
    return {**a.about, ADDED_UP: a.about.get(ADDED_UP, 0) + b.about.get(ADDED_UP, 0)}


# ---- triangles -------------------------------------------------------------------------------------------------------


def packed(square: np.ndarray) -> np.ndarray:
    """The lower triangle of a symmetric matrix, row by row."""
    return square[np.tri(len(square), dtype=bool)]


def pack(squares: Iterable[np.ndarray]) -> np.ndarray:
    """Triangles of one matrix a layer, made one after the other: float32 (layer, triangle)."""
    return np.stack([packed(square).astype(np.float32) for square in squares])


def unpacked(values: np.ndarray, width: int) -> np.ndarray:
    """The symmetric matrix of a triangle."""
    square, lower = np.empty((width, width), values.dtype), np.tri(width, dtype=bool)
    square[lower] = values
    square.T[lower] = values
    return square


def _positive(degrees: int) -> int:
    if degrees < 1:
        raise DataError("too few stories for a covariance; need two in a cell.")
    return int(degrees)
