"""The paper's figure: cosine of emotion vectors with answers to benign and harmful questions, by checkpoint and layer.

    python experiments/emotion_similarity.py --model tiny --layers 5 6

Writes figures/<model>/emotion_similarity/layers_5_6.{csv,html,json} (and .svg, .png where a browser is installed), the
same for the paired differences as layers_5_6_gap and, in units that checkpoints share, as layers_5_6_anchored_gap; and
comparison.csv: harmful − affect and harmful − benign for every emotion and readout, with intervals and sign-flip tests.
"""

from probes import store
from probes.directions import Readout, load_probes
from probes.figure_tables import arm_gaps, gap_table, similarity_table
from probes.figures import gap_forest, similarity_bars, write_figure
from probes.provenance import provenance
from probes.readings import concat, load_readings
from settings import Settings, command


def main(settings: Settings) -> None:
    """Tables first, then the figures drawn from them."""
    paths = {name: settings.readings(name) for name in settings.checkpoints}
    layers, folder = settings.shown_layers, settings.figure_folder("emotion_similarity")
    readings = concat(load_readings(path, layers) for path in paths.values())
    about = provenance(settings, load_probes(settings.probes).about_, {**paths, "probes": settings.probes})
    name = settings.layers_name
    bars, gaps = similarity_table(readings, layers), gap_table(readings, layers)
    store.write_table(folder / "comparison.csv", arm_gaps(readings))
    written = write_figure(folder, name, bars, similarity_bars(bars), about)
    written += write_figure(folder, f"{name}_gap", gaps, gap_forest(gaps), about)
    anchored = readings[(readings["readout"] == str(Readout.ANCHORED_DOT)) & (readings["baseline"] == "own")]
    if anchored.empty:
        print("nothing is shown in anchored units: no checkpoint can be measured at these layers, see gates/")
    else:
        gaps = gap_table(anchored, layers, readout=str(Readout.ANCHORED_DOT), aggregation="mean")
        written += write_figure(folder, f"{name}_anchored_gap", gaps, gap_forest(gaps), about)
    print(*written, sep="\n")


if __name__ == "__main__":
    command(main, Settings, __doc__)
