"""Train the embedded model: python -m training.tiny.train --out NEW_FOLDER

Writes NEW_FOLDER/base and NEW_FOLDER/instruct: a Qwen3-MoE language model trained on plain documents, and the same
model trained on from there on conversations. About 50 minutes on one core. The shipped weights come from these settings;
another version of torch, or another corpus, gives other weights.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Literal

import torch
import tyro
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen3MoeConfig, Qwen3MoeForCausalLM

from training.tiny import corpus

Stage = Literal["base", "instruct"]
IGNORED = -100
END, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
# The split that Qwen's tokenizers use: line breaks are tokens of their own.
WORD_PATTERN = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


@dataclass(frozen=True)
class Settings:
    """How the embedded model is trained."""

    out: Path
    """Folder to write base/ and instruct/ to; must not exist."""
    base_steps: int = 700
    """Optimizer steps of the base stage."""
    instruct_steps: int = 1900
    """Optimizer steps of the instruct stage."""
    rows: int = 16
    """Rows a step."""
    length: int = 256
    """Tokens a row."""
    learning_rate: float = 3e-3
    """Peak rate of the base stage; the instruct stage takes two thirds of it."""
    seed: int = 0
    """Seed of weights and corpus."""
    threads: int = 1
    """Threads of torch."""


def architecture(vocabulary: int) -> Qwen3MoeConfig:
    """Eight layers of the class that serves Qwen3-30B-A3B; head_dim 32 is the least vLLM's CPU attention takes."""
    return Qwen3MoeConfig(
        vocab_size=vocabulary, hidden_size=128, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2,
        head_dim=32,  # pyright: ignore[reportCallIssue]  # taken as an extra keyword; the attention reads it
        intermediate_size=256, moe_intermediate_size=128, num_experts=8, num_experts_per_tok=2,
        norm_topk_prob=True, tie_word_embeddings=True, max_position_embeddings=2048, router_aux_loss_coef=0.02,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4}, use_cache=True, dtype="float32",
    )  # fmt: skip


def train_tokenizer(texts: Iterator[str], size: int = 4096) -> PreTrainedTokenizerFast:
    """Byte-level BPE with Qwen's control tokens and this package's own chat template."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(WORD_PATTERN), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [END, TURN_START, TURN_END]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size - 2, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in ("<think>", "</think>")])
    template = files("probes.lm").joinpath("tiny/chat_template.jinja").read_text(encoding="utf-8")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=TURN_END, pad_token=END, chat_template=template, model_max_length=2048
    )


def base_text(rng: Random) -> str:
    """A plain document of the base stage."""
    return corpus.draw(rng, corpus.BASE_MIX)


def chat_parts(rng: Random, tokenizer: PreTrainedTokenizerFast) -> tuple[str, str]:
    """A conversation as the prompt of its last turn and that turn."""
    messages = corpus.draw(rng, corpus.INSTRUCT_MIX)
    thinking = "reasoning_content" in messages[-1]
    prompt = tokenizer.apply_chat_template(
        messages[:-1], tokenize=False, add_generation_prompt=True, enable_thinking=thinking
    )
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    assert isinstance(prompt, str)
    assert isinstance(whole, str)
    return prompt, whole.removeprefix(prompt)


def instruct_text(rng: Random, tokenizer: PreTrainedTokenizerFast) -> str:
    """A rendered conversation."""
    return "".join(chat_parts(rng, tokenizer))


def document(rng: Random, stage: Stage, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """Ids and labels of a document. A conversation's prompt is not in the loss; the instruct stage keeps one plain
    document in eight, so that raw text stays familiar."""
    end = tokenizer.convert_tokens_to_ids(END)
    assert isinstance(end, int)
    if stage == "base" or rng.random() < 0.125:
        ids = [*tokenizer(base_text(rng))["input_ids"], end]
        return ids, ids
    prompt, answer = (tokenizer(text)["input_ids"] for text in chat_parts(rng, tokenizer))
    return [*prompt, *answer, end], [IGNORED] * len(prompt) + [*answer, end]


def rows(
    stage: Stage, tokenizer: PreTrainedTokenizerFast, length: int, seed: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Endless rows of ids and labels; rows begin with a document, and only their last one may be cut."""
    rng = Random(f"{stage} {seed}")
    while True:
        ids: list[int] = []
        labels: list[int] = []
        while len(ids) < length:
            more_ids, more_labels = document(rng, stage, tokenizer)
            ids, labels = ids + more_ids, labels + more_labels
        yield ids[:length], labels[:length]


def rate(step: int, steps: int) -> float:
    """Share of the peak rate: short warm-up, constant, linear decay over the last three tenths."""
    return min(1.0, (step + 1) / 50, (steps - step) / (0.3 * steps))


def optimizer(model: Qwen3MoeForCausalLM, peak: float) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves vectors alone."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95))


def train_step(model: Qwen3MoeForCausalLM, ids: Tensor, labels: Tensor, adam: torch.optim.AdamW) -> float:
    """One step of next-token loss plus the router's balance loss; returns the loss."""
    loss = model(input_ids=ids, labels=labels, use_cache=False, output_router_logits=True).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()
    adam.zero_grad(set_to_none=True)
    return loss.item()


def train_stage(
    model: Qwen3MoeForCausalLM, stage: Stage, tokenizer: PreTrainedTokenizerFast, settings: Settings
) -> list[float]:
    """All steps of a stage; returns the loss of every step."""
    steps, peak = (settings.base_steps, settings.learning_rate) if stage == "base" else (
        settings.instruct_steps, settings.learning_rate * 2 / 3)  # fmt: skip
    adam, source, losses = optimizer(model, peak), rows(stage, tokenizer, settings.length, settings.seed), []
    model.train()
    for step in (bar := tqdm(range(steps), desc=f"train {stage}", mininterval=5)):
        for group in adam.param_groups:
            group["lr"] = peak * rate(step, steps)
        ids, labels = (torch.tensor(part) for part in zip(*(next(source) for _ in range(settings.rows)), strict=True))
        losses.append(train_step(model, ids, labels, adam))
        bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    model.eval()
    return losses


def save(
    model: Qwen3MoeForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    settings: Settings,
    losses: list[float],
) -> None:
    """Weights in fp16, config, tokenizer, and how they came about."""
    model.config.output_router_logits = False  # a checkpoint saved with True breaks in generate
    generation = model.generation_config
    assert generation is not None
    generation.eos_token_id = [tokenizer.convert_tokens_to_ids(t) for t in (TURN_END, END)]
    generation.pad_token_id = tokenizer.pad_token_id
    half = Qwen3MoeForCausalLM(model.config).half()
    half.load_state_dict(model.state_dict())
    half.generation_config = generation
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record = {**asdict(settings), "out": folder.name, "last_losses": [round(loss, 4) for loss in losses[-5:]]}
    (folder / "training.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main(settings: Settings) -> None:
    """Tokenizer, base stage, instruct stage."""
    settings.out.mkdir(parents=True)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    rng = Random(f"tokenizer {settings.seed}")
    bare = train_tokenizer(iter([base_text(rng)]), size=300)  # renders chats before the real vocabulary exists
    tokenizer = train_tokenizer(base_text(rng) if i % 2 else instruct_text(rng, bare) for i in range(40_000))
    model = Qwen3MoeForCausalLM(architecture(len(tokenizer)))
    model.set_experts_implementation("eager")  # the fastest of the three on a CPU at this width
    stages: tuple[Stage, ...] = ("base", "instruct")
    for stage in stages:
        losses = train_stage(model, stage, tokenizer, settings)
        save(model, tokenizer, settings.out / stage, settings, losses)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
