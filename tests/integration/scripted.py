"""A scripted agent for tests of the backend: each message's first word says what the turn does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from agent.errors import ModelUnavailable
from agent.events import (
    ConfirmationRequired,
    TextDelta,
    ToolFinished,
    ToolStarted,
    TurnCompleted,
    TurnEvent,
    TurnStarted,
    Usage,
)
from agent.ports import CallRecord, EffectKey, PendingAction, PendingChange, TurnInput, TurnWork
from agent.transcript import AssistantMessage, ToolCall, ToolMessage
from backend.records.ids import uuid7
from tools.contract import ToolResult


class ScriptedAgent:
    """`run` is a `RunTurn`. `gate` holds turns that say "hold" until it is set; `effects` counts what was executed."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.started = asyncio.Event()
        self.turns: list[TurnInput] = []
        self.effects: list[str] = []

    async def run(self, turn: TurnInput, work: TurnWork) -> AsyncIterator[TurnEvent]:
        """Events as the real graph makes them."""
        self.turns.append(turn)
        seq = turn.first_seq

        def stamp(kind: Any, **fields: Any) -> Any:
            nonlocal seq
            event = kind(turn_id=turn.turn_id, seq=seq, at=datetime.now(UTC), **fields)
            seq += 1
            return event

        work.provider, work.model, work.specialist = "scripted", "script-1", "chitchat"
        yield stamp(TurnStarted, conversation_id=turn.conversation_id, agent="test", agent_version="1")
        self.started.set()
        word = turn.text.split()[0]
        if word == "crash":
            raise ZeroDivisionError("a bug")
        if word == "model":
            raise ModelUnavailable("no model")
        if word == "hold":
            yield stamp(TextDelta, text="One ")
            await self.gate.wait()
        if word == "write" or turn.decision:
            async for event in self._write(turn, work, stamp):
                yield event
        if word == "ask":
            yield self._ask(turn, work, stamp)
        text = f"You said: {turn.text}"
        work.text = text
        work.messages.append(AssistantMessage(text, provider="scripted"))
        if word == "huge":
            work.messages.append(AssistantMessage("", state={"number": 10**30}))
        work.input_tokens, work.output_tokens = 10, 5
        for piece in text.split(" "):
            yield stamp(TextDelta, text=piece + " ")
        yield stamp(Usage, provider="scripted", model="script-1", input_tokens=10, output_tokens=5)
        status = "waiting" if word == "ask" else "completed"
        yield stamp(
            TurnCompleted,
            status=status,
            text=text,
            specialist="chitchat",
            usage={"input_tokens": 10, "output_tokens": 5},
        )

    async def _write(self, turn: TurnInput, work: TurnWork, stamp: Any) -> AsyncIterator[TurnEvent]:
        """One effect through the ledger."""
        pending_id = turn.decision.pending_id if turn.decision else None
        basis = str(pending_id or turn.message_id)
        key = f"{turn.conversation_id}:{basis}"
        args = {"project_id": "410001"}
        call = ToolCall(f"call-{basis[-6:]}", "confirm_appointment", args)
        if turn.decision and not turn.decision.confirm:
            work.changed.append(PendingChange(turn.decision.pending_id, "declined"))
            return
        yield stamp(ToolStarted, call_id=call.id, tool=call.name, args=args)
        effect = EffectKey(key, call.name, args, call.id, basis, pending_id)
        earlier = await turn.ledger.intend(effect)
        if earlier and earlier.state == "settled":
            assert earlier.result
            result = earlier.result
        else:
            if earlier is None:
                self.effects.append(key)
            if "hold" in turn.text:
                await self.gate.wait()
            result = ToolResult("ok", {"ok": True, "receipt": key}, 200)
            await turn.ledger.settle(effect, result)
        if turn.decision:
            work.changed.append(PendingChange(turn.decision.pending_id, "confirmed"))
        work.messages += [AssistantMessage("", (call,)), ToolMessage(call.id, call.name, result.data, args)]
        work.calls.append(
            CallRecord(
                call.id, call.name, "gated", args, "ok", result.data, "receipt", datetime.now(UTC), 1.0, 200, key
            )
        )
        yield stamp(
            ToolFinished,
            call_id=call.id,
            tool=call.name,
            args=args,
            status="ok",
            result=result.data,
            part="receipt",
            duration_ms=1.0,
        )

    def _ask(self, turn: TurnInput, work: TurnWork, stamp: Any) -> TurnEvent:
        now = turn.tools.clock.now()
        seconds = -1 if "expired" in turn.text else 1800
        action = PendingAction(
            pending_id=uuid7(),
            call_id="call-ask",
            tool="confirm_appointment",
            args={"project_id": "410001", "date": "2026-03-16", "time": "08:00"},
            restatement={"category": "Flooring"},
            summary="Book Monday at 8 AM",
            created_at=now,
            expires_at=now + timedelta(seconds=seconds),
        )
        work.opened.append(action)
        return stamp(  # type: ignore[no-any-return]
            ConfirmationRequired,
            pending_id=action.pending_id,
            call_id=action.call_id,
            tool=action.tool,
            args=action.args,
            summary=action.summary,
            expires_at=action.expires_at,
        )


NOBODY = UUID(int=0)
