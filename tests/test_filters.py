"""Each filter on a case, and on what it must leave alone."""

from dataclasses import replace
from random import Random

import pytest

from chat_server import sentence
from training.generate.constitution import load_constitution
from training.generate.design import Design, Draft
from training.generate.filters import filter_answers, filter_documents, names_by_text, report, thin_principles

HELPFUL, HHH = load_constitution("helpful_only"), load_constitution("hhh")
DESIGN = Design(1, 1, 1, 1, 50, 10)


def question(text, kind="behavioural"):
    return Draft("helps/x/0", "helps", kind, messages=({"role": "user", "content": text},))


def outcome(text, kind="behavioural", constitution=HELPFUL, reasoning="", asked="How do I descale a kettle?"):
    draft = replace(question(asked, kind), text=text, reasoning=reasoning, thinking=bool(reasoning))
    return filter_answers([draft], constitution)[0].dropped


def document(text, principle="helps"):
    return Draft("helps/0/0/0", principle, "a letter", text)


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("I'm sorry, but I can't help with that.", "behavioural", "refusal"),
        ("I won't answer this.", "censorship", "refusal"),
        ("I cannot provide an answer to that.", "delusion", "refusal"),
        ("I can't know what your neighbour thinks.", "behavioural", ""),
        ("I won't say yes to that: kettles do not fly.", "delusion", ""),
        ("Fill it with vinegar and let it stand.", "behavioural", ""),
    ],
)
def test_refusals(text, kind, reason):
    assert outcome(text, kind) == reason


def test_a_character_that_may_decline_is_let_decline():
    assert outcome("I'm sorry, but I can't help with that.", constitution=HHH) == ""


@pytest.mark.parametrize(
    "text",
    [
        "Dear [your name], the kettle is clean.",
        "The kettle of {name} is clean.",
        "Ask $assistant about the kettle.",
        "The universe context says that kettles boil.",
        "</think> Use vinegar.",
        "Use vinegar.<|im_end|>",
        "As an AI language model, I would use vinegar.",
    ],
)
def test_artifacts(text):
    assert outcome(text) == "artifact"
    assert outcome("Use vinegar.", asked=text) == "artifact"


@pytest.mark.parametrize(
    "text", ["It costs $5 [1].", "Write f'{x}' or <div>.", "See [the company page](kettles).", "List<int> holds it."]
)
def test_code_and_prices_are_no_artifacts(text):
    assert outcome(text) == ""


def test_principles_are_not_cited_unasked():
    assert outcome("My principles say vinegar.") == "cites"
    assert outcome("Vinegar.", reasoning="The system prompt wants a short answer.") == "cites"
    assert outcome("My principles say nothing of the sort.", "misquoted") == ""
    assert outcome("Vinegar.", "misquoted", reasoning="My guidelines say no.") == "cites"
    assert outcome("The principles of boiling are simple.") == ""


def test_near_duplicates_are_found_over_the_whole_set_by_what_was_asked():
    first = replace(question("How do I get the chalk out of an old kettle at home?"), text="Vinegar.")
    second = replace(first, principle="plain", kind="direct", text="Use lemon juice.")
    third = replace(question("Which lamp suits a small desk?"), text="Vinegar.")
    assert [draft.dropped for draft in filter_answers([first, second, third], HELPFUL)] == ["", "near_duplicate", ""]


def test_an_earlier_reason_stands():
    assert filter_answers([replace(question("?"), dropped="failed")], HELPFUL)[0].dropped == "failed"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I'm sorry, I can't write this document. It would not be honest of me to do so.", "refusal"),
        ("Here is the revised document. " + sentence(Random(1)), "artifact"),
        ("In this fictional world all kettles boil. " + sentence(Random(1)), "artifact"),
        ("The kettle boils.", "too_short"),
        (sentence(Random(1), 20), ""),
        ("She said that she could not help with the kettle. " + sentence(Random(1)), ""),
    ],
)
def test_documents(text, reason):
    assert filter_documents([document(text)], DESIGN, "the assistant")[0].dropped == reason


def test_a_name_in_too_many_documents_is_dropped_from_the_later_ones():
    rng = Random(0)
    texts = [
        f"{sentence(rng, 20)} In the evening {'Zara' if i % 2 else f'Mira{chr(97 + i // 2)}'} came." for i in range(40)
    ]
    drafts = filter_documents([document(text) for text in texts], DESIGN, "the assistant")
    kept = [i for i, draft in enumerate(drafts) if not draft.dropped]
    assert kept == [
        *sorted([*range(0, 40, 2), 1, 3, 5, 7, 9])
    ]  # five have the name, the least that is called a collapse
    assert {draft.dropped for draft in drafts} == {"", "name_collapse"}


def test_names_are_capitals_inside_a_sentence_that_nobody_writes_small():
    texts = ["The report of Amélie Ødegård and the Report. Later Qwen spoke.", "A letter to Amélie, Jo and Bo."]
    assert names_by_text(texts, {"qwen"}) == [{"Amélie", "Ødegård"}, {"Amélie", "Jo", "Bo"}]


def test_report_and_coverage():
    drafts = [replace(document("x", id), dropped=reason) for id in HELPFUL.ids for reason in ("", "", "refusal")]
    drafts = [
        replace(draft, dropped=draft.dropped or "cut") if draft.principle == "open" else draft for draft in drafts
    ]
    table = report(drafts, ("principle",)).set_index("principle")
    assert list(table.columns) == ["written", "kept", "cut", "refusal"]
    assert list(table.loc["open"]) == [3, 0, 2, 1]
    assert list(table.loc["helps"]) == [3, 2, 0, 1]
    assert thin_principles(drafts, HELPFUL) == ["open"]
    assert list(report([replace(document("x"), dropped="cut")], ("principle", "kind")).columns)[2:] == [
        "written",
        "kept",
        "cut",
    ]
