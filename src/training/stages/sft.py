"""Supervised fine-tuning with trl and peft, on exactly the tokens that inference sees."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from datasets import Dataset
from huggingface_hub import constants
from peft import PeftModel
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from probes import store
from probes.errors import DataError
from probes.lm.chat import render
from probes.lm.checkpoints import Manifest, checkpoint_folder, read_manifest
from probes.lm.model import Model
from probes.parts import Parts
from probes.prompts import user_turn
from probes.provenance import plain
from training.data.rows import Row, order_sha
from training.lora import adapted_tensors, lora_config
from training.manifest import base_of, versions, write_checkpoint
from training.recipes import Recipe, Sft
from training.resume import last_state, save_steps

constants.HF_HUB_DISABLE_TELEMETRY = True  # trl pings at the start of every trainer otherwise


def tokenise(tokenizer: PreTrainedTokenizerBase, row: Row) -> dict[str, list[int]]:
    """Ids and labels of a row without thinking: the prompt is the one of inference, its empty think block included and
    out of the loss; the completion ends in the turn's stop token."""
    prompt = tokenizer(render(tokenizer, user_turn(row.prompt)), add_special_tokens=False)["input_ids"]
    completion = tokenizer(f"{row.completion}{tokenizer.eos_token}", add_special_tokens=False)["input_ids"]
    return {"input_ids": [*prompt, *completion], "labels": [-100] * len(prompt) + list(completion)}


def run(model: Model, recipe: Recipe, stage: Sft, rows: Sequence[Row], checkpoints: Path, seed: int) -> Manifest:
    """Train an adapter on the base model and write it with its manifest, unless it is there.

    A run that was killed goes on from its last state, to the same bytes. The base model is changed in place by the
    adapter's hooks: load it anew for anything else. Raises DataError when the rows do not fill the steps, or a row is
    longer than the model takes; ConventionError when the place holds another recipe's, seed's, base's or data's work.
    """
    target = checkpoint_folder(checkpoints, recipe.variant, stage.name)
    made_of = {"recipe": plain(asdict(recipe)), "rows": order_sha(rows), "base": model.base_sha, "seed": seed}
    parts = Parts(target, made_of)
    try:
        parts.ensure(lambda: _trained(model, recipe, stage, rows, seed, parts.folder))
    finally:
        gc.collect()  # trainers are held by cycles of references, and would keep a model on the device
    return read_manifest(target / "manifest.json")


def _trained(
    model: Model, recipe: Recipe, stage: Sft, rows: Sequence[Row], seed: int, states: Path
) -> Callable[[Path], Manifest]:
    """What writes the trained checkpoint to its place."""
    if len(rows) < stage.steps * stage.rows_per_step:
        raise DataError(
            f"{len(rows)} rows for {stage.steps} steps of {stage.rows_per_step}; give more rows or fewer steps."
        )
    tokens = [tokenise(model.tokenizer, row) for row in rows]
    if max(len(row["input_ids"]) for row in tokens) > model.max_tokens:
        raise DataError(f"a row is longer than the {model.max_tokens} tokens of {model.name}; none is cut silently.")
    identity = {
        "base": base_of(model),
        "tokenizer_sha": model.tokenizer_sha,
        "template_sha": model.template_sha,
    }  # taken before trl handles the tokenizer
    trainer = _trainer(model, stage, tokens, seed, states)
    network = trainer.model
    assert isinstance(network, PeftModel)
    adapted = adapted_tensors(network, model.entry.layers)
    trainer.train(resume_from_checkpoint=last_state(states))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    content = {
        "model": model.name, "variant": recipe.variant, "stages": (stage.name,), "final": not recipe.planned,
        "parent": None, **identity, "adapted": adapted, "data": _sources(rows, tokens, model.entry.evidence),
        "order_sha": order_sha(rows),
        "recipe_sha": store.hash_of(asdict(recipe)), "seed": seed, "versions": versions(), "evidence": model.entry.evidence,
        "metrics": {"first_loss": round(losses[0], 6), "last_loss": round(losses[-1], 6)},
    }  # fmt: skip
    return lambda target: write_checkpoint(target, lambda folder: _save_adapter(network, folder, model.name), content)


def _trainer(model: Model, stage: Sft, tokens: list[dict[str, list[int]]], seed: int, states: Path) -> SFTTrainer:
    torch.manual_seed(seed)
    model.network.config.router_aux_loss_coef = 0.0  # trl switches the balance loss on, which moves adapters by itself
    on_gpu = model.network.device.type == "cuda"
    settings = SFTConfig(
        output_dir=str(states), max_steps=stage.steps, per_device_train_batch_size=stage.rows_per_step,
        learning_rate=stage.learning_rate, lr_scheduler_type="linear", warmup_steps=stage.steps // 20,
        logging_steps=max(1, stage.steps // 4),
        save_strategy="steps", save_steps=save_steps(stage.steps), save_total_limit=2,
        report_to=[], use_cpu=not on_gpu, bf16=on_gpu, gradient_checkpointing=on_gpu, seed=seed,
        max_length=None, packing=False, shuffle_dataset=False, dataset_num_proc=None, dataloader_pin_memory=False,
        train_sampling_strategy="sequential", weight_decay=0.0, disable_tqdm=False,
    )  # fmt: skip
    return SFTTrainer(
        model=model.network, args=settings, train_dataset=Dataset.from_list(tokens),
        processing_class=model.tokenizer, peft_config=lora_config(stage.lora),
    )  # fmt: skip


def _save_adapter(model: PeftModel, folder: Path, base: str) -> None:
    """Adapter weights and config; the base is named, not given as a path of this machine."""
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(str(folder), save_embedding_layers=False)  # "auto" looks for the base on disk by that name
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    config = store.read_json(folder / "adapter_config.json")
    config["target_modules"].sort()  # peft keeps a set, whose order changes from run to run
    store.write_json(folder / "adapter_config.json", config)


def _sources(rows: Sequence[Row], tokens: list[dict[str, list[int]]], evidence: str) -> tuple[dict, ...]:
    licence = "MIT, made by this package" if evidence == "toy" else "the researcher's own file"
    tasks = sorted({row.task for row in rows})
    return tuple(
        {
            "name": task, "rows": sum(row.task == task for row in rows),
            "tokens": sum(len(ids["input_ids"]) for row, ids in zip(rows, tokens, strict=True) if row.task == task),
            "sha256": order_sha([row for row in rows if row.task == task]),
            "licence": licence,
        }
        for task in tasks
    )  # fmt: skip
