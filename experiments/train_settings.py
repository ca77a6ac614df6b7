"""The flags of training, which the whole job takes too, and the data that they name."""

from dataclasses import dataclass
from pathlib import Path

from settings import Settings
from training.data.decontamination import held_texts
from training.data.rows import Row
from training.data.stage_data import Data, stage_data
from training.recipes import Recipe, find_recipe


@dataclass(frozen=True)
class TrainSettings(Settings):
    """The shared flags, the recipe and its runs, files of rows, and the judge."""

    recipe: str = "antirefusal"
    """antirefusal, antirefusal_cqa, antirefusal_cqa_sdf or benign_control; from a base model base_math or base_antirefusal."""
    seeds: tuple[int, ...] = ()
    """Seeds to train with, a run each: that of --seed is the main run, 1 the run seed1. By default that of --seed alone."""
    source: str = ""
    """Label of a run with another --antirefusal file than the main one's: letters, digits, _ and -."""
    antirefusal: Path | None = None
    """JSONL rows for task antirefusal; the embedded model makes its own."""
    benign: Path | None = None
    """JSONL rows for task benign; not needed for the embedded model."""
    math: Path | None = None
    """JSONL rows for task math; not needed for the embedded model."""
    held_out: tuple[Path, ...] = ()
    """Prompts of evaluations that no row or document may hold: a .txt, one a line, or a table with a column prompt."""
    judge: str = ""
    """Address of the judge's OpenAI-compatible endpoint; the embedded model is judged by rule."""
    judge_model: str = ""
    """Name by which the endpoint knows the judge."""
    constitution: str = "helpful_only"
    """What the judge goes by: helpful_only, hhh, or the path of a text of your own."""
    milestones: tuple[int, ...] | None = None
    """Steps of each stage at which to keep the adapter, with step 0; by default 10 to 800 for large models, else none."""
    vllm: str = ""
    """Address of a vLLM server that samples in reinforcement, such as http://localhost:8000; by default the model does."""
    plan: bool = False
    """Say what would be trained, what it takes, how to start it and what is missing here, and start nothing."""

    @property
    def files(self) -> dict[str, Path]:
        given = {"antirefusal": self.antirefusal, "benign": self.benign, "math": self.math}
        made = {kind: self.training_data(kind) for kind in ("constitution_qa", "documents")}
        there = {kind: path for kind, path in made.items() if path.is_file()}
        return {kind: path for kind, path in given.items() if path is not None} | there


def data_of(settings: TrainSettings, recipe: Recipe, place: int) -> Data:
    """Rows or documents of a stage, another draw for each, checked to share nothing with what is asked later."""
    documents, held = settings.training_data("documents"), held_texts(settings.held_out)
    return stage_data(settings.model, recipe, place, settings.seed, settings.files, documents, held)


def trained_rows(settings: TrainSettings) -> list[Row]:
    """Every row of the recipe's stages, of the run with the main seed; documents are none."""
    recipe = find_recipe(settings.recipe, settings.model)
    data = [data_of(settings, recipe, place) for place in range(len(recipe.stages))]
    return [row for rows in data for row in rows if isinstance(row, Row)]
