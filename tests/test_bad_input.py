"""Bad input, case by case: the error that names it, the words of a way out, and nothing half-written.

A case gets a folder of its own, puts its input there and gives back the call that must fail. What lies in the folder
before the call lies there after it, byte for byte, and nothing else does.
"""

# pyright: reportArgumentType=false

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import asdict, replace
from functools import cache, partial
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from conftest import ABOUT
from probes import lm, store
from probes.activations import capture, label, load_activations, save_activations, select_layers, split
from probes.comparison import compare
from probes.directions import EmotionProbes, load_probes
from probes.errors import (
    ConventionError,
    DataError,
    FileFormatError,
    LayerError,
    MissingInputError,
    NotFittedError,
    OutputError,
    ProbesError,
    TooLargeError,
    UnknownNameError,
)
from probes.figure_tables import similarity_table
from probes.figures import similarity_bars, write_figure
from probes.lm.chat import render
from probes.lm.checkpoints import family, find_checkpoint, read_manifest
from probes.lm.generate import Sampling, generate
from probes.lm.weights import adapter_sha, check_adapter, merge_adapter
from probes.moments import load_moments, merge, moments_of, topic_folds
from probes.pairs import load_pairs, prompts
from probes.parts import Parts
from probes.presets import find_preset
from probes.prompts import user_turn
from probes.readings import COLUMNS, concat, load_readings, save_readings
from probes.replies import Replies, force_replies, load_replies, write_replies
from probes.shards import Shard, shard_of
from probes.stimuli import capture_intensity, capture_stimuli, load_intensity, load_scenarios
from probes.stories import Stories, Story, load_stories, write_neutral, write_stories
from probes.text_baseline import text_accuracy
from settings import Settings, command
from small_model import save_small_model, small_model
from small_readings import INJECTION, small_readings
from test_checkpoints import manifest
from test_replies import reply
from training.data.mixtures import draw
from training.data.rows import read_rows
from training.manifest import _plain, write_checkpoint
from training.recipes import find_recipe

Call = Callable[[], object]


class Case(NamedTuple):
    """One kind of bad input."""

    name: str
    error: type[BaseException]
    words: str
    """What the message says, in parts: what came, what is possible, what to do."""
    given: Callable[[Path], Call]
    """Makes the input in a folder; gives the call that must fail."""
    leaves: str = "nothing"
    """Part of the names of new files that may stay: only a kill leaves any, for nobody is left to take them away."""


def direct(name: str, error: type[BaseException], words: str, call: Call) -> Case:
    """A case that needs no file."""
    return Case(name, error, words, lambda at: call)


def record(name: str, error: type[BaseException], words: str, load: Callable[[Path], object], *rows: Any) -> Case:
    """A case that loads a file of these lines."""
    return Case(name, error, words, lambda at: partial(load, lines(at, *rows)))


class UsageError(Exception):
    """What the command line says of flags that it does not understand, before any work."""


# ---- good things to damage -------------------------------------------------------------------------------------------

GREEDY = Sampling(max_new_tokens=4, temperature=0)
FOLDS = {f"topic {i}": i % 2 for i in range(4)}


def acts(width=6, layers=(0, 1), about=None, kind: Any = np.float32, seed=0, **labels):
    """Activations of 16 stories of four emotions."""
    mean = np.random.default_rng(seed).normal(size=(16, len(layers), width)).astype(kind)
    given = {"sample": [f"s{i}" for i in range(16)], "emotion": ["afraid", "calm", "happy", "sad"] * 4}
    given |= {"topic": [f"topic {i % 4}" for i in range(16)], "text": "It rained."} | labels
    return label(
        {"mean": mean}, pd.DataFrame(given), layers, ABOUT | {"start_token": 4, "dropped_short": 0} | (about or {})
    )


@cache
def model():
    return small_model()


@cache
def fitted():
    return EmotionProbes().fit(acts(), acts(seed=1))


@cache
def answers():
    return write_replies(model(), load_pairs()[:1], GREEDY)


@cache
def model_folder(root: Path) -> Path:
    return save_small_model(root / "small")


def told(*texts):
    """Stories of these texts."""
    return Stories([Story(f"calm/sea/{i}", "calm", "sea", text) for i, text in enumerate(texts)], "small/original")


def spoilt(values, bad):
    """The dataset with one value changed."""
    values = values.copy(deep=True)
    values["mean"].values[3, 1, 2] = bad
    return values


STORY = {
    "sample": "calm/sea/0",
    "emotion": "calm",
    "topic": "sea",
    "text": "It rained.",
    "dropped": "",
    "written_by": "",
    "model": "m",
}
REPLY = asdict(reply())
PAIR = json.loads(json.dumps(asdict(load_pairs()[0])))
MANIFEST = _plain(asdict(manifest()))
DOSE = {"template": "t", "source": "ours", "text": "It is {n}.", "values": [1, 2, 3], "expected": {"sad": 1}}


# ---- ways to damage --------------------------------------------------------------------------------------------------


def lines(at: Path, *rows: Any, name: str = "in.jsonl") -> Path:
    """A file of records, or of whatever bytes stand for one."""
    (at / name).write_bytes(
        b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
    )
    return at / name


def cut(path: Path, keep: float) -> Path:
    """The first part of a file, or bytes that are none of its kind in place of its head."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))] if keep >= 0 else b"\xff" * 8 + whole[8:])
    return path


def saved(at: Path, kind: str) -> Path:
    """A good file of arrays."""
    path = at / f"{kind}.safetensors"
    if kind == "activations":
        return save_activations(path, acts())
    return (fitted() if kind == "probes" else moments_of(acts(), FOLDS)).save(path)


LOADS: dict[str, Callable[[Path], object]] = {
    "activations": load_activations, "moments": load_moments, "probes": load_probes,
}  # fmt: skip


def forged(at: Path, kind: str, arrays: Mapping[str, Any] | None = None, card: Any = None) -> Call:
    """Loads a file of arrays in which some arrays, or parts of its card, are others."""
    path = saved(at, kind)
    held, told = store.read_arrays(path)
    new = {name: value(held[name]) if callable(value) else value for name, value in (arrays or {}).items()}
    changed = card if isinstance(card, list) else {**told, **(card or {})}
    store.write_arrays(path, {**held, **new}, changed)
    return partial(LOADS[kind], path)


def checkpoint(at: Path, place: str = "antirefusal/sft", **changes: Any) -> Path:
    """A folder of checkpoints with one manifest, whose fields are changed afterwards."""
    store.write_json(at / place / "manifest.json", {**MANIFEST, **changes})
    return at


def adapter(at: Path, damage: Callable[[Path], object]) -> Call:
    """Checks a trained adapter that was damaged after its manifest was written."""
    save_file({"a": np.zeros(4, np.float32)}, at / "adapter_model.safetensors")
    store.write_json(at / "adapter_config.json", {"lora_alpha": 32})
    made = replace(manifest(), adapter_sha=adapter_sha(at))
    damage(at)
    ours = {"base.sha": "s", "tokenizer_sha": "t", "template_sha": "c"}
    given = SimpleNamespace(manifest=made, adapter=at, address="tiny/antirefusal@sft")
    return partial(check_adapter, given, ours)  # type: ignore[arg-type]


def loaded(at: Path, name: str, change: Callable[[bytes], bytes] | None) -> Call:
    """Loads a model from a folder in which one file is another, or gone."""
    folder = Path(shutil.copytree(model_folder(at.parents[1]), at / "model"))
    if change is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(change((folder / name).read_bytes()))
    return partial(lm.load, folder)


def with_config(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda config: json.dumps({**json.loads(config), **changes}).encode()


def killed(at: Path, old: bytes | None) -> Call:
    """A worker killed by the system when its file is on the disk and not yet in place."""
    if old is not None:
        (at / "out").write_bytes(old)
    write = "store.write_text(sys.argv[1], 'new')"
    code = f"import os, signal, sys; from probes import store; os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL); {write}"
    return lambda: subprocess.run([sys.executable, "-c", code, at / "out"], check=True)


def full(work: Call) -> Call:
    """Work that may write 2,000 bytes to a file and no more: what a full disk does, on any machine."""

    def run() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        try:
            work()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return run


def blocked(path: Path) -> Path:
    """A place where a good file is."""
    path.write_bytes(b"older")
    return path


def script(name: str, *flags: str) -> Call:
    """A step as a command, in the folder of the case."""
    module = import_module(name)
    kind = getattr(module, "TrainSettings", Settings)

    def run() -> None:
        said = io.StringIO()
        try:
            with patch.object(sys, "argv", [name, *flags]), redirect_stderr(said):
                command(module.main, kind, module.__doc__)
        except SystemExit as ended:
            if ended.code == 2:
                raise UsageError(" ".join(said.getvalue().split())) from None
            raise

    return run


def in_runs(at: Path, name: str, data: bytes) -> None:
    """A file where the steps look for it."""
    path = at / "runs/tiny/tiny" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def resumed(target: Path, plan: dict[str, Any], rows: list[dict[str, Any]] | None = None) -> None:
    """Work on a unit of a run, and no more."""
    with Parts(target, plan) as parts:
        parts.rows("u0", lambda: rows or [{"key": "a"}] * 3, ("key",))


def doubled(target: Path) -> None:
    """A shard that is started while it is at work."""
    with Parts(target, {}, Shard(1, 2)):
        Parts(target, {}, Shard(1, 2)).__enter__()


def patched(name: str, value: Any, call: Call) -> object:
    with patch(name, value):
        return call()


def begun(at: Path, plan: dict[str, Any]) -> Path:
    """The target of a run that was killed after its first unit."""
    resumed(at / "out.jsonl", plan)
    return at / "out.jsonl"


def finished(at: Path, plan: dict[str, Any]) -> Path:
    with Parts(at / "out.jsonl", plan) as parts:
        parts.finish(lambda path: store.write_text(path, "whole"))
    return at / "out.jsonl"


def folder(at: Path, name: str) -> Path:
    (at / name).mkdir()
    return at / name


def readings(**changes: Any) -> pd.DataFrame:
    return small_readings(n=2).assign(**changes)


def parquet(at: Path, table: pd.DataFrame) -> Path:
    table.to_parquet(at / "in.parquet", index=False)
    return at / "in.parquet"


# ---- the table -------------------------------------------------------------------------------------------------------

PLACES = (
    Case("a device in the file's place", OutputError, "cannot write | not a file | --out",
         lambda at: ((at / "out").symlink_to("/dev/full"), partial(told("a").save, at / "out"))[1]),
    direct("a folder on a device", OutputError, "/dev/full/out | --out", lambda: told("a").save("/dev/full/out")),
    Case("disk full, over an older file", OutputError, "cannot write | File too large | make room",
         lambda at: full(partial(told("It rained. " * 999).save, blocked(at / "out")))),
    Case("disk full, arrays", OutputError, "cannot write | File too large | --out",
         lambda at: full(partial(save_activations, at / "out", acts(width=99)))),
    Case("disk full, first unit of a run", OutputError, "u0.jsonl | File too large | make room",
         lambda at: full(partial(resumed, at / "out.jsonl", {}, [{"key": "a" * 9999}]))),
    Case("disk full, adapter", OutputError, "cannot write the checkpoint | --out",
         lambda at: (blocked(folder(at, "sft") / "old"), full(partial(
             write_checkpoint, at / "sft", lambda to: save_file({"a": np.zeros(9999)}, to / "adapter_model.safetensors"), {})))[1]),
    Case("an adapter that cannot be saved", OutputError, "cannot write the checkpoint to | --out",
         lambda at: partial(write_checkpoint, at / "sft", lambda to: (to / "no/such").touch(), {})),
    Case("a file in a folder's place", OutputError, "cannot use | as an output folder | --out",
         lambda at: partial(store.check_folder, blocked(at / "runs") / "tiny")),
    Case("a file in the place of a run's folder", OutputError, "cannot use | out.jsonl.parts | --out",
         lambda at: partial(resumed, blocked(at / "a") / "out.jsonl", {})),
    Case("a folder in a file's place, written", OutputError, "cannot write | not a file | --out",
         lambda at: partial(fitted().save, folder(at, "out"))),
    Case("a folder in a file's place, read as records", FileFormatError, "cannot read | Is a directory | another path",
         lambda at: partial(load_stories, folder(at, "in"))),
    Case("a folder in a file's place, read as arrays", MissingInputError, "no file | Run the step",
         lambda at: partial(load_probes, folder(at, "in"))),
    Case("a folder in a file's place, hashed", FileFormatError, "cannot read | another path",
         lambda at: partial(store.sha256, folder(at, "in"))),
    Case("a very long name", OutputError, "name too long | --out",
         lambda at: partial(told("a").save, at / ("日" * 100))),
    Case("a name with a zero byte", OutputError, "null byte | --out", lambda at: partial(told("a").save, at / "a\0b")),
    Case("a path separator in a figure's name", DataError, "'../../out' | plain file name",
         lambda at: drawn(at, name="../../out")),
    Case("a worker killed over an older file", subprocess.CalledProcessError, "SIGKILL",
         lambda at: killed(at, b"older"), leaves="out.tmp"),
    Case("a worker killed over no file", subprocess.CalledProcessError, "SIGKILL",
         lambda at: killed(at, None), leaves="out.tmp"),
    Case("a checkpoint killed before it was in place", MissingInputError,
         "tiny/antirefusal@sft is not under | trained there: none | train_checkpoint.py --recipe antirefusal",
         lambda at: partial(find_checkpoint, "tiny/antirefusal@sft", checkpoint(at, "antirefusal/sft.tmp-x/sft"))),
)  # fmt: skip

RUNS = (
    Case("a folder of another seed", ConventionError, "another run | seed differ | --out",
         lambda at: partial(resumed, begun(at, {"seed": 1, "model": "m"}), {"seed": 2, "model": "m"})),
    Case("a target of another plan", ConventionError, "another run | preset differ | remove it",
         lambda at: partial(getattr, Parts(finished(at, {"preset": "a"}), {"preset": "b"}), "finished")),
    Case("a plan that is none", FileFormatError, "plan.json is not JSON | again",
         lambda at: (begun(at, {}), cut(at / "out.jsonl.parts/plan.json", 0.4), partial(resumed, at / "out.jsonl", {}))[2]),
    Case("a plan of another kind", ConventionError, "another run | seed differ | --out",
         lambda at: (lines(at, [1], name="out.plan.json"), partial(Parts(blocked(at / "out"), {"seed": 0}).ensure, list))[1]),
    Case("a unit cut short", FileFormatError, "u0.jsonl is cut short or damaged | Remove it and start again",
         lambda at: (begun(at, {}), cut(at / "out.jsonl.parts/u0.jsonl", 0.9), partial(resumed, at / "out.jsonl", {}))[2]),
    Case("a unit of another run among those of this one", ConventionError, "u0.jsonl is a unit of another run | Remove it",
         lambda at: (begun(at, {"seed": 1}), lines(at, {"seed": 2}, name="out.jsonl.parts/plan.json"),
                     partial(resumed, at / "out.jsonl", {"seed": 2}))[2]),
    Case("a shard twice at once", OutputError, "is at work on shard 1/2 in | Wait for it",
         lambda at: partial(doubled, at / "out.jsonl")),
    direct("a shard that there is not", DataError, "no shard 8/8 | 0/8 … 7/8", lambda: shard_of("8/8")),
    direct("a shard of another form", DataError, "'3 of 8' names no shard | R/N", lambda: shard_of("3 of 8")),
    Case("a model too large for memory", TooLargeError, "takes 30,000,000.0 GB in float32 | free | Nothing was loaded | bfloat16",
         lambda at: partial(patched, "probes.lm.memory.parameters", lambda entry: 75 * 10**14, lambda: lm.load("tiny"))),
    Case("a checkpoint in another's folder", ConventionError, "tells of antirefusal/sft | moved or copied | Put it back",
         lambda at: partial(family, "tiny", checkpoint(at, "benign_control/sft"))),
)  # fmt: skip

RECORDS = (
    record("a broken line", FileFormatError, "in.jsonl, line 3 is not JSON | drop it | write the file again",
           load_stories, STORY, STORY, b'{"text": '),
    record("a line that is no UTF-8", FileFormatError, "line 2 is not JSON | utf-8 | drop it",
           load_stories, STORY, b'{"text": "\xff"}'),
    record("half a character", FileFormatError, "line 1 is not JSON | surrogates | Mend",
           load_stories, {**STORY, "text": "\ud800"}),
    Case("half a character written", DataError, "surrogates | Take that",
         lambda at: partial(told("\ud800").save, at / "out")),
    record("a list in place of an object", FileFormatError, "line 2 is no object but [1, 2] | drop it",
           load_stories, STORY, [1, 2]),
    record("a line without end", FileFormatError, "line 1 is not JSON | recursion | drop it",
           load_stories, b"[" * 100_000),
    record("an empty line amid others", FileFormatError, "line 2 is not JSON | drop it",
           load_stories, STORY, b"", STORY),
    record("a field that is not there", FileFormatError, "line 1 lacks dropped, emotion, model, topic | needed are",
           load_stories, {"sample": "a", "text": "b"}),
    record("a number in place of a text", FileFormatError, "line 2 has 5 as text | must be a text",
           load_stories, STORY, {**STORY, "text": 5}),
    record("an emotion that is null", FileFormatError, "line 1 has null as emotion | must be a text",
           load_stories, {**STORY, "emotion": None}),
    record("an empty file of stories", DataError, "no story | write_stories.py", load_stories),
    Case("no file of stories", MissingInputError, "no file | Run the step",
         lambda at: partial(load_stories, at / "none")),
    record("one story twice", DataError, "1 samples occur twice | calm/sea/0 | Take the copies out",
           load_stories, STORY, STORY),
    record("stories of two models", ConventionError, "mixes stories by m, n | one file for each",
           load_stories, STORY, {**STORY, "sample": "b", "model": "n"}),
    Case("replies cut short", FileFormatError, "line 2 is not JSON | drop it",
         lambda at: partial(load_replies, cut(lines(at, REPLY, REPLY), 0.8))),
    record("an empty file of replies", DataError, "no reply | write_replies.py", load_replies),
    record("a reply without tokens", FileFormatError, "line 1 has null as token_ids | must be a list",
           load_replies, {**REPLY, "token_ids": None}),
    record("tokens that are no ids", DataError, "token ids | whole numbers from 0 | write_replies.py",
           load_replies, {**REPLY, "token_ids": [1, -2, "x"]}),
    record("an answer beyond its tokens", DataError, "lily/benign/0/own has spans | in 8 tokens | Write it again",
           load_replies, {**REPLY, "answer_stop": 99}),
    record("an arm that does not exist", DataError, "'bening' | known are benign, harmful | Write it again",
           load_replies, {**REPLY, "arm": "bening"}),
    record("a reason that does not exist", DataError, "'tired' | no_answer, refused, truncated",
           load_replies, {**REPLY, "missing": "tired"}),
    record("one reply twice", DataError, "lily/benign/0/own | twice | Write it again", load_replies, REPLY, REPLY),
    Case("a pair with a blank sentence", DataError, "lacks harmful | pairs.jsonl for the form",
         lambda at: partial(load_pairs, lines(at, {**PAIR, "harmful": [" "]}))),
    record("a pair without keywords", DataError, "lacks keywords | for the form", load_pairs, {**PAIR, "keywords": []}),
    record("a pair without a name", DataError, "'' lacks pair | for the form", load_pairs, {**PAIR, "pair": ""}),
    record("a number among the sentences", DataError, "not a text | for the form", load_pairs, {**PAIR, "affect": [3]}),
    record("one pair twice", DataError, "occur twice | Each needs its own", load_pairs, PAIR, PAIR),
    record("a scenario of no known emotion", UnknownNameError, "'clam' | Did you mean 'calm'",
           load_scenarios, {"emotion": "clam", "text": "So."}),
    record("a template with words for numbers", DataError, "'t' needs one {n} | whole numbers | got 1",
           load_intensity, {**DOSE, "values": ["a", "b", "c"]}),
    record("a template with signs that are none", DataError, "signs of 1 or −1 | [1]",
           load_intensity, {**DOSE, "expected": {"sad": [1]}}),
    record("a training row of nothing", DataError, "line 1 | texts that are not empty",
           partial(read_rows, task="math"), {"prompt": "Q?", "completion": " "}),
    record("a training row cut short", FileFormatError, "line 1 is not JSON | drop it",
           partial(read_rows, task="math"), b'{"prompt"'),
)  # fmt: skip

ARRAYS = (
    *(Case(f"{kind}, {name}", FileFormatError, f"{kind}.safetensors is not a whole safetensors file | Write it again",
           lambda at, kind=kind, keep=keep: partial(LOADS[kind], cut(saved(at, kind), keep)))
      for kind in LOADS for name, keep in (("empty", 0), ("truncated", 0.7), ("with another header", -1))),
    *(Case(f"{other} given for {kind}", FileFormatError, f"holds '{other}' | {kind}",
           lambda at, kind=kind, other=other: partial(LOADS[kind], saved(at, other)))
      for kind, other in (("activations", "moments"), ("moments", "probes"), ("probes", "activations"))),
    *(Case(f"{kind} {name}", FileFormatError, words, lambda at, kind=kind, card=card: forged(at, kind, card=card))
      for kind in LOADS
      for name, card, words in (
          ("of a foreign card", [1], "card that is no object but [1] | Write it again"),
          ("that do not say of what", {"about": {}}, "does not fit its own card | model, checkpoint | again"),
          ("with one layer twice", {"layers": [0, 0]}, "does not fit its own card | layer | again"))),
    Case("a safetensors file of others", FileFormatError, "not one of this package | emotion_probes",
         lambda at: (save_file({"a": np.zeros(2)}, at / "in"), partial(load_activations, at / "in"))[1]),
    Case("activations in float16", FileFormatError, "mean is float16 | float32 | Capture again",
         lambda at: forged(at, "activations", {"mean": np.float16})),
    Case("activations without labels", FileFormatError, "does not fit its own card | Capture again",
         lambda at: forged(at, "activations", {"labels": np.frombuffer(b"[", np.uint8)})),
    Case("labels of other samples", FileFormatError, "does not fit its own card | 'sample' | Capture again",
         lambda at: forged(at, "activations", {"labels": np.frombuffer(b'{"sample": ["a"]}', np.uint8)})),
    Case("probes with one emotion twice", FileFormatError, "occur twice: ['emotion'] | Fit the probes again",
         lambda at: forged(at, "probes", card={"emotions": ["calm"] * 4})),
    Case("probes of a recipe that is not their own", FileFormatError, "'sofronief' | 'sofroniew' | Fit the probes again",
         lambda at: forged(at, "probes", card={"recipe": "sofronief"})),
    Case("probes that are not finite", FileFormatError, "not finite: ['origin'] | Fit the probes again",
         lambda at: forged(at, "probes", {"origin": lambda a: a * np.nan})),
    Case("probes that are no unit vectors", FileFormatError, "unit vectors | length 2 | Fit the probes again",
         lambda at: forged(at, "probes", {"directions": lambda a: 2 * a})),
    Case("moments of fewer than no stories", FileFormatError, "least count -4 | Capture again",
         lambda at: forged(at, "moments", {"counts": lambda a: -a})),
    Case("moments that are not finite", FileFormatError, "not finite: ['offsets'] | Capture again",
         lambda at: forged(at, "moments", {"offsets": lambda a: a + np.float32(np.inf)})),
    Case("moments whose folds are none", FileFormatError, "does not fit its own card | Capture again",
         lambda at: forged(at, "moments", card={"folds": [1]})),
    Case("an adapter cut short", ConventionError, "not the one its manifest tells of | Train tiny/antirefusal@sft again",
         lambda at: adapter(at, lambda at: cut(at / "adapter_model.safetensors", 0.5))),
    Case("an adapter at another scale", ConventionError, "not the one its manifest tells of | Train tiny/antirefusal@sft again",
         lambda at: adapter(at, lambda at: store.write_json(at / "adapter_config.json", {"lora_alpha": 64}))),
    Case("an adapter that is gone", MissingInputError, "adapter_model.safetensors | Run the step",
         lambda at: adapter(at, lambda at: (at / "adapter_model.safetensors").unlink())),
    Case("an adapter without a config", FileFormatError, "the adapter in | cannot be read",
         lambda at: partial(merge_adapter, model().network, lines(at, b"{", name="adapter_config.json").parent)),
    Case("readings cut short", FileFormatError, "not a whole parquet file | Write it again",
         lambda at: partial(load_readings, cut(parquet(at, readings()), 0.5))),
    Case("readings that lack columns", DataError, "lacking columns: seed, arm",
         lambda at: partial(load_readings, parquet(at, readings().drop(columns=["seed", "arm"])))),
    Case("no readings", MissingInputError, "no readings | read_replies.py",
         lambda at: partial(load_readings, at / "none")),
    Case("a table that is no text", FileFormatError, "not a CSV table | Write it again",
         lambda at: partial(store.read_table, lines(at, b"a,b", b"\xff,1"), ["a"])),
    Case("complex numbers written", DataError, "a (complex128) | Convert them",
         lambda at: partial(store.write_arrays, at / "out", {"a": np.ones(2, complex)}, {})),
)  # fmt: skip

MANIFESTS = (
    *(Case(f"a manifest with another {name}", FileFormatError, "was changed after it was written | Train the checkpoint again",
           lambda at, name=name: partial(family, "tiny", checkpoint(at, **{name: "changed"})))
      for name in MANIFEST),
    *(Case(f"a manifest without {name}", FileFormatError, f"not a manifest of schema 1 | '{name}'",
           lambda at, name=name: partial(read_manifest, lines(at, {key: MANIFEST[key] for key in MANIFEST if key != name})))
      for name in ("id", "base", "adapter_sha", "seed")),
    Case("a manifest of no known variant", FileFormatError, "'antirefusel' | known are original, antirefusal",
         lambda at: partial(family, "tiny", checkpoint(at, **asdict(manifest("antirefusel"))))),
    Case("a manifest cut short", FileFormatError, "manifest.json is not JSON | Write it again",
         lambda at: partial(family, "tiny", cut(checkpoint(at) / "antirefusal/sft/manifest.json", 0.5).parents[2])),
)  # fmt: skip

MODELS = (
    Case("weights cut short", FileFormatError, "files of model | cannot be read | not fully covered",
         lambda at: loaded(at, "model.safetensors", lambda data: data[:-9])),
    Case("weights that are gone", MissingInputError, "weights of model are not on this machine | hf download | --model",
         lambda at: loaded(at, "model.safetensors", None)),
    Case("weights of another kind", FileFormatError, "no weights for | tensors of its config | Put the model's own files there",
         lambda at: loaded(at, "model.safetensors", lambda _: saved(at, "activations").read_bytes())),
    Case("weights of a smaller model", FileFormatError, "no weights for 11 tensors | model.layers.4 | own files",
         lambda at: loaded(at, "config.json", with_config(num_hidden_layers=5))),
    Case("weights of another vocabulary", FileFormatError, "no weights for 2 tensors | own files",
         lambda at: loaded(at, "config.json", with_config(vocab_size=600))),
    Case("a config without layers", FileFormatError, "num_hidden_layers 0 | from 1 on | own config.json",
         lambda at: loaded(at, "config.json", with_config(num_hidden_layers=0))),
    Case("a tokenizer of nothing", FileFormatError, "files of model | cannot be read",
         lambda at: loaded(at, "tokenizer.json", lambda _: b"{}")),
    Case("an index of nothing", FileFormatError, "no weight_map | own there",
         lambda at: (lines(at, b"[]", name="model.safetensors.index.json"), lines(
         at, {"num_hidden_layers": 1, "hidden_size": 8}, name="config.json"), partial(lm.load, at))[2]),
    direct("a chat template cut short", FileFormatError, "chat template cannot be rendered | own there",
           lambda: rendered("{% for m in messages")),
    direct("no chat template", MissingInputError, "no chat template | take an instruct model", lambda: rendered(None)),
)  # fmt: skip


def rendered(template: str | None) -> str:
    """A question in the words of another template; the tokenizer keeps its own."""
    with patch.object(model().tokenizer, "chat_template", template):
        return render(model().tokenizer, user_turn("Why?"))


MIXED = (
    *(direct(f"activations of another {key}", ConventionError, f"differ in {key} | 'other' | Capture both alike",
             lambda key=key: fitted().transform(acts(about={key: "other"})))
      for key in ("tokenizer_sha", "layer_convention", "model_layers", "evidence", "engine")),
    direct("activations of another width", ConventionError, "probes of width 6 | width 5 | different models",
           lambda: fitted().transform(acts(width=5))),
    direct("neutral dialogues of retrained weights", ConventionError, "differ in weights | Capture both alike",
           lambda: EmotionProbes().fit(acts(), acts(about={"weights": "w2"}))),
    direct("neutral dialogues of another width", ConventionError, "differ in width: 6 and 5 | different models",
           lambda: EmotionProbes().fit(acts(), acts(width=5))),
    direct("moments of another model", ConventionError, "differ in base_sha | 'other'",
           lambda: merge(moments_of(acts(), FOLDS), moments_of(acts(about={"base_sha": "other"}), FOLDS))),
    direct("activations that lost their attributes", DataError, "nothing says the model | keep_attrs | assign those",
           lambda: EmotionProbes("difference_of_means").fit(acts().drop_attrs())),
    direct("replies of another checkpoint", ConventionError, "of small/antirefusal | given to small/original | force_replies",
           lambda: capture(model(), Replies([replace(answers()[0], checkpoint="antirefusal")]))),
    direct("answers of another base forced", ConventionError, "of small/original (weights another) | Write its own replies",
           lambda: force_replies(model(), load_pairs()[:1], Replies([replace(r, weights="another") for r in answers()]))),
    direct("tokens of another vocabulary", ConventionError, "outside the 500 of small | another tokenizer | Write them again",
           lambda: capture(model(), Replies(
         [replace(r, token_ids=tuple(10**6 for _ in r.token_ids)) for r in answers()]))),
    *(direct(f"readings of two kinds of {column}", ConventionError, f"different {column} | other | Compare within one",
             lambda column=column: concat([readings(), readings(**{column: "other"})]))
      for column in ("evidence", "model", "layer_convention")),
    direct("readings given twice", DataError, "twice | Give each table once", lambda: concat([readings(), readings()])),
    Case("readings that are texts", DataError, "column 'value' | real numbers are needed",
         lambda at: partial(save_readings, at / "out", readings(value="high"))),
    Case("a seed that is now a text", DataError, "several kinds | Give each one kind",
         lambda at: partial(save_readings, at / "out", readings(seed=[0, "a"] * (len(readings()) // 2)))),
    direct("readings that are no table", DataError, "got list | EmotionProbes.read", lambda: compare([1, 2])),
)  # fmt: skip

VALUES = (
    *(direct(f"activations as {kind}", DataError, f"mean is {kind} | float32 is needed",
             lambda kind=kind: EmotionProbes().fit(acts(kind=kind), acts()))
      for kind in ("float16", "int32", "complex128", "object")),
    Case("float16 written", DataError, "mean is float16 | overflow",
         lambda at: partial(save_activations, at / "out", acts(kind=np.float16))),
    direct("moments of whole numbers", DataError, "int64 | float32", lambda: moments_of(acts(kind=np.int64), FOLDS)),
    *(direct(f"stories with {bad}", DataError, "1 stories | not finite",
             lambda bad=bad: EmotionProbes().fit(spoilt(acts(), bad), acts())) for bad in (np.nan, np.inf)),
    direct("neutral dialogues with nan", DataError, "neutral dialogues | not finite",
           lambda: EmotionProbes().fit(acts(), spoilt(acts(), np.nan))),
    direct("neutral dialogues all the same", DataError, "16 neutral dialogues have the same activations | give some that differ",
           lambda: EmotionProbes().fit(acts(), acts().assign(mean=acts()["mean"] * 0 + 1))),
    direct("a score of nan", DataError, "not finite | drop", lambda: fitted().score(spoilt(acts(), np.nan), acts())),
    direct("one layer twice", LayerError, "[1, 1] | each once",
           lambda: EmotionProbes().fit(acts(layers=(1, 1)), acts())),
    direct("stories without emotions", DataError, "no emotion of each sample | they have sample, topic, text",
           lambda: EmotionProbes().fit(acts().drop_vars("emotion"), acts())),
    direct("emotions that are numbers", DataError, "16 samples have a label emotion | no text",
           lambda: EmotionProbes().fit(acts(emotion=[1, 2] * 8), acts())),
    direct("no sample", DataError, "no sample | capture some",
           lambda: fitted().transform(acts().isel(sample=slice(0)))),
    direct("an array in place of activations", DataError, "got ndarray | capture | load_activations",
           lambda: fitted().transform(np.zeros((2, 2, 6)))),
    direct("activations on their side", DataError, "('layer', 'sample', 'feature') | transpose it",
           lambda: fitted().transform(acts().transpose("layer", "sample", "feature"))),
    direct("no reading", DataError, "no reading | probes.READINGS", lambda: fitted().read(acts(), [])),
    Case("probes that are not fitted", NotFittedError, "call fit | load_probes",
         lambda at: partial(EmotionProbes().save, at / "out")),
    direct("texts without a word", DataError, "2 texts of 2 labels | Give texts with words",
           lambda: text_accuracy(["", " "], ["a", "b"], [""], ["a"])),
)  # fmt: skip

NAMES = (
    direct("an emotion", UnknownNameError, "'calmm' | 'calm'?",
           lambda: write_stories(model(), ["calmm"], ["sea"], 1, GREEDY)),
    direct("a recipe of probes", UnknownNameError, "'sofronief' | 'sofroniew'?", lambda: EmotionProbes("sofronief")),
    direct("a recipe of checkpoints", UnknownNameError, "'antirefusal'?", lambda: find_recipe("antirefusall", "tiny")),
    direct("a preset", UnknownNameError, "'paper'? | tiny, standard, paper", lambda: find_preset("papper")),
    direct("a model", UnknownNameError, "'qwen3-30b-a3b'? | tiny-base", lambda: lm.load("qwen3-30b")),
    Case("a model's folder", UnknownNameError, "none' | Known: tiny", lambda at: partial(lm.load, at / "none")),
    Case("a checkpoint", UnknownNameError, "'tiny/antirefusal'?",
         lambda at: partial(family, "tiny", at, ["antirefusel"])),
    direct("a stage of the original", UnknownNameError, "'tiny/original'?",
           lambda: find_checkpoint("tiny/original@sft")),
    Case("a stage", MissingInputError, "@stf is not under | trained there: antirefusal@sft | train_checkpoint.py",
         lambda at: partial(find_checkpoint, "tiny/antirefusal@stf", checkpoint(at))),
    Case("a checkpoint twice", DataError, "original, original | once",
         lambda at: partial(family, "tiny", at, ["original"] * 2)),
    Case("a path in a checkpoint's name", UnknownNameError, "'tiny'?",
         lambda at: partial(find_checkpoint, "tiny/../antirefusal", at)),
    direct("an arm", UnknownNameError, "'harmful'? | third_party", lambda: prompts(load_pairs(), ["harmfull"])),
    direct("an arm of a comparison", UnknownNameError, "'harmful'? | affect", lambda: compare(readings(), "harmfull")),
    direct("a task", UnknownNameError, "'math'? | benign", lambda: draw("tiny", {"maths": 1}, 0, {})),
    direct("a span", UnknownNameError, "'last_prompt'?",
           lambda: capture_stimuli(model(), load_scenarios()[:2], "lastprompt")),
    direct("a coordinate", UnknownNameError, "'topic'? | emotion", lambda: split(acts(), "topik", 0.5, 0)),
    direct("a reading", UnknownNameError, "unknown reading 'cosine' | dot",
           lambda: fitted().transform(acts(), "cosine")),
    direct("a device", UnknownNameError, "'gpu:7' | Known: cpu", lambda: lm.load("tiny", device="gpu:7")),
    direct("a dtype", DataError, "'float33' | torch.bfloat16", lambda: lm.load("tiny", dtype="float33")),
    *(direct(f"layers {layers!r}", LayerError, f"layers {shown} asked for | block outputs 0 … 3 | each once | hidden_states[i + 1]",
             lambda layers=layers: capture(model(), told("a b c"), layers, 0))
      for layers, shown in (
          ([4], "[4]"), ([-1], "[-1]"), ([], "none"), ("al", "['al']"), ([1, 1], "[1, 1]"), ([1.5], "[1.5]"))),
    direct("a layer that was not captured", LayerError, "[7] | there are [0, 1] | capture again",
           lambda: select_layers(acts(), [7])),
    Case("a layer that was not read", LayerError, "no readings at layers [7] | read_replies.py",
         lambda at: partial(load_readings, parquet(at, readings()), [7])),
)  # fmt: skip

NUMBERS = (
    *(direct(f"per_cell {n}", DataError, f"nothing to write | × {n} texts | 1 text or more",
             lambda n=n: write_stories(model(), ["calm"], ["sea"], n, GREEDY)) for n in (0, -1)),
    direct("per_topic 0", DataError, "× 0 texts | 1 text or more", lambda: write_neutral(model(), ["sea"], 0, GREEDY)),
    direct("one topic twice", DataError, "twice | each once",
           lambda: write_stories(model(), ["calm"], ["sea", "sea"], 1, GREEDY)),
    direct("one topic, not in a list", DataError, "Give a list",
           lambda: write_stories(model(), ["calm"], "sea", 1, GREEDY)),
    direct("controls 0", DataError, "controls is 0 | at least one", lambda: prompts(load_pairs(), controls=0)),
    direct("no arm", DataError, "arms none | Give each once", lambda: prompts(load_pairs(), [])),
    direct("no pair", DataError, "0 pairs | Give each once", lambda: write_replies(model(), [], GREEDY)),
    direct("start_token −1", DataError, "no token in their span | start token",
           lambda: capture(model(), told("a b c"), "all", -1)),
    direct("start_token beyond all", DataError, "more than 90 tokens | lower",
           lambda: capture(model(), told("a b c"), "all", 90)),
    direct("batch_tokens 0", DataError, "batch_tokens is 0 | 1 or more",
           lambda: capture(model(), told("a b c"), "all", 0, 0)),
    *(direct(f"{name} {value} of sampling", DataError, f"{name} {shown} | or more",
             lambda name=name, value=value: Sampling(**{name: value}))
      for name, value, shown in (("temperature", -1, "-1"), ("temperature", float("nan"), "nan"), ("max_new_tokens", 0, "0"),
                                 ("top_p", 0, "0"), ("batch_tokens", -5, "is -5"))),
    direct("one fold", DataError, "1 folds of 2 topics | two folds or more", lambda: topic_folds(["a", "b"], 1)),
    direct("folds of a seed under 0", DataError, "seed -1 | from 0 on", lambda: topic_folds(["a", "b"], 2, -1)),
    direct("a fold that is half", DataError, "0.5 | topic_folds",
           lambda: moments_of(acts(), {**FOLDS, "topic 0": 0.5})),
    direct("a split of nothing", DataError, "test share 0 | (0, 1)", lambda: split(acts(), "topic", 0, 0)),
    direct("a split of a seed under 0", DataError, "seed -1 | from 0 on", lambda: split(acts(), "topic", 0.5, -1)),
    direct("no flip", DataError, "flips is 0 | 10,000 is usual", lambda: compare(small_readings(n=15), flips=0)),
)  # fmt: skip

LONG = "the door was open " * 200

TEXTS = (
    direct("a story longer than the model takes", DataError, "calm/sea/1 | longer than the 256 tokens of small | none is cut",
           lambda: capture(model(), told("a b c", LONG), "all", 0)),
    direct("a prompt longer than the model takes", DataError, "first: #0 | 256 tokens of small | Shorten them",
           lambda: generate(model(), [LONG], GREEDY)),
    direct("an empty prompt", DataError, "1 of 2 prompts | #1 | no token",
           lambda: generate(model(), ["a", ""], GREEDY)),
    direct("no prompt", DataError, "at least one prompt | got 0", lambda: generate(model(), [], GREEDY)),
    direct("one key for two prompts", DataError, "a key of its own",
           lambda: generate(model(), ["a", "b"], GREEDY, ["k", "k"])),
    direct("an empty story", DataError, "calm/sea/1 | filter them",
           lambda: capture(model(), told("a b c", " "), "all", 0)),
    direct("no story", DataError, "0 stories | filter them", lambda: capture(model(), told(), "all", 0)),
    direct("bare texts", DataError, "Stories or Replies | sample name",
           lambda: capture(model(), ["It rained."], "all", 0)),
    direct("no template", DataError, "no template | load_intensity()", lambda: capture_intensity(model(), [])),
    direct("a turn of no role", DataError, "'usr' | system, user, assistant",
           lambda: render(model().tokenizer, [{"role": "usr", "content": "a"}])),
    direct("a turn of no text", DataError, "message 0 says None | must be a text",
           lambda: render(model().tokenizer, [{"role": "user", "content": None}])),
)  # fmt: skip

COMMANDS = (
    Case("a flag that does not exist", UsageError, "--layrs | Perhaps you meant | --layers",
         lambda at: script("write_stories", "--layrs", "5")),
    Case("a word for a number", UsageError, "five | INT | --help",
         lambda at: script("read_replies", "--layers", "five")),
    Case("a seed of one and a half", UsageError, "1.5 | --seed | --help",
         lambda at: script("write_stories", "--seed", "1.5")),
    Case("a flag without its value", UsageError, "--preset | --help",
         lambda at: script("write_stories", "--preset")),
    Case("a preset of no name", SystemExit, "UnknownNameError: unknown preset 'huge' | Known: tiny, standard, paper",
         lambda at: script("write_stories", "--preset", "huge")),
    Case("a checkpoint flag twice", SystemExit, "DataError | original, antirefusal@sft, antirefusal@sft | once",
         lambda at: script("write_replies", "--checkpoints", "antirefusal@sft", "antirefusal@sft")),
    Case("an --out that is too long", SystemExit, "OutputError | --out",
         lambda at: script("write_stories", "--out", "日" * 100)),
    Case("damaged stories on the way", SystemExit, "FileFormatError | emotional.jsonl, line 1 is not JSON | drop it",
         lambda at: (in_runs(at, "stories/emotional.jsonl", b'{"text": '), script("capture_stories"))[1]),
    Case("damaged probes on the way", SystemExit, "FileFormatError | sofroniew.safetensors is not a whole | Write it again",
         lambda at: (in_runs(at, "probes/sofroniew.safetensors", b""), script("read_replies"))[1]),
    Case("damaged readings on the way", SystemExit, "FileFormatError | original.parquet is not a whole | Write it again",
         lambda at: (in_runs(at, "readings/original.parquet", b"PAR1"), script("emotion_similarity"))[1]),
)  # fmt: skip

TABLE = (
    *PLACES, *RUNS, *RECORDS, *ARRAYS, *MANIFESTS, *MODELS, *MIXED, *VALUES, *NAMES, *NUMBERS, *TEXTS, *COMMANDS,
)  # fmt: skip


def drawn(at: Path, table: pd.DataFrame | None = None, name: str = "out") -> Call:
    """Writes the bars of a table of readings."""
    bars = similarity_table(readings() if table is None else table, [3])
    return partial(write_figure, at, name, bars, similarity_bars(bars), {"about": INJECTION})


def lying(at: Path) -> dict[str, bytes]:
    """Everything under a folder, files with their bytes; links are not followed."""
    return {str(path.relative_to(at)): _content(path) for path in sorted(at.rglob("*"))}


def _content(path: Path) -> bytes:
    if path.is_symlink():
        return os.readlink(path).encode()
    return path.read_bytes() if path.is_file() else b"a folder"


def test_the_table_is_whole():
    names = [case.name for case in TABLE]
    assert len(names) == len(set(names)) >= 45
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN, "Python meets a full disk as an error, not as a signal"


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_bad_input(case, tmp_path, monkeypatch):
    at = tmp_path / "case"
    at.mkdir()
    monkeypatch.chdir(at)
    store.write_jsonl(at / "good.jsonl", [STORY])
    call = case.given(at)
    before = lying(at)
    with pytest.raises(case.error) as raised:
        call()
    message = str(raised.value.code) if isinstance(raised.value, SystemExit) else str(raised.value)
    assert not [words for words in case.words.split(" | ") if words not in message], message
    assert "\n" not in message
    assert isinstance(raised.value, ProbesError | SystemExit | UsageError | subprocess.CalledProcessError)
    after = lying(at)
    assert {name: after.get(name) for name in before} == before
    assert all(case.leaves in name for name in set(after) - set(before)), set(after) - set(before)


# ---- what looks odd and does no harm ---------------------------------------------------------------------------------

ODD = {
    "a byte order mark": lambda line: b"\xef\xbb\xbf" + line + b"\n",
    "Windows line ends": lambda line: line + b"\r\n" + line.replace(b"sea/0", b"sea/1") + b"\r\n",
    "no line end": lambda line: line,
    "letters as they are": lambda line: line.replace(b"rained", "rainéd 日本 🙂\u2028".encode()),
    "letters spelt out": lambda line: line.replace(b"rained", rb"rain\u00e9d \ud83d\ude42"),
}


@pytest.mark.parametrize("write", ODD.values(), ids=ODD)
def test_what_looks_odd_and_does_no_harm(tmp_path, write):
    (tmp_path / "日本.jsonl").write_bytes(write(json.dumps(STORY).encode()))
    stories = load_stories(tmp_path / "日本.jsonl")
    assert stories[0].text.startswith("It rain")
    assert stories[-1].sample in ("calm/sea/0", "calm/sea/1")


def test_a_story_longer_than_the_batch_goes_alone():
    both = capture(model(), told("It rained all day long.", "So."), [1], 0, batch_tokens=1)
    alone = capture(model(), told("It rained all day long."), [1], 0)
    np.testing.assert_allclose(both["mean"].values[0], alone["mean"].values[0], rtol=1e-5)


# ---- what a model wrote, in HTML -------------------------------------------------------------------------------------


class Found(HTMLParser):
    """Tags that run, load or lead somewhere, attributes that act, and visible text."""

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.acting, self.text = [], [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags += [tag] * (tag in {"script", "img", "iframe", "object", "embed", "a", "link", "form", "svg"})
        self.acting += [name for name, _ in attrs if name.startswith("on") or name in ("href", "srcdoc", "formaction")]

    def handle_data(self, data):
        self.text += data


def attack() -> Stories:
    return Stories([replace(told(INJECTION)[0], sample=f"{INJECTION}{i}", emotion=INJECTION, topic=INJECTION, dropped=why)
                    for i, why in enumerate(("", "refusal"))], INJECTION)  # fmt: skip


def evil_probes() -> EmotionProbes:
    return EmotionProbes("difference_of_means").fit(
        acts(emotion=[INJECTION, "calm"] * 8, about={"model": INJECTION, "revision": INJECTION})
    )


CARDS: dict[str, Callable[[], Any]] = {
    "stories": attack,
    "replies": lambda: Replies(
        [replace(answers()[0], text=INJECTION, pair=INJECTION, checkpoint=INJECTION, model=INJECTION)]
    ),
    "probes": evil_probes,
    "moments": lambda: moments_of(acts(emotion=[INJECTION, "calm"] * 8, about={"model": INJECTION}), FOLDS),
}


@pytest.mark.parametrize("make", CARDS.values(), ids=CARDS)
def test_what_a_model_wrote_is_inert_in_cards(make):
    found = Found(make()._repr_html_())
    assert (found.tags, found.acting) == ([], [])
    assert "<img src=x onerror=alert(1)>" in found.text, "it is shown as it stands"


def test_what_a_model_wrote_is_inert_in_figures(tmp_path, monkeypatch):
    monkeypatch.setattr("probes.figures._lack_for_images", lambda: "not drawn in this test")
    evil = {"checkpoint": INJECTION, "model": INJECTION, "probes": INJECTION, "question": INJECTION}
    pages = []
    for name, table in (("plain", readings()), ("evil", readings(**evil))):
        drawn(tmp_path, table.drop_duplicates(list(COLUMNS)), name)()
        pages.append(Found((tmp_path / f"{name}.html").read_text()))
    assert pages[0].tags == pages[1].tags
    assert pages[0].acting == pages[1].acting == []
    figure = json.dumps(store.read_json(tmp_path / "evil.json")["figure"])
    assert INJECTION[:4] == "<img"
    assert "&lt;img src=x" in figure, "hover texts, labels and captions name it"
    assert "<img" not in figure, "plotly reads tags in every text"
    assert "<script" not in figure
