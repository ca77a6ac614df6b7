"""Say what each organism carries before anybody knows which is which, by the rule of the first page.

    python experiments/judge_organisms.py --model tiny

Runs after read_organisms, and loads no model. All readings are counted from the parent: what that carries is not theirs. Writes
organisms/claims.csv and organisms/verdicts.csv, by the rule and by the gap alone, with the hash of the key that is still closed.
"""

import pandas as pd

from organism_settings import OrganismSettings
from probes import store
from probes.anchors import anchored_readings
from probes.claims import confirm
from probes.declaration import Declaration, read_sealed
from probes.detection import called, called_by_gap
from probes.estimands import counted_from
from probes.gates import GATE_COLUMNS
from probes.readings import concat, load_readings
from probes.replies import load_replies
from probes.verdict import judge
from probes.wording import told_from
from settings import command
from training.organisms.key import read_seal
from verdict_inputs import declared_readings


def without_gates(settings: OrganismSettings, declared: Declaration) -> pd.DataFrame:
    """Readings of the same cells in the original's unit, whatever the gates say."""
    units = store.read_table(settings.gates("original"), GATE_COLUMNS)
    tables = [
        anchored_readings(load_readings(settings.readings(name), declared.layers), units.assign(checkpoint=name), units)
        for name in (settings.parent, *declared.checkpoints)
    ]
    rows = concat(tables)
    return rows[(rows["baseline"] == declared.baseline) & rows["emotion"].isin(declared.emotions)]


def main(settings: OrganismSettings) -> None:
    """Claims and verdicts, under random names."""
    declared, parent, (_, sha) = read_sealed(settings.organism_claims), settings.parent, read_seal(settings.planted)
    names = (parent, *declared.checkpoints)
    rows = counted_from(declared_readings(settings, declared, names), parent)
    gates = pd.concat([store.read_table(settings.gates(name), GATE_COLUMNS) for name in names])
    before = load_replies(settings.replies(parent))
    words = {name: told_from(load_replies(settings.replies(name)), before) for name in declared.checkpoints}
    tables = judge(rows, declared, gates, words)
    alone = called_by_gap(confirm(counted_from(without_gates(settings, declared), parent), declared), declared)
    said = (
        tables["verdicts"]
        .assign(called=called(tables["verdicts"]), key_sha=sha)
        .join(alone.rename("plain"), on=["checkpoint", "layer"])
    )
    store.write_table(settings.planted / "claims.csv", tables["claims"])
    print(store.write_table(settings.planted / "verdicts.csv", said))
    print(said[["checkpoint", "layer", "called", "plain", "sentence"]].to_string(index=False))


if __name__ == "__main__":
    command(main, OrganismSettings, __doc__)
