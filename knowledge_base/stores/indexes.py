"""Which indexes a base has: the live one, and beside it one that is being built."""

from __future__ import annotations

import json
from typing import Any, Literal

import asyncpg

from knowledge_base.embedding.base import EmbeddingModel
from knowledge_base.lexical.tokens import TOKENS_VERSION
from knowledge_base.stores.connections import UNHURRIED_S, Connection
from knowledge_base.stores.documents import forget_vectors_of
from knowledge_base.stores.vectors import Index, VectorIndex

COLUMNS = "number, base, state, store, model, dimension, chunking, tokens_version"
OWN_TABLES = ("kb_parts", "kb_chunks", "kb_segments", "kb_postings", "kb_packs", "kb_dead", "kb_vector_copies")


async def indexes_of(connection: Connection, base: int) -> list[Index]:
    """The live one first."""
    rows = await connection.fetch(f"SELECT {COLUMNS} FROM kb_indexes WHERE base = $1 ORDER BY state DESC", base)
    return [_index(row) for row in rows]


async def add_index(
    connection: Connection,
    base: int,
    state: Literal["live", "building"],
    store: str,
    model: EmbeddingModel | None,
    chunking: dict[str, Any],
) -> Index:
    """A new one, without its vectors."""
    row = await connection.fetchrow(
        f"""
        INSERT INTO kb_indexes (base, state, store, model, dimension, chunking, tokens_version)
        VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {COLUMNS}
        """,
        base,
        state,
        store,
        model.name if model else None,
        model.dimension if model else None,
        json.dumps(chunking),
        TOKENS_VERSION,
    )
    assert row is not None
    return _index(row)


async def drop_index(connection: Connection, index: Index, vectors: VectorIndex | None) -> None:
    """All that is in it, and what its texts were embedded to; documents stay, and what other indexes of theirs hold."""
    await forget_vectors_of(connection, index)
    if vectors is not None:
        await vectors.drop(connection)
    for table in OWN_TABLES:
        await connection.execute(f"DELETE FROM {table} WHERE index = $1", index.number, timeout=UNHURRIED_S)
    await connection.execute("DELETE FROM kb_indexes WHERE number = $1", index.number)


def _index(row: asyncpg.Record) -> Index:
    model = EmbeddingModel(row["model"], row["dimension"]) if row["model"] is not None else None
    return Index(
        number=row["number"],
        base=row["base"],
        store=row["store"],
        model=model,
        chunking=json.loads(row["chunking"]),
        tokens_version=row["tokens_version"],
        state=row["state"],
    )
