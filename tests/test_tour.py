"""The tour: every cell is run in one namespace, as a notebook would, and what it shows is looked at."""

import ast
import re
from pathlib import Path

import pandas as pd
import pytest
from plotly.graph_objects import Figure

from probes.page import WATERMARK

ROOT = Path(__file__).parents[1]
TOUR = (ROOT / "experiments" / "tour.py").read_text(encoding="utf-8")
CELLS = re.findall(r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", TOUR, flags=re.MULTILINE | re.DOTALL)
CODE = [cell for markdown, cell in CELLS if not markdown]
PROSE = [cell.strip() for markdown, cell in CELLS if markdown]
SHOWN = (
    "Model", "Stories", "Dataset", "EmotionProbes", "DataFrame", "Figure", "DataFrame", "Figure", "Figure", "Replies", "DataFrame",
    "Figure", "DataFrame", "DataFrame", "Replies", "Figure", "Figure", "DataFrame", "DataFrame", "DataFrame", "list",
)  # fmt: skip


def run_cell(number, cell, namespace):
    """Run a cell; the value of its last line, which a notebook shows."""
    *body, last = ast.parse(cell).body
    assert isinstance(last, ast.Expr)
    exec(compile(ast.Module(body, []), f"<tour, code cell {number}>", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), f"<tour, code cell {number}>", "eval"), namespace)


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """What the cells show, in order, and the names that they leave."""
    folder, namespace = tmp_path_factory.mktemp("tour"), {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shown = [run_cell(number, cell, namespace) for number, cell in enumerate(CODE, 1)]
    return shown, namespace, folder


def test_cells_are_short_and_prose_stands_between_them():
    assert "".join(f"# %%{markdown}\n{cell}" for markdown, cell in CELLS) == TOUR
    assert max(len(cell.strip().splitlines()) for cell in CODE[1:]) <= 12
    assert max(len(cell.splitlines()) for cell in PROSE) <= 9
    assert all(line.startswith("#") for cell in PROSE for line in cell.splitlines())


def test_every_cell_shows_what_the_prose_announces(tour):
    assert tuple(type(value).__name__ for value in tour[0]) == SHOWN


def test_figures_are_drawn_and_stamped(tour):
    figures = [value for value in tour[0] if isinstance(value, Figure)]
    assert all(figure.to_dict()["data"] and WATERMARK in str(figure.layout) for figure in figures)


def test_cards_and_tables_have_html(tour):
    for value in tour[0]:
        if not isinstance(value, Figure):
            shown = value._repr_html_() if hasattr(value, "_repr_html_") else repr(value)
            assert len(shown) > 60
        if isinstance(value, pd.DataFrame):
            assert len(value) > 2
            assert len(value) <= 16  # what fits on a screen


def test_what_the_prose_says_of_the_embedded_model_is_so(tour):
    stories, hits, score = (tour[1][name] for name in ("stories", "hits", "score"))
    assert 0 < len(stories) < len(stories.written)
    assert (hits["top1"] < hits["text_top1"]).all()  # it reads free prose worse than words do
    assert (score["low"] > score["chance"]).any()  # and the stories that it wrote
    gaps = tour[1]["gaps"]
    assert (
        gaps.loc[gaps["text_source"] == "own", "n_missing"] > 0
    ).all()  # a question refused in either arm is left out
    assert gaps.loc[gaps["n_questions"] < 10, "low"].isna().all()


def test_both_checkpoints_stand_in_the_last_figures(tour):
    together = tour[1]["together"]
    assert set(together["checkpoint"]) == {"original", "antirefusal@sft"}
    assert set(together["text_source"]) == {"own", "original"}
    before, after = (tour[1][name].summary().set_index("arm").loc["harmful"] for name in ("original", "answers"))
    assert after["refused"] < before["refused"]


def test_nothing_is_said_where_there_is_no_unit(tour):
    unit, gates, verdicts = (tour[1][name] for name in ("unit", "gates", "verdicts"))
    without = set(unit.loc[unit["low"] <= 0].set_index(["layer", "emotion"]).index)
    assert set(gates.loc[gates["low"] <= 0, "outcome"]) == {"not measurable"}
    assert len(verdicts) == 2 * 4
    said = verdicts.set_index(["layer", "emotion"])["verdict"]
    assert without & set(said.index[said == "not measurable"])


def test_nothing_is_written_outside_runs(tour):
    assert {path.name for path in tour[2].iterdir()} == {"runs"}
