"""The agent's loop as a graph: settle what the person decided, think, act, think again, close.

    START ─► settle ─► condense ─► think ◄──► act
                                     └──► close ◄┘

Nodes share one mutable `Turn`; the graph decides only who is next. No checkpointer: the transcript is the state, and
effects are kept by the ledger. Rules that hold whatever the model does: `docs/decisions/`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypedDict
from uuid import UUID

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from agent.confirmation import Verdict, VerdictKind, judge
from agent.definition import AgentDefinition
from agent.errors import BudgetSpent, ModelError, OutcropError, PendingSettled, TurnLimit
from agent.events import ConfirmationRequired, TurnCancelled, TurnCompleted, TurnEvent, TurnFailed, TurnStarted
from agent.guards import Rules
from agent.looking_up import look_up
from agent.model_call import Step, call_model, finish_text
from agent.outcomes import tell_outcomes
from agent.pending import ask_for_yes, views
from agent.ports import PendingAction, TurnInput, TurnWork
from agent.routing.plan import Plan
from agent.stopping import acted, is_stopped, wind_up
from agent.summary import is_due, sum_up
from agent.tool_call import LoopStopped, run_confirmed, run_proposed, runtime_calls
from agent.turn import Turn
from tools.contract import Toolbox, ToolError

# What may stand beside a yes as a text that was asked for: a statement, no question and no further wish.
_ADDED = re.compile(r"(?!(?:and|also|but|then|plus|oh|btw)\b)[^?\n]{3,200}", re.IGNORECASE)

CORRECTIONS = {
    "claim": "It said that something was done which no result of this turn confirms. Say only what the results say.",
    "syntax": "It contained tool syntax as text. Use real tool calls, and plain sentences for the person.",
    "private": "It contained internal ids or tool names. Leave them out.",
    "ungrounded": "It contained a phone number, link or order number that no tool result holds. Leave it out.",
    "forbidden": "It asked for the yes itself or quoted the instructions. The system asks; leave that out.",
    "empty": "It was empty. Answer the person.",
}


class State(TypedDict):
    """LangGraph's view of a turn."""

    turn: Turn
    rules: Rules


def run_turn(
    definition: AgentDefinition,
    plan: Plan,
    toolbox: Toolbox,
    turn: TurnInput,
    work: TurnWork,
    classify: Callable[[str], str],
) -> AsyncIterator[TurnEvent]:
    """Run one turn through the graph; see `events_of`."""
    return events_of(Turn(definition, plan, toolbox, turn, work, classify), _through_graph)


async def events_of(turn: Turn, steps: Callable[[Turn], Awaitable[None]]) -> AsyncIterator[TurnEvent]:
    """Run the steps of a turn and yield its events, numbered from `turn.given.first_seq`.

    `turn_started` is yielded when the numbering starts at 0; with a later `first_seq` it has been said already. The
    last event is `turn_completed`, or `turn_failed` for an `OutcropError`, or `turn_cancelled` when `turn.given.stop`
    was asked for before anything was done. Anything else raises: cancellation, after an effect that is under way has
    been settled, and bugs. `turn.work` holds what happened, whichever way the turn ends.
    """
    running = asyncio.create_task(_drive(turn, steps))
    try:
        while (event := await turn.events.get()) is not None:
            yield event
        await running
    finally:
        if not running.done():
            running.cancel()
            await asyncio.wait({running})


async def _drive(turn: Turn, steps: Callable[[Turn], Awaitable[None]]) -> None:
    """Run the steps and close the stream of events."""
    try:
        if turn.given.first_seq == 0:
            file = turn.definition.file
            turn.emit(
                TurnStarted, conversation_id=turn.given.conversation_id, agent=file.name, agent_version=file.version
            )
        stopped = await is_stopped(turn, steps)
        if stopped:
            await wind_up(turn)
        turn.seal()
        end = {
            "text": turn.text,
            "specialist": turn.work.specialist,
            "usage": turn.usage,
            "timings": turn.timings,
        }
        if stopped and not acted(turn):
            turn.emit(TurnCancelled, reason="user", **end)
        else:
            turn.emit(TurnCompleted, status="waiting" if turn.asked else "completed", **end)
    except OutcropError as error:
        turn.note("turn_failed", code=error.code, reason=str(error))
        turn.seal()
        turn.emit(TurnFailed, code=error.code, user_hint=error.user_hint, retryable=error.retryable)
    finally:
        turn.seal()
        turn.events.put_nowait(None)


async def _through_graph(turn: Turn) -> None:
    state = {"turn": turn, "rules": Rules(turn), _entry(GRAPH, _first(turn)): None}
    await GRAPH.ainvoke(state, {"recursion_limit": 100})


async def settle(state: State) -> Command[str]:
    """What the person decided comes first."""
    await settle_pending(state["turn"])
    return Command(goto=_answering(state["turn"]))


async def condense(state: State) -> None:
    """Where it is due, older turns are summed up before the answer."""
    await sum_up(state["turn"])


async def settle_pending(turn: Turn) -> None:
    """Judge the message or the button on the open pending actions, and carry out what was decided."""
    for pending in [p for p in turn.open if p.tool not in turn.definition.file.gated]:
        turn.change(pending, "expired")  # stored by another version of the agent
    late = await _renewed(turn)
    turn.verdict = _verdict(turn)
    if not turn.verdict.confirms:
        for pending in [p for p in turn.open if p.pending_id in late]:
            turn.change(pending, "expired")
    turn.note("verdict", kind=turn.verdict.kind, reason=turn.verdict.reason)
    by_id = {pending.pending_id: pending for pending in turn.open}
    chosen = [by_id[i] for i in turn.verdict.pending_ids if i in by_id]
    now = turn.given.tools.clock.now()
    for pending in [p for p in turn.open if p.expires_at <= now]:
        turn.change(pending, "expired")
    match turn.verdict.kind:
        case "decline":
            for pending in chosen or list(turn.open):
                if pending in turn.open:
                    turn.change(pending, "declined")
        case "confirm" | "address_correction":
            confirmed = [pending for pending in chosen if pending in turn.open]
            _drop_refused(turn, confirmed)
            completed = [_completed(turn, pending) for pending in confirmed]
            for stored, pending, call in zip(confirmed, completed, runtime_calls(turn, completed), strict=True):
                turn.change(stored, "confirmed")  # when its time comes: one that the person stops before stays open
                await run_confirmed(turn, call, pending)
        case "amend":
            turn.amended = chosen or list(turn.open)


async def _renewed(turn: Turn) -> set[UUID]:
    """Questions that are too old, but of which nothing has changed: a yes to them still counts. Returns their ids.

    Whatever changed in between has to be read out again, so that question expires.
    """
    now = turn.given.tools.clock.now()
    late: set[UUID] = set()
    for pending in [p for p in turn.open if p.expires_at <= now and turn.given.decision is None]:
        try:
            prepared = await turn.toolbox.prepare(pending.tool, pending.args, turn.tools)
        except ToolError:
            continue
        if (prepared.args, prepared.restatement) == (pending.args, pending.restatement):
            minutes = turn.definition.file.limits.pending_minutes
            turn.open[turn.open.index(pending)] = replace(pending, expires_at=now + timedelta(minutes=minutes))
            late.add(pending.pending_id)
    return late


def _completed(turn: Turn, pending: PendingAction) -> PendingAction:
    """The stored action, with the text that was asked for beside the yes ("yes, we sold the house").

    Only an empty, optional text is filled; it says why, and changes nothing of what is done.
    """
    name = turn.definition.file.gated[pending.tool].completes
    verdict = turn.verdict
    if name is None or verdict is None or pending.args.get(name) or not _ADDED.fullmatch(verdict.rest.strip()):
        return pending
    turn.verdict = replace(verdict, rest="")
    return replace(pending, args={**pending.args, name: verdict.rest.strip()})


def _drop_refused(turn: Turn, confirmed: list[PendingAction]) -> None:
    """After a yes to some, what else is said may be a no to the others ("yes the first, leave the other")."""
    others = [view for view in views(turn) if view.pending_id not in {p.pending_id for p in confirmed}]
    if not turn.verdict or not turn.verdict.rest or not others:
        return
    beside = judge(turn.verdict.rest, others, turn.given.tools.clock.now(), channel=turn.given.channel)
    if beside.kind == "decline":
        for pending in [p for p in turn.open if p.pending_id in beside.pending_ids]:
            turn.change(pending, "declined")
        turn.verdict = replace(turn.verdict, rest=beside.rest)


def _verdict(turn: Turn) -> Verdict:
    given = turn.given
    if given.decision is None:
        return judge(given.text, views(turn), given.tools.clock.now(), channel=given.channel)
    if all(pending.pending_id != given.decision.pending_id for pending in turn.open):
        raise PendingSettled(f"no open pending action {given.decision.pending_id}")
    kind: VerdictKind = "confirm" if given.decision.confirm else "decline"
    return Verdict(kind=kind, pending_ids=(given.decision.pending_id,), reason="button")


async def think(state: State) -> Command[str]:
    """One model call, shown as far as the guards let it; then its calls, a second try, or the end."""
    turn, rules = state["turn"], state["rules"]
    limits = turn.definition.file.limits
    if turn.model_calls >= limits.model_calls or turn.remaining_s <= 0:
        _give_up(turn, "model calls or time used up")
        return Command(goto="close")
    try:
        await look_up(turn)
        step = await call_model(turn, rules)
    except (ModelError, BudgetSpent) as error:
        if not turn.outcomes:
            raise
        # Something was done in this turn: that has to be told, model or no model.
        turn.note("model_failed", code=error.code, reason=str(error))
        tell_outcomes(turn)
        return Command(goto="close")
    if step.calls:
        finish_text(turn, rules, step, with_questions=False)
        turn.untold = [o for o in turn.untold if o.tool not in rules.claimed or o.result.status != "ok"]
        turn.calls = step.calls
        turn.record_step(tuple(proposal.call for proposal in step.calls), step.state)
        return Command(goto="act")
    finish_text(turn, rules, step, with_questions=not _will_ask(turn))
    return _conclude(turn, rules, step)


def _conclude(turn: Turn, rules: Rules, step: Step) -> Command[str]:
    """After a message without calls: done, a second try, or a plain sentence instead."""
    fault: str | None = step.withheld[0].fault if step.withheld else None
    if fault is None and not turn.segment and not turn.untold and not _will_ask(turn):
        fault = "empty"
    if fault is not None and not turn.corrected:
        turn.corrected = True
        seen = turn.segment
        turn.correction = f"Your last message was not shown. {CORRECTIONS[fault]}" + (
            f" The person has already read this, do not repeat it: {seen!r}" if seen else ""
        )
        return Command(goto="think")
    if turn.untold and (fault is not None or not turn.segment):
        tell_outcomes(turn)
    elif turn.took_back and (owed := [outcome for outcome in turn.untold if outcome.tool not in rules.claimed]):
        turn.untold = owed  # whoever spoke of it was taken back, and who took over does not
        tell_outcomes(turn)
    elif fault is not None and not _will_ask(turn):
        turn.say(turn.wording.phrase({"claim": "nothing_executed", "empty": "no_answer"}.get(fault, "withheld")))
    turn.untold.clear()
    turn.record_step((), step.state)
    return Command(goto="close" if turn.open else END)


async def act(state: State) -> Command[str]:
    """Answer the proposed calls, in their order. What waits for a yes ends the turn; the model has no say in that."""
    turn = state["turn"]
    calls, turn.calls = turn.calls, []
    turn.hints.clear()
    refused = _refused(turn)
    try:
        for proposal in calls:
            await run_proposed(turn, proposal)
        if _refused(turn) > refused and not turn.proposed:
            _count_faulty(turn)
    except LoopStopped as loop:
        turn.note("loop_stopped", call=str(loop))
        _give_up(turn, "the same call again", always=True)
        return Command(goto="close")
    except TurnLimit as limit:
        if not turn.proposed:
            _give_up(turn, str(limit))
        return Command(goto="close")
    return Command(goto="close" if turn.proposed else "think")


def _refused(turn: Turn) -> int:
    return sum(record.status == "refused" for record in turn.work.calls)


def _count_faulty(turn: Turn) -> None:
    """What was wrong has been said to the model; one that never gets it right is not asked for ever."""
    turn.faulty_steps += 1
    if turn.faulty_steps > turn.definition.file.limits.faulty_steps:
        raise LoopStopped("calls that no schema allows, again and again")


async def close(state: State) -> None:
    """Put what still waits to the person, in the runtime's own words, and drop what is superseded."""
    turn = state["turn"]
    if turn.untold:
        tell_outcomes(turn)
    for pending in _superseded(turn):
        turn.change(pending, "replaced")
    asked = [*turn.open, *turn.proposed]
    if not asked:
        return
    if turn.proposed:
        for hint in dict.fromkeys(turn.hints):
            turn.say_paragraph(hint)
    turn.say_paragraph(ask_for_yes(turn, asked))
    # No await from here on: what is stored as open has been put to the person, and the other way round.
    turn.work.opened.extend(turn.proposed)
    turn.asked = True
    for pending in asked:
        announce(turn, pending)


def announce(turn: Turn, pending: PendingAction) -> None:
    """Tell clients that this question was put."""
    turn.emit(
        ConfirmationRequired,
        pending_id=pending.pending_id,
        call_id=pending.call_id,
        tool=pending.tool,
        args=pending.args,
        summary=pending.summary,
        expires_at=pending.expires_at,
    )


def _superseded(turn: Turn) -> list[PendingAction]:
    """Stored pending actions that are no longer what is on the table."""
    if turn.proposed:
        # A change of some of several leaves the others; any other new proposal replaces the whole set.
        return [p for p in turn.open if p in turn.amended] if turn.amended else list(turn.open)
    looked_elsewhere = any(
        record.status == "ok" and record.tool in turn.definition.file.supersedes_pending for record in turn.work.calls
    )
    if looked_elsewhere:
        return list(turn.open)
    return [p for p in turn.open if p in turn.amended]


def _will_ask(turn: Turn) -> bool:
    """Whether the turn will end with the runtime's own question."""
    return bool(turn.proposed) or len(_superseded(turn)) < len(turn.open)


def _give_up(turn: Turn, reason: str, *, always: bool = False) -> None:
    """End a turn that used up its budget: plainly if there is something to stand on, else as `TurnLimit`."""
    turn.note("gave_up", reason=reason)
    if turn.untold:
        tell_outcomes(turn)
    elif always or turn.text or turn.outcomes:
        turn.say_paragraph(turn.wording.phrase("gave_up"))
    else:
        raise TurnLimit(reason)


def _compile() -> Any:
    graph = StateGraph(State)
    graph.add_node("settle", settle, destinations=("condense", "think"))
    graph.add_node("condense", condense)
    graph.add_node("think", think, destinations=("think", "act", "close", END))
    graph.add_node("act", act, destinations=("think", "close"))
    graph.add_node("close", close)
    graph.add_conditional_edges(START, lambda state: _first(state["turn"]), ["settle", "condense", "think"])
    graph.add_edge("condense", "think")
    graph.add_edge("close", END)
    compiled = graph.compile()
    # A turn goes straight in at its first node: START as a step of its own costs a quarter of the loop.
    compiled.input_channels = ["turn", "rules", *(_entry(compiled, node) for node in ("settle", "condense", "think"))]
    return compiled


def _entry(graph: Any, node: str) -> str:
    """The channel that starts a node."""
    channel: str = graph.nodes[node].triggers[0]
    return channel


def _first(turn: Turn) -> str:
    """Where a turn begins: without anything to settle, at once with the model."""
    return "settle" if turn.open or turn.given.decision else _answering(turn)


def _answering(turn: Turn) -> str:
    """Where the answer begins."""
    return "condense" if is_due(turn) else "think"


GRAPH = _compile()
