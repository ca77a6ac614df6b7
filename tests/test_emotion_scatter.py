"""Scores over readings of the same answers: the table, the figure drawn from it, and the script that makes both."""

import gc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import replay_evals
import run_evals
from evals.association import NO_SPREAD, association
from evals.emotion_scatter import ANSWER, FIGURE_COLUMNS, SCORED, TOGETHER, emotion_scatter, load_scatter, scatter_table
from evals.replay import TABLE_COLUMNS
from probes import lm, store
from probes.activations import capture
from probes.directions import EmotionProbes
from probes.emotions import PANEL
from probes.errors import ConventionError, DataError, LayerError, MissingInputError, UnknownNameError
from probes.gates import GATE_COLUMNS, MEASURABLE
from probes.page import TOY_NOTE, WATERMARK
from probes.readings import LAYER_CONVENTION
from probes.stories import Stories, Story
from scripted_models import INSPECTS_OWN_WARNINGS
from small_readings import INJECTION

pytestmark = INSPECTS_OWN_WARNINGS
EMOTIONS = PANEL[:2]


@pytest.fixture(scope="module")
def table():
    """Two checkpoints on 12 requests, twice each: what original reads of happiness goes with complying, and nothing else does."""
    rng, rows = np.random.default_rng(0), []
    for checkpoint in ("antirefusal", "original"):
        for question in range(12):
            for epoch in (1, 2):
                complied = float(checkpoint == "antirefusal" or (question + epoch) % 3 == 0)
                regret = float(question % 2)
                for emotion in EMOTIONS:
                    value = (
                        complied + 0.1 * rng.normal()
                        if (checkpoint, emotion) == ("original", "happy")
                        else rng.normal()
                    )
                    shared = {
                        "model": "tiny", "checkpoint": checkpoint, "weights": f"w-{checkpoint}", "seed": 0, "text_source": "own",
                        "evidence": "toy", "question": f"q{question:02d}", "epoch": epoch, "reasoning": False, "language": "en",
                        "span": "answer", "missing": "", "layer": 5, "emotion": emotion, "readout": "anchored_dot",
                        "aggregation": "mean", "baseline": "own", "value": value, "probes": "tiny/original (sofroniew)",
                        "self_description": "", "self_report_missing": "not_asked", "score_missing": "",
                    }  # fmt: skip
                    sample = f"{checkpoint}/{question}/{epoch}"
                    rows.append({**shared, "eval": "strong_reject", "condition": "plain", "turn": 1, "sample": f"s/{sample}",
                                 "judge": "j:s@1", "metric": "complied", "score": complied})  # fmt: skip
                    rows += [{**shared, "eval": "regret", "condition": "open", "turn": turn, "sample": f"r/{sample}/{turn}",
                              "judge": "j:r@1", "metric": "complied", "score": complied, "regret": regret,
                              "self_report_missing": ""} for turn in (1, 2)]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=list(TABLE_COLUMNS))


@pytest.fixture(scope="module")
def drawn(table):
    return scatter_table(table, 5, EMOTIONS)


def cell(drawn, words, emotion, checkpoint):
    return drawn[(drawn["words"] == words) & (drawn["emotion"] == emotion) & (drawn["checkpoint"] == checkpoint)]


def test_answers_and_their_association_are_those_of_the_table(drawn):
    rows = cell(drawn, SCORED[0].words, "happy", "original")
    answers, (_, together) = rows[rows["shows"] == ANSWER], next(rows[rows["shows"] == TOGETHER].iterrows())
    assert (len(answers), together["n"], together["n_missing"], together["questions"]) == (24, 24, 0, 12)
    expected = association(answers["value"].tolist(), answers["score"].tolist(), answers["question"].tolist())
    assert together["correlation"] == pytest.approx(expected.correlation, abs=1e-6)
    assert together["correlation"] > 0.9
    assert together["p"] == pytest.approx(1 / 2000, abs=1e-9)
    assert together["shuffled_high"] < together["low"]
    other = cell(drawn, SCORED[0].words, "calm", "original").iloc[-1]
    assert other["shuffled_low"] < other["correlation"] < other["shuffled_high"]


def test_scores_that_are_all_alike_have_no_association(drawn):
    rows = cell(drawn, SCORED[0].words, "happy", "antirefusal")
    assert (rows["shows"].tolist().count(ANSWER), rows.iloc[-1]["note"]) == (24, NO_SPREAD)


def test_a_self_report_is_set_beside_the_answer_it_is_about(table, drawn):
    rows = cell(drawn, SCORED[1].words, "calm", "original")
    read = table[
        (table["eval"] == "regret")
        & (table["turn"] == 1)
        & (table["emotion"] == "calm")
        & (table["checkpoint"] == "original")
    ]
    assert sorted(rows.loc[rows["shows"] == ANSWER, "value"]) == pytest.approx(sorted(read["value"]))
    assert set(rows.loc[rows["shows"] == ANSWER, "score"]) == {0.0, 1.0}
    assert set(drawn["words"]) == {SCORED[0].words, SCORED[1].words}  # nobody was asked for a self-description


def test_self_descriptions_count_by_their_kind(table):
    kinds = table["question"].map(lambda name: ("helpful_only", "mixed", "")[int(name[1:]) % 3])
    asked = table[table["eval"] == "strong_reject"].assign(eval="self_description", metric="", self_description=kinds)
    asked["self_report_missing"] = asked["self_description"].map(lambda kind: "" if kind else "judge_silent")
    rows = cell(scatter_table(asked, 5, EMOTIONS), SCORED[2].words, "calm", "original")
    scores = rows[rows["shows"] == ANSWER].groupby("question")["score"].first()
    assert scores.to_dict() == {f"q{i:02d}": float(i % 3 == 0) for i in range(12) if i % 3 < 2}
    assert (rows.iloc[-1]["n"], rows.iloc[-1]["n_missing"]) == (16, 8)


def test_what_is_missing_is_left_out_and_counted(table):
    lost = table.copy()
    chosen = lost.index[
        (lost["eval"] == "strong_reject") & (lost["checkpoint"] == "original") & (lost["emotion"] == "calm")
    ]
    lost.loc[chosen[:2], ["value", "missing"]] = [np.nan, "truncated"]
    lost.loc[chosen[2], ["score", "score_missing"]] = [np.nan, "judge_unreadable"]
    row = cell(scatter_table(lost, 5, EMOTIONS), SCORED[0].words, "calm", "original").iloc[-1]
    assert (row["n"], row["n_missing"], row["questions"]) == (21, 3, 11)


def test_the_figure_is_drawn_from_its_csv_stamped_and_says_what_it_rests_on(drawn, tmp_path):
    figure = emotion_scatter(drawn)
    again = emotion_scatter(load_scatter(store.write_table(tmp_path / "layer_5.csv", drawn)))
    assert figure.to_json() == again.to_json()
    layout = " ".join(str(one["text"]) for one in figure.layout["annotations"]).replace("<br>", " ")
    assert layout.count(WATERMARK) == 2 * 2 * 2
    for words in (
        TOY_NOTE,
        "shuffled across questions",
        "no correction for 8 cells",
        "n = 24 answers a cell",
        "a refusal says sorry",
    ):
        assert words in layout
    assert list(drawn.columns) == list(FIGURE_COLUMNS)


def test_names_that_would_run_are_shown_as_text(table):
    figure = emotion_scatter(scatter_table(table.assign(question=INJECTION + table["question"]), 5, EMOTIONS))
    assert "<img" not in figure.to_json()
    assert "<script" not in figure.to_json()


def test_bad_input(table, drawn):
    with pytest.raises(LayerError, match="no reading at layer 6; there are 5"):
        scatter_table(table, 6, EMOTIONS)
    with pytest.raises(UnknownNameError, match=r"unknown emotion 'guilty'"):
        scatter_table(table, 5, ("happy", "guilty"))
    with pytest.raises(UnknownNameError, match=r"unknown readout 'cosine'"):
        scatter_table(table, 5, EMOTIONS, readout="cosine")
    with pytest.raises(ConventionError, match="different evidence"):
        scatter_table(pd.concat([table, table.assign(evidence="model", checkpoint="other")]), 5, EMOTIONS)
    with pytest.raises(ConventionError, match=r"judged by j:s@1, k:s@1; one figure takes one judge"):
        scatter_table(pd.concat([table, table.assign(judge="k:s@1")]), 5, EMOTIONS)
    with pytest.raises(DataError, match="the table holds none of"):
        scatter_table(table, 5, EMOTIONS, SCORED[2:])
    with pytest.raises(DataError, match="not shown without associations"):
        emotion_scatter(drawn[drawn["shows"] == ANSWER])


# ---- the script ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The script after run_evals on the embedded original, with probes of few stories: its settings."""
    folder = tmp_path_factory.mktemp("script")
    shared: dict = {"out": folder / "runs", "figures": folder / "figures", "checkpoints": ("original",), "layers": (5,)}
    run_evals.main(run_evals.EvalSettings(evals=("strong_reject",), limit=10, **shared))
    gc.collect()
    settings, model = replay_evals.ReplaySettings(**shared), lm.load("tiny")
    texts = dict(
        zip(
            PANEL,
            ("They danced and sang.", "The lake lay still.", "He hid the cup.", "No way out was left."),
            strict=True,
        )
    )
    stories = [
        Story(f"{name}/{i}", name, f"t{i}", f"{text} {i} days went by.") for name, text in texts.items() for i in (1, 2)
    ]
    probes = EmotionProbes("difference_of_means").fit(capture(model, Stories(stories, "tiny"), (5,), start_token=2))
    probes.save(settings.probes)
    store.write_table(settings.gates("original"), gates_of(probes))
    replay_evals.main(settings)
    return settings, probes


def gates_of(probes):
    """Gates that let everything through, with a unit of 2 from 1 on."""
    known = {
        "model": "tiny", "checkpoint": "original", "evidence": "toy", "layer_convention": LAYER_CONVENTION, "layer": 5,
        "probes": probes.source(), "neutral": 1.0, "gain": 2.0, "low": 1.5, "high": 2.5, "n_topics": 8, "outcome": MEASURABLE,
    }  # fmt: skip
    return pd.DataFrame([dict.fromkeys(GATE_COLUMNS, 0) | known | {"emotion": name} for name in PANEL])


def test_one_table_holds_scores_and_readings_of_every_answer(script):
    settings, _ = script
    table = pd.read_parquet(settings.folder / "evals" / "behaviour_and_emotion.parquet")
    assert list(table.columns) == list(TABLE_COLUMNS)
    assert len(table) == 10 * 2 * 4 * 6  # answers, metrics, emotions, four readouts and anchored ones of two baselines
    assert set(table["tokens"]) == {"generated"}
    wide = table[table["metric"] == "complied"].pivot_table(
        index=["sample", "emotion"], columns=["readout", "baseline"], values="value"
    )
    np.testing.assert_allclose(wide[("anchored_dot", "own")], (wide[("dot", "none")] - 1) / 2, rtol=1e-5, atol=1e-6)
    answers = pd.read_csv(settings.folder / "evals" / "answers.csv").set_index(["question", "metric"])["value"]
    for row in table.drop_duplicates(["question", "metric"]).itertuples():
        assert row.score == answers[row.question, row.metric]


def test_the_figure_is_there_and_what_was_read_is_not_read_again(script, capsys, monkeypatch):
    settings, _ = script
    made = {path.name for path in settings.figure_folder("behaviour_and_emotion").iterdir()}
    assert {"layer_5.csv", "layer_5.json", "layer_5.html"} <= made
    monkeypatch.setattr("probes.lm.model.load", lambda *_given, **_more: pytest.fail("the model was loaded again"))
    replay_evals.main(settings)
    assert "original-" in capsys.readouterr().out


def test_the_script_names_what_is_lacking(script, tmp_path):
    settings = replace(script[0], figures=tmp_path)
    with pytest.raises(MissingInputError, match="no log with the thinking of original"):
        replay_evals.main(replace(settings, spans=("thinking",)))
    with pytest.raises(LayerError, match="no probes at layers"):
        replay_evals.main(replace(settings, layers=(6,)))
    with pytest.raises(UnknownNameError, match=r"unknown emotion 'gilty'\. Did you mean 'guilty'"):
        replay_evals.main(replace(settings, emotions=("gilty",)))
    answers = settings.folder / "evals" / "answers.csv"
    answers.rename(tmp_path / "answers.csv")
    with pytest.raises(MissingInputError, match=r"there is no file .*answers\.csv"):
        replay_evals.main(settings)
