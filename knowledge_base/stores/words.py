"""The words of an index as PostgreSQL keeps them: immutable segments of postings, scored here by BM25.

A segment is what one `put` added. For each of its terms it has a row with the chunks that hold it: how often, and how
long the chunk is, so that a score needs nothing but the rows of the query's terms. Segments are merged by joining these
bytes, in the database. Chunks that went are taken out of the postings at once, or (in bulk) listed in `kb_dead` until
that is done; either way they are neither found nor counted from the moment their transaction commits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import asyncpg
import numpy as np
from numpy.typing import NDArray

from knowledge_base.lexical.bm25 import idf, weight
from knowledge_base.lexical.tokens import tokens
from knowledge_base.stores.connections import UNHURRIED_S, Connection

POSTING = np.dtype([("chunk", "<u4"), ("tf", "<u2"), ("length", "<u2")])
MOST = 0xFFFF
# Read of one query: rarer words first. Beyond it are words that nearly every chunk of a large base holds.
MAX_POSTINGS = 300_000
# Of segments of about the same size (a factor of MERGE_AT), this many become one.
MERGE_AT = 8
# No segment becomes larger, so that to take a document out rewrites some MB of postings at most.
SEGMENT_CHUNKS = 20_000
# Compaction reads this many bytes of postings at a time.
COMPACT_BYTES = 8 << 20

Numbers = NDArray[np.int64]

# The first row is that of the index, without a term: n chunks of so many words, and who of them is dead.
QUERY = """
    WITH wanted AS (
        SELECT term, sum(n)::bigint AS df FROM kb_postings WHERE index = $1 AND term = ANY($2::text[]) GROUP BY term
    ), rarest AS (
        SELECT term, df, sum(df) OVER (ORDER BY df, term) AS read FROM wanted
    )
    SELECT NULL AS term, i.chunks AS n, i.words AS words, false AS kept, (
        SELECT string_agg(int8send(number), ''::bytea ORDER BY number) FROM kb_dead WHERE index = $1
    ) AS postings FROM kb_indexes i WHERE i.number = $1 AND i.state = 'live'
    UNION ALL
    SELECT p.term, p.n, 0, r.read <= $3 OR r.read = r.df,
           CASE WHEN r.read <= $3 OR r.read = r.df THEN p.postings END
    FROM rarest r JOIN kb_postings p ON p.index = $1 AND p.term = r.term
"""
MERGE = """
    WITH merged AS (
        DELETE FROM kb_postings WHERE index = $1 AND segment = ANY($2::int[]) RETURNING term, segment, n, postings
    )
    INSERT INTO kb_postings (index, term, segment, n, postings)
    SELECT $1, term, $3, sum(n), string_agg(postings, ''::bytea ORDER BY segment) FROM merged GROUP BY term
"""


@dataclass(frozen=True, slots=True)
class Segment:
    """What a put adds: a row per term, and how many words each chunk has."""

    terms: list[str]
    counts: list[int]
    postings: list[bytes]
    lengths: list[int]


@dataclass(frozen=True, slots=True)
class Scored:
    """Every chunk that holds a word of the query, in no order. float32 each but for `chunks`."""

    chunks: Numbers
    scores: NDArray[np.float32]
    coverage: NDArray[np.float32]

    def best(self, k: int) -> Scored:
        """The k best by score, then by number, in that order."""
        if k < len(self.chunks):
            # All that tie with the last are kept, so that the order among them is the same at every k.
            least = np.partition(self.scores, len(self.scores) - k)[len(self.scores) - k]
            rest = self.take(np.flatnonzero(self.scores >= least))
            return rest.take(np.lexsort((rest.chunks, -rest.scores))[:k])
        return self.take(np.lexsort((self.chunks, -self.scores)))

    def take(self, where: NDArray[np.intp] | NDArray[np.bool_]) -> Scored:
        """Some of them."""
        return Scored(self.chunks[where], self.scores[where], self.coverage[where])


NONE = Scored(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32))


def segment_of(first: int, texts: Sequence[str]) -> Segment:
    """The segment of chunks numbered from `first`, by what is matched of each."""
    known: dict[str, int] = {}
    ids: list[int] = []
    lengths = []
    for text in texts:
        words = tokens(text)
        lengths.append(len(words))
        ids.extend([known.setdefault(word, len(known)) for word in words])
    if not ids:
        return Segment([], [], [], lengths)
    sizes = np.array(lengths, np.int64)
    pairs = (np.array(ids, np.int64) << 32) | np.repeat(np.arange(len(texts)), sizes)
    pairs, tf = np.unique(pairs, return_counts=True)
    chunks = pairs & 0xFFFFFFFF
    held = np.empty(len(pairs), POSTING)
    held["chunk"] = chunks + first
    held["tf"] = np.minimum(tf, MOST)
    held["length"] = np.minimum(sizes[chunks], MOST)
    # Sorted by term id, and every id occurs, in the order in which `known` has them.
    ends = np.cumsum(np.bincount(pairs >> 32))
    packed, starts = held.tobytes(), np.concatenate(([0], ends[:-1]))
    size = POSTING.itemsize
    blobs = [packed[a * size : b * size] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    return Segment(list(known), (ends - starts).tolist(), blobs, lengths)


async def add_segment(connection: Connection, index: int, first: int, last: int, segment: Segment) -> None:
    """Write it, in the transaction of its chunks."""
    number = await _next_segment(connection, index)
    sql = "INSERT INTO kb_segments (index, segment, first, last, chunks) VALUES ($1, $2, $3, $4, $5)"
    await connection.execute(sql, index, number, first, last, len(segment.lengths))
    rows = zip(repeat(index), segment.terms, repeat(number), segment.counts, segment.postings)
    await connection.copy_records_to_table(
        "kb_postings", records=rows, columns=["index", "term", "segment", "n", "postings"], timeout=UNHURRIED_S
    )


async def merge_segments(connection: Connection, index: int, *, whole: bool = False) -> None:
    """Join the youngest segments when there are many of about the same size, or (`whole`) all, up to a size."""
    rows = await connection.fetch("SELECT * FROM kb_segments WHERE index = $1 ORDER BY first DESC", index)
    if not whole:
        rows = rows[: _due([row["chunks"] for row in rows])]
    for group in _groups(rows):
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
    sql = "INSERT INTO kb_segments (index, segment, first, last, chunks) VALUES ($1, $2, $3, $4, $5)"
    ends = min(row["first"] for row in rows), max(row["last"] for row in rows)
    await connection.execute(sql, index, number, *ends, sum(row["chunks"] for row in rows))


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
    dead = _dead(
        await connection.fetchval(
            "SELECT string_agg(int8send(number), ''::bytea ORDER BY number) FROM kb_dead WHERE index = $1", index
        )
    )
    if not len(dead):
        return
    # Others may be dead from before, whose words nobody knows any more; then every term is looked at.
    known = texts is not None and len(texts) == len(dead)
    terms = sorted({word for text in texts or () for word in tokens(text)}) if known else None
    touched = await _touched(connection, index, dead)
    async for rows in _postings(connection, index, touched, terms):
        await _rewrite(connection, index, rows, dead)
    await connection.execute(
        """
        UPDATE kb_segments s SET chunks = chunks - (
            SELECT count(*) FROM kb_dead d WHERE d.index = s.index AND d.number BETWEEN s.first AND s.last
        ) WHERE index = $1 AND segment = ANY($2::int[])
        """,
        index,
        touched,
    )
    await connection.execute("DELETE FROM kb_segments WHERE index = $1 AND chunks <= 0", index)
    await connection.execute("DELETE FROM kb_dead WHERE index = $1", index)


async def _touched(connection: Connection, index: int, dead: Numbers) -> list[int]:
    rows = await connection.fetch("SELECT segment, first, last FROM kb_segments WHERE index = $1", index)
    return [
        row["segment"]
        for row in rows
        if np.searchsorted(dead, row["first"]) < np.searchsorted(dead, row["last"], "right")
    ]


async def _postings(
    connection: Connection, index: int, segments: Sequence[int], terms: Sequence[str] | None
) -> AsyncIterator[list[asyncpg.Record]]:
    """Rows of these segments (and terms), some MB at a time."""
    after = ("", -1)
    sql = """
        SELECT term, segment, n, postings FROM (
            SELECT term, segment, n, postings, sum(octet_length(postings)) OVER (ORDER BY term, segment) AS read
            FROM (
                SELECT term, segment, n, postings FROM kb_postings
                WHERE index = $1 AND segment = ANY($2::int[]) AND ($3::text[] IS NULL OR term = ANY($3))
                AND (term, segment) > ($4, $5) ORDER BY term, segment LIMIT 20000
            ) page
        ) sized WHERE read - octet_length(postings) < $6 ORDER BY term, segment
    """
    while rows := await connection.fetch(sql, index, segments, terms, *after, COMPACT_BYTES, timeout=UNHURRIED_S):
        yield rows
        after = rows[-1]["term"], rows[-1]["segment"]


async def _rewrite(connection: Connection, index: int, rows: Sequence[asyncpg.Record], dead: Numbers) -> None:
    changed, gone = [], []
    for row in rows:
        held = np.frombuffer(row["postings"], POSTING)
        stay = held[~_inside(held["chunk"], dead)]
        if len(stay) == len(held):
            continue
        if len(stay):
            changed.append((row["term"], row["segment"], len(stay), stay.tobytes()))
        else:
            gone.append((row["term"], row["segment"]))
    if gone:
        terms, segments = zip(*gone, strict=True)
        await connection.execute(
            "DELETE FROM kb_postings p USING unnest($2::text[], $3::int[]) AS g(term, segment) "
            "WHERE p.index = $1 AND p.term = g.term AND p.segment = g.segment",
            index,
            terms,
            segments,
            timeout=UNHURRIED_S,
        )
    if changed:
        terms, segments, counts, blobs = zip(*changed, strict=True)
        await connection.execute(
            "UPDATE kb_postings p SET n = c.n, postings = c.postings "
            "FROM unnest($2::text[], $3::int[], $4::int[], $5::bytea[]) AS c(term, segment, n, postings) "
            "WHERE p.index = $1 AND p.term = c.term AND p.segment = c.segment",
            index,
            terms,
            segments,
            counts,
            blobs,
            timeout=UNHURRIED_S,
        )


async def scored(connection: Connection, index: int, query: str, allowed: Numbers | None) -> Scored | None:
    """Chunks that hold a word of the query, of `allowed` (rising) if given; None: the index is not live any more."""
    wanted = list(dict.fromkeys(tokens(query)))
    rows = await connection.fetch(QUERY, index, wanted, MAX_POSTINGS)
    about = next((row for row in rows if row["term"] is None), None)
    if about is None:
        return None
    if not about["n"]:
        return NONE
    return _score(wanted, about, [row for row in rows if row["term"] is not None], allowed)


def _score(
    wanted: Sequence[str], about: asyncpg.Record, rows: Sequence[asyncpg.Record], allowed: Numbers | None
) -> Scored:
    dead = _dead(about["postings"])
    n_chunks, average = about["n"], about["words"] / about["n"]
    held: dict[str, list[NDArray[np.void]]] = {}
    passed = {row["term"] for row in rows if not row["kept"]}
    for row in rows:
        if row["kept"]:
            held.setdefault(row["term"], []).append(np.frombuffer(row["postings"], POSTING))
    chunks, scores, shares = [], [], []
    whole = 0.0
    for word in wanted:
        if word in passed:
            continue
        found = held.get(word)
        postings = np.concatenate(found) if found else np.empty(0, POSTING)
        if len(dead):
            postings = postings[~_inside(postings["chunk"], dead)]
        rarity = idf(n_chunks, len(postings))
        whole += rarity
        if allowed is not None:
            postings = postings[_inside(postings["chunk"], allowed)]
        chunks.append(postings["chunk"].astype(np.int64))
        tf, length = postings["tf"].astype(np.float64), postings["length"].astype(np.float64)
        scores.append(rarity * weight(tf, length, average))
        shares.append(np.full(len(postings), rarity))
    return _summed(chunks, scores, shares, whole)


def _summed(
    chunks: Sequence[Numbers],
    scores: Sequence[NDArray[np.float64]],
    shares: Sequence[NDArray[np.float64]],
    whole: float,
) -> Scored:
    """Chunks with the sums of what each word gave them."""
    if not chunks or not (numbers := np.concatenate(chunks)).size:
        return NONE
    first, width = int(numbers.min()), int(numbers.max() - numbers.min()) + 1
    if width <= 64 * len(numbers) + 1_000_000:
        # Zeroed pages cost nothing until they are written to.
        score, share = np.zeros(width), np.zeros(width)
        for each, given, part in zip(chunks, scores, shares, strict=True):
            score[each - first] += given  # a word names a chunk once, so none is lost
            share[each - first] += part
        found = np.flatnonzero(share)
        return Scored(found + first, score[found].astype(np.float32), (share[found] / whole).astype(np.float32))
    found, place = np.unique(numbers, return_inverse=True)
    summed = np.bincount(place, np.concatenate(scores))
    held = np.bincount(place, np.concatenate(shares))
    return Scored(found, summed.astype(np.float32), (held / whole).astype(np.float32))


def _dead(packed: bytes | None) -> Numbers:
    return np.frombuffer(packed or b"", ">i8").astype(np.int64)


def _inside(chunks: NDArray[np.uint32], among: Numbers) -> NDArray[np.bool_]:
    """Which of `chunks` are in `among`, which is sorted."""
    if not len(among):
        return np.zeros(len(chunks), bool)
    place = np.searchsorted(among, chunks)
    inside: NDArray[np.bool_] = among[np.minimum(place, len(among) - 1)] == chunks
    return inside
