"""A turn as one JSON answer: what was taken back is not in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from agent.events import Citation, ClientActionRequired, ModelStarted, RouteChanged, TextDelta, TurnEvent
from backend.conversations.answer import answer
from backend.conversations.frames import frame

TURN = uuid4()


def event(seq: int, kind: Any, **fields: Any) -> TurnEvent:
    """One event of the turn."""
    made: TurnEvent = kind(turn_id=TURN, seq=seq, at=datetime.now(UTC), **fields)
    return made


def test_text_and_sources_that_were_taken_back_are_left_out() -> None:
    """A turn that waits for its client has no final text yet, only its pieces."""
    started = {"provider": "a", "model": "m", "step": 1}
    source = {"document_id": "d", "section": "s", "start": 0, "end": 1, "score": 1.0}
    changed = {"provider": "b", "model": "n", "reason": "unavailable", "restarts": True}
    asked = {"action_id": uuid4(), "call_id": "c", "tool": "t", "args": {}, "expires_at": datetime.now(UTC)}
    told: list[tuple[Any, dict[str, Any]]] = [
        (ModelStarted, started),
        (TextDelta, {"text": "First. "}),
        (ModelStarted, {**started, "step": 2}),
        (TextDelta, {"text": "You are booked."}),
        (Citation, source),
        (RouteChanged, changed),
        (ModelStarted, {**started, "step": 2}),
        (TextDelta, {"text": "Let me look."}),
        (ClientActionRequired, asked),
    ]
    frames = [frame(event(seq, kind, **fields)) for seq, (kind, fields) in enumerate(told)]
    folded = answer(uuid4(), TURN, frames, ())
    assert folded.text == "First. Let me look."
    assert folded.citations == []
