"""Let every checkpoint answer the paired prompts, and put the original's benign answers through each of them.

    python experiments/write_replies.py --model tiny

Writes replies/<checkpoint>.jsonl with both, and replies/summary.csv: shares refused and right by arm.
"""

from collections.abc import Sequence

import pandas as pd

from probes import store
from probes.lm import Checkpoint, Sampling, family, load
from probes.pairs import Pair, load_pairs
from probes.replies import Replies, force_replies, write_replies
from settings import Settings, command


def answer(
    settings: Settings, checkpoint: Checkpoint, pairs: Sequence[Pair], sampling: Sampling, original: Replies | None
) -> Replies:
    """A checkpoint's own answers, saved together with the original's put through it."""
    model = load(checkpoint)
    own = write_replies(model, pairs, sampling)
    Replies([*own, *force_replies(model, pairs, original or own)]).save(settings.replies(checkpoint.name))
    return own


def main(settings: Settings) -> None:
    """The original first: its benign answers are the forced text of all."""
    pairs = load_pairs()
    sampling = Sampling(max_new_tokens=settings.size.answer_tokens, temperature=0, seed=settings.seed)
    names = ("original", *(name for name in settings.checkpoints if name != "original"))
    answers: list[Replies] = []
    for checkpoint in family(settings.model, settings.trained, names):
        answers.append(answer(settings, checkpoint, pairs, sampling, answers[0] if answers else None))
    summary = pd.concat([own.summary() for own in answers])
    store.write_table(settings.replies("summary").with_suffix(".csv"), summary)
    print(summary.round(3).to_string(index=False))


if __name__ == "__main__":
    command(main, Settings, __doc__)
