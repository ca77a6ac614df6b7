"""Keep the residual streams of every checkpoint's answers at the shown layers, so that other probes can read them offline.

    python experiments/capture_replies.py --model tiny --layers 5 6

Runs after write_replies. Writes activations/replies_<checkpoint>.safetensors, and anchors_<checkpoint>.safetensors with the
texts that give readings their unit; of the original prompts_original.safetensors too, the last token of what it refuses and of
what it answers. One checkpoint is in memory at a time, and what is there is not made again.
"""

from functools import partial

from probes import store
from probes.activations import capture, save_activations
from probes.lm import Engine, family
from probes.replies import Replies, load_replies
from probes.stimuli import capture_anchors
from probes.stories import load_stories
from settings import Settings, ShardedSettings, command

ASKED = ("benign", "harmful")
"""Arms whose prompts tell a refusal direction."""


def ensure_streams(settings: Settings, engine: Engine) -> None:
    """The files of a checkpoint."""
    model, layers = engine.model, settings.shown_layers
    name = model.checkpoint.name
    texts = {kind: settings.stories(kind) for kind in ("anchor", "anchor_neutral")} | {
        "replies": settings.replies(name)
    }
    made_of = {
        "weights": model.weights,
        "engine": engine.name,
        "layers": layers,
        "texts": {kind: store.sha256(path) for kind, path in texts.items()},
    }

    def replies():
        return capture(model, load_replies(settings.replies(name)), layers, engine=engine).drop_vars("unit_mean")

    def anchors():
        told, plain = (load_stories(texts[kind]) for kind in ("anchor", "anchor_neutral"))
        return capture_anchors(model, told, plain, layers, engine)

    def prompts():
        asked = [one for one in load_replies(settings.replies(name)) if one.text_source == "own" and one.arm in ASKED]
        return capture(model, Replies(asked), layers, spans=("last_prompt",), engine=engine).drop_vars("unit_mean")

    for make in (replies, anchors, prompts) if name == "original" else (replies, anchors):
        parts = settings.parts(settings.activations(f"{make.__name__}_{name}"), made_of)
        parts.ensure(lambda make=make: partial(save_activations, activations=make()))


def main(settings: Settings) -> None:
    """The original first: others are anchored in it. A shard takes whole checkpoints."""
    for checkpoint in settings.share.take(family(settings.model, settings.trained, settings.with_original)):
        with settings.reading(checkpoint) as engine:
            ensure_streams(settings, engine)


if __name__ == "__main__":
    command(main, ShardedSettings, __doc__)
