"""The table of readings: one number a sample, layer, emotion and readout, with everything needed to read it alone.

Columns stand in COLUMNS. `missing` says why an answer must not be compared as an answer (`refused`, `truncated`,
`no_answer`) and is empty otherwise. A refusal was read all the same, so that an analysis of all pairs stays possible;
probes.comparison leaves out every row with a reason. `evidence` is "toy" for the embedded model and "model" otherwise;
`probes` says whose probes read, which may be another checkpoint's than the one in `checkpoint`; questions are nested in `domain`.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pyarrow import ArrowInvalid, ArrowTypeError

from probes import store
from probes.errors import ConventionError, DataError, FileFormatError, LayerError, MissingInputError

LAYER_CONVENTION = "layer i is the output of block i, 0-based; the last one is taken before the final norm"

COLUMNS = (
    "model", "checkpoint", "seed", "arm", "control", "domain", "question", "pair", "sample", "text_source", "span", "layer",
    "emotion", "readout", "aggregation", "baseline", "value", "n_tokens", "evidence", "missing", "probes",
    "layer_convention",
)  # fmt: skip

KEY = ("checkpoint", "seed", "sample", "span", "layer", "emotion", "readout", "aggregation", "baseline", "probes")
"""What tells one reading from another of its model."""


def save_readings(path: Path | str, readings: pd.DataFrame) -> Path:
    """Write a table of readings as parquet: rows run to millions at full size."""
    try:
        return store.write_bytes(path, check_readings(readings).to_parquet(index=False))
    except (ArrowInvalid, ArrowTypeError) as error:
        raise DataError(
            f"a column of these readings holds values of several kinds: {error}. Give each one kind."
        ) from error


def load_readings(path: Path | str, layers: Sequence[int] | None = None) -> pd.DataFrame:
    """Read a table of readings, or the rows of some layers of it: all of a 30B model take gigabytes in memory.

    Raises MissingInputError, FileFormatError for another kind of file, LayerError for a layer without readings.
    """
    if not Path(path).is_file():
        raise MissingInputError(f"there are no readings at {path}; make them with experiments/read_replies.py.")
    try:
        filters = None if layers is None else [("layer", "in", list(layers))]
        readings = pd.read_parquet(path, filters=filters)
    except (ArrowInvalid, OSError) as error:
        raise FileFormatError(f"{path} is not a whole parquet file: {error}. Write it again.") from error
    lacking = sorted(set(layers) - set(readings["layer"])) if layers is not None else []
    if lacking:
        raise LayerError(f"{path} holds no readings at layers {lacking}; read them with experiments/read_replies.py.")
    return check_readings(readings)


def check_readings(readings: pd.DataFrame) -> pd.DataFrame:
    """The table with its columns in order; raises DataError for an empty or incomplete one, or values that are no numbers."""
    if not isinstance(readings, pd.DataFrame):
        raise DataError(f"readings are a table, got {type(readings).__name__}; make them with EmotionProbes.read.")
    lacking = [column for column in COLUMNS if column not in readings]
    if lacking or readings.empty:
        raise DataError(
            f"not a table of readings: {len(readings)} rows, lacking columns: {', '.join(lacking) or 'none'}. What an earlier "
            "version wrote is read again by experiments/read_replies.py."
        )
    if readings["value"].dtype.kind not in "iuf":
        raise DataError(f"the readings' column 'value' is {readings['value'].dtype}; real numbers are needed.")
    return readings[list(COLUMNS)]


def concat(tables) -> pd.DataFrame:
    """Several tables as one.

    Raises ConventionError when toy and real evidence, different models or conventions would be mixed, DataError for a reading
    that stands there twice.
    """
    tables = [check_readings(table) for table in tables]
    if not tables:
        raise DataError("no readings to put together.")
    joined = pd.concat(tables, ignore_index=True)
    for column in ("evidence", "model", "layer_convention"):
        if joined[column].nunique() > 1:
            kinds = ", ".join(sorted(joined[column].unique()))
            raise ConventionError(
                f"readings of different {column} cannot stand in one table: {kinds}. Compare within one."
            )
    twice = joined.duplicated(list(KEY))
    if twice.any():
        first = joined[twice].iloc[0]
        raise DataError(
            f"readings stand there twice (first: {first['checkpoint']}, {first['sample']}). Give each table once."
        )
    return joined
