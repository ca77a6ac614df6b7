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


def last_state(folder: Path) -> str | None:
    """The newest whole state of a trainer in a folder, if there is one. The file that ends a state is written last."""
    states = sorted(folder.glob("checkpoint-*/trainer_state.json"), key=_step, reverse=True)
    return next((str(path.parent) for path in states if _is_whole(path)), None)


def last_step(folder: Path) -> int:
    """Steps behind the newest whole state of a trainer; -1 where there is none."""
    state = last_state(folder)
    return -1 if state is None else _step(Path(state) / "trainer_state.json")


def _step(path: Path) -> int:
    return int(path.parent.name.removeprefix("checkpoint-"))


def _is_whole(path: Path) -> bool:
    try:
        return json.loads(path.read_bytes())["global_step"] == _step(path)
    except (ValueError, KeyError):
        return False
