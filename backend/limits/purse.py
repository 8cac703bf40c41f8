"""What may be spent on models: set aside before a call, settled after it. By turn, person, tenant and day (UTC)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from redis.exceptions import RedisError

from agent.errors import BudgetSpent
from agent.routing.config import Budgets
from backend.records import spending
from backend.records.database import Database
from backend.sessions.model_limits import ModelLimits, Sum

log = structlog.get_logger(__name__)

MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Spender:
    """Who spends."""

    tenant: str
    subject: str


class Treasury:
    """The sums of all. One that Redis does not know, or has lost, begins with what the records hold.

    What a process that died had set aside stays set aside for that day. Without Redis each process counts what it has
    spent itself since then.
    """

    def __init__(self, db: Database, shared: ModelLimits) -> None:
        self._db = db
        self._shared = shared
        self._alone: dict[str, int] = {}

    def purse(self, budgets: Budgets, spender: Spender) -> TurnPurse | None:
        """For one turn; None when nothing is limited."""
        if not any(budgets.model_dump().values()):
            return None
        return TurnPurse(self, budgets, spender)

    async def reserve(self, micro_usd: int, sums: list[Sum], spender: Spender, day: str) -> tuple[Sum | None, bool]:
        """Add to all sums, or to none; the one that is full, and whether Redis knows of it."""
        try:
            for _ in range(len(sums) + 1):
                found = await self._shared.reserve(micro_usd, sums)
                if found >= 0:
                    return (sums[found - 1] if found else None), True
                unknown = sums[-found - 1].key
                known_usd = await spending.since(self._db, day, *_scope(unknown, spender))
                await self._shared.begin(unknown, round(known_usd * MICRO))
        except (RedisError, OSError) as error:
            log.warning("budgets_kept_alone", error=repr(error))
        return self._reserve_alone(micro_usd, sums, day), False

    def _reserve_alone(self, micro_usd: int, sums: list[Sum], day: str) -> Sum | None:
        self._alone = {key: sum_ for key, sum_ in self._alone.items() if key.startswith(day)}
        for each in sums:
            if self._alone.get(each.key, 0) + micro_usd > each.limit:
                return each
        for each in sums:
            self._alone[each.key] = self._alone.get(each.key, 0) + micro_usd
        return None

    async def settle(self, reserved: int, spent: int, sums: list[Sum], *, known: bool) -> None:
        """Keep what was spent of what was set aside. `known`: Redis has been told of what was set aside."""
        if not known:
            for each in sums:
                self._alone[each.key] = max(0, self._alone.get(each.key, 0) + spent - reserved)
        difference = spent - reserved if known else spent
        if not difference or not sums:
            return
        try:
            await self._shared.correct(difference, [each.key for each in sums])
        except (RedisError, OSError) as error:
            log.warning("spending_not_settled", error=repr(error))


class TurnPurse:
    """An `agent.routing.plan.Purse`."""

    def __init__(self, treasury: Treasury, budgets: Budgets, spender: Spender) -> None:
        self._treasury = treasury
        self._spender = spender
        self._left = _micro(budgets.turn_usd)
        self._known = True
        self._day = datetime.now(UTC).date().isoformat()
        by_key = {
            f"{self._day}:user:{spender.tenant}:{spender.subject}": _micro(budgets.user_day_usd),
            f"{self._day}:tenant:{spender.tenant}": _micro(budgets.tenant_day_usd),
            f"{self._day}:all": _micro(budgets.day_usd),
        }
        self._sums = [Sum(key, limit) for key, limit in by_key.items() if limit is not None]

    async def reserve(self, usd: float) -> None:
        """`BudgetSpent` names the budget that is spent, not how large it is."""
        micro_usd = round(usd * MICRO)
        if self._left is not None and micro_usd > self._left:
            raise BudgetSpent("the budget of one turn (turn_usd) is spent")
        if self._sums:
            full, self._known = await self._treasury.reserve(micro_usd, self._sums, self._spender, self._day)
            if full is not None:
                raise BudgetSpent(f"a budget of the day is spent: {_named(full.key)}")
        if self._left is not None:
            self._left -= micro_usd

    async def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """Keep what the call cost."""
        reserved, spent = round(reserved_usd * MICRO), round(spent_usd * MICRO)
        if self._left is not None:
            self._left -= spent - reserved
        await self._treasury.settle(reserved, spent, self._sums, known=self._known)


def _micro(usd: float | None) -> int | None:
    return None if usd is None else round(usd * MICRO)


def _named(key: str) -> str:
    kind = key.split(":")[1]
    return {"user": "user_day_usd", "tenant": "tenant_day_usd", "all": "day_usd"}[kind]


def _scope(key: str, spender: Spender) -> tuple[str | None, str | None]:
    """Whose turns make up a sum: (tenant, owner), None for all."""
    kind = key.split(":")[1]
    return (None if kind == "all" else spender.tenant, spender.subject if kind == "user" else None)
