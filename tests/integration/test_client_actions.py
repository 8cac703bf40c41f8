"""Return of control on real stores: the turn waits for its client, whatever becomes of the process that runs it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import httpx2
import orjson
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from agent.definition import load_definition
from agent.events import ClientActionRequired, TextDelta, ToolFinished
from agent.graph import run_turn
from agent.ports import Decision, TurnInput, TurnWork
from agent.providers.base import Chunk, ModelRequest
from agent.routing.plan import only
from agent.transcript import ToolMessage
from backend.clock import RealClock
from backend.conversations.answer import Answer, answer
from backend.conversations.reconciler import Pace, Reconciler
from backend.conversations.service import AgentVersion, ConversationService, Limits, RunTurn, TurnRequest
from backend.conversations.turn import Turn
from backend.executors import Surroundings, opened
from backend.identity.principal import Principal
from backend.records.database import Database
from backend.sessions.store import Sessions
from backend.settings import AGENT
from tests.doubles.scripted_model import calls, says, scripted
from tests.integration.running_server import serving, settings
from tests.integration.test_api import events, is_problem
from tests.integration.test_records import ALICE
from tools.breaker import Breaker
from tools.contract import CallbackStore, Directory, Toolbox, ToolContext, ToolState

CLOCK = RealClock("America/New_York")
FUNCTIONS = [
    {"name": "get_position", "description": "Where the device is.", "parameters": {}},
    {
        "name": "open_door",
        "description": "Open a door.",
        "parameters": {"door": {"type": "string", "description": "Its name.", "required": True}},
    },
]
POSITION = {"latitude": 27.25}


def brain(request: ModelRequest) -> list[Chunk]:
    """Ask the device for what the person wants, and tell what came of it."""
    last = request.messages[-1]
    if isinstance(last, ToolMessage):
        return list(says(f"Your device says {last.result.get('latitude', last.result.get('code'))}."))
    if "door" in str(last):
        return [calls("open_door", str(uuid4()), door="north")]
    return [calls("get_position", str(uuid4()))]


@dataclass
class Agent:
    """The real graph with a scripted model, over tools of the client."""

    run: RunTurn
    toolbox: Toolbox


@asynccontextmanager
async def device(folder: Path, timeout_s: float = 30.0) -> AsyncIterator[Agent]:
    (folder / "functions.json").write_bytes(orjson.dumps(FUNCTIONS))
    group = {
        "executor": "client", "functions": "functions.json", "timeout_s": timeout_s,
        "tools": {"get_position": {"effect": "read"}},
    }  # fmt: skip
    plain = load_definition()
    file = plain.file.model_copy(update={"action_groups": ()})
    groups = type(plain.groups).model_validate({"device": group})
    around = Surroundings(Directory({}), folder, lambda name, n, s: Breaker(name, fail_max=n, reset_s=s), {})
    provider, _ = scripted(brain)
    async with opened(replace(plain, file=file, groups=groups, folder=folder), around) as (toolbox, definition):

        def run(turn: TurnInput, work: TurnWork) -> Any:
            return run_turn(definition, only(provider), toolbox, turn, work, lambda _: "chitchat")

        yield Agent(run, toolbox)


def context(caller: Principal, state: ToolState, callbacks: CallbackStore) -> ToolContext:
    return ToolContext(caller.identity, Directory({}), CLOCK, state, None, callbacks)


class Process:
    """One process of the service."""

    def __init__(self, database_url: str, redis_url: str, run: RunTurn, lease_s: float) -> None:
        self.db = Database(database_url)
        self.sessions = Sessions(redis_url, idle_s=60)
        self.service = ConversationService(
            db=self.db,
            sessions=self.sessions,
            clock=CLOCK,
            run_turn=run,
            make_context=context,
            agent=AgentVersion("test", "1", 20),
            limits=Limits(lease_s=lease_s),
        )

    def cut_off(self) -> None:
        """As if killed: from now on it reads and writes nothing."""
        self.db._pool = None

    async def say(self, text: str, **more: Any) -> Turn:
        return await self.service.submit(ALICE, TurnRequest(text, **more))


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:
        agents: dict[float, Agent] = {}

        async def begin(timeout_s: float = 30.0, *, lease_s: float = 1.0, takes_over: bool = True) -> Process:
            if timeout_s not in agents:
                agents[timeout_s] = await stack.enter_async_context(device(tmp_path, timeout_s))
            process = Process(database_url, redis_url, agents[timeout_s].run, lease_s)
            await process.db.open()
            if takes_over:
                await process.service.start()
            stack.push_async_callback(process.db.pool.close)
            stack.push_async_callback(process.sessions.close)
            stack.push_async_callback(process.service.stop, 0)
            return process

        yield begin


async def waiting(turn: Turn) -> Any:
    """The call that the turn waits for."""
    async with asyncio.timeout(60):
        (action,) = answer(turn.conversation_id, turn.turn_id, await turn.halted(), ()).client_actions
    return action


async def whole(turn: Turn) -> Answer:
    async with asyncio.timeout(20):
        return answer(turn.conversation_id, turn.turn_id, await turn.finished(), await turn.pending())


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.02)


# --- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def client(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with device(tmp_path) as agent, serving(settings(database_url, redis_url), agent.run) as running:
        yield running


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    content = json.dumps(body)  # escapes half a surrogate pair, which httpx refuses to send
    return await client.post(
        f"/api/v1/chat{path}", content=content, headers={"content-type": "application/json", **headers}
    )


def result_of(asked: dict[str, Any], result: Any) -> dict[str, Any]:
    action = asked["client_actions"][0]["action_id"]
    return {"session_id": asked["session_id"], "action_id": action, "result": result}


async def test_a_json_client_is_asked_and_gets_the_rest(client: httpx.AsyncClient) -> None:
    """It does not hang: the answer so far names the call, and the post of its result is answered with the rest."""
    asked = (await post(client, "", {"message": "where am I?"})).json()
    assert asked["status"] == "waiting"
    (action,) = asked["client_actions"]
    assert set(action) == {"action_id", "call_id", "tool", "args", "expires_at"}
    assert (action["tool"], action["args"]) == ("get_position", {})
    busy = await post(client, "", {"message": "hello?", "session_id": asked["session_id"]})
    is_problem(busy, 409, "conversation_busy")
    rest = (await post(client, "/client-actions", result_of(asked, POSITION))).json()
    assert (rest["status"], rest["turn_id"]) == ("completed", asked["turn_id"])
    assert rest["text"] == "Your device says 27.25."
    assert rest["tool_calls"] == [{"tool": "get_position", "args": {}, "status": "ok"}]
    assert rest["client_actions"] == []


async def test_a_stream_goes_on_by_itself(client: httpx.AsyncClient) -> None:
    """Its client posts the result beside it; the events say when it is due."""
    streamed = asyncio.create_task(post(client, "/stream", {"message": "where am I?"}))

    async def session() -> dict[str, Any] | None:
        found = (await client.get("/api/v1/conversations")).json()["conversations"]
        return found[0] if found else None

    async def running() -> bool:
        return bool(await session())

    await until(running)
    conversation = await session()
    assert conversation is not None
    async with client.stream("GET", f"/api/v1/turns/{conversation['running_turn_id']}/events") as events_:
        lines = events_.aiter_lines()
        async for line in lines:
            if line == "event: client_action_required":
                break
        await anext(lines)
        asked = orjson.loads((await anext(lines)).removeprefix("data: "))
    body = {"session_id": conversation["session_id"], "action_id": asked["action_id"], "result": POSITION}
    assert (await post(client, "/client-actions", body)).status_code == 200
    seen = [each["type"] for each in events((await streamed).text)]
    assert seen.index("tool_started") < seen.index("client_action_required") < seen.index("tool_finished")
    assert seen[-1] == "turn_completed"


async def test_a_result_is_taken_once_and_from_its_own_client(client: httpx.AsyncClient) -> None:
    """The same result twice is fine, another one is not; strangers and unknown ids see nothing."""
    asked = (await post(client, "", {"message": "where am I?"})).json()
    right = result_of(asked, POSITION)
    is_problem(await post(client, "/client-actions", right, **{"x-demo-identity": "c2"}), 404, "not_found", "action_id")
    unknown = {**right, "action_id": str(uuid4())}
    is_problem(await post(client, "/client-actions", unknown), 404, "not_found", "action_id")
    elsewhere = {**right, "session_id": str(uuid4())}
    is_problem(await post(client, "/client-actions", elsewhere), 404, "not_found", "action_id")
    both = await asyncio.gather(*(post(client, "/client-actions", right) for _ in range(2)))
    assert [each.status_code for each in both] == [200, 200]
    assert both[0].json() == both[1].json()
    assert (await post(client, "/client-actions", right)).json()["text"] == "Your device says 27.25."
    other = result_of(asked, {"latitude": 1})
    is_problem(await post(client, "/client-actions", other), 409, "client_action_settled", "action_id")


@pytest.mark.parametrize(
    "result", ["27.25", [], None, {"n": 2**70}, {"t": "\ud800"}], ids=["text", "list", "null", "number", "surrogate"]
)
async def test_a_result_that_is_none_is_refused(client: httpx.AsyncClient, result: Any) -> None:
    """It must be a JSON object that can be kept; the call stays open."""
    asked = (await post(client, "", {"message": "where am I?"})).json()
    refused = await post(client, "/client-actions", result_of(asked, result))
    assert refused.status_code in (400, 422), refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    assert (await post(client, "/client-actions", result_of(asked, POSITION))).json()["status"] == "completed"


async def test_what_a_client_sends_has_bounds(client: httpx.AsyncClient) -> None:
    """As every body."""
    asked = (await post(client, "", {"message": "where am I?"})).json()
    large = await post(client, "/client-actions", result_of(asked, {"log": "x" * 70_000}))
    is_problem(large, 413, "body_too_large")


async def test_tools_of_a_client_are_not_offered_over_mcp(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """Whoever calls there would wait for itself; the conversation has them."""
    folder = tmp_path / "agent"
    await asyncio.to_thread(shutil.copytree, AGENT, folder)
    (folder / "functions.json").write_bytes(orjson.dumps(FUNCTIONS))
    (folder / "action_groups.yaml").write_text("device: {executor: client, functions: functions.json}")
    configured = settings(database_url, redis_url, agent_dir=folder)
    async with (
        serving(configured, None) as running,
        httpx2.AsyncClient(trust_env=False) as http,
        Client(streamable_http_client(f"{running.base_url}/mcp", http_client=http)) as asking,
    ):
        offered = {each.name for each in (await asking.list_tools()).tools}
        assert "list_projects" in offered
        assert not offered & {"get_position", "open_door"}
        with pytest.raises(MCPError, match="Unknown tool"):
            await asking.call_tool("get_position", {})


# --- over time --------------------------------------------------------------------------------------------------------


async def test_a_late_result_is_refused(start: Start) -> None:
    """The model was told that the device did not answer, and nothing is taken any more."""
    process = await start(0.4)
    turn = await process.say("where am I?")
    action = await waiting(turn)
    assert (await whole(turn)).text == "Your device says unanswered."
    with pytest.raises(Exception, match="is over"):
        await process.service.answer_action(ALICE, turn.conversation_id, action.action_id, POSITION)


async def test_any_replica_takes_the_result(start: Start) -> None:
    """The process that waits finds it in the row, and who followed elsewhere sees the turn go on."""
    process, other = await start(), await start()
    turn = await process.say("where am I?")
    distant = await other.service.attach(ALICE, turn.turn_id)
    action = await waiting(distant)
    rest = await other.service.answer_action(ALICE, turn.conversation_id, action.action_id, POSITION)
    assert (await whole(rest)).text == (await whole(turn)).text == "Your device says 27.25."


async def test_the_client_of_a_gated_call_acts_after_the_yes(start: Start) -> None:
    """First the question, then the client; its word is the outcome, on the ledger and in the reply."""
    process = await start()
    asked = await whole(await process.say("open the north door"))
    (question,) = asked.pending_actions
    assert asked.client_actions == []
    assert await process.db.rows("SELECT FROM client_actions") == []
    decision = Decision(question.pending_id, confirm=True)
    turn = await process.service.decide(ALICE, asked.session_id, decision)
    action = await waiting(turn)
    assert (action.tool, action.args) == ("open_door", {"door": "north"})
    await process.service.answer_action(ALICE, asked.session_id, action.action_id, {"opened": True})
    done = await whole(turn)
    assert [(each.tool, each.status) for each in done.tool_calls] == [("open_door", "ok")]
    row = await process.db.row("SELECT status, result FROM tool_calls WHERE effect_key IS NOT NULL")
    assert row is not None
    assert (row["status"], orjson.loads(row["result"])) == ("ok", {"ok": True, "opened": True})
    audit = await process.db.rows("SELECT actor, type, body FROM audit_events ORDER BY seq")
    (entry,) = [each for each in audit if each["type"] == "client_action_answered"]
    assert (entry["actor"], orjson.loads(entry["body"])["tool"]) == (ALICE.subject, "open_door")


async def test_a_gated_call_that_is_not_answered_is_unknown(start: Start) -> None:
    """Nobody claims that the door is open, nor that it is not."""
    process = await start(0.4)
    asked = await whole(await process.say("open the north door"))
    decision = Decision(asked.pending_actions[0].pending_id, confirm=True)
    done = await whole(await process.service.decide(ALICE, asked.session_id, decision))
    assert [(each.tool, each.status) for each in done.tool_calls] == [("open_door", "unknown")]
    row = await process.db.row("SELECT count(*) AS n FROM client_actions WHERE state = 'expired'")
    assert row is not None
    assert row["n"] == 1


# --- and over the death of a process ----------------------------------------------------------------------------------


async def test_a_turn_that_is_taken_over_asks_for_the_same_thing(start: Start) -> None:
    """kill -9 while it waits: the event comes again under its id, one row is all there is, and the answer ends it."""
    first = await start()
    turn = await first.say("where am I?")
    action = await waiting(turn)
    other = await start()
    first.cut_off()
    await until(lambda: runs(other))
    taken_over = await other.service.attach(ALICE, turn.turn_id)
    seen: list[Any] = []
    async for event in taken_over.events():
        seen.append(event)
        again = [each for each in seen if isinstance(each, ClientActionRequired)]
        if len(again) == 2 and event is again[-1]:
            await other.service.answer_action(ALICE, turn.conversation_id, action.action_id, POSITION)
    assert {each.action_id for each in again} == {action.action_id}
    assert [each.seq for each in seen] == list(range(len(seen)))
    (finished,) = [each for each in seen if isinstance(each, ToolFinished)]
    assert finished.result == {"ok": True, **POSITION}
    assert "".join(each.text for each in seen if isinstance(each, TextDelta)) == "Your device says 27.25."
    assert len(await other.db.rows("SELECT FROM client_actions")) == 1


@pytest.mark.parametrize("text", ["where am I?", "open the north door"], ids=["read", "gated"])
async def test_a_process_that_stops_hands_the_waiting_over(start: Start, text: str) -> None:
    """It does not stay for the device; another one waits in its place, for what the device does only once."""
    first, other = await start(), await start()
    turn = await first.say(text)
    if "door" in text:
        question = (await whole(turn)).pending_actions[0]
        decision = Decision(question.pending_id, confirm=True)
        turn = await first.service.decide(ALICE, turn.conversation_id, decision)
    action = await waiting(turn)
    async with asyncio.timeout(15):
        await first.service.stop(0)
    await until(lambda: runs(other))
    await other.service.answer_action(ALICE, turn.conversation_id, action.action_id, POSITION)
    done = await whole(await other.service.attach(ALICE, turn.turn_id))
    assert [each.status for each in done.tool_calls] == ["ok"]
    assert len(await other.db.rows("SELECT FROM client_actions")) == 1


@pytest.mark.parametrize("text", ["where am I?", "open the north door"], ids=["read", "gated"])
async def test_an_answer_that_came_while_nobody_ran_the_turn_is_found(start: Start, text: str) -> None:
    """The client is not asked again, whether it read something or did something."""
    first = await start()
    other = await start(takes_over=False)
    turn = await first.say(text)
    if "door" in text:
        question = (await whole(turn)).pending_actions[0]
        decision = Decision(question.pending_id, confirm=True)
        turn = await first.service.decide(ALICE, turn.conversation_id, decision)
    action = await waiting(turn)
    await replicated(other, turn)
    first.cut_off()
    await other.service.answer_action(ALICE, turn.conversation_id, action.action_id, POSITION)
    await other.service.start()
    done = await whole(await other.service.attach(ALICE, turn.turn_id))
    assert [each.status for each in done.tool_calls] == ["ok"]
    frames = await (await other.service.attach(ALICE, turn.turn_id)).finished()
    assert len([each for each in frames if isinstance(each.event, ClientActionRequired)]) == 1


async def test_an_effect_whose_turn_is_gone_is_settled_by_its_answer(start: Start, tmp_path: Path) -> None:
    """The reconciler asks nobody; it reads what the client had answered."""
    first = await start()
    other = await start(takes_over=False)
    turn = await first.say("open the north door")
    decision = Decision((await whole(turn)).pending_actions[0].pending_id, confirm=True)
    turn = await first.service.decide(ALICE, turn.conversation_id, decision)
    action = await waiting(turn)
    first.cut_off()
    await other.db.rows("UPDATE turns SET state = 'failed', events = ''::bytea WHERE id = $1", turn.turn_id)
    async with device(tmp_path) as agent:
        reconciler = Reconciler(other.db, CLOCK, agent.toolbox, context, Pace(min_age_s=0, lease_s=0))
        assert await reconciler.look() == 0
        await other.service.answer_action(ALICE, turn.conversation_id, action.action_id, {"opened": True})
        assert await reconciler.look() == 1
    row = await other.db.row("SELECT status, result FROM tool_calls WHERE effect_key IS NOT NULL")
    assert row is not None
    assert (row["status"], orjson.loads(row["result"])["opened"]) == ("ok", True)


async def runs(process: Process) -> bool:
    return process.service.running_turns == 1


async def replicated(process: Process, turn: Turn) -> None:
    """Until the turn's events can be followed from this process."""
    await waiting(await process.service.attach(ALICE, turn.turn_id))
