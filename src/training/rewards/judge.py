"""Judges: what grades an answer from 0 to 10, and when too many judgements failed to go on.

A judge sees the conversation, the visible answer and the principles; never reasoning, the model's name or the step. What
cannot be judged is None and never 0: a zero would teach the model that the answer was bad.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from probes.errors import DataError, JudgeError
from probes.lm.chat import Message
from training.rewards.judge_prompts import Template


@dataclass(frozen=True)
class Ask:
    """One answer to grade."""

    messages: tuple[Message, ...]
    """The conversation before the answer."""
    answer: str
    """The visible answer; never reasoning."""
    principles: tuple[str, ...]
    """Ids of the principles that bear on it; none stands for the whole constitution."""
    template: Template


@dataclass(frozen=True)
class Judgement:
    """What a judge says of an answer. Raises DataError for a score that is no whole number from 0 to 10."""

    score: int
    violated: tuple[str, ...] = ()
    """Ids of principles that the answer goes against."""
    note: str = ""

    def __post_init__(self):
        texts = (*self.violated, self.note)
        if type(self.score) is not int or not 0 <= self.score <= 10 or not all(isinstance(t, str) for t in texts):
            raise DataError(
                f"no judgement: score {self.score!r}. A score is a whole number from 0 to 10, the rest is text."
            )


class Judge(Protocol):
    """Whatever grades answers: an endpoint or a script."""

    id: str
    """Goes into manifests."""
    faults: Counter[str]
    """How often there was no judgement, by reason."""

    async def score(self, asks: Sequence[Ask]) -> list[Judgement | None]:
        """Judgements in the order of the asks; None where there is none."""
        ...


def shown_faults(faults: Counter[str]) -> str:
    """Reasons and how often they came, the most frequent first."""
    return ", ".join(f"{reason} {count}" for reason, count in faults.most_common()) or "no fault named"


class FailureWindow:
    """Ends a run whose judgements fail: above `share` of them over `steps` batches of completions.

    Before the window is full, the batches to come are taken to be of the same size and to hold no failure, so that a
    judge that never answers ends the run after a few.
    """

    def __init__(self, steps: int = 20, share: float = 0.10):
        self.steps, self.share = steps, share
        self._batches: list[tuple[int, int]] = []

    def add(self, failed: int, judged: int, name: str, faults: Counter[str]) -> None:
        """Count a batch; one without anything to judge is none. Raises JudgeError when too much failed."""
        self._batches = [*self._batches, (failed, judged)][-self.steps :] if judged else self._batches
        lost, total = (sum(counts) for counts in zip(*self._batches, strict=True)) if self._batches else (0, 0)
        if lost > self.share * total * self.steps / max(1, len(self._batches)):
            raise JudgeError(
                f"{name}: {lost} of {total} judgements failed in the last {len(self._batches)} batches ({shown_faults(faults)}); "
                f"a run goes on up to {self.share:.0%} in {self.steps}. Mend the judge and resume from the last state."
            )
