"""Directions that have nothing to do with emotion, read on the same stories: what probes must exceed.

    random_reads(bank, …)      isotropic directions, and such as stories scatter along
    shuffled_reads(bank, …)    probes by the same recipe of stories whose emotions were dealt out anew
    placebo_reads(bank, …)     probes by the same recipe of topic, person, tense and length

Each gives UNSEEN_COLUMNS (probes.unseen): `auc` is the mean over directions of how often the direction ranks a story of the
emotion above another one of the same topic, and low and high hold the middle 95 % of directions: a spread, not an error.
"""

import re

import numpy as np
import pandas as pd
import xarray as xr

from probes.directions import CENTRED_DOT, EmotionProbes
from probes.unseen import ALL, UNSEEN_COLUMNS, Bank, aucs_of, labelled, neutral_of, own_stories, share_of_right, wilson

MATCHED = "covariance_matched"
"""Directions that stories scatter along."""
LEAST_OF_A_KIND = 10
"""Stories that each side of a placebo needs."""
PLACEBO_COLUMNS = ("placebo", "layer", "accuracy", "low", "high", "chance", "n", "kinds", "note")
_FIRST = re.compile(r"\b(?:I|[Mm]e|[Mm]y|[Mm]ine|[Mm]yself)\b")
_QUOTED = re.compile(r"[\"“][^\"”]*[\"”]")
_PAST, _PRESENT = re.compile(r"\b(?:was|were|had|did)\b", re.I), re.compile(r"\b(?:is|are|has|have|does|do)\b", re.I)


# ---- random directions -----------------------------------------------------------------------------------------------


def random_reads(bank: Bank, n_random: int = 1000, seed: int = 0) -> pd.DataFrame:
    """UNSEEN_COLUMNS of `n_random` directions of each kind at every layer.

    isotropic: uniform on the sphere. covariance_matched: normal with the covariance of the stories of the even folds, so that
    they lie where stories differ at all, and some of that is emotion: the harder bar. No recipe is applied to either.
    Raises DataError where that covariance was not kept.
    """
    rng, held_out = np.random.default_rng(seed), bank.held_out
    emotions, blocks = bank.moments.emotions, []
    for layer in held_out["layer"].values.tolist():
        stories = held_out["mean"].sel(layer=layer).values.astype(np.float64)
        stories -= stories.mean(axis=0)
        noise = rng.standard_normal((stories.shape[1], n_random))
        kinds = {"isotropic": noise, MATCHED: square_root(bank.moments.covariance(layer, [0])) @ noise}
        blocks += [_spread(_aucs(bank, stories @ d), emotions).assign(layer=layer, reader=k) for k, d in kinds.items()]
    return labelled(pd.concat(blocks, ignore_index=True), held_out, UNSEEN_COLUMNS)


def square_root(covariance: np.ndarray) -> np.ndarray:
    """A matrix whose product with its own transpose is the covariance, which may lack rank: few stories, many features.

    From eigenvalues: of a covariance without full rank some are negative by rounding, which a Cholesky factor does not survive.
    """
    variances, axes = np.linalg.eigh(covariance)
    return axes * np.sqrt(np.maximum(variances, 0))


def _aucs(bank: Bank, scores: np.ndarray) -> np.ndarray:
    own = own_stories(bank.moments.emotions, bank.held_out["emotion"].values)
    return aucs_of(scores, own, bank.held_out["topic"].values)


def _spread(aucs: np.ndarray, emotions: tuple[str, ...]) -> pd.DataFrame:
    """Mean and middle 95 % over directions of aucs (emotion, direction); one row more for all emotions."""
    low, high = np.quantile(aucs, [0.025, 0.975], axis=1)
    every_low, every_high = np.quantile(aucs, [0.025, 0.975])
    return pd.DataFrame({
        "emotion": [*emotions, ALL], "auc": [*aucs.mean(axis=1), aucs.mean()], "low": [*low, every_low],
        "high": [*high, every_high], "n": aucs.shape[1],
    })  # fmt: skip


# ---- the same recipe on other labels ---------------------------------------------------------------------------------


def shuffled_reads(bank: Bank, recipe: str = "sofroniew", draws: int = 20, seed: int = 0) -> pd.DataFrame:
    """Probes of half of the held-out stories, their emotions dealt out anew, read on the other half.

    Everything but the labels is as it was, so that AUC is .5 and accuracy is chance unless something leaks. They are dealt
    out over all topics: within each one, topics that have more stories of an emotion would give it back more of its own. The
    spread is over draws and emotions. Accuracy is the mean over draws, with the middle 95 % of draws.
    """
    fitted, read = halves_of(bank.held_out, seed)
    rng, neutral = np.random.default_rng(seed), neutral_of(bank, 0)
    drawn = [_draw(fitted, read, neutral, recipe, rng) for _ in range(draws)]
    rows = [_of_draws([draw[at] for draw in drawn]) for at in range(read.sizes["layer"])]
    table = pd.DataFrame(rows).assign(layer=read["layer"].values, reader="shuffled_labels", emotion=ALL)
    return labelled(table, bank.held_out, UNSEEN_COLUMNS)


def _draw(
    fitted: xr.Dataset, read: xr.Dataset, neutral: xr.Dataset, recipe: str, rng: np.random.Generator
) -> list[tuple[np.ndarray, float]]:
    """Of each layer, AUC by emotion and accuracy, of probes of emotions dealt out anew."""
    dealt = rng.permutation(fitted["emotion"].values)
    probes = EmotionProbes(recipe).fit(fitted.assign_coords(emotion=("sample", dealt)), neutral)
    scores, own = probes.transform(read, CENTRED_DOT), own_stories(probes.emotions, read["emotion"].values)
    values, topics = [scores.sel(layer=layer).values for layer in probes.layers], read["topic"].values
    return [(np.diagonal(aucs_of(some, own, topics)), share_of_right(some, own)) for some in values]


def halves_of(stories: xr.Dataset, seed: int) -> tuple[xr.Dataset, xr.Dataset]:
    """Every other story of each emotion, in an order that hangs on the seed alone."""
    order = np.random.default_rng(seed).permutation(stories.sizes["sample"])
    order = order[np.argsort(stories["emotion"].values[order], kind="stable")]
    return stories.isel(sample=np.sort(order[::2])), stories.isel(sample=np.sort(order[1::2]))


def _of_draws(drawn: list[tuple[np.ndarray, float]]) -> dict[str, float]:
    """One layer of every draw."""
    aucs, accuracies = (np.array(values) for values in zip(*drawn, strict=True))
    (low, high), (least, most) = (np.nanquantile(values, [0.025, 0.975]) for values in (aucs, accuracies))
    return {
        "auc": float(np.nanmean(aucs)), "low": low, "high": high, "accuracy": accuracies.mean(), "accuracy_low": least,
        "accuracy_high": most, "chance": 1 / aucs.shape[1], "n": aucs.size,
    }  # fmt: skip


# ---- placebos --------------------------------------------------------------------------------------------------------


def placebo_labels(stories: xr.Dataset) -> dict[str, np.ndarray]:
    """Placebo → a label of each story that says nothing of its emotion.

    topic: its topic. person: whether it says I outside of speech. tense: whether is, has and does outnumber was, had and
    did. length: more words than the median, or fewer.
    """
    texts = [_QUOTED.sub(" ", text) for text in stories["text"].values.tolist()]
    words = np.array([len(text.split()) for text in stories["text"].values.tolist()])
    present = [len(_PRESENT.findall(text)) > len(_PAST.findall(text)) for text in texts]
    return {
        "topic": stories["topic"].values.astype(str),
        "person": np.where([bool(_FIRST.search(text)) for text in texts], "first", "third"),
        "tense": np.where(present, "present", "past"),
        "length": np.where(words > np.median(words), "long", "short"),
    }


def placebo_reads(bank: Bank, recipe: str = "sofroniew", seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Probes of placebos, fitted on half of the held-out stories and read on the other half.

    The first table (UNSEEN_COLUMNS) says how they rank emotions: each direction both ways, since a placebo has no sign. The
    second (PLACEBO_COLUMNS) how well they read their own label, with Wilson's interval: a placebo that reads nothing proves
    nothing. One without LEAST_OF_A_KIND stories on either side has no number and a note.
    """
    reads, own = [], []
    for placebo, labels in placebo_labels(bank.held_out).items():
        some = well_filled(labels)
        if len(some) < 2:
            own.append(_no_placebo(placebo, labels))
            continue
        stories = bank.held_out.isel(sample=np.isin(labels, some))
        told = stories.assign_coords(placebo=("sample", labels[np.isin(labels, some)]))
        read, judged = _placebo(bank, told, recipe, seed)
        reads.append(read.assign(reader=f"placebo_{placebo}"))
        own.append(judged.assign(placebo=placebo))
    table = pd.concat(own, ignore_index=True).reindex(columns=list(PLACEBO_COLUMNS))
    return labelled(pd.concat(reads, ignore_index=True), bank.held_out, UNSEEN_COLUMNS), table


def well_filled(labels: np.ndarray) -> np.ndarray:
    """Labels of LEAST_OF_A_KIND stories or more."""
    names, counts = np.unique(labels, return_counts=True)
    return names[counts >= LEAST_OF_A_KIND]


def _no_placebo(placebo: str, labels: np.ndarray) -> pd.DataFrame:
    kinds = ", ".join(f"{name} {count}" for name, count in zip(*np.unique(labels, return_counts=True), strict=True))
    note = f"not measurable: {kinds[:120]}; {LEAST_OF_A_KIND} stories of two kinds are needed"
    return pd.DataFrame([{"placebo": placebo, "n": len(labels), "note": note}])


def _placebo(bank: Bank, stories: xr.Dataset, recipe: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One placebo at every layer: how it ranks emotions, and how it reads itself."""
    fitted, read = halves_of(stories, seed)
    as_emotion = fitted.assign_coords(emotion=("sample", fitted["placebo"].values))
    probes = EmotionProbes(recipe).fit(as_emotion, neutral_of(bank, 0))
    scores, topics = probes.transform(read, CENTRED_DOT), read["topic"].values
    own, emotions = own_stories(bank.moments.emotions, read["emotion"].values), bank.moments.emotions
    itself = own_stories(probes.emotions, read["placebo"].values)
    reads, judged = [], []
    for layer in probes.layers:
        values = scores.sel(layer=layer).values
        aucs = aucs_of(values, own, topics)
        reads.append(_spread(np.concatenate([aucs, 1 - aucs], axis=1), emotions).assign(layer=layer))
        judged.append({"layer": layer, "accuracy": share_of_right(values, itself)})
    table = pd.DataFrame(judged).assign(
        chance=1 / len(probes.emotions), n=len(itself), kinds=len(probes.emotions), note=""
    )
    low, high = wilson(table["accuracy"].to_numpy(), table["n"].to_numpy())
    return pd.concat(reads, ignore_index=True), table.assign(low=low, high=high)
