"""Let a checkpoint write completions: seeded by unit of work, with stop reasons and with reasoning split off.

Whatever writes (probes.lm.writers) is given token ids and a seed for each prompt, and gives token ids back. The seed comes from
the sampling's seed and the unit's name alone, so that what a unit draws does not depend on its place in the work.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tqdm import tqdm

from probes.errors import ConventionError, DataError
from probes.lm.chat import Spans, Split, split_reasoning, token_spans
from probes.parts import Parts, own, units

if TYPE_CHECKING:
    from probes.lm.writers import Writer


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
    """Prompt and completion tokens, padding included, that one batch of transformers may hold; others batch by themselves."""

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
    written_by: str
    """Library, version and dtype."""

    @property
    def answer(self) -> str:
        """The visible answer; empty unless the split's status is ok."""
        return self.split.answer


ROW = {"key": str, "token_ids": list, "written_by": str}
"""What is kept of a completion in the parts of a run."""


def generate(
    model: "Writer",
    prompts: Sequence[str],
    sampling: Sampling,
    keys: Sequence[str] | None = None,
    label: str = "generate",
    parts: Parts | None = None,
) -> list[Completion]:
    """Complete rendered prompts, in the order given.

    Args:
        model: what lm.load returns, or another writer (probes.lm.writers).
        keys: names of the units of work, which seed their noise; by default their positions.
        label: what the progress bar says; without one there is none.
        parts: where finished units are kept, for a run that goes on after a kill.

    Raises DataError when there is no prompt, keys repeat, or a prompt is empty or leaves no room for a completion;
    ConventionError where parts hold other work or another writer's, or what was written is not what was asked for.
    """
    keys = list(keys) if keys is not None else [str(i) for i in range(len(prompts))]
    if not prompts or len(set(keys)) != len(prompts):
        raise DataError(
            f"need at least one prompt and a key of its own for each: got {len(prompts)} and {len(set(keys))}."
        )
    prompt_ids: list[list[int]] = [
        list(model.tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts
    ]
    _check_room(model, prompt_ids, sampling.max_new_tokens)
    asked, rows = list(zip(keys, prompt_ids, strict=True)), []
    work = own(units(asked, model.unit), parts)
    total = sum(len(unit) for _, unit in work)
    with tqdm(total=total, desc=f"{label} ({model.address})", mininterval=1, disable=not label) as bar:
        for number, unit in work:
            make = partial(_write_unit, model, unit, sampling, bar.update)
            rows += _same_work(parts.rows(f"completions-{number:06d}", make, ROW), unit, model) if parts else make()
            bar.update(len(rows) - bar.n)  # a unit that was read back counts too
    if parts:
        parts.end_of_share()
    return [_completion(model, ids, row) for ids, row in zip(prompt_ids, rows, strict=True)]


def _write_unit(
    model: "Writer", unit: Sequence[tuple[str, list[int]]], sampling: Sampling, done: Callable[[int], object]
) -> list[dict[str, Any]]:
    """Records of some keys and prompts, in their order."""
    seeds = [_seed_of(key, sampling.seed) for key, _ in unit]
    written = model.write([ids for _, ids in unit], seeds, sampling, done)
    for token_ids in written:
        _check_written(model, token_ids, sampling.max_new_tokens)
    by = model.written_by
    return [{"key": key, "token_ids": ids, "written_by": by} for (key, _), ids in zip(unit, written, strict=True)]


def _same_work(
    rows: list[dict[str, Any]], unit: Sequence[tuple[str, list[int]]], model: "Writer"
) -> list[dict[str, Any]]:
    """The records of a unit, where they are of this work and this writer, before another unit is written."""
    if [row["key"] for row in rows] != [key for key, _ in unit]:
        raise ConventionError(
            "the parts of this run hold other units of work than those asked for. Remove them and run again."
        )
    others = {row["written_by"] for row in rows} - {model.written_by}
    if others:
        raise ConventionError(
            f"this run was begun by {', '.join(sorted(others))} and would be gone on with by {model.written_by}. Go on with the "
            "one that began it, or choose another --out."
        )
    return rows


def _check_written(model: "Writer", token_ids: list[int], most: int) -> None:
    """Raises ConventionError unless a completion is what every writer owes: up to the first stop token, or to the limit."""
    wrong = _fault(token_ids, model.stop_ids, model.config.get_text_config().vocab_size, most)
    if wrong:
        raise ConventionError(
            f"{model.written_by} wrote {wrong}, which is no completion by {model.address}. See that it runs this model, as a "
            "whole and not as an adapter, with no limits of its own."
        )


def _fault(token_ids: Sequence[int], stops: Sequence[int], vocabulary: int, most: int) -> str:
    """What keeps ids from being a completion of at most so many tokens; empty for a sound one."""
    strange = [token for token in token_ids if type(token) is not int or not 0 <= token < vocabulary]
    if strange:
        return f"ids outside its vocabulary of {vocabulary} (first: {strange[0]!r})"
    if not 1 <= len(token_ids) <= most:
        return f"{len(token_ids)} tokens where 1 to {most} were asked for"
    if any(token in stops for token in token_ids[:-1]):
        return "on after a stop token"
    ended = len(token_ids) == most or token_ids[-1] in stops
    return "" if ended else f"{len(token_ids)} of {most} tokens and ended on none of the stop tokens {[*stops]}"


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


def _seed_of(key: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:8], "big") >> 1


def _completion(model: "Writer", prompt_ids: list[int], row: dict[str, Any]) -> Completion:
    token_ids = row["token_ids"]
    tail, text = model.tokenizer.decode(prompt_ids[-16:]), model.tokenizer.decode(token_ids)
    assert isinstance(tail, str)  # decode gives a list for a batch only
    assert isinstance(text, str)
    split = split_reasoning(tail, text)
    spans = token_spans(model.tokenizer, prompt_ids, token_ids)
    stop = "stop" if token_ids[-1] in model.stop_ids else "length"
    return Completion(prompt_ids, token_ids, stop, split, spans, row["written_by"])


def _check_room(model: "Writer", prompt_ids: list[list[int]], new: int) -> None:
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
