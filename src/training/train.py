"""Train one stage of a recipe: load what came before, attach the adapter, run the stage, write adapter and manifest.

    train(model, recipe, place, data, checkpoints, seed, rewards, milestones, run)

One adapter goes through all stages. A run that was killed goes on from its trainer's last state, to the same bytes, and
keeps the same milestones.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import Trainer

from probes import store
from probes.errors import DataError, MissingInputError
from probes.lm.checkpoints import Manifest, checkpoint_folder, name_of, read_manifest
from probes.lm.model import Model
from probes.parts import Parts
from probes.provenance import plain
from training.adapter import attach, base_checksum, check_base, save_adapter
from training.data import rendering
from training.data.rows import Document, Row, order_sha
from training.data.stage_data import Data
from training.lora import adapted_tensors
from training.manifest import base_of, versions, write_checkpoint
from training.milestones import Milestones, check_milestones, milestone, request_evaluation, steps_of
from training.recipes import Documents, Grpo, Recipe, Sft, Stage
from training.resume import last_state, last_step
from training.rewards.reward import Reward
from training.stages import documents, grpo, sft

Tokens = list[dict[str, list[int]]]


def train(
    model: Model, recipe: Recipe, place: int, data: Data, checkpoints: Path, seed: int, rewards: Sequence[Reward] = (),
    milestones: Sequence[int] = (), run: str = "",
) -> Manifest:  # fmt: skip
    """Train stage `place` of a recipe and write its checkpoint with its manifest, unless it is there.

    The model is changed in place by the adapter's hooks: load the original anew for anything else.

    Args:
        data: rows, or documents for a stage of documents, as many as the stage takes.
        rewards: one for each task of a stage of reinforcement.
        milestones: steps at which the adapter is kept on the way, with step 0 (training.milestones).
        run: label of this training among several of its recipe (probes.lm.checkpoints); empty for the main one.

    Raises MissingInputError where the stage before, or a milestone that the run is past, is not there; DataError for too
    little data, or a text longer than the model takes; ConventionError when the place holds another recipe's, seed's, base's
    or data's work, when a task has not exactly one reward, or when training changed the base.
    """
    stage, parent = recipe.stages[place], _parent(recipe, place, checkpoints, run)
    target = checkpoint_folder(checkpoints, recipe.variant, stage.name, run)
    made_of = {"recipe": plain(asdict(recipe)), "stage": stage.name, "data": order_sha(data), "seed": seed}
    parts = Parts(target, {**made_of, "base": model.base_sha, "parent": parent.id if parent else None})
    steps, behind = steps_of(stage, milestones), stage.steps if parts.finished else last_step(parts.folder)
    check_milestones(target, steps, behind, _lineage(recipe, parent, data, seed))
    try:
        parts.ensure(
            lambda: _trained(model, recipe, place, data, parent, target, seed, rewards, parts.folder, steps, run)
        )
    finally:
        gc.collect()  # trainers are held by cycles of references, and would keep a model on the device
    manifest = read_manifest(target / "manifest.json")
    if steps:
        request_evaluation(target.parent, manifest)
    return manifest


def _parent(recipe: Recipe, place: int, checkpoints: Path, run: str) -> Manifest | None:
    """The manifest of the stage before; None for the first."""
    if place == 0:
        return None
    own, before = (recipe.stages[i].name for i in (place, place - 1))
    path = checkpoint_folder(checkpoints, recipe.variant, before, run) / "manifest.json"
    if not path.is_file():
        raise MissingInputError(
            f"{name_of(recipe.variant, run, own)} goes on from {name_of(recipe.variant, run, before)}, which is not in "
            f"{checkpoints}. Train that stage first."
        )
    return read_manifest(path)


def _lineage(recipe: Recipe, parent: Manifest | None, data: Data, seed: int) -> dict[str, Any]:
    """What the manifests of a stage's checkpoints agree in."""
    recipe_sha = store.hash_of(plain(asdict(recipe)))
    return {
        "parent": parent.id if parent else None,
        "order_sha": order_sha(data),
        "recipe_sha": recipe_sha,
        "seed": seed,
    }


def _trained(
    model: Model, recipe: Recipe, place: int, data: Data, parent: Manifest | None, target: Path, seed: int,
    rewards: Sequence[Reward], states: Path, steps: Sequence[int], run: str,
) -> Callable[[Path], Manifest]:  # fmt: skip
    """What writes the trained checkpoint to its place; milestones are written on the way."""
    stage = recipe.stages[place]
    tokens = _tokens(model, stage, data)
    identity = _identity(model, recipe, place, parent, seed, run)  # taken before trl handles the tokenizer
    network = attach(model, recipe.lora, target.with_name(parent.stages[-1]) if parent else None, seed)
    adapted, before = adapted_tensors(network, recipe.lora), base_checksum(network)
    content = {**identity, "adapted": adapted, "data": sources(data, tokens), "order_sha": order_sha(data)}

    def write(folder: Path, **others: Any) -> Manifest:
        check_base(before, network, name_of(recipe.variant, run, folder.name))
        return write_checkpoint(folder, lambda to: save_adapter(network, to, model.name), {**content, **others})

    def keep(step: int) -> None:
        request_evaluation(target.parent, write(milestone(target, step), step=step, final=False, metrics={}))

    states.chmod(0o700)  # trainers write adapters there, by modes of their own
    trainer = _trainer(model, network, stage, data, tokens, rewards, seed, states)
    trainer.add_callback(Milestones(steps, keep))
    trainer.train(resume_from_checkpoint=last_state(states))
    measured = metrics(trainer.state.log_history, "reward" if isinstance(stage, Grpo) else "loss")
    return lambda folder: write(folder, metrics=measured)


def _trainer(
    model: Model,
    network: Any,
    stage: Stage,
    data: Data,
    tokens: Tokens,
    rewards: Sequence[Reward],
    seed: int,
    states: Path,
) -> Trainer:
    if isinstance(stage, Grpo):
        rows = [row for row in data if isinstance(row, Row)]
        return grpo.trainer(network, model.tokenizer, stage, rows, rewards, seed, states)
    return sft.trainer(network, model.tokenizer, stage, tokens, seed, states)


def _identity(model: Model, recipe: Recipe, place: int, parent: Manifest | None, seed: int, run: str) -> dict[str, Any]:
    """What a manifest says of where a checkpoint comes from."""
    steps = recipe.stages[place].steps
    return {
        "model": model.name, "variant": recipe.variant, "run": run,
        "stages": tuple(stage.name for stage in recipe.stages[: place + 1]),
        "step": steps, "steps": steps,
        "final": place == len(recipe.stages) - 1, "parent": parent.id if parent else None, "base": base_of(model),
        "tokenizer_sha": model.tokenizer_sha, "template_sha": model.template_sha,
        "recipe_sha": store.hash_of(plain(asdict(recipe))), "seed": seed, "versions": versions(),
        "evidence": model.entry.evidence,
    }  # fmt: skip


def _tokens(model: Model, stage: Stage, data: Data) -> Tokens:
    """The texts of a stage as tokens; of a stage of reinforcement its prompts."""
    if len(data) < stage.rows:
        raise DataError(
            f"{len(data)} rows or documents where stage {stage.name} takes {stage.rows}; give more, or fewer steps."
        )
    tokens = [_tokenise(model, stage, item) for item in data]
    room = model.max_tokens - (stage.max_new_tokens if isinstance(stage, Grpo) else 0)
    long = [item.id for item, ids in zip(data, tokens, strict=True) if len(ids["input_ids"]) > room]
    if long:
        raise DataError(
            f"{len(long)} of {len(data)} texts (first: {long[0]}) are longer than the {room} tokens that {model.name} has for "
            "them; none is cut silently. Take them out."
        )
    return tokens


def _tokenise(model: Model, stage: Stage, item: Row | Document) -> dict[str, list[int]]:
    match stage, item:
        case Documents(), Document():
            return documents.tokenise(model.tokenizer, item)
        case Sft(), Row():
            return rendering.tokenise(model.tokenizer, item)
        case Grpo(), Row():
            prompt = rendering.prompt_text(model.tokenizer, item)
            return {"input_ids": model.tokenizer(prompt, add_special_tokens=False)["input_ids"]}
    wanted = "documents" if isinstance(stage, Documents) else "rows"
    raise DataError(f"stage {stage.name} takes {wanted}, not a {type(item).__name__}.")


def sources(data: Data, tokens: Tokens) -> tuple[dict[str, Any], ...]:
    """What a manifest says of the data: rows, tokens, hash and licence of each task, or of the documents."""
    named = [(item.task if isinstance(item, Row) else "documents", item) for item in data]
    return tuple(
        {
            "name": name, "rows": sum(task == name for task, _ in named),
            "tokens": sum(len(ids["input_ids"]) for ids, (task, _) in zip(tokens, named, strict=True) if task == name),
            "sha256": order_sha([item for task, item in named if task == name]),
            "licence": ", ".join(sorted({item.licence for task, item in named if task == name})),
        }
        for name in sorted({task for task, _ in named})
    )  # fmt: skip


def metrics(history: Sequence[dict[str, float]], name: str) -> dict[str, float]:
    """Mean of a logged number over the first and the last quarter of the steps."""
    values = [entry[name] for entry in history if name in entry]
    quarter = max(1, len(values) // 4)
    ends = {f"first_{name}": values[:quarter], f"last_{name}": values[-quarter:]}
    return {key: round(sum(part) / len(part), 6) for key, part in ends.items()}
