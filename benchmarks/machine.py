"""The machine that measures: what it is, without its name, and how much memory a process has held on it."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "transformers", "numpy")
MB = 1e6


def describe() -> dict[str, Any]:
    """Processor, memory, GPU and versions. No host name, user or path."""
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "cpu": _cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "gpu": gpu.name if gpu else None, "gpu_memory_gb": round(gpu.total_memory / 1e9) if gpu else None,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }  # fmt: skip


def kind(described: dict[str, Any]) -> str:
    """The folder of results of machines like this one: `nvidia-h200`, `cpu-2-cores`."""
    name = described["gpu"] or f"cpu {described['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _cpu() -> str:
    names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return names[0] if names else platform.machine()


def held_mb() -> float:
    """Memory held now, in MB: what torch has allocated on the GPU, or what is resident where there is none."""
    return torch.cuda.memory_allocated() / MB if torch.cuda.is_available() else _resident_mb("VmRSS")


def forget_peak() -> None:
    """Count the most that is held from now on, and not from the start, when a model was loaded."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """The most that this process has held since forget_peak, in MB, of the kind that held_mb tells."""
    # Not getrusage: its ru_maxrss counts the process that this one was started from too.
    return torch.cuda.max_memory_allocated() / MB if torch.cuda.is_available() else _resident_mb("VmHWM")


def _resident_mb(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(rf"^{field}:\s*(\d+) kB", status, re.MULTILINE)[0]) * 1024 / MB
