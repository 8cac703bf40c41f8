"""Ollama's own API against the scripted server, with the habits of real ones."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agent.errors import (
    ContextExceeded,
    ModelError,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from agent.providers.base import Capabilities, Note, Provider, Tokens
from agent.providers.ollama import OllamaConfig, ollama
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

CALLS = (Call("get_time_slots", {"project_id": "410001", "date": "Köln"}), Call("list_projects", {}))
WANTED = [("get_time_slots", {"project_id": "410001", "date": "Köln"}), ("list_projects", {})]


def provider(lane: Lane, able: Capabilities | None = None, **config: Any) -> Provider:
    """Ollama at this lane."""
    made = OllamaConfig(base_url=lane.url("ollama"), model="model-1", **config)
    return ollama(made, capabilities=able) if able else ollama(made)


async def test_thoughts_text_calls_and_counts_stream(models: ModelService) -> None:
    """The request names the size of the context and wants no silent cutting; everything that comes is understood."""
    lane = await models.lane(Reply("I will look.", CALLS, reasoning="Two tools.", usage=Usage(20, 9)), wire="ollama")
    chunks = await asked(provider(lane, options={"temperature": 0, "keep_alive": "10m", "think": True}))
    assert (text_in(chunks), thoughts_in(chunks), calls_in(chunks)) == ("I will look.", "Two tools.", WANTED)
    assert tokens_in(chunks) == Tokens(20, 9)
    (body,) = await lane.bodies()
    assert body["options"] == {"num_ctx": 16_384, "temperature": 0}
    assert {name: body[name] for name in ("stream", "keep_alive", "think", "truncate", "shift")} == {
        "stream": True,
        "keep_alive": "10m",
        "think": True,
        "truncate": False,
        "shift": False,
    }


async def test_what_is_configured_sets_context_and_length(models: ModelService) -> None:
    """`num_ctx` and `num_predict` follow the capabilities; an option of one's own wins."""
    lane = await models.lane(Reply("Hi."), repeat_last=True)
    able = Capabilities(max_context_tokens=8_000, max_output_tokens=500)
    await asked(provider(lane, able))
    await asked(provider(lane, able, options={"num_ctx": 9_000}))
    first, second = await lane.bodies()
    assert first["options"] == {"num_ctx": 8_000, "num_predict": 500}
    assert second["options"]["num_ctx"] == 9_000


@pytest.mark.parametrize(
    "quirks",
    [
        {Quirk.CRLF},
        {Quirk.IDS_GIVEN},
        {Quirk.CALLS_APART},
        {Quirk.NAME_WITH_TOKENS},
        {Quirk.THINK_TAGS},
        {Quirk.IDS_GIVEN, Quirk.CALLS_APART, Quirk.CRLF},
    ],
    ids=lambda quirks: "+".join(sorted(quirks)),
)
async def test_habits_of_servers_make_no_difference(models: ModelService, quirks: set[Quirk]) -> None:
    """Also when everything arrives in small parts."""
    for size in (None, 3):
        reply = Reply("I will look.", CALLS, reasoning="Two tools.", quirks=quirks, write_size=size)
        chunks = await asked(provider(await models.lane(reply, wire="ollama")))
        assert (text_in(chunks), thoughts_in(chunks).strip(), calls_in(chunks)) == (
            "I will look.",
            "Two tools.",
            WANTED,
        )


async def test_an_answer_that_is_not_streamed_is_the_same(models: ModelService) -> None:
    """For models whose calls are lost in a stream."""
    lane = await models.lane(Reply("I will look.", CALLS, reasoning="Two tools."))
    chunks = await asked(provider(lane, Capabilities(streams_tool_calls=False)))
    assert (text_in(chunks), thoughts_in(chunks), calls_in(chunks)) == ("I will look.", "Two tools.", WANTED)
    assert (await lane.bodies())[0]["stream"] is False


async def test_thoughts_go_back_within_the_turn_to_the_model_that_had_them(models: ModelService) -> None:
    """Beside the calls that they led to; not in a later turn, and not to another model."""
    lane = await models.lane(Reply("", CALLS, reasoning="Two tools."), Reply("Done."), repeat_last=True)
    one = provider(lane)
    chunks = await ask(one)
    assert [c.state for c in chunks if isinstance(c, Note)] == [{"model": "model-1", "thinking": "Two tools."}]
    history = carried_on(one, "hi", chunks)
    await ask(one, *history)
    await ask(one, *history, UserMessage("and now?"))
    await one.wire.close()
    other = ollama(OllamaConfig(base_url=lane.url("ollama"), model="model-2"))
    await asked(other, *history)
    _, same, later, elsewhere = (body["messages"] for body in await lane.bodies())
    assert same[2]["thinking"] == "Two tools."
    assert [m["role"] for m in same] == ["system", "user", "assistant", "tool", "tool"]
    assert [m.get("tool_name") for m in same[3:]] == ["get_time_slots", "list_projects"]
    assert same[2]["tool_calls"][0]["function"]["arguments"] == {"project_id": "410001", "date": "Köln"}
    assert "thinking" not in later[2]
    assert "thinking" not in elsewhere[2]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(status=400, error_message='"gemma:2b" does not support tools'), ModelRejected),
        (Reply(error="timeout"), ModelTimeout),
        (Reply("Hello there.", error="unavailable", fault_in_stream=1), ModelUnavailable),
        (Reply("Hello there.", error="context_too_long", fault_in_stream=0), ContextExceeded),
        (
            Reply(raw=b'{"message": {"content": "Hel"}, "done": false}\n', raw_type="application/x-ndjson"),
            ModelUnavailable,
        ),
        (Reply(raw=b"{broken\n", raw_type="application/x-ndjson"), ModelUnavailable),
        (Reply(raw=b"<html></html>", raw_type="text/html"), ModelRejected),
    ],
)
async def test_failures_are_typed(models: ModelService, reply: Reply, kind: type[ModelError]) -> None:
    """By status, in the stream, or by how the stream ends; after one request."""
    lane = await models.lane(reply, repeat_last=True)
    error = await refused(provider(lane, idle_timeout_s=0.2))
    assert type(error) is kind
    assert len(await lane.requests()) == 1


async def test_a_model_without_tools_is_told_from_a_bad_history(models: ModelService) -> None:
    """So that nobody tries again with another history; the hint names the key to change."""
    lane = await models.lane(Reply(status=400, error_message='"gemma:2b" does not support tools'))
    assert "LLM_MODEL" in (await refused(provider(lane))).user_hint


async def test_probe_says_cause_and_fix(models: ModelService) -> None:
    """There; not pulled; nobody there; a shorter context than configured. A path in the address does no harm."""
    lane = await models.lane(models=("model-1:latest", "other"))
    assert (await probed(provider(lane))).ok
    for path in ("/v1", "/api/", "/"):
        assert (await probed(ollama(OllamaConfig(base_url=lane.url("ollama") + path, model="other")))).ok
    missing = await probed(ollama(OllamaConfig(base_url=lane.url("ollama"), model="qwen3:8b")))
    assert not missing.ok
    assert "ollama pull qwen3:8b" in missing.fix
    assert "model-1:latest" in missing.fix
    absent = await probed(ollama(OllamaConfig(base_url="http://127.0.0.1:9", model="m")))
    assert not absent.ok
    assert "Start the model server" in absent.fix
    long = await probed(ollama(OllamaConfig(base_url=lane.url("ollama"), model="other"), capabilities=Capabilities()))
    assert long.ok
    assert "32768" in long.fix


async def test_probe_names_a_model_that_cannot_call_tools() -> None:
    """As its server says; a model that is said to have none is fine."""

    async def tags(_: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": "gemma:2b"}]})

    async def show(_: web.Request) -> web.Response:
        return web.json_response({"capabilities": ["completion"]})

    app = web.Application()
    app.add_routes([web.get("/api/tags", tags), web.post("/api/show", show)])
    async with TestServer(app, host="127.0.0.1") as server:
        config = OllamaConfig(base_url=str(server.make_url("")), model="gemma:2b")
        without = await probed(ollama(config))
        assert not without.ok
        assert "cannot call tools" in without.cause
        assert (await probed(ollama(config, capabilities=Capabilities(tools=False)))).ok
