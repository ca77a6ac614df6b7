"""A random Qwen3-MoE built from a config in a second, with a tokenizer of its own: the same class as the 30B model."""

from pathlib import Path
from random import Random

import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from probes.lm.checkpoints import Checkpoint, ModelEntry, report_layers
from probes.lm.model import Model
from training.tiny.train import base_text, train_tokenizer

LAYERS, WIDTH = 4, 64


def small_model(seed: int = 0) -> Model:
    """Four layers of 64 with large random weights, so that layers visibly differ."""
    rng = Random(seed)
    tokenizer = train_tokenizer((base_text(rng) for _ in range(60)), size=500)
    torch.manual_seed(seed)
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, intermediate_size=64, moe_intermediate_size=32, num_experts=4,  # pyright: ignore
        num_experts_per_tok=2, norm_topk_prob=True, initializer_range=0.1, max_position_embeddings=256, dtype="float32",
    )  # fmt: skip
    network = Qwen3MoeForCausalLM(config).eval()
    entry = ModelEntry("small", "small", LAYERS, WIDTH, report_layers(LAYERS), 0.0, evidence="toy")
    return Model(entry, Checkpoint("small", "original"), network, tokenizer, f"random weights, seed {seed}")


def save_small_model(folder: Path, seed: int = 0) -> Path:
    """The random model as a folder that lm.load takes."""
    model = small_model(seed)
    model.network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder
