"""What a caller may read of their own conversations."""

# ruff: noqa: S608 (the only text put into a statement is the constant THEIRS)
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from agent.errors import NotFound
from agent.ports import DirectCall, PendingAction
from backend.identity.principal import Principal
from backend.records.database import THEIRS, Database, scope
from backend.records.pending import pending_actions
from backend.records.turns import direct_call

RUNNING = (
    """(SELECT t.id FROM turns t WHERE t.conversation_id = c.id AND t.state IN ('accepted', 'running')) AS running"""
)
TITLE = """(SELECT left(m.body->>'text', 80) FROM messages m WHERE m.conversation_id = c.id AND m.role = 'user'
            ORDER BY m.seq LIMIT 1) AS title"""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation. `running_turn_id` is set while a reply is being made; `pending` are the open questions.

    `title` is how its first message begins.
    """

    conversation_id: UUID
    agent: str
    created_at: datetime
    updated_at: datetime
    turns: int
    messages: int
    running_turn_id: UUID | None
    title: str | None
    pending: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message with its number in the conversation; `body` is the neutral transcript form."""

    seq: int
    turn_id: UUID
    role: str
    body: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A turn's record. `events` holds its events as JSON lines once it has ended."""

    turn_id: UUID
    conversation_id: UUID
    state: str
    error_code: str | None
    events: bytes | None


@dataclass(frozen=True, slots=True)
class PendingState:
    """Where a pending action stands, the last turn that a button started on it, and the direct call that asked."""

    state: str
    expires_at: datetime
    turn_id: UUID | None
    turn_state: str | None
    turn_confirm: bool | None
    attempts: int
    call: DirectCall | None


async def conversation(db: Database, caller: Principal, conversation_id: UUID) -> Conversation:
    """One conversation of the caller; `NotFound` otherwise."""
    row = await db.row(
        f"""SELECT c.*,
                {RUNNING}, {TITLE},
                (SELECT json_agg(json_build_object('pending_id', p.id, 'tool', p.tool, 'args', p.args,
                                                   'summary', p.summary, 'expires_at', p.expires_at)
                                 ORDER BY p.created_at)
                 FROM pending_actions p WHERE p.conversation_id = c.id AND p.state = 'open') AS pending
            FROM conversations c WHERE {THEIRS} AND c.id = $3""",
        *scope(caller),
        conversation_id,
    )
    if row is None:
        raise NotFound(f"no conversation {conversation_id}")
    return _conversation(row, tuple(orjson.loads(row["pending"])) if row["pending"] else ())


async def conversations(
    db: Database, caller: Principal, limit: int, before: tuple[datetime, UUID] | None = None
) -> list[Conversation]:
    """The caller's conversations, newest first, older than `before` (creation time and id)."""
    rows = await db.rows(
        f"""SELECT c.*,
                {RUNNING}, {TITLE}
            FROM conversations c
            WHERE {THEIRS} AND ($4::timestamptz IS NULL OR (c.created_at, c.id) < ($4, $5))
            ORDER BY c.created_at DESC, c.id DESC LIMIT $3""",
        *scope(caller),
        limit,
        *(before or (None, None)),
    )
    return [_conversation(row) for row in rows]


async def messages(
    db: Database, caller: Principal, conversation_id: UUID, after: int, limit: int
) -> list[StoredMessage]:
    """Up to `limit` messages numbered above `after`; empty also for a conversation that is not the caller's.

    Summaries are none: nobody said them.
    """
    rows = await db.rows(
        f"""SELECT m.seq, m.turn_id, m.role, m.body, m.created_at
            FROM messages m JOIN conversations c ON c.id = m.conversation_id
            WHERE {THEIRS} AND c.id = $3 AND m.seq > $4 AND m.role <> 'summary' ORDER BY m.seq LIMIT $5""",
        *scope(caller),
        conversation_id,
        after,
        limit,
    )
    return [
        StoredMessage(row["seq"], row["turn_id"], row["role"], orjson.loads(row["body"]), row["created_at"])
        for row in rows
    ]


async def turn(db: Database, caller: Principal, turn_id: UUID) -> StoredTurn:
    """One turn of the caller; `NotFound` otherwise."""
    row = await db.row(
        f"""SELECT t.id, t.conversation_id, t.state, t.error_code, t.events
            FROM turns t JOIN conversations c ON c.id = t.conversation_id WHERE {THEIRS} AND t.id = $3""",
        *scope(caller),
        turn_id,
    )
    if row is None:
        raise NotFound(f"no turn {turn_id}")
    return StoredTurn(row["id"], row["conversation_id"], row["state"], row["error_code"], row["events"])


async def pending_action(db: Database, caller: Principal, conversation_id: UUID, pending_id: UUID) -> PendingState:
    """Where a pending action of the caller's conversation stands; `NotFound` when there is no such one."""
    row = await db.row(
        f"""SELECT p.state, p.expires_at, t.id, t.state AS turn_state, t.decision_confirm,
                   (SELECT call FROM turns WHERE id = p.turn_id) AS call,
                   (SELECT count(*) FROM turns WHERE conversation_id = c.id AND decision_pending_id = p.id) AS attempts
            FROM pending_actions p
            JOIN conversations c ON c.id = p.conversation_id
            LEFT JOIN LATERAL (SELECT id, state, decision_confirm FROM turns
                               WHERE conversation_id = c.id AND decision_pending_id = p.id
                               ORDER BY seq DESC LIMIT 1) t ON true
            WHERE {THEIRS} AND c.id = $3 AND p.id = $4""",
        *scope(caller),
        conversation_id,
        pending_id,
    )
    if row is None:
        raise NotFound(f"no pending action {pending_id}")
    return PendingState(
        row["state"],
        row["expires_at"],
        row["id"],
        row["turn_state"],
        row["decision_confirm"],
        row["attempts"],
        direct_call(row["call"]),
    )


def _conversation(row: Any, pending: tuple[dict[str, Any], ...] = ()) -> Conversation:
    return Conversation(
        conversation_id=row["id"],
        agent=row["agent"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        turns=row["last_turn"],
        messages=row["last_message"],
        running_turn_id=row["running"],
        title=row["title"],
        pending=pending,
    )


async def pending_after(db: Database, caller: Principal, turn_id: UUID) -> tuple[PendingAction, ...]:
    """The pending actions that were open when a turn had ended."""
    row = await db.row(
        f"""SELECT json_agg(p ORDER BY p.created_at) AS pending
            FROM turns t JOIN conversations c ON c.id = t.conversation_id
            JOIN pending_actions p ON p.conversation_id = c.id
            JOIN turns opened ON opened.id = p.turn_id
            LEFT JOIN turns settled ON settled.id = p.settled_turn_id
            WHERE {THEIRS} AND t.id = $3 AND opened.seq <= t.seq AND (settled.seq IS NULL OR settled.seq > t.seq)""",
        *scope(caller),
        turn_id,
    )
    return pending_actions(row["pending"] if row else None)
