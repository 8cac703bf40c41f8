"""A turn without a model: a program names a tool and its arguments, code does the rest.

The call goes through the checks and the ledger that a model's call goes through. A gated one becomes a pending action
and ends the turn with code's own question; the turn of the answer carries out what was stored. Questions of other calls
stay as they are: each was put by itself, and is answered by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from agent.definition import AgentDefinition
from agent.events import TurnEvent
from agent.graph import announce, events_of, settle_pending
from agent.outcomes import tell_outcomes
from agent.pending import ask_for_yes
from agent.ports import DirectCall, PendingAction, TurnInput, TurnWork
from agent.providers.base import Call
from agent.tool_call import run_proposed
from agent.transcript import AssistantMessage, ToolCall
from agent.turn import Turn
from tools.contract import Toolbox


def run_call(
    definition: AgentDefinition, toolbox: Toolbox, turn: TurnInput, work: TurnWork
) -> AsyncIterator[TurnEvent]:
    """Run the turn of `turn.call`, or of the decision on a question that such a call asked; see `events_of`."""
    return events_of(Turn(definition, None, toolbox, turn, work, lambda _: ""), _steps)


async def _steps(turn: Turn) -> None:
    if turn.given.decision is not None:
        await _decide(turn)
    elif turn.given.call is not None:
        await _call(turn, turn.given.call)


async def _decide(turn: Turn) -> None:
    await settle_pending(turn)
    if turn.outcomes:
        tell_outcomes(turn)
    else:
        turn.say(turn.wording.phrase("nothing_executed"))


async def _call(turn: Turn, asked: DirectCall) -> None:
    call = ToolCall(turn.new_call_id(), asked.tool, asked.args, by_runtime=True)
    turn.work.messages.append(AssistantMessage(tool_calls=(call,)))
    await run_proposed(turn, Call(call))
    if turn.outcomes:
        tell_outcomes(turn)
    for pending in turn.proposed:
        _ask(turn, pending)


def _ask(turn: Turn, new: PendingAction) -> None:
    """Put the question; one that is open already is that question, however often the call is made."""
    now = turn.given.tools.clock.now()
    known = (p for p in turn.open if (p.tool, p.args, p.restatement) == (new.tool, new.args, new.restatement))
    pending = next((p for p in known if p.expires_at > now), new)
    if pending is new:
        turn.work.opened.append(new)
    turn.say_paragraph(ask_for_yes(turn, [pending]))
    turn.asked = True
    announce(turn, pending)
