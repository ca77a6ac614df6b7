"""Read every organism under its random name, as any other checkpoint is read.

    python experiments/read_organisms.py --model tiny

Runs after train_organisms and read_replies. Seals organisms/claims.json with what will be claimed; then every organism passes the
gates, answers the paired prompts and is read. Writes organisms/doses.csv: how much of what was planted was really moved, measured
along the planted direction and by no probe.
"""

from dataclasses import replace

import pandas as pd
import xarray as xr

import check_gates
from declare_claims import DeclareSettings
from organism_settings import OrganismSettings
from probes import store
from probes.activations import capture
from probes.declaration import Declaration, seal
from probes.directions import DOT, Readout, load_probes
from probes.equivalence import DELTA
from probes.lm import Checkpoint, family
from probes.replies import load_replies
from read_replies import keep
from settings import command
from training.organisms.doses import dose_table
from training.organisms.key import read_seal
from training.organisms.targets import load_targets
from write_replies import let_answer


def declaration(settings: OrganismSettings, blind: tuple[str, ...]) -> Declaration:
    """What is claimed of organisms: the gap of what was planted, and the level shift from their parent."""
    return Declaration(
        "organisms", blind, (settings.emotion,), settings.shown_layers, ("own", "original"), str(Readout.ANCHORED_DOT), DELTA,
        len(settings.pairs), DeclareSettings.sd, references=("affect",), shifts_from=(settings.parent,), baseline="original",
        aggregation="mean", seed=settings.seed,
    )  # fmt: skip


def captured(settings: OrganismSettings, checkpoint: Checkpoint) -> xr.Dataset:
    """Activations of a checkpoint's answers at --layers."""
    replies = load_replies(settings.replies(checkpoint.name))
    with settings.reading(checkpoint) as engine:
        return capture(engine.model, replies, settings.shown_layers, engine=engine)


def read(settings: OrganismSettings, checkpoint: Checkpoint) -> xr.Dataset:
    """One checkpoint's answers and their readings at --layers; the activations they were taken from."""
    let_answer(settings, checkpoint)
    activations, name = captured(settings, checkpoint), checkpoint.name
    keep(settings, load_probes(settings.probes).read(activations, [DOT]), activations, name)
    return activations


def main(settings: OrganismSettings) -> None:
    """Claims are sealed, then one checkpoint after another is in memory."""
    blind, _ = read_seal(settings.planted)
    declared = declaration(settings, blind)
    seal(declared, settings.organism_claims, [settings.readings(name) for name in blind])
    check_gates.main(replace(settings, checkpoints=blind))
    parent, *grown = family(settings.model, settings.trained, (settings.parent, *blind))
    before = captured(settings, parent)
    doses = [
        dose_table(read(settings, one), before, load_targets(settings.targets(one.run)), declared) for one in grown
    ]
    print(store.write_table(settings.planted / "doses.csv", pd.concat(doses, ignore_index=True)))


if __name__ == "__main__":
    command(main, OrganismSettings, __doc__)
