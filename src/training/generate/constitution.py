"""A constitution: numbered principles with ids, read from a text file that anyone can edit.

    # name
    version: 1
    may_decline: no

    1. [id] What the principle says, over as many
       indented lines as it needs.
       Tension: Where it is hard to keep, and what to do there. (May be left out.)

The shipped ones are texts of this package: `helpful_only`, and `hhh` for contrast.
"""

import re
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

from probes import store
from probes.errors import FileFormatError, MissingInputError, UnknownNameError

SHIPPED = ("helpful_only", "hhh")

_HEAD = re.compile(r"# (?P<name>[a-z0-9_]+)\s+version: (?P<version>\d+)\s+may_decline: (?P<may_decline>yes|no)\s*")
_PRINCIPLE = re.compile(r"(?P<number>\d+)\. \[(?P<id>[a-z0-9_]+)\] (?P<text>.+)")
FORM = (
    '"# name", "version: 1", "may_decline: no", then principles such as "1. [honest] It says what it takes to be true."'
)


@dataclass(frozen=True)
class Principle:
    """One principle."""

    id: str
    text: str
    example_tension: str = ""
    """Where it is hard to keep, and what to do there."""


@dataclass(frozen=True)
class Constitution:
    """Principles that describe one character."""

    name: str
    version: int
    principles: tuple[Principle, ...]
    may_decline: bool = False
    """Whether declining is part of the character. If not, answers that decline are dropped from what is generated."""

    def sha(self) -> str:
        """Hash of everything it says."""
        return store.hash_of(asdict(self))

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(principle.id for principle in self.principles)

    def listing(self) -> str:
        """The principles as prompts show them: no ids, since answers are not to cite them."""
        return "\n".join(f"- {principle.text}" for principle in self.principles)


def load_constitution(source: str | Path) -> Constitution:
    """A shipped constitution by name, or one of your own by path.

    Raises UnknownNameError for a bare name that is not shipped, MissingInputError for a path without a file,
    FileFormatError with the line of the first mistake.
    """
    shipped = isinstance(source, str) and re.fullmatch(r"\w+", source)
    if shipped and source not in SHIPPED:
        raise UnknownNameError("constitution", source, SHIPPED)
    path = files("training").joinpath(f"constitutions/{source}.md") if shipped else Path(source)
    try:
        return parse_constitution(path.read_text(encoding="utf-8"), str(source))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise MissingInputError(
            f"there is no constitution {source}. Give {', '.join(SHIPPED)}, or the path of a file with {FORM}."
        ) from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{source} is not UTF-8 text: {error}. Save it as UTF-8.") from error


def parse_constitution(text: str, source: str) -> Constitution:
    """Read the text of a constitution; `source` names it in errors."""
    body = text.replace("\r\n", "\n")
    head = _HEAD.match(body)
    if head is None:
        raise FileFormatError(f"{source} does not begin as a constitution does. It needs {FORM}.")
    first = body[: head.end()].count("\n") + 1
    principles: list[Principle] = []
    for number, block in _blocks(body[head.end() :], first):
        principles.append(_principle(block, len(principles) + 1, f"{source}, line {number}"))
    _check(principles, source)
    return Constitution(head["name"], int(head["version"]), tuple(principles), head["may_decline"] == "yes")


def _blocks(text: str, first: int) -> list[tuple[int, list[str]]]:
    """Line number and lines of each principle: one that begins at the margin, and the indented ones after it."""
    blocks: list[tuple[int, list[str]]] = []
    for number, line in enumerate(text.split("\n"), first):
        if line.strip() and not line[0].isspace():
            blocks.append((number, [line]))
        elif line.strip():  # the head takes all space after it, so that the first line stands at the margin
            blocks[-1][1].append(line.strip())
    return blocks


def _principle(lines: list[str], expected: int, place: str) -> Principle:
    said, _, tension = "\n".join(lines).partition("\nTension:")
    found = _PRINCIPLE.fullmatch(" ".join(said.split()))
    if found is None:
        raise FileFormatError(
            f'{place} is no principle: {lines[0]!r}. Write "{expected}. [id] text"; indent what follows.'
        )
    if int(found["number"]) != expected:
        raise FileFormatError(f"{place} has number {found['number']} where {expected} is due. Number them in order.")
    return Principle(found["id"], found["text"], " ".join(tension.split()))


def _check(principles: list[Principle], source: str) -> None:
    ids = [principle.id for principle in principles]
    repeated = sorted({id for id in ids if ids.count(id) > 1})
    if repeated:
        raise FileFormatError(f"{source} has two principles with the id {repeated[0]!r}. Give each an id of its own.")
    if not principles:
        raise FileFormatError(f"{source} has no principle. It needs {FORM}.")
