"""OpenAI Chat Completions over aiohttp: the request, the event stream, and the quirks of servers that speak it.

Works against OpenAI, vLLM, llama.cpp and Ollama's compatible route. Retries once, before the first token only.
"""

from __future__ import annotations

import ast
import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from agent.errors import ModelBusy, ModelError, ModelMisbehaved, ModelRejected, ModelTimeout, ModelUnavailable
from agent.providers.base import Call, Chunk, Reasoning, Text, Tokens
from agent.transcript import JsonObject, ToolCall

MAX_LINE = 1_000_000
MAX_ARGUMENTS = 100_000
MAX_ERROR_BODY = 2_000
RETRY_AFTER_LIMIT_S = 5.0


class HttpFault(Exception):
    """The server answered with an error status (or sent an error object in the stream, with the status it names)."""

    def __init__(self, status: int, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s


class StreamBroken(Exception):
    """The answer ended early, or was no Chat Completions answer."""


class NotTheApi(Exception):
    """Something answered that is no Chat Completions API (a web page, a proxy's greeting)."""


LIBRARY_ERRORS: tuple[type[Exception], ...] = (HttpFault, StreamBroken, NotTheApi, aiohttp.ClientError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIConfig:
    """Where the model is. `base_url` includes the version (`…/v1`)."""

    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    connect_timeout_s: float = 5.0
    idle_timeout_s: float = 60.0  # between two pieces of the answer, and before the first

    def url(self, path: str) -> str:
        """The address of one endpoint."""
        return f"{self.base_url.rstrip('/')}/{path}"

    @property
    def headers(self) -> dict[str, str]:
        """Of every request; servers that need no key get none."""
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}


class ChatCompletionsWire:
    """One server, one connection pool. Payloads are `{messages, tools}` as `agent.providers.openai` renders them."""

    def __init__(self, config: OpenAIConfig) -> None:
        self._config = config
        self._session: aiohttp.ClientSession | None = None
        self._asks_usage = True

    async def stream(self, payload: JsonObject, *, deadline_s: float) -> AsyncIterator[Chunk]:
        """Send and yield chunks; raises one of `LIBRARY_ERRORS`."""
        response = await self._open(payload, deadline_s)
        async with response:
            reader = _Reader(known={t["function"]["name"] for t in payload.get("tools", ())})
            kind = response.content_type
            if kind == "application/json":
                for chunk in reader.whole(_loads(await response.read())):
                    yield chunk
            elif kind in ("text/event-stream", "text/plain", "application/octet-stream"):
                async for line in _data_lines(response):
                    for chunk in reader.delta(_loads(line)):
                        yield chunk
            else:
                raise NotTheApi(f"the answer is {kind}, no event stream")
            for chunk in reader.end(payload):
                yield chunk

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _open(self, payload: JsonObject, deadline_s: float) -> aiohttp.ClientResponse:
        """The response, its status checked; one more attempt for what may pass by itself."""
        try:
            return await self._post(payload)
        except HttpFault as fault:
            if fault.status in (400, 422) and self._asks_usage and "stream_options" in fault.message:
                self._asks_usage = False
                return await self._post(payload)
            if fault.status != 429 and fault.status < 500:
                raise
            delay_s = min(fault.retry_after_s or random.uniform(0.1, 0.5), RETRY_AFTER_LIMIT_S)
            if delay_s > deadline_s / 2:
                raise
        except (aiohttp.ClientConnectionError, ConnectionError):
            delay_s = min(random.uniform(0.1, 0.5), deadline_s / 2)
        await asyncio.sleep(delay_s)
        return await self._post(payload)

    async def _post(self, payload: JsonObject) -> aiohttp.ClientResponse:
        config = self._config
        body = {"model": config.model, "stream": True, **payload}
        if self._asks_usage:
            body["stream_options"] = {"include_usage": True}
        # A redirect would carry the key to wherever it points.
        response = await self._open_session().post(
            config.url("chat/completions"), data=orjson.dumps(body), headers=config.headers, allow_redirects=False
        )
        if response.status == 200:
            return response
        async with response:
            raise HttpFault(response.status, await _error_text(response, config), _retry_after(response))

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            config = self._config
            timeout = aiohttp.ClientTimeout(
                total=None, sock_connect=config.connect_timeout_s, sock_read=config.idle_timeout_s
            )
            self._session = aiohttp.ClientSession(
                timeout=timeout,
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
                headers={"content-type": "application/json", "accept": "text/event-stream"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


async def get_models(config: OpenAIConfig) -> list[str]:
    """The ids that `GET /models` lists; raises one of `LIBRARY_ERRORS`."""
    timeout = aiohttp.ClientTimeout(total=config.connect_timeout_s * 2, sock_connect=config.connect_timeout_s)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(config.url("models"), headers=config.headers, allow_redirects=False) as response,
    ):
        if response.status != 200:
            raise HttpFault(response.status, await _error_text(response, config))
        try:
            body = orjson.loads(await response.read())
            return [str(model["id"]) for model in body["data"]]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise NotTheApi("GET /models does not answer with a list of models") from error


# --- the event stream -----------------------------------------------------------------------------------------------


async def _data_lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The `data:` of each event, up to `[DONE]`."""
    rest = b""
    async for piece in response.content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > MAX_LINE:
            raise StreamBroken(f"a line of more than {MAX_LINE} bytes")
        for line in lines:
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data == b"[DONE]":
                    yield b'{"done": true}'
                    return
                if data:
                    yield data
            elif line[:1] in b"<{" and line.strip():
                raise NotTheApi("the answer is no event stream")
    if rest.startswith(b"data:") and (data := rest[5:].strip()) not in (b"", b"[DONE]"):
        yield data


def _loads(data: bytes) -> JsonObject:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise StreamBroken("a piece of the answer is no JSON") from error
    if not isinstance(body, dict):
        raise StreamBroken("a piece of the answer is no JSON object")
    return body


@dataclass(slots=True)
class _Partial:
    """A tool call of which pieces are still to come."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    size: int = 0
    given: JsonObject | None = None  # arguments that came as an object

    def add(self, call_id: str | None, name: str | None, arguments: Any) -> None:
        self.id = self.id or call_id or ""
        # Some servers repeat the whole name with every piece, others send it in pieces.
        if name and name != self.name:
            self.name += name
        if isinstance(arguments, dict):
            self.given = arguments
        elif isinstance(arguments, str):
            self.size += len(arguments)
            if self.size > MAX_ARGUMENTS:
                raise StreamBroken("the arguments of a call do not end")
            self.arguments.append(arguments)


class _Reader:
    """Makes chunks of the stream's objects."""

    def __init__(self, known: set[str]) -> None:
        self._known = known
        self._partials: dict[Any, _Partial] = {}
        self._last: Any = None
        self._usage: JsonObject | None = None
        self._finish: str | None = None
        self._done = False
        self._characters = 0

    def delta(self, body: JsonObject) -> list[Chunk]:
        """The chunks of one event."""
        if body.get("error"):
            raise _stream_fault(body["error"])
        if body.get("done") is True:
            self._done = True
        if isinstance(body.get("usage"), dict):
            self._usage = body["usage"]
        choices = body.get("choices") or ()
        if not choices or not isinstance(choices[0], dict):
            return []
        self._finish = choices[0].get("finish_reason") or self._finish
        return self._message(choices[0].get("delta") or {})

    def whole(self, body: JsonObject) -> list[Chunk]:
        """The chunks of an answer that was not streamed."""
        choices = body.get("choices")
        if body.get("error"):
            raise _stream_fault(body["error"])
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise NotTheApi("the answer holds no choices")
        self._usage = body["usage"] if isinstance(body.get("usage"), dict) else None
        self._done = True
        self._finish = choices[0].get("finish_reason")
        return self._message(choices[0].get("message") or {})

    def _message(self, message: JsonObject) -> list[Chunk]:
        chunks: list[Chunk] = []
        thinking = message.get("reasoning_content") or message.get("reasoning")
        if isinstance(thinking, str):
            chunks.append(Reasoning(thinking))
        content = message.get("content")
        if isinstance(content, list):  # content parts
            content = "".join(part.get("text") or "" for part in content if isinstance(part, dict))
        if content and isinstance(content, str):
            self._characters += len(content)
            chunks.append(Text(content))
        for piece in message.get("tool_calls") or ():
            if isinstance(piece, dict):
                self._piece(piece)
        return chunks

    def _piece(self, piece: JsonObject) -> None:
        call_id = piece.get("id") if isinstance(piece.get("id"), str) else None
        function: JsonObject = piece["function"] if isinstance(piece.get("function"), dict) else {}
        key = piece.get("index")
        if key is None:
            goes_on = self._last is not None and not function.get("name")
            key = call_id or (self._last if goes_on else len(self._partials))
        known = self._partials.get(key)
        if known is not None and call_id and known.id and known.id != call_id:
            key = (key, call_id)  # a server that numbers all its parallel calls 0
        elif known is not None and call_id is None and isinstance(self._last, tuple) and self._last[0] == key:
            key = self._last
        self._last = key
        name = function.get("name")
        self._partials.setdefault(key, _Partial()).add(
            call_id, name if isinstance(name, str) else None, function.get("arguments")
        )

    def end(self, payload: JsonObject) -> list[Chunk]:
        """The calls and the usage; raises when the answer broke off."""
        if not self._done and self._finish is None:
            raise StreamBroken("the answer broke off")
        chunks: list[Chunk] = []
        for partial in self._partials.values():
            chunks += _finished(partial, self._known)
        chunks.append(self._tokens(payload))
        return chunks

    def _tokens(self, payload: JsonObject) -> Tokens:
        usage = self._usage or {}
        given, made = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if isinstance(given, int) and isinstance(made, int):
            return Tokens(given, made)
        # About four characters a token, where a server does not count.
        written = self._characters + sum(partial.size for partial in self._partials.values())
        return Tokens(len(orjson.dumps(payload)) // 4, -(-written // 4), estimated=True)


def _finished(partial: _Partial, known: set[str]) -> list[Call]:
    """The call, or the calls that a server ran together in one."""
    if partial.given is not None:
        return [Call(ToolCall(partial.id, partial.name, partial.given))]
    text = "".join(partial.arguments)
    names = _split_names(partial.name, known)
    if len(names) > 1:
        objects = _objects(text)
        if len(objects) == len(names):
            return [Call(ToolCall(partial.id if n == 0 else "", name, objects[n])) for n, name in enumerate(names)]
        if len(set(names)) > 1:
            return [Call(ToolCall(partial.id, partial.name, {}), "several calls run together; send them one by one")]
    args, problem = read_arguments(text)
    return [Call(ToolCall(partial.id, names[0] if names else partial.name, args), problem)]


def _split_names(name: str, known: set[str]) -> list[str]:
    """The known names that a name consists of; empty when it does not."""
    if name in known:
        return [name]
    for each in sorted(known, key=len, reverse=True):
        if name.startswith(each) and (rest := _split_names(name[len(each) :], known)):
            return [each, *rest]
    return []


def _objects(text: str) -> list[JsonObject]:
    decoder, at, found = json.JSONDecoder(strict=False), 0, []
    try:
        while at < len(text):
            body, at = decoder.raw_decode(text, at)
            found.append(body)
            while at < len(text) and text[at].isspace():
                at += 1
    except (ValueError, RecursionError):
        return []
    return [body for body in found if isinstance(body, dict)]


def read_arguments(text: str) -> tuple[JsonObject, str | None]:
    """The arguments of a call, and what is wrong with them.

    Repaired is only what leaves no doubt: fences, a trailing comma, raw line breaks in texts, JSON in a JSON string, a
    Python dict. Arguments that were cut off are an error: what is missing cannot be known.
    """
    body = text.strip()
    if body.startswith("```"):
        body = body.strip("`").removeprefix("json").strip()
    if body in ("", "null"):
        return {}, None
    parsed = _parse(body)
    if isinstance(parsed, str):
        parsed = _parse(parsed.strip())
    if not isinstance(parsed, dict):
        return {}, "the arguments are no JSON object"
    try:
        orjson.dumps(parsed)
    except TypeError:  # keys that are no text, numbers without end, half characters
        return {}, "the arguments hold what JSON cannot"
    return parsed, None


def _parse(body: str) -> Any:
    for candidate in (body, body.replace(",}", "}").replace(",]", "]")):
        try:
            return json.loads(candidate, strict=False)
        except (ValueError, RecursionError):
            continue
    try:
        return ast.literal_eval(body) if body.startswith("{") else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


# --- errors ---------------------------------------------------------------------------------------------------------


async def _error_text(response: aiohttp.ClientResponse, config: OpenAIConfig) -> str:
    """The server's own words, cut and without our key."""
    text = (await response.content.read(MAX_ERROR_BODY)).decode("utf-8", "replace")
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        body = None
    if isinstance(body, dict) and body.get("error"):
        error = body["error"]
        text = str(error.get("message") if isinstance(error, dict) else error)
    text = " ".join(text.split())[:300]
    return text.replace(config.api_key, "***") if config.api_key else text


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return None


_KEY_HINT = "The model server refuses our key. Whoever runs this service should check LLM_API_KEY."
_MODEL_HINT = "The model server does not know this model or address. Check LLM_MODEL, and that LLM_API_URL ends in /v1."
_STATUS: dict[int, tuple[type[ModelError], str | None]] = {
    401: (ModelRejected, _KEY_HINT),
    403: (ModelRejected, _KEY_HINT),
    404: (ModelRejected, _MODEL_HINT),
    408: (ModelTimeout, None),
    413: (ModelRejected, "This conversation has become too long for the model. Please start a new one."),
    429: (ModelBusy, "The assistant is very busy just now. Please try again in a moment."),
    504: (ModelTimeout, None),
}


def classify(error: Exception) -> ModelError:
    """What an error of the wire means. The text is for logs and names no key."""
    match error:
        case HttpFault(status=status):
            if status in (400, 422) and "context" in error.message.lower():
                status = 413
            kind, hint = _STATUS.get(status, (ModelUnavailable if status >= 500 else ModelRejected, None))
            return kind(str(error), user_hint=hint)
        case NotTheApi():
            return ModelRejected(str(error), user_hint=_MODEL_HINT)
        case StreamBroken():
            return ModelUnavailable(str(error))
        case TimeoutError():
            return ModelTimeout("the model server was silent for too long")
        case aiohttp.InvalidURL():
            return ModelRejected("LLM_API_URL is no address", user_hint=_MODEL_HINT)
        case aiohttp.ClientPayloadError() | aiohttp.ClientConnectionError() | OSError():
            return ModelUnavailable(f"the model server cannot be reached: {type(error).__name__}")
        case aiohttp.ClientError():
            return ModelMisbehaved(f"not HTTP as it should be: {type(error).__name__}")
    return ModelError(str(error))


_STREAM_STATUS = {"rate_limit": 429, "insufficient_quota": 429, "invalid_request": 400, "authentication": 401}


def _stream_fault(error: Any) -> HttpFault:
    """An error object inside a stream that began with 200."""
    if not isinstance(error, dict):
        return HttpFault(500, str(error)[:300])
    code = error.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        status = code
    else:
        words: Sequence[str] = (str(error.get("type")), str(code))
        status = next((s for key, s in _STREAM_STATUS.items() if any(key in word for word in words)), 500)
    return HttpFault(status, str(error.get("message", "error in the stream"))[:300])
