"""The little of HTTP that both APIs need: bounded bodies, plain answers, and a listener on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.settings import is_loopback

Headers = list[tuple[bytes, bytes]]


class BodyTooLarge(Exception):
    """The body exceeds the limit; `size_bytes` is what was announced or sent."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"{size_bytes} bytes")
        self.size_bytes = size_bytes


class Disconnected(Exception):
    """The client left before its request was whole."""


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """The whole request body.

    Raises:
        BodyTooLarge: it exceeds the limit. The rest is read and dropped: clients read no answer before they sent all.
        Disconnected: it never became whole.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part: bytes = message.get("body", b"")
        size += len(part)
        if size <= limit_bytes:
            parts.append(part)
        else:
            parts.clear()
        if not message.get("more_body"):
            break
    if size > limit_bytes:
        raise BodyTooLarge(size)
    return b"".join(parts)


async def answer(send: Send, status: int, body: bytes = b"", headers: Headers | None = None) -> None:
    """A whole answer, JSON unless the headers say otherwise."""
    given = headers or []
    if body and not any(name == b"content-type" for name, _ in given):
        given = [(b"content-type", b"application/json"), *given]
    if status != 204:
        given = [*given, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": given})
    await send({"type": "http.response.body", "body": body})


def header(scope: Scope, name: bytes) -> str | None:
    """A request header by its lower-case name."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def comes_from_here(scope: Scope) -> bool:
    """Whether a request names this machine as host, and no page of another origin sent it."""
    origin = header(scope, b"origin")
    return _names_us(f"//{header(scope, b'host') or ''}") and (origin is None or _names_us(origin))


def _names_us(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:  # brackets that enclose no address
        return False


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. `OSError` when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: asyncio sends small writes at once (TCP_NODELAY) only where it sees that it is TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1" if host == "localhost" else host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


class Server(uvicorn.Server):
    """Serves an application on one socket until it is stopped; leaves the process's signals alone."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        options: dict[str, Any] = {
            "http": "httptools", "ws": "none", "lifespan": "off", "log_config": None, "access_log": False,
            "server_header": False, "proxy_headers": False, "timeout_keep_alive": 60,
        }  # fmt: skip
        super().__init__(uvicorn.Config(app, timeout_graceful_shutdown=1, **options))
        self._listener = listener
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Whoever runs us decides what a signal means."""
        yield

    async def start(self) -> None:
        """Return when it accepts connections."""
        self._task = asyncio.create_task(self.serve(sockets=[self._listener]))
        while not self.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        """Send what is left to send, then close."""
        self.should_exit = True
        if self._task:
            await self._task
        self._listener.close()
