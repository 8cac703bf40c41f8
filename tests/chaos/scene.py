"""One change that is about to be made, the processes around it, and what must be so when one of them was killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import asyncpg
import httpx

from tests.chaos.fleet import Fleet
from tests.integration.outside_simulator import OutsideSimulator


@dataclass(frozen=True)
class Change:
    """One change: the messages before it, the one that does it, and what upstream and the person then find."""

    before: tuple[str, ...]
    message: str
    endpoint: str  # of its first write
    commits: tuple[str, ...]
    project: str
    reply: str
    name: str

    def __str__(self) -> str:
        return self.name


BOOKING = Change(
    ("book my flooring on monday at 10",), "yes", "schedule", ("schedule",), "410001", "It's booked", "booking"
)
MOVE = Change(
    ("move my windows appointment to thursday march 19 at 1 pm",), "yes", "cancel_reschedule",
    ("cancel_reschedule", "schedule"), "410002", "Thursday, March 19", "move",
)  # fmt: skip
CANCELLATION = Change(
    ("cancel my windows appointment",), "yes", "cancel", ("cancel",), "410002", "cancel", "cancellation"
)
NOTE = Change(
    (), "add a note to my flooring: the gate code is 4711", "add_note", ("add_note",), "410001", "4711", "note"
)
KINDS = {"410001": "flooring", "410002": "windows"}


@dataclass(frozen=True)
class Surroundings:
    """What every scene plays in."""

    fleet: Fleet
    simulator: OutsideSimulator
    pg: asyncpg.Connection[Any]
    database_url: str


class Scene:
    """A conversation up to the message that makes the change, and beyond."""

    def __init__(self, change: Change, around: Surroundings) -> None:
        self.change, self.fleet, self.simulator = change, around.fleet, around.simulator
        self.pg, self.database_url = around.pg, around.database_url
        self.key = uuid4().hex
        self.session: str | None = None
        self._request: asyncio.Task[dict[str, Any]] | None = None

    async def prepare(self) -> None:
        """Talk up to the message that makes the change."""
        for message in self.change.before:
            answer = await self.post(message)
            assert answer["status"] == "waiting", answer["text"]
        if self.session is None:
            await self.post("hello")

    async def post(self, message: str, **headers: str) -> dict[str, Any]:
        """Send a message to the active server; its whole answer."""
        body = {"message": message} | ({"session_id": self.session} if self.session else {})
        async with self._client() as client:
            answer = await client.post("/api/v1/chat", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        self.session = found["session_id"]
        return found

    async def get(self, path: str) -> Any:
        async with self._client() as client:
            return (await client.get(f"/api/v1/sessions/{self.session}{path}")).raise_for_status().json()

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.fleet.active.url, timeout=40.0, trust_env=False)

    async def change_it(self) -> dict[str, Any]:
        """The message that makes the change; the same request each time."""
        return await self.post(self.change.message, **{"idempotency-key": self.key})

    def begin(self) -> None:
        """Send it and do not wait."""
        self._request = asyncio.create_task(self.change_it())

    async def answered(self) -> dict[str, Any]:
        """The answer to `begin`: its server lived on."""
        assert self._request
        return await self._request

    async def broke_off(self) -> None:
        """The connection of `begin` is gone, without an answer."""
        with suppress(httpx.TransportError):
            raise AssertionError(f"there was an answer: {await self.answered()}")

    async def until(self, query: str, *values: object, within_s: float = 60.0) -> None:
        """Wait until a query finds something."""
        async with asyncio.timeout(within_s):
            while not await self.pg.fetchval(f"SELECT EXISTS ({query})", *values):
                await asyncio.sleep(0.005)

    async def give_up_leases(self) -> None:
        """Spare us the wait for the dead server's lease; a long one keeps a slow machine from losing its own."""
        await self.pg.execute("UPDATE turns SET lease_expires_at = now() WHERE state = 'running'")

    async def intended(self) -> None:
        await self.until("SELECT FROM tool_calls WHERE conversation_id = $1 AND status = 'intended'", self.session)

    async def met(self, endpoint: str, mode: str) -> None:
        """Wait until a request has met an armed fault."""
        async with asyncio.timeout(60):
            while not any(
                each["effects"] for each in self.simulator.ask("faults")["faults"]
                if (each["endpoint"], each["mode"]) == (endpoint, mode)
            ):  # fmt: skip
                await asyncio.sleep(0.01)

    async def committed(self, count: int = 1) -> None:
        """Wait until upstream has made so many changes."""
        async with asyncio.timeout(60):
            while len(self.simulator.changes()) < count:
                await asyncio.sleep(0.01)

    async def effect(self) -> str:
        """How the effect of the change stands on record."""
        query = "SELECT status FROM tool_calls WHERE conversation_id = $1 AND effect_key IS NOT NULL"
        rows = await self.pg.fetch(query, self.session)
        assert len(rows) == 1, rows
        status: str = rows[0]["status"]
        return status

    @asynccontextmanager
    async def held_back(
        self, table: str, statement: str, *, undone: bool = True
    ) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Nobody writes to a table in this block; the function it gives waits for a statement that would.

        At the end the statement is carried out, though nobody hears of it, or `undone`.
        """
        like = f"%{statement}%"
        active = "FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE $1"
        holder = await asyncpg.connect(self.database_url)
        await holder.execute(f"BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE")
        try:
            yield lambda: self.until(f"SELECT {active} AND wait_event_type = 'Lock'", like)
            if undone:
                await self.pg.execute(f"SELECT pg_terminate_backend(pid) {active}", like)
                await self.until(f"SELECT WHERE NOT EXISTS (SELECT {active})", like)
        finally:
            await holder.close()
        # Backends of a killed client go on to the end of their statement.
        await self.until(f"SELECT WHERE NOT EXISTS (SELECT {active})", like)


# --- what holds afterwards ------------------------------------------------------------------------------------------


async def whole_and_once(scene: Scene) -> None:
    """The change is made once and told: by the record, by upstream, by a repeated request, and when asked for."""
    change = scene.change
    answer = await scene.change_it()
    assert change.reply in answer["text"], answer["text"]
    assert [call["status"] for call in answer["tool_calls"]][-1:] == ["ok"], answer["tool_calls"]
    assert await scene.effect() == "ok"
    upstream_holds(scene, change.commits)
    await repeats_itself(scene, answer)
    await status_is_told(scene)
    upstream_holds(scene, change.commits)


async def told_as_unclear(scene: Scene, answer: dict[str, Any]) -> None:
    """Nobody is told that it was done, nor that it was not; a repeated request is told the same."""
    assert answer["tool_calls"][-1]["status"] == "unknown", answer
    assert scene.change.reply not in answer["text"]
    assert "could not find out whether that went through" in answer["text"], answer["text"]
    await repeats_itself(scene, answer)


async def found_later(scene: Scene, status: str, commits: tuple[str, ...]) -> None:
    """The reconciler puts on record what is so, sends nothing, and the conversation tells it from then on."""
    event = "SELECT FROM audit_events WHERE conversation_id = $1 AND type = 'effect_reconciled'"
    await scene.until(event, scene.session, within_s=90)
    assert await scene.effect() == status
    upstream_holds(scene, commits)
    await status_is_told(scene)


def upstream_holds(scene: Scene, commits: tuple[str, ...]) -> None:
    """Exactly these changes, and none of the invariants broken."""
    assert tuple(scene.simulator.changes()) == commits
    assert scene.simulator.broken() == {}


async def repeats_itself(scene: Scene, answer: dict[str, Any]) -> None:
    """The same request is the same turn; its message is there once; nothing runs any more."""
    again = await scene.change_it()
    assert (again["turn_id"], again["text"]) == (answer["turn_id"], answer["text"])
    messages = (await scene.get("/messages"))["messages"]
    said = [each["body"]["text"] for each in messages if each["role"] == "user"]
    assert said == [*(scene.change.before or ("hello",)), scene.change.message]
    assert messages[-1]["body"]["text"].endswith(answer["text"].rsplit("\n\n", 1)[-1])
    assert (await scene.get(""))["running_turn_id"] is None


async def status_is_told(scene: Scene) -> None:
    """Who asks how things stand is told what upstream holds."""
    project = scene.simulator.project(scene.change.project)
    told = (await scene.post(f"what's the status of my {KINDS[scene.change.project]}?"))["text"]
    assert project["status"] in told, told
    if project["start"]:
        start = datetime.fromisoformat(project["start"])
        assert f"{start:%A, %B} {start.day} at {start.hour % 12 or 12}:{start:%M %p}" in told, told
    else:
        assert "not scheduled" in told, told
