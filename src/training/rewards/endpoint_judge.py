"""A judge behind any OpenAI-compatible endpoint, with a cache on disk.

Replies follow a JSON schema, at temperature 0. A timeout, a lost connection, status 429 and 5xx are tried again, after a
pause that grows; a reply that is no judgement is asked for once more; then there is none.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from probes import store
from probes.errors import DataError, FileFormatError, JudgeError, MissingInputError
from probes.lm.connection import backoff, pause_asked
from training.rewards.judge import Ask, Judgement, shown_faults
from training.rewards.judge_prompts import JudgePrompt, judge_prompt

NOTE_LENGTH = 200
"""Characters of a note; the rest is cut off."""
SHUT = {401: "the key", 403: "the key", 404: "the address and the model"}
"""What to look at after an answer that no further try would change."""
REASONS = {
    "unreachable": "nobody answers there",
    "timeout": "no answer came in time",
    "bad_json": "what answers there is no chat completion",
    "schema": "it answers, but not by the JSON schema that it is given",
    "declined": "it would not judge",
}
"""What a fault of a trial judgement says of an endpoint."""


@dataclass(frozen=True)
class Endpoint:
    """Where a judge answers, and how patiently it is asked."""

    url: str
    """Up to and with the version, such as http://localhost:8000/v1."""
    model: str
    """Name that the endpoint serves the judge under. Give other weights another name: cached judgements are kept by it."""
    key_variable: str = "JUDGE_API_KEY"
    """Environment variable that holds the key; where it is not set, none is sent."""
    limit: int = 32
    """Requests in flight at once; with several training processes, each one's share."""
    timeout: float = 60.0
    """Seconds for one reply."""
    tries: int = 4
    """Requests at most for one reply: again after a timeout, a lost connection, status 429 or 5xx."""
    pause: float = 1.0
    """Seconds before the second try; doubles with each further one, and varies by half."""
    max_tokens: int = 512
    """Tokens of one reply."""
    thinking_switch: bool = True
    """Tell the judge's chat template not to think, as vLLM takes it; off for endpoints that refuse the field."""

    def __post_init__(self):
        if not self.url.startswith(("http://", "https://")) or "@" in self.url or not self.model:
            raise DataError(
                "a judge needs a model and an address such as http://localhost:8000/v1, without a key in it: "
                f"keys are read from the environment ({self.key_variable})."
            )
        if min(self.limit, self.tries, self.max_tokens) < 1 or self.timeout <= 0 or self.pause < 0:
            raise DataError(f"limit, tries, max_tokens and timeout of a judge are above 0, pause is not below: {self}.")


class NoJudgement(Exception):
    """Why there is no judgement; says nothing of what was judged."""

    def __init__(self, reason: str, ask_again: bool = False):
        super().__init__(reason)
        self.reason, self.ask_again = reason, ask_again


class NoReply(Exception):
    """Why one request got no reply, where another may."""

    def __init__(self, reason: str, pause: float = 0.0):
        super().__init__(reason)
        self.reason, self.pause = reason, pause


class JudgementCache:
    """Judgements on disk, one private file each, kept across runs; failures are not kept."""

    def __init__(self, folder: Path):
        self.folder = store.check_folder(folder)

    def read(self, key: str) -> Judgement | None:
        """The judgement under a key, if there is one. Raises FileFormatError for a damaged file."""
        if not self._path(key).is_file():
            return None
        kept = store.read_json(self._path(key))
        try:
            return Judgement(kept["score"], tuple(kept["violated"]), kept["note"])
        except (KeyError, TypeError, DataError) as error:
            raise FileFormatError(f"{self._path(key)} holds no judgement. Remove it, and it is asked anew.") from error

    def write(self, key: str, judgement: Judgement) -> None:
        """Keep a judgement."""
        kept = {"score": judgement.score, "violated": list(judgement.violated), "note": judgement.note}
        store.write_text(self._path(key), json.dumps(kept, ensure_ascii=False) + "\n", private=True)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


class EndpointJudge:
    """A judge behind an OpenAI-compatible endpoint.

    principles: text by id, the whole constitution; cache: folder of judgements, which outlives the run.
    """

    def __init__(self, endpoint: Endpoint, principles: Mapping[str, str], cache: Path | None = None):
        self.endpoint, self.principles, self.id = endpoint, principles, endpoint.model
        self.faults: Counter[str] = Counter()
        self.requests = 0
        """HTTP requests sent, further tries included."""
        self._cache = JudgementCache(cache) if cache else None

    async def score(self, asks: Sequence[Ask]) -> list[Judgement | None]:
        """Judgements in the order of the asks; equal asks are judged once.

        Raises UnknownNameError for a principle that the constitution does not have, JudgeError where the endpoint lets
        nobody in.
        """
        prompts = [judge_prompt(ask, self.principles) for ask in asks]
        keys = [store.hash_of([self.id, prompt.version, prompt.content]) for prompt in prompts]
        found = {key: self._cache.read(key) if self._cache else None for key in keys}
        fresh = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if found[key] is None}
        found |= await self._judge_all(fresh)
        return [found[key] for key in keys]

    async def check(self) -> None:
        """Ask for one trial judgement. Raises MissingInputError where none comes, JudgeError where nobody is let in."""
        trial = Ask(({"role": "user", "content": "What boils water?"},), "A kettle boils water.", (), "compliance")
        judged = await self._judge_all({"trial": judge_prompt(trial, self.principles)})
        if judged["trial"] is None:
            came = next((REASONS[reason] for reason in self.faults if reason in REASONS), "it turned the request down")
            raise MissingInputError(
                f"the judge {self.id} at {self.endpoint.url} judged no trial answer: {came} ({shown_faults(self.faults)}). Start "
                f"it, such as by `vllm serve {self.id} --port 8001` (--judge http://localhost:8001/v1), or give another address "
                "and model."
            )

    async def _judge_all(self, prompts: Mapping[str, JudgePrompt]) -> dict[str, Judgement | None]:
        """Judgements of prompts by key."""
        if not prompts:
            return {}
        before, gate = self.faults.copy(), asyncio.Semaphore(self.endpoint.limit)
        limits = httpx.Limits(max_connections=None)  # the gate limits them, and waiting there is no timeout
        async with httpx.AsyncClient(headers=self._headers(), timeout=None, limits=limits) as client:
            jobs = (self._judge_one(client, gate, key, prompt) for key, prompt in prompts.items())
            judged = await asyncio.gather(*jobs)
        self._check_open(self.faults - before)
        return dict(zip(prompts, judged, strict=True))

    def _headers(self) -> dict[str, str]:
        key = os.environ.get(self.endpoint.key_variable)
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _check_open(self, faults: Counter[str]) -> None:
        for status, look in SHUT.items():
            if faults[f"http_{status}"]:
                raise JudgeError(
                    f"the judge {self.id} at {self.endpoint.url} answers with status {status}. Look at {look} "
                    f"(the key is read from {self.endpoint.key_variable})."
                )

    async def _judge_one(
        self, client: httpx.AsyncClient, gate: asyncio.Semaphore, key: str, prompt: JudgePrompt, again: bool = False
    ) -> Judgement | None:
        """One judgement, kept as soon as it is there; asked for once more where the reply is none."""
        try:
            judgement = read_judgement(await self._reply(client, gate, prompt, again), prompt)
        except NoJudgement as fault:
            if fault.ask_again and not again:
                return await self._judge_one(client, gate, key, prompt, again=True)
            self.faults[fault.reason] += 1
            return None
        if self._cache:
            self._cache.write(key, judgement)
        return judgement

    async def _reply(self, client: httpx.AsyncClient, gate: asyncio.Semaphore, prompt: JudgePrompt, again: bool) -> str:
        """What the judge says. Raises NoJudgement when every try failed."""
        pause, reason = 0.0, ""
        for attempt in range(self.endpoint.tries):
            await asyncio.sleep(pause)
            try:
                return _content(await self._request(client, gate, prompt, again))
            except NoReply as fault:
                pause, reason = backoff(attempt, self.endpoint.pause, fault.pause), fault.reason
        raise NoJudgement(reason)

    async def _request(
        self, client: httpx.AsyncClient, gate: asyncio.Semaphore, prompt: JudgePrompt, again: bool
    ) -> httpx.Response:
        """One request. Raises NoReply where another may be answered, NoJudgement where none will be."""
        try:
            async with gate, asyncio.timeout(self.endpoint.timeout):
                response = await self._post(client, prompt, again)
        except TimeoutError:
            raise NoReply("timeout") from None
        except httpx.RequestError:
            raise NoReply("unreachable") from None
        if response.status_code == 429 or response.status_code >= 500:
            raise NoReply(f"http_{response.status_code}", pause_asked(response))
        if response.status_code != 200:
            raise NoJudgement(f"http_{response.status_code}")
        return response

    async def _post(self, client: httpx.AsyncClient, prompt: JudgePrompt, again: bool) -> httpx.Response:
        self.requests += 1
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": prompt.messages(again),
            "temperature": 0,
            "max_tokens": self.endpoint.max_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "judgement", "strict": True, "schema": reply_schema(prompt)},
            },
        }
        if self.endpoint.thinking_switch:
            body["chat_template_kwargs"] = {"enable_thinking": False}
        return await client.post(f"{self.endpoint.url.rstrip('/')}/chat/completions", json=body)


def reply_schema(prompt: JudgePrompt) -> dict[str, Any]:
    """JSON schema of a judge's reply; `violated` is asked for only where principles are shown."""
    fields: dict[str, Any] = {"score": {"type": "integer", "minimum": 0, "maximum": 10}}
    if prompt.principles:
        fields["violated"] = {"type": "array", "items": {"type": "string", "enum": list(prompt.principles)}}
    fields["note"] = {"type": "string", "maxLength": NOTE_LENGTH}
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def read_judgement(text: str, prompt: JudgePrompt) -> Judgement:
    """The judgement that a reply states, by the schema alone: nothing is searched for in a longer text. Raises NoJudgement."""
    try:
        said = json.loads(text)
        violated = said.get("violated", [])
        known = isinstance(violated, list) and set(violated) <= set(prompt.principles)
        if not known or set(said) != set(reply_schema(prompt)["properties"]):
            raise ValueError
        return Judgement(said["score"], tuple(dict.fromkeys(violated)), said["note"][:NOTE_LENGTH])
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise NoJudgement("schema", ask_again=True) from None  # the cause would quote what was judged


def _content(response: httpx.Response) -> str:
    """The text of a chat completion. Raises NoJudgement for another kind of body, and where the judge declined."""
    try:
        message = response.json()["choices"][0]["message"]
        said, declined = message["content"], message.get("refusal")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise NoJudgement("bad_json", ask_again=True) from None
    if declined or not isinstance(said, str):
        raise NoJudgement("declined", ask_again=True)
    return said
