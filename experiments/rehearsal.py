"""Ten minutes with the real weights before the first long run: what to fix first, and how long everything will take.

    python experiments/rehearsal.py --model qwen3-30b-a3b --preset paper

For whoever has the weights and one GPU. Looks at the machine, asks the doctor, tells, captures and fits three emotions, asks a
handful of questions in two arms, and writes runs/<model>/rehearsal/rehearsal.html, with the same as JSON; from there the
steps take the rates that were measured. Ends with exit code 1 where something is red.
"""

import sys
from dataclasses import dataclass

from probes import store
from probes.provenance import provenance
from probes.rehearsal import Few, rehearse
from probes.rehearsal_page import rehearsal_page
from settings import Settings, command


@dataclass(frozen=True)
class RehearsalSettings(Settings):
    """The shared flags, and how much is tried."""

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
    found = rehearse(settings.model, settings.size, settings.folder, few, settings.seed)
    found.save(folder / "rehearsal.json")
    page = rehearsal_page(found, provenance(settings, found.about, {}))
    print(f"written: {store.write_text(folder / 'rehearsal.html', page, private=True)}")
    if found.red:
        sys.exit(f"Red, to be mended before the big run: {', '.join(found.red)}.")


if __name__ == "__main__":
    command(main, RehearsalSettings, __doc__)
