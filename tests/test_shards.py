"""Shards: any number of them, in any order and through any kills, leave what one uninterrupted process leaves."""

import itertools
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import get_args

import pytest
import tyro
import xarray as xr

import capture_stories
import sharded
import write_replies
import write_stories
from probes import activations, presets, store
from probes.activations import capture, capture_in_units, capture_moments, join, save_activations
from probes.cost import loads
from probes.errors import ConventionError, DataError, FileFormatError, MissingInputError, OutputError, ShardError
from probes.executors import Cluster, ShardOf, run_in_shards
from probes.lm.checkpoints import MODELS, Checkpoint
from probes.lm.generate import Sampling, generate
from probes.lm.model import Model
from probes.pairs import load_pairs
from probes.parts import Parts, own, units
from probes.replies import load_replies
from probes.shards import Shard, shard_of
from probes.stories import Stories, Story, topics
from settings import ShardedSettings
from small_model import small_model
from test_moments import FOLDS, written
from writer_settings import WritingSettings

UNITS = 24
MOMENTS = ("in a unit", "before a rename", "after a rename")


def nothing() -> None:
    """A process that lives."""


def work(parts: Parts, log: Path, die: Callable[[], object]):
    """Some units of records, each noted in a log when it is begun, and what saves them all."""
    rows = []
    for number, _ in own(range(UNITS), parts):

        def make(number=number):
            with open(log, "a") as file:
                file.write(f"{number}\n")
            die()
            return [{"key": number, "text": "x" * 2000}]

        rows += parts.rows(f"u{number:03d}", make, ("key", "text"))
    parts.end_of_share()
    return lambda path: store.write_jsonl(path, rows)


def ensure(target: Path, log: Path, shard: Shard = Shard(), die: Callable[[], object] = nothing) -> bool:  # noqa: B008
    parts = Parts(target, {"units": UNITS}, shard)
    return parts.ensure(lambda: work(parts, log, die))


def killed_at(moment: str, count: int) -> Callable[[], object]:
    """What kills this process when it comes to this moment for the so manieth time: to be called in the middle of a unit."""
    left, rename = itertools.count(count - 1, -1), os.replace

    def die() -> None:
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def renamed(*paths) -> None:
        for step in (die, lambda: rename(*paths)) if moment == "before a rename" else (lambda: rename(*paths), die):
            step()

    if moment == "in a unit":
        return die
    os.replace = renamed
    return nothing


def started(target: Path, log: Path, shard: Shard, moment: str = "", count: int = 0) -> int:
    """A shard in a process of its own, which is killed at this moment if any; its number."""
    process = os.fork()
    if process:
        return process
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        ensure(target, log, shard, killed_at(moment, count) if moment else nothing)
        os._exit(0)
    except BaseException:
        os._exit(1)


def noted(log: Path) -> list[int]:
    """Units that were begun."""
    return sorted(map(int, log.read_text().split())) if log.is_file() else []


@pytest.mark.parametrize("seed", range(8))
def test_shards_killed_anywhere_and_started_again_in_other_numbers_change_no_byte(tmp_path, seed):
    rng, target, log, statuses = Random(seed), tmp_path / "out.jsonl", tmp_path / "log", []
    ensure(tmp_path / "whole.jsonl", tmp_path / "whole.log")
    for of in (1, 5, 2, 1, 3):  # as on machines that come and go
        ends = [(rng.choice(MOMENTS), rng.randint(1, 3)) for _ in range(of)]
        shards = [
            started(target, log, Shard(rank, of), *end)
            for rank, end in zip(rng.sample(range(of), of), ends, strict=True)
        ]
        statuses += [os.waitpid(process, 0)[1] for process in shards]
    kills = statuses.count(signal.SIGKILL)
    assert kills >= 8
    assert set(statuses) <= {0, signal.SIGKILL}
    done = [os.waitpid(started(target, log, Shard(rank, 2)), 0)[1] for rank in (1, 0)]
    assert done == [0, 0]
    assert not target.exists()
    made = noted(log)
    assert sorted(set(made)) == list(range(UNITS))
    assert len(made) <= UNITS + kills  # a unit is made again only where a kill came in the middle of it
    assert ensure(target, log)
    assert target.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert noted(log) == made  # merging makes nothing again
    assert not list(tmp_path.glob("*.parts"))


def test_moments_vectors_and_texts_of_shards_in_any_order_are_those_of_one_run(tmp_path, monkeypatch):
    monkeypatch.setattr(activations, "UNIT", 7)
    monkeypatch.setattr(activations, "VECTORS", 9)
    monkeypatch.setattr(Model, "unit", 3)
    model, stories, draw = small_model(), Stories(written(40), "small"), Sampling(max_new_tokens=3, seed=1)

    def moments(parts):
        return capture_moments(model, stories, FOLDS, [1, 3], start_token=4, parts=parts).save

    def vectors(parts):
        made = capture_in_units(model, stories, parts, [1, 3], start_token=4)
        return lambda path: save_activations(path, made)

    def texts(parts):
        rows = generate(model, [f"word {i}" for i in range(8)], draw, parts=parts)
        return lambda path: store.write_json(path, [row.token_ids for row in rows])

    def made(make, target, shard=Shard()):  # noqa: B008
        parts = Parts(target, {}, shard)
        return parts.ensure(lambda: make(parts))

    for make in (moments, vectors, texts):
        alone, shared = tmp_path / f"{make.__name__}_alone", tmp_path / make.__name__
        assert made(make, alone)
        for of in (2, 5):
            target = shared.with_suffix(f".{of}")
            assert not any(made(make, target, Shard(rank, of)) for rank in Random(of).sample(range(of), of))
            assert made(make, target)
            assert target.read_bytes() == alone.read_bytes()


def test_who_may_share_a_folder(tmp_path):
    target = tmp_path / "out.jsonl"
    with Parts(target, {}, Shard(0, 2)):
        with Parts(target, {}, Shard(1, 2)):  # another shard of the same number
            pass
        for shard in (Shard(0, 2), Shard(1, 3), Shard()):  # itself, another number, the run that merges
            with pytest.raises(OutputError, match=f"process {os.getpid()} is at work on shard 0/2"):
                Parts(target, {}, shard).__enter__()
    with Parts(target, {}), pytest.raises(OutputError, match="is at work in"):
        Parts(target, {}, Shard(0, 2)).__enter__()
    assert not list(tmp_path.iterdir())


def test_a_shard_that_fails_leaves_the_others_their_folder(tmp_path):
    target = tmp_path / "out.jsonl"
    with Parts(target, {}, Shard(1, 2)) as other:
        with pytest.raises(ZeroDivisionError):
            Parts(target, {}, Shard(0, 2)).ensure(lambda: 1 / 0)
        other.rows("u", lambda: [{"key": 1}], ("key",))
    assert (tmp_path / "out.jsonl.parts/u.jsonl").is_file()


def test_shards_of_another_plan_are_refused_by_what_differs(tmp_path):
    target = tmp_path / "out.jsonl"
    with Parts(target, {"texts": "a", "seed": 0}, Shard(0, 2)) as parts:
        parts.rows("u", lambda: [{"key": 1}], ("key",))
        with pytest.raises(ConventionError, match="belongs to another run: texts differ"):
            Parts(target, {"texts": "b", "seed": 0}, Shard(1, 2)).__enter__()


def damaged(path: Path) -> Path:
    """A file of the same length with one other bit."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path


def test_a_unit_that_is_not_as_it_was_written_is_refused_by_name_and_never_merged(tmp_path):
    target, log = tmp_path / "out.jsonl", tmp_path / "log"
    ensure(target, log, Shard(0, 2))
    folder = tmp_path / "out.jsonl.parts"
    bad = damaged(folder / "u004.jsonl")
    with pytest.raises(FileFormatError, match=r"u004.jsonl is cut short or damaged.*Remove it and start again"):
        ensure(target, log)
    assert not target.exists()
    bad.unlink()
    assert ensure(target, log)
    assert noted(log).count(4) == 2


def test_a_unit_of_another_run_is_refused_by_name(tmp_path):
    for name, plan in (("a", {"seed": 0}), ("b", {"seed": 1})):
        with Parts(tmp_path / name, plan, Shard(0, 2)) as parts:
            parts.rows("u", lambda plan=plan: [plan], ("seed",))
    for file in ("u.jsonl", "u.jsonl.seal"):  # as when folders of two machines are copied into one
        (tmp_path / "a.parts" / file).write_bytes((tmp_path / "b.parts" / file).read_bytes())
    with (
        Parts(tmp_path / "a", {"seed": 0}) as parts,
        pytest.raises(ConventionError, match=r"u.jsonl is a unit of another run"),
    ):
        parts.rows("u", list, ("seed",))


def test_what_has_no_units_is_the_first_shards(tmp_path):
    def make():
        return lambda path: store.write_text(path, "whole")

    assert not Parts(tmp_path / "a", {}, Shard(1, 2)).ensure_in_one(lambda: pytest.fail("made"))
    assert Parts(tmp_path / "a", {}, Shard(0, 2)).ensure_in_one(make)
    assert Parts(tmp_path / "a", {}).finished


def test_the_shard_of_a_process_is_what_it_is_given_or_what_torchrun_says(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert shard_of("") == Shard()
    assert shard_of("").is_whole
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert str(shard_of("")) == "3/8"
    assert shard_of("1/2") == Shard(1, 2)
    with pytest.raises(DataError, match=r"no shard 2/2: shards of 2 are 0/2 … 1/2"):
        shard_of("2/2")
    with pytest.raises(DataError, match=r"'half' names no shard. Give R/N"):
        shard_of("half")


def test_shares_hold_everything_once():
    for of in (1, 3, 40):
        taken = [item for rank in range(of) for item in Shard(rank, of).take(units(range(17), 2))]
        assert sorted(taken, key=lambda unit: unit[0]) == units(range(17), 2)


def test_joined_units_are_the_vectors_of_one_capture(monkeypatch, tmp_path):
    monkeypatch.setattr(activations, "VECTORS", 9)
    model = small_model()
    stories = Stories([*written(30), Story("short", "calm", "topic 1", "so")], "small")
    whole = capture(model, stories, [3, 1], start_token=4)
    with Parts(tmp_path / "a", {}) as parts:
        joined = capture_in_units(model, stories, parts, [3, 1], start_token=4)
        assert (
            len(list(parts.folder.glob("*.safetensors"))) == 4
        )  # of 8 or 7 texts: none is left alone in a short last one
    assert joined.attrs == whole.attrs
    assert joined.attrs["dropped_short"] == 1
    xr.testing.assert_allclose(joined, whole, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConventionError, match="differ in weights are none of one run"):
        join([whole, whole.assign_attrs(weights="others")])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_steps_shared_by_two_leave_the_files_of_one(tmp_path, monkeypatch, capsys):
    tiny, one, two = presets.PRESETS["tiny"], tmp_path / "one", tmp_path / "two"
    few = replace(
        tiny, emotions=("afraid", "calm"), topics=8, per_cell=1, neutral_per_topic=1, held_out=2, anchor_topics=1
    )
    monkeypatch.setitem(presets.PRESETS, "tiny", replace(few, story_tokens=8))
    monkeypatch.setattr(activations, "UNIT", 5)
    monkeypatch.setattr(Model, "unit", 6)
    for step in (write_stories, capture_stories):
        for kind in ("emotional", "neutral") if step is capture_stories else ():  # what eight tokens tell is dropped
            told = [
                replace(story, topic=topics()[i % 8], emotion=("afraid", "calm")[i % 2])
                for i, story in enumerate(written(16))
            ]
            for out in (one, two):
                Stories(told, "tiny/original").save(ShardedSettings(out=out).stories(kind))
        step.main(WritingSettings(out=one))
        for shard in ("1/2", "0/1"):  # what the other shard would do the run that merges does
            step.main(WritingSettings(out=two, shard=shard))
    assert contents(one) == contents(two)
    assert "emotional.jsonl: the units of shard 1/2 are there" in (shown := capsys.readouterr().out)
    assert "moments.safetensors: the units of shard 1/2 are there" in shown


def test_answers_of_a_family_are_shared_before_the_originals_are_merged(tmp_path, monkeypatch):
    monkeypatch.setattr("settings.load_pairs", lambda per_domain: load_pairs(per_domain=1)[:2])
    monkeypatch.setitem(presets.PRESETS, "tiny", replace(presets.PRESETS["tiny"], answer_tokens=4))
    monkeypatch.setattr(Model, "unit", 6)
    original = small_model()
    trained = replace(original, checkpoint=Checkpoint(original.name, "antirefusal"))
    settings, rest = (WritingSettings(out=tmp_path, shard=shard) for shard in ("0/2", "1/2"))
    for share in (settings, rest):
        assert not [model for model in (original, trained) if write_replies.answer(share, model)]
    whole = WritingSettings(out=tmp_path)
    with pytest.raises(MissingInputError, match=r"no file .*original\.jsonl"):
        write_replies.answer(whole, trained)
    assert all(write_replies.answer(whole, model) for model in (original, trained))
    assert {reply.text_source for reply in load_replies(whole.replies("antirefusal"))} == {
        "own",
        "original",
        "own_benign",
    }


# ---- engines ---------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
target, shard = Path(sys.argv[1]), sys.argv[3] if sys.argv[2:3] == ["--shard"] else "merge"
target.with_name(shard.replace("/", "_of_")).write_text(shard)
if shard == "merge":
    target.write_text(" ".join(sorted(path.name for path in target.parent.glob("*_of_*"))))
if target.name == "fails":
    sys.exit("there is no such thing")
"""


SBATCH = """#!/bin/bash
n=$(ls {jobs}/job* 2>/dev/null | wc -l)
{{ echo "$@"; cat "${{@: -1}}"; }} > {jobs}/job$n
echo Submitted batch job 10$n
"""
"""Keeps what it is given, and says what Slurm says."""


def script(tmp_path: Path) -> Path:
    path = tmp_path / "step.py"
    path.write_text(SCRIPT)
    return path


def test_an_executor_runs_every_shard_and_then_merges(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", list(sys.path))
    target = tmp_path / "out"
    run_in_shards(ShardOf(str(script(tmp_path)), (str(target),)), 2, "local", Cluster(), tmp_path / "logs")
    assert target.read_text() == "0_of_2 1_of_2"


def test_the_script_starts_a_step_with_the_flags_that_steps_share(monkeypatch):
    given = []
    monkeypatch.setattr(sharded, "run_in_shards", lambda *what: given.extend(what))
    flags = [
        "capture_stories",
        "--preset",
        "standard",
        "--seed",
        "3",
        "--tasks",
        "13",
        "--executor",
        "slurm",
        "--partition",
        "gpu",
    ]
    sharded.main(tyro.cli(sharded.RunSettings, args=flags))
    step, tasks, executor, cluster, logs = given
    assert Path(step.script).name == "capture_stories.py"
    assert Path(step.script).is_file()
    taken = tyro.cli(ShardedSettings, args=[*step.flags, "--shard", "1/13"])
    assert taken == ShardedSettings(preset="standard", seed=3, shard="1/13")
    assert (tasks, executor, cluster, logs.name) == (13, "slurm", Cluster(1, "gpu", "24:00:00"), "capture_stories")


@pytest.mark.parametrize("step", sharded.WRITES)
def test_a_step_that_writes_is_told_who_writes(step, monkeypatch):
    given = []
    monkeypatch.setattr(sharded, "run_in_shards", lambda *what: given.extend(what))
    sharded.main(tyro.cli(sharded.RunSettings, args=[step, "--writer", "vllm", "--writer-gpus", "2"]))
    assert tyro.cli(WritingSettings, args=[*given[0].flags]) == WritingSettings(writer="vllm", writer_gpus=2)


@pytest.mark.parametrize("step", get_args(sharded.Step))
def test_steps_that_can_be_shared_say_what_they_take(step):
    assert step in loads(MODELS["tiny"], presets.PRESETS["tiny"], 5)
    text = Path(sharded.__file__).with_name(f"{step}.py").read_text()
    (takes,) = re.findall(r"command\(main, (Sharded|Writing)Settings, __doc__\)", text)
    assert (takes == "Writing") == (step in sharded.WRITES)


def test_a_shard_that_ends_with_an_error_ends_the_launch(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", list(sys.path))
    step = ShardOf(str(script(tmp_path)), (str(tmp_path / "fails"),), logs=str(tmp_path))
    for of, what in ((1, "merging"), (2, "shard 0/2")):
        with pytest.raises(
            ShardError, match=rf"step.py, {what}: there is no such thing. Its log: .*task_00000.log. Mend"
        ):
            step(None, 0, of)
    Path(step.script).write_text("raise ValueError('two\\nlines')")
    with pytest.raises(ShardError, match=r"step.py, shard 1/2: ValueError: two lines. Its log: .*task_00001.log"):
        step(None, 1, 2)


def test_a_launch_of_which_a_shard_fails_ends_with_one_line_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """All the way through datatrove's processes, by the script."""
    monkeypatch.setattr(sharded, "__file__", str(tmp_path / "sharded.py"))
    step = tmp_path / "write_stories.py"
    fails = "import sys; from pathlib import Path\nif '--shard' in sys.argv and sys.argv[-1] == '1/2': sys.exit('no room')\n"
    step.write_text(fails)
    flags = ["sharded.py", "write_stories", "--tasks", "2", "--out", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", flags)
    with pytest.raises(SystemExit) as ended:
        sharded.command(sharded.main, sharded.RunSettings, "")
    said = str(ended.value.code)
    assert re.fullmatch(
        r"ShardError: write_stories.py, shard 1/2: no room. Its log: \S+task_00001.log. Mend that .*", said
    )
    assert "no room" in Path(said.split("Its log: ")[1].split(". ")[0]).read_text()
    step.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'done')!r}).touch()")
    sharded.command(sharded.main, sharded.RunSettings, "")
    assert (tmp_path / "done").exists()


def test_slurm_queues_the_shards_and_a_merge_that_waits_for_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    queue = tmp_path / "bin" / "sbatch"
    queue.write_text(SBATCH.format(jobs=tmp_path))
    queue.chmod(0o755)
    step = ShardOf(str(script(tmp_path)), ("out.jsonl",))
    run_in_shards(step, 16, "slurm", Cluster(1, "gpu", "04:00:00"), tmp_path / "logs")
    jobs = [path.read_text() for path in sorted(tmp_path.glob("job*"))]
    shards, merge = (next(job for job in jobs if f"logs/{name}/executor.pik" in job) for name in ("shards", "merge"))
    for line in ("--array=0-15", "--gpus=1", "--partition=gpu", "--time=04:00:00", "--job-name=step", "--requeue"):
        assert f"#SBATCH {line}" in shards
    assert "--qos" not in shards
    assert "#SBATCH --array=0-0" in merge
    assert "--dependency=afterok:100" in merge


def test_engines_that_cannot_be_had(tmp_path, monkeypatch):
    step = ShardOf("step.py", ())
    for executor, words in (("slurm", r"takes a --partition"), ("ray", r"Ray is not installed: pip install ray")):
        with pytest.raises(MissingInputError, match=words):
            run_in_shards(step, 2, executor, Cluster(), tmp_path)
    with pytest.raises(DataError, match="no shard 0/0"):
        run_in_shards(step, 0, "local", Cluster(), tmp_path)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    with pytest.raises(DataError, match="8 tasks at once on 4 GPUs: give --tasks 4"):
        run_in_shards(step, 8, "local", Cluster(), tmp_path)
