"""Each stage compared with the next. Writers wait while it goes on, readers do not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np

from knowledge_base.documents import Chunk
from knowledge_base.lexical.tokens import TOKENS_VERSION
from knowledge_base.stores import segments
from knowledge_base.stores.base import Fault
from knowledge_base.stores.connections import UNHURRIED_S, Connection, Pool, writing
from knowledge_base.stores.documents import matched
from knowledge_base.stores.segments import DEAD, POSTING, Numbers, inside, numbers
from knowledge_base.stores.vectors import Index, VectorIndex

AT_ONCE = 1000
# By kind of fault: how many documents have it. $1 is the base, $2 its index. What a document lacks comes back with the
# next load of it: nothing here can make it up.
CHECKS = {
    "document_without_raw": """
        SELECT count(*) FROM kb_documents d WHERE d.base = $1 AND d.state = 'live'
        AND NOT EXISTS (SELECT 1 FROM kb_raw r WHERE r.document = d.number)
    """,
    "raw_differs": r"""
        SELECT count(*) FROM kb_documents d JOIN kb_raw r ON r.document = d.number
        WHERE d.base = $1 AND d.state = 'live' AND d.content_hash <> encode(
            sha256(r.content || coalesce('\x007369646563617200'::bytea || r.sidecar, ''::bytea)), 'hex')
    """,
    "document_without_parsed": """
        SELECT count(*) FROM kb_documents d WHERE d.base = $1 AND d.state = 'live'
        AND NOT EXISTS (SELECT 1 FROM kb_parsed p WHERE p.document = d.number)
    """,
    "document_not_indexed": """
        SELECT count(*) FROM kb_documents d WHERE d.base = $1 AND d.state = 'live' AND NOT EXISTS (
            SELECT 1 FROM kb_parts p WHERE p.index = $2 AND p.document = d.number AND p.version = d.version)
    """,
    "chunks_differ": """
        SELECT count(*) FROM kb_documents d JOIN kb_parts p ON p.document = d.number AND p.index = $2
        LEFT JOIN kb_parsed t ON t.document = d.number WHERE d.base = $1 AND p.count <> (
            SELECT count(*) FROM kb_chunks c WHERE c.index = $2 AND c.document = d.number
            AND c.number BETWEEN p.first AND p.first + p.count - 1
            AND c.text = substr(t.text, c.start + 1, c."end" - c.start))
    """,
    "content_of_deleted": """
        SELECT count(*) FROM kb_documents d WHERE d.base = $1 AND d.state = 'deleted' AND (d.attributes <> '{}'
            OR d.title <> '' OR EXISTS (SELECT 1 FROM kb_raw r WHERE r.document = d.number)
            OR EXISTS (SELECT 1 FROM kb_parsed p WHERE p.document = d.number)
            OR EXISTS (SELECT 1 FROM kb_parts p WHERE p.document = d.number))
    """,
}
ACTUAL = """
    SELECT (SELECT count(*) FROM kb_parts WHERE index = $1) AS documents, count(*) AS chunks,
           coalesce(sum(words), 0)::bigint AS words
    FROM kb_chunks WHERE index = $1
"""


async def verify(pool: Pool, base: int, index: Index, vectors: VectorIndex | None, *, repair: bool) -> list[Fault]:
    """What differs; with `repair`, what can be mended from another stage is."""
    async with writing(pool, base) as connection:
        faults = await _stages(connection, base, index.number)
        words = await _words(connection, index)
        if words and repair:
            await _rebuild_words(connection, index.number)
        faults += words + await _counts(connection, index.number, repair=repair)
    if vectors is not None:
        faults += await vectors.verify(pool, repair=repair)
    return faults


async def _stages(connection: Connection, base: int, index: int) -> list[Fault]:
    found = []
    for kind, sql in CHECKS.items():
        values = (base, index) if "$2" in sql else (base,)
        found.append(Fault(kind, "documents", await connection.fetchval(sql, *values, timeout=UNHURRIED_S)))
    return [each for each in found if each.count]


async def _counts(connection: Connection, index: int, *, repair: bool) -> list[Fault]:
    """What the index says of itself, by which words are weighed."""
    said = await connection.fetchrow("SELECT documents, chunks, words FROM kb_indexes WHERE number = $1", index)
    actual = await connection.fetchrow(ACTUAL, index, timeout=UNHURRIED_S)
    if said is None or actual is None or said == actual:
        return []
    if repair:
        sql = "UPDATE kb_indexes SET documents = $2, chunks = $3, words = $4 WHERE number = $1"
        await connection.execute(sql, index, *actual)
    return [
        Fault(
            "count_differs", "the index", sum(said[name] != actual[name] for name in ("documents", "chunks", "words"))
        )
    ]


async def _words(connection: Connection, index: Index) -> list[Fault]:
    """Chunks whose words are not all in the postings, and chunks in the postings that are not there."""
    sql = "SELECT number, words FROM kb_chunks WHERE index = $1 ORDER BY number"
    rows = await connection.fetch(sql, index.number, timeout=UNHURRIED_S)
    chunks = np.array([row["number"] for row in rows], np.int64)
    counted, strange = np.zeros(len(chunks), np.int64), set[int]()
    async for held in _all_postings(connection, index.number):
        there = inside(held["chunk"], chunks)
        place = np.searchsorted(chunks, held["chunk"][there])
        counted += np.bincount(place, held["tf"][there], len(chunks)).astype(np.int64)
        strange.update(np.unique(held["chunk"][~there]).tolist())
    waiting = numbers(await connection.fetchval(DEAD, index.number))
    differing = int((counted != [row["words"] for row in rows]).sum())
    faults = [
        Fault("words_outdated", "the index", int(index.tokens_version != TOKENS_VERSION)),
        Fault("words_differ", "chunks", differing),
        Fault("words_of_deleted", "chunks", len(strange.union(waiting.tolist()))),
    ]
    return [each for each in faults if each.count]


async def _all_postings(connection: Connection, index: int) -> AsyncIterator[segments.Postings]:
    async for rows in segments.all_rows(connection, index):
        for row in rows:
            yield np.frombuffer(row["postings"], POSTING)
    for row in await connection.fetch("SELECT postings FROM kb_packs WHERE index = $1", index, timeout=UNHURRIED_S):
        yield np.frombuffer(row["postings"], POSTING)


async def _rebuild_words(connection: Connection, index: int) -> None:
    """From the chunks."""
    for table in ("kb_postings", "kb_packs", "kb_segments", "kb_dead"):
        await connection.execute(f"DELETE FROM {table} WHERE index = $1", index, timeout=UNHURRIED_S)
    after = 0
    sql = """
        SELECT c.number, c.ordinal, c.start, c."end", c.text, c.section, c.context, d.title
        FROM kb_chunks c JOIN kb_documents d ON d.number = c.document
        WHERE c.index = $1 AND c.number > $2 ORDER BY c.number LIMIT $3
    """
    while rows := await connection.fetch(sql, index, after, AT_ONCE, timeout=UNHURRIED_S):
        places: Numbers = np.array([row["number"] for row in rows], np.int64)
        pack = segments.packed(
            0,
            [
                matched(row["title"], Chunk(row["ordinal"], row["start"], row["end"], row["text"], row["section"],
                                            context=row["context"]))
                for row in rows
            ],
        )  # fmt: skip
        # Numbers have gaps, where documents went.
        pack.postings["chunk"] = places[pack.postings["chunk"]]
        await segments.add_pack(connection, index, int(places[0]), pack, last=int(places[-1]), bulk=True)
        await connection.execute(
            "UPDATE kb_chunks c SET words = n.words FROM unnest($2::bigint[], $3::int[]) AS n(number, words) "
            "WHERE c.index = $1 AND c.number = n.number AND c.words <> n.words",
            index,
            places.tolist(),
            pack.lengths,
            timeout=UNHURRIED_S,
        )
        after = rows[-1]["number"]
    await segments.complete(connection, index)
    await connection.execute("UPDATE kb_indexes SET tokens_version = $2 WHERE number = $1", index, TOKENS_VERSION)
