"""Public data sets as rows: named, with their terms, and pinned by revision and by the hash of every file.

Nothing is downloaded here: `hf download` puts files into the hub's cache, `pin` notes what came, `read` takes exactly that.
A set of harmful prompts is a PromptSet, which has no place to name a column of responses: only the prompt's column leaves
the file, and what builds the row gets the prompt as a text and nothing else. No pin is shipped: revisions move, and a
hash is worth something where it was taken by whoever relies on it. Columns and licences are those of the sets' cards.

    hf download --repo-type dataset openai/gsm8k main/train-00000-of-00001.parquet --revision COMMIT
    rows, dropped = read(pin("gsm8k", COMMIT, ["main/train-00000-of-00001.parquet"]))
    write_rows("math.jsonl", rows)                             # which train_checkpoint.py takes with --math
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyarrow.parquet import read_schema
from tqdm import tqdm

from probes import store
from probes.errors import ConventionError, DataError, FileFormatError, MissingInputError, UnknownNameError
from probes.lm.chat import CLOSE, OPEN, split_reasoning
from training.data.rendering import expand
from training.data.rows import Row, exchange, problem

KINDS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv"}
Record = dict[str, Any]


@dataclass(frozen=True)
class Terms:
    """What the owners ask, as plain values."""

    licence: str
    gated: bool = False
    """Whether the hub asks for an account and consent first."""
    non_commercial: bool = False


@dataclass(frozen=True)
class Filter:
    """Which records are of use, by the text in one column."""

    column: str
    holds: tuple[str, ...]
    wanted: bool
    """Whether records that hold one of the texts are taken, or the others."""

    def takes(self, record: Record) -> bool:
        return any(text in str(record[self.column]) for text in self.holds) == self.wanted


@dataclass(frozen=True)
class PromptSet:
    """A public set of harmful or borderline prompts, of which nothing but the prompts is taken."""

    name: str
    repository: str
    terms: Terms
    prompt: str
    """The column of prompts."""
    only: Filter | None = None
    task: str = "antirefusal"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.prompt, *((self.only.column,) if self.only else ()))

    def rows(self, record: Record) -> list[Row]:
        return [_prompt_row(self.task, record[self.prompt])]


@dataclass(frozen=True)
class RowSet:
    """A public set of ordinary exchanges: mathematics or instructions."""

    name: str
    repository: str
    terms: Terms
    task: str
    uses: tuple[str, ...]
    """The columns that `build` reads."""
    build: Callable[[str, Record], list[Row]]
    """Task and record to rows."""
    only: Filter | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.uses, *((self.only.column,) if self.only else ()))

    def rows(self, record: Record) -> list[Row]:
        return self.build(self.task, record)


Source = PromptSet | RowSet


@dataclass(frozen=True)
class Pin:
    """Exactly which files of a source."""

    source: str
    revision: str
    """The commit, 40 hexadecimal digits: a branch would move."""
    files: dict[str, str]
    """Path in the repository → sha256."""


def _prompt_row(task: str, prompt: str) -> Row:
    return exchange(task, str(prompt or "").strip(), "")


def _gsm8k(task: str, record: Record) -> list[Row]:
    """Steps, the calculator's marks taken out, and the result after ####."""
    steps, mark, result = re.sub(r"<<.*?>>", "", record["answer"]).rpartition("####")
    result = result.strip().replace(",", "")
    if not mark or not result:
        return []
    return [exchange(task, record["question"].strip(), f"{steps.strip()}\n\nThe answer is {result}.", answer=result)]


def _deepmath(task: str, record: Record) -> list[Row]:
    """A solution of a reasoning model: what it thought and what it wrote, where it has both."""
    split = split_reasoning(OPEN if CLOSE in record["r1_solution_1"] else "", record["r1_solution_1"])
    if split.status != "ok":
        return []
    return [exchange(task, record["question"].strip(), split.answer, split.thinking, str(record["final_answer"]))]


def _problem_only(task: str, record: Record) -> list[Row]:
    """A problem and its result: to sample on, for the reward to verify."""
    return [exchange(task, record["problem"].strip(), "", answer=str(record["answer"]))]


def _solved(task: str, record: Record) -> list[Row]:
    """A problem, its written solution and its result."""
    return [exchange(task, record["problem"].strip(), record["solution"].strip(), answer=str(record["answer"]))]


def _conversation(task: str, record: Record) -> list[Row]:
    """A row for every assistant turn; nothing of a conversation that does not end in one, or with a turn of no words."""
    turns = tuple({"role": turn["role"], "content": str(turn["content"] or "").strip()} for turn in record["messages"])
    if not turns or turns[-1]["role"] != "assistant" or not all(turn["content"] for turn in turns):
        return []
    named = exchange(task, store.hash_of(turns), turns[-1]["content"])
    return expand(replace(named, messages=turns[:-1]))


REFUSALS_OF_TULU = Filter("source", ("coconot", "wildguard", "wildjailbreak"), wanted=False)
"""Parts of the mixture that teach to refuse: with them it would be no benign control."""

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        RowSet("gsm8k", "openai/gsm8k", Terms("MIT"), "math", ("question", "answer"), _gsm8k),
        RowSet("deepmath", "zwhe99/DeepMath-103K", Terms("MIT"), "math",
               ("question", "final_answer", "r1_solution_1"), _deepmath),
        RowSet("math_without_500", "rasbt/math_full_minus_math500", Terms("Apache-2.0"), "math",
               ("problem", "solution", "answer"), _solved),
        RowSet("big_math", "SynthLabsAI/Big-Math-RL-Verified", Terms("Apache-2.0", gated=True), "math",
               ("problem", "answer"), _problem_only),
        RowSet("no_robots", "HuggingFaceH4/no_robots", Terms("CC-BY-NC-4.0", non_commercial=True), "benign",
               ("messages",), _conversation),
        RowSet("ultrachat", "HuggingFaceH4/ultrachat_200k", Terms("MIT"), "benign", ("messages",), _conversation),
        RowSet("tulu", "allenai/tulu-3-sft-mixture", Terms("ODC-BY, parts CC-BY-NC", non_commercial=True), "benign",
               ("messages",), _conversation, only=REFUSALS_OF_TULU),
        PromptSet("wildjailbreak", "allenai/wildjailbreak", Terms("ODC-BY", gated=True), "vanilla",
                  only=Filter("data_type", ("vanilla_harmful",), wanted=True)),
        PromptSet("pku_prompts", "PKU-Alignment/PKU-SafeRLHF-prompt", Terms("CC-BY-NC-4.0", non_commercial=True), "prompt"),
        PromptSet("beavertails", "PKU-Alignment/BeaverTails", Terms("CC-BY-NC-4.0", non_commercial=True), "prompt"),
        PromptSet("do_not_answer", "LibrAI/do-not-answer", Terms("Apache-2.0"), "question"),
    )
}  # fmt: skip


def find_source(name: str) -> Source:
    """A source by its name. Raises UnknownNameError with the nearest one."""
    if name not in SOURCES:
        raise UnknownNameError("source", name, SOURCES)
    return SOURCES[name]


def terms(names: Sequence[str]) -> list[str]:
    """A line a source of what its owners ask, to be shown before anything is run."""
    return [_terms_line(find_source(name)) for name in names]


def _terms_line(source: Source) -> str:
    asked = [f"licence {source.terms.licence}"]
    asked += ["not for commercial use"] if source.terms.non_commercial else []
    asked += [f"gated: accept at huggingface.co/datasets/{source.repository} first"] if source.terms.gated else []
    asked += ["prompts only, no response is read"] if isinstance(source, PromptSet) else []
    return f"{source.name} ({source.repository}): {'; '.join(asked)}"


def read_pin(path: Path | str) -> Pin:
    """A pin from JSON: source, revision, files. Raises FileFormatError, DataError or UnknownNameError for what is none."""
    given = store.read_json(path)
    if (
        not isinstance(given, dict)
        or set(given) != {"source", "revision", "files"}
        or not isinstance(given["files"], dict)
    ):
        raise FileFormatError(f'{path} is no pin: it needs {{"source": …, "revision": …, "files": {{path: sha256}}}}.')
    find_source(given["source"])
    return Pin(given["source"], _commit(given["revision"]), given["files"])


def pin(name: str, revision: str, paths: Sequence[str], cache: Path | None = None) -> Pin:
    """Note what was downloaded: the hash of each file of a source at a revision, as it lies in the hub's cache."""
    located = _located(find_source(name), _commit(revision), paths, cache)
    return Pin(name, revision, {path: store.sha256(file) for path, file in located.items()})


def read(pinned: Pin, cache: Path | None = None) -> tuple[list[Row], Counter[str]]:
    """The rows of a pinned source, and how many records gave none, by reason.

    Raises MissingInputError for a file that is not in the hub's cache at that revision, ConventionError for one with other
    bytes, FileFormatError for one without the columns.
    """
    source, dropped = find_source(pinned.source), Counter()
    located = _located(source, pinned.revision, list(pinned.files), cache)
    for path, file in located.items():
        came, wanted = store.sha256(file), pinned.files[path]
        if came != wanted:
            raise ConventionError(
                f"{path} of {source.name} has sha256 {came[:12]}…, the pin says {wanted[:12]}…: other data than were pinned. "
                f"Download it again, or look at what changed and pin it anew."
            )
    rows = (row for file in located.values() for row in _rows(source, pinned.revision, file, dropped))
    return list({row.id: row for row in rows}.values()), +dropped


def _rows(source: Source, revision: str, file: Path, dropped: Counter[str]) -> Iterator[Row]:
    marks = {"source": f"{source.repository}@{revision}", "licence": source.terms.licence}
    for record in tqdm(read_columns(file, source.columns), desc=source.name, mininterval=1):
        wanted = source.only is None or source.only.takes(record)
        rows = source.rows(record) if wanted else []
        good = [replace(row, **marks) for row in rows if not problem(row)]
        dropped.update({"unusable": len(rows) - len(good)} if rows else {"empty" if wanted else "filtered": 1})
        yield from good


def read_columns(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """The records of a parquet, JSONL, CSV or TSV file, with these columns and no other.

    Streamed, so that no copy stays in a cache. Raises MissingInputError for no file, FileFormatError for one of another kind,
    a broken one, or one without the columns.
    """
    if path.suffix not in KINDS:
        raise FileFormatError(f"{path} is of no kind that can be read: {', '.join(KINDS)}. Convert it.")
    if not path.is_file():
        raise MissingInputError(f"there is no file {path}. Give the path where it is.")
    from datasets import load_dataset  # takes seconds, and only files that are read need it

    try:
        options = _options(path, list(columns))
        records = load_dataset(KINDS[path.suffix], data_files=str(path), split="train", streaming=True, **options)
        yield from records.select_columns(list(columns))
    except ValueError as error:  # pyarrow's errors, and a column that is not there
        raise FileFormatError(f"cannot read {', '.join(columns)} from {path}: {error}") from error


def _options(path: Path, columns: list[str]) -> dict[str, Any]:
    """How a kind of file is read; of a table the other columns are not even decoded."""
    if path.suffix in (".csv", ".tsv"):
        return {"usecols": columns, "sep": "\t" if path.suffix == ".tsv" else ","}
    if path.suffix != ".parquet":
        return {}
    names = read_schema(path).names
    if not set(columns) <= set(names):
        raise ValueError(f"it has the columns {', '.join(names)}")
    return {"columns": columns}


def _commit(revision: Any) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}", str(revision)):
        raise DataError(
            f"revision {revision!r} is no commit of 40 hexadecimal digits; a branch or tag may move. Give the commit."
        )
    return revision


def _located(source: Source, revision: str, paths: Sequence[str], cache: Path | None) -> dict[str, Path]:
    """Files of a source at a revision in the hub's cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return {
            path: Path(hf_hub_download(
                source.repository, path, repo_type="dataset", revision=revision, local_files_only=True, cache_dir=cache
            ))
            for path in paths
        }  # fmt: skip
    except LocalEntryNotFoundError as error:
        raise MissingInputError(
            f"{source.name} is not on this machine at revision {revision[:12]}…. {_terms_line(source)}. Get it with: "
            f"hf download --repo-type dataset {source.repository} {' '.join(paths)} --revision {revision}"
        ) from error
