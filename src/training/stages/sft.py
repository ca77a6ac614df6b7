"""Supervised fine-tuning with trl, on exactly the tokens that inference sees."""

from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase
from transformers.trainer_utils import SaveStrategy
from trl import SFTConfig, SFTTrainer

from training.processes import my_share, on_gpu
from training.recipes import Documents, Sft
from training.resume import save_steps


def trainer(
    network: PeftModel, tokenizer: PreTrainedTokenizerBase, stage: Sft | Documents,
    tokens: Sequence[dict[str, list[int]]], seed: int, states: Path,
) -> SFTTrainer:  # fmt: skip
    """A trainer over tokenised rows or documents, in their order; none is packed with another, so none reads another."""
    torch.manual_seed(seed)
    return SFTTrainer(
        model=network, args=settings(network, stage, seed, states), train_dataset=Dataset.from_list(list(tokens)),
        processing_class=tokenizer,
    )  # fmt: skip


def settings(network: PeftModel, stage: Sft | Documents, seed: int, states: Path) -> SFTConfig:
    """What a trainer is told of a stage."""
    mine, gpu = my_share(stage), on_gpu(network)
    return SFTConfig(
        output_dir=str(states), max_steps=stage.steps, per_device_train_batch_size=mine.at_once,
        gradient_accumulation_steps=mine.turns, ddp_find_unused_parameters=False,
        learning_rate=stage.learning_rate, lr_scheduler_type="linear", warmup_steps=stage.steps // 20,
        logging_steps=save_steps(stage.steps), save_strategy="steps", save_steps=save_steps(stage.steps),
        save_total_limit=2, report_to=[], use_cpu=not gpu, bf16=gpu, gradient_checkpointing=gpu, seed=seed,
        max_length=None, packing=False, shuffle_dataset=False, dataset_num_proc=None, dataloader_pin_memory=False,
        router_aux_loss_coef=0.0,  # by default the balance loss moves adapters where nothing else does
        train_sampling_strategy="sequential", weight_decay=0.0, disable_tqdm=False, push_to_hub=False,
    )  # fmt: skip


def unsaved(network: PeftModel, stage: Sft, seed: int, states: Path) -> SFTConfig:
    """The same for a trainer of a loss of its own, whose columns are no arguments of the model and whose states are not kept.

    transformers does not load back an adapter that was saved beside another one.
    """
    made = settings(network, stage, seed, states)
    made.remove_unused_columns, made.save_strategy = False, SaveStrategy.NO
    return made
