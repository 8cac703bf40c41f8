"""What the agent needs of the world around it. The backend implements these; tests bring small ones of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

from agent.transcript import JsonObject, Message
from tools.contract import ToolContext, ToolResult


@dataclass(frozen=True, slots=True)
class PendingAction:
    """A gated call that waits for a person's yes. `args` are what will run, unchanged."""

    pending_id: UUID
    call_id: str
    tool: str
    args: JsonObject
    restatement: JsonObject
    summary: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """A button: confirm or decline exactly this pending action."""

    pending_id: UUID
    confirm: bool


@dataclass(frozen=True, slots=True)
class DirectCall:
    """A call that a program asks for by name: its turn has no model in it. `args` are as the program gave them."""

    tool: str
    args: JsonObject


@dataclass(frozen=True, slots=True)
class EffectKey:
    """What an effect *means*: the hash of tenant, conversation, tool, normalised arguments and basis.

    The basis is the pending action's id, or the id of the user's message for an ungated write.
    """

    key: str
    tool: str
    args: JsonObject
    call_id: str
    basis: str
    pending_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the ledger already knows of an effect: `intended` (died before its outcome) or `settled`.

    `age_s` is since its intent.
    """

    state: Literal["intended", "settled"]
    result: ToolResult | None = None
    age_s: float = 0.0


class Ledger(Protocol):
    """Effects intended and done; durable before and after each effect."""

    async def intend(self, effect: EffectKey) -> Earlier | None:
        """Commit the intent; None when it is new."""
        ...

    async def settle(self, effect: EffectKey, result: ToolResult) -> None:
        """Commit the outcome (`ok`, `error` or `unknown`)."""
        ...


@dataclass(frozen=True, slots=True)
class ClientCall:
    """A call that the client has to run. `key` names it, also when the turn is run again."""

    key: str
    call_id: str
    tool: str
    args: JsonObject


@dataclass(frozen=True, slots=True)
class ClientAction:
    """A call as it was handed to the client. `left_s` is how long its result is still waited for; 0: it is settled."""

    action_id: UUID
    expires_at: datetime
    left_s: float


class ClientDesk(Protocol):
    """Hands calls to the client of this turn's conversation; durable, and each key once."""

    async def open(self, call: ClientCall, wait_s: float) -> ClientAction:
        """Commit the call, with at most `wait_s` for its result; the same key again is the same action."""
        ...

    async def result(self, action: ClientAction) -> JsonObject | None:
        """Wait for the client's result; None when none came in time, and none is taken any more."""
        ...


@dataclass(slots=True)
class CallRecord:
    """One tool call of the turn, for the record."""

    call_id: str
    tool: str
    effect: str
    args: JsonObject
    status: str
    result: JsonObject
    part: str | None
    started_at: datetime
    duration_ms: float
    upstream_status: int | None = None
    effect_key: str | None = None


@dataclass(frozen=True, slots=True)
class PendingChange:
    """A pending action that left the open state in this turn."""

    pending_id: UUID
    state: Literal["confirmed", "declined", "replaced", "expired"]


@dataclass(slots=True)
class TurnWork:
    """All that a turn produced, for one closing transaction. Filled while the turn runs."""

    messages: list[Message] = field(default_factory=list)  # after the user's message
    calls: list[CallRecord] = field(default_factory=list)
    opened: list[PendingAction] = field(default_factory=list)
    changed: list[PendingChange] = field(default_factory=list)
    specialist: str = ""
    provider: str = ""
    model: str = ""
    route: str = ""
    arm: str = ""
    text: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    model_ms: float = 0.0
    tools_ms: float = 0.0
    audit: list[dict[str, Any]] = field(default_factory=list)  # {type, ...}: verdicts, guards, refusals


class Stop:
    """Whether somebody wants the turn to end. Asked once, from outside; never taken back."""

    def __init__(self) -> None:
        self.asked = False
        self._act: Callable[[], object] | None = None

    def ask(self) -> None:
        """Let the turn end as soon as it may."""
        if not self.asked:
            self.asked = True
            if self._act is not None:
                self._act()

    def when_asked(self, act: Callable[[], object] | None) -> None:
        """Call this when it is asked for from now on; None: nothing any more."""
        self._act = act


@dataclass(frozen=True, slots=True)
class TurnInput:
    """Everything a turn starts from."""

    tenant: str
    conversation_id: UUID
    turn_id: UUID
    message_id: UUID  # of the user's message
    text: str
    history: tuple[Message, ...]  # whole earlier turns, oldest first, without this message
    pending: tuple[PendingAction, ...]  # open ones, as stored
    tools: ToolContext
    ledger: Ledger
    decision: Decision | None = None
    call: DirectCall | None = None  # with a decision: the call that asked the question
    clients: ClientDesk | None = None
    first_seq: int = 0
    channel: Literal["chat", "sms", "voice"] = "chat"
    subject: str = ""  # who asks, within the tenant
    stop: Stop = field(default_factory=Stop)
    begun: tuple[EffectKey, ...] = ()  # effects on the ledger that earlier attempts of this turn had begun
