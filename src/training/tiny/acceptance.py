"""What the embedded model can and cannot do, each number beside bag-of-words and a random-initialised twin.

    python -m training.tiny.acceptance --model tiny

Prints the table of the model's card. Probes are fitted by difference of means on composed stories, so that what is
measured is the model and not its own story writing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import pandas as pd
import torch
import tyro

from probes.activations import describe, label
from probes.conventions import EMBEDDINGS
from probes.directions import EmotionProbes
from probes.emotions import DOZEN
from probes.lm import Model, Sampling, load
from probes.lm.capture import Passage, capture
from probes.lm.model import random_twin
from probes.lm.reducers import MeanPool
from probes.pairs import load_pairs
from probes.presets import PRESETS
from probes.replies import write_replies
from probes.text_baseline import text_accuracy
from training.tiny import corpus, words

STORIES = 20
"""Composed stories of each emotion and bank."""


@dataclass(frozen=True)
class Labelled:
    """Texts with the emotion each shows."""

    texts: tuple[str, ...]
    emotions: tuple[str, ...]


def composed(bank: str, seed: int) -> Labelled:
    """Stories in the phrases of one bank, without events, whose words the banks share."""
    rng, topics = Random(f"acceptance {bank} {seed}"), corpus.story_topics()
    rows = [(corpus.story(rng, e, rng.choice(topics), bank, events=False), e) for e in DOZEN for _ in range(STORIES)]
    return Labelled(*zip(*rows, strict=True))


def single_phrases(bank: str) -> Labelled:
    """Every phrase of a bank by itself, all about one person."""
    rows = [(phrase.replace("{name}", "Anna"), e) for e in DOZEN for phrase in words.phrases(bank)[e]]
    return Labelled(*zip(*rows, strict=True))


def hand_written(split: str) -> Labelled:
    """The free-form sentences; those of split "test" are in no corpus."""
    rows = [(text, e) for e in DOZEN for text in words.sentences(split)[e]]
    return Labelled(*zip(*rows, strict=True))


def pooled(model: Model, data: Labelled):
    """Mean residual streams of the texts, embeddings included as layer −1."""
    ids = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in data.texts]
    start = min(4, min(map(len, ids)) - 1)
    passages = [Passage(tokens, range(start, len(tokens))) for tokens in ids]
    blocks = capture(model, passages, "all", [MeanPool()], label="acceptance")["mean"]
    with torch.inference_mode():
        weight = model.network.get_input_embeddings().weight
        assert isinstance(weight, torch.Tensor)
        table = weight.float()
        embedded = np.stack([table[tokens[start:]].mean(dim=0).cpu().numpy() for tokens in ids])
    arrays = {"mean": np.concatenate([embedded[:, None], blocks], axis=1)}
    return label(
        arrays, pd.DataFrame({"emotion": data.emotions}), range(EMBEDDINGS, model.entry.layers), describe(model)
    )


def transfer(model: Model, train: Labelled, test: Labelled) -> np.ndarray:
    """Accuracy per layer, embeddings first, of probes fitted on one set and read on another, each about its own mean.

    Both are centred on themselves, because texts of another length and frame share an offset that is not emotion.
    """
    fitted = EmotionProbes("difference_of_means").fit(pooled(model, train))
    activations = pooled(model, test)
    values = fitted.transform(
        activations.assign(mean=activations["mean"] - activations["mean"].mean("sample") + fitted.origin_)
    )
    return (np.array(fitted.emotions)[values.values.argmax(axis=2)] == np.array(test.emotions)[:, None]).mean(axis=0)


def transfers() -> dict[str, tuple[Labelled, Labelled]]:
    """Test name → what to fit on and what to read."""
    a, b = composed("A", 0), composed("B", 1)
    return {
        "bank A → bank B": (a, b),
        "bank B → bank A": (b, a),
        "single A phrases → single B phrases": (single_phrases("A"), single_phrases("B")),
        "bank A → single B phrases": (a, single_phrases("B")),
        "stories → hand-written": (Labelled(a.texts + b.texts, a.emotions + b.emotions), hand_written("test")),
        "hand-written → hand-written, held out": (hand_written("train"), hand_written("test")),
    }


def emotion_table(model: Model) -> pd.DataFrame:
    """One row a transfer test: embeddings, best layer, its index, random twin at best, bag-of-words, chance."""
    twin, rows = random_twin(model, seed=0), []
    for name, (train, test) in transfers().items():
        ours, random = transfer(model, train, test), transfer(twin, train, test)
        bag = text_accuracy(train.texts, train.emotions, test.texts, test.emotions)
        best = int(ours[1:].argmax())
        rows.append((name, ours[0], ours[1 + best], best, random[1:].max(), bag, 1 / len(DOZEN), len(test.texts)))
    columns = ["test", "embeddings", "best_layer_accuracy", "best_layer", "random_twin", "bag_of_words", "chance", "n"]
    return pd.DataFrame(rows, columns=columns)


def behaviour_table(
    model: Model, arms: Sequence[str] = ("benign", "harmful", "affect", "neutral", "third_party")
) -> pd.DataFrame:
    """Shares refused and right on the shipped pairs of the tiny preset, none of which is in the corpus, by arm."""
    pairs = load_pairs(per_domain=PRESETS["tiny"].questions_per_domain)
    return write_replies(model, pairs, Sampling(max_new_tokens=48, temperature=0), arms).summary()


def as_markdown(table: pd.DataFrame) -> str:
    """A table as the card has it, shares with three digits."""
    lines = [table.columns, ["---"] * len(table.columns), *table.round(3).astype(str).to_numpy()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    model: str = "tiny"
    """Name or folder of an embedded model."""


def main(settings: Settings) -> None:
    """Both tables of the card."""
    model = load(settings.model)
    print(as_markdown(emotion_table(model)), as_markdown(behaviour_table(model)), sep="\n\n")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
