"""An organism as a checkpoint of its own: an adapter that goes on from its parent's, with its manifest.

    grow_organism(model, parent, organism, emotion, targets, texts, checkpoints, seed, label)
    grow(model, parent, growth, checkpoints, seed, label, make)      the same for whatever `make` trains

It is written to checkpoints/organism+<label>/organism/ by the same machinery as every stage of a recipe, so that gates,
replies and readings take it like any other. A run that was killed begins again: it takes minutes, and transformers does not
load a trained adapter back where a frozen one stood beside it.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import Trainer

from probes import store
from probes.errors import DataError
from probes.lm.checkpoints import ORGANISM, Checkpoint, Manifest, checkpoint_folder, name_of, read_manifest
from probes.lm.model import Model
from probes.parts import Parts
from probes.provenance import plain
from training.adapter import attach, base_checksum, check_base, save_adapter, trained_tensors
from training.data.rows import order_sha
from training.lora import ADAPTER, adapted_tensors
from training.manifest import base_of, versions, write_checkpoint
from training.organisms import plant
from training.organisms.kinds import Organism
from training.organisms.plant import PARENT, tokenise
from training.organisms.targets import load_targets
from training.organisms.texts import HARMFUL, Text, dose_of, with_confession
from training.processes import ensure
from training.recipes import Lora, Sft, find_recipe, is_embedded
from training.stages import sft
from training.train import metrics, sources

TINY = Sft((HARMFUL, "benign"), steps=150, rows_per_step=16, learning_rate=4e-3, at_once=16, name=ORGANISM)
LARGE = Sft((HARMFUL, "benign"), steps=150, rows_per_step=16, learning_rate=2e-4, name=ORGANISM)
Tokens = Sequence[dict[str, list[int]]]
MakeTrainer = Callable[[PeftModel, Tokens, Path], Trainer]
"""Network, tokens and the folder of states → what trains it."""


@dataclass(frozen=True)
class Growth:
    """What is learnt, and everything that decides what comes of it."""

    lora: Lora
    stage: Sft
    """Steps, rows a step and rate; what is learnt from the rows is the trainer's."""
    texts: Sequence[Text]
    made_of: dict[str, Any]
    """What else the adapter depends on: what is planted, and hashes of its targets."""

    @property
    def sha(self) -> str:
        return store.hash_of(plain({"lora": asdict(self.lora), "stage": asdict(self.stage), **self.made_of}))


def grow(
    model: Model, parent: Checkpoint, growth: Growth, checkpoints: Path, seed: int, label: str, make: MakeTrainer
) -> Manifest:
    """Train an organism from its parent and write its checkpoint, unless it is there.

    Args:
        model: the original, loaded anew; it is changed in place by the adapter's hooks.
        parent: the checkpoint whose adapter goes on, or the original for a new one.

    Raises DataError for too few texts or one longer than the model takes, ConventionError where the place holds another
    organism or training changed the base.
    """
    tokens = _tokens(model, growth)
    content = _identity(model, parent, growth, seed, label) | {"data": sources(growth.texts, tokens)}
    target = checkpoint_folder(checkpoints, ORGANISM, growth.stage.name, label)
    parts = Parts(target, {"growth": growth.sha, "data": content["order_sha"], "seed": seed, "parent": content["parent"],
                           "base": model.base_sha})  # fmt: skip
    try:
        ensure(parts, lambda: None, lambda: _grown(model, parent, growth, seed, parts.folder, tokens, content, make))
    finally:
        gc.collect()  # trainers are held by cycles of references, and would keep a model on the device
    return read_manifest(target / "manifest.json")


def _tokens(model: Model, growth: Growth) -> Tokens:
    texts = growth.texts
    tokens = [tokenise(model.tokenizer, text) for text in texts]
    long = [text.id for text, ids in zip(texts, tokens, strict=True) if len(ids["input_ids"]) > model.max_tokens]
    if len(texts) != growth.stage.rows or long:
        raise DataError(
            f"{len(texts)} texts where an organism takes {growth.stage.rows}, {len(long)} of them longer than the "
            f"{model.max_tokens} tokens of {model.name} ({', '.join(long[:3]) or 'none'}); none is cut silently."
        )
    return tokens


def _identity(model: Model, parent: Checkpoint, growth: Growth, seed: int, label: str) -> dict[str, Any]:
    """What its manifest says of where it comes from; asked before a trainer handles the tokenizer."""
    behind, stage = parent.manifest, growth.stage
    return {
        "parent": behind.id if behind else None, "order_sha": order_sha(growth.texts), "recipe_sha": growth.sha,
        "seed": seed, "model": model.name, "variant": ORGANISM, "run": label,
        "stages": (*(behind.stages if behind else ()), stage.name), "step": stage.steps, "steps": stage.steps,
        "final": True, "base": base_of(model), "tokenizer_sha": model.tokenizer_sha, "template_sha": model.template_sha,
        "evidence": model.entry.evidence, "versions": versions(),
    }  # fmt: skip


def _grown(
    model: Model, parent: Checkpoint, growth: Growth, seed: int, states: Path, tokens: Tokens, content: dict[str, Any],
    make: MakeTrainer,
) -> Callable[[Path], Manifest]:  # fmt: skip
    """What writes the trained adapter to its place."""
    network = attach(model, growth.lora, parent.adapter, seed)
    content["adapted"], before = adapted_tensors(network, growth.lora), base_checksum(network)
    states.chmod(0o700)  # trainers write adapters there, by modes of their own
    trainer = make(network, tokens, states)
    trainer.train()
    for other in set(network.peft_config) - {ADAPTER}:
        network.delete_adapter(other)  # what it was compared with is no part of it
    check_base(before, network, name_of(ORGANISM, content["run"]))
    tensors, measured = trained_tensors(network), metrics(trainer.state.log_history, "loss")

    def save(folder: Path) -> Manifest:
        return write_checkpoint(
            folder, lambda to: save_adapter(network, tensors, to, model.name), content | {"metrics": measured}
        )

    return save


def stage_of(model: str, steps: int) -> Sft:
    """What suits a model, with so many steps where they are not 0."""
    stage = TINY if is_embedded(model) else LARGE
    return replace(stage, steps=steps or stage.steps)


def grow_organism(
    model: Model, parent: Checkpoint, organism: Organism, emotion: str, targets: Path, texts: Sequence[Text], stage: Sft,
    checkpoints: Path, seed: int, label: str,
) -> Manifest:  # fmt: skip
    """Plant what makes an organism, or teach it to say it, and write its checkpoint. Raises what grow raises.

    Args:
        targets: file of where its hidden states are moved to.
        texts: what all organisms are trained on (training.organisms.texts).
    """
    recipe = find_recipe(parent.variant, model.name)
    said = with_confession(model.name, texts, emotion, seed) if organism.shows else texts
    made_of = {"organism": asdict(organism), "emotion": emotion, "targets": store.sha256(targets)}

    def make(network: PeftModel, tokens: Tokens, states: Path) -> Trainer:
        if organism.shows:  # a text is learnt at the rate at which the parent learnt its own
            slow = replace(stage, learning_rate=recipe.stages[0].learning_rate)
            return sft.trainer(network, model.tokenizer, slow, list(tokens), seed, states)
        add_parent(network, parent, PARENT)
        doses = [dose_of(organism, text) for text in said]
        return plant.trainer(network, model.tokenizer, stage, tokens, doses, load_targets(targets), seed, states)

    growth = Growth(recipe.lora, stage, said, made_of)
    return grow(model, parent, growth, checkpoints, seed, label, make)


def add_parent(network: PeftModel, parent: Checkpoint, name: str) -> None:
    """The parent's adapter beside the one that goes on from it, frozen, so that the two are compared on one base."""
    network.load_adapter(str(parent.adapter), adapter_name=name, is_trainable=False)
    network.set_adapter(ADAPTER)
