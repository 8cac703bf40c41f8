"""Writing documents with all their stages, in the transaction of whoever calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import asyncpg
import numpy as np

from knowledge_base.documents import Chunk, Parsed, embedded_text
from knowledge_base.embedding.base import Vectors
from knowledge_base.embedding.cached import forget, text_hash
from knowledge_base.stores.base import Ready
from knowledge_base.stores.connections import UNHURRIED_S, Connection
from knowledge_base.stores.segments import Pack, add_pack, bury
from knowledge_base.stores.segments import purge as purge_words
from knowledge_base.stores.storable import is_storable, scoped, storable, to_json
from knowledge_base.stores.vectors import Index, VectorIndex

ROWS_AT_ONCE = 1000
CHUNK_COLUMNS = (
    "index", "number", "document", "ordinal", "occurrence", "start", "end", "page", "parent_start", "parent_end",
    "words", "key", "section", "context", "text",
)  # fmt: skip
UPSERT = """
    INSERT INTO kb_documents (
        base, doc_id, source, uri, title, media_type, language, version, state, attributes, content_hash, fingerprint,
        stamp, size, characters
    )
    SELECT $1, doc_id, source, uri, title, media_type, language, 1, 'live', attributes::jsonb, content_hash,
           fingerprint, stamp, size, characters
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                $10::text[], $11::text[], $12::bigint[], $13::bigint[])
         AS new (doc_id, source, uri, title, media_type, language, attributes, content_hash, fingerprint, stamp, size,
                 characters)
    ON CONFLICT (base, doc_id) DO UPDATE SET
        source = excluded.source, uri = excluded.uri, title = excluded.title, media_type = excluded.media_type,
        language = excluded.language, version = kb_documents.version + 1, state = 'live',
        attributes = excluded.attributes, content_hash = excluded.content_hash, fingerprint = excluded.fingerprint,
        stamp = excluded.stamp, size = excluded.size, characters = excluded.characters, loaded_at = now(),
        deleted_at = NULL
    RETURNING number, doc_id, version
"""
TOMBSTONE = """
    UPDATE kb_documents SET state = 'deleted', version = version + 1, deleted_at = now(), title = '', media_type = '',
        language = '', attributes = '{}', content_hash = '', fingerprint = '', stamp = '', size = 0, characters = 0
    WHERE number = ANY($1::bigint[])
"""

VectorsOf = Callable[[Index], VectorIndex | None]


@dataclass(frozen=True, slots=True)
class Written:
    """A document as it is now, with what is to be indexed of it."""

    number: int
    version: int
    doc_id: str
    title: str
    chunks: Sequence[Chunk]
    vectors: Vectors | None


def fingerprint(document: Ready) -> str:
    """Of all that is stored of a document but its address and stamp: the same, and nothing has to be done."""
    parsed = document.parsed
    digest = sha256(document.raw.content_hash.encode())
    about = [
        parsed.title,
        parsed.media_type,
        parsed.language,
        parsed.context,
        dict(sorted(parsed.attributes.items())),
        *[[each.start, each.level, each.text] for each in parsed.headings],
        *[[each.start, each.number] for each in parsed.pages],
    ]
    digest.update(to_json(about).encode())
    digest.update(storable(parsed.text).encode())
    # Their texts are spans of the one above.
    places = [(each.start, each.end, each.page, each.parent, each.section, each.context) for each in document.chunks]
    digest.update(to_json(places).encode())
    return digest.hexdigest()


async def write(
    connection: Connection, base: int, documents: Sequence[Ready], marks: Mapping[str, str]
) -> list[Written]:
    """New or changed documents with their fingerprints: row, raw and parsed. Chunks come after."""
    columns = [
        (
            storable(ready.doc_id),
            storable(ready.source),
            storable(ready.raw.found.uri),
            storable(ready.parsed.title),
            storable(ready.parsed.media_type),
            storable(ready.parsed.language),
            scoped(base, ready.parsed.attributes),
            ready.raw.content_hash,
            marks[storable(ready.doc_id)],
            storable(ready.raw.found.stamp),
            len(ready.raw.content),
            len(ready.parsed.text),
        )
        for ready in documents
    ]
    rows = await connection.fetch(UPSERT, base, *map(list, zip(*columns, strict=True)), timeout=UNHURRIED_S)
    found = {row["doc_id"]: row for row in rows}
    written = [
        Written(row["number"], row["version"], row["doc_id"], storable(ready.parsed.title), ready.chunks, ready.vectors)
        for ready in documents
        for row in [found[storable(ready.doc_id)]]
    ]
    await _write_stages(connection, written, documents)
    return written


async def _write_stages(connection: Connection, written: Sequence[Written], documents: Sequence[Ready]) -> None:
    numbers = [each.number for each in written]
    for table in ("kb_raw", "kb_parsed"):
        await connection.execute(
            f"DELETE FROM {table} WHERE document = ANY($1::bigint[])", numbers, timeout=UNHURRIED_S
        )
    raw = [(n, ready.raw.content, ready.raw.sidecar) for n, ready in zip(numbers, documents, strict=True)]
    await connection.copy_records_to_table(
        "kb_raw", records=raw, columns=["document", "content", "sidecar"], timeout=UNHURRIED_S
    )
    parsed = [(n, *_parsed(ready.parsed)) for n, ready in zip(numbers, documents, strict=True)]
    await connection.copy_records_to_table(
        "kb_parsed", records=parsed, columns=["document", "text", "context", "headings", "pages"], timeout=UNHURRIED_S
    )


def _parsed(parsed: Parsed) -> tuple[str, str, str, str]:
    headings = to_json([[each.start, each.level, each.text] for each in parsed.headings])
    pages = to_json([[each.start, each.number] for each in parsed.pages])
    return storable(parsed.text), storable(parsed.context), headings, pages


def matched(title: str, chunk: Chunk) -> str:
    """What of a stored chunk is matched and was embedded."""
    return storable(embedded_text(title, chunk))


async def index_chunks(
    connection: Connection,
    index: Index,
    vectors: VectorIndex | None,
    written: Sequence[Written],
    first: int,
    pack: Pack,
    *,
    bulk: bool,
) -> None:
    """Chunks, words and vectors of these documents, numbered from `first`; `pack` has the words of all chunks."""
    counts = np.array([len(each.chunks) for each in written], np.int64)
    firsts = first + np.concatenate(([0], counts.cumsum()[:-1]))
    parts = [
        (index.number, each.number, each.version, start, count)
        for each, start, count in zip(written, firsts.tolist(), counts.tolist(), strict=True)
    ]
    await connection.copy_records_to_table(
        "kb_parts", records=parts, columns=["index", "document", "version", "first", "count"], timeout=UNHURRIED_S
    )
    total = len(pack.lengths)
    await _count(connection, index.number, len(written), total, sum(pack.lengths))
    if not total:
        return
    rows = _chunk_rows(index.number, written, first, pack.lengths)
    await connection.copy_records_to_table("kb_chunks", records=rows, columns=CHUNK_COLUMNS, timeout=UNHURRIED_S)
    await add_pack(connection, index.number, first, pack, bulk=bulk)
    if vectors is not None:
        made = np.concatenate([each.vectors for each in written if each.vectors is not None and len(each.chunks)])
        documents = np.repeat(np.array([each.number for each in written], np.int64), counts)
        await vectors.add(connection, np.arange(first, first + total), documents, made)


async def _count(connection: Connection, index: int, documents: int, chunks: int, words: int) -> None:
    await connection.execute(
        "UPDATE kb_indexes SET documents = documents + $2, chunks = chunks + $3, words = words + $4, "
        "changed_at = now() WHERE number = $1",
        index,
        documents,
        chunks,
        words,
    )


def _key(chunk: Chunk, doc_id: str) -> str:
    return (chunk if is_storable(chunk.text) else replace(chunk, text=storable(chunk.text))).key(doc_id)


def _chunk_rows(
    index: int, written: Sequence[Written], first: int, lengths: Sequence[int]
) -> Iterable[tuple[Any, ...]]:
    number = first
    for each in written:
        for chunk in each.chunks:
            parent = chunk.parent or (None, None)
            yield (
                index, number, each.number, chunk.ordinal, chunk.occurrence, chunk.start, chunk.end, chunk.page,
                *parent, lengths[number - first], _key(chunk, each.doc_id), storable(chunk.section),
                storable(chunk.context), storable(chunk.text),
            )  # fmt: skip
            number += 1


async def take_out(
    connection: Connection,
    indexes: Sequence[tuple[Index, VectorIndex | None]],
    documents: Sequence[int],
    *,
    purge: bool,
) -> set[str]:
    """Chunks, words and vectors of these documents leave all indexes; what had been matched and embedded of them.

    Without `purge`, the bare words stay in the postings until somebody purges them; nothing is found by them.
    """
    gone: set[str] = set()
    for index, vectors in indexes:
        rows = await connection.fetch(
            """
            SELECT c.number, c.words, c.ordinal, c.start, c."end", c.text, c.section, c.context, d.title
            FROM kb_parts p JOIN kb_documents d ON d.number = p.document
            JOIN kb_chunks c ON c.index = p.index AND c.number BETWEEN p.first AND p.first + p.count - 1
            WHERE p.index = $1 AND p.document = ANY($2::bigint[])
            """,
            index.number,
            documents,
            timeout=UNHURRIED_S,
        )
        sql = "DELETE FROM kb_parts WHERE index = $1 AND document = ANY($2::bigint[]) RETURNING document"
        parts = await connection.fetch(sql, index.number, documents)
        await _count(connection, index.number, -len(parts), -len(rows), -sum(row["words"] for row in rows))
        if rows:
            texts = [_matched(row) for row in rows]
            gone.update(texts)
            await _forget_chunks(connection, index.number, vectors, rows)
            if purge:
                await purge_words(connection, index.number, texts)
    return gone


async def _forget_chunks(
    connection: Connection, index: int, vectors: VectorIndex | None, rows: Sequence[asyncpg.Record]
) -> None:
    numbers = [row["number"] for row in rows]
    sql = "DELETE FROM kb_chunks WHERE index = $1 AND number = ANY($2::bigint[])"
    await connection.execute(sql, index, numbers, timeout=UNHURRIED_S)
    if vectors is not None:
        await vectors.remove(connection, numbers)
    await bury(connection, index, numbers)


def _matched(row: asyncpg.Record) -> str:
    chunk = Chunk(row["ordinal"], row["start"], row["end"], row["text"], row["section"], context=row["context"])
    return matched(row["title"], chunk)


async def forget_vectors(connection: Connection, tenant: str, texts: set[str]) -> None:
    """Those kept so that they need not be paid for twice."""
    if texts:
        await forget(connection, tenant, [text_hash(text) for text in texts])


async def forget_vectors_of(connection: Connection, index: Index) -> None:
    """The same of an index that goes, but for texts that another index of the base has too."""
    sql = "SELECT b.tenant FROM kb_bases b JOIN kb_embeddings e ON e.tenant = b.tenant WHERE b.number = $1 LIMIT 1"
    tenant = await connection.fetchval(sql, index.base)
    if tenant is None:
        return
    hashes: dict[bool, set[bytes]] = {True: set(), False: set()}  # of this index, and of the others
    sql = """
        SELECT c.index, c.number, c.ordinal, c.start, c."end", c.text, c.section, c.context, d.title
        FROM kb_indexes i JOIN kb_chunks c ON c.index = i.number JOIN kb_documents d ON d.number = c.document
        WHERE i.base = $1 AND i.model IS NOT NULL
    """
    async for row in connection.cursor(sql, index.base, prefetch=ROWS_AT_ONCE, timeout=UNHURRIED_S):
        hashes[row["index"] == index.number].add(text_hash(_matched(row)))
    await forget(connection, tenant, list(hashes[True] - hashes[False]))


async def bury_documents(connection: Connection, documents: Sequence[int]) -> None:
    """A tombstone for each: that it was there, where from, and how often it changed."""
    await connection.execute(TOMBSTONE, documents)
    for table in ("kb_raw", "kb_parsed"):
        await connection.execute(
            f"DELETE FROM {table} WHERE document = ANY($1::bigint[])", documents, timeout=UNHURRIED_S
        )
