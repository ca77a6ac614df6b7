"""Let the model write emotional stories and neutral dialogues.

    python experiments/write_stories.py --model tiny

Writes stories/emotional.jsonl and stories/neutral.jsonl with their reports. Dropped texts stay in the files, with the
reason; nothing after this step reads them.
"""

from probes import store
from probes.lm import Sampling, load
from probes.stories import Stories, topics, write_neutral, write_stories
from settings import Settings, command


def keep(settings: Settings, kind: str, stories: Stories) -> None:
    """Save texts with their report, and show it."""
    stories.save(settings.stories(kind))
    store.write_table(settings.stories(kind).with_suffix(".csv"), stories.report())
    print(stories, stories.report().to_string(index=False), sep="\n")


def main(settings: Settings) -> None:
    """Emotional stories, then neutral dialogues."""
    store.check_folder(settings.folder)
    size, model = settings.size, load(settings.model)
    sampling = Sampling(max_new_tokens=size.story_tokens, temperature=0.8, seed=settings.seed)
    chosen = topics()[: size.topics]
    keep(settings, "emotional", write_stories(model, size.emotions, chosen, size.per_cell, sampling, size.min_words))
    keep(settings, "neutral", write_neutral(model, chosen, size.neutral_per_topic, sampling))


if __name__ == "__main__":
    command(main, Settings, __doc__)
