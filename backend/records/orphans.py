"""Effects without a known outcome, which no turn will settle any more: never settled, or settled as `unknown`.

The former are left by a turn that broke off between an effect and its outcome and then failed, the latter by one that
could not find out. Whoever claims one looks for its outcome; `looks` is the fence between two who do.
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
    """One effect to look for, `intended` or `unknown`. `look` counts from 1.

    `age_s` is since its intent, `quiet_s` since the last moment at which somebody may have sent it.
    """

    id: UUID
    caller: Principal
    conversation_id: UUID
    turn_id: UUID
    last_turn: int
    tool: str
    args: JsonObject
    effect_key: str
    status: str
    age_s: float
    quiet_s: float
    look: int


# No open turn in the conversation: one could find the same effect in its ledger and act on it. An unknown one is looked
# for soon or not at all: what upstream shows much later is the work of others.
_CLAIM = """
UPDATE tool_calls k
SET looks = looks + 1, next_look_at = now() + make_interval(secs => $2 * power(2, looks))
FROM turns t JOIN conversations c ON c.id = t.conversation_id
WHERE t.id = k.turn_id AND k.id IN (
    SELECT o.id FROM tool_calls o JOIN turns e ON e.id = o.turn_id
    WHERE (o.status = 'intended'
           OR (o.status = 'unknown' AND o.effect_key IS NOT NULL AND o.looks < $4
               AND o.started_at > now() - interval '1 hour'))
      AND greatest(o.started_at, o.settled_at, e.ended_at) < now() - make_interval(secs => $1)
      AND (o.next_look_at IS NULL OR o.next_look_at < now())
      AND NOT EXISTS (SELECT FROM turns r
                      WHERE r.conversation_id = o.conversation_id AND r.state IN ('accepted', 'running'))
    ORDER BY o.started_at LIMIT $3 FOR UPDATE OF o SKIP LOCKED)
RETURNING k.id, k.conversation_id, k.turn_id, k.tool, k.args, k.effect_key, k.status, k.looks, t.principal, c.last_turn,
          extract(epoch FROM now() - k.started_at)::float8 AS age_s,
          extract(epoch FROM now() - greatest(k.started_at, k.settled_at, t.ended_at))::float8 AS quiet_s"""


async def claim(db: Database, min_age_s: float, lease_s: float, limit: int, looks: int = 0) -> list[Orphan]:
    """Take up to `limit` orphans that nobody can have sent for `min_age_s`; `unknown` ones up to `looks` times.

    Each is left alone by others for `lease_s`, which doubles with every look.
    """
    rows = await db.rows(_CLAIM, min_age_s, lease_s, limit, looks)
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
            status=row["status"],
            age_s=row["age_s"],
            quiet_s=row["quiet_s"],
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
    seen = Seen(orphan.id, orphan.conversation_id, orphan.last_turn, orphan.status, orphan.look)
    return await effects.settle(db, seen, result, "reconciler", audit_type, body)
