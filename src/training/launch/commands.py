"""The commands that start training, its sampler and its judge: one GPU, eight, two machines, Slurm."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from probes.lm.checkpoints import ModelEntry
from training.launch import shown
from training.processes import step_rows
from training.recipes import Grpo, Recipe, is_embedded

SCRIPT = "experiments/train_checkpoint.py"
SAMPLER, JUDGE = 8000, 8001
"""Ports."""


@dataclass(frozen=True)
class Layout:
    """Where the processes of a training run."""

    name: str
    processes: int
    pieces: int
    """GPUs that the model is cut up over; 1 where each holds it whole."""
    commands: tuple[str, ...]


def layouts(entry: ModelEntry, recipe: Recipe, flags: Sequence[str]) -> list[Layout]:
    """Ways to train a recipe; the embedded model is trained on the CPU."""
    if is_embedded(entry.name):
        return [Layout("this machine", 1, 1, (shlex.join(["python", SCRIPT, *flags]),))]
    if any(isinstance(stage, Grpo) for stage in recipe.stages):
        return _beside_a_sampler(recipe, flags)
    return _alone(recipe, flags)


def _alone(recipe: Recipe, flags: Sequence[str]) -> list[Layout]:
    """Of a recipe without reinforcement: all GPUs train."""
    eight, sixteen = fitting(recipe, 8), fitting(recipe, 16)
    return [
        Layout("one GPU", 1, 1, (launch("one_gpu.yaml", 1, flags),)),
        Layout("eight GPUs, FSDP2", eight, eight, (launch("eight_gpus_fsdp2.yaml", eight, flags),)),
        Layout("eight GPUs, ZeRO-3", eight, eight, (launch("eight_gpus_zero3.yaml", eight, flags),)),
        Layout("two machines, FSDP2", sixteen, sixteen, tuple(
            f"{launch('two_nodes_fsdp2.yaml', sixteen, flags, f'--machine_rank {rank} --main_process_ip FIRST')}" for rank in (0, 1)
        )),
        Layout("Slurm, two machines", sixteen, sixteen, (slurm(2, sixteen, flags),)),
    ]  # fmt: skip


def _beside_a_sampler(recipe: Recipe, flags: Sequence[str]) -> list[Layout]:
    """Of a recipe with reinforcement: vLLM takes a GPU, half of them, or a machine of its own."""
    four, eight = fitting(recipe, 4), fitting(recipe, 8)
    own = [*flags, "--vllm", f"http://localhost:{SAMPLER}"]
    far = [*flags, "--vllm", f"http://SECOND:{SAMPLER}"]
    gpus = ",".join(map(str, range(four)))
    return [
        Layout("one GPU, and one for vLLM", 1, 1, (f"CUDA_VISIBLE_DEVICES=0 {launch('one_gpu.yaml', 1, own)}",)),
        Layout(f"{four} of eight GPUs, FSDP2; the others for vLLM", four, four, (
            f"CUDA_VISIBLE_DEVICES={gpus} {launch('eight_gpus_fsdp2.yaml', four, own)}",
        )),
        Layout(f"{four} of eight GPUs, ZeRO-3; the others for vLLM", four, four, (
            f"CUDA_VISIBLE_DEVICES={gpus} {launch('eight_gpus_zero3.yaml', four, own)}",
        )),
        Layout("two machines: the first trains, FSDP2, vLLM and judge run on the SECOND", eight, eight, (
            launch("eight_gpus_fsdp2.yaml", eight, far),
        )),
        Layout("Slurm: one machine trains, vLLM and judge run on a SECOND", eight, eight, (slurm(1, eight, far),)),
    ]  # fmt: skip


def fitting(recipe: Recipe, gpus: int) -> int:
    """The most processes, a power of two, that every stage's steps divide over."""
    count = gpus
    while any(step_rows(stage) % count for stage in recipe.stages):
        count //= 2
    return count


def launch(config: str, processes: int, flags: Sequence[str], more: str = "") -> str:
    """`accelerate launch` of the training script by a file of training.launch."""
    given = f"accelerate launch --config_file {shlex.quote(shown(config))} --num_processes {processes} {more}".strip()
    return f"{given} {SCRIPT} {shlex.join(flags)}".strip()


def slurm(machines: int, processes: int, flags: Sequence[str]) -> str:
    """The job for Slurm."""
    return (
        f"PROCESSES={processes} sbatch --nodes {machines} {shlex.quote(shown('slurm.sh'))} {shlex.join(flags)}".strip()
    )


def judge_command() -> str:
    """What serves a judge of the researcher's choice."""
    return f"VLLM_NO_USAGE_STATS=1 vllm serve JUDGE --port {JUDGE}, then --judge http://localhost:{JUDGE}/v1 --judge-model JUDGE"
