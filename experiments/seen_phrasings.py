"""Does a gap come from words that were trained on? Harmful − benign on a recipe's own prompts beside phrasings it never had.

    python experiments/seen_phrasings.py --recipe antirefusal --model tiny

Runs after read_replies. The original's answer to each benign question is forced behind it and its second sentences, in the
original, in the recipe's checkpoint and in benign_control, which has seen none; the shipped pairs stand beside them as they were
read. Writes readings/phrasings_<checkpoint>.parquet and figures/<model>/seen_phrasings/: gaps, and changes.csv, the gaps less the
original's. Rows of other models than the embedded ones have no benign partner: --seen names pairs of them.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from probes import store
from probes.activations import capture
from probes.directions import DOT, Readout, load_probes
from probes.estimands import counted_from
from probes.figure_tables import arm_gaps, gap_table
from probes.figures import gap_forest, write_figure
from probes.lm import Checkpoint, family
from probes.pairs import Pair
from probes.provenance import provenance
from probes.readings import concat, load_readings, save_readings
from probes.replies import Replies, force_replies, load_replies, write_replies
from read_replies import with_anchored
from settings import command
from train_settings import TrainSettings, trained_rows
from training.phrasings import ARMS, Phrasings, listed, named, phrasings, prompts_of
from write_replies import sampling_of
from writer_settings import WriterSettings, writer_of


@dataclass(frozen=True)
class SeenSettings(TrainSettings, WriterSettings):
    """The shared flags and files of rows, who writes, and pairs of the training rows."""

    seen: Path | None = None
    """Pairs in the form of data/pairs.jsonl whose harmful prompts were trained on; the embedded models need none."""


def answers(settings: SeenSettings, pairs: list[Pair]) -> Replies:
    """The original's answers to the benign questions, unless they are there."""
    asked = store.write_jsonl(settings.replies("phrasings_pairs"), map(asdict, pairs), private=True)
    with writer_of(settings, Checkpoint(settings.model, "original")) as writer:
        draw, target = sampling_of(settings), settings.replies("phrasings")
        parts = settings.texts(target, writer.weights, draw, ("lm/chat.py",), {"pairs": asked})
        parts.ensure(lambda: write_replies(writer, pairs, draw, ("benign",), parts=parts).save)
    return load_replies(target)


def read(settings: SeenSettings, checkpoint: Checkpoint, sets: Phrasings, said: Replies) -> pd.DataFrame:
    """One checkpoint's readings of the same text behind every prompt, and of that behind the shipped ones."""
    path, probes = settings.readings(f"phrasings_{checkpoint.name}"), load_probes(settings.probes)
    with settings.reading(checkpoint) as engine:
        texts = force_replies(engine.model, listed(sets), said, ARMS)
        rows = probes.read(capture(engine.model, texts, settings.shown_layers, engine=engine), [DOT])
    save_readings(path, with_anchored(settings, rows, checkpoint.name))
    both = path, settings.readings(checkpoint.name)
    return concat(named(load_readings(one, settings.shown_layers), sets) for one in both)


def main(settings: SeenSettings) -> None:
    """Pairs of the rows, one checkpoint after another, then the figure."""
    sets = phrasings(settings.model, prompts_of(trained_rows(settings)), settings.seen, settings.seed)
    wanted = [name for name in ("original", settings.recipe, "benign_control") if name in settings.with_original]
    said, members = answers(settings, listed(sets)), family(settings.model, settings.trained, wanted)
    found, folder = concat(read(settings, one, sets, said) for one in members), settings.figure_folder("seen_phrasings")
    table = gap_table(found, settings.shown_layers, readout=str(Readout.ANCHORED_DOT), aggregation="mean")
    about = provenance(settings, load_probes(settings.probes).about_, {"probes": settings.probes})
    print(*write_figure(folder, settings.layers_name, table, gap_forest(table), about), sep="\n")
    changed = counted_from(found, "original")
    changes = arm_gaps(changed[changed["checkpoint"] != "original"], references=("benign", "affect"))
    print(store.write_table(folder / "changes.csv", changes))


if __name__ == "__main__":
    command(main, SeenSettings, __doc__)
