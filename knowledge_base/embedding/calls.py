"""How an embedding service is called: so many requests at once, so fast, and again when it is busy."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
import orjson
from yarl import URL

MAX_BODY = 64 * 1024 * 1024
CONNECT_S = 3.0
BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
Sign = Callable[[bytes], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Pace:
    """Requests in flight, how many may begin a second, and how long a busy server is waited for.

    `tries` counts the first. A pause doubles from `first_pause_s`, with jitter; a server that names a longer one than
    `longest_pause_s` is not waited for.
    """

    concurrent: int = 4
    requests_per_second: float | None = None
    texts_per_second: float | None = None
    tries: int = 6
    first_pause_s: float = 0.5
    longest_pause_s: float = 60.0
    timeout_s: float = 60.0

    def for_a_question(self) -> Pace:
        """Somebody waits for the answer: two tries, and seconds."""
        return replace(
            self,
            tries=min(self.tries, 2),
            longest_pause_s=min(self.longest_pause_s, 2.0),
            timeout_s=min(self.timeout_s, 10.0),
        )


class Refusal(Exception):
    """The server said no, `status` (0: it did not answer at all), and what it said, in one line and without the key."""

    def __init__(self, status: int, message: str, code: str = "", tries: int = 1) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.tries = status, message, code, tries


class _Busy(Exception):
    """Another try may help, after `pause_s` if the server said so."""

    def __init__(self, refusal: Refusal, pause_s: float | None) -> None:
        super().__init__(refusal.message)
        self.refusal, self.pause_s = refusal, pause_s


class Service:
    """One server. `secrets` appear in no message."""

    def __init__(self, pace: Pace, secrets: tuple[str, ...] = ()) -> None:
        self.pace = pace
        self._secrets = tuple(secret for secret in secrets if secret)
        self._http: aiohttp.ClientSession | None = None
        # Questions have slots of their own: they wait neither for a load nor for its rate.
        self._slots = {question: asyncio.Semaphore(pace.concurrent) for question in (False, True)}
        self._next_at = 0.0  # when the next request of a load may begin, by the monotonic clock
        self._asked_to_wait_until = 0.0  # by the server, and of everybody

    async def post(
        self, url: str, body: bytes, sign: Sign, *, texts: int = 1, is_question: bool = False
    ) -> tuple[Mapping[str, str], bytes]:
        """Headers and body of a 200; `Refusal` when there is none to be had."""
        pace = self.pace.for_a_question() if is_question else self.pace
        async with self._slots[is_question]:
            for tried in range(1, pace.tries + 1):
                await self._turn(texts, pace, is_question)
                try:
                    return await self._once(url, body, sign, pace.timeout_s)
                except _Busy as busy:
                    busy.refusal.tries = tried
                    pause_s = busy.pause_s
                    if pause_s is None:
                        pause_s = min(pace.first_pause_s * 2 ** (tried - 1), pace.longest_pause_s)
                        pause_s *= random.uniform(0.5, 1.5)
                    elif pause_s > pace.longest_pause_s:
                        raise busy.refusal from None
                    else:
                        self._asked_to_wait_until = max(self._asked_to_wait_until, time.monotonic() + pause_s)
                    if tried == pace.tries:
                        raise busy.refusal from None
                    await asyncio.sleep(pause_s)
        raise AssertionError("a pace has at least one try")

    async def close(self) -> None:
        """Close all connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def _turn(self, texts: int, pace: Pace, is_question: bool) -> None:
        """Wait until this request may begin; `Refusal` when that is too long for a question."""
        # The moment may be put off meanwhile, by an answer to somebody else.
        while (wait_s := self._wait_s(is_question)) > 0:
            if is_question and wait_s > pace.longest_pause_s:
                raise Refusal(429, f"it asks everybody to wait for {wait_s:.0f} s")
            await asyncio.sleep(wait_s)
        rates = ((self.pace.requests_per_second, 1), (self.pace.texts_per_second, texts))
        self._next_at = max(self._next_at, time.monotonic()) + max(n / rate if rate else 0.0 for rate, n in rates)

    def _wait_s(self, is_question: bool) -> float:
        until = self._asked_to_wait_until if is_question else max(self._asked_to_wait_until, self._next_at)
        return until - time.monotonic()

    async def _once(self, url: str, body: bytes, sign: Sign, timeout_s: float) -> tuple[Mapping[str, str], bytes]:
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S))
        headers = await sign(body)
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._http.post(URL(url, encoded=True), data=body, headers=headers, allow_redirects=False) as answer,
            ):
                content = await _whole(answer)
        except TimeoutError as error:
            raise _Busy(Refusal(0, f"it did not answer within {timeout_s:g} s"), None) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _Busy(Refusal(0, f"the connection failed ({type(error).__name__})"), None) from error
        if answer.status == 200:
            return answer.headers, content
        message, code = said(content)
        for secret in self._secrets:
            message = message.replace(secret, "…")
        refusal = Refusal(answer.status, message, code or answer.headers.get("x-amzn-errortype", "").split(":")[0])
        if answer.status in BUSY and refusal.code != "insufficient_quota":
            raise _Busy(refusal, _retry_after(answer.headers))
        raise refusal


async def no_headers(_body: bytes) -> Mapping[str, str]:
    """For a server that wants nothing but JSON."""
    return {"content-type": "application/json"}


def shown(url: str) -> str:
    """An address without user, password, path or query."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}"


def said(body: bytes) -> tuple[str, str]:
    """Message and code of an error body, whatever its shape; one line of at most 300 characters."""
    try:
        whole = orjson.loads(body)
    except ValueError:
        return _line(body[:1200].decode(errors="replace")), ""
    inner = whole.get("error", whole) if isinstance(whole, dict) else whole
    if not isinstance(inner, dict):
        inner = whole if isinstance(whole, dict) and isinstance(whole.get("message"), str) else {"message": inner}
    words = next((inner[name] for name in ("message", "Message", "detail", "error") if inner.get(name)), "")
    code = inner.get("code") or inner.get("type") or ""
    return _line(str(words)), code if isinstance(code, str) else ""


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in answer.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > MAX_BODY:
            raise aiohttp.ClientPayloadError("the answer does not end")
    return b"".join(pieces)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, as a number or as a date; None when it does not say."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        return max(float(value), 0.0) if value.replace(".", "", 1).isdigit() else _until(parsedate_to_datetime(value))
    except ValueError:
        return None


def _until(moment: datetime) -> float:
    at = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((at - datetime.now(UTC)).total_seconds(), 0.0)
