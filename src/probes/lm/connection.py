"""Requests over HTTP that outlive a server's bad moments: tried again after a pause that grows, or given up with the reason.

Tried again is after a timeout, a lost connection, status 408, 409, 429 and 5xx, and an answer that cannot be read. After any
other status no further try would help. No error holds what was asked or answered but for `said`, the server's own words.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from secrets import SystemRandom
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from probes.errors import DataError

T = TypeVar("T")

KEY = "OPENAI_API_KEY"
"""Environment variable with the key, for an endpoint that wants one. It is never written anywhere."""
WRONG = {401: "the key is wrong or missing", 403: "the key may not do this", 404: "it has no such model or path"}
"""Statuses after which nobody will be answered, and why."""
AGAIN = (408, 409, 429)
LONGEST_PAUSE = 30.0
"""Seconds between two tries at most, whatever the server asks for."""
LONGEST_WORDS = 300
"""Characters of a server's own words; the rest is cut off."""

_NOISE = SystemRandom()  # leaves every random state that a seed decides alone


class NoAnswerError(Exception):
    """Why a request was not answered; says nothing of what was asked."""

    def __init__(self, note: str, status: int = 0, said: str = "", pause: float = 0.0):
        super().__init__(note)
        self.status, self.said, self.pause = status, said, pause

    @property
    def may_pass(self) -> bool:
        """Whether another try may be answered."""
        return self.status in (0, *AGAIN) or self.status >= 500


class UnreadableError(Exception):
    """What a reader raises for an answer of another form, as a server gives that breaks off: another try may better it."""


def check_address(url: str, flag: str) -> None:
    """Raises DataError for what is no address of a server, or holds a key; `flag` is what it was given by."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        usable = usable and not (parts.username or parts.query or parts.fragment)
    except ValueError:
        usable = False
    if not usable:
        raise DataError(f"{flag} {url!r}: give an address such as http://localhost:8000/v1; a key is read from {KEY}.")


@dataclass(frozen=True)
class Connection:
    """Where a server is, and how patiently it is asked."""

    url: str
    """With or without its final /v1."""
    timeout: float = 600.0
    """Seconds for one response."""
    tries: int = 5
    wait: float = 2.0
    """Seconds before the second try of a request, doubled before each further one and within half of it at random."""

    @property
    def root(self) -> str:
        """The address without /v1."""
        return self.url.rstrip("/").removesuffix("/v1")

    def client(self) -> httpx.AsyncClient:
        """Opens the connections; use it in an async with statement. How many requests are in flight is the caller's affair:
        one that waits for its turn has no timeout."""
        key = os.environ.get(KEY)
        return httpx.AsyncClient(
            timeout=httpx.Timeout(self.timeout, pool=None), limits=httpx.Limits(max_connections=None),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )  # fmt: skip

    async def ask(
        self, client: httpx.AsyncClient, path: str, payload: Mapping[str, Any] | None, read: Callable[[bytes], T]
    ) -> T:
        """What `read` makes of the answer to a payload; without a payload it is a GET. Raises NoAnswerError.

        Args:
            path: below the root, such as /v1/completions.
            read: raises UnreadableError for an answer that is worth another try.
        """
        last = NoAnswerError("it was not asked")
        for number in range(self.tries):
            if number:
                await asyncio.sleep(backoff(number - 1, self.wait, last.pause))
            try:
                return read(await self._body(client, path, payload))
            except NoAnswerError as error:
                last = error
            except UnreadableError as error:
                last = NoAnswerError(str(error))
            except httpx.HTTPError as error:
                last = NoAnswerError(type(error).__name__)
            if not last.may_pass:
                break
        raise last

    async def _body(self, client: httpx.AsyncClient, path: str, payload: Mapping[str, Any] | None) -> bytes:
        """The body of one response. Raises NoAnswerError for any status but 200."""
        url = f"{self.root}{path}"
        response = await (client.get(url) if payload is None else client.post(url, json=payload))
        status = response.status_code
        if status == 200:
            return response.content
        note = f"HTTP {status}" + (f", {WRONG[status]}" if status in WRONG else "")
        said = " ".join(response.text.split())[:LONGEST_WORDS]
        raise NoAnswerError(note, status, said, pause_asked(response))


def backoff(attempt: int, pause: float, asked: float) -> float:
    """Seconds to wait after try `attempt`, counted from 0: twice as long each time and within half of it at random, and
    never less than the server asked for."""
    return min(max(pause * 2**attempt * _NOISE.uniform(0.5, 1.5), asked), LONGEST_PAUSE)


def pause_asked(response: httpx.Response) -> float:
    """Retry-After in seconds; its other form, a date, counts as not given."""
    header = response.headers.get("retry-after", "")
    return float(header) if header.isdecimal() else 0.0
