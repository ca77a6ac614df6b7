"""Write completions: batched, seeded by unit of work, with stop reasons and with reasoning split off.

Sampling adds Gumbel noise to the log-probabilities and takes the largest, which is the same as drawing from them. Each
unit has a noise stream of its own, seeded by the seed and the unit's name, which depends neither on its neighbours in the
batch nor on the order of the work. What is drawn then depends on them only through the rounding of the logits: not in
float32, but in bfloat16 a mixture of experts may route a token differently in another batch.

Most completions end long before the longest of their batch. Those that have ended leave it every few tokens, and a prompt
never waits beside one of more than twice its length.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import (
    Cache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from probes.errors import ConventionError, DataError
from probes.lm.chat import Spans, Split, split_reasoning, token_spans
from probes.lm.model import Model
from probes.parts import Parts, own, units


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn."""

    max_new_tokens: int = 512
    """A completion that reaches this many tokens has stop reason `length`."""
    temperature: float = 1.0
    """0 takes the most probable token always."""
    top_p: float = 1.0
    """Least set of tokens with this probability mass to draw from."""
    seed: int = 0
    """Seed of all noise streams."""
    batch_tokens: int = 32_768
    """Prompt and completion tokens, padding included, that one batch may hold."""

    def __post_init__(self):
        if not 0 <= self.temperature < float("inf") or not 0 < self.top_p <= 1 or self.max_new_tokens < 1:
            raise DataError(
                f"temperature {self.temperature}, top_p {self.top_p}, max_new_tokens {self.max_new_tokens}: temperature is "
                "0 or more and finite, top_p in (0, 1], max_new_tokens 1 or more."
            )
        _check_budget(self.batch_tokens)


@dataclass(frozen=True)
class Completion:
    """One completion of one prompt."""

    prompt_ids: list[int]
    token_ids: list[int]
    """Generated ids, the stop token included."""
    stop_reason: Literal["stop", "length"]
    split: Split
    spans: Spans
    """Ranges into prompt_ids + token_ids."""

    @property
    def answer(self) -> str:
        """The visible answer; empty unless the split's status is ok."""
        return self.split.answer


STRETCH = 8
"""Tokens between two looks at which completions of a batch have ended."""
LEAST_SHARE = 0.5
"""Least length of a prompt with its completion, as a share of the longest beside which it is written."""
UNIT = 512
"""Prompts of one unit of a resumable run. Batches never cross units, so that what is drawn does not depend on kills."""


def generate(
    model: Model,
    prompts: Sequence[str],
    sampling: Sampling,
    keys: Sequence[str] | None = None,
    label: str = "generate",
    parts: Parts | None = None,
) -> list[Completion]:
    """Complete rendered prompts, in the order given.

    Args:
        keys: names of the units of work, which seed their noise; by default their positions.
        label: what the progress bar says; without one there is none.
        parts: where finished units are kept, for a run that goes on after a kill.

    Raises DataError when there is no prompt, keys repeat, or a prompt is empty or leaves no room for a completion.
    """
    keys = list(keys) if keys is not None else [str(i) for i in range(len(prompts))]
    if not prompts or len(set(keys)) != len(prompts):
        raise DataError(
            f"need at least one prompt and a key of its own for each: got {len(prompts)} and {len(set(keys))}."
        )
    prompt_ids: list[list[int]] = [model.tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    _check_room(model, prompt_ids, sampling.max_new_tokens)
    stops, rows, work = stop_ids(model), [], own(units(range(len(prompts)), UNIT), parts)
    with tqdm(
        total=sum(len(unit) for _, unit in work), desc=f"{label} ({model.address})", mininterval=1, disable=not label
    ) as bar:
        for number, unit in work:
            make = partial(_write_unit, model, prompt_ids, keys, sampling, unit, bar)
            rows += parts.rows(f"completions-{number:06d}", make, ("key", "token_ids")) if parts else make()
            bar.update(len(rows) - bar.n)  # a unit that was read back counts too
    if parts:
        parts.end_of_share()
    if [row["key"] for row in rows] != keys:
        raise ConventionError(
            "the parts of this run hold other units of work than those asked for. Remove them and run again."
        )
    return [_completion(model, ids, row["token_ids"], stops) for ids, row in zip(prompt_ids, rows, strict=True)]


def _write_unit(
    model: Model, prompt_ids: list[list[int]], keys: list[str], sampling: Sampling, unit: Sequence[int], bar: tqdm
) -> list[dict[str, Any]]:
    """Records of some prompts, in their order: key and generated ids."""
    written: dict[int, list[int]] = {}
    lengths = [len(prompt_ids[i]) + sampling.max_new_tokens for i in unit]
    for rows in batches(lengths, sampling.batch_tokens, LEAST_SHARE):
        chosen = [unit[row] for row in rows]
        tokens = _complete(model, [prompt_ids[i] for i in chosen], [keys[i] for i in chosen], sampling)
        written.update(zip(chosen, tokens, strict=True))
        bar.update(len(chosen))
    return [{"key": keys[i], "token_ids": written[i]} for i in unit]


def batches(lengths: Sequence[int], budget: int, least_share: float = 0.0) -> list[list[int]]:
    """Positions grouped by length, longest first, so that each padded group holds at most `budget` tokens.

    A text longer than the budget goes alone, and none goes with one of which it has not `least_share` of the length.
    Raises DataError for a budget under 1.
    """
    _check_budget(budget)
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    groups: list[list[int]] = []
    for i in order:
        longest = lengths[groups[-1][0]] if groups else 0
        if groups and (len(groups[-1]) + 1) * longest <= budget and lengths[i] >= least_share * longest:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _check_budget(batch_tokens: int) -> None:
    if batch_tokens < 1:
        raise DataError(f"batch_tokens is {batch_tokens}; 1 or more tokens are needed, and a longer text goes alone.")


def stop_ids(model: Model) -> list[int]:
    """Tokens that end a turn or a document. Looked up once a batch: a vocabulary is slow to list."""
    names = sorted({str(model.tokenizer.eos_token or "<|im_end|>"), "<|im_end|>", "<|endoftext|>"})
    ids = model.tokenizer.convert_tokens_to_ids(names)
    assert isinstance(ids, list)
    return sorted({token for token in ids if token is not None and token != model.tokenizer.unk_token_id})


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


def _seed_of(key: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:8], "big") >> 1


def _processors(sampling: Sampling, noise: SeededNoise) -> LogitsProcessorList:
    if sampling.temperature == 0:
        return LogitsProcessorList()
    truncate = [TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []
    return LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature)), *truncate, noise])


@torch.inference_mode()
def _complete(model: Model, prompt_ids: list[list[int]], keys: Sequence[str], sampling: Sampling) -> list[list[int]]:
    """Generated ids of one batch, each up to its first stop token. After each stretch those that have ended leave it."""
    rows, mask = _left_padded(model, prompt_ids)
    noise = SeededNoise([_seed_of(key, sampling.seed) for key in keys], rows.device)
    stops, width, written, on = stop_ids(model), rows.shape[1], dict[int, list[int]](), list(range(len(rows)))
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


def _left_padded(model: Model, prompt_ids: list[list[int]]) -> tuple[Tensor, Tensor]:
    """ids and attention mask, each (row, position)."""
    pad, width, device = model.tokenizer.pad_token_id, max(map(len, prompt_ids)), model.network.device
    rows = torch.tensor([[pad] * (width - len(ids)) + ids for ids in prompt_ids], device=device)
    return rows, torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompt_ids], device=device)


def _stretch(
    model: Model, rows: Tensor, mask: Tensor, cache: Cache | None, new: int, stops: list[int],
    processors: LogitsProcessorList,
) -> tuple[Tensor, Cache]:  # fmt: skip
    """Rows with up to `new` tokens more, and the cache of all but the last of them."""
    config = GenerationConfig(
        max_new_tokens=new, do_sample=False, eos_token_id=stops, pad_token_id=model.tokenizer.pad_token_id,
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


def _until_stop(tokens: list[int], stops: list[int]) -> list[int]:
    ends = (i + 1 for i, token in enumerate(tokens) if token in stops)
    return tokens[: next(ends, len(tokens))]


def _completion(model: Model, prompt_ids: list[int], token_ids: list[int], stops: list[int]) -> Completion:
    tail, text = model.tokenizer.decode(prompt_ids[-16:]), model.tokenizer.decode(token_ids)
    assert isinstance(tail, str)  # decode gives a list for a batch only
    assert isinstance(text, str)
    split = split_reasoning(tail, text)
    spans = token_spans(model.tokenizer, prompt_ids, token_ids)
    return Completion(prompt_ids, token_ids, "stop" if token_ids[-1] in stops else "length", split, spans)


def _check_room(model: Model, prompt_ids: list[list[int]], new: int) -> None:
    empty = [i for i, ids in enumerate(prompt_ids) if not ids]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(prompt_ids)} prompts (first: #{empty[0]}) have no token; give each a text."
        )
    long = [i for i, ids in enumerate(prompt_ids) if len(ids) + new > model.max_tokens]
    if long:
        longest = max(len(prompt_ids[i]) for i in long)
        raise DataError(
            f"{len(long)} of {len(prompt_ids)} prompts (first: #{long[0]}; longest: {longest} tokens) with {new} new tokens "
            f"exceed the {model.max_tokens} tokens of {model.name}. Shorten them or lower max_new_tokens."
        )
