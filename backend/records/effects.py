"""Effects as an operator sees them: which need a person, one with its history, and a person's word on how one ended.

An effect needs a person when nobody knows its outcome (`unknown`), when it has stayed `intended`, or when it was found
half done (audit type `effect_unfinished`). A person's word is recorded; nothing is ever sent.
"""

# ruff: noqa: S608 (what is put into statements is constants of this module)
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson

from agent.transcript import JsonObject
from backend.records.database import Database, to_json_text
from tools.contract import ToolResult

Status = Literal["intended", "unknown", "error", "ok", "all"]

RESOLVED = {True: "resolved_done", False: "resolved_not_done"}
HINTS = {True: "Our team has checked: that was done.", False: "Our team has checked: that was not done."}
SHORTEST_ID = 4
ATTEMPTS = 3


class EffectRefusal(Exception):
    """What was asked cannot be done with that effect; the text says why and what to do, to an operator."""


class UnknownEffect(EffectRefusal):
    """No effect of this tenant has such an id."""


class AmbiguousEffect(EffectRefusal):
    """Several effects have ids that end like that."""


class NotResolvable(EffectRefusal):
    """It is settled, or somebody may still settle it."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect as recorded. `owner` is the subject whose conversation it is; `result` is None until it is settled."""

    id: UUID
    conversation_id: UUID
    turn_id: UUID
    owner: str
    who: str
    tool: str
    effect: str
    args: JsonObject
    status: str
    result: JsonObject | None
    upstream_status: int | None
    effect_key: str
    basis: str
    pending_id: UUID | None
    started_at: datetime
    settled_at: datetime | None
    age_s: float
    looks: int
    next_look_at: datetime | None
    looked_for: bool  # by the reconciler, until `next_look_at`
    unfinished: bool
    turn_open: bool  # some turn of its conversation
    last_turn: int

    @property
    def short_id(self) -> str:
        """The random end of the id; its beginning is the time."""
        return self.id.hex[-8:]

    @property
    def code(self) -> str | None:
        """The result's code, if it has one."""
        return self.result.get("code") if self.result else None

    @property
    def needs_a_person(self) -> bool:
        """Whether its outcome is not, or not wholly, on record."""
        half_done = self.status == "error" and self.unfinished and self.code not in RESOLVED.values()
        return half_done or self.status in ("unknown", "intended")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of a conversation's audit that speaks of an effect."""

    seq: int
    at: datetime
    actor: str
    type: str
    body: JsonObject


_COLUMNS = """
    k.id, k.conversation_id, k.turn_id, c.owner, t.principal, k.tool, k.effect, k.args, k.status, k.result,
    k.upstream_status, k.effect_key, k.basis, k.pending_id, k.started_at, k.settled_at, k.looks, k.next_look_at,
    c.last_turn, extract(epoch FROM now() - k.started_at)::float8 AS age_s,
    coalesce(k.status IN ('intended', 'unknown') AND k.next_look_at > now(), false) AS looked_for,
    EXISTS (SELECT FROM audit_events a
            WHERE a.conversation_id = k.conversation_id AND a.type = 'effect_unfinished'
              AND a.body->>'effect_key' = k.effect_key) AS unfinished,
    EXISTS (SELECT FROM turns r
            WHERE r.conversation_id = k.conversation_id AND r.state IN ('accepted', 'running')) AS turn_open
"""
_EFFECTS = """
FROM tool_calls k JOIN conversations c ON c.id = k.conversation_id JOIN turns t ON t.id = k.turn_id
WHERE k.tenant = $1 AND k.effect_key IS NOT NULL"""
_FOR_A_PERSON = f"""
AND (k.status = 'unknown'
     OR (k.status = 'intended' AND k.started_at < now() - make_interval(secs => $3))
     OR (k.status = 'error' AND k.result->>'code' IS DISTINCT FROM '{RESOLVED[True]}'
         AND k.result->>'code' IS DISTINCT FROM '{RESOLVED[False]}'
         AND (k.conversation_id, k.effect_key) IN (SELECT a.conversation_id, a.body->>'effect_key' FROM audit_events a
                                                   WHERE a.tenant = $1 AND a.type = 'effect_unfinished')))"""


async def for_a_person(db: Database, tenant: str, limit: int, min_age_s: float) -> list[Effect]:
    """Effects that need a person, newest first; intended ones when they are older than `min_age_s`."""
    rows = await db.rows(
        f"SELECT {_COLUMNS} {_EFFECTS} {_FOR_A_PERSON} ORDER BY k.started_at DESC, k.id LIMIT $2",
        tenant,
        limit,
        min_age_s,
    )
    return [_effect(row) for row in rows]


async def by_status(db: Database, tenant: str, status: Status, limit: int) -> list[Effect]:
    """Effects of a status, newest first."""
    rows = await db.rows(
        f"SELECT {_COLUMNS} {_EFFECTS} AND $3 IN (k.status, 'all') ORDER BY k.started_at DESC, k.id LIMIT $2",
        tenant,
        limit,
        status,
    )
    return [_effect(row) for row in rows]


async def one(db: Database, tenant: str, given: str) -> Effect:
    """The effect with this id, or whose id ends like that.

    Raises:
        UnknownEffect: there is none, or that is no id.
        AmbiguousEffect: there are several.
    """
    end = given.replace("-", "").strip().lower()
    if not set(end) <= set("0123456789abcdef") or not SHORTEST_ID <= len(end) <= 32:
        raise UnknownEffect(f"{given!r} is no id: give all of one, or its last {SHORTEST_ID} to 32 hexadecimal digits.")
    rows = await db.rows(
        f"""SELECT {_COLUMNS} {_EFFECTS} AND right(replace(k.id::text, '-', ''), length($2)) = $2
            ORDER BY k.started_at DESC LIMIT 4""",
        tenant,
        end,
    )
    if not rows:
        raise UnknownEffect(f"No effect of tenant {tenant!r} has the id {given}.")
    if len(rows) > 1:
        raise AmbiguousEffect(f"Several ids end in {given}: {', '.join(str(row['id']) for row in rows[:3])}, …")
    return _effect(rows[0])


async def audit(db: Database, effect: Effect) -> list[AuditEntry]:
    """What the audit says of it, in order."""
    rows = await db.rows(
        """SELECT seq, at, actor, type, body FROM audit_events
           WHERE conversation_id = $1 AND body->>'effect_key' = $2 ORDER BY seq""",
        effect.conversation_id,
        effect.effect_key,
    )
    return [AuditEntry(row["seq"], row["at"], row["actor"], row["type"], orjson.loads(row["body"])) for row in rows]


async def resolve(
    db: Database, tenant: str, given: str, *, done: bool, note: str, by: str, min_age_s: float, looks: int
) -> Effect:
    """Put on record how an effect ended, as a person found out. Returns it as it is then.

    `min_age_s` and `looks` are the reconciler's pace: for how long a write may be on its way, and how often an unknown
    one is looked for.

    Raises:
        UnknownEffect, AmbiguousEffect: as `one`.
        NotResolvable: it is settled, or a turn or the reconciler may still settle it.
    """
    for _ in range(ATTEMPTS):
        found = await one(db, tenant, given)
        if refusal := _refusal(found, min_age_s, looks):
            raise NotResolvable(refusal)
        data = {"ok": done, "code": RESOLVED[done], "user_hint": HINTS[done], "note": note}
        body = {
            "tool": found.tool,
            "args": found.args,
            "status": "ok" if done else "error",
            "code": RESOLVED[done],
            "effect_key": found.effect_key,
            "was": found.status,
            "note": note,
        }
        seen = Seen(found.id, found.conversation_id, found.last_turn, found.status, found.looks)
        result = ToolResult("ok" if done else "error", data)
        if await settle(db, seen, result, f"operator:{by}", "effect_resolved", body):
            return await one(db, tenant, str(found.id))
    raise NotResolvable("It keeps changing at this moment; look at it again.")


def _refusal(effect: Effect, min_age_s: float, looks: int) -> str:
    """Why a person's word would come too early or too late; empty when it is welcome."""
    if not effect.needs_a_person:
        return f"It is settled already: {effect.status}{f' ({effect.code})' if effect.code else ''}."
    if effect.turn_open:
        return "A turn of its conversation is running and may still settle it. Try again when that has ended."
    if effect.looked_for and (effect.status == "intended" or effect.looks < looks):
        return f"The reconciler is looking for its outcome, until {effect.next_look_at:%H:%M:%S} UTC. Try again then."
    if effect.status == "intended" and effect.age_s < min_age_s:
        rest_s = min_age_s - effect.age_s
        return f"It began {effect.age_s:.0f} s ago and may still be on its way. Try again in {rest_s:.0f} s."
    return ""


# --- settling: an operator here, the reconciler in `orphans` --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """An effect as somebody saw it who wants to settle it; nothing is settled that has changed since."""

    id: UUID
    conversation_id: UUID
    last_turn: int
    status: str
    looks: int


# Locks in the order of a closing turn. Taking the conversation waits for, and then sees, a turn that begins meanwhile
# (it counts `last_turn` up); taking the effect likewise for whoever settles or claims it. Only then a number of the
# audit is used up.
_SETTLE = f"""
WITH c AS (
    SELECT id FROM conversations WHERE id = $2 AND last_turn = $3 FOR NO KEY UPDATE
), k AS (
    SELECT k.id, k.tenant, k.turn_id, k.conversation_id FROM tool_calls k JOIN c ON c.id = k.conversation_id
    WHERE k.id = $1 AND k.status = $4 AND k.looks = $5
      AND k.result->>'code' IS DISTINCT FROM '{RESOLVED[True]}'
      AND k.result->>'code' IS DISTINCT FROM '{RESOLVED[False]}'
    FOR NO KEY UPDATE OF k
), n AS (
    UPDATE conversations SET last_audit = last_audit + 1
    FROM k WHERE conversations.id = k.conversation_id
    RETURNING conversations.last_audit
), s AS (
    UPDATE tool_calls SET status = $6, result = $7, upstream_status = coalesce($8, upstream_status), settled_at = now()
    FROM n WHERE tool_calls.id = $1
)
INSERT INTO audit_events (conversation_id, seq, tenant, turn_id, actor, type, body)
SELECT k.conversation_id, n.last_audit, k.tenant, k.turn_id, $9, $10, $11 FROM n, k
RETURNING seq"""


async def settle(
    db: Database, seen: Seen, result: ToolResult, actor: str, audit_type: str, body: dict[str, Any]
) -> bool:
    """Record an outcome and its audit entry in one commit; False, with nothing written, when it has changed."""
    row = await db.row(
        _SETTLE,
        seen.id,
        seen.conversation_id,
        seen.last_turn,
        seen.status,
        seen.looks,
        result.status,
        to_json_text(result.data),
        result.upstream_status,
        actor,
        audit_type,
        to_json_text(body),
    )
    return row is not None


def _effect(row: Any) -> Effect:
    values = {name: row[name] for name in Effect.__slots__ if name not in ("who", "args", "result")}
    principal = orjson.loads(row["principal"])
    return Effect(
        **values,
        who=principal["label"] or principal["subject"],
        args=orjson.loads(row["args"]),
        result=orjson.loads(row["result"]) if row["result"] else None,
    )
