"""A knowledge base for one evaluation, of a tenant of its own, which goes with all that was in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex

from knowledge_base.bases import KnowledgeBase, KnowledgeBases
from knowledge_base.stores.connections import reading
from knowledge_base.stores.opening import delete_base

PREFIX = "kb-eval-"
NAME = "evaluation"
# Runs that were killed leave their base; none takes this long.
LEFT_BEHIND = "SELECT tenant FROM kb_bases WHERE starts_with(tenant, $1) AND created_at < now() - interval '2 days'"


@asynccontextmanager
async def scratch_base(bases: KnowledgeBases) -> AsyncIterator[KnowledgeBase]:
    """An empty base; removed at the end however that comes, and with it what killed runs have left."""
    async with reading(bases.pool) as connection:
        left = await connection.fetch(LEFT_BEHIND, PREFIX)
    for row in left:
        await _remove(bases, row["tenant"])
    tenant = PREFIX + token_hex(8)
    try:
        yield await bases.open(tenant, NAME, create=True)
    finally:
        await _remove(bases, tenant)


async def _remove(bases: KnowledgeBases, tenant: str) -> None:
    await delete_base(bases.pool, tenant, NAME, bases.config.chroma_url)
    async with reading(bases.pool) as connection:
        await connection.execute("DELETE FROM kb_embeddings WHERE tenant = $1", tenant)
