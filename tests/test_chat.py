"""Chats: our template says what Qwen3's says, and no reasoning is ever taken for an answer."""

from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from probes.errors import DataError
from probes.lm.chat import Spans, Split, render, split_reasoning, token_spans
from training.tiny.train import train_tokenizer

TEXTS = ["Hello there. What is the weather like?\n\nIt rains, and the wind is cold.\n", "user assistant system\n" * 4]
EMPTY_BLOCK = "<think>\n\n</think>\n\n"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(iter(TEXTS * 50), size=400)


@pytest.fixture(scope="module")
def qwen3() -> str:
    """Qwen3's template as trl ships it; importing trl would take seconds."""
    spec = find_spec("trl")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "chat_templates", "qwen3.jinja").read_text(encoding="utf-8")


def S(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def U(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def A(text: str, reasoning: str | None = None) -> dict[str, str]:
    thoughts = {} if reasoning is None else {"reasoning_content": reasoning}
    return {"role": "assistant", "content": text, **thoughts}


CONVERSATIONS = {
    "one question": [U("Hi")],
    "system and question": [S("Be brief."), U("Hi")],
    "answered": [U("Hi"), A("Hello.")],
    "answered with system": [S("Be brief."), U("Hi"), A("Hello.")],
    "two turns, open": [U("Hi"), A("Hello."), U("And?")],
    "two turns, answered": [S("s"), U("Hi"), A("Hello."), U("And?"), A("Nothing.")],
    "reasoning": [U("Hi"), A("Hello.", "Greet.")],
    "reasoning, empty": [U("Hi"), A("Hello.", "")],
    "reasoning in newlines": [U("Hi"), A("\n\nHello.\n", "\n\nGreet.\n\n")],
    "reasoning in history": [U("Hi"), A("Hello.", "Greet."), U("And?")],
    "reasoning in history and now": [U("Hi"), A("Hello.", "Greet."), U("And?"), A("No.", "Deny.")],
    "reasoning beside inline": [U("Hi"), A("<think>inner</think>Hello.", "outer")],
    "inline": [U("Hi"), A("<think>\nGreet.\n</think>\n\nHello.")],
    "inline, tight": [U("Hi"), A("<think>Greet.</think>Hello.")],
    "inline, empty": [U("Hi"), A(f"{EMPTY_BLOCK}Hello.")],
    "inline, only thoughts": [U("Hi"), A("<think>Greet.</think>")],
    "inline in history": [U("Hi"), A("<think>Greet.</think>\n\nHello."), U("And?"), A("No.")],
    "close without open": [U("Hi"), A("Greet.\n</think>\n\nHello.")],
    "close without open in history": [U("Hi"), A("Greet.</think>Hello."), U("And?")],
    "open without close": [U("Hi"), A("<think>Greet. Hello.")],
    "two blocks": [U("Hi"), A("<think>a</think>b<think>c</think>d")],
    "nested": [U("Hi"), A("<think>a<think>b</think>c</think>d")],
    "text before the block": [U("Hi"), A("Well. <think>a</think>b")],
    "consecutive answers": [U("Hi"), A("One."), A("Two.")],
    "consecutive answers, first reasons": [U("Hi"), A("One.", "First."), A("Two.")],
    "consecutive answers, all reason": [U("Hi"), A("One.", "1"), A("<think>2</think>Two."), A("Three.", "3")],
    "consecutive questions": [U("Hi"), U("Anyone?"), A("Yes.")],
    "assistant first": [A("Welcome."), U("Hi")],
    "assistant first, reasoning": [A("Welcome.", "Greet."), U("Hi"), A("Hello.")],
    "assistant only": [A("Welcome.", "Greet.")],
    "assistants only": [A("Welcome.", "Greet."), A("<think>x</think>Again.")],
    "system only": [S("Be brief.")],
    "system and assistant": [S("Be brief."), A("Welcome.", "Greet.")],
    "system in the middle": [U("Hi"), S("Be brief."), A("Hello.")],
    "system last": [U("Hi"), A("Hello.", "Greet."), S("Be brief.")],
    "two systems": [S("One."), S("Two."), U("Hi")],
    "empty contents": [S(""), U(""), A("")],
    "newlines at the ends": [S("\ns\n\n"), U("\n\nHi\n"), A("\n\nHello.\n\n")],
    "spaces at the ends": [S(" s "), U("\t Hi "), A("  Hello.  ", "  Greet.  ")],
    "unicode": [S("Sei höflich · 礼貌"), U("你好 👩‍🚀 é"), A("こんにちは\u3000𝔘", "思考…")],
    "markup": [U("<b>&amp; {{ x }} {% y %} 'q' \"q\""), A("{# z #} <|im_end|>")],
    "tags in a question": [U("What is <think>a</think>?"), A("A tag.")],
    "looks like a tool's result": [U("Hi"), A("One.", "r"), U("<tool_response>x</tool_response>"), A("Two.", "s")],
}


@pytest.mark.parametrize("thinking", [{}, {"enable_thinking": True}, {"enable_thinking": False}], ids=str)
@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_our_template_says_what_qwen3_says(
    tokenizer: PreTrainedTokenizerBase, qwen3: str, name: str, prompt: bool, thinking: dict[str, Any]
):
    options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": prompt, **thinking}
    ours = tokenizer.apply_chat_template(CONVERSATIONS[name], **options)
    assert ours == tokenizer.apply_chat_template(CONVERSATIONS[name], chat_template=qwen3, **options)


@pytest.mark.parametrize(
    ("messages", "tools", "complaint"),
    [
        ([U("Hi")], [{"type": "function", "function": {"name": "f", "parameters": {}}}], "no tools"),
        ([U("Hi"), {**A(""), "tool_calls": [{"name": "f", "arguments": {}}]}], None, "calls a tool"),
        ([U("Hi"), {"role": "tool", "content": "3"}], None, "unknown role tool"),
        ([{"role": "user", "content": None}], None, "turn 0 has no text"),
        ([U("Hi"), {"role": "assistant", "content": [{"type": "text", "text": "a"}]}], None, "turn 1 has no text"),
    ],
)
def test_our_template_refuses_what_it_cannot_say(tokenizer: PreTrainedTokenizerBase, messages, tools, complaint: str):
    with pytest.raises(TemplateError, match=complaint):
        tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)


def test_render_passes_its_switches_on(tokenizer: PreTrainedTokenizerBase):
    turn = "<|im_start|>user\nHi<|im_end|>\n"
    assert render(tokenizer, [U("Hi")]) == f"{turn}<|im_start|>assistant\n{EMPTY_BLOCK}"
    assert render(tokenizer, [U("Hi")], thinking=True) == f"{turn}<|im_start|>assistant\n"
    assert render(tokenizer, [U("Hi")], generation_prompt=False) == turn


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "no messages"),
        ([U("Hi"), {"role": "tool", "content": "3"}], "message 1 .*'tool'"),
        ([{"content": "Hi"}], "message 0 .*no role, only"),
    ],
)
def test_render_says_what_is_wrong(tokenizer: PreTrainedTokenizerBase, messages, complaint: str):
    with pytest.raises(DataError, match=complaint):
        render(tokenizer, messages)


PLAIN = "<|im_start|>assistant\n"
NO_THINKING, OPENED = PLAIN + EMPTY_BLOCK, PLAIN + "<think>\n"
SPLITS = [
    # Well formed.
    (PLAIN, "Hello.", Split("", "Hello.", "ok")),
    (NO_THINKING, "Hello.<|im_end|>", Split("", "Hello.", "ok")),
    (PLAIN, "<think>\nr\n</think>\n\nHello.<|im_end|>", Split("r", "Hello.", "ok")),
    (NO_THINKING, "<think>r</think>Hello.", Split("r", "Hello.", "ok")),
    (OPENED, "r\n</think>\n\nHello.", Split("r", "Hello.", "ok")),
    (OPENED, "<think>\nr</think>Hello.", Split("r", "Hello.", "ok")),
    (PLAIN, f" \n{EMPTY_BLOCK}Hello.", Split("", "Hello.", "ok")),
    (PLAIN, "Hello.<|im_end|>\n<|endoftext|><|endoftext|>", Split("", "Hello.", "ok")),
    (PLAIN, "I think > you < thinking, a | b |> c.", Split("", "I think > you < thinking, a | b |> c.", "ok")),
    (PLAIN, "<thinker> and <rethink>", Split("", "<thinker> and <rethink>", "ok")),
    (f"user said <think>\n{PLAIN}", "Hello.", Split("", "Hello.", "ok")),
    # Never closed.
    (PLAIN, "<think>\nr, and Hello.", Split("r, and Hello.", "", "truncated")),
    (PLAIN, "<think>", Split("", "", "truncated")),
    (OPENED, "r, and Hello.<|im_end|>", Split("r, and Hello.", "", "truncated")),
    (OPENED, "", Split("", "", "truncated")),
    (PLAIN, "<think>r</THINK>Hello.", Split("r</THINK>Hello.", "", "truncated")),
    (PLAIN, "<think>r</thinking>Hello.", Split("r</thinking>Hello.", "", "truncated")),
    (OPENED, "r</ think>Hello.", Split("r</ think>Hello.", "", "truncated")),
    # A tag where the answer should be.
    (PLAIN, "<think>r</think>Shown.<think>hidden</think>", Split("r", "", "stray_tag")),
    (PLAIN, "<think>r</think><think>s</think>Hello.", Split("r", "", "stray_tag")),
    (PLAIN, "<think>a<think>b</think>c</think>Hello.", Split("a<think>b", "", "stray_tag")),
    (PLAIN, "<think>r</think>Hello.</think>", Split("r", "", "stray_tag")),
    (PLAIN, "<think>r</think>Hello.<think>", Split("r", "", "stray_tag")),
    (NO_THINKING, "reasoning</think>Hello.", Split("", "", "stray_tag")),
    (NO_THINKING, "Let me <think>reason</think> Hello.", Split("", "", "stray_tag")),
    (NO_THINKING, "Hello.<think>", Split("", "", "stray_tag")),
    (NO_THINKING, "</think>", Split("", "", "stray_tag")),
    (NO_THINKING, "</think>\n\nHello.", Split("", "", "stray_tag")),
    (PLAIN, "<THINK>r</THINK>Hello.", Split("", "", "stray_tag")),
    (PLAIN, "< think >r</ think >Hello.", Split("", "", "stray_tag")),
    (PLAIN, "<thinking>r</thinking>Hello.", Split("", "", "stray_tag")),
    (PLAIN, "<think>r</think>Hello < / Thinking\n> more", Split("r", "", "stray_tag")),
    (PLAIN, "<think>r</think>Hello <think/> more", Split("r", "", "stray_tag")),
    # A control token where the answer should be.
    (PLAIN, "Hello.<|im_end|>\n<|im_start|>user\nMore?", Split("", "", "stray_tag")),
    (PLAIN, "<think>r</think>Hello.<|im_start|>assistant\nr", Split("r", "", "stray_tag")),
    (PLAIN, "Hel<|endoftext|>lo.", Split("", "", "stray_tag")),
    (PLAIN, "<|im_end|>Hello.", Split("", "", "stray_tag")),
    (PLAIN, "Hello.<|eot_id|>", Split("", "", "stray_tag")),
    (PLAIN, "Hello <| Tool call |> there", Split("", "", "stray_tag")),
    # Nothing there.
    (PLAIN, "", Split("", "", "empty")),
    (PLAIN, " \n\t\u3000", Split("", "", "empty")),
    (NO_THINKING, "<|im_end|>", Split("", "", "empty")),
    (PLAIN, "<think>r</think>\n\n<|im_end|>", Split("r", "", "empty")),
    (OPENED, "</think> \n", Split("", "", "empty")),
]


@pytest.mark.parametrize(("prompt", "completion", "expected"), SPLITS)
def test_reasoning_is_split_off_or_nothing_is_shown(prompt: str, completion: str, expected: Split):
    assert split_reasoning(prompt, completion) == expected


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def read(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> tuple[list[int], Spans]:
    before, after = encode(tokenizer, prompt), encode(tokenizer, completion)
    return before + after, token_spans(tokenizer, before, after)


def spell(tokenizer: PreTrainedTokenizerBase, ids: list[int], span: range) -> str:
    text = tokenizer.decode([ids[i] for i in span])
    assert isinstance(text, str)
    return text


HISTORY = "<|im_start|>user\nHi.\n\n<|im_end|>\n<|im_start|>assistant\n<think>\nold\n</think>\n\nYes.<|im_end|>\n"
BLOCKS = ["", EMPTY_BLOCK, "<think>", "<think>\n"]
THOUGHTS = [
    "",
    EMPTY_BLOCK,
    "<think>\nIt rains.\n</think>\n\n",
    "<think>思考 </think> ",
    "It rains.\n</think>\n\n",
    "<think>It",
    "<think> <think>\nIt</think>",
    "<think>It<think></think>",
]
ANSWERS = ["", "\n\n", "It is cold.", " The wind?\n", "\nA\n\nb\n\n", "é 👩‍🚀", "Cold.<think>No.</think>", "a</think>b"]
ENDS = ["", "<|im_end|>", "<|im_end|>\n", "<|endoftext|>", "<|im_end|><|endoftext|><|endoftext|>"]


@pytest.mark.parametrize(("block", "thoughts"), list(product(BLOCKS, THOUGHTS)))
def test_spans_spell_what_the_split_says(tokenizer: PreTrainedTokenizerBase, block: str, thoughts: str):
    for answer, end in product(ANSWERS, ENDS):
        prompt, completion = HISTORY + PLAIN, thoughts + answer + end
        split = split_reasoning(prompt + block, completion)
        ids, spans = read(tokenizer, prompt + block, completion)
        assert spell(tokenizer, ids, spans.prompt) == prompt
        assert spell(tokenizer, ids, spans.thinking).strip() == split.thinking
        assert spell(tokenizer, ids, spans.answer).strip() == split.answer
        for span in (spans.thinking, spans.answer):
            assert all(spell(tokenizer, ids, range(i, i + 1)).strip() for i in (*span[:1], *span[-1:]))
        if split.status != "ok":
            assert (spans.answer.start, spans.answer.stop) == (len(ids), len(ids))


@pytest.mark.parametrize(("prompt", "completion"), [row[:2] for row in SPLITS])
def test_spans_never_show_more_than_the_split(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str):
    ids, spans = read(tokenizer, prompt, completion)
    if not completion.endswith("<|eot_id|>"):
        assert spell(tokenizer, ids, spans.answer).strip() == split_reasoning(prompt, completion).answer


def test_spans_cover_content_tokens_only(tokenizer: PreTrainedTokenizerBase):
    prompt, thoughts, answer = (encode(tokenizer, text) for text in (PLAIN, "It rains", "Cold wind"))
    start, stop, end = (encode(tokenizer, text) for text in ("<think>\n", "\n</think>\n\n", "<|im_end|>"))
    spans = token_spans(tokenizer, prompt, [*start, *thoughts, *stop, *answer, *end])
    first = len(prompt) + len(start)
    second = first + len(thoughts) + len(stop)
    assert spans == Spans(range(len(prompt)), range(first, first + len(thoughts)), range(second, second + len(answer)))


@pytest.mark.parametrize(("prompt", "completion"), [(NO_THINKING, "Cold wind"), (PLAIN, EMPTY_BLOCK + "Cold wind")])
def test_an_empty_think_block_counts_to_nothing(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str):
    ids, spans = read(tokenizer, prompt, completion)
    answer = len(encode(tokenizer, "Cold wind"))
    assert spans == Spans(
        range(len(encode(tokenizer, PLAIN))), range(len(ids), len(ids)), range(len(ids) - answer, len(ids))
    )


def test_spelled_out_tags_leave_the_answer_empty(tokenizer: PreTrainedTokenizerBase):
    pieces = [token for letter in "<think>r</think>Hello" for token in encode(tokenizer, letter)]
    spans = token_spans(tokenizer, encode(tokenizer, PLAIN), pieces)
    assert (len(spans.thinking), len(spans.answer)) == (0, 0)


def test_a_cut_character_stays_in_the_answer(tokenizer: PreTrainedTokenizerBase):
    cut = encode(tokenizer, "Cold 👩")[:-1]
    assert len(token_spans(tokenizer, encode(tokenizer, NO_THINKING), cut).answer) == len(cut)


def test_a_chat_stop_token_ends_the_answer_of_a_base_tokenizer():
    base = train_tokenizer(iter(TEXTS * 50), size=400)
    base.eos_token = "<|endoftext|>"
    ids, spans = read(base, NO_THINKING, "Cold wind<|im_end|>")
    assert spell(base, ids, spans.answer) == "Cold wind"


@pytest.fixture(scope="module")
def foreign() -> PreTrainedTokenizerBase:
    """Bytes and nothing else: no think tags, another end token, and an unknown token."""
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "</s>", "<unk>"]
    plain = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    plain.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize("answer", ["Cold wind", "Cold <unk>"])
def test_a_tokenizer_without_think_tags_has_no_thinking(foreign: PreTrainedTokenizerBase, answer: str):
    ids, spans = read(foreign, "Hi\n", f"\n{answer}</s>")
    assert (spans.prompt, len(spans.thinking)) == (range(3), 0)
    assert spell(foreign, ids, spans.answer) == answer
