"""A person stops a turn that runs: what is broken off, what has to be finished, and what is said then.

A model call and a read are left at once. An effect that is under way is waited for, since it cannot be called back: a
turn that has acted is never told as stopped, but as completed, with what came of it in code's words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.effects import STOPPED
from agent.outcomes import tell_outcomes
from agent.tool_call import settle_begun
from agent.turn import Turn


async def is_stopped(turn: Turn, steps: Callable[[Turn], Awaitable[None]]) -> bool:
    """Run the steps of a turn; True when the person's wish to stop came before their end.

    `CancelledError` for any other cancellation, and when an effect was left without an outcome: whoever takes the turn
    over finds out.
    """
    stop, task = turn.given.stop, asyncio.current_task()
    assert task is not None
    if stop.asked:
        return True
    stop.when_asked(task.cancel)
    try:
        await steps(turn)
    except asyncio.CancelledError:
        if not stop.asked or task.uncancel() > 0 or turn.unsettled:
            raise
        return not turn.asked  # the question was put already: that is an end
    finally:
        stop.when_asked(None)
    return False


async def wind_up(turn: Turn) -> None:
    """Settle what earlier attempts of the turn had begun, and tell what was done. Nothing new is begun."""
    turn.note("turn_stopped", by="user")
    turn.close_calls()
    settled = {record.effect_key for record in turn.work.calls}
    for effect in turn.given.begun:
        if effect.key not in settled:
            await settle_begun(turn, effect)
    if turn.untold:
        tell_outcomes(turn)
    if acted(turn):
        turn.say_paragraph(turn.wording.phrase("stopped"))


def acted(turn: Turn) -> bool:
    """Whether an effect was run in this turn, however that went."""
    return any(outcome.result.data.get("code") != STOPPED for outcome in turn.outcomes)
