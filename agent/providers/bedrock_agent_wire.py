"""InvokeAgent over aiohttp: a managed Bedrock agent's events made into ours.

The agent thinks, calls and searches behind this call; its traces tell of it. What it hands back (return of control) is
proposed to us like any model's call, and answered in the next request of the same AWS session.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from yarl import URL

from agent.providers.base import Call, Chunk, Cited, Note, Reasoning, Searched, Text, Tokens, Where
from agent.providers.event_stream import CONTENT_TYPE, Frame, fault_of, frames
from agent.providers.http import LIBRARY_ERRORS, HttpServer, NotTheApi, StreamBroken, counted, dict_of, list_of, loads
from agent.transcript import JsonObject, ToolCall
from tools.executors.aws import AwsError, AwsService
from tools.lambda_events import BadEvent, path_of, read_event, typed

# What of an agent's traces is passed on, of one call.
MAX_THOUGHTS = 20_000
MAX_SEARCHES = 20
MAX_CALLS = 5
AGENT_ERRORS: tuple[type[Exception], ...] = (*LIBRARY_ERRORS, AwsError)
NOT_OURS_TO_CONFIRM = "the agent would run this itself after a yes, and only what runs here can be confirmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BedrockAgentConfig:
    """Which agent, and how AWS is found where its usual chain is not meant.

    `session_attributes` maps the names that the agent's functions read to facts of ours
    (`agent.providers.bedrock_agent.FACTS`). `options` are further members of each request's body.
    """

    agent_id: str
    alias_id: str
    model: str = "bedrock-agent"
    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    session_attributes: Mapping[str, str] = field(default_factory=dict)
    options: JsonObject = field(default_factory=dict)
    connect_timeout_s: float = 5.0
    idle_timeout_s: float = 60.0  # between two events, and before the first
    where: Where = field(default_factory=lambda: Where("AWS_PROFILE", "AWS_REGION", "LLM_MODEL"))


class InvokeAgentWire:
    """One alias of one agent. Payloads are as `agent.providers.bedrock_agent.render_bedrock_agent` makes them."""

    def __init__(self, config: BedrockAgentConfig, *, streams: bool = True) -> None:
        self.aws = AwsService(
            "bedrock-agent-runtime",
            signing_name="bedrock",
            region=config.region,
            profile=config.profile,
            endpoint_url=config.endpoint_url,
        )
        self._path = f"/agents/{config.agent_id}/agentAliases/{config.alias_id}/sessions/"
        self._added = {
            "enableTrace": True,
            "streamingConfigurations": {"streamFinalResponse": streams},
            **config.options,
        }
        self._server = HttpServer(
            "",
            connect_timeout_s=config.connect_timeout_s,
            idle_timeout_s=config.idle_timeout_s,
        )
        self._opening = asyncio.Lock()

    async def stream(self, payload: JsonObject, *, deadline_s: float) -> AsyncIterator[Chunk]:
        """Send and yield chunks; raises one of `AGENT_ERRORS`. Closing it does not stop what AWS has begun."""
        response = await self._post(payload["session"], {**self._added, **payload["body"]})
        async with response:
            if response.content_type != CONTENT_TYPE:
                raise NotTheApi(f"the answer is {response.content_type}, no event stream")
            reader = _Reader(payload)
            async for some in frames(response):
                for frame in some:
                    for chunk in reader.event(frame):
                        yield chunk
            for chunk in reader.end():
                yield chunk

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    async def _post(self, session: str, body: JsonObject) -> aiohttp.ClientResponse:
        if not self.aws.url:
            async with self._opening:
                if not self.aws.url:
                    await self.aws.open()
        url = f"{self.aws.url}{self._path}{session.replace(':', '%3A')}/text"
        data = orjson.dumps(body)
        headers = await self.aws.signed("POST", url, data, {"content-type": "application/json"})
        return await self._server.post(URL(url, encoded=True), data, headers)


# --- the answer -----------------------------------------------------------------------------------------------------


class _Reader:
    """Makes chunks of one answer's events."""

    def __init__(self, payload: JsonObject) -> None:
        self._payload = payload
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._text = ""
        self._answered = False
        self._room = MAX_THOUGHTS
        self._searches = 0
        self._query = ""
        self._usage: Tokens | None = None

    def event(self, frame: Frame) -> Iterator[Chunk]:
        """The chunks of one event; raises what an exception in the stream stands for."""
        if frame.kind != "event":
            raise fault_of(frame)
        match frame.name:
            case "chunk":
                yield from self._chunk(loads(frame.payload))
            case "trace":
                yield from self._trace(dict_of(loads(frame.payload).get("trace")))
            case "returnControl":
                yield from self._return_of_control(loads(frame.payload))

    def end(self) -> Iterator[Chunk]:
        """The usage; raises when there was no answer."""
        if not self._answered:
            raise StreamBroken("the agent's answer broke off")
        # About four characters a token, where no trace counts.
        estimate = Tokens(len(orjson.dumps(self._payload)) // 4, -(-len(self._text) // 4), estimated=True)
        yield self._usage or estimate

    def _chunk(self, body: JsonObject) -> Iterator[Chunk]:
        self._answered = True
        try:
            text = self._decode(base64.b64decode(body.get("bytes") or "", validate=True))
        except (ValueError, TypeError) as error:
            raise StreamBroken("a piece of the answer is no base64") from error
        self._text += text
        if text:
            yield Text(text)
        for citation in list_of(dict_of(body.get("attribution")).get("citations")):
            yield from self._citation(dict_of(citation))

    def _citation(self, citation: JsonObject) -> Iterator[Cited]:
        part = dict_of(dict_of(citation.get("generatedResponsePart")).get("textResponsePart"))
        said, span = str(part.get("text") or ""), dict_of(part.get("span"))
        start = _position(span.get("start"))
        # A span counts from where its piece of the answer began, and ends with its last character or after it.
        if said and (found := self._text.find(said, start)) >= 0:
            start, end = found, found + len(said)
        else:
            start = min(start, len(self._text))
            end = min(max(start, _position(span.get("end"))), len(self._text))
        for reference in map(dict_of, list_of(citation.get("retrievedReferences"))):
            metadata = dict_of(reference.get("metadata"))
            span_text = self._text[start:end]
            yield Cited(_document(reference), _section(metadata), start, end, _score(reference, metadata), span_text)

    def _trace(self, trace: JsonObject) -> Iterator[Chunk]:
        """What a trace tells: thoughts, look-ups, tokens. The members of its parts are unions of one."""
        for part in map(dict_of, trace.values()):
            output = dict_of(part.get("modelInvocationOutput"))
            self._count(dict_of(dict_of(output.get("metadata")).get("usage")))
            reasoning = dict_of(dict_of(output.get("reasoningContent")).get("reasoningText"))
            for thought in (reasoning, dict_of(part.get("rationale")), dict_of(part.get("event"))):
                yield from self._thought(thought.get("text"))
            yield from self._invocation(dict_of(part.get("invocationInput")))
            found = dict_of(part.get("observation")).get("knowledgeBaseLookupOutput")
            if isinstance(found, dict) and self._searches < MAX_SEARCHES:
                self._searches += 1
                yield Searched(self._query, len(list_of(found.get("retrievedReferences"))))

    def _invocation(self, given: JsonObject) -> Iterator[Chunk]:
        """A look-up, whose result comes later, or a function that AWS runs for the agent."""
        if lookup := dict_of(given.get("knowledgeBaseLookupInput")):
            self._query = str(lookup.get("text") or "")[:500]
        own = dict_of(given.get("actionGroupInvocationInput"))
        if own and own.get("executionType") != "RETURN_CONTROL":
            name = own.get("function") or own.get("apiPath") or ""
            yield from self._thought(f"(Runs {own.get('actionGroupName')} {name}.)\n")

    def _thought(self, text: Any) -> Iterator[Reasoning]:
        if isinstance(text, str) and (text := text[: self._room]):
            self._room -= len(text)
            yield Reasoning(text)

    def _count(self, usage: JsonObject) -> None:
        before = self._usage or Tokens(0, 0)
        given = counted(usage.get("inputTokens"), before.input_tokens)
        made = counted(usage.get("outputTokens"), before.output_tokens)
        if given is not None and made is not None:
            self._usage = Tokens(given, made)

    def _return_of_control(self, body: JsonObject) -> Iterator[Chunk]:
        """The calls, and what the answer to them has to name."""
        self._answered = True
        inputs: list[JsonObject] = []
        for one in map(dict_of, list_of(body.get("invocationInputs"))):
            given = dict_of(one.get("functionInvocationInput")) or dict_of(one.get("apiInvocationInput"))
            kind = str(given.get("actionInvocationType") or "RESULT")
            try:
                yield _call(given, kind, self._payload["tools"])
            except BadEvent as error:
                raise StreamBroken(f"control was returned without a call: {error}") from error
            named = {key: given[key] for key in _NAMES if given.get(key)}
            inputs.append({"names": named, "asks": kind})
        if not 1 <= len(inputs) <= MAX_CALLS or not body.get("invocationId"):
            raise StreamBroken(f"control was returned with {len(inputs)} calls")
        yield Note(
            {
                "model": self._payload["agent"],
                "session": self._payload["session"],
                "invocation": str(body["invocationId"]),
                "inputs": inputs,
            }
        )


_NAMES = ("actionGroup", "function", "apiPath", "httpMethod", "agentId")


def _call(given: JsonObject, kind: str, tools: Mapping[str, JsonObject]) -> Call:
    """A call as ours, whatever its name: the gate knows what is a tool of ours."""
    asked = read_event(given)
    operation = asked.operation
    path = operation.path.strip("/").replace("-", "_")
    name = operation.function or next((tool for tool in tools if path_of(tool) == operation.path), path)
    args = typed(asked.arguments, tools.get(name, {}))
    return Call(ToolCall("", name, args), NOT_OURS_TO_CONFIRM if kind == "USER_CONFIRMATION" else None)


def _document(reference: JsonObject) -> str:
    """Where a passage is from: the one address or id that its location holds."""
    location = dict_of(reference.get("location"))
    places = (value for place in location.values() if isinstance(place, dict) for value in place.values())
    source = dict_of(reference.get("metadata")).get("x-amz-bedrock-kb-source-uri")
    return str(next(places, None) or source or location.get("type") or "unknown")


def _section(metadata: JsonObject) -> str:
    """The part of the document, as far as its metadata name one."""
    named = metadata.get("section") or metadata.get("title")
    page = metadata.get("x-amz-bedrock-kb-document-page-number")
    return str(named) if named else f"page {page:g}" if isinstance(page, int | float) else ""


def _score(reference: JsonObject, metadata: JsonObject) -> float:
    score = reference.get("score", metadata.get("score"))
    return float(score) if isinstance(score, int | float) else 0.0


def _position(value: Any) -> int:
    return max(0, value) if isinstance(value, int) else 0
