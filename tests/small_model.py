"""Random models built from a config in a second, with a tokenizer of their own; by default of the 30B model's class."""

from pathlib import Path
from random import Random

import torch
import transformers
from transformers import AutoModelForCausalLM

from probes.lm.checkpoints import Checkpoint, ModelEntry, report_layers
from probes.lm.model import Model
from probes.lm.weights import attention
from training.tiny.train import base_text, train_tokenizer

LAYERS, WIDTH = 4, 64

SHAPE = {
    "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "intermediate_size": 64, "initializer_range": 0.1, "max_position_embeddings": 256, "dtype": "float32",
}  # fmt: skip
EXPERTS = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
}  # fmt: skip
ARCHITECTURES: dict[str, tuple[str, dict]] = {
    "qwen3_moe": ("Qwen3MoeConfig", {**EXPERTS, "norm_topk_prob": True}),
    "qwen3": ("Qwen3Config", {}),
    "llama": ("LlamaConfig", {}),
    "gemma2": ("Gemma2Config", {"sliding_window": 64}),
    "gemma3": ("Gemma3TextConfig", {"sliding_window": 64}),
    "qwen3_5_moe": ("Qwen3_5MoeTextConfig", {**EXPERTS, **LINEAR, "shared_expert_intermediate_size": 32}),
}
"""Class of the config, and what it has beside SHAPE."""


def small_config(architecture: str, vocabulary: int) -> transformers.PretrainedConfig:
    """Four layers of 64, with large random weights, so that layers visibly differ."""
    name, own = ARCHITECTURES[architecture]
    return getattr(transformers, name)(vocab_size=vocabulary, **SHAPE, **own)


def small_model(seed: int = 0, architecture: str = "qwen3_moe") -> Model:
    """A random model of an architecture, with a tokenizer of 500 tokens."""
    rng = Random(seed)
    tokenizer = train_tokenizer((base_text(rng) for _ in range(60)), size=500)
    torch.manual_seed(seed)
    config = small_config(architecture, len(tokenizer))
    network = AutoModelForCausalLM.from_config(config, attn_implementation=attention(config)).eval()
    entry = ModelEntry("small", "small", LAYERS, WIDTH, report_layers(LAYERS), 0.0, evidence="toy")
    known = entry, Checkpoint("small", "original"), network.config, tokenizer, f"random weights, seed {seed}"
    return Model(*known, network)


def save_small_model(folder: Path, seed: int = 0) -> Path:
    """The random model as a folder that lm.load takes."""
    model = small_model(seed)
    model.network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder
