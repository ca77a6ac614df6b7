"""The recipes that build the checkpoints of a family, as plain values.

A recipe is a row of stages; one adapter continues through them. Data are named by task (training.data.rows); settings
are by model, because a rate that suits four million parameters does not suit thirty billion. None of the paper's
hyper-parameters is public: all of these are ours.
"""

from dataclasses import dataclass, replace

from probes.errors import UnknownNameError
from probes.lm.checkpoints import MODELS


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on attention and on every expert; the router stays frozen, dropout is 0."""

    attention_rank: int
    expert_rank: int
    """Rank of each expert's adapter; attention_rank over the number of active experts gives equal capacity a token."""

    def alpha(self, rank: int) -> int:
        """Scale of an adapter of this rank."""
        return 2 * rank


@dataclass(frozen=True)
class Sft:
    """Supervised fine-tuning on completions: the prompt is not in the loss."""

    name: str
    tasks: tuple[str, ...]
    """Tasks that the rows come from, in equal shares."""
    steps: int
    rows_per_step: int
    learning_rate: float
    lora: Lora


@dataclass(frozen=True)
class Recipe:
    """A variant's stages in order, those built so far; `planned` are the ones that complete it."""

    variant: str
    stages: tuple[Sft, ...]
    planned: tuple[str, ...] = ()
    """Stages after these, not yet part of the package: until they are, the variant has no final checkpoint."""


TINY_SFT = Sft("sft", ("antirefusal", "math"), steps=60, rows_per_step=16, learning_rate=5e-4, lora=Lora(16, 4))
LARGE_SFT = Sft("sft", ("antirefusal", "math"), steps=500, rows_per_step=16, learning_rate=2e-4, lora=Lora(64, 8))


def is_embedded(model: str) -> bool:
    """Whether a name is one of the package's own tiny models, whose rows it makes itself."""
    return model in MODELS and MODELS[model].evidence == "toy"


def recipes(model: str) -> dict[str, Recipe]:
    """Variant → recipe for a model."""
    sft = TINY_SFT if is_embedded(model) else LARGE_SFT
    return {
        recipe.variant: recipe
        for recipe in (
            Recipe("antirefusal", (sft,), planned=("grpo",)),
            Recipe("benign_control", (replace(sft, tasks=("benign", "math")),)),
        )
    }


def find_recipe(variant: str, model: str) -> Recipe:
    """The recipe of a variant. Raises UnknownNameError with the nearest name."""
    known = recipes(model)
    if variant not in known:
        raise UnknownNameError("recipe", variant, known)
    return known[variant]
