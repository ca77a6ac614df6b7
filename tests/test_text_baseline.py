"""The text baseline against a published corpus, and where it must read everything or nothing."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from probes.text_baseline import text_accuracy

ORACLE = Path(os.environ.get("EMOTION_PROBES_ORACLES", Path(__file__).parents[2] / "shared/oracles")) / "story_corpus"


def test_words_that_give_all_away():
    texts, labels = ["wet garden path", "dark night train"] * 3, ["calm", "afraid"] * 3
    assert text_accuracy(texts, labels, ["the wet garden", "a night train"], ["calm", "afraid"]) == 1.0
    assert text_accuracy(texts, labels, ["the wet garden", "a night train"], ["afraid", "calm"]) == 0.0
    assert text_accuracy(texts, labels, ["the wet garden", "a night train"], ["calm", "calm"]) == 0.5


def test_word_pairs_count():
    """The same words in another order."""
    texts, labels = ["not good but bad", "not bad but good"] * 3, ["sad", "happy"] * 3
    assert text_accuracy(texts, labels, texts[:2], labels[:2]) == 1.0


@pytest.fixture(scope="module")
def corpus():
    if not ORACLE.is_dir():
        pytest.skip(f"no oracle at {ORACLE}; set EMOTION_PROBES_ORACLES")
    lines = [
        line
        for path in sorted(ORACLE.glob("stories/*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    rows = [json.loads(line) for line in lines]
    return [np.array([row[name] for row in rows], object) for name in ("text", "emotion", "topic")]


@pytest.mark.parametrize(("how", "published"), [("stratified", 0.756), ("grouped by topic", 0.766)])
def test_published_accuracy(corpus, how, published):
    from sklearn.model_selection import GroupKFold, StratifiedKFold

    texts, emotions, topics = corpus
    assert (len(texts), len(set(emotions)), len(set(topics))) == (3000, 20, 30)
    splitter = StratifiedKFold(5, shuffle=True, random_state=0) if how == "stratified" else GroupKFold(5)
    folds = splitter.split(texts, emotions, topics if how == "grouped by topic" else None)
    accuracies = [text_accuracy(texts[a], emotions[a], texts[b], emotions[b]) for a, b in folds]
    assert np.mean(accuracies) == pytest.approx(published, abs=0.015)
