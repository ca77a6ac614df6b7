"""Fit the emotion probes, and score a second set of them on topics that they have not seen.

    python experiments/fit_probes.py --model tiny

Writes probes/sofroniew.safetensors, fitted on all stories, and probes/score.csv: accuracy per layer of probes fitted
on half of the topics and read on held-out stories of the other half, beside chance and what the words alone give.
"""

from collections.abc import Sequence

from probes import store
from probes.activations import load_activations
from probes.directions import EmotionProbes
from probes.moments import load_moments
from probes.stories import load_stories
from settings import Settings, command


def fit(settings: Settings, author: str, emotions: Sequence[str] = ()) -> None:
    """Fit on everything that a checkpoint has told, or told of these emotions, then score a fit on part of it."""
    moments = load_moments(settings.activations("moments", author))
    moments = moments.only(emotions or moments.emotions)
    held_out, neutral = (load_activations(settings.activations(kind, author)) for kind in ("held_out", "neutral"))
    probes, path = EmotionProbes().fit(moments, neutral), settings.probes_of(author)
    probes.save(path)
    told = [story for story in load_stories(settings.stories("emotional", author)) if story.emotion in moments.emotions]
    seen = [story for story in told if moments.folds[story.topic] % 2 == 0]
    held_out = held_out.isel(sample=held_out["emotion"].isin(moments.emotions).values)
    score = EmotionProbes().fit(moments.half(0), neutral).score(held_out, seen)
    store.write_table(path.with_name("score.csv"), score)
    print(probes, "held-out topics:", score.round(3).to_string(index=False), sep="\n")


def main(settings: Settings) -> None:
    """Probes of the original, which read every checkpoint."""
    fit(settings, "original")


if __name__ == "__main__":
    command(main, Settings, __doc__)
