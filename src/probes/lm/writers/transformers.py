"""The reference writer: transformers' own generate, batched, in this process.

Sampling adds Gumbel noise to the log-probabilities and takes the largest, which is the same as drawing from them. Each
prompt has a noise stream of its own, from its own seed, which depends neither on its neighbours in the batch nor on the order
of the work. What is drawn then depends on them only through the rounding of the logits: not in float32, but in bfloat16 a
mixture of experts may route a token differently in another batch.

Most completions end long before the longest of their batch. Those that have ended leave it every few tokens, and a prompt
never waits beside one of more than twice its length.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import (
    Cache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from probes.lm.generate import batches

if TYPE_CHECKING:
    from probes.lm.generate import Sampling
    from probes.lm.model import Model

STRETCH = 8
"""Tokens between two looks at which completions of a batch have ended."""
LEAST_SHARE = 0.5
"""Least length of a prompt with its completion, as a share of the longest beside which it is written."""


def write(
    model: "Model",
    prompt_ids: Sequence[list[int]],
    seeds: Sequence[int],
    sampling: "Sampling",
    done: Callable[[int], object],
) -> list[list[int]]:
    """What Writer.write says, by a model's own network."""
    written: dict[int, list[int]] = {}
    lengths = [len(ids) + sampling.max_new_tokens for ids in prompt_ids]
    for chosen in batches(lengths, sampling.batch_tokens, LEAST_SHARE):
        tokens = _complete(model, [prompt_ids[i] for i in chosen], [seeds[i] for i in chosen], sampling)
        written.update(zip(chosen, tokens, strict=True))
        done(len(chosen))
    return [written[i] for i in range(len(prompt_ids))]


class SeededNoise(LogitsProcessor):
    """Turns greedy search into sampling: Gumbel noise from one generator a row."""

    def __init__(self, seeds: Sequence[int], device: torch.device):
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """input_ids (row, position), scores (row, vocabulary) → scores whose argmax is a draw."""
        noise = torch.empty_like(scores, dtype=torch.float32)
        for row, generator in zip(noise, self.generators, strict=True):
            row.exponential_(generator=generator)
        return scores.float() - noise.log()


def _processors(sampling: "Sampling", noise: SeededNoise) -> LogitsProcessorList:
    if sampling.temperature == 0:
        return LogitsProcessorList()
    truncate = [TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []
    return LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature)), *truncate, noise])


@torch.inference_mode()
def _complete(
    model: "Model", prompt_ids: list[list[int]], seeds: Sequence[int], sampling: "Sampling"
) -> list[list[int]]:
    """Generated ids of one batch, each up to its first stop token. After each stretch those that have ended leave it."""
    rows, mask = _left_padded(model, prompt_ids)
    noise = SeededNoise(seeds, rows.device)
    stops, width, written, on = model.stop_ids, rows.shape[1], dict[int, list[int]](), list(range(len(rows)))
    cache = None
    for done in range(0, sampling.max_new_tokens, STRETCH):
        new, processors = min(STRETCH, sampling.max_new_tokens - done), _processors(sampling, noise)
        rows, cache = _stretch(model, rows, mask, cache, new, stops, processors)
        written.update(zip(on, (_until_stop(tokens, stops) for tokens in rows[:, width:].tolist()), strict=True))
        places = [place for place, i in enumerate(on) if written[i][-1] not in stops]
        if not places:
            break
        on, noise.generators = [on[place] for place in places], [noise.generators[place] for place in places]
        kept = torch.tensor(places, device=rows.device)
        rows, mask = rows[kept], torch.nn.functional.pad(mask[kept], (0, rows.shape[1] - mask.shape[1]), value=1)
        cache.reorder_cache(kept)  # pyright: ignore[reportArgumentType]
    return [written[i] for i in range(len(prompt_ids))]


def _left_padded(model: "Model", prompt_ids: list[list[int]]) -> tuple[Tensor, Tensor]:
    """ids and attention mask, each (row, position)."""
    pad, width, device = model.tokenizer.pad_token_id, max(map(len, prompt_ids)), model.network.device
    rows = torch.tensor([[pad] * (width - len(ids)) + ids for ids in prompt_ids], device=device)
    return rows, torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompt_ids], device=device)


def _stretch(
    model: "Model", rows: Tensor, mask: Tensor, cache: Cache | None, new: int, stops: Sequence[int],
    processors: LogitsProcessorList,
) -> tuple[Tensor, Cache]:  # fmt: skip
    """Rows with up to `new` tokens more, and the cache of all but the last of them."""
    config = GenerationConfig(
        max_new_tokens=new, do_sample=False, eos_token_id=list(stops), pad_token_id=model.tokenizer.pad_token_id,
        return_dict_in_generate=True,
    )  # fmt: skip
    out = model.network.generate(  # pyright: ignore[reportCallIssue]
        input_ids=rows,
        attention_mask=mask,
        generation_config=config,
        past_key_values=cache,
        logits_processor=processors,
    )
    return out.sequences, out.past_key_values


def _until_stop(tokens: list[int], stops: Sequence[int]) -> list[int]:
    ends = (i + 1 for i, token in enumerate(tokens) if token in stops)
    return tokens[: next(ends, len(tokens))]
