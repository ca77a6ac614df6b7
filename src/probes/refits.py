"""The same answers read by another fit of the probes, in anchored units: nothing is captured again.

readings = read_again(probes, replies, anchors)      checkpoint → activations of its replies, and of its anchor texts
"""

from collections.abc import Mapping

import pandas as pd
import xarray as xr

from probes.anchors import anchor_table, anchored_readings
from probes.directions import DOT, EmotionProbes
from probes.errors import MissingInputError
from probes.moments import Moments
from probes.readings import concat

ORIGINAL = "original"


def read_again(
    probes: EmotionProbes, replies: Mapping[str, xr.Dataset], anchors: Mapping[str, xr.Dataset]
) -> pd.DataFrame:
    """Anchored readings of every checkpoint, counted from its own plain answers.

    Cells where a checkpoint's open answers are no unit for these probes are left out (probes.anchors): the table is empty where
    none is left. Raises MissingInputError without the original's anchors, and what anchor_table and anchored_readings raise.
    """
    if ORIGINAL not in anchors:
        raise MissingInputError("the original's anchors are needed: readings are anchored in it.")
    original = anchor_table(probes, anchors[ORIGINAL])
    tables = []
    for name, activations in replies.items():
        own = original if name == ORIGINAL else anchor_table(probes, anchors[name])
        anchored = anchored_readings(probes.read(activations, [DOT]), own, original)
        tables.append(anchored[anchored["baseline"] == "own"])
    return concat([table for table in tables if not table.empty] or tables[:1])


def at_layers(kept: xr.Dataset | Moments, layers: tuple[int, ...]) -> xr.Dataset | Moments:
    """Vectors or moments of some layers."""
    return kept.at(layers) if isinstance(kept, Moments) else kept.sel(layer=list(layers))
