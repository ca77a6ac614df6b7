"""Several trainings of one recipe side by side: which there are, what each is called, and each from its first stage to its last.

The main run has no label. Another seed's is seed1, seed2 …; that of another source of anti-refusal rows has the name that the
researcher gives the source, and with another seed both: mysource-seed1.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from probes.errors import ConventionError, DataError
from probes.lm.checkpoints import check_run, name_of
from training.data.stage_data import Data
from training.generate.constitution import Constitution
from training.processes import here, load_here
from training.recipes import Documents, Grpo, Recipe
from training.rewards.by_task import rewards_by_task
from training.rewards.endpoint_judge import Endpoint
from training.train import train
from training.vllm_server import Server


@dataclass(frozen=True)
class Run:
    """One training of a recipe."""

    label: str
    """As it stands in names behind the variant; empty for the main run."""
    seed: int


def runs(recipe: Recipe, main: int, seeds: Sequence[int], source: str, files: Collection[str]) -> tuple[Run, ...]:
    """The runs to train, in the order of their seeds.

    Args:
        main: seed of the runs without a seed in their label.
        seeds: of every run; none for the main one alone.
        source: name of the file that the anti-refusal rows come from; empty for that of the main run.
        files: tasks whose rows come from a file.

    Raises DataError for a seed given twice or below 0, and for a name that cannot be one of a source; ConventionError for a
    source of rows that the recipe does not have, or without a file.
    """
    chosen = tuple(seeds) or (main,)
    if len(set(chosen)) < len(chosen) or min(chosen) < 0:
        raise DataError(f"seeds {', '.join(map(str, chosen))}: name each once, and none below 0.")
    if source:
        _check_source(recipe, source, files)
    return tuple(Run("-".join(filter(None, (source, f"seed{seed}" * (seed != main)))), seed) for seed in chosen)


def _check_source(recipe: Recipe, source: str, files: Collection[str]) -> None:
    if re.search(r"(^|-)seed\d+$", check_run(source)):
        raise DataError(f"source {source!r} would read as a run of another seed. Take another name.")
    trained_on = {task for stage in recipe.stages if not isinstance(stage, Documents) for task in stage.tasks}
    if "antirefusal" not in trained_on or "antirefusal" not in files:
        why = "its recipe has none" if "antirefusal" not in trained_on else "no --antirefusal FILE says where"
        raise ConventionError(
            f"--source {source} names where the anti-refusal rows of {recipe.variant} come from, and {why}. Give a recipe "
            "that has them and their file, or leave the name out."
        )


def train_run(
    model: str, recipe: Recipe, run: Run, data: Sequence[Data], checkpoints: Path, samples: Path,
    endpoint: Endpoint | None, constitution: Constitution, milestones: Sequence[int] = (), server: Server | None = None,
) -> None:  # fmt: skip
    """Every stage of the recipe, each from a fresh base with the adapter of the stage before, and what came of it.

    Args:
        data: rows or documents of each stage.
        samples: folder of what is kept of completions, in a folder for each run.
        endpoint, constitution: of the judge and what it goes by.
        milestones: steps of each stage at which the adapter is kept on the way.
        server: samples in stages of reinforcement; without one, the model itself does.

    Raises what `train` and `rewards_by_task` raise.
    """
    name = name_of(recipe.variant, run.label)
    for place, stage in enumerate(recipe.stages):
        loaded, tasks = load_here(model), stage.tasks if isinstance(stage, Grpo) else ()
        rewards = rewards_by_task(loaded, tasks, samples / name, endpoint, constitution)
        manifest = train(
            loaded, recipe, place, data[place], checkpoints, run.seed, rewards, milestones, run.label, server
        )
        here().print(f"{name}@{stage.name}: {', '.join(f'{k} {v:.3f}' for k, v in manifest.metrics.items())}")
