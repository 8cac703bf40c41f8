"""What follows when a model fails: another try, another model, the planner, or the error."""

from __future__ import annotations

import random
from dataclasses import dataclass

from agent.errors import ContextExceeded, HistoryRejected, ModelBusy, ModelError, ModelTimeout, ModelUnavailable
from agent.routing.plan import Candidate, Plan, error_class

LONGEST_PAUSE_S = 5.0  # a person is better told than kept waiting longer
PAUSE_S = (0.1, 0.5)


class NotAsked(ModelUnavailable):
    """Not sent: the circuit of this provider is open."""


class NotAdmitted(ModelBusy):
    """Not sent: as much is asked of this provider as it may be."""


class OutOfTime(ModelError):
    """The turn had too little time left for an answer. Says nothing of the provider, so nothing counts it."""

    code = ModelTimeout.code
    status = ModelTimeout.status
    retryable = True


@dataclass(slots=True)
class Tried:
    """What has been tried for one message. Each of the remedies is used once, so that every chain ends."""

    plain: bool = False  # with a history that any provider takes
    shorter: bool = False  # with half the conversation
    again: bool = False  # the same provider, after a pause
    instead_of: str = ""  # the provider that another one took over from


@dataclass(frozen=True, slots=True)
class Next:
    """The next try."""

    candidate: Candidate
    wait_s: float = 0.0


def following(plan: Plan, current: Candidate, error: ModelError, tried: Tried, remaining_s: float) -> Next | None:
    """Who is asked next after `current` failed with `error`; None when nobody is. Marks the remedy in `tried`."""
    if remaining_s <= 0 or current.arm == "degraded":
        return None
    if isinstance(error, HistoryRejected) and not tried.plain:
        tried.plain = True
        return Next(current)
    position = next(n for n, candidate in enumerate(plan.candidates) if candidate is current)
    other = plan.after(position, error_class(error))
    if other is not None:
        tried.plain = tried.shorter = False
        return _taking_over(plan.candidates[other], current, tried)
    if isinstance(error, ContextExceeded) and not tried.shorter:
        tried.shorter = True
        return Next(current)
    if plan.degraded is not None and plan.is_down:
        return _taking_over(plan.degraded, current, tried)
    may_pass = isinstance(error, ModelBusy | ModelUnavailable) and not isinstance(error, NotAsked | NotAdmitted)
    wait_s = _pause_s(error)
    if may_pass and not tried.again and wait_s <= min(LONGEST_PAUSE_S, remaining_s / 2):
        tried.again = True
        return Next(current, wait_s)
    return None


def _taking_over(candidate: Candidate, current: Candidate, tried: Tried) -> Next:
    tried.instead_of = current.provider.name
    return Next(candidate)


def _pause_s(error: ModelError) -> float:
    asked = error.retry_after_s if isinstance(error, ModelBusy) else None
    return asked or random.uniform(*PAUSE_S)
