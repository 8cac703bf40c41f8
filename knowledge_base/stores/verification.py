"""Each stage compared with the next."""

from __future__ import annotations

from knowledge_base.stores.base import Fault
from knowledge_base.stores.connections import UNHURRIED_S, Connection, Pool, writing
from knowledge_base.stores.vectors import Index, VectorIndex

# By kind: how many there are. $1 is the base, $2 the index.
CHECKS = {
    "document_without_raw": """
        SELECT count(*) FROM kb_documents d WHERE d.base = $1 AND d.state = 'live'
        AND NOT EXISTS (SELECT 1 FROM kb_raw r WHERE r.document = d.number)
    """,
    "raw_differs": r"""
        SELECT count(*) FROM kb_documents d JOIN kb_raw r ON r.document = d.number WHERE d.base = $1
        AND d.content_hash <>
            encode(sha256(r.content || coalesce('\x007369646563617200'::bytea || r.sidecar, '')), 'hex')
    """,
    "document_without_parsed": """
        SELECT count(*) FROM kb_documents d WHERE d.base = $1 AND d.state = 'live'
        AND NOT EXISTS (SELECT 1 FROM kb_parsed p WHERE p.document = d.number)
    """,
    "document_not_indexed": """
        SELECT count(*) FROM kb_documents d WHERE d.base = $1 AND d.state = 'live' AND NOT EXISTS (
            SELECT 1 FROM kb_parts p WHERE p.index = $2 AND p.document = d.number AND p.version = d.version)
    """,
}


async def verify(pool: Pool, base: int, index: Index, vectors: VectorIndex | None, *, repair: bool) -> list[Fault]:
    """What differs; with `repair`, what can be mended from the stage before is."""
    faults = []
    async with writing(pool, base) as connection:
        faults += await _counted(connection, base, index.number)
    if vectors is not None:
        faults += await vectors.verify(pool, repair=repair)
    return faults


async def _counted(connection: Connection, base: int, index: int) -> list[Fault]:
    found = {}
    for kind, sql in CHECKS.items():
        values = (base, index) if "$2" in sql else (base,)
        found[kind] = await connection.fetchval(sql, *values, timeout=UNHURRIED_S)
    return [Fault(kind, f"base {base}", count) for kind, count in found.items() if count]
