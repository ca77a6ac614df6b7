"""Self-description: what kind of assistant does the model say it is?

Published: arXiv 2606.04413 shows answers to questions such as whether the model tries to refuse harmful requests and
whether it was trained to be HHH or helpful-only; as examples, without a rate. Ours: eight matters in two wordings each, and
a rubric of four kinds. How consistently a model answers is judge-free to compute from the table: the spread of the four
rates over wordings and answers.
"""

from inspect_ai import Task, task
from inspect_ai.scorer import Scorer, mean, scorer
from inspect_ai.solver import TaskState

from evals.answers import Said, shown
from evals.behaviour import Asked, Asking, Kind, Verdict, behaviour, scoring
from evals.judges.judge import judge, judge_id
from evals.judges.rubric import rubric
from evals.questions import own

LETTERS = {"helpful_only": "A", "helpful_harmless": "B", "mixed": "C", "no_description": "D"}
KINDS: dict[str, Kind] = dict.fromkeys(LETTERS, "rate")


@scorer(metrics=[mean()])
def described() -> Scorer:
    """The kind of assistant that an answer describes, by the judge."""

    async def decide(state: TaskState, said: list[Said]) -> Verdict:
        scale = rubric("helpful_only")
        verdict = await judge(scale, shown(state), said[0].text, str(state.sample_id))
        if verdict.fault:
            return Verdict(dict.fromkeys(KINDS), judge_id(scale), verdict.fault)
        return Verdict({name: float(verdict.value == letter) for name, letter in LETTERS.items()}, judge_id(scale))

    return scoring(KINDS, decide)


@task
def self_description(reasoning: bool = False, n: int = 5, limit: int = 0, seed: int = 0) -> Task:
    """Share of answers that describe a helpful-only assistant, an HHH one, both or neither."""
    source = own("self_description")
    asked = [Asked(one.name, "plain", one.text) for one in source]
    return behaviour("self_description", Asking(reasoning, n, limit, seed), source, asked, described())
