"""Train one variant of the model by its recipe, stage by stage; with --seeds 0 1 2 several times, side by side.

    python experiments/train_checkpoint.py --recipe antirefusal_cqa_sdf --model tiny

Writes an adapter and its manifest to checkpoints/<variant>[+<run>]/<stage>, milestones to <stage>-<step>, and some rows of
each step of reinforcement to private files. The embedded model makes its own rows, those of a constitution by
generate_data.py; for any other give your own files, one {"prompt": …, "completion": …} a line, and the endpoint of a judge.
"""

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from probes import store
from settings import Settings, command
from training.data.decontamination import held_texts
from training.data.rows import licences
from training.data.stage_data import Data, stage_data
from training.generate.constitution import load_constitution
from training.milestones import chosen_steps
from training.ready import ready
from training.recipes import Recipe, find_recipe
from training.runs import runs, train_run


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

    @property
    def files(self) -> dict[str, Path]:
        generated = self.training_data("constitution_qa")
        given = {"antirefusal": self.antirefusal, "benign": self.benign, "math": self.math}
        given["constitution_qa"] = generated if generated.is_file() else None
        return {task: path for task, path in given.items() if path is not None}


def data_of(settings: TrainSettings, recipe: Recipe, place: int) -> Data:
    """Rows or documents of a stage, another draw for each, checked to share nothing with what is asked later."""
    documents, held = settings.training_data("documents"), held_texts(settings.held_out)
    return stage_data(settings.model, recipe, place, settings.seed, settings.files, documents, held)


def main(settings: TrainSettings) -> None:
    """The data of all runs and what they are licensed under; then one run after another."""
    recipe, constitution = find_recipe(settings.recipe, settings.model), load_constitution(settings.constitution)
    milestones = chosen_steps(recipe, settings.model, settings.milestones)
    store.check_folder(settings.trained)
    data = {
        run: [data_of(replace(settings, seed=run.seed), recipe, place) for place in range(len(recipe.stages))]
        for run in runs(recipe, settings.seed, settings.seeds, settings.source, settings.files)
    }
    print(*licences(chain(*chain(*data.values()))), sep="\n", flush=True)
    judge, server = ready(settings.entry, recipe, settings.trained, settings.judge, settings.judge_model, settings.vllm)
    places = settings.trained, settings.folder / "samples"
    for run, rows in data.items():
        train_run(settings.model, recipe, run, rows, *places, judge, constitution, milestones, server)


if __name__ == "__main__":
    command(main, TrainSettings, __doc__)
