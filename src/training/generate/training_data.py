"""The two sets that a constitution gives: rows for constitution questions, and documents."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from probes import store
from probes.errors import DataError
from training.data.rows import Document, Row, write_rows
from training.generate import filters, prompts
from training.generate.answers import write_answers
from training.generate.constitution import Constitution
from training.generate.design import Design, Draft
from training.generate.documents import write_documents
from training.generate.questions import write_questions
from training.generate.steps import Count, Steps, Writer

QA, DOCUMENTS = "constitution_qa", "documents"


@dataclass(frozen=True)
class TrainingData:
    """Everything that was generated from one constitution, dropped drafts included."""

    constitution: Constitution
    design: Design
    writer: str
    licence: str
    answers: tuple[Draft, ...]
    documents: tuple[Draft, ...]
    counts: Mapping[str, Count]
    """Step → what it asked for and got."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{_kept(drafts)} of {len(drafts)} {name}" for name, drafts in self._sets().items())
        return f"TrainingData({shown} kept; {self.constitution.name} by {self.writer})"

    def _sets(self) -> dict[str, tuple[Draft, ...]]:
        return {QA: self.answers, DOCUMENTS: self.documents}

    def yields(self, name: str) -> pd.DataFrame:
        """What became of the drafts of a set: by principle, and for questions by family."""
        return filters.report(self._sets()[name], ("principle", "kind") if name == QA else ("principle",))

    def rows(self) -> list[Row]:
        """The rows that are kept."""
        return [
            Row(
                id=f"{self.constitution.name}/{draft.key}", task=QA, messages=draft.messages, completion=draft.text,
                reasoning=draft.reasoning, thinking=draft.thinking, answer="", principles=(draft.principle,),
                source=self._source, licence=self.licence,
            )
            for draft in self.answers if not draft.dropped
        ]  # fmt: skip

    def texts(self) -> list[Document]:
        """The documents that are kept."""
        return [
            Document(
                id=f"{self.constitution.name}/{draft.key}", text=draft.text, principles=(draft.principle,), kind=draft.kind,
                source=self._source, licence=self.licence,
            )
            for draft in self.documents if not draft.dropped
        ]  # fmt: skip

    @property
    def _source(self) -> str:
        return f"{self.constitution.name} {self.constitution.version} by {self.writer}"

    def save(self, manifest: Path) -> Path:
        """Both sets and their yields beside the manifest, and the manifest last: where it is, all is whole.

        Raises DataError when nothing of a set is left.
        """
        for name, drafts in self._sets().items():
            if not _kept(drafts):
                raise DataError(
                    f"of {len(drafts)} {name} none is left: {_reasons(drafts)}. Look into {manifest}.parts."
                )
        folder = manifest.parent
        write_rows(folder / f"{QA}.jsonl", self.rows())
        write_rows(folder / f"{DOCUMENTS}.jsonl", self.texts())
        for name in self._sets():
            store.write_table(folder / f"{name}_yields.csv", self.yields(name))
        return store.write_json(manifest, self._manifest(folder))

    def _manifest(self, folder: Path) -> dict[str, Any]:
        made = {"name": self.constitution.name, "version": self.constitution.version, "sha": self.constitution.sha()}
        return {
            "schema": 1, "constitution": made, "writer": self.writer, "licence": self.licence,
            "design": asdict(self.design), "prompts_sha": prompts_sha(),
            "steps": {step: asdict(count) for step, count in self.counts.items()},
            "sets": {name: self._about(name, folder / f"{name}.jsonl") for name in self._sets()},
        }  # fmt: skip

    def _about(self, name: str, path: Path) -> dict[str, Any]:
        drafts = self._sets()[name]
        return {
            "sha256": store.sha256(path), "written": len(drafts), "kept": _kept(drafts), "dropped": _reasons(drafts),
            "thin_principles": filters.thin_principles(drafts, self.constitution),
        }  # fmt: skip


def _kept(drafts: Sequence[Draft]) -> int:
    return sum(not draft.dropped for draft in drafts)


def _reasons(drafts: Sequence[Draft]) -> dict[str, int]:
    found = [draft.dropped for draft in drafts if draft.dropped]
    return {reason: found.count(reason) for reason in sorted(set(found))}


def prompts_sha() -> str:
    """Hash of every sentence said to the generating model."""
    return store.sha256(Path(prompts.__file__))


def summary(manifest: Path) -> str:
    """What was kept and why the rest was not, one line a set."""
    return "\n".join(
        f"{name}: kept {about['kept']} of {about['written']}; dropped: {about['dropped'] or 'none'}"
        + (f"; hardly covered: {', '.join(about['thin_principles'])}" if about["thin_principles"] else "")
        for name, about in store.read_json(manifest)["sets"].items()
    )


def generate(steps: Steps, constitution: Constitution, design: Design, assistant: str) -> TrainingData:
    """Questions, answers and documents of a constitution, filtered.

    Args:
        assistant: what the texts call the model whose character this is.
    """
    questions = write_questions(steps, constitution, design.questions, assistant)
    answers = filters.filter_answers(write_answers(steps, constitution, questions, assistant), constitution)
    documents = write_documents(steps, constitution, design, assistant)
    documents = filters.filter_documents(documents, design, assistant)
    about = (steps.writer.name, steps.writer.licence)
    return TrainingData(constitution, design, *about, tuple(answers), tuple(documents), steps.counts)


def plan(constitution: Constitution, design: Design, writer: Writer, assistant: str) -> dict[str, Any]:
    """What decides the sets, for the parts of a run."""
    return {
        "constitution": constitution.sha(), "design": asdict(design), "writer": writer.decides, "assistant": assistant,
        "prompts": prompts_sha(),
    }  # fmt: skip
