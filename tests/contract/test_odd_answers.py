"""Answers that no server should give: each wire reads them, or fails with an error that its provider names."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agent.providers.anthropic import AnthropicConfig, anthropic
from agent.providers.base import Begun, Call, Chunk, Cited, Note, Provider, Reasoning, Searched, Text, Tokens
from agent.providers.bedrock import BedrockConfig, bedrock
from agent.providers.bedrock_agent import BedrockAgentConfig, bedrock_agent
from agent.providers.http import HttpFault, NotTheApi, StreamBroken
from agent.providers.ollama import OllamaConfig, ollama
from agent.providers.openai import OpenAIConfig, openai
from tests.contract.model_calls import request
from tests.doubles.model_service import event_stream

KEY = "sk-do-not-show-me"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Events = Sequence[tuple[str, dict[str, Any]]]


def _sse(events: Events) -> bytes:
    return b"".join(b"data: %b\n\n" % orjson.dumps(body) for _, body in events)


def _lines(events: Events) -> bytes:
    return b"".join(orjson.dumps(body) + b"\n" for _, body in events)


def _frames(events: Events) -> bytes:
    return b"".join(event_stream.event(name, body) for name, body in events)


@dataclass(frozen=True)
class Row:
    """A wire, and an answer as it should be. `counted`: where its last event tells the tokens read, which are five."""

    made: Callable[[str], Provider]
    kind: str
    encoded: Callable[[Events], bytes]
    answer: Events
    counted: tuple[str, ...]


def _in(path: str, value: Any) -> dict[str, Any]:
    """The value as the only member of objects in each other."""
    first, _, rest = path.partition(".")
    return {first: _in(rest, value) if rest else value}


def _piece(finish: str | None = None, **delta: Any) -> tuple[str, dict[str, Any]]:
    return "", {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def _block(index: int, name: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    kind = "content_block_start" if name == "content_block" else "content_block_delta"
    return "", {"type": kind, "index": index, name: body}


def _part(index: int, path: str, value: Any) -> tuple[str, dict[str, Any]]:
    name = "contentBlockStart" if path.startswith("start") else "contentBlockDelta"
    return name, {"contentBlockIndex": index, **_in(path, value)}


def _trace(path: str, value: Any) -> tuple[str, dict[str, Any]]:
    return "trace", _in(f"trace.orchestrationTrace.{path}", value)


def _control(kind: str, **call: Any) -> tuple[str, dict[str, Any]]:
    return "returnControl", {"invocationId": "i", "invocationInputs": [{kind: {"actionGroup": "g", **call}}]}


FUNCTION = {"name": "list_projects", "arguments": "{}"}
PARAMETERS = [{"name": "status", "value": "open"}]
CITATION = {
    **_in("generatedResponsePart.textResponsePart", {"text": "Hi", "span": {"start": 0, "end": 1}}),
    "retrievedReferences": [{**_in("location.web.url", "x"), "metadata": {"section": "2"}, "score": 0.5}],
}
ROWS = {
    "openai": Row(
        lambda url: openai(OpenAIConfig(base_url=url, model="m", api_key=KEY)),
        "text/event-stream",
        _sse,
        (
            _piece(reasoning_content="hm", content=""),
            _piece(content=[{"type": "text", "text": "Hi <b"}]),
            _piece(tool_calls=[{"index": 0, "id": "a", "type": "function", "function": FUNCTION}]),
            _piece("tool_calls", function_call=FUNCTION, refusal="no"),
            (
                "",
                {
                    "usage": {
                        "prompt_tokens": 5,
                        "completion_tokens": 2,
                        **_in("prompt_tokens_details.cached_tokens", 1),
                    }
                },
            ),
        ),
        ("usage", "prompt_tokens"),
    ),
    "ollama": Row(
        lambda url: ollama(OllamaConfig(base_url=url, model="m")),
        "application/x-ndjson",
        _lines,
        (
            ("", {"message": {"role": "assistant", "content": "Hi", "thinking": "hm"}, "done": False}),
            ("", {"message": {"content": "", "tool_calls": [{"id": "a", "function": FUNCTION}]}, "done": False}),
            ("", {"message": {"content": ""}, "done": True, "prompt_eval_count": 5, "eval_count": 2}),
        ),
        ("prompt_eval_count",),
    ),
    "anthropic": Row(
        lambda url: anthropic(AnthropicConfig(base_url=url, model="m", api_key=KEY)),
        "text/event-stream",
        _sse,
        (
            ("", {"type": "message_start", **_in("message.usage.cache_read_input_tokens", 0)}),
            _block(0, "content_block", {"type": "thinking", "thinking": "", "signature": "s"}),
            _block(0, "delta", {"type": "thinking_delta", "thinking": "hm"}),
            _block(0, "delta", {"type": "signature_delta", "signature": "s"}),
            _block(1, "content_block", {"type": "text", "text": "Hi <b"}),
            _block(2, "content_block", {"type": "tool_use", "id": "a", "name": "list_projects", "input": {}}),
            _block(2, "delta", {"type": "input_json_delta", "partial_json": "{}"}),
            (
                "",
                {
                    "type": "message_delta",
                    **_in("delta.stop_reason", "tool_use"),
                    "usage": {"input_tokens": 5, "output_tokens": 2},
                },
            ),
            ("", {"type": "message_stop"}),
        ),
        ("usage", "input_tokens"),
    ),
    "bedrock": Row(
        lambda url: bedrock(BedrockConfig(model="anthropic.m-v1:0", region="eu-west-1", endpoint_url=url)),
        event_stream.CONTENT_TYPE,
        _frames,
        (
            ("messageStart", {"role": "assistant"}),
            _part(0, "delta.reasoningContent", {"text": "hm", "signature": "s"}),
            _part(1, "delta.text", "Hi <b"),
            _part(2, "start.toolUse", {"toolUseId": "a", "name": "list_projects"}),
            _part(2, "delta.toolUse.input", "{}"),
            ("messageStop", {"stopReason": "tool_use"}),
            ("metadata", {"usage": {"inputTokens": 5, "outputTokens": 2, "cacheReadInputTokens": 0}}),
        ),
        ("usage", "inputTokens"),
    ),
    "bedrock_agent": Row(
        lambda url: bedrock_agent(BedrockAgentConfig(agent_id="A", alias_id="B", region="eu-west-1", endpoint_url=url)),
        event_stream.CONTENT_TYPE,
        _frames,
        (
            _trace("invocationInput.knowledgeBaseLookupInput.text", "floors"),
            _trace("observation.knowledgeBaseLookupOutput.retrievedReferences", [{}]),
            ("chunk", {"bytes": "SGk=", **_in("attribution.citations", [CITATION])}),
            _control("functionInvocationInput", function="list_projects", parameters=PARAMETERS),
            _control(
                "apiInvocationInput",
                apiPath="/list-projects",
                requestBody={"content": {"application/json": {"properties": PARAMETERS}}},
            ),
            _trace("modelInvocationOutput.metadata.usage", {"inputTokens": 5, "outputTokens": 2}),
        ),
        ("trace", "orchestrationTrace", "modelInvocationOutput", "metadata", "usage", "inputTokens"),
    ),
}
EACH = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)


@asynccontextmanager
async def serving(row: Row, *answers: bytes | Answer, **headers: str) -> AsyncIterator[Provider]:
    """The wire's provider, whose n-th request gets the n-th answer: these bytes, or what the function does."""
    left = iter(answers)

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        this = next(left)
        if not isinstance(this, bytes):
            return await this(request)
        return web.Response(body=this, headers={"content-type": row.kind, **headers})

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    async with TestServer(app) as server:
        provider = row.made(str(server.make_url("/")).rstrip("/"))
        try:
            yield provider
        finally:
            await provider.wire.close()


async def said(provider: Provider) -> list[Chunk]:
    """The chunks of one call; raises what the wire raises."""
    stream = provider.wire.stream(provider.render(request()), deadline_s=5)
    return [chunk async for chunk in stream]


def changed(answer: Events, at: int, path: Sequence[Any], value: Any) -> Events:
    """The answer with another value at this place of this event."""
    name, body = answer[at]
    body = orjson.loads(orjson.dumps(body))
    inner = body
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return [*answer[:at], (name, body), *answer[at + 1 :]]


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """The paths to all members of a value."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (key,)
        yield from ((key, *rest) for rest in places(inner))


@EACH
async def test_counts_that_cannot_be_are_as_good_as_not_said(row: Row) -> None:
    """Negative, too great, no number at all: each makes an estimate. What can be is believed."""
    at = max(n for n, (_, body) in enumerate(row.answer) if row.counted[0] in body)
    wrong = [-1, 10**9, 2**64 - 1, True, "7", 7.5, [7], None]
    answers = [row.answer, *(changed(row.answer, at, row.counted, count) for count in wrong)]
    async with serving(row, *map(row.encoded, answers)) as provider:
        tokens = [next(chunk for chunk in await said(provider) if isinstance(chunk, Tokens)) for _ in answers]
    assert (tokens[0].input_tokens, tokens[0].output_tokens) == (5, 2)
    assert [each.estimated for each in tokens] == [False, *(True for _ in wrong)]
    assert all(0 < each.input_tokens < 10_000 for each in tokens)


WRONG: list[Any] = [None, 5, -1, 2.5, "x", "ü", True, [], [0], [{}], [None], {}, {"0": {"a": [1]}}]


@EACH
async def test_members_of_any_shape_are_read_or_refused(row: Row) -> None:
    """Each member in turn is something else: chunks come that can be used, or an error that the provider names."""
    answers = [
        changed(row.answer, at, path, wrong)
        for at, (_, body) in enumerate(row.answer)
        for path in places(body)
        for wrong in WRONG
    ]
    read = 0
    async with serving(row, *map(row.encoded, answers)) as provider:
        for answer in answers:
            try:
                chunks = await said(provider)
            except provider.raises:
                continue
            except Exception as error:
                raise AssertionError(f"{error!r} of {answer}") from error
            assert all(map(usable, chunks)), answer
            read += 1
    assert read > len(answers) / 3


def usable(chunk: Chunk) -> bool:
    """Whether the members are what they are said to be."""
    match chunk:
        case Text(text) | Reasoning(text):
            return isinstance(text, str)
        case Call(call):
            return isinstance(call.id, str) and isinstance(call.name, str) and isinstance(call.args, dict)
        case Tokens():
            return chunk.input_tokens >= 0 and chunk.output_tokens >= 0
        case Cited():
            return isinstance(chunk.document_id, str) and 0 <= chunk.start <= chunk.end < 100
        case Searched():
            return isinstance(chunk.query, str) and chunk.passages >= 0
    return isinstance(chunk, Note | Begun)


@pytest.mark.parametrize(
    ("name", "after"), [("openai", b"x"), ("ollama", b"x"), ("anthropic", b"data: x\n"), ("bedrock", b"")]
)
async def test_what_comes_after_the_end_of_an_answer_does_not_matter(name: str, after: bytes) -> None:
    """More lines, of any sort; a connection that breaks, or stays as it is: the answer was complete."""
    row, held = ROWS[name], asyncio.Event()
    end = b"data: [DONE]\n\n" if name == "openai" else b""

    async def breaks_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": row.kind})
        await response.prepare(request)
        await response.write(row.encoded(row.answer) + end + after)
        assert request.transport
        request.transport.abort()
        return response

    async def stays(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": row.kind})
        await response.prepare(request)
        await response.write(row.encoded(row.answer) + end + after)
        await held.wait()
        return response

    async with serving(row, breaks_off, stays) as provider:
        for _ in range(2):
            async with asyncio.timeout(2):
                assert any(isinstance(chunk, Call) for chunk in await said(provider))
        held.set()


async def test_a_proxy_may_mark_the_end_of_anthropics_stream_as_openai_does() -> None:
    """Or send data without any, before or in place of the event that ends a message."""
    row = ROWS["anthropic"]
    marks = b"data: [DONE]\n\ndata:\n\n"
    answers = (
        row.encoded(row.answer[:-1]) + marks + row.encoded(row.answer[-1:]),
        row.encoded(row.answer[:-1]) + marks,
    )
    async with serving(row, *answers) as provider:
        assert await said(provider) == await said(provider)


def _endless(name: str) -> Iterator[Events]:
    """Answers of this wire that do not end: thoughts, calls, arguments; as the many pieces that a server would send."""
    long, many = "x" * 60_000, range(65)
    match name:
        case "openai":
            yield [_piece(reasoning=long)] * 4
            yield [_piece(content=f"<think>{long}")] * 4
            yield [_piece(tool_calls=[{"index": n, "function": FUNCTION}]) for n in many]
            yield [_piece(tool_calls=[{"index": 0, "function": {"name": letter * 600}}]) for letter in "yz"]
            yield [_piece(tool_calls=[{"index": 0, "function": {"arguments": long}}])] * 2
        case "ollama":
            yield [("", {"message": {"thinking": long}})] * 4
            yield [("", {"message": {"tool_calls": [{"function": FUNCTION}] * 65}})]
        case "anthropic":
            for kind, delta, member, times in (
                ("thinking", "thinking_delta", "thinking", 4),
                ("thinking", "signature_delta", "signature", 2),
                ("tool_use", "input_json_delta", "partial_json", 2),
            ):
                more = _block(0, "delta", {"type": delta, member: long})
                yield [_block(0, "content_block", {"type": kind}), *[more] * times]
            yield [_block(n, "content_block", {"type": "tool_use"}) for n in many]
        case "bedrock":
            yield [_part(0, "delta.reasoningContent.text", long)] * 4
            yield [_part(0, "delta.reasoningContent.redactedContent", long)] * 2
            yield [_part(0, "delta.toolUse.input", long)] * 2
            yield [_part(n, "start.toolUse", {"name": "x"}) for n in many]


@pytest.mark.parametrize("name", ["openai", "ollama", "anthropic", "bedrock"])
async def test_what_does_not_end_is_given_up(name: str) -> None:
    """Before it fills the memory; the answer is complete after it, and would be taken."""
    row = ROWS[name]
    answers = [[*events, *row.answer] for events in _endless(name)]
    async with serving(row, *map(row.encoded, answers)) as provider:
        for _ in answers:
            with pytest.raises(StreamBroken, match=r"do(es)? not end|more than 64"):
                await said(provider)


@pytest.mark.parametrize("name", ["openai", "anthropic", "bedrock"])
async def test_a_body_is_read_as_far_as_it_may_be_long(name: str) -> None:
    """Also one that is small until it is unpacked; none is asked for, and one of a moderate size is read."""
    row = replace(ROWS[name], kind="application/json")
    headers = {"content-type": row.kind, "content-encoding": "gzip"}
    asked: list[str] = []

    async def packed(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers["accept-encoding"])
        return web.Response(body=gzip.compress(b" " * 5_000_000), headers=headers)

    async with serving(row, b" " * 5_000_000, packed, b'{"error": "no"%s}' % (b" " * 3_000_000)) as provider:
        for _ in range(2):
            with pytest.raises(StreamBroken, match="more than 4000000 bytes"):
                await said(provider)
        with pytest.raises((NotTheApi, HttpFault)):
            await said(provider)
    assert asked == ["identity"]


async def test_no_part_of_a_secret_is_shown_wherever_an_error_is_cut() -> None:
    """Where a message ends after 300 characters, in a text that is no JSON, as a code; which is short in any case."""
    row = ROWS["anthropic"]
    edge = "x" * 295 + KEY
    long = {"type": "error", "error": {"type": f"{KEY} {'y' * 100}", "message": edge}}

    def fails(body: bytes) -> Answer:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(status=400, body=body, headers={"x-amzn-errortype": edge if body == b"" else ""})

        return answer

    answers = (fails(orjson.dumps(long)), fails(edge.encode()), fails(b""), row.encoded([("", long)]))
    async with serving(row, *answers) as provider:
        for _ in answers:
            with pytest.raises(HttpFault) as caught:
                await said(provider)
            assert "sk-do" not in f"{caught.value!r} {caught.value}"
            assert len(caught.value.code) <= 60
