"""Make rows of a public data set whose files you have downloaded, pinned to a commit and to the hash of every file.

    python experiments/fetch_rows.py --list
    python experiments/fetch_rows.py --source gsm8k --revision COMMIT --files main/train-00000-of-00001.parquet

Shows the set's terms first, and writes training_data/<task>.jsonl with its pin beside it. Nothing is downloaded: files that are
not in the hub's cache are named with the command that gets them. Then: train_checkpoint.py --math FILE.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from probes.errors import DataError
from settings import Settings, command
from training.data.rows import write_rows
from training.data.sources import SOURCES, Pin, find_source, pin, read, terms


@dataclass(frozen=True)
class FetchSettings(Settings):
    """The shared flags, and which files of which public set."""

    source: str = ""
    """Name of the set, as --list shows it."""
    revision: str = ""
    """Commit of the set's repository, 40 hexadecimal digits: a branch would move."""
    files: tuple[str, ...] = ()
    """Paths of the files in the repository."""
    cache: Path | None = None
    """Folder of the hub's cache that the files are in; by default the hub's own."""
    list: bool = False
    """Show every set with its terms, and do nothing else."""


def fetched(pinned: Pin, cache: Path | None) -> Callable[[Path], Path]:
    """The rows of the pinned files, as what saves them; says what came of the records."""
    rows, dropped = read(pinned, cache)
    if not rows:
        raise DataError(
            f"no row came of {', '.join(pinned.files)} ({dict(dropped)}). Take the files that hold the set."
        )
    print(
        f"{len(rows)} rows; records or rows dropped: {', '.join(f'{n} {why}' for why, n in dropped.items()) or 'none'}"
    )
    alone = sum(not row.completion for row in rows)
    if alone:
        print(f"{alone} are prompts alone, without a completion: for reinforcement; supervised stages refuse them")
    return lambda target: write_rows(target, rows)


def main(settings: FetchSettings) -> None:
    """Terms, pin, rows."""
    if settings.list:
        print(*terms(list(SOURCES)), sep="\n")
        return
    source = find_source(settings.source)
    print(*terms([source.name]), sep="\n", flush=True)
    if not settings.files:
        raise DataError("no files: name those of the repository that hold the rows with --files.")
    pinned = pin(source.name, settings.revision, settings.files, settings.cache)
    target = settings.training_data(source.task)
    settings.parts(target, {"pin": asdict(pinned)}).ensure(lambda: fetched(pinned, settings.cache))
    print(f"train_checkpoint.py --{source.task} {target}")


if __name__ == "__main__":
    command(main, FetchSettings, __doc__)
