"""Go on with a training run that was killed, from the last state that its trainer wrote whole.

A trainer writes its state into the folder of the stage's parts (probes.parts); trl and transformers keep optimizer and
random states as pickles there, which are read back from nowhere else and go when the stage is finished.
"""

import json
from pathlib import Path

SAVES = 5
"""States written on the way through a stage: a kill loses at most this part of the steps."""


def save_steps(steps: int) -> int:
    """Steps from one state to the next."""
    return max(1, -(-steps // SAVES))


def last_state(folder: Path, processes: int = 1) -> str | None:
    """The newest whole state of a trainer in a folder, if there is one: that of as many processes as now go on.

    The first process writes the file that ends a state last, the others a random state each.
    """
    states = sorted(folder.glob("checkpoint-*/trainer_state.json"), key=_step, reverse=True)
    return next((str(path.parent) for path in states if _is_whole(path) and _is_of(path.parent, processes)), None)


def last_step(folder: Path, processes: int = 1) -> int:
    """Steps behind the newest whole state of a trainer; -1 where there is none."""
    state = last_state(folder, processes)
    return -1 if state is None else _step(Path(state) / "trainer_state.json")


def _step(path: Path) -> int:
    return int(path.parent.name.removeprefix("checkpoint-"))


def _is_of(state: Path, processes: int) -> bool:
    """Whether every one of so many processes, and no other, has left its random state."""
    names = {f"rng_state_{rank}.pth" for rank in range(processes)} if processes > 1 else {"rng_state.pth"}
    return {path.name for path in state.glob("rng_state*")} == names


def _is_whole(path: Path) -> bool:
    try:
        return json.loads(path.read_bytes())["global_step"] == _step(path)
    except (ValueError, KeyError):
        return False
