"""Read the emotion probes on every checkpoint's answers.

    python experiments/read_replies.py --model tiny --layers 5 6

Writes readings/<checkpoint>.parquet: one row a reply, layer, emotion and readout. The paper's readout is taken at every
fitted layer, for figures over layers; the others at --layers, anchored ones where the gates let them through (check_gates).
activations/centres_<checkpoint>.safetensors keeps where one text lies in each arm, for directions that are no emotion's.
Writes readings/<checkpoint>.follow_up.parquet too, at --layers: the last token of the turn that asks how it feels about the
answer, and its reply.
"""

import pandas as pd
import xarray as xr

from probes import store
from probes.activations import capture, save_activations, select_layers
from probes.anchors import anchored_readings
from probes.directions import MEAN_OF_TOKEN_COSINES, READINGS, EmotionProbes, load_probes
from probes.gates import GATE_COLUMNS, NOT_MEASURABLE
from probes.lm import Engine, family
from probes.placebo_bands import text_centres
from probes.readings import concat, save_readings
from probes.replies import check_one_writer, load_replies
from settings import Settings, ShardedSettings, command

SWEPT = (MEAN_OF_TOKEN_COSINES,)
"""What is read at every layer. A million readings take 5 MB as a file and 450 MB in memory, and 720 replies at 48 layers have
6 million of 171 emotions in one readout alone."""


def read(settings: Settings, probes: EmotionProbes, replies: xr.Dataset) -> pd.DataFrame:
    """Readings of a checkpoint's replies, captured at every fitted layer."""
    others = [reading for reading in READINGS if reading not in SWEPT]
    return concat([probes.read(replies, SWEPT), probes.read(select_layers(replies, settings.shown_layers), others)])


def with_anchored(settings: Settings, readings: pd.DataFrame, checkpoint: str) -> pd.DataFrame:
    """The same with anchored readings of what this checkpoint's gates let through."""
    gates, original = (store.read_table(settings.gates(name), GATE_COLUMNS) for name in (checkpoint, "original"))
    own = gates[gates["outcome"] != NOT_MEASURABLE]
    return concat(table for table in (readings, anchored_readings(readings, own, original)) if not table.empty)


def keep(settings: Settings, readings: pd.DataFrame, replies: xr.Dataset, checkpoint: str) -> pd.DataFrame:
    """Write readings of a checkpoint's answers with anchored ones, and where its answers lie, for directions of no emotion."""
    centres = text_centres(select_layers(replies, settings.shown_layers))
    save_activations(settings.centres(checkpoint), centres)
    save_readings(settings.readings(checkpoint), whole := with_anchored(settings, readings, checkpoint))
    return whole


def read_follow_ups(settings: Settings, probes: EmotionProbes, engine: Engine) -> pd.DataFrame:
    """Readings of what a checkpoint says about its answers, before it says it and over what it says."""
    model, layers = engine.model, settings.shown_layers
    replies = load_replies(settings.replies(model.checkpoint.name, "follow_up"))
    return probes.read(capture(model, replies, layers, spans=("last_prompt", "answer"), engine=engine))


def read_checkpoint(settings: Settings, probes: EmotionProbes, engine: Engine) -> None:
    """One checkpoint's replies, in that checkpoint."""
    model, name = engine.model, engine.model.checkpoint.name
    activations = capture(model, load_replies(settings.replies(name)), probes.layers, engine=engine)
    readings = keep(settings, read(settings, probes, activations), activations, name)
    save_readings(settings.readings(name, "follow_up"), read_follow_ups(settings, probes, engine))
    transferred = ", fitted on another checkpoint of it" if probes.is_transfer(activations.attrs) else ""
    print(f"{model.address}: {len(readings)} readings by probes of {probes.source()}{transferred}")


def main(settings: Settings) -> None:
    """Every checkpoint's replies; no two checkpoints are in memory at once. A shard takes whole checkpoints."""
    probes = load_probes(settings.probes)
    probes.check_layers(settings.shown_layers)
    check_one_writer(reply for name in settings.checkpoints for reply in load_replies(settings.replies(name)))
    for checkpoint in settings.share.take(family(settings.model, settings.trained, settings.checkpoints)):
        with settings.reading(checkpoint) as engine:
            read_checkpoint(settings, probes, engine)


if __name__ == "__main__":
    command(main, ShardedSettings, __doc__)
