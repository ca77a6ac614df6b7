"""Generation in steps: each puts its requests to a writer, keeps all that was written, and counts it.

A writer is an endpoint (training.generate.endpoint) or the scripted one (training.generate.scripted). A finished step is
read back when a run goes on; how far a step that was killed half-way comes back is the writer's concern.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from probes.errors import ConventionError
from probes.parts import Parts


@dataclass(frozen=True)
class Request:
    """One thing to write."""

    key: str
    """Its name, unique in the step; it seeds what is drawn."""
    messages: tuple[dict[str, str], ...]
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What the messages were made of, for a writer that does not read them."""


@dataclass(frozen=True)
class Written:
    """What came back for a request."""

    key: str
    text: str
    """Empty when the request failed; `note` says why."""
    stop: Literal["stop", "length", "failed"] = "stop"
    note: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def inside(self, tag: str) -> str:
        """The text between <tag> and </tag>, its first occurrence; empty if it is not there, or not closed."""
        found = re.search(rf"<{tag}>(.*?)</{tag}>", self.text, re.DOTALL)
        return found[1].strip() if found else ""

    def fault(self, tag: str) -> str:
        """Why nothing between these tags can be used: cut, failed or unparsed; empty when something can."""
        if self.stop != "stop":
            return "cut" if self.stop == "length" else "failed"
        return "" if self.inside(tag) else "unparsed"

    def items(self) -> list[str]:
        """The texts between <item> and </item>. Bullets and numbers are not read: markdown passes for them."""
        found = (item.strip() for item in re.findall(r"<item>(.*?)</item>", self.text, re.DOTALL))
        return [item for item in found if item and "<item>" not in item]


class Writer(Protocol):
    """Whatever writes."""

    @property
    def name(self) -> str:
        """Who writes, as rows and manifests have it."""
        ...

    @property
    def licence(self) -> str:
        """Under which terms its texts stand."""
        ...

    @property
    def decides(self) -> dict[str, Any]:
        """What decides its texts, as the plan of a run has it."""
        ...

    def write(self, step: str, requests: Sequence[Request], folder: Path) -> list[Written]:
        """What was written for each request, in their order; unfinished work may be kept in the folder."""
        ...


@dataclass(frozen=True)
class Count:
    """What one step asked for and got."""

    requests: int
    failed: int
    cut: int
    prompt_tokens: int
    completion_tokens: int


class Steps:
    """The steps of one run, in the units of its parts."""

    def __init__(self, writer: Writer, parts: Parts):
        self.writer, self.parts = writer, parts
        self.counts: dict[str, Count] = {}

    def put(self, step: str, requests: Sequence[Request]) -> dict[str, Written]:
        """Key → what was written, in the order of the requests. Raises ConventionError when the parts are of others."""
        make = lambda: [asdict(one) for one in self.writer.write(step, requests, self.parts.folder / f"{step}.run")]  # noqa: E731
        rows = self.parts.rows(step, make, tuple(Written.__dataclass_fields__)) if requests else []
        written = {row["key"]: Written(**row) for row in rows}
        if list(written) != [request.key for request in requests]:
            raise ConventionError(
                f"the parts of step {step!r} answer other requests than these. Remove them, run again."
            )
        self.counts[step] = _count(list(written.values()))
        return written


def _count(written: Sequence[Written]) -> Count:
    stops = [one.stop for one in written]
    return Count(
        len(written), stops.count("failed"), stops.count("length"),
        sum(one.prompt_tokens for one in written), sum(one.completion_tokens for one in written),
    )  # fmt: skip
