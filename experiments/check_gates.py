"""Can each checkpoint be measured by the original's probes at all, and in which unit?

    python experiments/check_gates.py --model tiny

Runs after train_checkpoint. Reads held-out stories in chat form in every checkpoint, fits the probes anew there on the same
stories, and writes gates/<checkpoint>.csv: gain, accuracies, cosines and the outcome of every layer and emotion. Nothing
is shown in anchored units where it says `not measurable`.
"""

import pandas as pd
import xarray as xr

from probes import store
from probes.activations import capture, capture_moments, load_activations
from probes.anchors import anchor_table
from probes.directions import EmotionProbes, load_probes
from probes.gates import gate_table
from probes.lm import Checkpoint, Engine, family
from probes.moments import HALVES, load_moments
from probes.stimuli import capture_anchors
from probes.stories import Stories, load_stories
from settings import Settings, command

KINDS = ("emotional", "neutral", "anchor", "anchor_neutral")  # what probes are fitted on, and the anchors


def refit(settings: Settings, engine: Engine, read: dict[str, Stories]) -> EmotionProbes:
    """Probes of a checkpoint on the stories of all, from file where a run before has made them."""
    model = engine.model
    path = settings.refit(model.checkpoint.name)
    written = {kind: store.sha256(settings.stories(kind)) for kind in ("emotional", "neutral")}
    parts = settings.parts(path, {"weights": model.weights, "engine": engine.name, "texts": written})
    folds, start = dict.fromkeys((story.topic for story in read["emotional"]), 0), settings.size.start_token

    def fit() -> EmotionProbes:
        moments = capture_moments(model, read["emotional"], folds, "all", start, False, parts=parts, engine=engine)
        return EmotionProbes().fit(moments, capture(model, read["neutral"], "all", start, engine=engine))

    parts.ensure(lambda: fit().save)
    return load_probes(path)


def halves(settings: Settings) -> tuple[EmotionProbes, EmotionProbes]:
    """Probes of the original on either half of the topics."""
    moments, neutral = load_moments(settings.activations("moments")), load_activations(settings.activations("neutral"))
    first, second = (EmotionProbes().fit(moments.half(half), neutral) for half in HALVES)
    return first, second


def show(address: str, table: pd.DataFrame, layers: tuple[int, ...]) -> None:
    """Outcomes at the shown layers, and the first reason against the rest."""
    shown = table[table["layer"].isin(layers)]
    counts = ", ".join(f"{outcome} {count}" for outcome, count in shown["outcome"].value_counts().items())
    why = shown.loc[shown["why"] != "", "why"]
    print(f"{address}, layers {', '.join(map(str, layers))}: {counts}" + (f" ({why.iloc[0]}, …)" if len(why) else ""))


def anchors(settings: Settings, checkpoint: Checkpoint, read: dict[str, Stories]) -> tuple[xr.Dataset, EmotionProbes]:
    """Activations of the anchors, and probes fitted anew; of two checkpoints, one at a time is in memory."""
    with settings.reading(checkpoint) as engine:
        activations = capture_anchors(engine.model, read["anchor"], read["anchor_neutral"], engine=engine)
        own = checkpoint.variant != "original"
        return activations, refit(settings, engine, read) if own else load_probes(settings.probes)


def main(settings: Settings) -> None:
    """The original first: the others' gains are held against its."""
    frozen, both = load_probes(settings.probes), halves(settings)
    read = {kind: load_stories(settings.stories(kind)) for kind in KINDS}
    original = None
    for checkpoint in family(settings.model, settings.trained, settings.with_original):
        activations, again = anchors(settings, checkpoint, read)
        original = anchor_table(frozen, activations) if original is None else original
        table = gate_table(frozen, again, both, activations, original)
        store.write_table(settings.gates(checkpoint.name), table)
        show(checkpoint.address, table, settings.shown_layers)


if __name__ == "__main__":
    command(main, Settings, __doc__)
