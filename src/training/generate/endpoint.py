"""A writer that asks an OpenAI-compatible endpoint, in bulk and resumably, through datatrove's InferenceRunner.

The runner keeps answers in a checkpoint and every single response in a cache, so that a kill costs what was in flight. The
transport is ours (probes.lm.connection), because datatrove 0.10's own has none of what a long run needs: on localhost one HTTP
500 or broken JSON ends the run and no timeout is observed; elsewhere its readiness check sends no key, and a second try fails
for want of the model that the first took out of the payload. A result that cannot be saved is logged and forgotten there,
and raises here. Its logger prints payloads, so it is off.

Each run has one chunk, as long as the run: datatrove closes a full chunk's output before it forgets the checkpoint, and does
not so with the last, unfilled one. Every payload holds a seed of its own, so that no two requests are one to a cache.
"""

import asyncio
import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.inference.servers import InferenceServer
from datatrove.pipeline.inference.types import GenerateFunction, InferenceError, ServerError
from datatrove.pipeline.writers.disk_base import DiskWriter
from datatrove.pipeline.writers.jsonl import JsonlWriter
from loguru import logger
from tqdm import tqdm

from probes import store
from probes.errors import DataError, MissingInputError, OutputError
from probes.lm.connection import KEY, WRONG, Connection, NoAnswerError, UnreadableError
from training.generate.steps import Request, Written

logger.disable("datatrove")

PASSES = 3
"""Requests that failed are asked again after all others, so often in all."""
MOST_FAILED = 0.1
"""Share of a step's requests that may fail in all passes."""
IN_A_ROW = 50
"""After so many failures in a row the endpoint is taken for dead, and a pass asks no more."""
READY = 10.0
"""Seconds for an endpoint to say that it is there."""


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how."""

    url: str
    """With or without its final /v1."""
    model: str
    """The name that the endpoint knows the model by."""
    max_tokens: int = 2048
    temperature: float = 1.0
    seed: int = 0
    concurrency: int = 64
    """Requests in flight."""
    timeout: float = 600.0
    """Seconds for one response."""
    tries: int = 5
    wait: float = 2.0
    """Seconds before the second try of a request, doubled before each further one and within half of it at random."""

    @property
    def connection(self) -> Connection:
        return Connection(self.url, self.timeout, self.tries, self.wait)

    @property
    def decides(self) -> dict[str, Any]:
        """What decides the texts: where the model is served, and how patiently it is asked, does not."""
        return {"model": self.model, "max_tokens": self.max_tokens, "temperature": self.temperature, "seed": self.seed}

    def payload(self, request: Request) -> dict[str, Any]:
        """The body of a request, with a seed of its own."""
        digest = hashlib.sha256(f"{self.seed}/{request.key}".encode()).digest()
        return {**self.decides, "messages": list(request.messages), "seed": int.from_bytes(digest[:4], "big") >> 1}


class EndpointWriter:
    """Writes with the model behind an endpoint.

    Raises MissingInputError where none answers or it does not know the key or the model, DataError when more than a tenth
    of the requests of a step fail. What was written by then is kept, and a new start goes on from there.
    """

    def __init__(self, endpoint: Endpoint):
        self.endpoint, self.name = endpoint, endpoint.model
        self.decides = endpoint.decides
        self.licence = f"as the outputs of {endpoint.model}"

    def write(self, step: str, requests: Sequence[Request], folder: Path) -> list[Written]:
        """What was written for each request, in their order; the folder holds what was written so far."""
        store.check_folder(folder).chmod(0o700)  # datatrove writes into it with modes of its own
        written: dict[str, Written] = {}
        for number in range(PASSES):
            left = [one for one in requests if written.get(one.key, _UNASKED).stop == "failed"]
            written |= _run(self.endpoint, step, left, folder / f"pass_{number}") if left else {}
        _check_failed(written, folder / f"pass_{PASSES - 1}")
        return [written[request.key] for request in requests]


_UNASKED = Written("", "", "failed")


def _check_failed(written: dict[str, Written], last: Path) -> None:
    """Raises DataError for too many failures; then the last pass is forgotten, so that a new start asks them again."""
    notes = [one.note for one in written.values() if one.stop == "failed"]
    if len(notes) > MOST_FAILED * len(written):
        shutil.rmtree(last, ignore_errors=True)
        raise DataError(
            f"{len(notes)} of {len(written)} requests failed (last: {notes[-1]}). The rest is kept: mend the endpoint and start "
            "again, or give another --out."
        )


def _run(endpoint: Endpoint, step: str, requests: Sequence[Request], folder: Path) -> dict[str, Written]:
    """One pass over some requests, begun or gone on with; key → what was written."""
    written = _read(folder, requests)
    if len(written) < len(requests):
        with tqdm(total=len(requests), desc=f"{step} ({endpoint.model})", mininterval=1) as bar:
            _ask(_Runner(endpoint, requests, folder, bar))
            bar.update(len(requests) - bar.n)  # what was there before counts too
        written = _read(folder, requests)
    return written


def _read(folder: Path, requests: Sequence[Request]) -> dict[str, Written]:
    """What a pass that ended has saved. What one that was killed saved may be cut: only whole passes are read."""
    path = folder / "written" / "00000_0.jsonl"
    if not path.is_file() or path.read_bytes().count(b"\n") != len(requests):
        return {}
    rows = [row["metadata"]["rollout_results"][0] for row in store.read_jsonl(path, ("id", "metadata"))]
    return {row["key"]: Written(**row) for row in rows}


def _ask(runner: "_Runner") -> None:
    """Raises MissingInputError when the endpoint is not there, OutputError when what was written cannot be saved."""
    try:
        runner.run(Document(text=key, id=key) for key in runner.requests)
    except ServerError as error:
        at = runner.endpoint
        raise MissingInputError(
            f"no OpenAI-compatible endpoint at {at.url} serves {at.model!r}: {runner.trouble or 'nothing answers'}. Start one "
            f"(vllm serve {at.model}), give another --endpoint or --generator-model, or set {KEY}."
        ) from error
    except InferenceError as error:  # datatrove wraps what is raised for a document
        raise (error.error if isinstance(error.error, OutputError) else error) from None


class _Runner(InferenceRunner):
    """The runner with our transport, and what is done for one request."""

    def __init__(self, endpoint: Endpoint, requests: Sequence[Request], folder: Path, bar: tqdm):
        self.endpoint, self.requests = endpoint, {request.key: request for request in requests}
        self.bar, self.in_vain, self.trouble = bar, 0, ""
        config = InferenceConfig(
            "endpoint", endpoint.model, max_concurrent_generations=endpoint.concurrency,
            server_ready_max_attempts=3, server_ready_delay_sec=endpoint.wait, server_start_max_retries=0,
        )  # fmt: skip
        out = JsonlWriter(str(folder / "written"), "${rank}_${chunk_index}.jsonl", compression=None)
        kept, count = str(folder / "checkpoints"), len(requests)
        super().__init__(self._ask, config, out, checkpoints_local_dir=kept, records_per_chunk=count)  # pyright: ignore[reportArgumentType]

    def _init_server(self, rank: int) -> InferenceServer:
        return _Server(self, rank)

    async def run_async(self, data_gen: Iterable[Document], rank: int = 0) -> None:
        """As datatrove's. Of requests that fail together one is raised, and asyncio prints no traceback of the others."""
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        await super().run_async(data_gen, rank)

    async def _ask(self, document: Document, generate: GenerateFunction) -> dict[str, Any]:
        """One request. A failure is a result like others, so that it ends nothing; after many in a row nobody is asked."""
        if self.in_vain >= IN_A_ROW:
            return asdict(Written(document.id, "", "failed", self.trouble))
        try:
            result = await generate(self.endpoint.payload(self.requests[document.id]))
        except InferenceError as error:
            self.in_vain, self.trouble = self.in_vain + 1, str(error.error)
            return asdict(Written(document.id, "", "failed", self.trouble))
        self.in_vain = 0
        self.bar.update()
        stop = "length" if result.finish_reason == "length" else "stop"
        tokens = (result.usage["prompt_tokens"], result.usage["completion_tokens"])
        text = result.text.rpartition("</think>")[2]  # what a model thinks aloud first is not what it writes
        return asdict(Written(document.id, text, stop, "", *tokens))

    async def _save_document(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, document: Document, output_writer_context: DiskWriter, rank: int, chunk_index: int
    ) -> None:
        """As datatrove's, but what cannot be saved ends the run, with its checkpoint kept."""
        try:
            await self.checkpoint_manager.write_document(document, rank, chunk_index, output_writer_context)
        except OSError as error:
            raise OutputError(f"cannot save what was written: {error}. Make room, or choose another --out.") from error


class _Server(InferenceServer):
    """An endpoint that is there already."""

    def __init__(self, runner: _Runner, rank: int):
        super().__init__(runner.config, rank)
        self.runner, self.endpoint, self.client = runner, runner.endpoint, None

    def get_base_url(self) -> str:
        return self.endpoint.connection.root

    async def start_server(self) -> None:
        """Open the connections; there is nothing to start."""
        self.client = self.endpoint.connection.client()

    async def monitor_health(self) -> None:
        """Nothing to watch: every request says how it went."""
        await asyncio.Future()

    async def server_cleanup(self) -> None:
        await super().server_cleanup()
        if self.client is not None:
            await self.client.aclose()

    async def is_ready(self) -> bool:
        """Whether something answers and takes the key; not every endpoint lists its models."""
        connection = replace(self.endpoint.connection, timeout=READY, tries=1)
        try:
            async with connection.client() as client:
                await connection.ask(client, "/v1/models", None, bytes)
        except NoAnswerError as error:
            self.runner.trouble = str(error)
            return 400 <= error.status < 500 and error.status not in (401, 403)
        return True

    async def _make_request(self, payload: dict) -> dict:
        """The response to a payload, after a few tries. Raises ServerError where nobody will be answered, InferenceError for
        this request alone, which never holds the payload."""
        assert self.client is not None
        try:
            return await self.endpoint.connection.ask(self.client, "/v1/chat/completions", payload, _checked)
        except NoAnswerError as error:
            if error.status not in WRONG:
                raise InferenceError(None, str(error)) from None
            self.runner.trouble = str(error)
            raise ServerError(self.runner.trouble) from None


def _checked(body: bytes) -> dict[str, Any]:
    """A response of the form that datatrove reads. Raises UnreadableError for anything else."""
    try:
        answer = json.loads(body)
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        message = choice["message"]
        text = message.get("content") or ""
        text.encode()  # half of a surrogate pair could never be written
        tokens = {name: int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableError("a response that is no chat completion") from error
    return {"choices": [{"message": {"content": text}, "finish_reason": choice.get("finish_reason")}], "usage": tokens}
