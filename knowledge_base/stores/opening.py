"""Bases and their stores: found, made, opened and deleted. What others import of this package."""

from __future__ import annotations

from typing import Any, Literal

from knowledge_base.embedding.base import EmbeddingModel
from knowledge_base.errors import IndexMismatch
from knowledge_base.stores.base import Store
from knowledge_base.stores.catalog import BaseRow, create_base, find_base, list_bases
from knowledge_base.stores.chroma import ChromaVectors
from knowledge_base.stores.connections import Connection, Pool, reading, writing
from knowledge_base.stores.documents import VectorsOf
from knowledge_base.stores.indexes import add_index, drop_index, indexes_of
from knowledge_base.stores.pgvector import PgVectors, check_extension
from knowledge_base.stores.store import KnowledgeStore
from knowledge_base.stores.vectors import Index, VectorIndex

StoreKind = Literal["pgvector", "chroma"]

__all__ = ["BaseRow", "StoreKind", "create_base", "delete_base", "find_base", "list_bases", "open_store"]


async def open_store(
    pool: Pool,
    base: BaseRow,
    model: EmbeddingModel | None,
    chunking: dict[str, Any],
    kind: StoreKind = "pgvector",
    chroma_url: str | None = None,
) -> Store:
    """The store of this base, with its index, which is made if there is none.

    `IndexMismatch` when that was made with another model, dimension or kind of store, unless it is empty: then it is
    made anew. Other chunking is no mismatch. `StoreUnreachable` when PostgreSQL or Chroma is, or lacks something.
    """
    vectors_of = vectors_by(base, chroma_url)
    async with reading(pool) as connection:
        index = await _live(connection, base)
    if index is None or not _fits(index, model, kind):
        index = await _made(pool, base, model, chunking, kind, vectors_of)
    return KnowledgeStore(pool, base, index, vectors_of(index), vectors_of)


def vectors_by(base: BaseRow, chroma_url: str | None) -> VectorsOf:
    """What keeps the vectors of an index of this base."""

    def vectors_of(index: Index) -> VectorIndex | None:
        if index.model is None:
            return None
        if index.store == "pgvector":
            return PgVectors(index)
        return ChromaVectors(index, base.id, chroma_url)

    return vectors_of


async def check_ready(pool: Pool, model: EmbeddingModel | None, kind: StoreKind) -> None:
    """`StoreUnreachable`, with the fix, where an index of this kind cannot be made."""
    if model is not None and kind == "pgvector":
        await check_extension(pool)


async def delete_base(pool: Pool, tenant: str, name_or_id: str, chroma_url: str | None = None) -> bool:
    """The base goes with all that was ever in it; whether there was one."""
    base = await find_base(pool, tenant, name_or_id)
    if base is None:
        return False
    vectors_of = vectors_by(base, chroma_url)
    async with writing(pool, base.number) as connection:
        indexes = [(index, vectors_of(index)) for index in await indexes_of(connection, base.number)]
        for index, vectors in indexes:
            await drop_index(connection, index, vectors)
        await connection.execute("DELETE FROM kb_bases WHERE number = $1", base.number)
    for _, vectors in indexes:
        if vectors is not None:
            await vectors.committed(pool)
    return True


async def _live(connection: Connection, base: BaseRow) -> Index | None:
    found = await indexes_of(connection, base.number)
    return next((each for each in found if each.state == "live"), None)


def _fits(index: Index, model: EmbeddingModel | None, kind: str) -> bool:
    return index.model == model and (model is None or index.store == kind)


async def _made(
    pool: Pool,
    base: BaseRow,
    model: EmbeddingModel | None,
    chunking: dict[str, Any],
    kind: StoreKind,
    vectors_of: VectorsOf,
) -> Index:
    await check_ready(pool, model, kind)
    async with writing(pool, base.number) as connection:
        index = await _live(connection, base)
        if index is not None and not _fits(index, model, kind):
            if await connection.fetchval("SELECT chunks FROM kb_indexes WHERE number = $1", index.number):
                raise _mismatch(base, index, model, kind)
            await drop_index(connection, index, vectors_of(index))
            index = None
        if index is None:
            index = await add_index(connection, base.number, "live", kind, model, chunking)
            vectors = vectors_of(index)
            if vectors is not None:
                await vectors.create(connection)
    return index


def _mismatch(base: BaseRow, index: Index, model: EmbeddingModel | None, kind: str) -> IndexMismatch:
    return IndexMismatch(
        f"the index of knowledge base {base.name} was made with {_named(index.model)} in {index.store}, and the "
        f"settings say {_named(model)} in {kind}: run `outcrop kb sync --reindex`, or set KB_EMBEDDING, "
        "KB_EMBEDDING_MODEL and KB_STORE back"
    )


def _named(model: EmbeddingModel | None) -> str:
    return f"{model.name} of dimension {model.dimension}" if model else "no embedding model"
