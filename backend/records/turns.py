"""The life of a turn in Postgres: accept, lease, take over, close.

An ordinary turn is two commits: `accept` before any model is called, `close` after the last event. What is written in
between belongs to effects (`ledger`). Whoever holds the lease may write; a taken-over turn has another fence, and the
former holder's `close` changes nothing.
"""

# ruff: noqa: S608 (the only text put into a statement is the constant THEIRS)
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import UUID

import asyncpg
import orjson

from agent.errors import ConversationBusy, IdempotencyMismatch, NotFound
from agent.ports import CallRecord, Decision, DirectCall, PendingAction, TurnWork
from agent.transcript import Message, from_json, to_json
from backend.identity.principal import Principal
from backend.records.database import THEIRS, Database, scope, to_json_text
from backend.records.ids import uuid7
from backend.records.pending import pending_actions

TurnState = Literal["accepted", "running", "completed", "waiting", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class NewTurn:
    """One request, ready to be accepted. `new_conversation` allows the conversation to be made."""

    turn_id: UUID
    message_id: UUID
    conversation_id: UUID
    text: str
    request_hash: str
    agent: str
    agent_version: str
    idempotency_key: str | None = None
    decision: Decision | None = None
    call: DirectCall | None = None
    new_conversation: bool = False
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a turn: `owner` is this process, `fence` grows with every take-over."""

    turn_id: UUID
    owner: str
    fence: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The turn is on record and ours to run. Numbers count from 1 within the conversation."""

    lease: Lease
    turn_seq: int
    message_seq: int
    pending: tuple[PendingAction, ...]


@dataclass(frozen=True, slots=True)
class Existing:
    """The same request was taken before."""

    turn_id: UUID
    conversation_id: UUID
    state: str
    request_hash: str


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A turn whose former holder is gone, with all that is needed to run it again."""

    lease: Lease
    caller: Principal
    conversation_id: UUID
    turn_seq: int
    message_id: UUID
    message_seq: int
    text: str
    decision: Decision | None
    call: DirectCall | None
    pending: tuple[PendingAction, ...]
    stop_requested: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How a turn stands."""

    conversation_id: UUID
    state: TurnState

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.state not in ("accepted", "running")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ended, beside its work."""

    state: str  # completed | waiting | failed | cancelled
    events: bytes
    total_ms: float
    agent_version: str
    error_code: str | None = None


_MAKE_CONVERSATION = """
    INSERT INTO conversations AS c (tenant, owner, id, agent, external_id, last_turn, last_message, last_audit)
    VALUES ($1, $2, $3, $17, $18, 1, 1, 1)
    RETURNING c.last_turn, c.last_message, c.last_audit"""
_TAKE_CONVERSATION = f"""
    UPDATE conversations AS c
    SET last_turn = last_turn + 1, last_message = last_message + 1, last_audit = last_audit + 1, updated_at = now()
    WHERE {THEIRS} AND c.id = $3
    RETURNING c.last_turn, c.last_message, c.last_audit"""
_ACCEPT = """
WITH c AS ({conversation}
), t AS (
    INSERT INTO turns (id, tenant, conversation_id, seq, state, idempotency_key, request_hash, text,
                       decision_pending_id, decision_confirm, message_id, message_seq, principal,
                       lease_owner, lease_fence, lease_expires_at, agent_version, call)
    SELECT $4, $1, $3, last_turn, 'running', $5, $6, $7, $8, $9, $10, last_message, $11,
           $12, 1, now() + make_interval(secs => $13), $14, $16
    FROM c
), m AS (
    INSERT INTO messages (conversation_id, seq, id, tenant, turn_id, role, body)
    SELECT $3, last_message, $10, $1, $4, 'user', $15 FROM c
), a AS (
    INSERT INTO audit_events (conversation_id, seq, tenant, turn_id, actor, type, body)
    SELECT $3, last_audit, $1, $4, $2,
           CASE WHEN $8::uuid IS NOT NULL THEN 'decision_received'
                WHEN $16::json IS NOT NULL THEN 'call_received' ELSE 'message_received' END,
           json_build_object('message_id', $10::uuid, 'pending_id', $8::uuid, 'confirm', $9::boolean)
    FROM c
)
SELECT last_turn, last_message,
       (SELECT json_agg(p ORDER BY p.created_at) FROM pending_actions p
        WHERE p.conversation_id = $3 AND p.state = 'open') AS pending
FROM c"""
_ACCEPT_NEW = _ACCEPT.format(conversation=_MAKE_CONVERSATION)
_ACCEPT_NEXT = _ACCEPT.format(conversation=_TAKE_CONVERSATION)


async def accept(db: Database, caller: Principal, new: NewTurn, owner: str, lease_s: float) -> Accepted | Existing:
    """Put turn, message and audit entry on record, in one commit, and take the lease.

    Raises:
        NotFound: no such conversation of this caller.
        ConversationBusy: another turn of it is running.
        IdempotencyMismatch: the key was used for another request.
    """
    decision = new.decision
    values = (
        *scope(caller),
        new.conversation_id,
        new.turn_id,
        new.idempotency_key,
        new.request_hash,
        new.text,
        decision.pending_id if decision else None,
        decision.confirm if decision else None,
        new.message_id,
        to_json_text(caller.to_json()),
        owner,
        lease_s,
        new.agent_version,
        to_json_text({"role": "user", "text": new.text}),
        to_json_text({"tool": new.call.tool, "args": new.call.args}) if new.call else None,
    )
    try:
        if new.new_conversation:
            row = await db.row(_ACCEPT_NEW, *values, new.agent, new.external_id)
        else:
            row = await db.row(_ACCEPT_NEXT, *values)
        if row is None:
            raise NotFound(f"no conversation {new.conversation_id}")
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name == "conversations_pkey":
            return await accept(db, caller, replace(new, new_conversation=False), owner, lease_s)
        return await _accepted_before(db, caller, new)
    lease = Lease(new.turn_id, owner, 1)
    return Accepted(lease, row["last_turn"], row["last_message"], pending_actions(row["pending"]))


async def _accepted_before(db: Database, caller: Principal, new: NewTurn) -> Existing:
    existing = await by_idempotency_key(db, caller, new.conversation_id, new.idempotency_key)
    if existing is None:
        raise ConversationBusy(f"conversation {new.conversation_id} has a running turn")
    if existing.request_hash != new.request_hash:
        raise IdempotencyMismatch("the key was used for another request", field="Idempotency-Key")
    return existing


async def by_idempotency_key(
    db: Database, caller: Principal, conversation_id: UUID, key: str | None
) -> Existing | None:
    """The turn that a key was used for."""
    row = await db.row(
        f"""SELECT t.id, t.conversation_id, t.state, t.request_hash
            FROM turns t JOIN conversations c ON c.id = t.conversation_id
            WHERE {THEIRS} AND c.id = $3 AND t.idempotency_key = $4""",
        *scope(caller),
        conversation_id,
        key,
    )
    return Existing(row["id"], row["conversation_id"], row["state"], row["request_hash"]) if row else None


async def renew(db: Database, owner: str, turn_ids: Iterable[UUID], lease_s: float) -> dict[UUID, bool]:
    """Extend the leases of these turns; those that this process still holds, and whether they shall be stopped."""
    rows = await db.rows(
        """UPDATE turns SET lease_expires_at = now() + make_interval(secs => $3)
           WHERE id = ANY($2::uuid[]) AND lease_owner = $1 AND state IN ('accepted', 'running')
           RETURNING id, cancel_requested_at IS NOT NULL AS stop_requested""",
        owner,
        list(turn_ids),
        lease_s,
    )
    return {row["id"]: row["stop_requested"] for row in rows}


async def request_stop(db: Database, caller: Principal, turn_id: UUID) -> Standing:
    """Put on record that a turn of the caller shall end; how it stands. Changes nothing once it has ended.

    Raises:
        NotFound: no such turn of this caller.
    """
    row = await db.row(
        f"""WITH t AS (
                SELECT t.id, t.conversation_id, t.state FROM turns t JOIN conversations c ON c.id = t.conversation_id
                WHERE {THEIRS} AND t.id = $3 FOR UPDATE OF t
            ), u AS (
                UPDATE turns SET cancel_requested_at = now() FROM t
                WHERE turns.id = t.id AND t.state IN ('accepted', 'running') AND turns.cancel_requested_at IS NULL
            )
            SELECT conversation_id, state FROM t""",
        *scope(caller),
        turn_id,
    )
    if row is None:
        raise NotFound(f"no turn {turn_id}")
    return Standing(row["conversation_id"], row["state"])


async def release(db: Database, lease: Lease) -> None:
    """Give a turn up without ending it; the next reaper takes it over at once."""
    await db.rows(
        """UPDATE turns SET lease_expires_at = now()
           WHERE id = $1 AND lease_owner = $2 AND lease_fence = $3 AND state = 'running'""",
        lease.turn_id,
        lease.owner,
        lease.fence,
    )


async def expire_all_leases(db: Database) -> None:
    """For a start as the only server of this database: whoever held a lease is gone."""
    await db.rows("UPDATE turns SET lease_expires_at = now() WHERE state IN ('accepted', 'running')")


async def take_over(db: Database, owner: str, lease_s: float, limit: int) -> list[TakenOver]:
    """Take up to `limit` turns whose lease has run out; each goes to one taker only."""
    rows = await db.rows(
        """UPDATE turns t
           SET lease_owner = $1, lease_fence = lease_fence + 1, state = 'running',
               lease_expires_at = now() + make_interval(secs => $2)
           WHERE id IN (SELECT id FROM turns WHERE state IN ('accepted', 'running') AND lease_expires_at < now()
                        ORDER BY created_at LIMIT $3 FOR UPDATE SKIP LOCKED)
           RETURNING t.*, (SELECT json_agg(p ORDER BY p.created_at) FROM pending_actions p
                           WHERE p.conversation_id = t.conversation_id AND p.state = 'open') AS pending""",
        owner,
        lease_s,
        limit,
    )
    return [
        TakenOver(
            lease=Lease(row["id"], owner, row["lease_fence"]),
            caller=Principal.from_json(orjson.loads(row["principal"])),
            conversation_id=row["conversation_id"],
            turn_seq=row["seq"],
            message_id=row["message_id"],
            message_seq=row["message_seq"],
            text=row["text"],
            decision=Decision(row["decision_pending_id"], row["decision_confirm"])
            if row["decision_pending_id"]
            else None,
            call=direct_call(row["call"]),
            pending=pending_actions(row["pending"]),
            stop_requested=row["cancel_requested_at"] is not None,
        )
        for row in rows
    ]


def direct_call(stored: str | None) -> DirectCall | None:
    """The call of a turn's row."""
    return DirectCall(**orjson.loads(stored)) if stored else None


async def history(
    db: Database,
    caller: Principal,
    conversation_id: UUID,
    turn_seq: int,
    message_seq: int,
    turns: int,
    *,
    summary: bool = False,
) -> list[tuple[Message, ...]]:
    """The messages of up to `turns` turns before turn `turn_seq` (whose message has `message_seq`), oldest first.

    With `summary`, the latest one that stands before those turns comes first, by itself.
    """
    rows = await db.rows(
        f"""WITH first AS (
                SELECT coalesce((SELECT message_seq FROM turns WHERE conversation_id = $3 AND seq = $5), 1) AS seq
            )
            SELECT m.seq, m.turn_id, m.body FROM messages m JOIN conversations c ON c.id = m.conversation_id
            WHERE {THEIRS} AND c.id = $3 AND m.seq < $4 AND m.seq >= (SELECT seq FROM first)
            UNION ALL (
                SELECT m.seq, m.turn_id, m.body FROM messages m JOIN conversations c ON c.id = m.conversation_id
                WHERE $6 AND {THEIRS} AND c.id = $3 AND m.seq < (SELECT seq FROM first) AND m.role = 'summary'
                ORDER BY m.seq DESC LIMIT 1
            )
            ORDER BY seq""",
        *scope(caller),
        conversation_id,
        message_seq,
        turn_seq - turns,
        summary,
    )
    by_turn: dict[UUID, list[Message]] = {}
    for row in rows:
        by_turn.setdefault(row["turn_id"], []).append(from_json(orjson.loads(row["body"])))
    return [tuple(messages) for messages in by_turn.values()]


_CLOSE = """
WITH t AS (
    UPDATE turns
    SET state = $4, events = $5, reply = $6, specialist = $7, provider = $8, model = $9, agent_version = $10,
        input_tokens = $11, output_tokens = $12, model_ms = $13, tools_ms = $14, total_ms = $15, error_code = $16,
        route = $20, arm = $21, cost_usd = $22, ended_at = now(), lease_owner = NULL, lease_expires_at = NULL
    WHERE id = $1 AND lease_owner = $2 AND lease_fence = $3 AND state = 'running'
    RETURNING id, conversation_id
), c AS (
    UPDATE conversations AS c
    SET last_message = last_message + $18, last_audit = last_audit + $19, updated_at = now()
    FROM t WHERE c.id = t.conversation_id
    RETURNING c.id, c.tenant, t.id AS turn_id, c.last_message,
              c.last_message - $18 AS messages_before, c.last_audit - $19 AS audits_before
), m AS (
    INSERT INTO messages (conversation_id, seq, id, tenant, turn_id, role, body)
    SELECT c.id, c.messages_before + x.n, x.id, c.tenant, c.turn_id, x.role, x.body
    FROM c, json_to_recordset($17::json -> 'messages') AS x(n int, id uuid, role text, body json)
), k AS (
    INSERT INTO tool_calls (id, tenant, conversation_id, turn_id, call_id, tool, effect, args, status, result, part,
                            effect_key, upstream_status, duration_ms, started_at, settled_at)
    SELECT x.id, c.tenant, c.id, c.turn_id, x.call_id, x.tool, x.effect, x.args, x.status, x.result, x.part,
           x.effect_key, x.upstream_status, x.duration_ms, x.started_at, now()
    FROM c, json_to_recordset($17::json -> 'calls') AS x(
        id uuid, call_id text, tool text, effect text, args json, status text, result json, part text,
        effect_key text, upstream_status int, duration_ms float8, started_at timestamptz)
    ON CONFLICT (tenant, effect_key) WHERE effect_key IS NOT NULL
    DO UPDATE SET part = excluded.part, duration_ms = excluded.duration_ms
), o AS (
    INSERT INTO pending_actions (id, tenant, conversation_id, turn_id, call_id, tool, args, restatement, summary,
                                 state, created_at, expires_at, settled_turn_id)
    SELECT x.id, c.tenant, c.id, c.turn_id, x.call_id, x.tool, x.args, x.restatement, x.summary, x.state,
           x.created_at, x.expires_at, CASE WHEN x.state <> 'open' THEN c.turn_id END
    FROM c, json_to_recordset($17::json -> 'opened') AS x(
        id uuid, call_id text, tool text, args json, restatement json, summary text, state text,
        created_at timestamptz, expires_at timestamptz)
), s AS (
    UPDATE pending_actions p SET state = x.state, settled_turn_id = c.turn_id, settled_at = now()
    FROM c, json_to_recordset($17::json -> 'changed') AS x(id uuid, state text)
    WHERE p.id = x.id AND p.conversation_id = c.id AND p.state = 'open'
), a AS (
    INSERT INTO audit_events (conversation_id, seq, tenant, turn_id, actor, type, body)
    SELECT c.id, c.audits_before + x.n, c.tenant, c.turn_id, 'agent', x.type, x.body
    FROM c, json_to_recordset($17::json -> 'audit') AS x(n int, type text, body json)
)
SELECT last_message FROM c"""


async def close(db: Database, lease: Lease, work: TurnWork, ending: Ending) -> int | None:
    """Put everything the turn produced on record, in one commit, and free the conversation.

    Returns the number of the conversation's last message; None, with nothing written, when the lease is not ours.
    """
    audit = _audit_of(work, ending)
    body = {
        "messages": [
            {"n": n, "id": uuid7(), "role": message.role, "body": to_json(message)}
            for n, message in enumerate(work.messages, 1)
        ],
        "calls": list(_call_rows(work.calls)),
        "opened": _opened_rows(work),
        "changed": [{"id": change.pending_id, "state": change.state} for change in work.changed],
        "audit": [{"n": n, "type": kind, "body": entry} for n, (kind, entry) in enumerate(audit, 1)],
    }
    row = await db.row(
        _CLOSE,
        lease.turn_id,
        lease.owner,
        lease.fence,
        ending.state,
        ending.events,
        work.text.replace("\x00", "\ufffd"),
        work.specialist,
        work.provider,
        work.model,
        ending.agent_version,
        work.input_tokens,
        work.output_tokens,
        work.model_ms,
        work.tools_ms,
        ending.total_ms,
        ending.error_code,
        to_json_text(body),
        len(work.messages),
        len(audit),
        work.route,
        work.arm,
        work.cost_usd,
    )
    return row["last_message"] if row else None


def _call_rows(calls: Sequence[CallRecord]) -> Iterable[dict[str, Any]]:
    """Rows of `tool_calls`; an effect that was asked for twice in one turn keeps its key on the first row."""
    keys: set[str] = set()
    for call in calls:
        key = call.effect_key if call.effect_key not in keys else None
        if key:
            keys.add(key)
        yield {
            "id": uuid7(),
            "call_id": call.call_id,
            "tool": call.tool,
            "effect": call.effect,
            "args": call.args,
            "status": call.status,
            "result": call.result,
            "part": call.part,
            "effect_key": key,
            "upstream_status": call.upstream_status,
            "duration_ms": call.duration_ms,
            "started_at": call.started_at,
        }


def _opened_rows(work: TurnWork) -> list[dict[str, Any]]:
    """Rows of `pending_actions`; one opened and settled within the turn is stored as settled."""
    settled = {change.pending_id: change.state for change in work.changed}
    return [
        {
            "id": action.pending_id,
            "call_id": action.call_id,
            "tool": action.tool,
            "args": action.args,
            "restatement": action.restatement,
            "summary": action.summary,
            "state": settled.get(action.pending_id, "open"),
            "created_at": action.created_at,
            "expires_at": action.expires_at,
        }
        for action in work.opened
    ]


def _audit_of(work: TurnWork, ending: Ending) -> list[tuple[str, dict[str, Any]]]:
    """Audit entries of a turn: what the agent noted, questions asked and settled, effects, and how it ended."""
    entries = [(str(note.get("type", "note")), note) for note in work.audit]
    entries += [
        ("confirmation_asked", {"pending_id": action.pending_id, "tool": action.tool, "args": action.args})
        for action in work.opened
    ]
    entries += [
        ("confirmation_settled", {"pending_id": change.pending_id, "state": change.state}) for change in work.changed
    ]
    entries += [
        (
            "effect_unknown" if call.status == "unknown" else "effect",
            {
                "tool": call.tool,
                "args": call.args,
                "status": call.status,
                "effect_key": call.effect_key,
                "upstream_status": call.upstream_status,
            },
        )
        for call in work.calls
        if call.effect_key
    ]
    end = {
        "state": ending.state,
        "error_code": ending.error_code,
        "provider": work.provider,
        "model": work.model,
        "route": work.route,
        "arm": work.arm,
        "cost_usd": work.cost_usd,
        "agent_version": ending.agent_version,
        "calls": [{"tool": call.tool, "status": call.status} for call in work.calls],
    }
    return [*entries, ("turn_ended", end)]
