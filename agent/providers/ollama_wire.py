"""Ollama's own chat API over aiohttp: the request, the lines that come back, and what they mean."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from agent.providers.arguments import bare_name, read_arguments
from agent.providers.base import Begun, Call, Chunk, Note, Tokens, Where
from agent.providers.http import (
    MAX_PARTS,
    Endless,
    HttpFault,
    HttpServer,
    Lines,
    NotTheApi,
    StreamBroken,
    counted,
    dict_of,
    list_of,
    loads,
    to_the_end,
    too_long,
)
from agent.providers.line_reader import LineReader
from agent.transcript import JsonObject, ToolCall

# Members of the request itself; every other option goes into its `options`.
OF_THE_REQUEST = ("think", "keep_alive", "format", "truncate", "shift")


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaConfig:
    """Where the model is. `base_url` is the server's, without a path; one that ends with `/v1` or `/api` is understood.

    `options` are the model's parameters (`temperature`, `num_predict`, ...) and members of the request (`think`,
    `keep_alive`, `format`).
    """

    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    connect_timeout_s: float = 5.0
    idle_timeout_s: float = 120.0  # loading a model is silence
    options: JsonObject = field(default_factory=dict)
    where: Where = field(default_factory=Where)

    @property
    def server(self) -> str:
        """The base address of the API."""
        return self.base_url.rstrip("/").removesuffix("/v1").removesuffix("/api")


class OllamaWire:
    """One server. Payloads are `{messages, tools}` as `agent.providers.ollama` renders them."""

    def __init__(
        self,
        config: OllamaConfig,
        *,
        context_tokens: int,
        streams: bool = True,
        streams_tool_calls: bool = True,
        keeps_thoughts: bool = False,
        limit: int | None = None,
    ) -> None:
        """`context_tokens` is the size of the context to load the model with; `limit` bounds an answer, in tokens."""
        self._config = config
        self._streams = streams
        self._streams_tool_calls = streams_tool_calls
        self._keeps_thoughts = keeps_thoughts
        self._server = HttpServer(
            config.server,
            headers={"authorization": f"Bearer {config.api_key}"} if config.api_key else None,
            secret=config.api_key,
            connect_timeout_s=config.connect_timeout_s,
            idle_timeout_s=config.idle_timeout_s,
        )
        given = config.options
        self._options = {
            # Without it Ollama takes a small context of its own and drops the beginning of the conversation.
            "num_ctx": context_tokens,
            **({"num_predict": limit} if limit is not None else {}),
            **{name: value for name, value in given.items() if name not in OF_THE_REQUEST},
        }
        # Newer servers then refuse what does not fit; older ones do not know the words and cut.
        self._members = {"truncate": False, "shift": False, **{k: v for k, v in given.items() if k in OF_THE_REQUEST}}

    async def stream(self, payload: JsonObject, *, deadline_s: float) -> AsyncIterator[Chunk]:
        """Send and yield chunks; raises one of `LIBRARY_ERRORS`."""
        streams = self._streams and (self._streams_tool_calls or "tools" not in payload)
        body = {
            "model": self._config.model,
            "stream": streams,
            "options": self._options,
            **self._members,
            **payload,
        }
        async with await self._server.post("api/chat", orjson.dumps(body)) as response:
            if response.content_type not in ("application/x-ndjson", "application/json"):
                raise NotTheApi(f"the answer is {response.content_type}, no JSON")
            reader = _Reader(self._config.model, self._keeps_thoughts, self._server.hide)
            lines = Lines(response)
            while not reader.done and (batch := await lines.some()):
                for chunk in reader.read(batch):
                    yield chunk
            for chunk in reader.end(payload):
                yield chunk
            await to_the_end(response)

    async def models(self) -> list[str]:
        """The names of the models that are there; raises one of `LIBRARY_ERRORS`."""
        body = await self._server.get("api/tags")
        try:
            return [str(model["name"]) for model in body["models"]]
        except (KeyError, TypeError) as error:
            raise NotTheApi("GET /api/tags does not answer with a list of models") from error

    async def show(self, model: str) -> JsonObject:
        """What the server knows of a model; raises one of `LIBRARY_ERRORS`."""
        return await self._server.get("api/show", body=orjson.dumps({"model": model}))

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()


_BLANK = (b"", b"\r")


class _Reader(LineReader):
    """Makes chunks of the answer's lines."""

    def __init__(self, model: str, keeps_thoughts: bool, hide: Callable[[str], str]) -> None:
        super().__init__()
        self._model = model
        self._keeps_thoughts = keeps_thoughts
        self._hide = hide
        self._calls: list[Call] = []
        self._thoughts: list[str] = []
        self._last: JsonObject = {}

    def _body(self, line: bytes) -> JsonObject | None:
        return None if line in _BLANK else loads(line)

    def _plain_text(self, body: JsonObject) -> str | None:
        if body.get("done"):
            return None
        try:
            message = body["message"]
            text = message["content"]
        except (KeyError, TypeError):
            return None
        return None if len(message) > 2 or type(text) is not str or "<" in text or "[" in text else text

    def _event(self, body: JsonObject) -> list[Chunk]:
        if "error" in body:
            raise self._fault(body["error"])
        if body.get("done"):
            self._last, self.done = body, True
        message = body.get("message")
        if not isinstance(message, dict):
            return []
        chunks: list[Chunk] = []
        thought = message.get("thinking")
        if thought and isinstance(thought, str):
            self._thoughts.append(thought)
            self._characters += len(thought)
            chunks.append(self._tags.think(thought))
        text = message.get("content")
        if text and isinstance(text, str):
            self._characters += len(text)
            chunks += self._tags.feed(text)
        for call in list_of(message.get("tool_calls")):
            self._calls.append(_call(call))
        if self._calls and not self._begun:
            self._begun = True
            chunks.append(Begun())
        if len(self._calls) > MAX_PARTS:
            raise Endless(f"more than {MAX_PARTS} calls")
        return chunks

    def end(self, payload: JsonObject) -> list[Chunk]:
        """The calls and the usage; raises when the answer broke off."""
        if not self.done:
            raise StreamBroken("the answer broke off")
        chunks: list[Chunk] = [*self._tags.settle(), *self._calls]
        if self._keeps_thoughts and self._calls and self._thoughts:
            chunks.append(Note({"model": self._model, "thinking": "".join(self._thoughts)}))
        chunks.append(self._tokens(payload))
        return chunks

    def _tokens(self, payload: JsonObject) -> Tokens:
        given, made = counted(self._last.get("prompt_eval_count")), counted(self._last.get("eval_count"))
        if given is not None and made is not None:
            return Tokens(given, made)
        # Older servers leave out what they had in their cache. About four characters are a token.
        return Tokens(
            len(orjson.dumps(payload)) // 4 if given is None else given,
            -(-self._characters // 4) if made is None else made,
            estimated=True,
        )

    def _fault(self, error: Any) -> HttpFault:
        """An error in the stream; it has no status of its own."""
        message = self._hide(str(error.get("message") if isinstance(error, dict) else error))[:300]
        fault = HttpFault(500, message)
        if too_long(fault):
            return HttpFault(400, message)
        if "too many requests" in message:
            return HttpFault(429, message)
        return HttpFault(503, message) if "busy" in message else fault


def _call(call: Any) -> Call:
    """A call as it came: whole, mostly without an id, its arguments an object (or, from proxies, a text of JSON)."""
    function = dict_of(call).get("function")
    if not isinstance(function, dict):
        return Call(ToolCall("", "", {}), "a call without a function")
    call_id, name, args = call.get("id"), function.get("name"), function.get("arguments")
    problem = None
    if isinstance(args, str):
        args, problem = read_arguments(args)
    elif args is None:
        args = {}
    elif not isinstance(args, dict):
        args, problem = {}, "the arguments are no JSON object"
    return Call(ToolCall(call_id if isinstance(call_id, str) else "", bare_name(str(name or "")), args), problem)
