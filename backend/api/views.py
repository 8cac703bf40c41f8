"""What a caller may read of their own conversations, as it goes out. The page's types are generated from these."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from backend.conversations.answer import OpenQuestion
from backend.records.turns import TurnState


@dataclass(frozen=True, slots=True)
class ConversationView:
    """One conversation; `title` is how its first message begins, `pending_actions` are the questions still open."""

    session_id: UUID
    status: Literal["running", "idle"]
    agent: str
    title: str | None
    created_at: datetime
    updated_at: datetime
    turns: int
    messages: int
    running_turn_id: UUID | None
    pending_actions: tuple[OpenQuestion, ...]


@dataclass(frozen=True, slots=True)
class ConversationList:
    """One page, newest first; `next` is the cursor of the next one, null at the end."""

    conversations: list[ConversationView]
    next: str | None


@dataclass(frozen=True, slots=True)
class TurnStanding:
    """How a turn stands."""

    session_id: UUID
    turn_id: UUID
    status: TurnState


@dataclass(frozen=True, slots=True)
class MessageView:
    """One message; `body` is the neutral transcript's form without a provider's private state."""

    seq: int
    turn_id: UUID
    role: str
    body: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class MessageList:
    """One page, oldest first; `next` is the `after` of the next one, null at the end."""

    session_id: UUID
    message_count: int
    messages: list[MessageView]
    next: int | None


@dataclass(frozen=True, slots=True)
class DemoIdentity:
    """A choice for the header `x-demo-identity`; `default` is who asks without it."""

    key: str
    default: bool
    label: str
    role: str
    customer_type: str | None
    locations: list[str]


@dataclass(frozen=True, slots=True)
class IdentityList:
    """Empty where identity must be proven. `answered_by` says which brain answers."""

    identities: list[DemoIdentity]
    agent: str
    answered_by: str
