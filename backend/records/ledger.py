"""Effects intended and done, and the callbacks people asked for. One commit before an effect, one after it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from agent.errors import Conflict, StoreUnavailable
from agent.ports import Earlier, EffectKey
from backend.identity.principal import Principal
from backend.records.database import Database, scope, to_json_text
from backend.records.ids import uuid7
from backend.records.turns import Lease
from tools.contract import ToolResult


class LeaseLost(Conflict):
    """Another process has taken the turn over; this one may start no effect any more."""

    code = "lease_lost"


# Between attempts to commit an outcome.
SETTLE_RETRIES_S = (0.1, 0.5, 2.0)

_INTEND = """
WITH t AS (
    SELECT tenant, conversation_id, id FROM turns
    WHERE id = $1 AND lease_owner = $2 AND lease_fence = $3 AND state = 'running'
    FOR SHARE
), i AS (
    INSERT INTO tool_calls (id, tenant, conversation_id, turn_id, call_id, tool, effect, args, status,
                            effect_key, basis, pending_id)
    SELECT $4, t.tenant, t.conversation_id, t.id, $5, $6, $7, $8, 'intended', $9, $10, $11 FROM t
    ON CONFLICT (tenant, effect_key) WHERE effect_key IS NOT NULL DO NOTHING
    RETURNING id
)
SELECT EXISTS (SELECT FROM t) AS held, EXISTS (SELECT FROM i) AS is_new"""


@dataclass(frozen=True, slots=True)
class TurnLedger:
    """`agent.ports.Ledger` of one turn. Implements the callbacks' store beside it, for the same caller."""

    db: Database
    caller: Principal
    conversation_id: UUID
    lease: Lease
    _unsettled: set[str] = field(default_factory=set)

    async def intend(self, effect: EffectKey) -> Earlier | None:
        """Commit the intent; what is known of the effect when it is not new; `LeaseLost` when not ours to do."""
        row = await self.db.row(
            _INTEND,
            self.lease.turn_id,
            self.lease.owner,
            self.lease.fence,
            uuid7(),
            effect.call_id,
            effect.tool,
            "gated" if effect.pending_id else "write",
            to_json_text(effect.args),
            effect.key,
            effect.basis,
            effect.pending_id,
        )
        if row is None or not row["held"]:
            raise LeaseLost(f"turn {self.lease.turn_id} is no longer ours")
        self._unsettled.add(effect.key)
        return None if row["is_new"] else await self._earlier(effect.key)

    async def _earlier(self, key: str) -> Earlier:
        row = await self.db.row(
            """SELECT status, result, upstream_status, extract(epoch FROM now() - started_at)::float8 AS age_s
               FROM tool_calls WHERE tenant = $1 AND effect_key = $2""",
            self.caller.tenant,
            key,
        )
        if row is None or row["status"] == "intended":
            return Earlier("intended", age_s=row["age_s"] if row else 0.0)
        return Earlier("settled", ToolResult(row["status"], orjson.loads(row["result"]), row["upstream_status"]))

    async def begun(self) -> tuple[EffectKey, ...]:
        """The effects that attempts of this turn have begun so far, in their order."""
        rows = await self.db.rows(
            """SELECT effect_key, tool, args, call_id, basis, pending_id FROM tool_calls
               WHERE turn_id = $1 AND effect_key IS NOT NULL ORDER BY started_at, id""",
            self.lease.turn_id,
        )
        return tuple(
            EffectKey(
                key=row["effect_key"],
                tool=row["tool"],
                args=orjson.loads(row["args"]),
                call_id=row["call_id"],
                basis=row["basis"],
                pending_id=row["pending_id"],
            )
            for row in rows
        )

    async def settle(self, effect: EffectKey, result: ToolResult) -> None:
        """Commit the outcome, with patience for a database that is being restarted.

        Not fenced: what has happened is recorded, whoever runs the turn by now.
        """
        for pause_s in SETTLE_RETRIES_S:
            try:
                return await self._settle(effect, result)
            except StoreUnavailable:
                await asyncio.sleep(pause_s)
        return await self._settle(effect, result)

    async def _settle(self, effect: EffectKey, result: ToolResult) -> None:
        await self.db.rows(
            """UPDATE tool_calls SET status = $3, result = $4, upstream_status = $5, settled_at = now()
               WHERE tenant = $1 AND effect_key = $2 AND status IN ('intended', 'unknown')""",
            self.caller.tenant,
            effect.key,
            result.status,
            to_json_text(result.data),
            result.upstream_status,
        )
        self._unsettled.discard(effect.key)

    async def outcomes(self) -> set[str]:
        """How the turn's effects stand, those of earlier attempts too: some of `intended, ok, error, unknown`.

        Effects of test mode are none. Without a database, what this attempt knows of.
        """
        try:
            rows = await self.db.rows(
                """SELECT DISTINCT status FROM tool_calls
                   WHERE turn_id = $1 AND effect_key IS NOT NULL AND coalesce(result->>'test_mode', '') <> 'true'""",
                self.lease.turn_id,
            )
        except StoreUnavailable:
            return {"intended"} if self._unsettled else set()
        return {row["status"] for row in rows}

    async def record(self, reason: str, summary: str, effect_key: str) -> str:
        """Store one request for a human callback; the same key stores it once. Returns its reference."""
        callback_id = uuid7()
        row = await self.db.row(
            """INSERT INTO callbacks (tenant, owner, id, conversation_id, effect_key, reference, reason, summary)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
               ON CONFLICT (tenant, effect_key) DO UPDATE SET effect_key = excluded.effect_key
               RETURNING reference""",
            *scope(self.caller),
            callback_id,
            self.conversation_id,
            effect_key,
            f"CB-{callback_id.hex[-8:].upper()}",
            reason,
            summary,
        )
        reference: str = row["reference"] if row else ""
        return reference
