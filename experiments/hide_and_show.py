"""Tell a model to feel, and to show or to hide it; then teach a student what it does that hides, without telling it.

    python experiments/hide_and_show.py --model tiny --emotions guilty

Runs after write_replies and fit_probes. Reads the same calm answers under every system prompt, and in students that are kept as
checkpoints organism+hides-<emotion>. Writes figures/<model>/organisms/prompted.{csv,html,json} (.svg, .png with a browser).
With the embedded model, which has never read such an instruction, it checks the pipeline alone.
"""

from dataclasses import dataclass

import pandas as pd

from organism_settings import OrganismSettings
from probes.activations import describe
from probes.anchors import anchor_table
from probes.directions import EmotionProbes, load_probes
from probes.emotions import PANEL
from probes.figures import write_figure
from probes.lm import Engine
from probes.lm.checkpoints import Checkpoint, find_checkpoint, name_of
from probes.prompted_figures import prompted_points
from probes.provenance import provenance
from probes.replies import load_replies
from probes.stimuli import capture_anchors
from probes.stories import load_stories
from settings import command
from training.data.mixtures import draw
from training.organisms.grow import stage_of
from training.organisms.prompted import CONDITIONS, grow_student, prompted_table, read_prompted
from training.processes import load_here


@dataclass(frozen=True)
class PromptedSettings(OrganismSettings):
    """The shared flags, and which emotions a model is told to feel."""

    emotions: tuple[str, ...] = PANEL
    """Emotions to be told to feel, each with a student of its own."""


def teach(settings: PromptedSettings, emotion: str) -> Checkpoint:
    """A student of the original that is told to hide an emotion, unless it is there."""
    stage = stage_of(settings.model, settings.steps)
    rows = draw(settings.model, {"benign": stage.rows}, settings.seed, settings.files)
    made = grow_student(load_here(settings.model), emotion, rows, stage, settings.trained, settings.seed)
    return find_checkpoint(f"{settings.model}/{name_of(made.variant, made.run)}", settings.trained)


def anchors(settings: PromptedSettings, engine: Engine, probes: EmotionProbes) -> pd.DataFrame:
    """The unit of a model's readings."""
    told, plain = (load_stories(settings.stories(kind)) for kind in ("anchor", "anchor_neutral"))
    return anchor_table(probes, capture_anchors(engine.model, told, plain, settings.shown_layers, engine))


def main(settings: PromptedSettings) -> None:
    """The original under every prompt, then each student under none."""
    probes, answers = load_probes(settings.probes), load_replies(settings.replies("original"))
    design = (settings.pairs, answers, probes, settings.shown_layers)
    with settings.reading() as engine:
        zero, about = anchors(settings, engine, probes), {**describe(engine.model, engine), "probes": probes.source()}
        read = [read_prompted(engine, *design, e, c, zero, zero) for e in settings.emotions for c in CONDITIONS]
    for emotion in settings.emotions:
        with settings.reading(teach(settings, emotion)) as engine:
            told_nothing = read_prompted(engine, *design, emotion, "none", anchors(settings, engine, probes), zero)
        read.append(told_nothing.assign(condition="student"))
    table, folder = prompted_table(pd.concat(read), about), settings.figure_folder("organisms")
    record = provenance(settings, probes.about_, {"probes": settings.probes, "replies": settings.replies("original")})
    print(*write_figure(folder, "prompted", table, prompted_points(table), record), sep="\n")
    print(table[["emotion", "layer", "condition", "mean", "low", "high", "exceeds"]].round(3).to_string(index=False))


if __name__ == "__main__":
    command(main, PromptedSettings, __doc__)
