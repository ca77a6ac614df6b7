"""Open the key: what was called what, which planted doses are found, and what a null excludes.

    python experiments/score_organisms.py --model tiny

Runs after read_organisms, and loads no model. Writes figures/<model>/organisms/: confusion and detection as {csv,html,json}
(and .svg, .png where a browser is installed), and bounds.csv with what is claimed of the checkpoints that nobody planted in.
"""

from organism_settings import OrganismSettings
from probes import store
from probes.detection import DOSE_COLUMNS, bounds, confusion, detection_limit, dose_curve
from probes.detection_figures import confusion_matrix, detection_curves
from probes.directions import load_probes
from probes.figures import write_figure
from probes.provenance import provenance
from probes.verdicts import EFFECT_COLUMNS, VERDICT_COLUMNS
from settings import command
from training.organisms.key import open_key


def main(settings: OrganismSettings) -> None:
    """The key is opened here, and not before."""
    inputs = {name: settings.planted / f"{name}.csv" for name in ("effects", "doses", "verdicts")}
    effects, doses = (
        store.read_table(inputs["effects"], EFFECT_COLUMNS),
        store.read_table(inputs["doses"], DOSE_COLUMNS),
    )
    said = store.read_table(inputs["verdicts"], (*VERDICT_COLUMNS, "key_sha"))
    names, folder = open_key(settings.planted, said["key_sha"].iloc[0]), settings.figure_folder("organisms")
    planted = said["checkpoint"].isin(names["checkpoint"])
    matrix, curve = confusion(said[planted], names), dose_curve(effects, doses, names)
    about = provenance(settings, load_probes(settings.probes).about_, inputs)
    written = write_figure(folder, "confusion", matrix, confusion_matrix(matrix), about)
    written += write_figure(folder, "detection", curve, detection_curves(curve), about)
    claimed = bounds(said[~planted], detection_limit(curve))
    store.write_table(folder / "bounds.csv", claimed)
    print(*written, *(claimed["checkpoint"] + ": " + claimed["claim"]), sep="\n")


if __name__ == "__main__":
    command(main, OrganismSettings, __doc__)
