"""Events in the two forms the backend needs: the object, and its JSON, which is made once and used by all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args
from uuid import UUID

import orjson

from agent.events import FINAL, TurnEvent

_CLASSES: dict[str, Any] = {each.__dataclass_fields__["type"].default: each for each in get_args(TurnEvent)}
_READ: dict[str, Any] = {
    "turn_id": UUID,
    "conversation_id": UUID,
    "pending_id": UUID,
    "action_id": UUID,
    "at": datetime.fromisoformat,
    "expires_at": datetime.fromisoformat,
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One event with its JSON (no line breaks in it)."""

    event: TurnEvent
    data: bytes

    @property
    def seq(self) -> int:
        """Number within the turn, from 0."""
        return self.event.seq

    @property
    def is_final(self) -> bool:
        """Whether the turn ends with it."""
        return isinstance(self.event, FINAL)


def frame(event: TurnEvent) -> Frame:
    """Encode an event."""
    return Frame(event, orjson.dumps(event, default=str))


def pack(frames: Iterable[Frame]) -> bytes:
    """JSON lines, each ended by a line feed."""
    return b"".join([each.data + b"\n" for each in frames])


def unpack(lines: bytes) -> list[Frame]:
    """Inverse of `pack`."""
    return [Frame(_event(orjson.loads(line)), line) for line in lines.split(b"\n") if line]


def _event(body: dict[str, Any]) -> TurnEvent:
    values = {key: _READ[key](value) if key in _READ else value for key, value in body.items()}
    event: TurnEvent = _CLASSES[body["type"]](**values)
    return event
