"""What every reward shares: it scores the rows of its own tasks, by their visible answers alone, within the guards.

A reward is called as trl calls it: with prompts, completions, completion_ids and every column of the data set, one entry
a completion; it gives one number or None each. None stands for a row of another task and for a failed judgement; trl
gives such a row no advantage, as long as no second reward scores it (check_routing). Prompts are rendered texts: trl's own
parsing of conversations lets reasoning through.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from probes.errors import ConventionError, DataError
from probes.lm.chat import STOPS, Split, split_reasoning
from probes.refusals import is_refusal
from training.rewards.guards import (
    ROW_COUNTS,
    SATURATED,
    Guards,
    fade,
    group_counts,
    is_judge_directed,
    repetition,
    words,
)
from training.rewards.judge import FailureWindow, Judgement
from training.rewards.sample_log import SampleLog, hush

COLUMNS = ("id", "task", "messages", "answer", "principles")
"""Of a training row, what the data set of a trainer must hold beside the rendered prompt."""
Decode = Callable[[Sequence[int]], str]
"""Token ids → text with its control tokens, such as partial(tokenizer.decode, skip_special_tokens=False): what trl hands
over as text has lost them, and with them the sign that an answer is none."""


@dataclass(frozen=True)
class Intake:
    """How completions are taken in: the same for all rewards of a run."""

    decode: Decode
    guards: Guards = field(default_factory=Guards)
    log: SampleLog | None = None
    """Where some rows of each step are kept; None keeps none."""


@dataclass(frozen=True)
class Candidate:
    """A completion of a reward's own task."""

    row: dict[str, Any]
    """The columns of COLUMNS."""
    prompt: str
    completion: str
    split: Split
    flaw: str
    """Why it gets 0 without a judgement; "" for one to be judged."""
    discount: float
    """Factor of its reward, by the guards."""


@dataclass(frozen=True)
class Batch:
    """The completions of one call."""

    size: int
    step: int
    candidates: dict[int, Candidate]
    """By position in the call."""

    @property
    def to_judge(self) -> list[Candidate]:
        """Candidates without a flaw, in order."""
        return [candidate for candidate in self.candidates.values() if not candidate.flaw]


class Reward:
    """The frame of a reward; `counts` is what a trainer's callback reads (guards.rates)."""

    def __init__(self, name: str, tasks: Sequence[str], intake: Intake):
        self.__name__ = name  # by which trl names its metrics
        self.tasks, self.intake = tuple(tasks), intake
        self.counts: Counter[str] = Counter()
        self.failures = FailureWindow()
        hush()

    def open(self, prompts: Sequence[str], completion_ids: Sequence[Sequence[int]], columns: dict[str, Any]) -> Batch:
        """The rows of this reward's tasks, split. Raises DataError for a column that lacks and a prompt that is no text."""
        lacking = [name for name in COLUMNS if name not in columns]
        if lacking or not all(isinstance(prompt, str) for prompt in prompts):
            raise DataError(
                f"{self.__name__} needs rendered prompts (texts) and the columns {', '.join(COLUMNS)}; "
                f"lacking: {', '.join(lacking) or 'none'}."
            )
        rows = [{name: columns[name][i] for name in COLUMNS} for i in range(len(prompts))]
        own = {
            i: self._candidate(row, prompt, self.intake.decode(ids))
            for i, (row, prompt, ids) in enumerate(zip(rows, prompts, completion_ids, strict=True))
            if row["task"] in self.tasks
        }
        return Batch(len(rows), getattr(columns.get("trainer_state"), "global_step", 0), own)

    def _candidate(self, row: dict[str, Any], prompt: str, completion: str) -> Candidate:
        split = split_reasoning(prompt, completion)
        cut = self.intake.guards.floor_cut and not completion.rstrip().endswith(STOPS)
        flaw = "" if split.status == "ok" else split.status
        flaw = flaw or ("cut" if cut else "") or ("judge_directed" if is_judge_directed(split.answer) else "")
        return Candidate(row, prompt, completion, split, flaw, self.intake.guards.discount(split.answer))

    def close(self, batch: Batch, judgements: Sequence[Judgement | None], faults: Counter[str]) -> list[float | None]:
        """Rewards by position, from the judgements of batch.to_judge: 0 … 1, 0 for a flaw, None for a failed judgement.

        Counts, keeps samples, and raises JudgeError when too many judgements failed.
        """
        pending = iter(judgements)
        judged = {i: None if c.flaw else next(pending) for i, c in batch.candidates.items()}
        rewards = {i: _reward(candidate, judged[i]) for i, candidate in batch.candidates.items()}
        self._count(batch, rewards)
        if self.intake.log:
            rows = [_sample(c, judged[i], rewards[i], batch.step) for i, c in batch.candidates.items()]
            self.intake.log.write(self.__name__, batch.step, rows)
        self.failures.add(judgements.count(None), len(judgements), self.__name__, faults)
        return [rewards.get(i) for i in range(batch.size)]

    def _count(self, batch: Batch, rewards: dict[int, float | None]) -> None:
        candidates, given = batch.candidates.values(), [r for r in rewards.values() if r is not None]
        self.counts.update(rows=len(candidates), to_judge=len(batch.to_judge), rewarded=len(given))
        self.counts.update(failed=len(rewards) - len(given), saturated=sum(r >= SATURATED for r in given))
        self.counts.update(group_counts([c.prompt for c in candidates], list(rewards.values())))
        for candidate in candidates:
            self.counts.update(name for name in ROW_COUNTS if _is(name, candidate, self.intake.guards))


def check_routing(rewards: Iterable[Reward], tasks: Iterable[str]) -> None:
    """Raises ConventionError unless every task has exactly one reward: with two, a row whose judgement failed would be
    scored by the other alone; with none, it would be drawn for nothing."""
    rewards = list(rewards)
    for task in tasks:
        names = [reward.__name__ for reward in rewards if task in reward.tasks]
        if len(names) != 1:
            raise ConventionError(
                f"task {task!r} has {len(names)} rewards ({', '.join(names) or 'none'}); it needs exactly one. "
                "Give each reward tasks of its own."
            )


def _reward(candidate: Candidate, judgement: Judgement | None) -> float | None:
    if candidate.flaw:
        return 0.0
    return None if judgement is None else judgement.score / 10 * candidate.discount


def _is(name: str, candidate: Candidate, guards: Guards) -> bool:
    """Whether a row counts as `name`, one of ROW_COUNTS."""
    answer = candidate.split.answer
    match name:
        case "refused":
            return is_refusal(answer)
        case "repetitive":
            return fade(repetition(answer), guards.max_repetition) < 1
        case "too_long":
            return fade(len(words(answer)), guards.max_words) < 1
    return candidate.flaw == name


def _sample(candidate: Candidate, judgement: Judgement | None, reward: float | None, step: int) -> dict[str, Any]:
    """A row of the log."""
    said = judgement or Judgement(0, note="not judged" if candidate.flaw else "the judgement failed")
    return {
        "step": step, "id": candidate.row["id"], "task": candidate.row["task"], "messages": candidate.row["messages"],
        "completion": candidate.completion, "answer": candidate.split.answer, "flaw": candidate.flaw,
        "score": judgement and judgement.score, "violated": list(said.violated), "note": said.note,
        "discount": candidate.discount, "reward": reward,
    }  # fmt: skip
