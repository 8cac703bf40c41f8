"""What the wires of all HTTP providers share: one pool of connections per server, lines of a stream, errors.

A request is sent once. Whether it is sent again, there or elsewhere, is decided in `agent.model_call`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import aiohttp
import orjson
from yarl import URL

from agent.errors import (
    ContextExceeded,
    HistoryRejected,
    ModelBusy,
    ModelError,
    ModelMisbehaved,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from agent.providers.base import Where
from agent.transcript import JsonObject

MAX_LINE = 1_000_000
MAX_BODY = 4_000_000  # of an answer that comes in one, decoded
MAX_ERROR_BODY = 4_000
# What one answer may hold, in characters; and of calls or other parts that are put together.
MAX_THOUGHTS = 200_000
MAX_ARGUMENTS = 100_000
MAX_NAME = 1_000
MAX_PARTS = 64
MAX_TOKENS = 10_000_000
_LAST_WORDS_S = 0.2


class HttpFault(Exception):
    """The server answered with an error status (or sent an error in the stream, with the status it stands for)."""

    def __init__(self, status: int, message: str, retry_after_s: float | None = None, code: str = "") -> None:
        super().__init__(f"HTTP {status}{f' {code}' if code else ''}: {message}")
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s
        self.code = code


class StreamBroken(Exception):
    """The answer ended early, or cannot be read."""


class Endless(StreamBroken):
    """The answer has more parts, or longer ones, than any sense can be made of."""


class NotTheApi(Exception):
    """Something answered that is no such API (a web page, a proxy's greeting)."""


class Declined(Exception):
    """The provider's own filter ended the answer."""


LIBRARY_ERRORS: tuple[type[Exception], ...] = (
    HttpFault,
    StreamBroken,
    NotTheApi,
    Declined,
    aiohttp.ClientError,
    OSError,
)


class HttpServer:
    """One model server and our connections to it, opened at the first request."""

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        secret: str = "",
        connect_timeout_s: float = 5.0,
        idle_timeout_s: float = 60.0,
    ) -> None:
        """`secret` is cut out of whatever the server says; the idle time-out is between two pieces of an answer."""
        self.base_url = base_url.rstrip("/")
        # Compressed, a stream would come in lumps.
        own = {"content-type": "application/json", "accept-encoding": "identity"}
        self._headers = {**own, **(headers or {})}
        self._secret = secret
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s, sock_read=idle_timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self, path: str | URL, body: bytes, headers: Mapping[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        """A response with status 200, to be closed by whoever gets it; raises one of `LIBRARY_ERRORS`.

        `path` is below the server's address, or a whole address that is sent as it is encoded.
        """
        url = path if isinstance(path, URL) else f"{self.base_url}/{path}"
        # A redirect would carry the key to wherever it points.
        response = await self._open().post(url, data=body, headers=headers, allow_redirects=False)
        if response.status == 200:
            return response
        async with response:
            raise await self._fault(response)

    async def get(self, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> JsonObject:
        """A JSON object, of a POST when there is a `body`; raises one of `LIBRARY_ERRORS`."""
        url, method = f"{self.base_url}/{path}", "GET" if body is None else "POST"
        request = self._open().request(method, url, data=body, headers=headers, allow_redirects=False)
        async with request as response:
            if response.status != 200:
                raise await self._fault(response)
            try:
                said = orjson.loads(await body_of(response))
            except orjson.JSONDecodeError as error:
                raise NotTheApi(f"{method} /{path} does not answer with JSON") from error
        if not isinstance(said, dict):
            raise NotTheApi(f"{method} /{path} does not answer with a JSON object")
        return said

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _fault(self, response: aiohttp.ClientResponse) -> HttpFault:
        text = (await response.content.read(MAX_ERROR_BODY)).decode("utf-8", "replace")
        code = response.headers.get("x-amzn-errortype", "").partition(":")[0].rpartition("#")[2]
        message, named = error_of(text, self.hide)
        return HttpFault(response.status, message, _retry_after(response), short(code, self.hide) or named)

    def hide(self, text: str) -> str:
        """What a server said, without our secret."""
        return text.replace(self._secret, "***") if self._secret else text


def error_of(text: str, hide: Callable[[str], str] = str) -> tuple[str, str]:
    """The server's own words in one line, and the code it gives, out of an error's body in any of the usual forms.

    `hide` cuts out what nobody is to read, before anything is cut short.
    """
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        body = None
    code = ""
    if isinstance(body, dict):
        inner = body.get("error") or body
        if isinstance(inner, dict):
            text = str(inner.get("message") or inner.get("Message") or text)
            code = str(inner.get("code") or inner.get("type") or inner.get("__type") or "")
        else:
            text = str(inner)
    return " ".join(hide(text).split())[:300], short(code, hide)


def short(code: str, hide: Callable[[str], str]) -> str:
    """A code of a server: a word, not whatever it says."""
    return hide(code)[:60]


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return None


async def body_of(response: aiohttp.ClientResponse) -> bytes:
    """The whole body; `StreamBroken` for one that is too long, however it was compressed."""
    pieces, size = [], 0
    while piece := await response.content.readany():
        size += len(piece)
        if size > MAX_BODY:
            raise StreamBroken(f"a body of more than {MAX_BODY} bytes")
        pieces.append(piece)
    return b"".join(pieces)


# --- streams of lines -----------------------------------------------------------------------------------------------


class Lines:
    """The lines of a body as they arrive, as many at a time as one read brings to their end."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        """Nothing is read yet."""
        self._content = response.content
        self._rest = b""
        self._ended = False

    async def some(self) -> list[bytes]:
        """At least one line, the last one too if nothing ends it; empty at the end of the body.

        Raises:
            StreamBroken: a line does not end.
        """
        while not self._ended:
            piece = await self._content.readany()
            if piece:
                found = (self._rest + piece).split(b"\n")
                self._rest = found.pop()
                if len(self._rest) > MAX_LINE:
                    raise StreamBroken(f"a line of more than {MAX_LINE} bytes")
            else:
                self._ended = True
                found = [self._rest] if self._rest else []
            if found:
                return found
        return []


async def to_the_end(response: aiohttp.ClientResponse) -> None:
    """Read what may follow the last event, so that the connection can serve again; a server that keeps it is left.

    The answer is complete by now, in whatever way the connection ends.
    """
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(_LAST_WORDS_S):
            while await response.content.readany():
                pass


def loads(data: bytes) -> JsonObject:
    """A piece of a stream, which has to be a JSON object."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise StreamBroken("a piece of the answer is no JSON") from error
    if type(body) is not dict:
        raise StreamBroken("a piece of the answer is no JSON object")
    return body


def data_of(line: bytes) -> JsonObject | None:
    """The object of a `data:` line of an event stream; None where it holds none (`[DONE]`, nothing)."""
    try:
        body = orjson.loads(line[5:])
    except orjson.JSONDecodeError as error:
        if line[5:].strip() in (b"", b"[DONE]"):
            return None
        raise StreamBroken("a piece of the answer is no JSON") from error
    if type(body) is not dict:
        raise StreamBroken("a piece of the answer is no JSON object")
    return body


# --- what errors mean -----------------------------------------------------------------------------------------------

_TOO_LONG = ("context", "too long", "too many tokens", "maximum number of tokens", "prompt is too", "input is too")
# Ollama of a model without tools; vLLM and llama.cpp that were started without them.
_NO_TOOLS = ("not support tools", "tool choice requires", "tools param requires")
_BUSY_HINT = "The assistant is very busy just now. Please try again in a moment."


def classify(error: Exception, where: Where = Where()) -> ModelError:
    """What an error of a wire means. The text is for logs and names no key."""
    match error:
        case HttpFault():
            return _refusal(error, where)
        case NotTheApi():
            return ModelRejected(str(error), user_hint=_model_hint(where))
        case Endless():
            return ModelMisbehaved(str(error))
        case StreamBroken():
            return ModelUnavailable(str(error))
        case Declined():
            return ModelMisbehaved(str(error))
        case TimeoutError():
            return ModelTimeout("the model server was silent for too long")
        case aiohttp.InvalidURL():
            return ModelRejected(f"{where.url} is no address", user_hint=_model_hint(where))
        case aiohttp.ClientPayloadError() | aiohttp.ClientConnectionError() | OSError():
            return ModelUnavailable(f"the model server cannot be reached: {type(error).__name__}")
        case aiohttp.ClientError():
            return ModelMisbehaved(f"not HTTP as it should be: {type(error).__name__}")
    return ModelError(str(error))


def _refusal(fault: HttpFault, where: Where) -> ModelError:
    if any(part in fault.message.lower() for part in _NO_TOOLS):
        return ModelRejected(str(fault), user_hint=_tools_hint(where))
    match fault.status:
        case 401 | 403:
            return ModelRejected(str(fault), user_hint=_key_hint(where))
        case 404:
            return ModelRejected(str(fault), user_hint=_model_hint(where))
        case 413:
            return ContextExceeded(str(fault))
        case 400 | 422 if too_long(fault):
            return ContextExceeded(str(fault))
        case 400 | 422:
            return HistoryRejected(str(fault))
        case 408 | 504:
            return ModelTimeout(str(fault))
        case 429 | 529:
            return ModelBusy(str(fault), user_hint=_BUSY_HINT, retry_after_s=fault.retry_after_s)
        case status if status >= 500:
            return ModelUnavailable(str(fault))
    return ModelRejected(str(fault))


def too_long(fault: HttpFault) -> bool:
    """Whether the server complains of the length of the conversation."""
    words = fault.message.lower()
    return any(part in words for part in _TOO_LONG)


def _key_hint(where: Where) -> str:
    return f"The model server refuses our key. Whoever runs this service should check {where.key}."


def _model_hint(where: Where) -> str:
    return (
        f"The model server does not know this model or address. Whoever runs this service should check {where.model} "
        f"and {where.url}."
    )


def _tools_hint(where: Where) -> str:
    return (
        "The model server takes no tools as it is set up. Whoever runs this service should start it with tool calls "
        f"enabled, or set {where.model} to a model that knows them."
    )


def unusable(error: Exception, base_url: str, where: Where, *, has_key: bool) -> tuple[str, str]:
    """Cause and fix of an error that a probe met; neither names the key."""
    match error:
        case HttpFault(status=401 | 403):
            given = "the key" if has_key else "a request without a key"
            return f"{base_url} refuses {given} ({error.status})", f"Set {where.key} to a valid key."
        case HttpFault():
            return f"{base_url} answers {error.status}", f"Check {where.url}."
        case NotTheApi():
            return f"{base_url}: {error}", f"Check {where.url}."
    return f"{base_url} cannot be reached ({type(error).__name__})", f"Start the model server, or check {where.url}."


def advice(meant: ModelError, where: Where) -> str:
    """The fix of a probe that failed so, where nothing but its meaning is known."""
    if isinstance(meant, ModelUnavailable | ModelTimeout):
        return f"Check the network and {where.url}, or try again in a moment."
    return meant.user_hint


# --- members of what a server says ----------------------------------------------------------------------------------


def counted(value: Any, so_far: int = 0) -> int | None:
    """A number of tokens, with those before; None for what cannot be one, which is then as good as not said."""
    return so_far + value if type(value) is int and 0 <= value <= MAX_TOKENS - so_far else None


def dict_of(value: Any) -> JsonObject:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def index_of(value: Any) -> int | str | None:
    """What tells the parts of an answer apart; None for what cannot."""
    return value if isinstance(value, int | str) else None


def text_of(value: Any) -> str:
    """A text, or the texts of content parts, however a server sends them."""
    if isinstance(value, str):
        return value
    return "".join(text for part in list_of(value) if isinstance(text := dict_of(part).get("text"), str))
