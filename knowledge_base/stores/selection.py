"""Which chunks fit a filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowledge_base.filters import Filter
from knowledge_base.stores.connections import Connection
from knowledge_base.stores.filter_sql import compiled

Numbers = NDArray[np.int64]


async def fitting(connection: Connection, base: int, index: int, where: Filter, most: int) -> Numbers | None:
    """Numbers of all live chunks that fit, rising; None when there are more than `most`, or about as many."""
    sql = "SELECT documents, chunks FROM kb_indexes WHERE number = $1"
    size = await connection.fetchrow(sql, index)
    if size is None:
        return np.empty(0, np.int64)
    # Twice as many documents as have so many chunks on average: there is no need to see all of a filter's.
    limit = max(200, 2 * most * size["documents"] // max(size["chunks"], 1))
    values: list[Any] = [base, index, limit]
    condition = compiled(where, base, values)
    rows = await connection.fetch(
        f"""
        SELECT coalesce(p.first, 0) AS first, coalesce(p.count, 0) AS count
        FROM (SELECT d.number FROM kb_documents d WHERE d.base = $1 AND d.state = 'live' AND {condition} LIMIT $3) d
        LEFT JOIN kb_parts p ON p.document = d.number AND p.index = $2
        """,
        *values,
    )
    counts = np.array([row["count"] for row in rows], np.int64)
    if counts.sum() > most or len(rows) == limit:
        return None
    firsts = np.array([row["first"] for row in rows], np.int64)
    starts = np.repeat(firsts - np.concatenate(([0], counts.cumsum()[:-1])), counts) if len(rows) else firsts
    return np.sort(starts + np.arange(counts.sum()))


async def those_that_fit(
    connection: Connection, base: int, index: int, where: Filter | None, chunks: Sequence[int]
) -> set[int]:
    """Of these chunks, those that are live and fit."""
    values: list[Any] = [index, list(chunks)]
    condition = compiled(where, base, values)
    rows = await connection.fetch(
        f"""
        SELECT c.number FROM kb_chunks c JOIN kb_documents d ON d.number = c.document
        WHERE c.index = $1 AND c.number = ANY($2::bigint[]) AND d.state = 'live' AND {condition}
        """,
        *values,
    )
    return {row["number"] for row in rows}
