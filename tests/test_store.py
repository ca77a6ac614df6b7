"""Files: whole or not at all, equal bytes for equal values, and damage named by its place."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from probes import store
from probes.errors import FileFormatError, MissingInputError, OutputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("private", [False, True])
def test_mode(tmp_path, private):
    path = store.write_jsonl(tmp_path / "a.jsonl", [{"a": 1}], private=private)
    assert stat.S_IMODE(path.stat().st_mode) == (0o600 if private else 0o644)


def test_folders_are_made_on_the_way(tmp_path):
    assert store.write_text(tmp_path / "a" / "b" / "c.txt", "é").read_bytes() == "é".encode()
    assert names(tmp_path / "a" / "b") == ["c.txt"]


def test_a_file_is_replaced_whole(tmp_path):
    store.write_text(tmp_path / "a.txt", "a long first version")
    store.write_text(tmp_path / "a.txt", "short")
    assert (tmp_path / "a.txt").read_text() == "short"
    assert names(tmp_path) == ["a.txt"]


def test_all_is_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(os.fstat(handle).st_size))
    store.write_text(tmp_path / "a.txt", "12345")
    assert done == [5]


def test_interrupted_before_the_rename(tmp_path, monkeypatch):
    store.write_text(tmp_path / "a.txt", "old")

    def interrupt(*_):
        assert len(names(tmp_path)) == 2  # the temporary file lies beside the old one
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_what_a_kill_left_is_taken_over_by_the_next_who_writes(tmp_path):
    (tmp_path / "a.txt.tmp").write_text("a long half-written text of before")
    (tmp_path / "a.txt.tmp").chmod(0o644)
    path = store.write_text(tmp_path / "a.txt", "new", private=True)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["a.txt"]


def test_two_who_write_one_file_leave_it_whole(tmp_path):
    texts = [letter * 200_000 for letter in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda text: [store.write_text(tmp_path / "a.txt", text) for _ in range(20)], texts))
    assert (tmp_path / "a.txt").read_text() in texts
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk(tmp_path, monkeypatch, call):
    store.write_text(tmp_path / "a.txt", "old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OutputError, match=r"cannot write .*a\.txt: .*No space left.*--out"):
        store.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_in_the_files_place(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OutputError, match=r"a\.txt"):
        store.write_text(tmp_path / "a.txt", "new")
    assert names(tmp_path) == ["a.txt"]
    assert names(tmp_path / "a.txt") == []


def test_a_file_in_the_folders_place(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(OutputError, match="runs"):
        store.write_text(tmp_path / "runs" / "a.txt", "new")
    with pytest.raises(OutputError, match="runs"):
        store.check_folder(tmp_path / "runs")
    assert names(tmp_path) == ["runs"]
    assert (tmp_path / "runs").read_text() == "a file"


def test_a_device_is_not_replaced(tmp_path):
    """By a link, so that a failure replaces the link and not the machine's /dev/full."""
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="full"):
        store.write_text(tmp_path / "full", "new")
    assert names(tmp_path) == ["full"]
    assert stat.S_ISCHR((tmp_path / "full").stat().st_mode)


def test_a_device_is_no_folder():
    with pytest.raises(OutputError, match="/dev/full"):
        store.check_folder("/dev/full")
    with pytest.raises(OutputError, match="/dev/full"):
        store.write_text("/dev/full/a.txt", "new")


def test_check_folder_leaves_nothing_in_it(tmp_path):
    assert names(store.check_folder(tmp_path / "new" / "runs")) == []


# ---- records ---------------------------------------------------------------------------------------------------------

ROWS = [{"a": "naïve 日本 🙂", "b": 1}, {"a": "line\nbreak\r\u2028\u0085\x0c\x1c end", "b": [1.5, None, True]}]


def test_records_come_back(tmp_path):
    """Also those with characters that str.splitlines takes for the end of a line."""
    path = store.write_jsonl(tmp_path / "日本.jsonl", ROWS)
    assert store.read_jsonl(path, ("a", "b")) == ROWS
    assert "日本" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (b"{", "is not JSON"),
        (b"", "is not JSON"),
        (b'{"a": 1}', "lacks b"),
        (b"[1]", r"is no object but \[1\]"),
        (b'{"a": "\xff", "b": 1}', "is not JSON"),
    ],
)
def test_a_bad_record_is_named_by_its_line(tmp_path, bad, says):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1, "b": 2}\n{"a": 1, "b": 2}\n' + bad + b'\n{"a": 1}\n')
    with pytest.raises(FileFormatError, match=rf"a\.jsonl, line 3 {says}"):
        store.read_jsonl(path, ("a", "b"))


@pytest.mark.parametrize(
    "read", [lambda p: store.read_jsonl(p, ()), store.read_json, lambda p: store.read_table(p, ()), store.read_arrays]
)
def test_no_file(tmp_path, read):
    with pytest.raises(MissingInputError, match=r"no file .*nothing"):
        read(tmp_path / "nothing")


def test_json_has_one_form(tmp_path):
    one = store.write_json(tmp_path / "1.json", {"b": [1, 2], "a": "é"}).read_bytes()
    two = store.write_json(tmp_path / "2.json", {"a": "é", "b": (1, 2)}).read_bytes()
    assert one == two
    assert one.endswith(b"}\n")
    assert store.read_json(tmp_path / "1.json") == {"a": "é", "b": [1, 2]}
    (tmp_path / "3.json").write_bytes(one[:-4])
    with pytest.raises(FileFormatError, match=r"3\.json is not JSON"):
        store.read_json(tmp_path / "3.json")


def test_hash_of_does_not_see_the_order_of_keys():
    assert store.hash_of({"a": 1, "b": {"c": 2, "d": 3}}) == store.hash_of({"b": {"d": 3, "c": 2}, "a": 1})
    assert store.hash_of({"a": [1, 2]}) != store.hash_of({"a": [2, 1]})


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_table_comes_back(tmp_path):
    values = np.random.default_rng(0).normal(size=50).astype(np.float32)
    table = pd.DataFrame({"name": ["NA", "a,b", 'say "é"', "none", "x"] * 10, "value": values})
    back = store.read_table(store.write_table(tmp_path / "a.csv", table), ("name", "value"))
    assert back["name"].tolist() == table["name"].tolist()  # the name NA is a name
    np.testing.assert_array_equal(back["value"].to_numpy(np.float32), values)


def test_table_that_lacks_a_column(tmp_path):
    path = store.write_table(tmp_path / "a.csv", pd.DataFrame({"a": [1]}))
    with pytest.raises(FileFormatError, match=r"a\.csv lacks the columns b; it has a"):
        store.read_table(path, ("a", "b"))
    (tmp_path / "a.csv").write_bytes(b'a,b\n"1')
    with pytest.raises(FileFormatError, match=r"a\.csv"):
        store.read_table(path, ("a", "b"))


# ---- arrays ----------------------------------------------------------------------------------------------------------

METADATA = {"kind": "é", "b": [1, 2], "a": None}


def arrays():
    rng = np.random.default_rng(0)
    return {"b": rng.normal(size=(4, 6)).astype(np.float32)[:, ::2], "a": np.arange(5, dtype=np.int32)}


def test_arrays_come_back(tmp_path):
    found, metadata = store.read_arrays(store.write_arrays(tmp_path / "a.safetensors", arrays(), METADATA))
    assert metadata == METADATA
    assert found.keys() == arrays().keys()
    for name, values in arrays().items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype


def test_equal_arrays_give_equal_bytes(tmp_path):
    flipped = dict(reversed(METADATA.items())), dict(reversed(arrays().items()))
    one = store.write_arrays(tmp_path / "1", arrays(), METADATA).read_bytes()
    assert store.write_arrays(tmp_path / "2", flipped[1], flipped[0]).read_bytes() == one


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_truncated_arrays(tmp_path, keep):
    path = store.write_arrays(tmp_path / "a.safetensors", arrays(), METADATA)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match=r"a\.safetensors"):
        store.read_arrays(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {store.METADATA_KEY: '{"kind": '}])
def test_foreign_arrays(tmp_path, metadata):
    path = tmp_path / "a.safetensors"
    save_file({"a": np.zeros(2)}, path, metadata)
    with pytest.raises(FileFormatError, match=r"a\.safetensors"):
        store.read_arrays(path)


def test_foreign_weights_are_not_loaded(tmp_path):
    """A model's bfloat16 weights, which numpy does not have."""
    header = b'{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(FileFormatError, match=r"model\.safetensors .* not one of this package"):
        store.read_arrays(path)
