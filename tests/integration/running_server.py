"""The application on a real socket, in the test's own event loop, with a scripted agent behind it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import uvicorn
from pydantic import SecretStr

from agent.definition import load_definition
from backend.app import create_app
from backend.conversations.service import RunTurn
from backend.settings import AGENT, Settings

# Loaded once: half a second of each server's start.
AS_SHIPPED = load_definition()


class Server(uvicorn.Server):
    """Leaves the test runner's signal handlers alone, and looks ten times as often whether it shall end."""

    async def main_loop(self) -> None:
        while not self.should_exit:
            await asyncio.sleep(0.01)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def settings(database_url: str, redis_url: str, **more: Any) -> Settings:
    """Complete settings; nothing answers at the PF360 address, and no document is loaded."""
    values: dict[str, Any] = {
        "database_url": database_url,
        "redis_url": redis_url,
        "pf360_api_url": "http://127.0.0.1:9",
        "pf360_jwt_secret": SecretStr("x" * 40),
        "turn_lease_seconds": 1.0,
        "effect_look_seconds": 1.0,
        "drain_seconds": 0.2,
        "kb_autoload": False,
        **more,
    }
    return Settings(_env_file=None, **values)


@asynccontextmanager
async def serving(configured: Settings, run: RunTurn | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running server. `client.base_url` is its address."""
    shipped = configured.agent_dir == AGENT
    app = create_app(configured, run=run, definition=AS_SHIPPED if shipped else None)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, ws="none", lifespan="on", timeout_graceful_shutdown=1)
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=60.0, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        await task
        listener.close()
