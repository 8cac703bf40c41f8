"""Runs some turns again by another model, when they are over: in the background, a few at a time, seen by nobody.

What does not fit into the queue is left out and counted; what goes wrong with a shadow is how that shadow went.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Literal, cast

import asyncpg
import structlog

from agent.definition import AgentDefinition
from agent.errors import BudgetSpent, OutcropError, StoreUnavailable
from agent.events import TurnEvent
from agent.ports import TurnInput, TurnWork
from agent.routing.comparison import Known, compare
from agent.routing.router import Shadowed
from agent.routing.same_call import Things
from agent.routing.shadow import Ran, RecordedToolbox, RecordingToolbox, Watch, rehearsal, rehearse
from backend.records import shadow_turns
from backend.records.database import Database
from backend.records.shadow_turns import ShadowTurn
from backend.routing.models import Models, Shadowing
from backend.telemetry.metrics import Metrics
from tools.contract import Toolbox

log = structlog.get_logger(__name__)

FORGET_EVERY_S = 3600.0

Result = Literal["compared", "failed", "queue_full", "reconfigured", "budget", "limit", "unfinished"]
RunWith = Callable[[Toolbox], AsyncIterator[TurnEvent]]


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn that is over: what it began with, what its tools answered, how it ended."""

    given: TurnInput
    recording: RecordingToolbox
    real: Ran
    context: Context = field(default_factory=copy_context)  # log lines and tapes belong to the same request


@dataclass(slots=True)
class _Queue:
    """Of one route and shadow."""

    running: int = 0
    waiting: deque[_Turn] = field(default_factory=deque)


class Shadows:
    """The shadows of one process; `beside` each turn, `stop` at the end."""

    def __init__(
        self,
        db: Database,
        definition: AgentDefinition,
        classify: Callable[[str], str],
        models: Models,
        metrics: Metrics,
    ) -> None:
        self._db = db
        self._definition = definition
        self._free_text = free_text(definition)
        self._classify = classify
        self._models = models
        self._metrics = metrics
        self._queues: dict[tuple[str, str], _Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._forget_at = 0.0  # time.monotonic()
        self._stopping = False

    async def stop(self) -> None:
        """End the running ones; what waits is forgotten."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def beside(self, turn: TurnInput, work: TurnWork, tools: Toolbox, run: RunWith) -> AsyncIterator[TurnEvent]:
        """The events of `run(tools)`; when they are over, the turn may be run again.

        One that was taken over is not: what its tools answered before is not known.
        """
        by = self._models.router.shadow(turn.tenant, turn.turn_id) if turn.first_seq == 0 else None
        return run(tools) if by is None else self._followed(by, turn, work, tools, run)

    async def _followed(
        self, by: Shadowed, turn: TurnInput, work: TurnWork, tools: Toolbox, run: RunWith
    ) -> AsyncIterator[TurnEvent]:
        given, recording, watch = rehearsal(turn), RecordingToolbox(tools), Watch()
        async with aclosing(cast(AsyncGenerator[TurnEvent, None], run(recording))) as events:
            async for event in events:
                watch.see(event)
                yield event
        real = watch.ran(work)
        if real is not None and work.arm != "degraded":
            self._offer(by, _Turn(given, recording, real))

    def _offer(self, by: Shadowed, turn: _Turn) -> None:
        queue = self._queues.setdefault((by.route, by.config.to), _Queue())
        if queue.running < by.config.concurrent:
            self._start(queue, by, turn)
        elif len(queue.waiting) < by.config.waiting:
            queue.waiting.append(turn)
        else:
            self._metrics.shadowed(by.route, by.config.to, "queue_full")

    def _start(self, queue: _Queue, by: Shadowed, turn: _Turn) -> None:
        queue.running += 1
        task = asyncio.create_task(self._work(queue, by, turn), context=turn.context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, queue: _Queue, by: Shadowed, turn: _Turn) -> None:
        """Run a turn again, then let the next one begin."""
        result: Result = "failed"
        try:
            result = await self._run_again(turn)
        except Exception:  # outermost loop: one that cannot be compared must not hold up the others
            log.exception("shadow_stumbled", turn_id=str(turn.given.turn_id))
        finally:
            queue.running -= 1
        self._metrics.shadowed(by.route, by.config.to, result)
        if queue.waiting and not self._stopping:
            self._start(queue, by, queue.waiting.popleft())

    async def _run_again(self, turn: _Turn) -> Result:
        found = self._models.shadow(turn.given)  # as it is now: while the turn waited, its route may have changed
        if found is None:
            return "reconfigured"
        given, things = turn.given, Things((*turn.given.history, *turn.real.work.messages))
        known = Known(turn.recording.offered, things, self._free_text)
        shadow = await self._rehearse(found, turn, known)
        if shadow is None:
            return "unfinished"
        if shadow.was_refused or shadow.code == BudgetSpent.code:
            return "limit" if shadow.was_refused else "budget"
        compared = await asyncio.to_thread(compare, turn.real, shadow, known, given.tools.clock.now().date())
        route, provider = found.by.route, found.by.candidate.provider
        row = ShadowTurn(
            given.tenant, given.conversation_id, given.turn_id, route, provider.name, provider.model, compared
        )
        return "compared" if await self._keep(row) else "failed"

    async def _rehearse(self, found: Shadowing, turn: _Turn, known: Known) -> Ran | None:
        toolbox = RecordedToolbox(turn.recording, known.things, known.free_text)
        candidate, purse = found.by.candidate, found.purse
        try:
            return await rehearse(self._definition, candidate, purse, toolbox, turn.given, self._classify)
        except Exception:  # whatever it was, it is how this shadow went
            log.exception("shadow_crashed", turn_id=str(turn.given.turn_id))
            return Ran(TurnWork(), "failed", OutcropError.code)

    async def _keep(self, row: ShadowTurn) -> bool:
        """Write it down, if that can be done; now and then forget old ones."""
        try:
            await shadow_turns.add(self._db, row)
            if time.monotonic() >= self._forget_at:
                self._forget_at = time.monotonic() + FORGET_EVERY_S
                await shadow_turns.forget(self._db)
        except (StoreUnavailable, asyncpg.PostgresError) as error:
            log.warning("shadow_not_kept", turn_id=str(row.turn_id), error=repr(error))
            return False
        return True


def free_text(definition: AgentDefinition) -> dict[str, frozenset[str]]:
    """Arguments in which two calls may differ in their wording and still be the same, by tool."""
    named = dict(definition.file.dictated)
    named |= {tool: gated.completes for tool, gated in definition.file.gated.items() if gated.completes}
    return {tool: frozenset({name}) for tool, name in named.items()}
