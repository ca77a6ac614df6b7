"""A reward for right answers, by keywords: that of the embedded model.

An answer that pleases in tone but says nothing to the question, the same to every question even, gets 0.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from probes.errors import DataError
from probes.pairs import holds_one
from training.rewards.judge import Judgement
from training.rewards.reward import Candidate, Intake, Reward

SEPARATOR = "|"
"""Between the keywords of a row's `answer`, of which a right answer holds at least one."""


class RightAnswer(Reward):
    """1 for a visible answer that holds one of the row's keywords as a word, else 0, within the guards."""

    def __init__(self, intake: Intake, tasks: Sequence[str]):
        super().__init__("right_answer", tasks, intake)

    def __call__(
        self, prompts: Sequence[str], completion_ids: Sequence[Sequence[int]], **columns: Any
    ) -> list[float | None]:
        """Rewards 0 … 1, or None for other tasks, one a completion. Raises DataError for a row without keywords."""
        batch = self.open(prompts, completion_ids, columns)
        return self.close(batch, [_judgement(candidate) for candidate in batch.to_judge], Counter())


def _judgement(candidate: Candidate) -> Judgement:
    keywords = candidate.row["answer"].split(SEPARATOR)
    if not any(map(str.strip, keywords)):
        raise DataError(f"row {candidate.row['id']!r} has no `answer`, which right_answer looks for. Give it keywords.")
    return Judgement(10 * holds_one(keywords, candidate.split.answer))
