"""The Chat Completions wire against servers on real sockets, with the habits that real servers have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from agent.errors import ModelBusy, ModelError, ModelRejected, ModelTimeout, ModelUnavailable
from agent.providers.base import Call, Chunk, Probe, Reasoning, Text, Tokens
from agent.providers.http import LIBRARY_ERRORS, classify
from agent.providers.openai import OpenAIConfig, openai
from agent.providers.openai_wire import ChatCompletionsWire
from tests.doubles.model_server import Answer, ModelServer, call_answer, delta, events, model_server, piece, status

KEY = "sk-do-not-show-me"
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("get_time_slots", "list_projects")
]
PAYLOAD = {"messages": [{"role": "user", "content": "hi"}], "tools": TOOLS}
USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


async def ask(server: ModelServer, **config: Any) -> list[Chunk]:
    """All chunks of one call; library errors as the typed ones."""
    wire = ChatCompletionsWire(OpenAIConfig(base_url=server.url, model="model-1", api_key=KEY, **config))
    try:
        return [chunk async for chunk in wire.stream(PAYLOAD, deadline_s=5)]
    except LIBRARY_ERRORS as error:
        raise classify(error) from error
    finally:
        await wire.close()


async def chunks_of(*answers: Answer) -> list[Chunk]:
    """What comes of a server that answers so."""
    async with model_server(*answers) as server:
        return await ask(server)


def calls_in(chunks: list[Chunk]) -> list[tuple[str, str, dict[str, Any], str | None]]:
    """(id, name, args, error) of every call."""
    return [(c.call.id, c.call.name, c.call.args, c.error) for c in chunks if isinstance(c, Call)]


async def test_text_reasoning_and_usage_stream() -> None:
    """Pieces arrive in order; the request names model, stream and usage, and carries the key."""
    async with model_server(
        events(delta(reasoning_content="hm"), delta("Hel"), delta("lo"), delta(finish="stop"), USAGE)
    ) as server:
        chunks = await ask(server)
    assert chunks == [Reasoning("hm"), Text("Hel"), Text("lo"), Tokens(7, 3)]
    assert server.requests[0]["model"] == "model-1"
    assert server.requests[0]["stream_options"] == {"include_usage": True}
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("size", [1, 3, 17])
async def test_pieces_may_be_cut_anywhere(size: int) -> None:
    """Bytes arrive in any pieces, also inside a character and with CRLF and comments between events."""
    answer = events(b": ping\r\n\r\n", delta("Zürich – 10 €"), b"event: x\r\n", delta(finish="stop"), USAGE, cut=size)
    assert await chunks_of(answer) == [Text("Zürich – 10 €"), Tokens(7, 3)]


async def test_parallel_calls_are_put_together_by_index_and_id() -> None:
    """Interleaved by index; all numbered 0 with ids of their own; without any index."""
    by_index = events(
        piece(0, "a", "get_time_slots", '{"da'),
        piece(1, "b", "list_projects", "{"),
        piece(0, None, None, 'te":"2026-03-16"}'),
        piece(1, None, None, "}"),
        delta(finish="tool_calls"),
    )
    all_zero = events(
        piece(0, "a", "get_time_slots", '{"date":'),
        piece(0, None, None, '"2026-03-16"}'),
        piece(0, "b", "list_projects", "{"),
        piece(0, None, None, "}"),
        delta(finish="tool_calls"),
    )
    no_index = events(
        piece(None, "a", "get_time_slots", '{"date":"2026-03-16"}'),
        piece(None, "b", "list_projects", {}),
        delta(finish="tool_calls"),
    )
    for answer in (by_index, all_zero, no_index):
        assert calls_in(await chunks_of(answer)) == [
            ("a", "get_time_slots", {"date": "2026-03-16"}, None),
            ("b", "list_projects", {}, None),
        ]


@pytest.mark.parametrize(
    ("raw", "args"),
    [
        ("", {}),
        ("null", {}),
        ('{"a": "x",}', {"a": "x"}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ("{'a': True}", {"a": True}),
        ('{"a": "two\nlines"}', {"a": "two\nlines"}),
    ],
)
async def test_arguments_are_repaired_where_no_doubt_is_left(raw: str, args: dict[str, Any]) -> None:
    """Fences, trailing commas, JSON in JSON, Python dicts."""
    assert calls_in(await chunks_of(call_answer(("list_projects", raw)))) == [("call_0", "list_projects", args, None)]


@pytest.mark.parametrize("raw", ['{"note": "cut of', "[1]", "3", "hello", '{"a": 1} {"b"', '{"a": ' + "9" * 5000 + "}"])
async def test_arguments_that_cannot_be_read_are_an_error_of_the_call(raw: str) -> None:
    """Nothing is guessed: what is cut off stays unknown."""
    ((_, name, args, error),) = calls_in(await chunks_of(call_answer(("list_projects", raw))))
    assert (name, args) == ("list_projects", {})
    assert error


async def test_names_that_ran_together_are_taken_apart() -> None:
    """A name repeated with every piece, sent in pieces, or two calls in one."""
    repeated = events(piece(0, "a", "list_projects", "{"), piece(0, None, "list_projects", "}"), delta(finish="stop"))
    in_pieces = events(piece(0, "a", "list_", ""), piece(0, None, "projects", "{}"), delta(finish="stop"))
    merged = events(piece(0, "a", "get_time_slotslist_projects", '{"date":"x"}{}'), delta(finish="stop"))
    for answer in (repeated, in_pieces):
        assert calls_in(await chunks_of(answer)) == [("a", "list_projects", {}, None)]
    assert calls_in(await chunks_of(merged)) == [
        ("a", "get_time_slots", {"date": "x"}, None),
        ("", "list_projects", {}, None),
    ]


async def test_a_server_that_does_not_stream_or_count_is_understood() -> None:
    """A whole JSON answer; no usage means an estimate; no [DONE] is fine after a finish reason."""
    message = {"content": None, "tool_calls": [{"id": "a", "function": {"name": "list_projects", "arguments": "{}"}}]}
    whole = status(200, {"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    chunks = await chunks_of(whole)
    assert calls_in(chunks) == [("a", "list_projects", {}, None)]
    assert isinstance(chunks[-1], Tokens)
    assert chunks[-1].estimated
    assert (await chunks_of(events(delta("Hi."), delta(finish="stop"), done=False)))[0] == Text("Hi.")


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        (400, ModelRejected, ""),
        (401, ModelRejected, "LLM_API_KEY"),
        (403, ModelRejected, "LLM_API_KEY"),
        (404, ModelRejected, "LLM_MODEL"),
        (307, ModelRejected, ""),
        (429, ModelBusy, "busy"),
        (500, ModelUnavailable, ""),
        (503, ModelUnavailable, ""),
        (504, ModelTimeout, ""),
    ],
)
async def test_refusals_are_typed_and_never_show_the_key(code: int, kind: type[ModelError], hint: str) -> None:
    """Each status has its class; the server's words are kept for the log, without the key."""
    body = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    with pytest.raises(kind) as caught:
        await chunks_of(status(code, body, location="http://127.0.0.1:9/", **{"retry-after": "0.01"}))
    assert hint in caught.value.user_hint
    assert KEY not in str(caught.value) + caught.value.user_hint


async def test_a_server_without_stream_options_is_asked_without() -> None:
    """An unknown field is left out the second time."""
    unknown = status(400, {"error": {"message": "unknown field: stream_options"}})
    async with model_server(unknown, events(delta("Hi."), delta(finish="stop"))) as server:
        assert (await ask(server))[0] == Text("Hi.")
    assert "stream_options" not in server.requests[1]


async def test_a_stream_that_dies_is_not_taken_for_an_answer_nor_repeated() -> None:
    """Dropped, ended without an end, broken JSON, an error in the stream: unavailable, after one request."""
    endings = [
        events(delta("Hel"), done=False, die=True),
        events(delta("Hel"), done=False),
        events(delta("Hel"), b"data: {broken\n\n"),
        events(delta("Hel"), {"error": {"message": "overloaded", "code": 503}}),
    ]
    for answer in endings:
        async with model_server(answer) as server:
            with pytest.raises(ModelUnavailable):
                await ask(server)
        assert len(server.requests) == 1


async def test_something_else_at_the_address_is_named() -> None:
    """A web page is no model."""
    for answer in (status(200, "<html>hello</html>"), status(200, {"hello": 1}), events(b"<html></html>\n")):
        with pytest.raises(ModelRejected, match="answer"):
            await chunks_of(answer)


async def test_silence_ends_in_time() -> None:
    """A server that says nothing runs into the idle limit."""

    over = asyncio.Event()

    async def silent(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        await asyncio.wait_for(over.wait(), 30)
        return web.Response()

    async with model_server(silent) as server:
        with pytest.raises(ModelTimeout):
            await ask(server, idle_timeout_s=0.1)
        over.set()  # else the server would wait for its handler


async def test_an_absent_server_is_unavailable() -> None:
    """Nobody listens."""
    with pytest.raises(ModelUnavailable):
        await ask(ModelServer("http://127.0.0.1:9/v1"))


async def test_closing_the_stream_closes_the_connection() -> None:
    """Whoever stops listening stops the server."""
    gone = asyncio.Event()

    async def endless(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n')
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            gone.set()
            raise

    async with model_server(endless) as server:
        wire = openai(OpenAIConfig(base_url=server.url, model="m")).wire
        stream = wire.stream(PAYLOAD, deadline_s=5)
        assert await anext(stream) == Text("x")
        assert isinstance(stream, AsyncIterator)
        await stream.aclose()  # type: ignore[attr-defined]
        await asyncio.wait_for(gone.wait(), 5)
        await wire.close()


async def probe(config: OpenAIConfig) -> Probe:
    """What a provider finds out about its server."""
    provider = openai(config)
    assert provider.probe
    try:
        return await provider.probe()
    finally:
        await provider.wire.close()


async def test_probe_says_cause_and_fix() -> None:
    """Reachable, key, model, address: each has its own words; the key stands in none."""

    async def probed(models: web.Response | None, model: str = "model-1") -> Any:
        async with model_server(status(500), models=models) as server:
            return await probe(OpenAIConfig(base_url=server.url, model=model, api_key=KEY))

    good = await probed(None)
    assert good.ok
    cases = {
        "LLM_API_KEY": await probed(web.json_response({"error": KEY}, status=401)),
        "model-1": await probed(None, model="other"),
        "LLM_API_URL": await probed(web.Response(text="<html>", content_type="text/html")),
        "Start the model server": await probe(OpenAIConfig(base_url="http://127.0.0.1:9/v1", model="m", api_key=KEY)),
    }
    for words, found in cases.items():
        assert not found.ok
        assert words in found.fix
        assert KEY not in found.cause + found.fix
