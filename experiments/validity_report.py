"""Is the bank of probes any good? A page with a verdict in words for every emotion, and what it rests on.

    python experiments/validity_report.py --model tiny

Runs after capture_controls and validate_probes. Writes figures/<model>/validity/: report_<layers>.html, which needs nothing beside
it; figures of the readers of unseen topics; and as CSV, at every layer, what the page shows of the chosen ones. Published
scenarios that lie in runs/scenarios/ are put to the model too.
"""

import pandas as pd

from probes import store
from probes.activations import load_activations
from probes.directions import EmotionProbes, load_probes
from probes.figures import write_figure
from probes.intensity import HIT_COLUMNS
from probes.lm import load_random
from probes.moments import load_moments
from probes.provenance import provenance
from probes.scenario_sets import HINT, capture_sets, scenario_sets
from probes.stories import load_stories
from probes.unseen import Bank
from probes.validation import SCORE_COLUMNS, scenario_scores
from probes.validity import gather, verdict_table
from probes.validity_figures import by_layer_table, forest_table, reader_forest, validity_by_layer
from probes.validity_page import sections, validity_page
from settings import Settings, command

TWINS = {"embeddings": "embeddings_", "random_weights": "random_"}  # reader → how its files begin


def bank_of(settings: Settings, control: str = "") -> Bank:
    """What the model, or a control, made of the stories."""
    moments, held_out, neutral = (settings.activations(control + kind) for kind in ("moments", "held_out", "neutral"))
    return Bank(load_moments(moments), load_activations(held_out), load_activations(neutral))


def published(settings: Settings, probes: EmotionProbes) -> list[pd.DataFrame]:
    """Scores on the published sets that lie there; the model and its twin are never both in memory."""
    found = scenario_sets(settings.scenarios, probes.emotions)
    if not found:
        print(f"no published scenarios in {settings.scenarios}. {HINT}")
        return []
    with settings.reading() as engine:
        ours = capture_sets(engine.model, found, probes.layers, engine)
    theirs = capture_sets(load_random(settings.model, settings.seed), found, probes.layers)
    random, stories = bank_of(settings, "random_"), load_stories(settings.stories("emotional"))
    twin = EmotionProbes().fit(random.moments, random.neutral)
    return [scenario_scores(probes, a, stories, (twin, b)) for a, b in zip(ours, theirs, strict=True)]


def main(settings: Settings) -> None:
    """Tables, then verdicts, figures and the page made of them."""
    probes, folder, shown = load_probes(settings.probes), settings.figure_folder("validity"), settings.shown_layers
    stories, neutral = (load_stories(settings.stories(kind)) for kind in ("emotional", "neutral"))
    twins = {reader: bank_of(settings, control) for reader, control in TWINS.items()}
    evidence = gather(bank_of(settings), twins, stories, neutral, seed=settings.seed)
    ours, signs = (settings.figure_folder("validation") / f"{name}.csv" for name in ("scores", "intensity_hits"))
    scenarios = pd.concat([store.read_table(ours, SCORE_COLUMNS), *published(settings, probes)])
    verdicts = verdict_table(evidence, shown).assign(seed=settings.seed)
    for name, table in {**evidence._asdict(), "scenarios": scenarios, "verdicts": verdicts}.items():
        store.write_table(folder / f"{name}.csv", table)
    inputs = {"probes": settings.probes, "moments": settings.activations("moments"), "scenarios": ours}
    about, name = provenance(settings, probes.about_, inputs), settings.layers_name
    forest, curves = forest_table(evidence, verdicts, shown), by_layer_table(evidence, shown)
    written = write_figure(folder, name, forest, reader_forest(forest), about)
    written += write_figure(folder, f"{name}_by_layer", curves, validity_by_layer(curves), about)
    parts = sections(evidence, shown, scenarios, store.read_table(signs, HIT_COLUMNS))
    page = validity_page(verdicts, parts, [path for path in written if path.suffix == ".png"], about)
    store.write_text(folder / f"report_{name}.html", page)
    print(*(verdicts["emotion"] + " " + verdicts["line"]), folder / f"report_{name}.html", sep="\n")


if __name__ == "__main__":
    command(main, Settings, __doc__)
