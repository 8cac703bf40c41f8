"""How the models of a route do: sums of calls over a sliding window, and when a canary has left its budget."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.routing.config import RollbackBudget
from agent.routing.plan import ModelCall

# Upper bounds in seconds, each a fifth above the last: a percentile read off them is at most that much too high.
BOUNDS_S: tuple[float, ...] = tuple(0.01 * 1.2**n for n in range(58))


@dataclass(slots=True)
class Totals:
    """Sums over some calls. `slots[n]` counts the good ones that took at most `BOUNDS_S[n]`, the last all longer."""

    calls: int = 0
    errors: int = 0
    cost_usd: float = 0.0
    slots: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))

    def add(self, call: ModelCall) -> None:
        """Count one call."""
        self.calls += 1
        self.cost_usd += call.cost_usd
        if call.outcome == "ok":
            self.slots[bisect.bisect_left(BOUNDS_S, call.duration_s)] += 1
        else:
            self.errors += 1

    def merge(self, other: Totals) -> None:
        """Count what others counted."""
        self.calls += other.calls
        self.errors += other.errors
        self.cost_usd += other.cost_usd
        self.slots = [a + b for a, b in zip(self.slots, other.slots, strict=True)]

    @property
    def error_rate(self) -> float:
        """Errors of all calls; 0 without any."""
        return self.errors / self.calls if self.calls else 0.0

    @property
    def cost_per_call_usd(self) -> float:
        """Mean of all calls; 0 without any."""
        return self.cost_usd / self.calls if self.calls else 0.0

    def quantile_s(self, share: float) -> float:
        """The time within which this share of the good calls was over; 0 without any."""
        good = sum(self.slots)
        need, seen = share * good, 0
        for n, count in enumerate(self.slots):
            seen += count
            if count and seen >= need:
                return BOUNDS_S[min(n, len(BOUNDS_S) - 1)]
        return 0.0


def total(parts: Iterable[Totals]) -> Totals:
    """All of them together."""
    whole = Totals()
    for part in parts:
        whole.merge(part)
    return whole


@dataclass(frozen=True, slots=True)
class Breach:
    """Which budget a canary has left: what was measured, and what it may be."""

    budget: str  # errors, p95 or cost
    measured: float
    allowed: float
    samples: int

    def __str__(self) -> str:
        unit = {"errors": "error rate", "p95": "seconds at p95", "cost": "US dollars a call"}[self.budget]
        return f"{unit}: {self.measured:.4g}, allowed {self.allowed:.4g}, over {self.samples} calls"


def breach(canary: Totals, primary: Totals, budget: RollbackBudget) -> Breach | None:
    """The budget that the canary has left; None while it keeps them, or while too little is known.

    The error rate is judged by itself, the others against the primary in the same window.
    """
    if canary.calls < budget.samples:
        return None
    if canary.error_rate > budget.errors:
        return Breach("errors", canary.error_rate, budget.errors, canary.calls)
    if primary.calls < budget.samples:
        return None
    if budget.p95 is not None and primary.quantile_s(0.95) > 0:
        allowed_s = budget.p95 * primary.quantile_s(0.95)
        if canary.quantile_s(0.95) > allowed_s:
            return Breach("p95", canary.quantile_s(0.95), allowed_s, canary.calls)
    if budget.cost is not None and primary.cost_per_call_usd > 0:
        allowed_usd = budget.cost * primary.cost_per_call_usd
        if canary.cost_per_call_usd > allowed_usd:
            return Breach("cost", canary.cost_per_call_usd, allowed_usd, canary.calls)
    return None
