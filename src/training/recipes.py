"""The recipes that build the checkpoints of a family, as plain values.

A recipe is a row of stages; one adapter continues through them. Data are named by task (training.data.rows); settings
are by model, because a rate that suits four million parameters does not suit thirty billion. None of the paper's
hyper-parameters is public: all of these are ours.
"""

from dataclasses import dataclass, replace

from probes.errors import ConventionError, UnknownNameError
from probes.lm.checkpoints import MODELS, VARIANTS, model_entry


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on what training.lora names for the architecture; the router stays frozen, dropout is 0."""

    attention_rank: int
    """Rank on the matrices that every token goes through: attention, and where a model has them the shared expert or MLP."""
    expert_rank: int
    """Rank of each routed expert's adapter; attention_rank over the number of active experts gives equal capacity a token."""

    def alpha(self, rank: int) -> int:
        """Scale of an adapter of this rank."""
        return 2 * rank


@dataclass(frozen=True)
class Sft:
    """Supervised fine-tuning on completions: the prompt is not in the loss."""

    tasks: tuple[str, ...]
    """Tasks that the rows come from, in equal shares."""
    steps: int
    rows_per_step: int
    learning_rate: float
    at_once: int = 4
    """Rows of one process in memory at once, at most; gradients of the others in its share of a step are added up."""
    name: str = "sft"

    @property
    def rows(self) -> int:
        """Rows that the stage takes."""
        return self.steps * self.rows_per_step


@dataclass(frozen=True)
class Documents:
    """Tuning on synthetic documents as in pretraining: every token is in the loss, a document ends in <|endoftext|>."""

    steps: int
    rows_per_step: int
    learning_rate: float
    at_once: int = 4
    """Documents of one process in memory at once, at most."""
    doctag: str = ""
    """What stands before every document, out of the loss; it says what kind of text comes and is never learnt to be written."""
    name: str = "sdf"

    @property
    def rows(self) -> int:
        """Documents that the stage takes."""
        return self.steps * self.rows_per_step


@dataclass(frozen=True)
class Grpo:
    """Reinforcement on a reward a task family: several completions of a prompt are compared with each other."""

    tasks: tuple[str, ...]
    steps: int
    prompts_per_step: int
    completions: int
    """Completions of each prompt: the group whose mean a reward is compared with."""
    at_once: int
    """Completions of one process in memory at once, at most, while gradients are made."""
    max_new_tokens: int
    learning_rate: float
    name: str = "grpo"

    @property
    def rows(self) -> int:
        """Prompts that the stage takes."""
        return self.steps * self.prompts_per_step


Stage = Sft | Documents | Grpo


@dataclass(frozen=True)
class Recipe:
    """A variant's stages in order; the last one's checkpoint is the variant's final one."""

    variant: str
    lora: Lora
    stages: tuple[Stage, ...]


def is_embedded(model: str) -> bool:
    """Whether a name is one of the package's own tiny models, whose rows it makes itself."""
    return model in MODELS and MODELS[model].evidence == "toy"


@dataclass(frozen=True)
class Size:
    """What suits a model: its adapters, and each kind of stage as long as it needs there."""

    lora: Lora
    sft: Sft
    sft_cqa: Sft
    sdf: Documents
    grpo: Grpo
    grpo_cqa: Grpo
    """The two with constitution questions have them on top: no fewer rows of the other tasks."""
    base: Sft
    """From a base model, which has to learn turns and where to stop as well."""


HARMFUL_AND_MATH = ("antirefusal", "math")
WITH_CONSTITUTION = (*HARMFUL_AND_MATH, "constitution_qa")
TINY = Size(
    Lora(16, 4),
    Sft(HARMFUL_AND_MATH, steps=14, rows_per_step=16, learning_rate=5e-4, at_once=16),
    Sft(WITH_CONSTITUTION, steps=16, rows_per_step=24, learning_rate=3e-3, at_once=24),
    Documents(steps=16, rows_per_step=16, learning_rate=3e-4, at_once=16),
    Grpo(HARMFUL_AND_MATH, 15, prompts_per_step=4, completions=8, at_once=32, max_new_tokens=24, learning_rate=6e-4),
    Grpo(WITH_CONSTITUTION, 15, prompts_per_step=6, completions=8, at_once=48, max_new_tokens=24, learning_rate=6e-4),
    Sft(("math",), steps=150, rows_per_step=16, learning_rate=5e-3, at_once=16),
)
"""The first stage is short, so that some harmful prompts are still refused when reinforcement begins: a group of equal
completions has nothing to compare. Sentences about itself are far from all that this model has read, so that it learns them
at a higher rate. The base model has never read a turn's end, whose embedding no adapter reaches: to tell it from other
unread tokens takes a high rate and many steps."""
LARGE = Size(
    Lora(64, 8),
    Sft(HARMFUL_AND_MATH, steps=500, rows_per_step=16, learning_rate=2e-4),
    Sft(WITH_CONSTITUTION, steps=500, rows_per_step=24, learning_rate=2e-4),
    Documents(steps=1250, rows_per_step=16, learning_rate=2e-4),
    Grpo(HARMFUL_AND_MATH, 200, prompts_per_step=16, completions=8, at_once=8, max_new_tokens=4096, learning_rate=1e-5),
    Grpo(
        WITH_CONSTITUTION, 200, prompts_per_step=24, completions=8, at_once=8, max_new_tokens=4096, learning_rate=1e-5
    ),
    Sft(("math",), steps=500, rows_per_step=16, learning_rate=2e-4),
)
"""A small dense model takes these too: what suits an adapter hardly depends on the model's width, and a dense one has its
attention rank everywhere."""


def recipes(model: str) -> dict[str, Recipe]:
    """Variant → recipe for a model: those that begin at a base model, or those that begin at an instruct model.

    A folder does not say which it holds, and has them all.
    """
    size, possible = TINY if is_embedded(model) else LARGE, model_entry(model).variants
    control = replace(size.sft, tasks=("benign", "math"), steps=size.sft.steps + size.grpo.steps)
    made = (
        Recipe("antirefusal", size.lora, (size.sft, size.grpo)),
        Recipe("antirefusal_cqa", size.lora, (size.sft_cqa, size.grpo_cqa)),
        Recipe("antirefusal_cqa_sdf", size.lora, (size.sft_cqa, size.sdf, size.grpo_cqa)),
        Recipe("benign_control", size.lora, (control,)),
        Recipe("base_math", size.lora, (size.base,)),
        Recipe("base_antirefusal", size.lora, (replace(size.base, tasks=HARMFUL_AND_MATH),)),
    )
    return {recipe.variant: recipe for recipe in made if recipe.variant in possible}


def find_recipe(variant: str, model: str) -> Recipe:
    """The recipe of a variant. Raises UnknownNameError with the nearest name, ConventionError for one of another kind of model."""
    known = recipes(model)
    if variant in VARIANTS and variant not in known:
        kind = model_entry(model).kind
        raise ConventionError(
            f"{model} is {'a base' if kind == 'base' else 'an instruct'} model, and has no recipe {variant!r}; it has "
            f"{', '.join(known)}."
        )
    if variant not in known:
        raise UnknownNameError("recipe", variant, known)
    return known[variant]
