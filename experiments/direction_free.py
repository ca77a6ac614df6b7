"""Is anything there that no emotion probe could see? And are the probes the refusal direction under another name?

    python experiments/direction_free.py --model tiny

Runs after capture_replies and needs no model. Writes figures/<model>/direction_free/: how well arms are told apart on one text by
a classifier that no direction is prescribed to, and how much of the difference the probes span; cosines of the probes with the
refusal direction; and refusal_out.csv, what is concluded with and without that direction in the probes.
"""

import pandas as pd
import xarray as xr

from probes import store
from probes.activations import load_activations
from probes.conclusions import conclusions, with_unmeasurable
from probes.direction_free import arm_differences, span_shares, told_apart
from probes.direction_free_figures import refusal_figure, told_figure, told_points
from probes.directions import EmotionProbes, load_probes
from probes.emotions import NEUTRAL
from probes.estimands import HALVES
from probes.figures import write_figure
from probes.provenance import provenance
from probes.refits import read_again
from probes.refusal_direction import cosine_table, refusal_direction, without
from settings import Settings, command

CONTRASTS = (("harmful", "affect"), ("harmful", "benign"), HALVES)


def points(settings: Settings, probes: EmotionProbes, streams: dict[str, xr.Dataset], plain) -> pd.DataFrame:
    """Every contrast in every checkpoint."""
    differences = [arm_differences(one, *contrast) for one in streams.values() for contrast in CONTRASTS]
    told = pd.concat([told_apart(one, probes, seed=settings.seed) for one in differences])
    return told_points(told, pd.concat([span_shares(one, probes, plain, seed=settings.seed) for one in differences]))


def main(settings: Settings) -> None:
    """The classifier, then refusal."""
    probes, folder = load_probes(settings.probes), settings.figure_folder("direction_free")
    replies, anchors = (
        {name: load_activations(settings.activations(f"{kind}_{name}")) for name in settings.with_original}
        for kind in ("replies", "anchors")
    )
    neutral = anchors["original"]["emotion"].values == NEUTRAL
    plain = anchors["original"]["mean"].sel(layer=list(settings.shown_layers)).values[neutral]
    direction = refusal_direction(load_activations(settings.activations("prompts_original")))
    about = provenance(settings, probes.about_, {"probes": settings.probes})
    told, cosines = points(settings, probes, replies, plain), cosine_table(probes, direction, plain)
    written = write_figure(folder, "told_apart", told, told_figure(told), about)
    written += write_figure(folder, "refusal", cosines, refusal_figure(cosines), about)
    fits = {probes.recipe_name: probes, f"{probes.recipe_name}, refusal out": without(probes, direction)}
    concluded = [
        conclusions(read_again(fit, replies, anchors), name, settings.seed, probes.stories)
        for name, fit in fits.items()
    ]
    table = with_unmeasurable(concluded)
    first, second = (table.loc[table["recipe"] == name, "verdict"].to_numpy() for name in fits)
    print(*written, store.write_table(folder / "refusal_out.csv", table), sep="\n")
    print(f"{(first == second).sum()} of {len(first)} conclusions are the same without the refusal direction")


if __name__ == "__main__":
    command(main, Settings, __doc__)
