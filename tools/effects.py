"""What to do when a change was sent and nobody said whether it happened.

Upstream has no idempotency key. So a change is sent once; if its outcome is uncertain, the new state is looked for
until `settle_seconds` have passed; if it surely is not there, the change is sent one more time, which upstream
refuses if the first one did arrive; whatever is still open after a second look stays unknown and is never sent again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tools.contract import ToolContext, ToolError
from tools.errors import (
    AlreadyScheduled,
    InvalidStep,
    OutcomeUncertain,
    RateLimited,
    UnknownOutcome,
    UpstreamRefusal,
    UpstreamUnavailable,
)

T = TypeVar("T")
R = TypeVar("R")

MAX_RATE_WAIT_S = 2.0
SHORTEST_LOOK_S = 1.0  # the last look may take this long, however little time is left
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.2  # shares of settle_seconds
UNKNOWN_HINT = "I could not find out whether that went through. It is being checked; please do not repeat it yet."


@dataclass(frozen=True, slots=True)
class Seen(Generic[R]):
    """What reading back showed: the state looked for, or None; `readable`: the last look succeeded at all."""

    found: R | None
    readable: bool


async def read_back(ctx: ToolContext, look: Callable[[], Awaitable[R | None]]) -> Seen[R]:
    """Look until the state is there or `settle_seconds` are over. `look` gives None while it is not.

    What was sent by somebody who has died since may be carried out late: their seconds begin when it must have been.
    """
    still_s = 0.0 if ctx.quiet_seconds is None else max(0.0, ctx.write_seconds - ctx.quiet_seconds)
    deadline = time.monotonic() + still_s + ctx.settle_seconds
    pause = ctx.settle_seconds * _FIRST_PAUSE
    readable = False
    while True:
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), SHORTEST_LOOK_S)):
                found = await look()
            readable = True
            if found is not None:
                return Seen(found, readable)
        except (ToolError, TimeoutError):
            readable = False
        if time.monotonic() + pause >= deadline:
            return Seen(None, readable)
        await asyncio.sleep(pause)
        pause = min(pause * 2, ctx.settle_seconds * _LONGEST_PAUSE)


async def send(
    ctx: ToolContext, change: Callable[[], Awaitable[T]], look: Callable[[], Awaitable[R | None]]
) -> T | None:
    """Make one change happen at most once; its answer, or None when only reading back showed that it took place.

    Raises upstream's refusal of the first try (nothing happened), `UpstreamUnavailable` when it could not be sent,
    `UnknownOutcome` when the outcome cannot be known.
    """
    try:
        return await _unless_limited(change)
    except OutcomeUncertain:
        pass
    except (InvalidStep, AlreadyScheduled):
        # Perhaps an earlier try did it. One look: nothing is under way.
        if await look() is not None:
            return None
        raise
    seen = await read_back(ctx, look)
    if seen.found is not None:
        return None
    if not seen.readable:
        raise UnknownOutcome(UNKNOWN_HINT)
    return await _send_again(ctx, change, look)


async def _send_again(
    ctx: ToolContext, change: Callable[[], Awaitable[T]], look: Callable[[], Awaitable[R | None]]
) -> T | None:
    """The one resend. A refusal of it hints that the first try arrived, which only reading back can confirm."""
    try:
        return await change()
    except ToolError as refusal:
        seen = await read_back(ctx, look)
        if seen.found is not None:
            return None
        if isinstance(refusal, UpstreamUnavailable | UpstreamRefusal | AlreadyScheduled) or not seen.readable:
            raise UnknownOutcome(UNKNOWN_HINT) from refusal
        raise


async def _unless_limited(change: Callable[[], Awaitable[T]]) -> T:
    """A rate limit turns a request away before anything is done, so that waiting and sending it again is safe."""
    try:
        return await change()
    except RateLimited as limited:
        wait = limited.facts["retry_after_s"]
        if wait > MAX_RATE_WAIT_S:
            raise
        await asyncio.sleep(wait)
        return await change()
