"""The Chat Completions wire against servers on real sockets, with the habits that real servers have."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from agent.errors import (
    ContextExceeded,
    ModelBusy,
    ModelError,
    ModelMisbehaved,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from agent.providers.base import Call, Capabilities, Chunk, Note, Probe, Provider, Text, Tokens
from agent.providers.http import LIBRARY_ERRORS, classify
from agent.providers.openai import LOCAL, OPENAI, OpenAIConfig, local, openai
from agent.providers.openai_wire import ChatCompletionsWire
from agent.transcript import UserMessage
from tests.contract.model_calls import ask as ask_of
from tests.contract.model_calls import asked, carried_on, text_in, thoughts_in, tokens_in
from tests.contract.model_calls import calls_in as named_calls_in
from tests.doubles.model_server import Answer, ModelServer, call_answer, delta, events, model_server, piece, status
from tests.doubles.model_service import Call as ScriptedCall
from tests.doubles.model_service import Lane, ModelService, Quirk, Reply, Usage

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
    assert (thoughts_in(chunks), text_in(chunks), chunks[-1]) == ("hm", "Hello", Tokens(7, 3))
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


# --- servers as they are --------------------------------------------------------------------------------------------

CALLS = (
    ScriptedCall("get_time_slots", {"project_id": "410001", "date": "Köln"}),
    ScriptedCall("list_projects", {"status": "open"}),
)
WANTED = [("get_time_slots", {"project_id": "410001", "date": "Köln"}), ("list_projects", {"status": "open"})]
FULL = Reply("I will look.", CALLS, reasoning="Two tools.", usage=Usage(20, 9))
THINKS = Capabilities(reasoning=True)


def at(lane: Lane, able: Capabilities = OPENAI, **config: Any) -> Provider:
    """OpenAI at this lane."""
    config = {"base_url": lane.url("openai"), "model": "model-1", **config}
    return openai(OpenAIConfig(**config), capabilities=able)


@pytest.mark.parametrize(
    "quirks",
    [
        {Quirk.NAME_IN_EACH_PIECE},
        {Quirk.NAME_IN_EACH_PIECE, Quirk.INDEX_ALL_ZERO},
        {Quirk.NAME_DOUBLED},
        {Quirk.NAME_IN_PARTS},
        {Quirk.NAME_APART_FROM_ARGUMENTS},
        {Quirk.NAME_WITH_TOKENS},
        {Quirk.INDEX_ALL_ZERO},
        {Quirk.INDEX_ALL_ZERO, Quirk.ID_MISSING, Quirk.ARGUMENTS_AS_OBJECT},
        {Quirk.INDEX_ALL_ZERO, Quirk.ID_IN_EACH_PIECE},
        {Quirk.INDEX_MISSING},
        {Quirk.INDEX_MISSING, Quirk.ID_MISSING},
        {Quirk.INDEX_MISSING, Quirk.ID_IN_EACH_PIECE},
        {Quirk.INDEX_MISSING, Quirk.ID_LATE},
        {Quirk.INDEX_MISSING, Quirk.EMPTY_AFTER_FIRST},
        {Quirk.ID_MISSING},
        {Quirk.ID_LATE},
        {Quirk.ID_REPEATED},
        {Quirk.ID_REPEATED, Quirk.INDEX_ALL_ZERO},
        {Quirk.ID_TOO_LONG},
        {Quirk.ID_ODD},
        {Quirk.EMPTY_AFTER_FIRST},
        {Quirk.ARGUMENTS_AS_OBJECT},
        {Quirk.ARGUMENTS_SPLIT_IN_ESCAPE},
        {Quirk.ARGUMENTS_REPEATED},
        {Quirk.STOP_WITH_CALLS},
        {Quirk.STOP_MISSING},
        {Quirk.EMPTY_CHOICES, Quirk.ROLE_ONLY_FIRST, Quirk.DELTA_NULL},
        {Quirk.USAGE_IN_EVERY_CHUNK},
        {Quirk.NO_DONE},
        {Quirk.STAYS_OPEN},
        {Quirk.CRLF, Quirk.COMMENT_LINES},
        {Quirk.NO_SPACE, Quirk.NULL_CONTENT},
        {Quirk.REASONING_FIELD},
        {Quirk.THINK_TAGS},
    ],
    ids=lambda quirks: "+".join(sorted(quirks)),
)
async def test_habits_of_servers_make_no_difference(models: ModelService, quirks: set[Quirk]) -> None:
    """Two calls, text, thoughts and counts; and what comes of it is a history that a strict server takes."""
    lane = await models.lane(replace(FULL, quirks=frozenset(quirks)), Reply("Done."), wire="openai")
    provider = at(lane)
    chunks = await ask_of(provider)
    assert (text_in(chunks), thoughts_in(chunks).strip()) == ("I will look.", "Two tools.")
    assert named_calls_in(chunks) == WANTED
    assert tokens_in(chunks) == Tokens(20, 9)
    assert text_in(await asked(provider, *carried_on(provider, "hi", chunks))) == "Done."


async def test_calls_without_arguments_or_without_their_end(models: ModelService) -> None:
    """Nothing is `{}`; what is cut off is an error of the call."""
    lane = await models.lane(replace(FULL, quirks=frozenset({Quirk.ARGUMENTS_EMPTY})), FULL)
    provider = at(lane)
    assert named_calls_in(await ask_of(provider)) == [("get_time_slots", {}), ("list_projects", {})]
    await lane.script(replace(FULL, quirks=frozenset({Quirk.ARGUMENTS_CUT_OFF})))
    assert [bool(c.error) for c in await asked(provider) if isinstance(c, Call)] == [True, True]


async def test_thoughts_that_come_twice_are_had_once() -> None:
    """Some servers send them under both names."""
    both = events(delta(reasoning="hm", reasoning_content="hm"), delta("Hi."), delta(finish="stop"))
    assert thoughts_in(await chunks_of(both)) == "hm"


async def test_the_older_form_of_a_call_is_understood() -> None:
    """`function_call`, in pieces."""
    old = events(
        delta(function_call={"name": "list_projects", "arguments": ""}),
        delta(function_call={"arguments": '{"a":'}),
        delta(function_call={"arguments": "1}"}),
        delta(finish="function_call"),
    )
    assert calls_in(await chunks_of(old)) == [("", "list_projects", {"a": 1}, None)]


async def test_thoughts_may_end_in_a_tag_that_never_began(models: ModelService) -> None:
    """Of a model that thinks first, text is held until it is known; of another only the tag is left out."""
    reply = Reply("Hello there.", reasoning="They greet me.", quirks={Quirk.THINK_CLOSING_ONLY})
    lane = await models.lane(reply, repeat_last=True)
    for able in (THINKS, replace(THINKS, streams=False), Capabilities(streams=False)):
        chunks = await asked(at(lane, able))
        assert (text_in(chunks), thoughts_in(chunks).strip()) == ("Hello there.", "They greet me.")
    assert "</think>" not in text_in(await asked(at(lane)))
    await lane.script(Reply("No thought at all."), FULL)
    provider = at(lane, THINKS)
    assert text_in(await ask_of(provider)) == "No thought at all."
    assert text_in(await asked(provider)) == "I will look."


@pytest.mark.parametrize("field", [set(), {Quirk.REASONING_FIELD}])
async def test_thoughts_go_back_within_the_turn_to_the_model_that_had_them(
    models: ModelService, field: set[Quirk]
) -> None:
    """In the member they came in; not in a later turn, to another model, or where it is not wanted."""
    lane = await models.lane(replace(FULL, quirks=frozenset(field)), Reply("Done."), repeat_last=True)
    one, name = at(lane, THINKS), "reasoning" if field else "reasoning_content"
    chunks = await ask_of(one)
    assert [c.state for c in chunks if isinstance(c, Note)] == [{"model": "model-1", name: "Two tools."}]
    history = carried_on(one, "hi", chunks)
    await ask_of(one, *history)
    await asked(one, *history, UserMessage("and now?"))
    await asked(at(lane, THINKS, model="model-2"), *history)
    _, same, later, elsewhere = (body["messages"][2:3] for body in await lane.bodies())
    assert same[0][name] == "Two tools."
    assert not {"reasoning", "reasoning_content"} & (later[0].keys() | elsewhere[0].keys())
    await lane.script(FULL)
    assert not [c for c in await asked(at(lane)) if isinstance(c, Note)]


async def test_a_model_with_one_call_at_a_time_is_shown_no_more(models: ModelService) -> None:
    """Several calls of another model become as many messages; the server is told, unless it does not know the word."""
    lane = await models.lane(FULL, Reply("Done."))
    chunks = await asked(at(lane))
    provider = local(OpenAIConfig(base_url=lane.url("openai"), model="m"))
    history = carried_on(provider, "hi", chunks)
    await ask_of(provider, *history)
    body = (await lane.bodies())[1]
    roles = ["system", "user", "assistant", "tool", "assistant", "tool"]
    assert [m["role"] for m in body["messages"]] == roles
    assert body["parallel_tool_calls"] is False
    await lane.script(Reply(status=422, error_message="parallel_tool_calls: extra"), Reply("Done."))
    assert text_in(await asked(provider, *history)) == "Done."
    assert "parallel_tool_calls" not in (await lane.bodies())[-1]


async def test_the_length_of_an_answer_is_bounded_where_that_is_configured(models: ModelService) -> None:
    """Under the name that the server takes, also when it is the other one; never in place of a given option."""
    lane = await models.lane(Reply("Hi."), repeat_last=True)
    short = replace(OPENAI, max_output_tokens=700)
    await asked(at(lane))
    await asked(at(lane, short))
    await asked(at(lane, short, options={"max_tokens": 5}))
    server = OpenAIConfig(base_url=lane.url("openai"), model="m")
    await asked(local(server, capabilities=replace(LOCAL, max_output_tokens=700)))
    words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    await lane.script(Reply(status=400, error_message=words), Reply("Hi."))
    await asked(local(server, capabilities=replace(LOCAL, max_output_tokens=700)))
    sent = [{k: v for k, v in body.items() if k.startswith("max_")} for body in await lane.bodies()]
    limits: list[dict[str, int]] = [{}, {"max_completion_tokens": 700}, {"max_tokens": 5}, {"max_tokens": 700}]
    assert sent == [*limits, {"max_tokens": 700}, {"max_completion_tokens": 700}]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (events(b'error: {"code": 500, "message": "oops"}\n\n'), ModelUnavailable),
        (events({"error": "Context size has been exceeded."}), ContextExceeded),
        (events(b"event: error\n", {"error": {"message": "busy", "type": "rate_limit_error"}}), ModelBusy),
        (events(delta("Hel"), delta(finish="content_filter")), ModelMisbehaved),
        (events(delta("Hel"), delta(finish="error")), ModelUnavailable),
        (status(400, {"error": {"message": '"auto" tool choice requires --enable-auto-tool-choice'}}), ModelRejected),
        (status(400, {"error": {"message": "max_tokens is too large: maximum context length is 9"}}), ContextExceeded),
    ],
)
async def test_failures_in_the_words_of_servers(answer: Answer, kind: type[ModelError]) -> None:
    """Errors that come in the stream, and refusals that are none of the history."""
    with pytest.raises(ModelError) as caught:
        await chunks_of(answer)
    assert type(caught.value) is kind


async def test_what_a_server_says_in_the_stream_never_shows_the_key() -> None:
    """Neither in an error that it streams."""
    with pytest.raises(ModelError) as caught:
        await chunks_of(events({"error": {"message": f"bad key {KEY}", "code": 401}}))
    assert KEY not in str(caught.value)


async def test_a_connection_serves_one_call_after_the_other() -> None:
    """The stream is read to its end, so that nothing has to be opened anew."""
    clients: set[Any] = set()

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert request.transport
        clients.add(request.transport.get_extra_info("peername"))
        response = await events(delta("Hi."), delta(finish="stop"))(request, body)
        await asyncio.sleep(0.02)  # the end of the body comes later than what it says
        return response

    async with model_server(answer) as server:
        provider = openai(OpenAIConfig(base_url=server.url, model="m"))
        for _ in range(3):
            await ask_of(provider)
        await provider.wire.close()
    assert len(clients) == 1
