"""One command as many shards, through datatrove's executors: on this machine, under Slurm or on a Ray cluster.

Every task of an executor runs the script with `--shard R/N`; when all are done, one more runs it without and merges. What
is scheduled where, and what is started again, is the engine's affair: a task that is run twice finds its units there.
"""

import os
import runpy
import shutil
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from probes.errors import DataError, MissingInputError, ShardError, UnknownNameError
from probes.shards import Shard

if TYPE_CHECKING:
    from datatrove.executor.base import PipelineExecutor

ExecutorName = Literal["local", "slurm", "ray"]
CPUS, GIGABYTES = 4, 8
"""CPUs of a task and memory of each CPU: merging moments at the paper's size takes 4 GB in all, the rest is for reading weights."""
WAY_OUT = "Mend that and start the same command again: what is finished is kept."


@dataclass(frozen=True)
class ShardOf:
    """A pipeline step of datatrove: a script, with its flags and the task's shard as its command line.

    It is kept as words, which every machine can unpickle, and run in the task's process, which ends with it when it is killed.
    """

    script: str
    flags: tuple[str, ...]
    gpus: int = 0
    """Of this machine, for its tasks to share out; Slurm and Ray show a task its own alone."""
    logs: str = ""
    """Where datatrove keeps what its tasks say."""

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        """Raises ShardError where the script ends with an error: an exit would leave datatrove's pool waiting."""
        shard = Shard(rank, world_size)
        if self.gpus:
            os.environ["LOCAL_RANK"] = str(rank)
        sys.path.insert(0, str(Path(self.script).parent))
        sys.argv = [self.script, *self.flags, *([] if shard.is_whole else ["--shard", str(shard)])]
        try:
            runpy.run_path(self.script, run_name="__main__")
        except SystemExit as ended:
            if ended.code:
                raise self.failed(shard, str(ended.code)) from ended
        except Exception as error:
            raise self.failed(shard, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error

    def failed(self, shard: Shard, why: str) -> ShardError:
        """What a task that ended with an error says, in one line."""
        what = f"{Path(self.script).name}, {'merging' if shard.is_whole else f'shard {shard}'}"
        log = Path(self.logs) / "logs" / f"task_{shard.rank:05d}.log"
        return ShardError(f"{what}: {why.rstrip('.')}. Its log: {log}. {WAY_OUT}")


@dataclass(frozen=True)
class Cluster:
    """What a task asks of Slurm or Ray."""

    gpus: int = 1
    """GPUs of a task."""
    partition: str = ""
    """Partition of Slurm."""
    time: str = "24:00:00"
    """Longest time of a task under Slurm."""


def run_in_shards(step: ShardOf, tasks: int, executor: ExecutorName, cluster: Cluster, logs: Path) -> None:
    """Run a script in `tasks` shards, then merge. Under Slurm both are queued, the second to wait for the first.

    Args:
        logs: folder of datatrove's logs, which all machines see.

    Raises UnknownNameError for another executor, DataError for no task or more tasks than GPUs on this machine,
    MissingInputError where Ray or Slurm is not here, ShardError that names a task that failed, its log and how to go on.
    """
    _check(tasks, executor, cluster)
    shutil.rmtree(logs / "shards" / "completions", ignore_errors=True)  # an earlier launch says nothing of this one
    shutil.rmtree(logs / "merge" / "completions", ignore_errors=True)
    if executor == "slurm":
        shards = _slurm(replace(step, logs=str(logs / "shards")), tasks, cluster, logs / "shards")
        _slurm(replace(step, logs=str(logs / "merge")), 1, cluster, logs / "merge", depends=shards).run()
        return
    start = _ray if executor == "ray" else _local
    for count, folder in ((tasks, logs / "shards"), (1, logs / "merge")):
        own = replace(step, logs=str(folder))
        work = start(own, count, cluster, folder)
        work.run()
        if left := work.get_incomplete_ranks():  # Ray only tells of failures in its log
            raise own.failed(Shard(left[0], count), f"failed, and {len(left) - 1} more")


def _check(tasks: int, executor: str, cluster: Cluster) -> None:
    Shard(0, tasks)
    if executor not in get_args(ExecutorName):
        raise UnknownNameError("executor", executor, get_args(ExecutorName))
    if executor == "slurm" and not (shutil.which("sbatch") and cluster.partition):
        raise MissingInputError(
            "Slurm takes a --partition, on a machine that has sbatch; here is torchrun or --executor local."
        )
    if executor == "ray" and not find_spec("ray"):
        raise MissingInputError("Ray is not installed: pip install ray, or take --executor local or slurm.")


def _local(step: ShardOf, tasks: int, cluster: Cluster, logs: Path) -> "PipelineExecutor":
    import torch
    from datatrove.executor import LocalPipelineExecutor

    gpus = torch.cuda.device_count()
    if 0 < gpus < tasks:
        raise DataError(f"{tasks} tasks at once on {gpus} GPUs: give --tasks {gpus}, one for each.")
    return LocalPipelineExecutor([replace(step, gpus=gpus)], tasks=tasks, logging_dir=str(logs))


def _ray(step: ShardOf, tasks: int, cluster: Cluster, logs: Path) -> "PipelineExecutor":
    from datatrove.executor import RayPipelineExecutor

    return RayPipelineExecutor(
        [step],
        tasks=tasks,
        gpus_per_task=cluster.gpus,
        cpus_per_task=CPUS,
        mem_per_cpu_gb=GIGABYTES,
        logging_dir=str(logs),
    )


def _slurm(step: ShardOf, tasks: int, cluster: Cluster, logs: Path, depends: Any = None) -> "PipelineExecutor":
    from datatrove.executor import SlurmPipelineExecutor

    return SlurmPipelineExecutor(
        [step], tasks=tasks, time=cluster.time, partition=cluster.partition, gpus_per_task=cluster.gpus, cpus_per_task=CPUS,
        mem_per_cpu_gb=GIGABYTES, job_name=Path(step.script).stem, qos="", logging_dir=str(logs), depends=depends,
    )  # fmt: skip
