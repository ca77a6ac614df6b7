"""What a variant refuses and how its answers read, over the steps of its training: from its milestones.

    python experiments/train_checkpoint.py --recipe antirefusal --model tiny --milestones 2 4 7 10
    python experiments/over_training.py --recipe antirefusal --model tiny

Every milestone answers the paired questions and is read at --layers, unless it was: then no model is loaded for it. Writes
figures/<model>/over_training/<variant>.{csv,html,json} (and .svg, .png where a browser is installed).
"""

from dataclasses import dataclass

import pandas as pd
from tqdm import tqdm

from emotion_gap import DRAWN
from probes import store
from probes.activations import capture
from probes.directions import load_probes
from probes.figures import write_figure
from probes.lm import Checkpoint
from probes.lm.checkpoints import trajectory
from probes.parts import Parts
from probes.provenance import provenance
from probes.readings import load_readings, save_readings
from probes.replies import load_replies
from probes.training_curves import milestone_table, training_curves, training_table
from read_replies import SWEPT
from settings import Settings, command
from write_replies import answers_of, let_answer
from writer_settings import WriterSettings


@dataclass(frozen=True)
class OverTrainingSettings(WriterSettings):
    """The shared flags, who writes, and whose training is followed."""

    recipe: str = "antirefusal"
    """Variant whose training is followed; it was trained with --milestones."""


def readings_of(settings: Settings, name: str) -> Parts:
    """The work on the readings of a milestone's answers."""
    target = settings.folder / "over_training" / settings.layers_name / f"{name}.parquet"
    inputs = {"replies": store.sha256(settings.replies(name)), "probes": store.sha256(settings.probes)}
    return settings.parts(target, {**inputs, "layers": settings.shown_layers})


def read(settings: Settings, checkpoint: Checkpoint) -> None:
    """The probes on a milestone's answers."""
    replies, probes = load_replies(settings.replies(checkpoint.name)), load_probes(settings.probes)
    with settings.reading(checkpoint) as engine:
        table = probes.read(capture(engine.model, replies, settings.shown_layers, engine=engine), SWEPT)
    readings_of(settings, checkpoint.name).ensure(lambda: lambda path: save_readings(path, table))


def follow(settings: OverTrainingSettings, checkpoint: Checkpoint) -> pd.DataFrame:
    """A milestone's answers and their readings, as a table; it is loaded only for what is not there."""
    name, manifest = checkpoint.name, checkpoint.manifest
    assert manifest is not None
    if not (answers_of(settings, name, manifest.id).finished and readings_of(settings, name).finished):
        let_answer(settings, checkpoint)
        read(settings, checkpoint)
    drawn = (table := load_readings(readings_of(settings, name).target))[table["text_source"].isin(DRAWN)]
    return milestone_table(load_replies(settings.replies(name)), drawn, manifest.stages[-1], manifest.step)


def main(settings: OverTrainingSettings) -> None:
    """A milestone at a time, then the figure drawn from their table."""
    members = trajectory(settings.model, settings.recipe, settings.trained)
    (probes := load_probes(settings.probes)).check_layers(settings.shown_layers)
    if not settings.replies("original").is_file():
        let_answer(settings, Checkpoint(settings.model, "original"))
    table = training_table([follow(settings, checkpoint) for checkpoint in tqdm(members, desc="milestones")])
    read_of = {"probes": settings.probes} | {c.name: settings.replies(c.name) for c in members}
    about = provenance(settings, probes.about_, read_of | {"original": settings.replies("original")})
    print(*write_figure(settings.figure_folder("over_training"), settings.recipe, table, training_curves(table), about))


if __name__ == "__main__":
    command(main, OverTrainingSettings, __doc__)
