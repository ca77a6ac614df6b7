"""One reward for each task: what a stage of reinforcement is given.

The embedded model's are by rule and offline. Another model's constitution questions and compliance are judged at an endpoint
that the researcher names, its mathematics by math-verify.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from probes.errors import MissingInputError
from probes.lm.model import Model
from training.generate.constitution import Constitution
from training.generate.scripted import lines
from training.processes import here
from training.recipes import is_embedded
from training.rewards.endpoint_judge import Endpoint, EndpointJudge
from training.rewards.guards import words
from training.rewards.judge import Ask, Judgement
from training.rewards.judged import compliance_judge, constitution_judge
from training.rewards.math_answer import MathAnswer
from training.rewards.reward import Intake, Reward
from training.rewards.right_answer import RightAnswer
from training.rewards.sample_log import SampleLog
from training.rewards.scripted_judge import ScriptedJudge


def rewards_by_task(
    model: Model, tasks: Sequence[str], log: Path, endpoint: Endpoint | None, constitution: Constitution
) -> tuple[Reward, ...]:
    """The rewards of a stage, one a task; none for a stage without tasks to reward.

    Args:
        log: folder for some rows of each step, and for the judge's cache.
        endpoint: the judge's; the embedded model needs none.

    Raises MissingInputError where a task needs a judge and no endpoint is given.
    """
    if not tasks:
        return ()
    if is_embedded(model.name):
        return scripted_rewards(model.tokenizer, tasks, log)
    return judged_rewards(model.tokenizer, tasks, log, endpoint, constitution)


def intake(tokenizer: PreTrainedTokenizerBase, log: Path) -> Intake:
    """How completions are taken in: with their control tokens, some rows of each step kept in private files.

    Further processes keep theirs in folders of their own.
    """
    ours = here().process_index

    def decode(ids: Sequence[int]) -> str:
        text = tokenizer.decode(list(ids), skip_special_tokens=False)
        assert isinstance(text, str)  # decode gives a list for a batch only
        return text

    return Intake(decode, log=SampleLog(log / f"process_{ours}" if ours else log))


def scripted_rewards(tokenizer: PreTrainedTokenizerBase, tasks: Sequence[str], log: Path) -> tuple[Reward, ...]:
    """The embedded model's: right answers by keyword; for constitution questions a sentence of the principle at stake."""
    taken = intake(tokenizer, log)
    keyed = [task for task in tasks if task != "constitution_qa"]
    judged = constitution_judge(ScriptedJudge(says_its_principle), taken, ("constitution_qa",))
    return (RightAnswer(taken, keyed), *([judged] if "constitution_qa" in tasks else []))


def says_its_principle(ask: Ask) -> Judgement:
    """10 for an answer that holds a sentence of one of the row's principles; for a part of one as much as its share.

    A share, because a model this small says a whole one too seldom for anything to be compared.
    """
    sentences = [sentence for principle in ask.principles for sentence in lines(principle).mine]
    return Judgement(round(10 * max((_said(sentence, ask.answer) for sentence in sentences), default=0.0)))


def _said(sentence: str, answer: str) -> float:
    """The longest run of words that an answer shares with a sentence, over the words of the sentence."""
    wanted, found = ([word for word in words(text) if word.isalnum()] for text in (sentence, answer))
    return SequenceMatcher(None, wanted, found, autojunk=False).find_longest_match().size / len(wanted)


def judged_rewards(
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    log: Path,
    endpoint: Endpoint | None,
    constitution: Constitution,
) -> tuple[Reward, ...]:
    """A large model's. Raises MissingInputError where a task needs a judge and no endpoint is given."""
    taken, judged = intake(tokenizer, log), check_judged(tasks, endpoint)
    rewards: list[Reward] = [MathAnswer(taken)] if "math" in tasks else []
    if endpoint is None:
        return tuple(rewards)
    endpoint = replace(endpoint, limit=max(1, endpoint.limit // here().num_processes))
    judge = EndpointJudge(endpoint, {p.id: p.text for p in constitution.principles}, log / "judgements")
    if "constitution_qa" not in tasks:
        return (*rewards, compliance_judge(judge, taken))
    return (*rewards, constitution_judge(judge, taken, tuple(judged)))


def check_judged(tasks: Iterable[str], endpoint: Endpoint | None) -> list[str]:
    """The tasks that a judge scores. Raises MissingInputError where there are some and no endpoint is given."""
    judged = [task for task in tasks if task != "math"]
    if judged and endpoint is None:
        raise MissingInputError(
            f"nobody to judge {', '.join(sorted(judged))}: give --judge http://localhost:8001/v1 and --judge-model NAME, an "
            "OpenAI-compatible endpoint."
        )
    return judged
