"""Do conclusions hold for probes that follow the checkpoint? The same answers read by frozen, realigned and refitted probes.

    python experiments/probe_columns.py --model tiny

Runs after check_gates and capture_replies, and needs no model. A conclusion that frozen probes alone give may be one about what
training did to the probes. Beside these three stand probes of the stories that each checkpoint wrote itself (own_stories): they
are reported and do not decide whether the three agree. Writes figures/<model>/probe_columns/: conclusions.csv of every kind of
probes, agreement.csv of the three, realignment.csv (how much of the change is foretold without labels), own_stories.csv (how many
were kept, how many are needed, what is read of held-out ones) and a heatmap.
"""

import pandas as pd
import xarray as xr

from own_stories import worth_by_layer
from probes import store
from probes.activations import load_activations
from probes.conclusions import conclusions, survival_table, with_unmeasurable
from probes.directions import EmotionProbes, load_probes
from probes.figures import write_figure
from probes.gates import MEASURABLE
from probes.own_stories import OWN, notes, with_reasons
from probes.provenance import provenance
from probes.readings import concat
from probes.realignment import realigned
from probes.recipe_figures import heatmap_table, recipe_heatmap
from probes.refits import read_again
from settings import Settings, command

Streams = dict[str, xr.Dataset]
AGREEING = ("frozen", "realigned", "refitted")


def columns_of(
    settings: Settings, frozen: EmotionProbes, anchors: Streams, name: str, is_own: bool
) -> tuple[dict[str, EmotionProbes], pd.DataFrame]:
    """Kind of probes → the probes for a checkpoint, of its own stories where there are; and how well its change was foretold."""
    again, foretold = realigned(frozen, anchors["original"], anchors[name])
    refit = frozen if name == "original" else load_probes(settings.refit(name))
    own = {OWN: load_probes(settings.probes_of(name))} if is_own else {}
    return {"frozen": frozen, "realigned": again, "refitted": refit, **own}, foretold.assign(checkpoint=name)


def main(settings: Settings) -> None:
    """Every kind of probes in every checkpoint, then what three of them agree on."""
    frozen, folder = load_probes(settings.probes), settings.figure_folder("probe_columns")
    replies, anchors = (
        {name: load_activations(settings.activations(f"{kind}_{name}")) for name in settings.with_original}
        for kind in ("replies", "anchors")
    )
    own = worth_by_layer(settings, anchors)
    able = set(own.loc[own["outcome"] == MEASURABLE, "checkpoint"])
    made = {name: columns_of(settings, frozen, anchors, name, name in able) for name in replies}
    of_own = {name: probes[OWN].stories for name, (probes, _) in made.items() if OWN in probes}
    fits = []
    for kind in (*AGREEING, OWN):
        has = {name: probes[kind] for name, (probes, _) in made.items() if kind in probes}
        read = [read_again(one, {name: replies[name]}, anchors) for name, one in has.items()]
        rows = concat(read).assign(probes=frozen.source())  # one column stands for the same emotion in all checkpoints
        fits.append(conclusions(rows, kind, settings.seed, frozen.stories))
    table = with_reasons(with_unmeasurable(fits), own)
    table.loc[table["recipe"] == OWN, "n_stories"] = table["checkpoint"].map(of_own).fillna(0).astype(int)
    agreement = survival_table(table[table["recipe"].isin(AGREEING)])
    drawn = with_reasons(heatmap_table(table), own).merge(notes(own), on=["checkpoint", "layer"])
    foretold = pd.concat([found for _, found in made.values()])
    tables = {"conclusions": table, "agreement": agreement, "realignment": foretold, "own_stories": own}
    for name, one in tables.items():
        print(store.write_table(folder / f"{name}.csv", one))
    about = provenance(settings, frozen.about_, {"probes": settings.probes})
    print(*write_figure(folder, settings.layers_name, drawn, recipe_heatmap(drawn, "kind of probes"), about), sep="\n")
    same = agreement.groupby("checkpoint")["recipes_agree"].apply(
        lambda counts: f"{(counts == 3).sum()} of {len(counts)}"
    )
    print("Three kinds of probes say the same:", *(f"{name}: {count}" for name, count in same.items()), sep="\n")


if __name__ == "__main__":
    command(main, Settings, __doc__)
