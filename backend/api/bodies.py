"""Requests as they come in. Unknown fields are refused, not dropped."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

MAX_MESSAGE_CHARS = 2000


def some_text(value: str) -> str:
    """Something to read, that a database can hold."""
    if not value.strip():
        raise ValueError("must not be empty")
    if "\x00" in value:
        raise ValueError("must not contain NUL characters")
    return value


def storable(value: dict[str, Any]) -> dict[str, Any]:
    """The same as it comes back from a database."""
    try:
        read: dict[str, Any] = orjson.loads(orjson.dumps(value))
    except TypeError as error:  # a number of more than 64 bits, half a surrogate pair, too deep
        raise ValueError("must hold numbers of 64 bits, Unicode text, and no more than 254 levels") from error
    return read


MessageText = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=MAX_MESSAGE_CHARS), AfterValidator(some_text)
]


class MessageIn(BaseModel):
    """One user message; without `session_id` a new conversation begins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    message: MessageText
    session_id: UUID | None = None


class DecisionIn(BaseModel):
    """A button under a question: settle exactly this pending action."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    session_id: UUID
    pending_id: UUID
    decision: Literal["confirm", "decline"]


class ClientActionIn(BaseModel):
    """What came of a call that the client ran; `{ok: false, user_hint}` when it could not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    session_id: UUID
    action_id: UUID
    result: Annotated[dict[str, Any], AfterValidator(storable)]


class PrototypeClient(BaseModel):
    """One entry of `available_clients`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client_id: str
    client_name: str | None = None
    is_primary: bool = False


class PrototypeMessageIn(BaseModel):
    """Both request shapes of the prototype: `session_id` and `customer_id` may be numbers or strings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    message: MessageText
    session_id: Annotated[str, StringConstraints(min_length=1, max_length=200)] | int
    customer_id: Annotated[str, StringConstraints(min_length=1, max_length=100)] | int
    client_id: str | None = None
    client_name: str | None = None
    available_clients: list[PrototypeClient] | None = None
    customer_type: Literal["B2B", "B2C"] | None = None
