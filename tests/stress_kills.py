"""Kill the long steps at random moments, again and again, and compare what they leave with runs that were left alone.

    python tests/stress_kills.py --kills 200

Writing stories, capture, training and replies run on the embedded model, cut into many small units. Every kill is a
SIGKILL of a process of its own, which does a step whole or one of several shards of it; at last each step is started until
it ends by itself. Writes tests/stress_kills.json.
"""

import argparse
import importlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "experiments"))
STEPS = ("write_stories", "capture_stories", "train_checkpoint", "write_replies")
SHARDS = ("0/1", "0/2", "1/2", "0/5", "3/5")
"""What a process that is killed may have been at work on."""


def cut_small() -> None:
    """A small study in many units: 24 stories and 360 answers in units of 6, of 8 and of 40; 6 steps of fine-tuning and 5
    of reinforcement."""
    from probes import activations, presets
    from probes.lm import Model
    from training import recipes

    tiny = presets.PRESETS["tiny"]
    presets.PRESETS["tiny"] = replace(tiny, emotions=tiny.emotions[:3], topics=8, per_cell=1, held_out=2)
    sizes = recipes.TINY
    recipes.TINY = replace(
        sizes, sft=replace(sizes.sft, steps=6), grpo=replace(sizes.grpo, steps=5, completions=4, at_once=16)
    )
    Model.unit, activations.UNIT = 40, 8


def run(step: str, folder: Path, shard: str) -> None:
    """One step of the study in a folder, or a shard of it where it has any."""
    from train_settings import TrainSettings
    from writer_settings import WritingSettings

    given: dict[str, Any] = {"checkpoints": ("original", "antirefusal"), "out": folder}
    training = step == "train_checkpoint"
    importlib.import_module(step).main(TrainSettings(**given) if training else WritingSettings(**given, shard=shard))


def start(step: str, folder: Path, shard: str = "0/1") -> int:
    """The step, or a shard of it, in a process of its own, which begins with everything imported; its number."""
    process = os.fork()
    if process:
        return process
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        run(step, folder, shard)
        os._exit(0)
    except BaseException:
        os._exit(1)


def killed(process: int, after: float) -> bool:
    """Whether the process was still at work after so many seconds, and was killed. Raises RuntimeError when it failed."""
    end = time.monotonic() + after
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done and status:
            raise RuntimeError(f"a step that was started again failed with status {status}")
        if done:
            return False
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1] == signal.SIGKILL


def alone(folder: Path) -> dict[str, float]:
    """The whole study without a kill; seconds of every step."""
    seconds = {}
    for step in STEPS:
        begun = time.monotonic()
        if killed(start(step, folder), after=600):
            raise RuntimeError(f"{step} took more than ten minutes")
        seconds[step] = time.monotonic() - begun
    return seconds


def under_fire(folder: Path, seconds: dict[str, float], most: int, rng: Random) -> Counter[str]:
    """The whole study with kills at random moments, `most` at the most; how many each step took."""
    kills: Counter[str] = Counter()
    for step in STEPS:
        ended = 0
        while kills.total() < most and ended < len(SHARDS):  # a shard that has ended has made its units
            dead = killed(start(step, folder, rng.choice(SHARDS)), rng.uniform(0, 1.1 * seconds[step]))
            kills[step] += dead
            ended += not dead
        if killed(start(step, folder), after=600):  # at the end of the kills; finished work is found and left alone
            raise RuntimeError(f"{step} took more than ten minutes")
    return kills


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def stress(kills: int, seed: int, folder: Path) -> dict[str, object]:
    """Studies under fire until so many kills have come; what they left that a study without kills did not, or otherwise."""
    cut_small()
    seconds = alone(folder / "alone")
    expected, rng = contents(folder / "alone"), Random(seed)
    total: Counter[str] = Counter()
    different: set[str] = set()
    rounds = 0
    while total.total() < kills:
        rounds += 1
        place = folder / f"round_{rounds}"
        total += under_fire(place, seconds, kills - total.total(), rng)
        found = contents(place)
        different |= {name for name in {*expected, *found} if expected.get(name) != found.get(name)}
        print(f"round {rounds}: {total.total()} kills, {len(different)} files differ", flush=True)
    return {
        "kills": total.total(), "by_step": dict(sorted(total.items())), "rounds": rounds, "seed": seed,
        "files": len(expected), "different": sorted(different),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how many processes are killed")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    given = parser.parse_args()
    import probes.lm.model  # noqa: F401  # imported once, before the processes part
    import training.stages.sft  # noqa: F401
    from probes import store

    with tempfile.TemporaryDirectory() as folder:
        result = stress(given.kills, given.seed, Path(folder))
    store.write_json(Path(__file__).with_suffix(".json"), result)
    print(result)
    sys.exit(bool(result["different"]))


if __name__ == "__main__":
    main()
