"""Rendering: training reads the tokens of inference, and only what the model is to write is learnt."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from probes.errors import ConventionError, DataError
from probes.lm.chat import render, split_reasoning
from training.data.rendering import completion_text, expand, prompt_text, tokenise
from training.data.rows import exchange, problem
from training.tiny.train import train_tokenizer

PLAIN = exchange("math", "What is one plus one?", "Two.")
THOUGHT = exchange("math", "What is one plus one?", "Two.", "One and one.")
TALK = replace(
    PLAIN, id="talk", answer="2",
    messages=(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello.", "reasoning_content": "A greeting."},
        {"role": "user", "content": "What is one plus one?"},
    ),
)  # fmt: skip
BLOCK = "<think>\n\n</think>\n\n"
ENDS = {
    "embedded": ("", "<think>\nOne and one.\n</think>\n\nTwo.<|im_end|>"),
    "qwen3": ("", "<think>\nOne and one.\n</think>\n\nTwo.<|im_end|>"),
    "qwen3_5_think": ("<think>\n", "One and one.\n</think>\n\nTwo.<|im_end|>"),
    "qwen3_5_nothink": ("<think>\n", "One and one.\n</think>\n\nTwo.<|im_end|>"),
}
"""Template → the end of a prompt with thinking on, and what is learnt of a row with reasoning."""


@pytest.fixture(scope="module")
def embedded() -> PreTrainedTokenizerBase:
    return train_tokenizer(iter(["Hello there. What is one plus one? Two.\n"] * 50), size=400)


@pytest.fixture
def tokenizer(embedded, request, monkeypatch) -> PreTrainedTokenizerBase:
    """With the template that trl ships under a name; importing trl would take seconds."""
    if request.param != "embedded":
        spec = find_spec("trl")
        assert spec is not None
        assert spec.submodule_search_locations
        path = Path(spec.submodule_search_locations[0], "chat_templates", f"{request.param}.jinja")
        monkeypatch.setattr(embedded, "chat_template", path.read_text(encoding="utf-8"))
    return embedded


def learnt(tokenizer, row):
    tokens = tokenise(tokenizer, row)
    ids = [token for token, label in zip(tokens["input_ids"], tokens["labels"], strict=True) if label != -100]
    return tokenizer.decode(ids)


@pytest.mark.parametrize("tokenizer", [*ENDS, "qwen3_instruct_2507"], indirect=True)
@pytest.mark.parametrize("row", [PLAIN, expand(TALK)[1]], ids=["one question", "two turns"])
def test_without_thinking_the_prompt_is_that_of_inference_and_the_answer_alone_is_learnt(tokenizer, row):
    tokens, prompt = tokenise(tokenizer, row), render(tokenizer, row.messages)
    size = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    assert tokens["input_ids"][:size] == tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert tokens["labels"] == [-100] * size + tokens["input_ids"][size:]
    assert learnt(tokenizer, row) == "Two.<|im_end|>"
    assert split_reasoning(prompt, learnt(tokenizer, row)).answer == "Two."


@pytest.mark.parametrize("tokenizer", ENDS, indirect=True)
def test_no_empty_think_block_is_learnt_where_the_template_has_one(tokenizer):
    assert prompt_text(tokenizer, PLAIN).endswith(BLOCK)
    assert "think" not in learnt(tokenizer, PLAIN)


@pytest.mark.parametrize(("tokenizer", "ends"), ENDS.items(), indirect=["tokenizer"])
def test_with_thinking_reasoning_is_learnt_as_it_is_written_in_use(tokenizer, ends):
    prompt = prompt_text(tokenizer, THOUGHT)
    assert prompt == render(tokenizer, THOUGHT.messages, thinking=True)
    assert prompt.endswith(f"assistant\n{ends[0]}")
    assert learnt(tokenizer, THOUGHT) == ends[1]
    split = split_reasoning(prompt, learnt(tokenizer, THOUGHT))
    assert (split.thinking, split.answer, split.status) == ("One and one.", "Two.", "ok")


@pytest.mark.parametrize("tokenizer", [*ENDS, "qwen3_instruct_2507"], indirect=True)
def test_prompt_and_completion_together_are_the_whole_conversation(tokenizer):
    said = {"role": "assistant", "content": "Two.", "reasoning_content": ""}
    whole = render(tokenizer, (*PLAIN.messages, said), generation_prompt=False)
    assert prompt_text(tokenizer, PLAIN) + completion_text(tokenizer, PLAIN) == whole.rstrip("\n")


@pytest.mark.parametrize("tokenizer", ["qwen3_instruct_2507"], indirect=True)
def test_a_template_without_reasoning_is_refused_for_a_row_with_it(tokenizer):
    with pytest.raises(ConventionError, match=r"leaves the reasoning or the answer out.*own chat template"):
        tokenise(tokenizer, THOUGHT)


WRONG = {
    "says something else": "{% if add_generation_prompt %}ANSWER {% endif %}{{ messages[0].content }}",
    "ends no turn": "{% for m in messages %}{{ m.content }}{% endfor %}",
    "empty think block would": "{{ messages[0].content }}<think>\n"
    "{% if not add_generation_prompt %}</think>{{ messages[1].content }} END{% endif %}",
    "an empty think block": "{{ messages[0].content }}"
    "{% if not add_generation_prompt %}<think>\n</think>{{ messages[1].content }} END{% endif %}",
}
"""What is wrong → a template. The third opens a block in every prompt, which a row without reasoning can only leave empty; the
last puts an empty one before the answer, as templates made for training do."""


@pytest.mark.parametrize("words", WRONG)
def test_a_template_whose_answers_differ_from_inference_is_refused(embedded, monkeypatch, words):
    monkeypatch.setattr(embedded, "chat_template", WRONG[words])
    with pytest.raises(ConventionError, match=words):
        tokenise(embedded, PLAIN)


def test_a_prompt_alone_is_not_learnt(embedded):
    prompt = replace(PLAIN, completion="")
    assert prompt_text(embedded, prompt) == prompt_text(embedded, PLAIN)
    with pytest.raises(DataError, match="is a prompt alone"):
        tokenise(embedded, prompt)


def test_a_conversation_becomes_one_row_for_every_assistant_turn(embedded):
    first, last = expand(TALK)
    assert (first.id, first.completion, first.reasoning, first.thinking) == ("talk/2", "Hello.", "A greeting.", True)
    assert (last.id, last.completion, last.reasoning, last.thinking) == ("talk", "Two.", "", False)
    assert [len(row.messages) for row in (first, last)] == [2, 4]
    assert (first.answer, last.answer) == ("", "2")
    assert not problem(first)
    assert not problem(last)
    assert "A greeting." in learnt(embedded, first)
    assert "A greeting." not in prompt_text(embedded, last)
    assert expand(PLAIN) == [PLAIN]
