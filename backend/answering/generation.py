"""An answer from passages, piece by piece, of whichever model of a plan gives one; without a model, their own words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace

from agent.citations import Cited, Citer, Shown
from agent.context import ASCII_CHARS, expected, fit
from agent.errors import ModelBusy, ModelError, ModelMisbehaved, ModelTimeout
from agent.extracts import extract
from agent.one_call import guarded, pieces, refusal
from agent.providers.base import Chunk, ModelRequest, Note, Text, Tokens
from agent.routing.config import OFFLINE
from agent.routing.failover import OutOfTime, Tried, following
from agent.routing.plan import Candidate, ModelCall, Plan, Refusal, error_class
from backend.answering.prompt import Question, request_of

# boto3 waits 60 seconds for an answer.
DEADLINE_S = 50.0
MAX_ANSWER_CHARS = 12_000
NOTHING = "Sorry, I could not find anything about that in the documents."

Piece = Shown | Cited


async def answer(plan: Plan, question: Question) -> AsyncGenerator[Piece, None]:
    """Text, and after it what it rests on; at least one piece. Raises `ModelError` or `BudgetSpent`.

    Another candidate takes over as long as nothing was shown. To be closed by whoever does not read it to its end:
    that ends the call.
    """
    if not question.passages:
        yield Shown(NOTHING)
        return
    tried, candidate, has_begun = Tried(), plan.candidates[0], False
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            async with aclosing(_asked(plan, candidate, question, tried, until)) as found:
                async for piece in found:
                    has_begun = True
                    yield piece
            return
        except ModelError as error:
            then = None if has_begun else following(plan, candidate, error, tried, until - time.monotonic())
            if then is None:
                raise
        await asyncio.sleep(then.wait_s)
        candidate = then.candidate


def extracted(question: Question) -> Iterator[Piece]:
    """The sentences of the passages that answer best, each cited; no model is asked."""
    texts, headings = [each.text for each in question.passages], [each.section for each in question.passages]
    at = 0
    for found in extract(question.text, texts, headings=headings):
        gap = " " if at else ""
        yield Shown(gap + found.text)
        yield Cited(at + len(gap), at + len(gap) + len(found.text), (found.source,))
        at += len(gap) + len(found.text)
    if not at:
        yield Shown(NOTHING)


@dataclass(slots=True)
class _Call:
    """One call, as it goes."""

    candidate: Candidate
    request: ModelRequest
    began: float
    first_token_s: float | None = None
    tokens: Tokens | None = None
    written: int = 0  # characters


async def _asked(
    plan: Plan, candidate: Candidate, question: Question, tried: Tried, until: float
) -> AsyncGenerator[Piece, None]:
    """One try of one candidate, paid for and counted."""
    if candidate.provider.name == OFFLINE:
        for piece in extracted(question):
            yield piece
        return
    left_s = max(until - time.monotonic(), 0.1)
    able = candidate.provider.capabilities
    call = _Call(candidate, fit(request_of(question, left_s), able, tried), time.monotonic())
    reserved_usd = 0.0
    if plan.purse is not None:
        reserved_usd = candidate.price.of(expected(call.request, able))
        await plan.purse.reserve(reserved_usd)
    try:
        async with AsyncExitStack() as around:
            # The gate comes first: what it refuses says nothing of the provider.
            if candidate.gate is not None:
                await around.enter_async_context(candidate.gate.passing(left_s))
            if candidate.breaker is not None:
                await around.enter_async_context(guarded(candidate.breaker))
            call.began = time.monotonic()
            async with aclosing(_streamed(call, until, len(question.passages))) as found:
                async for piece in found:
                    yield piece
        _observe(plan, call, tried, None)
    except (asyncio.CancelledError, GeneratorExit):
        _estimate(call)
        _observe(plan, call, tried, ModelTimeout(), "stopped")
        raise
    except OutOfTime:
        raise
    except ModelError as error:
        refused = refusal(error, candidate)
        if not refused and isinstance(error, ModelBusy) and candidate.gate is not None:
            candidate.gate.throttled(error.retry_after_s)
        _observe(plan, call, tried, error, refused)
        raise
    finally:
        if plan.purse is not None:
            await plan.purse.settle(reserved_usd, candidate.price.of(call.tokens) if call.tokens else 0.0)


async def _streamed(call: _Call, until: float, sources: int) -> AsyncGenerator[Piece, None]:
    provider, citer, has_text = call.candidate.provider, Citer(sources), False
    payload = provider.render(call.request)
    async with aclosing(pieces(provider, payload, call.request.deadline_s)) as chunks:
        async for chunk in _in_time(call, chunks, until):
            if isinstance(chunk, Tokens):
                call.tokens = chunk
            elif isinstance(chunk, Text):
                call.written += len(chunk.text)
                if call.written > MAX_ANSWER_CHARS:
                    raise ModelMisbehaved("the model does not stop writing")
                for piece in citer.feed(chunk.text.replace("\0", "")):
                    has_text |= isinstance(piece, Shown)
                    yield piece
    for piece in citer.finish():
        has_text |= isinstance(piece, Shown)
        yield piece
    if not has_text:
        raise ModelMisbehaved("the model wrote nothing")


async def _in_time(call: _Call, chunks: AsyncIterator[Chunk], until: float) -> AsyncIterator[Chunk]:
    """The chunks, each waited for no longer than is left; the first useful one no longer than its provider may take."""
    silent_until = call.began + (call.candidate.first_token_s or DEADLINE_S)
    while True:
        waits_until = until if call.first_token_s is not None else min(until, silent_until)
        try:
            async with asyncio.timeout(max(waits_until - time.monotonic(), 0.05)):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            _estimate(call)
            raise ModelTimeout("no answer in time") from error
        if chunk is None:
            return
        if call.first_token_s is None and not isinstance(chunk, Tokens | Note):
            call.first_token_s = time.monotonic() - call.began
        yield chunk


def _estimate(call: _Call) -> None:
    """A call that was left in the middle costs what it had read and written by then."""
    if call.tokens is None:
        whole = expected(call.request, call.candidate.provider.capabilities)
        call.tokens = replace(whole, output_tokens=min(whole.output_tokens, call.written // ASCII_CHARS))


def _observe(plan: Plan, call: _Call, tried: Tried, error: ModelError | None, refused: Refusal = "") -> None:
    candidate, tokens = call.candidate, call.tokens or Tokens(0, 0)
    plan.observe(
        ModelCall(
            route=plan.route,
            arm=candidate.arm,
            provider=candidate.provider.name,
            model=candidate.provider.model,
            outcome="ok" if error is None else error_class(error),
            duration_s=time.monotonic() - call.began,
            first_token_s=call.first_token_s,
            input_tokens=tokens.input_tokens,
            output_tokens=tokens.output_tokens,
            cost_usd=candidate.price.of(tokens),
            in_canary=plan.in_canary,
            instead_of=tried.instead_of,
            refused=refused,
        )
    )
