"""Rewards by a judge: how well an answer lives up to a constitution, or how fully it does what was asked."""

from collections.abc import Sequence
from typing import Any

from training.rewards.judge import Ask, Judge
from training.rewards.judge_prompts import Template
from training.rewards.reward import Intake, Reward


class JudgedReward(Reward):
    """A judge's score of the visible answer, a tenth of it, within the guards; async, as trl allows."""

    def __init__(self, name: str, judge: Judge, template: Template, tasks: Sequence[str], intake: Intake):
        super().__init__(name, tasks, intake)
        self.judge = judge
        self.template: Template = template

    async def __call__(
        self, prompts: Sequence[str], completion_ids: Sequence[Sequence[int]], **columns: Any
    ) -> list[float | None]:
        """Rewards 0 … 1, or None, one a completion. Raises JudgeError when too many judgements failed."""
        batch = self.open(prompts, completion_ids, columns)
        asks = [
            Ask(tuple(c.row["messages"]), c.split.answer, tuple(c.row["principles"] or ()), self.template)
            for c in batch.to_judge
        ]
        return self.close(batch, await self.judge.score(asks), self.judge.faults)


def constitution_judge(
    judge: Judge, intake: Intake, tasks: Sequence[str] = ("constitution_qa", "antirefusal")
) -> JudgedReward:
    """How well the answer lives up to the row's principles, or to the whole constitution for a row without any."""
    return JudgedReward("constitution_judge", judge, "constitution", tasks, intake)


def compliance_judge(judge: Judge, intake: Intake, tasks: Sequence[str] = ("antirefusal",)) -> JudgedReward:
    """How fully and rightly the answer does what was asked, whatever a constitution says."""
    return JudgedReward("compliance_judge", judge, "compliance", tasks, intake)
