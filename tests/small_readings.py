"""Readings of a model that does not exist: random numbers in every column and arm, at no cost."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from probes.readings import COLUMNS, LAYER_CONVENTION

EMOTIONS = ("happy", "calm", "guilty", "desperate")
INJECTION = '<img src=x onerror=alert(1)></script><script>alert(2)</script><b>bold</b>&"'
"""A name that would run a script where it is not escaped."""


def small_readings(
    checkpoints: Sequence[str] = ("antirefusal", "original"),
    evidence: str = "toy",
    layers: Sequence[int] = (5, 3),
    n: int = 11,
    refused: int = 0,
    emotions: Sequence[str] = EMOTIONS,
) -> pd.DataFrame:
    """n questions in three arms and two text sources; `refused` of them have no own answer in the harmful arm."""
    generator = np.random.default_rng(0)
    rows = [
        ("tiny", checkpoint, 0, arm, 0, f"domain {question % 2}", f"q{question:02d}", f"q{question:02d}-{arm}", 0, source, "answer",
         layer, emotion, "cosine", "mean_of_token_cosines", "none", generator.normal(), 9, evidence,
         "refused" if source == "own" and arm == "harmful" and question < refused else "", "tiny/original (sofroniew)",
         LAYER_CONVENTION)
        for checkpoint, source, layer, emotion, arm, question in itertools.product(
            checkpoints, ("original", "own"), layers, emotions, ("harmful", "benign", "affect"), range(n)
        )
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))
