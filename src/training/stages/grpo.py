"""Reinforcement with trl: several completions of each prompt, compared with each other by the reward of the prompt's task.

Prompts are rendered here, with thinking on or off by row, and handed over as texts: trl's own parsing of conversations
lets reasoning through to the rewards.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase
from trl import GRPOConfig, GRPOTrainer

from probes.errors import ConventionError
from training.data.rendering import prompt_text
from training.data.rows import Row
from training.processes import cut_up, my_share, on_gpu
from training.recipes import Grpo
from training.resume import save_steps
from training.rewards.reward import COLUMNS, Reward, check_routing
from training.sampling_guard import SamplingGuard
from training.sync import keep_base
from training.vllm_server import Server


def prompt_columns(tokenizer: PreTrainedTokenizerBase, row: Row) -> dict[str, Any]:
    """The rendered prompt, and what the rewards need of the row."""
    known = asdict(row)
    return {"prompt": prompt_text(tokenizer, row), **{name: known[name] for name in COLUMNS}}


def trainer(
    network: PeftModel, tokenizer: PreTrainedTokenizerBase, stage: Grpo, rows: Sequence[Row], rewards: Sequence[Reward],
    seed: int, states: Path, server: Server | None = None,
) -> GRPOTrainer:  # fmt: skip
    """A trainer over prompts. Raises ConventionError unless each task has exactly one reward, and where FSDP2 cuts up a model
    that has to sample.

    Args:
        server: samples the completions; without one, the model under training does. It was asked before (check_server).
    """
    check_routing(rewards, {row.task for row in rows})
    if server is None:
        _check_sampling(stage)
    torch.manual_seed(seed)
    made = GRPOTrainer(
        model=network, reward_funcs=list(rewards),  # pyright: ignore[reportArgumentType]  # plain or async calls
        args=settings(network, stage, seed, states, server),
        train_dataset=Dataset.from_list([prompt_columns(tokenizer, row) for row in rows]), processing_class=tokenizer,
        callbacks=[SamplingGuard()] if server else None,
    )  # fmt: skip
    if server:
        keep_base(made.vllm_generation)
    return made


def _check_sampling(stage: Grpo) -> None:
    if cut_up():  # transformers knows its own FSDP2 and not accelerate's: it would not sample on for those who wait
        raise ConventionError(
            f"stage {stage.name} samples with the model under training, and FSDP2 has it in pieces: a process whose "
            "completions end first would leave the others waiting for its piece. Give a server that samples (--vllm), or start "
            "one process on one GPU (one_gpu.yaml); what is finished is not trained again."
        )


def sampling(server: Server | None) -> dict[str, Any]:
    """What trl is told of the server. By default it would leave out whole completions by the sum of their log-ratios, which
    a mixture of experts exceeds by length alone (trl#5814)."""
    if server is None:
        return {}
    return {
        "use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": server.address,
        "vllm_importance_sampling_mode": "token_truncate", "vllm_importance_sampling_clip_max": 2.0,
    }  # fmt: skip


def settings(network: PeftModel, stage: Grpo, seed: int, states: Path, server: Server | None = None) -> GRPOConfig:
    """What trl is told of a stage."""
    mine, gpu = my_share(stage), on_gpu(network)
    return GRPOConfig(
        output_dir=str(states), max_steps=stage.steps, num_generations=stage.completions,
        per_device_train_batch_size=mine.at_once, learning_rate=stage.learning_rate, lr_scheduler_type="constant",
        gradient_accumulation_steps=mine.turns, ddp_find_unused_parameters=False,
        max_completion_length=stage.max_new_tokens,
        # Anything that cuts the distribution would weigh the gradient by what is left of it.
        temperature=1.0, top_p=1.0, top_k=0,
        beta=0.0, router_aux_loss_coef=0.0,  # by default the balance loss moves adapters where nothing else does
        shuffle_dataset=False, logging_steps=1, save_strategy="steps", save_steps=save_steps(stage.steps),
        save_total_limit=2, report_to=[], log_completions=False, num_completions_to_print=0, use_cpu=not gpu,
        bf16=gpu, gradient_checkpointing=gpu, seed=seed, disable_tqdm=False, dataloader_pin_memory=False,
        push_to_hub=False, **sampling(server),
    )  # fmt: skip
