"""One tool call of a turn, from the proposal to its result.

A proposal is checked here before the toolbox sees it: the tool exists, the arguments are ones a model may give, dates
are days, the same call is not made over and over. A gated call is never run from here; it becomes a pending action.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Any

import orjson

from agent.call_context import call_context
from agent.dates import DateError, TimeError, parse_day, parse_time
from agent.effects import effect_key, run_effect, unbroken
from agent.errors import TurnLimit
from agent.events import ToolRequested, ToolStarted, ToolStatus
from agent.long_results import READ, read_on
from agent.passages import PART
from agent.pending import open_pending
from agent.ports import EffectKey, PendingAction
from agent.providers.base import Call
from agent.transcript import AssistantMessage, JsonObject, ToolCall, ToolMessage, UserMessage
from agent.turn import Outcome, Seen, Turn
from tools.contract import InvalidArguments, Prepared, ToolError, ToolResult, ToolSpec, UnknownTool

# A model that wrote such a call gets to know; a person need not.
FAULTS_OF_THE_MODEL = ("unknown_tool", "invalid_arguments")
# A dictated text keeps at least this share of its longer words from what the person wrote.
DICTATED_SHARE = 0.6

_WORD = re.compile(r"[^\W_]{3,}")


class LoopStopped(Exception):
    """The model asks for the same thing again and again."""


async def run_proposed(turn: Turn, proposal: Call) -> None:
    """Answer one call that the model proposed; raises `LoopStopped` or `TurnLimit` when there shall be no more."""
    if len(turn.work.calls) >= turn.definition.file.limits.tool_calls:
        raise TurnLimit("tool calls used up")
    if turn.remaining_s <= 0:
        raise TurnLimit("time used up")
    call = proposal.call
    turn.emit(ToolRequested, call_id=call.id, tool=call.name, args=call.args)
    try:
        spec, args = _check(turn, proposal)
    except ToolError as error:
        _refuse(turn, call, error)
        # What could not be read is not the call without arguments that may follow it.
        signature = _signature(call.name, call.args) + (proposal.error or "")
        _remember(turn, signature, "refused", error.result().data, "")
        return
    if _repeated(turn, call, spec, args):
        return
    await _run_checked(turn, ToolCall(call.id, call.name, args), spec)


async def run_confirmed(turn: Turn, call: ToolCall, pending: PendingAction) -> None:
    """Run what a person said yes to, with the arguments that were stored."""
    spec = turn.specs.get(pending.tool)
    if spec is None:
        _refuse(turn, call, UnknownTool("This is not available any more."))
        return
    prepared = Prepared(spec, pending.args, pending.restatement)
    effect = effect_key(turn, call, prepared.args, pending.pending_id)
    await unbroken(_run_effect(turn, call, prepared, effect))


async def settle_begun(turn: Turn, effect: EffectKey) -> None:
    """Find out how an effect ended that an earlier attempt of this turn had begun, and put that on record."""
    spec = turn.specs.get(effect.tool)
    if spec is None:
        return  # no such tool any more: what became of it is looked for beside the turns
    pending = next((p for p in turn.open if p.pending_id == effect.pending_id), None)
    if pending is not None:
        turn.change(pending, "confirmed")
    used = {call.id for m in turn.work.messages if isinstance(m, AssistantMessage) for call in m.tool_calls}
    call_id = turn.new_call_id() if effect.call_id in used else effect.call_id
    call = ToolCall(call_id, effect.tool, effect.args, by_runtime=True)
    turn.work.messages.append(AssistantMessage(tool_calls=(call,)))
    prepared = Prepared(spec, effect.args, pending.restatement if pending else {})
    await unbroken(_run_effect(turn, call, prepared, replace(effect, call_id=call_id)))


def _check(turn: Turn, proposal: Call) -> tuple[ToolSpec, JsonObject]:
    """The tool and the arguments with dates and times normalised; raises `ToolError`."""
    call = proposal.call
    spec = turn.specs.get(call.name)
    if spec is None:
        near = get_close_matches(call.name, turn.specs, n=1, cutoff=0.75)
        raise UnknownTool("There is no such tool here.", **({"did_you_mean": near[0]} if near else {}))
    if proposal.error is not None:
        raise InvalidArguments("The arguments could not be read.", errors=[{"field": "", "message": proposal.error}])
    properties = spec.parameters.get("properties", {})
    if surplus := [name for name in call.args if name not in properties]:
        takes = f"it takes: {', '.join(properties) or 'nothing'}"
        errors = [{"field": n, "message": f"is not an argument of this tool; leave it out, {takes}"} for n in surplus]
        raise InvalidArguments("Some arguments cannot be given.", errors=errors)
    return spec, _normalised(call.args, properties, turn.given.tools.clock.now().date())


def _normalised(args: JsonObject, properties: JsonObject, today: date) -> JsonObject:
    """Days as YYYY-MM-DD and times as HH:MM where the schema says so; what was given as null is left out."""
    given: JsonObject = {}
    for name, value in args.items():
        if value is None and not _may_be_null(properties[name]):
            continue
        kind = properties[name].get("format")
        if kind == "date" and isinstance(value, str) and not _is_iso_day(value, today):
            try:
                value = parse_day(value, today).isoformat()
            except DateError as error:
                raise InvalidArguments(
                    "That day cannot be used.", errors=[{"field": name, "message": str(error)}]
                ) from error
        elif isinstance(value, list) and properties[name].get("items", {}).get("format") == "date":
            value = [_normalised({name: day}, {name: properties[name]["items"]}, today).get(name, day) for day in value]
        elif kind == "time" and isinstance(value, str):
            # Where it is no time here, the tool may know the notation, and names the problem if it does not.
            with suppress(TimeError):
                value = parse_time(value).strftime("%H:%M")
        given[name] = value
    return given


def _may_be_null(schema: JsonObject) -> bool:
    """Whether null is a value of its own here, and not a way to leave the argument out."""
    kinds = schema.get("type", ())
    return "null" in kinds or any(option.get("type") == "null" for option in schema.get("anyOf", ()))


def _is_iso_day(text: str, today: date) -> bool:
    """Whether a day is written as it should be; one of an earlier year is still to be read as of this one."""
    try:
        return len(text) == 10 and date.fromisoformat(text).year >= today.year
    except ValueError:
        return False


def _repeated(turn: Turn, call: ToolCall, spec: ToolSpec, args: JsonObject) -> bool:
    """Whether this call had its answer already, which it then gets again; the second repetition ends the turn."""
    seen = turn.seen.get(_signature(call.name, args))
    if seen is None:
        done = _done_by_runtime(turn, call.name, args) if spec.effect == "gated" else None
        if done is None:
            return False
        seen = turn.seen[_signature(call.name, args)] = Seen(*done, effect=spec.effect)
    seen.repeats += 1
    turn.record_call(call, seen.status, seen.result, args=args)
    if seen.repeats > 1 or seen.status in ("error", "refused"):
        raise LoopStopped(call.name)
    return True


def _done_by_runtime(turn: Turn, tool: str, args: JsonObject) -> tuple[ToolStatus, JsonObject] | None:
    """The result of the same gated action if a yes ran it in this turn.

    An id may be written in several ways (an order number for an internal id); each of them stands in what the person
    read or in the result. One that does not is another action.
    """
    for outcome in turn.outcomes:
        if outcome.tool != tool:
            continue
        told = set(_texts([outcome.args, outcome.facts, outcome.result.data]))
        if all(outcome.args.get(k) == v or (k.endswith("_id") and str(v) in told) for k, v in args.items()):
            return outcome.result.status, outcome.result.data
    return None


def _texts(node: Any) -> Iterator[str]:
    """Every string in JSON facts."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _texts(value)


async def _run_checked(turn: Turn, call: ToolCall, spec: ToolSpec) -> None:
    if spec is READ:
        _read_on(turn, call)
        return
    signature = _signature(call.name, call.args)
    try:
        prepared = await turn.toolbox.prepare(call.name, call.args, turn.tools)
    except ToolError as error:
        if error.code in FAULTS_OF_THE_MODEL:
            _refuse(turn, call, error)
        else:
            turn.hints.append(error.user_hint)
            turn.record_call(call, "error", error.result().data)
        _remember(turn, signature, "error", error.result().data, spec.effect)
        return
    if spec.effect == "gated" or (spec.effect == "write" and _needs_yes(turn, spec, prepared.args)):
        pending = open_pending(turn, call, prepared)
        result = {"ok": True, "status": "confirmation_required", "summary": pending.summary}
        turn.record_call(call, "pending", result, args=prepared.args)
        _remember(turn, signature, "pending", result, spec.effect)
    elif spec.effect == "write":
        done = await unbroken(_run_effect(turn, call, prepared, effect_key(turn, call, prepared.args, None)))
        _remember(turn, signature, done.status, done.data, spec.effect)
    else:
        await _run_read(turn, call, prepared, signature)


def _read_on(turn: Turn, call: ToolCall) -> None:
    """The runtime's own tool: more of a long result, out of this conversation. No executor has a part in it."""
    signature, started = _signature(call.name, call.args), (datetime.now(UTC), time.perf_counter())
    try:
        result = read_on(turn.messages, call.args, turn.definition.file.limits.result_chars)
    except InvalidArguments as error:
        _refuse(turn, call, error)
        _remember(turn, signature, "refused", error.result().data, "")
        return
    except ToolError as error:
        result = error.result()
    turn.emit(ToolStarted, call_id=call.id, tool=call.name, args=call.args)
    turn.record_call(call, result.status, result.data, started=started)
    _remember(turn, signature, result.status, result.data, READ.effect)


def _needs_yes(turn: Turn, spec: ToolSpec, args: JsonObject) -> bool:
    """Whether a low-risk write is not plainly what the person asked for: not in their words, or done before."""
    done = any(
        isinstance(m, ToolMessage) and m.name == spec.name and m.ok and m.args == args for m in turn.given.history
    )
    return done or not _dictated(turn, spec, args)


async def _run_read(turn: Turn, call: ToolCall, prepared: Prepared, signature: str) -> None:
    turn.emit(ToolStarted, call_id=call.id, tool=call.name, args=prepared.args)
    started = datetime.now(UTC), time.perf_counter()
    try:
        result = await turn.toolbox.execute(prepared, call_context(turn, call.id, call.name, prepared.args))
    except ToolError as error:
        result = error.result()
    if prepared.spec.part == PART:
        elapsed_ms = (time.perf_counter() - started[1]) * 1000
        found = turn.take_found(str(prepared.args.get("query", "")), result.data, elapsed_ms, call.id)
        result = replace(result, data=found)
    turn.record_call(
        call,
        result.status,
        result.data,
        args=prepared.args,
        started=started,
        upstream_status=result.upstream_status,
    )
    _note_executor(turn, call, result)
    _remember(turn, signature, result.status, result.data, "read")
    if result.status == "ok":
        # What failed before may succeed now.
        turn.seen = {key: seen for key, seen in turn.seen.items() if seen.status not in ("error", "refused")}


async def _run_effect(turn: Turn, call: ToolCall, prepared: Prepared, effect: EffectKey) -> ToolResult:
    """Run a write through the ledger and put it on record."""
    turn.emit(ToolStarted, call_id=call.id, tool=call.name, args=prepared.args)
    started = datetime.now(UTC), time.perf_counter()
    turn.unsettled.add(effect.key)
    result = await run_effect(turn, prepared, effect)
    turn.unsettled.discard(effect.key)
    _note_executor(turn, call, result)
    outcome = Outcome(call.name, prepared.args, prepared.restatement if effect.pending_id else {}, result)
    turn.outcomes.append(outcome)
    turn.untold.append(outcome)
    # What was read before this effect may be read again after it.
    turn.seen = {key: seen for key, seen in turn.seen.items() if seen.effect != "read"}
    turn.record_call(
        call,
        result.status,
        result.data,
        args=prepared.args,
        started=started,
        upstream_status=result.upstream_status,
        effect_key=effect.key,
    )
    return result


def _note_executor(turn: Turn, call: ToolCall, result: ToolResult) -> None:
    """Where a group has two executors, the record tells which one it was, and how the other one answered."""
    if result.executor:
        facts = {
            "tool": call.name,
            "executor": result.executor,
            "status": result.status,
            "code": result.data.get("code"),
        }
        turn.note("executed_by", **facts, call_id=call.id)
    if result.parity is not None:
        turn.note("parity", executor=result.executor, **result.parity)


def _refuse(turn: Turn, call: ToolCall, error: ToolError) -> None:
    turn.note("call_refused", tool=call.name, code=error.code, args=call.args)
    turn.record_call(call, "refused", error.result().data)


def _remember(turn: Turn, signature: str, status: ToolStatus, result: JsonObject, effect: str) -> None:
    if (seen := turn.seen.get(signature)) is not None:
        # Only refusals come here twice: the same faulty call again.
        seen.repeats += 1
        raise LoopStopped(signature)
    turn.seen[signature] = Seen(status, result, effect)


def _signature(tool: str, args: JsonObject) -> str:
    return f"{tool} {orjson.dumps(args, option=orjson.OPT_SORT_KEYS).decode()}"


def _dictated(turn: Turn, spec: ToolSpec, args: JsonObject) -> bool:
    """Whether the free text of an ungated write is the person's own.

    Read from what they wrote in this conversation. Writes with no such argument are free.
    """
    argument = turn.definition.file.dictated.get(spec.name)
    if argument is None:
        return True
    words = set(_WORD.findall(str(args.get(argument, "")).lower()))
    said = " ".join(m.text for m in (*turn.given.history, UserMessage(turn.given.text)) if isinstance(m, UserMessage))
    own = words & set(_WORD.findall(said.lower()))
    return len(own) >= DICTATED_SHARE * len(words)


def runtime_calls(turn: Turn, pendings: list[PendingAction]) -> list[ToolCall]:
    """The calls by which the runtime carries out confirmed actions, put into the transcript as one message."""
    calls = [ToolCall(turn.new_call_id(), p.tool, p.args, by_runtime=True) for p in pendings]
    turn.work.messages.append(AssistantMessage(tool_calls=tuple(calls)))
    return calls
