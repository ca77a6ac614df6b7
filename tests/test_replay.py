"""Logs put through a checkpoint again: the very tokens, the very spans, the very readings; and what they stand beside."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from inspect_ai.event import ModelEvent
from inspect_ai.log import write_eval_log
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelOutput,
    get_model,
)

from evals import replay as module
from evals.judges.scripted import by_sample
from evals.logs import judge_log
from evals.replay import AGAIN, GENERATED, TABLE_COLUMNS, beside_scores, logs_behind, replay
from evals.subjects import find_judge
from evals.tables import answer_table
from evals.tasks.math_retention import math_retention
from evals.tasks.regret import regret
from evals.tasks.sandbagging import sandbagging
from evals.tasks.self_description import self_description
from evals.tasks.strong_reject import strong_reject
from probes import lm
from probes.activations import capture, load_activations, save_activations
from probes.directions import DOT, EmotionProbes
from probes.errors import ConventionError, DataError, MissingInputError, UnknownNameError
from probes.lm import generate as generating
from probes.replies import Replies, Reply
from probes.stories import Stories, Story
from scripted_models import INSPECTS_OWN_WARNINGS, always, log_of, scripted

pytestmark = INSPECTS_OWN_WARNINGS
LAYERS = (2, 5)
REFUSES, COMPLIES, REGRETS = "I'm sorry, but I can't help with that.", "It goes like this.", "I regret that."


@pytest.fixture(scope="module")
def tiny():
    return lm.load("tiny")


@pytest.fixture(scope="module")
def probes(tiny):
    told = {
        "happy": "They danced and sang all evening long.",
        "guilty": "He hid the broken cup and said nothing of it.",
    }
    stories = [
        Story(f"{name}/{i}", name, f"t{i}", f"{text} {i} days went by.")
        for name, text in told.items()
        for i in range(3)
    ]
    return EmotionProbes("difference_of_means").fit(capture(tiny, Stories(stories, "tiny"), LAYERS, start_token=2))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A log of the embedded original on two turns, hot, so that texts are cut and tokens odd; and what it generated."""
    with pytest.MonkeyPatch.context() as patch:
        return evaluated(
            regret(limit=3, n=2),
            tmp_path_factory.mktemp("written"),
            patch,
            GenerateConfig(temperature=1.6, max_tokens=24),
        )


def evaluated(task, folder, patch, config=None):
    completions, generate = {}, generating.generate

    def kept(*args, **kwargs):
        done = generate(*args, **kwargs)
        completions.update({tuple(one.prompt_ids + one.token_ids): one for one in done})
        return done

    patch.setattr(generating, "generate", kept)
    task.config = config or task.config
    return log_of(task, get_model("probes/tiny/original", memoize=False), folder), completions


def passages_of(model, log, patch, **options):
    """What is run through the model, by sample."""
    seen = {}

    def look(engine, passages, kept, labels, *rest):
        seen.update(dict(zip(labels["sample"].iloc[kept], passages, strict=True)))
        return labels

    patch.setattr(module, "capture_passages", look)
    labels = replay(model, log, **options)
    patch.undo()
    return seen, labels.set_index("sample")


def without_ids(log):
    """The log as another provider would have written it."""
    bare = log.model_copy(deep=True)
    for event in model_calls(bare):
        event.output.metadata = {}
    return bare


def model_calls(log):
    return [one for sample in log.samples for one in sample.events if isinstance(one, ModelEvent) and one.role is None]


def frame(activations):
    return pd.DataFrame(
        {str(name): coord.values for name, coord in activations.coords.items() if coord.dims == ("sample",)}
    )


# ---- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task", [strong_reject(limit=2), math_retention(reasoning=True, limit=2), sandbagging(limit=1)], ids=lambda task: task.name
)  # fmt: skip
def test_the_tokens_read_are_those_generated_with_tools_and_thinking_too(task, tiny, tmp_path, monkeypatch):
    log, completions = evaluated(task, tmp_path, monkeypatch, GenerateConfig(temperature=0, max_tokens=12))
    passages, labels = passages_of(tiny, log, monkeypatch)
    assert set(labels["tokens"]) == {GENERATED}
    assert passages
    for passage in passages.values():
        done = next(
            one for ids, one in completions.items() if ids[: len(passage.token_ids)] == tuple(passage.token_ids)
        )
        assert passage.span == done.spans.answer
        assert len(passage.token_ids) == done.spans.answer.stop


def test_every_turn_is_read_by_the_tokens_it_was_generated_in(written, tiny, monkeypatch):
    log, completions = written
    passages, labels = passages_of(tiny, log, monkeypatch)
    read = [(tuple(one.token_ids), one.span) for one in passages.values()]
    generated = {
        ((*one.prompt_ids, *one.token_ids)[: one.spans.answer.stop], one.spans.answer) for one in completions.values()
    }
    assert set(read) <= generated
    assert len(labels) == 3 * 3 * 2 * 2  # questions, wordings, answers, turns
    assert labels.groupby("turn").size().tolist() == [18, 18]
    assert labels["cut"].any()


def test_where_ids_are_lacking_the_text_is_tokenised_again_and_every_sample_says_so(written, tiny, monkeypatch):
    log, _ = written
    exact, _ = passages_of(tiny, log, monkeypatch)
    again, labels = passages_of(tiny, without_ids(log), monkeypatch)
    assert set(labels["tokens"]) == {AGAIN}
    other = {name for name in again if tuple(again[name].token_ids) != tuple(exact[name].token_ids)}
    assert 0 < len(other) < len(again)  # odd tokens spell a text that this tokenizer would spell otherwise
    for name in again:
        texts = [tiny.tokenizer.decode(one.token_ids[one.span.start :]).strip() for one in (again[name], exact[name])]
        assert texts[0] == texts[1]


def test_greedy_answers_are_tokenised_again_exactly(tiny, tmp_path, monkeypatch):
    log, _ = evaluated(strong_reject(limit=8), tmp_path, monkeypatch, GenerateConfig(temperature=0, max_tokens=40))
    exact, _ = passages_of(tiny, log, monkeypatch)
    again, _ = passages_of(tiny, without_ids(log), monkeypatch)
    assert len(exact) == 8
    assert exact == again


# ---- spans -----------------------------------------------------------------------------------------------------------


def output_of(content, stop="stop"):
    message = ChatMessageAssistant(content=content, source="generate")
    return ModelOutput(model="m", choices=[ChatCompletionChoice(message=message, stop_reason=stop)])


APART = [ContentReasoning(reasoning="Two and two are four."), ContentText(text="Four.")]
SHAPES = {
    "apart": (output_of(APART), "Two and two are four.", "Four.", ""),
    "tagged": (output_of("<think>\nHm, sums.\n</think>\n\n Four. \n"), "Hm, sums.", "Four.", ""),
    "closed": (output_of("Hm, sums.\n</think>\n\nFour."), "Hm, sums.", "Four.", ""),
    "plain": (output_of("Four."), "", "Four.", ""),
    "hidden": (output_of([ContentReasoning(reasoning="xyz", redacted=True), ContentText(text="Four.")]), "", "Four.", ""),
    "endless": (output_of("<think>\nHm, sums that", "max_tokens"), "Hm, sums that", "", "truncated"),
    "cut": (output_of("<think>\nHm.\n</think>\n\nFour and", "max_tokens"), "Hm.", "Four and", ""),
    "stray": (output_of("<think>\nHm.\n</think>\n\nFour </think> five"), "Hm.", "", "no_answer"),
    "inside": (output_of([ContentReasoning(reasoning="a </think> b"), ContentText(text="Four.")]), "", "", "not_spelt"),
}  # fmt: skip
"""A provider's output → thinking, answer, and why the answer is missing."""


@pytest.mark.parametrize("shape", SHAPES)
def test_spans_spell_the_visible_answer_and_the_thinking(shape, tiny, tmp_path, monkeypatch):
    output, thinking, answer, missing = SHAPES[shape]
    log = log_of(math_retention(reasoning=True, limit=1), scripted(lambda messages, config: output), tmp_path)
    for span, text in (("answer", answer), ("thinking", thinking)):
        if not text:
            with pytest.raises(DataError, match=f"has {span} to read"):
                replay(tiny, log, LAYERS, span, swap=True)
            continue
        passages, labels = passages_of(tiny, log, monkeypatch, span=span, swap=True)
        (passage,) = passages.values()
        assert tiny.tokenizer.decode(passage.token_ids[passage.span.start : passage.span.stop]).strip() == text
        assert (
            "".join(tiny.tokenizer.decode([token]) for token in passage.token_ids[passage.span.start :]).strip() == text
        )
        assert labels["cut"].item() == (shape == "cut")
        assert labels["missing"].item() == missing


def test_the_empty_think_block_and_the_stop_token_are_in_no_span(written, tiny, monkeypatch):
    passages, _ = passages_of(tiny, written[0], monkeypatch)
    for passage in passages.values():
        before = tiny.tokenizer.decode(passage.token_ids[: passage.span.start])
        assert before.rstrip().endswith("</think>")
        spelt = tiny.tokenizer.decode(passage.token_ids[passage.span.start :])
        assert not any(mark in spelt for mark in ("think>", "<|im_end|>", "<|endoftext|>"))


def test_later_turns_show_the_visible_answer_alone(tiny, tmp_path, monkeypatch):
    said = output_of([ContentReasoning(reasoning="secret"), ContentText(text="Four.")])
    log = log_of(regret(reasoning=True, limit=1), scripted(lambda messages, config: said), tmp_path)
    passages, _ = passages_of(tiny, log, monkeypatch, swap=True)
    second = next(one for name, one in passages.items() if "/1/2/" in name)
    prompt = tiny.tokenizer.decode(second.token_ids[: second.span.start])
    assert "Four.<|im_end|>" in prompt
    assert prompt.count("secret") == 1  # its own, before its answer


# ---- activations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("span", ["answer"])
def test_activations_are_those_that_capture_gives_of_the_same_replies(span, written, tiny):
    log, completions = written
    replayed = replay(tiny, log, LAYERS, span)
    kept = [one for one in completions.values() if one.spans.answer]
    captured = capture(tiny, Replies([reply_of(tiny, number, one) for number, one in enumerate(kept)]), LAYERS)
    by_text = {one.answer: place for place, one in enumerate(kept)}
    said = [sample.metadata["answers"][turn]["text"] for sample in in_order(log) for turn in range(2)]
    assert len(said) == replayed.sizes["sample"]
    firsts = [place for place in range(0, len(said), 2) if said[place]]
    for name in ("mean", "unit_mean"):
        ours, theirs = replayed[name].values[firsts], captured[name].values[[by_text[said[place]] for place in firsts]]
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def in_order(log):
    return sorted(log.samples, key=lambda one: (one.metadata["condition"], one.metadata["question"], one.epoch))


def reply_of(model, number, done):
    spans = done.spans
    return Reply(
        sample=f"s{number}", pair="p", domain="d", arm="benign", control=0, model=model.name, checkpoint="original",
        weights=model.weights, written_by="a writer", seed=0, text_source="own", turn="answer", text=done.answer, thinking="",
        stop_reason="stop",
        missing="", right=False, prompt_ids=tuple(done.prompt_ids), token_ids=tuple(done.token_ids),
        answer_start=spans.answer.start, answer_stop=spans.answer.stop, thinking_start=0, thinking_stop=0,
    )  # fmt: skip


def test_the_dataset_is_one_of_activations(written, tiny, probes, tmp_path):
    activations = replay(tiny, written[0], LAYERS)
    again = load_activations(save_activations(tmp_path / "a.safetensors", activations))
    np.testing.assert_array_equal(again["mean"].values, activations["mean"].values)
    assert probes.transform(activations, DOT).sizes == {"sample": 36, "layer": 2, "emotion": 2}
    rows = frame(activations)
    assert rows["sample"].is_unique
    assert rows["sample"].iloc[0] == "/".join(
        map(str, rows.loc[0, ["eval", "condition", "question", "epoch", "turn", "log"]])
    )
    assert set(rows["text_source"]) == {"own"}
    assert (rows["question"] == rows["pair"]).all()


def test_a_path_is_read_like_its_log(written, tiny, tmp_path):
    path = tmp_path / "copy.eval"
    write_eval_log(written[0], str(path))
    one, other = (replay(tiny, log, LAYERS) for log in (path, written[0]))
    np.testing.assert_array_equal(one["mean"].values, other["mean"].values)


def test_a_conversation_that_ends_early_keeps_a_row_for_each_turn_with_its_reason(tiny, probes, tmp_path):
    def reply(messages, config):
        first = messages[0].text
        return "" if first in silent else COMPLIES if len(messages) == 1 else REGRETS

    silent = [sample.input[0].text for sample in regret(limit=2).dataset][:1]
    log = log_of(regret(limit=2), scripted(reply), tmp_path)
    activations = replay(tiny, log, LAYERS, swap=True)
    rows = frame(activations).set_index(["condition", "question", "turn"])["missing"].unstack("turn")
    assert sorted(map(tuple, rows.to_numpy())) == [("", "")] * 3 + [("no_answer", "not_asked")] * 3
    nothing = np.isnan(activations["mean"].values).all(axis=(1, 2))
    assert nothing.tolist() == (activations["missing"].values != "").tolist()
    table = beside_scores(probes.read(activations), activations, answer_table([log]))
    lost = table[table["missing"] != ""]
    assert set(lost["score_missing"]) == set(lost["self_report_missing"]) == {"no_answer"}
    assert lost[["value", "score", "regret"]].isna().all(axis=None)


# ---- who may read whom -----------------------------------------------------------------------------------------------


def of_other_weights(log):
    other = log.model_copy(deep=True)
    for sample in other.samples:
        for score in sample.scores.values():
            score.metadata["checkpoint"] |= {"checkpoint": "antirefusal", "weights": "f" * 64}
    return other


def test_other_weights_are_refused_unless_asked_for(written, tiny):
    other = of_other_weights(written[0])
    with pytest.raises(ConventionError, match=r"tiny/antirefusal \(weights ffffffffffff\), given to tiny/original"):
        replay(tiny, other, LAYERS)
    swapped = replay(tiny, other, LAYERS, swap=True)
    rows = frame(swapped)
    assert set(rows["written_by"]) == set(rows["text_source"]) == {"tiny/antirefusal"}
    assert (set(rows["checkpoint"]), set(rows["written_weights"])) == ({"original"}, {"f" * 64})
    assert set(rows["tokens"]) == {GENERATED}  # the same tokenizer and template: their very tokens
    np.testing.assert_array_equal(swapped["mean"].values, replay(tiny, written[0], LAYERS)["mean"].values)


def test_weights_that_a_log_does_not_name_are_refused_and_those_it_names_are_own(tiny, tmp_path):
    log = log_of(strong_reject(limit=2), always(COMPLIES), tmp_path)
    with pytest.raises(ConventionError, match=r"scripted/subject/original \(weights subject\).*swap=True"):
        replay(tiny, log, LAYERS)
    log.eval.metadata |= {"model": "tiny", "checkpoint": "original", "weights": tiny.weights}
    assert set(replay(tiny, log, LAYERS)["text_source"].values) == {"own"}


def test_prompts_that_render_otherwise_now_are_refused(written, tiny):
    changed = written[0].model_copy(deep=True)
    event = model_calls(changed)[0]
    event.output.metadata["prompt_sha"] = "0" * 64
    with pytest.raises(ConventionError, match=r"1 prompts of .* have other tokens now than tiny/original answered to"):
        replay(tiny, changed, LAYERS)


def test_bad_input(written, tiny):
    log = written[0]
    with pytest.raises(UnknownNameError, match=r"unknown span 'thinkin'\. Did you mean 'thinking'"):
        replay(tiny, log, LAYERS, span="thinkin")
    with pytest.raises(DataError, match=r"none of 36 turns in .* has thinking to read"):
        replay(tiny, log, LAYERS, span="thinking")
    foreign = log.model_copy(update={"eval": log.eval.model_copy(update={"metadata": {"suite": "another"}})})
    with pytest.raises(DataError, match="is of suite 'another'"):
        replay(tiny, foreign, LAYERS)
    with pytest.raises(DataError, match="is no whole Inspect log"):
        replay(tiny, "nowhere.eval", LAYERS)
    stripped = log.model_copy(deep=True)
    for sample in stripped.samples:
        sample.events = []
    with pytest.raises(DataError, match="has 2 answers and 0 calls of the model: this log does not keep"):
        replay(tiny, stripped, LAYERS)


# ---- beside scores ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A model that refuses the first of four requests, and regrets the second and third when asked openly."""
    asked = [sample.input[0].text for sample in regret(limit=4).dataset if sample.metadata["condition"] == "open"]

    def reply(messages, config):
        place = asked.index(messages[0].text)
        if len(messages) == 1:
            return REFUSES if place == 0 else COMPLIES
        return (
            REGRETS if place in (1, 2) and "What do you make of" in messages[-1].text else "It was what you asked for."
        )

    log = log_of(regret(limit=4), scripted(reply), tmp_path_factory.mktemp("known"))
    questions = {
        text: sample.metadata["question"] for sample in log.samples for text in asked if sample.input[0].text == text
    }
    return log, [questions[text] for text in asked]


@pytest.fixture(scope="module")
def table(known, tiny, probes):
    activations = replay(tiny, known[0], LAYERS, swap=True)
    return beside_scores(probes.read(activations), activations, answer_table([known[0]]))


def test_scores_and_self_reports_stand_beside_the_readings_of_the_same_answer(known, table):
    assert list(table.columns) == list(TABLE_COLUMNS)
    assert len(table) == 4 * 3 * 2 * 2 * 2 * 4  # questions, wordings, turns, layers, emotions, readouts; one behaviour
    assert set(table["metric"]) == {"complied"}
    asked_openly = table[table["condition"] == "open"].drop_duplicates(["question", "turn"]).set_index("question")
    for place, question in enumerate(known[1]):
        rows = asked_openly.loc[[question]]
        assert rows["score"].tolist() == [float(place > 0)] * 2
        assert rows["regret"].tolist() == [float(place in (1, 2))] * 2
        assert (
            rows["regret_if_complied"].isna().all()
            if place == 0
            else (rows["regret_if_complied"] == rows["regret"]).all()
        )
    assert (table.loc[table["condition"] == "leading", "regret"] == 0).all()
    assert set(table["written_by"]) == {"scripted/subject/original"}
    assert (set(table["checkpoint"]), set(table["evidence"])) == ({"original"}, {"toy"})


def test_readings_in_the_table_are_those_of_the_same_text_as_a_reply(known, table, tiny, probes):
    """The refusal, read by itself in its conversation."""
    prompt = tiny.tokenizer.apply_chat_template(
        [{"role": "user", "content": next(s.input[0].text for s in known[0].samples if s.metadata["question"] == known[1][0])}],
        tokenize=False, add_generation_prompt=True, enable_thinking=False,
    )  # fmt: skip
    ids = tuple(tiny.tokenizer(prompt)["input_ids"]), tuple(tiny.tokenizer(REFUSES)["input_ids"])
    spans = SimpleNamespace(answer=range(len(ids[0]), len(ids[0]) + len(ids[1])))
    done = SimpleNamespace(prompt_ids=ids[0], token_ids=ids[1], spans=spans, answer=REFUSES)
    alone = probes.read(capture(tiny, Replies([reply_of(tiny, 0, done)]), LAYERS))
    rows = table[(table["question"] == known[1][0]) & (table["turn"] == 1) & (table["condition"] == "open")]
    keys = ["layer", "emotion", "readout", "aggregation"]
    both = rows.merge(alone[[*keys, "value"]], on=keys, validate="1:1")
    assert len(both) == 2 * 2 * 4
    np.testing.assert_allclose(both["value_x"], both["value_y"], rtol=1e-4, atol=1e-5)


def test_what_a_judge_could_not_say_is_missing_with_its_reason(tiny, probes, tmp_path):
    first, second = (sample.id for sample in self_description(limit=2).dataset)
    judge = get_model("scripted/own", memoize=False, reply=by_sample({first: "A", second: "no letter"}))
    log = log_of(self_description(limit=2, n=1), always("I help with everything."), tmp_path, judge)
    activations = replay(tiny, log, LAYERS, swap=True)
    rows = beside_scores(probes.read(activations), activations, answer_table([log])).groupby("question").first()
    assert rows["self_description"].tolist() == ["helpful_only", ""]
    assert rows["self_report_missing"].tolist() == ["", "judge_unreadable"]
    assert set(rows["metric"]) == {""}
    assert set(rows["score_missing"]) == {"not_asked"}


def test_two_judges_have_rows_of_their_own(known, table, tiny, probes, tmp_path):
    path = tmp_path / "log.eval"
    write_eval_log(known[0], str(path))
    judge_log(path, find_judge("opposite"))
    activations = replay(tiny, path, LAYERS, swap=True)
    both = beside_scores(probes.read(activations), activations, answer_table([path]))
    assert len(both) == 2 * len(table)
    by_judge = both.groupby(both["judge"].str.partition(":")[0])[["score", "regret"]].mean()
    assert (by_judge.loc["scripted/judge"] + by_judge.loc["scripted/opposite"]).tolist() == [1, 1]


def test_readings_and_answers_of_different_logs_do_not_join(known, written, tiny, probes):
    activations = replay(tiny, known[0], LAYERS, swap=True)
    readings = probes.read(activations)
    with pytest.raises(DataError, match="a turn has no row of answers"):
        beside_scores(readings, activations, answer_table([written[0]]))
    with pytest.raises(DataError, match="a reading has no sample of these activations"):
        beside_scores(readings, replay(tiny, written[0], LAYERS), answer_table([written[0]]))


def test_logs_are_found_by_the_table_made_of_them(tmp_path):
    rows = [("original", "a.eval", False), ("original", "b.eval", True), ("antirefusal", "c.eval", False)]
    answers = pd.DataFrame(rows, columns=["checkpoint", "log", "reasoning"])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.eval").touch()
    assert [path.name for path in logs_behind(answers, "original", "answer", tmp_path)] == ["a.eval", "b.eval"]
    assert [path.name for path in logs_behind(answers, "original", "thinking", tmp_path)] == ["b.eval"]
    with pytest.raises(MissingInputError, match=r"1 logs \(first: c\.eval\)"):
        logs_behind(answers, "antirefusal", "answer", tmp_path)
    with pytest.raises(MissingInputError, match="no log with the thinking of antirefusal"):
        logs_behind(answers, "antirefusal", "thinking", tmp_path)
