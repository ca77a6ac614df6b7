"""The paper's figure: cosine of emotion vectors with answers to benign and harmful questions, by checkpoint and layer.

    python experiments/emotion_similarity.py --model tiny --layers 5 6

Writes figures/<model>/emotion_similarity/layers_5_6.{csv,html,json} (and .svg, .png where a browser is installed), the
same for the paired differences as layers_5_6_gap, and comparison.csv: harmful − benign and harmful − affect for every
emotion and readout, with intervals and sign-flip tests.
"""

import pandas as pd

from probes import store
from probes.comparison import compare
from probes.directions import load_probes
from probes.figures import gap_forest, gap_table, similarity_bars, similarity_table, write_figure
from probes.provenance import provenance
from probes.readings import concat, load_readings
from settings import Settings, command

REFERENCES = ("benign", "affect")


def paired_differences(readings: pd.DataFrame) -> pd.DataFrame:
    """Harmful minus each reference arm, in one table."""
    return pd.concat([compare(readings, "harmful", reference) for reference in REFERENCES], ignore_index=True)


def main(settings: Settings) -> None:
    """Tables first, then the figures drawn from them."""
    paths = {name: settings.readings(name) for name in settings.checkpoints}
    readings = concat(load_readings(path) for path in paths.values())
    layers, folder = settings.shown_layers, settings.figure_folder("emotion_similarity")
    about = provenance(settings, load_probes(settings.probes).about_, {**paths, "probes": settings.probes})
    name = "layers_" + "_".join(map(str, layers))
    bars, gaps = similarity_table(readings, layers), gap_table(readings, layers, references=REFERENCES)
    store.write_table(folder / "comparison.csv", paired_differences(readings))
    for path in (
        *write_figure(folder, name, bars, similarity_bars(bars), about),
        *write_figure(folder, f"{name}_gap", gaps, gap_forest(gaps), about),
    ):
        print(path)


if __name__ == "__main__":
    command(main, Settings, __doc__)
