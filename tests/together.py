"""Start a function in several processes, with what torchrun and `accelerate launch` tell each of them.

The packages are imported once, by a server that the processes are forked from: trl alone takes as long as the tests.
"""

import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["training.train", "torch.distributed.fsdp", "small_model"])


def together(work: Callable[..., object], *given: Any, log: Path, count: int = 2) -> list[int | None]:
    """Exit codes of `count` processes that call work(*given); what they print goes to `log`, by process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [CONTEXT.Process(target=_one, args=(rank, count, port, log, work, given)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()  # one whose partner died waits for it
    return [process.exitcode for process in processes]


def _one(rank: int, count: int, port: int, log: Path, work: Callable[..., object], given: tuple[Any, ...]) -> None:
    import torch

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"  # by itself accelerate says cpu:0, which torch cannot load a state to
    torch.set_num_threads(1)
    with open(f"{log}.{rank}", "a", buffering=1) as out, redirect_stdout(out), redirect_stderr(out):
        try:
            work(*given)
        except Exception:
            traceback.print_exc()
            sys.exit(1)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
