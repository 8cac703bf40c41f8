"""Invoking a Lambda function without blocking: botocore's credentials and signer, aiohttp's sockets.

boto3 waits in a thread per call, and repeats a call whose answer it did not get, which for a function that books is the
wrong default. Here a call is sent once; only a throttled one, which was never run, is sent again.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
from yarl import URL

from tools.errors import OutcomeUncertain, RateLimited, UpstreamUnavailable
from tools.executors.aws import AwsError, AwsService
from tools.executors.config import ExecutorError

MAX_PAYLOAD_BYTES = 6_291_456
CONNECT_S = 3.0
THROTTLE_PAUSES_S = (0.2, 0.6)
UNREACHABLE = "The system that does this cannot be reached at the moment."
NO_ANSWER = "The system that does this did not answer."


@dataclass(frozen=True, slots=True)
class Invoked:
    """What a function returned; `error` when it failed instead: then the body is for logs, not for people."""

    body: bytes
    error: str | None = None


class LambdaWire:
    """The Invoke API for one function. `function`: name, `name:alias`, or ARN."""

    def __init__(
        self, function: str, *, region: str | None = None, endpoint_url: str | None = None, connections: int = 256
    ) -> None:
        self.function = function
        self._aws = AwsService("lambda", region=region or _region_of(function), endpoint_url=endpoint_url)
        self._connections = connections
        self._http: aiohttp.ClientSession | None = None
        self._url = URL()

    async def open(self) -> None:
        """Find region, endpoint and credentials by AWS's usual chain; `ExecutorError` says what is missing."""
        try:
            await self._aws.open()
        except AwsError as error:
            raise ExecutorError(f"function {self.function}: {error}") from error
        path = f"/2015-03-31/functions/{quote(self.function, safe='')}/invocations"
        self._url = URL(self._aws.url + path, encoded=True)
        # A connection a call: 200 calls that wait at once hold 200 sockets and no thread.
        connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=50.0)
        self._http = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S), trust_env=False
        )

    def move(self, endpoint_url: str) -> None:
        """Call it there, once it is opened."""
        self._aws.move(endpoint_url)

    async def close(self) -> None:
        """Close all connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def invoke(self, payload: bytes, limit: int = MAX_PAYLOAD_BYTES) -> Invoked:
        """Run the function once and wait; of a longer answer than `limit` the first `limit + 1` bytes.

        Raises `UpstreamUnavailable` when it surely did not run, `RateLimited` when it is throttled, `OutcomeUncertain`
        when it may have run.
        """
        for pause_s in THROTTLE_PAUSES_S:
            try:
                return await self._invoke(payload, limit)
            except RateLimited:
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
        return await self._invoke(payload, limit)

    async def _invoke(self, payload: bytes, limit: int) -> Invoked:
        if self._http is None:
            raise UpstreamUnavailable(UNREACHABLE)
        try:
            headers = await self._aws.signed("POST", str(self._url), payload, {"content-type": "application/json"})
        except AwsError as error:
            raise UpstreamUnavailable(UNREACHABLE) from error
        try:
            async with self._http.post(self._url, data=payload, headers=headers, allow_redirects=False) as response:
                body = await _read(response, limit)
                if response.status == 200:
                    return Invoked(body, response.headers.get("X-Amz-Function-Error"))
                raise _refusal(self.function, response.status, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as failure:
            raise UpstreamUnavailable(UNREACHABLE) from failure
        except (aiohttp.ClientError, OSError, TimeoutError) as failure:
            raise OutcomeUncertain(NO_ANSWER) from failure


def _region_of(function: str) -> str | None:
    pieces = function.split(":")
    return pieces[3] if len(pieces) >= 7 and pieces[0] == "arn" else None


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    pieces: list[bytes] = []
    room = limit + 1
    async for piece in response.content.iter_any():
        pieces.append(piece[:room])
        room -= len(pieces[-1])
        if room <= 0:
            response.close()
            break
    return b"".join(pieces)


class Misconfigured(UpstreamUnavailable):
    """The function does not exist, or we may not call it: for an operator, not for a person."""

    retryable = False


def _refusal(function: str, status: int, body: bytes) -> Exception:
    """What an answer of Lambda itself means; the text is for logs."""
    said = f"{function}: {status} {body[:300].decode(errors='replace')}"
    if status == 429:
        limited = RateLimited("That is a bit too much at once. Please try again in a moment.", retry_after_s=1.0)
        limited.__cause__ = RuntimeError(said)
        return limited
    kind = Misconfigured if 400 <= status < 500 else OutcomeUncertain
    error = kind(UNREACHABLE if kind is Misconfigured else NO_ANSWER)
    error.__cause__ = RuntimeError(said)
    return error
