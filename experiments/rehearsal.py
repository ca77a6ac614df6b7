"""Ten minutes with the real weights before the first long run: what to fix first, and how long everything will take.

    python experiments/rehearsal.py --model qwen3-30b-a3b --preset paper

For whoever has the weights and a GPU. Looks at the machine, tells three emotions and asks a handful of questions in two arms, by
the --writer of the big run; then reads all with its --engine, which the doctor examines, and fits probes. Writes
runs/<model>/rehearsal/rehearsal.html, with the same as JSON; from there steps with that writer and that engine take the rates
that were measured. Ends with exit code 1 where something is red.
"""

import sys
from dataclasses import dataclass
from functools import partial

from probes import store
from probes.lm.checkpoints import find_checkpoint
from probes.provenance import provenance
from probes.rehearsal import Few, Rehearsal, Tools, rehearse
from probes.rehearsal_page import rehearsal_page
from settings import command
from writer_settings import WriterSettings, writer_of


@dataclass(frozen=True)
class RehearsalSettings(WriterSettings):
    """The shared flags, who writes, and how much is tried."""

    topics: int = 4
    """Topics of the stories."""
    per_cell: int = 4
    """Stories for every emotion and topic."""
    questions: int = 6
    """Questions asked in two arms, and again with thinking."""


def main(settings: RehearsalSettings) -> None:
    """Rehearse, then write the page whatever came of it."""
    folder = store.check_folder(settings.rehearsal)
    few = Few(settings.topics, settings.per_cell, questions=settings.questions)
    original = find_checkpoint(settings.model)
    tools = Tools(settings.writer_kind, partial(writer_of, settings, original), settings.engine, settings.reading)
    found = rehearse(Rehearsal(settings.model, settings.size, settings.folder, tools, few, settings.seed))
    found.save(folder / "rehearsal.json")
    page = rehearsal_page(found, provenance(settings, found.about, {}))
    print(f"written: {store.write_text(folder / 'rehearsal.html', page, private=True)}")
    if found.red:
        sys.exit(f"Red, to be mended before the big run: {', '.join(found.red)}.")


if __name__ == "__main__":
    command(main, RehearsalSettings, __doc__)
