"""Fit the emotion probes, and score a second set of them on topics that they have not seen.

    python experiments/fit_probes.py --model tiny

Writes probes/sofroniew.safetensors, fitted on all stories, and probes/score.csv: accuracy per layer of probes fitted
on three quarters of the topics and read on the last quarter, beside chance and what the words alone give.
"""

from probes import store
from probes.activations import load_activations, split
from probes.directions import EmotionProbes
from settings import Settings, command


def main(settings: Settings) -> None:
    """Fit on everything, then score a fit on part of it."""
    stories, neutral = (load_activations(settings.activations(kind)) for kind in ("emotional", "neutral"))
    train, test = split(stories, by="topic", test=0.25, seed=settings.seed)
    probes = EmotionProbes().fit(stories, neutral)
    probes.save(settings.probes)
    score = EmotionProbes().fit(train, neutral).score(test, train)
    store.write_table(settings.probes.with_name("score.csv"), score)
    print(probes, "held-out topics:", score.round(3).to_string(index=False), sep="\n")


if __name__ == "__main__":
    command(main, Settings, __doc__)
