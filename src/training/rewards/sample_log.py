"""Rows of a training as they were scored: in private files, and nowhere else.

trl prints prompt and completion of a row that no reward scored, which is what becomes of a failed judgement; math-verify
prints what takes it too long; dill, by which datasets names a table, prints its rows to whoever listens at level INFO. All
are kept quiet.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probes import store

UNSCORED = "All reward functions returned None"


def _says_no_row(record: logging.LogRecord) -> bool:
    return UNSCORED not in record.getMessage()  # a rank may stand before it


def hush() -> None:
    """Keep rows out of the logs of trl, math-verify and dill."""
    logging.getLogger("trl.trainer.grpo_trainer").addFilter(_says_no_row)
    for name in ("math_verify.parser", "math_verify.grader", "dill"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class SampleLog:
    """A folder with some rows of each step, one JSONL file a reward and step, mode 0600."""

    def __init__(self, folder: Path, rows_per_step: int = 4):
        self.folder, self.rows_per_step = store.check_folder(folder), rows_per_step

    def write(self, reward: str, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows from all over a batch: neighbours answer the same prompt."""
        kept = rows[:: max(1, len(rows) // self.rows_per_step)][: self.rows_per_step]
        if kept:
            store.write_jsonl(self.folder / f"{reward}-{step:06d}.jsonl", kept, private=True)
