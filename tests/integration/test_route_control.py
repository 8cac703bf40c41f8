"""The life of canaries beyond a turn: taken back once, everywhere, and until an operator says otherwise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent.errors import ModelUnavailable
from agent.events import TurnCompleted
from agent.graph import run_turn
from agent.ports import TurnWork
from agent.providers.base import Chunk, Text
from agent.routing.config import ModelsFile, read
from agent.routing.plan import Candidate, ModelCall
from agent.routing.router import Router
from backend.records import route_decisions
from backend.records.database import Database
from backend.records.route_decisions import CONFIGURATION, Decision
from backend.routing.control import RouteControl
from backend.sessions.route_statistics import RouteStatistics
from backend.telemetry.metrics import Metrics
from tests.doubles.scripted_model import scripted
from tests.doubles.talk import DEFINITION
from tests.doubles.world import World
from tools.breaker import Breaker

CANARY = ("default", "new")
TENANT = "t"
WAIT_S = 15.0
NOWHERE = "redis://127.0.0.1:1/0"


def models(
    canary: str = "new", window_s: float = 6, samples: int = 20, percent: float = 50, p95: str = "2"
) -> ModelsFile:
    return read(
        f"""
        providers:
          old: {{kind: ollama, model: a}}
          new: {{kind: ollama, model: b}}
          newer: {{kind: ollama, model: c}}
        routes:
          default:
            primary: old
            canary:
              to: {canary}
              percent: {percent}
              rollback: {{window_s: {window_s}, samples: {samples}, p95: {p95}}}
        """,
        {},
    )


@dataclass
class Replica:
    """One process: its router, as its owner would keep it, and the control over it."""

    db: Database
    redis_url: str
    file: ModelsFile = field(default_factory=models)
    providers: dict[str, Candidate] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        statistics = RouteStatistics(self.redis_url, TENANT)
        self.control = RouteControl(self.db, statistics, TENANT, lambda: self.router, self.metrics, every_s=0.05)
        self.load(self.file)

    def load(self, file: ModelsFile) -> None:
        """What a start or a reload does."""
        silent, _ = scripted([])
        ready = {name: Candidate(replace(silent, name=name)) for name in (*file.providers, "offline")}
        self.router = Router(file, {**ready, **self.providers}, self.control.observe)
        self.control.apply(self.router)

    def call(self, *, ok: bool = True, times: int = 1, arm: str = "canary", provider: str = "new") -> None:
        """Calls that ended like that."""
        outcome = "ok" if ok else "unavailable"
        for _ in range(times):
            self.control.observe(ModelCall("default", arm, provider, "m", outcome, 1.0))  # type: ignore[arg-type]

    @property
    def share(self) -> float:
        """Of the canary, now, in percent."""
        return self.router.status()[0].canary_percent

    def scraped(self) -> str:
        return self.metrics.render(0, {}, self.router.status()).decode()


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def replicas(db: Database, redis_url: str) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two running ones."""
    both = Replica(db, redis_url), Replica(db, redis_url)
    for each in both:
        await each.control.start()
    yield both
    for each in both:
        await each.control.stop()


async def holds(condition: Callable[[], bool]) -> float:
    """Wait until it does; how many seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < WAIT_S
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def failing(replica: Replica, until: Callable[[], bool]) -> None:
    """Its canary fails, call by call."""

    def is_over() -> bool:
        replica.call(ok=False)
        return until()

    await holds(is_over)


async def on_record(db: Database) -> list[Decision]:
    """Decisions about canaries, oldest first."""
    return [each for each in reversed(await route_decisions.since(db, TENANT, 3600, 100)) if each.canary]


async def decide(db: Database, action: str, after: int) -> None:
    """What an operator's command does."""
    decision = Decision(*CANARY, action, "kim", "because")  # type: ignore[arg-type]
    assert await route_decisions.record(db, TENANT, decision, after=after)


async def test_a_breach_that_both_see_is_one_decision_for_both(
    db: Database, replicas: tuple[Replica, Replica], capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither saw enough by itself. One row with what was measured; both obey, also with a file loaded anew."""
    one, two = replicas
    one.call(times=9)
    one.call(ok=False)
    two.call(times=9)
    two.call(ok=False)
    assert (one.share, two.share) == (50, 50)
    await holds(lambda: one.share == two.share == 0)
    (decision,) = await on_record(db)
    assert (decision.key, decision.action, decision.by) == (CANARY, "rolled_back", "budget")
    assert decision.reason == "error rate: 0.1, allowed 0.05, over 20 calls"
    assert decision.facts["canary"]["errors"] == 2
    one.load(models(percent=70))
    assert one.share == 0
    one.load(models(canary="newer"))
    assert one.share == 50  # another canary has done nothing wrong
    assert 'outcrop_canary_rolled_back{canary="new",route="default"} 1.0' in two.scraped()
    said = capsys.readouterr().out
    assert 1 <= said.count("canary_rolled_back") <= 2  # one line of each replica


async def test_rolled_back_stays_until_an_operator_resets_it(db: Database, replicas: tuple[Replica, Replica]) -> None:
    """Over a restart too. After a reset the bad calls that are still in the window count no more; new ones do."""
    one, two = replicas
    one.call(ok=False, times=30)
    await holds(lambda: one.share == two.share == 0)
    late = Replica(db, one.redis_url)
    await late.control.start()
    assert late.share == 0
    await decide(db, "reset", 1)
    await holds(lambda: one.share == two.share == late.share == 50)
    for each in (one, two, late):
        await each.control._judge()
        assert each.share == 50
    await failing(late, lambda: one.share == two.share == late.share == 0)
    await late.control.stop()
    assert [each.action for each in await on_record(db)] == ["rolled_back", "reset", "rolled_back"]


async def test_a_promoted_canary_is_still_watched(db: Database, replicas: tuple[Replica, Replica]) -> None:
    """It gets every conversation, and may be taken back."""
    one, two = replicas
    await decide(db, "promoted", 0)
    await holds(lambda: one.share == two.share == 100)
    await failing(one, lambda: one.share == two.share == 0)
    assert [each.action for each in await on_record(db)] == ["promoted", "rolled_back"]


async def test_of_two_decisions_on_the_same_ground_one_is_taken(db: Database) -> None:
    """Ten replicas at once, and one that had not heard of an operator's word."""
    decisions = [Decision(*CANARY, "rolled_back", "budget", str(n)) for n in range(10)]
    taken = await asyncio.gather(*(route_decisions.record(db, TENANT, each, after=0) for each in decisions))
    assert taken.count(True) == 1
    await decide(db, "reset", 1)
    assert not await route_decisions.record(db, TENANT, decisions[0], after=1)
    assert (await route_decisions.latest(db, TENANT))[CANARY].action == "reset"
    assert await route_decisions.latest(db, "another") == {}


async def test_a_configuration_is_recorded_once(db: Database, replicas: tuple[Replica, Replica]) -> None:
    """However many load it; a changed one again."""
    one, two = replicas

    async def recorded() -> list[Decision]:
        return [each for each in await route_decisions.since(db, TENANT, 3600, 10) if each.key == CONFIGURATION]

    (first,) = await recorded()
    assert first.facts["routes"]["default"]["canary"]["to"] == "new"
    assert first.facts["models"]["new"] == "b"
    for each in (one, two):
        each.load(models(percent=5))
    while len(found := await recorded()) < 2:
        await asyncio.sleep(0.005)
    assert found[0].facts["digest"] != found[1].facts["digest"]
    assert len({each.number for each in found}) == 2


async def test_without_redis_each_judges_by_its_own(db: Database) -> None:
    """And tells the others through the database."""
    one, two = Replica(db, NOWHERE), Replica(db, NOWHERE)
    for each in (one, two):
        await each.control.start()
    one.call(ok=False, times=30)
    await holds(lambda: one.share == two.share == 0)
    assert len(await on_record(db)) == 1
    for each in (one, two):
        await each.control.stop()


async def test_a_database_that_is_away_does_not_stop_the_judgement(database_url: str, redis_url: str) -> None:
    """Rolled back here at once; on record when the database is back, and once."""
    away, there = Database(database_url), Database(database_url)
    await there.open()
    one = Replica(away, redis_url)  # as good as unreachable until it is opened
    await one.control.start()
    one.call(ok=False, times=30)
    await holds(lambda: one.share == 0)
    assert await on_record(there) == []
    await away.open()
    while not (found := await on_record(there)):
        await asyncio.sleep(0.005)
    assert [each.action for each in found] == ["rolled_back"]
    await one.control.stop()
    await away.close()
    await there.close()


# --- under load -----------------------------------------------------------------------------------------------------

ANSWER = "All is well with your order."
WINDOW_S = 6.0


@dataclass
class Wire:
    """Answers with `ANSWER` after a while, or breaks off in the middle of it."""

    delay_s: float = 0.002
    breaks: bool = False

    async def stream(self, payload: Any, *, deadline_s: float) -> AsyncIterator[Chunk]:
        """Two pieces."""
        await asyncio.sleep(self.delay_s)
        yield Text(ANSWER[:10])
        if self.breaks:
            raise ConnectionError
        yield Text(ANSWER[10:])

    async def close(self) -> None:
        """Nothing to release."""


@dataclass
class Load:
    """Conversations of one turn each, always some at once, alternately on each replica."""

    replicas: tuple[Replica, Replica]
    began: int = 0
    answers: list[tuple[str, str]] = field(default_factory=list)  # status and text
    arms: list[str] = field(default_factory=list)
    ended: bool = False

    async def work(self) -> None:
        """One turn after the other."""
        while not self.ended:
            self.began += 1
            world, work = World(), TurnWork()
            given = world.turn("How is my order?")
            plan = self.replicas[self.began % 2].router.plan(given.tenant, given.conversation_id)
            self.arms.append(plan.candidates[0].arm)
            stream = run_turn(DEFINITION, plan, world.toolbox, given, work, lambda text: "chitchat")
            final = [event async for event in stream][-1]
            self.answers.append((final.status if isinstance(final, TurnCompleted) else "lost", work.text))

    async def turns(self, more: int) -> None:
        """Wait for so many more."""
        until = len(self.answers) + more
        await holds(lambda: len(self.answers) >= until)


async def test_under_load_a_bad_canary_is_taken_back_within_a_window_and_no_turn_is_lost(
    db: Database, redis_url: str
) -> None:
    """Errors in the middle of answers first, then only slowness: everybody is answered, by the primary if need be."""
    good, canary = Wire(), Wire()
    silent, _ = scripted([])
    made = replace(silent, classify=lambda error: ModelUnavailable(str(error)))
    file = models(window_s=WINDOW_S, samples=40, p95="null")

    breakers: list[Breaker] = []

    def replica() -> Replica:
        breakers.append(breaker := Breaker("model:new", fail_max=5, reset_s=0.2))
        new = Candidate(replace(made, name="new", wire=canary), breaker=breaker)
        return Replica(db, redis_url, file, {"new": new, "old": Candidate(replace(made, name="old", wire=good))})

    both = replica(), replica()
    for each in both:
        await each.control.start()
    load = Load(both)
    workers = [asyncio.create_task(load.work()) for _ in range(16)]

    def taken_back() -> bool:
        return all(each.share == 0 for each in both)

    await load.turns(100)
    assert [each.share for each in both] == [50, 50]
    canary.breaks = True
    assert await holds(taken_back) < WINDOW_S
    await load.turns(16)  # those that had begun before
    sent = len(load.arms)
    await load.turns(50)
    assert set(load.arms[sent:]) == {"primary"}

    canary.breaks, canary.delay_s = False, 0.25
    await holds(lambda: all(each.snapshot().retry_in_s == 0 for each in breakers))
    for each in both:
        each.load(models(window_s=WINDOW_S, samples=40))
    await decide(db, "reset", 1)
    await holds(lambda: all(each.share == 50 for each in both))
    assert await holds(taken_back) < WINDOW_S
    load.ended = True
    await asyncio.gather(*workers)
    for each in both:
        await each.control.stop()
    assert len(load.answers) == load.began
    assert set(load.answers) == {("completed", ANSWER)}
    decisions = await on_record(db)
    assert [each.action for each in decisions] == ["rolled_back", "reset", "rolled_back"]
    assert [each.facts.get("budget") for each in decisions] == ["errors", None, "p95"]
