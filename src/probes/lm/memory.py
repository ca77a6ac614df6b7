"""Whether a model fits into the memory of a device, said before it is read.

What is counted is the weights alone, from the shapes in their files: whoever has no room for them has none to run them.
"""

import gc
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch

from probes.errors import TooLargeError
from probes.lm.checkpoints import ModelEntry
from probes.lm.weights import parameters

CGROUPS = Path("/sys/fs/cgroup")


def check_memory(entry: ModelEntry, dtype: torch.dtype, devices: Sequence[str], processes: int = 1) -> None:
    """Raises TooLargeError where the weights are larger than what is free on the devices together, and what parameters raises.

    Args:
        processes: how many hold an equal part each, on devices of their own.
    """
    count, free = parameters(entry) // processes, sum(map(free_bytes, devices))
    if count * dtype.itemsize <= free:
        return
    smaller = [f"in bfloat16 ({_gb(count * 2)})"] if dtype.itemsize > 2 else []
    more = "larger GPUs or more, which one process sees, or end what else runs there"
    elsewhere = "a GPU" if list(devices) == ["cpu"] else more
    part = f"one of {processes} parts of " if processes > 1 else ""
    raise TooLargeError(
        f"{part}{entry.name} takes {_gb(count * dtype.itemsize)} in {str(dtype).removeprefix('torch.')}, and "
        f"{' and '.join(devices)} {'has' if len(devices) == 1 else 'have'} {_gb(free)} free. Nothing was loaded. Load it "
        f"{', '.join([*smaller, f'on {elsewhere}'])}, or take a smaller model."
    )


def free_bytes(device: str) -> int:
    """What a device can still take. On a GPU that is also what torch keeps of tensors that are gone."""
    if torch.device(device).type != "cuda":
        return min([psutil.virtual_memory().available, *_left_in_cgroups()])
    gc.collect()  # a model that was just let go may wait for it
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def total_bytes(device: str) -> int:
    """The size of a device's memory."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return psutil.virtual_memory().total


def _left_in_cgroups(root: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What the limits of a container or a job leave: the machine's memory is not theirs."""
    lines = own.read_text().splitlines() if own.is_file() else []
    names = [line.removeprefix("0::/") for line in lines if line.startswith("0::")]
    folders = {
        folder for name in names for folder in ((root / name), *(root / name).parents) if folder.is_relative_to(root)
    }
    limits = [folder for folder in folders if (folder / "memory.max").is_file()]
    return [_left(folder) for folder in limits if (folder / "memory.max").read_text().strip() != "max"]


def _left(folder: Path) -> int:
    """Limit of a cgroup less what it uses; pages of files that it could drop at once do not count."""
    limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return limit - used + int(stat.get("inactive_file", 0))


def _gb(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
