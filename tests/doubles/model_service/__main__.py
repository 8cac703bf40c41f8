"""`python -m tests.doubles.model_service`: serve until standard input ends; the first line printed is the port."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import web

from tests.doubles.model_service.server import ModelServer


async def main() -> None:
    """Whoever started this holds the other end of standard input, and it closes however that process dies."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    class Input(asyncio.Protocol):
        def connection_lost(self, _: Exception | None) -> None:
            ended.set()

    await loop.connect_read_pipe(Input, sys.stdin)
    runner = web.AppRunner(
        ModelServer().application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await ended.wait()
    await runner.cleanup()


uvloop.run(main())
