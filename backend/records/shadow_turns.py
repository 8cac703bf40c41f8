"""How shadows of turns went: kept for `KEPT_DAYS`, and summed up for whoever decides about a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from agent.routing.comparison import Comparison
from backend.records.database import Database, to_json_text
from backend.records.ids import uuid7

KEPT_DAYS = 30
MOST_DIFFERENCES = 10  # of each shadow, in the report
EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class ShadowTurn:
    """One turn that was run again. `provider` and `model` are the shadow's."""

    tenant: str
    conversation_id: UUID
    turn_id: UUID
    route: str
    provider: str
    model: str
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """Rows of the report, by route, provider and model.

    `shadows`: turns, calls_same, args_same (of calls of the same tool), outcome_same, facts_same (shares, 0 to 1),
    failed (turns), similarity, similarity_p5 (of texts), and of `real` and `shadow` each model_ms p50 and p95, first_ms
    p50 and cost_usd in all (`real_p50_ms`, ...). `differences`: difference, turns, examples (turn ids, newest first).
    """

    shadows: list[dict[str, Any]] = field(default_factory=list)
    differences: list[dict[str, Any]] = field(default_factory=list)


_ADD = """
INSERT INTO shadow_turns (id, tenant, conversation_id, turn_id, route, provider, model, cost_usd, comparison)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"""
_FORGET = "DELETE FROM shadow_turns WHERE created_at < now() - make_interval(days => $1)"
_ASKED_FOR = """
tenant = $1 AND created_at > now() - make_interval(hours => $2) AND ($3::text IS NULL OR route = $3)"""
_SHADOWS = f"""
SELECT route, provider, model, count(*) AS turns,
       avg((c->>'same_calls')::boolean::int)::float8 AS calls_same,
       (sum((c->>'paired_same')::int)::float8 / nullif(sum((c->>'paired')::int), 0)) AS args_same,
       avg((c->>'same_outcome')::boolean::int)::float8 AS outcome_same,
       avg((c->>'same_facts')::boolean::int)::float8 AS facts_same,
       count(*) FILTER (WHERE c->'shadow'->>'outcome' LIKE 'failed%') AS failed,
       avg((c->>'similarity')::float8) AS similarity,
       percentile_cont(0.05) WITHIN GROUP (ORDER BY (c->>'similarity')::float8) AS similarity_p5,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY (c->'real'->>'model_ms')::float8) AS real_p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY (c->'real'->>'model_ms')::float8) AS real_p95_ms,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY (c->'real'->>'first_ms')::float8) AS real_first_ms,
       sum((c->'real'->>'cost_usd')::float8) AS real_usd,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY (c->'shadow'->>'model_ms')::float8) AS shadow_p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY (c->'shadow'->>'model_ms')::float8) AS shadow_p95_ms,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY (c->'shadow'->>'first_ms')::float8) AS shadow_first_ms,
       sum((c->'shadow'->>'cost_usd')::float8) AS shadow_usd
FROM (SELECT route, provider, model, comparison AS c FROM shadow_turns WHERE {_ASKED_FOR}) AS found
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""  # noqa: S608 (a constant of this module, likewise below)
_DIFFERENCES = f"""
SELECT route, provider, model, difference, turns, examples FROM (
    SELECT route, provider, model, difference, count(*) AS turns,
           (array_agg(turn_id::text ORDER BY created_at DESC))[1:$4] AS examples,
           row_number() OVER (PARTITION BY route, provider, model ORDER BY count(*) DESC, difference) AS place
    FROM shadow_turns, json_array_elements_text(comparison->'differences') AS d(difference)
    WHERE {_ASKED_FOR}
    GROUP BY 1, 2, 3, 4) AS ranked
WHERE place <= $5 ORDER BY route, provider, model, place"""  # noqa: S608


async def add(db: Database, shadow: ShadowTurn) -> None:
    """Write one down."""
    comparison = shadow.comparison
    await db.row(
        _ADD,
        uuid7(),
        shadow.tenant,
        shadow.conversation_id,
        shadow.turn_id,
        shadow.route,
        shadow.provider,
        shadow.model,
        comparison.shadow.cost_usd,
        to_json_text(asdict(comparison)),
    )


async def forget(db: Database) -> None:
    """Remove those that are too old."""
    await db.row(_FORGET, KEPT_DAYS)


async def report(db: Database, tenant: str, hours: int, route: str | None = None) -> ShadowReport:
    """What the shadows of the last `hours` came to, on one route or on all."""
    shadows = await db.rows(_SHADOWS, tenant, hours, route)
    differences = await db.rows(_DIFFERENCES, tenant, hours, route, EXAMPLES, MOST_DIFFERENCES)
    return ShadowReport([dict(row) for row in shadows], [dict(row) for row in differences])
