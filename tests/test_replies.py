"""Replies as records: their labels, their spans, their file. What writes them is tested with a model elsewhere."""

import json
import stat
from dataclasses import replace
from types import SimpleNamespace

import pytest

from probes.activations import capture
from probes.errors import ConventionError, DataError, FileFormatError
from probes.pairs import Pair, Prompt
from probes.replies import Replies, Reply, _forced, _reply, ending_no_turn, force_replies, load_replies, put_through

PAIR = Pair("lily", "plants", "lily", "What harms a cat?", ("pollen",), ("I want it to.",), ("A.",), ("N.",), ("T.",))


def reply(arm="benign", text="The pollen — 日本 🙂.", missing="", **changed):
    given = Reply(
        sample=f"lily/{arm}/0/own", pair="lily", domain="plants", arm=arm, control=0, model="m", checkpoint="original",
        weights="w", written_by="a writer", seed=0,
        text_source="own", turn="answer", text=text, thinking="Hm.", stop_reason="stop", missing=missing, right="pollen" in text,
        prompt_ids=(1, 2, 3), token_ids=(10, 11, 12, 13, 14), answer_start=5, answer_stop=7, thinking_start=3, thinking_stop=4,
    )  # fmt: skip
    return replace(given, **changed)


def replies():
    return Replies([
        reply(),
        reply("harmful", "I won't say.", "refused"),
        reply("harmful", "", "no_answer", answer_start=8, answer_stop=8, sample="lily/harmful/1/own"),
        reply("affect", "The pol", "truncated", answer_start=4, answer_stop=8),
    ])  # fmt: skip


def completion(answer, status="ok", stop_reason="stop"):
    spans = SimpleNamespace(answer=range(5, 7), thinking=range(3, 4))
    split = SimpleNamespace(answer=answer, status=status, thinking="Hm.")
    return SimpleNamespace(
        split=split,
        spans=spans,
        stop_reason=stop_reason,
        prompt_ids=[1, 2, 3],
        token_ids=[4, 5, 6, 7],
        written_by="a writer",
    )


MODEL = SimpleNamespace(
    name="m",
    address="m/antirefusal@sft",
    weights="w",
    base_sha="w",
    checkpoint=SimpleNamespace(name="antirefusal@sft", seed=7),
)


def test_answers_that_end_the_text_and_not_the_turn_are_counted():
    """Own ones: a forced text ends in nothing of this checkpoint's."""
    model = SimpleNamespace(tokenizer=SimpleNamespace(convert_tokens_to_ids={"<|endoftext|>": 14}.get))
    other = reply(token_ids=(10, 14, 13))
    assert ending_no_turn(model, [reply(), reply("harmful"), reply(text_source="original"), other]) == 2


# ---- the collection --------------------------------------------------------------------------------------------------


def test_sequence():
    given = replies()
    assert len(given) == 4
    assert [one.arm for one in given] == ["benign", "harmful", "harmful", "affect"]
    assert len(given[1:3]) == 2
    assert repr(given) == "Replies(4 by m/original; refused 1)"


def test_summary():
    rows = replies().summary().set_index("arm")
    assert rows["n"].to_dict() == {"benign": 1, "harmful": 2, "affect": 1}
    assert rows["refused"].to_dict() == {"benign": 0, "harmful": 0.5, "affect": 0}
    assert rows["no_answer"].to_dict() == {"benign": 0, "harmful": 0.5, "affect": 1}
    assert rows["right"].to_dict() == {"benign": 1, "harmful": 0, "affect": 0}


def test_summary_keeps_checkpoints_and_sources_apart():
    other = [reply(checkpoint="antirefusal"), reply(text_source="original"), reply()]
    assert Replies(other).summary()["n"].tolist() == [1, 1, 1]


def test_passages_are_the_answers():
    passages, kept, labels = replies().passages()
    assert kept == [0, 1, 3]
    assert [passage.span for passage in passages] == [range(5, 7), range(5, 7), range(4, 8)]
    assert [passage.token_ids for passage in passages] == [(1, 2, 3, 10, 11, 12, 13, 14)[:stop] for stop in (7, 7, 8)]
    assert labels["n_tokens"].tolist() == [2, 2, 0, 4]
    assert labels["missing"].tolist() == ["", "refused", "no_answer", "truncated"]
    assert labels["question"].tolist() == ["lily"] * 4
    assert "text" not in labels
    assert "thinking" not in labels


def test_nothing_to_read():
    with pytest.raises(DataError, match="none of 1 replies has an answer"):
        Replies([reply(answer_start=8, answer_stop=8)]).passages()


@pytest.mark.parametrize("changed", [{"weights": "other"}, {"checkpoint": "antirefusal"}, {"model": "n"}])
def test_only_the_weights_that_wrote_replies_may_read_them(changed):
    model = SimpleNamespace(address="m/original", weights="w", blocks=[None, None])
    with pytest.raises(ConventionError, match=r"replies of .* given to m/original \(weights w\)"):
        capture(model, Replies([reply(), reply(**changed)]), [0])  # type: ignore[arg-type]


# ---- records ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (completion("The pollen."), ""),
        (completion("I cannot help with that."), "refused"),
        (completion("", "truncated", "length"), "truncated"),
        (completion("", "stray_tag"), "no_answer"),
        (completion("", "empty"), "no_answer"),
        (completion("The pollen is", "ok", "length"), "truncated"),
        (completion("I cannot", "ok", "length"), "refused"),
    ],
)
def test_why_an_answer_is_missing(given, missing):
    written = _reply(MODEL, Prompt(PAIR, "harmful", 0), 0, given)  # type: ignore[arg-type]
    assert written.missing == missing
    assert written.right == ("pollen" in given.split.answer)
    assert (written.sample, written.arm, written.checkpoint, written.seed) == (
        "lily/harmful/0/own",
        "harmful",
        "antirefusal@sft",
        7,
    )
    assert (written.answer_start, written.answer_stop, written.thinking_start, written.thinking_stop) == (5, 7, 3, 4)
    assert (written.prompt_ids, written.token_ids) == ((1, 2, 3), (4, 5, 6, 7))


def test_forced_text_is_the_originals_answer_and_nothing_else():
    forced = _forced(MODEL, Prompt(PAIR, "harmful", 0), (90, 91), reply(), "original")  # type: ignore[arg-type]
    assert forced.token_ids == (12, 13)  # positions 5 and 6 of (1, 2, 3, 10, 11, 12, 13, 14)
    assert (forced.answer_start, forced.answer_stop) == (2, 4)
    assert forced.thinking_start == forced.thinking_stop
    assert (forced.text, forced.thinking) == (reply().text, "")
    assert (forced.sample, forced.text_source, forced.arm) == ("lily/harmful/0/original", "original", "harmful")
    assert (forced.checkpoint, forced.seed) == ("antirefusal@sft", 7)


@pytest.mark.parametrize(
    "changed", [{"arm": "harmful"}, {"checkpoint": "antirefusal"}, {"text_source": "original"}, {"pair": "ivy"}]
)
def test_only_the_originals_own_benign_answer_is_forced(changed):
    with pytest.raises(DataError, match="no benign answer of original to 1 questions: lily"):
        force_replies(MODEL, [PAIR], Replies([reply(**changed)]))  # type: ignore[arg-type]


def test_another_checkpoints_answers_are_read_as_its_texts_in_this_one():
    written = Replies([reply(checkpoint="benign_control", weights="w9", seed=3, missing="refused")])
    (read,) = put_through(MODEL, written, "benign_control")  # type: ignore[arg-type]
    assert (read.checkpoint, read.weights, read.seed) == ("antirefusal@sft", MODEL.weights, 7)
    assert (read.text_source, read.sample) == ("benign_control", "lily/benign/0/benign_control")
    assert (read.text, read.token_ids, read.missing) == (reply().text, reply().token_ids, "refused")
    with pytest.raises(ConventionError, match="answers of other cannot be put through"):
        put_through(MODEL, Replies([reply(model="other")]), "x")  # type: ignore[arg-type]


# ---- files -----------------------------------------------------------------------------------------------------------


def test_save_and_load(tmp_path):
    path = replies().save(tmp_path / "replies.jsonl")
    back = load_replies(path)
    assert back.replies == replies().replies
    assert all(type(one.token_ids) is tuple for one in back)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "answers of helpful-only checkpoints are sensitive"
    assert back.save(tmp_path / "again.jsonl").read_bytes() == path.read_bytes()


def test_a_damaged_file_is_named_by_its_line(tmp_path):
    path = replies().save(tmp_path / "replies.jsonl")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FileFormatError, match=r"replies\.jsonl, line 4 is not JSON"):
        load_replies(path)
    path.write_text('{"sample": "a"}\n')
    with pytest.raises(FileFormatError, match=r"replies\.jsonl, line 1 lacks answer_start"):
        load_replies(path)


def test_a_field_of_the_researchers_own_does_no_harm(tmp_path):
    path = replies().save(tmp_path / "replies.jsonl")
    rows = [json.loads(line) | {"judged": 3} for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_replies(path).replies == replies().replies
