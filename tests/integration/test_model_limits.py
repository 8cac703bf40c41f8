"""Limits on models that replicas keep together: places in a rate, and money."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.errors import BudgetSpent
from agent.routing.config import Budgets, CallLimits
from agent.routing.failover import NotAdmitted
from backend.limits.gate import ProviderGate
from backend.limits.purse import Spender, Treasury, TurnPurse
from backend.records.database import Database
from backend.sessions.model_limits import ModelLimits

NOWHERE = "redis://127.0.0.1:9/0"


async def test_places_are_given_out_once_over_all_replicas(redis_url: str) -> None:
    """The burst at once, then one after the other; who would wait too long takes no place."""
    here, there = ModelLimits(redis_url, "t"), ModelLimits(redis_url, "t")
    waits = [await each.take("gpt", 2.0, 2, 5.0) for each in (here, there, here, there, here)]
    assert waits[:2] == [0.0, 0.0]
    for wait, due in zip(waits[2:], (0.5, 1.0, 1.5), strict=True):
        assert due - 0.3 < wait <= due
    refused = await there.take("gpt", 2.0, 2, 0.1)
    assert -2.0 <= refused < -1.0
    assert await here.take("gpt", 2.0, 2, 5.0) <= 2.0
    assert await here.take("other", 2.0, 2, 0.0) == 0.0
    assert await ModelLimits(redis_url, "u").take("gpt", 2.0, 2, 0.0) == 0.0


async def test_a_throttle_slows_all_replicas_down(redis_url: str) -> None:
    """Half the rate after one, and nothing before the time that the provider named."""
    here, there = ModelLimits(redis_url, "t"), ModelLimits(redis_url, "t")
    assert await here.take("gpt", 2.0, 1, 5.0) == 0.0
    await here.throttled("gpt", 0.0)
    assert await there.take("gpt", 2.0, 1, 5.0) <= 0.5
    assert 1.1 < await there.take("gpt", 2.0, 1, 5.0) <= 1.5
    await here.throttled("gpt", 30.0)
    assert await there.take("gpt", 2.0, 1, 5.0) < -25.0


async def test_a_gate_refuses_what_would_wait_too_long(redis_url: str) -> None:
    """And says for how long; with and without Redis alike."""
    for url in (redis_url, NOWHERE):
        gate = ProviderGate("gpt", CallLimits(per_second=0.05), ModelLimits(url, "t"))
        async with gate.passing(1.0):
            pass
        with pytest.raises(NotAdmitted) as caught:
            async with gate.passing(1.0):
                pass
        assert caught.value.retry_after_s == pytest.approx(20.0, abs=5.0)
        assert "very busy" in caught.value.user_hint


async def test_a_gate_without_limits_only_heeds_the_provider() -> None:
    """What it asked us to wait is waited for; nobody else is asked."""
    gate = ProviderGate("gpt", CallLimits(), ModelLimits(NOWHERE, "t"))
    async with gate.passing(1.0):
        pass
    gate.throttled(30.0)
    with pytest.raises(NotAdmitted):
        async with gate.passing(1.0):
            pass


async def test_so_many_at_once_and_no_more() -> None:
    """A place that is given back is taken; one that never comes is not waited for for ever."""
    gate = ProviderGate("gpt", CallLimits(concurrent=2), ModelLimits(NOWHERE, "t"))
    inside, most = 0, 0

    async def call() -> None:
        nonlocal inside, most
        async with gate.passing(5.0):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(call() for _ in range(10)))
    assert most == 2
    async with gate.passing(1.0), gate.passing(1.0):
        began = time.monotonic()
        with pytest.raises(NotAdmitted):
            async with gate.passing(0.05):
                pass
        assert time.monotonic() - began < 4.0


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """A database, until the block ends."""
    db = Database(url)
    await db.open()
    try:
        yield db
    finally:
        await db.close()


async def test_who_has_no_patience_leaves_the_last_place_to_others(redis_url: str) -> None:
    """A shadow; also the last call of a burst, with and without Redis."""
    gate = ProviderGate("gpt", CallLimits(concurrent=2), ModelLimits(NOWHERE, "t"))
    async with gate.passing(0.0):
        with pytest.raises(NotAdmitted):
            async with gate.passing(0.0):
                pass
        async with gate.passing(1.0):
            pass
    for url in (redis_url, NOWHERE):
        gate = ProviderGate("gpt", CallLimits(per_second=0.01, burst=2), ModelLimits(url, "t"))
        async with gate.passing(0.0):
            pass
        with pytest.raises(NotAdmitted):
            async with gate.passing(0.0):
                pass
        async with gate.passing(1.0):
            pass


def purse(treasury: Treasury, tenant: str, subject: str, **limits: float) -> TurnPurse:
    """The purse of one turn."""
    found = treasury.purse(Budgets(**limits), Spender(tenant, subject))
    assert found is not None
    return found


async def test_nobody_spends_what_another_has_set_aside(database_url: str, redis_url: str) -> None:
    """Twenty turns at once on two replicas, money for five; what is given back can be spent."""
    async with opened(database_url) as db:
        replicas = [Treasury(db, ModelLimits(redis_url, "t")) for _ in range(2)]
        purses = [purse(replicas[n % 2], "t", f"c{n}", tenant_day_usd=0.05) for n in range(20)]
        ended = await asyncio.gather(*(each.reserve(0.01) for each in purses), return_exceptions=True)
        assert sum(end is None for end in ended) == 5
        assert {str(end) for end in ended if end} == {"a budget of the day is spent: tenant_day_usd"}
        lucky = next(each for each, end in zip(purses, ended, strict=True) if end is None)
        await lucky.settle(0.01, 0.004)
        late = purse(replicas[0], "t", "late", tenant_day_usd=0.05)
        with pytest.raises(BudgetSpent):
            await late.reserve(0.007)
        await late.reserve(0.006)


async def test_each_budget_holds_by_itself(database_url: str, redis_url: str) -> None:
    """Of the turn, the person, the tenant and all; a refused reservation leaves no trace in the others."""
    async with opened(database_url) as db:
        treasury = Treasury(db, ModelLimits(redis_url, "t"))
        limits = {"turn_usd": 1.0, "user_day_usd": 2.0, "tenant_day_usd": 3.0, "day_usd": 4.0}
        one = purse(treasury, "a", "ann", **limits)
        await one.reserve(1.0)
        with pytest.raises(BudgetSpent, match="turn_usd"):
            await one.reserve(0.1)
        await one.settle(1.0, 0.9)
        await one.reserve(0.1)
        await one.settle(0.1, 0.1)
        await purse(treasury, "a", "ann", **limits).reserve(1.0)
        with pytest.raises(BudgetSpent, match="user_day_usd"):
            await purse(treasury, "a", "ann", **limits).reserve(0.1)
        await purse(treasury, "a", "bob", **limits).reserve(1.0)
        with pytest.raises(BudgetSpent, match="tenant_day_usd"):
            await purse(treasury, "a", "cleo", **limits).reserve(0.1)
        await purse(treasury, "b", "dan", **limits).reserve(1.0)
        with pytest.raises(BudgetSpent, match=r": day_usd"):
            await purse(treasury, "b", "eve", **limits).reserve(0.1)


async def test_without_redis_each_process_keeps_its_budget(database_url: str) -> None:
    """Rather too little known than no limit at all."""
    async with opened(database_url) as db:
        treasury = Treasury(db, ModelLimits(NOWHERE, "t"))
        await purse(treasury, "t", "ann", day_usd=0.01).reserve(0.01)
        with pytest.raises(BudgetSpent):
            await purse(treasury, "t", "bob", day_usd=0.01).reserve(0.001)


async def test_what_redis_lost_meanwhile_begins_anew_from_the_rows(database_url: str, redis_url: str) -> None:
    """A call in flight settles on nothing; it must not leave a sum that looks as if little had been spent."""
    shared = ModelLimits(redis_url, "t")
    async with opened(database_url) as db:
        treasury = Treasury(db, shared)
        one = purse(treasury, "t", "ann", day_usd=1.0)
        await one.reserve(0.5)
        key = next(each.key for each in one._sums)
        await shared._redis.delete(shared.sum_key(key))
        await one.settle(0.5, 0.01)
        assert await shared._redis.exists(shared.sum_key(key)) == 0
        with pytest.raises(BudgetSpent):
            await purse(treasury, "t", "bob", day_usd=1.0).reserve(1.5)


async def test_what_was_set_aside_alone_is_settled_alone(database_url: str, redis_url: str) -> None:
    """Redis came back in between: it hears what was spent, and is given back nothing that it never had."""
    shared = ModelLimits(redis_url, "t")
    async with opened(database_url) as db:
        await purse(Treasury(db, shared), "t", "ann", day_usd=1.0).reserve(0.3)
        treasury = Treasury(db, ModelLimits(NOWHERE, "t"))
        one = purse(treasury, "t", "ann", day_usd=1.0)
        await one.reserve(0.5)
        treasury._shared = shared
        await one.settle(0.5, 0.1)
        assert await shared._redis.get(shared.sum_key(one._sums[0].key)) == b"400000"
