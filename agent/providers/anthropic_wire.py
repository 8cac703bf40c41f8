"""Anthropic's Messages API over aiohttp: the request, its event stream, and what they mean."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from agent.providers.arguments import read_arguments
from agent.providers.base import Begun, Call, Chunk, Note, Tokens, Where
from agent.providers.http import (
    MAX_ARGUMENTS,
    MAX_PARTS,
    Declined,
    Endless,
    HttpFault,
    HttpServer,
    Lines,
    NotTheApi,
    StreamBroken,
    body_of,
    counted,
    data_of,
    dict_of,
    index_of,
    loads,
    short,
    to_the_end,
)
from agent.providers.line_reader import LineReader
from agent.transcript import JsonObject, ToolCall

API_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicConfig:
    """Where the model is. `base_url` is without the version; one that ends with `/v1` is understood.

    `options` are further members of each request's body (`thinking`, `temperature`, ...).
    """

    model: str
    base_url: str = "https://api.anthropic.com"
    api_key: str = field(default="", repr=False)
    connect_timeout_s: float = 5.0
    idle_timeout_s: float = 60.0
    options: JsonObject = field(default_factory=dict)
    where: Where = field(default_factory=Where)

    @property
    def server(self) -> str:
        """The base address of the API."""
        return self.base_url.rstrip("/").removesuffix("/v1")


class MessagesWire:
    """One server. Payloads are `{system, messages, tools}` as `agent.providers.anthropic` renders them."""

    def __init__(
        self,
        config: AnthropicConfig,
        *,
        max_tokens: int,
        streams: bool = True,
        streams_tool_calls: bool = True,
        parallel_tool_calls: bool = True,
    ) -> None:
        """`max_tokens` bounds each answer."""
        self._config = config
        self._max_tokens = max_tokens
        self._streams = streams
        self._streams_tool_calls = streams_tool_calls
        self._parallel_tool_calls = parallel_tool_calls
        self._server = HttpServer(
            config.server,
            headers={"anthropic-version": API_VERSION, **({"x-api-key": config.api_key} if config.api_key else {})},
            secret=config.api_key,
            connect_timeout_s=config.connect_timeout_s,
            idle_timeout_s=config.idle_timeout_s,
        )

    async def stream(self, payload: JsonObject, *, deadline_s: float) -> AsyncIterator[Chunk]:
        """Send and yield chunks; raises one of `LIBRARY_ERRORS`."""
        async with await self._server.post("v1/messages", orjson.dumps(self._body(payload))) as response:
            reader = _Reader(self._config.model, self._server.hide)
            if response.content_type == "application/json":
                for chunk in reader.whole(loads(await body_of(response))):
                    yield chunk
            elif response.content_type == "text/event-stream":
                lines = Lines(response)
                while not reader.done and (batch := await lines.some()):
                    for chunk in reader.read(batch):
                        yield chunk
            else:
                raise NotTheApi(f"the answer is {response.content_type}, no event stream")
            for chunk in reader.end(payload):
                yield chunk
            await to_the_end(response)

    async def models(self) -> list[str]:
        """The ids that `GET /v1/models` lists; raises one of `LIBRARY_ERRORS`."""
        body = await self._server.get("v1/models?limit=1000")
        try:
            return [str(model["id"]) for model in body["data"]]
        except (KeyError, TypeError) as error:
            raise NotTheApi("GET /v1/models does not answer with a list of models") from error

    async def model(self) -> str:
        """The id that the configured name stands for (`…-latest`); raises one of `LIBRARY_ERRORS`."""
        return str((await self._server.get(f"v1/models/{self._config.model}")).get("id", ""))

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    def _body(self, payload: JsonObject) -> JsonObject:
        config = self._config
        streams = self._streams and (self._streams_tool_calls or "tools" not in payload)
        head = {"model": config.model, "max_tokens": self._max_tokens, "stream": streams}
        body: JsonObject = {**head, **config.options, **payload}
        if "tools" in body and not self._parallel_tool_calls:
            body["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True, **body.get("tool_choice", {})}
        return body


# --- the event stream -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Block:
    """One content block of which pieces are still to come. `body` is as it began."""

    body: JsonObject
    pieces: list[str] = field(default_factory=list)  # of the thought, or of a call's arguments
    size: int = 0
    signature: str = ""

    def add(self, piece: str) -> None:
        self.size += len(piece)
        self.pieces.append(piece)

    def sign(self, piece: str) -> None:
        self.signature += piece
        if len(self.signature) > MAX_ARGUMENTS:
            raise Endless("the signature of a thought does not end")


class _Reader(LineReader):
    """Makes chunks of the stream's events."""

    def __init__(self, model: str, hide: Callable[[str], str]) -> None:
        super().__init__()
        self._model = model
        self._hide = hide
        self._blocks: dict[Any, _Block] = {}
        self._stop: str | None = None
        self._usage: dict[str, int] = {}

    def _body(self, line: bytes) -> JsonObject | None:
        if line.startswith(b"data:"):
            return data_of(line)  # some proxies end every stream as OpenAI does; that is nothing here
        if line[:1] in (b"<", b"{"):
            raise NotTheApi("the answer is no event stream")
        return None

    def _plain_text(self, body: JsonObject) -> str | None:
        if body.get("type") != "content_block_delta":
            return None
        try:
            text = body["delta"]["text"]
        except (KeyError, TypeError):
            return None
        return None if type(text) is not str or "<" in text or "[" in text else text

    def _event(self, body: JsonObject) -> list[Chunk]:
        """The chunks of one event; kinds that we do not know (`ping`, later ones) are none."""
        match body.get("type"):
            case "content_block_delta" if isinstance(delta := body.get("delta"), dict):
                return self._delta(index_of(body.get("index")), delta)
            case "content_block_start" if isinstance(block := body.get("content_block"), dict):
                return self._begin(index_of(body.get("index")), block)
            case "message_start" if isinstance(message := body.get("message"), dict):
                self._count(message.get("usage"))
            case "message_delta":
                self._count(body.get("usage"))
                self._stopped(dict_of(body.get("delta")))
            case "message_stop":
                self.done = True
            case "error":
                raise self._fault(body.get("error"))
        return []

    def _stopped(self, said: JsonObject) -> None:
        reason = said.get("stop_reason")
        if reason and isinstance(reason, str):
            self._stop = reason

    def _begin(self, index: Any, block: JsonObject) -> list[Chunk]:
        if block.get("type") == "text":
            return self._text(block.get("text"))
        self._blocks[index] = _Block(block, signature=str(block.get("signature") or ""))
        if len(self._blocks) > MAX_PARTS:
            raise Endless(f"more than {MAX_PARTS} blocks")
        if block.get("type") == "tool_use" and not self._begun:
            self._begun = True
            return [Begun()]
        return self._thought(self._blocks[index], block.get("thinking"))

    def _delta(self, index: Any, delta: JsonObject) -> list[Chunk]:
        if delta.get("type") == "text_delta":
            return self._text(delta.get("text"))
        block = self._blocks.get(index)
        if block is None:
            return []
        match delta.get("type"):
            case "input_json_delta" if isinstance(piece := delta.get("partial_json"), str):
                block.add(piece)
                if block.size > MAX_ARGUMENTS:
                    raise Endless("the arguments of a call do not end")
            case "thinking_delta":
                return self._thought(block, delta.get("thinking"))
            case "signature_delta":
                block.sign(str(delta.get("signature") or ""))
        return []

    def _text(self, text: Any) -> list[Chunk]:
        if not text or not isinstance(text, str):
            return []
        self._characters += len(text)
        return [*self._tags.feed(text)]

    def _thought(self, block: _Block, text: Any) -> list[Chunk]:
        if not text or not isinstance(text, str):
            return []
        block.add(text)
        return [self._tags.think(text)]

    def whole(self, body: JsonObject) -> list[Chunk]:
        """The chunks of an answer that was not streamed."""
        content = body.get("content")
        if body.get("type") == "error":
            raise self._fault(body.get("error"))
        if not isinstance(content, list):
            raise NotTheApi("the answer holds no content")
        self._count(body.get("usage"))
        self._stopped(body)
        self.done = True
        return [chunk for n, block in enumerate(content) if isinstance(block, dict) for chunk in self._begin(n, block)]

    def end(self, payload: JsonObject) -> list[Chunk]:
        """The calls, the private state and the usage; raises when the answer broke off or was refused."""
        if not self.done and self._stop is None:
            raise StreamBroken("the answer broke off")
        if self._stop == "refusal":
            raise Declined("the provider's filter refused to answer")
        if self._stop == "model_context_window_exceeded":
            raise HttpFault(400, "the answer came to the end of the model's context", code=self._stop)
        chunks: list[Chunk] = [*self._tags.settle()]
        chunks += [_call(block) for block in self._blocks.values() if block.body.get("type") == "tool_use"]
        thoughts = [thought for block in self._blocks.values() if (thought := _kept(block))]
        if thoughts and any(isinstance(chunk, Call) for chunk in chunks):
            chunks.append(Note({"model": self._model, "blocks": thoughts}))
        chunks.append(self._tokens(payload))
        return chunks

    def _count(self, usage: Any) -> None:
        """Counts grow with the answer; the last ones hold."""
        if isinstance(usage, dict):
            self._usage |= {name: count for name, said in usage.items() if (count := counted(said)) is not None}

    def _tokens(self, payload: JsonObject) -> Tokens:
        given, made = self._usage.get("input_tokens"), self._usage.get("output_tokens")
        if given is None or made is None:
            # About four characters a token, where a server does not count.
            written = self._characters + sum(block.size for block in self._blocks.values())
            return Tokens(len(orjson.dumps(payload)) // 4, -(-written // 4), estimated=True)
        read = self._usage.get("cache_read_input_tokens", 0)
        wrote = self._usage.get("cache_creation_input_tokens", 0)
        return Tokens(given + read + wrote, made, cache_read_tokens=read, cache_write_tokens=wrote)

    def _fault(self, error: Any) -> HttpFault:
        """An error in a stream that began with 200, under the status that it stands for."""
        if not isinstance(error, dict):
            return HttpFault(500, self._hide(str(error))[:300])
        kind = str(error.get("type"))
        message = self._hide(str(error.get("message", kind)))[:300]
        return HttpFault(_STATUS.get(kind, 500), message, code=short(kind, self._hide))


_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def _call(block: _Block) -> Call:
    body = block.body
    call_id, name, given = str(body.get("id") or ""), str(body.get("name") or ""), body.get("input")
    if not block.pieces and isinstance(given, dict):
        return Call(ToolCall(call_id, name, given))
    args, problem = read_arguments("".join(block.pieces))
    return Call(ToolCall(call_id, name, args), problem)


def _kept(block: _Block) -> JsonObject | None:
    """A thought as it has to come back: whole, with its signature."""
    if block.body.get("type") == "redacted_thinking":
        return block.body
    if block.body.get("type") == "thinking" and block.signature:
        return {"type": "thinking", "thinking": "".join(block.pieces), "signature": block.signature}
    return None
