"""The MCP server over a real socket, asked by the official client: in sessions (2025) and without (2026)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import httpx2
import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from agent.definition import load_definition
from agent.events import ToolFinished, TurnCompleted, TurnEvent, TurnStarted
from agent.ports import TurnInput, TurnWork
from backend.api import mcp_tools
from tests.integration.outside_simulator import OutsideSimulator
from tests.integration.running_server import serving, settings
from tests.integration.simulated_office import TOOLBOX
from tests.integration.test_full_stack import Stack
from tools.contract import Identity

SESSIONS, SINGLE = "legacy", "2026-07-28"
SLOT = {"project_id": "flooring", "date": "2026-03-16", "time": "10:00"}
HEADERS = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
in_both_eras = pytest.mark.parametrize("era", [SESSIONS, SINGLE])

Answer = Callable[[str], Awaitable[types.ElicitResult]]


class Person:
    """Answers the questions that the client puts to them, and remembers them."""

    def __init__(self, action: str, confirm: bool | None = None) -> None:
        self.asked: list[str] = []
        self._answer = {"action": action, "content": None if confirm is None else {"confirm": confirm}}

    async def __call__(self, question: str) -> types.ElicitResult:
        self.asked.append(question)
        return types.ElicitResult.model_validate(self._answer)


async def silence(_question: str) -> types.ElicitResult:
    """Somebody who went for a coffee."""
    await asyncio.Event().wait()
    raise AssertionError


@pytest.fixture(scope="module")
def one_simulator() -> Iterator[OutsideSimulator]:
    with OutsideSimulator() as running:
        yield running


@pytest.fixture
def simulator(one_simulator: OutsideSimulator) -> Iterator[OutsideSimulator]:
    """Fresh data; its rules hold afterwards."""
    one_simulator.reset()
    yield one_simulator
    one_simulator.disarm()
    assert one_simulator.broken() == {}


@pytest.fixture
async def rest(database_url: str, redis_url: str, simulator: OutsideSimulator) -> AsyncIterator[httpx.AsyncClient]:
    """The same server as the other paths have it."""
    async with serving(Stack(database_url, redis_url, simulator).settings(), None) as running:
        yield running


@pytest.fixture
async def record(database_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@asynccontextmanager
async def connected(
    server: httpx.AsyncClient, who: str = "c1", *, era: str = SESSIONS, person: Answer | None = None
) -> AsyncIterator[Client]:
    """The official client as that identity; with a `person` it can ask."""

    async def ask(context: Any, params: Any) -> types.ElicitResult:
        assert params.requested_schema["required"] == ["confirm"]
        assert person
        return await person(params.message)

    async with httpx2.AsyncClient(headers={"x-demo-identity": who}, trust_env=False, timeout=30) as http:
        transport = streamable_http_client(str(server.base_url.join("/mcp")), http_client=http)
        async with Client(transport, mode=era, elicitation_callback=ask if person else None) as client:
            yield client


def data_of(result: types.CallToolResult) -> dict[str, Any]:
    """The structured result, which is also its one text."""
    (text,) = result.content
    assert isinstance(text, types.TextContent)
    found: dict[str, Any] = result.structured_content
    assert json.loads(text.text) == found
    assert result.is_error is not found["ok"]
    return found


# --- tools ----------------------------------------------------------------------------------------------------------


@in_both_eras
@pytest.mark.parametrize("who", ["c1", "coord", "anon"])
async def test_each_caller_is_offered_their_own_tools(rest: httpx.AsyncClient, era: str, who: str) -> None:
    """The toolbox's tools of that role with schema and hints, and no parameter that only the session fills in."""
    roles = {"c1": "customer", "coord": "coordinator", "anon": "anonymous"}
    identity = Identity(role=roles[who])  # type: ignore[arg-type]
    specs = {spec.name: spec for spec in TOOLBOX.specs(load_definition().file.action_groups, identity)}
    async with connected(rest, who, era=era) as client:
        offered = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(offered) == list(specs)
    for name, tool in offered.items():
        assert tool.description == specs[name].description
        assert tool.input_schema == specs[name].parameters
        assert not {"customer_id", "client_name", "clients", "user_id"} & set(tool.input_schema["properties"])
        assert tool.annotations
        assert tool.annotations.read_only_hint is (specs[name].effect == "read")
        assert tool.annotations.destructive_hint is (specs[name].effect == "gated")
    if who != "coord":
        assert ("confirm_appointment" in offered) is (who == "c1")


def test_nothing_of_the_protocol_is_imported_before_it_is_asked_for() -> None:
    """A start without MCP costs what it did."""
    check = "import backend.app, sys; sys.exit(bool({'mcp', 'mcp_types'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@in_both_eras
async def test_a_read_is_a_turn_of_the_callers(
    rest: httpx.AsyncClient, record: asyncpg.Connection[Any], era: str
) -> None:
    """The data comes back; the conversation is on record as its caller's, and no model was in it."""
    async with connected(rest, era=era) as client:
        result = await client.call_tool("list_projects", {})
    assert data_of(result)["count"] == 4
    assert result.meta
    session = result.meta["outcrop/session_id"]
    theirs = await rest.get(f"/api/v1/sessions/{session}")
    assert theirs.json()["title"] == "MCP: list_projects"
    strangers = await rest.get(f"/api/v1/sessions/{session}", headers={"x-demo-identity": "c2"})
    assert strangers.status_code == 404
    row = await record.fetchrow("SELECT * FROM turns WHERE id = $1", result.meta["outcrop/turn_id"])
    assert row
    assert (row["state"], row["provider"], json.loads(row["call"])["tool"]) == ("completed", "", "list_projects")
    kinds = await record.fetch("SELECT type FROM audit_events WHERE turn_id = $1 ORDER BY seq", row["id"])
    assert [kind["type"] for kind in kinds] == ["call_received", "turn_ended"]


async def test_calls_of_one_session_share_a_conversation_and_take_turns(rest: httpx.AsyncClient) -> None:
    """Sent at once, all are answered; without sessions, a client may name the conversation."""
    async with connected(rest) as client:
        results = await asyncio.gather(*(client.call_tool("list_projects", {}) for _ in range(8)))
        assert len({result.meta["outcrop/session_id"] for result in results if result.meta}) == 1
        assert not any(result.is_error for result in results)
    named = {"outcrop/session_id": (results[0].meta or {})["outcrop/session_id"]}
    async with connected(rest, era=SINGLE) as client:
        again = await client.call_tool("get_working_hours", {}, meta=named)  # type: ignore[arg-type]
        apart = await client.call_tool("get_working_hours", {})
    assert again.meta
    assert apart.meta
    assert again.meta["outcrop/session_id"] == named["outcrop/session_id"] != apart.meta["outcrop/session_id"]


# --- the yes --------------------------------------------------------------------------------------------------------


@in_both_eras
async def test_a_booking_is_made_after_the_persons_yes(
    rest: httpx.AsyncClient, simulator: OutsideSimulator, record: asyncpg.Connection[Any], era: str
) -> None:
    """They read code's restatement; the stored arguments run once, through the ledger."""
    person = Person("accept", confirm=True)
    async with connected(rest, era=era, person=person) as client:
        result = await client.call_tool("confirm_appointment", SLOT)
    assert data_of(result)["time"] == "10:00 AM"
    (question,) = person.asked
    assert "Monday, March 16 at 10:00 AM" in question
    assert simulator.changes() == ["schedule"]
    effects = await record.fetch("SELECT status FROM tool_calls WHERE effect_key IS NOT NULL")
    assert [effect["status"] for effect in effects] == ["ok"]
    turns = await record.fetch("SELECT state, provider FROM turns ORDER BY seq")
    assert [(turn["state"], turn["provider"]) for turn in turns] == [("waiting", ""), ("completed", "")]


@in_both_eras
@pytest.mark.parametrize(("action", "confirm"), [("decline", None), ("cancel", None), ("accept", False)])
async def test_anything_but_a_yes_is_a_no(
    rest: httpx.AsyncClient,
    simulator: OutsideSimulator,
    record: asyncpg.Connection[Any],
    era: str,
    action: str,
    confirm: bool | None,
) -> None:
    """Nothing is done, the model hears so, and the question is closed."""
    async with connected(rest, era=era, person=Person(action, confirm)) as client:
        result = await client.call_tool("confirm_appointment", SLOT)
    assert data_of(result)["code"] == "declined"
    assert simulator.changes() == []
    assert await record.fetchval("SELECT state FROM pending_actions") == "declined"


async def test_a_question_that_nobody_answers_stays_open(
    rest: httpx.AsyncClient, simulator: OutsideSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result says so, and where a person can still say yes."""
    monkeypatch.setattr(mcp_tools, "ANSWER_S", 0.2)
    async with connected(rest, person=silence) as client:
        left = data_of(await client.call_tool("confirm_appointment", SLOT))
    assert left["code"] == "confirmation_required"
    assert left["user_hint"].startswith("Nobody answered")
    assert simulator.changes() == []
    await confirmed_by_a_person(rest, left)
    assert simulator.changes() == ["schedule"]


async def confirmed_by_a_person(rest: httpx.AsyncClient, left: dict[str, Any]) -> None:
    """As the refusal says."""
    how = left["confirm_with"]
    answer = await rest.request(how["method"], how["path"], json=how["body"])
    assert answer.status_code == 200, answer.text
    assert "is booked for Monday, March 16" in answer.json()["text"]


@in_both_eras
async def test_a_client_that_cannot_ask_is_told_where_a_person_can(
    rest: httpx.AsyncClient, simulator: OutsideSimulator, record: asyncpg.Connection[Any], era: str
) -> None:
    """No tool gives the yes. The same call asks the same question; what the yes did is the answer from then on."""
    key = {"outcrop/idempotency_key": "once"}
    async with connected(rest, era=era) as client:
        refused = await client.call_tool("confirm_appointment", SLOT, meta=key)  # type: ignore[arg-type]
        left = data_of(refused)
        assert (left["code"], left["summary"][:25]) == ("confirmation_required", "Book Flooring Installatio")
        named = {"outcrop/session_id": left["session_id"]}
        again = await client.call_tool("confirm_appointment", SLOT, meta=named)  # type: ignore[arg-type]
        assert data_of(again)["pending_id"] == left["pending_id"]
        assert simulator.changes() == []
        stranger = await rest.post(
            "/api/v1/chat/confirm", json=left["confirm_with"]["body"], headers={"x-demo-identity": "c2"}
        )
        assert stranger.status_code == 404
        await confirmed_by_a_person(rest, left)
        done = await client.call_tool("confirm_appointment", SLOT, meta=key)  # type: ignore[arg-type]
        assert data_of(done)["time"] == "10:00 AM"
    assert simulator.changes() == ["schedule"]
    assert {row["provider"] for row in await record.fetch("SELECT provider FROM turns")} == {""}


async def test_questions_of_one_session_do_not_replace_each_other(
    rest: httpx.AsyncClient, simulator: OutsideSimulator
) -> None:
    """Two changes asked at once are two questions, each with its own answer."""
    both = asyncio.Barrier(2)

    async def only_the_booking(question: str) -> types.ElicitResult:
        await both.wait()
        return types.ElicitResult(action="accept", content={"confirm": question.startswith("Book")})

    async with connected(rest, person=only_the_booking) as client:
        booked, kept = await asyncio.gather(
            client.call_tool("confirm_appointment", SLOT),
            client.call_tool("cancel_appointment", {"project_id": "SO-26-1002"}),
        )
    assert data_of(booked)["ok"] is True
    assert data_of(kept)["code"] == "declined"
    assert simulator.changes() == ["schedule"]


async def test_calls_wait_for_a_yes_that_is_being_carried_out(
    rest: httpx.AsyncClient, simulator: OutsideSimulator, record: asyncpg.Connection[Any]
) -> None:
    """A conversation has one turn at a time; nobody is told that it is busy."""
    simulator.arm("schedule", "slow:700", times=1)
    async with connected(rest, person=Person("accept", confirm=True)) as client:
        booking = asyncio.create_task(client.call_tool("confirm_appointment", SLOT))
        async with asyncio.timeout(60):
            while not await record.fetchval("SELECT EXISTS (SELECT FROM tool_calls WHERE status = 'intended')"):
                await asyncio.sleep(0.01)
        status = data_of(await client.call_tool("get_appointment_status", {"project_id": "flooring"}))
        assert status["project"]["appointment"]["start"] == "10:00 AM"
        assert data_of(await booking)["ok"]


async def test_what_is_sent_with_the_answer_is_not_what_runs(
    rest: httpx.AsyncClient, simulator: OutsideSimulator
) -> None:
    """Without sessions a call is sent twice; its second coming only carries the answer."""
    async with connected(rest, era=SINGLE, person=silence) as client:
        asked = await client.session.call_tool("confirm_appointment", SLOT, allow_input_required=True)
        assert isinstance(asked, types.InputRequiredResult)
        yes: Any = {"confirm": types.ElicitResult(action="accept", content={"confirm": True})}
        done = await client.session.call_tool(
            "cancel_appointment", {"project_id": "windows"}, input_responses=yes, request_state=asked.request_state
        )
        assert data_of(done)["time"] == "10:00 AM"
        for state in ("nonsense", "a:b", f"{asked.request_state}:1"):
            with pytest.raises(MCPError) as refused:
                await client.session.call_tool("cancel_appointment", {}, input_responses=yes, request_state=state)
            assert refused.value.code == types.INVALID_PARAMS
    async with connected(rest, "c2", era=SINGLE, person=silence) as client:
        stolen = await client.session.call_tool(
            "confirm_appointment", SLOT, input_responses=yes, request_state=asked.request_state
        )
        assert data_of(stolen)["code"] == "not_found"
    assert simulator.changes() == ["schedule"]


# --- bad requests ---------------------------------------------------------------------------------------------------


@in_both_eras
@pytest.mark.parametrize(
    ("tool", "args", "field"),
    [
        ("list_projects", {"customer_id": "7000102"}, "customer_id"),
        ("list_projects", {"effect_key": "x"}, "effect_key"),
        ("get_project_details", {"project_id": ["a"]}, "project_id"),
        ("get_project_details", {}, "project_id"),
        ("confirm_appointment", {**SLOT, "date": "someday"}, "date"),
    ],
)
async def test_arguments_that_nobody_may_give_are_refused_by_name(
    rest: httpx.AsyncClient, era: str, tool: str, args: dict[str, Any], field: str
) -> None:
    """As a result that a model can act on, with nothing from inside."""
    async with connected(rest, era=era) as client:
        refused = data_of(await client.call_tool(tool, args))
    assert refused["code"] == "invalid_arguments"
    assert [each["field"] for each in refused["errors"]] == [field]


@in_both_eras
async def test_requests_that_make_no_sense_are_protocol_errors(rest: httpx.AsyncClient, era: str) -> None:
    """Unknown tools, other callers' tools, unusable arguments and `_meta`: -32602, never an internal error."""
    wrong: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
        ("c1", "drop_tables", {}, {}),
        ("anon", "confirm_appointment", SLOT, {}),
        ("c1", "list_projects", {"status": "a\x00b"}, {}),
        ("c1", "list_projects", {"status": 10**30}, {}),
        ("c1", "list_projects", {}, {"outcrop/idempotency_key": "x" * 201}),
        ("c1", "list_projects", {}, {"outcrop/idempotency_key": 5}),
        ("c1", "list_projects", {}, {"outcrop/session_id": "mine"}),
        ("c1", "list_projects", {}, {"outcrop/session_id": 5}),
    ]
    for who, tool, args, meta in wrong:
        async with connected(rest, who, era=era) as client:
            with pytest.raises(MCPError) as refused:
                await client.call_tool(tool, args, meta=meta)  # type: ignore[arg-type]
        assert refused.value.code == types.INVALID_PARAMS, (tool, args, meta)


async def opened(rest: httpx.AsyncClient, who: str = "c1") -> dict[str, str]:
    """A session by hand; the headers of its further requests."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    headers = {**HEADERS, "x-demo-identity": who}
    answer = await sent(rest, headers, "initialize", params, 0)
    assert answer.status_code == 200, answer.text
    headers["mcp-session-id"] = answer.headers["mcp-session-id"]
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await rest.post("/mcp", json=ready, headers=headers)).status_code == 202
    return headers


async def sent(
    rest: httpx.AsyncClient, headers: dict[str, str], method: str, params: Any, request_id: int = 1
) -> httpx.Response:
    body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    return await rest.post("/mcp", json=body, headers=headers)


def reply(answer: httpx.Response) -> dict[str, Any]:
    """The JSON-RPC message in a stream of one."""
    assert answer.status_code == 200, answer.text
    (line,) = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    found: dict[str, Any] = json.loads(line.removeprefix("data: "))
    return found


async def test_a_session_is_its_openers_until_it_is_closed(rest: httpx.AsyncClient) -> None:
    """Somebody else's, a closed and an invented one are the same: 404."""
    mine = await opened(rest)
    assert "result" in reply(await sent(rest, mine, "tools/list", {}))
    for change in ({"x-demo-identity": "c2"}, {"x-demo-identity": "anon"}, {"mcp-session-id": "0" * 32}):
        assert (await sent(rest, {**mine, **change}, "tools/list", {})).status_code == 404
        assert (await rest.delete("/mcp", headers={**mine, **change})).status_code == 404
    assert (await rest.delete("/mcp", headers=mine)).status_code == 200
    assert (await sent(rest, mine, "tools/list", {})).status_code == 404


async def test_the_edge_holds_here_too(rest: httpx.AsyncClient) -> None:
    """Identity, origin, host, size, method and protocol version, before any call."""
    mine = await opened(rest)
    call = {"name": "list_projects", "arguments": {}}
    for change, status in (
        ({"x-demo-identity": "nobody"}, 422),
        ({"origin": "http://evil.example"}, 403),
        ({"host": "evil.example"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"accept": "text/html"}, 406),
        ({"mcp-protocol-version": "1999-01-01"}, 400),
    ):
        assert (await sent(rest, {**mine, **change}, "tools/call", call)).status_code == status, change
    assert (await sent(rest, mine, "tools/call", {**call, "arguments": {"a": "x" * 70_000}})).status_code == 413
    assert (await rest.get("/mcp", headers=mine)).status_code == 405
    assert (await rest.delete("/mcp", headers={**mine, "origin": "http://evil.example"})).status_code == 403
    assert (
        await rest.post("/mcp", content=b"[[[", headers={**mine, "content-type": "application/json"})
    ).is_client_error
    for params in ({}, {"name": 5}, {"name": "list_projects", "arguments": [1]}, [1]):
        answer = await sent(rest, mine, "tools/call", params)
        error = reply(answer)["error"] if answer.status_code == 200 else answer.json()["error"]
        assert error["code"] == types.INVALID_PARAMS, params


async def test_without_the_package_the_path_says_what_is_missing(
    rest: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A problem document that names the fix."""

    def absent(_name: str) -> Any:
        raise ModuleNotFoundError("No module named 'mcp'", name="mcp")

    monkeypatch.setattr("backend.api.mcp.import_module", absent)
    answer = await rest.post("/mcp", json={})
    assert answer.status_code == 501
    assert "pip install 'outcrop[mcp]'" in answer.json()["detail"]


# --- again, and not at all ------------------------------------------------------------------------------------------


async def test_a_request_that_is_sent_again_acts_once(rest: httpx.AsyncClient, record: asyncpg.Connection[Any]) -> None:
    """By its id in its session; another call under that id is refused."""
    mine = await opened(rest)
    call = {"name": "request_human", "arguments": {"reason": "other", "summary": "please call"}}
    first, second = [reply(await sent(rest, mine, "tools/call", call, 7))["result"] for _ in range(2)]
    assert first == second
    assert first["isError"] is False
    assert await record.fetchval("SELECT count(*) FROM callbacks") == 1
    other = reply(await sent(rest, mine, "tools/call", {"name": "list_projects", "arguments": {}}, 7))["result"]
    assert other["structuredContent"]["code"] == "idempotency_mismatch"


async def test_a_key_of_the_clients_own_does_the_same_without_sessions(
    rest: httpx.AsyncClient, record: asyncpg.Connection[Any]
) -> None:
    """`_meta` carries it."""
    wish = {"reason": "other", "summary": "please call"}
    async with connected(rest, era=SINGLE) as client:
        key: Any = {"outcrop/idempotency_key": "k-1"}
        first, second = [await client.call_tool("request_human", wish, meta=key) for _ in range(2)]
    assert data_of(first) == data_of(second)
    assert await record.fetchval("SELECT count(*) FROM callbacks") == 1


class Held:
    """A `RunTurn` whose turns end when the gate opens."""

    def __init__(self) -> None:
        self.gate, self.turns = asyncio.Event(), 0

    async def run(self, turn: TurnInput, work: TurnWork) -> AsyncIterator[TurnEvent]:
        assert turn.call
        stamp: Any = {"turn_id": turn.turn_id, "at": datetime.now(UTC)}
        self.turns += 1
        yield TurnStarted(seq=0, conversation_id=turn.conversation_id, agent="held", agent_version="1", **stamp)
        await self.gate.wait()
        done: Any = {"args": turn.call.args, "status": "ok", "result": {"ok": True}, "duration_ms": 1.0}
        yield ToolFinished(seq=1, call_id="c", tool=turn.call.tool, **done, **stamp)
        yield TurnCompleted(seq=2, status="completed", text="", specialist="", **stamp)


@pytest.fixture
async def held(database_url: str, redis_url: str) -> AsyncIterator[tuple[Held, httpx.AsyncClient]]:
    agent = Held()
    async with serving(settings(database_url, redis_url), agent.run) as client:
        yield agent, client
        agent.gate.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_request_whose_connection_broke_is_answered_when_it_comes_again(
    held: tuple[Held, httpx.AsyncClient],
) -> None:
    """While its turn still runs: the same turn."""
    agent, server = held
    mine = await opened(server)
    call = {"name": "list_projects", "arguments": {}}
    broken = asyncio.create_task(sent(server, mine, "tools/call", call, 7))
    await until(lambda: agent.turns == 1)
    broken.cancel()
    again = asyncio.create_task(sent(server, mine, "tools/call", call, 7))
    agent.gate.set()
    assert reply(await again)["result"]["structuredContent"] == {"ok": True}
    assert agent.turns == 1


async def test_a_call_that_is_taken_back_ends_by_itself(
    held: tuple[Held, httpx.AsyncClient], record: asyncpg.Connection[Any]
) -> None:
    """The client hears nothing more of it; the turn goes on, and the next call waits for it. One that had not begun
    never runs."""
    agent, server = held
    async with connected(server) as client:
        running = asyncio.create_task(client.call_tool("list_projects", {}))
        await until(lambda: agent.turns == 1)
        waiting = asyncio.create_task(client.call_tool("get_weather", {}))
        running.cancel()
        following = asyncio.create_task(client.call_tool("get_working_hours", {}))
        waiting.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        assert agent.turns == 1
        agent.gate.set()
        assert data_of(await following) == {"ok": True}
    turns = await record.fetch("SELECT text, state FROM turns ORDER BY seq")
    assert [(turn["text"], turn["state"]) for turn in turns] == [
        ("MCP: list_projects", "completed"),
        ("MCP: get_working_hours", "completed"),
    ]


async def test_a_session_has_only_so_many_calls_waiting(held: tuple[Held, httpx.AsyncClient]) -> None:
    """One more is refused at once, to be tried again; the others are served."""
    agent, server = held
    async with connected(server) as client:
        calls = [asyncio.create_task(client.call_tool("list_projects", {})) for _ in range(mcp_tools.MOST_WAITING + 2)]
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        refused = data_of(done.pop().result())
        assert (refused["code"], refused["retryable"]) == ("too_many_turns", True)
        agent.gate.set()
        results = await asyncio.gather(*calls)
    assert sum(result.is_error for result in results) == 1
