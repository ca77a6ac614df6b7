"""What stands in for vLLM and for a server of it: every token is computed by the reference writer, from what was asked for."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

from probes import lm
from probes.lm.connection import Connection
from probes.lm.generate import Sampling
from probes.lm.model import Model
from probes.lm.writers.server import ServerWriter

Change = Callable[[dict[str, Any], dict[str, Any]], object]
"""(payload, choice) → nothing: changes a choice before it is sent."""


def nothing(*_: object) -> str:
    return ""


# ---- a server --------------------------------------------------------------------------------------------------------


class WritingServer(ThreadingHTTPServer):
    """vLLM's endpoints, served by a model in this process.

    names: what it is served as; cards: fields of /v1/models that differ; fault: (payload, number of the try) → a status, garbage,
    slow, drop, or nothing: ""; change: of choices.
    """

    daemon_threads, request_queue_size = True, 128

    def __init__(self, model: Model, names: tuple[str, ...], fault, change: Change, version: str, **cards: Any):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model, self.names, self.cards, self.fault, self.change = model, names, cards, fault, change
        self.version, self.payloads, self.keys, self.lock = (
            version,
            list[dict[str, Any]](),
            set[str](),
            threading.Lock(),
        )
        self.tries = Counter[int]()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        """A client that gave up is no fault of the server."""


class _Handler(BaseHTTPRequestHandler):
    server: WritingServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format, *args):
        """Silent."""

    def _send(self, status: int, body: Any) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        server = self.server
        server.keys.add(self.headers.get("Authorization", ""))
        if self.path == "/version":
            return self._send(200, {"version": server.version}) if server.version else self._send(404, {})
        card = {"object": "model", "owned_by": "vllm", "parent": None, "max_model_len": 256, **server.cards}
        return self._send(200, {"data": [{"id": name, **card} for name in server.names]})

    def do_POST(self):
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            ids = self.server.model.tokenizer(payload["prompt"], add_special_tokens=payload["add_special_tokens"])
            return self._send(200, {"tokens": ids["input_ids"]})
        with self.server.lock:
            self.server.payloads.append(payload)
            self.server.tries[payload["seed"]] += 1
        fault = self.server.fault(payload, self.server.tries[payload["seed"]])
        if fault == "drop":
            return self.connection.close()
        if fault == "slow":
            time.sleep(0.5)
        if fault.isdigit():
            return self._send(int(fault), {"error": {"message": "This server is in a bad mood."}})
        return self._send(200, b'{"choices": [{"te' if fault == "garbage" else self._completion(payload))

    def _completion(self, payload: dict[str, Any]) -> dict[str, Any]:
        sampling = Sampling(payload["max_tokens"], payload["temperature"], payload["top_p"])
        with self.server.lock:
            (ids,) = self.server.model.write([payload["prompt"]], [payload["seed"]], sampling, nothing)
        ended = ids[-1] in payload["stop_token_ids"]
        choice = {
            "index": 0, "text": "is not looked at", "finish_reason": "stop" if ended else "length",
            "token_ids": ids, "prompt_token_ids": payload["prompt"],
        }  # fmt: skip
        self.server.change(payload, choice)
        return {"id": "cmpl-0", "object": "text_completion", "model": payload["model"], "choices": [choice]}


@contextmanager
def writing_server(
    model: Model, names: tuple[str, ...] = ("original",), fault=nothing, change: Change = nothing, version: str = "0.31.0",
    **cards: Any,
) -> Iterator[WritingServer]:  # fmt: skip
    """A server that writes while the block runs."""
    with WritingServer(model, names, fault, change, version, **cards) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def server_writer(model: Model, url: str, **more: Any) -> ServerWriter:
    """A writer that knows of a model what `start` would read from its files, and is soon out of patience."""
    at = Connection(url, **{"timeout": 30.0, "tries": 3, "wait": 0.01, **more})
    return ServerWriter(model.entry, model.checkpoint, model.config, model.tokenizer, model.base_sha, at)


# ---- vLLM ------------------------------------------------------------------------------------------------------------


class FakeVllm:
    """The package `vllm` as far as it is used. Its engines load a folder as lm.load does and keep what they were started with."""

    __version__ = "0.31.0"

    def __init__(self):
        self.engines: list[SimpleNamespace] = []

    def SamplingParams(self, **given: Any) -> dict[str, Any]:
        return given

    def LLM(self, model: str, **started_with: Any) -> SimpleNamespace:
        loaded, engine = lm.load(model), SimpleNamespace(folder=model, started_with=started_with, running=True)

        def generate(prompts, params, use_tqdm) -> list[SimpleNamespace]:
            engine.params, how = params, params[0]
            sampling = Sampling(how["max_tokens"], how["temperature"], how["top_p"])
            asked, seeds = [prompt["prompt_token_ids"] for prompt in prompts], [one["seed"] for one in params]
            written = loaded.write(asked, seeds, sampling, nothing)
            return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(ids))]) for ids in written]

        engine.generate = generate
        engine.llm_engine = SimpleNamespace(
            engine_core=SimpleNamespace(shutdown=lambda: setattr(engine, "running", False))
        )
        self.engines.append(engine)
        return engine
