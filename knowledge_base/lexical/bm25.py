"""BM25: how well words match, rare words more, and how much of a question a chunk holds.

The store computes these numbers in SQL; `WordIndex` is the same in memory, against which the store is tested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from knowledge_base.lexical.function_words import importance, is_function_word

K1 = 1.2  # how soon repetition of a word stops to count
B = 0.75  # how much longer chunks are held back

Numbers = NDArray[np.float64]
Given = TypeVar("Given", float, Numbers)


@overload
def idf(n_chunks: int, df: float) -> float: ...
@overload
def idf(n_chunks: int, df: Numbers) -> Numbers: ...
def idf(n_chunks: int, df: float | Numbers) -> float | Numbers:
    """ln(1 + (n - df + 0.5) / (df + 0.5)), for a word that `df` of `n_chunks` chunks hold; never below zero."""
    value = np.log1p((n_chunks - np.asarray(df) + 0.5) / (np.asarray(df) + 0.5))
    return value if isinstance(df, np.ndarray) else float(value)


def weight(tf: Given, length: Given, average_length: float) -> Given:
    """tf (K1 + 1) / (tf + K1 (1 - B + B length / average)): 0 without the word, 1 once at average length, under 2.2."""
    return tf * (K1 + 1) / (tf + K1 * (1 - B + B * length / average_length))


class WordIndex:
    """Chunks, given as their words, in memory. Chunks are numbered from 0 in the order given."""

    def __init__(self, chunks: Sequence[Sequence[str]]) -> None:
        self.size = len(chunks)
        self._lengths = np.array([len(each) for each in chunks], dtype=np.float64)
        self._average = float(self._lengths.mean()) if chunks else 0.0
        postings: dict[str, list[tuple[int, int]]] = {}
        for number, words in enumerate(chunks):
            for word, count in Counter(words).items():
                postings.setdefault(word, []).append((number, count))
        self._postings = {word: np.array(held, dtype=np.int64) for word, held in postings.items()}

    def scores(self, query: Sequence[str]) -> tuple[Numbers, Numbers]:
        """Score and coverage of every chunk. A word that the query repeats counts once in both, by its importance.

        Coverage: the IDF of the query's words that the chunk holds, over that of all its words; a word that no chunk
        holds has the IDF of df = 0.
        """
        scores, held, whole = np.zeros(self.size), np.zeros(self.size), 0.0
        for word in dict.fromkeys(query):
            posting = self._postings.get(word)
            rarity = importance(word) * idf(self.size, 0 if posting is None else len(posting))
            whole += rarity
            if posting is None:
                continue
            chunks, counts = posting[:, 0], posting[:, 1].astype(np.float64)
            scores[chunks] += rarity * weight(counts, self._lengths[chunks], self._average)
            held[chunks] += rarity
        return scores, held / whole if whole else held

    def known(self, query: Sequence[str]) -> float:
        """Of the query's words that name something, the share that any chunk holds; 1 when there are none."""
        naming = [word for word in dict.fromkeys(query) if not is_function_word(word)]
        return sum(word in self._postings for word in naming) / len(naming) if naming else 1.0
