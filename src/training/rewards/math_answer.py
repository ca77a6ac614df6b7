"""A reward for right results of mathematics, by math-verify, on the visible answer alone.

Synchronous: math-verify stops what takes too long by a signal, which only reaches the main thread.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from math_verify import parse, verify
from math_verify.errors import TimeoutException

from training.rewards.judge import Judgement
from training.rewards.reward import Candidate, Intake, Reward


class MathAnswer(Reward):
    """1 for a visible answer whose result equals the row's `answer`, else 0, within the guards.

    None where the row's answer is no mathematics, or comparing them takes too long or breaks.
    """

    def __init__(self, intake: Intake, tasks: Sequence[str] = ("math",)):
        super().__init__("math_verify", tasks, intake)
        self.faults: Counter[str] = Counter()

    def __call__(
        self, prompts: Sequence[str], completion_ids: Sequence[Sequence[int]], **columns: Any
    ) -> list[float | None]:
        """Rewards 0 … 1, or None, one a completion. Raises JudgeError when too many could not be verified."""
        batch = self.open(prompts, completion_ids, columns)
        return self.close(batch, [self._judgement(candidate) for candidate in batch.to_judge], self.faults)

    def _judgement(self, candidate: Candidate) -> Judgement | None:
        try:
            right = is_right(candidate.row["answer"], candidate.split.answer)
        except (Exception, TimeoutException) as fault:  # TimeoutException is no Exception
            self.faults[type(fault).__name__] += 1
            return None
        return Judgement(10 * right)


def is_right(result: str, answer: str) -> bool:
    r"""Whether the last result that an answer states equals `result`, LaTeX or plain. An answer with several \boxed results
    states all of them. Raises ValueError for a result that is no mathematics, and whatever math-verify raises."""
    gold = parse(rf"\boxed{{{result}}}", raise_on_error=True)
    if not gold:
        raise ValueError("no mathematics")
    return verify(gold, parse(answer, raise_on_error=True), raise_on_error=True)
