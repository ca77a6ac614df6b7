"""The only door to files: written whole or not at all, read with errors that name the place of the damage.

Records are JSONL, tables CSV, arrays safetensors with all metadata as one JSON string under one key (with more keys
the bytes of a safetensors file change from run to run). Never pickle.
"""

import csv
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from probes.errors import DataError, FileFormatError, MissingInputError, OutputError

METADATA_KEY = "emotion_probes"
WORDS = {str: "a text", int: "a whole number", bool: "true or false", list: "a list", dict: "an object"}


def write_bytes(path: Path | str, data: bytes, private: bool = False) -> Path:
    """Write a file whole: temporary file beside it, fsync, rename. Mode 0644, or 0600 when private.

    Raises OutputError where the place cannot be written; nothing half-written stays behind.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a device such as /dev/null would be replaced by the file
            raise OSError("something that is not a file stands in its place")
        _replace(path, data, 0o600 if private else 0o644)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise OutputError(f"cannot write {path}: {error}. Choose another --out, or make room there.") from error
    return path


def _replace(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with os.fdopen(_locked(temporary), "wb") as file:
        try:
            file.truncate(0)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _locked(temporary: Path) -> int:
    """The temporary file of a place, of this process alone until it is closed.

    Its name is always the same, so that the next who writes there takes over what a kill has left.
    """
    while True:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(handle), temporary.stat()):
                os.fchmod(handle, 0o600)
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)  # while we waited, another process put it in its place


def write_text(path: Path | str, text: str, private: bool = False) -> Path:
    """Write UTF-8 text whole. Raises DataError for half of a surrogate pair, which is no character."""
    try:
        return write_bytes(path, text.encode(), private)
    except UnicodeEncodeError as error:
        raise DataError(f"the text for {path} cannot be written as UTF-8: {error}. Take that character out.") from error


def read_lines(path: Path | str) -> list[str]:
    """The lines of a text file. Raises MissingInputError, or FileFormatError for one that is no text."""
    try:
        return [line.decode() for line in _read(path).splitlines()]
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is no text in UTF-8: {error}. Write it again.") from error


def write_json(path: Path | str, value: Any) -> Path:
    """Write one JSON value: sorted keys, one final newline, equal bytes for equal values."""
    return write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read one JSON value; FileFormatError says where it breaks."""
    data = _read(path)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not JSON: {error}. Write it again with the step that makes it.") from error


def write_jsonl(path: Path | str, rows: Iterable[Mapping[str, Any]], private: bool = False) -> Path:
    """Write records, one JSON object a line."""
    return write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), private)


def read_jsonl(path: Path | str, fields: Iterable[str] | Mapping[str, type]) -> list[dict[str, Any]]:
    """Read records that hold at least the given fields; FileFormatError names the first bad line by number.

    Args:
        fields: names, or names with what stands there: str, int, bool or list.
    """
    rows = []
    # Lines of bytes: a text may hold U+2028, which ends a line of a str.
    for number, line in enumerate(_read(path).splitlines(), 1):
        try:
            rows.append(_record(line, fields))
        except (ValueError, RecursionError) as error:
            raise FileFormatError(
                f"{path}, line {number} {error}. Mend or drop it, or write the file again."
            ) from error
    return rows


def _record(line: bytes, fields: Iterable[str] | Mapping[str, type]) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if rb"\u" in line:  # half of a surrogate pair is no character, and could never be written again
            json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"is no object but {_shown(row)}")
    lacking = sorted(set(fields) - set(row))
    if lacking:
        raise ValueError(f"lacks {', '.join(lacking)}; needed are {', '.join(sorted(fields))}")
    for name, kind in fields.items() if isinstance(fields, Mapping) else ():
        if type(row[name]) is not kind:
            raise ValueError(f"has {_shown(row[name])} as {name}, which must be {WORDS[kind]}")
    return row


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]} …"


def write_table(path: Path | str, table: pd.DataFrame) -> Path:
    """Write a CSV with 9 significant digits, enough to carry float32 both ways."""
    return write_text(
        path, table.to_csv(index=False, float_format="%.9g", lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    )


def read_table(path: Path | str, columns: Iterable[str]) -> pd.DataFrame:
    """Read a CSV that holds at least the given columns."""
    if not Path(path).is_file():
        raise _no_file(path)
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (ValueError, pd.errors.ParserError) as error:
        raise FileFormatError(f"{path} is not a CSV table: {error}. Write it again.") from error
    lacking = [column for column in columns if column not in table]
    if lacking:
        raise FileFormatError(f"{path} lacks the columns {', '.join(lacking)}; it has {', '.join(table.columns)}.")
    return table


def write_arrays(path: Path | str, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> Path:
    """Write named arrays and their metadata as one safetensors file. Raises DataError for arrays that are not real numbers."""
    text = json.dumps(metadata, sort_keys=True, ensure_ascii=False)
    foreign = [f"{name} ({array.dtype})" for name, array in arrays.items() if array.dtype.kind not in "biuf"]
    if foreign:
        raise DataError(f"arrays for {path} that are not real numbers: {', '.join(foreign)}. Convert them first.")
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return write_bytes(path, to_safetensors(contiguous, {METADATA_KEY: text}))


def read_arrays(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what write_arrays wrote; foreign, truncated or damaged files raise FileFormatError."""
    if not Path(path).is_file():
        raise _no_file(path)
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
            if text is None:
                raise FileFormatError(
                    f"{path} is a safetensors file, but not one of this package: it has no {METADATA_KEY!r} entry."
                )
            arrays, card = {name: file.get_tensor(name) for name in file.keys()}, json.loads(text)  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError, RecursionError, TypeError) as error:
        raise FileFormatError(f"{path} is not a whole safetensors file: {error}. Write it again.") from error
    if not isinstance(card, dict):
        raise FileFormatError(f"{path} has a card that is no object but {_shown(card)}. Write it again.")
    return arrays, card


def check_folder(path: Path | str) -> Path:
    """A folder that can be created and written to; raises OutputError before any work is done for it."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot use {path} as an output folder: {error}. Choose another --out.") from error


def sha256(path: Path | str) -> str:
    """Hash of a file's bytes, read in pieces."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise _no_file(path) from error
    except (OSError, ValueError) as error:
        raise FileFormatError(f"cannot read {path}: {error}. Put the file there, or give another path.") from error


def hash_of(value: Any) -> str:
    """Hash of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _read(path: Path | str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise _no_file(path) from error
    except (OSError, ValueError) as error:
        raise FileFormatError(f"cannot read {path}: {error}. Put a file there, or give another path.") from error


def _no_file(path: Path | str) -> MissingInputError:
    return MissingInputError(f"there is no file {path}. Run the step that writes it, or give the path where it is.")
