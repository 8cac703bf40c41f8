"""Invoking a Lambda function without blocking: botocore's credentials and signer, aiohttp's sockets.

boto3 waits in a thread per call, and repeats a call whose answer it did not get, which for a function that books is the
wrong default. Here a call is sent once; only a throttled one, which was never run, is sent again.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.session import get_session
from yarl import URL

from tools.errors import OutcomeUncertain, RateLimited, UpstreamUnavailable
from tools.executors.config import ExecutorError

MAX_PAYLOAD_BYTES = 6_291_456
CONNECT_S = 3.0
STARTS_AT_ONCE = 4
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
        self._region = region or _region_of(function)
        self._endpoint = endpoint_url
        self._connections = connections
        self._http: aiohttp.ClientSession | None = None
        self._credentials: Any = None
        self._url = URL()
        self._starting = asyncio.Semaphore(STARTS_AT_ONCE)

    async def open(self) -> None:
        """Find region, endpoint and credentials by AWS's usual chain; `ExecutorError` says what is missing."""
        await asyncio.to_thread(self._configure)
        # A connection a call: 200 calls that wait at once hold 200 sockets and no thread.
        connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=50.0)
        self._http = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S), trust_env=False
        )

    def _configure(self) -> None:
        session = get_session()
        region = self._region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
        endpoint = (
            self._endpoint or os.environ.get("AWS_ENDPOINT_URL_LAMBDA") or os.environ.get("AWS_ENDPOINT_URL") or ""
        )
        if not endpoint and not region:
            raise ExecutorError(f"function {self.function}: no region; set `region`, or AWS_REGION")
        self._region = region or "us-east-1"
        self._credentials = _credentials(session, URL(endpoint))
        if not endpoint:
            if self._credentials is None:
                raise ExecutorError(
                    f"function {self.function}: no AWS credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, or run where a role is attached"
                )
            found = session.get_component("endpoint_resolver").construct_endpoint("lambda", self._region)
            endpoint = f"https://{found['hostname']}" if found else f"https://lambda.{self._region}.amazonaws.com"
        path = f"/2015-03-31/functions/{quote(self.function, safe='')}/invocations"
        self._url = URL(endpoint.rstrip("/") + path, encoded=True)

    def move(self, endpoint_url: str) -> None:
        """Call it there, once it is opened."""
        self._endpoint = endpoint_url

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
        async with self._starting:
            headers = await self._signed(payload)
            # Signing takes a fraction of a millisecond; two hundred in a row would hold up everything else.
            await asyncio.sleep(0)
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

    async def _signed(self, payload: bytes) -> dict[str, str]:
        headers = {"content-type": "application/json", "host": self._url.authority}
        credentials = await self._frozen()
        if credentials is None:  # a stand-in that wants none
            return headers
        request = AWSRequest("POST", str(self._url), headers=headers, data=payload)
        SigV4Auth(credentials, "lambda", self._region).add_auth(request)
        return dict(request.headers.items())

    async def _frozen(self) -> Any:
        held = self._credentials
        if held is None:
            return None
        # A refresh asks a server, and waits for it.
        if isinstance(held, RefreshableCredentials) and held.refresh_needed():
            held = await asyncio.to_thread(held.get_frozen_credentials)
        else:
            held = held.get_frozen_credentials()
        return Credentials(held.access_key, held.secret_key, held.token)


def _credentials(session: Any, endpoint: URL) -> Any:
    """By AWS's chain; for a stand-in on this machine from the environment alone: it needs none, and the chain ends in
    a server that is only found in AWS, which takes seconds to miss."""
    if endpoint.host in ("127.0.0.1", "localhost", "::1"):
        key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
        return Credentials(key, secret) if key and secret else None
    return session.get_credentials()


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
