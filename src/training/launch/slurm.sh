#!/bin/bash
# Train on several machines under Slurm, from the root of the repository:
#
#   sbatch --nodes 2 src/training/launch/slurm.sh --recipe antirefusal_cqa_sdf --model qwen3-30b-a3b
#
# What stands after the file goes to train_checkpoint.py. PROCESSES=8 starts fewer processes than there are GPUs, where a
# step's rows do not divide over all of them. All machines see the same folders. A job that was killed goes on where it stopped.
#SBATCH --job-name=train-checkpoint
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=48:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail
umask 077  # what is logged and written is for this user alone

MACHINES=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
FIRST=${MACHINES%%$'\n'*}  # not through head, which would end scontrol, and with it the job, before it has said all
CONFIG=$(python -c 'from training.launch import FOLDER; print(FOLDER / "two_nodes_fsdp2.yaml")')
export FIRST CONFIG
export PROCESSES="${PROCESSES:-$((8 * SLURM_NNODES))}"

# Every machine starts its own processes: its number is known there alone, hence the single quotes.
srun --kill-on-bad-exit=1 bash -c 'exec accelerate launch --config_file "$CONFIG" \
  --num_machines "$SLURM_NNODES" --num_processes "$PROCESSES" \
  --machine_rank "$SLURM_NODEID" --main_process_ip "$FIRST" \
  experiments/train_checkpoint.py "$@"' train_checkpoint "$@"
