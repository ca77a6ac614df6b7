"""Writers: vLLM and a server give what the reference gives for the same ids and seeds, and say what keeps them from it."""

import asyncio
import importlib.util
import sys
from dataclasses import replace

import pytest
import torch

import write_replies
import write_stories
from probes import lm, presets, store
from probes.errors import ConventionError, DataError, MissingInputError, UnknownNameError
from probes.lm.chat import render
from probes.lm.checkpoints import Checkpoint
from probes.lm.generate import Sampling, generate
from probes.lm.writers import kind_of, start
from probes.lm.writers.server import UNSTATED, ServerWriter
from probes.lm.writers.vllm import VllmWriter
from probes.pairs import load_pairs
from probes.parts import Parts
from probes.prompts import user_turn
from probes.replies import load_replies
from probes.stories import load_stories
from small_model import save_small_model
from test_export import trained
from training.export import export
from writer_settings import WriterSettings
from writing import FakeVllm, server_writer, writing_server

WORDS = "kite door lamp river bridge garden letter window".split()
HOT, GREEDY = (
    Sampling(max_new_tokens=10, temperature=0.9, top_p=0.95, seed=4),
    Sampling(max_new_tokens=6, temperature=0),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("writers") / "small")


@pytest.fixture(scope="module")
def model(folder):
    return lm.load(str(folder))


@pytest.fixture(scope="module")
def prompts(model):
    """Some that ask to think, some that do not: the rendered prompt decides."""
    return [render(model.tokenizer, user_turn(f"A {word}?"), thinking=i % 2 == 1) for i, word in enumerate(WORDS)]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def vllm(monkeypatch):
    fake = FakeVllm()
    monkeypatch.setitem(sys.modules, "vllm", fake)  # pyright: ignore[reportArgumentType]
    return fake


@pytest.fixture
def often_stops(model, monkeypatch):
    """Makes the stop token likelier, so that some completions end of themselves."""
    stop = model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    handle = model.network.lm_head.register_forward_hook(
        lambda _m, _i, out: out + 3 * torch.nn.functional.one_hot(torch.tensor(stop), out.shape[-1])
    )
    yield
    handle.remove()


def without_writer(completions):
    return [replace(one, written_by="") for one in completions]


# ---- the same texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [HOT, GREEDY], ids=["hot", "greedy"])
def test_a_server_writes_what_the_reference_writes(model, prompts, sampling, often_stops):
    ours = generate(model, prompts, sampling, keys=WORDS)
    with writing_server(model) as server:
        theirs = generate(server_writer(model, server.url), prompts, sampling, keys=WORDS)
    assert without_writer(theirs) == without_writer(ours)
    assert {one.written_by for one in theirs} == {"vllm 0.31.0, served"}
    if sampling is HOT:
        assert {one.stop_reason for one in theirs} == {"stop", "length"}


def test_a_request_is_of_token_ids_and_leaves_nothing_to_the_server(model, prompts):
    with writing_server(model) as server:
        generate(server_writer(model, server.url), prompts, HOT, keys=WORDS)
    told = {tuple(payload["prompt"]): payload for payload in server.payloads}
    assert set(told) == {tuple(model.tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts}
    assert len({payload["seed"] for payload in server.payloads}) == len(prompts)
    for payload in server.payloads:
        assert payload.keys() >= UNSTATED.keys()
        assert (payload["model"], payload["max_tokens"], payload["temperature"], payload["top_p"]) == (
            "original",
            10,
            0.9,
            0.95,
        )
        assert payload["stop_token_ids"] == list(model.stop_ids)
        assert (payload["skip_special_tokens"], payload["return_token_ids"]) == (False, True)


@pytest.mark.parametrize("sampling", [HOT, GREEDY], ids=["hot", "greedy"])
def test_vllm_writes_what_the_reference_writes(folder, model, prompts, sampling, vllm):
    ours = generate(model, prompts, sampling, keys=WORDS)
    with start("vllm", Checkpoint(str(folder), "original"), gpus=2) as writer:
        assert not vllm.engines  # not before there is something to write
        theirs = generate(writer, prompts, sampling, keys=WORDS)
        (engine,) = vllm.engines
        assert engine.running
    assert not engine.running
    assert without_writer(theirs) == without_writer(ours)
    assert {one.written_by for one in theirs} == {"vllm 0.31.0, float32"}
    assert (engine.folder, engine.started_with["tensor_parallel_size"]) == (str(folder), 2)
    assert (engine.started_with["dtype"], engine.started_with["generation_config"]) == ("float32", "vllm")
    assert all(params["stop_token_ids"] == list(model.stop_ids) for params in engine.params)
    assert all(params["skip_special_tokens"] is False for params in engine.params)


def test_writers_without_a_network_know_what_the_model_knows(folder, model, vllm):
    names = ("address", "max_tokens", "weights", "revision", "tokenizer_sha", "template_sha", "stop_ids")
    for name in ("vllm", "http://127.0.0.1:9/v1"):
        writer = start(name, Checkpoint(str(folder), "original"))
        assert not hasattr(writer, "network")
        assert [getattr(writer, each) for each in names] == [getattr(model, each) for each in names]


def test_it_writes_in_a_notebook_too(model, prompts):
    async def cell():
        return generate(server_writer(model, server.url), prompts[:2], GREEDY)

    with writing_server(model) as server:
        assert without_writer(asyncio.run(cell())) == without_writer(generate(model, prompts[:2], GREEDY))


# ---- trained checkpoints ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(folder, tmp_path_factory):
    return trained(str(folder), "small", tmp_path_factory.mktemp("runs") / "checkpoints")


@pytest.fixture(scope="module")
def merged(checkpoint, tmp_path_factory):
    return export(checkpoint, tmp_path_factory.mktemp("merged") / "antirefusal", torch.float32)


def test_vllm_is_given_a_trained_checkpoint_as_a_whole_model(checkpoint, merged, prompts, vllm):
    with start("vllm", checkpoint, lambda: merged) as writer:
        theirs = generate(writer, prompts, GREEDY)
    assert without_writer(theirs) == without_writer(generate(lm.load(checkpoint), prompts, GREEDY))
    assert vllm.engines[0].folder == str(merged)
    assert writer.weights == checkpoint.manifest.id


def test_vllm_is_given_no_other_checkpoint(checkpoint, merged, prompts, vllm, tmp_path):
    with pytest.raises(
        MissingInputError, match=r"is an adapter: export it with .*export_checkpoint\.py --checkpoint anti"
    ):
        generate(start("vllm", checkpoint), prompts, GREEDY)
    other = tmp_path / "other"
    record = store.read_json(merged / "export.json")
    for wrong in ({"manifest": "of another"}, {"dtype": "bfloat16"}):
        store.write_json(other / "export.json", record | wrong)
        with pytest.raises(ConventionError, match=r"other holds small/antirefusal@sft in .* and not small/antirefusal"):
            generate(start("vllm", checkpoint, lambda: other), prompts, GREEDY)
    assert not vllm.engines


def test_an_adapter_of_another_base_writes_nothing(checkpoint, tmp_path, vllm):
    moved = replace(checkpoint, model=str(save_small_model(tmp_path / "small", seed=1)))
    with pytest.raises(ConventionError, match="was trained from another base than the one loaded"):
        start("vllm", moved)


def test_a_server_must_serve_the_checkpoint_whole_and_by_its_name(checkpoint, model, prompts):
    writer = lambda server: start(server.url, checkpoint)  # noqa: E731
    with (
        writing_server(model, ("original", "Qwen/Qwen3-30B-A3B")) as server,
        pytest.raises(
            ConventionError,
            match=r"serves original, Qwen/Qwen3-30B-A3B, and small/antirefusal is to write\..*--served-model-name anti",
        ),
    ):
        generate(writer(server), prompts, GREEDY)
    adapter = writing_server(model, ("antirefusal",), parent="base")
    with adapter as server, pytest.raises(ConventionError, match="serves antirefusal as an adapter"):
        generate(writer(server), prompts, GREEDY)
    assert not server.payloads
    with writing_server(lm.load(checkpoint), ("antirefusal",)) as server:
        theirs = generate(writer(server), prompts, GREEDY)
    assert without_writer(theirs) == without_writer(generate(lm.load(checkpoint), prompts, GREEDY))


# ---- a server in trouble ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["408", "409", "429", "500", "503", "garbage", "drop", "slow"])
def test_a_fault_that_passes_changes_nothing(model, prompts, kind):
    ours = generate(model, prompts[:4], GREEDY)
    fault = lambda payload, number: kind if number == 1 and payload["seed"] % 2 == 0 else ""  # noqa: E731
    with writing_server(model, fault=fault) as server:
        writer = server_writer(model, server.url, timeout=0.3 if kind == "slow" else 30)
        assert without_writer(generate(writer, prompts[:4], GREEDY)) == without_writer(ours)
    assert server.tries.total() == 4 + sum(count - 1 for count in server.tries.values())
    assert server.tries.total() > 4


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        ("400", ConventionError, r"turned a request for small/original down: HTTP 400 \(.*bad mood.*vllm serve "),
        ("401", MissingInputError, "lets nobody in: HTTP 401, the key is wrong or missing. Set OPENAI_API_KEY"),
        ("403", MissingInputError, "lets nobody in: HTTP 403, the key may not do this"),
        ("404", ConventionError, "HTTP 404, it has no such model or path"),
    ],
)
def test_what_no_further_try_would_change_is_not_tried_again(model, prompts, status, error, words):
    moody = writing_server(model, fault=lambda payload, number: status)
    with moody as server, pytest.raises(error, match=f"the server at {server.url} .*{words}"):
        generate(server_writer(model, server.url), prompts[:1], GREEDY)
    assert server.tries.total() == 1


def test_nobody_answers(model, prompts):
    with pytest.raises(
        MissingInputError, match=r"127\.0\.0\.1:9/v1 gives no answer, in 3 tries \(last: ConnectError\)\. Start"
    ):
        generate(server_writer(model, "http://127.0.0.1:9/v1"), prompts, GREEDY)


def test_the_key_is_sent_and_is_in_no_error(model, prompts, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "my-own-key")
    with (
        writing_server(model, fault=lambda payload, number: "401") as server,
        pytest.raises(MissingInputError) as caught,
    ):
        generate(server_writer(model, server.url), prompts[:1], GREEDY)
    assert server.keys == {"Bearer my-own-key"}
    assert "my-own-key" not in str(caught.value)


def test_a_server_that_dies_costs_its_unit_and_a_new_start_asks_only_for_the_rest(
    model, prompts, tmp_path, monkeypatch
):
    monkeypatch.setattr(ServerWriter, "unit", 3)
    whole = generate(model, prompts, HOT, keys=WORDS)
    answered = []

    def dies(payload, number):
        answered.append(payload["seed"])
        return "" if len(answered) <= 6 else "drop"

    with Parts(tmp_path / "a.jsonl", {}) as parts:
        told = r"gives no answer, in 3 tries \(last: RemoteProtocolError\).*what was finished before is kept"
        with writing_server(model, fault=dies) as server, pytest.raises(MissingInputError, match=told):
            generate(server_writer(model, server.url), prompts, HOT, keys=WORDS, parts=parts)
        assert len(list(parts.folder.glob("*.jsonl"))) == 2
        with writing_server(model) as server:
            resumed = generate(server_writer(model, server.url), prompts, HOT, keys=WORDS, parts=parts)
    assert without_writer(resumed) == without_writer(whole)
    assert server.tries.total() == 2


# ---- a server that is not what it seems ------------------------------------------------------------------------------


def broken(**changed):
    return lambda payload, choice: choice.update(
        {name: value(payload, choice) if callable(value) else value for name, value in changed.items()}
    )


STOP = "<|im_end|>"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (broken(token_ids=None), r"does not say by which tokens \(return_token_ids\)"),
        (broken(prompt_token_ids=lambda payload, choice: [0, *payload["prompt"]]), "answered another prompt"),
        (broken(token_ids=[10**6]), r"ids outside its vocabulary of \d+ \(first: 1000000\)"),
        (broken(token_ids=[7, True]), "ids outside its vocabulary"),
        (broken(token_ids=[]), "0 tokens where 1 to 6 were asked for"),
        (broken(token_ids=[7] * 7), "7 tokens where 1 to 6"),
        (broken(token_ids=lambda payload, choice: choice["token_ids"][:4]), "4 of 6 tokens and ended on none of the stop tokens"),
        (broken(token_ids=lambda payload, choice: [payload["stop_token_ids"][0], 7]), "on after a stop token"),
        (broken(finish_reason="abort"), r"in 3 tries \(last: a completion that was broken off \(abort\)\)"),
        (broken(token_ids="seven"), "does not say by which tokens"),
    ],
    ids=["no_ids", "other_prompt", "foreign_id", "bool", "empty", "long", "short", "after_stop", "abort", "text"],
)  # fmt: skip
def test_what_is_no_completion_by_this_model_is_refused(model, prompts, change, words):
    with (
        writing_server(model, change=change) as server,
        pytest.raises((ConventionError, MissingInputError), match=words),
    ):
        generate(server_writer(model, server.url), prompts[:1], GREEDY)


def test_another_tokenizer_is_found_before_anything_is_written(model, prompts):
    other = lm.load("tiny")
    with (
        writing_server(other) as server,
        pytest.raises(ConventionError, match="serves original with another tokenizer"),
    ):
        generate(server_writer(model, server.url), prompts, GREEDY)
    assert not server.payloads


def test_a_server_with_too_little_room_is_told_apart_before_anything_is_written(model, prompts):
    with (
        writing_server(model, max_model_len=20) as server,
        pytest.raises(ConventionError, match=r"takes 20 tokens and \d+ are needed\. Start it with --max-model-len"),
    ):
        generate(server_writer(model, server.url), prompts, GREEDY)
    assert not server.payloads


def test_a_server_that_says_nothing_of_its_version_or_room(model, prompts):
    with writing_server(model, version="", max_model_len=None, owned_by="sglang") as server:
        (one,) = generate(server_writer(model, server.url), prompts[:1], GREEDY)
    assert one.written_by == "sglang, served"


# ---- names, and who goes on with whose work --------------------------------------------------------------------------


def test_names_of_writers():
    assert [kind_of(name) for name in ("transformers", "vllm", "https://host/v1")] == ["transformers", "vllm", "server"]
    with pytest.raises(
        UnknownNameError, match=r"unknown writer 'vlm'\. Did you mean 'vllm'\? Known: transformers, vllm, http"
    ):
        kind_of("vlm")
    for half in ("http://", "ftp://host/v1", "http://me:secret@host/v1", "http://host:port/v1"):
        with pytest.raises(
            DataError, match=r"give an address such as http://localhost:8000/v1; a key is read from OPENAI_API_KEY"
        ):
            kind_of(half)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_vllm_is_not_installed(folder):
    with pytest.raises(
        MissingInputError, match=r"the writer vllm is not installed: pip install 'emotion-probes\[vllm\]'"
    ):
        start("vllm", Checkpoint(str(folder), "original"))


def test_another_version_does_not_go_on_with_a_run(model, prompts, tmp_path, monkeypatch):
    monkeypatch.setattr(ServerWriter, "unit", 4)
    with Parts(tmp_path / "a.jsonl", {}) as parts:
        with writing_server(model, version="0.31.0") as server:
            generate(server_writer(model, server.url), prompts[:4], GREEDY, keys=WORDS[:4], parts=parts)
        with (
            writing_server(model, version="0.32.0") as server,
            pytest.raises(
                ConventionError, match=r"begun by vllm 0\.31\.0, served and would be gone on with by vllm 0\.32\.0"
            ),
        ):
            generate(server_writer(model, server.url), prompts, GREEDY, keys=WORDS, parts=parts)
        assert not server.payloads


# ---- the steps -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(folder, checkpoint):
    """Two emotions, two topics, two questions: by transformers, and what others write is held against it."""
    patch = pytest.MonkeyPatch()
    small = replace(
        presets.PRESETS["tiny"], emotions=("calm", "sad"), topics=2, per_cell=1, neutral_per_topic=1, anchor_topics=1,
        questions_per_domain=1, story_tokens=8, answer_tokens=4, min_words=1,
    )  # fmt: skip
    patch.setitem(presets.PRESETS, "tiny", small)
    patch.setattr("settings.load_pairs", lambda per_domain: load_pairs(per_domain=per_domain)[:2])
    out = checkpoint.adapter.parents[3] / "out"
    settings = WriterSettings(model=str(folder), out=out, checkpoints=("original", "antirefusal"))
    settings.trained.parent.mkdir(parents=True)
    settings.trained.symlink_to(checkpoint.adapter.parents[1])
    write_stories.main(settings)
    write_replies.main(settings)
    yield settings
    patch.undo()


def elsewhere(study, root, **changed):
    """The same study in another folder."""
    settings = replace(study, out=root / "out", **changed)
    settings.trained.parent.mkdir(parents=True)
    settings.trained.symlink_to(study.trained.resolve())
    return settings


def anonymous(texts):
    return [replace(one, written_by="") for one in texts]


def test_the_steps_write_the_same_texts_by_vllm(study, tmp_path, vllm):
    settings = elsewhere(study, tmp_path, writer="vllm")
    write_stories.main(settings)
    write_replies.main(settings)
    for kind in ("emotional", "neutral", "anchor", "anchor_neutral"):
        ours, theirs = (load_stories(one.stories(kind)).written for one in (study, settings))
        assert anonymous(theirs) == anonymous(ours)
        assert {one.written_by for one in theirs} == {"vllm 0.31.0, float32"}
        assert "vllm 0.31.0, float32" in settings.stories(kind).with_suffix(".csv").read_text()
    for name in study.checkpoints:
        for turn in ("answer", "follow_up"):
            assert anonymous(load_replies(settings.replies(name, turn))) == anonymous(
                load_replies(study.replies(name, turn))
            )
    engines = [(engine.folder.rpartition("/")[2], engine.running) for engine in vllm.engines]
    assert engines == [("small", False), ("small", False), ("antirefusal", False)]
    assert store.read_json(settings.replies("original").parent / "original.jsonl.plan.json")["writer"] == "vllm"


def test_a_server_may_serve_one_checkpoint_after_the_other(study, model, checkpoint, tmp_path):
    with writing_server(model) as server:
        settings = elsewhere(study, tmp_path, writer=server.url)
        with pytest.raises(ConventionError, match=r"serves original, and small/antirefusal is to write"):
            write_replies.main(settings)
    with writing_server(lm.load(checkpoint), ("antirefusal",)) as server:  # at another address
        write_replies.main(replace(settings, writer=server.url))
    assert {payload["model"] for payload in server.payloads} == {"antirefusal"}
    for name in study.checkpoints:
        assert anonymous(load_replies(settings.replies(name))) == anonymous(load_replies(study.replies(name)))


def test_checkpoints_written_by_different_writers_are_not_compared(study, model, tmp_path, vllm):
    settings = elsewhere(study, tmp_path, checkpoints=("original",))
    write_replies.main(settings)
    told = r"not written alike \(transformers .*, float32 for original; vllm 0\.31\.0, float32 for what comes next\)"
    with pytest.raises(ConventionError, match=told):
        write_replies.write(replace(settings, writer="vllm"), lm.family(study.model, study.trained)[1])
    assert not vllm.engines  # before anything is written
    with pytest.raises(ConventionError, match=r"original\.jsonl belongs to another run: writer differ"):
        write_replies.main(replace(settings, writer="vllm"))


# ---- the real one ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed (the extra vllm, for machines with a GPU)"
)
@pytest.mark.filterwarnings("ignore")
def test_real_vllm_takes_the_tokens_that_transformers_takes(monkeypatch):
    """On the embedded model, greedily; and its seeds decide what it draws."""
    for name, value in {"ENABLE_V1_MULTIPROCESSING": "0", "NO_USAGE_STATS": "1", "CPU_KVCACHE_SPACE": "1"}.items():
        monkeypatch.setenv(f"VLLM_{name}", value)
    model = lm.load("tiny")
    prompts = [render(model.tokenizer, user_turn(f"Tell me of a {word}.")) for word in WORDS]
    with start("vllm", Checkpoint("tiny", "original")) as writer:
        assert isinstance(writer, VllmWriter)
        greedy = Sampling(max_new_tokens=32, temperature=0)
        ours, theirs = (generate(one, prompts, greedy) for one in (model, writer))
        assert [one.token_ids for one in theirs] == [one.token_ids for one in ours]
        assert [one.stop_reason for one in theirs] == [one.stop_reason for one in ours]
        hot = Sampling(max_new_tokens=8, temperature=1.0, seed=1)
        first, again, other = (generate(writer, prompts, one) for one in (hot, hot, replace(hot, seed=2)))
        assert first == again != other
