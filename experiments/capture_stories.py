"""Run the stories through the model that wrote them and keep, of their residual streams, what fits and scores probes.

    python experiments/capture_stories.py --model tiny

Writes doctor/original.json before anything is read: whether the engine reads this model rightly. Then
activations/moments.safetensors (means and second moments of all stories, in two halves of the topics) and, as one vector a
text and layer, activations/held_out.safetensors (some stories of the second half) and activations/neutral.safetensors; and
activations/neutral_tokens.safetensors, moments of single tokens. Stories enter as raw text. A run that was killed goes on
where it stopped; shards are merged by a run without.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from probes import store
from probes.activations import capture_in_units, capture_moments, save_activations
from probes.lm import Engine
from probes.moments import FOLDS, topic_folds
from probes.parts import Parts
from probes.stories import Stories, draw_stories, load_stories, topics
from probes.token_moments import capture_tokens
from settings import Settings, ShardedSettings, command


def vectors(settings: Settings, engine: Engine, texts: Stories, parts: Parts) -> Callable[[Path], Path]:
    """One vector a text and layer, as what saves them."""
    made = capture_in_units(engine.model, texts, parts, "all", settings.size.start_token, engine=engine)
    print(f"{made.sizes['sample']} of {len(texts)} captured; {made.attrs['dropped_short']} too short")
    return partial(save_activations, activations=made)


def read(settings: Settings, engine: Engine, stories: Stories, neutral: Stories) -> None:
    """Neutral dialogues and held-out stories as vectors, then the moments of all stories: the reader's own texts."""
    size, seed, model = settings.size, settings.seed, engine.model
    name = model.checkpoint.name
    folds = topic_folds(topics()[: size.topics], FOLDS, seed)
    held_out = draw_stories(stories, {topic for topic, fold in folds.items() if fold % 2}, size.held_out, seed)
    texts = {kind: store.sha256(settings.stories(kind, name)) for kind in ("emotional", "neutral")}
    made_of = {"weights": model.weights, "engine": engine.name, "texts": texts, "folds": folds, "seed": seed}
    for kind, some in (("neutral", neutral), ("held_out", held_out)):
        parts = settings.parts(settings.activations(kind, name), made_of)
        parts.ensure(partial(vectors, settings, engine, some, parts))
    tokens = settings.parts(settings.activations("neutral_tokens", name), made_of)
    tokens.ensure_in_one(lambda: capture_tokens(model, neutral, "all", size.start_token, engine=engine).save)
    all_of = settings.parts(settings.activations("moments", name), made_of)
    moments = partial(capture_moments, model, stories, folds, start_token=size.start_token, parts=all_of, engine=engine)
    all_of.ensure(lambda: moments().save)


def main(settings: Settings) -> None:
    """Everything that later steps need of the stories."""
    stories, neutral = (load_stories(settings.stories(kind)) for kind in ("emotional", "neutral"))
    with settings.reading() as engine:
        read(settings, engine, stories, neutral)


if __name__ == "__main__":
    command(main, ShardedSettings, __doc__)
