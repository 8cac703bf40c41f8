"""One model call: ask, stream, guard. The only loop over a provider's chunks."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import orjson

from agent.citing import Ground, Marks, evidence, theirs
from agent.context import ASCII_CHARS, expected, fit
from agent.errors import (
    ModelBusy,
    ModelError,
    ModelMisbehaved,
    ModelTimeout,
)
from agent.events import ModelStarted, ReasoningDelta, RetrievalFinished, RouteChanged, Usage
from agent.guards import Rules, StreamGuard, Withheld, is_question
from agent.one_call import guarded, pieces, refusal
from agent.pending import facts_of
from agent.providers.base import (
    Call,
    Chunk,
    Cited,
    ModelRequest,
    Note,
    Reasoning,
    Searched,
    Text,
    Tokens,
    TurnFacts,
)
from agent.routing.failover import Next, OutOfTime, Tried, following
from agent.routing.plan import Candidate, ErrorClass, ModelCall, Refusal, error_class
from agent.transcript import AssistantMessage, JsonObject, ToolCall
from agent.turn import Mark, Turn

# A message longer than this is a model that does not stop.
MAX_REPLY_CHARS = 12_000
MAX_THOUGHT_CHARS = 200_000
# While somebody could take over, a call may use this share of the turn's time.
SHARE_OF_TIME = 2 / 3
# Who had less time than this cannot be blamed for using it up.
FAIR_S = 20.0
# More calls in one message are no plan.
MAX_CALLS = 16
MAX_NAME = 100
MAX_ARGUMENTS = 20_000


@dataclass(slots=True)
class Step:
    """What came of one model call. `tail` holds the model's questions, not shown yet."""

    calls: list[Call] = field(default_factory=list)
    state: JsonObject | None = None
    specialist: str | None = None
    tail: list[str] = field(default_factory=list)
    withheld: list[Withheld] = field(default_factory=list)
    marks: Marks | None = None  # None: the text is taken as it is
    begins: int = 0  # where in the reply its text begins
    cited: list[Cited] = field(default_factory=list)  # of the provider's own knowledge


@dataclass(slots=True)
class Aside:
    """A question of the runtime's own, and the answer, which nobody is shown."""

    request: ModelRequest
    text: str = ""


@dataclass(slots=True)
class _Attempt:
    """One try of one candidate, as it goes."""

    candidate: Candidate
    began: float = field(default_factory=time.perf_counter)
    first_token_s: float | None = None
    tokens: Tokens | None = None
    step: Step = field(default_factory=Step)
    aside: Aside | None = None
    thought: int = 0  # characters


async def call_model(turn: Turn, rules: Rules) -> Step:
    """Ask for one message and show what may be shown, of whichever candidate gives one. Raises `ModelError`.

    Who comes next after a failure, `agent.routing.failover` says. What a failed candidate had shown is taken back.
    """
    turn.model_calls += 1
    turn.start_paragraph()
    tried = Tried()
    while True:
        mark, claimed = turn.mark(), set(rules.claimed)
        try:
            return await _ask(turn, rules, tried)
        except ModelError as error:
            rules.claimed = claimed  # what was taken back has told nobody anything
            then = following(turn.plan, turn.asked_now, error, tried, turn.remaining_s)
            if then is None:
                raise
            await _go_on(turn, mark, error, then)


async def ask_aside(turn: Turn, request: ModelRequest) -> str:
    """Put a question of the runtime's own to the model of this turn; the text of the answer.

    Counted like any call, and asked of the next candidate when one fails. Raises `ModelError` or `BudgetSpent`.
    """
    turn.model_calls += 1
    tried = Tried()
    while True:
        aside = Aside(request)
        try:
            await _ask(turn, None, tried, aside)
            return aside.text
        except ModelError as error:
            then = following(turn.plan, turn.asked_now, error, tried, turn.remaining_s)
            if then is None or not then.candidate.provider.capabilities.answers_anything:
                raise
            await _go_on(turn, turn.mark(), error, then)


async def _go_on(turn: Turn, mark: Mark, error: ModelError, then: Next) -> None:
    """Prepare the next try, and tell whoever follows when it is another model's or begins the message anew."""
    restarts, changes = turn.void(mark), then.candidate is not turn.candidate
    turn.took_back |= restarts
    of, to = turn.provider.name, then.candidate.provider.name
    turn.note("model_retried", of=of, to=to, code=error.code, reason=str(error)[:300])
    turn.candidate = then.candidate
    if changes or restarts:
        provider = then.candidate.provider
        turn.emit(
            RouteChanged, provider=provider.name, model=provider.model, reason=error_class(error), restarts=restarts
        )
    if then.candidate.arm == "degraded" and not turn.is_degraded:
        turn.is_degraded = True
        turn.say_paragraph(turn.wording.phrase("degraded"))
        turn.start_paragraph()
    if then.wait_s:
        await asyncio.sleep(then.wait_s)


async def _ask(turn: Turn, rules: Rules | None, tried: Tried, aside: Aside | None = None) -> Step:
    """One try of the candidate whose turn it is, counted in and out. `rules` guard what is shown; None: nothing is."""
    attempt = _Attempt(turn.asked_now, aside=aside)
    plan, candidate = turn.plan, attempt.candidate
    provider = candidate.provider
    asked = _request(turn) if aside is None else aside.request
    request = fit(asked, provider.capabilities, tried, turn.definition.file.limits.result_chars)
    reserved_usd = 0.0
    if plan.purse is not None:
        reserved_usd = candidate.price.of(expected(request, provider.capabilities))
        await plan.purse.reserve(reserved_usd)
    try:
        async with AsyncExitStack() as around:
            # The gate comes first: what it refuses says nothing of the provider, and a probe must not wait in it.
            if candidate.gate is not None:
                await around.enter_async_context(candidate.gate.passing(max(turn.remaining_s, 0.1)))
            if candidate.breaker is not None:
                await around.enter_async_context(guarded(candidate.breaker))
            attempt.began = time.perf_counter()
            await _stream(turn, rules, attempt, request)
        _observe(turn, attempt, tried, "ok")
        return attempt.step
    except OutOfTime:
        raise
    except asyncio.CancelledError:
        # Who was waited for this long counts as silent, or the slowest model would look best.
        hung = time.perf_counter() - attempt.began >= FAIR_S
        _observe(turn, attempt, tried, "timeout", "" if hung else "stopped")
        raise
    except ModelError as error:
        refused = refusal(error, candidate)
        if not refused and isinstance(error, ModelBusy) and candidate.gate is not None:
            candidate.gate.throttled(error.retry_after_s)
        _observe(turn, attempt, tried, error_class(error), refused)
        raise
    finally:
        if plan.purse is not None:
            await plan.purse.settle(reserved_usd, candidate.price.of(attempt.tokens) if attempt.tokens else 0.0)


async def _stream(turn: Turn, rules: Rules | None, attempt: _Attempt, request: ModelRequest) -> None:
    provider, step = attempt.candidate.provider, attempt.step
    turn.emit(ModelStarted, provider=provider.name, model=provider.model, step=turn.model_calls)
    payload = provider.render(request)
    guard = StreamGuard(rules, turn.text) if rules else None
    if guard is not None:
        step.marks = Marks(turn.passages) if turn.policy != "off" else None
        step.begins = len(turn.text)
    take = partial(_take, turn, attempt, guard) if guard else partial(_take_aside, turn, attempt)
    now = asyncio.get_running_loop().time()
    whole_s = _time_for(turn, attempt.candidate)
    silent_s = min(whole_s, attempt.candidate.first_token_s or whole_s)
    ended = waited = False
    try:
        async with asyncio.timeout(silent_s) as patience, aclosing(pieces(provider, payload, whole_s)) as chunks:
            async for chunk in chunks:
                if attempt.first_token_s is None and not isinstance(chunk, Tokens | Note):
                    attempt.first_token_s = time.perf_counter() - attempt.began
                    patience.reschedule(now + whole_s)
                take(chunk)
        ended = True
    except TimeoutError as error:
        waited = True
        silent = attempt.first_token_s is None
        said = "no answer in time" if silent else "the answer did not end in time"
        kind = OutOfTime if whole_s < FAIR_S and not (silent and silent_s < whole_s) else ModelTimeout
        raise kind(said) from error
    except asyncio.CancelledError:
        waited = True
        raise
    finally:
        turn.work.model_ms += (time.perf_counter() - attempt.began) * 1000
        if not ended and (waited or attempt.first_token_s is not None):
            _count_unfinished(turn, attempt, request, guard)
    if guard is None:
        return
    if step.marks is not None and (rest := step.marks.finish()) and (shown := guard.feed(rest)):
        turn.say(shown)
    turn.say(guard.finish())
    if step.specialist:
        turn.specialist = step.specialist
    step.tail, step.withheld = guard.tail, guard.withheld
    step.calls += [Call(ToolCall("", name, args)) for name, args in guard.calls]
    step.calls = _with_ids(turn, step.calls)
    _note_guard(turn, guard)


def _time_for(turn: Turn, candidate: Candidate) -> float:
    """Seconds for one call: what is left of the turn, or a part of it while somebody could take over."""
    remaining_s = max(turn.remaining_s, 0.1)
    return remaining_s if turn.plan.is_last(candidate) else max(remaining_s * SHARE_OF_TIME, 0.1)


def _observe(
    turn: Turn, attempt: _Attempt, tried: Tried, outcome: Literal["ok"] | ErrorClass, refused: Refusal = ""
) -> None:
    candidate, tokens = attempt.candidate, attempt.tokens or Tokens(0, 0)
    turn.plan.observe(
        ModelCall(
            route=turn.plan.route,
            arm=candidate.arm,
            provider=candidate.provider.name,
            model=candidate.provider.model,
            outcome=outcome,
            duration_s=time.perf_counter() - attempt.began,
            first_token_s=attempt.first_token_s,
            input_tokens=tokens.input_tokens,
            output_tokens=tokens.output_tokens,
            cost_usd=candidate.price.of(tokens),
            in_canary=turn.plan.in_canary,
            instead_of=tried.instead_of,
            refused=refused,
        )
    )


def finish_text(turn: Turn, rules: Rules, step: Step, *, with_questions: bool) -> None:
    """Show the tail of a message, or what is left of it without its questions; and say what all of it rests on."""
    for sentence in step.tail:
        if with_questions or not is_question(sentence):
            turn.say(sentence)
    turn.cite(_grounds(turn, step), rules.lets_show)


def _grounds(turn: Turn, step: Step) -> list[Ground]:
    """What the text of a message rests on, as far as it was shown: by its marks, its words, or its provider's word."""
    if step.cited:
        return theirs(step.cited, turn.text, step.begins)
    if step.marks is None or not turn.passages:
        return []
    marked = step.marks.grounds(turn.text, step.begins)
    if marked or not turn.provider.capabilities.reads_prose:
        return marked
    return evidence(turn.passages, turn.text, step.begins)


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
        found=turn.found,
    )
    return ModelRequest(
        instructions=turn.definition.file.instructions,
        messages=turn.messages,
        tools=turn.tool_list,
        facts=facts,
        deadline_s=turn.remaining_s,
        turn_key=f"{given.conversation_id.hex}.{given.turn_id.hex}",
    )


def _take(turn: Turn, attempt: _Attempt, guard: StreamGuard, chunk: Chunk) -> None:
    """Handle one chunk; text is by far the most frequent."""
    step = attempt.step
    if isinstance(chunk, Text):
        text = chunk.text.replace("\0", "") if "\0" in chunk.text else chunk.text
        guard.taken += len(text)
        if guard.taken > MAX_REPLY_CHARS:
            raise ModelMisbehaved("the model does not stop writing")
        if step.marks is not None:
            text = step.marks.feed(text)
        if shown := guard.feed(text):
            turn.say(shown)
    elif isinstance(chunk, Call):
        step.calls.append(chunk)
        if len(step.calls) > MAX_CALLS:
            raise ModelMisbehaved(f"more than {MAX_CALLS} calls in one message")
    elif isinstance(chunk, Reasoning):
        attempt.thought += len(chunk.text)
        if attempt.thought > MAX_THOUGHT_CHARS:
            raise ModelMisbehaved("the model does not stop thinking")
        turn.emit(ReasoningDelta, text=chunk.text.replace("\0", ""))
    elif isinstance(chunk, Tokens):
        attempt.tokens = chunk
        _count(turn, chunk, attempt.candidate.price.of(chunk))
    elif isinstance(chunk, Note):
        step.state = chunk.state if chunk.state is not None else step.state
        step.specialist = chunk.specialist or step.specialist
    elif isinstance(chunk, Cited):
        step.cited.append(chunk)
    elif isinstance(chunk, Searched):
        searched = chunk.query.replace("\0", "")
        turn.emit(
            RetrievalFinished, query=searched, passages=chunk.passages, reason=None if chunk.passages else "no_match"
        )


def _take_aside(turn: Turn, attempt: _Attempt, chunk: Chunk) -> None:
    """Handle one chunk of an answer that nobody is shown: its text, and what it cost."""
    if isinstance(chunk, Tokens):
        attempt.tokens = chunk
        _count(turn, chunk, attempt.candidate.price.of(chunk))
    elif isinstance(chunk, Text) and attempt.aside is not None:
        attempt.aside.text += chunk.text.replace("\0", "")
        if len(attempt.aside.text) > MAX_REPLY_CHARS:
            raise ModelMisbehaved("the model does not stop writing")


def _count(turn: Turn, tokens: Tokens, cost_usd: float) -> None:
    turn.work.input_tokens += tokens.input_tokens
    turn.work.output_tokens += tokens.output_tokens
    turn.work.cost_usd += cost_usd
    turn.usage_estimated |= tokens.estimated
    turn.emit(
        Usage,
        provider=turn.provider.name,
        model=turn.provider.model,
        input_tokens=tokens.input_tokens,
        output_tokens=tokens.output_tokens,
        estimated=tokens.estimated,
        cost_usd=cost_usd,
    )


def _count_unfinished(turn: Turn, attempt: _Attempt, request: ModelRequest, guard: StreamGuard | None) -> None:
    """A call that was left in the middle costs what it had read and written by then; nobody says how much that is."""
    if attempt.tokens is None:
        whole = expected(request, attempt.candidate.provider.capabilities)
        written = guard.taken if guard else len(attempt.aside.text if attempt.aside else "")
        attempt.tokens = replace(whole, output_tokens=min(whole.output_tokens, written // ASCII_CHARS))
        _count(turn, attempt.tokens, attempt.candidate.price.of(attempt.tokens))


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
