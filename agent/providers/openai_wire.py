"""OpenAI Chat Completions over aiohttp: the request, the event stream, and the quirks of servers that speak it.

Works against OpenAI, vLLM, llama.cpp, LM Studio and Ollama's compatible route.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from agent.providers.arguments import bare_name, json_objects, read_arguments, split_names
from agent.providers.base import Begun, Call, Chunk, Note, Tokens, Where
from agent.providers.http import (
    MAX_ARGUMENTS,
    MAX_NAME,
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
    list_of,
    loads,
    text_of,
    to_the_end,
    too_long,
)
from agent.providers.line_reader import LineReader
from agent.providers.think_tags import ThinkTags
from agent.transcript import JsonObject, ToolCall

# Where servers put what a model thinks: DeepSeek, SGLang, llama.cpp and older vLLM; newer vLLM, Ollama, OpenRouter.
THOUGHTS = ("reasoning_content", "reasoning")


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

    def __init__(
        self,
        config: OpenAIConfig,
        *,
        streams: bool = True,
        streams_tool_calls: bool = True,
        parallel_tool_calls: bool = True,
        keeps_thoughts: bool = False,
        limit: JsonObject | None = None,
    ) -> None:
        """`keeps_thoughts` notes them beside calls, to be given back; `limit` is `{member: tokens}` of each answer."""
        self._config = config
        self._streams = streams
        self._streams_tool_calls = streams_tool_calls
        self._parallel_tool_calls = parallel_tool_calls
        self._keeps_thoughts = keeps_thoughts
        self._limit = limit if limit and not _LIMITS & config.options.keys() else {}
        self._server = HttpServer(
            config.base_url,
            headers=config.headers,
            secret=config.api_key,
            connect_timeout_s=config.connect_timeout_s,
            idle_timeout_s=config.idle_timeout_s,
        )
        self._refused: set[str] = set()  # members of a request that this server does not take
        self._parses_thoughts = False  # it has told thoughts from text before

    async def stream(self, payload: JsonObject, *, deadline_s: float) -> AsyncIterator[Chunk]:
        """Send and yield chunks; raises one of `LIBRARY_ERRORS`."""
        async with await self._open(payload) as response:
            reader = _Reader(self._config.model, _names(payload), self._server.hide)
            if self._keeps_thoughts:
                reader.expect_thoughts(in_text=not self._parses_thoughts)
            kind = response.content_type
            if kind == "application/json":
                for chunk in reader.whole(loads(await body_of(response))):
                    yield chunk
            elif kind in ("text/event-stream", "text/plain", "application/octet-stream"):
                lines = Lines(response)
                while not reader.done and (batch := await _more(lines, reader.has_finished)):
                    for chunk in reader.read(batch):
                        yield chunk
            else:
                raise NotTheApi(f"the answer is {kind}, no event stream")
            self._parses_thoughts |= reader.parses_thoughts
            for chunk in reader.end(payload):
                yield chunk
            if reader.done:
                await to_the_end(response)

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
        """The response, its status checked; asked again without what the server says it does not know."""
        while True:
            body = self._body(payload)
            try:
                return await self._server.post("chat/completions", orjson.dumps(body))
            except HttpFault as fault:
                named = {name for name in _OPTIONAL if name in body and name in fault.message}
                if fault.status not in (400, 422) or not named or too_long(fault):
                    raise
                self._refused |= named

    def _body(self, payload: JsonObject) -> JsonObject:
        config = self._config
        streams = self._streams and (self._streams_tool_calls or "tools" not in payload)
        body = {"model": config.model, "stream": streams, **self._limit, **config.options, **payload}
        if streams:
            body["stream_options"] = {"include_usage": True}
        if "tools" in payload and not self._parallel_tool_calls:
            body["parallel_tool_calls"] = False
        for name in self._refused & body.keys():
            value = body.pop(name)
            for other in _LIMITS - self._refused if name in _LIMITS else ():
                body[other] = value
        return body


# Older servers know the one, newer models of OpenAI the other.
_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})
_COUNTS_S = 0.5
_OPTIONAL = ("stream_options", "parallel_tool_calls", "max_completion_tokens", "max_tokens")


async def _more(lines: Lines, is_over: bool) -> Sequence[bytes]:
    """More lines. Once the answer is over they come at once or never: some servers leave the stream open."""
    if not is_over:
        return await lines.some()
    try:
        async with asyncio.timeout(_COUNTS_S):
            return await lines.some()
    except TimeoutError:
        return ()


def _names(payload: JsonObject) -> set[str]:
    return {tool["function"]["name"] for tool in payload.get("tools", ())}


# --- the event stream -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Partial:
    """A tool call of which pieces are still to come."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    size: int = 0
    given: JsonObject | None = None  # arguments that came as an object

    def add(self, call_id: str, name: str, arguments: Any, known: Collection[str]) -> None:
        self.id = self.id or call_id
        self._name(name, known)
        if isinstance(arguments, dict):
            self.given = arguments
        elif isinstance(arguments, str):
            self.size += len(arguments)
            if self.size > MAX_ARGUMENTS:
                raise Endless("the arguments of a call do not end")
            self.arguments.append(arguments)

    def _name(self, name: str, known: Collection[str]) -> None:
        """Some servers send a name in pieces, others the whole of it with every piece, or more of it each time."""
        if not name or name == self.name:
            return
        longer = name in known and self.name not in known and name.startswith(self.name)
        self.name = name if longer else self.name + name
        if len(self.name) > MAX_NAME:
            raise Endless("the name of a call does not end")

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing of the arguments."""
        if self.given is not None:
            return True
        try:
            return isinstance(json.loads("".join(self.arguments)), dict)
        except (ValueError, RecursionError):
            return False


_STREAM_STATUS = {"rate_limit": 429, "insufficient_quota": 429, "invalid_request": 400, "authentication": 401}
_ODD = (b"e", b"{", b"<")  # how lines begin that may be errors, or no stream of events
_BESIDE_TEXT = ("tool_calls", "function_call", *THOUGHTS)


def _choice(body: JsonObject) -> JsonObject | None:
    """The first choice; there is one, for only one is asked for."""
    choices = list_of(body.get("choices"))
    return choices[0] if choices and isinstance(choices[0], dict) else None


class _Reader(LineReader):
    """Makes chunks of the stream's events."""

    def __init__(self, model: str, known: set[str], hide: Callable[[str], str]) -> None:
        super().__init__()
        self.parses_thoughts = False
        self._model = model
        self._known = known
        self._keeps_thoughts = False
        self._hide = hide
        self._partials: dict[Any, _Partial] = {}
        self._last: Any = None
        self._usage: JsonObject | None = None
        self._finish: str | None = None
        self._thoughts: dict[str, list[str]] = {}  # by the member in which they came

    def expect_thoughts(self, *, in_text: bool) -> None:
        """Note thoughts for the next call; `in_text`: the text may begin with some, without an opening tag."""
        self._keeps_thoughts = True
        self._tags = ThinkTags(thinks=in_text)

    @property
    def has_finished(self) -> bool:
        """Whether the model has: what may follow are the counts and the end of the stream."""
        return self._finish is not None

    def _body(self, line: bytes) -> JsonObject | None:
        if not line.startswith(b"data:"):
            if line[:1] in _ODD:
                self._other(line)
            return None
        body = data_of(line)
        if body is None:
            self.done = b"[DONE]" in line
        return body

    def _plain_text(self, body: JsonObject) -> str | None:
        try:
            choice = body["choices"][0]
            delta = choice["delta"]
            text = delta["content"]
        except (KeyError, IndexError, TypeError):
            return None
        if type(text) is not str or "<" in text or "[" in text or choice.get("finish_reason") or body.get("usage"):
            return None
        if len(delta) > 1 and any(delta.get(name) for name in _BESIDE_TEXT):
            return None
        return text

    def _event(self, body: JsonObject) -> list[Chunk]:
        """The chunks of one event, whatever it holds."""
        if body.get("error"):
            raise self._fault(body["error"])
        if isinstance(body.get("usage"), dict):
            self._usage = body["usage"]
        choice = _choice(body)
        if choice is None:
            return []
        self._stopped(choice)
        return self._message(dict_of(choice.get("delta")))

    def _other(self, line: bytes) -> None:
        """A line that is no data is nothing, unless it is an error, or no event stream at all."""
        if line.startswith((b"error:", b"{")):
            data = line.removeprefix(b"error:")
            body = loads(data)
            if data is line and not body.get("error"):
                raise NotTheApi("the answer is no event stream")
            raise self._fault(body.get("error") or body)
        if line.startswith(b"<"):
            raise NotTheApi("the answer is no event stream")

    def whole(self, body: JsonObject) -> list[Chunk]:
        """The chunks of an answer that was not streamed."""
        choice = _choice(body)
        if body.get("error"):
            raise self._fault(body["error"])
        if choice is None:
            raise NotTheApi("the answer holds no choices")
        self._usage = body["usage"] if isinstance(body.get("usage"), dict) else None
        self.done = True
        self._stopped(choice)
        message = dict_of(choice.get("message"))
        content = text_of(message.get("content"))
        if "</think>" in content and "<think>" not in content:
            self._tags = ThinkTags(thinks=True)
        return self._message(message)

    def _stopped(self, choice: JsonObject) -> None:
        reason = choice.get("finish_reason")
        if reason and isinstance(reason, str):
            self._finish = reason

    def _message(self, message: JsonObject) -> list[Chunk]:
        chunks: list[Chunk] = []
        for name in THOUGHTS:
            thought = message.get(name)
            if thought and isinstance(thought, str):
                self._characters += len(thought)
                self.parses_thoughts = True
                chunks += self._tags.settle()
                self._thoughts.setdefault(name, []).append(thought)
                chunks.append(self._tags.think(thought))
                break  # some send both, with the same text
        if content := text_of(message.get("content")) or text_of(message.get("refusal")):
            self._characters += len(content)
            chunks += self._tags.feed(content)
        for piece in list_of(message.get("tool_calls")):
            if isinstance(piece, dict):
                self._piece(piece)
        if isinstance(legacy := message.get("function_call"), dict):
            self._piece({"index": "function_call", "function": legacy})
        if self._partials and not self._begun:
            self._begun = True
            chunks.append(Begun())
        return chunks

    def _piece(self, piece: JsonObject) -> None:
        call_id = piece["id"] if isinstance(piece.get("id"), str) else ""
        function = dict_of(piece.get("function"))
        name, arguments = function.get("name"), function.get("arguments")
        name = bare_name(name) if isinstance(name, str) else ""
        key = self._key(index_of(piece.get("index")), call_id, name, arguments)
        self._last = key
        self._partials.setdefault(key, _Partial()).add(call_id, name, arguments, self._known)
        if len(self._partials) > MAX_PARTS:
            raise Endless(f"more than {MAX_PARTS} calls")

    def _key(self, index: Any, call_id: str, name: str, arguments: Any) -> Any:
        """Which call a piece belongs to."""
        key = index
        if key is None and call_id in self._partials:
            key = call_id
        elif key is None:
            goes_on = self._last is not None and not name
            key = self._last if goes_on else call_id or len(self._partials)
        known = self._partials.get(key)
        if known is None:
            return key
        if call_id and known.id and known.id != call_id:
            return (key, call_id)  # a server that numbers all its parallel calls 0
        last = self._last
        if isinstance(last, tuple) and last[0] == key and not call_id:
            key, known = last, self._partials[last]
        if name and arguments and known.is_whole:
            return (index, len(self._partials))  # the same without ids, or with the same one for all
        return key

    def _fault(self, error: Any) -> HttpFault:
        """An error object inside a stream that began with 200."""
        if not isinstance(error, dict):
            error = {"message": str(error)}
        code = error.get("code")
        if isinstance(code, int) and 400 <= code < 600:
            status = code
        else:
            words: Sequence[str] = (str(error.get("type")), str(code))
            status = next((s for key, s in _STREAM_STATUS.items() if any(key in word for word in words)), 500)
        fault = HttpFault(status, self._hide(str(error.get("message", "error in the stream")))[:300])
        # LM Studio says in the stream, without a status, that the conversation does not fit.
        return HttpFault(400, fault.message) if status == 500 and too_long(fault) else fault

    def end(self, payload: JsonObject) -> list[Chunk]:
        """The calls and the usage; raises when the answer broke off."""
        if (not self.done and self._finish is None) or self._finish == "error":
            raise StreamBroken("the answer broke off")
        if self._finish == "content_filter":
            raise Declined("the answer was stopped by the provider's content filter")
        chunks: list[Chunk] = [*self._tags.settle()]
        for partial in self._partials.values():
            chunks += _finished(partial, self._known)
        if self._keeps_thoughts and self._partials and self._thoughts:
            kept = {name: "".join(texts) for name, texts in self._thoughts.items()}
            chunks.append(Note({"model": self._model, **kept}))
        chunks.append(self._tokens(payload))
        return chunks

    def _tokens(self, payload: JsonObject) -> Tokens:
        usage = self._usage or {}
        given, made = counted(usage.get("prompt_tokens")), counted(usage.get("completion_tokens"))
        if given is not None and made is not None:
            cached = counted(dict_of(usage.get("prompt_tokens_details")).get("cached_tokens"))
            return Tokens(given, made, cache_read_tokens=min(cached or 0, given))
        # About four characters a token, where a server does not count.
        written = self._characters + sum(partial.size for partial in self._partials.values())
        return Tokens(len(orjson.dumps(payload)) // 4, -(-written // 4), estimated=True)


def _finished(partial: _Partial, known: set[str]) -> list[Call]:
    """The call, or the calls that a server ran together in one."""
    names = split_names(partial.name, known)
    name = names[0] if names else partial.name
    if partial.given is not None:
        return [Call(ToolCall(partial.id, name, partial.given))]
    text = "".join(partial.arguments)
    objects = json_objects(text)
    if len(names) > 1 and len(objects) == len(names):
        return [Call(ToolCall(partial.id if n == 0 else "", each, objects[n])) for n, each in enumerate(names)]
    if len(set(names)) > 1:
        return [Call(ToolCall(partial.id, partial.name, {}), "several calls run together; send them one by one")]
    if len(objects) > 1 and all(each == objects[0] for each in objects):
        return [Call(ToolCall(partial.id, name, objects[0]))]  # sent piece by piece, and once more at the end
    args, problem = read_arguments(text)
    return [Call(ToolCall(partial.id, name, args), problem)]
