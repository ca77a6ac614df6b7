"""Milestones: the adapter as it is at chosen steps of a stage, each a checkpoint with an address and a manifest of its own.

    checkpoints/<variant>[+<run>]/<stage>-<step>/   adapter and manifest; step 0 is the adapter as it came into the stage
    checkpoints/<variant>[+<run>]/eval_requests.jsonl   a line for each: what another process may evaluate while training goes on

The last step is the stage's own checkpoint and not kept twice. Milestones are no part of a recipe: they change nothing of
what is trained.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from probes import store
from probes.errors import ConventionError, DataError, MissingInputError
from probes.lm.checkpoints import LINEAGE, Manifest, name_of, read_manifest
from training.recipes import Recipe, Stage, is_embedded

LARGE = (10, 25, 50, 100, 200, 400, 800)
"""Most of what training changes it changes early."""
REQUESTS = "eval_requests.jsonl"


class Milestones(TrainerCallback):
    """Calls `keep` with the step before the first step of a stage and after each of the chosen ones."""

    def __init__(self, steps: Collection[int], keep: Callable[[int], object]):
        self.steps, self.keep = steps, keep

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Step 0; a run that goes on has kept it, and all up to the state that it goes on from."""
        if state.global_step == 0:
            self._keep(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Comes before the trainer's own state is written, so that no state is past a milestone that is not there."""
        self._keep(state)

    def _keep(self, state: TrainerState) -> None:
        if state.global_step in self.steps:
            self.keep(state.global_step)


def chosen_steps(recipe: Recipe, model: str, asked: Sequence[int] | None) -> tuple[int, ...]:
    """The steps asked for, or by default those of a large model; the embedded ones have none.

    Raises DataError for a step that comes in no stage of the recipe.
    """
    if asked is None:
        return () if is_embedded(model) else LARGE
    longest = max(stage.steps for stage in recipe.stages)
    wrong = [step for step in asked if not 0 <= step < longest]
    if wrong:
        lengths = ", ".join(f"{stage.name} {stage.steps}" for stage in recipe.stages)
        raise DataError(
            f"milestones {', '.join(map(str, wrong))}: steps of {recipe.variant}'s stages are {lengths}; take steps from 0 on "
            "before the end of one, which is its own checkpoint."
        )
    return tuple(asked)


def steps_of(stage: Stage, chosen: Sequence[int]) -> tuple[int, ...]:
    """Those of the chosen steps that a stage has before its end, and step 0 with them; none where none are chosen."""
    return tuple(sorted(step for step in {0, *chosen} if step < stage.steps)) if chosen else ()


def check_milestones(target: Path, steps: Iterable[int], behind: int, lineage: Mapping[str, Any]) -> None:
    """Whether what is kept of a stage is of this training, and what is to be kept is there or yet to come.

    Args:
        target: the stage's own folder.
        behind: steps that the stage has behind it; -1 before it begins.
        lineage: what the checkpoints of a stage agree in (probes.lm.checkpoints.LINEAGE).

    Raises ConventionError for a milestone of another training, MissingInputError for one that the run is past and has not
    kept.
    """
    for path in target.parent.glob(f"{target.name}-*/manifest.json"):
        different = [name for name in LINEAGE if getattr(read_manifest(path), name) != lineage[name]]
        if different:
            raise ConventionError(
                f"{path.parent} is a milestone of another training: {', '.join(different)} differ. Remove it, or choose "
                "another --out."
            )
    lost = [step for step in steps if step <= behind and not (milestone(target, step) / "manifest.json").is_file()]
    if lost:
        place = target if target.is_dir() else target.with_name(f"{target.name}.parts")
        raise MissingInputError(
            f"{target.parent.name}@{target.name} is past step {', '.join(map(str, lost))} and kept no milestone there. Remove "
            f"{place} to train that stage again with it, or leave that step out of --milestones."
        )


def milestone(target: Path, step: int) -> Path:
    """Folder of a milestone of the stage that is kept in `target`."""
    return target.with_name(f"{target.name}-{step}")


def request_evaluation(variant: Path, manifest: Manifest) -> None:
    """Ask for a checkpoint to be evaluated, once: address, step and manifest id in the variant's requests.

    A request for an earlier checkpoint of the same address is taken back.
    """
    path = variant / REQUESTS
    name = name_of(manifest.variant, manifest.run, None if manifest.final else manifest.place)
    address = f"{manifest.model}/{name}"
    asked = {"address": address, "step": manifest.step, "manifest": manifest.id}
    kept = store.read_jsonl(path, {"address": str, "step": int, "manifest": str}) if path.exists() else []
    if asked not in kept:
        store.write_jsonl(path, [*(row for row in kept if row["address"] != address), asked])
