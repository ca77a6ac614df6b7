"""A judge's endpoint on this machine that answers as it is told to, and keeps every byte it was sent."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from training.rewards.endpoint_judge import Endpoint, EndpointJudge
from training.rewards.judge import Ask

PRINCIPLES = {"plain": "Say plainly what is asked.", "kind": "Be kind to houseplants."}
GOOD = {"score": 8, "violated": ["kind"], "note": "plain enough"}
QUESTION = {"role": "user", "content": "How often does a fern want water?"}


def ask(answer="Once a week.", messages=(QUESTION,), principles=(), template="constitution") -> Ask:
    """An ask about a houseplant."""
    return Ask(tuple(messages), answer, principles, template)


def completion(content, refusal=None) -> bytes:
    """A chat completion that says `content`."""
    return json.dumps({"choices": [{"message": {"content": content, "refusal": refusal}}]}).encode()


class StubJudge(ThreadingHTTPServer):
    """Use it in a with statement. Each request takes the next of `script`; when it is used up, all get a judgement.

    A script entry is a status, a body, or "slow" for no answer until the end.
    linger: seconds that every answer takes.
    """

    def __init__(self, *script: int | bytes | str, score: Callable[[str], int] | None = None, linger: float = 0.0):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.score, self.linger = list(script), score, linger
        self.received: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0
        self.gate, self.lock = threading.Event(), threading.Lock()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What was sent, parsed."""
        return [json.loads(body) for body in self.received]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def judge(self, cache=None, **settings) -> EndpointJudge:
        """A client of this endpoint that does not wait long."""
        settings = {"pause": 0.0, "timeout": 10.0, "tries": 3} | settings
        return EndpointJudge(Endpoint(self.url, "grader", **settings), PRINCIPLES, cache)

    def __enter__(self) -> "StubJudge":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """A client that hung up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: StubJudge

    def do_POST(self) -> None:
        with self.server.lock:
            self.server.in_flight += 1
            self.server.most_in_flight = max(self.server.in_flight, self.server.most_in_flight)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.received.append(body)
            self.server.headers.append({"path": self.path, **self.headers})
            step = self.server.script.pop(0) if self.server.script else self._judgement(body)
        self.server.gate.wait(10 if step == "slow" else self.server.linger)
        with self.server.lock:
            self.server.in_flight -= 1
        self._answer(step if isinstance(step, int) else 200, step if isinstance(step, bytes) else b"{}")

    def _judgement(self, body: bytes) -> bytes:
        said = dict(GOOD)
        if self.server.score:
            said["score"] = self.server.score(json.loads(body)["messages"][1]["content"])
        if "violated" not in json.loads(body)["response_format"]["json_schema"]["schema"]["properties"]:
            del said["violated"]
        return completion(json.dumps(said))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests look at what is printed."""
