"""Numbers of chunks: of a base, whatever the index, and never given twice."""

from __future__ import annotations

from knowledge_base.errors import InvalidRequest, NotFound
from knowledge_base.stores.catalog import BaseRow
from knowledge_base.stores.connections import Pool, reading

MAX_CHUNK = 2**32 - 1  # four bytes where words are kept


async def take_numbers(pool: Pool, base: BaseRow, count: int) -> int:
    """The first of so many in a row.

    They are taken in a transaction of their own: a store of vectors that was told of them before the writer's
    transaction failed never sees them again with another meaning.
    """
    sql = "UPDATE kb_bases SET next_chunk = next_chunk + $2 WHERE number = $1 RETURNING next_chunk - $2"
    async with reading(pool) as connection:
        first: int | None = await connection.fetchval(sql, base.number, count)
    if first is None:
        raise NotFound(f"knowledge base {base.name} is gone")
    if first + count > MAX_CHUNK:
        raise InvalidRequest("documents", "this base has used up its chunk numbers; load into a new one")
    return first
