"""One knowledge base: documents, chunks and words in PostgreSQL, vectors wherever its index says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import asyncpg
import numpy as np
from numpy.typing import NDArray

from knowledge_base.errors import IndexMismatch, InvalidRequest, NotFound, Refused
from knowledge_base.filters import Filter
from knowledge_base.lexical.tokens import TOKENS_VERSION
from knowledge_base.stores import documents as rows_of
from knowledge_base.stores import segments
from knowledge_base.stores.base import Document, DocumentState, Fault, Hits, Known, Ready, Stored, Summary
from knowledge_base.stores.catalog import BaseRow
from knowledge_base.stores.connections import UNHURRIED_S, Connection, Pool, reading, snapshot, writing
from knowledge_base.stores.filter_sql import compiled
from knowledge_base.stores.indexes import indexes_of
from knowledge_base.stores.numbering import take_numbers
from knowledge_base.stores.scoring import Match, Scored
from knowledge_base.stores.segments import Pack, packed
from knowledge_base.stores.selection import fitting, those_that_fit
from knowledge_base.stores.storable import storable
from knowledge_base.stores.vectors import EXACT, Index, VectorIndex
from knowledge_base.stores.verification import verify
from knowledge_base.stores.words import match

T = TypeVar("T")
PAGE = 1000
STORED = """
    c.number, c.key, d.doc_id, d.version, d.uri, d.title, c.section, c.page, c.start, c."end", c.text, d.attributes,
    c.parent_start, c.parent_end, d.source
"""
DOCUMENT = """
    d.doc_id, d.source, d.uri, d.title, d.media_type, d.version, d.state, d.attributes, d.size, d.characters,
    coalesce(p.count, 0) AS chunks, d.content_hash, d.loaded_at, d.deleted_at
"""


class Replaced(IndexMismatch):
    """Another index has taken over since the store was opened."""


@dataclass(slots=True)
class Bulk:
    """What came since a bulk load began."""

    chunks_before: int
    added: int = 0


@dataclass(frozen=True, slots=True)
class Changed:
    """Of documents that are put: those to be written, numbers of what they replace, and those that may have moved."""

    documents: list[Ready]
    old: list[int]
    moved: list[tuple[asyncpg.Record, Ready]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is matched of new chunks, and their words; the first has the number `first`."""

    first: int
    texts: list[str]
    pack: Pack


class KnowledgeStore:
    """See `Store`. All statements carry the number of this base or of its index."""

    def __init__(
        self, pool: Pool, base: BaseRow, index: Index, vectors: VectorIndex | None, vectors_of: rows_of.VectorsOf
    ):
        self._pool = pool
        self._base = base
        self._index = index
        self._vectors = vectors
        self._vectors_of = vectors_of
        self._bulk: Bulk | None = None

    async def put(self, documents: Sequence[Ready]) -> None:
        """See `Store`."""
        marks = {storable(each.doc_id): rows_of.fingerprint(each) for each in documents}
        while True:
            self._check(documents)
            try:
                if await self._put(documents, marks):
                    return  # else somebody else put one of them at the same time
            except Replaced:
                await self._go_on()

    async def _put(self, documents: Sequence[Ready], marks: dict[str, str]) -> bool:
        """False, and nothing has happened, when what changed was not the same before and under the lock."""
        async with reading(self._pool) as connection:
            changed = await self._changed(connection, documents, marks)
        prepared = await self._prepared(changed.documents)
        async with writing(self._pool, self._base.number) as connection:
            indexes = await self._indexes(connection)
            now = await self._changed(connection, documents, marks)
            if [each.doc_id for each in now.documents] != [each.doc_id for each in changed.documents]:
                return False
            for row, ready in now.moved:
                await self._readdress(connection, row, ready)
            if now.documents:
                await self._replace(connection, indexes, now, marks, prepared)
        await self._committed(indexes)
        return True

    async def _prepared(self, documents: Sequence[Ready]) -> Prepared:
        """What takes time of its own, before anybody is kept waiting."""
        texts = [rows_of.matched(storable(each.parsed.title), chunk) for each in documents for chunk in each.chunks]
        first = await take_numbers(self._pool, self._base, len(texts))
        return Prepared(first, texts, await asyncio.to_thread(packed, first, texts))

    async def _replace(
        self,
        connection: Connection,
        indexes: Sequence[tuple[Index, VectorIndex | None]],
        changed: Changed,
        marks: dict[str, str],
        new: Prepared,
    ) -> None:
        gone: set[str] = set()
        if changed.old:
            gone = await rows_of.take_out(connection, indexes, changed.old, purge=self._bulk is None)
        written = await rows_of.write(connection, self._base.number, changed.documents, marks)
        await rows_of.index_chunks(
            connection, self._index, self._vectors, written, new.first, new.pack, bulk=self._bulk is not None
        )
        await rows_of.forget_vectors(connection, self._base.tenant, gone.difference(new.texts))
        if self._bulk is not None and self._vectors is not None:
            self._bulk.added += len(new.texts)
            await self._vectors.loading(connection, self._bulk.chunks_before, self._bulk.added)

    def _check(self, documents: Sequence[Ready]) -> None:
        if self._index.tokens_version != TOKENS_VERSION:
            raise IndexMismatch("words are split in another way since: run `outcrop kb sync --reindex`")
        if len({storable(each.doc_id) for each in documents}) < len(documents):
            raise InvalidRequest("documents", "one doc_id stands there twice")
        model = self._index.model
        for each in documents:
            wanted = None if model is None else (len(each.chunks), model.dimension)
            found = None if each.vectors is None else each.vectors.shape
            if wanted != found and not (model and each.vectors is None and not each.chunks):
                raise IndexMismatch(
                    f"{each.doc_id}: has vectors of shape {found}, the index takes {wanted}; if the embedding model "
                    "was changed, run `outcrop kb sync --reindex`"
                )

    async def _indexes(self, connection: Connection) -> list[tuple[Index, VectorIndex | None]]:
        """All indexes of the base; `IndexMismatch` when this store's is not the live one any more."""
        found = await indexes_of(connection, self._base.number)
        if not any(each.number == self._index.number and each.state == "live" for each in found):
            raise self._replaced()
        return [
            (each, self._vectors if each.number == self._index.number else self._vectors_of(each)) for each in found
        ]

    def _replaced(self) -> Replaced:
        return Replaced(f"knowledge base {self._base.name} was indexed anew meanwhile; try again")

    async def _go_on(self) -> None:
        """With the index that has taken over; `IndexMismatch` unless it is of the same model."""
        async with reading(self._pool) as connection:
            found = await indexes_of(connection, self._base.number)
            live = next((each for each in found if each.state == "live"), None)
            if live is None:
                raise NotFound(f"knowledge base {self._base.name} is gone")
            if live.model != self._index.model:
                raise IndexMismatch(
                    f"knowledge base {self._base.name} was indexed anew with another embedding model: set "
                    "KB_EMBEDDING and KB_EMBEDDING_MODEL to that one, and start again"
                )
            if self._bulk is not None:
                sql = "SELECT chunks FROM kb_indexes WHERE number = $1"
                self._bulk = Bulk(await connection.fetchval(sql, live.number) or 0)
            self._index, self._vectors = live, self._vectors_of(live)

    async def _again(self, call: Callable[[], Awaitable[T]]) -> T:
        """`call`, once more when another index has taken over."""
        try:
            return await call()
        except Replaced:
            await self._go_on()
            return await call()

    async def _changed(self, connection: Connection, documents: Sequence[Ready], marks: dict[str, str]) -> Changed:
        """Which of them differ from what is there; `Refused` when one is a live document of another source."""
        rows = await connection.fetch(
            """
            SELECT d.number, d.doc_id, d.source, d.uri, d.stamp, d.fingerprint, d.state,
                   d.state = 'live' AND p.version = d.version AS there
            FROM kb_documents d LEFT JOIN kb_parts p ON p.document = d.number AND p.index = $2
            WHERE d.base = $1 AND d.doc_id = ANY($3::text[])
            """,
            self._base.number,
            self._index.number,
            [storable(each.doc_id) for each in documents],
        )
        known = {row["doc_id"]: row for row in rows}
        found = Changed([], [], [])
        for each in documents:
            row = known.get(storable(each.doc_id))
            if row and row["state"] == "live" and row["source"] != storable(each.source):
                raise Refused(
                    "duplicate", f"{each.doc_id!r} is a document of {row['source']} already: rename one of them"
                )
            if row is None or not row["there"] or row["fingerprint"] != marks[row["doc_id"]]:
                found.documents.append(each)
                found.old.extend([row["number"]] if row else [])
            else:
                found.moved.append((row, each))
        return found

    async def _readdress(self, connection: Connection, row: asyncpg.Record, ready: Ready) -> None:
        found = ready.raw.found
        now = storable(found.uri), storable(found.stamp)
        if now != (row["uri"], row["stamp"]):
            sql = "UPDATE kb_documents SET uri = $2, stamp = $3 WHERE number = $1"
            await connection.execute(sql, row["number"], *now)

    async def restamp(self, stamps: Sequence[tuple[str, str]]) -> None:
        """See `Store`."""
        doc_ids, values = [storable(each) for each, _ in stamps], [storable(each) for _, each in stamps]
        async with reading(self._pool) as connection:
            await connection.execute(
                "UPDATE kb_documents d SET stamp = n.stamp FROM unnest($2::text[], $3::text[]) AS n(doc_id, stamp) "
                "WHERE d.base = $1 AND d.doc_id = n.doc_id AND d.state = 'live'",
                self._base.number,
                doc_ids,
                values,
            )

    async def _committed(self, indexes: Sequence[tuple[Index, VectorIndex | None]]) -> None:
        for _, vectors in indexes:
            if vectors is not None:
                await vectors.committed(self._pool)

    def bulk(self) -> AbstractAsyncContextManager[None]:
        """See `Store`."""
        return self._in_bulk()

    @asynccontextmanager
    async def _in_bulk(self) -> AsyncIterator[None]:
        if self._bulk is not None:  # the outer one closes it
            yield
            return
        self._bulk = Bulk((await self.summary()).chunks)
        try:
            yield
        except Exception:
            await self._close_bulk()
            raise
        else:
            await self._close_bulk()
        finally:  # cancelled: as after a kill, the next bulk load completes what this one left
            self._bulk = None

    async def _close_bulk(self) -> None:
        await self._again(self._complete)

    async def _complete(self) -> None:
        tables = ["kb_documents", "kb_parts", "kb_chunks", "kb_postings"]
        async with writing(self._pool, self._base.number) as connection:
            await self._indexes(connection)
            await segments.complete(connection, self._index.number)
            if self._vectors is not None:
                await self._vectors.complete(connection)
        async with reading(self._pool) as connection:
            # The planner would go on as if the tables were empty until autovacuum comes by.
            await connection.execute(f"ANALYZE {', '.join(tables)}", timeout=UNHURRIED_S)

    async def mend(self) -> None:
        """See `Store`."""
        async with reading(self._pool) as connection:
            index = self._index.number
            behind = await connection.fetchval("SELECT EXISTS (SELECT 1 FROM kb_dead WHERE index = $1)", index)
            if not behind and self._vectors is not None:
                behind = await self._vectors.is_behind(connection)
        if behind:
            await self._close_bulk()

    async def delete(self, doc_ids: Sequence[str]) -> int:
        """See `Store`."""
        return await self._again(lambda: self._delete(doc_ids))

    async def _delete(self, doc_ids: Sequence[str]) -> int:
        async with writing(self._pool, self._base.number) as connection:
            indexes = await self._indexes(connection)
            rows = await connection.fetch(
                "SELECT number FROM kb_documents WHERE base = $1 AND state = 'live' AND doc_id = ANY($2::text[])",
                self._base.number,
                [storable(each) for each in doc_ids],
            )
            numbers = [row["number"] for row in rows]
            if not numbers:
                return 0
            gone = await rows_of.take_out(connection, indexes, numbers, purge=True)
            await rows_of.forget_vectors(connection, self._base.tenant, gone)
            await rows_of.bury_documents(connection, numbers)
        await self._committed(indexes)
        return len(numbers)

    async def known(self, source: str | None = None) -> AsyncIterator[Known]:
        """See `Store`. Read in pages, so that no transaction stays open while the caller works."""
        sql = """
            SELECT doc_id, source, stamp, content_hash, version, state, uri FROM kb_documents
            WHERE base = $1 AND ($2::text IS NULL OR source = $2) AND ($3::text IS NULL OR doc_id > $3)
            ORDER BY doc_id LIMIT $4
        """
        after: str | None = None
        while True:
            async with reading(self._pool) as connection:
                rows = await connection.fetch(sql, self._base.number, source, after, PAGE)
            for row in rows:
                yield Known(**row)
            if len(rows) < PAGE:
                return
            after = rows[-1]["doc_id"]

    async def documents(
        self,
        *,
        after: str = "",
        limit: int = 100,
        state: DocumentState | None = "live",
        where: Filter | None = None,
        prefix: str = "",
    ) -> list[Document]:
        """See `Store`."""
        values: list[Any] = [self._base.number, self._index.number, storable(after), state, limit, storable(prefix)]
        sql = f"""
            SELECT {DOCUMENT} FROM kb_documents d LEFT JOIN kb_parts p ON p.document = d.number AND p.index = $2
            WHERE d.base = $1 AND ($3 = '' OR d.doc_id > $3) AND ($4::text IS NULL OR d.state = $4)
            AND d.doc_id >= $6 AND starts_with(d.doc_id, $6)
            AND {compiled(where, self._base.number, values)} ORDER BY d.doc_id LIMIT $5
        """
        async with reading(self._pool) as connection:
            rows = await connection.fetch(sql, *values)
        return [self._document(row) for row in rows]

    async def document(self, doc_id: str) -> Document:
        """See `Store`."""
        sql = f"""
            SELECT {DOCUMENT} FROM kb_documents d LEFT JOIN kb_parts p ON p.document = d.number AND p.index = $2
            WHERE d.base = $1 AND d.doc_id = $3
        """
        async with reading(self._pool) as connection:
            row = await connection.fetchrow(sql, self._base.number, self._index.number, storable(doc_id))
        if row is None:
            raise self._no_document(doc_id)
        return self._document(row)

    def _document(self, row: asyncpg.Record) -> Document:
        return Document(**{**row, "attributes": self._attributes(row)})

    def _attributes(self, row: asyncpg.Record) -> dict[str, Any]:
        held: dict[str, Any] = json.loads(row["attributes"])
        inner: dict[str, Any] = held.get(str(self._base.number), {})
        return inner

    def _no_document(self, doc_id: str) -> NotFound:
        return NotFound(f"there is no document {doc_id!r} in the knowledge base {self._base.name}")

    async def stage(self, doc_id: str, stage: Literal["raw", "parsed", "chunks"]) -> Any:
        """See `Store`."""
        if stage == "chunks":
            return await self._chunks(doc_id)
        column, table = {"raw": ("content", "kb_raw"), "parsed": ("text", "kb_parsed")}[stage]
        sql = f"""
            SELECT s.{column} FROM kb_documents d JOIN {table} s ON s.document = d.number
            WHERE d.base = $1 AND d.doc_id = $2 AND d.state = 'live'
        """
        async with reading(self._pool) as connection:
            found = await connection.fetchval(sql, self._base.number, storable(doc_id))
        if found is None:
            raise self._no_document(doc_id)
        return found

    async def _chunks(self, doc_id: str) -> list[Stored]:
        sql = f"""
            SELECT {STORED} FROM kb_documents d
            LEFT JOIN kb_parts p ON p.document = d.number AND p.index = $2
            LEFT JOIN kb_chunks c ON c.index = $2 AND c.number BETWEEN p.first AND p.first + p.count - 1
            WHERE d.base = $1 AND d.doc_id = $3 AND d.state = 'live' ORDER BY c.number
        """
        async with reading(self._pool) as connection:
            rows = await connection.fetch(sql, self._base.number, self._index.number, storable(doc_id))
        if not rows:
            raise self._no_document(doc_id)
        return [self._stored(row) for row in rows if row["number"] is not None]

    async def by_word(self, query: str, k: int, where: Filter | None = None) -> Hits:
        """See `Store`. Of the commonest words not all postings are read, as `match` says."""
        return await self._again(lambda: self._by_word(query, k, where))

    async def _by_word(self, query: str, k: int, where: Filter | None) -> Hits:
        if self._index.tokens_version != TOKENS_VERSION:
            raise IndexMismatch("words are split in another way since: run `outcrop kb sync --reindex`")
        base, index = self._base.number, self._index.number
        # Without a filter it is a single statement.
        async with (reading if where is None else snapshot)(self._pool) as connection:
            allowed = None if where is None else await fitting(connection, base, index, where, EXACT)
            found = await match(connection, index, storable(query), allowed)
            if found is None:
                raise self._replaced()
            if where is None or allowed is not None:
                best = found.best(k)
            else:
                best = await self._best_that_fit(connection, found, k, where)
        return Hits(best.chunks, best.scores, best.coverage, found.known)

    async def _best_that_fit(self, connection: Connection, found: Match, k: int, where: Filter) -> Scored:
        """Down the order until k fit; many do, or they would have been listed before."""
        size = max(4 * k, 200)
        while True:
            order = found.best(size)
            fit = await those_that_fit(connection, self._base.number, self._index.number, where, order.chunks.tolist())
            keep = np.flatnonzero([chunk in fit for chunk in order.chunks.tolist()])
            if len(keep) >= k or len(order.chunks) < size:
                return order.take(keep[:k])
            size *= 8

    async def by_vector(self, vector: NDArray[np.float32], k: int, where: Filter | None = None) -> Hits:
        """See `Store`."""
        return await self._again(lambda: self._by_vector(vector, k, where))

    async def _by_vector(self, vector: NDArray[np.float32], k: int, where: Filter | None) -> Hits:
        if self._vectors is None or self._index.model is None:
            return Hits(np.empty(0, np.int64), np.empty(0, np.float32))
        if vector.shape != (self._index.model.dimension,):
            raise IndexMismatch(
                f"the query's vector has shape {vector.shape}, the index was made with {self._index.model.name} of "
                f"dimension {self._index.model.dimension}; after a change of model run `outcrop kb sync --reindex`"
            )
        try:
            found, cosines = await self._vectors.nearest(self._pool, vector, k, where)
        except asyncpg.UndefinedTableError as error:
            raise self._replaced() from error
        if not len(found):
            async with reading(self._pool) as connection:
                await self._indexes(connection)
        return Hits(found, cosines)

    async def read(self, chunks: Sequence[int]) -> list[Stored]:
        """See `Store`."""
        sql = f"""
            SELECT {STORED} FROM unnest($2::bigint[]) WITH ORDINALITY AS wanted (number, place)
            JOIN kb_chunks c ON c.index = $1 AND c.number = wanted.number
            JOIN kb_documents d ON d.number = c.document AND d.state = 'live' ORDER BY wanted.place
        """
        async with reading(self._pool) as connection:
            rows = await connection.fetch(sql, self._index.number, [int(each) for each in chunks])
            if len(chunks) and not rows:
                await self._indexes(connection)  # their numbers mean nothing in another index
        return [self._stored(row) for row in rows]

    def _stored(self, row: asyncpg.Record) -> Stored:
        held = dict(row)
        begin, end = held.pop("parent_start"), held.pop("parent_end")
        return Stored(
            **{**held, "attributes": self._attributes(row), "parent": None if begin is None else (begin, end)}
        )

    async def parsed_span(self, doc_id: str, start: int, end: int, version: int | None = None) -> str:
        """See `Store`; `NotFound`."""
        sql = """
            SELECT substr(p.text, $3 + 1, greatest($4 - $3, 0))
            FROM kb_documents d JOIN kb_parsed p ON p.document = d.number
            WHERE d.base = $1 AND d.doc_id = $2 AND d.state = 'live' AND d.version = coalesce($5, d.version)
        """
        async with reading(self._pool) as connection:
            found: str | None = await connection.fetchval(sql, self._base.number, storable(doc_id), start, end, version)
        if found is None:
            raise self._no_document(doc_id)
        return found

    async def summary(self) -> Summary:
        """See `Store`."""
        return await self._again(self._summary)

    async def _summary(self) -> Summary:
        sql = """
            SELECT i.chunks, i.changed_at,
                   (SELECT count(*) FROM kb_documents d WHERE d.base = $1 AND d.state = 'live') AS documents,
                   (SELECT count(*) FROM kb_documents d WHERE d.base = $1 AND d.state = 'deleted') AS deleted
            FROM kb_indexes i WHERE i.number = $2
        """
        async with reading(self._pool) as connection:
            row = await connection.fetchrow(sql, self._base.number, self._index.number)
        if row is None:
            raise self._replaced()
        return Summary(
            knowledge_base=self._base.name,
            store=self._index.store,
            model=self._index.model,
            chunking=self._index.chunking,
            **row,
        )

    async def verify(self, *, repair: bool = False) -> list[Fault]:
        """See `Store`."""
        await self.summary()  # by which it goes on with the index that answers now
        return await verify(self._pool, self._base.number, self._index, self._vectors, repair=repair)
