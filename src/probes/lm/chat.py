"""Chats as text and as tokens: render messages, and tell apart prompt, thinking and answer.

Both splitters fail closed: whatever cannot be told apart with certainty yields no answer, so that reasoning never
reaches a judge, a reward or a reading as if it were one.
"""

import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jinja2 import TemplateError

from probes.errors import DataError, FileFormatError, MissingInputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]
"""One turn: role and content, and for an assistant perhaps reasoning_content."""

ROLES = ("system", "user", "assistant")
OPEN, CLOSE = "<think>", "</think>"
STOPS = ("<|im_end|>", "<|endoftext|>")

_STOPS_AT_END = re.compile(rf"(?:(?:{'|'.join(map(re.escape, STOPS))})\s*)+\Z")
_STRAY = re.compile(r"<\s*/?\s*think(?:ing)?\s*/?\s*>|<\|[^<>\n]*\|>", re.IGNORECASE)


@dataclass(frozen=True)
class Split:
    """A completion, split; both texts come without surrounding whitespace."""

    thinking: str
    """The reasoning, without its tags; cut short where status is truncated."""
    answer: str
    """What the user sees; "" unless status is ok."""
    status: Literal["ok", "truncated", "stray_tag", "empty"]
    """truncated: the reasoning never closes; stray_tag: a think tag or control token where the answer should be."""


@dataclass(frozen=True)
class Spans:
    """Positions in prompt_ids + completion_ids, unpadded; an empty range stands for nothing."""

    prompt: range
    """From 0 up to the think block with which the prompt may end."""
    thinking: range
    """Reasoning without its tags and the whitespace around it."""
    answer: range
    """The visible answer without whitespace around it and without stop tokens."""


def render(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    thinking: bool = False,
    generation_prompt: bool = True,
) -> str:
    """The conversation as the model reads it.

    Raises DataError when there are no messages, a role is not system, user or assistant, or a content is no text;
    MissingInputError without a chat template, FileFormatError for one that cannot be rendered.
    """
    if not messages:
        raise DataError("cannot render a conversation of no messages; give at least one, such as a user turn")
    for position, message in enumerate(messages):
        if message.get("role") not in ROLES:
            came = repr(message["role"]) if "role" in message else f"no role, only {sorted(message)}"
            raise DataError(f"message {position} has an unknown role: {came}. Known: {', '.join(ROLES)}.")
        if not isinstance(message.get("content"), str):
            raise DataError(f"message {position} says {message.get('content')!r}; its content must be a text.")
    if not tokenizer.chat_template:
        raise MissingInputError(
            "this tokenizer has no chat template: take an instruct model, or add chat_template.jinja."
        )
    try:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generation_prompt, enable_thinking=thinking
        )
    except TemplateError as error:
        raise FileFormatError(f"the chat template cannot be rendered: {error}. Put the model's own there.") from error
    assert isinstance(text, str)
    return text


def split_reasoning(prompt_tail: str, completion: str) -> Split:
    """Thinking and visible answer of a completion; prompt_tail is the rendered prompt, or at least its end.

    Thinking is open if the prompt ends in <think> or the completion starts with it, and ends at the first </think>.
    Stop tokens at the very end are dropped first.
    """
    text = _STOPS_AT_END.sub("", completion).lstrip()
    if not (text.startswith(OPEN) or prompt_tail.rstrip().endswith(OPEN)):
        return _visible("", text)
    thinking, close, rest = text.removeprefix(OPEN).partition(CLOSE)
    return _visible(thinking.strip(), rest) if close else Split(thinking.strip(), "", "truncated")


def token_spans(
    tokenizer: "PreTrainedTokenizerBase", prompt_ids: Sequence[int], completion_ids: Sequence[int]
) -> Spans:
    """Where prompt, thinking and answer lie in prompt_ids + completion_ids.

    The texts are those of split_reasoning; a span that does not spell its text exactly, as when a model writes a think
    tag out of ordinary tokens, is left empty: range(n, n) with n tokens in all.
    """
    ids, start = [*prompt_ids, *completion_ids], len(prompt_ids)
    end = _end(tokenizer, ids, range(start, len(ids)), _stop_ids(tokenizer))
    opening, closing = _ids(tokenizer, [OPEN]), _ids(tokenizer, [CLOSE])
    text = _decode(tokenizer, ids[start:end])
    split = split_reasoning(_decode(tokenizer, prompt_ids), text)
    first = _find(ids, range(start, end), opening) + 1 if text.lstrip().startswith(OPEN) else start
    close = _find(ids, range(start, end), closing)
    return Spans(
        prompt=range(_block_start(tokenizer, prompt_ids, opening, closing)),
        thinking=_spelling(tokenizer, ids, range(first, close), split.thinking),
        answer=_spelling(tokenizer, ids, range(close + 1 if close < end else start, end), split.answer),
    )


def _visible(thinking: str, rest: str) -> Split:
    """The split of a completion whose text after the thinking is `rest`."""
    if _STRAY.search(rest):
        return Split(thinking, "", "stray_tag")
    return Split(thinking, rest.strip(), "ok" if rest.strip() else "empty")


def _decode(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    text = tokenizer.decode(list(ids), skip_special_tokens=False)
    assert isinstance(text, str)
    return text


def _ids(tokenizer: "PreTrainedTokenizerBase", tokens: Iterable[str]) -> frozenset[int]:
    """Ids of those tokens that the vocabulary has."""
    found = (tokenizer.convert_tokens_to_ids(token) for token in tokens)
    return frozenset(i for i in found if isinstance(i, int) and i != tokenizer.unk_token_id)


def _stop_ids(tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """Everything that may end or pad a completion: a model's own end token may differ from STOPS."""
    return _ids(tokenizer, [*STOPS, *(t for t in (tokenizer.eos_token, tokenizer.pad_token) if isinstance(t, str))])


def _hollow(tokenizer: "PreTrainedTokenizerBase", token: int) -> bool:
    return not _decode(tokenizer, [token]).strip()


def _find(ids: Sequence[int], span: range, wanted: AbstractSet[int]) -> int:
    """The first position in `span` of a wanted token; the end of `span` when there is none."""
    return next((i for i in span if ids[i] in wanted), span.stop)


def _end(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], span: range, drop: AbstractSet[int]) -> int:
    """Where `span` ends without its trailing whitespace-only tokens and members of `drop`."""
    kept = (i + 1 for i in reversed(span) if ids[i] not in drop and not _hollow(tokenizer, ids[i]))
    return next(kept, span.start)


def _block_start(
    tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], opening: AbstractSet[int], closing: AbstractSet[int]
) -> int:
    """Where the open or empty think block at the end of a prompt starts; the prompt's length when there is none."""
    body = _end(tokenizer, ids, range(len(ids)), opening | closing)
    return _find(ids, range(body, len(ids)), opening)


def _spelling(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], span: range, text: str) -> range:
    """`span` without whitespace-only tokens around it, if it spells `text`; else empty."""
    start = next((i for i in span if not _hollow(tokenizer, ids[i])), span.stop)
    found = range(start, _end(tokenizer, ids, range(start, span.stop), frozenset()))
    same = bool(text) and _decode(tokenizer, ids[found.start : found.stop]).strip() == text
    return found if same else range(len(ids), len(ids))
