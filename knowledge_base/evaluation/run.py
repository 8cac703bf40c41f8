"""Put the documents of a set into a knowledge base, ask its questions, and count."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from knowledge_base.chunking import ChunkingConfig, chunk
from knowledge_base.documents import Chunk, Parsed, Raw, embedded_text
from knowledge_base.embedding.base import Embedder
from knowledge_base.evaluation import metrics
from knowledge_base.evaluation.sets import Question
from knowledge_base.retrieval.base import Mode, Reason, SearchResult
from knowledge_base.stores.base import Ready, Store

if TYPE_CHECKING:
    from knowledge_base.filters import Filter

MODES: tuple[Mode, ...] = ("lexical", "vector", "hybrid")
SOURCE = "evaluation"
CHUNKS_AT_ONCE = 800  # in one transaction
DEPTHS = (1, 3, 5, 10)


Document = tuple[Raw, Parsed]


@dataclass(frozen=True, slots=True)
class Progress:
    """What is stored by now; `size` is in bytes."""

    documents: int
    chunks: int
    size: int


class Searched(Protocol):
    """What is asked: `KnowledgeBase` is one."""

    async def search(
        self,
        query: str,
        *,
        k: int = 5,
        mode: Mode = "hybrid",
        where: Filter | None = None,
        min_score: float | None = None,
    ) -> SearchResult:
        """The best passages."""
        ...


class Filled(Protocol):
    """What takes documents: `KnowledgeBase` is one."""

    @property
    def store(self) -> Store:
        """Where they go."""
        ...

    @property
    def embedder(self) -> Embedder | None:
        """What makes vectors of them."""
        ...

    @property
    def chunking(self) -> ChunkingConfig:
        """How they are cut."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What one question got: documents, best first, each with the score of its best passage (0 to 1)."""

    question: Question
    ranking: tuple[str, ...]
    scores: tuple[float, ...]
    reason: Reason
    ms: float

    @property
    def is_right(self) -> bool:
        """The first document answers it; of a question that nothing answers: nothing was found."""
        if not self.question.answerable:
            return not self.ranking
        return bool(self.ranking) and self.question.grades.get(self.ranking[0], 0.0) > 0

    def upto(self, k: int) -> Answer:
        """The same with the first k documents."""
        return replace(self, ranking=self.ranking[:k], scores=self.scores[:k])

    @property
    def best(self) -> float:
        """The score of the first document; 0 when nothing was found."""
        return self.scores[0] if self.scores else 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """All answers of one mode, in the order of the questions."""

    mode: Mode
    answers: tuple[Answer, ...]

    @property
    def answerable(self) -> tuple[Answer, ...]:
        """Those that recall, MRR and nDCG are about."""
        return tuple(each for each in self.answers if each.question.answerable)

    @property
    def unanswerable(self) -> tuple[Answer, ...]:
        """Those that nothing should be found for."""
        return tuple(each for each in self.answers if not each.question.answerable)

    def recall(self, k: int) -> float:
        """Mean of `metrics.recall`."""
        return self._mean(lambda each: metrics.recall(each.ranking, each.question.grades, k))

    def mrr(self, k: int = 10) -> float:
        """Mean of `metrics.reciprocal_rank`."""
        return self._mean(lambda each: metrics.reciprocal_rank(each.ranking, each.question.grades, k))

    def ndcg(self, k: int = 10) -> float:
        """Mean of `metrics.ndcg`."""
        return self._mean(lambda each: metrics.ndcg(each.ranking, each.question.grades, k))

    @property
    def ms(self) -> tuple[float, ...]:
        """Times of the searches in milliseconds, ascending."""
        return tuple(sorted(each.ms for each in self.answers))

    def wrong(self) -> list[Answer]:
        """Those that went wrong, the worst first: something found for what nothing answers, then by nDCG."""
        wrong = [each for each in self.answers if not each.is_right]
        return sorted(wrong, key=lambda a: (a.question.answerable, metrics.ndcg(a.ranking, a.question.grades), -a.best))

    def _mean(self, score: Callable[[Answer], float]) -> float:
        return metrics.mean([score(each) for each in self.answerable])


async def fill(base: Filled, documents: AsyncIterator[Document]) -> AsyncIterator[Progress]:
    """Store documents, so many chunks at a time, and say after each time how far it is."""
    waiting: list[tuple[Raw, Parsed, list[Chunk]]] = []
    stored, chunks, size = 0, 0, 0
    async with base.store.bulk():
        async for raw, parsed in documents:
            waiting.append((raw, parsed, chunk(parsed, base.chunking)))
            size += len(raw.content)
            if sum(len(each) for _, _, each in waiting) >= CHUNKS_AT_ONCE:
                stored, chunks = stored + len(waiting), chunks + await _store(base, waiting)
                waiting = []
                yield Progress(stored, chunks, size)
        if waiting:
            stored, chunks = stored + len(waiting), chunks + await _store(base, waiting)
        yield Progress(stored, chunks, size)


async def ask(
    base: Searched, questions: Sequence[Question], mode: Mode, *, k: int = 10, min_score: float | None = None
) -> AsyncIterator[Answer]:
    """Ask one after the other, so that times are those of a search that has the machine to itself."""
    for question in questions:
        begun = time.perf_counter()
        result = await base.search(question.text, k=k, mode=mode, min_score=min_score)
        elapsed = (time.perf_counter() - begun) * 1000
        best: dict[str, float] = {}
        for passage in result.passages:
            best.setdefault(passage.doc_id, passage.score)
        yield Answer(question, tuple(best), tuple(best.values()), result.reason, elapsed)


async def _store(base: Filled, documents: Sequence[tuple[Raw, Parsed, Sequence[Chunk]]]) -> int:
    """In one transaction; how many chunks they have."""
    texts = [embedded_text(parsed.title, each) for _, parsed, chunks in documents for each in chunks]
    vectors = await base.embedder.documents(texts) if base.embedder else None
    ready, done = [], 0
    for raw, parsed, chunks in documents:
        own = None if vectors is None else vectors[done : done + len(chunks)]
        done += len(chunks)
        ready.append(Ready(SOURCE, parsed.doc_id or raw.found.doc_id, raw, parsed, chunks, own))
    await base.store.put(ready)
    return len(texts)
