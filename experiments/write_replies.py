"""Let every checkpoint answer the paired prompts, and put benign answers, the original's and its own, through each of them.

    python experiments/write_replies.py --model tiny

Writes replies/<checkpoint>.jsonl with all of them, replies/<checkpoint>.follow_up.jsonl with what it says when it is asked how
it feels about an answer, and replies/summary.csv: shares refused and right by arm. A killed run goes on where it stopped;
shards of the answers are merged by a run without, and then those of what is said about them.
"""

from probes import store
from probes.follow_ups import asked_about, write_follow_ups
from probes.lm import Checkpoint, Sampling, Writer, family
from probes.parts import Parts
from probes.replies import Replies, check_one_writer, ending_no_turn, force_replies, load_replies, write_replies
from settings import command
from writer_settings import WriterSettings, WritingSettings, writer_of


def sampling_of(settings: WriterSettings) -> Sampling:
    """Greedy where each prompt is answered once; the same noise in every checkpoint where it is answered several times."""
    return Sampling(settings.size.answer_tokens, settings.size.temperature, seed=settings.seed)


def answers_of(settings: WriterSettings, name: str, weights: str) -> Parts:
    """The resumable work on a checkpoint's answers."""
    return settings.texts(settings.replies(name), weights, sampling_of(settings), ("data/pairs.jsonl", "lm/chat.py"))


def every_text(settings: WriterSettings, model: Writer, parts: Parts) -> Replies:
    """A checkpoint's own answers, and the benign ones put through it."""
    pairs, size, path = settings.pairs, settings.size, settings.replies("original")
    needs = model.checkpoint.variant != "original" and (settings.share.is_whole or path.is_file())
    original = load_replies(path) if needs else ()  # a shard's own answers do not wait until the original's are merged
    check_one_writer(original, model.written_by)
    own = write_replies(model, pairs, sampling_of(settings), controls=size.own_controls, draws=size.draws, parts=parts)
    forced = force_replies(model, pairs, original or own, controls=size.controls)
    benign = force_replies(model, pairs, own, controls=size.controls, text_source="own_benign")
    return Replies([*own, *forced, *benign])


def answer(settings: WriterSettings, model: Writer) -> bool:
    """The answers of a checkpoint; whether they are there."""
    parts = answers_of(settings, model.checkpoint.name, model.weights)
    return parts.ensure(lambda: every_text(settings, model, parts).save)


def let_answer(settings: WriterSettings, checkpoint: Checkpoint) -> None:
    """The answers of a checkpoint, whose writer is gone afterwards."""
    with writer_of(settings, checkpoint) as writer:
        answer(settings, writer)


def ask(settings: WriterSettings, model: Writer) -> bool:
    """What a checkpoint says about its answers; whether it is there."""
    path, target = (settings.replies(model.checkpoint.name, turn) for turn in ("answer", "follow_up"))
    replies, draw = load_replies(path), sampling_of(settings)
    asked = settings.texts(target, model.weights, draw, ("prompts.py",), {"replies": path})
    if odd := ending_no_turn(model, replies):
        print(f"{model.address}: {odd} of its answers end the text and not the turn: they are in no chat form")
    return asked.ensure(lambda: write_follow_ups(model, settings.pairs, asked_about(replies), draw, parts=asked).save)


def write(settings: WriterSettings, checkpoint: Checkpoint) -> bool:
    """A checkpoint's answers, then what it says about them; whether both are there. It is gone before the next one comes."""
    with writer_of(settings, checkpoint) as model:
        return answer(settings, model) and ask(settings, model)


def main(settings: WriterSettings) -> None:
    """The original first: its benign answers are the forced text of all."""
    names = ("original", *(name for name in settings.checkpoints if name != "original"))
    if {write(settings, checkpoint) for checkpoint in family(settings.model, settings.trained, names)} != {True}:
        return  # units are left to other shards
    replies = [reply for name in names for reply in load_replies(settings.replies(name)) if reply.text_source == "own"]
    store.write_table(settings.replies("summary").with_suffix(".csv"), summary := Replies(replies).summary())
    print(summary.round(3).to_string(index=False))


if __name__ == "__main__":
    command(main, WritingSettings, __doc__)
