"""Questions by principle and family."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from probes.parts import units
from training.generate import prompts
from training.generate.constitution import Constitution, Principle
from training.generate.design import Draft
from training.generate.steps import Request, Steps

BATCH = 10
"""Questions of one request: longer lists repeat themselves."""
NO_QUESTION = "no_question"


@dataclass(frozen=True)
class _Cell:
    """Some places of one principle and family, asked for together."""

    principle: Principle
    family: str
    places: tuple[int, ...]

    @property
    def key(self) -> str:
        return f"{self.principle.id}/{self.family}/{self.places[0]}"


def write_questions(steps: Steps, constitution: Constitution, count: int, assistant: str) -> list[Draft]:
    """`count` drafts for each principle and family, with their turns; those that got no question are dropped.

    In the family multi_turn the assistant's first answer is still to be written: the turns are user, user.
    """
    cells = list(_cells(constitution, count))
    written = steps.put("questions", [_request(cell, assistant) for cell in cells])
    return [draft for cell in cells for draft in _drafts(cell, written[cell.key].items())]


def _cells(constitution: Constitution, count: int) -> Iterator[_Cell]:
    for principle in constitution.principles:
        for family in prompts.FAMILIES:
            yield from (_Cell(principle, family, tuple(places)) for places in units(range(count), BATCH))


def _request(cell: _Cell, assistant: str) -> Request:
    text = prompts.QUESTIONS.substitute(
        assistant=assistant, principle=cell.principle.text, count=len(cell.places), family=prompts.FAMILIES[cell.family]
    )
    fields = {"principle": cell.principle.id, "family": cell.family, "count": len(cell.places)}
    return Request(cell.key, prompts.turn(text), fields)


def _drafts(cell: _Cell, items: list[str]) -> Iterator[Draft]:
    """One draft a place. A list that is too short leaves its last places empty, and never shifts another cell's."""
    for place, number in enumerate(cell.places):
        draft = Draft(f"{cell.principle.id}/{cell.family}/{number}", cell.principle.id, cell.family)
        turns = read_turns(items[place], cell.family) if place < len(items) else ()
        yield replace(draft, messages=turns, dropped="" if turns else NO_QUESTION)


def read_turns(item: str, family: str) -> tuple[dict[str, str], ...]:
    """The turns of one item; none when it lacks a part that its family has."""
    roles = {"multi_turn": ("first", "user"), "steerability": ("system", "user")}.get(family)
    if roles is None:
        return prompts.turn(item)
    parts = {name: re.search(rf"<{name}>(.*?)</{name}>", item, re.DOTALL) for name in roles}
    said = {name: found[1].strip() for name, found in parts.items() if found and found[1].strip()}
    if set(said) != set(roles):
        return ()
    return tuple({"role": "system" if name == "system" else "user", "content": said[name]} for name in roles)
