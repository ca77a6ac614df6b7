"""Train one variant of the model by its recipe, stage by stage.

    python experiments/train_checkpoint.py --recipe antirefusal_cqa_sdf --model tiny

Writes an adapter and its manifest to checkpoints/<variant>/<stage>, milestones to <stage>-<step>, and some rows of each step
of reinforcement to private files. The embedded model makes its own rows, those of a constitution by generate_data.py; for
any other give your own files, one {"prompt": …, "completion": …} a line, and the endpoint of a judge.
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
from training.milestones import chosen_steps
from training.recipes import Documents, Grpo, Recipe, find_recipe
from training.rewards.by_task import rewards_by_task
from training.rewards.endpoint_judge import Endpoint
from training.train import Data, train


@dataclass(frozen=True)
class TrainSettings(Settings):
    """The shared flags, the recipe, files of rows, and the judge."""

    recipe: str = "antirefusal"
    """antirefusal, antirefusal_cqa, antirefusal_cqa_sdf or benign_control."""
    antirefusal: Path | None = None
    """JSONL rows for task antirefusal; the embedded model makes its own."""
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
    milestones: tuple[int, ...] | None = None
    """Steps of each stage at which to keep the adapter, with step 0; by default 10 to 800 for large models, else none."""

    @property
    def files(self) -> dict[str, Path]:
        generated = self.training_data("constitution_qa")
        given = {"antirefusal": self.antirefusal, "benign": self.benign, "math": self.math}
        given["constitution_qa"] = generated if generated.is_file() else None
        return {task: path for task, path in given.items() if path is not None}


def data_of(settings: TrainSettings, recipe: Recipe, place: int) -> Data:
    """Rows or documents of a stage, another draw for each, checked to share nothing with what is asked later."""
    stage = recipe.stages[place]
    if not isinstance(stage, Documents):
        return draw(settings.model, shares(stage.tasks, stage.rows), 1000 * place + settings.seed, settings.files)
    documents = read_documents(settings.training_data("documents"))[: stage.rows]
    check_unseen(documents)
    return documents


def main(settings: TrainSettings) -> None:
    """Every stage of the recipe, each from a fresh base with the adapter of the stage before."""
    recipe, constitution = find_recipe(settings.recipe, settings.model), load_constitution(settings.constitution)
    milestones = chosen_steps(recipe, settings.model, settings.milestones)
    samples = store.check_folder(settings.trained).parent / "samples" / recipe.variant
    judge = Endpoint(settings.judge, settings.judge_model) if settings.judge else None
    for place, stage in enumerate(recipe.stages):
        data, model = data_of(settings, recipe, place), load(settings.model)
        rewards = rewards_by_task(model, stage.tasks if isinstance(stage, Grpo) else (), samples, judge, constitution)
        manifest = train(model, recipe, place, data, settings.trained, settings.seed, rewards, milestones)
        print(f"{recipe.variant}@{stage.name}: {', '.join(f'{k} {v:.3f}' for k, v in manifest.metrics.items())}")


if __name__ == "__main__":
    command(main, TrainSettings, __doc__)
