"""Answers of a checkpoint to paired prompts: its own, and one fixed text forced through it.

The own answer is what a checkpoint writes; reading it mixes what was written with how it is represented. A forced text is
put word for word behind every prompt of a question, so that only the context differs: `original` is the original's answer
to the benign question, the same in every checkpoint, `own_benign` the checkpoint's own.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pandas as pd

from probes import store
from probes.errors import ConventionError, DataError, UnknownNameError
from probes.pairs import ARMS, Pair, Prompt, answers_rightly, prompts
from probes.prompts import user_turn
from probes.refusals import is_refusal

if TYPE_CHECKING:
    from probes.lm.capture import Passage
    from probes.lm.generate import Completion, Sampling
    from probes.lm.writers import Writer
    from probes.parts import Parts

REASONS = {"truncated": "truncated", "stray_tag": "no_answer", "empty": "no_answer"}
"""Split status → reason in the column `missing`."""


Span = Literal["answer", "last_prompt"]
Forced = Literal["original", "own_benign"]


@dataclass(frozen=True)
class Reply:
    """One answer with its token ids and spans."""

    sample: str
    """pair/arm/control/text_source, and of several draws /number from the second on"""
    pair: str
    domain: str
    arm: str
    control: int
    model: str
    checkpoint: str
    weights: str
    """Id of the checkpoint's manifest, or hash of the base weights for the original."""
    written_by: str
    """Library, version and dtype that wrote the text, also where it is forced."""
    seed: int
    """Training seed of the checkpoint."""
    text_source: str
    """`own`, or what is forced: `original`, the original's benign answer, or `own_benign`, this checkpoint's."""
    turn: str
    """`answer`, or `follow_up`: what is said to the question that comes after it (probes.follow_ups)."""
    text: str
    thinking: str
    stop_reason: str
    missing: str
    """Why there is no answer to compare: refused, truncated or no_answer; empty when there is one."""
    right: bool
    """Whether the answer holds a keyword of its question."""
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    answer_start: int
    """First answer token, counted in prompt_ids + token_ids."""
    answer_stop: int
    thinking_start: int
    thinking_stop: int


class Replies(Sequence[Reply]):
    """The replies of one checkpoint, or of several that are compared: all by one writer, or a ConventionError says so."""

    def __init__(self, replies: Sequence[Reply]):
        self.replies = tuple(replies)
        check_one_writer(self.replies)

    def __len__(self) -> int:
        return len(self.replies)

    def __getitem__(self, index):  # a reply, or a tuple of replies for a slice
        return self.replies[index]

    def __repr__(self) -> str:
        who = ", ".join(sorted({f"{reply.model}/{reply.checkpoint}" for reply in self.replies}))
        return f"Replies({len(self)} by {who}; refused {sum(reply.missing == 'refused' for reply in self.replies)})"

    def _repr_html_(self) -> str:
        from probes.cards import replies_card

        return replies_card(self)

    def summary(self) -> pd.DataFrame:
        """One row a checkpoint, text source and arm: n, share refused, right of all, and without an answer; and who wrote them."""
        rows = pd.DataFrame([asdict(reply) for reply in self.replies])
        rows["refused"], rows["no_answer"] = rows["missing"] == "refused", ~rows["missing"].isin(["", "refused"])
        groups = rows.groupby(["checkpoint", "text_source", "arm", "written_by"], sort=False)
        shares = groups[["refused", "right", "no_answer"]].mean()
        return shares.assign(n=groups.size()).reset_index()

    def passages(self, spans: Sequence[Span] = ("answer",)) -> "tuple[list[Passage], list[int], pd.DataFrame]":
        """The replies as passages to capture, span by span, the positions of those that have their span, and the labels of all.

        Args:
            spans: the whole answer, or the last token of the prompt, where nothing is written yet.
        """
        from probes.lm.capture import Passage

        for span in (spans,) if isinstance(spans, str) else spans:
            if span not in get_args(Span) or isinstance(spans, str):
                raise UnknownNameError("span, in a list,", span, get_args(Span))
        each = [(reply, span, _span(reply, span)) for span in spans for reply in self.replies]
        kept = [i for i, (_, _, positions) in enumerate(each) if positions]
        if not kept:
            raise DataError(f"none of {len(self)} replies has an answer to read.")
        columns = ("sample", "pair", "domain", "arm", "control", "checkpoint", "seed", "text_source", "missing")
        labels = pd.DataFrame([{name: getattr(reply, name) for name in columns} for reply, _, _ in each])
        passages = [
            Passage((reply.prompt_ids + reply.token_ids)[: positions.stop], positions, reply.sample)
            for reply, _, positions in each if positions
        ]  # fmt: skip
        names = [span if reply.turn == "answer" else f"{reply.turn}_{span}" for reply, span, _ in each]
        lengths = [len(positions) for _, _, positions in each]
        return passages, kept, labels.assign(question=labels["pair"], span=names, n_tokens=lengths)

    def save(self, path: Path | str) -> Path:
        """JSONL, mode 0600: answers of helpful-only checkpoints are sensitive."""
        return store.write_jsonl(path, (asdict(reply) for reply in self.replies), private=True)


def check_one_writer(replies: Iterable[Reply], written_by: str = "") -> None:
    """Raises ConventionError for texts by different writers, or versions of one: what differs between them might be its doing.

    Args:
        written_by: who writes what the replies will be put beside; nobody else, unless given.
    """
    wrote = defaultdict[str, set[str]](set, {written_by: {"what comes next"}} if written_by else {})
    for reply in replies:
        wrote[reply.written_by].add(reply.checkpoint)
    if len(wrote) > 1:
        told = "; ".join(f"{writer} for {', '.join(sorted(names))}" for writer, names in sorted(wrote.items()))
        raise ConventionError(
            f"these replies were not written alike ({told}) and are not compared. Write all by one writer."
        )


def _span(reply: Reply, span: Span) -> range:
    """Positions in prompt_ids + token_ids."""
    if span == "last_prompt":
        return range(len(reply.prompt_ids) - 1, len(reply.prompt_ids))
    return range(reply.answer_start, reply.answer_stop)


def load_replies(path: Path | str) -> Replies:
    """Read what Replies.save wrote.

    Raises FileFormatError for a broken line, DataError for no reply, a sample that occurs twice, an unknown arm or reason,
    or spans that do not lie in the tokens.
    """
    kinds = {one.name: one.type if isinstance(one.type, type) else list for one in fields(Reply)}
    replies = [_from_row(row) for row in store.read_jsonl(path, kinds)]
    repeated = [
        sample for sample, count in Counter((reply.sample, reply.turn) for reply in replies).items() if count > 1
    ]
    wrong = [why for why in map(_fault, replies) if why]
    if not replies or repeated or wrong:
        why = wrong[0] if wrong else f"{' '.join(repeated[0])} occurs twice" if repeated else "it holds no reply"
        raise DataError(f"{path} cannot be read: {why}. Write it again with experiments/write_replies.py.")
    return Replies(replies)


def _from_row(row: dict[str, Any]) -> Reply:
    values = {name: row[name] for name in Reply.__dataclass_fields__}
    return Reply(**{**values, "prompt_ids": tuple(row["prompt_ids"]), "token_ids": tuple(row["token_ids"])})


def _fault(reply: Reply) -> str:
    """What keeps a reply from being read; empty for a sound one."""
    ids = reply.prompt_ids + reply.token_ids
    bounds = (reply.answer_start, reply.answer_stop), (reply.thinking_start, reply.thinking_stop)
    if not all(type(token) is int and token >= 0 for token in ids):
        return f"{reply.sample} has token ids that are no whole numbers from 0 on"
    if not all(0 <= start <= stop <= len(ids) for start, stop in bounds):
        return f"{reply.sample} has spans {bounds} in {len(ids)} tokens"
    if reply.arm not in ARMS:
        return f"{reply.sample} has the arm {reply.arm!r}, known are {', '.join(ARMS)}"
    reasons = {"", "refused", *REASONS.values()}
    known = ", ".join(sorted(reasons))
    return "" if reply.missing in reasons else f"{reply.sample} is missing for {reply.missing!r}, known are {known}"


def write_replies(
    model: "Writer",
    pairs: Sequence[Pair],
    sampling: "Sampling",
    arms: Sequence[str] = ARMS,
    controls: int = 1,
    draws: int = 1,
    thinking: bool = False,
    parts: "Parts | None" = None,
) -> Replies:
    """Let a checkpoint answer every pair in every arm.

    Args:
        controls: second sentences of an arm that are asked, as far as it has them.
        draws: answers to each prompt; a table of readings averages them before it compares.
        parts: where finished units are kept, for a run that goes on after a kill.

    The same prompt draws the same noise in every checkpoint, so that two checkpoints differ by their weights alone.
    Raises DataError for several draws at temperature 0, which would be one answer counted several times.
    """
    from probes.lm.chat import render
    from probes.lm.generate import generate

    if draws < 1 or (draws > 1 and sampling.temperature == 0):
        raise DataError(f"draws is {draws} at temperature {sampling.temperature}: one, or several at one above 0.")
    asked = [(prompt, draw) for prompt in prompts(pairs, arms, controls) for draw in range(draws)]
    rendered = [render(model.tokenizer, user_turn(prompt.text), thinking=thinking) for prompt, _ in asked]
    keys = [f"{prompt.name}{_numbered(draw)}" for prompt, draw in asked]
    completions = generate(model, rendered, sampling, keys=keys, label="write replies", parts=parts)
    return Replies([_reply(model, *one, drawn) for one, drawn in zip(asked, completions, strict=True)])


def _numbered(draw: int) -> str:
    return f"/{draw}" if draw else ""


def ending_no_turn(model: "Writer", replies: Sequence[Reply]) -> int:
    """How many own answers end the text where an assistant ends its turn, as those of a model of pretraining alone do."""
    end = model.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    return sum(reply.token_ids[-1:] == (end,) for reply in replies if reply.text_source == "own")


def _identity(model: "Writer", prompt: Prompt, text_source: str, written_by: str, draw: int = 0) -> dict[str, Any]:
    return {
        "sample": f"{prompt.name}/{text_source}{_numbered(draw)}", "pair": prompt.pair.pair, "domain": prompt.pair.domain,
        "arm": prompt.arm,
        "control": prompt.control, "model": model.name, "checkpoint": model.checkpoint.name,
        "weights": model.weights, "seed": model.checkpoint.seed, "written_by": written_by,
        "text_source": text_source, "turn": "answer",
    }  # fmt: skip


def _reply(model: "Writer", prompt: Prompt, draw: int, completion: "Completion") -> Reply:
    split, spans = completion.split, completion.spans
    missing = REASONS.get(split.status, "refused" if is_refusal(split.answer) else "")
    if completion.stop_reason == "length":
        missing = missing or "truncated"
    return Reply(
        **_identity(model, prompt, "own", completion.written_by, draw), text=split.answer, thinking=split.thinking,
        stop_reason=completion.stop_reason, missing=missing, right=answers_rightly(prompt.pair, split.answer),
        prompt_ids=tuple(completion.prompt_ids), token_ids=tuple(completion.token_ids),
        answer_start=spans.answer.start, answer_stop=spans.answer.stop,
        thinking_start=spans.thinking.start, thinking_stop=spans.thinking.stop,
    )  # fmt: skip


def force_replies(
    model: "Writer",
    pairs: Sequence[Pair],
    written: Replies,
    arms: Sequence[str] = ARMS,
    controls: int = 1,
    text_source: Forced = "original",
) -> Replies:
    """Put one benign answer to each question behind every prompt of this checkpoint.

    Args:
        written: own answers of whoever the text is from.
        text_source: `original` for the original's benign answers, `own_benign` for this checkpoint's own. Of several draws the
            first is taken.

    Raises DataError naming the questions without a benign answer among `written`, ConventionError for answers of another base,
    whose token ids would spell another text here, or of other weights than this checkpoint's own.
    """
    from probes.lm.chat import render

    answers = _benign_answers(model, pairs, written, text_source)
    forced = []
    for prompt in prompts(pairs, arms, controls):
        ids = model.tokenizer(render(model.tokenizer, user_turn(prompt.text)), add_special_tokens=False)["input_ids"]
        forced.append(_forced(model, prompt, tuple(ids), answers[prompt.pair.pair], text_source))
    return Replies(forced)


def put_through(model: "Writer", written: Replies, author: str) -> Replies:
    """Another checkpoint's own answers behind the same prompts of this one, `text_source` being their author.

    Why an answer is missing stays as it is: it is about the text. Raises ConventionError for answers of another base, whose token
    ids would spell another text here.
    """
    foreign = {reply.model for reply in written} - {model.name}
    if foreign:
        raise ConventionError(
            f"answers of {', '.join(sorted(foreign))} cannot be put through {model.address}: take those of one family."
        )
    here = {
        "checkpoint": model.checkpoint.name,
        "weights": model.weights,
        "seed": model.checkpoint.seed,
        "text_source": author,
    }
    return Replies([replace(one, **here, sample=f"{one.pair}/{one.arm}/{one.control}/{author}") for one in written])


def _benign_answers(model: "Writer", pairs: Sequence[Pair], written: Replies, text_source: Forced) -> dict[str, Reply]:
    """Question → the answer that is forced, from whom it must be."""
    if text_source not in get_args(Forced):
        raise UnknownNameError("text source", text_source, get_args(Forced))
    who, weights = ("original", model.base_sha) if text_source == "original" else (model.checkpoint.name, model.weights)
    own = [reply for reply in written if (reply.arm, reply.checkpoint, reply.text_source) == ("benign", who, "own")]
    answers = {reply.pair: reply for reply in reversed(own)}
    lacking = [pair.pair for pair in pairs if pair.pair not in answers]
    if lacking:
        raise DataError(
            f"no benign answer of {who} to {len(lacking)} questions: {', '.join(lacking[:5])}. Write its replies first."
        )
    others = {(answers[pair.pair].model, answers[pair.pair].weights) for pair in pairs} - {(model.name, weights)}
    if others:
        named = ", ".join(sorted(f"{name}/{who} (weights {found[:12]})" for name, found in others))
        raise ConventionError(
            f"answers of {named} cannot be put through {model.address} as those of {model.name}/{who} (weights "
            f"{weights[:12]}). Write its own replies first."
        )
    return answers


def _forced(model: "Writer", prompt: Prompt, prompt_ids: tuple[int, ...], answer: Reply, text_source: Forced) -> Reply:
    shift = len(prompt_ids)
    ids = (answer.prompt_ids + answer.token_ids)[answer.answer_start : answer.answer_stop]
    return Reply(
        **_identity(model, prompt, text_source, answer.written_by), text=answer.text, thinking="", stop_reason=answer.stop_reason,
        missing="" if answer.missing == "truncated" else answer.missing,  # the same cut text is forced everywhere
        right=answer.right, prompt_ids=prompt_ids, token_ids=ids,
        answer_start=shift, answer_stop=shift + len(ids), thinking_start=shift, thinking_stop=shift,
    )  # fmt: skip
