"""Model calls of a sliding window, of all replicas together: what a canary is judged by.

Each process keeps the sums of its own calls, by slot of time, and writes them to Redis as they are: a slot that is
written again, because nobody knows whether the answer or the command was lost, counts once. What Redis has lost is
written again as well. Without Redis a process sees its own calls, and those of the others when Redis is back.

One hash for each route, provider and arm; a field for each process and slot. Slots carry the time of Redis, so that
clocks need not agree. Commands are those of Redis 6.2.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson
import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from agent.routing.config import RouteConfig
from agent.routing.health import Totals, total
from agent.routing.plan import Arm, ModelCall
from backend.sessions.store import LOST

log = structlog.get_logger(__name__)

TIMEOUT_S = 0.5
SLOTS = 30  # of a window
LATE_S = 60.0  # how much longer than its window a series is kept


@dataclass(frozen=True, slots=True)
class Series:
    """The calls of one provider in one arm of a route."""

    route: str
    arm: Arm
    provider: str


@dataclass(slots=True)
class _Slot:
    began: float  # time.monotonic()
    totals: Totals = field(default_factory=Totals)


@dataclass(slots=True)
class _Window:
    """One series as this process knows it: its own slots by number, and those of others with their beginnings."""

    window_s: float
    own: dict[int, _Slot] = field(default_factory=dict)
    stored: dict[bytes, bytes] = field(default_factory=dict)  # as Redis had them last

    @property
    def slot_s(self) -> float:
        return self.window_s / SLOTS

    def slot(self, now: float) -> Totals:
        number = int(now / self.slot_s)
        slot = self.own.get(number)
        if slot is None:
            self.own[number] = slot = _Slot(number * self.slot_s)
            for old in [n for n, each in self.own.items() if each.began + self.slot_s < now - self.window_s]:
                del self.own[old]
        return slot.totals


class RouteStatistics:
    """Counts model calls of one process and knows those of all; `watch`, `count`, and `exchange` about once a second.

    Only the two arms of routes with a canary are counted, so what is kept is bounded by the configuration.
    """

    def __init__(self, url: str, tenant: str) -> None:
        # No second try of a command: the next exchange is one.
        self._redis: Any = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
        )
        self._tenant = tenant
        self._me = uuid4().hex[:12]
        self._windows: dict[Series, _Window] = {}
        self._ahead_s: float | None = None  # the clock of Redis minus time.monotonic()
        self.shared = False  # whether Redis answered last
        self._said = False

    async def close(self) -> None:
        """Disconnect."""
        await self._redis.aclose()

    def watch(self, routes: Mapping[str, RouteConfig]) -> None:
        """Count the arms of these routes from now on, and forget others. What is known of the same ones stays."""
        kept = {}
        for series, window_s in watched(routes).items():
            known = self._windows.get(series)
            if known is None or known.window_s != window_s:
                known = _Window(window_s)
            kept[series] = known
        self._windows = kept

    def count(self, call: ModelCall) -> None:
        """Count a finished call, if it tells something of a canary or of what a canary is held against.

        The latter are calls of the primary in conversations outside of the canary: within, it only gets what the
        canary failed with. A canary that is left alone because it failed does not answer: that counts as an error.
        """
        is_baseline = call.arm == "primary" and not call.in_canary and not call.refused
        if not is_baseline and (call.arm != "canary" or call.refused not in ("", "circuit")):
            return
        window = self._windows.get(Series(call.route, call.arm, call.provider))
        if window is not None:
            window.slot(time.monotonic()).add(call)

    def totals(self, series: Series, since: float | None = None) -> Totals:
        """Calls of the window, as of the last `exchange`; only slots that began after `since` (`time.monotonic()`)."""
        window = self._windows.get(series)
        if window is None:
            return Totals()
        start = max(time.monotonic() - window.window_s, since if since is not None else float("-inf"))
        own = [slot.totals for slot in window.own.values() if slot.began >= start]
        if not self.shared or self._ahead_s is None:
            return total(own)
        mine = f"{self._me}:".encode()
        others = [value for name, value in window.stored.items() if not name.startswith(mine)]
        return total([*own, *_since(others, start + self._ahead_s)])

    async def exchange(self) -> bool:
        """Write what Redis does not have of ours, and read what others wrote; whether Redis answered."""
        windows = dict(self._windows)
        try:
            if self._ahead_s is None or not self.shared:
                self._ahead_s = await self._clock()
            if windows:
                await self._exchange(windows, self._ahead_s)
        except LOST as error:
            self._lost(error)
        else:
            self._regained()
        return self.shared

    async def _exchange(self, windows: dict[Series, _Window], ahead_s: float) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.time()
        for series, window in windows.items():
            key = series_key(self._tenant, series)
            if news := self._news(window, ahead_s):
                pipeline.hset(key, mapping=news)
                pipeline.expire(key, round(window.window_s + LATE_S))
            oldest = time.monotonic() + ahead_s - window.window_s - LATE_S
            if old := [name for name, value in window.stored.items() if _split(value)[0] < oldest]:
                pipeline.hdel(key, *old)
            pipeline.hgetall(key)
        answers = await pipeline.execute()
        self._ahead_s = _seconds(answers[0]) - time.monotonic()
        for window, stored in zip(windows.values(), (each for each in answers if isinstance(each, dict)), strict=True):
            window.stored = stored

    def _news(self, window: _Window, ahead_s: float) -> dict[bytes, bytes]:
        """Slots of ours that Redis has not, or not as they are now; old ones are not brought back."""
        news, oldest = {}, time.monotonic() - window.window_s
        for number, slot in window.own.items():
            if slot.began < oldest:
                continue
            name = f"{self._me}:{number}".encode()
            sums = _sums(slot.totals)
            known = window.stored.get(name)
            if known is None or _split(known)[1] != sums:
                news[name] = b"%.3f %s" % (slot.began + ahead_s, sums)
        return news

    async def _clock(self) -> float:
        return _seconds(await self._redis.time()) - time.monotonic()

    def _lost(self, error: Exception) -> None:
        if self.shared or not self._said:
            log.warning("route_statistics_alone", error=repr(error))
        self.shared, self._said = False, True

    def _regained(self) -> None:
        if self._said and not self.shared:
            log.info("route_statistics_shared")
        self.shared, self._said = True, True


def watched(routes: Mapping[str, RouteConfig]) -> dict[Series, float]:
    """The two arms of every route with a canary, and for how many seconds back they are judged."""
    return {
        series: config.canary.rollback.window_s
        for name, config in routes.items()
        if config.canary
        for series in (Series(name, "canary", config.canary.to), Series(name, "primary", config.primary))
    }


async def on_record(url: str, tenant: str, back_s: Mapping[Series, float]) -> dict[Series, Totals]:
    """What all processes wrote down of the last so many seconds; `RedisError` or `OSError` without Redis."""
    client: Any = redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    try:
        now = _seconds(await client.time())
        stored = {series: await client.hgetall(series_key(tenant, series)) for series in back_s}
    finally:
        await client.aclose()
    return {series: total(_since(stored[series].values(), now - seconds)) for series, seconds in back_s.items()}


def series_key(tenant: str, series: Series) -> str:
    """Where the sums of a series are stored."""
    return f"outcrop:{tenant}:calls:{series.route}:{series.arm}:{series.provider}"


def _sums(totals: Totals) -> bytes:
    """JSON: calls, errors, cost, and the slots that are not 0, with their numbers."""
    slots = [(n, count) for n, count in enumerate(totals.slots) if count]
    return orjson.dumps((totals.calls, totals.errors, totals.cost_usd, slots))


def _since(stored: Iterable[bytes], start: float) -> list[Totals]:
    """Stored slots that began at `start`, in the time of Redis, or later."""
    return [_totals(sums) for began, sums in map(_split, stored) if began >= start]


def _split(value: bytes) -> tuple[float, bytes]:
    began, _, sums = value.partition(b" ")
    return float(began), sums


def _totals(sums: bytes) -> Totals:
    calls, errors, cost_usd, slots = orjson.loads(sums)
    totals = Totals(calls, errors, cost_usd)
    for n, count in slots:
        totals.slots[n] += count
    return totals


def _seconds(answer: tuple[int, int]) -> float:
    return answer[0] + answer[1] / 1e6
