"""Effects that were intended and never settled, and that no turn will settle any more.

They are left by a turn that broke off between an effect and its outcome and then failed. Whoever claims one looks for
its outcome; `looks` is the fence between two who do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from agent.transcript import JsonObject
from backend.identity.principal import Principal
from backend.records import effects
from backend.records.database import Database
from backend.records.effects import Seen
from tools.contract import ToolResult


@dataclass(frozen=True, slots=True)
class Orphan:
    """One effect to look for. `age_s` is since its intent; `look` counts from 1."""

    id: UUID
    caller: Principal
    conversation_id: UUID
    turn_id: UUID
    last_turn: int
    tool: str
    args: JsonObject
    effect_key: str
    age_s: float
    look: int


# No open turn in the conversation: one could find the same effect in its ledger and act on it.
_CLAIM = """
UPDATE tool_calls k
SET looks = looks + 1, next_look_at = now() + make_interval(secs => $2 * power(2, looks))
FROM turns t JOIN conversations c ON c.id = t.conversation_id
WHERE t.id = k.turn_id AND k.id IN (
    SELECT o.id FROM tool_calls o
    WHERE o.status = 'intended' AND o.started_at < now() - make_interval(secs => $1)
      AND (o.next_look_at IS NULL OR o.next_look_at < now())
      AND NOT EXISTS (SELECT FROM turns r
                      WHERE r.conversation_id = o.conversation_id AND r.state IN ('accepted', 'running'))
    ORDER BY o.started_at LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING k.id, k.conversation_id, k.turn_id, k.tool, k.args, k.effect_key, k.looks, t.principal, c.last_turn,
          extract(epoch FROM now() - k.started_at)::float8 AS age_s"""


async def claim(db: Database, min_age_s: float, lease_s: float, limit: int) -> list[Orphan]:
    """Take up to `limit` orphans that are older than `min_age_s`; each is left alone by others for `lease_s`, which
    doubles with every look."""
    rows = await db.rows(_CLAIM, min_age_s, lease_s, limit)
    return [
        Orphan(
            id=row["id"],
            caller=Principal.from_json(orjson.loads(row["principal"])),
            conversation_id=row["conversation_id"],
            turn_id=row["turn_id"],
            last_turn=row["last_turn"],
            tool=row["tool"],
            args=orjson.loads(row["args"]),
            effect_key=row["effect_key"],
            age_s=row["age_s"],
            look=row["looks"],
        )
        for row in rows
    ]


async def settle(db: Database, orphan: Orphan, result: ToolResult, audit_type: str) -> bool:
    """Record the outcome and its audit entry in one commit; False when it is not ours to settle any more."""
    body: dict[str, Any] = {
        "tool": orphan.tool,
        "args": orphan.args,
        "status": result.status,
        "code": result.data.get("code"),
        "effect_key": orphan.effect_key,
        "looks": orphan.look,
    }
    seen = Seen(orphan.id, orphan.conversation_id, orphan.last_turn, "intended", orphan.look)
    return await effects.settle(db, seen, result, "reconciler", audit_type, body)
