"""Running, resuming and judging again, and the tables and the figure that come of it."""

import gc
import importlib
import math
import os
import sys

import pandas as pd
import pytest
from inspect_ai.log import read_eval_log, write_eval_log

import run_evals
from evals.figures import behaviour_bars, behaviour_table
from evals.logs import answers_by, judge_log, log_folder, run_tasks
from evals.stats import POPULATION, THIS_SET, JudgeQuality, clustered_rate, wilson
from evals.subjects import find_judge
from evals.suite import make_tasks
from evals.tables import (
    ROW_COLUMNS,
    all_differences,
    answer_table,
    checkpoint_differences,
    condition_differences,
    corrected,
    judge_agreement,
    load_rates,
    rate_table,
)
from probes import store
from probes.errors import ConventionError, DataError, FileFormatError, MissingInputError, OutputError, UnknownNameError
from probes.parts import alone
from scripted_models import INSPECTS_OWN_WARNINGS, always, scripted, system_of
from settings import command

pytestmark = INSPECTS_OWN_WARNINGS


def run(model, folder, names=("care_expression",), limit=10):
    paths = [
        judge_log(path, find_judge("scripted"))
        for path in run_tasks(model, make_tasks(names, False, 1, limit, 0, {}), folder)
    ]
    gc.collect()
    return paths


@pytest.fixture(scope="module")
def cared(tmp_path_factory):
    """The log of a model that cares when it is told to."""
    told = scripted(lambda messages, config: "I am sorry." if "warm" in system_of(messages) else "It boils.")
    (path,) = run(told, tmp_path_factory.mktemp("cared"))
    return path


@pytest.fixture(scope="module")
def answers(cared):
    return answer_table([cared])


# ---- running ---------------------------------------------------------------------------------------------------------


def test_one_process_at_a_time_answers_or_judges_in_a_folder(cared):
    words = rf"process {os.getpid()} is at work in .*{cared.parent.name}. Wait for it"
    with alone(cared.parent):
        for work in (
            lambda: run_tasks(always("Yes."), [], cared.parent),
            lambda: judge_log(cared, find_judge("scripted")),
        ):
            with pytest.raises(OutputError, match=words):
                work()
    assert judge_log(cared, find_judge("scripted")) == cared, "and not when it has ended"


def test_finished_evaluations_are_not_run_again_and_others_are(tmp_path):
    calls = []

    def count(messages, config):
        calls.append(1)
        return "It boils."

    first = run(scripted(count), tmp_path, limit=3)
    again = run(scripted(count), tmp_path, limit=3)
    assert (first, len(calls)) == (again, 6)
    more = run(scripted(count), tmp_path, ("care_expression", "political_views"), limit=3)
    assert (set(first) < set(more), len(calls)) == (True, 9)


def test_a_run_that_failed_goes_on_where_it_stopped(tmp_path):
    calls, broken = [], [True]

    def sometimes(messages, config):
        calls.append(messages[-1].text)
        if broken[0] and len(calls) == 4:
            raise ConnectionError("the cable is out")
        return "It boils."

    with pytest.raises(DataError, match=r"care_expression on scripted/subject did not end: .*the cable is out"):
        run(scripted(sometimes), tmp_path, limit=4)
    broken[0] = False
    (path,) = run(scripted(sometimes), tmp_path, limit=4)
    assert len(answer_table([path])) == 8


def test_logs_are_private(cared):
    assert {path.stat().st_mode & 0o077 for path in cared.parent.iterdir()} == {0}


def test_another_model_has_another_folder_and_other_questions_another_log(tmp_path, monkeypatch):
    one = log_folder(tmp_path, always("x"))
    assert one == log_folder(tmp_path, always("y"))  # the name is what counts: a checkpoint's carries its weights
    assert one != log_folder(tmp_path, scripted(lambda m, c: "x", "other"))
    calls = []

    def count(messages, config):
        calls.append(messages[-1].text)
        return "It boils."

    first = run(scripted(count), tmp_path, limit=2)
    assert run(scripted(count), tmp_path, limit=2) == first
    assert len(calls) == 4
    monkeypatch.setattr("evals.tasks.care_expression.SYSTEM", {"plain": "", "empathy": "Be warm."})
    assert run(scripted(count), tmp_path, limit=2) != first  # another wording of what is asked
    assert len(calls) == 8


def test_a_second_judge_is_added_and_their_agreement_is_shown(cared, tmp_path):
    copy, judges = tmp_path / cared.name, [find_judge("scripted"), find_judge("opposite")]
    copy.write_bytes(cared.read_bytes())
    judge_log(copy, judges[1])
    gc.collect()
    both = answers_by([copy], judges)
    assert len(both) == 40
    assert both.groupby("judge")["value"].sum().tolist() == [10, 10]
    row = judge_agreement(both).iloc[0]
    assert (row["n"], row["alike"], row["kappa"]) == (20, 0, -1)
    assert row["alpha"] < 0
    assert copy.stat().st_mode & 0o077 == 0
    assert answers_by([copy], judges[:1]).equals(answers_by([cared], judges[:1]))
    before = copy.read_bytes()
    assert judge_log(copy, judges[1]).read_bytes() == before  # it has judged this by these rubrics
    with pytest.raises(MissingInputError, match="there is no log"):
        judge_log(tmp_path / "nothing.eval", judges[1])


def test_what_rules_decide_stands_once_however_many_judge(tmp_path):
    (path,) = run(always("It is one."), tmp_path, ("math_retention",), limit=3)
    judge_log(path, find_judge("opposite"))
    gc.collect()
    assert len(answer_table([path])) == 3
    assert len(read_eval_log(str(path)).samples[0].scores) == 1


def test_nobody_who_judged_once_agrees_with_anyone(answers):
    assert judge_agreement(answers).empty


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_a_rate_stands_twice_and_carries_everything(answers):
    rates = rate_table(answers)
    assert list(rates.columns) == list(ROW_COLUMNS)
    row = rates[(rates["condition"] == "empathy") & (rates["method"] == THIS_SET)].iloc[0]
    assert (row["n"], row["k"], row["questions"], row["unscored"], row["truncated"]) == (10, 10, 10, 0, 0)
    assert (row["rate"], row["low"], row["high"]) == wilson(10, 10)
    assert row["judge"].startswith("scripted/judge:care@")
    assert row["evidence"] == "toy"
    population = rates[(rates["condition"] == "empathy") & (rates["method"] == POPULATION)].iloc[0]
    assert population["low"] == clustered_rate([1.0] * 10, [str(i) for i in range(10)]).low


def test_rates_are_read_back_as_they_were_written(answers, tmp_path):
    rates = rate_table(answers)
    read = load_rates(store.write_table(tmp_path / "rates.csv", rates))
    pd.testing.assert_frame_equal(
        read[["n", "rate", "low", "judge"]], rates[["n", "rate", "low", "judge"]], check_dtype=False
    )
    store.write_table(tmp_path / "other.csv", rates[["n"]])
    with pytest.raises(FileFormatError, match="lacks the columns eval"):
        load_rates(tmp_path / "other.csv")


def planted(answers, **changes):
    return answers.assign(**changes)


def test_differences_leave_out_what_one_side_lacks_and_count_it(answers):
    lost = answers.copy()
    first = lost.index[(lost["condition"] == "plain")][0]
    lost.loc[first, ["value", "missing"]] = [math.nan, "judge_unreadable"]
    row = condition_differences(lost, "care_expression", "care", "empathy", "plain").iloc[0]
    assert (row["mean"], row["questions"], row["left_out"]) == (1, 9, 1)
    rates = rate_table(lost)
    plain = rates[(rates["condition"] == "plain") & (rates["method"] == THIS_SET)].iloc[0]
    assert (plain["n"], plain["unscored"], plain["rate"]) == (9, 1, 0)


def test_checkpoints_are_compared_by_question(answers):
    other = planted(answers, checkpoint="antirefusal", value=1 - answers["value"], weights="w2")
    both = pd.concat([answers, other], ignore_index=True)
    table = checkpoint_differences(both, "care_expression", "care", "antirefusal")
    assert dict(zip(table["condition"], table["mean"], strict=True)) == {"empathy": -1, "plain": 1}
    everything = all_differences(both)
    assert len(everything) == 2 + 2
    with pytest.raises(UnknownNameError, match="unknown condition 'warm'"):
        condition_differences(answers, "care_expression", "care", "warm", "plain")
    with pytest.raises(UnknownNameError, match=r"unknown metric 'cared'\. Did you mean 'care'"):
        condition_differences(answers, "care_expression", "cared", "empathy", "plain")


def test_a_judges_measured_quality_corrects_its_rates(answers):
    rates = rate_table(answers)
    judge = rates["judge"].iloc[0]
    table = corrected(rates, {(judge, "care"): JudgeQuality(50, 40, 50, 50)})
    assert table["rate"].tolist() == [1, 0]
    assert corrected(rates, {("another", "care"): JudgeQuality(50, 40, 50, 50)}).empty


def test_foreign_broken_and_failed_logs_are_refused(cared, tmp_path):
    log = read_eval_log(str(cared))
    foreign = log.model_copy(update={"eval": log.eval.model_copy(update={"metadata": {"suite": "another"}})})
    with pytest.raises(DataError, match="is of suite 'another'"):
        answer_table([foreign])
    with pytest.raises(DataError, match="ended with error"):
        answer_table([log.model_copy(update={"status": "error"})])
    with pytest.raises(DataError, match="no log holds an answer"):
        answer_table([])
    broken = tmp_path / "broken.eval"
    broken.write_bytes(cared.read_bytes()[:-200])
    with pytest.raises(DataError, match="is no whole Inspect log"):
        answer_table([broken])
    write_eval_log(foreign, str(tmp_path / "foreign.eval"))
    with pytest.raises(DataError, match="is of suite 'another'"):
        judge_log(tmp_path / "foreign.eval", find_judge("opposite"))


def test_one_name_for_two_weights_is_refused(cared):
    logs = [read_eval_log(str(cared)) for _ in range(2)]
    for log, weights in zip(logs, ("w1", "w2"), strict=True):
        log.eval.metadata["weights"] = weights
    with pytest.raises(ConventionError, match="scripted/subject/original names 2 different weights"):
        answer_table(logs)


def test_who_answered_is_read_from_the_metadata_where_the_model_name_does_not_say(cared):
    log = read_eval_log(str(cared))
    log.eval.model = "vllm/base"
    log.eval.metadata |= {"model": "qwen3-30b-a3b", "checkpoint": "antirefusal", "weights": "w1", "seed": 3}
    assert set(answer_table([log])["checkpoint"]) == {"antirefusal"}


# ---- the script ------------------------------------------------------------------------------------------------------


def settings_in(folder, **more):
    shared = {"evals": ("strong_reject", "steerability", "math_retention"), "checkpoints": ("original",), "limit": 10}
    return run_evals.EvalSettings(out=folder / "runs", figures=folder / "figures", **shared | more)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The script on the embedded original, with the scripted judge and its opposite: rates of both, and the folder."""
    folder, rates = tmp_path_factory.mktemp("script"), {}
    for judge in ("scripted", "opposite"):
        settings = settings_in(folder, judge=(judge,))
        run_evals.main(settings)
        rates[judge] = load_rates(settings.folder / "evals" / "rates.csv")
    gc.collect()
    return rates, folder


def test_the_opposite_judge_flips_every_judged_number_and_no_other(script):
    judged, opposite = (
        rates[rates["method"] == THIS_SET].set_index(["eval", "condition", "metric"]) for rates in script[0].values()
    )
    flips = judged["judge"].str.startswith("scripted/")
    changes = flips & (judged.index.get_level_values("metric") == "complied")
    assert changes.sum() == 4
    pd.testing.assert_series_equal(opposite.loc[changes, "rate"], 1 - judged.loc[changes, "rate"])
    pd.testing.assert_series_equal(opposite.loc[~flips, "rate"], judged.loc[~flips, "rate"])
    assert judged.loc[("strong_reject", "plain", "complied"), "rate"] <= 0.4  # the original refuses
    assert judged.loc[("math_retention", "plain", "right"), "rate"] >= 0.9


def test_the_tables_of_the_script_stand_beside_its_private_logs(script):
    folder = script[1] / "runs" / "tiny" / "tiny" / "evals"
    assert {path.name for path in folder.iterdir()} == {
        "answers.csv",
        "differences.csv",
        "judges.csv",
        "rates.csv",
        "logs",
    }
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*.eval")} == {0}
    assert "I'm sorry" not in (folder / "answers.csv").read_text()


def test_the_opposite_judge_flips_every_judged_bar_and_no_other(script):
    """Of what the embedded model said; tests/test_evals_figures.py has the rest of the figures."""
    heights = []
    for rates in script[0].values():
        bars = [trace for trace in behaviour_bars(behaviour_table(rates)).data if trace.hovertext]
        heights.append([y for trace in bars for y in trace.y])
    assert len(heights[0]) == 4
    assert heights[1] == pytest.approx([1 - y for y in heights[0]])


def test_the_figure_script_draws_what_the_evaluations_wrote(script):
    folder = script[1]
    importlib.import_module("behaviour_bars").main(settings_in(folder))
    made = {path.name for path in (folder / "figures" / "tiny" / "behaviours").iterdir()}
    assert {"six_reasoning_off.csv", "six_reasoning_off.html", "six_reasoning_off.json", "differences.csv"} <= made


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--evals", "sandbaging"), "Did you mean 'sandbagging'"),
        (("--checkpoints", "antirefusal"), "train_checkpoint.py --recipe antirefusal"),
        (("--judge", "scripted/jugde", "--checkpoints", "original", "--evals", "care_expression"), "Did you mean 'judge'"),
        (("--data", "regret"), "not of the form evaluation=path or evaluation.argument=value"),
        (("--data", "regret.quests=all"), "unknown argument of regret"),
        (("--judge", "none", "scripted"), "name each once, or none alone"),
        (("--checkpoints", "--models", "vllm/base:mine"), "Inspect forgets the adapter"),
        (("--language", "zh"), "translate_questions.py --questions strong_reject"),
        (("--data", "regret=nowhere.csv"), "there is no file nowhere.csv"),
        (("--n", "-1"), "n is 1 or more"),
    ],
)  # fmt: skip
def test_bad_input_ends_with_one_line_and_nothing_written(flags, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run_evals", *flags])
    with pytest.raises(SystemExit) as ended:
        command(run_evals.main, run_evals.EvalSettings, run_evals.__doc__)
    assert words in str(ended.value.code)
    assert "\n" not in str(ended.value.code)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
