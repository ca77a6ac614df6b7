"""Let every checkpoint answer the paired prompts, and put the original's benign answers through each of them.

    python experiments/write_replies.py --model tiny

Writes replies/<checkpoint>.jsonl with both, and replies/summary.csv: shares refused and right by arm. A run that was
killed goes on where it stopped when it is started again.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from probes import store
from probes.lm import Checkpoint, Sampling, family, load
from probes.pairs import load_pairs
from probes.provenance import content_sha
from probes.replies import Replies, force_replies, load_replies, write_replies
from settings import Settings, command


def answer(settings: Settings, checkpoint: Checkpoint) -> None:
    """A checkpoint's own answers and the original's benign ones put through it, unless they are there."""
    model, pairs, target = load(checkpoint), load_pairs(), settings.replies(checkpoint.name)
    sampling = Sampling(max_new_tokens=settings.size.answer_tokens, temperature=0, seed=settings.seed)
    said = content_sha("data/pairs.jsonl", "lm/chat.py")
    parts = settings.parts(target, {"weights": model.weights, "sampling": asdict(sampling), "contents": said})

    def both() -> Callable[[Path], Path]:
        own = write_replies(model, pairs, sampling, parts=parts)
        original = own if checkpoint.variant == "original" else load_replies(settings.replies("original"))
        return Replies([*own, *force_replies(model, pairs, original)]).save

    parts.ensure(both)


def main(settings: Settings) -> None:
    """The original first: its benign answers are the forced text of all."""
    names = ("original", *(name for name in settings.checkpoints if name != "original"))
    for checkpoint in family(settings.model, settings.trained, names):
        answer(settings, checkpoint)
    replies = [reply for name in names for reply in load_replies(settings.replies(name)) if reply.text_source == "own"]
    summary = Replies(replies).summary()
    store.write_table(settings.replies("summary").with_suffix(".csv"), summary)
    print(summary.round(3).to_string(index=False))


if __name__ == "__main__":
    command(main, Settings, __doc__)
