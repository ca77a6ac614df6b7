"""Which conclusions survive every recipe, and other stories? Every recipe refitted offline, the same answers read again.

    python experiments/recipe_table.py --model tiny

Runs after capture_replies and needs no model. Takes the stories of this run and of every folder runs/seed<n> that holds
captured ones, made by write_stories.py and capture_stories.py with --seed <n> --out runs/seed<n>. Writes
figures/<model>/recipes/: conclusions.csv of every fit, survival.csv of what they agree on, and a heatmap of emotion by
recipe.
"""

from dataclasses import replace
from itertools import product

from tqdm import tqdm

from probes import store
from probes.activations import load_activations
from probes.conclusions import conclusions, survival_table, survivors, with_unmeasurable
from probes.directions import EmotionProbes, load_probes
from probes.figures import write_figure
from probes.moments import load_moments
from probes.provenance import provenance
from probes.recipe_figures import heatmap_table, recipe_heatmap
from probes.recipes import RECIPES, Recipe
from probes.refits import at_layers, read_again
from settings import Settings, command


def story_runs(settings: Settings) -> list[Settings]:
    """This run, and those of other story seeds whose streams were captured."""
    seeds = sorted(int(out.name[4:]) for out in settings.out.glob("seed*") if out.name[4:].isdigit())
    others = [replace(settings, out=settings.out / f"seed{seed}", seed=seed) for seed in seeds]
    return [settings, *(one for one in others if one.activations("moments").is_file())]


def fit(run: Settings, recipe: Recipe) -> EmotionProbes:
    """Probes at the shown layers: of all stories where moments are enough, else of the held-out ones."""
    stories = (
        load_activations(run.activations("held_out"))
        if recipe.needs_vectors
        else load_moments(run.activations("moments"))
    )
    tokens = recipe.neutral_of == "tokens"
    neutral = (
        load_moments(run.activations("neutral_tokens")) if tokens else load_activations(run.activations("neutral"))
    )
    return EmotionProbes(recipe).fit(at_layers(stories, run.shown_layers), at_layers(neutral, run.shown_layers))


def main(settings: Settings) -> None:
    """What needs a model, then every fit, then what they agree on."""
    runs, folder, fits = story_runs(settings), settings.figure_folder("recipes"), []
    replies, anchors = (
        {name: load_activations(settings.activations(f"{kind}_{name}")) for name in settings.with_original}
        for kind in ("replies", "anchors")
    )
    for run, recipe in tqdm(list(product(runs, RECIPES.values())), desc="story seeds × recipes"):
        probes = fit(run, recipe)
        fits.append(conclusions(read_again(probes, replies, anchors), recipe.name, run.seed, probes.stories))
    table = with_unmeasurable(fits)
    for name, rows in {"conclusions": table, "survival": survival_table(table)}.items():
        store.write_table(folder / f"{name}.csv", rows)
    drawn, about = (
        heatmap_table(table),
        provenance(settings, load_probes(settings.probes).about_, {"probes": settings.probes}),
    )
    write_figure(folder, settings.layers_name, drawn, recipe_heatmap(drawn), about)
    print(survivors(survival_table(table)), f"story seeds: {', '.join(str(run.seed) for run in runs)}", sep="\n")


if __name__ == "__main__":
    command(main, Settings, __doc__)
