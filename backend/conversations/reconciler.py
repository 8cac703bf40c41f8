"""Looks after effects that a turn left without an outcome: reads back upstream, records what is so, resends nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from agent.errors import StoreUnavailable
from backend.clock import ProductClock
from backend.conversations.client_actions import AnswersOnRecord
from backend.conversations.service import MakeContext
from backend.records import orphans
from backend.records.database import Database
from backend.records.ledger import TurnLedger
from backend.records.orphans import Orphan
from backend.records.turns import Lease
from tools.contract import Toolbox, ToolContext, ToolError, ToolResult, ToolState

log = structlog.get_logger(__name__)

NOT_DONE = ToolResult("error", {"ok": False, "code": "not_done", "user_hint": "That was not done.", "retryable": False})
UNKNOWN = ToolResult(
    "unknown", {"ok": False, "code": "unknown_outcome", "user_hint": "That is being checked.", "retryable": False}
)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds and counts. An effect younger than `min_age_s` may still be on its way upstream."""

    every_s: float = 15.0
    min_age_s: float = 25.0
    lease_s: float = 60.0  # of the first look; each further one has twice the time
    looks: int = 5
    at_once: int = 5


class Reconciler:
    """One per process; any number of processes share the work. `start`, then `stop`."""

    def __init__(
        self, db: Database, clock: ProductClock, toolbox: Toolbox, make_context: MakeContext, pace: Pace = Pace()
    ) -> None:
        self._db = db
        self._clock = clock
        self._toolbox = toolbox
        self._make_context = make_context
        self._pace = pace
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look, every few seconds."""
        self._task = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        """End; an effect that is being looked at is left to the next look."""
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self.look()
            except StoreUnavailable as error:
                log.warning("effects_not_looked_after", error=repr(error))
            except Exception:  # outermost loop: one effect that cannot be read must not end the care of all others
                log.exception("reconciler_stumbled")
            await asyncio.sleep(self._pace.every_s)

    async def look(self) -> int:
        """One pass; how many effects were settled."""
        pace = self._pace
        found = await orphans.claim(self._db, pace.min_age_s, pace.lease_s, pace.at_once, pace.looks)
        if found:
            await self._clock.refresh()
        return sum([await self._looked_at(orphan) for orphan in found])

    async def _looked_at(self, orphan: Orphan) -> bool:
        try:
            return await self._settle(orphan)
        except StoreUnavailable:
            raise
        except Exception:  # one effect that cannot be read must not cost the others of its batch their look
            log.exception("effect_not_looked_after", tool=orphan.tool, effect_key=orphan.effect_key)
            return False

    async def _settle(self, orphan: Orphan) -> bool:
        result = await self._read_back(orphan)
        facts = {
            "tool": orphan.tool,
            "status": result.status,
            "code": result.data.get("code"),
            "tenant": orphan.caller.tenant,
            "conversation_id": str(orphan.conversation_id),
            "turn_id": str(orphan.turn_id),
            "looks": orphan.look,
        }
        if result.status == "unknown" and (orphan.look < self._pace.looks or orphan.status == "unknown"):
            log.warning("effect_still_unclear", **facts)
            return False
        event = _audit_type(result)
        settled = await orphans.settle(self._db, orphan, result, event)
        if settled:
            log.warning(event, **facts)
        return settled

    async def _read_back(self, orphan: Orphan) -> ToolResult:
        """How the effect ended, as far as upstream shows."""
        try:
            found = await self._toolbox.reconcile(orphan.tool, orphan.args, self._context(orphan))
        except ToolError:
            return UNKNOWN
        return NOT_DONE if found is None else found

    def _context(self, orphan: Orphan) -> ToolContext:
        nobodys = Lease(orphan.turn_id, "", 0)
        callbacks = TurnLedger(self._db, orphan.caller, orphan.conversation_id, nobodys)
        context = self._make_context(orphan.caller, ToolState(), callbacks)
        intended_at = self._clock.now() - timedelta(seconds=orphan.age_s)
        return replace(
            context,
            effect_key=orphan.effect_key,
            effect_at=intended_at,
            quiet_seconds=orphan.quiet_s,
            conversation_id=str(orphan.conversation_id),
            client=AnswersOnRecord(self._db, orphan.caller),
        )


def _audit_type(result: ToolResult) -> str:
    """`effect_unknown` and `effect_unfinished` are for an operator to look at."""
    if result.status == "unknown":
        return "effect_unknown"
    if result.status == "error" and result is not NOT_DONE:
        return "effect_unfinished"
    return "effect_reconciled"
