"""What every request passes first: correlation id, host and origin, media type and size. Pure ASGI.

AUTH_MODE=none trusts whoever reaches the port. A page on the web reaches it too, through the visitor's browser: by a
name that resolves to 127.0.0.1 (so the Host header must be a loopback name) or by posting across origins (so a foreign
Origin is refused, and JSON is demanded, which a form cannot send).
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.api.bedrock import errors as wire
from backend.api.problems import CODES, PROTOTYPE_PATH, detail, problem
from backend.correlation import correlation_id
from backend.records.ids import uuid7
from backend.settings import is_loopback

MAX_BODY_BYTES = 64 * 1024
MAX_WIRE_BYTES = 256 * 1024  # a query of 20,000 characters, each written as an escape
MAX_UPLOAD_BYTES = 8 * 1024 * 1024
_UPLOAD = re.compile(r"/api/v1/kb/[^/]+/documents")
_CORRELATION = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_JSON = re.compile(rb'application/(?:[a-z0-9.+-]+\+)?json\s*(?:;\s*charset\s*=\s*"?utf-8"?\s*)?', re.IGNORECASE)
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; "
        b"base-uri 'none'; form-action 'self'",
    ),
]


class Edge:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, *, origins: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-correlation-id", b"")
        mark = given if _CORRELATION.fullmatch(given) else uuid7().hex.encode()
        correlation_id.set(mark.decode())

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-correlation-id", mark), *_SECURITY_HEADERS]
            await send(message)

        if refusal := self._refusal(scope, headers):
            status, field, why = refusal
            code = CODES[status][0]
            if scope["path"] == PROTOTYPE_PATH:
                response = detail(status, why, code)
            elif wire.is_wire(scope["path"]):
                response = wire.response(wire.of_status(status, f"{field}: {why}"))
            else:
                response = problem(status, code, why, [{"field": field, "message": why}])
            await response(scope, receive, answer)
        elif scope["method"] == "POST":
            await self._app(scope, _bounded(receive, _longest(scope["path"])), answer)
        else:
            await self._app(scope, receive, answer)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
        """Status, field and sentence when the request must not go further."""
        host = headers.get(b"host", b"").decode("latin-1")
        if not _names_us(host):
            return 403, "host", "This server answers to loopback names only."
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and urlsplit(origin).netloc != host and origin not in self._origins:
            return 403, "origin", "Pages of other origins may not call this server."
        if headers.get(b"sec-fetch-site") == b"cross-site" and origin not in self._origins:
            return 403, "origin", "Pages of other sites may not call this server."
        if scope["method"] != "DELETE" and not _JSON.fullmatch(headers.get(b"content-type", b"").strip()):
            return 415, "content-type", CODES[415][1]
        length, longest = headers.get(b"content-length", b"0"), _longest(scope["path"])
        if length.isdigit() and int(length) > longest:
            return 413, "body", f"The body may have {longest} bytes at most."
        return None


@lru_cache(maxsize=256)
def _names_us(host: str) -> bool:
    """Whether a Host header holds a loopback name or address."""
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _longest(path: str) -> int:
    """How long a body may be, in bytes."""
    if wire.is_wire(path):
        return MAX_WIRE_BYTES
    return MAX_UPLOAD_BYTES if _UPLOAD.fullmatch(path) else MAX_BODY_BYTES


def _bounded(receive: Receive, longest: int) -> Receive:
    """The same body, cut off with 413 when it grows too large (it may come without a length)."""
    received = 0

    async def next_message() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > longest:
            raise HTTPException(413)
        return message

    return next_message
