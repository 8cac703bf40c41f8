"""The words of an index as PostgreSQL keeps them: packs, and segments that are made of them.

What one `put` adds is a pack: one row with the postings of all its terms. Packs are folded into a segment, which has a
row for each term, so that a query reads the rows of its terms and nothing else. Segments are joined when they are many.
All of it is immutable but for chunks that went: their postings are taken out at once, or (in bulk) the chunks are
listed in `kb_dead` until that is done. Either way they are neither found nor counted from then on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import asyncpg
import numpy as np
from numpy.typing import NDArray

from knowledge_base.lexical.tokens import tokens
from knowledge_base.stores.connections import UNHURRIED_S, Connection

POSTING = np.dtype([("chunk", "<u4"), ("tf", "<u2"), ("length", "<u2")])
MOST = 0xFFFF  # of what is counted there
# Packs that wait: a query reads them whole, so they are few or small. In bulk fewer, larger segments are worth more.
MAX_PACKS = 16
MAX_PACKED, MAX_PACKED_IN_BULK = 500, 5_000
# Of segments of about the same size, this many become one; none becomes larger than SEGMENT_CHUNKS, so that to take a
# document out rewrites some MB of postings at most.
MERGE_AT = 8
SEGMENT_CHUNKS = 20_000
PURGE_BYTES = 8 << 20  # of postings that are held in memory at a time

Numbers = NDArray[np.int64]
Postings = NDArray[np.void]

MERGE = """
    WITH merged AS (
        DELETE FROM kb_postings WHERE index = $1 AND segment = ANY($2::int[]) RETURNING term, segment, n, postings
    )
    INSERT INTO kb_postings (index, term, segment, n, postings)
    SELECT $1, term, $3, sum(n), string_agg(postings, ''::bytea ORDER BY segment) FROM merged GROUP BY term
"""
DEAD = "SELECT string_agg(int8send(number), ''::bytea ORDER BY number) FROM kb_dead WHERE index = $1"


@dataclass(frozen=True, slots=True)
class Pack:
    """Postings of `terms`, one after the other, so many of each; and of each chunk how many words it has."""

    terms: list[str]
    counts: NDArray[np.uint32]
    postings: Postings
    lengths: list[int]


def packed(first: int, texts: Sequence[str]) -> Pack:
    """Chunks numbered from `first`, by what is matched of each."""
    known: dict[str, int] = {}
    ids: list[int] = []
    lengths = []
    for text in texts:
        words = tokens(text)
        lengths.append(len(words))
        ids.extend([known.setdefault(word, len(known)) for word in words])
    sizes = np.array(lengths, np.int64)
    pairs = (np.array(ids, np.int64) << 32) | np.repeat(np.arange(len(texts)), sizes)
    pairs, tf = np.unique(pairs, return_counts=True)
    chunks = pairs & 0xFFFFFFFF
    held = np.empty(len(pairs), POSTING)
    held["chunk"] = chunks + first
    held["tf"] = np.minimum(tf, MOST)
    held["length"] = np.minimum(sizes[chunks], MOST)
    # Sorted by term id, and every id occurs, in the order in which `known` has them.
    return Pack(list(known), np.bincount(pairs >> 32, minlength=len(known)).astype("<u4"), held, lengths)


def in_pack(row: asyncpg.Record, word: str) -> Postings:
    """What a stored pack has of a word."""
    terms = f"\n{row['terms']}\n"
    place = terms.find(f"\n{word}\n")
    if place < 0:
        return np.empty(0, POSTING)
    term = terms.count("\n", 0, place)
    counts = np.frombuffer(row["counts"], "<u4")
    begin = int(counts[:term].sum())
    return np.frombuffer(row["postings"], POSTING)[begin : begin + int(counts[term])]


def split(row: asyncpg.Record) -> list[tuple[str, Postings]]:
    """All that a stored pack has, by term."""
    ends = np.frombuffer(row["counts"], "<u4").cumsum(dtype=np.int64)
    postings = np.frombuffer(row["postings"], POSTING)
    return list(zip(row["terms"].split("\n"), np.split(postings, ends[:-1]), strict=True))


async def add_pack(
    connection: Connection, index: int, first: int, pack: Pack, *, bulk: bool, last: int | None = None
) -> None:
    """Write it, in the transaction of its chunks, and fold and join what is due. `last`: where numbers have gaps."""
    if pack.terms:
        await _write_pack(connection, index, first, last or first + len(pack.lengths) - 1, pack)
    sql = "SELECT count(*) AS packs, coalesce(sum(chunks), 0) AS chunks FROM kb_packs WHERE index = $1"
    row = await connection.fetchrow(sql, index)
    assert row is not None
    if row["chunks"] >= MAX_PACKED_IN_BULK if bulk else row["packs"] > MAX_PACKS or row["chunks"] > MAX_PACKED:
        await fold(connection, index)
        await _join_due(connection, index)


async def _write_pack(connection: Connection, index: int, first: int, last: int, pack: Pack) -> None:
    number = await _next_segment(connection, index)
    await connection.execute(
        "INSERT INTO kb_packs (index, segment, first, last, chunks, terms, counts, postings) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        index,
        number,
        first,
        last,
        sum(length > 0 for length in pack.lengths),
        "\n".join(pack.terms),
        pack.counts.tobytes(),
        pack.postings.tobytes(),
        timeout=UNHURRIED_S,
    )


async def fold(connection: Connection, index: int) -> None:
    """All packs become one segment."""
    rows = await connection.fetch("SELECT * FROM kb_packs WHERE index = $1 ORDER BY first", index, timeout=UNHURRIED_S)
    if not rows:
        return
    held: dict[str, list[bytes]] = {}
    for row in rows:
        for term, postings in split(row):
            held.setdefault(term, []).append(postings.tobytes())
    number = await _next_segment(connection, index)
    joined = ((term, b"".join(parts)) for term, parts in sorted(held.items()))
    records = ((index, term, number, len(blob) // POSTING.itemsize, blob) for term, blob in joined)
    await connection.copy_records_to_table(
        "kb_postings", records=records, columns=["index", "term", "segment", "n", "postings"], timeout=UNHURRIED_S
    )
    await _note_segment(connection, index, number, rows)
    await connection.execute("DELETE FROM kb_packs WHERE index = $1", index)


async def _note_segment(connection: Connection, index: int, number: int, parts: Sequence[asyncpg.Record]) -> None:
    await connection.execute(
        "INSERT INTO kb_segments (index, segment, first, last, chunks) VALUES ($1, $2, $3, $4, $5)",
        index,
        number,
        min(row["first"] for row in parts),
        max(row["last"] for row in parts),
        sum(row["chunks"] for row in parts),
    )


async def complete(connection: Connection, index: int) -> None:
    """What a bulk load left behind: words of chunks that went, packs, and small segments."""
    await purge(connection, index)
    await fold(connection, index)
    rows = await connection.fetch("SELECT * FROM kb_segments WHERE index = $1 ORDER BY first DESC", index)
    for group in _groups(rows):
        await _join(connection, index, group)


async def _join_due(connection: Connection, index: int) -> None:
    rows = await connection.fetch("SELECT * FROM kb_segments WHERE index = $1 ORDER BY first DESC", index)
    for group in _groups(rows[: _due([row["chunks"] for row in rows])]):
        await _join(connection, index, group)


def _due(sizes: Sequence[int]) -> int:
    """How many of the youngest segments to join; sizes from the youngest. 0: none.

    One that is much larger than all younger ones together belongs to an older generation, and is left alone: so a
    chunk is moved once in each generation, each MERGE_AT times larger than the one before.
    """
    due = held = 0
    for count, size in enumerate(sizes, 1):
        if size >= SEGMENT_CHUNKS or (count > 1 and size > held * (MERGE_AT - 1)):
            break
        held += size
        if count % MERGE_AT == 0:
            due = count
    return due


def _groups(rows: Sequence[asyncpg.Record]) -> list[list[asyncpg.Record]]:
    """Neighbours that together are not above the size of a segment; single ones are left out."""
    groups: list[list[asyncpg.Record]] = []
    held = SEGMENT_CHUNKS
    for row in rows:
        if held + row["chunks"] > SEGMENT_CHUNKS:
            groups.append([])
            held = 0
        groups[-1].append(row)
        held += row["chunks"]
    return [group for group in groups if len(group) > 1]


async def _join(connection: Connection, index: int, rows: Sequence[asyncpg.Record]) -> None:
    number = await _next_segment(connection, index)
    old = [row["segment"] for row in rows]
    await connection.execute(MERGE, index, old, number, timeout=UNHURRIED_S)
    await connection.execute("DELETE FROM kb_segments WHERE index = $1 AND segment = ANY($2::int[])", index, old)
    await _note_segment(connection, index, number, rows)


async def _next_segment(connection: Connection, index: int) -> int:
    sql = "UPDATE kb_indexes SET next_segment = next_segment + 1 WHERE number = $1 RETURNING next_segment - 1"
    number: int = await connection.fetchval(sql, index)
    return number


async def bury(connection: Connection, index: int, dead: Sequence[int]) -> None:
    """From now on these chunks are neither found nor counted; their words stay until `purge`."""
    sql = "INSERT INTO kb_dead (index, number) SELECT $1, unnest($2::bigint[]) ON CONFLICT DO NOTHING"
    await connection.execute(sql, index, list(dead), timeout=UNHURRIED_S)


async def purge(connection: Connection, index: int, texts: Sequence[str] | None = None) -> None:
    """Take the words of all dead chunks out. `texts`: what was matched of those that were buried last."""
    dead = numbers(await connection.fetchval(DEAD, index))
    if not len(dead):
        return
    await _purge_packs(connection, index, dead)
    # Others may be dead from before, whose words nobody knows any more; then every term is looked at.
    known = texts is not None and len(texts) == len(dead)
    terms = sorted({word for text in texts or () for word in tokens(text)}) if known else None
    went: dict[int, NDArray[np.bool_]] = {}
    async for rows in _postings(connection, index, await _touched(connection, index, dead), terms):
        await _rewrite(connection, index, rows, dead, went)
    await connection.execute(
        "UPDATE kb_segments s SET chunks = s.chunks - w.n FROM unnest($2::int[], $3::int[]) AS w(segment, n) "
        "WHERE s.index = $1 AND s.segment = w.segment",
        index,
        list(went),
        [int(marked.sum()) for marked in went.values()],
    )
    await connection.execute("DELETE FROM kb_segments WHERE index = $1 AND chunks <= 0", index)
    await connection.execute("DELETE FROM kb_dead WHERE index = $1", index)


async def _purge_packs(connection: Connection, index: int, dead: Numbers) -> None:
    rows = await connection.fetch(
        "SELECT p.* FROM kb_packs p WHERE p.index = $1 AND EXISTS ("
        "SELECT 1 FROM kb_dead d WHERE d.index = $1 AND d.number BETWEEN p.first AND p.last)",
        index,
    )
    for row in rows:
        stay = [(term, held[~inside(held["chunk"], dead)]) for term, held in split(row)]
        left = [(term, held) for term, held in stay if len(held)]
        if not left:
            await connection.execute("DELETE FROM kb_packs WHERE index = $1 AND segment = $2", index, row["segment"])
            continue
        await connection.execute(
            "UPDATE kb_packs SET chunks = $3, terms = $4, counts = $5, postings = $6 WHERE index = $1 AND segment = $2",
            index,
            row["segment"],
            len(np.unique(np.concatenate([held["chunk"] for _, held in left]))),
            "\n".join(term for term, _ in left),
            np.array([len(held) for _, held in left], "<u4").tobytes(),
            b"".join(held.tobytes() for _, held in left),
        )


async def _touched(connection: Connection, index: int, dead: Numbers) -> list[int]:
    """Segments that may hold some of them: who writes at the same time takes numbers amid those of others."""
    rows = await connection.fetch("SELECT segment, first, last FROM kb_segments WHERE index = $1", index)
    return [
        row["segment"]
        for row in rows
        if np.searchsorted(dead, row["first"]) < np.searchsorted(dead, row["last"], "right")
    ]


async def all_rows(connection: Connection, index: int) -> AsyncIterator[list[asyncpg.Record]]:
    """Rows of all segments, some MB at a time: all that a query may read."""
    async for rows in _postings(connection, index, None, None):
        yield rows


async def _postings(
    connection: Connection, index: int, segments: Sequence[int] | None, terms: Sequence[str] | None
) -> AsyncIterator[list[asyncpg.Record]]:
    """Rows of these segments (and terms), some MB at a time."""
    after = ("", -1)
    sql = """
        SELECT term, segment, n, postings FROM (
            SELECT term, segment, n, postings, sum(n) OVER (ORDER BY term, segment) - n AS before
            FROM (
                SELECT term, segment, n, postings FROM kb_postings
                WHERE index = $1 AND ($2::int[] IS NULL OR segment = ANY($2)) AND ($3::text[] IS NULL OR term = ANY($3))
                AND (term, segment) > ($4, $5) ORDER BY term, segment LIMIT 20000
            ) page
        ) sized WHERE before < $6 ORDER BY term, segment
    """
    most = PURGE_BYTES // POSTING.itemsize
    while rows := await connection.fetch(sql, index, segments, terms, *after, most, timeout=UNHURRIED_S):
        yield rows
        after = rows[-1]["term"], rows[-1]["segment"]


async def _rewrite(
    connection: Connection,
    index: int,
    rows: Sequence[asyncpg.Record],
    dead: Numbers,
    went: dict[int, NDArray[np.bool_]],
) -> None:
    """Without the dead; `went` marks which of these each segment had."""
    changed, gone = [], []
    for row in rows:
        held = np.frombuffer(row["postings"], POSTING)
        out = inside(held["chunk"], dead)
        if not out.any():
            continue
        marked = went.setdefault(row["segment"], np.zeros(len(dead), bool))
        marked[np.searchsorted(dead, held["chunk"][out])] = True
        stay = held[~out]
        if len(stay):
            changed.append((row["term"], row["segment"], len(stay), stay.tobytes()))
        else:
            gone.append((row["term"], row["segment"]))
    if gone:
        await connection.execute(
            "DELETE FROM kb_postings p USING unnest($2::text[], $3::int[]) AS g(term, segment) "
            "WHERE p.index = $1 AND p.term = g.term AND p.segment = g.segment",
            index,
            *zip(*gone, strict=True),
            timeout=UNHURRIED_S,
        )
    if changed:
        await connection.execute(
            "UPDATE kb_postings p SET n = c.n, postings = c.postings "
            "FROM unnest($2::text[], $3::int[], $4::int[], $5::bytea[]) AS c(term, segment, n, postings) "
            "WHERE p.index = $1 AND p.term = c.term AND p.segment = c.segment",
            index,
            *zip(*changed, strict=True),
            timeout=UNHURRIED_S,
        )


def numbers(sent: bytes | None) -> Numbers:
    """What `int8send` made, joined."""
    return np.frombuffer(sent or b"", ">i8").astype(np.int64)


def inside(chunks: NDArray[np.unsignedinteger] | Numbers, among: Numbers) -> NDArray[np.bool_]:
    """Which of `chunks` are in `among`, which is rising."""
    if not len(among):
        return np.zeros(len(chunks), bool)
    first, last = int(among[0]), int(among[-1])
    if last - first < 16 * len(chunks):  # then it is cheaper to look it up
        marked = np.zeros(last - first + 3, bool)
        marked[among - first + 1] = True
        looked_up: NDArray[np.bool_] = marked[np.clip(chunks.astype(np.int64), first - 1, last + 1) - first + 1]
        return looked_up
    place = np.searchsorted(among, chunks)
    found: NDArray[np.bool_] = among[np.minimum(place, len(among) - 1)] == chunks
    return found
