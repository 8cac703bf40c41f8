"""Anthropic's Messages against the scripted server, with the habits of real ones and of proxies."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from agent.errors import (
    ContextExceeded,
    HistoryRejected,
    ModelBusy,
    ModelError,
    ModelMisbehaved,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from agent.providers.anthropic import ANTHROPIC, AnthropicConfig, anthropic
from agent.providers.base import Call as AskedCall
from agent.providers.base import Capabilities, Note, Provider, Tokens
from agent.transcript import UserMessage
from tests.contract.model_calls import (
    ask,
    asked,
    calls_in,
    carried_on,
    probed,
    refused,
    text_in,
    thoughts_in,
    tokens_in,
)
from tests.doubles.model_service import Call, Lane, ModelService, Quirk, Reply, Usage
from tests.doubles.model_service.history_rules import signature_of

KEY = "sk-ant-do-not-show-me"
CALLS = (Call("get_time_slots", {"project_id": "410001", "date": "Köln"}), Call("list_projects", {}))
WANTED = [("get_time_slots", {"project_id": "410001", "date": "Köln"}), ("list_projects", {})]
THINKS = {"thinking": {"type": "enabled", "budget_tokens": 2000}}


def provider(lane: Lane, able: Capabilities = ANTHROPIC, **config: Any) -> Provider:
    """Anthropic at this lane."""
    config = {"base_url": lane.url("anthropic"), "model": "model-1", "api_key": KEY, **config}
    return anthropic(AnthropicConfig(**config), capabilities=able)


def sse(*events: dict[str, Any]) -> bytes:
    """These events, as they are streamed."""
    return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), orjson.dumps(e)) for e in events)


def message(*blocks: tuple[dict[str, Any], list[dict[str, Any]]], stop: str = "end_turn") -> Reply:
    """An answer of just these blocks, each as it starts and what is added to it."""
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"usage": {"input_tokens": 5}}}]
    for n, (start, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": n, "content_block": start})
        events += [{"type": "content_block_delta", "index": n, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": n})
    events.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 3}})
    return Reply(raw=sse(*events, {"type": "message_stop"}), raw_type="text/event-stream")


async def test_thoughts_text_calls_and_counts_stream(models: ModelService) -> None:
    """The request has version, key, limit and cache marks; what was read from the cache counts as read."""
    reply = Reply("I will look.", CALLS, reasoning="Two tools.", usage=Usage(20, 9, cache_read=300, cache_write=40))
    lane = await models.lane(reply, wire="anthropic", api_key=KEY)
    chunks = await asked(provider(lane, options={"temperature": 1}))
    assert (text_in(chunks), thoughts_in(chunks), calls_in(chunks)) == ("I will look.", "Two tools.", WANTED)
    assert tokens_in(chunks) == Tokens(360, 9, cache_read_tokens=300, cache_write_tokens=40)
    (request,) = await lane.requests()
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert (request.body["max_tokens"], request.body["temperature"]) == (ANTHROPIC.max_output_tokens, 1)
    marked = [part for part in (*request.body["system"], *request.body["tools"]) if "cache_control" in part]
    assert marked == [request.body["system"][0], request.body["tools"][-1]]


async def test_what_a_model_cannot_do_is_not_asked_of_it(models: ModelService) -> None:
    """No cache marks, no parallel calls, no stream."""
    lane = await models.lane(Reply("I will look.", CALLS[:1], reasoning="Two tools."))
    able = Capabilities(streams=False, parallel_tool_calls=False, max_output_tokens=900)
    chunks = await asked(provider(lane, able))
    assert (text_in(chunks), thoughts_in(chunks), calls_in(chunks)) == ("I will look.", "Two tools.", WANTED[:1])
    (body,) = await lane.bodies()
    assert (body["stream"], body["max_tokens"]) == (False, 900)
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert b"cache_control" not in orjson.dumps(body)


@pytest.mark.parametrize(
    "quirks",
    [
        {Quirk.CRLF},
        {Quirk.COMMENT_LINES, Quirk.UNKNOWN_EVENTS},
        {Quirk.TEXT_AFTER_CALLS},
        {Quirk.TWO_TEXT_BLOCKS},
        {Quirk.STOP_WITH_CALLS},
        {Quirk.ARGUMENTS_SPLIT_IN_ESCAPE},
        {Quirk.ID_REPEATED},
        {Quirk.THINK_TAGS},
    ],
    ids=lambda quirks: "+".join(sorted(quirks)),
)
async def test_habits_of_servers_make_no_difference(models: ModelService, quirks: set[Quirk]) -> None:
    """Also when everything arrives in small parts."""
    for size in (None, 7):
        reply = Reply("I will look.", CALLS, reasoning="Two tools.", quirks=quirks, write_size=size)
        chunks = await asked(provider(await models.lane(reply, wire="anthropic")))
        assert (text_in(chunks), thoughts_in(chunks).strip(), calls_in(chunks)) == (
            "I will look.",
            "Two tools.",
            WANTED,
        )


async def test_arguments_that_are_cut_off_are_an_error_of_the_call(models: ModelService) -> None:
    """As when the limit of the answer is reached in a call; those that come whole at the start are taken."""
    lane = await models.lane(Reply("", CALLS[:1], stop="max_tokens", quirks={Quirk.ARGUMENTS_CUT_OFF}))
    (call,) = (chunk for chunk in await asked(provider(lane)) if isinstance(chunk, AskedCall))
    assert (call.call.name, call.call.args) == ("get_time_slots", {})
    assert call.error
    lane = await models.lane(message(({"type": "tool_use", "id": "t", "name": "x", "input": {"a": 1}}, [])))
    assert calls_in(await asked(provider(lane))) == [("x", {"a": 1})]


async def test_thoughts_go_back_within_the_turn_to_the_model_that_had_them(models: ModelService) -> None:
    """First, whole and signed; not in a later turn, and not to another model: there thinking is called off."""
    lane = await models.lane(Reply("", CALLS, reasoning="Two tools."), Reply("Done."), repeat_last=True)
    one = provider(lane, options=THINKS)
    chunks = await ask(one)
    block = {
        "type": "thinking",
        "thinking": "Two tools.",
        "signature": signature_of("anthropic", "model-1", "Two tools."),
    }
    assert [c.state for c in chunks if isinstance(c, Note)] == [{"model": "model-1", "blocks": [block]}]
    history = carried_on(one, "hi", chunks)
    await ask(one, *history)
    await ask(one, *history, UserMessage("and now?"))
    await one.wire.close()
    await asked(provider(lane, model="model-2", options=THINKS), *history)
    _, same, later, elsewhere = await lane.bodies()
    assert [b["type"] for b in same["messages"][1]["content"]] == ["thinking", "tool_use", "tool_use"]
    assert same["messages"][1]["content"][0] == block
    assert same["thinking"] == THINKS["thinking"]
    for body in (later, elsewhere):
        assert [b["type"] for b in body["messages"][1]["content"]] == ["tool_use", "tool_use"]
        assert body["thinking"] == {"type": "disabled"}
    results = same["messages"][2]["content"]
    assert [(b["type"], b.get("is_error", False)) for b in results] == [("tool_result", False), ("tool_result", True)]


async def test_redacted_thoughts_are_kept_as_they_are(models: ModelService) -> None:
    """Nobody can read them; thoughts without a signature would be refused and are dropped."""
    secret = {"type": "redacted_thinking", "data": "xyz"}
    unsigned = {"type": "thinking", "thinking": "", "signature": ""}
    call = {"type": "tool_use", "id": "t", "name": "list_projects", "input": {}}
    thought = [{"type": "thinking_delta", "thinking": "hm"}]
    lane = await models.lane(message((secret, []), (unsigned, thought), (call, [])))
    chunks = await asked(provider(lane))
    assert [c.state for c in chunks if isinstance(c, Note)] == [{"model": "model-1", "blocks": [secret]}]
    assert thoughts_in(chunks) == "hm"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("So", stop="context_exceeded"), ContextExceeded),
        (Reply(error="bad_request", fault_in_stream=0, text="Hello there."), HistoryRejected),
        (Reply(error="unavailable"), ModelBusy),
        (Reply("Hello there.", error="unavailable", fault_in_stream=1), ModelBusy),
        (Reply(error="timeout"), ModelTimeout),
        (Reply("I cannot", stop="guardrail"), ModelMisbehaved),
        (Reply(raw=sse({"type": "message_start"}), raw_type="text/event-stream"), ModelUnavailable),
        (Reply(raw=b"data: {broken\n\n", raw_type="text/event-stream"), ModelUnavailable),
        (Reply(raw=b"<html></html>", raw_type="text/html"), ModelRejected),
    ],
)
async def test_failures_are_typed(models: ModelService, reply: Reply, kind: type[ModelError]) -> None:
    """By status, in the stream, by why the model stopped or how the stream ends; after one request."""
    lane = await models.lane(reply, repeat_last=True)
    error = await refused(provider(lane, idle_timeout_s=0.2))
    assert type(error) is kind
    assert len(await lane.requests()) == 1


async def test_the_key_stands_nowhere(models: ModelService) -> None:
    """Not in errors of any place, nor in the configuration as text."""
    for reply in (
        Reply(error="auth", error_message=KEY),
        Reply("Hi", error="auth", error_message=KEY, fault_in_stream=0),
    ):
        error = await refused(provider(await models.lane(reply)))
        assert KEY not in str(error) + error.user_hint
        assert "LLM_API_KEY" in error.user_hint
    assert KEY not in repr(AnthropicConfig(model="m", api_key=KEY))


async def test_an_unfinished_turn_of_a_server_tool_is_an_end(models: ModelService) -> None:
    """`pause_turn` and reasons that are not known yet are no failure."""
    for stop in ("pause_turn", "something_new"):
        text = ({"type": "text", "text": ""}, [{"type": "text_delta", "text": "So far."}])
        assert text_in(await asked(provider(await models.lane(message(text, stop=stop))))) == "So far."


async def test_probe_says_cause_and_fix(models: ModelService) -> None:
    """Key, model, address; the key stands in none."""
    lane = await models.lane(models=("model-1", "other"), api_key=KEY)
    assert (await probed(provider(lane))).ok
    assert (await probed(provider(lane, base_url=lane.url("anthropic") + "/v1/"))).ok
    cases = {
        "LLM_API_KEY": await probed(provider(lane, api_key="wrong")),
        "model-1, other": await probed(provider(lane, model="claude-none")),
        "Start the model server": await probed(provider(lane, base_url="http://127.0.0.1:9")),
    }
    for words, found in cases.items():
        assert not found.ok
        assert words in found.fix
        assert KEY not in found.cause + found.fix
