"""Open the key: what was called what, and which planted doses are found, with the real checkpoints beside them.

    python experiments/score_organisms.py --model tiny

Runs after judge_organisms, and loads no model. Writes figures/<model>/organisms/: confusion and detection as {csv,html,json}
(and .svg, .png where a browser is installed), and organisms/curve.csv, which verdict.py takes onto the first page.
"""

from organism_settings import OrganismSettings
from probes import store
from probes.claims import CLAIM_COLUMNS
from probes.declaration import read_sealed
from probes.detection import (
    BLIND_COLUMNS,
    DOSE_COLUMNS,
    beside_organisms,
    confusion,
    dose_curve,
    right_share,
    seen_by_gap,
)
from probes.detection_figures import confusion_matrix, detection_curves
from probes.directions import load_probes
from probes.figures import write_figure
from probes.provenance import provenance
from settings import command
from training.organisms.key import open_key
from verdict import judged


def main(settings: OrganismSettings) -> None:
    """The key is opened here, and not before."""
    inputs = {name: settings.planted / f"{name}.csv" for name in ("claims", "doses", "verdicts")}
    said = store.read_table(inputs["verdicts"], BLIND_COLUMNS)
    names, folder = open_key(settings.planted, said["key_sha"].iloc[0]), settings.figure_folder("organisms")
    claims, doses = store.read_table(inputs["claims"], CLAIM_COLUMNS), store.read_table(inputs["doses"], DOSE_COLUMNS)
    curve = dose_curve(claims, said, read_sealed(settings.organism_claims), doses, seen_by_gap(names))
    store.write_table(settings.curve, curve)
    about = provenance(settings, load_probes(settings.probes).about_, inputs)
    real = read_sealed(settings.claims)
    tables, matrix = judged(settings, real), confusion(said, names)
    both = beside_organisms(curve, tables["claims"], tables["verdicts"], real)
    written = write_figure(folder, "confusion", matrix, confusion_matrix(matrix), about)
    written += write_figure(folder, "detection", both, detection_curves(both), about)
    print(*written, *(f"{rule}: right {share:.0%}" for rule, share in right_share(matrix).items()), sep="\n")


if __name__ == "__main__":
    command(main, OrganismSettings, __doc__)
