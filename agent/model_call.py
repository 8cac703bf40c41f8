"""One model call: ask, stream, guard. The only loop over a provider's chunks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import cast

import orjson

from agent.errors import ModelMisbehaved, ModelTimeout
from agent.events import ModelStarted, ReasoningDelta, Usage
from agent.guards import Rules, StreamGuard, Withheld, is_question
from agent.pending import facts_of
from agent.providers.base import Call, Chunk, ModelRequest, Note, Reasoning, Text, Tokens, TurnFacts
from agent.transcript import AssistantMessage, JsonObject, ToolCall
from agent.turn import Turn

# A message longer than this is a model that does not stop.
MAX_REPLY_CHARS = 12_000
# More calls in one message are no plan.
MAX_CALLS = 16
MAX_NAME = 100
MAX_ARGUMENTS = 20_000


@dataclass(slots=True)
class Step:
    """What came of one model call. `tail` holds the model's questions, not shown yet."""

    calls: list[Call] = field(default_factory=list)
    state: JsonObject | None = None
    tail: list[str] = field(default_factory=list)
    withheld: list[Withheld] = field(default_factory=list)


async def call_model(turn: Turn, rules: Rules) -> Step:
    """Ask the provider once and show what may be shown. Raises `ModelError`."""
    provider, step = turn.provider, Step()
    turn.model_calls += 1
    turn.start_paragraph()
    turn.emit(ModelStarted, provider=provider.name, model=provider.model, step=turn.model_calls)
    payload = provider.render(_request(turn))
    guard = StreamGuard(rules, turn.text)
    started = time.perf_counter()
    remaining_s = max(turn.remaining_s, 0.1)
    stream = cast(AsyncGenerator[Chunk, None], provider.wire.stream(payload, deadline_s=remaining_s))
    try:
        async with asyncio.timeout(remaining_s), aclosing(stream) as chunks:
            async for chunk in chunks:
                _take(turn, step, guard, chunk)
    except TimeoutError as error:
        raise ModelTimeout("the turn's time ran out while the model answered") from error
    except provider.raises as error:
        raise provider.classify(error) from error
    finally:
        turn.work.model_ms += (time.perf_counter() - started) * 1000
    turn.say(guard.finish())
    step.tail, step.withheld = guard.tail, guard.withheld
    step.calls += [Call(ToolCall("", name, args)) for name, args in guard.calls]
    step.calls = _with_ids(turn, step.calls)
    _note_guard(turn, guard)
    return step


def finish_text(turn: Turn, step: Step, *, with_questions: bool) -> None:
    """Show the tail of a message, or what is left of it without its questions."""
    for sentence in step.tail:
        if with_questions or not is_question(sentence):
            turn.say(sentence)


def _request(turn: Turn) -> ModelRequest:
    given = turn.given
    directory, identity = given.tools.directory, given.tools.identity
    visible = identity.clients or ((identity.client_id,) if identity.client_id else ())
    facts = TurnFacts(
        now=given.tools.clock.now(),
        identity=identity,
        locations=tuple(place for i in visible if (place := directory.locations.get(i))),
        pending=facts_of(turn.open),
        verdict=turn.verdict,
        correction=turn.correction,
    )
    return ModelRequest(
        instructions=turn.definition.file.instructions,
        messages=turn.messages,
        tools=turn.tool_list,
        facts=facts,
        deadline_s=turn.remaining_s,
    )


def _take(turn: Turn, step: Step, guard: StreamGuard, chunk: Chunk) -> None:
    """Handle one chunk; text is by far the most frequent."""
    if isinstance(chunk, Text):
        text = chunk.text.replace("\0", "") if "\0" in chunk.text else chunk.text
        guard.taken += len(text)
        if guard.taken > MAX_REPLY_CHARS:
            raise ModelMisbehaved("the model does not stop writing")
        if shown := guard.feed(text):
            turn.say(shown)
    elif isinstance(chunk, Call):
        step.calls.append(chunk)
        if len(step.calls) > MAX_CALLS:
            raise ModelMisbehaved(f"more than {MAX_CALLS} calls in one message")
    elif isinstance(chunk, Reasoning):
        turn.emit(ReasoningDelta, text=chunk.text.replace("\0", ""))
    elif isinstance(chunk, Tokens):
        _count(turn, chunk)
    elif isinstance(chunk, Note):
        step.state = chunk.state if chunk.state is not None else step.state
        if chunk.specialist:
            turn.specialist = chunk.specialist


def _count(turn: Turn, tokens: Tokens) -> None:
    turn.work.input_tokens += tokens.input_tokens
    turn.work.output_tokens += tokens.output_tokens
    turn.usage_estimated |= tokens.estimated
    turn.emit(
        Usage,
        provider=turn.provider.name,
        model=turn.provider.model,
        input_tokens=tokens.input_tokens,
        output_tokens=tokens.output_tokens,
        estimated=tokens.estimated,
    )


def _with_ids(turn: Turn, calls: list[Call]) -> list[Call]:
    """The calls in a form that every store takes, with ids that are there and unique within the turn."""
    used = {c.id for m in turn.work.messages if isinstance(m, AssistantMessage) for c in m.tool_calls}
    named = []
    for proposal in map(_storable, calls):
        call = proposal.call
        if not call.id or call.id in used:
            proposal = Call(ToolCall(turn.new_call_id(), call.name, call.args), proposal.error)
        used.add(proposal.call.id)
        named.append(proposal)
    return named


def _storable(proposal: Call) -> Call:
    """The call without what JSON or a database cannot hold; unreadable arguments are left out, with an error."""
    call = proposal.call
    name, call_id = (call.name or "")[:MAX_NAME].replace("\0", ""), (call.id or "")[:MAX_NAME].replace("\0", "")
    try:
        body = orjson.dumps(call.args)
    except TypeError:
        return Call(ToolCall(call_id, name, {}), "the arguments hold what JSON cannot")
    if len(body) > MAX_ARGUMENTS:
        return Call(ToolCall(call_id, name, {}), "the arguments are too long")
    args = orjson.loads(body.replace(b"\\u0000", b" ")) if b"\\u0000" in body else call.args
    return Call(ToolCall(call_id, name, args), proposal.error)


def _note_guard(turn: Turn, guard: StreamGuard) -> None:
    for each in guard.withheld:
        turn.note("withheld", fault=each.fault, text=each.text[:500])
    if guard.calls:
        turn.note("syntax_read", tools=[name for name, _ in guard.calls])
