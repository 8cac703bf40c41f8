"""How many calls of a provider pass: so many at once in this process, so many a second over all replicas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from redis.exceptions import RedisError

from agent.routing.config import CallLimits
from agent.routing.failover import NotAdmitted
from backend.sessions.model_limits import ModelLimits

log = structlog.get_logger(__name__)

# Longer than this nobody waits for a place: another model, or a plain "busy", serves a person better.
PATIENCE_S = 5.0
HINT = "The assistant is very busy just now. Please try again in a moment."


class ProviderGate:
    """An `agent.routing.plan.Gate`. Without Redis each process keeps the rate by itself."""

    def __init__(self, provider: str, limits: CallLimits, shared: ModelLimits) -> None:
        self._provider = provider
        self._limits = limits
        self._shared = shared
        self._places = asyncio.Semaphore(limits.concurrent) if limits.concurrent else None
        self._inside = 0
        self._full_at = 0.0  # time.monotonic(); the bucket of this process alone, for while Redis is away
        self._paused_until = 0.0
        self._telling: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def passing(self, deadline_s: float) -> AsyncIterator[None]:
        """Around one call; `NotAdmitted` when its turn would come too late.

        A call without any patience (`deadline_s` 0, a shadow's) only gets what others do not need: never the last
        place, nor the last call of a burst.
        """
        until = time.monotonic() + min(deadline_s, PATIENCE_S)
        spare = 0 if deadline_s > 0 else 1
        if self._places is None:
            await self._rate(until, spare)
            yield
            return
        if spare and self._inside + spare >= (self._limits.concurrent or 0):
            self._refuse(0.0)
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await self._places.acquire()
        except TimeoutError as error:
            raise NotAdmitted(f"{self._provider}: {self._limits.concurrent} calls at once", user_hint=HINT) from error
        self._inside += 1
        try:
            await self._rate(until, spare)
            yield
        finally:
            self._inside -= 1
            self._places.release()

    def throttled(self, retry_after_s: float | None) -> None:
        """Ask less often: here at once, on the other replicas as soon as Redis has heard of it."""
        self._paused_until = max(self._paused_until, time.monotonic() + min(retry_after_s or 0.0, 60.0))
        if self._limits.per_second is not None:
            task = asyncio.create_task(self._tell(min(retry_after_s or 0.0, 60.0)))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, retry_after_s: float) -> None:
        with suppress(RedisError, OSError):  # then it is known here alone
            await self._shared.throttled(self._provider, retry_after_s)

    async def _rate(self, until: float, spare: int) -> None:
        patience_s = max(0.0, until - time.monotonic())
        wait_s = max(0.0, self._paused_until - time.monotonic())
        if self._limits.per_second is not None and wait_s <= patience_s:
            try:
                taken_s = await self._shared.take(
                    self._provider, self._limits.per_second, self._limits.burst - spare, patience_s
                )
            except (RedisError, OSError) as error:
                log.warning("model_rate_kept_alone", provider=self._provider, error=repr(error))
                taken_s = self._take_alone(patience_s, self._limits.burst - spare)
            wait_s = max(wait_s, taken_s) if taken_s >= 0 else -taken_s
            if taken_s < 0:
                self._refuse(wait_s)
        if wait_s > patience_s:
            self._refuse(wait_s)
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def _take_alone(self, patience_s: float, burst: int) -> float:
        """The same bucket as in Redis, for this process."""
        each_s = 1 / (self._limits.per_second or 1.0)
        now = time.monotonic()
        full = max(self._full_at, now)
        wait_s = max(0.0, full + each_s - burst * each_s - now)
        if wait_s > patience_s:
            return -wait_s
        self._full_at = full + each_s
        return wait_s

    def _refuse(self, wait_s: float) -> None:
        said = f"{self._provider}: its limit of calls is reached; the next may be made in {wait_s:.1f} s"
        raise NotAdmitted(said, user_hint=HINT, retry_after_s=wait_s)
