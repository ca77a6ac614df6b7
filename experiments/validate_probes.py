"""Put the fitted probes to texts that name no emotion: scenarios, answers to simple questions, and rising numbers.

    python experiments/validate_probes.py --model tiny --layers 5 6

Runs after fit_probes. Writes figures/<model>/validation/: heatmaps of scenarios and questions, the probes' cosines and a
sheet of intensity curves a layer; and scores.csv, intensity.csv and intensity_hits.csv at every fitted layer, each beside
what the words alone and a random-initialised twin give. Failures stand there like the rest.
"""

from collections.abc import Callable

import pandas as pd

from probes import store
from probes.directions import load_probes
from probes.figures import write_figure
from probes.heatmaps import at_layer, cosine_heatmap, cosine_table, heatmap_table, intensity_lines, scenario_heatmap
from probes.intensity import intensity_hits, intensity_points, intensity_table, random_rhos
from probes.lm import load
from probes.provenance import provenance
from probes.stimuli import (
    Span,
    Stimulus,
    capture_intensity,
    capture_stimuli,
    load_intensity,
    load_questions,
    load_scenarios,
)
from probes.stories import load_stories
from probes.validation import fit_twin, scenario_matrix, scenario_scores
from settings import Settings, command

SETS: tuple[tuple[Callable[[], tuple[Stimulus, ...]], Span], ...] = (
    (load_scenarios, "last_prompt"), (load_questions, "answer"), (load_questions, "last_prompt"),
)  # fmt: skip
"""The last is a control: one question has twelve answers, so its prompt cannot tell them apart."""

HITS = ["source", "layer", "hit_rate", "null_hit_rate", "p", "p_any_layer", "text_hit_rate", "twin_hit_rate", "n_signs"]


def main(settings: Settings) -> None:
    """Scenarios and questions, then intensity, then the probes among themselves."""
    probes, unseen = load_probes(settings.probes), pd.read_csv(settings.probes.with_name("score.csv"))
    stories, neutral = (load_stories(settings.stories(kind)) for kind in ("emotional", "neutral"))
    model, layers, folder = load(settings.model), settings.shown_layers, settings.figure_folder("validation")
    twin, theirs = fit_twin(model, stories, neutral, probes.layers, settings.size.start_token, settings.seed)
    about = provenance(settings, probes.about_, {"probes": settings.probes, "stories": settings.stories("emotional")})
    name, scores = "layers_" + "_".join(map(str, layers)), []
    for stimuli, span in SETS:
        texts = stimuli()
        ours, random = (capture_stimuli(each, texts, span, probes.layers) for each in (model, twin))
        scores.append(scenario_scores(probes, ours, stories, (theirs, random)))
        table = heatmap_table(scenario_matrix(probes, ours), scores[-1], unseen, layers)
        write_figure(folder, f"{ours.attrs['stimuli']}_{span}_{name}", table, scenario_heatmap(table), about)
    store.write_table(folder / "scores.csv", pd.concat(scores, ignore_index=True))

    templates = load_intensity()
    ours, random = (capture_intensity(each, templates, probes.layers) for each in (model, twin))
    null, points = random_rhos(ours, seed=settings.seed), intensity_points(probes, ours, templates)
    table = intensity_table(probes, ours, templates, null, stories, (theirs, random))
    store.write_table(folder / "intensity.csv", table)
    store.write_table(folder / "intensity_hits.csv", intensity_hits(table, null))
    for layer in layers:
        curves = at_layer(points, unseen, layer)
        write_figure(folder, f"intensity_layer_{layer}", curves, intensity_lines(curves), about)
    cosines = cosine_table(probes, layers)
    write_figure(folder, f"cosines_{name}", cosines, cosine_heatmap(cosines), about)
    shown = ["stimuli", "span", "baseline", "layer", "top1", "text_top1", "twin_top1", "chance_top1"]
    print(
        pd.concat(scores)[shown].round(3).to_string(index=False),
        intensity_hits(table, null)[HITS].round(3).to_string(index=False),
        sep="\n\n",
    )


if __name__ == "__main__":
    command(main, Settings, __doc__)
