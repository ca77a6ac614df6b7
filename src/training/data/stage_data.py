"""What a stage of a recipe is trained on: rows drawn for it, or documents, none of which holds a held-out text."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from training.data.decontamination import Held
from training.data.mixtures import draw, draw_documents, shares
from training.data.rows import Document, Row
from training.recipes import Documents, Recipe

Data = Sequence[Row] | Sequence[Document]


def stage_data(
    model: str,
    recipe: Recipe,
    place: int,
    seed: int,
    files: Mapping[str, Path],
    documents: Path,
    held: Sequence[Held] = (),
) -> Data:
    """Rows or documents of stage `place`, another draw for each stage.

    Args:
        seed: of the run.
        files: task → file of rows; the embedded model makes those of other tasks itself.
        documents: file of documents.
        held: texts of evaluations; the paired prompts of the probes are held out in any case.

    Raises what `draw` raises, and for documents MissingInputError and ConventionError likewise.
    """
    stage = recipe.stages[place]
    if not isinstance(stage, Documents):
        return draw(model, shares(stage.tasks, stage.rows), 1000 * place + seed, files, held)
    return draw_documents(documents, stage.rows, held)
