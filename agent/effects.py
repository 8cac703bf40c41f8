"""Effects through the ledger: intent on record, executed once, outcome on record; never resent blindly."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import orjson

from agent.call_context import call_context
from agent.ports import Earlier, EffectKey
from agent.transcript import JsonObject, ToolCall
from agent.turn import Turn
from tools.contract import Prepared, TooEarly, ToolContext, ToolError, ToolResult

T = TypeVar("T")

# An event loop counts in whole milliseconds and may wake a sleeper a little early, which would be too early again.
TICK_S = 0.02
STOPPED = "stopped"  # the code of a call that was not made, because the person stopped the turn


def effect_key(turn: Turn, call: ToolCall, args: JsonObject, pending_id: UUID | None) -> EffectKey:
    """What the effect means. `args` are the effective ones; the basis is the yes, or else the user's message."""
    basis = str(pending_id or turn.given.message_id)
    meaning = [turn.given.tenant, str(turn.given.conversation_id), call.name, args, basis]
    key = hashlib.sha256(orjson.dumps(meaning, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return EffectKey(key=key, tool=call.name, args=args, call_id=call.id, basis=basis, pending_id=pending_id)


async def unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Await to the end however often the caller is cancelled: half an effect would have no outcome on record."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({running})
        raise


async def run_effect(turn: Turn, prepared: Prepared, effect: EffectKey) -> ToolResult:
    """Run a call with an effect, at most once for its key, and settle it."""
    ledger = turn.given.ledger
    earlier = await ledger.intend(effect)
    if earlier is None:
        result = await _execute(turn, prepared, effect)
    elif earlier.state == "settled" and earlier.result is not None:
        turn.note("effect_repeated", tool=effect.tool, key=effect.key)
        return earlier.result
    else:
        result = _completed(await _recover(turn, prepared, effect, earlier), prepared.restatement)
    await ledger.settle(effect, result)
    return result


async def _execute(turn: Turn, prepared: Prepared, effect: EffectKey) -> ToolResult:
    try:
        return await turn.toolbox.execute(prepared, _context(turn, effect))
    except ToolError as error:
        return error.result()


async def _recover(turn: Turn, prepared: Prepared, effect: EffectKey, earlier: Earlier) -> ToolResult:
    """An earlier attempt died between intent and outcome: read back.

    Only a positive "it did not happen", or "not to its end", allows a second attempt, and only for what a person
    confirmed and has not stopped since.
    """
    turn.note("effect_interrupted", tool=effect.tool, key=effect.key, state=earlier.state)
    try:
        found = await _read_back(turn, effect, earlier)
    except ToolError:
        return _unknown(turn)
    if turn.given.stop.asked:
        if found is None:
            return _stopped(turn)
    elif (found is None or found.status == "error") and effect.pending_id is not None:
        return await _execute(turn, prepared, effect)
    if found is None or found.status != "ok":
        return _unknown(turn)
    return found


async def _read_back(turn: Turn, effect: EffectKey, earlier: Earlier) -> ToolResult | None:
    """What upstream shows of an attempt that died. One that may go on without us is waited for, if there is time."""
    began = time.monotonic()
    intended_at = turn.tools.clock.now() - timedelta(seconds=earlier.age_s)
    # Whoever began it may have sent it in the moment before the turn became ours.
    context = replace(_context(turn, effect), effect_at=intended_at, quiet_seconds=0.0)
    try:
        return await turn.toolbox.reconcile(effect.tool, effect.args, context)
    except TooEarly as early:
        if early.wait_s >= turn.remaining_s:
            raise
        await asyncio.sleep(early.wait_s + TICK_S)
    context = replace(context, quiet_seconds=time.monotonic() - began)
    return await turn.toolbox.reconcile(effect.tool, effect.args, context)


def _context(turn: Turn, effect: EffectKey) -> ToolContext:
    return call_context(turn, effect.call_id, effect.tool, effect.args, effect.key)


def _completed(result: ToolResult, read_out: JsonObject) -> ToolResult:
    """What cannot be read back any more (a slot that was given up), from what the person had said yes to."""
    missing = [name for name, value in result.data.items() if value is None and read_out.get(name) is not None]
    return replace(result, data={**result.data, **{name: read_out[name] for name in missing}}) if missing else result


def _stopped(turn: Turn) -> ToolResult:
    """The result of an effect that did not happen, and that the person does not want any more."""
    hint = turn.wording.phrase("stopped_in_time")
    return ToolResult("error", {"ok": False, "code": STOPPED, "user_hint": hint, "retryable": False})


def _unknown(turn: Turn) -> ToolResult:
    """The result of an effect whose outcome nobody can tell."""
    hint = turn.wording.phrase("unknown_outcome")
    data = {"ok": False, "code": "unknown_outcome", "user_hint": hint, "retryable": False}
    return ToolResult(status="unknown", data=data)
