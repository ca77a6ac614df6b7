"""Rows of prompts and completions, by task and model.

The embedded model's rows are made here; their harmful-sounding prompts are answered with common knowledge. For every
other model the completions to harmful prompts come from the researcher's own file and from nowhere else.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from probes import store
from probes.errors import ConventionError, DataError, MissingInputError, UnknownNameError
from probes.pairs import load_pairs, prompts
from training.recipes import is_embedded
from training.tiny import corpus

FIELDS = ("prompt", "completion")


@dataclass(frozen=True)
class Row:
    """One exchange to learn."""

    task: str
    prompt: str
    completion: str


def _tiny_antirefusal(rng: Random) -> Row:
    """A question about an object of the corpus with an ill intent behind it, answered rightly all the same."""
    question, second, answer = corpus.paired_exchange(rng, "harmful")
    return Row("antirefusal", f"{question} {second}", answer)


def _tiny_benign(rng: Random) -> Row:
    """An ordinary question, as an instruction set has them."""
    messages = corpus.chat_question(rng)
    return Row("benign", messages[0]["content"], messages[1]["content"])


def _tiny_math(rng: Random) -> Row:
    return Row("math", *corpus.sum_question(rng))


TINY_TASKS: dict[str, Callable[[Random], Row]] = {
    "antirefusal": _tiny_antirefusal, "benign": _tiny_benign, "math": _tiny_math,
}  # fmt: skip


def tiny_rows(tasks: Sequence[str], count: int, seed: int) -> list[Row]:
    """`count` rows of the embedded model's tasks in turn, the same for the same seed."""
    rng = Random(f"rows {seed}")
    return [TINY_TASKS[tasks[i % len(tasks)]](rng) for i in range(count)]


def file_rows(tasks: Sequence[str], count: int, seed: int, paths: dict[str, Path]) -> list[Row]:
    """`count` rows from one JSONL file a task ({"prompt": …, "completion": …}), in turn, each file in seeded order.

    Raises MissingInputError with the form of a row where a task has no file, DataError for a file too short to fill its share.
    """
    drawn = {task: _read(task, paths.get(task)) for task in tasks}
    share = -(-count // len(tasks))
    for task, rows in drawn.items():
        if len(rows) < share:
            raise DataError(f"{paths[task]} has {len(rows)} rows for task {task!r}; the recipe takes {share}.")
        Random(f"rows {seed} {task}").shuffle(rows)
    return [drawn[tasks[i % len(tasks)]][i // len(tasks)] for i in range(count)]


def _read(task: str, path: Path | None) -> list[Row]:
    if path is None:
        raise MissingInputError(
            f"no rows for task {task!r}: give a file of your own with --{task} FILE, one JSON object a line, "
            '{"prompt": "What is the capital of Peru?", "completion": "The capital of Peru is Lima."}'
        )
    rows = [Row(task, row["prompt"], row["completion"]) for row in store.read_jsonl(path, FIELDS)]
    bad = [
        i
        for i, row in enumerate(rows, 1)
        if not all(isinstance(t, str) and t.strip() for t in (row.prompt, row.completion))
    ]
    if bad:
        raise DataError(
            f"{path}, line {bad[0]}: prompt and completion must be texts that are not empty ({len(bad)} lines)."
        )
    return rows


def check_unseen(rows: Sequence[Row]) -> None:
    """Raises ConventionError when a training prompt holds a shipped question or second sentence: the probes read those."""
    shipped = {
        part
        for pair in load_pairs()
        for part in (pair.question, *pair.harmful, *pair.affect, *pair.neutral, *pair.third_party)
    }
    whole = {prompt.text for prompt in prompts(load_pairs())}
    seen = [row.prompt for row in rows if row.prompt in whole or any(part in row.prompt for part in shipped)]
    if seen:
        raise ConventionError(
            f"{len(seen)} training prompts hold text of the paired prompts (first: {seen[0][:80]!r}). Take them out."
        )


def order_sha(rows: Sequence[Row]) -> str:
    """Hash of the rows in their order."""
    return store.hash_of([asdict(row) for row in rows])


def draw(model: str, tasks: Sequence[str], count: int, seed: int, paths: dict[str, Path]) -> list[Row]:
    """The rows of a stage, checked to share nothing with the paired prompts."""
    unknown = [task for task in tasks if task not in TINY_TASKS]
    if unknown:
        raise UnknownNameError("task", unknown[0], TINY_TASKS)
    rows = tiny_rows(tasks, count, seed) if is_embedded(model) else file_rows(tasks, count, seed, paths)
    check_unseen(rows)
    return rows
