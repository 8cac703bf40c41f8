"""How the two executors of a group compare, from what turns noted; see `tools.executors.shares`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from backend.records.database import Database

_RUNS = """
SELECT a.body->>'tool' AS tool, a.body->>'executor' AS executor, count(*) AS calls,
       count(*) FILTER (WHERE a.body->>'status' = 'ok') AS ok,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY k.duration_ms) AS p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY k.duration_ms) AS p95_ms,
       array_agg(DISTINCT a.body->>'code') FILTER (WHERE a.body->>'status' <> 'ok') AS codes
FROM audit_events a
LEFT JOIN tool_calls k ON k.turn_id = a.turn_id AND k.call_id = a.body->>'call_id'
WHERE a.tenant = $1 AND a.type = 'executed_by' AND a.at > now() - make_interval(hours => $2)
GROUP BY 1, 2 ORDER BY 1, 2"""

_COMPARISONS = """
SELECT a.body->>'tool' AS tool, count(*) AS compared,
       count(*) FILTER (WHERE (a.body->>'same')::boolean) AS same,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY (a.body->>'other_ms')::float8 - (a.body->>'ms')::float8) AS slower_ms
FROM audit_events a
WHERE a.tenant = $1 AND a.type = 'parity' AND a.at > now() - make_interval(hours => $2)
GROUP BY 1 ORDER BY 1"""

_DIFFERENCES = """
SELECT a.body->>'tool' AS tool, d.path, count(*) AS times
FROM audit_events a, json_array_elements_text(a.body->'differs') AS d(path)
WHERE a.tenant = $1 AND a.type = 'parity' AND a.at > now() - make_interval(hours => $2)
GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 50"""


@dataclass(frozen=True, slots=True)
class Parity:
    """Rows of the report. `runs`: tool, executor, calls, ok, p50_ms, p95_ms, codes. `comparisons`: tool, compared,
    same, slower_ms (median of the other's time over the serving one's). `differences`: tool, path, times."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    differences: list[dict[str, Any]] = field(default_factory=list)


async def parity(db: Database, tenant: str, hours: int) -> Parity:
    """What was noted in the last `hours`."""
    return Parity(
        *[[dict(row) for row in await db.rows(sql, tenant, hours)] for sql in (_RUNS, _COMPARISONS, _DIFFERENCES)]
    )
