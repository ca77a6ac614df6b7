"""The ethics follow-up: after each answer, the turn that asks whether the model feels good or bad about it.

As in arXiv 2606.04413, whose wording is not public; ours is probes.prompts.FOLLOW_UP. The conversation is the question, the
answer as it was given (or forced) and the follow-up; probes read the last token of that prompt, where nothing has been
written yet, and the reply to it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from probes.errors import DataError
from probes.pairs import ARMS, Pair, Prompt, prompts
from probes.prompts import FOLLOW_UP, user_turn
from probes.replies import REASONS, Replies, Reply

if TYPE_CHECKING:
    from probes.lm.chat import Message
    from probes.lm.generate import Completion, Sampling
    from probes.lm.writers import Writer
    from probes.parts import Parts


ASKED_ABOUT = ("benign", "affect", "harmful")
"""Arms of which the follow-up is asked: the paper's two and the control between them."""


def asked_about(replies: Replies) -> Replies:
    """The replies that a follow-up is put to: the first to each question of ASKED_ABOUT, its own and the original's text."""
    sources = ("own", "original")
    names = {f"{r.pair}/{r.arm}/0/{source}" for r in replies if r.arm in ASKED_ABOUT for source in sources}
    return Replies([reply for reply in replies if reply.sample in names])


def write_follow_ups(
    model: "Writer", pairs: Sequence[Pair], replies: Replies, sampling: "Sampling", parts: "Parts | None" = None
) -> Replies:
    """Ask a checkpoint after each of its replies how it feels about it, and keep what it says as replies of their own.

    A reply that is missing stays missing in its follow-up, which would be about something else than an answer.

    Args:
        pairs: those that the replies answer, for the wording of the questions.
        parts: where finished units are kept, for a run that goes on after a kill.

    Raises DataError for replies to questions that are not among the pairs, and what generate raises.
    """
    from probes.lm.chat import render
    from probes.lm.generate import generate

    asked = _asked(pairs, replies)
    rendered = [render(model.tokenizer, _conversation(*both)) for both in zip(asked, replies, strict=True)]
    keys = [f"{reply.sample}/follow_up" for reply in replies]
    completions = generate(model, rendered, sampling, keys=keys, label="write follow-ups", parts=parts)
    return Replies([_follow_up(*both) for both in zip(replies, completions, strict=True)])


def _asked(pairs: Sequence[Pair], replies: Replies) -> list[Prompt]:
    """The prompt behind each reply."""
    named = {prompt.name: prompt for prompt in prompts(pairs, ARMS, controls=1 + max(r.control for r in replies))}
    names = [f"{reply.pair}/{reply.arm}/{reply.control}" for reply in replies]
    lacking = sorted({name for name in names if name not in named})
    if lacking:
        raise DataError(f"{len(lacking)} prompts of these replies are not among the pairs: {', '.join(lacking[:5])}.")
    return [named[name] for name in names]


def _conversation(prompt: Prompt, reply: Reply) -> "list[Message]":
    return [*user_turn(prompt.text), {"role": "assistant", "content": reply.text}, *user_turn(FOLLOW_UP)]


def _follow_up(reply: Reply, completion: "Completion") -> Reply:
    split, spans = completion.split, completion.spans
    cut = "truncated" if completion.stop_reason == "length" else ""
    return replace(
        reply, sample=f"{reply.sample}/follow_up", turn="follow_up", text=split.answer, thinking=split.thinking,
        written_by=completion.written_by, stop_reason=completion.stop_reason,
        missing=reply.missing or REASONS.get(split.status, cut),
        prompt_ids=tuple(completion.prompt_ids), token_ids=tuple(completion.token_ids),
        answer_start=spans.answer.start, answer_stop=spans.answer.stop,
        thinking_start=spans.thinking.start, thinking_stop=spans.thinking.stop,
    )  # fmt: skip
