"""The chat API: messages, decisions, streams, and what a caller may read of their own conversations."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from agent.errors import InvalidRequest
from agent.ports import Decision
from backend.api import sse
from backend.api.bodies import ClientActionIn, DecisionIn, MessageIn
from backend.api.caller import Caller, Parts
from backend.api.views import (
    ConversationList,
    ConversationView,
    DemoIdentity,
    IdentityList,
    MessageList,
    MessageView,
    TurnStanding,
)
from backend.conversations.answer import Answer, OpenQuestion, answer
from backend.conversations.service import TurnRequest
from backend.conversations.turn import Turn
from backend.records import conversations
from backend.records.conversations import Conversation, StoredMessage

router = APIRouter(prefix="/api/v1")

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="the same key with the same message leads to the same turn",
    ),
]
LastEventId = Annotated[int | None, Header(alias="Last-Event-ID", ge=-1, description="the last seq that was seen")]
EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-Sent Events: `event:` the type of a TurnEvent, `id:` its seq, `data:` its JSON",
        "content": {"text/event-stream": {"schema": {"$ref": "#/components/schemas/TurnEvent"}}},
    }
}


def json(body: Any, status: int = 200) -> Response:
    """Encode dataclasses, ids and times; asyncpg's own class of UUID is not known to orjson."""
    return Response(orjson.dumps(body, default=str), status, media_type="application/json")


@router.post("/chat", response_model=Answer, tags=["chat"])
async def send_message(message: MessageIn, caller: Caller, parts: Parts, key: IdempotencyKey = None) -> Response:
    """Send one user message and wait for the answer: whole, or as far as it comes without the client's help."""
    turn = await parts.service.submit(caller, TurnRequest(message.message, message.session_id, key))
    return json(await so_far(turn))


@router.post("/chat/stream", response_class=StreamingResponse, responses=EVENT_STREAM, tags=["chat"])
async def stream_message(
    message: MessageIn, caller: Caller, parts: Parts, key: IdempotencyKey = None, last_event_id: LastEventId = None
) -> StreamingResponse:
    """Send one user message; the answer streams as events. A dropped stream goes on at `/turns/{turn_id}/events`."""
    turn = await parts.service.submit(caller, TurnRequest(message.message, message.session_id, key))
    return sse.response(turn, -1 if last_event_id is None else last_event_id)


@router.get("/turns/{turn_id}/events", response_class=StreamingResponse, responses=EVENT_STREAM, tags=["chat"])
async def replay_turn(
    turn_id: UUID,
    caller: Caller,
    parts: Parts,
    after: Annotated[int | None, Query(ge=-1, description="the last seq that was seen")] = None,
    last_event_id: LastEventId = None,
) -> StreamingResponse:
    """The events of a turn above `after` (or the header `Last-Event-ID`), to its end, whether it runs or is over."""
    seen = after if after is not None else last_event_id
    return sse.response(await parts.service.attach(caller, turn_id), -1 if seen is None else seen)


@router.post(
    "/turns/{turn_id}/cancel", response_model=TurnStanding, responses={202: {"model": TurnStanding}}, tags=["chat"]
)
async def cancel_turn(turn_id: UUID, caller: Caller, parts: Parts) -> Response:
    """Stop a turn: 202 while it runs, its stream tells how it ends; 200 with how it ended, once it has. No body."""
    standing = await parts.service.cancel(caller, turn_id)
    view = TurnStanding(standing.conversation_id, turn_id, standing.state)
    return json(view, 200 if standing.has_ended else 202)


@router.post("/chat/confirm", response_model=Answer, tags=["chat"])
async def decide(decision: DecisionIn, caller: Caller, parts: Parts) -> Response:
    """The button under a question. Pressing it twice is pressing it once; the other button comes too late (409)."""
    wanted = Decision(decision.pending_id, decision.decision == "confirm")
    return json(await so_far(await parts.service.decide(caller, decision.session_id, wanted)))


@router.post("/chat/client-actions", response_model=Answer, tags=["chat"])
async def answer_client_action(given: ClientActionIn, caller: Caller, parts: Parts) -> Response:
    """The result of a call that the client ran; the rest of the turn. The same result twice is fine, another is 409."""
    turn = await parts.service.answer_action(caller, given.session_id, given.action_id, given.result)
    return json(await so_far(turn, given.action_id))


async def so_far(turn: Turn, beside: UUID | None = None) -> Answer:
    """Wait until a turn ends, or waits for its client to run something other than `beside`, and fold it."""
    frames = await turn.halted(beside)
    pending = await turn.pending() if frames and frames[-1].is_final else ()
    return answer(turn.conversation_id, turn.turn_id, frames, pending)


async def whole(turn: Turn) -> Answer:
    """Wait for a turn's end and fold it; raises what the turn failed with."""
    frames = await turn.finished()
    return answer(turn.conversation_id, turn.turn_id, frames, await turn.pending())


@router.get("/sessions/{session_id}", response_model=ConversationView, tags=["conversations"])
async def show_session(session_id: UUID, caller: Caller, parts: Parts) -> Response:
    """One conversation: whether a reply is being made (`running_turn_id`), and which questions are open."""
    return json(_session(await conversations.conversation(parts.db, caller, session_id)))


@router.get("/sessions/{session_id}/messages", response_model=MessageList, tags=["conversations"])
async def list_messages(
    session_id: UUID,
    caller: Caller,
    parts: Parts,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
) -> Response:
    """Messages numbered above `after`, oldest first; `next` is the `after` of the next page, null at the end."""
    theirs = await conversations.conversation(parts.db, caller, session_id)
    found = await conversations.messages(parts.db, caller, session_id, after, limit)
    more = len(found) == limit and found[-1].seq < theirs.messages
    page = [_message(each) for each in found]
    return json(MessageList(session_id, theirs.messages, page, found[-1].seq if more else None))


@router.get("/conversations", response_model=ConversationList, tags=["conversations"])
async def list_conversations(
    caller: Caller,
    parts: Parts,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """The caller's conversations, newest first; `next` is the cursor of the next page, null at the end."""
    found = await conversations.conversations(parts.db, caller, limit + 1, _read_cursor(cursor))
    page, more = found[:limit], len(found) > limit
    return json(ConversationList([_session(each) for each in page], _cursor(page[-1]) if more else None))


@router.get("/identities", response_model=IdentityList, tags=["demo"])
async def list_identities(parts: Parts) -> Response:
    """Demo identities for the header `x-demo-identity`; empty where identity must be proven."""
    locations = parts.directory.locations
    identities = [
        DemoIdentity(
            key=key,
            default=key == parts.identities.default,
            label=who.label,
            role=who.identity.role,
            customer_type=who.identity.customer_type,
            locations=[locations[client].label for client in who.identity.clients if client in locations],
        )
        for key, who in parts.identities.identities.items()
    ]
    return json(IdentityList(identities, parts.agent, parts.models.answered_by))


def _session(each: Conversation) -> ConversationView:
    return ConversationView(
        session_id=each.conversation_id,
        status="running" if each.running_turn_id else "idle",
        agent=each.agent,
        title=each.title,
        created_at=each.created_at,
        updated_at=each.updated_at,
        turns=each.turns,
        messages=each.messages,
        running_turn_id=each.running_turn_id,
        pending_actions=tuple(OpenQuestion(**question) for question in each.pending),
    )


def _message(each: StoredMessage) -> MessageView:
    """A provider's private state stays here."""
    body = {key: value for key, value in each.body.items() if key not in ("state", "provider")}
    return MessageView(each.seq, each.turn_id, each.role, body, each.created_at)


def _cursor(last: Conversation) -> str:
    micros = int(last.created_at.timestamp() * 1_000_000)
    return base64.urlsafe_b64encode(micros.to_bytes(8, "big") + last.conversation_id.bytes).decode()


def _read_cursor(cursor: str | None) -> tuple[datetime, UUID] | None:
    if cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor)
        seconds, micros = divmod(int.from_bytes(raw[:8], "big"), 1_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros), UUID(bytes=raw[8:])
    except (binascii.Error, ValueError, OverflowError, OSError) as error:
        raise InvalidRequest(
            "unreadable cursor", field="cursor", user_hint="Use the cursor of an earlier answer as it is."
        ) from error
