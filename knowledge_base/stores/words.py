"""Chunks by the words they share with a query, scored by BM25 over the postings that `segments` keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import numpy as np
from numpy.typing import NDArray

from knowledge_base.lexical.bm25 import K1, idf, weight
from knowledge_base.lexical.tokens import tokens
from knowledge_base.stores.connections import Connection
from knowledge_base.stores.segments import POSTING, Numbers, Postings, in_pack, inside, numbers

# Read of one query, rarer words first. What is left out beyond are words that nearly every chunk of a large base holds.
MAX_POSTINGS = 120_000
# A word of so many postings is looked up for chunks that hold a rarer one, rather than proposing chunks itself.
COMMON = 5_000
# Chunks are summed up in an array over their numbers unless that is so many times larger than what is in it.
DENSE = 16

# The first row is that of the index, without a term: n chunks of so many words, and who of them is dead.
QUERY = """
    WITH wanted AS (
        SELECT term, sum(n)::bigint AS df FROM kb_postings WHERE index = $1 AND term = ANY($2::text[]) GROUP BY term
    ), rarest AS (
        SELECT term, df, sum(df) OVER (ORDER BY df, term) AS read FROM wanted
    )
    SELECT NULL AS term, i.chunks AS n, i.words AS words, (
        SELECT string_agg(int8send(number), ''::bytea ORDER BY number) FROM kb_dead WHERE index = $1
    ) AS postings FROM kb_indexes i WHERE i.number = $1 AND i.state = 'live'
    UNION ALL
    SELECT p.term, p.n, 0, CASE WHEN r.read <= $3 OR r.read = r.df THEN p.postings END
    FROM rarest r JOIN kb_postings p ON p.index = $1 AND p.term = r.term
"""
PACKS = "SELECT terms, counts, postings FROM kb_packs WHERE index = $1"


@dataclass(frozen=True, slots=True)
class Scored:
    """Chunks that hold a word of the query. float32 each but for `chunks`."""

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


@dataclass(frozen=True, slots=True)
class Term:
    """A word of the query: its IDF, and who holds it (of those that are allowed)."""

    rarity: float
    postings: Postings


NONE = Scored(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32))


class Match:
    """A query's words and who holds them, as they were at one moment."""

    def __init__(self, terms: Sequence[Term], average: float, whole: float) -> None:
        self._terms = sorted(terms, key=lambda term: len(term.postings))
        self._average = average
        self._whole = whole

    def best(self, k: int) -> Scored:
        """The k best, exactly.

        Chunks that hold only common words are left out where they cannot be among these: no word gives a chunk more
        than K1 + 1 times its IDF.
        """
        rare = [term for term in self._terms if len(term.postings) <= COMMON]
        common = self._terms[len(rare) :]
        if rare and common:
            best = self._scored(rare, common).best(k)
            if len(best.chunks) == k and best.scores[-1] > sum(term.rarity * (K1 + 1) for term in common):
                return best
        return self.all().best(k)

    def all(self) -> Scored:
        """Every chunk that holds any of the words."""
        return self._scored(self._terms)

    def _scored(self, terms: Sequence[Term], common: Sequence[Term] = ()) -> Scored:
        """Whoever holds one of `terms`, with what `common` words add to that."""
        chunks = [term.postings["chunk"].astype(np.int64) for term in terms]
        every = np.concatenate(chunks) if chunks else np.empty(0, np.int64)
        if not every.size:
            return NONE
        given = np.concatenate([self._scores(term) for term in terms])
        rarities = np.repeat(np.array([term.rarity for term in terms]), list(map(len, chunks)))
        first = int(every.min())
        if int(every.max()) - first < DENSE * every.size:
            scores, held = _sums(every - first, given), _sums(every - first, rarities)
            found = np.flatnonzero(held)
            scores, held, found = scores[found], held[found], found + first
        else:
            found, place = np.unique(every, return_inverse=True)
            scores, held = _sums(place, given), _sums(place, rarities)
        for term in common:
            self._look_up(term, found, scores, held)
        return Scored(found, scores.astype(np.float32), (held / self._whole).astype(np.float32))

    def _look_up(self, term: Term, found: Numbers, scores: NDArray[np.float64], held: NDArray[np.float64]) -> None:
        """Add what a common word gives to these chunks."""
        mine = term.postings["chunk"]
        base = int(min(found[0], mine.min()))
        marked = np.zeros(int(max(found[-1], mine.max())) - base + 1, bool)
        marked[found - base] = True
        some = Term(term.rarity, term.postings[marked[mine - base]])
        place = np.searchsorted(found, some.postings["chunk"])
        scores[place] += self._scores(some)
        held[place] += term.rarity

    def _scores(self, term: Term) -> NDArray[np.float64]:
        tf, length = term.postings["tf"].astype(np.float64), term.postings["length"].astype(np.float64)
        return term.rarity * weight(tf, length, self._average)


def _sums(place: NDArray[np.intp], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.bincount(place, values).astype(np.float64, copy=False)


async def match(connection: Connection, index: int, query: str, allowed: Numbers | None) -> Match | None:
    """Who holds the query's words, of `allowed` (rising) if given; None: the index is not live any more.

    The connection's transaction has to show one moment to all statements. Of words whose postings are too many to be
    read (see MAX_POSTINGS) neither score nor coverage know.
    """
    wanted = list(dict.fromkeys(tokens(query)))
    rows = await connection.fetch(QUERY, index, wanted, MAX_POSTINGS)
    about = next((row for row in rows if row["term"] is None), None)
    if about is None:
        return None
    packs = await connection.fetch(PACKS, index)
    return _match(wanted, about, [row for row in rows if row["term"] is not None], packs, allowed)


def _match(
    wanted: Sequence[str],
    about: asyncpg.Record,
    rows: Sequence[asyncpg.Record],
    packs: Sequence[asyncpg.Record],
    allowed: Numbers | None,
) -> Match:
    dead = numbers(about["postings"])
    passed = {row["term"] for row in rows if row["postings"] is None}
    held: dict[str, list[Postings]] = {word: [] for word in wanted if word not in passed}
    for row in rows:
        if row["term"] not in passed:
            held[row["term"]].append(np.frombuffer(row["postings"], POSTING))
    for word, parts in held.items():
        parts.extend(in_pack(pack, word) for pack in packs)
    terms, whole = [], 0.0
    for parts in held.values():
        postings = np.concatenate(parts) if parts else np.empty(0, POSTING)
        if len(dead):
            postings = postings[~inside(postings["chunk"], dead)]
        rarity = idf(about["n"], len(postings))
        whole += rarity
        if allowed is not None:
            postings = postings[inside(postings["chunk"], allowed)]
        terms.append(Term(rarity, postings))
    return Match([term for term in terms if len(term.postings)], about["words"] / max(about["n"], 1), whole)
