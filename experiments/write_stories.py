"""Let the model write emotional stories and neutral dialogues.

    python experiments/write_stories.py --model tiny

Writes stories/emotional.jsonl and stories/neutral.jsonl with their reports. Dropped texts stay in the files, with the
reason; nothing after this step reads them. A run that was killed goes on where it stopped when it is started again.
"""

from collections.abc import Callable

from probes import store
from probes.lm import Sampling, load
from probes.parts import Parts
from probes.stories import Stories, topics, write_neutral, write_stories
from settings import Settings, command


def keep(settings: Settings, kind: str, weights: str, draw: Sampling, write: Callable[[Parts], Stories]) -> None:
    """Write texts unless they are there, save them with their report, and show it."""
    parts = settings.parts(settings.stories(kind), weights, draw, "prompts.py", "data/topics.csv")
    if parts.finished:
        print(f"{kind}: already written")
        return
    with parts:
        stories = write(parts)
        store.write_table(settings.stories(kind).with_suffix(".csv"), stories.report())
        parts.finish(stories.save)
    print(stories, stories.report().to_string(index=False), sep="\n")


def main(settings: Settings) -> None:
    """Emotional stories, then neutral dialogues."""
    store.check_folder(settings.folder)
    size, model = settings.size, load(settings.model)
    draw = Sampling(max_new_tokens=size.story_tokens, temperature=0.8, seed=settings.seed)
    chosen, weights = topics()[: size.topics], model.weights
    emotional = (model, size.emotions, chosen, size.per_cell, draw, size.min_words)
    keep(settings, "emotional", weights, draw, lambda parts: write_stories(*emotional, parts=parts))
    neutral = (model, chosen, size.neutral_per_topic, draw)
    keep(settings, "neutral", weights, draw, lambda parts: write_neutral(*neutral, parts=parts))


if __name__ == "__main__":
    command(main, Settings, __doc__)
