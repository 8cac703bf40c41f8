"""Stopping a turn on real stores: it reaches the model's server, from any replica, whatever becomes of the owner."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import yaml

from agent.errors import NotFound
from agent.events import TextDelta, ToolStarted, TurnCancelled, TurnCompleted
from agent.graph import run_turn
from agent.ports import TurnInput, TurnWork
from agent.routing.plan import only
from backend.clock import RealClock
from backend.conversations.answer import Answer, answer
from backend.conversations.service import AgentVersion, ConversationService, Limits, TurnRequest
from backend.conversations.turn import Turn
from backend.identity.principal import Principal
from backend.records.database import Database
from backend.sessions.store import Sessions
from tests.doubles.model_service import Lane, ModelService, Reply
from tests.doubles.scripted_model import ScriptedWire, calls, says, scripted
from tests.doubles.talk import DEFINITION
from tests.doubles.world import OFFICES, FakeToolbox, FixedClock
from tests.integration.running_server import serving, settings
from tests.integration.test_api import events, is_problem
from tests.integration.test_records import ALICE, BOB
from tests.unit.test_stopping import hanging
from tools.contract import CallbackStore, ToolContext, ToolResult, ToolState

BOOK = calls("confirm_appointment", "c1", project_id="410001", date="2026-03-16", time="10:00")
NO_REDIS = "redis://127.0.0.1:9/0"
JSON = {"content-type": "application/json"}


# --- over HTTP, with a model's server ---------------------------------------------------------------------------------


@pytest.fixture
async def lane(models: ModelService) -> Lane:
    """A model that begins to answer, and then says nothing any more."""
    return await models.lane(Reply(("Let me look. ", "There ", "is "), hang_after=2))


@pytest.fixture
async def client(database_url: str, redis_url: str, lane: Lane, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    prices, path = tmp_path / "prices.yaml", tmp_path / "models.yaml"
    prices.write_text("model-1: {input: 1000, output: 1000}\n")
    provider = {"kind": "local", "model": "model-1", "base_url": lane.url("openai")}
    path.write_text(yaml.safe_dump({"providers": {"a": provider}, "routes": {"default": {"primary": "a"}}}))
    async with serving(settings(database_url, redis_url, models_file=path, prices_file=prices), None) as running:
        yield running


async def cancel(client: httpx.AsyncClient, turn_id: str, **headers: str) -> httpx.Response:
    return await client.post(f"/api/v1/turns/{turn_id}/cancel", headers={**JSON, **headers})


async def running_turn(client: httpx.AsyncClient) -> str:
    """The turn that runs, once there is one."""
    async with asyncio.timeout(10):
        while True:
            for each in (await client.get("/api/v1/conversations")).json()["conversations"]:
                if each["running_turn_id"]:
                    return str(each["running_turn_id"])
            await asyncio.sleep(0.01)


async def test_a_stop_closes_the_models_connection_and_the_conversation_goes_on(
    client: httpx.AsyncClient, lane: Lane, database_url: str
) -> None:
    """The stream ends with `turn_cancelled`; what was said and read is on record; a strict model takes the history."""
    async with client.stream("POST", "/api/v1/chat/stream", json={"message": "hello"}) as stream:
        turn_id, session = stream.headers["x-turn-id"], stream.headers["x-session-id"]
        pieces, seen = stream.aiter_text(), ""
        while "text_delta" not in seen:
            seen += await anext(pieces)
        is_problem(await cancel(client, turn_id, **{"x-demo-identity": "c2"}), 404, "not_found")
        asked = await cancel(client, turn_id)
        assert (asked.status_code, asked.json()) == (
            202, {"session_id": session, "turn_id": turn_id, "status": "running"},
        )  # fmt: skip
        seen += "".join([text async for text in pieces])
    await lane.until(cut_off=1, open=0)
    *_, end = events(seen)
    assert events((await client.get(f"/api/v1/turns/{turn_id}/events")).text)[-1] == end
    assert (end["type"], end["reason"], end["text"]) == ("turn_cancelled", "user", "Let me look.")
    assert end["usage"]["input_tokens"] > 0
    assert end["usage"]["cost_usd"] > 0
    again = await cancel(client, turn_id)
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")

    row = await _row(database_url, turn_id)
    assert (row["state"], row["reply"], row["error_code"]) == ("cancelled", "Let me look.", None)
    assert row["cost_usd"] == end["usage"]["cost_usd"]
    await lane.script(Reply("Here I am again."))
    went_on = await client.post("/api/v1/chat", json={"message": "go on", "session_id": session})
    assert went_on.json()["text"] == "Here I am again."
    assert "Let me look." in str((await lane.bodies())[-1]["messages"])
    assert (await cancel(client, went_on.json()["turn_id"])).json()["status"] == "completed"


@pytest.mark.parametrize("path", ["/api/v1/chat", "/api/chat"])
async def test_who_waits_for_a_whole_answer_gets_what_there_is(client: httpx.AsyncClient, path: str) -> None:
    """No error: the text so far, and the state where the shape has one. The prototype's clients too."""
    body: dict[str, Any] = {"message": "hello"}
    if path == "/api/chat":
        body |= {"session_id": 1, "customer_id": "7000101"}
    asking = asyncio.create_task(client.post(path, json=body))
    assert (await cancel(client, await running_turn(client))).status_code in (200, 202)
    told = await asking
    assert told.status_code == 200, told.text
    if path == "/api/chat":
        assert told.json()["response"] in ("The reply was stopped.", "Let me look.")
    else:
        assert told.json()["status"] == "cancelled"
        assert told.json()["pending_actions"] == []


async def test_ctrl_c_in_the_terminal_stops_the_reply_and_not_the_conversation(client: httpx.AsyncClient) -> None:
    """The prompt comes back, and the program ends when it is told to."""
    command = [sys.executable, "-m", "backend", "chat", "--url", str(client.base_url)]
    pipe = asyncio.subprocess.PIPE
    # A test run in the background of a shell hands on that Ctrl-C is to be ignored.
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    chat = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, preexec_fn=heeds)
    assert chat.stdin is not None
    assert chat.stdout is not None
    async with asyncio.timeout(20):
        chat.stdin.write(b"hello\n")
        await chat.stdout.readuntil(b"Let me look.")
        chat.send_signal(signal.SIGINT)
        await chat.stdout.readuntil(b"Stopped.")
        said, complaints = await chat.communicate(b"/quit\n")
    assert (chat.returncode, complaints) == (0, b"")
    assert said.endswith(b"you> ")


async def test_a_turn_that_is_not_there_cannot_be_stopped(client: httpx.AsyncClient) -> None:
    """Unknown is 404, and what is no id is named."""
    is_problem(await cancel(client, str(uuid4())), 404, "not_found")
    is_problem(await cancel(client, "nonsense"), 422, "invalid_request", "turn_id")


async def _row(database_url: str, turn_id: str) -> Any:
    db = Database(database_url)
    await db.open()
    try:
        return await db.row("SELECT * FROM turns WHERE id = $1", UUID(turn_id))
    finally:
        await db.close()


# --- several replicas -------------------------------------------------------------------------------------------------


def context(caller: Principal, state: ToolState, callbacks: CallbackStore) -> ToolContext:
    return ToolContext(caller.identity, OFFICES, FixedClock(), state, None, callbacks)


@dataclass
class Process:
    """One process of the service: the real graph and ledger, a scripted model, tools in memory."""

    database_url: str
    redis_url: str
    lease_s: float
    provider: Any = field(default_factory=lambda: scripted(says("Never said."))[0])
    toolbox: FakeToolbox = field(default_factory=FakeToolbox)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    is_dead: bool = False

    def __post_init__(self) -> None:
        self.db, self.sessions = Database(self.database_url), Sessions(self.redis_url, idle_s=60)
        self.service = ConversationService(
            db=self.db,
            sessions=self.sessions,
            clock=RealClock("America/New_York"),
            run_turn=self.run,
            make_context=context,
            agent=AgentVersion("test", "1", 20),
            limits=Limits(lease_s=self.lease_s),
        )

    def run(self, turn: TurnInput, work: TurnWork) -> Any:
        return run_turn(DEFINITION, only(self.provider), self.toolbox, turn, work, lambda _: "chitchat")

    @property
    def wire(self) -> ScriptedWire:
        wire = self.provider.wire
        assert isinstance(wire, ScriptedWire)
        return wire

    def cut_off(self) -> None:
        """As if killed: from now on it reads and writes nothing."""
        self.is_dead, self.db._pool = True, None

    async def say(self, text: str, conversation: UUID | None = None) -> Turn:
        return await self.service.submit(ALICE, TurnRequest(text, conversation))

    async def booking(self) -> Turn:
        """A yes whose booking is under way, until it may `go_on`."""
        self.provider, _ = scripted([BOOK])
        asked = await whole(await self.say("book monday at 10"))
        inside = asyncio.Event()

        async def wait_inside() -> None:
            inside.set()
            await self.go_on.wait()
            if self.is_dead:
                raise asyncio.CancelledError

        self.toolbox.during_write = wait_inside
        turn = await self.say("yes", asked.session_id)
        await inside.wait()
        return turn


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(database_url: str, redis_url: str) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def begin(redis: str = redis_url, lease_s: float = 30.0, **parts: Any) -> Process:
            process = Process(database_url, redis, lease_s, **parts)
            await process.db.open()
            await process.service.start()
            stack.push_async_callback(process.db.pool.close)
            stack.push_async_callback(process.sessions.close)
            stack.push_async_callback(process.service.stop, 0)
            stack.callback(process.go_on.set)
            return process

        yield begin


async def whole(turn: Turn) -> Answer:
    async with asyncio.timeout(20):
        return answer(turn.conversation_id, turn.turn_id, await turn.finished(), await turn.pending())


async def listening(process: Process) -> None:
    """Once the process hears of stops."""
    async with asyncio.timeout(10):
        while not process.sessions.hears_stops:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("redis", [True, False], ids=["by Redis", "by the row"])
async def test_another_replica_stops_it(start: Start, *, redis: bool) -> None:
    """At once over Redis, though the lease is not due for ten seconds; without Redis when the lease is renewed."""
    provider, wire = hanging(*says("Let me look. Well"))
    where: dict[str, Any] = {} if redis else {"redis": NO_REDIS, "lease_s": 0.6}
    owner, other = await start(**where, provider=provider), await start(**where)
    if redis:
        await listening(owner)
    turn = await owner.say("hello")
    await wire.silent.wait()
    with pytest.raises(NotFound):
        await other.service.cancel(BOB, turn.turn_id)
    assert not (await other.service.cancel(ALICE, turn.turn_id)).has_ended
    async with asyncio.timeout(5):
        ended = await turn.finished()
    assert isinstance(ended[-1].event, TurnCancelled)
    assert wire.closed
    assert (await other.service.cancel(ALICE, turn.turn_id)).state == "cancelled"


async def test_a_stop_outlives_the_process_that_ran_the_turn(start: Start) -> None:
    """Killed before it heard: whoever takes the turn over ends it, and asks no model."""
    provider, wire = hanging(*says("Let me look. Well"))
    owner, other = await start(provider=provider, lease_s=0.6), await start(lease_s=0.6)
    turn = await owner.say("hello")
    await wire.silent.wait()
    owner.cut_off()
    distant = await other.service.attach(ALICE, turn.turn_id)
    await other.service.cancel(ALICE, turn.turn_id)
    ended = await whole(distant)
    assert (ended.status, ended.text) == ("cancelled", "")
    assert other.wire.requests == []


async def test_a_booking_under_way_is_finished_before_the_turn_ends(start: Start) -> None:
    """Stop after the yes: it is booked once, and whoever follows learns it as the turn's own text."""
    process = await start()
    turn = await process.booking()
    await process.service.cancel(ALICE, turn.turn_id)
    process.go_on.set()
    ended = await whole(turn)
    assert ended.status == "completed"
    assert "Monday, March 16" in ended.text
    assert ended.text.endswith("What had been done by then stays done.")
    assert len(process.toolbox.writes) == 1
    assert (await process.service.cancel(ALICE, turn.turn_id)).state == "completed"


@pytest.mark.parametrize("found", [True, False], ids=["booked", "not booked"])
async def test_a_booking_of_a_dead_process_is_looked_for_and_told(start: Start, *, found: bool) -> None:
    """Killed inside the write, with a stop on record: upstream is asked, nothing is sent again, the end is true."""
    owner = await start(lease_s=0.6)
    turn = await owner.booking()
    upstream = FakeToolbox(found=ToolResult("ok", {"ok": True, "status": "done"}) if found else None)
    owner.cut_off()
    other = await start(lease_s=0.6, toolbox=upstream)
    distant = await other.service.attach(ALICE, turn.turn_id)
    await other.service.cancel(ALICE, turn.turn_id)
    ended = await whole(distant)
    assert upstream.writes == []
    assert other.wire.requests == []
    assert [call.status for call in ended.tool_calls] == ["ok" if found else "error"]
    assert ended.status == ("completed" if found else "cancelled")
    assert ("Monday, March 16" if found else "You stopped that in time") in ended.text
    (final,) = [each.event for each in await distant.finished() if each.is_final]
    assert isinstance(final, TurnCompleted if found else TurnCancelled)
    row = await other.db.row("SELECT status FROM tool_calls WHERE effect_key IS NOT NULL")
    assert row is not None
    assert row["status"] == ("ok" if found else "error")


async def test_events_of_a_stopped_turn_are_numbered_without_gaps(start: Start) -> None:
    """Deltas, the effect and its receipt, then the end."""
    process = await start()
    turn = await process.booking()
    await process.service.cancel(ALICE, turn.turn_id)
    process.go_on.set()
    seen = [each.event for each in await turn.finished()]
    assert [event.seq for event in seen] == list(range(len(seen)))
    kinds = [type(event) for event in seen]
    assert kinds.index(ToolStarted) < kinds.index(TextDelta)
    assert kinds[-1] is TurnCompleted
