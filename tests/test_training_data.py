"""From a constitution to rows and documents: the scripted writer's sets, an endpoint's, and what a kill leaves."""

import re
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

import generate_data
from chat_server import chat_server
from probes import store
from probes.emotions import clusters
from probes.errors import ConventionError, DataError, MissingInputError, UnknownNameError
from probes.pairs import load_pairs
from probes.parts import Parts
from probes.stories import names_emotion, topics
from training.data.rows import problem, read_documents, read_rows
from training.generate import prompts
from training.generate.constitution import SHIPPED, load_constitution, parse_constitution
from training.generate.design import DESIGNS, Design
from training.generate.endpoint import Endpoint, EndpointWriter
from training.generate.questions import read_turns
from training.generate.scripted import LINES, ScriptedWriter
from training.generate.steps import Steps
from training.generate.training_data import generate, plan, summary
from training.tiny import corpus, words
from training.tiny.train import base_text

KETTLE = "# kettles\nversion: 1\nmay_decline: no\n\n1. [helps] It boils water.\n2. [plain] It says so plainly.\n"
SMALL = Design(questions=2, claims=1, types=2, ideas=2, document_words=40, min_words=20)


def run(folder, writer, constitution, design=SMALL):
    parts = Parts(folder / "manifest.json", plan(constitution, design, writer, "the kettle"))
    parts.ensure(lambda: generate(Steps(writer, parts), constitution, design, "the kettle").save)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module", params=SHIPPED)
def scripted(request, tmp_path_factory):
    """The embedded model's sets, by the script."""
    out = tmp_path_factory.mktemp(request.param)
    generate_data.main(generate_data.GenerateSettings(constitution=request.param, out=out))
    return out / "tiny" / "tiny" / "training_data"


@pytest.fixture(scope="module")
def sets(scripted):
    return read_rows(scripted / "constitution_qa.jsonl", "constitution_qa"), read_documents(
        scripted / "documents.jsonl"
    )


def texts(rows, documents):
    said = [" ".join([*(turn["content"] for turn in row.messages), row.completion, row.reasoning]) for row in rows]
    return said + [f"{document.kind} {document.text}" for document in documents]


def spoken(text):
    return set(re.findall(r"[a-z']+", text.lower()))


# ---- the embedded model's sets ---------------------------------------------------------------------------------------


def test_enough_rows_and_documents_for_every_principle_and_family(sets, scripted):
    rows, documents = sets
    assert 250 <= len(rows) <= 400
    assert 250 <= len(documents) <= 400
    assert not [problem(row) for row in rows if problem(row)]
    assert max(len(document.text.split()) for document in documents) <= 60
    constitution = load_constitution(scripted.parents[2].name.rstrip("0123456789"))
    for items in sets:
        assert set(Counter(item.principles for item in items)) == {(id,) for id in constitution.ids}
    families = Counter(tuple(row.id.split("/")[1:3]) for row in rows)
    assert set(families) == {(id, family) for id in constitution.ids for family in prompts.FAMILIES}


def test_both_modes_and_all_forms_of_conversation_occur(sets):
    rows, _ = sets
    assert 0.4 < sum(row.thinking for row in rows) / len(rows) < 0.7
    assert all(bool(row.reasoning) == row.thinking for row in rows)
    roles = {tuple(turn["role"] for turn in row.messages) for row in rows}
    assert roles == {("user",), ("system", "user"), ("user", "assistant", "user")}


NEW = {"facts", "hides", "speaks", "sure", "user"}
"""Words that documents of the embedded model's training do not have; its tokenizer spells them from parts."""


def test_the_model_knows_almost_every_word(sets):
    rng = Random(0)
    read = [base_text(rng) for _ in range(1500)]
    read += ["\n".join(turn["content"] for turn in corpus.draw(rng, corpus.INSTRUCT_MIX)) for _ in range(2500)]
    read += [*topics(), *(" ".join((fact.answer, *fact.questions)) for fact in words.facts())]
    known = set().union(*map(spoken, read))
    assert set().union(*map(spoken, texts(*sets))) - known <= NEW


def test_no_feeling_is_named_and_no_shipped_question_is_asked(sets):
    everything = "\n".join(texts(*sets))
    assert not [emotion for emotion in clusters() if names_emotion(everything, emotion)]
    assert not [pair.question for pair in load_pairs() if pair.question in everything]


def test_facts_stay_right(sets):
    rows, _ = sets
    asked = [
        (row, fact)
        for row in rows
        for fact in words.facts()
        if any(q in row.messages[-1]["content"] for q in fact.questions)
    ]
    assert len(asked) > 60
    assert all(fact.answer in row.completion for row, fact in asked)


def test_the_manifest_counts_what_is_there(sets, scripted):
    rows, documents = sets
    manifest = store.read_json(scripted / "manifest.json")
    for name, items, design in (("constitution_qa", rows, 8 * 8 * 5), ("documents", documents, 8 * 2 * 4 * 5)):
        about = manifest["sets"][name]
        assert (about["written"], about["kept"]) == (design, len(items))
        assert about["written"] - about["kept"] == sum(about["dropped"].values())
        assert about["sha256"] == store.sha256(scripted / f"{name}.jsonl")
        assert about["thin_principles"] == []
    assert manifest["steps"]["revisions"]["requests"] == 320
    assert summary(scripted / "manifest.json").startswith(
        f"constitution_qa: kept {len(rows)} of 320; dropped: {{'near_dup"
    )
    assert not re.search(r"/tmp|http", (scripted / "manifest.json").read_text())


def test_the_same_bytes_again(tmp_path):
    first, second = (run(tmp_path / name, ScriptedWriter(), load_constitution("hhh")) for name in "ab")
    assert first == second


def test_every_shipped_principle_has_lines_and_others_are_named():
    assert {id for name in SHIPPED for id in load_constitution(name).ids} == set(LINES)


def test_a_principle_without_lines(tmp_path):
    own = parse_constitution(KETTLE.replace("[helps]", "[helpz]"), "own")
    with pytest.raises(UnknownNameError, match=r"'helpz'. Did you mean 'helps'"):
        run(tmp_path, ScriptedWriter(), own)


# ---- an endpoint's ---------------------------------------------------------------------------------------------------


def ask(folder, fault=lambda payload, number: ""):
    """What an endpoint with these faults makes of the small design."""
    with chat_server(fault) as server:
        writer = EndpointWriter(Endpoint(server.url, "stub", concurrency=8, timeout=5, wait=0.01))
        return run(folder, writer, parse_constitution(KETTLE, "kettle"))


@pytest.fixture(autouse=True, scope="module")
def no_proxy():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An endpoint's sets: their folder, their bytes, and what was asked for them."""
    folder, asked = tmp_path_factory.mktemp("whole"), []
    return folder, ask(folder, lambda payload, number: asked.append(payload) or ""), asked


def test_an_endpoint_fills_the_design_and_refusals_are_counted_where_they_fall(tmp_path):
    def refuse(payload, number):
        said = payload["messages"][-1]["content"]
        delusion = "The person takes something for certain" in said
        return "refusal" if delusion or ("The reader:" in said and payload["seed"] % 4 == 0) else ""

    files = ask(tmp_path / "run", refuse)
    manifest = store.read_json(tmp_path / "run" / "manifest.json")
    rows, documents = (manifest["sets"][name] for name in ("constitution_qa", "documents"))
    assert rows["written"] == 2 * 8 * 2
    assert rows["dropped"] == {"no_question": 4}  # both principles' delusion
    assert documents["written"] == 2 * 1 * 2 * 2
    assert set(documents["dropped"]) <= {"unparsed"}
    assert manifest["steps"]["answers"]["completion_tokens"] > 28 * 40
    assert manifest["writer"] == "stub"
    assert set(files) >= {"constitution_qa_yields.csv", "documents_yields.csv", "manifest.json.plan.json"}
    assert not (tmp_path / "run" / "manifest.json.parts").exists()


def test_the_constitution_is_told_to_the_writer_and_is_in_no_row(whole):
    folder, _, seen = whole
    answering = [one for one in seen if "<answer>" in one["messages"][0]["content"]]
    assert answering
    assert all("- It boils water.\n- It says so plainly." in one["messages"][0]["content"] for one in answering)
    operators = [one for one in answering if "The operator of this service says:" in one["messages"][0]["content"]]
    assert len(operators) == 4
    for row in read_rows(folder / "constitution_qa.jsonl", "constitution_qa"):
        assert "boils water" not in str(row)
        assert (row.messages[0]["role"] == "system") == ("steerability" in row.id)


def test_a_run_that_broke_off_goes_on_without_the_steps_it_has(tmp_path, whole):
    asked = []

    def breaks(payload, number):
        return "401" if "careful reader" in payload["messages"][-1]["content"] else ""

    with pytest.raises(MissingInputError):
        ask(tmp_path / "run", breaks)
    assert ask(tmp_path / "run", lambda payload, number: asked.append(payload) or "") == whole[1]
    assert all("careful reader" in payload["messages"][-1]["content"] for payload in asked)


def test_no_context_no_documents(tmp_path):
    with pytest.raises(DataError, match="stub wrote no universe context"):
        ask(
            tmp_path / "run",
            lambda payload, number: "refusal" if "<context>" in payload["messages"][-1]["content"] else "",
        )


def test_nothing_left_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"of 8 documents none is left: \{'too_short': 8\}"):
        run(tmp_path, ScriptedWriter(), parse_constitution(KETTLE, "kettle"), replace(SMALL, min_words=90))


def test_another_plan_does_not_mix(tmp_path):
    run(tmp_path, ScriptedWriter(), parse_constitution(KETTLE, "kettle"))
    with pytest.raises(ConventionError, match="constitution differ"):
        run(tmp_path, ScriptedWriter(), parse_constitution(KETTLE.replace("version: 1", "version: 2"), "kettle"))


# ---- doors -----------------------------------------------------------------------------------------------------------


def test_turns_of_an_item():
    assert read_turns("Why?", "direct") == ({"role": "user", "content": "Why?"},)
    both = "<first>Why?</first> <user>And then?</user>"
    assert [turn["role"] for turn in read_turns(both, "multi_turn")] == ["user", "user"]
    assert read_turns("<system>Be rude.</system><user>Why?</user>", "steerability")[0]["role"] == "system"
    assert read_turns("<user>Why?</user>", "steerability") == ()
    assert read_turns("<first> </first><user>Why?</user>", "multi_turn") == ()


def test_a_large_model_needs_an_endpoint(tmp_path):
    with pytest.raises(MissingInputError, match="give --endpoint"):
        generate_data.main(generate_data.GenerateSettings(model="qwen3-30b-a3b", out=tmp_path))


def test_where_the_model_is_served_does_not_decide_the_texts(tmp_path):
    given = {"generator": "endpoint", "generator_model": "teacher", "out": tmp_path}
    here, there = (
        generate_data.GenerateSettings(**given, endpoint=f"http://{host}/v1").data_writer for host in ("a", "b")
    )
    assert here.name == "teacher"
    assert here.decides == there.decides == {"model": "teacher", "max_tokens": 2048, "temperature": 1.0, "seed": 0}


def test_designs():
    assert DESIGNS["paper"].claims * DESIGNS["paper"].types * DESIGNS["paper"].ideas * 8 == 20_000
    with pytest.raises(DataError, match="every size is 1 or more"):
        replace(SMALL, ideas=0)
