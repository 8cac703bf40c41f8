"""What turns have cost, out of their rows."""

from __future__ import annotations

from datetime import UTC, datetime

from backend.records.database import Database


async def since(db: Database, day: str, tenant: str | None, owner: str | None) -> float:
    """US dollars that ended turns and their shadows have cost on this day (UTC, YYYY-MM-DD).

    Of one tenant or all, one owner or all. Turns that began the day before count for that one.
    """
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
    found = await db.row(
        """SELECT coalesce(sum(t.cost_usd), 0) AS usd
            FROM (SELECT conversation_id, created_at, cost_usd FROM turns
                  UNION ALL SELECT conversation_id, created_at, cost_usd FROM shadow_turns) t
            JOIN conversations c ON c.id = t.conversation_id
            WHERE t.created_at >= $1 AND ($2::text IS NULL OR c.tenant = $2) AND ($3::text IS NULL OR c.owner = $3)""",
        begin,
        tenant,
        owner,
    )
    return float(found["usd"]) if found else 0.0
