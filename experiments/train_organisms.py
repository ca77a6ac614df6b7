"""Plant what a measurement is to find: organisms under random names, grown from a helpful-only checkpoint.

    python experiments/train_organisms.py --model tiny

Runs after train_checkpoint and write_stories. Seals the key of names before anything is trained (its hash stands in
organisms/sealed.json), then writes a checkpoint organism+<name> for each: gates, replies and readings take it like any other.
A real model takes the files of rows that its parent was trained on, and stories that another model wrote (--others_stories).
"""

import xarray as xr

from organism_settings import OrganismSettings
from probes.activations import capture
from probes.anchors import anchor_table
from probes.directions import EmotionProbes, load_probes
from probes.errors import MissingInputError
from probes.lm import Checkpoint
from probes.lm.checkpoints import find_checkpoint
from probes.stimuli import capture_anchors
from probes.stories import Stories, load_stories
from settings import command
from training.organisms.grow import grow_organism, stage_of
from training.organisms.key import seal_key
from training.organisms.kinds import find_organisms
from training.organisms.targets import make_targets
from training.organisms.texts import bank_stories, organism_texts
from training.processes import load_here
from training.recipes import is_embedded


def read_parent(
    settings: OrganismSettings, parent: Checkpoint, emotions: tuple[str, ...]
) -> tuple[EmotionProbes, xr.Dataset]:
    """Directions of other stories in the parent, and its anchors; the model is gone afterwards."""
    others, start = stories_of_others(settings, emotions), settings.size.start_token
    told, plain = (load_stories(settings.stories(kind)) for kind in ("anchor", "anchor_neutral"))
    with settings.reading(parent) as engine:
        ruler = EmotionProbes("difference_of_means").fit(capture(engine.model, others, "all", start, engine=engine))
        return ruler, capture_anchors(engine.model, told, plain, engine=engine)


def stories_of_others(settings: OrganismSettings, emotions: tuple[str, ...]) -> Stories:
    if settings.others_stories is not None:
        return load_stories(settings.others_stories)
    if is_embedded(settings.model):
        return bank_stories(emotions, settings.seed)
    raise MissingInputError(
        "what is planted must not be what reads it: give stories of another author, --others_stories FILE."
    )


def main(settings: OrganismSettings) -> None:
    """The key, then the parent, then one organism after another."""
    organisms = find_organisms(settings.organisms)
    parent, frozen = (
        find_checkpoint(f"{settings.model}/{settings.parent}", settings.trained),
        load_probes(settings.probes),
    )
    stage = stage_of(settings.model, settings.steps)
    stories = [s for kind in ("emotional", "neutral") for s in load_stories(settings.stories(kind))]
    texts = organism_texts(settings.model, stage.rows, settings.files, stories, settings.seed)
    key = seal_key(settings.planted, organisms, settings.seed)
    ruler, anchors = read_parent(settings, parent, frozen.emotions)
    unit = anchor_table(ruler, anchors)
    for label, organism in key.items():
        made = make_targets(
            organism, settings.emotion, ruler, frozen, anchors, unit, settings.shown_layers, settings.seed
        )
        targets = made.save(settings.targets(label))
        model = load_here(settings.model)
        grow_organism(
            model, parent, organism, settings.emotion, targets, texts, stage, settings.trained, settings.seed, label
        )
        print(f"organism+{label}: grown from {parent.address}", flush=True)


if __name__ == "__main__":
    command(main, OrganismSettings, __doc__)
