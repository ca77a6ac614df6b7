"""The share of one process in long work: every `of`-th unit from the `rank`-th on.

Units are fixed from the whole work before anything is shared out (probes.parts), so that any number of shards, in any
order and through any kills, leave the same units, and whoever merges them makes the same bytes. What starts the processes
is somebody else's: torchrun, Slurm, a datatrove executor (experiments/sharded.py), or a hand.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from probes.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One of `of` shares, 0-based. The only one of one is everything."""

    rank: int = 0
    of: int = 1

    def __post_init__(self):
        if not 0 <= self.rank < self.of:
            raise DataError(f"there is no shard {self}: shards of {self.of} are 0/{self.of} … {self.of - 1}/{self.of}.")

    def __str__(self) -> str:
        return f"{self.rank}/{self.of}"

    @property
    def is_whole(self) -> bool:
        """Whether it is all there is."""
        return self.of == 1

    def take(self, items: Sequence[T]) -> list[T]:
        """Its own among the items."""
        return list(items[self.rank :: self.of])


def shard_of(given: str) -> Shard:
    """The shard that `R/N` names, or without a name that of this process. Raises DataError for another form.

    torchrun tells each process its RANK and the WORLD_SIZE; a process that nobody numbered does everything.
    """
    given = given or f"{os.environ.get('RANK', 0)}/{os.environ.get('WORLD_SIZE', 1)}"
    parts = re.fullmatch(r"(\d+)/(\d+)", given)
    if not parts:
        raise DataError(f"{given!r} names no shard. Give R/N, such as 0/8 for the first of eight.")
    return Shard(int(parts[1]), int(parts[2]))
