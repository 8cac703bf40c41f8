"""OpenAI Chat Completions over aiohttp: the request, the event stream, and the quirks of servers that speak it.

Works against OpenAI, vLLM, llama.cpp, LM Studio and Ollama's compatible route.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from agent.providers.arguments import json_objects, read_arguments, split_names
from agent.providers.base import Call, Chunk, Reasoning, Text, Tokens, Where
from agent.providers.http import HttpFault, HttpServer, NotTheApi, StreamBroken, lines, loads, text_of
from agent.transcript import JsonObject, ToolCall

MAX_ARGUMENTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIConfig:
    """Where the model is. `base_url` includes the version (`…/v1`)."""

    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    organization: str = ""
    connect_timeout_s: float = 5.0
    idle_timeout_s: float = 60.0  # between two pieces of the answer, and before the first
    options: JsonObject = field(default_factory=dict)  # further members of each request's body (temperature, ...)
    where: Where = field(default_factory=Where)

    @property
    def headers(self) -> dict[str, str]:
        """Of every request; servers that need no key get none."""
        headers = {"accept": "text/event-stream"}
        if self.api_key:
            headers["authorization"] = f"Bearer {self.api_key}"
        if self.organization:
            headers["openai-organization"] = self.organization
        return headers


class ChatCompletionsWire:
    """One server. Payloads are `{messages, tools}` as `agent.providers.openai` renders them."""

    def __init__(self, config: OpenAIConfig, *, streams: bool = True, streams_tool_calls: bool = True) -> None:
        self._config = config
        self._streams = streams
        self._streams_tool_calls = streams_tool_calls
        self._server = HttpServer(
            config.base_url,
            headers=config.headers,
            secret=config.api_key,
            connect_timeout_s=config.connect_timeout_s,
            idle_timeout_s=config.idle_timeout_s,
        )
        self._asks_usage = True

    async def stream(self, payload: JsonObject, *, deadline_s: float) -> AsyncIterator[Chunk]:
        """Send and yield chunks; raises one of `LIBRARY_ERRORS`."""
        response = await self._open(payload)
        async with response:
            reader = _Reader(known={t["function"]["name"] for t in payload.get("tools", ())})
            kind = response.content_type
            if kind == "application/json":
                for chunk in reader.whole(loads(await response.read())):
                    yield chunk
            elif kind in ("text/event-stream", "text/plain", "application/octet-stream"):
                async for line in _data_lines(response):
                    for chunk in reader.delta(loads(line)):
                        yield chunk
            else:
                raise NotTheApi(f"the answer is {kind}, no event stream")
            for chunk in reader.end(payload):
                yield chunk

    async def models(self) -> list[str]:
        """The ids that `GET /models` lists; raises one of `LIBRARY_ERRORS`."""
        body = await self._server.get("models")
        try:
            return [str(model["id"]) for model in body["data"]]
        except (KeyError, TypeError) as error:
            raise NotTheApi("GET /models does not answer with a list of models") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    async def _open(self, payload: JsonObject) -> aiohttp.ClientResponse:
        """The response, its status checked; asked again without `stream_options` by a server that knows none."""
        try:
            return await self._post(payload)
        except HttpFault as fault:
            if fault.status not in (400, 422) or not self._asks_usage or "stream_options" not in fault.message:
                raise
        self._asks_usage = False
        return await self._post(payload)

    async def _post(self, payload: JsonObject) -> aiohttp.ClientResponse:
        config = self._config
        streams = self._streams and (self._streams_tool_calls or "tools" not in payload)
        body = {"model": config.model, "stream": streams, **config.options, **payload}
        if self._asks_usage and streams:
            body["stream_options"] = {"include_usage": True}
        return await self._server.post("chat/completions", orjson.dumps(body))


# --- the event stream -----------------------------------------------------------------------------------------------


async def _data_lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The `data:` of each event, up to `[DONE]`."""
    async for line in lines(response):
        if line.startswith(b"data:"):
            data = line[5:].strip()
            if data == b"[DONE]":
                yield b'{"done": true}'
                return
            if data:
                yield data
        elif line[:1] in b"<{" and line.strip():
            raise NotTheApi("the answer is no event stream")


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
        if content := text_of(message.get("content")):
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
            details = usage.get("prompt_tokens_details")
            cached = details.get("cached_tokens") if isinstance(details, dict) else None
            return Tokens(given, made, cache_read_tokens=cached if isinstance(cached, int) else 0)
        # About four characters a token, where a server does not count.
        written = self._characters + sum(partial.size for partial in self._partials.values())
        return Tokens(len(orjson.dumps(payload)) // 4, -(-written // 4), estimated=True)


def _finished(partial: _Partial, known: set[str]) -> list[Call]:
    """The call, or the calls that a server ran together in one."""
    if partial.given is not None:
        return [Call(ToolCall(partial.id, partial.name, partial.given))]
    text = "".join(partial.arguments)
    names = split_names(partial.name, known)
    if len(names) > 1:
        objects = json_objects(text)
        if len(objects) == len(names):
            return [Call(ToolCall(partial.id if n == 0 else "", name, objects[n])) for n, name in enumerate(names)]
        if len(set(names)) > 1:
            return [Call(ToolCall(partial.id, partial.name, {}), "several calls run together; send them one by one")]
    args, problem = read_arguments(text)
    return [Call(ToolCall(partial.id, names[0] if names else partial.name, args), problem)]


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
