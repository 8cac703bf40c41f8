"""Statistics of routes: what processes count is summed once, whatever becomes of Redis between them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import redis.asyncio as redis_client

from agent.routing.config import ModelsFile, read
from agent.routing.health import Totals
from agent.routing.plan import ModelCall
from backend.embedded.data_folder import owned_folder
from backend.embedded.redis import EmbeddedRedis
from backend.sessions import route_statistics
from backend.sessions.route_statistics import RouteStatistics, Series, on_record, series_key

NEW, OLD = Series("default", "canary", "new"), Series("default", "primary", "old")
WAIT_S = 10.0


def models(window_s: float = 300, canary: str = "new") -> ModelsFile:
    """One route with a canary, one without."""
    return read(
        f"""
        providers:
          old: {{kind: ollama, model: a}}
          new: {{kind: ollama, model: b}}
          newer: {{kind: ollama, model: c}}
        routes:
          default: {{primary: old, canary: {{to: {canary}, percent: 50, rollback: {{window_s: {window_s}}}}}}}
          plain: {{primary: old}}
        """,
        {},
    )


def call(series: Series = NEW, *, ok: bool = True, cost_usd: float = 0.5, in_canary: bool | None = None) -> ModelCall:
    return ModelCall(
        route=series.route,
        arm=series.arm,
        provider=series.provider,
        model="m",
        outcome="ok" if ok else "timeout",
        duration_s=1.0,
        cost_usd=cost_usd,
        in_canary=series.arm == "canary" if in_canary is None else in_canary,
    )


@pytest.fixture
async def make(redis_url: str) -> AsyncIterator[Callable[..., RouteStatistics]]:
    """Makes the statistics of one process."""
    made: list[RouteStatistics] = []

    def one(window_s: float = 300, url: str = redis_url) -> RouteStatistics:
        made.append(RouteStatistics(url, "t"))
        made[-1].watch(models(window_s).routes)
        return made[-1]

    yield one
    for each in made:
        await each.close()


async def holds(condition: Callable[[], Awaitable[bool]]) -> None:
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < WAIT_S
        await asyncio.sleep(0.01)


async def exchanged(*processes: RouteStatistics) -> None:
    """Each tells the others, and hears of them."""
    for each in (*processes, *processes):
        assert await each.exchange()


def counts(totals: Totals) -> tuple[int, int, float]:
    return totals.calls, totals.errors, totals.cost_usd


async def test_two_processes_see_the_sum_of_both(make: Callable[..., RouteStatistics], redis_url: str) -> None:
    """Again and again, without counting anything twice; a third that comes later, and the command, see the same."""
    one, two = make(), make()
    for _ in range(3):
        one.count(call())
        two.count(call(ok=False))
        two.count(call(OLD))
        await exchanged(one, two)
        await exchanged(one, two)
    late = make()
    await exchanged(late)
    for each in (one, two, late):
        assert counts(each.totals(NEW)) == (6, 3, 3.0)
        assert counts(each.totals(OLD)) == (3, 0, 1.5)
        assert sum(each.totals(NEW).slots) == 3
    found = await on_record(redis_url, "t", {NEW: 300, OLD: 300})
    assert (counts(found[NEW]), counts(found[OLD])) == ((6, 3, 3.0), (3, 0, 1.5))
    assert (await on_record(redis_url, "another", {NEW: 300}))[NEW] == Totals()


async def test_what_a_baseline_is_made_of(make: Callable[..., RouteStatistics]) -> None:
    """The primary's calls where no canary was tried before; a canary that is left alone did not answer."""
    one = make()
    for arm in ("fallback", "degraded"):
        one.count(call(Series("default", arm, "old")))
    one.count(call(OLD, in_canary=True))
    one.count(call(Series("plain", "primary", "old")))
    one.count(call(Series("gone", "canary", "new")))
    one.count(replace(call(OLD, ok=False), refused="circuit"))
    one.count(replace(call(ok=False), refused="probe"))
    one.count(replace(call(ok=False), refused="limit"))
    assert (one.totals(OLD), one.totals(NEW)) == (Totals(), Totals())
    one.count(call(OLD))
    one.count(replace(call(ok=False, cost_usd=0.0), refused="circuit"))
    assert (counts(one.totals(OLD)), counts(one.totals(NEW))) == ((1, 0, 0.5), (1, 1, 0.0))
    one.watch(models(canary="newer").routes)
    assert one.totals(NEW) == Totals()
    assert counts(one.totals(OLD)) == (1, 0, 0.5)


async def test_the_window_slides(make: Callable[..., RouteStatistics], redis_url: str) -> None:
    """Old calls leave it, in every process and in what is on record; of what came before a moment, nothing counts."""
    one, two = make(window_s=1), make(window_s=1)
    one.count(call())
    await exchanged(one, two)
    assert two.totals(NEW).calls == 1
    assert one.totals(NEW, time.monotonic()).calls == two.totals(NEW, time.monotonic()).calls == 0

    async def gone() -> bool:
        await exchanged(one, two)
        return one.totals(NEW).calls + two.totals(NEW).calls == 0

    await holds(gone)
    assert (await on_record(redis_url, "t", {NEW: 1}))[NEW].calls == 0
    two.count(call())
    assert two.totals(NEW).calls == 1


async def test_what_is_kept_is_bounded(
    make: Callable[..., RouteStatistics], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key lives as long as somebody writes it; slots out of the window are removed from it."""
    monkeypatch.setattr(route_statistics, "LATE_S", 0.0)
    one = make(window_s=1)
    seen = set()
    async with redis_client.Redis.from_url(redis_url) as client:

        async def many_slots_ago() -> bool:
            one.count(call())
            await exchanged(one)
            stored = await client.hkeys(series_key("t", NEW))
            seen.update(stored)
            assert len(stored) <= route_statistics.SLOTS + 3
            return len(seen) > route_statistics.SLOTS + 10

        await holds(many_slots_ago)
        assert 0 < await client.ttl(series_key("t", NEW)) <= 1

        async def gone() -> bool:
            await exchanged(one)
            return not await client.exists(series_key("t", NEW))

        await holds(gone)


async def test_without_redis_each_process_judges_by_its_own(
    make: Callable[..., RouteStatistics], capsys: pytest.CaptureFixture[str]
) -> None:
    """Hanging, gone, or emptied: nothing is lost of what processes know, nothing counts twice, one line a change."""
    folder = Path(os.environ["OUTCROP_TEST_STORES"]) / f"statistics-{time.monotonic_ns()}"
    with owned_folder(folder, "stores") as held:
        server = EmbeddedRedis(held)
        await server.start()
        one, two = make(url=server.url), make(url=server.url)
        one.count(call())
        two.count(call())
        await exchanged(one, two)
        assert one.totals(NEW).calls == 2
        assert server.pid
        os.kill(server.pid, signal.SIGSTOP)
        one.count(call())
        # The command arrives, and its answer is lost: nobody knows whether it was carried out.
        assert not await one.exchange()
        assert one.totals(NEW).calls == 2  # its own
        one.count(call())
        os.kill(server.pid, signal.SIGCONT)
        await exchanged(one, two)
        assert (one.totals(NEW).calls, two.totals(NEW).calls) == (4, 4)

        await server.stop()
        two.count(call())
        assert (await one.exchange(), await two.exchange()) == (False, False)
        assert two.totals(NEW).calls == 2
        await server.start()
        async with redis_client.Redis.from_url(server.url) as client:
            await client.flushall()
        await exchanged(one, two)
        assert (one.totals(NEW).calls, two.totals(NEW).calls) == (5, 5)
        await server.stop()
    said = capsys.readouterr().out
    assert (said.count("route_statistics_alone"), said.count("route_statistics_shared")) == (3, 3)


def test_counting_takes_microseconds() -> None:
    """Of each model call; generous, and the best of some rounds."""
    one = RouteStatistics("redis://127.0.0.1:1/0", "t")
    one.watch(models().routes)
    finished = call()

    def seconds() -> float:
        began = time.perf_counter()
        for _ in range(500):
            one.count(finished)
        return (time.perf_counter() - began) / 500

    assert min(seconds() for _ in range(5)) < 50e-6
