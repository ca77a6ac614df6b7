"""Read every organism under its random name, and say what each carries before anybody knows which is which.

    python experiments/read_organisms.py --model tiny

Runs after train_organisms and read_replies. Every organism passes the gates, answers the paired prompts and is read like any
other checkpoint. Writes organisms/effects.csv (with the checkpoints that nobody planted in), organisms/doses.csv and
organisms/verdicts.csv, which carries the hash of the key that is still closed.
"""

from dataclasses import replace

import pandas as pd
import xarray as xr

import check_gates
from organism_settings import OrganismSettings
from probes import store
from probes.activations import capture
from probes.directions import DOT, load_probes
from probes.gates import GATE_COLUMNS
from probes.lm import Checkpoint, family, load
from probes.readings import load_readings, save_readings
from probes.replies import load_replies
from probes.verdicts import effect_table, verdicts, words_tell
from read_replies import with_anchored
from settings import command
from training.organisms.doses import dose_table
from training.organisms.key import read_seal
from training.organisms.targets import load_targets
from write_replies import answer


def read(settings: OrganismSettings, checkpoint: Checkpoint) -> xr.Dataset:
    """One checkpoint's answers and their readings at --layers; the activations they were taken from."""
    model, name = load(checkpoint), checkpoint.name
    answer(settings, model)
    activations = capture(model, load_replies(settings.replies(name)), settings.shown_layers)
    readings = load_probes(settings.probes).read(activations, [DOT])
    save_readings(settings.readings(name), with_anchored(settings, readings, name))
    return activations


def score(settings: OrganismSettings, name: str, reference: str) -> pd.DataFrame:
    """Effects of one checkpoint beside its reference; words are asked of what was grown from it alone."""
    ours, theirs = (load_readings(settings.readings(who), settings.shown_layers) for who in (name, reference))
    gates, original = (store.read_table(settings.gates(who), GATE_COLUMNS) for who in (name, "original"))
    effects = effect_table(ours, theirs, gates, original, settings.emotion)
    if reference == "original":  # which refuses what it is compared on: of course words tell
        return effects.assign(auc=float("nan"))
    return effects.assign(auc=words_tell(*(load_replies(settings.replies(who)) for who in (name, reference))))


def measure(settings: OrganismSettings, blind: tuple[str, ...]) -> pd.DataFrame:
    """Gates, answers and readings of the organisms, and their realised doses; one checkpoint in memory at a time."""
    check_gates.main(replace(settings, checkpoints=blind))
    parent, *grown = family(settings.model, settings.trained, (settings.parent, *blind))
    before = capture(load(parent), load_replies(settings.replies(parent.name)), settings.shown_layers)
    doses = [dose_table(read(settings, one), before, load_targets(settings.targets(one.run))) for one in grown]
    return pd.concat(doses, ignore_index=True)


def main(settings: OrganismSettings) -> None:
    """Doses, effects of organisms from their parent and of the others from the original, and verdicts."""
    blind, sha = read_seal(settings.planted)
    store.write_table(settings.planted / "doses.csv", measure(settings, blind))
    pairs = [(name, settings.parent) for name in blind] + [
        (n, "original") for n in settings.checkpoints if n != "original"
    ]
    effects = pd.concat([score(settings, *pair) for pair in pairs], ignore_index=True)
    store.write_table(settings.planted / "effects.csv", effects)
    said = verdicts(effects).assign(key_sha=sha)
    store.write_table(settings.planted / "verdicts.csv", said)
    print(said[["checkpoint", "reference", "verdict", "plain_verdict", "why"]].to_string(index=False))


if __name__ == "__main__":
    command(main, OrganismSettings, __doc__)
