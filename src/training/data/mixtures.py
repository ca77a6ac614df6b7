"""Which rows a stage trains on and in which order: quotas by task, drawn and spread evenly.

The draw and the order depend on the rows' ids, the quotas and the seed alone: not on the order of rows in a file, of files,
or of tasks in a dict. A task's rows and places stay the same when another task of the same size replaces its neighbour, so
a control differs from its reference in nothing else.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from probes.errors import ConventionError, DataError, MissingInputError, UnknownNameError
from training.data.decontamination import Held, check_unseen
from training.data.rows import TASKS, TINY_TASKS, Document, Row, read_documents, read_rows, schema, tiny_rows
from training.recipes import is_embedded


@dataclass(frozen=True)
class Match:
    """How far two mixtures of equal size are alike."""

    rows: int
    shared: int
    """Rows that stand in both, at the same place."""
    token_ratio: float
    """Tokens of the first over tokens of the second."""


def shares(tasks: Sequence[str], count: int) -> dict[str, int]:
    """Quotas of `count` rows in equal parts; the first tasks get one more where it does not divide."""
    return {task: count // len(tasks) + (i < count % len(tasks)) for i, task in enumerate(tasks)}


def replaced(quotas: Mapping[str, int], task: str, by: str) -> dict[str, int]:
    """The quotas of a control of matched size: another task in the place of one."""
    if task not in quotas or by in quotas:
        raise ConventionError(f"cannot put {by!r} in the place of {task!r} in quotas for {', '.join(quotas)}.")
    return {by if name == task else name: count for name, count in quotas.items()}


def mix(pools: Mapping[str, Sequence[Row]], quotas: Mapping[str, int], seed: int) -> list[Row]:
    """As many rows of each task as its quota says, no row twice, every stretch of the result with all tasks in proportion.

    Raises DataError where a pool holds fewer rows than its quota.
    """
    placed = []
    for task, quota in quotas.items():
        short = len(pools[task]) < quota
        if short or quota < 1:
            raise DataError(
                f"{len(pools[task])} different rows for task {task!r} and {quota} to take. "
                + ("Give more rows, or a smaller recipe." if short else "Take at least one, or leave the task out.")
            )
        drawn = sorted(pools[task], key=lambda row: hashlib.sha256(f"{seed} {row.id}".encode()).digest())[:quota]
        placed += [((2 * i + 1) / (2 * quota), TASKS.index(task), row) for i, row in enumerate(drawn)]
    return [row for _, _, row in sorted(placed, key=lambda place: place[:2])]


def draw(
    model: str, quotas: Mapping[str, int], seed: int, files: Mapping[str, Path], held: Iterable[Held] = ()
) -> list[Row]:
    """The rows of a stage: from a task's file where one is given, else the embedded model's own.

    Raises UnknownNameError for a task that does not exist, MissingInputError with the form of a row for a task without a
    file, ConventionError where the rows hold a text of the paired prompts or of `held`.
    """
    unknown = [task for task in quotas if task not in TASKS]
    if unknown:
        raise UnknownNameError("task", unknown[0], TASKS)
    pools = {task: _pool(model, task, count, seed, files.get(task)) for task, count in quotas.items()}
    rows = mix(pools, quotas, seed)
    check_unseen(rows, held)
    return rows


def draw_documents(path: Path, count: int, held: Iterable[Held] = ()) -> list[Document]:
    """The first documents of a file. Raises what read_documents raises, ConventionError where one holds a held-out text."""
    documents = read_documents(path)[:count]
    check_unseen(documents, held)
    return documents


def _pool(model: str, task: str, count: int, seed: int, path: Path | None) -> list[Row]:
    if path is not None:
        return read_rows(path, task)
    if is_embedded(model) and task in TINY_TASKS:
        return tiny_rows((task,), count, seed)
    way = (
        f"give a file of your own with --{task} FILE"
        if task != "constitution_qa"
        else "write them with generate_data.py"
    )
    raise MissingInputError(f"no rows for task {task!r}: {way}, {schema(task)}")


def match(rows: Sequence[Row], reference: Sequence[Row], tokens: Callable[[Row], int]) -> Match:
    """How a control's mixture compares with its reference's. Raises ConventionError when they are not of one size."""
    if len(rows) != len(reference):
        raise ConventionError(
            f"{len(rows)} rows beside {len(reference)} of the reference. Draw both with matched quotas."
        )
    shared = sum(ours == theirs for ours, theirs in zip(rows, reference, strict=True))
    return Match(len(rows), shared, sum(map(tokens, rows)) / sum(map(tokens, reference)))
