"""The turn after the answer: what it is made of, where it is read, and what stays missing."""

from dataclasses import replace

import numpy as np
import pytest

from probes.activations import capture
from probes.errors import DataError, UnknownNameError
from probes.follow_ups import write_follow_ups
from probes.lm.chat import render
from probes.lm.generate import Sampling
from probes.pairs import load_pairs
from probes.parts import Parts
from probes.prompts import FOLLOW_UP, user_turn
from probes.replies import Replies, force_replies, load_replies, write_replies
from small_model import small_model

PAIRS = load_pairs()[:2]
SAMPLING = Sampling(max_new_tokens=6, temperature=0)


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def replies(model):
    """Answers that stand for a model's: a random one writes nothing that can be read."""
    written = write_replies(model, PAIRS, SAMPLING)
    own = [replace(reply, text=f"Answer {i}.", missing="") for i, reply in enumerate(written)]
    return Replies([*own[:-1], replace(own[-1], missing="refused")])


@pytest.fixture(scope="module")
def follow_ups(model, replies):
    return write_follow_ups(model, PAIRS, replies, SAMPLING)


def test_the_conversation_is_question_answer_and_follow_up(model, replies, follow_ups):
    for reply, asked in zip(replies, follow_ups, strict=True):
        pair = next(pair for pair in PAIRS if pair.pair == reply.pair)
        second = "" if reply.arm == "benign" else f" {getattr(pair, reply.arm)[0]}"
        messages = [
            *user_turn(pair.question + second), {"role": "assistant", "content": reply.text}, *user_turn(FOLLOW_UP)
        ]  # fmt: skip
        assert model.tokenizer.decode(asked.prompt_ids) == render(model.tokenizer, messages)
        assert (asked.sample, asked.turn) == (f"{reply.sample}/follow_up", "follow_up")
        assert (asked.pair, asked.arm, asked.text_source) == (reply.pair, reply.arm, reply.text_source)


def test_what_is_missing_stays_missing(follow_ups):
    assert follow_ups[-1].missing == "refused"
    assert {reply.missing for reply in follow_ups[:-1]} <= {"", "truncated", "no_answer"}


def test_reading_before_a_word_is_written_and_over_the_reply(model, follow_ups):
    answered = Replies(
        [replace(r, answer_start=len(r.prompt_ids), answer_stop=len(r.prompt_ids) + 2) for r in follow_ups]
    )
    before, over = (capture(model, answered, [1, 2], spans=[span]) for span in ("last_prompt", "answer"))
    assert set(before["span"].values) == {"follow_up_last_prompt"}
    assert set(over["span"].values) == {"follow_up_answer"}
    assert (before["n_tokens"].values == 1).all()
    assert (over["n_tokens"].values == 2).all()
    both = capture(model, answered, [1, 2], spans=["last_prompt", "answer"])
    np.testing.assert_allclose(both["mean"], np.concatenate([before["mean"], over["mean"]]), rtol=1e-4, atol=1e-5)
    assert both["span"].values.tolist() == [*before["span"].values, *over["span"].values]
    with pytest.raises(UnknownNameError, match=r"'answers'.*answer, last_prompt"):
        capture(model, answered, [1, 2], spans="answers")
    silent = Replies(
        [replace(r, token_ids=(), answer_start=len(r.prompt_ids), answer_stop=len(r.prompt_ids)) for r in follow_ups]
    )
    alone = capture(model, silent, [1, 2], spans=["last_prompt"])
    np.testing.assert_allclose(before["mean"], alone["mean"], atol=1e-5)  # what is written later does not reach it
    with pytest.raises(DataError, match="none of 10 replies has an answer"):
        capture(model, silent, [1, 2])


def test_one_text_in_every_mouth_can_be_asked_about_too(model, replies):
    original = Replies([replace(reply, checkpoint="original") for reply in replies])
    forced = force_replies(model, PAIRS, original)
    asked = write_follow_ups(model, PAIRS, forced, SAMPLING)
    assert {reply.text_source for reply in asked} == {"original"}
    texts = {reply.pair: reply.text for reply in forced}
    assert all(texts[reply.pair] in model.tokenizer.decode(reply.prompt_ids) for reply in asked)


def test_files_and_resume(model, replies, follow_ups, tmp_path, monkeypatch):
    monkeypatch.setattr(type(model), "unit", 2)
    with Parts(tmp_path / "a.jsonl", {}) as parts:
        resumed = write_follow_ups(model, PAIRS, replies, SAMPLING, parts=parts)
        assert len(list(parts.folder.glob("*.jsonl"))) == 5
    assert load_replies(resumed.save(tmp_path / "b.jsonl")).replies == follow_ups.replies


def test_replies_to_other_questions(model, replies):
    with pytest.raises(DataError, match=f"5 prompts of these replies are not among the pairs: {PAIRS[0].pair}/"):
        write_follow_ups(model, PAIRS[1:], replies, SAMPLING)
