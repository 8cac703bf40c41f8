"""A connection to one MCP server, kept by a task of its own. Imports the SDK, which takes a second.

The SDK's streams and sessions may only be closed by the task that opened them, so one task owns them for as long as
the executor is open, and opens them anew when they are lost. Calls come from the tasks of turns: to be cancelled there
cancels the call at the server.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import anyio
import httpx2
import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import MCP_SESSION_ID, streamable_http_client
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from tools.contract import JsonObject
from tools.errors import OutcomeUncertain, UpstreamUnavailable
from tools.executors.mounted import BROKEN, BadAnswer

log = logging.getLogger(__name__)

AWAY = "The system that does this is not connected at the moment. Please try again in a little while."
LOST = "The connection to the system that does this broke before it answered."

CONNECT_S = 30.0
FIRST_PAUSE_S = 0.5  # before the connection is made anew; doubles up to the longest
LONGEST_PAUSE_S = 30.0
MOST_PAGES = 100
MAX_BODY_BYTES = 4 * 1024 * 1024  # of one answer over HTTP, lists of tools among them; a result has a far smaller limit
HTTP_TIMEOUT = httpx2.Timeout(10.0, read=300.0)  # a stream of events may be silent; a call has its own time limit
# Answers of a server, or of what stands before it, that say that a request was not taken.
NOT_TAKEN = (401, 403, 404, 405, 429)
# What stands as `data` in errors that were made here: the request surely did nothing. Nobody else can say that.
NOT_SENT = f"not sent {uuid4()}"
FORGOTTEN = f"not taken: no such session {uuid4()}"

# Makes the streams of one connection; sets the event when they are of no more use.
Connect = Callable[[asyncio.Event], AbstractAsyncContextManager[TransportStreams]]


def over_stdio(command: Sequence[str], environment: Mapping[str, str]) -> Connect:
    """Start the server; it sees `environment` and no more, and dies with us. `FileNotFoundError` without a program."""
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(f"there is no program {command[0]}")
    child = Path(__file__).with_name("mcp_child.py")
    tied = ["-I", "-S", str(child), str(os.getpid()), ",".join(environment), program, *command[1:]]
    parameters = StdioServerParameters(command=sys.executable, args=tied, env=dict(environment))

    def connect(lost: asyncio.Event) -> AbstractAsyncContextManager[TransportStreams]:
        return _watched(stdio_client(parameters, errlog=sys.stderr), lost)

    return connect


def over_http(url: str, headers: Mapping[str, str]) -> Connect:
    """Speak streamable HTTP; `headers` go with every request to that origin, and to no other."""

    @asynccontextmanager
    async def connect(lost: asyncio.Event) -> AsyncIterator[TransportStreams]:
        transport = _OneRequestAtATime(trust_env=False)
        async with (
            httpx2.AsyncClient(
                headers=dict(headers), transport=transport, timeout=HTTP_TIMEOUT, trust_env=False
            ) as http,
            _watched(streamable_http_client(url, http_client=http), lost) as streams,
        ):
            yield streams

    return connect


class Connection:
    """Connected from `open` to `close`, but for the time it takes to connect again."""

    def __init__(self, name: str, connect: Connect) -> None:
        self._name = name
        self._connect = connect
        self._client: Client | None = None
        self._lost = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    async def open(self) -> Sequence[types.Tool]:
        """Connect, and list all tools; raises what the first attempt failed with."""
        opened: asyncio.Future[Sequence[types.Tool]] = asyncio.get_running_loop().create_future()
        self._owner = asyncio.create_task(self._keep(opened), name=f"mcp {self._name}")
        try:
            return await opened
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect; a server that was started here is stopped, within seconds."""
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait({self._owner})
            self._owner = None

    async def call(self, name: str, args: JsonObject, meta: JsonObject) -> types.CallToolResult:
        """One call.

        Raises `UpstreamUnavailable` when it surely was not sent or not taken, `OutcomeUncertain` or `BadAnswer` when
        it was, `MCPError` for what the server itself refuses.
        """
        client = self._client
        if client is None:
            raise UpstreamUnavailable(AWAY)
        try:
            return await client.call_tool(name, args, meta=cast("types.RequestParamsMeta", meta) or None)
        except MCPError as error:
            if error.data == FORGOTTEN:  # by a server that was restarted, most likely: a new session is needed
                self._lost.set()
            if error.data in (NOT_SENT, FORGOTTEN):
                raise UpstreamUnavailable(AWAY) from error
            if error.code in (types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT):
                raise OutcomeUncertain(LOST) from error
            raise
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            raise OutcomeUncertain(LOST) from error
        except (ValidationError, RuntimeError) as error:  # RuntimeError: the result breaks the tool's own output schema
            log.warning("mcp_answer_unusable server=%s tool=%s error=%r", self._name, name, str(error)[:300])
            raise BadAnswer(BROKEN) from error

    async def _keep(self, opened: asyncio.Future[Sequence[types.Tool]]) -> None:
        """Stay connected, until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                await self._stay(opened)
                reason = "it ended"
            except Exception as error:  # noqa: BLE001 - outermost loop: whatever broke the connection, it is made anew
                if not opened.done():
                    opened.set_exception(error)
                    return
                reason = told(error)
            log.warning("mcp_connection_lost server=%s reason=%r retry_in_s=%s", self._name, reason, pause_s)
            await asyncio.sleep(pause_s)
            lasted = time.monotonic() - began > LONGEST_PAUSE_S
            pause_s = FIRST_PAUSE_S if lasted else min(2 * pause_s, LONGEST_PAUSE_S)

    async def _stay(self, opened: asyncio.Future[Sequence[types.Tool]]) -> None:
        """Connect, and return when the connection is lost."""
        self._lost = lost = asyncio.Event()
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(CONNECT_S):
                us = types.Implementation(name="outcrop", version=version("outcrop"))
                client = await stack.enter_async_context(Client(self._connect(lost), client_info=us, cache=None))
                tools = await _every_tool(client)
            if not opened.done():
                opened.set_result(tools)
            self._client = client
            try:
                await lost.wait()
            finally:
                self._client = None


def told(error: BaseException) -> str:
    """The first real reason in an error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return str(error) or type(error).__name__


async def _every_tool(client: Client) -> list[types.Tool]:
    """All pages of the list. Listed again with each connection, so that results are checked by today's schemas."""
    tools: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return tools
    raise ValueError(f"its list of tools has more than {MOST_PAGES} pages")


@asynccontextmanager
async def _watched(
    streams: AbstractAsyncContextManager[TransportStreams], lost: asyncio.Event
) -> AsyncIterator[TransportStreams]:
    """The same streams; `lost` is set when the server's ends."""
    async with streams as (read, write):
        into, out = anyio.create_memory_object_stream[SessionMessage | Exception](0)

        async def relay() -> None:
            try:
                async with into:
                    async for message in read:
                        await into.send(message)
            except anyio.BrokenResourceError:
                pass  # the session is being closed
            finally:
                lost.set()

        async with anyio.create_task_group() as tasks, out:
            tasks.start_soon(relay)
            yield out, write
            tasks.cancel_scope.cancel()


class _Bounded(httpx2.AsyncByteStream):
    """A body that breaks off where it grows too large to be kept; events of a stream have a limit of the SDK's own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for chunk in self._stream:
            read += len(chunk)
            if read > MAX_BODY_BYTES:
                raise httpx2.StreamError(f"more than {MAX_BODY_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class _OneRequestAtATime(httpx2.AsyncHTTPTransport):
    """Answers a request that failed on its way with an error of its own, for which the SDK would drop all of them."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """As its parent, without its exceptions."""
        try:
            response = await super().handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            return _failed(
                503, types.INTERNAL_ERROR, f"it cannot be reached ({error or type(error).__name__})", NOT_SENT
            )
        except httpx2.TransportError as error:
            return _failed(
                502, types.CONNECTION_CLOSED, f"the connection broke ({error or type(error).__name__})", None
            )
        if response.status_code not in NOT_TAKEN:
            if response.headers.get("content-type", "").startswith("application/json"):
                response.stream = _Bounded(response.stream)
            return response
        await response.aclose()
        forgotten = response.status_code == 404 and MCP_SESSION_ID in request.headers
        text = f"it answers HTTP {response.status_code}"
        return _failed(response.status_code, types.INTERNAL_ERROR, text, FORGOTTEN if forgotten else NOT_SENT)


def _failed(status: int, code: int, message: str, data: Any) -> httpx2.Response:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message, "data": data}}
    return httpx2.Response(status, json=error)
