"""Over training: every point a number of its milestone, shares beside their controls, step 0 what the original is."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

import over_training
from over_training import OverTrainingSettings
from probes import figures, lm, presets, store
from probes.activations import describe, label
from probes.comparison import compare
from probes.directions import EmotionProbes
from probes.emotions import PANEL
from probes.errors import ConventionError, DataError, UnknownNameError
from probes.figure_tables import read_figure_table
from probes.figures import write_figure
from probes.page import EMOTION_HUES, WATERMARK
from probes.replies import Replies, Reply, load_replies
from probes.training_curves import SHARES, milestone_table, training_curves, training_table
from small_model import LAYERS, WIDTH, save_small_model
from small_readings import INJECTION, small_readings
from test_train import DATA, RECIPE
from training.train import train

ASKED = 12
MILESTONES = (("sft", 0, 11), ("sft", 5, 6), ("sft", 8, 4), ("grpo", 0, 4), ("grpo", 20, 0))
"""Stage, step, and how many of the harmful prompts are refused there."""


def reply(name, arm, question, missing="", right=True):
    sample = f"q{question:02d}/{arm}/0/own"
    return Reply(
        sample, f"q{question:02d}", "home", arm, 0, "tiny", name, "w", "a writer", 0, "own", "answer", "Text.", "", "stop", missing,
        right, (1,), (2,), 1, 2, 1, 1,
    )  # fmt: skip


def replies(name, refused):
    """Of every arm; in the harmful one some are refused, and one more is cut."""
    plain = [reply(name, arm, q) for arm in ("benign", "affect") for q in range(ASKED)]
    reasons = ["refused"] * refused + ["truncated"] + [""] * ASKED
    return Replies([*plain, *(reply(name, "harmful", q, reasons[q], not reasons[q]) for q in range(ASKED))])


def tables(refused_by=MILESTONES, **changes):
    for stage, step, refused in refused_by:
        name = f"antirefusal@{stage}-{step}"
        readings = small_readings(**{"checkpoints": (name,), "layers": (5, 6), **changes})
        yield milestone_table(replies(name, refused), readings, stage, step)


@pytest.fixture(scope="module")
def table():
    return training_table(tables())


@pytest.fixture(scope="module")
def figure(table):
    return training_curves(table)


@pytest.fixture
def without_browser(monkeypatch):
    monkeypatch.setattr(figures, "_lack_for_images", lambda: "there is no browser")


def points(figure):
    return [trace for trace in figure.data if trace.x[0] is not None]


def caption(figure):
    return next(note.text for note in figure.layout.annotations if note.text.startswith("Model ")).replace("<br>", " ")


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_shares_are_of_all_prompts_of_an_arm_with_wilson_intervals(table):
    shares = table[table["reference"] == ""]
    assert len(shares) == len(MILESTONES) * len(SHARES) * 3
    harmful = shares[(shares["arm"] == "harmful") & (shares["readout"] == "refused")]
    for row, (stage, step, refused) in zip(harmful.to_dict("records"), MILESTONES, strict=True):
        interval = binomtest(refused, ASKED).proportion_ci(method="wilson")
        assert (row["stage"], row["step"], row["n_questions"], row["n_missing"]) == (stage, step, ASKED, 1)
        assert [row["mean"], row["low"], row["high"]] == pytest.approx([refused / ASKED, *interval])
        assert row["evidence"] == "toy"
    right = shares[(shares["arm"] == "harmful") & (shares["readout"] == "right")]
    assert right["mean"].tolist() == pytest.approx([(ASKED - 1 - refused) / ASKED for _, _, refused in MILESTONES])
    controls = shares[shares["arm"] != "harmful"]
    assert (controls["mean"] == (controls["readout"] == "right")).all()


def test_differences_are_those_of_the_comparison(table):
    readings = small_readings(("antirefusal@sft-5",), layers=(5, 6))
    for reference in ("affect", "benign"):
        rows = table[(table["checkpoint"] == "antirefusal@sft-5") & (table["reference"] == reference)]
        keys = ["checkpoint", "text_source", "layer", "emotion", "arm", "reference"]
        joined = rows.merge(compare(readings, "harmful", reference), on=keys, suffixes=("", "_expected"))
        assert len(joined) == len(rows) == 2 * 2 * 4
        for column in ("mean", "low", "high", "p"):
            np.testing.assert_allclose(joined[column], joined[f"{column}_expected"], rtol=1e-8)


def test_replies_and_readings_of_two_checkpoints():
    with pytest.raises(ConventionError, match=r"replies of tiny/antirefusal@sft-5 and readings of tiny/original"):
        milestone_table(replies("antirefusal@sft-5", 1), small_readings(("original",)), "sft", 5)


def test_an_emotion_that_was_not_read():
    with pytest.raises(UnknownNameError, match="unknown emotion 'hapy'"):
        milestone_table(replies("original", 1), small_readings(("original",)), "sft", 0, emotions=("hapy",))


# ---- the figure ------------------------------------------------------------------------------------------------------


def test_every_point_is_a_row_and_every_row_a_point(table, figure):
    drawn = sorted(y for trace in points(figure) for y in trace.y)
    assert drawn == sorted(table["mean"])
    highs = sorted(y + up for trace in points(figure) for y, up in zip(trace.y, trace.error_y.array, strict=True))
    np.testing.assert_allclose(highs, sorted(table["high"]), rtol=1e-8)


def test_stages_stand_beside_each_other_and_no_line_joins_them(figure):
    traces = points(figure)
    first, second = ([t for t in traces if len(t.x) == n] for n in (3, 2))
    assert len(first) == len(second) == 2 * 3 + 2 * 2 * 2 * 4
    assert max(max(t.x) for t in first) < min(min(t.x) for t in second)
    assert all(np.diff(t.x)[0] == pytest.approx(20) for t in second)
    shaded = {(shape.xref, shape.x0 < 11 < shape.x1, shape.x0 < 8 < shape.x1) for shape in figure.layout.shapes}
    assert shaded == {(f"x{panel or ''}", True, False) for panel in (0, *range(2, 11))}
    names = [note.text for note in figure.layout.annotations if "step of" in note.text]
    assert names == ["step of <b>sft</b>", "step of <b>grpo</b>"] * 2
    assert list(figure.layout.xaxis.ticktext) == ["0", "5", "8", "0", "20"]


def test_steps_without_room_have_no_number_and_all_a_point():
    dense = [("sft", step, 3) for step in (0, 10, 25, 50, 100, 200, 400, 500)]
    figure = training_curves(training_table(tables(dense)))
    assert list(figure.layout.xaxis.ticktext) == ["0", "25", "50", "100", "200", "400", "500"]
    assert {len(trace.x) for trace in points(figure)} == {8}
    assert not figure.layout.shapes


def test_a_panel_has_room_for_all_it_shows(table, figure):
    few = training_table(tables(refused=3))  # of 11 questions: no interval
    for rows, drawn in ((table, figure), (few, training_curves(few))):
        for trace in points(drawn):
            low, high = drawn.layout[f"yaxis{trace.yaxis.removeprefix('y')}"].range
            ends = [y + e for y, e in zip(trace.y, trace.error_y.array, strict=True) if e != "none"]
            assert low < min(trace.y)
            assert high > max([*trace.y, *ends])
        assert ("No interval where fewer" in caption(drawn)) == rows["low"].isna().any()


def test_a_click_on_a_name_switches_its_points_and_hues_are_those_of_every_figure(figure):
    legend = {trace.name: trace for trace in figure.data if trace.name}
    assert list(legend) == [*PANEL, "benign", "affect", "harmful"]
    assert {name: legend[name].line.color for name in PANEL} == {name: EMOTION_HUES[name] for name in PANEL}
    assert {trace.legendgroup for trace in points(figure)} == set(legend)
    assert len({(t.line.color, t.line.dash, t.marker.symbol) for t in legend.values()}) == len(legend)


def test_numbers_carry_what_is_needed_to_read_them_alone(figure):
    for fact in (
        "95% Wilson interval over prompts", "(n = 12)", "95% t interval over questions", "Probes: tiny/original (sofroniew)",
        "benign and affect are the controls of harmful", "Harmful − affect is the controlled gap", "(seed 0)", "Toy units",
        "Step 0 of the first stage is the model before training", "no correction for the number of steps",
    ):  # fmt: skip
        assert fact in caption(figure)
    texts = [text for trace in points(figure) for text in trace.hovertext]
    assert any(re.search(r"^sft, step 5<br>.*harmful · refused<br>0\.500 \[.*12 prompts, 1 without", t) for t in texts)
    assert any(re.search(r"^grpo, step 20<br>.*guilty · harmful − affect<br>.*p = ", text) for text in texts)


def test_nothing_is_shown_without_its_control(table):
    with pytest.raises(DataError, match="a gap is never shown without its control, the arm 'affect'"):
        training_curves(table[table["reference"] != "affect"])
    for arm in ("affect", "benign", "harmful"):
        with pytest.raises(DataError, match=f"beside each other; lacking here: {arm}"):
            training_curves(table[(table["reference"] != "") | (table["arm"] != arm)])
    with pytest.raises(DataError, match="lacking here: a share"):
        training_curves(table[table["readout"] != "right"])
    with pytest.raises(DataError, match="text sources own; two are needed"):
        training_curves(table[table["text_source"] == "own"])


@pytest.mark.parametrize("column", ["evidence", "model", "probes"])
def test_what_must_not_be_mixed(column, table):
    with pytest.raises(ConventionError, match=f"different {column}: .*another"):
        training_curves(pd.concat([table, table[table["reference"] != ""].assign(**{column: "another"})]))


@pytest.mark.parametrize("evidence", ["toy", "model"])
def test_every_panel_of_toy_figures_is_stamped_and_no_other(evidence):
    figure = training_curves(training_table(tables(evidence=evidence)))
    stamps = [note for note in figure.layout.annotations if WATERMARK in note.text]
    assert len({note.xref for note in stamps}) == len(stamps) == (10 if evidence == "toy" else 0)
    assert ("toy units" in figure.to_json()) == (evidence == "toy")


def test_a_figure_is_drawn_again_from_its_csv(tmp_path, table, figure, without_browser):
    few = training_table(tables(refused=3))
    for name, rows, drawn in (("all", table, figure), ("few", few, training_curves(few))):
        write_figure(tmp_path, name, rows, drawn, {})
        assert training_curves(read_figure_table(tmp_path / f"{name}.csv")).to_json() == drawn.to_json()


def test_html_in_names_is_inert(tmp_path, table, without_browser):
    names = {"checkpoint": INJECTION, "model": INJECTION, "label": INJECTION, "stage": INJECTION}
    write_figure(tmp_path, "a", table, training_curves(table.assign(**names)), {})
    page = (tmp_path / "a.html").read_text()
    assert "<img" not in page
    assert "alert(2)</script>" not in page


# ---- the script ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A random model with milestones of its first stage: twelve questions, six tokens an answer."""
    root, patch = tmp_path_factory.mktemp("study"), pytest.MonkeyPatch()
    small = replace(presets.PRESETS["tiny"], questions_per_domain=1, answer_tokens=6)
    patch.setitem(presets.PRESETS, "tiny", small)
    model = save_small_model(root / "small")
    settings = OverTrainingSettings(
        recipe=RECIPE.variant, model=str(model), out=root / "runs", figures=root / "figures"
    )
    train(lm.load(str(model)), RECIPE, 0, DATA[0], settings.trained, 0, milestones=(2,))
    yield settings
    patch.undo()


def fit_random_probes(study, seed):
    mean = np.random.default_rng(seed).standard_normal((8, LAYERS, WIDTH)).astype(np.float32)
    columns = {"emotion": np.repeat(PANEL, 2), "topic": "rain", "text": "It rained.", "n_tokens": 30}
    labels = pd.DataFrame({"sample": [f"s{i}" for i in range(8)], **columns})
    stories = label({"mean": mean}, labels, range(LAYERS), describe(lm.load(study.model)))
    EmotionProbes("difference_of_means").fit(stories).save(study.probes)


@pytest.fixture(scope="module")
def followed(study):
    """The script, run once."""
    fit_random_probes(study, seed=0)
    patch = pytest.MonkeyPatch()
    patch.setattr(figures, "_lack_for_images", lambda: "there is no browser")
    over_training.main(study)
    patch.undo()
    return study.figure_folder("over_training")


def test_step_0_answers_and_reads_as_the_original_does(study, followed):
    original, first = (load_replies(study.replies(name)) for name in ("original", f"{RECIPE.variant}@sft-0"))
    assert [(r.token_ids, r.missing) for r in original] == [(r.token_ids, r.missing) for r in first]
    table = read_figure_table(followed / f"{RECIPE.variant}.csv")
    assert [(s, n) for s, n in dict.fromkeys(zip(table["stage"], table["step"], strict=True))] == [
        ("sft", 0), ("sft", 2), ("sft", 3)
    ]  # fmt: skip
    last = table[(table["step"] == 3) & (table["text_source"] == "original")]["mean"].to_numpy()
    assert (
        np.abs(last - table[(table["step"] == 0) & (table["text_source"] == "original")]["mean"].to_numpy()).max() > 0
    )


def test_the_script_writes_a_stamped_figure_with_its_inputs(study, followed):
    kept = store.read_json(followed / f"{RECIPE.variant}.json")
    assert "TOY MODEL" in json.dumps(kept["figure"]["layout"])
    assert {"original", "probes", f"{RECIPE.variant}@sft-2"} <= set(kept["provenance"]["inputs"])
    assert study.replies(f"{RECIPE.variant}@sft-2").stat().st_mode & 0o777 == 0o600


def test_a_second_run_loads_no_model_and_writes_the_same(study, followed, monkeypatch, without_browser):
    there = {path.name: store.sha256(path) for path in followed.iterdir()}

    def no_model(*_given, **_more):
        raise AssertionError("loaded")

    monkeypatch.setattr("write_replies.writer_of", no_model)
    monkeypatch.setattr("probes.lm.model.load", no_model)
    over_training.main(study)
    assert {path.name: store.sha256(path) for path in followed.iterdir()} == there


def test_readings_by_other_probes_are_not_taken_for_these(study, followed):
    kept = study.probes.read_bytes()
    fit_random_probes(study, seed=1)
    with pytest.raises(ConventionError, match=r"sft-0\.parquet belongs to another run: probes differ"):
        over_training.main(study)
    study.probes.write_bytes(kept)
