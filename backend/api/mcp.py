"""The route of the MCP server. What speaks the protocol is imported for the first request, and only if it is installed.

Importing the SDK takes most of a second; a server that nobody asks for MCP shall not pay for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.api.caller import Caller
from backend.api.problems import problem
from backend.conversations.service import ConversationService
from backend.identity.principal import Principal
from tools.contract import ToolSpec

# Where the verified caller stands in the request's ASGI scope, for whoever answers it.
CALLER = "outcrop.caller"

router = APIRouter()


class McpServer:
    """The MCP server of this process, brought up by its first request."""

    def __init__(
        self, service: ConversationService, tools: Callable[[Principal], Sequence[ToolSpec]], *, idle_s: float
    ) -> None:
        self._service = service
        self._tools = tools
        self._idle_s = idle_s
        self._starting = asyncio.Lock()
        self._running: tuple[ASGIApp, asyncio.Task[None]] | None = None

    async def app(self) -> ASGIApp:
        """What answers requests; `ModuleNotFoundError` without the extra."""
        async with self._starting:
            if self._running is None or self._running[1].done():
                module = await asyncio.to_thread(import_module, "backend.api.mcp_tools")
                ready: asyncio.Future[ASGIApp] = asyncio.get_running_loop().create_future()
                task = asyncio.create_task(self._run(module, ready))
                either: list[asyncio.Future[Any]] = [ready, task]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    task.result()
                self._running = ready.result(), task
            return self._running[0]

    async def _run(self, module: ModuleType, ready: asyncio.Future[ASGIApp]) -> None:
        async with module.serving(self._service, self._tools, self._idle_s) as app:
            ready.set_result(app)
            await asyncio.Event().wait()

    async def stop(self) -> None:
        """End all sessions."""
        if self._running is not None:
            task = self._running[1]
            task.cancel()
            await asyncio.wait({task})


class _Passed(Response):
    """A response that another ASGI application gives."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


@router.api_route("/mcp", methods=["POST", "DELETE"], include_in_schema=False)
async def mcp(request: Request, caller: Caller) -> Response:
    """Model Context Protocol, streamable HTTP. There is no GET: whatever the server sends belongs to a request."""
    server: McpServer = request.app.state.mcp
    try:
        app = await server.app()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("mcp", "mcp_types"):
            raise
        return problem(501, "not_installed", "MCP needs a package that is missing: pip install 'outcrop[mcp]'")
    request.scope[CALLER] = caller
    return _Passed(app)
