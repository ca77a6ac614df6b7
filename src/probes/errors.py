"""Every error this package raises on purpose.

    ProbesError
    ├── UnknownNameError   (ValueError)         a model, emotion, arm, preset … that does not exist
    ├── LayerError         (IndexError)         a layer that the model does not have
    ├── DataError          (ValueError)         rows, texts or arrays that cannot be used as they are
    ├── UnmatchedPairError (ValueError)         a paired comparison with one side missing
    ├── ConventionError    (ValueError)         things that must not be mixed: shapes, conventions, models, evidence
    ├── FileFormatError    (ValueError)         a file that is foreign, truncated or damaged
    ├── MissingInputError  (FileNotFoundError)  something a step needs and the user can provide or build
    ├── TooLargeError      (MemoryError)        a model for which there is no memory
    ├── OutputError        (OSError)            a place that cannot be written
    ├── JudgeError         (RuntimeError)       a judge that fails too often, or will not be asked
    ├── ShardError         (RuntimeError)       a shard of a run that ended with an error
    └── NotFittedError     (AttributeError)     probes used before fit

Each message says what came, what is possible and what to do.
"""

import linecache
import traceback
from collections.abc import Iterable
from difflib import get_close_matches

WHOLE_TRACEBACK = "  (the whole traceback: import traceback; traceback.print_last())"


class ProbesError(Exception):
    """Base of all errors raised by this package on purpose."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message and the user's own lines. Plain Python shows the whole traceback as always."""
        calls = [
            linecache.getline(frame.f_code.co_filename, number).strip()
            for frame, number in traceback.walk_tb(self.__traceback__)
            if frame.f_globals.get("__name__") == "__main__"
        ]
        return [f"{type(self).__name__}: {self}", *(f"  at: {call}" for call in calls if call), WHOLE_TRACEBACK]


class UnknownNameError(ProbesError, ValueError):
    """A name that does not exist; the message offers the nearest one."""

    def __init__(self, kind: str, name: object, known: Iterable[str]):
        known = list(known)
        begun = [one for one in known if name and one.startswith(str(name).lower())]  # an unfinished name is nearest
        near = begun or get_close_matches(str(name).lower(), known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        shown = ", ".join(known[:12]) + (f", … ({len(known)} in all)" if len(known) > 12 else "")
        super().__init__(f"unknown {kind} {name!r}.{hint} Known: {shown}.")


class LayerError(ProbesError, IndexError):
    """A layer that the model, or the array at hand, does not have."""


class DataError(ProbesError, ValueError):
    """Rows, texts or arrays that cannot be used as they are."""


class UnmatchedPairError(ProbesError, ValueError):
    """A paired comparison in which one side is missing."""


class ConventionError(ProbesError, ValueError):
    """Things that must not be mixed in one computation."""


class FileFormatError(ProbesError, ValueError):
    """A file that is foreign, truncated or damaged."""


class MissingInputError(ProbesError, FileNotFoundError):
    """Something a step needs, that the user can provide or build."""


class TooLargeError(ProbesError, MemoryError):
    """A model for which the device has no memory."""


class OutputError(ProbesError, OSError):
    """A place that cannot be written."""


class JudgeError(ProbesError, RuntimeError):
    """A judge that fails too often to train or score by, or that will not be asked."""


class ShardError(ProbesError, RuntimeError):
    """A shard of a run that ended with an error."""


class NotFittedError(ProbesError, AttributeError):
    """Probes used before fit."""
