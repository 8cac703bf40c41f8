"""Calls that the client of a conversation runs: handed over, answered once, or given up."""

# ruff: noqa: S608 (the only text put into a statement is the constant THEIRS)
from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson

from agent.errors import ClientActionSettled, NotFound
from agent.ports import ClientAction, ClientCall
from agent.transcript import JsonObject
from backend.identity.principal import Principal
from backend.records.database import THEIRS, Database, scope, to_json_text
from backend.records.ids import uuid7
from backend.records.ledger import LeaseLost
from backend.records.turns import Lease

# Asked again after a crash: the same row, for the turn that asks now, and never for longer than was said.
_OPEN = """
WITH t AS (
    SELECT tenant, conversation_id, id FROM turns
    WHERE id = $1 AND lease_owner = $2 AND lease_fence = $3 AND state = 'running'
    FOR SHARE
)
INSERT INTO client_actions AS a (id, tenant, conversation_id, turn_id, call_key, call_id, tool, args, expires_at)
SELECT $4, t.tenant, t.conversation_id, t.id, $5, $6, $7, $8, now() + make_interval(secs => $9) FROM t
ON CONFLICT (tenant, call_key) DO UPDATE
SET turn_id = excluded.turn_id, call_id = excluded.call_id, expires_at = least(a.expires_at, excluded.expires_at)
RETURNING a.id, a.expires_at, CASE WHEN a.state = 'open' THEN extract(epoch FROM a.expires_at - now()) ELSE 0
                              END::float8 AS left_s
"""


async def open_action(db: Database, lease: Lease, call: ClientCall, wait_s: float) -> ClientAction:
    """Put a call on record under the turn's lease, or find it there; `LeaseLost` when the turn is not ours."""
    row = await db.row(
        _OPEN,
        lease.turn_id,
        lease.owner,
        lease.fence,
        uuid7(),
        call.key,
        call.call_id,
        call.tool,
        to_json_text(call.args),
        wait_s,
    )
    if row is None:
        raise LeaseLost(f"turn {lease.turn_id} is no longer ours")
    return ClientAction(row["id"], row["expires_at"], max(0.0, row["left_s"]))


async def result(db: Database, caller: Principal, action_id: UUID) -> JsonObject | None:
    """The result of an action of the caller's, if there is one yet; `NotFound` when there is no such action."""
    row = await db.row(
        f"""SELECT a.state, a.result FROM client_actions a JOIN conversations c ON c.id = a.conversation_id
            WHERE {THEIRS} AND a.id = $3""",
        *scope(caller),
        action_id,
    )
    return _read(row, action_id)[1]


async def result_of(db: Database, caller: Principal, call_key: str) -> JsonObject | None:
    """What the client answered to the call of this key, if it did."""
    row = await db.row(
        f"""SELECT a.result FROM client_actions a JOIN conversations c ON c.id = a.conversation_id
            WHERE {THEIRS} AND a.tenant = $1 AND a.call_key = $3 AND a.state = 'answered'""",
        *scope(caller),
        call_key,
    )
    return orjson.loads(row["result"]) if row else None


async def give_up(db: Database, caller: Principal, action_id: UUID) -> JsonObject | None:
    """Take no result any more; the one that came before that."""
    row = await db.row(
        f"""UPDATE client_actions a SET state = CASE WHEN a.state = 'open' THEN 'expired' ELSE a.state END
            FROM conversations c WHERE {THEIRS} AND c.id = a.conversation_id AND a.id = $3
            RETURNING a.state, a.result""",
        *scope(caller),
        action_id,
    )
    return _read(row, action_id)[1]


_ANSWER = f"""
WITH a AS (
    UPDATE client_actions x SET state = 'answered', result = $5, answered_at = now()
    FROM conversations c
    WHERE {THEIRS} AND c.id = $3 AND x.conversation_id = c.id AND x.id = $4
      AND x.state = 'open' AND x.expires_at > now()
    RETURNING x.id, x.tenant, x.conversation_id, x.turn_id, x.tool
), n AS (
    UPDATE conversations SET last_audit = last_audit + 1 FROM a WHERE conversations.id = a.conversation_id
    RETURNING last_audit
)
INSERT INTO audit_events (conversation_id, seq, tenant, turn_id, actor, type, body)
SELECT a.conversation_id, n.last_audit, a.tenant, a.turn_id, $2, 'client_action_answered',
       json_build_object('action_id', a.id, 'tool', a.tool)
FROM a, n
RETURNING turn_id"""


async def answer(db: Database, caller: Principal, conversation_id: UUID, action_id: UUID, given: JsonObject) -> UUID:
    """Store the client's result, in one commit with its audit entry; the id of the turn that waits for it.

    The same result again changes nothing.

    Raises:
        NotFound: no such action in a conversation of this caller.
        ClientActionSettled: it was answered otherwise, or nobody waits any more.
    """
    text = to_json_text(given)
    row = await db.row(_ANSWER, *scope(caller), conversation_id, action_id, text)
    if row is not None:
        turn_id: UUID = row["turn_id"]
        return turn_id
    row = await db.row(
        f"""SELECT a.state, a.result, a.turn_id FROM client_actions a JOIN conversations c ON c.id = a.conversation_id
            WHERE {THEIRS} AND c.id = $3 AND a.id = $4""",
        *scope(caller),
        conversation_id,
        action_id,
    )
    state, before = _read(row, action_id)
    if row is None or state != "answered":
        raise ClientActionSettled(f"client action {action_id} is over", field="action_id")
    if before != orjson.loads(text):
        hint = "This was answered already, and otherwise."
        raise ClientActionSettled(f"client action {action_id} has a result", field="action_id", user_hint=hint)
    earlier: UUID = row["turn_id"]
    return earlier


def _read(row: Any, action_id: UUID) -> tuple[str, JsonObject | None]:
    if row is None:
        raise NotFound(f"no client action {action_id}", field="action_id")
    return row["state"], orjson.loads(row["result"]) if row["result"] else None
