"""A whole turn as one answer: the fold of its events that clients without a stream get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from agent.errors import OutcropError
from agent.events import (
    Citation,
    ClientActionRequired,
    ConfirmationRequired,
    ModelStarted,
    RouteChanged,
    TextDelta,
    ToolFinished,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
)
from agent.ports import PendingAction
from backend.conversations.frames import Frame


@dataclass(frozen=True, slots=True)
class CallMade:
    """One tool call with its effective arguments."""

    tool: str
    args: dict[str, Any]
    status: str


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A pending action that waits for a yes."""

    pending_id: UUID
    tool: str
    args: dict[str, Any]
    summary: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AwaitedAction:
    """A call that the client has to run, and to post the result of, before `expires_at`."""

    action_id: UUID
    call_id: str
    tool: str
    args: dict[str, Any]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that a span of the answer rests on; the fields of `agent.events.Citation`."""

    document_id: str
    section: str
    start: int
    end: int
    score: float
    text_start: int
    text_end: int
    number: int
    title: str
    page: int | None
    version: int | None
    uri: str
    quote: str
    marked: bool


@dataclass(slots=True)
class Answer:
    """What a turn came to. With `client_actions` it is not over: it waits for the client to run them."""

    session_id: UUID
    turn_id: UUID
    status: str = ""
    text: str = ""
    specialist: str = ""
    tool_calls: list[CallMade] = field(default_factory=list)
    pending_actions: list[OpenQuestion] = field(default_factory=list)
    client_actions: list[AwaitedAction] = field(default_factory=list)
    citations: list[Source] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)


class TurnDidNotComplete(OutcropError):
    """The turn ended with a typed error; carries its code, status and hint."""

    def __init__(self, session_id: UUID, turn_id: UUID, failure: TurnFailed) -> None:
        super().__init__(failure.code, user_hint=failure.user_hint)
        known = CLASSES.get(failure.code, OutcropError)
        self.code, self.status, self.retryable = failure.code, known.status, failure.retryable
        self.session_id = session_id
        self.turn_id = turn_id


def _all_below(parent: type[OutcropError]) -> dict[str, type[OutcropError]]:
    found = {parent.code: parent}
    for child in parent.__subclasses__():
        found.update(_all_below(child))
    return found


CLASSES = _all_below(OutcropError)


def answer(session_id: UUID, turn_id: UUID, frames: Sequence[Frame], pending: Sequence[PendingAction]) -> Answer:
    """Fold a turn that has ended, or waits for its client; `TurnDidNotComplete` when it failed."""
    result = Answer(session_id, turn_id)
    texts: list[str] = []
    begun = (0, 0)  # texts and citations of before the present message
    calls: dict[str, CallMade] = {}
    for each in frames:
        match each.event:
            case ModelStarted():
                begun = len(texts), len(result.citations)
            case RouteChanged(restarts=True):
                del texts[begun[0] :], result.citations[begun[1] :]
            case TextDelta(text=text):
                texts.append(text)
            case ToolFinished() as call:
                calls[call.call_id] = CallMade(call.tool, call.args, call.status)
                if call.part:
                    result.parts.append({"type": call.part, "data": call.result})
            case ConfirmationRequired() as asked:
                calls[asked.call_id] = CallMade(asked.tool, asked.args, "pending")
            case Citation() as cited:
                result.citations.append(Source(**{each.name: getattr(cited, each.name) for each in fields(Source)}))
            case TurnCompleted() as end:
                result.status, result.specialist = end.status, end.specialist
                result.text = end.text or "".join(texts)
                result.usage, result.timings = end.usage, end.timings
            case TurnCancelled() as end:
                result.status, result.specialist, result.text = "cancelled", end.specialist, end.text
                result.usage, result.timings = end.usage, end.timings
            case TurnFailed() as failure:
                raise TurnDidNotComplete(session_id, turn_id, failure)
    if not result.status:
        result.status, result.text = "waiting", "".join(texts)
        result.client_actions = [
            AwaitedAction(each.action_id, each.call_id, each.tool, each.args, each.expires_at)
            for each in awaited(frames)
        ]
    result.tool_calls = list(calls.values())
    result.pending_actions = [
        OpenQuestion(each.pending_id, each.tool, each.args, each.summary, each.expires_at) for each in pending
    ]
    return result


def awaited(frames: Sequence[Frame], beside: UUID | None = None) -> list[ClientActionRequired]:
    """The calls that the turn waits for its client to run, but for `beside`; none when the turn is over."""
    waiting: dict[UUID, ClientActionRequired] = {}
    for each in frames:
        match each.event:
            case ClientActionRequired() as asked:
                waiting[asked.action_id] = asked
            case ToolFinished(call_id=call_id):
                waiting = {key: asked for key, asked in waiting.items() if asked.call_id != call_id}
    now = datetime.now(UTC)
    over = bool(frames) and frames[-1].is_final
    return [] if over else [w for w in waiting.values() if w.action_id != beside and w.expires_at > now]
