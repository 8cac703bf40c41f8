"""The process: a loopback socket, uvicorn, a clean stop, and a watch on the parent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, cast

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .app import ABORT_EXTENSION, App, create_app
from .simulator import Config

HOST = "127.0.0.1"
WATCH_INTERVAL_S = 0.25
DRAIN_S = 1


@dataclass(frozen=True, slots=True)
class Watch:
    """Whose end ends this process: a parent's, or that of whoever holds the other end of stdin."""

    parent_pid: int | None = None
    stdin: bool = False


def listen(port: int) -> socket.socket:
    """A loopback socket on `port`, 0 for any free one; `OSError` when it is taken."""
    # With the protocol left out, asyncio would not switch off Nagle's delay: 40 ms an answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
    except OSError:
        listener.close()
        raise
    return listener


def run(config: Config, listener: socket.socket, watch: Watch) -> None:
    """Serve until a signal or the end of what is watched; says `{"ready": true, "port": N}` on stdout."""
    server = Server(create_app(config))
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_serve(server, listener, watch))


async def _serve(server: Server, listener: socket.socket, watch: Watch) -> None:
    watching = [asyncio.ensure_future(_parent_end(watch.parent_pid))] if watch.parent_pid else []
    if watch.stdin:
        watching.append(asyncio.ensure_future(_stdin_end()))
    for task in watching:
        task.add_done_callback(lambda _: server.stop())
    try:
        await server.serve(sockets=[listener])
    finally:
        for task in watching:
            task.cancel()


class Protocol(HttpToolsProtocol):
    """HTTP with one addition: the application can cut the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # The ASGI types know only extensions without content.
        self.scope["extensions"] = cast(Any, {ABORT_EXTENSION: self.transport.abort})


class Server(uvicorn.Server):
    """uvicorn that says when it listens, and lets go of waiting requests when it stops."""

    def __init__(self, app: App) -> None:
        self._app = app
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="off",
                log_level="warning",
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=DRAIN_S,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        port = sockets[0].getsockname()[1] if sockets else None
        sys.stdout.buffer.write(orjson.dumps({"ready": True, "port": port}) + b"\n")
        sys.stdout.buffer.flush()

    def stop(self) -> None:
        self._app.sim.closing.set()
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """End with status 0 on SIGINT and SIGTERM; uvicorn's own handling would raise them again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        yield
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _parent_end(pid: int) -> None:
    """Return when process `pid` has ended. A child is handed to another parent at once, even before any wait."""
    is_parent = os.getppid() == pid
    # Nothing announces the end of a parent to an event loop, on every system alike: it has to be asked for.
    while os.getppid() == pid if is_parent else _exists(pid):  # noqa: ASYNC110
        await asyncio.sleep(WATCH_INTERVAL_S)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def _stdin_end() -> None:
    """Return when standard input ends. A thread waits, since an event loop cannot watch every kind of file."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def read_all() -> None:
        while os.read(0, 1024):
            continue
        with contextlib.suppress(RuntimeError):  # the loop may have closed first
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=read_all, name="stdin-watch", daemon=True).start()
    await ended.wait()
