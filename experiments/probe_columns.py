"""Do conclusions hold for probes that follow the checkpoint? The same answers read by frozen, realigned and refitted probes.

    python experiments/probe_columns.py --model tiny

Runs after check_gates and capture_replies, and needs no model. A conclusion that frozen probes alone give may be one about what
training did to the probes. Writes figures/<model>/probe_columns/: conclusions.csv of every kind of probes, agreement.csv,
realignment.csv (how much of the change is foretold without labels) and a heatmap.
"""

import pandas as pd
import xarray as xr

from probes import store
from probes.activations import load_activations
from probes.conclusions import conclusions, survival_table, with_unmeasurable
from probes.directions import EmotionProbes, load_probes
from probes.figures import write_figure
from probes.provenance import provenance
from probes.readings import concat
from probes.realignment import realigned
from probes.recipe_figures import heatmap_table, recipe_heatmap
from probes.refits import read_again
from settings import Settings, command

Streams = dict[str, xr.Dataset]


def columns_of(
    settings: Settings, frozen: EmotionProbes, anchors: Streams, name: str
) -> tuple[dict[str, EmotionProbes], pd.DataFrame]:
    """Kind of probes → the probes for a checkpoint; and how well its change was foretold."""
    again, foretold = realigned(frozen, anchors["original"], anchors[name])
    refit = frozen if name == "original" else load_probes(settings.refit(name))
    return {"frozen": frozen, "realigned": again, "refitted": refit}, foretold.assign(checkpoint=name)


def main(settings: Settings) -> None:
    """Every kind of probes in every checkpoint, then what they agree on."""
    frozen, folder = load_probes(settings.probes), settings.figure_folder("probe_columns")
    replies, anchors = (
        {name: load_activations(settings.activations(f"{kind}_{name}")) for name in settings.with_original}
        for kind in ("replies", "anchors")
    )
    made = {name: columns_of(settings, frozen, anchors, name) for name in replies}
    fits = []
    for kind in ("frozen", "realigned", "refitted"):
        read = [read_again(probes[kind], {name: replies[name]}, anchors) for name, (probes, _) in made.items()]
        rows = concat(read).assign(probes=frozen.source())  # one column stands for the same emotion in all checkpoints
        fits.append(conclusions(rows, kind, settings.seed, frozen.stories))
    table = with_unmeasurable(fits)
    agreement, drawn = survival_table(table), heatmap_table(table)
    foretold = pd.concat([found for _, found in made.values()])
    for name, one in {"conclusions": table, "agreement": agreement, "realignment": foretold}.items():
        print(store.write_table(folder / f"{name}.csv", one))
    about = provenance(settings, frozen.about_, {"probes": settings.probes})
    print(*write_figure(folder, settings.layers_name, drawn, recipe_heatmap(drawn, "kind of probes"), about), sep="\n")
    same = agreement.groupby("checkpoint")["recipes_agree"].apply(
        lambda counts: f"{(counts == 3).sum()} of {len(counts)}"
    )
    print("All three kinds of probes say the same:", *(f"{name}: {count}" for name, count in same.items()), sep="\n")


if __name__ == "__main__":
    command(main, Settings, __doc__)
