"""Bulk generation over an endpoint: faults are met, nothing is lost or doubled, and kills change no byte."""

import json
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from datatrove.pipeline.writers.jsonl import JsonlWriter

from chat_server import chat_server, reply
from probes.errors import DataError, MissingInputError, OutputError
from training.generate.endpoint import Endpoint, EndpointWriter
from training.generate.prompts import turn
from training.generate.steps import Request

REQUESTS = [
    Request(f"kettle/{i}", turn("Write 3 questions about kettles between <item> and </item>.")) for i in range(24)
]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def endpoint(url, **more):
    return replace(Endpoint(url, "stub", concurrency=8, timeout=30, wait=0.01), **more)


def write(folder, fault=lambda payload, number: "", requests=REQUESTS, **more):
    with chat_server(fault) as server:
        return EndpointWriter(endpoint(server.url, **more)).write("questions", requests, folder), server


def test_each_request_is_answered_once_in_order_with_a_seed_of_its_own(tmp_path):
    written, server = write(tmp_path / "run")
    assert [one.key for one in written] == [request.key for request in REQUESTS]
    assert len(server.asked) == len(REQUESTS)
    assert set(server.asked.values()) == {1}
    assert len({one.text for one in written}) == len(REQUESTS)
    at = endpoint("http://127.0.0.1/v1")
    assert written[3].text == reply(at.payload(REQUESTS[3]))
    assert written[3].completion_tokens == len(written[3].text.split())
    assert at.payload(REQUESTS[3])["seed"] != replace(at, seed=1).payload(REQUESTS[3])["seed"]


def test_a_finished_run_is_read_back(tmp_path):
    written, _ = write(tmp_path / "run")
    again, server = write(tmp_path / "run")
    assert again == written
    assert not server.asked


@pytest.mark.parametrize("kind", ["500", "429", "garbage", "slow"])
def test_a_fault_that_passes_changes_nothing(tmp_path, kind):
    whole, _ = write(tmp_path / "whole")
    fault = lambda payload, number: kind if payload["seed"] % 5 == 0 and number == 1 else ""  # noqa: E731
    written, server = write(tmp_path / "run", fault, timeout=0.4 if kind == "slow" else 30)
    assert written == whole
    assert server.asked.total() > len(REQUESTS)


def test_a_request_that_fails_for_good_is_counted_and_ends_nothing(tmp_path):
    bad = endpoint("").payload(REQUESTS[5])["seed"]
    written, server = write(tmp_path / "run", lambda payload, number: "400" if payload["seed"] == bad else "")
    assert [(one.key, one.note) for one in written if one.stop == "failed"] == [("kettle/5", "HTTP 400")]
    assert server.asked[bad] == 3  # once in each pass: a bad request is not tried again at once
    assert written[5].fault("item") == "failed"


def test_too_many_failures_are_an_error_and_a_new_start_asks_only_those_again(tmp_path):
    bad = {endpoint("").payload(request)["seed"] for request in REQUESTS[:6]}
    fault = lambda payload, number: "garbage" if payload["seed"] in bad else ""  # noqa: E731
    with pytest.raises(DataError, match=r"6 of 24 requests failed \(last: a response that is no chat completion\)"):
        write(tmp_path / "run", fault, tries=1)
    written, server = write(tmp_path / "run")
    assert set(server.asked) == bad
    assert written == write(tmp_path / "whole")[0]


def test_an_endpoint_that_only_fails_is_given_up_early(tmp_path, monkeypatch):
    monkeypatch.setattr("training.generate.endpoint.IN_A_ROW", 5)
    with chat_server(lambda payload, number: "500") as server:
        with pytest.raises(DataError, match=r"24 of 24 requests failed \(last: HTTP 500\)"):
            EndpointWriter(endpoint(server.url, tries=1, concurrency=1)).write("questions", REQUESTS, tmp_path / "run")
        assert server.asked.total() == 3 * 5  # in each pass


def test_no_endpoint(tmp_path, capfd):
    with pytest.raises(MissingInputError, match=r"no OpenAI-compatible endpoint .* ConnectError.*vllm serve stub"):
        EndpointWriter(endpoint("http://127.0.0.1:9")).write("questions", REQUESTS, tmp_path / "run")
    assert "Traceback" not in capfd.readouterr().err


def test_a_key_that_is_refused(tmp_path):
    with pytest.raises(MissingInputError, match=r"HTTP 401, the key is wrong or missing.*OPENAI_API_KEY"):
        write(tmp_path / "run", lambda payload, number: "401")


def test_the_key_is_sent_and_written_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "my-own-key")
    _, server = write(tmp_path / "run")
    assert server.keys == {"Bearer my-own-key"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"my-own-key" in path.read_bytes()]


def test_nothing_said_or_written_is_printed_and_others_cannot_read_it(tmp_path, capfd):
    write(tmp_path / "run", lambda payload, number: "garbage" if number == 1 else "")
    seen = "".join(capfd.readouterr())
    assert "kettles" not in seen
    assert "<item>" not in seen
    assert (tmp_path / "run").stat().st_mode & 0o077 == 0


def test_what_cannot_be_saved_ends_the_run_and_its_checkpoint_stays(tmp_path, monkeypatch):
    save, saved = JsonlWriter.write, []

    def full(self, document, **place):
        if len(saved) == 12:
            raise OSError(28, "No space left on device")
        saved.append(document.id)
        save(self, document, **place)

    with monkeypatch.context() as patch:
        patch.setattr(JsonlWriter, "write", full)
        with pytest.raises(OutputError, match="No space left"):
            write(tmp_path / "run")
    written, server = write(tmp_path / "run")
    assert len(server.asked) <= 12
    assert written == write(tmp_path / "whole")[0]


def test_thinking_aloud_is_no_part_of_a_text(tmp_path):
    (written,), _ = write(tmp_path / "run", lambda payload, number: "thinks", REQUESTS[:1])
    assert written.text.strip() == reply(endpoint("").payload(REQUESTS[0]))


WORK = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from probes.parts import Parts
from training.generate.endpoint import Endpoint, EndpointWriter
from training.generate.steps import Request, Steps
at = Endpoint(sys.argv[2], "stub", concurrency=4, wait=0.01)
requests = [Request(key, messages) for key, messages in json.loads(sys.argv[3])]
with Parts(Path(sys.argv[1]), at.decides) as parts:
    written = Steps(EndpointWriter(at), parts).put("questions", requests)
    parts.finish(lambda path: path.write_text(json.dumps([asdict(one) for one in written.values()])))
"""


def work(target, url):
    requests = json.dumps([(request.key, request.messages) for request in REQUESTS])
    return subprocess.Popen([sys.executable, "-c", WORK, str(target), url, requests], stderr=subprocess.DEVNULL)


def test_kills_lose_and_double_nothing_and_change_no_byte(tmp_path):
    running: list[subprocess.Popen[bytes]] = []
    kills = (5, 14)

    def kill(payload, number):
        if len(running) <= len(kills) and server.asked.total() >= kills[len(running) - 1]:
            running[-1].kill()
        return ""

    whole, _ = write(tmp_path / "whole", requests=REQUESTS)
    with chat_server(kill) as server:
        ends = []
        for _ in (*kills, "to the end"):
            running.append(work(tmp_path / "killed.json", server.url))
            ends.append(running[-1].wait())
    assert ends == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert (tmp_path / "killed.json").read_text() == json.dumps([asdict(one) for one in whole])
    assert len(server.asked) == len(REQUESTS)
    # asked again is what was in flight at a kill, no more
    assert server.asked.total() <= len(REQUESTS) + 4 * len(kills)
    assert not list(tmp_path.glob("killed.json.parts"))
