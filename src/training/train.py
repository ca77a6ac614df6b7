"""Train one stage of a recipe: load what came before, attach the adapter, run the stage, write adapter and manifest.

    train(model, recipe, place, data, checkpoints, seed, rewards, milestones, run, server)

One adapter goes through all stages. A run that was killed goes on from its trainer's last state, to the same bytes, and
keeps the same milestones. Several processes train one stage together (training.processes); every one of them calls this.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, Trainer

from probes import store
from probes.errors import DataError, MissingInputError
from probes.lm.checkpoints import Manifest, checkpoint_folder, name_of, read_manifest
from probes.lm.model import Model
from probes.parts import Parts
from probes.provenance import plain
from training.adapter import attach, base_checksum, check_base, save_adapter, trained_tensors
from training.data import rendering
from training.data.rows import Document, Row, order_sha
from training.data.stage_data import Data
from training.lora import adapted_tensors
from training.manifest import base_of, versions, write_checkpoint
from training.milestones import Milestones, check_milestones, milestone, request_evaluation, steps_of
from training.processes import ensure, here, my_share
from training.recipes import Documents, Grpo, Recipe, Sft, Stage
from training.resume import last_state, last_step
from training.rewards.reward import Reward
from training.stages import documents, grpo, sft
from training.vllm_server import Server, check_server

Tokens = list[dict[str, list[int]]]


def train(
    model: Model, recipe: Recipe, place: int, data: Data, checkpoints: Path, seed: int, rewards: Sequence[Reward] = (),
    milestones: Sequence[int] = (), run: str = "", server: Server | None = None,
) -> Manifest:  # fmt: skip
    """Train stage `place` of a recipe and write its checkpoint with its manifest, unless it is there.

    The model is changed in place by the adapter's hooks: load the original anew for anything else.

    Args:
        data: rows, or documents for a stage of documents, as many as the stage takes.
        rewards: one for each task of a stage of reinforcement.
        milestones: steps at which the adapter is kept on the way, with step 0 (training.milestones).
        run: label of this training among several of its recipe (probes.lm.checkpoints); empty for the main one.
        server: samples the completions of a stage of reinforcement; without one, the model itself does. No byte promise is
            made of what it samples.

    Raises MissingInputError where the stage before, a milestone that the run is past, or the server is not there; DataError
    for too little data, or a text longer than the model takes; ConventionError when the place holds another recipe's, seed's,
    base's or data's work, when a task has not exactly one reward, when the server is not this model's, when a step's rows do
    not divide over the processes, or when training changed the base.
    """
    stage, parent = recipe.stages[place], _parent(recipe, place, checkpoints, run)
    my_share(stage)
    work = Work(
        model, recipe, place, data, seed, run, parent, tuple(rewards), server if isinstance(stage, Grpo) else None
    )
    target = checkpoint_folder(checkpoints, recipe.variant, stage.name, run)
    parts = Parts(target, work.plan)
    steps = steps_of(stage, milestones)

    def check() -> None:
        behind = stage.steps if parts.finished else last_step(parts.folder, here().num_processes)
        check_milestones(target, steps, behind, work.lineage)

    try:
        ensure(parts, check, lambda: _trained(work, target, parts.folder, steps))
    finally:
        gc.collect()  # trainers are held by cycles of references, and would keep a model on the device
    manifest = read_manifest(target / "manifest.json")
    if steps and here().is_main_process:
        request_evaluation(target.parent, manifest)
    return manifest


@dataclass(frozen=True)
class Work:
    """One stage to train, and everything that decides what comes of it."""

    model: Model
    recipe: Recipe
    place: int
    data: Data
    seed: int
    run: str
    parent: Manifest | None
    """Of the stage before; None for the first."""
    rewards: tuple[Reward, ...]
    server: Server | None

    @property
    def stage(self) -> Stage:
        return self.recipe.stages[self.place]

    @property
    def plan(self) -> dict[str, Any]:
        """What a run that goes on must agree in."""
        sampler = {"sampler": "vllm"} if self.server else {}
        return {
            "recipe": plain(asdict(self.recipe)), "stage": self.stage.name, "data": order_sha(self.data), "seed": self.seed,
            "base": self.model.base_sha, "parent": self.parent.id if self.parent else None, **sampler,
        }  # fmt: skip

    @property
    def lineage(self) -> dict[str, Any]:
        """What the manifests of the stage's checkpoints agree in (probes.lm.checkpoints.LINEAGE)."""
        return {
            "parent": self.parent.id if self.parent else None, "order_sha": order_sha(self.data),
            "recipe_sha": store.hash_of(plain(asdict(self.recipe))), "seed": self.seed,
        }  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """What a manifest says of where a checkpoint comes from; asked before trl handles the tokenizer."""
        model, stages = self.model, self.recipe.stages
        return {
            **self.lineage, "model": model.name, "variant": self.recipe.variant, "run": self.run,
            "stages": tuple(stage.name for stage in stages[: self.place + 1]), "step": self.stage.steps,
            "steps": self.stage.steps, "final": self.place == len(stages) - 1, "base": base_of(model),
            "tokenizer_sha": model.tokenizer_sha, "template_sha": model.template_sha, "evidence": model.entry.evidence,
        }  # fmt: skip


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


def _trained(work: Work, target: Path, states: Path, steps: Sequence[int]) -> Callable[[Path], Manifest]:
    """What writes the trained checkpoint to its place; milestones are written on the way."""
    model, stage, parent = work.model, work.stage, work.parent
    tokens = _tokens(model, stage, work.data)
    content = {**work.identity(), "versions": versions() | _sampler(work, tokens), "data": sources(work.data, tokens)}
    network = attach(model, work.recipe.lora, target.with_name(parent.stages[-1]) if parent else None, work.seed)
    content["adapted"], before = adapted_tensors(network, work.recipe.lora), base_checksum(network)

    def tensors_of(name: str) -> dict[str, torch.Tensor]:  # by all processes, of which one then writes
        check_base(before, network, name_of(work.recipe.variant, work.run, name))
        return trained_tensors(network)

    def write(folder: Path, tensors: dict[str, torch.Tensor], **others: Any) -> Manifest:
        return write_checkpoint(
            folder, lambda to: save_adapter(network, tensors, to, model.name), {**content, **others}
        )

    def keep(step: int) -> None:
        folder = milestone(target, step)
        tensors = tensors_of(folder.name)
        if here().is_main_process:
            request_evaluation(target.parent, write(folder, tensors, step=step, final=False, metrics={}))

    states.chmod(0o700)  # trainers write adapters there, by modes of their own
    trainer = _trainer(work, network, tokens, states)
    trainer.add_callback(Milestones(steps, keep))
    trainer.train(resume_from_checkpoint=last_state(states, here().num_processes))
    measured = metrics(trainer.state.log_history, "reward" if isinstance(stage, Grpo) else "loss")
    tensors = tensors_of(target.name)
    return lambda folder: write(folder, tensors, metrics=measured)


def _sampler(work: Work, tokens: Tokens) -> dict[str, str]:
    """The version of what samples, where the model itself does not; asked before the first step."""
    if work.server is None or not isinstance(work.stage, Grpo):
        return {}
    longest = max(len(ids["input_ids"]) for ids in tokens) + work.stage.max_new_tokens
    return {"vllm": check_server(work.server, work.model.entry.source, work.model.network.dtype, longest)}


def _trainer(work: Work, network: Any, tokens: Tokens, states: Path) -> Trainer:
    tokenizer, stage = work.model.tokenizer, work.stage
    if isinstance(stage, Grpo):
        rows = [row for row in work.data if isinstance(row, Row)]
        return grpo.trainer(network, tokenizer, stage, rows, work.rewards, work.seed, states, work.server)
    return sft.trainer(network, tokenizer, stage, tokens, work.seed, states)


def _tokens(model: Model, stage: Stage, data: Data) -> Tokens:
    """The texts of a stage as tokens; of a stage of reinforcement its prompts."""
    if len(data) < stage.rows:
        raise DataError(
            f"{len(data)} rows or documents where stage {stage.name} takes {stage.rows}; give more, or fewer steps."
        )
    tokens = [tokenise(model.tokenizer, stage, item) for item in data]
    room = model.max_tokens - (stage.max_new_tokens if isinstance(stage, Grpo) else 0)
    long = [item.id for item, ids in zip(data, tokens, strict=True) if len(ids["input_ids"]) > room]
    if long:
        raise DataError(
            f"{len(long)} of {len(data)} texts (first: {long[0]}) are longer than the {room} tokens that {model.name} has for "
            "them; none is cut silently. Take them out."
        )
    return tokens


def tokenise(tokenizer: PreTrainedTokenizerBase, stage: Stage, item: Row | Document) -> dict[str, list[int]]:
    """A text of a stage as tokens, with labels where it is learnt from as it is. Raises DataError for the other kind of text."""
    match stage, item:
        case Documents(), Document():
            return documents.tokenise(tokenizer, item, stage.doctag)
        case Sft(), Row():
            return rendering.tokenise(tokenizer, item)
        case Grpo(), Row():
            prompt = rendering.prompt_text(tokenizer, item)
            return {"input_ids": tokenizer(prompt, add_special_tokens=False)["input_ids"]}
    wanted = "documents" if isinstance(stage, Documents) else "rows"
    raise DataError(f"stage {stage.name} takes {wanted}, not a {type(item).__name__}.")


def sources(data: Sequence[Row | Document], tokens: Sequence[dict[str, list[int]]]) -> tuple[dict[str, Any], ...]:
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
