"""What directions without an emotion read of the same texts: the band that a gap or a level shift of an emotion must leave.

    placebos = placebo_probes(bank, layers)                            probes by the same recipe of labels that are no emotion
    centres = text_centres(activations)                                one text in every arm, as read_replies keeps it
    bands = placebo_bands(placebos, centres_by_checkpoint, claims, gates, "benign")
    verdicts = within_placebos(verdicts, claims, bands, "affect")      which verdicts rest on no more than that

Fine-tuning moves every direction, and so does a second sentence. How far a reading of an emotion says more than that is seen
beside directions that are no emotion's. In which unit? A placebo has no open answer and so no gain: divided by its own it would be
any number. It is as long as the emotion's vector, namely 1, and is divided by the emotion's gain in the same checkpoint: what the
same texts read along it, in steps of an open answer. Kinds:

    covariance_matched    DRAWS directions by the recipe from stories that are drawn from a normal distribution with the real
                          ones' covariance: what it makes of labels that mean nothing, where stories differ and some of that is
                          emotion. low and high hold the middle 95 %. This is the band of the figure
    topic, person, …      probes by the recipe of the held-out stories' placebo_labels: too few directions for a share of them,
                          so that low and high are the least and the greatest

Deviations from MEASUREMENT: placebo probes of topic, tense and person stand in the table and are not the band that is drawn, since
they are a dozen directions (and none where stories are all in one tense). A level shift is divided by the gain of the checkpoint
alone, where that of an emotion has either checkpoint's own: what a changed gain does by itself is not in the band, and gates
bound it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from probes.activations import label, select_layers
from probes.declaration import SAME_TEXT
from probes.directions import DOT, EmotionProbes
from probes.errors import DataError
from probes.gates import NOT_MEASURABLE
from probes.null_directions import MATCHED, placebo_labels, square_root, well_filled
from probes.unseen import Bank
from probes.verdict import BY_GAP, BY_LEVEL, CELL, CLAIM

DRAWS = 1000
BAND_COLUMNS = (
    "model", *CLAIM, "seed", "evidence", "readout", "placebo", "low", "high", "n_directions", "n_questions",
)  # fmt: skip


# ---- directions ------------------------------------------------------------------------------------------------------


def placebo_probes(
    bank: Bank, layers: Sequence[int], recipe: str = "sofroniew", seed: int = 0
) -> dict[str, EmotionProbes]:
    """Kind → probes at some layers, by the recipe of the emotions' ones. A placebo whose stories are all alike has none.

    Raises DataError where the covariance of the stories was not kept, LayerError for layers that were not captured, and what
    EmotionProbes.fit raises.
    """
    neutral, held_out = (select_layers(some, layers) for some in (bank.neutral, bank.held_out))
    made = {MATCHED: EmotionProbes(recipe).fit(_drawn_stories(bank, layers, seed), neutral)}
    for kind, labels in placebo_labels(held_out).items():
        told = np.isin(labels, names := well_filled(labels))
        if len(names) > 1:
            stories = held_out.isel(sample=told).assign_coords(emotion=("sample", labels[told]))
            made[kind] = EmotionProbes(recipe).fit(stories, neutral)
    return made


def _drawn_stories(bank: Bank, layers: Sequence[int], seed: int) -> xr.Dataset:
    """Two stories a direction, which is the least that a recipe takes, of no more than the real ones' covariance."""
    rng, width = np.random.default_rng(seed), bank.neutral.sizes["feature"]
    roots = [square_root(bank.moments.covariance(layer)) for layer in layers]
    vectors = np.stack([rng.standard_normal((2 * DRAWS, width)) @ root.T for root in roots], axis=1)
    names = np.repeat([f"direction {number:04}" for number in range(DRAWS)], 2)
    labels = pd.DataFrame({"sample": [f"drawn {k}" for k in range(2 * DRAWS)], "emotion": names, "n_tokens": 1})
    return label({"mean": vectors.astype(np.float32)}, labels, layers, bank.moments.about)


# ---- texts -----------------------------------------------------------------------------------------------------------


def text_centres(activations: xr.Dataset) -> xr.Dataset:
    """Mean of the same text in every arm: `mean` (sample, layer, feature) with an arm as each sample, and `n_questions`.

    Second sentences of a question are averaged first and questions have equal weight, as in probes.comparison, so that what a
    direction reads of the difference of two arms is the mean of its paired differences. Raises DataError where no text is the
    same in all checkpoints, or where arms are not of the same questions.
    """
    same = (activations["text_source"].values == SAME_TEXT) & (activations["missing"].values == "")
    said = activations.isel(sample=same)
    arms, questions = said["arm"].values, said["question"].values
    asked = {arm: sorted(set(questions[arms == arm])) for arm in dict.fromkeys(arms.tolist())}
    if not asked or len(set(map(tuple, asked.values()))) > 1:
        told = ", ".join(f"{arm} {len(some)}" for arm, some in asked.items()) or "none"
        raise DataError(
            f"the same text needs the same questions in every arm, and has {told}. Force it with write_replies."
        )
    values = said["mean"].values.astype(np.float64)
    centres = [
        np.mean([values[(arms == arm) & (questions == question)].mean(axis=0) for question in some], axis=0)
        for arm, some in asked.items()
    ]
    labels = pd.DataFrame({"sample": list(asked), "n_questions": [len(some) for some in asked.values()]})
    return label({"mean": np.stack(centres).astype(np.float32)}, labels, said["layer"].values.tolist(), said.attrs)


# ---- bands -----------------------------------------------------------------------------------------------------------


def placebo_bands(
    placebos: Mapping[str, EmotionProbes],
    centres: Mapping[str, xr.Dataset],
    claims: pd.DataFrame,
    gates: pd.DataFrame,
    shift_arm: str,
) -> pd.DataFrame:
    """What placebos read in the place of the emotion of each claim on the same text, in its unit: BAND_COLUMNS.

    Args:
        centres: checkpoint → text_centres, of every checkpoint that is claimed about or shifted from.
        claims: of probes.claims.confirm; gates: with the gain of each checkpoint, layer and emotion.
        shift_arm: the arm in which level shifts are read.

    Raises what EmotionProbes.transform raises.
    """
    same = claims[(claims["text_source"] == SAME_TEXT) & (claims["outcome"] != NOT_MEASURABLE)]
    gains = gates.set_index(["checkpoint", "layer", "emotion"])["gain"]
    tables = [_of_kind(kind, probes, centres, same, gains, shift_arm) for kind, probes in placebos.items()]
    return pd.concat(tables, ignore_index=True)[list(BAND_COLUMNS)]


def _of_kind(
    kind: str, probes: EmotionProbes, centres: Mapping[str, xr.Dataset], same: pd.DataFrame, gains: pd.Series, shift_arm: str
) -> pd.DataFrame:  # fmt: skip
    reads = {
        name: probes.transform(centre, DOT).transpose("sample", "layer", "emotion") for name, centre in centres.items()
    }
    rows = []
    for claim in same.to_dict("records"):
        arm, reference = _ends(claim, shift_arm)
        moved = (reads[arm[0]].sel(sample=arm[1]) - reads[reference[0]].sel(sample=reference[1])).sel(
            layer=claim["layer"]
        )
        gain = gains[claim["checkpoint"], claim["layer"], claim["emotion"]]
        low, high = _band(kind, moved.values.astype(np.float64) / gain)
        rows.append({**claim, "low": low, "high": high, "n_directions": moved.size})
    return pd.DataFrame(rows).assign(placebo=kind)


def _ends(claim: Mapping, shift_arm: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """The two (checkpoint, arm) that a claim subtracts: arms of one checkpoint, or checkpoints in one arm."""
    if claim["arm"] == claim["checkpoint"]:
        return (claim["checkpoint"], shift_arm), (claim["reference"], shift_arm)
    return (claim["checkpoint"], claim["arm"]), (claim["checkpoint"], claim["reference"])


def _band(kind: str, values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975]) if kind == MATCHED else (values.min(), values.max())
    return float(low), float(high)


def within_placebos(verdicts: pd.DataFrame, claims: pd.DataFrame, bands: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The verdicts with the column `within_placebos`: whether what a word rests on is in the band of MATCHED directions.

    Args:
        reference: the arm of the gap that verdicts rest on.

    A word that rests on the level shift is, where any of its shifts is; one that rests on gap and level shift, where both are.
    The rule of verdicts does not look at it: what is sealed stays sealed.
    """
    names = {"low": "placebo_low", "high": "placebo_high"}
    drawn = bands[bands["placebo"] == MATCHED].rename(columns=names)[[*CLAIM, *names.values()]]
    read = claims.merge(drawn, on=CLAIM)
    shift = read["arm"] == read["checkpoint"]
    read = read[shift | (read["reference"] == reference)].assign(
        estimand=shift.map({True: BY_LEVEL, False: BY_GAP}), inside=read["mean"].between(read["placebo_low"], read["placebo_high"])
    )  # fmt: skip
    inside = read.groupby([*CELL, "estimand"])["inside"].any()
    rests = [
        [inside[*(cell[name] for name in CELL), one] for one in (BY_GAP, BY_LEVEL) if one in str(cell["by"])]
        for cell in verdicts.to_dict("records")
    ]
    return verdicts.assign(within_placebos=[bool(found) and all(found) for found in rests])
