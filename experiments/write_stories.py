"""Let the model write emotional stories and neutral dialogues.

    python experiments/write_stories.py --model tiny

Writes stories/emotional.jsonl and stories/neutral.jsonl with their reports. Dropped texts stay in the files, with the
reason; nothing after this step reads them. A run that was killed goes on where it stopped when it is started again.
"""

from dataclasses import asdict

from probes import store
from probes.lm import Sampling, load
from probes.provenance import content_sha
from probes.stories import load_stories, topics, write_neutral, write_stories
from settings import Settings, command


def show(settings: Settings, kind: str) -> None:
    """What became of the texts, as a table beside them and on the screen."""
    stories = load_stories(settings.stories(kind))
    store.write_table(settings.stories(kind).with_suffix(".csv"), stories.report())
    print(stories, stories.report().to_string(index=False), sep="\n")


def main(settings: Settings) -> None:
    """Emotional stories, then neutral dialogues."""
    store.check_folder(settings.folder)
    size, model = settings.size, load(settings.model)
    draw = Sampling(max_new_tokens=size.story_tokens, temperature=0.8, seed=settings.seed)
    chosen, said = topics()[: size.topics], content_sha("prompts.py", "data/topics.csv")
    made_of = {"weights": model.weights, "sampling": asdict(draw), "contents": said}
    emotional, neutral = (settings.parts(settings.stories(kind), made_of) for kind in ("emotional", "neutral"))
    design = (model, size.emotions, chosen, size.per_cell, draw, size.min_words)
    emotional.ensure(lambda: write_stories(*design, parts=emotional).save)
    show(settings, "emotional")
    neutral.ensure(lambda: write_neutral(model, chosen, size.neutral_per_topic, draw, parts=neutral).save)
    show(settings, "neutral")


if __name__ == "__main__":
    command(main, Settings, __doc__)
