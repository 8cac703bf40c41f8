"""One turn as a closed union of ordered events.

Everything a user sees, an auditor reads or a client receives comes from this stream. Transports only encode it,
stores only record it. `seq` is gap-free from 0 within a turn, `at` is UTC. Payloads carry what may leave the house:
no upstream tickets, no tokens, no stack traces.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

JsonObject = dict[str, Any]
TurnStatus = Literal["completed", "waiting", "failed", "cancelled"]
ToolStatus = Literal["ok", "error", "unknown", "pending", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Common head of all events; the runtime stamps it."""

    turn_id: UUID
    seq: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStarted(Event):
    """The user's message is on record and the turn runs."""

    type: Literal["turn_started"] = "turn_started"
    conversation_id: UUID
    agent: str
    agent_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStarted(Event):
    """A model call begins; `step` counts from 1."""

    type: Literal["model_started"] = "model_started"
    provider: str
    model: str
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta(Event):
    """More text of the reply; the concatenation of all deltas is the reply."""

    type: Literal["text_delta"] = "text_delta"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningDelta(Event):
    """More of a reasoning model's thinking; never part of the reply."""

    type: Literal["reasoning_delta"] = "reasoning_delta"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRequested(Event):
    """The model proposes a call; arguments as it wrote them."""

    type: Literal["tool_requested"] = "tool_requested"
    call_id: str
    tool: str
    args: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationRequired(Event):
    """A gated call was stored; it runs only after an explicit yes to `summary`."""

    type: Literal["confirmation_required"] = "confirmation_required"
    pending_id: UUID
    call_id: str
    tool: str
    args: JsonObject
    summary: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientActionRequired(Event):
    """The client itself has to run this call, and to post the result (return of control).

    Said again, with the same `action_id`, when another process goes on with the turn.
    """

    type: Literal["client_action_required"] = "client_action_required"
    action_id: UUID
    call_id: str
    tool: str
    args: JsonObject
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStarted(Event):
    """The call passed all checks and runs with these effective arguments."""

    type: Literal["tool_started"] = "tool_started"
    call_id: str
    tool: str
    args: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFinished(Event):
    """The call ended. `args` are the effective ones, `result` is what the model is shown, `part` the kind of card."""

    type: Literal["tool_finished"] = "tool_finished"
    call_id: str
    tool: str
    args: JsonObject
    status: ToolStatus
    result: JsonObject
    part: str | None = None
    duration_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalFinished(Event):
    """Documents were searched, and so many passages found; else `reason` and `explanation` say why there are none.

    `sources` are what was found without the texts, by falling score: `{number, document_id, title, section, page,
    score}`. `automatic`: code searched for the person's message; else the model asked for it, by `call_id`.
    """

    type: Literal["retrieval_finished"] = "retrieval_finished"
    query: str
    passages: int
    reason: str | None = None
    explanation: str = ""
    knowledge_base: str = ""
    sources: tuple[JsonObject, ...] = ()
    automatic: bool = False
    call_id: str | None = None
    duration_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation(Event):
    """A span of the reply rests on this passage of a document.

    `start` and `end` count characters of that `version` of the document (both 0: its span is not known), `text_start`
    and `text_end` those of the reply. `number` counts the passages that this reply rests on, from 1. `quote` is of the
    passage. `marked`: the model named the passage; else the sentence holds its words.
    """

    type: Literal["citation"] = "citation"
    document_id: str
    section: str
    start: int
    end: int
    score: float
    text_start: int = 0
    text_end: int = 0
    number: int = 0
    title: str = ""
    page: int | None = None
    version: int | None = None
    uri: str = ""
    quote: str = ""
    marked: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChanged(Event):
    """Another model goes on; text shown so far in this message is void when `restarts` is true."""

    type: Literal["route_changed"] = "route_changed"
    provider: str
    model: str
    reason: str
    restarts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage(Event):
    """Tokens of one model call, and what they cost; `estimated` when the provider said nothing."""

    type: Literal["usage"] = "usage"
    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    estimated: bool = False
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCompleted(Event):
    """The turn ended well. `waiting` when it ended with a question that a pending action hangs on."""

    type: Literal["turn_completed"] = "turn_completed"
    status: TurnStatus
    text: str
    specialist: str
    usage: JsonObject = field(default_factory=dict)
    timings: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFailed(Event):
    """The turn ended with a typed error; nothing that had been committed is lost."""

    type: Literal["turn_failed"] = "turn_failed"
    code: str
    user_hint: str
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCancelled(Event):
    """The turn was stopped (`reason` says by whom: `user`) before it did anything. `text` is the reply so far.

    One that had run an effect by then is `turn_completed`, and its text says what came of it.
    """

    type: Literal["turn_cancelled"] = "turn_cancelled"
    reason: str
    text: str = ""
    specialist: str = ""
    usage: JsonObject = field(default_factory=dict)
    timings: JsonObject = field(default_factory=dict)


TurnEvent = (
    TurnStarted
    | ModelStarted
    | TextDelta
    | ReasoningDelta
    | ToolRequested
    | ConfirmationRequired
    | ClientActionRequired
    | ToolStarted
    | ToolFinished
    | RetrievalFinished
    | Citation
    | RouteChanged
    | Usage
    | TurnCompleted
    | TurnFailed
    | TurnCancelled
)
FINAL = (TurnCompleted, TurnFailed, TurnCancelled)
