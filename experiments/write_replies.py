"""Let every checkpoint answer the paired prompts, and put benign answers, the original's and its own, through each of them.

    python experiments/write_replies.py --model tiny

Writes replies/<checkpoint>.jsonl with all of them, replies/<checkpoint>.follow_up.jsonl with what it says when it is asked how
it feels about an answer, and replies/summary.csv: shares refused and right by arm. A killed run goes on where it stopped;
shards of the answers are merged by a run without, and then those of what is said about them.
"""

from dataclasses import asdict

from probes import store
from probes.follow_ups import asked_about, write_follow_ups
from probes.lm import Model, Sampling, family, load
from probes.pairs import ARMS
from probes.parts import Parts
from probes.provenance import content_sha
from probes.replies import Replies, ending_no_turn, force_replies, load_replies, write_replies
from settings import Settings, ShardedSettings, command


def sampling_of(settings: Settings) -> Sampling:
    """Greedy where each prompt is answered once; the same noise in every checkpoint where it is answered several times."""
    return Sampling(settings.size.answer_tokens, settings.size.temperature, seed=settings.seed)


def made_of(settings: Settings, weights: str, *contents: str) -> dict[str, object]:
    """What decides a checkpoint's texts."""
    return {"weights": weights, "sampling": asdict(sampling_of(settings)), "contents": content_sha(*contents)}


def answers_of(settings: Settings, name: str, weights: str) -> Parts:
    """The resumable work on a checkpoint's answers."""
    return settings.parts(settings.replies(name), made_of(settings, weights, "data/pairs.jsonl", "lm/chat.py"))


def every_text(settings: Settings, model: Model, parts: Parts) -> Replies:
    """A checkpoint's own answers, and the benign ones put through it."""
    pairs, size = settings.pairs, settings.size
    own = write_replies(model, pairs, sampling_of(settings), controls=size.own_controls, draws=size.draws, parts=parts)
    original = own if model.checkpoint.variant == "original" else load_replies(settings.replies("original"))
    one_text = force_replies(model, pairs, original, ARMS, size.controls)
    own_benign = force_replies(model, pairs, own, ARMS, size.controls, "own_benign")
    return Replies([*own, *one_text, *own_benign])


def answer(settings: Settings, model: Model) -> bool:
    """The answers of a checkpoint; whether they are there."""
    parts = answers_of(settings, model.checkpoint.name, model.weights)
    return parts.ensure(lambda: every_text(settings, model, parts).save)


def ask(settings: Settings, model: Model) -> bool:
    """What a checkpoint says about its answers; whether it is there."""
    path, target = (settings.replies(model.checkpoint.name, turn) for turn in ("answer", "follow_up"))
    replies, about = load_replies(path), {"replies": store.sha256(path)}
    asked = settings.parts(target, about | made_of(settings, model.weights, "prompts.py"))
    design = settings.pairs, asked_about(replies), sampling_of(settings)
    if odd := ending_no_turn(model, replies):
        print(f"{model.address}: {odd} of its answers end the text and not the turn: they are in no chat form")
    return asked.ensure(lambda: write_follow_ups(model, *design, parts=asked).save)


def write(settings: Settings, model: Model) -> bool:
    """A checkpoint's answers, then what it says about them; whether both are there."""
    return answer(settings, model) and ask(settings, model)


def main(settings: Settings) -> None:
    """The original first: its benign answers are the forced text of all."""
    names = ("original", *(name for name in settings.checkpoints if name != "original"))
    if {write(settings, load(checkpoint)) for checkpoint in family(settings.model, settings.trained, names)} != {True}:
        return  # units are left to other shards
    replies = [reply for name in names for reply in load_replies(settings.replies(name)) if reply.text_source == "own"]
    store.write_table(settings.replies("summary").with_suffix(".csv"), summary := Replies(replies).summary())
    print(summary.round(3).to_string(index=False))


if __name__ == "__main__":
    command(main, ShardedSettings, __doc__)
