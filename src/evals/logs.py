"""Inspect's logs: answers first, then what judges say of them, each kept as it comes.

Answers are written by Inspect's eval_set into a folder of the model's own, whose name carries the weights where they are
known. Inspect pairs a finished log with a task by its arguments, settings and a hash of everything that is asked, so that
what is there is not asked again, whatever else is on the list. No judge is asked meanwhile: who judges, and by which text
of a rubric, changes no answer. judge_log lets a judge score a finished log; what other judges said stays in it.

Logs hold answers to harmful requests and are readable by this user alone.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from inspect_ai import Task, eval_set
from inspect_ai import score as score_log
from inspect_ai.log import EvalLog, read_eval_log, write_eval_log
from inspect_ai.model import Model

from evals.behaviour import RULE, SUITE
from evals.judges.judge import is_by
from evals.subjects import SAMPLED, Judge, Subject, why
from evals.suite import TASKS
from evals.tables import all_differences, answer_table, judge_agreement, rate_table
from probes import store
from probes.errors import DataError, MissingInputError, ProbesError
from probes.parts import alone

Display = Literal["full", "plain", "none"]
QUIET: dict[str, Any] = {
    "retry_attempts": 0, "retry_immediate": False, "score_display": False, "ctl_server": False, "acp_server": False,
    "log_realtime": False, "log_model_api": False, "log_images": False,
}  # fmt: skip
"""No server, no metric computed while samples run (some of Inspect's crash there), no second copy of requests."""


def log_folder(folder: Path, model: Model) -> Path:
    """Where the logs of a model are kept. Another name, or other weights of ours, have another folder."""
    shown = re.sub(r"[^\w.+@-]", "_", str(model).partition("/")[2].partition("#")[0])
    return folder / f"{shown}-{store.hash_of(str(model))[:12]}"


def answer_logs(
    subject: Subject, tasks: Sequence[Task], folder: Path, display: Display = "none", max_tokens: int = 0
) -> list[Path]:
    """Have a subject answer what it has not yet answered; paths of its logs of these tasks. The model is gone afterwards."""
    model = subject.load()
    return run_tasks(model, tasks, log_folder(folder, model), subject.who, display, max_tokens)


def run_tasks(
    model: Model, tasks: Sequence[Task], folder: Path, who: Mapping[str, Any] | None = None, display: Display = "none",
    max_tokens: int = 0,
) -> list[Path]:  # fmt: skip
    """Answers to the tasks, in the folder; paths of their logs, in the order of the tasks.

    max_tokens 0 stands for each task's own limit of an answer. Raises DataError that names the first task that failed, and why,
    and OutputError while another process is at work in the folder.
    """
    with private_files(), alone(folder):
        done, logs = eval_set(
            list(tasks), log_dir=str(folder), log_dir_allow_dirty=True, model=model, metadata=dict(who or {}), score=False,
            display=display, max_tasks=len(tasks), **QUIET,  # all at once: what is asked together is written together
            **({"max_tokens": max_tokens} if max_tokens else {}),
        )  # fmt: skip
    if not done:
        raise _failure(next(log for log in logs if log.status != "success"))
    places = {task.name: place for place, task in enumerate(tasks)}  # files are named by the second in which one began
    logs = sorted(logs, key=lambda log: places[log.eval.task])
    return [Path(log.location.removeprefix("file://")) for log in logs]


def _failure(log: EvalLog) -> DataError:
    said = (log.error.message.strip() if log.error else "") or f"status {log.status}"
    # What was tried in vain is logged as a RetryError; the error behind it stands in the traceback alone.
    behind = re.search(r"^(\S+: .*)\n+The above exception was", log.error.traceback if log.error else "", re.MULTILINE)
    said = behind[1] if behind and said.startswith("RetryError") else said.splitlines()[0]
    return DataError(
        f"{log.eval.task} on {log.eval.model} did not end: {said.rstrip('.')}. Mend that and start again: what is finished is "
        "kept."
    )


# ---- judging ---------------------------------------------------------------------------------------------------------


def judge_log(path: Path, judge: Judge) -> Path:
    """Let a judge score a finished log, unless it has by the rubrics as they are; all judges' scores stay in it.

    Neither the model that answered nor the files it was asked from are needed. Returns the log's path. Raises
    MissingInputError where there is no log, DataError for one of another suite, one that did not end well, and where the judge
    cannot be asked: then the log is as it was; OutputError while another process is at work in the log's folder.
    """
    _finished(path)  # before anything is made in its folder
    with alone(path.parent):
        return _judged(path, _finished(path), judge)


def _judged(path: Path, log: EvalLog, judge: Judge) -> Path:
    if _is_judged(log, judge):
        return path
    try:
        with private_files():
            # Not the model of the log: it would be loaded, and need not be on this machine.
            scored = score_log(
                log, _scorer(log, judge), model="none", model_roles={"grader": judge.model}, action="append",
                display="none", copy=False,
            )  # fmt: skip
            _replace(path, scored)
    except ProbesError:
        raise
    except Exception as error:  # whatever a provider raises
        raise DataError(
            f"{judge.model} did not judge {log.eval.task} on {log.eval.model}: {why(error)}. The answers are kept: mend that, "
            "and start again."
        ) from error
    return path


def write_tables(folder: Path, paths: Sequence[Path], judges: Sequence[Judge]) -> list[Path]:
    """answers, rates, differences and judges as CSV; nothing where nobody judged. Returns their paths."""
    if not judges:
        return []
    answers = answers_by(paths, judges)
    tables = {
        "answers": answers, "differences": all_differences(answers), "judges": judge_agreement(answers),
        "rates": rate_table(answers),
    }  # fmt: skip
    return [store.write_table(folder / f"{name}.csv", table) for name, table in tables.items()]


def answers_by(paths: Sequence[Path], judges: Sequence[Judge]) -> pd.DataFrame:
    """answer_table of what these judges say by the rubrics as they are, and of what rules say."""
    answers = answer_table(paths)
    who = answers[["eval", "judge"]].drop_duplicates()
    wanted = {
        (name, said)
        for name, said in who.itertuples(index=False, name=None)
        if said == RULE or any(is_by(said, str(judge.model), suffix(name, judge)) for judge in judges)
    }
    kept = [pair in wanted for pair in zip(answers["eval"], answers["judge"], strict=True)]
    return answers[kept].reset_index(drop=True)


def _finished(path: Path) -> EvalLog:
    if not path.is_file():
        raise MissingInputError(f"there is no log {path}. Run the evaluation first.")
    log = read_eval_log(str(path))
    about: dict[str, Any] = log.eval.metadata or {}
    if about.get("suite") != SUITE:
        raise DataError(f"{path.name} is of suite {about.get('suite')!r}, not {SUITE!r}.")
    if log.status != "success":
        raise DataError(f"{path.name} ended with {log.status}. Run the evaluation again.")
    return log


def _is_judged(log: EvalLog, judge: Judge) -> bool:
    """Whether nothing is left to this judge: it has spoken, or rules and the lack of answers left nothing to any judge."""
    scores = [score for sample in log.samples or [] for score in (sample.scores or {}).values()]
    who = {(score.metadata or {}).get("judge", "") for score in scores}
    ours = suffix((log.eval.metadata or {})["eval"], judge)
    return bool(scores) and (who == {RULE} or any(is_by(one, str(judge.model), ours) for one in who))


def suffix(eval_name: str, judge: Judge) -> str:
    """What follows the rubrics in a judge's id for an evaluation: how numbers came about where there are two ways."""
    return SAMPLED if judge.sampled and "scores" in signature(TASKS[eval_name]).parameters else ""


def _scorer(log: EvalLog, judge: Judge) -> Any:
    """The scorer of the log's task, for this judge. None depends on what was asked, whose file may be elsewhere."""
    name = (log.eval.metadata or {})["eval"]
    ways = {"scores": "sampled"} if suffix(name, judge) else {}
    return TASKS[name](**ways).scorer


def _replace(path: Path, log: EvalLog) -> None:
    """A kill leaves the log as it was, and the new one is private whatever the old one was."""
    whole = path.with_name(f".{path.name}")
    write_eval_log(log, str(whole))
    os.replace(whole, path)


@contextmanager
def private_files() -> Iterator[None]:
    """New files are this user's alone: Inspect leaves their mode to the process."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
