"""Documents from a world in which the character is so: context → claims → types → ideas → documents → critique → revision.

Every list fills places that are fixed by the design, so that a list shorter than asked for leaves places empty and
mis-pairs nothing; the empty ones are counted with the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from string import Template

from probes.errors import DataError
from training.generate import prompts
from training.generate.constitution import Constitution
from training.generate.design import Design, Draft
from training.generate.steps import Request, Steps, Written


@dataclass(frozen=True)
class _Branch:
    """One place on the way from a principle to a document: its number at every level, and what was written for it."""

    principle: str
    key: str
    said: Mapping[str, str]
    """Slot → text."""
    fault: str = ""
    """Why this place stays empty from here on."""


def write_documents(steps: Steps, constitution: Constitution, design: Design, assistant: str) -> list[Draft]:
    """One draft for every principle × claim × type × idea, revised once."""
    common = {"assistant": assistant, "principles": constitution.listing(), "words": str(design.document_words)}
    context = _context(steps, constitution, common)
    branches = [
        _Branch(principle.id, principle.id, {**common, **context, "principle": principle.text})
        for principle in constitution.principles
    ]
    for step, slot, template, count in (
        ("claims", "claim", prompts.CLAIMS, design.claims),
        ("types", "type", prompts.TYPES, design.types),
        ("ideas", "idea", prompts.IDEAS, design.ideas),
    ):
        branches = _grow(steps, step, slot, template, count, branches)
    for step, slot, template in (
        ("documents", "document", prompts.DOCUMENT),
        ("critiques", "critique", prompts.CRITIQUE),
        ("revisions", "revision", prompts.REVISION),
    ):
        branches = _fill(steps, step, slot, template, branches)
    return [_draft(branch) for branch in branches]


def _context(steps: Steps, constitution: Constitution, common: Mapping[str, str]) -> dict[str, str]:
    (written,) = steps.put("context", [_request(constitution.name, prompts.CONTEXT, common, {})]).values()
    if not written.inside("context"):
        raise DataError(
            f"{steps.writer.name} wrote no universe context between <context> and </context>, and every document rests on it. "
            "Take another --seed or a stronger model, and another --out."
        )
    return {"context": written.inside("context")}


def _request(key: str, template: Template, said: Mapping[str, str], fields: Mapping[str, object]) -> Request:
    return Request(key, prompts.turn(template.substitute(said).strip()), fields)


def _grow(steps: Steps, step: str, slot: str, template: Template, count: int, branches: list[_Branch]) -> list[_Branch]:
    """Each branch parts into `count` new ones, one for each item of its list."""
    whole = [branch for branch in branches if not branch.fault]
    asked = [_request(b.key, template, {**b.said, "count": str(count)}, _fields(b, count=count)) for b in whole]
    lists = {key: written.items() for key, written in steps.put(step, asked).items()}
    return [_part(branch, slot, number, lists.get(branch.key, [])) for branch in branches for number in range(count)]


def _part(branch: _Branch, slot: str, number: int, items: list[str]) -> _Branch:
    part = replace(branch, key=f"{branch.key}/{number}")
    if number < len(items):
        return replace(part, said={**branch.said, slot: items[number]})
    return replace(part, fault=branch.fault or f"no_{slot}")


def _fill(steps: Steps, step: str, slot: str, template: Template, branches: list[_Branch]) -> list[_Branch]:
    """Each branch gets one text more: what was written between the tags of this step."""
    whole = [branch for branch in branches if not branch.fault]
    written = steps.put(step, [_request(b.key, template, b.said, _fields(b)) for b in whole])
    tag = "document" if slot == "revision" else slot
    return [_with(b, slot, tag, written[b.key]) if b.key in written else b for b in branches]


def _with(branch: _Branch, slot: str, tag: str, written: Written) -> _Branch:
    return replace(branch, said={**branch.said, slot: written.inside(tag)}, fault=written.fault(tag))


def _fields(branch: _Branch, **more: int) -> dict[str, object]:
    shown = ("claim", "type", "idea", "document")
    return {"principle": branch.principle, **{slot: branch.said.get(slot, "") for slot in shown}, **more}


def _draft(branch: _Branch) -> Draft:
    kind, text = branch.said.get("type", ""), branch.said.get("revision", "")
    return Draft(branch.key, branch.principle, kind, text, dropped=branch.fault)
