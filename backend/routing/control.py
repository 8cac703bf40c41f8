"""Watches over canaries: counts their calls, takes back those that leave their budgets, obeys operators.

Two loops, so that a database that is away does not stop the judgement: one judges by the statistics; the other writes
down what was decided here, and brings what was decided elsewhere to this replica's router.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import asyncpg
import structlog

from agent.errors import StoreUnavailable
from agent.routing.health import Breach, Totals, breach
from agent.routing.plan import ModelCall
from agent.routing.router import Override, Router
from agent.transcript import JsonObject
from backend.records import route_decisions
from backend.records.database import Database
from backend.records.route_decisions import BUDGET, CONFIGURATION, SERVICE, Decision
from backend.sessions.route_statistics import RouteStatistics, Series
from backend.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class _Known:
    """The decision that holds for a canary, and when it was taken (`time.monotonic()`)."""

    decision: Decision
    taken: float


class RouteControl:
    """The canaries of one process; `apply` each new router, `start`, then `stop`.

    `router` gives the current one, which may change at any time.
    """

    def __init__(
        self,
        db: Database,
        statistics: RouteStatistics,
        tenant: str,
        router: Callable[[], Router],
        metrics: Metrics | None = None,
        *,
        every_s: float = EVERY_S,
    ) -> None:
        self._db = db
        self._statistics = statistics
        self._tenant = tenant
        self._router = router
        self._metrics = metrics or Metrics()
        self._every_s = every_s
        self._known: dict[tuple[str, str], _Known] = {}
        self._unwritten: dict[tuple[str, str], Decision] = {}  # decided here; `number` is what it is based on
        self._loaded: Router | None = None  # its configuration may not be on record yet
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()  # there is something to write
        self._reachable = True
        self._closing = False

    # --- for the router's owner -----------------------------------------------------------------------------------

    def observe(self, call: ModelCall) -> None:
        """What routers are made with: counts a finished call."""
        self._metrics.count(call)
        self._statistics.count(call)

    def apply(self, router: Router) -> None:
        """Make a new router obey what was decided, before it answers its first turn; begin to watch its canaries."""
        self._loaded = router
        self._statistics.watch(router.models.routes)
        self._steer(router)

    async def start(self) -> None:
        """Learn what was decided before, and begin. Without a database the routes are as their file says, for now."""
        await self._remember()
        self._tasks = [
            asyncio.create_task(self._keep(self._judge, asyncio.Event())),
            asyncio.create_task(self._keep(self._remember, self._wake)),
        ]

    async def stop(self) -> None:
        """End; a decision that could not be written is forgotten, and taken again by whoever sees the same."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._statistics.close()

    # --- judging --------------------------------------------------------------------------------------------------

    async def _judge(self) -> None:
        """Hold every canary against its budget, with the calls of all replicas."""
        await self._statistics.exchange()
        for route, config in self._router().models.routes.items():
            if config.canary is None or self._overrides().get((route, config.canary.to)) == "rolled_back":
                continue
            known = self._known.get((route, config.canary.to))
            # What an operator has promoted or reset begins with a clean slate; else it would be taken back at once.
            since = known.taken if known else None
            canary = self._statistics.totals(Series(route, "canary", config.canary.to), since)
            primary = self._statistics.totals(Series(route, "primary", config.primary), since)
            if left := breach(canary, primary, config.canary.rollback):
                self._roll_back(route, config.canary.to, left, canary, primary)

    def _roll_back(self, route: str, canary: str, left: Breach, of_canary: Totals, of_primary: Totals) -> None:
        known = self._known.get((route, canary))
        facts: JsonObject = {
            "budget": left.budget,
            "measured": left.measured,
            "allowed": left.allowed,
            "canary": summary(of_canary),
            "primary": summary(of_primary),
        }
        based_on = known.decision.number if known else 0
        decision = Decision(route, canary, "rolled_back", BUDGET, str(left), facts, based_on)
        self._unwritten[decision.key] = decision
        self._say(decision)
        self._steer(self._router())
        self._wake.set()

    # --- remembering ----------------------------------------------------------------------------------------------

    async def _remember(self) -> None:
        """Write what was decided here and nowhere else, then learn what holds."""
        try:
            settled = list(self._unwritten.values())
            for decision in settled:  # one that is based on an outdated one is not written: the later one holds
                await route_decisions.record(self._db, self._tenant, decision, after=decision.number)
            found = await route_decisions.latest(self._db, self._tenant)
            if self._loaded is not None:
                await self._put_on_record(self._loaded, found)
        except (StoreUnavailable, asyncpg.PostgresError) as error:
            if self._reachable:
                log.warning("route_decisions_unreachable", error=repr(error))
            self._reachable = False
            return
        self._reachable = True
        self._learn(found, settled)

    async def _put_on_record(self, router: Router, found: dict[tuple[str, str], Decision]) -> None:
        """Record the configuration once, however many replicas load it, and end promotions that it has made good.

        Else a canary of the same name, perhaps a year later, would begin with every conversation. What was rolled back
        stays so: a canary that comes back is one that somebody has to speak for.
        """
        last, facts = found.get(CONFIGURATION), described(router)
        if last is None or last.facts["digest"] != facts["digest"]:
            decision = Decision(*CONFIGURATION, "configuration", SERVICE, "", facts)
            if not await route_decisions.record(self._db, self._tenant, decision, after=last.number if last else 0):
                return  # another replica was faster, perhaps with another file: look again
        for each in found.values():
            config = router.models.routes.get(each.route)
            if each.action == "promoted" and not (config and config.canary and config.canary.to == each.canary):
                ended = Decision(each.route, each.canary, "reset", SERVICE, "it is no canary of its route any more")
                await route_decisions.record(self._db, self._tenant, ended, after=each.number)
        if self._loaded is router:
            self._loaded = None

    def _learn(self, found: dict[tuple[str, str], Decision], settled: list[Decision]) -> None:
        before, known = self._overrides(), self._known
        now = time.monotonic()
        news = [each for key, each in found.items() if key not in known or known[key].decision.number != each.number]
        self._known = {**known, **{each.key: _Known(each, now - each.age_s) for each in news}}
        for decision in settled:
            del self._unwritten[decision.key]
        for decision in news:
            if decision.key != CONFIGURATION and decision.override != before.get(decision.key):
                self._say(decision)
        self._steer(self._router())

    def _say(self, decision: Decision) -> None:
        self._metrics.decided(decision.route, decision.canary, decision.action, decision.kind)
        log.warning(
            f"canary_{decision.action}",
            route=decision.route,
            canary=decision.canary,
            by=decision.by,
            reason=decision.reason,
        )

    def _overrides(self) -> dict[tuple[str, str], Override]:
        known = {key: each.decision.override for key, each in self._known.items()}
        taken = {key: decision.override for key, decision in self._unwritten.items()}
        return {key: override for key, override in {**known, **taken}.items() if override}

    def _steer(self, router: Router) -> None:
        router.override(self._overrides())

    async def _keep(self, work: Callable[[], Awaitable[None]], wake: asyncio.Event) -> None:
        while not self._closing:  # a cancellation within a command does not always come out of the Redis client
            wake.clear()
            try:
                await work()
            except Exception:  # outermost loop: one thing that cannot be read must not end the watch for good
                log.exception("route_control_stumbled")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await wake.wait()


def summary(totals: Totals) -> JsonObject:
    """The sums as people want them: calls, errors, error_rate, p50_s, p95_s, cost_per_call_usd."""
    return {
        "calls": totals.calls,
        "errors": totals.errors,
        "error_rate": round(totals.error_rate, 5),
        "p50_s": round(totals.quantile_s(0.5), 4),
        "p95_s": round(totals.quantile_s(0.95), 4),
        "cost_per_call_usd": round(totals.cost_per_call_usd, 8),
    }


def described(router: Router) -> JsonObject:
    """A configuration as it is put on record: `digest`, `route`, `routes`, `tenants`, and the `models` by provider."""
    models, route = router.models, router.route_of("")
    digest = hashlib.sha256(f"{route} {models.model_dump_json()}".encode()).hexdigest()[:12]
    return {
        "digest": digest,
        "route": route,
        "routes": {name: config.model_dump(mode="json") for name, config in models.routes.items()},
        "tenants": models.tenants,
        "models": {name: provider.model for name, provider in models.providers.items()},
    }
