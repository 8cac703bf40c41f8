"""One ranking of what two legs found, by how much each has to show for it.

Ranks say nothing of evidence: a leg that understands nothing of a question has a first place, too. So the fused score
is made of what can be compared between questions, which is how much of the question a chunk holds, and its cosine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knowledge_base.stores.base import Hits

# What a cosine of 1 weighs against all words of the question. Measured over seven sets and three models: from 1 to 1.5
# nothing falls more than 0.01 below its better leg with the embedded model (docs/decisions/0016).
COSINE = 1.5


@dataclass(frozen=True, slots=True)
class Ranking:
    """Chunks by falling `scores`, in 0..1. The other figures are NaN where that leg did not find the chunk.

    `words` is the part of the words in the score, `coverage` the share of the question that the chunk holds; `known` is
    what `Hits` has by that name, 1 where words were not asked for.
    """

    chunks: NDArray[np.int64]
    scores: NDArray[np.float64]
    words: NDArray[np.float64]
    cosines: NDArray[np.float64]
    coverage: NDArray[np.float64]
    known: float = 1.0

    def first(self, count: int) -> Ranking:
        """The best `count`."""
        return self._at(slice(count))

    def _at(self, places: slice | NDArray[np.int64]) -> Ranking:
        words, cosines = self.words[places], self.cosines[places]
        return Ranking(self.chunks[places], self.scores[places], words, cosines, self.coverage[places], self.known)


def fuse(by_word: Hits | None, by_vector: Hits | None) -> Ranking:
    """One ranking; None stands for a leg that was not asked.

    With both: (words + COSINE cosine) / (1 + COSINE), where `words` is the root of the coverage times BM25 over the
    best BM25. The root, for a question has words that no document needs to hold. A chunk that only the words found is
    at most as near as the last that the vectors found, and counts as that near. With one leg: that leg's part alone.
    """
    chunks = np.unique(np.concatenate([each.chunks for each in (by_word, by_vector) if each is not None] or [_NONE]))
    words, cosines = _aligned(chunks, by_word, _of_words), _aligned(chunks, by_vector, _of_cosines)
    if by_vector is None:
        scores = np.nan_to_num(words)
    elif by_word is None:
        scores = np.nan_to_num(cosines)
    else:
        least = float(by_vector.scores.min()) if len(by_vector.scores) else 0.0
        scores = (np.nan_to_num(words) + COSINE * np.where(np.isnan(cosines), least, cosines)) / (1.0 + COSINE)
    scores = np.clip(scores, 0.0, 1.0)
    known = by_word.known if by_word is not None else 1.0
    ranking = Ranking(chunks, scores, words, cosines, _aligned(chunks, by_word, _coverage), known)
    return ranking._at(np.lexsort((chunks, -scores)))


_NONE: NDArray[np.int64] = np.zeros(0, dtype=np.int64)


def _aligned(
    chunks: NDArray[np.int64], hits: Hits | None, part: Callable[[Hits], NDArray[np.float64]]
) -> NDArray[np.float64]:
    values = np.full(len(chunks), np.nan)
    if hits is not None and len(hits.chunks):
        values[np.searchsorted(chunks, hits.chunks)] = part(hits)
    return values


def _of_words(hits: Hits) -> NDArray[np.float64]:
    scores = hits.scores.astype(np.float64)
    best = float(scores.max())
    return np.sqrt(_coverage(hits)) * (scores / best if best > 0 else scores)


def _coverage(hits: Hits) -> NDArray[np.float64]:
    if hits.coverage is None:
        return np.ones(len(hits.scores))
    return np.clip(hits.coverage.astype(np.float64), 0.0, 1.0)


def _of_cosines(hits: Hits) -> NDArray[np.float64]:
    return hits.scores.astype(np.float64)
