"""Which models may answer a turn, in which order, and what they may cost: fixed when the turn begins."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from agent.errors import ContextExceeded, ModelBusy, ModelError, ModelMisbehaved, ModelRejected, ModelTimeout
from agent.providers.base import Provider, Tokens
from tools.breaker import Breaker

ErrorClass = Literal["throttle", "timeout", "unavailable", "context", "misbehaved", "rejected"]
Arm = Literal["primary", "canary", "fallback", "degraded"]
# A provider is not asked while its circuit is open, nor while another call probes it, nor above our own limits.
Refusal = Literal["", "circuit", "probe", "limit", "stopped"]

# After these another model may take over. A refusal of our request is not among them: it is our mistake, and has to
# be seen. Only a canary is saved from its own.
MASKABLE: frozenset[ErrorClass] = frozenset({"throttle", "timeout", "unavailable", "context", "misbehaved"})
ANY: frozenset[ErrorClass] = frozenset({*MASKABLE, "rejected"})


def error_class(error: ModelError) -> ErrorClass:
    """The class by which routes are configured."""
    match error:
        case ModelBusy():
            return "throttle"
        case ModelTimeout() | ModelError(code=ModelTimeout.code):
            return "timeout"
        case ContextExceeded():
            return "context"
        case ModelRejected():
            return "rejected"
        case ModelMisbehaved():
            return "misbehaved"
    return "unavailable"


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens. Cached tokens are part of the input and cost what they cost."""

    input_usd: float = 0.0
    output_usd: float = 0.0
    cache_read_usd: float | None = None  # None: as any input
    cache_write_usd: float | None = None

    def of(self, tokens: Tokens) -> float:
        """What a call cost, in US dollars; never less than nothing."""
        read, write = tokens.cache_read_tokens, tokens.cache_write_tokens
        plain = max(0, tokens.input_tokens - read - write)
        usd = (
            plain * self.input_usd
            + read * (self.input_usd if self.cache_read_usd is None else self.cache_read_usd)
            + write * (self.input_usd if self.cache_write_usd is None else self.cache_write_usd)
            + tokens.output_tokens * self.output_usd
        ) / 1e6
        return max(0.0, usd)


class Gate(Protocol):
    """Lets calls of one provider pass: so many at once, so many a second, over all that share it."""

    def passing(self, deadline_s: float) -> AbstractAsyncContextManager[None]:
        """Around one call. Waits at most `deadline_s` for its turn; `ModelBusy` says how long it would have taken."""
        ...

    def throttled(self, retry_after_s: float | None) -> None:
        """The provider said that this was too much: let less pass for a while."""
        ...


class Purse(Protocol):
    """What one turn may spend, out of what its person, its tenant and the day may."""

    async def reserve(self, usd: float) -> None:
        """Set this much aside before a call; `BudgetSpent` when it is not there."""
        ...

    async def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """The call is over: keep what it cost, give back the rest."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider in its place in the order."""

    provider: Provider
    arm: Arm = "primary"
    takes_over: frozenset[ErrorClass] = MASKABLE  # after which errors of those before it; says nothing of the first
    breaker: Breaker | None = None
    gate: Gate | None = None
    price: Price = Price()
    first_token_s: float | None = None  # how long it may be silent before its first useful piece

    @property
    def is_open(self) -> bool:
        """Whether its circuit would refuse a call now. One that is due for a probe would not."""
        return self.breaker is not None and self.breaker.refuses

    @property
    def is_left_alone(self) -> bool:
        """Whether it failed so lately that it is not even probed."""
        return self.breaker is not None and self.breaker.snapshot().retry_in_s > 0


@dataclass(frozen=True, slots=True)
class ModelCall:
    """How one call of a model went, for statistics. Times are seconds; `outcome` is `ok` or the class of its error."""

    route: str
    arm: Arm
    provider: str
    model: str
    outcome: Literal["ok"] | ErrorClass
    duration_s: float
    first_token_s: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    in_canary: bool = False  # its conversation is; then the call of another arm saves a message of the canary's
    instead_of: str = ""  # the provider that failed before with the same message
    refused: Refusal = ""  # why nothing was sent, or that somebody stopped it


def _unobserved(_: ModelCall) -> None:
    """Nobody counts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who answers a turn. `degraded` does when all candidates have been found not to answer at all."""

    candidates: tuple[Candidate, ...]
    route: str = "default"
    degraded: Candidate | None = None
    purse: Purse | None = None
    observe: Callable[[ModelCall], None] = _unobserved

    def after(self, current: int, error: ErrorClass) -> int | None:
        """Who takes over when this candidate failed so; candidates whose circuit is open are passed by."""
        for index in range(current + 1, len(self.candidates)):
            candidate = self.candidates[index]
            if error in candidate.takes_over and not candidate.is_open:
                return index
        return None

    def is_last(self, candidate: Candidate) -> bool:
        """Whether nobody would take over if it were silent for too long."""
        if candidate.arm == "degraded":
            return True
        position = next(n for n, each in enumerate(self.candidates) if each is candidate)
        return self.after(position, "timeout") is None

    @property
    def in_canary(self) -> bool:
        """Whether its conversation is in a canary's share."""
        return self.candidates[0].arm == "canary"

    @property
    def is_down(self) -> bool:
        """Whether every circuit is open: nobody is left to ask."""
        return all(candidate.is_open for candidate in self.candidates)


def only(provider: Provider) -> Plan:
    """Nobody but this provider."""
    return Plan((Candidate(provider),))
