"""The table of readings: one number a sample, layer, emotion and readout, with everything needed to read it alone.

Columns stand in COLUMNS. `missing` says why an answer must not be compared as an answer (`refused`, `truncated`,
`no_answer`) and is empty otherwise. A refusal was read all the same, so that an analysis of all pairs stays possible;
probes.comparison leaves out every row with a reason. `evidence` is "toy" for the embedded model and "model" otherwise;
`probes` says whose probes read, which may be another checkpoint's than the one in `checkpoint`.
"""

from pathlib import Path

import pandas as pd
from pyarrow import ArrowInvalid

from probes import store
from probes.errors import ConventionError, DataError, FileFormatError, MissingInputError

LAYER_CONVENTION = "layer i is the output of block i, 0-based; the last one is taken before the final norm"

COLUMNS = (
    "model", "checkpoint", "seed", "arm", "control", "question", "pair", "sample", "text_source", "span", "layer",
    "emotion", "readout", "aggregation", "baseline", "value", "n_tokens", "evidence", "missing", "probes",
    "layer_convention",
)  # fmt: skip


def save_readings(path: Path | str, readings: pd.DataFrame) -> Path:
    """Write a table of readings as parquet: rows run to millions at full size."""
    return store.write_bytes(path, check_readings(readings).to_parquet(index=False))


def load_readings(path: Path | str) -> pd.DataFrame:
    """Read a table of readings. Raises MissingInputError, or FileFormatError for another kind of file."""
    if not Path(path).is_file():
        raise MissingInputError(f"there are no readings at {path}; make them with experiments/read_replies.py.")
    try:
        return check_readings(pd.read_parquet(path))
    except (ArrowInvalid, OSError) as error:
        raise FileFormatError(f"{path} is not a whole parquet file: {error}. Write it again.") from error


def check_readings(readings: pd.DataFrame) -> pd.DataFrame:
    """The table with its columns in order; raises DataError for an empty or incomplete one."""
    lacking = [column for column in COLUMNS if column not in readings]
    if lacking or readings.empty:
        raise DataError(
            f"not a table of readings: {len(readings)} rows, lacking columns: {', '.join(lacking) or 'none'}."
        )
    return readings[list(COLUMNS)]


def concat(tables) -> pd.DataFrame:
    """Several tables as one. Raises ConventionError when toy and real evidence, or different models, would be mixed."""
    tables = [check_readings(table) for table in tables]
    if not tables:
        raise DataError("no readings to put together.")
    joined = pd.concat(tables, ignore_index=True)
    for column in ("evidence", "model"):
        if joined[column].nunique() > 1:
            kinds = ", ".join(sorted(joined[column].unique()))
            raise ConventionError(
                f"readings of different {column} cannot stand in one table: {kinds}. Compare within one."
            )
    return joined
