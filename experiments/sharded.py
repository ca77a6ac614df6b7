"""Run a step in many shards at once, through datatrove's executors, and merge what they made.

    python experiments/sharded.py write_stories --tasks 8
    python experiments/sharded.py capture_stories --model qwen3-30b-a3b --tasks 32 --executor slurm --partition gpu
    python experiments/sharded.py capture_stories --model qwen3-30b-a3b --tasks 32 --executor ray

On this machine every task takes a GPU of its own. All machines see the same folders. Started again after a kill it goes on
where it stopped. Without it, `torchrun --nproc-per-node 8 experiments/write_stories.py` and then the same without torchrun
do the same on one machine.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from probes.executors import Cluster, ExecutorName, ShardOf, run_in_shards
from settings import Settings, command, flags
from writer_settings import WriterSettings

Step = Literal[
    "write_stories", "capture_stories", "capture_controls", "check_gates", "write_replies", "read_replies",
    "capture_replies", "own_stories",
]  # fmt: skip


WRITES = ("write_stories", "write_replies", "own_stories")
"""Steps that take --writer."""


@dataclass(frozen=True, kw_only=True)
class RunSettings(WriterSettings):
    """The flags that all steps share, who writes in steps that write, and where the shards run."""

    step: Annotated[Step, tyro.conf.Positional]
    """The step to run."""
    tasks: int = 8
    """Shards: on one machine as many as it has GPUs."""
    executor: ExecutorName = "local"
    """What starts them: this machine, Slurm (sbatch) or a running Ray cluster."""
    gpus: int = 1
    """GPUs of a task, under Slurm and Ray."""
    partition: str = ""
    """Partition of Slurm."""
    time: str = "24:00:00"
    """Longest time of a task under Slurm."""


def main(settings: RunSettings) -> None:
    """The flags of the step are those among these that it takes. What writes is nothing to a step that only reads."""
    takes = WriterSettings if settings.step in WRITES else Settings
    shared = takes(**{field.name: getattr(settings, field.name) for field in fields(takes)})
    step = ShardOf(str(Path(__file__).with_name(f"{settings.step}.py")), tuple(flags(shared)))
    cluster = Cluster(settings.gpus, settings.partition, settings.time)
    run_in_shards(step, settings.tasks, settings.executor, cluster, settings.folder / "launches" / settings.step)


if __name__ == "__main__":
    command(main, RunSettings, __doc__)
