"""From a question to passages: both legs at once, one ranking, and a reason when there is nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from knowledge_base.embedding.base import Embedder
from knowledge_base.errors import EmbeddingFailed, InvalidRequest, NotFound
from knowledge_base.filters import Filter
from knowledge_base.retrieval.base import Mode, Passage, Reason, SearchResult
from knowledge_base.retrieval.diversity import diverse
from knowledge_base.retrieval.fusion import Ranking, fuse
from knowledge_base.stores.base import Hits, Stored

MAX_QUERY = 20_000  # characters
SEARCHED_QUERY = 2_000  # characters of it that are looked for: its beginning
MAX_K = 100
DEPTH = 50  # chunks that each leg proposes at least
# What a passage has to score unless the caller says otherwise.
FLOOR = {"hybrid": 0.1, "lexical": 0.1, "vector": 0.1}
# Unless the caller says otherwise, a question has no answer here when all three hold: at most `KNOWN` of the words that
# name something in it stand anywhere in the base, its best chunk holds at most `HELD` of it, and is at most as near as
# `NEAR`. So nothing is refused whose words are known, or that one chunk holds half of, or means. Where there are words
# alone, half of `HELD`.
KNOWN, HELD, NEAR = 0.67, 0.48, 0.40


class Reranker(Protocol):
    """A second look at the best: a model that reads question and passage together."""

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score in 0..1 for each text."""
        ...


class Searched(Protocol):
    """What a search needs of a store: see `Store`."""

    async def by_word(self, query: str, k: int, where: Filter | None = None) -> Hits:
        """The k best by their words."""
        ...

    async def by_vector(self, vector: NDArray[np.float32], k: int, where: Filter | None = None) -> Hits:
        """The k nearest."""
        ...

    async def read(self, chunks: Sequence[int]) -> list[Stored]:
        """Those that are still there."""
        ...

    async def parsed_span(self, doc_id: str, start: int, end: int, version: int | None = None) -> str:
        """A piece of the parsed text of that version."""
        ...

    async def documents(self, *, limit: int = 100, where: Filter | None = None) -> Sequence[object]:
        """Some that fit."""
        ...


@dataclass
class _Search:
    """A search on its way: what was asked, what took how long, and what has to be told of it."""

    query: str
    mode: Mode
    k: int
    where: Filter | None
    floor: float
    judged: bool  # whether the best has to look like an answer, and not only to score
    timings: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def timed(self, step: str) -> AsyncIterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.timings[step] = round((time.perf_counter() - began) * 1000, 3)


class Retriever:
    """Searches one base. `embedder` None: by words alone."""

    def __init__(self, store: Searched, embedder: Embedder | None, reranker: Reranker | None = None) -> None:
        self._store = store
        self._embedder = embedder
        self._reranker = reranker

    async def search(
        self,
        query: str,
        *,
        k: int = 5,
        mode: Mode = "hybrid",
        where: Filter | None = None,
        min_score: float | None = None,
    ) -> SearchResult:
        """At most k passages that score `min_score` or more.

        None: a low floor, and of mode `hybrid` nothing at all when much of the question is unknown here and the best
        holds little of it and is not near to it; 0: whatever there is.

        Of a question longer than `SEARCHED_QUERY` characters the beginning is looked for. A hybrid search goes on with
        words alone, and says so, when the embedding model does not answer.

        Raises:
            InvalidRequest: k, mode, score or the length of the question is out of bounds.
            EmbeddingFailed: of mode `vector`, when there is no model or it does not answer.
            StoreUnreachable: the store does not answer.
        """
        _check(query, k, mode, min_score)
        floor, judged = FLOOR[mode] if min_score is None else min_score, min_score is None and mode == "hybrid"
        search = _Search(query, mode, k, where, floor, judged)
        async with search.timed("total"):
            if not query.strip():
                result = await self._nothing(search, "empty_query", fuse(None, None))
            else:
                result = await self._found(search)
        return replace(result, timings=search.timings)

    async def _found(self, search: _Search) -> SearchResult:
        text = search.query.strip()
        if len(text) > SEARCHED_QUERY:
            text = text[:SEARCHED_QUERY]
            search.remarks.append(f"Of the question the first {SEARCHED_QUERY} characters were looked for.")
        ranking = await self._legs(search, text)
        good = ranking.first(int((ranking.scores >= search.floor).sum()))
        if search.judged and len(good.chunks) and not _may_answer(ranking):
            good = good.first(0)
            search.remarks.append(_lacking(ranking))
        if not len(good.chunks):
            reason: Reason = "below_threshold" if len(ranking.chunks) else "no_match"
            return await self._nothing(search, reason, ranking)
        async with search.timed("read"):
            ranked = await self._read(search, text, good.first(max(DEPTH // 2, search.k * 4)))
        chosen = [ranked[place] for place in diverse([stored for stored, _ in ranked], search.k)]
        if not chosen:
            return await self._nothing(
                search, "below_threshold" if ranked == [] and self._reranker else "no_match", ranking
            )
        shown = await asyncio.gather(*(self._passage(stored, scores) for stored, scores in chosen))
        passages = [each for each in shown if each is not None]
        if not passages:
            return await self._nothing(search, "no_match", ranking)
        told = " ".join([f"{len(passages)} of {len(ranking.chunks)} chunks considered are shown.", *search.remarks])
        return SearchResult(search.query, search.mode, tuple(passages), "ok", told, len(ranking.chunks))

    async def _legs(self, search: _Search, text: str) -> Ranking:
        depth = max(DEPTH, search.k * 4)
        try:
            async with asyncio.TaskGroup() as group:
                words = group.create_task(self._by_word(search, text, depth)) if search.mode != "vector" else None
                vectors = group.create_task(self._by_vector(search, text, depth)) if search.mode != "lexical" else None
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        return fuse(words.result() if words else None, vectors.result() if vectors else None)

    async def _by_word(self, search: _Search, text: str, depth: int) -> Hits:
        async with search.timed("lexical"):
            return await self._store.by_word(text, depth, search.where)

    async def _by_vector(self, search: _Search, text: str, depth: int) -> Hits | None:
        if self._embedder is None:
            if search.mode == "vector":
                raise EmbeddingFailed("this knowledge base has no embedding model: search with mode lexical")
            return None
        try:
            async with search.timed("embed"):
                vector = await self._embedder.query(text)
        except EmbeddingFailed as error:
            if search.mode == "vector":
                raise
            search.remarks.append(f"Found by words alone, for the embedding model did not answer: {error}")
            return None
        if not np.any(vector):
            search.remarks.append("The embedding model knows no word of the question.")
            return None if search.mode == "hybrid" else Hits(*_NOTHING)
        async with search.timed("vector"):
            return await self._store.by_vector(vector, depth, search.where)

    async def _read(self, search: _Search, text: str, ranking: Ranking) -> list[tuple[Stored, dict[str, float]]]:
        """The chunks that are still there, best first, with their scores: "score" and one for each leg."""
        scores = {
            int(chunk): {"score": float(score), **_legs(words, cosine)}
            for chunk, score, words, cosine in zip(
                ranking.chunks, ranking.scores, ranking.words, ranking.cosines, strict=True
            )
        }
        stored = await self._store.read(list(scores))
        ranked = [(each, scores[each.number]) for each in stored]
        if self._reranker is None or not ranked:
            return ranked
        async with search.timed("rerank"):
            anew = await self._reranker.rerank(text, [each.text for each, _ in ranked])
        for (_, of_chunk), score in zip(ranked, anew, strict=True):
            of_chunk |= {"rerank": score, "score": min(max(score, 0.0), 1.0)}
        ranked.sort(key=lambda each: -each[1]["score"])
        return [each for each in ranked if each[1]["score"] >= search.floor]

    async def _passage(self, stored: Stored, scores: dict[str, float]) -> Passage | None:
        """None when the document has changed or gone since the chunk was read: its text would be another version's."""
        start, end, text = stored.start, stored.end, stored.text
        if stored.parent is not None:
            start, end = stored.parent
            try:
                text = await self._store.parsed_span(stored.doc_id, start, end, stored.version)
            except NotFound:
                return None
        return Passage(
            doc_id=stored.doc_id,
            version=stored.version,
            uri=stored.uri,
            title=stored.title,
            section=stored.section,
            page=stored.page,
            start=start,
            end=end,
            text=text,
            score=scores["score"],
            chunk=stored.key,
            attributes=stored.attributes,
            source=stored.source,
            legs={leg: score for leg, score in scores.items() if leg != "score"},
        )

    async def _nothing(self, search: _Search, reason: Reason, ranking: Ranking) -> SearchResult:
        """Why: the base may be empty, and the filter may fit no document."""
        if reason == "no_match":
            if not (await self._store.documents(limit=1)):
                reason = "empty_base"
            elif search.where is not None and not await self._store.documents(limit=1, where=search.where):
                reason = "filtered_out"
        told = EXPLANATIONS[reason]
        if reason == "below_threshold" and len(ranking.scores) and ranking.scores[0] < search.floor:
            told = f"{told}: the best of {len(ranking.chunks)} scored {ranking.scores[0]:.2f}, below {search.floor:.2f}"
        told = " ".join([f"{told}.", *search.remarks])
        return SearchResult(search.query, search.mode, (), reason, told, len(ranking.chunks))


EXPLANATIONS: dict[Reason, str] = {
    "empty_query": "The question is empty",
    "empty_base": "The knowledge base holds no documents",
    "filtered_out": "No document fits the filter",
    "no_match": "No document has anything in common with the question",
    "below_threshold": "No passage fits the question well enough",
}
_NOTHING = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))


def _may_answer(ranking: Ranking) -> bool:
    """Whether the best chunk looks like an answer, and does not just score better than others."""
    held, near = _evidence(ranking)
    most = HELD / 2 if np.isnan(ranking.cosines).all() else HELD
    return ranking.known > KNOWN or held > most or near > NEAR


def _lacking(ranking: Ranking) -> str:
    held, near = _evidence(ranking)
    best = f"the best of {len(ranking.chunks)} holds {held:.0%} of the question's words by weight, at cosine {near:.2f}"
    return f"{1 - ranking.known:.0%} of the words that name something stand nowhere, and {best}."


def _evidence(ranking: Ranking) -> tuple[float, float]:
    """Of the best chunk: the share of the question that it holds, and its cosine. 0 where that leg did not find it."""
    return float(np.nan_to_num(ranking.coverage[0])), float(np.nan_to_num(ranking.cosines[0]))


def _legs(words: float, cosine: float) -> dict[str, float]:
    return {leg: float(score) for leg, score in (("lexical", words), ("vector", cosine)) if not np.isnan(score)}


def _check(query: str, k: int, mode: str, min_score: float | None) -> None:
    if len(query) > MAX_QUERY:
        raise InvalidRequest("query", f"is longer than {MAX_QUERY} characters")
    if not 1 <= k <= MAX_K:
        raise InvalidRequest("k", f"must be from 1 to {MAX_K}")
    if mode not in FLOOR:
        raise InvalidRequest("mode", f"must be one of {', '.join(FLOOR)}")
    if min_score is not None and not 0.0 <= min_score <= 1.0:
        raise InvalidRequest("min_score", "must be from 0 to 1")
