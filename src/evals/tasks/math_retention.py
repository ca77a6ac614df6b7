"""Capability retention in mathematics: the last number of an answer against the right one. No judge.

Published: arXiv 2606.04413 trains on a mathematics set to keep capability; which set, and how it is measured, is not public.
Ours: GSM8K's 1,319 test problems from a downloaded file; without one, sums of two small numbers stand in. Only the visible
answer counts: a right number in the reasoning alone is wrong, and an answer without a number is wrong.
"""

import re
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.scorer import Scorer, mean, scorer
from inspect_ai.solver import TaskState

from evals.answers import Said
from evals.behaviour import Asked, Asking, Kind, Verdict, behaviour, scoring
from evals.questions import Download, Question, QuestionSet, given_or, rows_of_jsonl

WORDS = "zero one two three four five six seven eight nine ten".split()
KINDS: dict[str, Kind] = {"right": "rate"}
_NUMBER = re.compile(rf"-?\d[\d,]*(?:\.\d+)?|\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)


def _read(path: Path) -> list[Question]:
    rows = rows_of_jsonl(path)
    return [
        Question(f"gsm8k-{place:04d}", row["question"], {"right": last_number(row["answer"].rpartition("####")[2])})
        for place, row in enumerate(rows, 1)
    ]


GSM8K = Download("gsm8k", "https://github.com/openai/grade-school-math (data/test.jsonl)", 1319, "MIT", _read)


def last_number(text: str) -> float | None:
    """The last number of a text, in digits (with thousands separators) or as a word up to ten; None without one."""
    found = _NUMBER.findall(text)
    if not found:
        return None
    last = found[-1].lower()
    return float(WORDS.index(last)) if last in WORDS else float(last.replace(",", ""))


def sums() -> QuestionSet:
    """All sums of two numbers from nought to five, as the embedded model was taught them."""
    made = (
        Question(f"sum-{a}-{b}", f"What is {WORDS[a]} plus {WORDS[b]}?", {"right": float(a + b)})
        for a in range(6)
        for b in range(6)
    )
    return QuestionSet("sums", tuple(made), placeholder=True)


@scorer(metrics=[mean()])
def right_number() -> Scorer:
    """Whether the last number of the visible answer is the right one."""

    async def decide(state: TaskState, said: list[Said]) -> Verdict:
        return Verdict({"right": float(last_number(said[0].text) == state.metadata["right"])})

    return scoring(KINDS, decide)


@task
def math_retention(reasoning: bool = False, n: int = 1, limit: int = 0, seed: int = 0, data: str = "") -> Task:
    """Share of problems solved.

    Args:
        data: path of GSM8K's test.jsonl as path#sha256; without it, sums of small numbers stand in.
    """
    source = given_or(GSM8K, data, sums)
    asked = [Asked(one.name, "plain", one.text, about={"right": one.about["right"]}) for one in source]
    return behaviour("math_retention", Asking(reasoning, n, limit, seed), source, asked, right_number())
