"""Run the same stories through what cannot know an emotion: the model with random weights, and its embeddings alone.

    python experiments/capture_controls.py --model tiny

Writes activations/<control>_{moments,held_out,neutral}.safetensors for the controls `random` and `embeddings`, as
capture_stories does for the model. Probes of them read what words and architecture alone give away. A run that was killed
goes on where it stopped; at full size the random twin costs as much as the model.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from probes import store
from probes.activations import capture_in_units, capture_moments, save_activations
from probes.embeddings import embedded, embedded_moments
from probes.lm import Model, load, load_random
from probes.moments import FOLDS, topic_folds
from probes.parts import Parts
from probes.stories import Stories, draw_stories, load_stories, topics
from settings import Settings, ShardedSettings, command

Save = Callable[[Path], Path]
KINDS = ("neutral", "held_out", "moments")


def random_vectors(settings: Settings, model: Model, texts: Stories, parts: Parts) -> Save:
    """One vector a text and layer, as what saves them."""
    made = capture_in_units(model, texts, parts, "all", settings.size.start_token)
    return partial(save_activations, activations=made)


def embedding_vectors(settings: Settings, model: Model, texts: Stories) -> Save:
    """The same of the embeddings alone, which cost next to nothing."""
    return partial(save_activations, activations=embedded(model, texts, settings.size.start_token))


def ensure_control(settings: Settings, control: str, model: Model) -> None:
    """The three files of a control, unless they are there."""
    size, start = settings.size, settings.size.start_token
    stories, neutral = (load_stories(settings.stories(kind)) for kind in ("emotional", "neutral"))
    folds = topic_folds(topics()[: size.topics], FOLDS, settings.seed)
    odd = {topic for topic, fold in folds.items() if fold % 2}
    held_out = draw_stories(stories, odd, size.held_out, settings.seed)
    texts = {kind: store.sha256(settings.stories(kind)) for kind in ("emotional", "neutral")}
    made_of = {"weights": model.weights, "texts": texts, "folds": folds, "seed": settings.seed}
    parts = {kind: settings.parts(settings.activations(f"{control}_{kind}"), made_of) for kind in KINDS}
    for kind, some in (("neutral", neutral), ("held_out", held_out)):
        if control == "embeddings":
            parts[kind].ensure_in_one(partial(embedding_vectors, settings, model, some))
        else:
            parts[kind].ensure(partial(random_vectors, settings, model, some, parts[kind]))
    if control == "embeddings":
        parts["moments"].ensure_in_one(lambda: embedded_moments(model, stories, folds, start).save)
    else:
        fit = partial(capture_moments, model, stories, folds, "all", start, False, parts=parts["moments"])
        parts["moments"].ensure(lambda: fit().save)


def main(settings: Settings) -> None:
    """The embeddings of the model, then its random twin; no two are in memory at once."""
    ensure_control(settings, "embeddings", load(settings.model))
    ensure_control(settings, "random", load_random(settings.model, settings.seed))


if __name__ == "__main__":
    command(main, ShardedSettings, __doc__)
