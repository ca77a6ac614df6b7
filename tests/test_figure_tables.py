"""Tables of figures: the numbers of the comparison, in the order of drawing, and never of two kinds at once."""

import numpy as np
import pandas as pd
import pytest

from probes import store
from probes.comparison import arm_means, compare
from probes.errors import ConventionError, DataError, FileFormatError, LayerError, MissingInputError, UnknownNameError
from probes.figure_tables import gap_table, read_figure_table, similarity_table
from probes.figures import similarity_bars
from small_readings import EMOTIONS, small_readings


@pytest.fixture(scope="module")
def bars():
    return similarity_table(small_readings(), layers=(3, 5), arms=("benign", "harmful", "affect"))


@pytest.fixture(scope="module")
def gaps():
    return gap_table(small_readings(), layers=(3, 5))


def test_tables_are_in_the_order_of_the_figure(bars, gaps):
    assert list(dict.fromkeys(bars["layer"])) == [3, 5]
    assert list(dict.fromkeys(bars["text_source"])) == ["own", "original"]
    assert tuple(dict.fromkeys(bars["emotion"])) == EMOTIONS
    assert list(dict.fromkeys(bars["checkpoint"])) == ["original", "antirefusal"]
    assert list(dict.fromkeys(bars["arm"])) == ["benign", "affect", "harmful"]
    assert list(dict.fromkeys(gaps["reference"])) == ["affect", "benign"]
    assert len(bars) == 2 * 2 * 4 * 2 * 3
    assert len(gaps) == 2 * 2 * 4 * 2 * 2


def test_table_values_are_those_of_the_comparison(bars, gaps):
    keys = ["checkpoint", "text_source", "layer", "emotion", "arm"]
    for table, expected in (
        (bars, arm_means(small_readings())),
        (gaps, compare(small_readings(), "harmful", "affect")),
    ):
        chosen = table[table["reference"] == "affect"] if "reference" in table else table
        joined = chosen.merge(expected, on=keys, suffixes=("", "_expected"), validate="one_to_one")
        assert len(joined) == len(chosen)
        np.testing.assert_allclose(
            joined[["mean", "low", "high"]], joined[["mean_expected", "low_expected", "high_expected"]], rtol=1e-8
        )


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ({"layers": [7]}, LayerError, r"no layer 7; they hold 3, 5"),
        ({"emotions": ["hapy"]}, UnknownNameError, r"unknown emotion 'hapy'. Did you mean 'happy'"),
        ({"arms": ["benign", "neutral"]}, UnknownNameError, r"unknown arm 'neutral'"),
        ({"readout": "dot"}, UnknownNameError, r"unknown readout 'dot'"),
        ({"span": "thinking"}, UnknownNameError, r"unknown span 'thinking'"),
    ],
)
def test_what_the_readings_do_not_hold(wanted, error, words):
    with pytest.raises(error, match=words):
        similarity_table(small_readings(), **{"layers": [3], **wanted})


def test_numbers_that_are_whole_come_back_from_a_csv_as_they_were(tmp_path):
    table = similarity_table(small_readings().assign(value=1.0), layers=[3])
    back = read_figure_table(store.write_table(tmp_path / "f.csv", table))
    pd.testing.assert_frame_equal(back, table)
    assert back["mean"].dtype == float


def test_a_readout_without_that_aggregation_is_an_error():
    readings = pd.concat([small_readings(), small_readings().assign(readout="dot", aggregation="mean")])
    with pytest.raises(DataError, match="readout 'dot', aggregation 'mean_of_token_cosines'"):
        similarity_table(readings, layers=[3], readout="dot")


@pytest.mark.parametrize("column", ["evidence", "model", "baseline", "probes"])
def test_what_must_not_be_mixed(column, bars):
    other = small_readings(checkpoints=("other",)).assign(**{column: "another"})
    with pytest.raises(ConventionError, match=rf"different {column}: .*another"):
        similarity_table(pd.concat([small_readings(), other]), layers=[3])
    with pytest.raises(ConventionError, match=f"different {column}"):
        gap_table(pd.concat([small_readings(), other]), layers=[3])
    with pytest.raises(ConventionError, match=f"different {column}"):
        similarity_bars(pd.concat([bars, bars.assign(**{column: "another"})]))


def test_reading_what_is_not_a_figures_table(tmp_path):
    with pytest.raises(MissingInputError):
        read_figure_table(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileFormatError, match="lacks the columns model, checkpoint"):
        read_figure_table(tmp_path / "other.csv")
