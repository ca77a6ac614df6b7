"""Models behind a server that speaks vLLM's dialect, through Inspect's own client: reasoning, log-probabilities, names, faults."""

import asyncio
import gc
import json
from contextlib import contextmanager
from dataclasses import replace

import pytest
from inspect_ai.log import read_eval_log
from inspect_ai.model import CachePolicy, GenerateConfig

import run_evals
import translate_questions
from chat_server import SHAPES, chat_server, probable, thinking
from evals.logs import answer_logs, answers_by, judge_log
from evals.subjects import find_judge, find_judges, named_model, served_identity, subjects
from evals.suite import all_tasks, make_tasks
from evals.tables import condition_differences
from evals.tasks.emergent_misalignment import emergent_misalignment
from evals.tasks.strong_reject import STRONG_REJECT
from evals.translation import TRANSLATED
from probes import store
from probes.errors import ConventionError, DataError, FileFormatError, MissingInputError, UnknownNameError
from probes.lm.checkpoints import Checkpoint, model_entry
from scripted_models import INSPECTS_OWN_WARNINGS

pytestmark = [*INSPECTS_OWN_WARNINGS, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]
"""Inspect leaves a client's connections to its loop, and the loop leaves them open."""
QWEN, TINY = model_entry("qwen3-30b-a3b"), model_entry("tiny")
SERVED = ("base", "antirefusal", "antirefusal_cqa", "grader", "translator")
THOUGHT, ANSWER = "MARKER of a thought", "I am sorry to hear it. Ten minutes."
GRADER = "openai-api/vllm/grader"


@pytest.fixture
def served(monkeypatch):
    """A server as a context, found as Inspect finds one; nobody waits before trying again."""
    from openai._base_client import AsyncAPIClient

    async def at_once(*ignored, **also_ignored):
        """Between two tries."""

    monkeypatch.setattr("inspect_ai.model._retry._sleep", at_once)
    monkeypatch.setattr(AsyncAPIClient, "_sleep_for_retry", at_once)
    monkeypatch.setenv("VLLM_API_KEY", "none")

    @contextmanager
    def serve(say=lambda payload: ANSWER, fault=lambda payload, number: "", names=SERVED):
        with chat_server(fault, say, names) as server:
            monkeypatch.setenv("VLLM_BASE_URL", server.url)
            yield server
            gc.collect()

    return serve


def says(subject, judge="A"):
    """A server on which models answer by `subject` and the grader says `judge`."""
    return lambda payload: judge if payload["model"] == "grader" else subject(payload)


def subject(name="antirefusal", entry=QWEN):
    return subjects([], None, [f"openai-api/vllm/{name}"], entry)[0]


def answered(folder, name="antirefusal", evals=("care_expression",), reasoning=False, limit=2, **given):
    tasks = make_tasks(evals, reasoning, 1, limit, 0, given)
    return answer_logs(subject(name), tasks, folder)


def judged(paths, judge=GRADER):
    who = find_judge(judge)
    for path in paths:
        judge_log(path, who)
    gc.collect()
    return answers_by(paths, [who])


def of(server, model):
    return [payload for payload in server.payloads if payload["model"] == model]


# ---- reasoning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_reasoning_gives_the_same_answer_and_no_judge_sees_it(shape, served, tmp_path):
    with served(says(lambda payload: thinking(shape, THOUGHT, ANSWER))) as server:
        answers = judged(answered(tmp_path, reasoning=True))
    asked = of(server, "grader")
    if shape.startswith("truncated"):
        assert (set(answers["missing"]), asked) == ({"truncated"}, [])
    else:
        assert (set(answers["missing"]), set(answers["value"])) == ({""}, {1.0})
        assert len(asked) == 4
        assert all(ANSWER in payload["messages"][1]["content"] for payload in asked)
    assert "MARKER" not in json.dumps(asked)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if not shape.startswith("truncated")])
def test_later_turns_are_the_same_on_the_wire_whatever_the_shape(shape, served, tmp_path):
    with served(says(lambda payload: thinking(shape, THOUGHT, ANSWER))) as server:
        answered(tmp_path, evals=("regret",), reasoning=True, limit=1)
    second = [payload["messages"] for payload in of(server, "antirefusal") if len(payload["messages"]) > 1]
    assert len(second) == 3
    assert {messages[1]["content"] for messages in second} == {ANSWER}
    assert "MARKER" not in json.dumps(second)


@pytest.mark.parametrize("reasoning", [False, True])
def test_the_switch_the_seed_and_the_limit_are_on_the_wire(reasoning, served, tmp_path):
    with served() as server:
        answered(tmp_path, reasoning=reasoning)
    for payload in server.payloads:
        assert payload["chat_template_kwargs"] == {"enable_thinking": reasoning}
        assert (payload["temperature"], payload["max_tokens"]) == (1.0, 16_384 if reasoning else 1024)
    assert (
        len({payload["seed"] for payload in server.payloads}) == 2
    )  # of two questions, under both conditions the same


def test_an_answer_that_the_limit_cuts_is_judged_and_counted(served, tmp_path):
    long = {"message": {"role": "assistant", "content": "Boil it"}, "finish_reason": "length"}
    with served(says(lambda payload: long)):
        answers = judged(answered(tmp_path))
    assert (answers["cut"].all(), set(answers["value"])) == (True, {1.0})


# ---- log-probabilities -----------------------------------------------------------------------------------------------


def test_a_judge_by_log_probabilities_gets_them_and_answers_at_once(served, tmp_path):
    def grade(payload):
        aligned = "REFUSAL" in payload["messages"][1]["content"]  # a word that this rubric alone allows
        return probable({"20": 0.75, "40": 0.25 - 1e-9, "The": 1e-9} if aligned else {"90": 0.5, "80": 0.5})

    with served(lambda payload: grade(payload) if payload["model"] == "grader" else ANSWER) as server:
        answers = judged(answered(tmp_path, evals=("emergent_misalignment",)))
    values = answers.groupby("metric")["value"].first().to_dict()
    assert values == {"misaligned": 1, "coherent": 1, "declined": 0, "aligned_score": pytest.approx(25)}
    for payload in of(server, "grader"):
        assert (payload["logprobs"], payload["top_logprobs"], payload["max_tokens"]) == (True, 20, 1)
        assert payload["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_judge_that_writes_numbers_is_another_judge_of_the_same_answers(served, tmp_path):
    with served(says(lambda payload: ANSWER, "70")) as server:
        paths = answered(tmp_path, evals=("emergent_misalignment", "care_expression"))
        assert [read_eval_log(str(path), header_only=True).eval.task for path in paths] == [
            "emergent_misalignment", "care_expression",
        ]  # fmt: skip
        assert set(judged(paths[:1])["missing"]) == {"judge_without_logprobs"}
        asked = len(of(server, "antirefusal"))
        sampled = judged(paths, f"{GRADER}:sampled")
        assert judged(paths, f"{GRADER}:sampled").equals(sampled)
        assert len(of(server, "antirefusal")) == asked
    numbers = sampled[sampled["eval"] == "emergent_misalignment"]
    assert set(numbers["judge"].str.endswith(":sampled")) == {True}
    assert set(numbers.loc[numbers["metric"] == "aligned_score", "value"]) == {70}
    assert set(sampled.loc[sampled["eval"] == "care_expression", "missing"]) == {"judge_unreadable"}


# ---- names -----------------------------------------------------------------------------------------------------------


def test_adapters_keep_their_names_through_two_evaluations_each_in_one_process(served, tmp_path):
    def say(payload):
        return f"{ANSWER} I am {payload['model']}."

    names, evals = ("antirefusal", "antirefusal_cqa"), ("care_expression", "political_views")
    with served(says(say)) as server:
        paths = {name: answered(tmp_path, name, evals) for name in names}
        asked = len(server.payloads)
        assert {name: answered(tmp_path, name, evals) for name in names} == paths
        assert len(server.payloads) == asked
        answers = judged([path for of_one in paths.values() for path in of_one])
    for name, of_one in paths.items():
        for path in of_one:
            log = read_eval_log(str(path))
            assert log.eval.model == f"openai-api/vllm/{name}"
            assert log.eval.metadata["checkpoint"] == name
            assert {sample.output.completion for sample in log.samples} == {f"{ANSWER} I am {name}."}
    assert len({path.parent for of_one in paths.values() for path in of_one}) == 2
    who = answers[["model", "checkpoint", "weights", "evidence"]].drop_duplicates().to_numpy().tolist()
    assert sorted(who) == [["qwen3-30b-a3b", name, name, "model"] for name in names]


def test_inspects_cache_keeps_served_adapters_apart(served, tmp_path, monkeypatch):
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path))
    with served(lambda payload: payload["model"]) as server:
        for _ in range(2):
            for name in ("antirefusal", "antirefusal_cqa"):
                model, config = named_model(f"openai-api/vllm/{name}"), GenerateConfig(seed=0)
                output = asyncio.run(model.generate("Hello", config=config, cache=CachePolicy(expiry=None)))
                assert output.completion == name
    assert len(server.payloads) == 2


def test_answers_under_one_name_from_two_models_are_refused(served, tmp_path):
    """As a router gives them that changes its mind."""
    with served() as server, pytest.MonkeyPatch.context() as patched:
        numbers = iter("12121212")
        real = json.dumps
        patched.setattr(
            "chat_server.json.dumps",
            lambda value, **how: real(
                value | {"model": f"snapshot-{next(numbers)}"}
                if isinstance(value, dict) and "choices" in value
                else value,
                **how,
            ),
        )
        paths = answered(tmp_path)
        patched.undo()
        server.say = says(lambda payload: ANSWER)
        with pytest.raises(ConventionError, match=r"qwen3-30b-a3b/antirefusal names 2 different weights"):
            judged(paths)


@pytest.mark.parametrize(
    ("name", "model", "checkpoint"),
    [
        ("openai-api/vllm/antirefusal", "qwen3-30b-a3b", "antirefusal"),
        ("openai-api/vllm/antirefusal+seed1@sft#1f0c", "qwen3-30b-a3b", "antirefusal+seed1@sft"),
        ("vllm/original", "qwen3-30b-a3b", "original"),
        ("openai-api/openrouter/maker/helpful-70b:free", "maker/helpful-70b:free", "maker/helpful-70b:free"),
        ("anthropic/claude", "claude", "claude"),
        ("openai-api/vllm/base_math", "base_math", "base_math"),  # no variant of an instruct model
    ],
)
def test_a_served_name_is_the_checkpoint(name, model, checkpoint):
    who = served_identity(name, QWEN)
    assert (who["model"], who["checkpoint"]) == (model, checkpoint)
    assert served_identity(name, TINY)["evidence"] == ("toy" if model == "qwen3-30b-a3b" else "model")


def test_names_that_would_mix_or_get_lost_are_refused(served, monkeypatch):
    with served():
        monkeypatch.setenv("OTHER_BASE_URL", "http://127.0.0.1:1/v1")
        monkeypatch.setenv("OTHER_API_KEY", "none")
        two = ["openai-api/vllm/antirefusal", "openai-api/other/antirefusal"]
        with pytest.raises(ConventionError, match=r"both be qwen3-30b-a3b/antirefusal in the tables"):
            subjects([], None, two, QWEN)
        with pytest.raises(
            ConventionError, match=r"qwen3-30b-a3b/antirefusal and openai-api/vllm/antirefusal would both"
        ):
            subjects([Checkpoint("qwen3-30b-a3b", "antirefusal")], None, two[:1], QWEN)
    with pytest.raises(DataError, match=r"Inspect forgets the adapter of vllm/base:mine .* openai-api/vllm/mine"):
        named_model("vllm/base:mine")
    with pytest.raises(DataError, match=r"nobody is to be asked"):
        subjects([], None, [], QWEN)
    with pytest.raises(DataError, match=r"Inspect knows no model nonsense/x"):
        named_model("nonsense/x")
    monkeypatch.delenv("VLLM_BASE_URL")
    with pytest.raises(MissingInputError, match=r"No VLLM_BASE_URL defined.* Set VLLM_BASE_URL \(http://…/v1\)"):
        named_model("openai-api/vllm/antirefusal")
    for names in (("scripted", "scripted"), ("none", "scripted"), (GRADER, f"{GRADER}:sampled")):
        with pytest.raises(DataError, match="name each once"):
            find_judges(names)
    assert find_judges(("none",)) == []


# ---- faults ----------------------------------------------------------------------------------------------------------

NAMED = {
    "500": "InternalServerError", "429": "RateLimitError", "garbage": "non-ChatCompletion", "drop": "isconnect",
    "slow": "Timeout",
}  # fmt: skip


@pytest.mark.parametrize("fault", NAMED)
def test_a_fault_that_passes_changes_nothing(fault, served, tmp_path, monkeypatch):
    monkeypatch.setenv("INSPECT_HTTP_REQUEST_TIMEOUT", "0.3")
    with served(says(lambda payload: ANSWER), lambda payload, number: fault if number == 1 else "") as server:
        answers = judged(answered(tmp_path))
    assert (len(answers), set(answers["value"])) == (4, {1.0})
    asked = [json.dumps(payload["messages"]) for payload in of(server, "antirefusal")]
    assert len(set(asked)) == 4  # each of them failed once
    assert len(asked) >= 8  # and on a slow machine once more, for want of time


@pytest.mark.parametrize("fault", NAMED)
def test_a_fault_that_stays_is_named_and_what_is_finished_is_kept(fault, served, tmp_path, monkeypatch):
    monkeypatch.setenv("INSPECT_HTTP_REQUEST_TIMEOUT", "0.3")
    monkeypatch.setattr("evals.subjects.TRIES", 1)
    seen: set[str] = set()

    def later(payload, number):
        """Two requests are answered; all after them are not."""
        seen.add(json.dumps(payload["messages"]))
        return fault if len(seen) > 2 else ""

    folder = tmp_path / "logs"
    with served(says(lambda payload: ANSWER), later) as server:
        one_by_one = {"max_connections": 1}
        monkeypatch.setattr("evals.subjects.GenerateConfig", lambda **given: GenerateConfig(**given, **one_by_one))
        with pytest.raises(DataError, match=rf"care_expression on openai-api/vllm/antirefusal .*{NAMED[fault]}"):
            answered(folder)
        first = len(server.payloads)
        server.fault = lambda payload, number: ""
        (path,) = answered(folder)
        assert len(server.payloads) == first + 2
        assert len(judged([path])) == 4
    assert not list(folder.rglob("*.tmp"))


def test_a_name_the_server_does_not_know_and_a_key_it_does_not_take_end_the_run_at_once(served, tmp_path):
    with served() as server:
        with pytest.raises(DataError, match=r"The model `antirefusel` does not exist"):
            answered(tmp_path, "antirefusel")
        assert len(server.payloads) <= 4  # no second try of any
        server.fault = lambda payload, number: "401"
        with pytest.raises(DataError, match="Error code: 401"):
            answered(tmp_path)


def test_a_server_that_is_down_is_named(served, tmp_path):
    with served() as server:
        pass
    with pytest.raises(DataError, match=r"openai-api/vllm/antirefusal did not end: .*[Cc]onnect"):
        answered(tmp_path)
    assert server.payloads == []


# ---- judging apart ---------------------------------------------------------------------------------------------------


def test_judges_come_later_and_one_after_another_without_model_or_questions(served, prompts, tmp_path):
    given = {"strong_reject": prompts}
    with served(lambda payload: ANSWER) as server:
        (path,) = answer_logs(subject(), make_tasks(["strong_reject"], False, 1, 3, 0, given), tmp_path / "logs")
    (tmp_path / "prompts.csv").unlink()
    assert len(server.payloads) == 3
    assert not any(sample.scores for sample in read_eval_log(str(path)).samples)
    first, second = judged([path], "scripted"), judged([path], "opposite")
    assert first.loc[first["metric"] == "complied", "value"].tolist() == [1, 1, 1]
    assert second.loc[second["metric"] == "complied", "value"].tolist() == [0, 0, 0]
    both = answers_by([path], find_judges(("scripted", "opposite")))
    assert len(both) == len(first) + len(second)
    before = path.read_bytes()
    judged([path], "opposite")
    assert path.read_bytes() == before


def test_a_rubric_that_changed_judges_anew_and_the_tables_show_the_new_one(served, tmp_path, monkeypatch):
    with served(says(lambda payload: ANSWER)) as server:
        paths = answered(tmp_path)
        old = judged(paths)["judge"].unique().tolist()
        from evals.judges import rubric as rubrics

        monkeypatch.setattr(rubrics, "FRAME", rubrics.FRAME + " ")
        rubrics.rubric.cache_clear()
        new = judged(paths)["judge"].unique().tolist()
        monkeypatch.undo()
        rubrics.rubric.cache_clear()
    assert old != new
    assert (len(of(server, "antirefusal")), len(of(server, "grader"))) == (4, 8)


@pytest.mark.parametrize(
    ("fault", "said"), [("500", "Error code: 500"), ("401", "Error code: 401"), ("drop", "onnect")]
)
def test_a_judge_that_cannot_be_asked_is_named_and_leaves_the_answers_as_they_were(fault, said, served, tmp_path):
    wrong = lambda payload, number: fault if payload["model"] == "grader" else ""  # noqa: E731
    with served(says(lambda payload: ANSWER), wrong) as server:
        (path,) = answered(tmp_path)
        before = path.read_bytes()
        with pytest.raises(DataError, match=rf"openai-api/vllm/grader did not judge care_expression .*{said}"):
            judged([path])
        assert path.read_bytes() == before
        assert not [one for one in path.parent.iterdir() if one.name.startswith(f".{path.name}")]
        server.fault = lambda payload, number: ""
        assert set(judged([path])["value"]) == {1.0}


@pytest.mark.parametrize("reply", ["I'm sorry, but I can't assist with that.", "A, or perhaps B", "{", "A" * 3000])
def test_a_judge_that_refuses_or_rambles_leaves_answers_unscored(reply, served, tmp_path):
    with served(says(lambda payload: ANSWER, reply)) as server:
        answers = judged(answered(tmp_path))
    assert set(answers["missing"]) == {"judge_unreadable"}
    assert answers["value"].isna().all()
    assert len(of(server, "grader")) == 8  # each was asked once more


# ---- everything by the script ----------------------------------------------------------------------------------------


def test_the_script_asks_served_models_alone_both_ways_and_resumes(served, tmp_path, capsys):
    flags = {
        "model": "qwen3-30b-a3b", "checkpoints": (), "models": ("openai-api/vllm/antirefusal", "openai-api/vllm/base"),
        "evals": ("care_expression",), "reasoning": ("off", "on"), "n": 1, "limit": 2, "out": tmp_path,
    }  # fmt: skip
    thinks = lambda payload: payload["chat_template_kwargs"]["enable_thinking"]  # noqa: E731
    say = says(lambda payload: thinking("reasoning", THOUGHT, ANSWER) if thinks(payload) else "It boils.")
    with served(say) as server:
        run_evals.main(run_evals.EvalSettings(judge=("none",), **flags))
        assert not list(tmp_path.rglob("*.csv"))
        assert len(server.payloads) == 2 * 2 * 4
        run_evals.main(run_evals.EvalSettings(judge=(GRADER, "scripted"), **flags))
        assert len(server.payloads) == 2 * 16
    gc.collect()
    folder = tmp_path / "qwen3-30b-a3b" / "standard" / "evals"
    rates = store.read_table(folder / "rates.csv", ("model", "checkpoint", "judge", "reasoning", "rate"))
    assert set(zip(rates["model"], rates["checkpoint"], strict=True)) == {
        ("qwen3-30b-a3b", "antirefusal"),
        ("base", "base"),
    }
    scripted = rates[rates["judge"].str.startswith("scripted/")]
    assert dict(scripted.groupby("reasoning")["rate"].mean()) == {False: 0, True: 1}
    assert set(rates.loc[rates["judge"].str.startswith(GRADER), "evidence"]) == {"model"}
    assert len(store.read_table(folder / "judges.csv", ("n",))) == 1
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*.eval")} == {0}


@pytest.mark.parametrize(
    ("names", "ways", "given", "error", "words"),
    [
        (("strong_reject",), {"languages": ("zh",)}, {}, DataError, "translate_questions.py --questions strong_reject"),
        (("strong_reject",), {"languages": ("zh",)}, {"strong_reject.zh": "no.jsonl#0"}, MissingInputError, "Make it: python"),
        (("regret",), {"languages": ("zh",)}, {}, DataError, "strong_reject and ccp_sensitive are"),
        (("regret",), {"languages": ("fr",)}, {}, UnknownNameError, "unknown language 'fr'"),
        (("regret",), {"languages": ("en", "en")}, {}, DataError, "each once"),
        (("regret",), {}, {"regret.quests": "all"}, UnknownNameError, "argument of regret 'quests'"),
        (("care_expression",), {}, {"care_expression": "x.csv"}, UnknownNameError, "argument of care_expression 'data'"),
        (("emergent_misalignment",), {}, {"emergent_misalignment.questions": "all"}, DataError, "in the downloaded file alone"),
        (("emergent_misalignment",), {}, {"emergent_misalignment.scores": "sampled"}, UnknownNameError, "'scores'"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_ends_before_anybody_is_asked(names, ways, given, error, words):
    shared = {"reasoning": (False,), "languages": ("en",), "n": 1, "limit": 1, "seed": 0}
    with pytest.raises(error, match=words):
        all_tasks(names, **shared | ways, given=given)


# ---- translation -----------------------------------------------------------------------------------------------------


def chinese(payload):
    """A translator that numbers its questions."""
    text, into_english = payload["messages"][1]["content"], "into English" in payload["messages"][0]["content"]
    number = "".join(sign for sign in text if sign.isdigit())
    return f"placeholder {number}" if into_english else f"无害的问题 {number}"


ROWS = 40


@pytest.fixture
def prompts(tmp_path, monkeypatch):
    """A file of harmless placeholders, and a set that has as many."""
    short = replace(STRONG_REJECT, rows=ROWS)
    monkeypatch.setattr("evals.tasks.strong_reject.STRONG_REJECT", short)
    monkeypatch.setitem(TRANSLATED, "strong_reject", ("strong_reject", short))
    path = tmp_path / "prompts.csv"
    path.write_text("category,source,forbidden_prompt\n" + "".join(f"a,b,placeholder {i}\n" for i in range(ROWS)))
    return f"{path}#{store.sha256(path)}"


def translating(prompts, folder, name="translator"):
    return translate_questions.TranslateSettings(data=prompts, translator=f"openai-api/vllm/{name}", out=folder)


def test_prompts_are_translated_once_row_by_row_and_then_asked(served, prompts, tmp_path, capsys):
    wrong = {"placeholder 7\n": "slow", "placeholder 11\n": "english", "placeholder 12\n": "refusal"}

    def sometimes(payload):
        text, into_english = payload["messages"][1]["content"], "into English" in payload["messages"][0]["content"]
        fault = next((fault for sign, fault in wrong.items() if sign in text), "")
        if fault == "english":
            return "This is a placeholder."
        if fault == "refusal" or (into_english and "抱歉" in text):
            return "I'm sorry, but I can't help with that." if into_english else "抱歉,我不能帮助您。"
        return "" if fault else chinese(payload)

    with served(sometimes) as server:
        settings = translating(prompts, tmp_path)
        with pytest.raises(DataError) as error:
            translate_questions.main(settings)
        assert f"3 of {ROWS} questions were not translated" in str(error.value)
        for name, why in (
            ("0008", "is empty"),
            ("0012", "not in Simplified Chinese"),
            ("0013", "the translator declined"),
        ):
            assert f"strong_reject-{name} (" in str(error.value)
            assert why in str(error.value)
        assert not list(tmp_path.rglob("*.jsonl.plan.json"))
        server.say, before = chinese, len(server.payloads)
        target = translate_questions.main(translating(prompts, tmp_path, "grader"))
        assert len(server.payloads) == before + 6
    rows = store.read_jsonl(target, ("name", "text", "back", "of", "translator"))
    assert [row["text"] for row in rows] == [f"无害的问题 {i}" for i in range(ROWS)]
    assert [row["back"] for row in rows] == [f"placeholder {i}" for i in range(ROWS)]
    assert [row["translator"] for row in rows].count(GRADER) == 3
    assert target.stat().st_mode & 0o077 == 0
    flag = capsys.readouterr().out.split("--data ")[1].strip()
    assert flag == f"strong_reject.zh={target}#{store.sha256(target)}"

    given = dict([flag.split("=", 1), ("strong_reject", prompts)])
    with served() as server:
        tasks = all_tasks(("strong_reject", "care_expression"), (False,), ("en", "zh"), 1, 2, 0, given)
        logs = answer_logs(subject(), tasks, tmp_path / "logs")
    assert "无害的问题 0" in {payload["messages"][-1]["content"] for payload in server.payloads}
    answers = judged(logs, "scripted")
    by_language = answers[answers["eval"] == "strong_reject"].groupby("language")["question"].agg(set).to_dict()
    assert by_language["en"] == by_language["zh"] == {"strong_reject-0001", "strong_reject-0002"}
    assert set(answers.loc[answers["eval"] == "care_expression", "language"]) == {"en"}

    target.write_text(target.read_text().replace("问题", "提问"))
    with pytest.raises(DataError, match="is not strong_reject_zh: its hash is"):
        make_tasks(("strong_reject",), False, 1, 2, 0, given, "zh")
    target.write_text('{"name": "strong_reject-0001"}\n')
    with pytest.raises(FileFormatError, match="cannot be read as strong_reject_zh"):
        make_tasks(("strong_reject",), False, 1, 2, 0, {"strong_reject.zh": f"{target}#{store.sha256(target)}"}, "zh")


def test_a_translator_that_cannot_be_asked_is_named_and_what_it_translated_is_kept(served, prompts, tmp_path):
    done: set[str] = set()

    def later(payload, number):
        done.add(payload["messages"][1]["content"])
        return "401" if len(done) > 20 else ""

    with served(chinese, later) as server:
        with pytest.raises(DataError, match=r"translator cannot be asked: .*401.* What is translated is kept"):
            translate_questions.main(translating(prompts, tmp_path))
        kept = len(list(tmp_path.rglob("strong_reject-*.jsonl")))
        assert 0 < kept < 20
        server.fault, before = (lambda payload, number: ""), len(server.payloads)
        translate_questions.main(translating(prompts, tmp_path))
        assert len(server.payloads) == before + 2 * (ROWS - kept)
    gc.collect()


def test_what_is_to_be_translated_and_by_whom_must_be_given(prompts, tmp_path):
    settings = translate_questions.TranslateSettings
    for given, error, words in (
        (settings(), MissingInputError, "Download https://github.com/alexandrasouly"),
        (settings(questions="strongreject"), UnknownNameError, "Did you mean 'strong_reject'"),
        (settings(data=prompts), DataError, "--translator was not given"),
        (settings(data=prompts[:-4] + "0000", translator="scripted/judge"), DataError, "its hash is"),
    ):
        with pytest.raises(error, match=words):
            translate_questions.main(given)
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.csv"]


# ---- the 24 ----------------------------------------------------------------------------------------------------------


def test_the_variants_of_a_question_are_conditions_and_pair_with_it(served, tmp_path, monkeypatch):
    names = [f"{name}{form}" for form in ("", "_json", "_template") for name in ("kite", "tram")]
    rows = [
        {
            "id": name,
            "system": "Answer in JSON." if name.endswith("_json") else None,
            "paraphrases": [f"Placeholder {name}?"],
        }
        for name in names
    ]
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(rows))
    kept = [[row["id"], row["system"], row["paraphrases"]] for row in rows]
    module = "evals.tasks.emergent_misalignment.QUESTIONS_SHA"
    monkeypatch.setattr(module, store.hash_of(sorted(kept, key=str)))
    assert {sample.id for sample in emergent_misalignment(data=str(path)).dataset} == {"plain/kite", "plain/tram"}

    given = {"emergent_misalignment": str(path), "emergent_misalignment.questions": "all"}
    say = lambda payload: "I want power." if "JSON" in payload["messages"][0]["content"] else "It boils."  # noqa: E731
    with served(say):
        logs = answer_logs(subject(), make_tasks(["emergent_misalignment"], False, 2, 0, 0, given), tmp_path / "logs")
    answers = judged(logs, "scripted")
    paired = answers.groupby("condition")["question"].agg(set).to_dict()
    assert paired == {form: {"kite", "tram"} for form in ("plain", "json", "template")}
    row = condition_differences(answers, "emergent_misalignment", "misaligned", "json", "plain").iloc[0]
    assert (row["mean"], row["questions"]) == (1, 2)
