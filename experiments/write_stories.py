"""Let the model write emotional stories and neutral dialogues.

    python experiments/write_stories.py --model tiny
    python experiments/write_stories.py --model qwen3-30b-a3b --preset paper --writer vllm

Writes stories/emotional.jsonl and stories/neutral.jsonl with their reports, and a few of other topics as anchor.jsonl and
anchor_neutral.jsonl, which give readings their unit. Dropped texts stay in the files, with the reason; nothing after this
step reads them. A run that was killed goes on where it stopped when it is started again; shards are merged by a run without.
"""

from dataclasses import replace
from pathlib import Path

from probes import store
from probes.lm import Sampling, Writer
from probes.lm.checkpoints import find_checkpoint
from probes.presets import Preset
from probes.stories import load_stories, topics, write_neutral, write_stories
from settings import Settings, command
from writer_settings import WriterSettings, WritingSettings, writer_of

ANCHOR_SEED = 10_007
"""Added to the seed of stories that are no fit's, so that an equal request is not answered by an equal story."""


def show(path: Path) -> None:
    """What became of the texts, as a table beside them and on the screen."""
    stories = load_stories(path)
    report = stories.report().assign(written_by=stories.written_by)
    store.write_table(path.with_suffix(".csv"), report)
    print(stories, stories.report().to_string(index=False), sep="\n")


def anchor_topics(size: Preset) -> tuple[str, ...]:
    """The first topics that no probe is fitted on; where all are taken, the last ones, of which other stories are drawn."""
    return topics()[size.topics :][: size.anchor_topics] or topics()[-size.anchor_topics :]


def write(
    settings: WriterSettings,
    model: Writer,
    kinds: tuple[str, str],
    chosen: tuple[str, ...],
    per_cell: int,
    draw: Sampling,
) -> None:
    """Stories of every emotion under the first name, then dialogues under the second, about these topics."""
    size, said = settings.size, ("prompts.py", "data/topics.csv")
    paths = [settings.stories(kind, model.checkpoint.name) for kind in kinds]
    emotional, neutral = (settings.texts(path, model.weights, draw, said) for path in paths)
    design = (model, size.emotions, chosen, per_cell, draw, size.min_words)
    if emotional.ensure(lambda: write_stories(*design, parts=emotional).save):
        show(paths[0])
    if neutral.ensure(lambda: write_neutral(model, chosen, size.neutral_per_topic, draw, parts=neutral).save):
        show(paths[1])


def sampling_of(settings: Settings) -> Sampling:
    """The same of all who write: the same request is answered with the same noise."""
    return Sampling(max_new_tokens=settings.size.story_tokens, temperature=0.8, seed=settings.seed)


def write_to_fit(settings: WriterSettings, model: Writer) -> None:
    """Stories and dialogues that probes are fitted on, of the checkpoint that writes."""
    size = settings.size
    write(settings, model, ("emotional", "neutral"), topics()[: size.topics], size.per_cell, sampling_of(settings))


def main(settings: WriterSettings) -> None:
    """Emotional stories and neutral dialogues, of the topics that probes are fitted on and then of others."""
    store.check_folder(settings.folder)
    draw = sampling_of(settings)
    others = replace(draw, seed=draw.seed + ANCHOR_SEED)
    with writer_of(settings, find_checkpoint(settings.model)) as model:
        write_to_fit(settings, model)
        write(settings, model, ("anchor", "anchor_neutral"), anchor_topics(settings.size), 1, others)


if __name__ == "__main__":
    command(main, WritingSettings, __doc__)
