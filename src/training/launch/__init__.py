"""How several processes are started: settings of `accelerate launch`, a file a layout, and a job for Slurm.

`train_checkpoint.py --plan` prints the commands. accelerate has no FSDP without a GPU, so none of these layouts was run here;
tests start two processes on the CPU and have accelerate cut the model up by these settings.
"""

from pathlib import Path

FOLDER = Path(__file__).parent


def shown(name: str) -> str:
    """The path of a file of this folder as a command takes it: from the working directory where it lies below."""
    path = FOLDER / name
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
