"""Public sets: exactly the pinned bytes, their terms, and of harmful sets the prompts alone. All files are stand-ins."""

import inspect
from dataclasses import fields, replace

import datasets
import pandas as pd
import pytest

import fetch_rows
from fetch_rows import FetchSettings
from probes import store
from probes.errors import ConventionError, DataError, FileFormatError, MissingInputError, UnknownNameError
from training.data import sources
from training.data.rows import problem, read_rows
from training.data.sources import SOURCES, Pin, PromptSet, find_source, pin, read, read_columns, read_pin, terms

COMMIT = "ab" * 20
TALK = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
ONE, TWO = "What is one plus one?", "Two."
RECORDS = {
    "gsm8k": {"question": ONE, "answer": "One and one <<1+1=2>>is two.\n#### 2"},
    "deepmath": {"question": ONE, "final_answer": "2", "r1_solution_1": "Hm, one and one.\n</think>\n\nTwo.", "topic": "Sums"},
    "math_without_500": {"problem": ONE, "solution": TWO, "answer": "2", "level": "1"},
    "big_math": {"problem": ONE, "answer": "2", "llama8b_solve_rate": 1.0},
    "no_robots": {"prompt": "Hi.", "messages": TALK, "category": "Chat"},
    "ultrachat": {"prompt": "Hi.", "messages": [*TALK, {"role": "user", "content": ONE}, {"role": "assistant", "content": TWO}]},
    "tulu": {"id": "1", "messages": TALK, "source": "ai2-adapt-dev/oasst1_converted"},
    "wildjailbreak": {"vanilla": ONE, "adversarial": "SENTINEL", "completion": "SENTINEL", "data_type": "vanilla_harmful"},
    "pku_prompts": {"prompt": ONE, "response_0": "SENTINEL"},
    "beavertails": {"prompt": ONE, "response": "SENTINEL", "category": "SENTINEL"},
    "do_not_answer": {"question": ONE, "GPT4_response": "SENTINEL"},
}  # fmt: skip
"""Source → a record with the columns of its card, and neutral text."""
HARMFUL = [name for name, source in SOURCES.items() if isinstance(source, PromptSet)]


@pytest.fixture
def hub(tmp_path):
    """Puts records into a hub cache as `hf download` does, and gives the pin."""

    def put(name, records, path="data/train.parquet", revision=COMMIT):
        folder = f"datasets--{find_source(name).repository.replace('/', '--')}/snapshots/{revision}"
        file = tmp_path / folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".parquet":
            pd.DataFrame(records).to_parquet(file)
        else:
            pd.DataFrame(records).to_csv(file, sep="\t", index=False)
        return pin(name, revision, [path], tmp_path)

    return put


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_rows_that_can_be_learnt_from(hub, tmp_path, name):
    rows, dropped = read(hub(name, [RECORDS[name]]), tmp_path)
    assert rows
    assert not dropped
    assert not [row for row in rows if problem(row)]
    source = find_source(name)
    assert {(row.task, row.source, row.licence) for row in rows} == {
        (source.task, f"{source.repository}@{COMMIT}", source.terms.licence)
    }


def test_what_each_kind_of_set_becomes(hub, tmp_path):
    def only(name):
        return read(hub(name, [RECORDS[name]]), tmp_path)[0]

    (gsm,), (deep,), (big,) = only("gsm8k"), only("deepmath"), only("big_math")
    assert (gsm.completion, gsm.answer) == ("One and one is two.\n\nThe answer is 2.", "2")
    assert (deep.completion, deep.reasoning, deep.thinking) == ("Two.", "Hm, one and one.", True)
    assert (big.completion, big.answer) == ("", "2")
    first, last = only("ultrachat")
    assert (first.completion, last.completion, len(last.messages)) == ("Hello.", "Two.", 3)


@pytest.mark.parametrize("name", HARMFUL)
def test_of_a_harmful_set_the_prompt_is_all_that_is_taken(hub, tmp_path, monkeypatch, name):
    """The function that builds the row is watched: a prompt is what it gets."""
    build, seen = sources._prompt_row, []
    monkeypatch.setattr(sources, "_prompt_row", lambda *given: seen.append(given) or build(*given))
    (row,) = read(hub(name, [RECORDS[name]]), tmp_path)[0]
    assert seen == [("antirefusal", ONE)]
    assert (row.completion, row.reasoning, row.answer, row.messages[0]["content"]) == ("", "", "", ONE)
    assert "SENTINEL" not in str(row)


@pytest.mark.parametrize("path", ["train/train.tsv", "train/train.parquet"])
def test_no_response_leaves_the_file(hub, tmp_path, monkeypatch, path):
    """Watched where the file is read: the other columns are not decoded, not only dropped afterwards."""
    read_file = datasets.load_dataset

    def watched(*given, **options):
        records = read_file(*given, **options)
        assert [set(record) for record in records] == [{"vanilla", "data_type"}]
        return records

    monkeypatch.setattr(datasets, "load_dataset", watched)
    hub("wildjailbreak", [RECORDS["wildjailbreak"]], path)
    (file,) = tmp_path.rglob(path.rpartition("/")[2])
    (record,) = read_columns(file, find_source("wildjailbreak").columns)
    assert record == {"vanilla": ONE, "data_type": "vanilla_harmful"}


def test_a_harmful_set_has_no_place_for_a_response():
    assert {field.name for field in fields(PromptSet)} == {"name", "repository", "terms", "prompt", "only", "task"}
    assert list(inspect.signature(sources._prompt_row).parameters) == ["task", "prompt"]
    responses = ("response", "completion", "chosen", "rejected", "target", "answer", "solution")
    for name in HARMFUL:
        assert not [column for column in find_source(name).columns if any(word in column.lower() for word in responses)]


def test_parts_that_are_not_wanted_and_records_of_nothing_are_counted(hub, tmp_path):
    refusing = {**RECORDS["tulu"], "source": "ai2-adapt-dev/coconot_converted"}
    open_ended = {**RECORDS["tulu"], "messages": TALK[:1]}
    controlled = {**RECORDS["tulu"], "messages": [{"role": "user", "content": "Hi.<|im_end|>"}, TALK[1]]}
    rows, dropped = read(hub("tulu", [RECORDS["tulu"], refusing, refusing, open_ended, controlled] * 2), tmp_path)
    assert len(rows) == 1
    assert dropped == {"filtered": 4, "empty": 2, "unusable": 2}


def test_half_a_record_is_no_prompt_to_sample_on(hub, tmp_path):
    halves = {
        "gsm8k": {"answer": "One and one is two."},
        "deepmath": {"r1_solution_1": "Hm, one and one.\n</think>\n\n<think>Two."},
        "no_robots": {"messages": [TALK[0], {"role": "assistant", "content": " "}]},
    }
    for name, half in halves.items():
        assert read(hub(name, [RECORDS[name] | half]), tmp_path) == ([], {"empty": 1})


def test_terms_are_said_before_anything_runs():
    gsm, wild, beaver = terms(["gsm8k", "wildjailbreak", "beavertails"])
    assert gsm == "gsm8k (openai/gsm8k): licence MIT"
    assert "gated: accept at huggingface.co/datasets/allenai/wildjailbreak first" in wild
    assert "licence CC-BY-NC-4.0; not for commercial use; prompts only, no response is read" in beaver


def test_a_nonlicensed_use_can_be_read_from_the_rows(hub, tmp_path):
    (row,) = read(hub("no_robots", [RECORDS["no_robots"]]), tmp_path)[0]
    assert row.licence == "CC-BY-NC-4.0"


def test_nothing_is_downloaded_and_the_command_that_does_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("something asked the network"))
    with pytest.raises(MissingInputError) as raised:
        read(Pin("big_math", COMMIT, {"data/train.parquet": "0" * 64}), tmp_path)
    message = str(raised.value)
    assert "licence Apache-2.0; gated" in message
    command = f"hf download --repo-type dataset SynthLabsAI/Big-Math-RL-Verified data/train.parquet --revision {COMMIT}"
    assert command in message


def test_another_revision_or_other_bytes_are_refused(hub, tmp_path):
    pinned = hub("gsm8k", [RECORDS["gsm8k"]])
    with pytest.raises(MissingInputError, match="not on this machine at revision cdcdcd"):
        read(replace(pinned, revision="cd" * 20), tmp_path)
    hub("gsm8k", [{**RECORDS["gsm8k"], "question": "What is two plus two?"}])
    with pytest.raises(ConventionError, match=r"data/train.parquet of gsm8k has sha256 .*other data than were pinned"):
        read(pinned, tmp_path)
    with pytest.raises(DataError, match="revision 'main' is no commit"):
        pin("gsm8k", "main", ["data/train.parquet"], tmp_path)


def test_a_pin_on_disk(hub, tmp_path):
    pinned = hub("gsm8k", [RECORDS["gsm8k"]])
    path = store.write_json(tmp_path / "pin.json", {"source": "gsm8k", "revision": COMMIT, "files": pinned.files})
    assert read_pin(path) == pinned
    with pytest.raises(FileFormatError, match=r"is no pin: it needs .*revision"):
        read_pin(store.write_json(tmp_path / "pin.json", {"source": "gsm8k"}))
    with pytest.raises(DataError, match="is no commit"):
        read_pin(store.write_json(tmp_path / "pin.json", {"source": "gsm8k", "revision": "main", "files": {}}))
    with pytest.raises(UnknownNameError, match="Did you mean 'gsm8k'"):
        read_pin(store.write_json(tmp_path / "pin.json", {"source": "gsm8", "revision": COMMIT, "files": {}}))


def test_files_that_are_not_what_they_say(hub, tmp_path):
    pinned = hub("gsm8k", [{"problem": ONE}])
    with pytest.raises(FileFormatError, match=r"cannot read question, answer from .*it has the columns problem"):
        read(pinned, tmp_path)
    (file,) = tmp_path.rglob("train.parquet")
    file.write_bytes(b"not parquet")
    with pytest.raises(FileFormatError, match="cannot read question"):
        read(pin("gsm8k", COMMIT, ["data/train.parquet"], tmp_path), tmp_path)


# ---- fetch_rows.py ---------------------------------------------------------------------------------------------------


def fetch(tmp_path, name, path="data/train.parquet", **changes):
    """The settings of a run of the script on the files in the cache here."""
    given = {
        "source": name,
        "revision": COMMIT,
        "files": (path,),
        "cache": tmp_path,
        "out": tmp_path / "runs",
        **changes,
    }
    settings = FetchSettings(**given)
    fetch_rows.main(settings)
    return settings


def test_terms_pin_rows_and_what_was_dropped(hub, tmp_path, capsys):
    pinned = hub("gsm8k", [RECORDS["gsm8k"], {"question": "And?", "answer": "No result."}])
    target = fetch(tmp_path, "gsm8k").training_data("math")
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "gsm8k (openai/gsm8k): licence MIT"
    assert shown[1] == "1 rows; records or rows dropped: 1 empty"
    assert shown[-1] == f"train_checkpoint.py --math {target}"
    (row,) = read_rows(target, "math")
    assert (row.completion, row.source) == ("One and one is two.\n\nThe answer is 2.", f"openai/gsm8k@{COMMIT}")
    assert target.stat().st_mode & 0o777 == 0o600
    assert store.read_json(target.with_name("math.jsonl.plan.json"))["pin"]["files"] == pinned.files


def test_rows_of_another_pin_are_not_overwritten(hub, tmp_path, capsys):
    hub("gsm8k", [RECORDS["gsm8k"]])
    hub("deepmath", [RECORDS["deepmath"]])
    fetch(tmp_path, "gsm8k")
    fetch(tmp_path, "gsm8k")
    assert "math.jsonl: already there" in capsys.readouterr().out
    with pytest.raises(ConventionError, match=r"math\.jsonl belongs to another run: pin differ"):
        fetch(tmp_path, "deepmath")


def test_a_set_of_prompts_says_that_it_has_no_completions(hub, tmp_path, capsys):
    hub("wildjailbreak", [RECORDS["wildjailbreak"]])
    target = fetch(tmp_path, "wildjailbreak").training_data("antirefusal")
    shown = capsys.readouterr().out
    assert shown.index("gated: accept at") < shown.index("1 rows")
    assert "1 are prompts alone, without a completion: for reinforcement" in shown
    assert b"SENTINEL" not in target.read_bytes()


def test_files_that_give_no_row_leave_nothing_behind(hub, tmp_path):
    hub("gsm8k", [{"question": "And?", "answer": "No result."}])
    with pytest.raises(DataError, match=r"no row came of data/train\.parquet \(\{'empty': 1\}\)"):
        fetch(tmp_path, "gsm8k")
    assert not [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]


def test_every_set_is_listed_with_its_terms(tmp_path, capsys):
    fetch(tmp_path, "", list=True)
    assert capsys.readouterr().out.splitlines() == terms(list(SOURCES))
    assert not (tmp_path / "runs").exists()
