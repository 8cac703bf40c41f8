"""Tools that are operations of an HTTP API, described by an OpenAPI document.

Only hosts of the definition's list are called, redirects are not followed, and no cookie is kept: one client serves all
callers. An operation with an effect carries its effect key as `Idempotency-Key`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import httpx

from tools.contract import InvalidArguments, JsonObject, ToolContext, ToolError, ToolResult
from tools.errors import ActionFailed, Forbidden, NotFound, OutcomeUncertain, RateLimited, UpstreamUnavailable
from tools.executors.config import ExecutorError, HttpGroup
from tools.executors.documents import Route, read_openapi
from tools.executors.failures import TRACE
from tools.executors.http_request import Encoded, encoded
from tools.executors.mounted import BROKEN, MAX_RESULT_BYTES, BadAnswer, ForeignTool, MountedTool, TooMuch, answered

MAX_ANSWER_BYTES = 1_000_000  # read at most; what a model is shown of it is bounded by `MAX_RESULT_BYTES`
MAX_SAID = 300
LONGEST_WAIT_S = 2.0
CONNECT_S = 3.0
UNREACHABLE = "That system cannot be reached at the moment. Please try again in a little while."
_HEADERS = {
    "User-Agent": "outcrop",
    "Accept": "application/json, text/plain;q=0.9, */*;q=0.1",
    "Accept-Encoding": "identity",  # what is unpacked could be bounded only after it stands in memory
}
_USUAL_PORTS = {"https": 443, "http": 80}
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_PAUSE_S = (0.1, 0.3)


class Conflict(ToolError):
    """The other system refuses this as things stand; facts: `said`."""

    code = "conflict"


class HttpTransport:
    """A `Transport`: the operations of one OpenAPI document. `auth` is the whole value of `config.auth.header`."""

    def __init__(self, group: str, config: HttpGroup, document: Path, auth: str | None) -> None:
        self._group = group
        self._config = config
        self._document = document
        self._listed = frozenset(self._listing(each) for each in config.hosts)
        self._server = str(config.base_url or "")
        connect_s = min(CONNECT_S, config.timeout_s / 2)
        self._http = httpx.AsyncClient(
            # Sending and answering have the deadline of the call; failing to connect alone tells that nothing was sent.
            timeout=httpx.Timeout(None, connect=connect_s, pool=connect_s),
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4.0),
            headers={**_HEADERS, **self._credentials(auth)},
            trust_env=False,
            follow_redirects=False,
        )
        self._http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))

    async def open(self) -> Sequence[ForeignTool]:
        """Read the document and check every address that it leads to; nothing is called."""
        config = self._config
        wanted = {*config.only, *config.tools} if config.only else ()
        supplied = (config.auth.header,) if config.auth else ()
        api = await asyncio.to_thread(read_openapi, self._document, only=wanted, supplied=supplied, over_http=True)
        self._server = str(config.base_url or next(iter(api.servers), ""))
        for tool in api.tools:
            base = self._base(tool.route)
            if problem := "has `?` or `#`; remove it" if {"?", "#"} & set(base) else self._problem(base):
                raise ExecutorError(f"action group {self._group}: the server of {tool.name}, {base!r}: {problem}")
        return api.tools

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def send(self, tool: MountedTool, args: JsonObject, ctx: ToolContext) -> ToolResult:
        """Make one call; see `Transport.send`.

        A call that was turned away for coming too fast is made once more if the wait is short: nothing was done. A read
        is made once more after any failure to answer.
        """
        request = self._request(tool, args, ctx)
        try:
            return await self._once(request)
        except RateLimited as limited:
            wait_s = limited.facts["retry_after_s"]
            if wait_s > LONGEST_WAIT_S:
                raise
        except BadAnswer:
            raise
        except UpstreamUnavailable:
            if tool.spec.effect != "read":
                raise
            wait_s = random.uniform(*_PAUSE_S)
        await asyncio.sleep(wait_s)
        return await self._once(request)

    def _request(self, tool: MountedTool, args: JsonObject, ctx: ToolContext) -> httpx.Request:
        route: Route = tool.foreign.route
        parts: Encoded = encoded(route, args)
        url = httpx.URL(f"{self._base(route).rstrip('/')}{parts.target}")
        if self._problem(str(url)):
            raise Forbidden("That address may not be called from here.")
        headers = [*parts.headers]
        if tool.spec.effect != "read" and ctx.effect_key:
            headers.append((b"Idempotency-Key", ctx.effect_key.encode()))
        return self._http.build_request(parts.method, url, headers=headers, content=parts.content)

    async def _once(self, request: httpx.Request) -> ToolResult:
        try:
            response = await self._http.send(request, stream=True)
            try:
                body = await _bounded_body(response)
            finally:
                await response.aclose()
        except _NEVER_SENT as error:
            raise UpstreamUnavailable(UNREACHABLE) from error
        except httpx.TransportError as error:
            raise OutcomeUncertain(BROKEN) from error
        return _meaning(response, body)

    def _base(self, route: Route) -> str:
        """The address before the operation's path; the definition's own outweighs all of the document's."""
        return self._server if self._config.base_url else route.server or self._server

    def _problem(self, address: str) -> str | None:
        """Why this address may not be called.

        Plain HTTP would show credentials and personal data to whoever is on the way. It is for this machine, and for a
        host that the definition lists with its port, as nobody does by mistake.
        """
        try:
            url = httpx.URL(address)
        except httpx.InvalidURL as error:
            return f"is no URL ({error}); correct it"
        if url.scheme not in _USUAL_PORTS or not url.host:
            return "is no address of a server; set `base_url` to one such as https://api.example.com/v1"
        if url.userinfo:
            return "holds a name or a password; use `auth` instead"
        usual = _USUAL_PORTS[url.scheme]
        with_port = (url.host, usual if url.port is None else url.port)
        if with_port not in self._listed and (url.port not in (None, usual) or (url.host, None) not in self._listed):
            return f"{url.netloc.decode('ascii')} is not in `hosts`; add it if it may be called"
        if url.scheme == "http" and with_port not in self._listed and not _is_loopback(url.host):
            return "is not encrypted; use https, or list the host with its port if plain HTTP is meant"
        return None

    def _listing(self, text: str) -> tuple[str, int | None]:
        """A host of the list, with its port if one is given."""
        try:
            url = httpx.URL(f"https://{text}")
            explicit = re.search(r":(\d+)$", text)
            if url.host and not url.userinfo and url.raw_path == b"/" and not text.endswith("/") and "*" not in text:
                return url.host, int(explicit[1]) if explicit else None
        except httpx.InvalidURL:
            pass
        raise ExecutorError(
            f"action group {self._group}: hosts: {text!r} is no host; write api.example.com or host:port"
        )

    def _credentials(self, auth: str | None) -> dict[str, str]:
        if auth is None or self._config.auth is None:
            return {}
        if not auth.isascii() or not auth.isprintable() or auth != auth.strip():
            raise ExecutorError(
                f"action group {self._group}: the value of {self._config.auth.value_from} cannot stand in a header; "
                "keep to plain letters, digits and signs in one line"
            )
        return {self._config.auth.header: auth}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _bounded_body(response: httpx.Response) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise BadAnswer(BROKEN)
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise TooMuch(MAX_RESULT_BYTES)
    return bytes(body)


def _meaning(response: httpx.Response, body: bytes) -> ToolResult:
    """What an answer means; raises for one that settles nothing, and `RateLimited`."""
    status = response.status_code
    if response.is_success:
        return answered(_content(response, body), status=status)
    if status == 429:
        raise RateLimited("That is a bit too fast. Please try again in a moment.", retry_after_s=_retry_after(response))
    if status >= 500 or status == 408:
        raise OutcomeUncertain(BROKEN)
    if not response.is_client_error:  # a redirect, above all: where it leads nobody has checked
        raise BadAnswer(BROKEN)
    return replace(_refusal(status, _said(response, body)).result(), upstream_status=status)


def _refusal(status: int, said: str | None) -> ToolError:
    facts = {"said": said} if said else {}
    match status:
        case 400 | 422:
            errors = [{"field": "", "message": said}] if said else []
            return InvalidArguments("The system that does this did not accept these details.", errors=errors)
        case 401 | 403:
            return Forbidden("The system that does this does not permit it.")
        case 404 | 410:
            return NotFound("There is no such thing in the system that does this.", **facts)
        case 409 | 412:
            return Conflict("As things stand there, that cannot be done.", **facts)
    return ActionFailed("The system that does this refused it.", **facts)


def _content(response: httpx.Response, body: bytes) -> Any:
    """The body as JSON values; `BadAnswer` when it is neither JSON nor plain text."""
    if not body:
        return {}
    kind = _media_type(response)
    if kind in ("", "application/json") or kind.endswith("+json"):
        try:
            return json.loads(body, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise BadAnswer(BROKEN) from error
    if not kind.startswith("text/") or kind in ("text/html", "text/xml"):
        raise BadAnswer(BROKEN)
    try:
        return body.decode(response.charset_encoding or "utf-8")
    except (UnicodeDecodeError, LookupError) as error:
        raise BadAnswer(BROKEN) from error


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _said(response: httpx.Response, body: bytes) -> str | None:
    """The server's own reason, if it gives one that a person could read."""
    kind = _media_type(response)
    if kind != "application/json" and not kind.endswith("+json"):
        return None
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(told, dict) and isinstance(told.get("error"), dict):
        told = told["error"]
    if not isinstance(told, dict):
        return None
    texts = (told.get(key) for key in ("message", "detail", "title"))
    text = next((each for each in texts if isinstance(each, str) and each.strip()), None)
    if text is None or TRACE.search(text):
        return None
    return " ".join(text.encode(errors="replace").decode().split())[:MAX_SAID]


def _retry_after(response: httpx.Response) -> float:
    """Seconds; 1 when the server does not say."""
    text = response.headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return 1.0
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else 1.0
