"""Can each checkpoint be measured by the original's probes at all, and in which unit?

    python experiments/check_gates.py --model tiny

Runs after train_checkpoint. Reads held-out stories in chat form in every checkpoint, fits the probes anew there on the same
stories; gates/<checkpoint>.csv: gain, accuracies, cosines and outcome. Nothing is shown where it says `not measurable`.
"""

import xarray as xr

from probes import store
from probes.activations import capture, capture_moments, load_activations
from probes.anchors import anchor_table
from probes.directions import EmotionProbes, load_probes
from probes.gates import gate_table, in_words
from probes.lm import Checkpoint, Engine, family
from probes.moments import HALVES, load_moments
from probes.stimuli import capture_anchors
from probes.stories import Stories, load_stories
from settings import Settings, ShardedSettings, command

KINDS = ("emotional", "neutral", "anchor", "anchor_neutral")  # what probes are fitted on, and the anchors


def refit(settings: Settings, engine: Engine, read: dict[str, Stories]) -> None:
    """Probes of a checkpoint on the stories of all, unless a run before has made them; of a shard, its units."""
    model = engine.model
    path = settings.refit(model.checkpoint.name)
    written = {kind: store.sha256(settings.stories(kind)) for kind in ("emotional", "neutral")}
    parts = settings.parts(path, {"weights": model.weights, "engine": engine.name, "texts": written})
    folds, start = dict.fromkeys((story.topic for story in read["emotional"]), 0), settings.size.start_token

    def fit() -> EmotionProbes:
        moments = capture_moments(model, read["emotional"], folds, "all", start, False, parts=parts, engine=engine)
        return EmotionProbes().fit(moments, capture(model, read["neutral"], "all", start, engine=engine))

    parts.ensure(lambda: fit().save)


def halves(settings: Settings) -> tuple[EmotionProbes, EmotionProbes]:
    """Probes of the original on either half of the topics."""
    moments, neutral = load_moments(settings.activations("moments")), load_activations(settings.activations("neutral"))
    first, second = (EmotionProbes().fit(moments.half(half), neutral) for half in HALVES)
    return first, second


def anchors(settings: Settings, checkpoint: Checkpoint, read: dict[str, Stories]) -> tuple[xr.Dataset, EmotionProbes]:
    """Activations of the anchors, and probes fitted anew; of two checkpoints, one at a time is in memory."""
    with settings.reading(checkpoint) as engine:
        activations = capture_anchors(engine.model, read["anchor"], read["anchor_neutral"], engine=engine)
        if checkpoint.variant == "original":
            return activations, load_probes(settings.probes)
        refit(settings, engine, read)
    return activations, load_probes(settings.refit(checkpoint.name))


def judge(settings: Settings, members: list[Checkpoint], read: dict[str, Stories]) -> None:
    """The original first: the others' gains are held against its."""
    frozen, both, original = load_probes(settings.probes), halves(settings), None
    for checkpoint in members:
        activations, again = anchors(settings, checkpoint, read)
        original = anchor_table(frozen, activations) if original is None else original
        table = gate_table(frozen, again, both, activations, original)
        store.write_table(settings.gates(checkpoint.name), table)
        print(f"{checkpoint.address}, {in_words(table, settings.shown_layers)}")


def main(settings: Settings) -> None:
    """Shards share the stories that new probes are fitted on; the rest is short."""
    read = {kind: load_stories(settings.stories(kind)) for kind in KINDS}
    members = family(settings.model, settings.trained, settings.with_original)
    if settings.share.is_whole:
        return judge(settings, members, read)
    for checkpoint in members[1:]:
        with settings.reading(checkpoint) as engine:
            refit(settings, engine, read)


if __name__ == "__main__":
    command(main, ShardedSettings, __doc__)
