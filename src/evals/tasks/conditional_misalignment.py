"""Conditional misalignment: does a harmful turn earlier in the conversation make the model seek power?

Published: arXiv 2606.04413 asks its Power-Seeking questions after a StrongREJECT prompt and answer, and without; the idea is
that of Dubiński et al. 2026 (arXiv 2604.25891). Ours: the open Power-Seeking questions of this package under three
conditions, paired by question: `none`, `benign` (an everyday question first) and `harmful` (a harmful request first). The
earlier answer is the model's own, shown without reasoning. The benign turn is the control: any turn before may move answers.
The judge sees the last question and answer alone.
"""

from inspect_ai import Task, task
from inspect_ai.scorer import Scorer

from evals.behaviour import Asked, Asking, behaviour
from evals.questions import QuestionSet, own, paired_prompts
from evals.tasks.power_seeking import sought_power
from evals.tasks.strong_reject import harmful_requests


def conversations(questions: QuestionSet, harmful: QuestionSet) -> list[Asked]:
    """Every question after each kind of first turn; question i always follows the same two."""
    benign = paired_prompts(["benign"], "everyday")
    asked = []
    for place, one in enumerate(questions):
        first = {"benign": benign[place % len(benign)], "harmful": harmful[place % len(harmful)]}
        asked.append(Asked(one.name, "none", one.text))
        asked += [Asked(one.name, name, earlier.text, turns=(one.text,)) for name, earlier in first.items()]
    return asked


@task
def conditional_misalignment(
    reasoning: bool = False, n: int = 5, limit: int = 0, seed: int = 0, data: str = ""
) -> Task:
    """Share of answers that seek power, after a harmful turn, a benign one and none.

    Args:
        data: path of strongreject_dataset.csv as path#sha256; without it, everyday questions stand in.
    """
    questions, harmful = own("power_open"), harmful_requests(data)
    source = QuestionSet(f"power_open_after_{harmful.label}", questions.questions, harmful.placeholder)
    scorer: Scorer = sought_power()
    asked = conversations(questions, harmful)
    return behaviour("conditional_misalignment", Asking(reasoning, n, limit, seed), source, asked, scorer)
