"""What tells two arms apart on one text, along whatever direction; and how much of it lies where the emotion probes look.

    differences = arm_differences(replies, "harmful", "affect")      question × layer × feature
    told_apart(differences, probes)        a classifier asked about questions that it has not seen
    span_shares(differences, probes, plain)      share of the mean difference inside the span of the probes

A probe sees its own direction alone, so that a null may be a blind spot. A classifier made for just these two arms is not bound
to one: where it tells nothing either, there is nothing that a probe could have missed. The text is the same in both arms, and no
word of the answer can tell.

Method: least squares of 1 on a question's differences, without intercept and with a ridge: the regularised Fisher direction of
paired data. It ranks the arms of an unseen question rightly where the direction's product with its difference is above 0. The
null flips the sign of each question's difference, as the tests of the package do, and learns anew.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from probes.declaration import SAME_TEXT
from probes.directions import EmotionProbes
from probes.errors import DataError, UnknownNameError
from probes.estimands import HALVES
from probes.intervals import LEAST_QUESTIONS
from probes.unseen import wilson

FOLDS, FLIPS, SPANS = 10, 200, 200
RIDGE = 1.0
"""In units of the mean eigenvalue of the questions' differences: half of the weight of noise, whatever the width."""
NO_DIFFERENCE = "the mean difference cannot be told from none"
PARTS = ("whole", "emotion span", "rest")
"""What of the activations a classifier is given: all, their coordinates in the span of the emotions, or what that leaves."""
ABOUT = ("model", "checkpoint", "evidence", "layer_convention")
TOLD_COLUMNS = (
    *ABOUT, "probes", "arm", "reference", "layer", "part", "accuracy", "low", "high", "null_low", "null_high", "p", "n_questions",
)  # fmt: skip
SHARE_COLUMNS = (
    *ABOUT, "probes", "arm", "reference", "layer", "share", "low", "high", "null_low", "null_high", "length", "directions",
    "n_questions", "note",
)  # fmt: skip


def arm_differences(replies: xr.Dataset, arm: str, reference: str) -> xr.DataArray:
    """Mean activations of the same text in an arm − in the reference, by question: (question, layer, feature).

    Args:
        replies: `mean` of one checkpoint's replies (capture_replies). Of several second sentences the mean is taken first.
        arm, reference: two arms, or HALVES: the neutral sentences of even and of odd number.

    Raises UnknownNameError for an arm without such a text, DataError for fewer than LEAST_QUESTIONS questions with both.
    """
    kept = (replies["text_source"].values == SAME_TEXT) & (replies["missing"].values == "")
    rows = replies.isel(sample=kept)
    arms = _with_halves(rows) if arm in HALVES else rows["arm"].values
    for name in (arm, reference):
        if name not in arms:
            raise UnknownNameError("arm of the same text", name, sorted(set(arms.tolist())))
    first, second = (_by_question(rows.isel(sample=arms == name)) for name in (arm, reference))
    first, second = xr.align(first, second, join="inner")
    if first.sizes["question"] < LEAST_QUESTIONS:
        raise DataError(
            f"{first.sizes['question']} questions have the same text in {arm} and {reference}; {LEAST_QUESTIONS} are needed."
        )
    about = {name: replies.attrs[name] for name in ABOUT}
    return (first - second).assign_attrs(about, arm=arm, reference=reference)


def _with_halves(rows: xr.Dataset) -> np.ndarray:
    """Arms of the samples, neutral ones told by the number of their sentence."""
    halves = np.where(rows["control"].values % 2 == 0, *HALVES)
    return np.where(rows["arm"].values == "neutral", halves, rows["arm"].values)


def _by_question(rows: xr.Dataset) -> xr.DataArray:
    return rows["mean"].astype(np.float64).groupby(rows["question"].rename("question")).mean("sample")


# ---- a classifier ----------------------------------------------------------------------------------------------------


def told_apart(differences: xr.DataArray, probes: EmotionProbes, flips: int = FLIPS, seed: int = 0) -> pd.DataFrame:
    """Share of unseen questions whose arms are ranked rightly: TOLD_COLUMNS, one row a layer and part.

    low, high: Wilson's 95 % interval over questions; null_low, null_high: the middle 95 % of sign flips; p: the share of flips
    that reach the accuracy, the data among them. Deviation: questions in one fold share a classifier, so that the interval is
    about these questions and this way of learning; the null knows of it.
    """
    rng, rows = np.random.default_rng(seed), []
    folds = rng.permutation(np.arange(len(differences)) % FOLDS)
    signs = rng.choice([-1.0, 1.0], size=(flips, len(differences)))
    for layer in differences["layer"].values.tolist():
        vectors, basis = differences.sel(layer=layer).values, _basis(probes, layer)
        inside = vectors @ basis.T
        given = dict(zip(PARTS, (vectors, inside, vectors - inside @ basis), strict=True))
        rows += [{"layer": layer, "part": part, **_ranked(some, folds, signs)} for part, some in given.items()]
    return _labelled(rows, differences, probes)[list(TOLD_COLUMNS)]


def _basis(probes: EmotionProbes, layer: int) -> np.ndarray:
    """Orthonormal rows that span the directions of all emotions."""
    directions = probes.directions_.sel(layer=layer).values.astype(np.float64)
    _, sizes, rows = np.linalg.svd(directions, full_matrices=False)
    return rows[sizes > 1e-6 * sizes[0]]  # directions counted from their mean are one fewer than emotions


def _ranked(vectors: np.ndarray, folds: np.ndarray, signs: np.ndarray) -> dict[str, Any]:
    accuracy, *null = _accuracies(vectors @ vectors.T, folds, np.vstack([np.ones(len(vectors)), signs]))
    low, high = wilson(np.array([accuracy]), np.array([len(vectors)]))
    null_low, null_high = np.quantile(null, [0.025, 0.975])
    p = (1 + sum(value >= accuracy for value in null)) / (1 + len(null))
    return {"accuracy": accuracy, "low": float(low[0]), "high": float(high[0]), "null_low": float(null_low),
            "null_high": float(null_high), "p": p, "n_questions": len(vectors)}  # fmt: skip


def _accuracies(products: np.ndarray, folds: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """For each row of signs (flip, question) the share of questions on the right side, each judged without its fold.

    Products are of differences (question, question): the width of the activations does not matter here, and a flipped
    difference has flipped products, so that one factorisation a fold serves all flips.
    """
    right = np.zeros(signs.shape)
    for fold in np.unique(folds):
        seen, unseen = folds != fold, folds == fold
        inner = products[np.ix_(seen, seen)]
        ridge = RIDGE * np.trace(inner) / len(inner) + np.finfo(float).tiny
        weights = np.linalg.solve(inner + ridge * np.eye(len(inner)), signs[:, seen].T)
        scores = signs[:, unseen] * (products[np.ix_(unseen, seen)] @ weights).T
        right[:, unseen] = (scores > 0) + 0.5 * (scores == 0)
    return right.mean(axis=1)


# ---- the span of the emotions ----------------------------------------------------------------------------------------


def span_shares(
    differences: xr.DataArray, probes: EmotionProbes, plain: np.ndarray, spans: int = SPANS, seed: int = 0
) -> pd.DataFrame:
    """Share of the squared mean difference that lies in the span of all emotions: SHARE_COLUMNS, one row a layer.

    Args:
        plain: activations whose covariance random spans are drawn from (text, layer, feature), the layers of `differences`.

    Squares are estimated without the noise of few questions, as the mean product of two different questions' differences;
    low, high: 95 % t interval by jackknife over questions; null: middle 95 % of as many random directions of the same
    covariance. Where the difference cannot be told from none, there is no share and a note.
    """
    rng, rows = np.random.default_rng(seed), []
    for place, layer in enumerate(differences["layer"].values.tolist()):
        vectors, basis = differences.sel(layer=layer).values, _basis(probes, layer)
        some = plain[:, place].astype(np.float64)
        null = [_share(vectors, _random_span(some - some.mean(axis=0), len(basis), rng)) for _ in range(spans)]
        rows.append({"layer": layer, "directions": len(basis), **_share_row(vectors, basis, null)})
    return _labelled(rows, differences, probes)[list(SHARE_COLUMNS)]


def _share_row(vectors: np.ndarray, basis: np.ndarray, null: Sequence[float]) -> dict[str, Any]:
    """One layer's share with its interval and null; without a difference, why there is none."""
    whole, inside, n = _squares(vectors), _squares(vectors @ basis.T), len(vectors)
    length, lowest, _ = _jackknife(whole[0], whole[1:])
    row = {"length": np.sqrt(max(length, 0.0)), "n_questions": n}
    if lowest <= 0:
        return row | dict.fromkeys(("share", "low", "high", "null_low", "null_high"), np.nan) | {"note": NO_DIFFERENCE}
    share, low, high = _jackknife(inside[0] / whole[0], inside[1:] / whole[1:])
    null_low, null_high = np.quantile(null, [0.025, 0.975])
    return row | {"share": share, "low": low, "high": high, "null_low": null_low, "null_high": null_high, "note": ""}


def _share(vectors: np.ndarray, basis: np.ndarray) -> float:
    return float(_squares(vectors @ basis.T)[0] / _squares(vectors)[0])


def _squares(vectors: np.ndarray) -> np.ndarray:
    """Squared length of the mean without the noise of its estimate: of all rows, then of all but each one."""
    total, lengths, n = vectors.sum(axis=0), (vectors**2).sum(axis=1), len(vectors)
    without = (total**2).sum() - 2 * vectors @ total + 2 * lengths - lengths.sum()
    all_of = (total**2).sum() - lengths.sum()
    return np.concatenate([[all_of / (n * (n - 1))], without / ((n - 1) * (n - 2))])


def _jackknife(value: float, without: np.ndarray) -> tuple[float, float, float]:
    """A value with its 95 % t interval, from the values without each question (Efron and Stein 1981)."""
    from scipy.special import stdtrit

    n = len(without)
    error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    half = stdtrit(n - 1, 0.975) * error
    return float(value), float(value - half), float(value + half)


def _random_span(centred: np.ndarray, rank: int, rng: np.random.Generator) -> np.ndarray:
    """Orthonormal rows that span as many directions drawn with the covariance of these texts (text, feature)."""
    drawn = rng.standard_normal((rank, len(centred))) @ centred
    return np.linalg.qr(drawn.T)[0].T


def _labelled(rows: list[Mapping[str, Any]], differences: xr.DataArray, probes: EmotionProbes) -> pd.DataFrame:
    about = {name: differences.attrs[name] for name in (*ABOUT, "arm", "reference")}
    return pd.DataFrame(rows).assign(**about, probes=probes.source())
