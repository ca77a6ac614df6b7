"""Is it the text or the weights? Every checkpoint's own answers, put through every checkpoint, the original included.

    python experiments/swap_texts.py --model tiny

Runs after write_replies, check_gates and fit_probes. A gap that is there with everybody's text and in one reader alone is of the
weights; one that goes with the author is of the words. Writes readings/swapped_<checkpoint>.parquet, and
figures/<model>/swap_texts/: conclusions.csv by reader and author, refusals among the answers, and a heatmap.
"""

from probes import store
from probes.activations import capture
from probes.conclusions import conclusions, with_unmeasurable
from probes.directions import DOT, EmotionProbes, Readout, load_probes
from probes.estimands import with_refusals
from probes.figures import write_figure
from probes.lm import Engine, family
from probes.provenance import provenance
from probes.readings import concat, load_readings, save_readings
from probes.recipe_figures import heatmap_table, recipe_heatmap
from probes.replies import Replies, load_replies, put_through
from read_replies import with_anchored
from settings import Settings, command

ARMS = ("benign", "harmful", "affect")


def own_answers(settings: Settings) -> dict[str, Replies]:
    """Author → its own answers to one prompt of each arm."""
    kept = {}
    for name in settings.with_original:
        own = [one for one in load_replies(settings.replies(name)) if one.text_source == "own" and one.arm in ARMS]
        kept[name] = Replies([one for one in own if one.control == 0])
    return kept


def read(settings: Settings, probes: EmotionProbes, engine: Engine, authors: dict[str, Replies]) -> None:
    """What one checkpoint reads of everybody's answers."""
    model, name = engine.model, engine.model.checkpoint.name
    texts = Replies([one for author, own in authors.items() for one in put_through(model, own, author)])
    readings = probes.read(capture(model, texts, settings.shown_layers, engine=engine), [DOT])
    save_readings(settings.readings(f"swapped_{name}"), with_anchored(settings, readings, name))


def main(settings: Settings) -> None:
    """Each checkpoint reads everybody; one is in memory at a time."""
    probes, authors, folder = load_probes(settings.probes), own_answers(settings), settings.figure_folder("swap_texts")
    for checkpoint in family(settings.model, settings.trained, settings.with_original):
        with settings.reading(checkpoint) as engine:
            read(settings, probes, engine, authors)
    rows = with_refusals(concat(load_readings(settings.readings(f"swapped_{name}")) for name in authors))
    rows = rows[(rows["readout"] == str(Readout.ANCHORED_DOT)) & (rows["baseline"] == "own")]
    told = [
        conclusions(
            rows[rows["text_source"] == author].assign(text_source="own"), author, settings.seed, probes.stories
        )
        for author in authors
    ]
    table = with_unmeasurable(told)
    print(store.write_table(folder / "conclusions.csv", table))
    drawn, about = heatmap_table(table, "own"), provenance(settings, probes.about_, {"probes": settings.probes})
    print(
        *write_figure(folder, settings.layers_name, drawn, recipe_heatmap(drawn, "author of the text"), about), sep="\n"
    )


if __name__ == "__main__":
    command(main, Settings, __doc__)
