"""Let every checkpoint write stories of its own, and fit probes on them in its own activations: a fourth kind for probe_columns.

    python experiments/own_stories.py --model tiny
    python experiments/own_stories.py --model qwen3-30b-a3b --preset paper --writer vllm

Runs after fit_probes and train_checkpoint. Writes own_stories/<checkpoint>/{stories,activations,probes}/ as those steps do for the
original: same topics, emotions, prompts, noise and filters. Nothing is captured where too few are kept (probes.own_stories). A
killed run goes on where it stopped; one checkpoint is in memory at a time, and a shard takes whole checkpoints.
"""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
import xarray as xr

import capture_stories
import fit_probes
from probes import store
from probes.errors import ConventionError
from probes.lm import Checkpoint, family
from probes.own_stories import SCORE_COLUMNS, by_layer, judged, measurable_emotions, story_counts
from probes.stories import Stories, load_stories
from settings import Settings, command
from write_stories import write_to_fit
from writer_settings import WriterSettings, WritingSettings, writer_of


def told(settings: Settings, author: str = "original") -> tuple[Stories, Stories]:
    """Emotional stories and neutral dialogues."""
    return load_stories(settings.stories("emotional", author)), load_stories(settings.stories("neutral", author))


def worth(settings: Settings, author: str, original: pd.DataFrame) -> pd.DataFrame:
    """What a checkpoint's own stories are worth beside the counts of the original's. The dialogues are written last."""
    written = settings.stories("neutral", author).is_file()
    return judged(story_counts(*told(settings, author)) if written else None, original)


def worth_by_layer(settings: Settings, streams: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """What own stories of every checkpoint are worth, and what is read of held-out ones at the layers of its streams."""
    original, tables = story_counts(*told(settings)), []
    for name, texts in streams.items():
        table, path = worth(settings, name, original), settings.probes_of(name).with_name("score.csv")
        score = store.read_table(path, SCORE_COLUMNS) if measurable_emotions(table) else None
        tables.append(by_layer(table, score, texts).assign(seed=settings.seed))
    return pd.concat(tables, ignore_index=True)


def let_write(settings: WriterSettings, checkpoint: Checkpoint) -> None:
    """The texts of a checkpoint, whose writer is gone afterwards. Raises ConventionError where the original had another one."""
    with writer_of(settings, checkpoint) as writer:
        if (by := told(settings)[0].written_by) != writer.written_by:
            both = f"the original's stories are by {by}, {writer.address} would write by {writer.written_by}"
            raise ConventionError(f"{both}, and what differs might be their doing. Give the --writer of write_stories.")
        write_to_fit(settings, writer)


def fit_own(settings: Settings, checkpoint: Checkpoint) -> None:
    """Activations of what a checkpoint has written, and probes, as far as it has kept enough."""
    table = worth(settings, checkpoint.name, story_counts(*told(settings)))
    emotions, why = measurable_emotions(table), [reason for reason in table["why"] if reason]
    print(f"{checkpoint.address}: own stories are enough for {len(emotions)} emotions", *why[:1], sep="; ")
    if emotions:
        with settings.reading(checkpoint) as engine:
            capture_stories.read(settings, engine, *told(settings, checkpoint.name))
        fit_probes.fit(settings, checkpoint.name, emotions)


def main(settings: WritingSettings) -> None:
    """Of the original the stories are there: those that frozen probes are fitted on."""
    whole = replace(settings, shard="0/1")
    for checkpoint in settings.share.take(family(settings.model, settings.trained, settings.with_original)):
        if checkpoint.variant != "original":
            let_write(whole, checkpoint)
            fit_own(whole, checkpoint)


if __name__ == "__main__":
    command(main, WritingSettings, __doc__)
