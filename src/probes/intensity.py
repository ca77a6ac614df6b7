"""Do the probes rise and fall with a number that makes a case milder or graver? (templates of probes.stimuli)

    null = random_rhos(activations)                                        what random directions do
    intensity_points(probes, activations, templates)                       the curves
    intensity_table(probes, activations, templates, null, stories, twin)   Spearman's ρ of every curve
    intensity_hits(table, null)                                            how many foretold signs came true

After the numeric intensity test of Sofroniew et al. 2026. A curve of seven numbers is easily monotone: along random
directions |ρ| = 1 is common, because one thing alone changes in the text. So every ρ stands beside a thousand of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import rankdata

from probes.directions import CENTRED_DOT, EmotionProbes
from probes.errors import DataError
from probes.stimuli import Template, filled
from probes.stories import Stories
from probes.validation import ABOUT_COLUMNS, Read, read_as, words_for

_DOSE = (
    *ABOUT_COLUMNS,
    "span",
    "readout",
    "aggregation",
    "baseline",
    "layer",
    "template",
    "source",
    "emotion",
    "expected",
)
POINT_COLUMNS = (*_DOSE, "place", "number", "text", "value", "rho")
INTENSITY_COLUMNS = (
    *_DOSE, "rho", "hit", "p", "null_mean_abs_rho", "null_hits", "text_rho", "twin_rho", "n_values", "n_random",
)  # fmt: skip
HIT_COLUMNS = (
    *ABOUT_COLUMNS, "layer", "source", "hit_rate", "null_hit_rate", "null_low", "null_high", "p", "p_any_layer", "mean_abs_rho",
    "null_mean_abs_rho", "text_hit_rate", "twin_hit_rate", "n_signs", "n_random",
)  # fmt: skip


def random_rhos(activations: xr.Dataset, n_random: int = 1000, seed: int = 0) -> xr.DataArray:
    """Spearman's ρ of the number with the projection on random unit directions: (template, layer, direction).

    A short curve is often monotone along any direction, since one thing changes in the text; this says how often. The
    directions are the same in all templates of a layer.
    """
    rng = np.random.default_rng(seed)
    blocks = []
    for layer in activations["layer"].values:
        directions = rng.standard_normal((activations.sizes["feature"], n_random))
        directions /= np.linalg.norm(directions, axis=0)
        blocks.append([_rhos(_doses(part["mean"].sel(layer=layer)) @ directions) for part in _by_template(activations)])
    names = [str(part["template"].values[0]) for part in _by_template(activations)]
    coords = {"layer": activations["layer"].values, "template": names}
    return xr.DataArray(np.array(blocks), coords, ("layer", "template", "direction"))


def intensity_points(probes: EmotionProbes, activations: xr.Dataset, templates: Sequence[Template]) -> pd.DataFrame:
    """Every number's projection, counted from the mean of its template, with the curve's ρ: POINT_COLUMNS.

    Raises DataError where a template was not captured with these values, and what EmotionProbes.transform raises.
    """
    known = {template.template: template for template in templates}
    parts = _by_template(activations)
    if [(part["template"].values[0], tuple(part["number"].values)) for part in parts] != [
        (template.template, template.values) for template in templates
    ]:
        raise DataError("these activations are of other templates, or of other values, than those given.")
    rows = [_template_points(probes, part, known[str(part["template"].values[0])]) for part in parts]
    named = {**read_as(probes, activations), "baseline": "template"}
    return pd.concat(rows, ignore_index=True).assign(**named)[list(POINT_COLUMNS)]


def intensity_table(
    probes: EmotionProbes, activations: xr.Dataset, templates: Sequence[Template], null: xr.DataArray,
    stories: Stories, twin: Read,
) -> pd.DataFrame:  # fmt: skip
    """Spearman's ρ of the number with each probe: INTENSITY_COLUMNS, one row a template, layer and emotion.

    `expected` is 1, −1, or 0 where no sign is foretold; then `hit`, `p` and `null_hits` are NaN. Of the random directions
    (`null`, from random_rhos) come the mean |ρ|, the share with the expected sign, and p, the share that goes as far in
    the expected direction. ρ of a curve that does not move is NaN, and no hit. text_rho is that of the words' score.
    """
    keys = ["template", "layer", "emotion"]
    table = _curves(intensity_points(probes, activations, templates))
    others = _curves(intensity_points(*twin, templates)).rename(columns={"rho": "twin_rho"})
    table = table.merge(others[[*keys, "twin_rho"]], on=keys, how="left", validate="one_to_one")
    table = table.merge(
        _text_rhos(stories, templates, probes.emotions), on=keys[::2], how="left", validate="many_to_one"
    )
    curves = zip(table["template"], table["layer"], table["rho"], table["expected"], strict=True)
    against = pd.DataFrame([_against((name, layer), rho, sign, null) for name, layer, rho, sign in curves])
    return pd.concat([table, against], axis=1).assign(n_random=null.sizes["direction"])[list(INTENSITY_COLUMNS)]


def intensity_hits(table: pd.DataFrame, null: xr.DataArray) -> pd.DataFrame:
    """Share of foretold signs that came true: HIT_COLUMNS, one row a layer and source of the templates.

    The null gives each emotion a random direction, the same in all templates, and counts as we do: its mean, the middle
    95 % and p, the share that does as well. Signs of one emotion or template hang together; the null has that too.
    `p_any_layer` is the share that does as well at the best of all layers: of many layers one is always good. Directions
    are drawn anew at each layer, so it errs on the safe side. text_hit_rate is over the curves that the words move at all.
    """
    foretold = table[table["expected"] != 0]
    if foretold.empty:
        raise DataError("no sign is foretold for any of these emotions; nothing can come true.")
    blocks = []
    for _, same in foretold.groupby("source", sort=False):
        layers = [(rows, _null_rates(rows, null)) for _, rows in same.groupby("layer", sort=False)]
        best = np.max([rates for _, rates in layers], axis=0)
        blocks += [_hit_row(rows, rates, best) for rows, rates in layers]
    return pd.DataFrame(blocks)[list(HIT_COLUMNS)]


def _by_template(activations: xr.Dataset) -> list[xr.Dataset]:
    names = activations["template"].values
    return [activations.isel(sample=names == name) for name in dict.fromkeys(names.tolist())]


def _doses(values: xr.DataArray) -> np.ndarray:
    """One template's activations (sample, feature) about their mean, in float64; ρ is the same about any point."""
    return (values - values.mean("sample")).values.astype(np.float64)


def _rhos(curves: np.ndarray) -> np.ndarray:
    """Spearman's ρ of rising numbers with each column of (value, column); NaN for a column that does not move."""
    ranks = rankdata(curves, axis=0)
    ranks -= ranks.mean(axis=0)
    steps = np.arange(len(ranks)) - (len(ranks) - 1) / 2
    scale = np.sqrt((steps**2).sum() * (ranks**2).sum(axis=0))
    return np.divide(steps @ ranks, scale, out=np.full(ranks.shape[1], np.nan), where=scale > 0)


def _template_points(probes: EmotionProbes, part: xr.Dataset, template: Template) -> pd.DataFrame:
    values = probes.transform(part, CENTRED_DOT).values.astype(np.float64)
    values -= values.mean(axis=0)
    count, layers, emotions = values.shape
    rows = pd.DataFrame({
        "place": np.repeat(np.arange(count), layers * emotions),
        "number": np.repeat(part["number"].values, layers * emotions),
        "text": np.repeat(part["text"].values, layers * emotions),
        "layer": np.tile(np.repeat(part["layer"].values, emotions), count),
        "emotion": np.tile(probes.emotions, count * layers), "value": values.reshape(-1),
        "rho": np.tile(_rhos(values.reshape(count, -1)), count),
    })  # fmt: skip
    expected = rows["emotion"].map(dict(template.expected)).fillna(0).astype(int)
    return rows.assign(template=template.template, source=template.source, expected=expected)


def _curves(points: pd.DataFrame) -> pd.DataFrame:
    """One row a curve."""
    counts = points.groupby(["template", "layer", "emotion"], sort=False)["place"].transform("size")
    return points.assign(n_values=counts)[points["place"] == 0].reset_index(drop=True)


def _text_rhos(stories: Stories, templates: Sequence[Template], emotions: Sequence[str]) -> pd.DataFrame:
    """ρ of the number with the score that words learned from the stories give: template, emotion, text_rho.

    Only emotions with a foretold sign are asked for: 171 classes over 200,000 stories would take hours.
    """
    foretold = [emotion for emotion in emotions if any(emotion in template.expected for template in templates)]
    asked = foretold if len(foretold) > 1 else list(emotions)
    scores = words_for(stories, asked, [text for template in templates for text in filled(template)])
    ends = np.cumsum([len(template.values) for template in templates])[:-1]
    return pd.DataFrame([
        {"template": template.template, "emotion": emotion, "text_rho": rho}
        for template, part in zip(templates, np.split(scores, ends), strict=True)
        for emotion, rho in zip(asked, _rhos(part), strict=True)
    ])  # fmt: skip


def _against(key: tuple[str, int], rho: float, expected: int, null: xr.DataArray) -> dict[str, float]:
    """A curve against the random directions of its template and layer."""
    drawn = _drawn(null, key)
    spread = float(np.nanmean(np.abs(drawn))) if np.isfinite(drawn).any() else np.nan
    if expected == 0:
        return {"hit": np.nan, "p": np.nan, "null_hits": np.nan, "null_mean_abs_rho": spread}
    along, ours = expected * drawn, expected * rho
    p = np.nan if np.isnan(ours) else float(np.sum(along >= ours) + 1) / (len(drawn) + 1)
    return {"hit": float(ours > 0), "p": p, "null_hits": float(np.mean(along > 0)), "null_mean_abs_rho": spread}


def _drawn(null: xr.DataArray, key: tuple[str, int]) -> np.ndarray:
    return np.asarray(null.sel(template=key[0], layer=key[1]).values, float)


def _hit_row(rows: pd.DataFrame, drawn: np.ndarray, best: np.ndarray) -> dict[str, Any]:
    rate, (low, high) = float(rows["hit"].mean()), np.quantile(drawn, [0.025, 0.975])
    named = {name: rows[name].iloc[0] for name in (*ABOUT_COLUMNS, "layer", "source", "n_random")}
    return {
        **named, "n_signs": len(rows), "hit_rate": rate,
        "null_hit_rate": float(drawn.mean()), "null_low": low, "null_high": high,
        "p": _share_as_good(drawn, rate), "p_any_layer": _share_as_good(best, rate),
        "mean_abs_rho": rows["rho"].abs().mean(), "null_mean_abs_rho": rows["null_mean_abs_rho"].mean(),
        "text_hit_rate": _rate_of_moving(rows, "text_rho"), "twin_hit_rate": _rate_of_moving(rows, "twin_rho"),
    }  # fmt: skip


def _share_as_good(drawn: np.ndarray, rate: float) -> float:
    return float(np.sum(drawn >= rate - 1e-9) + 1) / (len(drawn) + 1)


def _rate_of_moving(rows: pd.DataFrame, column: str) -> float:
    """Hit rate over the curves that move; NaN where none does, which is no failure but no answer."""
    moving = rows[rows[column].notna()]
    return float((moving[column] * moving["expected"] > 0).mean()) if len(moving) else float("nan")


def _null_rates(rows: pd.DataFrame, null: xr.DataArray) -> np.ndarray:
    """Hit rate of each draw: emotion j of draw r takes direction r + j · step, so that no two share one."""
    emotions = list(dict.fromkeys(rows["emotion"]))
    step = max(1, null.sizes["direction"] // len(emotions))
    signs = zip(rows["template"], rows["layer"], rows["emotion"], rows["expected"], strict=True)
    hits = [
        expected * np.roll(_drawn(null, (template, layer)), -step * emotions.index(emotion)) > 0
        for template, layer, emotion, expected in signs
    ]
    return np.mean(hits, axis=0)
