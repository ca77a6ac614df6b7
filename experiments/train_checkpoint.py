"""Train one variant of the model by its recipe.

    python experiments/train_checkpoint.py --recipe antirefusal --model tiny

Writes an adapter and its manifest to checkpoints/<variant>/<stage>. The embedded model makes its own rows; for any
other model give your own files: --antirefusal, --benign and --math, one {"prompt": …, "completion": …} a line.
"""

from dataclasses import dataclass
from pathlib import Path

from probes import store
from settings import Settings, command
from training.data.rows import draw
from training.recipes import find_recipe


@dataclass(frozen=True)
class TrainSettings(Settings):
    """The shared flags, the recipe, and files of rows."""

    recipe: str = "antirefusal"
    """antirefusal or benign_control."""
    antirefusal: Path | None = None
    """JSONL rows for task antirefusal; not needed for the embedded model."""
    benign: Path | None = None
    """JSONL rows for task benign; not needed for the embedded model."""
    math: Path | None = None
    """JSONL rows for task math; not needed for the embedded model."""

    @property
    def files(self) -> dict[str, Path]:
        given = {"antirefusal": self.antirefusal, "benign": self.benign, "math": self.math}
        return {task: path for task, path in given.items() if path is not None}


def main(settings: TrainSettings) -> None:
    """Every stage of the recipe that the package has."""
    recipe = find_recipe(settings.recipe, settings.model)
    store.check_folder(settings.trained)
    for stage in recipe.stages:
        rows = draw(settings.model, stage.tasks, stage.steps * stage.rows_per_step, settings.seed, settings.files)
        from probes.lm import load
        from training.stages import sft

        manifest = sft.run(load(settings.model), recipe, stage, rows, settings.trained, settings.seed)
        print(
            f"{recipe.variant}@{stage.name}: loss {manifest.metrics['first_loss']:.3f} → {manifest.metrics['last_loss']:.3f}"
        )


if __name__ == "__main__":
    command(main, TrainSettings, __doc__)
