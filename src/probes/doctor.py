"""Examine a model and an engine before anything is read with them, on eight texts and in seconds.

    python -m probes doctor tiny --engine nnsight

A line a check: green or red with its figure and bound, `reported` where there is a figure and nothing to hold it to, and
`does not apply` where nothing was checked. Every check is a fault that capture code was published with. Ends with exit
code 1 when a line is red.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from probes import store
from probes.conventions import RED
from probes.errors import ConventionError, FileFormatError
from probes.lm.engines import EngineName

if TYPE_CHECKING:
    from probes.lm.engines import Engine
    from probes.lm.model import Model

Status = Literal["green", "red", "reported", "does not apply"]

COLOURS = {"green": "\033[32m", "red": "\033[31m", "reported": "", "does not apply": "\033[2m"}
EXAMINED = ("model", "checkpoint", "weights", "engine", "dtype")
"""What activations and a verdict on them must agree in."""


@dataclass(frozen=True)
class Doctor:
    """Check that a model's activations are what they are taken for."""

    model: Annotated[str, tyro.conf.Positional]
    """tiny, qwen3-30b-a3b, a folder with a transformers model, or the address of a checkpoint (tiny/antirefusal@sft)."""
    engine: EngineName = "transformers_hooks"
    """What is to read the model; the reference is transformers_hooks."""
    checkpoints: Path | None = None
    """Folder with the trained checkpoints of the family; needed for addresses other than the original."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the weights; auto is float32 on a CPU and bfloat16 on a GPU."""
    device: str | None = None
    """Where the model runs; by default the GPU if there is one, or all where one does not hold it; auto for all anyway."""
    merged: Path | None = None
    """Folder with a trained checkpoint as a whole model (experiments/export_checkpoint.py), which vllm reads."""
    json: bool = False
    """Print the verdict as JSON instead of lines."""
    out: Path | None = None
    """File to write the verdict to, as JSON."""


@dataclass(frozen=True)
class Line:
    """What one check found."""

    check: str
    status: Status
    figure: float | None
    """What was measured; None where nothing was."""
    bound: float | None
    """The figure must not exceed it; None where there is nothing to hold it to."""
    why: str
    """What the figure is, and why that bound; or why the check does not apply; or how the engine failed."""

    def __str__(self) -> str:
        figure = "" if self.figure is None else f"{self.figure:.2g}"
        bound = "" if self.bound is None else f"{'>' if self.status == 'red' else '≤'} {self.bound:.2g}"
        return f"{self.status:<14}  {self.check:<34}  {figure:>8} {bound:<9}  {self.why}"


@dataclass(frozen=True)
class Verdict:
    """All lines, and what they are about."""

    about: Mapping[str, Any]
    """What activations would say of themselves, and the versions of the libraries."""
    lines: tuple[Line, ...] = field(repr=False)

    @property
    def red(self) -> list[str]:
        """Names of the checks that are red."""
        return [line.check for line in self.lines if line.status == "red"]

    def summary_for(self, about: Mapping[str, Any]) -> str:
        """`green`, or `red: …` with the checks: the attribute `doctor` of activations with these other attributes.

        Raises ConventionError where they are of other weights, another dtype or another engine than the verdict.
        """
        wrong = [name for name in EXAMINED if self.about.get(name) != about[name]]
        if wrong:
            differ = ", ".join(f"{name} ({self.about.get(name)!r}, here {about[name]!r})" for name in wrong)
            raise ConventionError(
                f"this verdict is on something else: {differ}. Run `python -m probes doctor` on this model and engine."
            )
        return f"{RED}{', '.join(self.red)}" if self.red else "green"

    def save(self, path: Path | str) -> Path:
        """Write the verdict as JSON."""
        return store.write_json(path, {"kind": "verdict", "schema": 1, **asdict(self)})


def read_verdict(path: Path | str) -> Verdict:
    """Read what Verdict.save wrote. Raises MissingInputError, and FileFormatError for another kind of file."""
    found = store.read_json(path)
    try:
        if (found["kind"], found["schema"]) != ("verdict", 1):
            raise ValueError(f"kind {found['kind']!r}, schema {found['schema']!r}")
        return Verdict(dict(found["about"]), tuple(Line(**line) for line in found["lines"]))
    except (LookupError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} is no verdict of the doctor: {error}. Run `python -m probes doctor`.") from error


def examine(settings: Doctor) -> Verdict:
    """Load the model and run every check. Raises what lm.load and engines.start raise."""
    from probes.lm.checkpoints import find_checkpoint
    from probes.lm.checks import attached_states, verdict
    from probes.lm.engines import start
    from probes.lm.model import load

    checkpoint = find_checkpoint(settings.model, settings.checkpoints)
    where = (_dtype(settings.dtype), settings.device)
    attached = attached_states(checkpoint, *where) if checkpoint.adapter else None  # gone before the next one is loaded
    engine = start(settings.engine, load(checkpoint, settings.checkpoints, *where), settings.merged)
    return verdict(engine, attached)


def examined(
    engine: "Engine", path: Path, despite_red: str = "", reference: "Callable[[], Model] | None" = None
) -> "Engine":
    """The engine, whose activations say from here on what the doctor found: by the verdict at `path`, or by a new one.

    Args:
        path: where the verdict is kept. One on other weights, another engine, dtype or version is made anew.
        despite_red: why to go on where a line is red; activations, and probes fitted on them, keep it.
        reference: gives the model with its weights, where the engine's has none (lm.load with device="meta").

    Raises ConventionError, with the lines, where one is red and there is no reason to go on.
    """
    from probes.activations import describe
    from probes.lm.checks import about_engine, verdict

    about, found = about_engine(engine), read_verdict(path) if path.is_file() else None
    if found is None or any(found.about.get(name) != about[name] for name in (*EXAMINED, "versions")):
        found = verdict(engine, reference=reference() if reference else None)
        found.save(path)
    if found.red and not despite_red.strip():
        why = "; ".join(f"{line.check}: {line.why}" for line in found.lines if line.status == "red")
        raise ConventionError(
            f"{engine.name} does not read {engine.model.address} rightly: {len(found.red)} of {len(found.lines)} lines of the "
            f"doctor are red ({why}). Take another engine; or say why to go on (--despite-red REASON), which the files keep."
        )
    reason = {"despite_red": despite_red} if found.red else {}
    engine.examined = {"doctor": found.summary_for(describe(engine.model, engine)), **reason}
    return engine


def _dtype(name: str) -> Any:
    import torch

    return None if name == "auto" else getattr(torch, name)


def main(settings: Doctor) -> None:
    """Print the verdict; exit code 1 when it is red."""
    found = examine(settings)
    if settings.out:
        found.save(settings.out)
    print(json.dumps(asdict(found), ensure_ascii=False) if settings.json else shown(found, sys.stdout.isatty()))
    if found.red:
        sys.exit(f"{len(found.red)} of {len(found.lines)} lines are red: {', '.join(found.red)}.")


def shown(found: Verdict, colour: bool) -> str:
    """The verdict for a terminal; the words carry it, colour only helps."""
    about = found.about
    head = f"{about['model']}/{about['checkpoint']} (revision {about['revision'][:12]}) by {about['engine']}, {about['dtype']}"
    lines = [f"{COLOURS[line.status]}{line}\033[0m" if colour else str(line) for line in found.lines]
    return "\n".join([head, *lines, _count(found.lines)])


def _count(lines: Sequence[Line]) -> str:
    statuses: tuple[Status, ...] = ("green", "red", "reported", "does not apply")
    return ", ".join(f"{sum(line.status == status for line in lines)} {status}" for status in statuses)
