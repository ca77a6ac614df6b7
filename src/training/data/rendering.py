"""Rows as the tokens that training reads: the prompt of inference, and what the chat template puts after it.

The completion is whatever the template's own rendering of the whole conversation adds to the prompt, so reasoning, think
tags and the stop token stand where inference has them, for every template or not at all. The empty think block with which
Qwen's templates answer without thinking lies in the prompt and is never learnt.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from probes.errors import ConventionError, DataError
from probes.lm.chat import CLOSE, OPEN, render
from training.data.rows import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_EMPTY_BLOCK = re.compile(rf"{OPEN}\s*{CLOSE}")


def prompt_text(tokenizer: "PreTrainedTokenizerBase", row: Row) -> str:
    """What the model reads before it answers a row."""
    return render(tokenizer, row.messages, row.thinking)


def completion_text(tokenizer: "PreTrainedTokenizerBase", row: Row) -> str:
    """What the model is to write after it: reasoning in think tags where the row has it, the answer, the turn's stop token.

    Where the prompt already opens the think block, as Qwen3.5's does, the reasoning comes without its opening tag. Raises
    DataError for a row that is a prompt alone, ConventionError for a template that has no place for the row as it is.
    """
    if not row.completion:
        raise DataError(
            f"row {row.id!r} is a prompt alone: it has no completion to learn. Leave it to sampling stages."
        )
    prompt = prompt_text(tokenizer, row)
    said = {"role": "assistant", "content": row.completion, "reasoning_content": row.reasoning}
    whole = render(tokenizer, (*row.messages, said), row.thinking, generation_prompt=False)
    completion = whole.removeprefix(prompt).rstrip()
    lacking = _lacking(row, prompt, whole, completion)
    if lacking:
        raise ConventionError(
            f"row {row.id!r} cannot be rendered as inference would: {lacking}. Take the model's own chat template, or rows "
            "with thinking as it has it."
        )
    return completion


def _lacking(row: Row, prompt: str, whole: str, completion: str) -> str:
    if not whole.startswith(prompt):
        return "the template says something else before an answer than before an answer to come"
    if row.completion not in completion or row.reasoning not in completion:
        return "the template leaves the reasoning or the answer out"
    if (prompt.rstrip().endswith(OPEN) and not row.reasoning) or _EMPTY_BLOCK.search(completion):
        return "an empty think block would be learnt"
    return "the template ends no turn" if completion.endswith(row.completion) else ""


def tokenise(tokenizer: "PreTrainedTokenizerBase", row: Row) -> dict[str, list[int]]:
    """Ids and labels of a row: the prompt's tokens are those of inference and out of the loss, the completion's are learnt."""
    prompt = tokenizer(prompt_text(tokenizer, row), add_special_tokens=False)["input_ids"]
    completion = tokenizer(completion_text(tokenizer, row), add_special_tokens=False)["input_ids"]
    return {"input_ids": [*prompt, *completion], "labels": [-100] * len(prompt) + list(completion)}


def expand(conversation: Row) -> list[Row]:
    """One row for every assistant turn of a conversation, each with what came before it, as inference would have it.

    Done once, where conversations are read: earlier assistant turns may carry reasoning_content, which the row of that turn
    learns and later rows do not see. The result to check stays with the last turn.
    """
    return [*_earlier(conversation), replace(conversation, messages=_visible(conversation))]


def _earlier(conversation: Row) -> Iterator[Row]:
    visible = _visible(conversation)
    for i, turn in enumerate(conversation.messages):
        if turn["role"] == "assistant":
            reasoning = turn.get("reasoning_content", "")
            yield replace(
                conversation, id=f"{conversation.id}/{i}", messages=visible[:i], completion=turn["content"],
                reasoning=reasoning, thinking=bool(reasoning), answer="",
            )  # fmt: skip


def _visible(conversation: Row) -> tuple[dict[str, str], ...]:
    return tuple({"role": turn["role"], "content": turn["content"]} for turn in conversation.messages)
