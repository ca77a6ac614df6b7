"""Judge and sampler of a recipe's reinforcement, asked before any training: when its turn comes it may be days later."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from probes.lm.checkpoints import ModelEntry, checkpoint_folder
from probes.lm.model import placement
from training.recipes import Grpo, Recipe, is_embedded
from training.rewards.by_task import check_judged
from training.rewards.endpoint_judge import Endpoint, EndpointJudge
from training.vllm_server import Server, check_server


def ready(
    entry: ModelEntry,
    recipe: Recipe,
    checkpoints: Path,
    judge: str,
    judge_model: str,
    vllm: str,
    labels: Sequence[str] = ("",),
) -> tuple[Endpoint | None, Server | None]:
    """The judge's endpoint and the server that samples, where they are named; asked, unless all reinforcement is done.

    Args:
        judge: address of the judge, which is asked for one trial judgement; "" for none.
        vllm: address of the server, which is asked what it serves; "" for none.
        labels: of the runs to train.

    Raises DataError for what is no address, MissingInputError for one that is needed and not named, or does not answer as it
    should, JudgeError where the judge lets nobody in, ConventionError where the server is not this model's.
    """
    endpoint, server = Endpoint(judge, judge_model) if judge else None, Server(vllm) if vllm else None
    left = [
        stage for stage in recipe.stages if isinstance(stage, Grpo) and not _is_done(recipe, stage, checkpoints, labels)
    ]
    if left and not is_embedded(entry.name):
        check_judged({task for stage in left for task in stage.tasks}, endpoint)
    if left and endpoint:
        asyncio.run(EndpointJudge(endpoint, {}).check())
    if left and server:
        check_server(server, entry.source, placement()[0], max(stage.max_new_tokens for stage in left))
    return endpoint, server


def _is_done(recipe: Recipe, stage: Grpo, checkpoints: Path, labels: Sequence[str]) -> bool:
    folders = [checkpoint_folder(checkpoints, recipe.variant, stage.name, label) for label in labels]
    return all((folder / "manifest.json").is_file() for folder in folders)
