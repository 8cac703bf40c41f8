"""What was decided about routes, and by whom: append-only. The latest decision of a canary is the one that holds.

A decision is taken only on top of the one it was based on: of several replicas, or of a replica and an operator, one
gets its way, and the others look again.
"""

# ruff: noqa: S608 (what is put into statements is constants of this module)
from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import orjson

from agent.routing.router import Override
from agent.transcript import JsonObject
from backend.records.database import Database, to_json_text
from backend.records.ids import uuid7

Action = Literal["rolled_back", "promoted", "reset", "configuration"]
BUDGET = "budget"
SERVICE = "service"
CONFIGURATION = ("", "")  # in place of route and canary


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision. `by` is `budget`, `service` (a configuration it loaded), or an operator's account name.

    `number` counts the decisions of its (route, canary) from 1; `age_s` is since it was taken, as of the reading.
    """

    route: str
    canary: str
    action: Action
    by: str
    reason: str = ""
    facts: JsonObject = field(default_factory=dict)
    number: int = 0
    at: datetime | None = None
    age_s: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """Route and canary."""
        return self.route, self.canary

    @property
    def kind(self) -> Literal["budget", "service", "operator"]:
        """What kind of decider it was."""
        if self.by == BUDGET:
            return "budget"
        return "service" if self.by == SERVICE else "operator"

    @property
    def override(self) -> Override | None:
        """What it means to a router."""
        return self.action if self.action in ("rolled_back", "promoted") else None


_RECORD = """
INSERT INTO route_decisions (id, tenant, route, canary, number, action, decided_by, reason, facts)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (tenant, route, canary, number) DO NOTHING RETURNING id"""
_COLUMNS = """
route, canary, number, action, decided_by, reason, facts, created_at,
extract(epoch FROM clock_timestamp() - created_at)::float8 AS age_s"""
_LATEST = f"""
SELECT DISTINCT ON (route, canary) {_COLUMNS} FROM route_decisions
WHERE tenant = $1 ORDER BY route, canary, number DESC"""
_SINCE = f"""
SELECT {_COLUMNS} FROM route_decisions
WHERE tenant = $1 AND created_at > now() - make_interval(secs => $2) ORDER BY created_at DESC, id DESC LIMIT $3"""


async def record(db: Database, tenant: str, decision: Decision, *, after: int) -> bool:
    """Take a decision on top of number `after` (0: the first); False, with nothing written, when there is a later."""
    row = await db.row(
        _RECORD,
        uuid7(),
        tenant,
        decision.route,
        decision.canary,
        after + 1,
        decision.action,
        decision.by,
        decision.reason,
        to_json_text(decision.facts),
    )
    return row is not None


async def latest(db: Database, tenant: str) -> dict[tuple[str, str], Decision]:
    """The decision that holds, by route and canary; that of the configuration is under `CONFIGURATION`."""
    return {found.key: found for found in map(_decision, await db.rows(_LATEST, tenant))}


async def since(db: Database, tenant: str, seconds: float, limit: int) -> list[Decision]:
    """Decisions of the last so many seconds, newest first."""
    return [_decision(row) for row in await db.rows(_SINCE, tenant, seconds, limit)]


def _decision(row: Any) -> Decision:
    return Decision(
        route=row["route"],
        canary=row["canary"],
        action=row["action"],
        by=row["decided_by"],
        reason=row["reason"],
        facts=orjson.loads(row["facts"]),
        number=row["number"],
        at=row["created_at"],
        age_s=row["age_s"],
    )
