"""Long work in parts: fixed units, each written whole, so that a run that was killed goes on where it stopped.

The plan (what is made, from what, with which settings) is fixed before the first unit and kept beside the parts. A unit
that is there is read back and not made again; what it holds does not depend on when, where, or in how many tries, the
others were made, so a run that was killed and one that was not, one process and many shards, give the same bytes. Beside
each unit stands its seal, written after it: the hash of its bytes and of its plan. A unit without one is made again; one
that does not fit its seal is refused by name and never merged.

Either one process is at work on a folder, or shards of one number, each once. Machines that share the work see one file
system with locks (flock).
"""

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, TypeVar

from probes import store
from probes.errors import ConventionError, FileFormatError, OutputError
from probes.moments import Moments, load_moments
from probes.shards import Shard

if TYPE_CHECKING:
    import xarray as xr

T = TypeVar("T")

DOOR, PLAN, LOCK, SEAL = "door", "plan.json", ".lock", ".seal"


class _ShareDoneError(Exception):
    """Ends the work of a shard: what comes after the units needs them all."""


def units(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """The items in order, `size` at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def own(units: Sequence[T], parts: "Parts | None") -> list[tuple[int, T]]:
    """Number and content of the units that are to be made here: all of them, or those of a shard."""
    numbered = list(enumerate(units))
    return parts.shard.take(numbered) if parts else numbered


class Parts:
    """The folder `<target>.parts` of one piece of work; use it in a with statement.

    Args:
        shard: the share of this process. Only the whole makes the target out of the units.

    Raises OutputError when another process is at work on the same or it cannot be written, ConventionError when it, or the
    finished target, belongs to another plan.
    """

    def __init__(self, target: Path, plan: Mapping[str, Any], shard: Shard = Shard()):  # noqa: B008  # frozen
        self.target, self.plan, self.shard = target, dict(plan), shard
        self.folder = target.with_name(target.name + ".parts")
        self._record = target.with_name(target.name + ".plan.json")

    @property
    def finished(self) -> bool:
        """Whether the target is there, whole, and made by this plan. Raises ConventionError for another plan's."""
        if not (self.target.exists() and self._record.is_file()):
            return False
        self._check(self._record, self.target)
        return True

    # ---- who is at work ----------------------------------------------------------------------------------------------

    def __enter__(self) -> "Parts":
        store.check_folder(self.folder)
        with self._door():
            self._refuse_others()
            self._begin()
            self._lock = _locked(self.folder / f"{self.shard.of}-{self.shard.rank}{LOCK}")
        return self

    @contextmanager
    def _door(self) -> Iterator[None]:
        """One process at a time looks who is at work, comes or goes."""
        with self._open_door() as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            if not _is_at(door.fileno(), self.folder / DOOR):
                raise OutputError(f"another process ended its work in {self.folder} just now. Start again.")
            yield

    def _open_door(self) -> IO[str]:
        try:
            return open(self.folder / DOOR, "a+")
        except OSError as error:
            raise OutputError(
                f"cannot use {self.folder} for the parts of a run: {error}. Choose another --out."
            ) from error

    def _refuse_others(self) -> None:
        """Shards of one number share a folder, each once; nothing else does."""
        others = set(self.folder.glob(f"*{LOCK}")) - set(self.folder.glob(f"{self.shard.of}-*{LOCK}"))
        for path in sorted({*others, self.folder / f"{self.shard.of}-{self.shard.rank}{LOCK}"}):
            if holder := _holder(path):
                of, rank = map(int, path.stem.split("-"))
                what = "" if of == 1 else f" on shard {Shard(rank, of)}"
                raise OutputError(
                    f"process {holder} is at work{what} in {self.folder}. Wait for it, or choose another --out."
                )

    def _begin(self) -> None:
        path = self.folder / PLAN
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
        self._lock.close()
        if self.folder.is_dir():
            with self._door():
                self._leave()

    def _leave(self) -> None:
        """Where no unit was finished and nobody else is at work nothing is lost, and nothing stays behind."""
        there = list(self.folder.iterdir())
        locks = [path for path in there if path.suffix == LOCK]
        if {path.name for path in there} <= {DOOR, PLAN, *(path.name for path in locks)} and not any(
            map(_holder, locks)
        ):
            shutil.rmtree(self.folder)

    # ---- the work ----------------------------------------------------------------------------------------------------

    def ensure(self, make: Callable[[], Callable[[Path], object]]) -> bool:
        """Make the target unless it is there: `make` gives what saves it, and may keep units here on the way.

        Returns whether the target is there; of a shard only its units are made.
        """
        if self.finished:
            shutil.rmtree(self.folder, ignore_errors=True)  # a kill may have come between the record and this
            print(f"{self.target.name}: already there", flush=True)
            return True
        with self:
            try:
                save = make()
            except _ShareDoneError:
                print(f"{self.target.name}: the units of shard {self.shard} are there", flush=True)
                return False
            self.finish(save)
        return True

    def ensure_in_one(self, make: Callable[[], Callable[[Path], object]]) -> bool:
        """The same of what has no units: the first shard makes it, whole."""
        return self.shard.rank == 0 and Parts(self.target, self.plan).ensure(make)

    def end_of_share(self) -> None:
        """Where a shard's work ends: after its units, before they are made one."""
        if not self.shard.is_whole:
            raise _ShareDoneError

    def rows(
        self, name: str, make: Callable[[], list[dict[str, Any]]], fields: Iterable[str] | Mapping[str, type]
    ) -> list[dict[str, Any]]:
        """Records of a unit, made or read back."""
        save = partial(store.write_jsonl, private=True)
        return self._unit(f"{name}.jsonl", make, save, partial(store.read_jsonl, fields=fields))

    def has(self, name: str) -> bool:
        """Whether the records of a unit are there."""
        return self._is_sealed(self.folder / f"{name}.jsonl")

    def moments(self, name: str, make: Callable[[], Moments]) -> Moments:
        """Moments of a unit, made or read back."""
        return self._unit(f"{name}.safetensors", make, lambda path, made: made.save(path), load_moments)

    def vectors(self, name: str, make: "Callable[[], xr.Dataset]") -> "xr.Dataset":
        """Activations of a unit, made or read back."""
        from probes.activations import load_activations, save_activations

        return self._unit(f"{name}.safetensors", make, save_activations, load_activations)

    def _unit(
        self, name: str, make: Callable[[], T], save: Callable[[Path, T], object], load: Callable[[Path], T]
    ) -> T:
        path = self.folder / name
        if self._is_sealed(path):
            self._check_seal(path)
        else:
            save(path, make())
            store.write_json(_seal(path), {"plan": store.hash_of(self.plan), "sha256": store.sha256(path)})
            self._say(path.stem)
        return load(path)

    def _is_sealed(self, path: Path) -> bool:
        return path.is_file() and _seal(path).is_file()

    def _check_seal(self, path: Path) -> None:
        """Raises ConventionError for a unit of another plan, FileFormatError for one that is not as it was written."""
        seal, way_out = store.read_json(_seal(path)), "Remove it and start again: no other unit is made anew."
        if not isinstance(seal, dict) or seal.get("plan") != store.hash_of(self.plan):
            raise ConventionError(f"{path} is a unit of another run. {way_out}")
        if seal.get("sha256") != store.sha256(path):
            raise FileFormatError(
                f"{path} is cut short or damaged: its bytes are not those that were written. {way_out}"
            )

    def _say(self, name: str) -> None:
        """One line a unit where no progress bar is seen."""
        if not sys.stderr.isatty():
            print(f"{self.target.name}: unit {name} done", file=sys.stderr, flush=True)

    def finish(self, save: Callable[[Path], object]) -> None:
        """Save the target, then the record that it is whole, and take the parts away."""
        save(self.target)
        store.write_json(self._record, self.plan)
        with self._door():
            shutil.rmtree(self.folder)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time is at work in a folder that is no Parts. Raises OutputError for a second one."""
    path = store.check_folder(folder) / LOCK
    holder = _holder(path)
    try:
        lock = None if holder else _locked(path)
    except BlockingIOError:  # it came just now
        lock, holder = None, _holder(path)
    if lock is None:
        raise OutputError(f"process {holder} is at work in {folder}. Wait for it, or choose another --out.")
    with lock:
        yield


def _seal(path: Path) -> Path:
    return path.with_name(path.name + SEAL)


def _locked(path: Path) -> IO[str]:
    """The file of a lock that is free, held until it is closed; it says which process holds it."""
    lock = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _holder(path: Path) -> str:
    """The process that holds a lock; empty where nobody does."""
    if not path.is_file():
        return ""
    with open(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return lock.read().strip() or "unknown"
    return ""


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one in its place: a process that ends takes the folder away."""
    return path.is_file() and os.path.samestat(os.fstat(handle), path.stat())
