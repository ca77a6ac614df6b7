"""What benchmarks run on: the embedded model, or random weights in the shape of Qwen3-30B-A3B, and texts of random tokens.

How long a pass takes does not hang on what weights and tokens say, but for the routing of experts; both are random here.
"""

from argparse import ArgumentParser
from dataclasses import replace

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3MoeConfig

from probes.errors import DataError
from probes.lm.capture import Passage
from probes.lm.checkpoints import MODELS, PACKAGED, Checkpoint, ModelEntry
from probes.lm.model import Model, load
from results import result_parser

SHAPES = ("tiny", "qwen3-30b-a3b")
MEDIAN, SPREAD = 180, 0.2
"""Tokens of a text, log-normal: 1,539 published stories have a median of 135 words, nine in ten of them 108 to 216."""
SHORTEST, LONGEST = 60, 512
"""Bounds of their length: the least words and most tokens that a story of the preset `paper` may have."""
START_TOKEN = 50
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def shape_parser(description: str | None) -> ArgumentParser:
    """The flags of a benchmark that runs at more than one size."""
    parser = result_parser(description)
    parser.add_argument("--shape", choices=SHAPES, default="tiny", help="the embedded model, or random weights")
    parser.add_argument("--layers", type=int, help="number of layers of qwen3-30b-a3b; default all 48")
    return parser


def shape_of(name: str, layers: int | None) -> ModelEntry:
    """Name and size; one of fewer layers says so in its name. Raises DataError for layers of the embedded model."""
    entry = MODELS[name]
    if layers is None or layers == entry.layers:
        return entry
    if name == "tiny":
        raise DataError(
            f"{layers} layers of the embedded model, which has {entry.layers}; --layers is for random weights."
        )
    return replace(entry, name=f"{name}-{layers}-layers", layers=layers)


def load_shape(entry: ModelEntry, seed: int) -> Model:
    """The embedded model, or random weights; float32 on a CPU and bfloat16 on a GPU."""
    return load("tiny") if entry.name == "tiny" else random_weights(entry, seed)


def random_weights(entry: ModelEntry, seed: int) -> Model:
    """Qwen3-30B-A3B but for its number of layers, and for the tokenizer, which is the embedded model's."""
    config = Qwen3MoeConfig(
        vocab_size=151_936, hidden_size=entry.width, num_hidden_layers=entry.layers, num_attention_heads=32,
        num_key_value_heads=4, head_dim=128, intermediate_size=6144, moe_intermediate_size=768, num_experts=128,  # pyright: ignore
        num_experts_per_tok=8, norm_topk_prob=True, max_position_embeddings=40_960, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
    )  # fmt: skip
    torch.manual_seed(seed)
    with torch.device(DEVICE):
        network = AutoModelForCausalLM.from_config(config, dtype=torch.float32 if DEVICE == "cpu" else torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(PACKAGED / "instruct")
    known = entry, Checkpoint(entry.name, "original"), network.config, tokenizer, f"random weights, seed {seed}"
    return Model(*known, network.eval())


def lengths(texts: int, seed: int) -> list[int]:
    """Tokens of some texts, in the order they arrive."""
    drawn = np.random.default_rng(seed).lognormal(np.log(MEDIAN), SPREAD, texts)
    return np.clip(drawn.round(), SHORTEST, LONGEST).astype(int).tolist()


def random_passages(model: Model, texts: int, seed: int) -> list[Passage]:
    """Texts of random tokens that the tokenizer knows, pooled from the 50th on."""
    rng, known = np.random.default_rng(seed), len(model.tokenizer)
    return [Passage(rng.integers(known, size=n).tolist(), range(START_TOKEN, n)) for n in lengths(texts, seed)]


def describe(model: Model) -> dict[str, str | int]:
    """The model's size and kind, for a results file."""
    return {
        "name": model.name, "layers": model.entry.layers, "width": model.entry.width,
        "parameters": model.network.num_parameters(), "dtype": str(model.network.dtype),
    }  # fmt: skip
