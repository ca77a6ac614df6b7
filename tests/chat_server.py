"""An OpenAI-compatible endpoint for tests: answers drawn from the seed of each request, and faults on demand."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

WORDS = "kettle lamp train garden paper bridge window letter river shelf baker ladder market piano tram orchard".split()
REFUSAL = "I'm sorry, but I can't help with that request."
Fault = Callable[[dict, int], str]
"""(payload, number of the try) → what goes wrong: "500", "400", "401", "garbage", "slow", "refusal", "thinks" or ""."""


def sentence(rng: Random, count: int = 12) -> str:
    return " ".join(rng.choices(WORDS, k=count)).capitalize() + "."


def reply(payload: dict) -> str:
    """A text with the tags that the last message, or the system prompt, asks for."""
    rng, asked = Random(payload["seed"]), "\n".join(turn["content"] for turn in payload["messages"])
    tags = re.findall(r"between <(\w+)> and </\1>", asked)
    if "item" in tags:
        inner = [tag for tag in tags if tag != "item"]
        count = int(re.findall(r"(?:Write|Name|Give) (\d+)", asked)[-1])
        body = lambda: "".join(f"<{tag}>{sentence(rng)}</{tag}>" for tag in inner) or sentence(rng)  # noqa: E731
        return "\n".join(f"- <item>{body()}</item>" for _ in range(count))
    return "".join(f"<{tag}>{sentence(rng, 40)}</{tag}>" for tag in tags)


class ChatServer(ThreadingHTTPServer):
    """Counts what it is asked by seed, which each request has of its own."""

    daemon_threads = True

    def __init__(self, fault: Fault):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault, self.asked, self.keys, self.lock = fault, Counter[int](), set[str](), threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        """A client that was killed is no fault of the server."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format, *args):
        """Silent."""

    def _send(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self):
        self._send(200, '{"data": []}')

    def do_POST(self):
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.keys.add(self.headers.get("Authorization", ""))
            self.server.asked[payload["seed"]] += 1
            number = self.server.asked[payload["seed"]]
        fault = self.server.fault(payload, number)
        if fault == "slow":
            time.sleep(0.6)
        if fault.isdigit():
            return self._send(int(fault), "trouble")
        if fault == "garbage":
            return self._send(200, '{"choices": [{"mess')
        text = REFUSAL if fault == "refusal" else reply(payload)
        text = f"<think>Is it <item>a kettle</item>?</think>\n{text}" if fault == "thinks" else text
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 7, "completion_tokens": len(text.split())}
        self._send(200, json.dumps({"choices": [choice], "usage": usage}))


@contextmanager
def chat_server(fault: Fault = lambda payload, number: "") -> Iterator[ChatServer]:
    """An endpoint that answers while the block runs."""
    with ChatServer(fault) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
