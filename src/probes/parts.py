"""Long work in parts: fixed units, each written whole, so that a run that was killed goes on where it stopped.

The plan (what is made, from what, with which settings) is fixed before the first unit and kept beside the parts. A unit
that is there is read back and not made again; what it holds does not depend on when, or in how many tries, the others
were made, so a run that was killed and one that was not give the same bytes. Two processes never share a folder.
"""

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from probes import store
from probes.errors import ConventionError, OutputError
from probes.moments import Moments, load_moments

T = TypeVar("T")


def units(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """The items in order, `size` at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]


class Parts:
    """The folder `<target>.parts` of one piece of work; use it in a with statement.

    Raises OutputError when another process is at work on it or it cannot be written, ConventionError when it, or the
    finished target, belongs to another plan.
    """

    def __init__(self, target: Path, plan: Mapping[str, Any]):
        self.target, self.plan = target, dict(plan)
        self.folder = target.with_name(target.name + ".parts")
        self._record = target.with_name(target.name + ".plan.json")

    @property
    def finished(self) -> bool:
        """Whether the target is there, whole, and made by this plan. Raises ConventionError for another plan's."""
        if not (self.target.exists() and self._record.is_file()):
            return False
        self._check(self._record, self.target)
        return True

    def __enter__(self) -> "Parts":
        store.check_folder(self.folder)
        try:
            self._lock = open(self.folder / "lock", "a+")
        except OSError as error:
            raise OutputError(
                f"cannot use {self.folder} for the parts of a run: {error}. Choose another --out."
            ) from error
        try:
            self._take_lock()
            self._begin()
        except BaseException:
            self._lock.close()
            raise
        return self

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            raise OutputError(
                f"process {holder} is at work in {self.folder}. Wait for it, or choose another --out."
            ) from error
        if not self._is_ours():
            raise OutputError(f"another process ended its work in {self.folder} just now. Start again.")
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def _is_ours(self) -> bool:
        """Whether the locked file is still the one in the folder: a process that ends takes folder and lock away."""
        path = self.folder / "lock"
        return path.is_file() and os.path.samestat(os.fstat(self._lock.fileno()), path.stat())

    def _begin(self) -> None:
        path = self.folder / "plan.json"
        if path.is_file():
            self._check(path, self.folder)
        else:
            store.write_json(path, self.plan)

    def _check(self, path: Path, what: Path) -> None:
        kept = store.read_json(path)
        if store.hash_of(kept) != store.hash_of(self.plan):
            kept = kept if isinstance(kept, dict) else {}
            changed = sorted(key for key in {*kept, *self.plan} if kept.get(key) != self.plan.get(key))
            raise ConventionError(
                f"{what} belongs to another run: {', '.join(changed)} differ. Choose another --out, or remove it."
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.folder.is_dir() and {path.name for path in self.folder.iterdir()} <= {"lock", "plan.json"}:
            shutil.rmtree(self.folder)  # no unit was finished: nothing is lost, and nothing stays behind
        self._lock.close()

    def ensure(self, make: Callable[[], Callable[[Path], object]]) -> None:
        """Make the target unless it is there: `make` gives what saves it, and may keep units here on the way."""
        if self.finished:
            shutil.rmtree(self.folder, ignore_errors=True)  # a kill may have come between the record and this
            print(f"{self.target.name}: already there", flush=True)
            return
        with self:
            self.finish(make())

    def rows(
        self, name: str, make: Callable[[], list[dict[str, Any]]], fields: Iterable[str] | Mapping[str, type]
    ) -> list[dict[str, Any]]:
        """Records of a unit, made or read back."""
        path = self.folder / f"{name}.jsonl"
        if not self.has(name):
            store.write_jsonl(path, make(), private=True)
            self._say(name)
        return store.read_jsonl(path, fields)

    def has(self, name: str) -> bool:
        """Whether the records of a unit are there."""
        return (self.folder / f"{name}.jsonl").is_file()

    def moments(self, name: str, make: Callable[[], Moments]) -> Moments:
        """Moments of a unit, made or read back."""
        path = self.folder / f"{name}.safetensors"
        if not path.is_file():
            make().save(path)
            self._say(name)
        return load_moments(path)

    def _say(self, name: str) -> None:
        """One line a unit where no progress bar is seen."""
        if not sys.stderr.isatty():
            print(f"{self.target.name}: unit {name} done", file=sys.stderr, flush=True)

    def finish(self, save: Callable[[Path], object]) -> None:
        """Save the target, then the record that it is whole, and take the parts away."""
        save(self.target)
        store.write_json(self._record, self.plan)
        shutil.rmtree(self.folder)
