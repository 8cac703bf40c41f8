"""kill -9 at every step of a change: nothing is lost, nothing happens twice, and the conversation says what is so.

The upstream lives on in a process of its own. A server is brought to a step by the simulator's slow answers and by
table locks that hold its next statement back; it is killed there; another one over the same stores takes the turn over.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.chaos.fleet import Fleet, ServerProcess, outcrop_serve
from tests.conftest import TemplateDatabase
from tests.integration.outside_simulator import OutsideSimulator
from tests.throwaway_stores import StoreUrls

PATIENCE = {
    "TURN_LEASE_SECONDS": "4",
    "PF360_SETTLE_SECONDS": "2",
    "PF360_READ_TIMEOUT_SECONDS": "5",
    "PF360_WRITE_TIMEOUT_SECONDS": "5",
}
REDIS_DATABASE = 63  # no test worker's


# --- what is done ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """One change: the messages before it, the one that does it, and what upstream and the person then find."""

    before: tuple[str, ...]
    message: str
    endpoint: str  # of its first write
    commits: tuple[str, ...]
    project: str
    reply: str

    def __str__(self) -> str:
        return self.commits[-1]


BOOKING = Change(("book my flooring on monday at 10",), "yes", "schedule", ("schedule",), "410001", "It's booked")
MOVE = Change(
    ("move my windows appointment to thursday march 19 at 1 pm",), "yes", "cancel_reschedule",
    ("cancel_reschedule", "schedule"), "410002", "Thursday, March 19",
)  # fmt: skip
CANCELLATION = Change(("cancel my windows appointment",), "yes", "cancel", ("cancel",), "410002", "cancel")
NOTE = Change((), "add a note to my flooring: the gate code is 4711", "add_note", ("add_note",), "410001", "4711")


@dataclass(frozen=True)
class Surroundings:
    """What every scene plays in."""

    fleet: Fleet
    simulator: OutsideSimulator
    pg: asyncpg.Connection[Any]
    database_url: str


class Scene:
    """One change that is about to be made, and everything around it."""

    def __init__(self, change: Change, around: Surroundings) -> None:
        self.change, self.fleet, self.simulator = change, around.fleet, around.simulator
        self.pg, self.database_url = around.pg, around.database_url
        self.key = uuid4().hex
        self.session: str | None = None
        self._request: asyncio.Task[Any] | None = None

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
        return httpx.AsyncClient(base_url=self.fleet.active.url, timeout=30.0, trust_env=False)

    async def change_it(self) -> dict[str, Any]:
        """The message that makes the change; the same request each time."""
        return await self.post(self.change.message, **{"idempotency-key": self.key})

    def begin(self) -> None:
        """Send it and do not wait: the server is going to die."""
        self._request = asyncio.create_task(self.change_it())

    async def broke_off(self) -> None:
        """The connection of `begin` is gone, without an answer."""
        assert self._request
        with suppress(httpx.TransportError):
            raise AssertionError(f"there was an answer: {await self._request}")

    async def until(self, query: str, *values: object) -> None:
        """Wait until a query finds something."""
        async with asyncio.timeout(15):
            while not await self.pg.fetchval(f"SELECT EXISTS ({query})", *values):
                await asyncio.sleep(0.005)

    async def give_up_leases(self) -> None:
        """Spare us the wait for the dead server's lease; a long one keeps a slow machine from losing its own."""
        await self.pg.execute("UPDATE turns SET lease_expires_at = now() WHERE state = 'running'")

    async def intended(self) -> None:
        await self.until("SELECT FROM tool_calls WHERE conversation_id = $1 AND status = 'intended'", self.session)

    async def committed(self, count: int = 1) -> None:
        """Wait until upstream has made so many changes."""
        async with asyncio.timeout(15):
            while len(self.simulator.changes()) < count:
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def held_back(self, table: str, statement: str, *, undone: bool = True) -> AsyncIterator[Callable[[], Any]]:
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


# --- where it is killed: each brings the server to the point, and yields there --------------------------------------

Point = Callable[[Scene], AbstractAsyncContextManager[None]]
ACCEPT, INTEND, CLOSE = "INSERT INTO turns", "FOR SHARE", "SET state = $4"
SETTLE = "AND effect_key = $2 AND status IN"


@asynccontextmanager
async def before_it_was_accepted(scene: Scene) -> AsyncIterator[None]:
    async with scene.held_back("turns", ACCEPT) as reached:
        scene.begin()
        await reached()
        yield


@asynccontextmanager
async def accepted_without_knowing(scene: Scene) -> AsyncIterator[None]:
    async with scene.held_back("turns", ACCEPT, undone=False) as reached:
        scene.begin()
        await reached()
        yield


@asynccontextmanager
async def before_the_intent(scene: Scene) -> AsyncIterator[None]:
    async with scene.held_back("tool_calls", INTEND) as reached:
        scene.begin()
        await reached()
        yield


@asynccontextmanager
async def before_it_was_sent(scene: Scene) -> AsyncIterator[None]:
    scene.simulator.arm("dashboard", "slow:3000")
    scene.begin()
    await scene.intended()
    yield
    scene.simulator.disarm()


@asynccontextmanager
async def swallowed_on_its_way(scene: Scene) -> AsyncIterator[None]:
    scene.simulator.arm(scene.change.endpoint, "timeout", times=1)  # taken, never answered, nothing changed
    scene.begin()
    await scene.intended()
    await asyncio.sleep(0.4)
    assert scene.simulator.changes() == []
    yield
    scene.simulator.disarm()


@asynccontextmanager
async def while_upstream_works(scene: Scene) -> AsyncIterator[None]:
    scene.simulator.arm(scene.change.endpoint, "slow:1200", times=1)
    scene.begin()
    await scene.intended()
    await asyncio.sleep(0.4)  # the reads before it are over; the write is on its way, and upstream finishes it later
    assert scene.simulator.changes() == []
    yield


@asynccontextmanager
async def after_the_release(scene: Scene) -> AsyncIterator[None]:
    scene.simulator.arm("schedule", "slow:1200", times=1)
    scene.begin()
    await scene.committed()
    yield


@asynccontextmanager
async def while_it_reads_back(scene: Scene) -> AsyncIterator[None]:
    scene.simulator.arm(scene.change.endpoint, "commit_then_drop", times=1)
    scene.simulator.arm("dashboard", "stale_read")
    scene.begin()
    await scene.committed()
    yield
    scene.simulator.disarm()


@asynccontextmanager
async def before_the_outcome(scene: Scene) -> AsyncIterator[None]:
    scene.simulator.arm(scene.change.endpoint, "slow:500", times=1)
    scene.begin()
    await scene.intended()
    async with scene.held_back("tool_calls", SETTLE) as reached:
        await reached()
        assert tuple(scene.simulator.changes()) == scene.change.commits
        yield


@asynccontextmanager
async def before_the_end(scene: Scene) -> AsyncIterator[None]:
    scene.simulator.arm(scene.change.endpoint, "slow:500", times=1)
    scene.begin()
    await scene.intended()
    async with scene.held_back("messages", CLOSE) as reached:
        await reached()
        yield


@asynccontextmanager
async def ended_without_knowing(scene: Scene) -> AsyncIterator[None]:
    scene.simulator.arm(scene.change.endpoint, "slow:500", times=1)
    scene.begin()
    await scene.intended()
    async with scene.held_back("messages", CLOSE, undone=False) as reached:
        await reached()
        yield


CASES: list[tuple[Change, Point]] = [
    *((BOOKING, point) for point in (
        before_it_was_accepted, accepted_without_knowing, before_the_intent, before_it_was_sent, while_upstream_works,
        while_it_reads_back, before_the_outcome, before_the_end, ended_without_knowing,
    )),
    *((MOVE, point) for point in (before_it_was_sent, after_the_release, before_the_outcome)),
    *((CANCELLATION, point) for point in (while_upstream_works, before_the_outcome)),
    *((NOTE, point) for point in (before_the_intent, while_upstream_works, before_the_outcome, before_the_end)),
]  # fmt: skip


# --- the surroundings -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="outcrop-kill-"))
    made.chmod(0o711)  # the account that root's PostgreSQL runs as passes through
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def upstream() -> Iterator[OutsideSimulator]:
    with OutsideSimulator() as running:
        yield running


@pytest.fixture
def simulator(upstream: OutsideSimulator) -> OutsideSimulator:
    upstream.reset()
    return upstream


@pytest.fixture(scope="module")
def shared_database(template_database: TemplateDatabase) -> Iterator[str]:
    name, url = template_database.copy()
    yield url
    template_database.drop(name)


@pytest.fixture(scope="module")
def fleet(folder: Path, upstream: OutsideSimulator, shared_database: str, store_urls: StoreUrls) -> Iterator[Fleet]:
    stores = {
        "DATABASE_URL": shared_database,
        "REDIS_URL": f"{store_urls.redis.rsplit('/', 1)[0]}/{REDIS_DATABASE}",
        "OUTCROP_DATA_DIR": str(folder / "unused"),
    }
    with Fleet(folder, {**stores, **upstream.environment, **PATIENCE}) as running:
        yield running


@pytest.fixture
async def around(fleet: Fleet, simulator: OutsideSimulator, shared_database: str) -> AsyncIterator[Surroundings]:
    await fleet.ready()
    connection = await asyncpg.connect(shared_database)
    yield Surroundings(fleet, simulator, connection, shared_database)
    await connection.close()


# --- what holds afterwards ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "point"), CASES, ids=lambda each: getattr(each, "__name__", str(each)))
async def test_a_killed_server_leaves_the_truth(change: Change, point: Point, around: Surroundings) -> None:
    """The change is made exactly once, the reply says so, the message is there once, the request finds its turn."""
    scene = Scene(change, around)
    await scene.prepare()
    async with point(scene):
        await around.fleet.kill_active()
        await scene.broke_off()
    await scene.give_up_leases()
    await whole_and_once(scene)


async def whole_and_once(scene: Scene) -> None:
    """After the take-over, by the record, by upstream, and by a repeated request."""
    change = scene.change
    answer = await scene.change_it()
    assert change.reply in answer["text"], answer["text"]
    assert [call["status"] for call in answer["tool_calls"]][-1:] == ["ok"], answer["tool_calls"]
    assert tuple(scene.simulator.changes()) == change.commits
    assert scene.simulator.broken() == {}

    again = await scene.change_it()
    assert (again["turn_id"], again["text"]) == (answer["turn_id"], answer["text"])
    assert tuple(scene.simulator.changes()) == change.commits

    messages = (await scene.get("/messages"))["messages"]
    said = [each["body"]["text"] for each in messages if each["role"] == "user"]
    assert said == [*(change.before or ("hello",)), change.message]
    assert messages[-1]["body"]["text"].endswith(answer["text"].rsplit("\n\n", 1)[-1])
    assert (await scene.get(""))["running_turn_id"] is None


async def test_a_note_that_perhaps_was_not_sent_is_not_sent_again(around: Surroundings) -> None:
    """Nobody said yes to it: killed before upstream did it, it is told as unclear, not as saved, and raised."""
    scene = Scene(NOTE, around)
    await scene.prepare()
    async with swallowed_on_its_way(scene):
        await around.fleet.kill_active()
        await scene.broke_off()
    await scene.give_up_leases()
    answer = await scene.change_it()
    assert answer["tool_calls"][-1]["status"] == "unknown"
    assert "saved" not in answer["text"].lower()
    assert scene.simulator.changes() == []
    await scene.until("SELECT FROM audit_events WHERE conversation_id = $1 AND type = 'effect_unknown'", scene.session)


async def test_a_service_with_its_own_stores_comes_back(folder: Path, simulator: OutsideSimulator) -> None:
    """Killed with its PostgreSQL and Redis while upstream works; the next start on the data finishes the turn."""
    keys = {**simulator.environment, **PATIENCE, "OUTCROP_DATA_DIR": str(folder / "data")}
    first = await ServerProcess(folder, keys, outcrop_serve).ready()
    async with httpx.AsyncClient(base_url=first.url, timeout=30.0, trust_env=False) as client:
        asked = (await client.post("/api/v1/chat", json={"message": BOOKING.before[0]})).json()
        body = {"message": "yes", "session_id": asked["session_id"]}
        simulator.arm("schedule", "slow:1500", times=1)
        sent = asyncio.create_task(client.post("/api/v1/chat", json=body, headers={"idempotency-key": "k"}))
        dashboards = simulator.requests("dashboard")
        async with asyncio.timeout(15):
            while simulator.requests("dashboard") == dashboards:
                await asyncio.sleep(0.01)
        await first.kill()
        with pytest.raises(httpx.TransportError):
            await sent
    second = await ServerProcess(folder, keys, outcrop_serve).ready()
    try:
        async with httpx.AsyncClient(base_url=second.url, timeout=30.0, trust_env=False) as client:
            answer = (await client.post("/api/v1/chat", json=body, headers={"idempotency-key": "k"})).json()
            assert BOOKING.reply in answer["text"]
        assert tuple(simulator.changes()) == BOOKING.commits
        assert simulator.broken() == {}
    finally:
        await second.stop()
