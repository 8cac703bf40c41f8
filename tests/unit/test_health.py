"""Sums of calls, percentiles read off them, and when a canary has left its budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.routing.config import RollbackBudget
from agent.routing.health import BOUNDS_S, Breach, Totals, breach, total
from agent.routing.plan import ModelCall

BUDGET = RollbackBudget(errors=0.05, p95=2.0, cost=3.0, samples=20)
SECONDS = st.lists(st.floats(0.001, 300), min_size=1, max_size=200)


def call(duration_s: float = 1.0, *, ok: bool = True, cost_usd: float = 0.0) -> ModelCall:
    return ModelCall("default", "primary", "p", "m", "ok" if ok else "timeout", duration_s, cost_usd=cost_usd)


def of(calls: list[ModelCall]) -> Totals:
    totals = Totals()
    for each in calls:
        totals.add(each)
    return totals


def calls(good: int, bad: int = 0, duration_s: float = 1.0, cost_usd: float = 0.0) -> Totals:
    return of([call(duration_s, ok=n < good, cost_usd=cost_usd) for n in range(good + bad)])


@given(SECONDS, st.sampled_from([0.5, 0.95, 1.0]))
def test_a_percentile_is_at_most_a_fifth_too_high(seconds: list[float], share: float) -> None:
    """Within the bounds: never below the true one, and not above the next bound."""
    found = of([call(each) for each in seconds]).quantile_s(share)
    need = share * len(seconds)
    true = next(each for n, each in enumerate(sorted(seconds), 1) if n >= need)
    assert found >= min(true, BOUNDS_S[-1])
    assert found <= max(true * 1.2, BOUNDS_S[0]) * (1 + 1e-9)


@given(st.lists(st.tuples(st.floats(0.001, 300), st.booleans()), max_size=60), st.integers(0, 60))
def test_parts_make_the_whole(made: list[tuple[float, bool]], cut: int) -> None:
    """Whoever counted which calls, the sums are the same."""
    every = [call(seconds, ok=ok) for seconds, ok in made]
    assert total([of(every[:cut]), of(every[cut:])]) == of(every)


def test_errors_say_nothing_of_time() -> None:
    """A provider that fails fast is not a fast one."""
    totals = of([*(call(2.0) for _ in range(10)), *(call(0.01, ok=False) for _ in range(90))])
    assert totals.quantile_s(0.5) == pytest.approx(2.0, rel=0.2)
    assert totals.error_rate == 0.9
    assert (Totals().quantile_s(0.95), Totals().error_rate, Totals().cost_per_call_usd) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("canary", "primary", "budget"),
    [
        (calls(19, 1), calls(100), None),  # exactly the budget is within it
        (calls(18, 2), calls(100), "errors"),
        (calls(0, 19), calls(100), None),  # too few to say anything
        (calls(18, 2), calls(0), "errors"),  # errors need nobody to be compared with
        (calls(18, 2), calls(0, 100), "errors"),  # nor do they get better because the primary fails as well
        (calls(100, duration_s=1.5), calls(100), None),
        (calls(100, duration_s=3.0), calls(100), "p95"),
        (calls(100, duration_s=3.0), calls(19), None),
        (calls(100, duration_s=3.0), calls(0, 100), None),  # no good call to compare with
        (calls(100, cost_usd=0.0029), calls(100, cost_usd=0.001), None),
        (calls(100, cost_usd=0.0031), calls(100, cost_usd=0.001), "cost"),
        (calls(100, cost_usd=1.0), calls(100), None),  # nothing is known of the primary's price
    ],
)
def test_a_canary_leaves_a_budget_or_keeps_it(canary: Totals, primary: Totals, budget: str | None) -> None:
    """Errors by themselves, time and cost against the primary, all with enough calls on both sides."""
    left = breach(canary, primary, BUDGET)
    assert (left.budget if left else None) == budget


def test_budgets_that_are_off_are_not_judged() -> None:
    """`p95` and `cost` may be left out."""
    slow_and_dear = calls(100, duration_s=9.0, cost_usd=1.0)
    budget = RollbackBudget(p95=None, cost=None, samples=20)
    assert breach(slow_and_dear, calls(100, cost_usd=0.001), budget) is None


def test_a_breach_says_what_was_measured() -> None:
    """In words that stand in the record of the decision."""
    assert str(breach(calls(15, 5), calls(50), BUDGET)) == "error rate: 0.25, allowed 0.05, over 20 calls"
    assert "seconds at p95" in str(Breach("p95", 3.2, 2.4, 50))
