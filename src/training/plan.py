"""What training a recipe will take, from the model's shape and the rows alone: nothing is started, no weights are read.

Numbers of parameters are counted on the model built without memory (torch's meta device), adapters as training.lora attaches
them. Memory is computed from them, by the formulas at `memory`; none of it is measured. Lengths of texts are counted where
the rows and the tokenizer are here, and assumed where they are not; each line says which.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerBase

from probes.cost import missing_machine
from probes.errors import FileFormatError, MissingInputError
from probes.lm.checkpoints import ModelEntry
from probes.lm.weights import load_architecture
from training.data.rows import TINY_TASKS, Document, Row, schema
from training.launch.commands import SAMPLER, Layout, judge_command, layouts
from training.lora import lora_config
from training.processes import share, step_rows
from training.recipes import Documents, Grpo, Recipe, Stage, is_embedded
from training.train import Data, tokenise
from training.vllm_server import Server, start_command

SHAPES = {
    name: {
        "model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48,
        "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8,
        "moe_intermediate_size": 768, "norm_topk_prob": True, "tie_word_embeddings": False, "max_position_embeddings": 40960,
    }
    for name in ("Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B-Base")
}  # fmt: skip
"""Shapes of models whose config may not be on this machine, from their own config.json."""
ROW_TOKENS, DOCUMENT_TOKENS, PROMPT_TOKENS = 1024, 600, 256
"""Lengths assumed where there are no rows: of a row with its prompt, of a document, of a prompt to sample on."""
LONGEST = 4
"""Longest text over the mean, assumed where there are no rows: what is in memory at once is as long as its longest."""
BFLOAT16, FLOAT32 = 2, 4
GIB = 2**30
NONE = ["none"]


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters."""

    whole: int
    trained: int
    layer: int
    """Of the largest layer."""
    experts: int
    """Of all experts of a layer; 0 where there are none."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of a stage's texts; of reinforcement the prompts alone."""

    total: int
    longest: int
    how: str


def architecture(entry: ModelEntry) -> tuple[PretrainedConfig, PreTrainedTokenizerBase | None]:
    """Config of a model, from this machine or from SHAPES, and its tokenizer where it is here.

    Raises FileFormatError for files that cannot be read, and where there are none and the shape is not known either.
    """
    try:
        return load_architecture(entry)
    except FileFormatError:
        if entry.source not in SHAPES:
            raise
        return AutoConfig.for_model(**SHAPES[entry.source]), None


def count(config: PretrainedConfig, recipe: Recipe) -> Counts:
    """Parameters of a model, and those that a recipe trains."""
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        whole = sum(weights.numel() for weights in network.parameters())
        layers = [[weights.shape for weights in block.parameters()] for block in network.base_model.layers]
        adapted = get_peft_model(network, lora_config(recipe.lora, config))
    trained = sum(weights.numel() for weights in adapted.parameters() if weights.requires_grad)
    experts = max(sum(shape.numel() for shape in shapes if len(shape) == 3) for shapes in layers)
    return Counts(whole, trained, max(sum(shape.numel() for shape in shapes) for shapes in layers), experts)


def lengths(stage: Stage, data: Data | None, tokenizer: PreTrainedTokenizerBase | None) -> Lengths:
    """How long a stage's texts are: counted, or assumed."""
    if data is None or tokenizer is None:
        each = (
            DOCUMENT_TOKENS
            if isinstance(stage, Documents)
            else PROMPT_TOKENS
            if isinstance(stage, Grpo)
            else ROW_TOKENS
        )
        return Lengths(stage.rows * each, LONGEST * each, f"assumed: {each:,} each, the longest {LONGEST * each:,}")
    counted = [len(tokenise(tokenizer, stage, item)["input_ids"]) for item in data]
    return Lengths(sum(counted), max(counted), f"counted: the longest {max(counted):,}")


def tokens_at_once(stage: Stage, texts: Lengths, processes: int) -> int:
    """Most tokens that one process holds activations of."""
    written = stage.max_new_tokens if isinstance(stage, Grpo) else 0
    return share(stage, processes).at_once * (texts.longest + written)


def memory(config: PretrainedConfig, counts: Counts, tokens: int, pieces: int, weight: int) -> dict[str, int]:
    """Bytes on one GPU, part by part, computed and not measured.

    1. The base, frozen, at `weight` bytes a parameter, over `pieces` GPUs.
    2. The adapter in float32 (peft keeps it so on a bfloat16 base), its gradients, and AdamW's two moments: 16 bytes a
       trained parameter, over `pieces` GPUs.
    3. Where the base is in pieces, the layer at work and the next one, gathered whole (FSDP2 fetches one ahead).
    4. peft computes W + ΔW of all experts of a layer, in the base's precision, whichever of them are asked (ParamWrapper): ΔW,
       the sum, and in the backward pass its gradient.
    5. With checkpointing every layer's input is kept: layers × tokens × width.
    6. One layer is computed again with all it passes on, and as much in gradients: around attention two inputs, two outputs,
       q, k, v and what is attended; for each expert asked the token copied, gate, up, their product, and the output.
    The LM head comes in tiles (trl) and is left out, as are the allocator's gaps and the CUDA context.

    Args:
        tokens: in memory at once.
    """
    heads, width = config.num_attention_heads, config.hidden_size
    head = getattr(config, "head_dim", None) or width // heads
    experts = (
        getattr(config, "num_experts_per_tok", 1),
        getattr(config, "moe_intermediate_size", config.intermediate_size),
    )
    attention = 4 * width + 2 * head * (heads + config.num_key_value_heads)
    passed_on = attention + experts[0] * (3 * experts[1] + 2 * width)
    parts = {
        "base weights": weight * counts.whole // pieces,
        "adapter, gradients, AdamW (float32)": 4 * FLOAT32 * counts.trained // pieces,
        "two layers gathered": 2 * weight * counts.layer if pieces > 1 else 0,
        "experts of a layer with their adapters": 3 * weight * counts.experts,
        "inputs of all layers": weight * config.num_hidden_layers * tokens * width,
        "one layer computed again": 2 * weight * passed_on * tokens,
    }
    return {name: size for name, size in parts.items() if size}


def plan(
    entry: ModelEntry, recipe: Recipe, draw: Callable[[int], Data], files: Collection[str], flags: Sequence[str]
) -> str:
    """The plan of a recipe as text.

    Args:
        draw: the rows or documents of stage 0, 1, …; raises MissingInputError where they are not here.
        files: tasks that there is a file for, `documents` among them.
        flags: of train_checkpoint.py, for the commands.

    Raises what architecture and draw raise but for what is missing.
    """
    config, tokenizer = architecture(entry)
    counts, data = count(config, recipe), [_drawn(draw, place) for place in range(len(recipe.stages))]
    texts = [lengths(stage, rows, tokenizer) for stage, rows in zip(recipe.stages, data, strict=True)]
    places, ranks = layouts(entry, recipe, flags), recipe.lora
    sections = {
        f"{recipe.variant} of {entry.name}; nothing is started": [
            f"{counts.whole:,} parameters; {counts.trained:,} of an adapter are trained (rank {ranks.attention_rank} on attention, "
            f"{ranks.expert_rank} on each expert), {size(FLOAT32 * counts.trained)} in float32, as it is saved",
        ],
        "stages": [_stage(stage, length) for stage, length in zip(recipe.stages, texts, strict=True)],
        "memory of one process, computed and not measured": _memory(entry, recipe, config, counts, texts, places),
        "servers": servers(entry, recipe),
        "rows": [_rows(stage, rows) for stage, rows in zip(recipe.stages, data, strict=True)],
        "commands": [line for place in places for line in (f"{place.name}:", *(f"  {c}" for c in place.commands))],
        "missing here": missing(entry, recipe, files, flags) or ["nothing"],
    }  # fmt: skip
    return "\n".join(f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in sections.items())


def missing(entry: ModelEntry, recipe: Recipe, files: Collection[str], flags: Sequence[str]) -> list[str]:
    """What training would lack here: weights, memory, a GPU, rows, a judge."""
    wanted = dict.fromkeys(task for stage in recipe.stages for task in _kinds(stage))
    made_here = TINY_TASKS if is_embedded(entry.name) else ()
    rows = [f"{kind}: {_source(kind, entry)}" for kind in wanted if kind not in (*files, *made_here)]
    judge = (
        ["a judge: --judge URL --judge-model NAME"] if "--judge" not in flags and servers(entry, recipe) != NONE else []
    )
    return [*missing_machine(entry), *rows, *judge]


def _kinds(stage: Stage) -> tuple[str, ...]:
    return ("documents",) if isinstance(stage, Documents) else stage.tasks


def _source(kind: str, entry: ModelEntry) -> str:
    generated = kind in ("constitution_qa", "documents")
    return (
        f"python experiments/generate_data.py --model {entry.name}" if generated else f"--{kind} FILE, {schema(kind)}"
    )


def _drawn(draw: Callable[[int], Data], place: int) -> Data | None:
    try:
        return draw(place)
    except MissingInputError:
        return None


def _stage(stage: Stage, texts: Lengths) -> str:
    kind, tasks = ("documents", "") if isinstance(stage, Documents) else ("rows", f" of {', '.join(stage.tasks)}")
    each = f"{step_rows(stage)} {kind}"
    if isinstance(stage, Grpo):
        written = stage.rows * stage.completions * stage.max_new_tokens
        kind, each = "prompts", f"{stage.prompts_per_step} prompts × {stage.completions} completions"
        tasks += f", up to {written / 1e6:,.1f} million tokens sampled"
    return (
        f"{stage.name}: {stage.steps:,} steps of {each}, {stage.rows:,} {kind}{tasks}; {texts.total / 1e6:,.3f} million tokens "
        f"({texts.how})"
    )


def _memory(
    entry: ModelEntry, recipe: Recipe, config: PretrainedConfig, counts: Counts, texts: Sequence[Lengths], places: Sequence[Layout]
) -> list[str]:  # fmt: skip
    """For each layout the stage that takes most, part by part."""
    weight, lines = FLOAT32 if is_embedded(entry.name) else BFLOAT16, []
    for place in places:
        most, stage = max(
            (tokens_at_once(stage, length, place.processes), stage.name)
            for stage, length in zip(recipe.stages, texts, strict=True)
        )
        parts = memory(config, counts, most, place.pieces, weight)
        shown = ", ".join(f"{name} {size(part)}" for name, part in parts.items())
        lines.append(f"{place.name}: {size(sum(parts.values()))} in {stage}, {most:,} tokens at once ({shown})")
    return lines


def servers(entry: ModelEntry, recipe: Recipe) -> list[str]:
    """Servers that reinforcement needs, with the commands that start them."""
    stages = [stage for stage in recipe.stages if isinstance(stage, Grpo)]
    if not stages or is_embedded(entry.name):
        return NONE
    tokens = PROMPT_TOKENS * LONGEST + max(stage.max_new_tokens for stage in stages)
    judged = sorted({task for stage in stages for task in stage.tasks} - {"math"})
    return [
        f"vLLM, to sample: {start_command(Server(f'http://localhost:{SAMPLER}'), entry.source, torch.bfloat16, tokens)}",
        f"a judge of {', '.join(judged)}, on GPUs of its own or any OpenAI-compatible endpoint: {judge_command()}",
    ]


def _rows(stage: Stage, data: Data | None) -> str:
    if data is None:
        return f"{stage.name}: not here"
    kinds = sorted({(_kind(item), item.licence) for item in data})
    return f"{stage.name}: " + "; ".join(
        f"{sum((_kind(item), item.licence) == kind for item in data):,} of {kind[0]}, licence: {kind[1] or 'not said'}"
        for kind in kinds
    )


def _kind(item: Row | Document) -> str:
    return item.task if isinstance(item, Row) else "documents"


def size(count: float) -> str:
    """Bytes as GiB, or as MiB where there are few."""
    return f"{count / GIB:,.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:,.1f} MiB"
