"""Put the fitted probes to texts that name no emotion: scenarios, answers to simple questions, and rising numbers.

    python experiments/validate_probes.py --model tiny --layers 5 6

Runs after fit_probes and capture_controls. Writes figures/<model>/validation/: heatmaps of scenarios and questions, the
probes' cosines and a sheet of intensity curves a layer; and scores.csv, intensity.csv and intensity_hits.csv at every
fitted layer, each beside what the words alone and a random-initialised twin give. Failures stand there like the rest.
"""

from typing import Any

import pandas as pd
import xarray as xr

from probes import store
from probes.activations import load_activations
from probes.directions import EmotionProbes, load_probes
from probes.figures import write_figure
from probes.heatmaps import at_layer, cosine_heatmap, cosine_table, heatmap_table, intensity_lines, scenario_heatmap
from probes.intensity import intensity_hits, intensity_points, intensity_table, random_rhos
from probes.lm import load_random
from probes.moments import load_moments
from probes.provenance import provenance
from probes.stimuli import capture_battery, load_intensity
from probes.stories import load_stories
from probes.validation import Read, scenario_matrix, scenario_scores
from settings import Settings, command

SHOWN = ["stimuli", "span", "baseline", "layer", "top1", "text_top1", "twin_top1", "chance_top1"]


def draw_scenarios(
    settings: Settings, probes: EmotionProbes, ours: xr.Dataset, twin: Read, about: dict[str, Any]
) -> pd.DataFrame:
    """A heatmap of one set of stimuli; its scores at every layer."""
    unseen = store.read_table(settings.probes.with_name("score.csv"), ["layer", "accuracy", "low", "chance"])
    scores = scenario_scores(probes, ours, load_stories(settings.stories("emotional")), twin)
    table = heatmap_table(scenario_matrix(probes, ours), scores, unseen, settings.shown_layers)
    name = f"{ours.attrs['stimuli']}_{ours.attrs['span']}_{settings.layers_name}"
    write_figure(settings.figure_folder("validation"), name, table, scenario_heatmap(table), about)
    return scores


def draw_intensity(
    settings: Settings, probes: EmotionProbes, ours: xr.Dataset, twin: Read, about: dict[str, Any]
) -> pd.DataFrame:
    """A sheet of curves a layer, and the tables; how many foretold signs came true."""
    unseen = store.read_table(settings.probes.with_name("score.csv"), ["layer", "accuracy", "low", "chance"])
    folder = settings.figure_folder("validation")
    null, points = random_rhos(ours, seed=settings.seed), intensity_points(probes, ours, load_intensity())
    table = intensity_table(probes, ours, load_intensity(), null, load_stories(settings.stories("emotional")), twin)
    hits = intensity_hits(table, null)
    store.write_table(folder / "intensity.csv", table)
    store.write_table(folder / "intensity_hits.csv", hits)
    for layer in settings.shown_layers:
        curves = at_layer(points, unseen, layer)
        write_figure(folder, f"intensity_layer_{layer}", curves, intensity_lines(curves), about)
    return hits


def main(settings: Settings) -> None:
    """What the model reads, then what its twin reads, never both in memory; then tables and figures."""
    probes, folder = load_probes(settings.probes), settings.figure_folder("validation")
    with settings.reading() as engine:
        stimuli, intensity = capture_battery(engine.model, probes.layers, engine)
    moments, neutral = (settings.activations(f"random_{kind}") for kind in ("moments", "neutral"))
    theirs = EmotionProbes().fit(load_moments(moments), load_activations(neutral))
    twin_stimuli, twin_intensity = capture_battery(load_random(settings.model, settings.seed), probes.layers)
    about = provenance(settings, probes.about_, {"probes": settings.probes, "stories": settings.stories("emotional")})
    both = zip(stimuli, twin_stimuli, strict=True)
    scores = pd.concat(draw_scenarios(settings, probes, ours, (theirs, random), about) for ours, random in both)
    store.write_table(folder / "scores.csv", scores)
    hits = draw_intensity(settings, probes, intensity, (theirs, twin_intensity), about)
    cosines = cosine_table(probes, settings.shown_layers)
    write_figure(folder, f"cosines_{settings.layers_name}", cosines, cosine_heatmap(cosines), about)
    print(scores[SHOWN].round(3).to_string(index=False), hits.round(3).to_string(index=False), sep="\n\n")


if __name__ == "__main__":
    command(main, Settings, __doc__)
