"""Let every checkpoint answer the paired prompts, and put the original's benign answers through each of them.

    python experiments/write_replies.py --model tiny

Writes replies/<checkpoint>.jsonl with both, and replies/summary.csv: shares refused and right by arm.
"""

import pandas as pd

from probes import store
from probes.lm import Sampling, family
from probes.pairs import load_pairs
from probes.replies import Replies, force_replies, write_replies
from settings import Settings, command


def main(settings: Settings) -> None:
    """The original first: its benign answers are the forced text of all."""
    pairs = load_pairs()
    sampling = Sampling(max_new_tokens=settings.size.answer_tokens, temperature=0, seed=settings.seed)
    names = ("original", *(name for name in settings.checkpoints if name != "original"))
    original, summaries = None, []
    for model in family(settings.model, settings.trained, names):
        own = write_replies(model, pairs, sampling)
        original = original or own
        replies = Replies([*own, *force_replies(model, pairs, original)])
        replies.save(settings.replies(model.checkpoint.name))
        summaries.append(own.summary())
    summary = pd.concat(summaries)
    store.write_table(settings.replies("summary").with_suffix(".csv"), summary)
    print(summary.round(3).to_string(index=False))


if __name__ == "__main__":
    command(main, Settings, __doc__)
