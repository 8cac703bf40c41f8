"""What a breaker promises to callers in one process or in two: alone in memory, and over Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import pytest
import redis.asyncio as redis_client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.embedded.data_folder import owned_folder
from backend.embedded.redis import EmbeddedRedis
from backend.sessions import breakers as shared
from backend.sessions.breakers import RedisBreakers, breaker_key, not_closed
from tools.breaker import Alone, Breaker, BreakerOpen, Exchange
from tools.errors import SlotTaken, UpstreamUnavailable

RESET_S = 0.05
NEVER_S = 600.0
WAIT_S = 10.0


class Down(UpstreamUnavailable):
    """The upstream failed."""


async def attempt(breaker: Breaker, outcome: BaseException | None = None, until: asyncio.Event | None = None) -> None:
    """One guarded call that ends with `outcome`, once `until` is set."""
    async with breaker.guard(UpstreamUnavailable):
        if until:
            await until.wait()
        if outcome:
            raise outcome


async def fail(breaker: Breaker, times: int = 1) -> None:
    """That many failing calls; each gets its own exception, unchanged."""
    for _ in range(times):
        down = Down("x")
        with pytest.raises(Down) as raised:
            await attempt(breaker, down)
        assert raised.value is down
        assert down.__cause__ is None


async def holds(condition: Callable[[], bool]) -> float:
    """Wait until it does; how many seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < WAIT_S
        await asyncio.sleep(0.002)
    return time.monotonic() - began


@dataclass
class World:
    """Makes replicas that share their state; `pair` is two of them, in memory the same one twice."""

    url: str | None
    open: list[RedisBreakers] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    async def exchange(self) -> Exchange:
        """That of one replica."""
        if self.url is None:
            return Alone()
        made = RedisBreakers(self.url, "t")
        made.start()
        self.open.append(made)
        await holds(lambda: made.shared)
        return made

    async def replica(self, fail_max: int = 3, reset_s: float = RESET_S) -> Breaker:
        """The breaker of one process."""
        return Breaker(
            "x",
            fail_max=fail_max,
            reset_s=reset_s,
            exchange=await self.exchange(),
            on_change=lambda _name, state: self.changes.append(state),
        )

    async def pair(self, fail_max: int = 3, reset_s: float = RESET_S) -> tuple[Breaker, Breaker]:
        """Two processes' breakers of one upstream."""
        one = await self.replica(fail_max, reset_s)
        return one, one if self.url is None else await self.replica(fail_max, reset_s)


@pytest.fixture(params=["memory", "redis"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    made = World(request.getfixturevalue("redis_url") if request.param == "redis" else None)
    yield made
    for each in made.open:
        await each.close()


@pytest.fixture
async def over_redis(redis_url: str) -> AsyncIterator[World]:
    made = World(redis_url)
    yield made
    for each in made.open:
        await each.close()


# --- both -----------------------------------------------------------------------------------------------------------


async def test_failures_in_a_row_open_it_wherever_they_happen(world: World) -> None:
    """Two here and one there; then nobody is let through, and all hear of it within a refresh."""
    one, two = await world.pair(reset_s=NEVER_S)
    await fail(one, 2)
    await holds(lambda: two.snapshot().failures == 2)
    assert (one.state, two.state) == ("closed", "closed")
    await fail(two)
    assert two.state == "open"
    assert await holds(lambda: one.state == "open") < 1.0
    for breaker in (one, two):
        with pytest.raises(BreakerOpen):
            await attempt(breaker)
        assert breaker.snapshot().retry_in_s > NEVER_S - WAIT_S


async def test_an_answer_starts_the_count_again(world: World) -> None:
    """A refusal is one too; a cancelled call and a bug of ours are neither answer nor failure."""
    one, two = await world.pair(fail_max=2, reset_s=NEVER_S)
    for outcome in (None, SlotTaken("x")):
        await fail(one)
        await holds(lambda: two.snapshot().failures == 1)
        with pytest.raises(SlotTaken) if outcome else nullcontext():
            await attempt(two, outcome)
        await holds(lambda: one.snapshot().failures == 0)
    await fail(one)
    await holds(lambda: two.snapshot().failures == 1)
    with pytest.raises(ZeroDivisionError):
        await attempt(two, ZeroDivisionError())
    await cancelled(two)
    await fail(two)
    await holds(lambda: one.state == two.state == "open")


async def cancelled(breaker: Breaker) -> None:
    """A call that is let through and then cancelled."""
    let_through = asyncio.Event()

    async def endless() -> None:
        async with breaker.guard(UpstreamUnavailable):
            let_through.set()
            await asyncio.Event().wait()

    call = asyncio.create_task(endless())
    await let_through.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_one_probe_at_a_time_and_its_answer_closes_it_everywhere(world: World) -> None:
    """Fifty callers in each process when the time has come: one is let through; a failing probe opens again."""
    one, two = await world.pair(fail_max=1)
    await fail(one)
    await holds(lambda: two.state == "open")
    for outcome in (Down("still"), None):
        await holds(lambda: one.snapshot().retry_in_s == two.snapshot().retry_in_s == 0)
        gate = asyncio.Event()
        calls = [asyncio.create_task(attempt(each, outcome, gate)) for _ in range(50) for each in (one, two)]
        await holds(lambda calls=calls: sum(call.done() for call in calls) == 99)  # type: ignore[misc]
        gate.set()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(each, BreakerOpen) for each in ended) == 99
        assert ended.count(outcome) == 1
        await holds(lambda: (one.state == two.state == "closed") is (outcome is None))  # noqa: B023 (awaited here)
    await attempt(one)
    await attempt(two)
    assert world.changes[-1] == "closed"
    assert set(world.changes) == {"open", "half-open", "closed"}


async def test_a_cancelled_probe_leaves_the_way_free(world: World) -> None:
    """It said nothing, so the next caller tries, whichever process it is in."""
    one, two = await world.pair(fail_max=1)
    await fail(one)
    await holds(lambda: two.state == "open" and one.snapshot().retry_in_s == two.snapshot().retry_in_s == 0)
    await cancelled(one)
    assert one.state == "half-open"
    await holds(lambda: not two._elsewhere)
    await attempt(two)
    await holds(lambda: one.state == two.state == "closed")


async def test_a_call_from_before_it_opened_says_nothing(world: World) -> None:
    """Neither closes its late answer the circuit, nor does its late failure count against a closed one."""
    one, two = await world.pair(fail_max=2)
    gate = asyncio.Event()
    late = [asyncio.create_task(attempt(two, outcome, gate)) for outcome in (None, Down("x"), Down("x"))]
    await asyncio.sleep(0)
    await fail(one, 2)
    await holds(lambda: two.state == "open" and two.snapshot().retry_in_s == 0)
    gate.set()
    await asyncio.gather(*late, return_exceptions=True)
    assert two.state == "open"
    await attempt(two)
    await holds(lambda: one.state == two.state == "closed")
    assert two.snapshot().failures == 0


async def test_an_open_circuit_further_in_is_no_failure_of_this_one() -> None:
    """A call that another breaker held back has not asked this upstream anything."""
    outer, inner = Breaker("outer", fail_max=1), Breaker("inner", fail_max=1)
    await fail(inner)
    with pytest.raises(BreakerOpen):
        async with outer.guard(UpstreamUnavailable):
            await attempt(inner)
    assert (outer.state, outer.snapshot().failures) == ("closed", 0)


# --- over Redis -----------------------------------------------------------------------------------------------------


async def test_a_prober_that_is_killed_does_not_block_the_others(
    over_redis: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease runs out when nobody renews it; until then nobody else probes, however long the probe takes."""
    monkeypatch.setattr(shared, "PROBE_LEASE_S", 0.5)
    one, two = await over_redis.pair(fail_max=1)
    await fail(one)
    await holds(lambda: two.state == "open" and two.snapshot().retry_in_s == 0)
    probe = asyncio.create_task(attempt(one, until=asyncio.Event()))
    await holds(lambda: one.state == "half-open")
    began = time.monotonic()
    while time.monotonic() - began < 3 * shared.PROBE_LEASE_S:
        with pytest.raises(BreakerOpen):
            await attempt(two)
        await asyncio.sleep(0.02)
    dying = over_redis.open[0]._task
    assert dying
    dying.cancel()

    async def let_through() -> bool:
        try:
            await attempt(two)
        except BreakerOpen:
            return False
        return True

    began = time.monotonic()
    while not await let_through():
        assert time.monotonic() - began < WAIT_S
        await asyncio.sleep(0.02)
    assert two.state == "closed"
    probe.cancel()
    await asyncio.wait({probe})


async def test_a_process_that_starts_later_finds_it_open(over_redis: World, redis_url: str) -> None:
    """And operators see it on record, under the tenant's key."""
    await fail(one := await over_redis.replica(reset_s=NEVER_S), 3)
    await holds(lambda: not one._change)
    late = await over_redis.replica(reset_s=NEVER_S)
    await holds(lambda: late.state == "open")
    assert late.snapshot().retry_in_s > NEVER_S - WAIT_S
    assert await not_closed(redis_url, "t") == ["x"]
    assert await not_closed(redis_url, "other") == []
    async with redis_client.Redis.from_url(redis_url) as client:
        assert await client.keys("*") == [breaker_key("t", "x").encode()]
        assert await client.ttl(breaker_key("t", "x")) > 0


async def test_an_emptied_redis_is_told_again(over_redis: World, redis_url: str) -> None:
    """What is open stays open, also for processes that start afterwards."""
    one, two = await over_redis.pair(fail_max=1, reset_s=NEVER_S)
    await fail(one)
    await holds(lambda: two.state == "open")
    async with redis_client.Redis.from_url(redis_url) as client:
        await client.flushdb()
        late = await over_redis.replica(fail_max=1, reset_s=NEVER_S)
        await holds(lambda: late.state == "open")
    assert (one.state, two.state) == ("open", "open")


@asynccontextmanager
async def own_redis(folder: Path) -> AsyncIterator[EmbeddedRedis]:
    with owned_folder(folder, "stores") as held:
        server = EmbeddedRedis(held)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


@pytest.fixture
def folder() -> Path:
    return Path(os.environ["OUTCROP_TEST_STORES"]) / f"breakers-{time.monotonic_ns()}"


async def test_without_redis_each_process_goes_on_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hanging or gone: calls run, failures open it here, one probe at a time closes it; one line a change."""
    async with own_redis(folder) as server:
        world = World(server.url)
        one, two = await world.pair(fail_max=2)
        exchanges = world.open
        assert server.pid
        os.kill(server.pid, signal.SIGSTOP)
        await holds(lambda: not any(each.shared for each in exchanges))
        await attempt(one)
        await fail(one, 2)
        assert (one.state, two.state) == ("open", "closed")
        await attempt(two)
        await holds(lambda: one.snapshot().retry_in_s == 0)
        gate = asyncio.Event()
        calls = [asyncio.create_task(attempt(one, Down("still"), gate)) for _ in range(20)]
        await holds(lambda: sum(call.done() for call in calls) == 19)
        gate.set()
        await asyncio.gather(*calls, return_exceptions=True)
        assert (one.state, two.state) == ("open", "closed")
        os.kill(server.pid, signal.SIGCONT)
        await holds(lambda: all(each.shared for each in exchanges) and two.state == "open")

        await server.stop()
        await holds(lambda: not any(each.shared for each in exchanges))
        await attempt(one)
        await holds(lambda: one.state == "closed")
        await server.start()
        await holds(lambda: two.state == "closed")
        for each in exchanges:
            await each.close()
    said = capsys.readouterr().out
    assert said.count("breakers_alone") == 4
    assert said.count("breakers_shared") == 4


async def test_a_claim_that_redis_never_answers_goes_on_alone(folder: Path) -> None:
    """Redis hangs, or we stop, just when a probe is due: the caller waits for the time limit, not for ever."""
    async with own_redis(folder) as server:
        world = World(server.url)
        breaker = await world.replica(fail_max=1)
        await fail(breaker)
        await holds(lambda: breaker.snapshot().retry_in_s == 0)
        assert server.pid
        os.kill(server.pid, signal.SIGSTOP)
        await attempt(breaker)
        assert breaker.state == "closed"
        os.kill(server.pid, signal.SIGCONT)
        await holds(lambda: world.open[0].shared)
        await fail(breaker)
        await holds(lambda: breaker.snapshot().retry_in_s == 0)
        os.kill(server.pid, signal.SIGSTOP)
        asking = asyncio.create_task(attempt(breaker))
        await holds(lambda: bool(world.open[0]._claims) or asking.done())
        await world.open[0].close()
        await asking
        os.kill(server.pid, signal.SIGCONT)


# --- over Redis, step by step ---------------------------------------------------------------------------------------


@dataclass
class Replica:
    """A process that exchanges only when it is told to."""

    exchange: RedisBreakers
    breaker: Breaker

    async def talks(self) -> None:
        """One refresh."""
        await self.exchange._exchange()

    async def attempts(self, outcome: Exception | None = None) -> BaseException | None:
        """One call, with the round trip of a claim if it needs one; what it raised."""
        call = asyncio.create_task(attempt(self.breaker, outcome))
        while not call.done():
            await asyncio.sleep(0)
            if self.exchange._claims:
                await self.talks()
        return call.exception()


@asynccontextmanager
async def silent_pair(url: str, fail_max: int, reset_s: float) -> AsyncIterator[tuple[Replica, Replica]]:
    exchanges = [RedisBreakers(url, "t") for _ in range(2)]
    one, two = (Replica(each, Breaker("x", fail_max=fail_max, reset_s=reset_s, exchange=each)) for each in exchanges)
    await one.talks()
    await two.talks()
    yield one, two
    for each in exchanges:
        await each.close()


async def test_what_happened_before_others_opened_and_closed_it_counts_no_more(redis_url: str) -> None:
    """A failure that is told late is of another time."""
    async with silent_pair(redis_url, fail_max=2, reset_s=0.0) as (one, two):
        await fail(two.breaker)
        await fail(one.breaker, 2)
        await one.talks()
        assert await one.attempts() is None
        await one.talks()
        await two.talks()
        await fail(one.breaker)
        await one.talks()
        await two.talks()
        assert [(each.breaker.state, each.breaker.snapshot().failures) for each in (one, two)] == [("closed", 1)] * 2


async def test_failures_after_it_closed_are_told_with_the_closing(redis_url: str) -> None:
    """Both in one refresh: the other knows of the failure too."""
    async with silent_pair(redis_url, fail_max=2, reset_s=0.0) as (one, two):
        await fail(one.breaker, 2)
        await one.talks()
        await two.talks()
        assert await one.attempts() is None
        await fail(one.breaker)
        await one.talks()
        await two.talks()
        assert (two.breaker.state, two.breaker.snapshot().failures) == ("closed", 1)


async def test_who_has_not_heard_that_a_probe_failed_may_not_probe(redis_url: str) -> None:
    """Redis knows since when it is open again."""
    async with silent_pair(redis_url, fail_max=1, reset_s=1.0) as (one, two):
        await fail(one.breaker)
        await one.talks()
        await two.talks()
        await holds(lambda: one.breaker.snapshot().retry_in_s == two.breaker.snapshot().retry_in_s == 0)
        assert isinstance(await one.attempts(Down("still")), Down)
        await one.talks()
        assert isinstance(await two.attempts(), BreakerOpen)
        assert two.breaker.snapshot().retry_in_s > 0


Step = tuple[int, str]
STEPS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["begin", "ok", "fail", "cancel"])), max_size=40)


@dataclass
class Calls:
    """Calls under way through one breaker."""

    breaker: Breaker
    running: list[tuple[asyncio.Task[None], asyncio.Future[None]]] = field(default_factory=list)

    def begin(self) -> asyncio.Task[None]:
        """One more; it ends as its future does."""
        ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def call() -> None:
            async with self.breaker.guard(UpstreamUnavailable):
                started.set()
                await ending

        started = asyncio.Event()
        task = asyncio.create_task(call())
        self.running.append((task, ending))
        return task

    async def end(self, how: str) -> None:
        """The oldest one."""
        task, ending = self.running.pop(0)
        if how == "ok":
            ending.set_result(None)
        elif how == "fail":
            ending.set_exception(Down("x"))
        else:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def refused(self) -> bool:
        """Whether the last one was; it is none then."""
        if refused := self.running[-1][0].done():
            assert isinstance(self.running.pop()[0].exception(), BreakerOpen)
        return refused


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=STEPS)
def test_two_processes_that_talk_are_like_one(redis_url: str, steps: list[Step]) -> None:
    """Whatever begins and ends in whatever order: over Redis the same calls are let through as by one breaker."""
    asyncio.run(_compare(redis_url, steps))


async def _compare(url: str, steps: list[Step]) -> None:
    exchanges = [RedisBreakers(url, f"h{time.monotonic_ns()}") for _ in range(2)]
    exchanges[1]._tenant = exchanges[0]._tenant

    async def talk(first: int) -> None:
        await exchanges[first]._exchange()
        await exchanges[1 - first]._exchange()

    alone = Breaker("x", fail_max=2, reset_s=0.0)
    # For each replica its own calls and, through the one breaker, the same ones again.
    both = [(Calls(Breaker("x", fail_max=2, reset_s=0.0, exchange=each)), Calls(alone)) for each in exchanges]
    await talk(0)
    for replica, what in steps:
        mine, one = both[replica]
        if what == "begin":
            call = mine.begin()
            for _ in range(3):
                await asyncio.sleep(0)
            while exchanges[replica]._claims and not call.done():
                await exchanges[replica]._exchange()
                await asyncio.sleep(0)
            one.begin()
            for _ in range(3):
                await asyncio.sleep(0)
            assert mine.refused() is one.refused()
        elif mine.running:
            await mine.end(what)
            await one.end(what)
        await talk(replica)
        for each, _ in both:
            assert (each.breaker.state == "closed") is (alone.state == "closed")
            if alone.state == "closed":
                assert each.breaker.snapshot().failures == alone.snapshot().failures
    for calls in chain.from_iterable(both):
        while calls.running:
            await calls.end("cancel")
    for exchange in exchanges:
        await exchange.close()


async def test_closing_ends_whatever_is_under_way(redis_url: str) -> None:
    """The Redis client swallows one cancellation in some fifteen, within a command; a stop must not hang on that."""
    for pause_ms in range(40):
        exchange = RedisBreakers(redis_url, "acme")
        Breaker("pf360", exchange=exchange)
        exchange.start()
        await asyncio.sleep(pause_ms / 2_000)
        async with asyncio.timeout(WAIT_S):
            await exchange.close()
