"""A new index beside the live one, filled from the documents there are; it takes over when nothing is missing in it.

The live one answers and is written to all the while. Whatever interrupts this leaves it at that: the next run takes the
unfinished index up, if it is of the same model, chunking and store, and else begins anew.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from knowledge_base.documents import Chunk, Heading, Page, Parsed
from knowledge_base.embedding.base import EmbeddingModel, Vectors
from knowledge_base.errors import IndexMismatch, NotFound
from knowledge_base.lexical.tokens import TOKENS_VERSION
from knowledge_base.stores import documents as rows_of
from knowledge_base.stores import segments
from knowledge_base.stores.catalog import BaseRow
from knowledge_base.stores.connections import Connection, Pool, reading, writing
from knowledge_base.stores.indexes import add_index, drop_index, indexes_of
from knowledge_base.stores.numbering import take_numbers
from knowledge_base.stores.opening import StoreKind, check_ready, vectors_by
from knowledge_base.stores.segments import packed
from knowledge_base.stores.vectors import Index, VectorIndex

PAGE = 500
# Live documents whose version is not in the index $2.
MISSING = """
    FROM kb_documents d WHERE d.base = $1 AND d.state = 'live' AND NOT EXISTS (
        SELECT 1 FROM kb_parts p WHERE p.index = $2 AND p.document = d.number AND p.version = d.version)
"""


@dataclass(frozen=True, slots=True)
class ToIndex:
    """A document as it was parsed when it was loaded."""

    doc_id: str
    version: int
    parsed: Parsed


class Reindex:
    """The index that is being built."""

    def __init__(self, pool: Pool, base: BaseRow, index: Index, vectors_of: rows_of.VectorsOf) -> None:
        self._pool = pool
        self._base = base
        self._index = index
        self._vectors_of = vectors_of
        self._vectors = vectors_of(index)

    async def missing(self) -> AsyncIterator[str]:
        """Documents that are still to be put, in order of doc_id; streamed."""
        after: str | None = None
        sql = f"SELECT d.doc_id {MISSING} AND ($3::text IS NULL OR d.doc_id > $3) ORDER BY d.doc_id LIMIT $4"
        while True:
            async with reading(self._pool) as connection:
                rows = await connection.fetch(sql, self._base.number, self._index.number, after, PAGE)
            for row in rows:
                yield row["doc_id"]
            if len(rows) < PAGE:
                return
            after = rows[-1]["doc_id"]

    async def parsed(self, doc_id: str) -> ToIndex:
        """One of them; `NotFound` when it was deleted meanwhile."""
        sql = """
            SELECT d.doc_id, d.version, d.title, d.media_type, d.language, d.attributes, p.text, p.context,
                   p.headings, p.pages
            FROM kb_documents d JOIN kb_parsed p ON p.document = d.number
            WHERE d.base = $1 AND d.doc_id = $2 AND d.state = 'live'
        """
        async with reading(self._pool) as connection:
            row = await connection.fetchrow(sql, self._base.number, doc_id)
        if row is None:
            raise NotFound(f"there is no document {doc_id!r} in the knowledge base {self._base.name}")
        parsed = Parsed(
            text=row["text"],
            title=row["title"],
            media_type=row["media_type"],
            attributes=json.loads(row["attributes"])[str(self._base.number)],
            headings=[Heading(*each) for each in json.loads(row["headings"])],
            pages=[Page(*each) for each in json.loads(row["pages"])],
            language=row["language"],
            context=row["context"],
        )
        return ToIndex(row["doc_id"], row["version"], parsed)

    async def put(self, documents: Sequence[tuple[ToIndex, Sequence[Chunk], Vectors | None]]) -> None:
        """All of them in one transaction. One that has changed since it was read is passed over, and missing again."""
        texts = [rows_of.matched(each.parsed.title, chunk) for each, chunks, _ in documents for chunk in chunks]
        first = await take_numbers(self._pool, self._base, len(texts))
        pack = await asyncio.to_thread(packed, first, texts)
        async with writing(self._pool, self._base.number) as connection:
            await self._check(connection)
            rows = await connection.fetch(
                f"SELECT d.number, d.doc_id, d.version {MISSING} AND d.doc_id = ANY($3::text[])",
                self._base.number,
                self._index.number,
                [each.doc_id for each, _, _ in documents],
            )
            current = {(row["doc_id"], row["version"]): row["number"] for row in rows}
            written = [
                rows_of.Written(number, each.version, each.doc_id, each.parsed.title, chunks, vectors)
                for each, chunks, vectors in documents
                if (number := current.get((each.doc_id, each.version))) is not None
            ]
            if len(written) < len(documents):
                texts = [rows_of.matched(each.title, chunk) for each in written for chunk in each.chunks]
                pack = packed(first, texts)
            old = [each.number for each in written]
            await rows_of.take_out(connection, [(self._index, self._vectors)], old, purge=False)
            await rows_of.index_chunks(connection, self._index, self._vectors, written, first, pack, bulk=True)

    async def _check(self, connection: Connection) -> list[Index]:
        found = await indexes_of(connection, self._base.number)
        if not any(each.number == self._index.number and each.state == "building" for each in found):
            raise IndexMismatch(f"somebody else indexes knowledge base {self._base.name} anew, with other settings")
        return found

    async def finish(self) -> bool:
        """Complete it, let it answer, and drop the one that did. False: more is missing by now; put that first."""
        async with writing(self._pool, self._base.number) as connection:
            found = await self._check(connection)
            if await connection.fetchval(f"SELECT EXISTS (SELECT 1 {MISSING})", self._base.number, self._index.number):
                return False
            await segments.complete(connection, self._index.number)
            if self._vectors is not None:
                await self._vectors.complete(connection)
            old = [(each, self._vectors_of(each)) for each in found if each.number != self._index.number]
            for index, vectors in old:
                await drop_index(connection, index, vectors)
            await connection.execute("UPDATE kb_indexes SET state = 'live' WHERE number = $1", self._index.number)
        for _, vectors in [*old, (self._index, self._vectors)]:
            if vectors is not None:
                await vectors.committed(self._pool)
        return True


@asynccontextmanager
async def reindexing(
    pool: Pool,
    base: BaseRow,
    model: EmbeddingModel | None,
    chunking: dict[str, Any],
    kind: StoreKind = "pgvector",
    chroma_url: str | None = None,
) -> AsyncIterator[Reindex]:
    """Take up the unfinished index, or begin one. `StoreUnreachable` as `open_store`."""
    vectors_of = vectors_by(base, chroma_url)
    await check_ready(pool, model, kind)
    dropped: VectorIndex | None = None
    async with writing(pool, base.number) as connection:
        found = await indexes_of(connection, base.number)
        index = next((each for each in found if each.state == "building"), None)
        if index is not None and not _same(index, model, chunking, kind):
            dropped = vectors_of(index)
            await drop_index(connection, index, dropped)
            index = None
        if index is None:
            index = await add_index(connection, base.number, "building", kind, model, chunking)
            if (vectors := vectors_of(index)) is not None:
                await vectors.create(connection)
                await vectors.loading(connection, 0, 0)
    if dropped is not None:
        await dropped.committed(pool)
    yield Reindex(pool, base, index, vectors_of)


def _same(index: Index, model: EmbeddingModel | None, chunking: dict[str, Any], kind: StoreKind) -> bool:
    return (index.model, index.chunking, index.store, index.tokens_version) == (model, chunking, kind, TOKENS_VERSION)
