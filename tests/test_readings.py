"""The table of readings: complete, the same from a file, and never of two kinds at once."""

import numpy as np
import pandas as pd
import pytest

from probes.errors import ConventionError, DataError, FileFormatError, LayerError, MissingInputError, OutputError
from probes.readings import COLUMNS, LAYER_CONVENTION, check_readings, concat, load_readings, save_readings


def readings(**changed):
    values = {
        "model": "m", "checkpoint": "original", "seed": 0, "arm": ["benign", "harmful"], "control": 0, "domain": "plants",
        "question": "日本 🙂", "pair": "lily", "sample": ["a", "b"], "text_source": "own", "span": "answer",
        "layer": [3, 41], "emotion": "worn out", "readout": "cosine", "aggregation": "mean_of_token_cosines", "baseline": "none",
        "value": np.float32([0.1, np.nan]),
        "n_tokens": [20, 0], "evidence": "model", "missing": ["", "truncated"],
        "probes": "m/original (sofroniew)", "layer_convention": LAYER_CONVENTION,
    }  # fmt: skip
    return pd.DataFrame(values | changed, index=range(2))


def test_save_and_load(tmp_path):
    path = save_readings(tmp_path / "a.parquet", readings())
    back = load_readings(path)
    pd.testing.assert_frame_equal(back, readings())
    assert back["value"].dtype == np.float32
    assert back["missing"].tolist() == ["", "truncated"]
    assert save_readings(tmp_path / "b.parquet", readings()).read_bytes() == path.read_bytes()


def test_some_layers_are_read_alone_and_those_that_are_not_there_are_named(tmp_path):
    path = save_readings(tmp_path / "a.parquet", readings())
    assert load_readings(path, [41])["layer"].tolist() == [41]
    pd.testing.assert_frame_equal(load_readings(path, [41, 3]), readings())
    for wanted in ([7], [3, 7]):
        with pytest.raises(LayerError, match=r"a\.parquet holds no readings at layers \[7\]; read them with"):
            load_readings(path, wanted)


def test_whose_probes_they_are_stays_known(tmp_path):
    back = concat([load_readings(save_readings(tmp_path / "a.parquet", readings())), readings(seed=1)])
    assert set(back["probes"]) == {"m/original (sofroniew)"}


def test_files_that_are_no_readings(tmp_path):
    with pytest.raises(
        MissingInputError, match=r"no readings at .*a\.parquet; make them with experiments/read_replies"
    ):
        load_readings(tmp_path / "a.parquet")
    whole = save_readings(tmp_path / "a.parquet", readings()).read_bytes()
    for damaged in (b"", b"model,checkpoint\n", whole[:-1], whole[:100]):
        (tmp_path / "a.parquet").write_bytes(damaged)
        with pytest.raises(FileFormatError, match=r"a\.parquet is not a whole parquet file"):
            load_readings(tmp_path / "a.parquet")
    pd.DataFrame({"value": [1.0]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match="lacking columns: model"):
        load_readings(tmp_path / "b.parquet")


def test_a_folder_in_the_files_place(tmp_path):
    (tmp_path / "a.parquet").mkdir()
    with pytest.raises(OutputError, match=r"a\.parquet"):
        save_readings(tmp_path / "a.parquet", readings())
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_columns_are_put_in_order():
    mixed = readings()[list(COLUMNS[::-1])].assign(note="mine")
    assert tuple(check_readings(mixed).columns) == COLUMNS


@pytest.mark.parametrize("column", COLUMNS)
def test_a_lacking_column_is_named(column):
    with pytest.raises(
        DataError,
        match=rf"2 rows, lacking columns: {column}\. What an earlier version .* experiments/read",
    ):
        check_readings(readings().drop(columns=column))


def test_no_rows():
    with pytest.raises(DataError, match="0 rows, lacking columns: none"):
        check_readings(readings()[:0])
    with pytest.raises(DataError, match="no readings to put together"):
        concat([])


def test_concat():
    both = concat(table for table in (readings(), readings(checkpoint="antirefusal", layer=[32, 41])))
    assert both.index.tolist() == [0, 1, 2, 3]
    assert both["checkpoint"].tolist() == ["original"] * 2 + ["antirefusal"] * 2
    pd.testing.assert_frame_equal(both[:2], readings())


@pytest.mark.parametrize(("column", "kinds"), [("evidence", "model, toy"), ("model", "m, toy")])
def test_kinds_that_must_not_be_mixed(column, kinds):
    with pytest.raises(ConventionError, match=f"different {column} .*: {kinds}"):
        concat([readings(), readings(**{column: "toy"})])
