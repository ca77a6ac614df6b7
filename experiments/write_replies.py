"""Let every checkpoint answer the paired prompts, and put the original's benign answers through each of them.

    python experiments/write_replies.py --model tiny

Writes replies/<checkpoint>.jsonl with both, replies/<checkpoint>.follow_up.jsonl with what it says when it is asked how it
feels about each answer, and replies/summary.csv: shares refused and right by arm. A run that was killed goes on where it
stopped when it is started again.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from probes import store
from probes.follow_ups import write_follow_ups
from probes.lm import Model, Sampling, family, load
from probes.parts import Parts
from probes.provenance import content_sha
from probes.replies import Replies, ending_no_turn, force_replies, load_replies, write_replies
from settings import Settings, command


def sampling_of(settings: Settings) -> Sampling:
    """Greedy, so that two checkpoints differ by their weights alone."""
    return Sampling(max_new_tokens=settings.size.answer_tokens, temperature=0, seed=settings.seed)


def made_of(settings: Settings, weights: str, *contents: str) -> dict[str, object]:
    """What decides a checkpoint's texts."""
    return {"weights": weights, "sampling": asdict(sampling_of(settings)), "contents": content_sha(*contents)}


def answers_of(settings: Settings, name: str, weights: str) -> Parts:
    """The resumable work on a checkpoint's answers."""
    return settings.parts(settings.replies(name), made_of(settings, weights, "data/pairs.jsonl", "lm/chat.py"))


def both(settings: Settings, model: Model, parts: Parts) -> Callable[[Path], Path]:
    """A checkpoint's own answers and the original's benign ones put through it, as what saves them."""
    pairs = settings.pairs
    own = write_replies(model, pairs, sampling_of(settings), parts=parts)
    original = own if model.checkpoint.variant == "original" else load_replies(settings.replies("original"))
    return Replies([*own, *force_replies(model, pairs, original)]).save


def answer(settings: Settings, model: Model) -> None:
    """The answers of a checkpoint."""
    parts = answers_of(settings, model.checkpoint.name, model.weights)
    parts.ensure(lambda: both(settings, model, parts))


def ask(settings: Settings, model: Model) -> None:
    """What a checkpoint says about its answers."""
    replies, follow_ups = (settings.replies(model.checkpoint.name, turn) for turn in ("answer", "follow_up"))
    answered = {"replies": store.sha256(replies), **made_of(settings, model.weights, "prompts.py")}
    asked, sampling = settings.parts(follow_ups, answered), sampling_of(settings)
    asked.ensure(lambda: write_follow_ups(model, settings.pairs, load_replies(replies), sampling, parts=asked).save)
    if odd := ending_no_turn(model, load_replies(replies)):
        print(f"{model.address}: {odd} of its answers end the text and not the turn: they are in no chat form")


def write(settings: Settings, model: Model) -> None:
    """A checkpoint's answers, then what it says about them."""
    answer(settings, model)
    ask(settings, model)


def main(settings: Settings) -> None:
    """The original first: its benign answers are the forced text of all."""
    names = ("original", *(name for name in settings.checkpoints if name != "original"))
    for checkpoint in family(settings.model, settings.trained, names):
        write(settings, load(checkpoint))
    replies = [reply for name in names for reply in load_replies(settings.replies(name)) if reply.text_source == "own"]
    summary = Replies(replies).summary()
    store.write_table(settings.replies("summary").with_suffix(".csv"), summary)
    print(summary.round(3).to_string(index=False))


if __name__ == "__main__":
    command(main, Settings, __doc__)
