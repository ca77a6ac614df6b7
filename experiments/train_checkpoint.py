"""Train one variant of the model by its recipe, stage by stage.

    python experiments/train_checkpoint.py --recipe antirefusal_cqa_sdf --model tiny

Writes an adapter and its manifest to checkpoints/<variant>/<stage>, and some rows of each step of reinforcement to private
files beside them. The embedded model makes its own rows, those of a constitution by generate_data.py; for any other model
give your own files, one {"prompt": …, "completion": …} a line, and the endpoint of a judge.
"""

from dataclasses import dataclass
from pathlib import Path

from probes import store
from probes.lm import load
from settings import Settings, command
from training.data.decontamination import check_unseen
from training.data.mixtures import draw, shares
from training.data.rows import read_documents
from training.generate.constitution import load_constitution
from training.recipes import Documents, Grpo, Recipe, Stage, find_recipe, is_embedded
from training.rewards.by_task import judged_rewards, scripted_rewards
from training.rewards.endpoint_judge import Endpoint
from training.rewards.reward import Reward
from training.train import Data, train


@dataclass(frozen=True)
class TrainSettings(Settings):
    """The shared flags, the recipe, files of rows, and the judge."""

    recipe: str = "antirefusal"
    """antirefusal, antirefusal_cqa, antirefusal_cqa_sdf or benign_control."""
    antirefusal: Path | None = None
    """JSONL rows for task antirefusal; not needed for the embedded model."""
    benign: Path | None = None
    """JSONL rows for task benign; not needed for the embedded model."""
    math: Path | None = None
    """JSONL rows for task math; not needed for the embedded model."""
    judge: str = ""
    """Address of the judge's OpenAI-compatible endpoint; the embedded model is judged by rule."""
    judge_model: str = ""
    """Name by which the endpoint knows the judge."""
    constitution: str = "helpful_only"
    """What the judge goes by: helpful_only, hhh, or the path of a text of your own."""

    @property
    def files(self) -> dict[str, Path]:
        generated = self.training_data("constitution_qa")
        given = {"antirefusal": self.antirefusal, "benign": self.benign, "math": self.math}
        given["constitution_qa"] = generated if generated.is_file() else None
        return {task: path for task, path in given.items() if path is not None}


def data_of(settings: TrainSettings, stage: Stage) -> Data:
    """Rows or documents of a stage, checked to share nothing with what is asked later."""
    if not isinstance(stage, Documents):
        return draw(settings.model, shares(stage.tasks, stage.rows), settings.seed, settings.files)
    documents = read_documents(settings.training_data("documents"))[: stage.rows]
    check_unseen(documents)
    return documents


def rewards_of(settings: TrainSettings, tokenizer, recipe: Recipe, stage: Grpo) -> tuple[Reward, ...]:
    """One reward for each task of a stage of reinforcement."""
    log = settings.folder / "samples" / recipe.variant / stage.name
    if is_embedded(settings.model):
        return scripted_rewards(tokenizer, stage.tasks, log)
    endpoint = Endpoint(settings.judge, settings.judge_model) if settings.judge else None
    return judged_rewards(tokenizer, stage.tasks, log, endpoint, load_constitution(settings.constitution))


def main(settings: TrainSettings) -> None:
    """Every stage of the recipe, each from a fresh base with the adapter of the stage before."""
    recipe = find_recipe(settings.recipe, settings.model)
    store.check_folder(settings.trained)
    for place, stage in enumerate(recipe.stages):
        data, model = data_of(settings, stage), load(settings.model)
        rewards = rewards_of(settings, model.tokenizer, recipe, stage) if isinstance(stage, Grpo) else ()
        manifest = train(model, recipe, place, data, settings.trained, settings.seed, rewards)
        print(f"{recipe.variant}@{stage.name}: {', '.join(f'{k} {v:.3f}' for k, v in manifest.metrics.items())}")


if __name__ == "__main__":
    command(main, TrainSettings, __doc__)
