"""The best chunks for a query's words, by BM25 over their postings; every other chunk is looked at as little as may be.

No word gives a chunk more than it gives to one that repeats it as often as any and is as short as any. So chunks that
hold only common words are left out as soon as all these together give less than the best already have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knowledge_base.lexical.bm25 import weight
from knowledge_base.stores.segments import Numbers, Postings

# A word of so many postings is looked up for chunks that hold a rarer one, before it proposes chunks itself.
COMMON = 5_000
# Chunks are summed up in an array over their numbers unless that is so many times larger than what is in it.
DENSE = 16
ROUNDING = 1e-9  # of sums, by which none is taken for less than it is

Places = NDArray[np.intp]
Sums = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """Chunks that hold a word of the query. float32 each but for `chunks`."""

    chunks: Numbers
    scores: NDArray[np.float32]
    coverage: NDArray[np.float32]

    def take(self, where: NDArray[np.intp] | NDArray[np.bool_]) -> Scored:
        """Some of them."""
        return Scored(self.chunks[where], self.scores[where], self.coverage[where])


@dataclass(frozen=True, slots=True)
class Term:
    """A word of the query: its weight, and who holds it (of those that are allowed; each chunk once)."""

    rarity: float
    postings: Postings


NONE = Scored(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32))


class Match:
    """A query's words and who holds them, as they were at one moment.

    `average`: words of a chunk. `whole`: the weight of all words of the query, held or not. `known`: see `Hits`.
    """

    def __init__(self, terms: Sequence[Term], average: float, whole: float, known: float) -> None:
        self.known = known
        # Scores are sums in this order, so that chunks with the same words have the very same one.
        self._terms = sorted((term for term in terms if len(term.postings)), key=lambda term: len(term.postings))
        self._average = average
        self._whole = whole

    def best(self, k: int) -> Scored:
        """The k best by score, then by number, in that order; exactly these."""
        if not self._terms:
            return NONE
        places, width, numbers = _places([term.postings["chunk"].astype(np.int64) for term in self._terms])
        most = np.array([self._most(term) for term in self._terms])
        left = np.append(np.cumsum(most[::-1])[::-1], 0.0)  # what the words from here on give at most
        sums, least, done = np.zeros(width), 0.0, 0
        for done, term in enumerate(self._terms):
            if len(term.postings) > COMMON and not least and done:
                least = self._reached(sums, k, places, done) * (1 - ROUNDING)
            if left[done] < least:
                break
            sums[places[done]] += self._scores(term.rarity, term.postings)
        else:
            done = len(self._terms)
        found = np.flatnonzero(sums >= least - left[done] if least > left[done] else sums > 0)
        scores = self._completed(sums[found], found, width, places, done)
        best = _best(scores.astype(np.float32), k)
        held = self._held(found[best], width, places)
        there = Scored(numbers(found[best]), scores[best].astype(np.float32), (held / self._whole).astype(np.float32))
        return there.take(np.lexsort((there.chunks, -there.scores))[:k])

    def _most(self, term: Term) -> float:
        tf, length = float(term.postings["tf"].max()), float(term.postings["length"].min())
        return term.rarity * weight(tf, length, self._average)

    def _reached(self, sums: Sums, k: int, places: Sequence[Places], done: int) -> float:
        """What k chunks have at least, of those that are ahead after the first words; 0 when there are fewer."""
        found = np.flatnonzero(sums > 0)
        if len(found) < k:
            return 0.0
        ahead = np.sort(found[np.argpartition(sums[found], len(found) - k)[len(found) - k :]])
        return float(self._completed(sums[ahead], ahead, len(sums), places, done).min())

    def _completed(self, scores: Sums, found: Places, width: int, places: Sequence[Places], done: int) -> Sums:
        """With what the words after the first `done` give to these, which are rising."""
        marked = _marked(found, width)
        for term, of_term in zip(self._terms[done:], places[done:], strict=True):
            here = np.flatnonzero(marked[of_term])
            scores[np.searchsorted(found, of_term[here])] += self._scores(term.rarity, term.postings[here])
        return scores

    def _held(self, found: Places, width: int, places: Sequence[Places]) -> Sums:
        """The weight of the words that each of these holds, which are rising."""
        marked, held = _marked(found, width), np.zeros(len(found))
        for term, of_term in zip(self._terms, places, strict=True):
            held[np.searchsorted(found, of_term[marked[of_term]])] += term.rarity
        return held

    def _scores(self, rarity: float, postings: Postings) -> Sums:
        tf, length = postings["tf"].astype(np.float64), postings["length"].astype(np.float64)
        return rarity * weight(tf, length, self._average)


def _places(chunks: Sequence[Numbers]) -> tuple[list[Places], int, Callable[[Places], Numbers]]:
    """Chunks as places in an array, how long that is, and the way back."""
    first, last = min(int(each.min()) for each in chunks), max(int(each.max()) for each in chunks)
    if last - first < DENSE * sum(map(len, chunks)):
        return [each - first for each in chunks], last - first + 1, lambda places: places + first
    known, place = np.unique(np.concatenate(chunks), return_inverse=True)
    return np.split(place, np.cumsum([len(each) for each in chunks])[:-1]), len(known), lambda places: known[places]


def _marked(found: Places, width: int) -> NDArray[np.bool_]:
    marked = np.zeros(width, np.bool_)
    marked[found] = True
    return marked


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Where the k best are, rising, and all that tie with the last: so the order among these is the same at every k."""
    if k >= len(scores):
        return np.arange(len(scores))
    return np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
