"""Bedrock's Converse and ConverseStream over aiohttp: the request, the answer, and what some models do not take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from agent.providers.arguments import read_arguments
from agent.providers.base import Begun, Call, Chunk, Note, Reasoning, Text, Tokens, Where
from agent.providers.event_stream import CONTENT_TYPE, Frame, Frames, fault_of
from agent.providers.http import (
    LIBRARY_ERRORS,
    MAX_ARGUMENTS,
    MAX_PARTS,
    Declined,
    Endless,
    HttpFault,
    HttpServer,
    NotTheApi,
    StreamBroken,
    body_of,
    counted,
    dict_of,
    index_of,
    list_of,
    loads,
    to_the_end,
)
from agent.providers.think_tags import ThinkTags
from agent.transcript import JsonObject, ToolCall
from tools.executors.aws import AwsError, AwsService

CUT_OFF = " …"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """A guardrail that reads along. With `async`, text is shown while it is still being judged."""

    id: str
    version: str = "DRAFT"
    trace: Literal["disabled", "enabled", "enabled_full"] = "disabled"
    stream_mode: Literal["sync", "async"] = "sync"


@dataclass(frozen=True, slots=True, kw_only=True)
class BedrockConfig:
    """Which model, and how AWS is found where its usual chain is not meant.

    `model` is the id of a model or of an inference profile, or an ARN. `options` are further members of each request
    (`inferenceConfig`, `additionalModelRequestFields`, `performanceConfig`, …). `api_key` is a Bedrock API key, which
    takes the place of credentials.
    """

    model: str
    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    api_key: str = field(default="", repr=False)
    guardrail: Guardrail | None = None
    prompt_caching: bool = True
    options: JsonObject = field(default_factory=dict)
    connect_timeout_s: float = 5.0
    idle_timeout_s: float = 60.0  # between two pieces of the answer, and before the first
    where: Where = field(default_factory=lambda: Where("AWS_PROFILE", "AWS_REGION", "LLM_MODEL"))


class StoppedByRule(Exception):
    """A guardrail let nothing of the answer through, and does not say in its place what is to be said."""


class OutOfContext(Exception):
    """The answer ended because conversation and answer are longer than the model can read."""


class Unusable(Exception):
    """The model stopped without an answer that can be used."""


CONVERSE_ERRORS: tuple[type[Exception], ...] = (*LIBRARY_ERRORS, AwsError, StoppedByRule, OutOfContext, Unusable)


class ConverseWire:
    """One model. Payloads are `{system, messages, toolConfig}` as `agent.providers.bedrock` renders them."""

    def __init__(
        self,
        config: BedrockConfig,
        *,
        streams: bool = True,
        streams_tool_calls: bool = True,
        max_output_tokens: int | None = None,
    ) -> None:
        self.aws = AwsService(
            "bedrock-runtime",
            signing_name="bedrock",
            region=config.region or region_of(config.model),
            profile=config.profile,
            endpoint_url=config.endpoint_url,
            api_key=config.api_key,
        )
        self._config = config
        self._streams = streams
        self._streams_tool_calls = streams_tool_calls
        self._added = _added(config, max_output_tokens)
        self._path = f"/model/{quote(config.model, safe='')}"
        self._server = HttpServer(
            "",
            secret=config.api_key,
            connect_timeout_s=config.connect_timeout_s,
            idle_timeout_s=config.idle_timeout_s,
        )
        self._opening = asyncio.Lock()
        self._refused: frozenset[str] = frozenset()  # parts of requests that this model does not know

    async def stream(self, payload: JsonObject, *, deadline_s: float) -> AsyncIterator[Chunk]:
        """Send and yield chunks; raises one of `CONVERSE_ERRORS`."""
        response = await self._send(payload)
        async with response:
            reader = _Reader(self._config.model, self._server.hide)
            if response.content_type == CONTENT_TYPE:
                frames = Frames(response)
                while not reader.done and (batch := await frames.some()):
                    for chunk in reader.read(batch):
                        yield chunk
            elif response.content_type == "application/json":
                for chunk in reader.whole(loads(await body_of(response))):
                    yield chunk
            else:
                raise NotTheApi(f"the answer is {response.content_type}, no event stream")
            for chunk in reader.end(payload):
                yield chunk
            await to_the_end(response)

    async def try_out(self) -> None:
        """Ask for one token, with the guardrail if there is one; raises one of `CONVERSE_ERRORS`."""
        messages = [{"role": "user", "content": [{"text": "Hi"}]}]
        body = {**self._added, "messages": messages, "inferenceConfig": {"maxTokens": 1}}
        body.pop("additionalModelRequestFields", None)
        async with await self._post("/converse", body) as response:
            if not dict_of(loads(await body_of(response)).get("output")):
                raise NotTheApi("the answer holds no message")

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    async def _send(self, payload: JsonObject) -> aiohttp.ClientResponse:
        """The response, its status checked; asked again without what this model turns out not to know."""
        while True:
            refused = self._refused
            path, body = self._request(payload, refused)
            try:
                return await self._post(path, body)
            except HttpFault as fault:
                part = _not_known(fault, body, path)
                if part is None or part in refused:
                    raise
                self._refused |= {part}

    def _request(self, payload: JsonObject, refused: frozenset[str]) -> tuple[str, JsonObject]:
        streams = self._streams and "streams" not in refused
        if "toolConfig" in payload and (not self._streams_tool_calls or "tool streams" in refused):
            streams = False
        body = {**self._added, **payload}
        if refused:
            body = _without(body, refused)
        guardrail = self._config.guardrail
        if guardrail is not None and streams:
            body["guardrailConfig"] = {**body["guardrailConfig"], "streamProcessingMode": guardrail.stream_mode}
        more = body.get("additionalModelRequestFields")
        if more and _must_not_think(payload["messages"]):
            body["additionalModelRequestFields"] = {key: more[key] for key in more if key not in _THINKING}
        return "/converse-stream" if streams else "/converse", body

    async def _post(self, path: str, body: JsonObject) -> aiohttp.ClientResponse:
        await self.open()
        url = self.aws.url + self._path + path
        data = orjson.dumps(body)
        headers = await self.aws.signed("POST", url, data, {"content-type": "application/json"})
        return await self._server.post(URL(url, encoded=True), data, headers)

    async def open(self) -> None:
        """Find AWS, once; `AwsError` says what is missing."""
        if not self.aws.url:
            async with self._opening:
                if not self.aws.url:
                    await self.aws.open()


def region_of(model: str) -> str | None:
    """The region that an ARN names."""
    pieces = model.split(":")
    return (pieces[3] or None) if len(pieces) > 5 and pieces[0] == "arn" else None


# --- the request ----------------------------------------------------------------------------------------------------

_THINKING = ("thinking", "reasoning_config")


def _added(config: BedrockConfig, max_output_tokens: int | None) -> JsonObject:
    """What every request of this model has besides the conversation."""
    body = dict(config.options)
    # Bedrock sets the most an answer may have aside from the quota, and that is a great deal where nothing is said.
    if max_output_tokens is not None and "additionalModelRequestFields" not in body:
        body["inferenceConfig"] = {"maxTokens": max_output_tokens, **body.get("inferenceConfig", {})}
    if config.guardrail is not None:
        body["guardrailConfig"] = {
            "guardrailIdentifier": config.guardrail.id,
            "guardrailVersion": config.guardrail.version,
            "trace": config.guardrail.trace,
        }
    return body


def _must_not_think(messages: list[JsonObject]) -> bool:
    """Whether the assistant's last message has calls and not its thoughts, which a model that thinks would demand."""
    said: list[JsonObject] = next((each["content"] for each in reversed(messages) if each["role"] == "assistant"), [])
    return any("toolUse" in block for block in said) and "reasoningContent" not in said[0]


def _not_known(fault: HttpFault, body: JsonObject, path: str) -> str | None:
    """The part of a request that this model does not know, as the refusal says."""
    if fault.status not in (400, 403):
        return None
    words = fault.message.lower()
    if "cach" in words and "cachePoint" in str(body.get("system")) + str(body.get("toolConfig")):
        return "tool cache" if "tool" in words and "cachePoint" in str(body.get("toolConfig")) else "cache"
    if "status" in words and "toolresult" in words.replace(" ", ""):
        return "status"
    if path == "/converse-stream" and "stream" in words and any(w in words for w in ("support", "unsupported")):
        return "tool streams" if "tool" in words else "streams"
    return None


def _without(body: JsonObject, refused: frozenset[str]) -> JsonObject:
    """The body without what the model does not know."""
    if "cache" in refused:
        body["system"] = [part for part in body.get("system", ()) if "cachePoint" not in part]
    if "toolConfig" in body and refused & {"cache", "tool cache"}:
        tools = [tool for tool in body["toolConfig"]["tools"] if "cachePoint" not in tool]
        body["toolConfig"] = {**body["toolConfig"], "tools": tools}
    if "status" in refused:
        body["messages"] = [
            {**message, "content": [_without_status(block) for block in message["content"]]}
            for message in body["messages"]
        ]
    return body


def _without_status(block: JsonObject) -> JsonObject:
    if "toolResult" not in block:
        return block
    return {"toolResult": {key: value for key, value in block["toolResult"].items() if key != "status"}}


# --- the answer -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Partial:
    """A block of which pieces are still to come: a call, or thoughts (`data` is what the model keeps to itself)."""

    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    size: int = 0
    given: JsonObject | None = None  # arguments that came as an object
    signature: str = ""
    data: str = ""

    def add(self, text: str) -> None:
        self.size += len(text)
        self.pieces.append(text)

    def argue(self, text: str) -> None:
        self.add(text)
        if self.size > MAX_ARGUMENTS:
            raise Endless("the arguments of a call do not end")

    def keep(self, signature: str, data: str) -> None:
        self.signature += signature
        self.data += data
        if len(self.signature) + len(self.data) > MAX_ARGUMENTS:
            raise Endless("what a thought keeps to itself does not end")


class _Reader:
    """Makes chunks of the answer's events."""

    def __init__(self, model: str, hide: Callable[[str], str]) -> None:
        self.done = False
        self._model = model
        self._hide = hide
        self._calls: dict[Any, _Partial] = {}
        self._begun = False  # it has been told that there is a call
        self._thoughts: dict[Any, _Partial] = {}
        self._tags = ThinkTags()
        self._usage: JsonObject = {}
        self._stop = ""
        self._characters = 0
        self._said = False  # there was text, and not only thoughts

    def read(self, batch: Sequence[Frame]) -> list[Chunk]:
        """The chunks of some events, text that arrived together in one; raises what an exception stands for."""
        chunks: list[Chunk] = []
        texts: list[str] = []
        passes = self._tags.is_idle
        for frame in batch:
            if frame.name == "contentBlockDelta":
                body = loads(frame.payload)
                text = _text_of(body) if passes else ""
                if text:
                    texts.append(text)
                    continue
                found = self._delta(index_of(body.get("contentBlockIndex")), dict_of(body.get("delta")))
                passes = self._tags.is_idle
            else:
                found = self._event(frame)
                if self.done:
                    break
            if texts and found:
                chunks.append(self._plain(texts))
                texts = []
            chunks += found
        if texts:
            chunks.append(self._plain(texts))
        if len(self._calls) + len(self._thoughts) > MAX_PARTS:
            raise Endless(f"more than {MAX_PARTS} calls and thoughts")
        return chunks

    def _plain(self, texts: list[str]) -> Text:
        text = "".join(texts)
        self._characters += len(text)
        self._said = True
        return Text(text)

    def _event(self, frame: Frame) -> list[Chunk]:
        """The chunks of an event that is no delta; it may be the end of them."""
        kind, name, payload = frame
        if kind != "event":
            raise fault_of(frame, self._hide)
        if name == "contentBlockStart":
            body = loads(payload)
            if use := dict_of(dict_of(body.get("start")).get("toolUse")):
                self._start(index_of(body.get("contentBlockIndex")), use)
                return self._first_call()
        elif name == "messageStop":
            self._stop = str(loads(payload).get("stopReason") or "end_turn")
        elif name == "metadata":
            self._take_usage(loads(payload))
            self.done = bool(self._stop)
        return []

    def whole(self, body: JsonObject) -> list[Chunk]:
        """The chunks of an answer that was not streamed."""
        message = dict_of(dict_of(body.get("output")).get("message"))
        if not message:
            raise NotTheApi("the answer holds no message")
        self._stop = str(body.get("stopReason") or "end_turn")
        self._take_usage(body)
        chunks: list[Chunk] = []
        for index, block in enumerate(map(dict_of, list_of(message.get("content")))):
            if use := dict_of(block.get("toolUse")):
                self._start(index, use)
            elif thoughts := dict_of(block.get("reasoningContent")):
                said = dict_of(thoughts.get("reasoningText"))
                chunks += self._delta(index, {"reasoningContent": {**thoughts, **said}})
            else:
                chunks += self._delta(index, block)
        return chunks

    def end(self, payload: JsonObject) -> Iterator[Chunk]:
        """The usage, the calls and what the model is to be given again; raises when there is no usable answer."""
        yield from self._told(self._tags.settle())
        if not self._stop:
            raise StreamBroken("the answer broke off")
        yield self._tokens(payload)  # it costs what it costs, usable or not
        self._refuse_unusable()
        if self._stop in ("max_tokens", "content_filtered") and self._said and not self._calls:
            yield Text(CUT_OFF)
        if self._stop in _RULES:
            return
        yield from self._finished()
        blocks = [block for each in self._thoughts.values() if (block := _kept(each))]
        if self._calls and blocks:
            yield Note({"model": self._model, "blocks": blocks})

    def _delta(self, index: Any, delta: JsonObject) -> list[Chunk]:
        text = delta.get("text")
        if text and isinstance(text, str):
            self._characters += len(text)
            return self._told(self._tags.feed(text))
        if use := dict_of(delta.get("toolUse")):
            if isinstance(piece := use.get("input"), str):
                self._calls.setdefault(index, _Partial()).argue(piece)
                return self._first_call()
        elif thought := dict_of(delta.get("reasoningContent")):
            return self._think(self._thoughts.setdefault(index, _Partial()), thought)
        return []

    def _first_call(self) -> list[Chunk]:
        if self._begun:
            return []
        self._begun = True
        return [Begun()]

    def _told(self, found: Sequence[Text | Reasoning]) -> list[Chunk]:
        self._said = self._said or any(isinstance(each, Text) for each in found)
        return [*found]

    def _start(self, index: Any, use: JsonObject) -> None:
        given = use.get("input")
        partial = _Partial(
            str(use.get("toolUseId") or ""),
            str(use.get("name") or ""),
            given=given if isinstance(given, dict) else None,
        )
        if isinstance(given, str):
            partial.argue(given)
        self._calls[index] = partial

    def _think(self, partial: _Partial, thought: JsonObject) -> list[Chunk]:
        partial.keep(str(thought.get("signature") or ""), str(thought.get("redactedContent") or ""))
        if not (text := str(thought.get("text") or "")):
            return []
        partial.add(text)
        return [self._tags.think(text)]

    def _take_usage(self, body: JsonObject) -> None:
        self._usage = dict_of(body.get("usage")) or self._usage

    def _refuse_unusable(self) -> None:
        if self._stop == "model_context_window_exceeded":
            raise OutOfContext("the model came to the end of its context window")
        if self._stop.startswith("malformed"):
            raise Unusable(f"the model stopped with {self._stop}")
        if self._stop == "guardrail_intervened" and not self._said:
            raise StoppedByRule("the guardrail let nothing through")
        if self._stop == "content_filtered" and not self._said:
            raise Declined("the provider's filter ended the answer")
        if self._stop == "max_tokens" and not self._said and not self._calls:
            raise Unusable(
                "the model used up its output tokens before it said anything; raise inferenceConfig.maxTokens"
            )

    def _finished(self) -> list[Call]:
        calls = [_finished(partial) for partial in self._calls.values()]
        if calls and self._stop == "max_tokens":
            # Whatever there is of its arguments may read as whole.
            calls[-1] = Call(
                ToolCall(calls[-1].call.id, calls[-1].call.name, {}), "the call was cut off; make it shorter"
            )
        return calls

    def _tokens(self, payload: JsonObject) -> Tokens:
        given, made = counted(self._usage.get("inputTokens")), counted(self._usage.get("outputTokens"))
        if given is not None and made is not None:
            read, written = (counted(self._usage.get(f"cache{what}InputTokens")) or 0 for what in ("Read", "Write"))
            return Tokens(given + read + written, made, cache_read_tokens=read, cache_write_tokens=written)
        # About four characters a token, where nothing is counted.
        size = self._characters + sum(each.size for each in (*self._calls.values(), *self._thoughts.values()))
        return Tokens(len(orjson.dumps(payload)) // 4, -(-size // 4), estimated=True)


def _text_of(body: JsonObject) -> str:
    """The text of a delta that needs no further look, as nearly all are."""
    try:
        text = body["delta"]["text"]
    except (KeyError, TypeError):
        return ""
    return text if isinstance(text, str) and "<" not in text and "[" not in text else ""


# What is left of such an answer may be shown, and nothing of it may be done.
_RULES = ("guardrail_intervened", "content_filtered")


def _finished(partial: _Partial) -> Call:
    if partial.given is not None:
        return Call(ToolCall(partial.id, partial.name, partial.given))
    args, problem = read_arguments("".join(partial.pieces))
    return Call(ToolCall(partial.id, partial.name, args), problem)


def _kept(partial: _Partial) -> JsonObject | None:
    """Thoughts as the model takes them back; unsigned ones it does not."""
    if partial.data:
        return {"redactedContent": partial.data}
    text = "".join(partial.pieces)
    if not partial.signature or "\0" in text:  # no store takes a zero, and a changed thought is refused
        return None
    return {"reasoningText": {"text": text, "signature": partial.signature}}
