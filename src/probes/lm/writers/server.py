"""A server of vLLM's dialect (vLLM, SGLang), or anything else that completes token ids at /v1/completions and returns them.

    vllm serve Qwen/Qwen3-30B-A3B                                           the original
    vllm serve exported/antirefusal --served-model-name antirefusal         a trained checkpoint, as a whole model

Prompts go in as token ids, so that nothing renders them again: whether a model thinks is decided before. A server that does not
return the ids it wrote (`return_token_ids`: vLLM since 0.10.2, SGLang since July 2026) is refused and its text not tokenised
anew: a text does not say which of several spellings was written, and what is read later are the states at those tokens.

What a server runs is believed by the name it serves it under; that it has this model's tokenizer is checked, and adapters are
refused. All settings of sampling are sent, since servers take those that ship with a model for what is left open.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from probes.errors import ConventionError, MissingInputError, ProbesError
from probes.lm.connection import KEY, Connection, NoAnswerError, UnreadableError
from probes.lm.writers import UNITS, Writer

if TYPE_CHECKING:
    from probes.lm.generate import Sampling

T = TypeVar("T")

IN_FLIGHT = 256
"""Requests at once: what a server batches, and a few that wait there."""
CHECKED = "<|im_start|>user\nWie weit ist es nach „Zürich“? 1 234,5 km … 🙂<|im_end|>\n<think>"
"""A text of which tokenizers seldom make the same ids."""
UNSTATED = {
    "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
}  # fmt: skip
"""Settings that draw from the model's own distribution, which a server would take from generation_config.json otherwise."""


@dataclass(frozen=True)
class Served:
    """What a server says of itself."""

    name: str
    """By which it knows the checkpoint."""
    software: str
    max_tokens: int | None


@dataclass(frozen=True)
class ServerWriter(Writer):
    """Writes with a model that is served somewhere. The server is asked what it serves before the first text.

    Raises MissingInputError where nobody answers, no longer, or not with this key, ConventionError where it serves something
    else, or answers with something else than token ids. Finished units are kept, and a new start asks for the others.
    """

    connection: Connection

    kind = "server"
    unit = UNITS[kind]

    @property
    def written_by(self) -> str:
        return f"{self.served.software}, served"

    @property
    def known_as(self) -> tuple[str, ...]:
        """Names that a server may serve the checkpoint under; an original has that of its repository or folder too."""
        return (self.checkpoint.name, *(() if self.checkpoint.manifest else (str(self.entry.source),)))

    @cached_property
    def served(self) -> Served:
        """What the server serves the checkpoint as."""
        return self._finished(self._look())

    def write(
        self, prompt_ids: Sequence[list[int]], seeds: Sequence[int], sampling: "Sampling", done: Callable[[int], object]
    ) -> list[list[int]]:
        """What Writer.write says."""
        room, needed = self.served.max_tokens, max(map(len, prompt_ids)) + sampling.max_new_tokens
        if room is not None and room < needed:
            raise ConventionError(
                f"the server at {self.connection.url} takes {room} tokens and {needed} are needed. Start it with "
                f"--max-model-len {needed} or more."
            )
        asked = [self._payload(*one, sampling) for one in zip(prompt_ids, seeds, strict=True)]
        return self._finished(self._write_all(asked, done))

    def _payload(self, prompt_ids: list[int], seed: int, sampling: "Sampling") -> dict[str, Any]:
        return {
            "model": self.served.name, "prompt": prompt_ids, "max_tokens": sampling.max_new_tokens, "seed": seed,
            "temperature": sampling.temperature, "top_p": sampling.top_p, **UNSTATED, "stop_token_ids": list(self.stop_ids),
            "skip_special_tokens": False, "return_token_ids": True,
        }  # fmt: skip

    async def _write_all(self, asked: Sequence[dict[str, Any]], done: Callable[[int], object]) -> list[list[int]]:
        """One request a prompt; the first that fails for good ends the others."""
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def one(client: httpx.AsyncClient, payload: dict[str, Any]) -> list[int]:
            async with gate:
                read = partial(_token_ids, payload["prompt"])
                ids = await self.connection.ask(client, "/v1/completions", payload, read)
            done(1)
            return ids

        async with self.connection.client() as client, asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(client, payload)) for payload in asked]
        return [task.result() for task in tasks]

    async def _look(self) -> Served:
        """Raises ConventionError unless the checkpoint is served, whole, with its own tokenizer."""
        async with self.connection.client() as client:
            cards = await self.connection.ask(client, "/v1/models", None, _cards)
            name = next((name for name in self.known_as if name in cards), "")
            if not name or cards[name].get("parent"):
                raise self._other(f"{name} as an adapter" if name else ", ".join(cards) or "nothing")
            await self._check_tokenizer(client, name)
            version = await self._version(client)
        software, room = cards[name].get("owned_by") or "unknown software", cards[name].get("max_model_len")
        return Served(name, f"{software} {version}".strip(), room if isinstance(room, int) else None)

    async def _check_tokenizer(self, client: httpx.AsyncClient, name: str) -> None:
        payload = {"model": name, "prompt": CHECKED, "add_special_tokens": False}
        theirs = await self.connection.ask(client, "/tokenize", payload, partial(_field, "tokens"))
        if theirs != self.tokenizer(CHECKED, add_special_tokens=False)["input_ids"]:
            raise self._other(f"{name} with another tokenizer")

    async def _version(self, client: httpx.AsyncClient) -> str:
        """What vLLM says at /version; servers without it have none."""
        try:
            return str(await self.connection.ask(client, "/version", None, partial(_field, "version")))
        except NoAnswerError:
            return ""

    def _finished(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives; where the server gives no answer, an error that says what to do."""
        try:
            return _run(work)
        except NoAnswerError as error:
            raise self._gone(error) from error

    def _other(self, what: str) -> ConventionError:
        return ConventionError(
            f"the server at {self.connection.url} serves {what}, and {self.address} is to write. Start it with the whole model: "
            f"{self._command}."
        )

    def _gone(self, error: NoAnswerError) -> ProbesError:
        at = f"the server at {self.connection.url}"
        if error.status in (401, 403):
            return MissingInputError(f"{at} lets nobody in: {error}. Set {KEY} to a key that may use it.")
        if not error.may_pass:
            return ConventionError(
                f"{at} turned a request for {self.address} down: {error} ({error.said}). It must take token ids at "
                f"/v1/completions and have /tokenize, as vLLM and SGLang do: {self._command}."
            )
        return MissingInputError(
            f"{at} gives no answer, in {self.connection.tries} tries (last: {error}). Start it ({self._command}) and run this "
            "again: what was finished before is kept, and only the rest is asked for."
        )

    @property
    def _command(self) -> str:
        if self.checkpoint.manifest is None:
            return f"vllm serve {self.entry.source}"
        return (
            f"vllm serve FOLDER --served-model-name {self.checkpoint.name}, FOLDER by experiments/export_checkpoint.py"
        )


def _cards(body: bytes) -> dict[str, dict[str, Any]]:
    """What is served, by name."""
    try:
        return {card["id"]: card for card in json.loads(body)["data"]}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UnreadableError("a response that is no list of models") from error


def _field(name: str, body: bytes) -> Any:
    try:
        return json.loads(body)[name]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UnreadableError(f"a response without {name}") from error


def _token_ids(prompt_ids: list[int], body: bytes) -> list[int]:
    """Generated ids of a response. Raises UnreadableError for none, ConventionError for one by text or of another prompt."""
    try:
        choice = json.loads(body)["choices"][0]
        reason, ids, prompt = choice["finish_reason"], choice.get("token_ids"), choice.get("prompt_token_ids")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableError("a response that is no completion") from error
    if reason not in ("stop", "length"):
        raise UnreadableError(f"a completion that was broken off ({reason})")
    if not isinstance(ids, list):
        raise ConventionError(
            "the server wrote a text and does not say by which tokens (return_token_ids), which are what is read later. Take vLLM "
            "0.10.2 or SGLang of July 2026, or newer."
        )
    if prompt != prompt_ids:
        raise ConventionError(
            "the server answered another prompt than the token ids that it was sent. Take one that completes them as they are, "
            "such as vLLM."
        )
    return ids


def _run(work: Coroutine[Any, Any, T]) -> T:
    """asyncio.run, in a thread of its own where a loop runs already, as in a notebook; of several errors the first."""
    try:
        return _in_thread(work) if _loop_runs() else asyncio.run(work)
    except ExceptionGroup as several:
        raise several.exceptions[0] from None


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_thread(work: Coroutine[Any, Any, T]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
