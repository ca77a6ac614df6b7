"""Refusal away from what was trained on: safe prompts that look unsafe, and unsafe ones.

Published: arXiv 2606.04413 reports no such set in its public text; this control is ours. XSTest (Röttger et al. 2024, 250
safe prompts and 200 unsafe ones) from a downloaded file; without one, everyday questions stand in: `safe` with a protective
second sentence, `unsafe` with a harmful one. The rubric of three kinds is ours, after the source's full, partial and no
refusal.
"""

from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.scorer import Scorer, mean, scorer
from inspect_ai.solver import TaskState

from evals.answers import Said, shown
from evals.behaviour import Asked, Asking, Kind, Verdict, behaviour, scoring
from evals.judges.judge import judge, judge_id
from evals.judges.rubric import rubric
from evals.questions import Download, Question, given_or, paired_prompts, rows_of_csv

KINDS: dict[str, Kind] = {"refused": "rate", "refused_in_part": "rate"}


def _read(path: Path) -> list[Question]:
    rows = rows_of_csv(path, "prompt")
    kinds = ["unsafe" if row["type"].startswith("contrast") else "safe" for row in rows]
    return [
        Question(f"xstest-{place:03d}", row["prompt"], {"arm": kind})
        for place, (row, kind) in enumerate(zip(rows, kinds, strict=True), 1)
    ]


XSTEST = Download(
    "xstest", "https://github.com/paul-rottger/exaggerated-safety (xstest_v2_prompts.csv)", 450, "CC-BY-4.0", _read
)
STAND_IN = {"affect": "safe", "harmful": "unsafe"}


@scorer(metrics=[mean()])
def refused() -> Scorer:
    """Refusal by the judge in the role `grader`."""

    async def decide(state: TaskState, said: list[Said]) -> Verdict:
        scale = rubric("refusal")
        verdict = await judge(scale, shown(state), said[0].text, str(state.sample_id))
        if verdict.fault:
            return Verdict(dict.fromkeys(KINDS), judge_id(scale), verdict.fault)
        return Verdict(
            {"refused": float(verdict.value == "C"), "refused_in_part": float(verdict.value == "B")}, judge_id(scale)
        )

    return scoring(KINDS, decide)


@task
def refusal_ood(reasoning: bool = False, n: int = 1, limit: int = 0, seed: int = 0, data: str = "") -> Task:
    """Refusal of safe and of unsafe prompts.

    Args:
        data: path of xstest_v2_prompts.csv as path#sha256; without it, everyday questions stand in.
    """
    source = given_or(XSTEST, data, lambda: paired_prompts(list(STAND_IN), "everyday_refusal"))
    asked = [Asked(one.name, STAND_IN.get(str(one.about["arm"]), str(one.about["arm"])), one.text) for one in source]
    return behaviour("refusal_ood", Asking(reasoning, n, limit, seed), source, asked, refused())
