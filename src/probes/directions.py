"""Linear emotion probes: one unit vector per emotion and layer, fitted on pooled residual streams of stories.

scikit-learn's contract without subclassing: the constructor stores, fit learns and returns self, learned names end in
an underscore, transform changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import binomtest

from probes import store
from probes.conventions import RED, check_about, check_activations, check_alike
from probes.errors import ConventionError, DataError, FileFormatError, LayerError, NotFittedError, UnknownNameError
from probes.moments import Moments
from probes.readings import COLUMNS, check_readings
from probes.recipes import NOTHING, RECIPES, Recipe, Vectors, find_recipe, vectors_of
from probes.text_baseline import text_accuracy

if TYPE_CHECKING:
    from probes.stories import Story

SCHEMA = 1
ARRAYS = {"directions": "float32", "origin": "float32", "lengths": "float32", "components": "int32"}
"""What a file of probes holds."""


class Readout(StrEnum):
    """What a reading is. Values of different readouts never stand on one axis."""

    COSINE = "cosine"
    DOT = "dot"
    CENTRED_DOT = "centred_dot"
    ANCHORED_DOT = "anchored_dot"
    """Made of dot products by probes.anchors."""


class Reading(NamedTuple):
    """A readout with its aggregation over tokens and its baseline: the three names that travel with every number."""

    readout: Readout
    aggregation: str
    baseline: str


MEAN_OF_TOKEN_COSINES = Reading(Readout.COSINE, "mean_of_token_cosines", "none")
COSINE_OF_MEAN = Reading(Readout.COSINE, "cosine_of_mean", "none")
DOT = Reading(Readout.DOT, "mean", "none")
CENTRED_DOT = Reading(Readout.CENTRED_DOT, "mean", "stories")
READINGS = (MEAN_OF_TOKEN_COSINES, COSINE_OF_MEAN, DOT, CENTRED_DOT)
"""MEAN_OF_TOKEN_COSINES is the paper's as we read it (it does not say how tokens are averaged)."""


class EmotionProbes:
    """Emotion vectors of every layer.

    A recipe (probes.recipes) says how they are made. `sofroniew` (Sofroniew et al. 2026, arXiv 2604.07729), in its steps:
      1. the residual stream of each story, averaged over its tokens from the start token on (done by capture);
      2. averaged over the stories of an emotion;
      3. minus the mean over emotions, each with equal weight;
      4. the top principal components of neutral dialogues, up to half of their variance, projected out.
    Deviations: components are those of per-text means, not of tokens (the paper does not say which; per-text gives few
    components); vectors are scaled to unit length, which no cosine notices and which makes a dot product a projection.

    Learned: directions_ (emotion, layer, feature) unit vectors; origin_ (layer, feature) mean over emotions;
    lengths_ (emotion, layer) before scaling; components_ (layer) neutral components projected out; about_ where all this
    comes from.
    """

    def __init__(self, recipe: str | Recipe = "sofroniew"):
        find_recipe(recipe)
        self.recipe = recipe

    def fit(self, activations: xr.Dataset | Moments, neutral: xr.Dataset | Moments | None = None) -> "EmotionProbes":
        """Learn directions from `mean` (sample, layer, feature) with the coordinate `emotion`, or from moments of it.

        Args:
            activations: stories as vectors, or as moments where there are too many: most recipes need no more.
            neutral: activations of neutral dialogues, needed by recipes that project their components out; moments of their
                tokens for those that take components of tokens.

        Raises what probes.recipes.vectors_of raises, and DataError for an emotion without a direction of its own.
        """
        recipe = find_recipe(self.recipe)
        made = vectors_of(recipe, activations, neutral)
        self._learn(made)
        self.about_ = {**made.about, "stories": made.stories, "recipe": asdict(recipe)}
        return self

    def _learn(self, made: Vectors) -> None:
        lengths = np.linalg.norm(made.vectors, axis=2, keepdims=True)
        levels = np.linalg.norm(made.means.transpose("layer", "emotion", "feature").values, axis=2, keepdims=True)
        # Only vectors in the units of activations can be held against their length.
        in_units = find_recipe(self.recipe).method == "means"
        if not (lengths > (NOTHING * levels if in_units else 0)).all():
            raise DataError(
                "an emotion has no direction of its own: its stories have the mean of all the others, or differ from it "
                "only as neutral dialogues differ among themselves."
            )
        layers = made.means["layer"].values
        coords = {"emotion": made.means["emotion"].values, "layer": layers}
        origin = made.means.mean("emotion").values
        directions = (made.vectors / lengths).swapaxes(0, 1)
        self.directions_ = xr.DataArray(directions, coords, ("emotion", "layer", "feature"))
        self.lengths_ = xr.DataArray(lengths[:, :, 0].T, coords, ("emotion", "layer"))
        self.origin_ = xr.DataArray(origin, {"layer": layers}, ("layer", "feature"))
        self.components_ = xr.DataArray(made.components, {"layer": layers}, ("layer",))

    @property
    def recipe_name(self) -> str:
        """What the recipe is called in captions."""
        return find_recipe(self.recipe).name

    @property
    def stories(self) -> int:
        """How many stories these probes were fitted on."""
        self._fitted()
        return sum(self.about_["stories"].values())

    @property
    def emotions(self) -> tuple[str, ...]:
        """Fitted emotions, in order."""
        return tuple(self._fitted()["emotion"].values.tolist())

    @property
    def layers(self) -> tuple[int, ...]:
        """Fitted layers: block outputs, 0-based."""
        return tuple(self._fitted()["layer"].values.tolist())

    def check_layers(self, layers: Iterable[int]) -> None:
        """Raises LayerError for layers without probes."""
        lacking = sorted(set(layers) - set(self.layers))
        if lacking:
            raise LayerError(f"no probes at layers {lacking}; fitted are {list(self.layers)}.")

    def __repr__(self) -> str:
        if not hasattr(self, "directions_"):
            return f"EmotionProbes(recipe={self.recipe_name!r}, not fitted)"
        source = f"{self.about_['model']}/{self.about_['checkpoint']}"
        return (
            f"EmotionProbes({self.recipe_name} on {source}: {len(self.emotions)} emotions × {len(self.layers)} layers)"
        )

    def _repr_html_(self) -> str:
        from probes.cards import probes_card

        return probes_card(self)

    def _fitted(self) -> xr.DataArray:
        if not hasattr(self, "directions_"):
            raise NotFittedError("these probes are not fitted: call fit(activations, neutral), or load_probes(path).")
        return self.directions_

    # ---- use ---------------------------------------------------------------------------------------------------------

    def transform(self, activations: xr.Dataset, reading: Reading = CENTRED_DOT) -> xr.DataArray:
        """Readings (sample, layer, emotion) of activations, at the layers that they have.

        Raises LayerError for layers without probes, ConventionError for another shape, tokenizer or layer convention.
        """
        directions = self._matching(activations)
        vectors = directions.transpose("layer", "feature", "emotion").values.astype(np.float32)
        pooled = self._pooled(activations, reading)
        values = np.matmul(pooled.swapaxes(0, 1), vectors).swapaxes(0, 1)
        coords = {**activations.coords, "emotion": directions["emotion"].values}
        return xr.DataArray(
            values, coords, ("sample", "layer", "emotion"), attrs={"probes": self.source(), **activations.attrs}
        )

    def _pooled(self, activations: xr.Dataset, reading: Reading) -> np.ndarray:
        """What a reading takes the dot product of: (sample, layer, feature)."""
        if reading == MEAN_OF_TOKEN_COSINES:
            if "unit_mean" not in activations:
                raise DataError(
                    "these activations have no unit_mean, which token cosines need; stories are captured without."
                )
            return activations["unit_mean"].values
        mean = activations["mean"].values
        if reading == COSINE_OF_MEAN:
            return mean / np.linalg.norm(mean, axis=2, keepdims=True)
        if reading == CENTRED_DOT:
            return mean - self.origin_.sel(layer=activations["layer"].values).values.astype(np.float32)
        if reading == DOT:
            return mean
        raise UnknownNameError("reading", reading, map(str, READINGS))

    def source(self) -> str:
        """Where the probes come from, for captions."""
        engine = self.about_["engine"]
        read_by = "" if engine == "transformers_hooks" else f", {engine}"
        return f"{self.about_['model']}/{self.about_['checkpoint']} ({self.recipe_name}{read_by})"

    def is_transfer(self, about: dict[str, Any]) -> bool:
        """Whether activations with these attributes come from another checkpoint or base than the probes."""
        return any(self.about_[key] != about[key] for key in ("base_sha", "checkpoint"))

    def read(self, activations: xr.Dataset, readings: Iterable[Reading] = READINGS) -> pd.DataFrame:
        """A table of readings (probes.readings) of replies: one row a sample, layer, emotion and readout.

        Probes of the original on its fine-tunes are what the comparison is about; the column `probes` says whose they are
        beside the checkpoint that was read.
        """
        tables = [_long(self.transform(activations, reading), reading, self.emotions) for reading in readings]
        if not tables:
            raise DataError("no reading was asked for; probes.READINGS has them all.")
        return check_readings(pd.concat(tables, ignore_index=True).assign(probes=self.source()))

    def score(self, test: xr.Dataset, train: "xr.Dataset | Sequence[Story]") -> pd.DataFrame:
        """Accuracy of the largest centred dot product on held-out stories, beside what the words alone give.

        Args:
            train: the stories that the probes were fitted on, as such or as activations, for the text-only baseline
                (TF-IDF and a linear SVM).

        One row a layer: accuracy with its 95 % Wilson interval, chance, text_baseline, n. Stories of one topic are not
        independent: the interval is about these stories.
        """
        readings = self.transform(check_activations(test, "emotion", "text"))
        if not np.isfinite(readings).all():
            raise DataError("stories to score have activations that are not finite; drop those samples.")
        unknown = sorted(set(test["emotion"].values) - set(self.emotions))
        if unknown:
            raise DataError(f"stories of emotions that these probes do not have: {', '.join(unknown)}.")
        hits = np.array(self.emotions)[readings.values.argmax(axis=2)] == test["emotion"].values[:, None]
        n, right = hits.shape[0], hits.sum(axis=0)
        intervals = [binomtest(int(k), n).proportion_ci(method="wilson") for k in right]
        words = text_accuracy(*_texts_of(train), *_texts_of(test))
        return pd.DataFrame({
            "layer": test["layer"].values, "accuracy": right / n, "low": [i.low for i in intervals],
            "high": [i.high for i in intervals], "chance": 1 / len(self.emotions), "text_baseline": words, "n": n,
        })  # fmt: skip

    def _matching(self, activations: xr.Dataset) -> xr.DataArray:
        directions, about = self._fitted(), check_activations(activations).attrs
        if activations.sizes["feature"] != directions.sizes["feature"]:
            raise ConventionError(
                f"probes of width {directions.sizes['feature']} ({self.source()}) on activations of width "
                f"{activations.sizes['feature']} ({about.get('model')}): these are different models."
            )
        alike = ("model_layers", "layer_convention", "tokenizer_sha", "evidence", "engine")
        check_alike(self.about_, about, alike, "probes and activations")
        self.check_layers(activations["layer"].values.tolist())
        return directions.sel(layer=activations["layer"].values)

    # ---- files -------------------------------------------------------------------------------------------------------

    def save(self, path: Path | str, despite_red: str = "") -> Path:
        """Write the probes and their card as one safetensors file.

        Args:
            despite_red: why probes are written although the doctor found red what read them; their card keeps it.

        Raises ConventionError for such probes without a reason; activations may have brought one (doctor.examined).
        """
        about = self._checked_about(despite_red)
        arrays = {
            "directions": self._fitted().values.astype(np.float32), "origin": self.origin_.values.astype(np.float32),
            "lengths": self.lengths_.values.astype(np.float32), "components": self.components_.values.astype(np.int32),
        }  # fmt: skip
        card = {
            "kind": "probes",
            "schema": SCHEMA,
            "recipe": self.recipe_name,
            "emotions": self.emotions,
            "layers": self.layers,
            "about": about,
        }
        return store.write_arrays(path, arrays, card)

    def _checked_about(self, despite_red: str) -> dict[str, Any]:
        self._fitted()
        found = str(self.about_.get("doctor", ""))
        if not found.startswith(RED):
            return self.about_
        reason = despite_red.strip() or self.about_.get("despite_red", "")
        if not reason:
            raise ConventionError(
                f"these probes were read by {self.about_['engine']}, where the doctor found {found}. Read them with another "
                "engine, or give save(path, despite_red=…) the reason why they hold all the same: their card keeps it."
            )
        return {**self.about_, "despite_red": reason}


def load_probes(path: Path | str) -> EmotionProbes:
    """Read what EmotionProbes.save wrote. Raises FileFormatError for another kind of file, or one that does not fit its card."""
    arrays, card = store.read_arrays(path)
    if (card.get("kind"), card.get("schema")) != ("probes", SCHEMA):
        raise FileFormatError(
            f"{path} holds {card.get('kind')!r}, schema {card.get('schema')!r}; probes of schema {SCHEMA} are needed."
        )
    lacking = set(ARRAYS) - set(arrays)
    lacking |= {"recipe", "emotions", "layers", "about"} - set(card)
    if lacking:
        raise FileFormatError(f"{path} lacks {', '.join(sorted(lacking))}; write the probes again.")
    try:
        return _from_file(arrays, card)
    except (LookupError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{path} does not fit its own card: {str(error).rstrip('.')}. Fit the probes again."
        ) from error


def _from_file(arrays: dict[str, np.ndarray], card: dict[str, Any]) -> EmotionProbes:
    check_about(card["about"])
    coords = {"emotion": card["emotions"], "layer": card["layers"]}
    repeated = [name for name, values in coords.items() if len(set(values)) < len(values)]
    kinds = {name: str(array.dtype) for name, array in arrays.items()}
    unsound = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if repeated or unsound or kinds != ARRAYS:
        raise ValueError(f"labels that occur twice: {repeated}, arrays {kinds}, not finite: {unsound}, needed {ARRAYS}")
    lengths = np.linalg.norm(arrays["directions"], axis=-1)
    if not np.allclose(lengths, 1, atol=1e-3):
        raise ValueError(f"directions are unit vectors, and some here have length {lengths.max():.4g}")
    recipe = Recipe(**card["about"]["recipe"])
    if card["recipe"] != recipe.name:
        raise ValueError(f"it is of the recipe {card['recipe']!r}, and the card says how {recipe.name!r} was made")
    probes = EmotionProbes(recipe.name if RECIPES.get(recipe.name) == recipe else recipe)
    probes.directions_ = xr.DataArray(arrays["directions"], coords, ("emotion", "layer", "feature"))
    probes.lengths_ = xr.DataArray(arrays["lengths"], coords, ("emotion", "layer"))
    probes.origin_ = xr.DataArray(arrays["origin"], {"layer": card["layers"]}, ("layer", "feature"))
    probes.components_ = xr.DataArray(arrays["components"], {"layer": card["layers"]}, ("layer",))
    probes.about_ = card["about"]
    return probes


def _texts_of(stories: "xr.Dataset | Sequence[Story]") -> tuple[list[str], list[str]]:
    """Texts and their emotions."""
    if isinstance(stories, xr.Dataset):
        check_activations(stories, "emotion", "text")
        return stories["text"].values.tolist(), stories["emotion"].values.tolist()
    return [story.text for story in stories], [story.emotion for story in stories]


def _long(values: xr.DataArray, reading: Reading, emotions: tuple[str, ...]) -> pd.DataFrame:
    """Readings (sample, layer, emotion) as rows."""
    samples, layers, count = values.shape
    kept = [name for name in COLUMNS if name in values.coords and values[name].dims == ("sample",)]
    table = pd.DataFrame({name: np.repeat(values[name].values, layers * count) for name in kept})
    return table.assign(
        model=values.attrs["model"], evidence=values.attrs["evidence"], value=values.values.reshape(-1),
        layer=np.tile(np.repeat(values["layer"].values, count), samples), emotion=np.tile(emotions, samples * layers),
        readout=str(reading.readout), aggregation=reading.aggregation, baseline=reading.baseline,
        layer_convention=values.attrs["layer_convention"],
    )  # fmt: skip
