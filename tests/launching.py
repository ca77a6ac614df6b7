"""What `accelerate launch` makes of a layout: by its own parser, as the environment of the processes."""

from argparse import Namespace

from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

from training.launch import FOLDER


def arguments(name: str, *flags: str) -> Namespace:
    """What it starts with, after it has read the file and the flags."""
    command = ["--config_file", str(FOLDER / name), *flags, "experiments/train_checkpoint.py"]
    return _validate_launch_command(launch_command_parser().parse_args(command))[0]


def environment(name: str, *flags: str) -> dict[str, str]:
    """What it tells its processes."""
    told = prepare_multi_gpu_env(arguments(name, "--main_process_port", "0", *flags))
    return {key: value for key, value in told.items() if key.startswith(("FSDP_", "ACCELERATE_"))}
