"""One call of one provider: what it brings as pieces, its failures as typed errors, its breaker around it."""

from __future__ import annotations

import traceback
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

from agent.errors import (
    ModelBusy,
    ModelError,
    ModelMisbehaved,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
    OutcropError,
)
from agent.providers.base import Chunk, Provider
from agent.routing.failover import NotAdmitted, NotAsked
from agent.routing.plan import Candidate, Refusal
from tools.breaker import Breaker, BreakerOpen


async def pieces(provider: Provider, payload: Any, deadline_s: float) -> AsyncGenerator[Chunk, None]:
    """What the wire brings, its failures as typed errors. A mistake in whoever reads the pieces is not among them."""
    stream = cast(AsyncGenerator[Chunk, None], provider.wire.stream(payload, deadline_s=deadline_s))
    try:
        async with aclosing(stream):
            async for chunk in stream:
                yield chunk
    except OutcropError:
        raise
    except provider.raises as error:
        raise provider.classify(error) from error
    except Exception as error:  # a wire stumbled over an answer that no server should give: another may do better
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = f"the answer has no form that can be read: {error!r} at {Path(place.filename).name}:{place.lineno}"
        raise ModelMisbehaved(said) from error


@asynccontextmanager
async def guarded(breaker: Breaker) -> AsyncIterator[None]:
    """Behind the provider's breaker: silence and faults count against it, a refusal is an answer."""
    try:
        answers = (ModelRejected, ModelBusy, ModelMisbehaved)
        async with breaker.guard((ModelUnavailable, ModelTimeout), answers=answers):
            yield
    except BreakerOpen as error:
        raise NotAsked(f"{breaker.name} failed repeatedly and is left alone for a while") from error


def refusal(error: ModelError, candidate: Candidate) -> Refusal:
    """Why the provider was not asked, if it was not."""
    match error:
        case NotAdmitted():
            return "limit"
        case NotAsked():
            return "circuit" if candidate.is_left_alone else "probe"
    return ""
