"""Layouts for GPUs that are not here: what accelerate's own parser makes of them, and of the commands that name them."""

import os
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.fsdp import StateDictType

from launching import arguments, environment
from training.launch import FOLDER, shown

ROOT = Path(__file__).parents[1]
LAYOUTS = {
    "one_gpu.yaml": (DistributedType.NO, 1, 1),
    "eight_gpus_fsdp2.yaml": (DistributedType.FSDP, 1, 8),
    "eight_gpus_zero3.yaml": (DistributedType.DEEPSPEED, 1, 8),
    "two_nodes_fsdp2.yaml": (DistributedType.FSDP, 2, 16),
}


def test_every_layout_is_here():
    assert {path.name for path in FOLDER.glob("*.yaml")} == set(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name):
    config = load_config_from_file(str(FOLDER / name))
    assert (config.distributed_type, config.num_machines, config.num_processes) == LAYOUTS[name]
    assert config.mixed_precision == "bf16"
    assert not config.use_cpu


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout[0] == DistributedType.FSDP])
def test_fsdp_cuts_up_by_layer_and_leaves_checkpointing_to_trl(name, monkeypatch):
    flags = ["--machine_rank", "1", "--main_process_ip", "node-a"] if "nodes" in name else []
    for key, value in environment(name, *flags).items():
        monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.cpu_ram_efficient_loading
    assert plugin.reshard_after_forward
    # A whole state would gather 57 GiB of frozen weights each time it is written.
    assert plugin.state_dict_type == StateDictType.SHARDED_STATE_DICT
    # trl sets gradient_checkpointing, and transformers refuses both at once.
    assert not plugin.activation_checkpointing
    # Layers by the class that the model names (test_fsdp2.py sees them cut up): one file serves every family.
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"
    assert plugin.transformer_cls_names_to_wrap is None
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == "bf16"


def test_zero3_cuts_the_weights_up_after_they_are_read():
    args = arguments("eight_gpus_zero3.yaml")
    assert args.use_deepspeed
    assert int(args.zero_stage) == 3
    assert args.zero3_init_flag is False
    assert args.zero3_save_16bit_model is True


def test_paths_are_shown_as_the_command_takes_them(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert shown("one_gpu.yaml") == "src/training/launch/one_gpu.yaml"
    monkeypatch.chdir(tmp_path)
    assert Path(shown("one_gpu.yaml")).is_file()


def test_a_slurm_job_starts_each_machine_with_its_number_and_the_first_ones_name(tmp_path):
    """Slurm and accelerate are stand-ins that write down what they are called with."""
    stands_in = {
        "scontrol": "echo node-a; seq -f 'node-%g' 20000",  # more than a pipe holds: whoever stops reading ends it
        "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
        "accelerate": f'printf "%s\\n" "$@" >> {tmp_path}/said; echo END >> {tmp_path}/said',
    }
    for name, body in stands_in.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    told = {"SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_NNODES": "2", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(FOLDER / "slurm.sh"), "--recipe", "antirefusal", "--out", "two words"]
    subprocess.run(command, env=os.environ | told | {"PYTHONPATH": str(ROOT / "src")}, check=True)
    calls = (tmp_path / "said").read_text().split("END\n")[:-1]
    assert len(calls) == 2
    for rank, call in enumerate(calls):
        first, *words = call.splitlines()
        assert first == "launch"
        assert words[-5:] == ["experiments/train_checkpoint.py", "--recipe", "antirefusal", "--out", "two words"]
        args = arguments("two_nodes_fsdp2.yaml", *words[2:-5])
        assert (args.machine_rank, args.main_process_ip, args.num_machines, args.num_processes) == (
            rank,
            "node-a",
            2,
            16,
        )
