"""Several processes that train one stage together, one a GPU, as `accelerate launch` or torchrun starts them.

The first alone takes the lock of a place, checks it and writes; the others train along. Each takes an equal share of
every step's rows, so that a step learns from the same rows whatever their number. They see one file system.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, parse_flag_from_env
from peft import PeftModel
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from probes.errors import ConventionError
from probes.lm.model import Model, load, placement
from probes.parts import Parts
from training.recipes import Grpo, Stage

STOP, THERE, GO = range(3)
"""What the first process tells the others of a place: it is refused, finished, or theirs to train for."""


def here() -> PartialState:
    """What this process is among those of its run; the only one, where nobody started several."""
    # accelerate looks for several processes without a GPU only when it is told that there is none.
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available())


def own_device() -> torch.device:
    """Where this process computes."""
    device = here().device
    assert device is not None  # accelerate finds it when it looks for the other processes
    return device


@dataclass(frozen=True)
class Share:
    """What one process does of a step."""

    at_once: int
    """Rows, or completions, in memory at once."""
    turns: int
    """Times that gradients of so many are added up in a step."""


def share(stage: Stage, processes: int) -> Share:
    """The share of each of `processes` in a step: the same rows in all, and no more of them at once than the stage allows.

    Raises ConventionError where a step's rows, or prompts with all their completions, do not divide.
    """
    whole = step_rows(stage)
    if whole % processes:
        fitting = ", ".join(str(n) for n in range(1, whole + 1) if whole % n == 0)
        raise ConventionError(
            f"a step of stage {stage.name} has {whole} {'prompts' if isinstance(stage, Grpo) else 'rows'}, which do not "
            f"divide over {processes} processes. Start {fitting} (--num_processes)."
        )
    own = whole // processes * (stage.completions if isinstance(stage, Grpo) else 1)
    at_once = max(size for size in range(1, stage.at_once + 1) if own % size == 0)
    return Share(at_once, own // at_once)


def step_rows(stage: Stage) -> int:
    """Rows of a step, or prompts where every prompt gets several completions."""
    return stage.prompts_per_step if isinstance(stage, Grpo) else stage.rows_per_step


def my_share(stage: Stage) -> Share:
    """The share of this process. Raises what share raises."""
    return share(stage, here().num_processes)


def cut_up() -> bool:
    """Whether FSDP2 will cut the model up over the GPUs of this run."""
    return own_device().type == "cuda" and parse_flag_from_env("ACCELERATE_USE_FSDP")


def load_here(name: str) -> Model:
    """A model where this process is to train it. Raises what lm.load raises.

    One process takes one GPU, each of several its own. Before FSDP2 cuts a model up it lies in the memory of
    the CPU, in bfloat16 as it will be on the GPUs: accelerate has the first process of a machine read it and the others wait
    with empty tensors (cpu_ram_efficient_loading).
    """
    unset_hf_deepspeed_config()  # of the stage before: by it transformers would cut the next base up while it is read
    if here().num_processes == 1:
        return load(name, device=placement()[1])  # a model that one GPU does not hold is for FSDP2 to cut up
    if cut_up():
        return load(name, dtype=torch.bfloat16, device="cpu")
    device = own_device()
    return load(name, device="cpu" if device.type == "cpu" else str(device))  # and not cpu:0, as accelerate may call it


def on_gpu(network: PeftModel) -> bool:
    """Whether a network is trained on a GPU; one that waits to be cut up lies on the CPU until then."""
    return (network.device if here().num_processes == 1 else own_device()).type == "cuda"


def ensure(parts: Parts, check: Callable[[], None], make: Callable[[], Callable[[Path], object]]) -> None:
    """parts.ensure by all processes: each makes, the first saves, and none goes on before the target is whole.

    What the first is refused, by `check` or by the parts, it reports alone; the others end with exit code 1.
    """
    state = here()
    if state.is_main_process:
        _lead(parts, check, make)
    else:
        _follow(make)
    state.wait_for_everyone()


def _lead(parts: Parts, check: Callable[[], None], make: Callable[[], Callable[[Path], object]]) -> None:
    said: list[int] = []

    def go() -> Callable[[Path], object]:
        said.append(_tell(GO))
        return _with_the_others(make)

    try:
        check()
        parts.ensure(go)
    except BaseException:
        if not said:
            _tell(STOP)
        raise
    if not said:
        _tell(THERE)


def _follow(make: Callable[[], Callable[[Path], object]]) -> None:
    word = _tell(STOP)
    if word == STOP:
        raise SystemExit(1)
    if word == GO:
        _with_the_others(make)


def _with_the_others(make: Callable[[], Callable[[Path], object]]) -> Callable[[Path], object]:
    save = make()
    here().wait_for_everyone()  # whoever saves takes away the folder that others may still write a state to
    return save


def _tell(word: int) -> int:
    """What the first process says; the others' own word is not heard."""
    return int(broadcast(torch.tensor(word, device=own_device())))  # pyright: ignore[reportArgumentType]
