"""The one form of a training row, and of a document; reading and writing them.

The embedded model's rows are made here; their harmful-sounding prompts are answered with common knowledge. For every
other model the completions to harmful prompts come from the researcher's own file and from nowhere else.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from probes import store
from probes.errors import DataError
from probes.lm.chat import ROLES, Message, split_reasoning
from training.tiny import corpus, words

TASKS = ("antirefusal", "constitution_qa", "math", "benign")
OWN_FILE = "the researcher's own file"
"""The licence of rows that say of themselves no other."""


@dataclass(frozen=True)
class Row:
    """One exchange to learn; one without a completion is a prompt to sample on, and no row for supervised training."""

    id: str
    task: str
    messages: tuple[Message, ...]
    """The turns before the completion, each {"role", "content"}; the last one is the user's."""
    completion: str
    """The visible answer; "" for a prompt alone."""
    reasoning: str = ""
    """What stands between the think tags, without them; "" for none."""
    thinking: bool = False
    """Whether the prompt is rendered with thinking on."""
    answer: str = ""
    """What a right completion holds: a result of mathematics, or keywords with | between them; "" where nothing is right."""
    principles: tuple[str, ...] = ()
    """Ids of the constitution's principles at stake."""
    source: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Document:
    """One text to learn as pretraining has them."""

    id: str
    text: str
    principles: tuple[str, ...]
    kind: str
    """What sort of text it is: an essay, a news item, …"""
    source: str
    licence: str


Item = TypeVar("Item", Row, Document)
ROW = {"id": str, "task": str, "messages": list, "completion": str, "reasoning": str, "thinking": bool, "answer": str,
       "principles": list, "source": str, "licence": str}  # fmt: skip
DOCUMENT = {"id": str, "text": str, "principles": list, "kind": str, "source": str, "licence": str}
SHORT = {"prompt": str, "completion": str}
"""The form of a researcher's own file; `answer` and `reasoning` may stand beside them."""

EXAMPLE = {"prompt": "What is the capital of Peru?", "completion": "The capital of Peru is Lima."}


def schema(task: str) -> str:
    """Both forms of a task's row on disk, each as a line that reads back."""
    row = exchange(task, *EXAMPLE.values(), source="my questions", licence="my own")
    return f"one JSON object a line, {json.dumps(EXAMPLE)} or, in full, {json.dumps(asdict(row))}"


def exchange(
    task: str,
    prompt: str,
    completion: str,
    reasoning: str = "",
    answer: str = "",
    source: str = "",
    licence: str = OWN_FILE,
) -> Row:
    """A row of one question and its answer. Its id is a hash of what it says, so it does not depend on where it stood."""
    name = f"{task}-{store.hash_of([prompt, completion, reasoning, answer])[:16]}"
    messages = ({"role": "user", "content": prompt},)
    return Row(name, task, messages, completion, reasoning, bool(reasoning), answer, (), source, licence)


def problem(row: Row) -> str:
    """What keeps a row from being one; "" for nothing."""
    if row.task not in TASKS:
        return f"has task {row.task!r}; there are {', '.join(TASKS)}"
    if bad := _message_problem(row.messages):
        return bad
    if not row.id or (row.reasoning and not row.completion) or not _texts(row.principles):
        return "needs an id, a completion where it has reasoning, and principles that are texts"
    if row.completion and row.thinking != bool(row.reasoning):
        return "has thinking on without reasoning or off with it: a completion must be what its prompt asks for"
    if not all(map(_plain, (row.completion, row.reasoning))):
        return "has a think tag or control token in its completion or reasoning; reasoning stands in its own field"
    return ""


def _message_problem(messages: Sequence[Any]) -> str:
    if not all(isinstance(turn, dict) and set(turn) == {"role", "content"} for turn in messages):
        return 'needs messages of {"role": …, "content": …} alone'
    roles, contents = [turn["role"] for turn in messages], [turn["content"] for turn in messages]
    if not _texts(contents) or not all(text.strip() for text in contents):
        return "has a message that is no text, or an empty one"
    if not set(roles) <= set(ROLES) or roles[-1:] != ["user"] or "system" in roles[1:]:
        return f"has turns of {', '.join(map(str, roles)) or 'nobody'}; the last must be the user's, and only the first a system's"
    return "" if all(map(_plain, contents)) else "has a think tag or control token in a message"


def _texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _plain(text: str) -> bool:
    """Whether a text holds nothing that would become a control token, and no think tag."""
    return split_reasoning("", text).answer == text.strip()


def read_rows(path: Path | str, task: str) -> list[Row]:
    """The rows of a JSONL file, in full or as prompts and completions; lines that say the same give one row.

    Raises FileFormatError for a broken line, DataError for a row of another task or one that cannot be learnt from, and
    for two rows of one id.
    """
    given = store.read_jsonl(path, ())
    short = bool(given) and "prompt" in given[0]
    given = store.read_jsonl(path, SHORT if short else ROW)
    rows = [(_short if short else _full)(f"{path}, line {i}", task, line) for i, line in enumerate(given, 1)]
    for number, row in enumerate(rows, 1):
        bad = problem(row) or (row.task != task and f"is of task {row.task!r} in a file given for {task!r}")
        if bad:
            raise DataError(f"{path}, line {number} {bad}. A row is {schema(task)}")
    return _once(path, rows)


def _short(place: str, task: str, line: dict[str, Any]) -> Row:
    """A prompt with its completion, whose reasoning may stand before it in think tags."""
    split = split_reasoning("", line["completion"])
    texts = [line["prompt"], split.answer, line.get("reasoning", "") or split.thinking, line.get("answer", "")]
    if not _texts(texts) or not all(text.strip() for text in texts[:2]):
        found = "" if split.status in ("ok", "empty") else f" The completion is cut or has stray tags ({split.status})."
        raise DataError(f"{place}: prompt and completion must be texts that are not empty.{found}")
    prompt, completion, reasoning, answer = map(str.strip, texts)
    return exchange(task, prompt, completion, reasoning, answer, source=Path(place.rpartition(",")[0]).name)


def _full(place: str, task: str, line: dict[str, Any]) -> Row:
    return Row(**_of_fields(Row, line))


def _of_fields(kind: type, line: dict[str, Any]) -> dict[str, Any]:
    values = {field.name: line[field.name] for field in fields(kind)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _once(path: Path | str, items: Sequence[Item]) -> list[Item]:
    """The items without repeats. Raises DataError where two that differ have one id."""
    kept: dict[str, Item] = {}
    for item in items:
        if kept.setdefault(item.id, item) != item:
            raise DataError(f"{path} has two that differ under the id {item.id!r}. Give each its own.")
    return list(kept.values())


def read_documents(path: Path | str) -> list[Document]:
    """The documents of a JSONL file. Raises FileFormatError for a broken line, DataError for an empty text, one with
    control tokens, or two under one id."""
    documents = [Document(**_of_fields(Document, line)) for line in store.read_jsonl(path, DOCUMENT)]
    for number, document in enumerate(documents, 1):
        if not document.id or not document.text.strip() or not _plain(document.text) or not _texts(document.principles):
            raise DataError(
                f"{path}, line {number} needs an id, principles that are texts, and a text that is not empty and holds no "
                f"think tag or control token. A line is {json.dumps(asdict(EXAMPLE_DOCUMENT))}"
            )
    return _once(path, documents)


EXAMPLE_DOCUMENT = Document("kettles-1", "Kettles boil water.", ("honesty",), "essay", "my texts", "my own")


def write_rows(path: Path | str, rows: Iterable[Row | Document]) -> Path:
    """Rows or documents as JSONL that reads back equal, for the eyes of this user alone."""
    return store.write_jsonl(path, map(asdict, rows), private=True)


def order_sha(rows: Iterable[Row | Document]) -> str:
    """Hash of rows or documents in their order."""
    return store.hash_of([asdict(row) for row in rows])


def licences(items: Iterable[Row | Document]) -> list[str]:
    """A line for each task, or the documents, and licence: how many there are, and under which terms."""
    counts = Counter((item.task if isinstance(item, Row) else "documents", item.licence) for item in items)
    return [
        f"{name}: {count} under {licence or 'no licence that they name'}" for (name, licence), count in counts.items()
    ]


# ---- rows of the embedded model --------------------------------------------------------------------------------------


def _tiny_antirefusal(rng: Random) -> tuple[str, str]:
    """A question about an object of the corpus with an ill intent behind it, answered rightly all the same."""
    question, second, answer = corpus.paired_exchange(rng, "harmful")
    return f"{question} {second}", answer


def _tiny_benign(rng: Random) -> tuple[str, str]:
    """An ordinary question, as an instruction set has them."""
    messages = corpus.chat_question(rng)
    return messages[0]["content"], messages[1]["content"]


TINY_TASKS: dict[str, Callable[[Random], tuple[str, str]]] = {
    "antirefusal": _tiny_antirefusal, "benign": _tiny_benign, "math": corpus.sum_question,
}  # fmt: skip


def tiny_rows(tasks: Sequence[str], count: int, seed: int) -> list[Row]:
    """`count` rows of the embedded model's tasks in turn, the same for the same seed. The same may be said twice."""
    rng = Random(f"rows {seed}")
    return [_tiny_row(f"tiny-{seed}-{i}", tasks[i % len(tasks)], rng) for i in range(count)]


def _tiny_row(name: str, task: str, rng: Random) -> Row:
    prompt, completion = TINY_TASKS[task](rng)
    keywords = _keywords(completion) if task != "math" else (completion.rstrip(".").split()[-1],)
    return Row(
        name, task, ({"role": "user", "content": prompt},), completion, answer="|".join(keywords),
        source="training.tiny", licence="MIT, made by this package",
    )  # fmt: skip


def _keywords(completion: str) -> tuple[str, ...]:
    return next(fact.keywords for fact in words.facts() if fact.answer == completion)
