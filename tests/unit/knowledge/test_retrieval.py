"""Fusion, diversity and the search over them, on a store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from knowledge_base.embedding.base import EmbeddingModel, Vectors
from knowledge_base.errors import EmbeddingFailed, InvalidRequest, NotFound, StoreUnreachable
from knowledge_base.filters import Filter, Leaf, matches
from knowledge_base.lexical.bm25 import WordIndex
from knowledge_base.lexical.tokens import tokens
from knowledge_base.retrieval.diversity import PER_DOCUMENT, diverse
from knowledge_base.retrieval.fusion import fuse
from knowledge_base.retrieval.retriever import MAX_QUERY, SEARCHED_QUERY, Retriever
from knowledge_base.stores.base import Hits, Store, Stored

AXES = ["pet", "roof", "price"]  # what the embedding model of these tests understands


def hits(scores: dict[int, float], coverage: dict[int, float] | None = None) -> Hits:
    """Of a leg, best first."""
    order = sorted(scores, key=lambda each: -scores[each])
    shares = None if coverage is None else np.array([coverage[each] for each in order], dtype=np.float32)
    return Hits(np.array(order, dtype=np.int64), np.array([scores[each] for each in order], dtype=np.float32), shares)


def chunk(number: int, text: str, doc_id: str = "", parent: tuple[int, int] | None = None, **attributes: Any) -> Stored:
    """A stored chunk; of a document of its own unless `doc_id` says."""
    doc_id = doc_id or f"doc-{number}"
    return Stored(
        number, f"key{number}", doc_id, 1, "file:///x", "T", "S", None, number, number + 9, text, attributes, parent
    )


class Shelf:
    """Chunks in memory, searched as stores search."""

    def __init__(self, *chunks: Stored) -> None:
        self.chunks = {each.number: each for each in chunks}
        self.asked: list[str] = []
        self.broken = False
        self.changed: set[str] = set()  # documents that are of another version by now

    def _fitting(self, where: Filter | None) -> list[Stored]:
        return [each for each in self.chunks.values() if where is None or matches(where, each.attributes)]

    async def by_word(self, query: str, k: int, where: Filter | None = None) -> Hits:
        self.asked.append(query)
        if self.broken:
            raise StoreUnreachable("PostgreSQL does not answer")
        index = WordIndex([tokens(each.text) for each in self.chunks.values()])
        scores, shares = index.scores(tokens(query))
        of = {each.number: n for n, each in enumerate(self.chunks.values())}
        found = [each.number for each in self._fitting(where) if scores[of[each.number]] > 0]
        legs = hits({n: scores[of[n]] for n in found}, {n: shares[of[n]] for n in found})
        return replace(legs, known=index.known(tokens(query)))

    async def by_vector(self, vector: NDArray[np.float32], k: int, where: Filter | None = None) -> Hits:
        return hits({each.number: float(vector @ embedded(each.text)) for each in self._fitting(where)})

    async def read(self, chunks: Sequence[int]) -> list[Stored]:
        return [self.chunks[each] for each in chunks if each in self.chunks]

    async def documents(self, *, limit: int = 100, where: Filter | None = None) -> list[Stored]:
        return self._fitting(where)[:limit]

    async def parsed_span(self, doc_id: str, start: int, end: int, version: int | None = None) -> str:
        if doc_id in self.changed:
            raise NotFound(f"there is no version {version} of {doc_id}")
        return f"{doc_id} from {start} to {end}"


def embedded(text: str) -> NDArray[np.float32]:
    vector = np.array([text.lower().count(each) for each in AXES], dtype=np.float32)
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


class Meaning:
    """An embedding model of three words."""

    model = EmbeddingModel("test:axes", 3)
    answers = True

    async def identify(self) -> EmbeddingModel:
        return self.model

    async def documents(self, texts: Sequence[str]) -> Vectors:
        return np.stack([embedded(each) for each in texts])

    async def query(self, text: str) -> NDArray[np.float32]:
        if not self.answers:
            raise EmbeddingFailed("the server did not answer")
        return embedded(text)

    async def close(self) -> None: ...


def retriever(shelf: Shelf, model: Meaning | None = None, reranker: Any = None) -> Retriever:
    return Retriever(cast(Store, shelf), model, reranker)


LEGS = st.dictionaries(st.integers(0, 30), st.floats(0.01, 1.0), max_size=12)


@settings(deadline=None, max_examples=50)
@given(LEGS, LEGS)
def test_fusion_ranks_within_bounds_and_whatever_the_order(words: dict[int, float], cosines: dict[int, float]) -> None:
    """Scores fall, are in 0..1, hold every chunk once, and do not depend on the order of what was given."""
    by_word, by_vector = hits(words, words), hits(cosines)
    ranking = fuse(by_word, by_vector)
    assert sorted(ranking.chunks) == sorted(words.keys() | cosines.keys())
    assert (np.diff(ranking.scores) <= 0).all()
    assert ((ranking.scores >= 0) & (ranking.scores <= 1)).all()
    turned = Hits(by_vector.chunks[::-1], by_vector.scores[::-1])
    assert fuse(by_word, turned).chunks.tolist() == ranking.chunks.tolist()


@settings(deadline=None, max_examples=50)
@given(LEGS)
def test_a_leg_alone_keeps_its_order(cosines: dict[int, float]) -> None:
    """Whether the other leg was not asked or found nothing."""
    by_vector = hits(cosines)
    ranked = sorted(cosines, key=lambda each: (-np.float32(cosines[each]), each))
    assert fuse(None, by_vector).chunks.tolist() == ranked
    assert fuse(hits({}, {}), by_vector).chunks.tolist() == ranked


@settings(deadline=None, max_examples=50)
@given(LEGS, st.integers(0, 30), st.floats(0.0, 0.5))
def test_a_better_cosine_never_lowers_a_chunk(cosines: dict[int, float], number: int, more: float) -> None:
    """Monotone, all else being equal."""
    cosines = {**cosines, number: cosines.get(number, 0.2), 99: 0.001}
    by_word = hits({number: 2.0, 31: 1.0}, {number: 0.5, 31: 0.5})
    before = fuse(by_word, hits(cosines)).chunks.tolist().index(number)
    assert fuse(by_word, hits({**cosines, number: cosines[number] + more})).chunks.tolist().index(number) <= before


def test_a_weak_leg_does_not_outvote_a_strong_one() -> None:
    """All words of the question held, against cosines that hardly differ; and the other way about."""
    flat = {n: 0.30 + n / 1000 for n in range(10)}
    assert fuse(hits({0: 9.0, 5: 3.0}, {0: 0.9, 5: 0.3}), hits(flat)).chunks[0] == 0
    assert fuse(hits({0: 1.0, 5: 0.9}, {0: 0.05, 5: 0.05}), hits({3: 0.8, 0: 0.2, 5: 0.2})).chunks[0] == 3


def test_no_document_takes_every_place_and_nothing_comes_twice() -> None:
    """Same text, same parent: once. A third chunk of a document only when there is nothing else."""
    of_one = [chunk(n, f"text {n}", "a") for n in range(4)]
    assert diverse([*of_one, chunk(9, "other", "b")], 3) == [0, 1, 4]
    assert diverse(of_one, 4) == [0, 1, 2, 3]
    assert PER_DOCUMENT == 2
    assert diverse([chunk(0, "Same  text"), chunk(1, "same text")], 5) == [0]
    assert diverse([chunk(0, "x", "a", (0, 50)), chunk(1, "y", "a", (0, 50)), chunk(2, "z", "a", (50, 90))], 5) == [
        0,
        2,
    ]


async def test_both_legs_make_one_ranking_with_what_each_said() -> None:
    """The passage tells its place, its score and that of each leg."""
    shelf = Shelf(chunk(0, "Your pet must be secured"), chunk(1, "The roof is done in dry weather"))
    result = await retriever(shelf, Meaning()).search("pet secured?")
    (first,) = (each for each in result.passages if each.doc_id == "doc-0")
    assert result.passages[0] is first
    assert result.reason == "ok"
    assert first.legs["vector"] == pytest.approx(1.0)
    assert first.legs["lexical"] > 0.9
    assert 0.9 < first.score <= 1.0
    assert {"total", "lexical", "embed", "vector", "read"} <= result.timings.keys()


async def test_why_nothing_was_found_is_told() -> None:
    """Each reason, with a sentence."""
    shelf, model = Shelf(chunk(0, "Your pet must be secured", kind="faq")), Meaning()
    search = retriever(shelf, model).search
    fits_none = Leaf("equals", "kind", "policy")
    assert (await search("  ")).reason == "empty_query"
    assert (await retriever(Shelf(), model).search("pet")).reason == "empty_base"
    assert (await search("pet", where=fits_none)).reason == "filtered_out"
    assert (await search("zebra", mode="lexical")).reason == "no_match"
    low = await search("which zebra must fly")
    assert (low.reason, low.passages) == ("below_threshold", ())
    assert "of the question's words" in low.explanation
    assert (await search("which zebra must fly", min_score=0)).reason == "ok"
    assert (await search("pet secured today", min_score=1)).reason == "below_threshold"


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("price zebra giraffe lion secured", False),  # one word of five is known, one chunk holds it, no cosine
        ("roof zebra giraffe", True),  # near
        ("price secured dry key", True),  # three of four words are known, each to another chunk
        ("price is in dry weather", True),  # one chunk holds half of it
        ("how is it", True),  # nothing in it names anything: no word of that kind is unknown
    ],
)
async def test_nothing_is_shown_when_little_is_known_held_and_near_at_once(question: str, found: bool) -> None:
    """Each of the three is enough to show something."""
    shelf = Shelf(
        chunk(0, "Your pet must be secured"), chunk(1, "The roof is done in dry weather"), chunk(2, "Bring a key")
    )
    result = await retriever(shelf, Meaning()).search(question)
    assert result.reason == ("ok" if found else "below_threshold")
    assert bool(result.passages) is found
    assert ("80% of the words that name something stand nowhere" in result.explanation) is not found
    assert (await retriever(shelf, Meaning()).search(question, min_score=0)).passages


async def test_a_small_base_of_words_alone_answers_a_question_in_other_words() -> None:
    """What asks does not outweigh what names, though no chunk holds it."""
    texts = ("A window visit takes 4 hours", "Bring a key", "Pets are shut away", "There is no fee")
    shelf = Shelf(*(chunk(n, text) for n, text in enumerate(texts)))
    result = await retriever(shelf).search("How long does a window visit take?")
    assert result.passages[0].doc_id == "doc-0"


async def test_without_the_embedding_model_words_go_on_and_say_so() -> None:
    """Hybrid goes on; a search by vectors alone fails."""
    shelf, model = Shelf(chunk(0, "Your pet must be secured")), Meaning()
    model.answers = False
    result = await retriever(shelf, model).search("pet secured")
    assert [each.doc_id for each in result.passages] == ["doc-0"]
    assert "words alone" in result.explanation
    assert "did not answer" in result.explanation
    with pytest.raises(EmbeddingFailed):
        await retriever(shelf, model).search("pet", mode="vector")
    with pytest.raises(EmbeddingFailed, match="no embedding model"):
        await retriever(shelf).search("pet", mode="vector")


async def test_a_store_that_is_away_is_said_as_such() -> None:
    """Not as a group of errors."""
    shelf = Shelf(chunk(0, "pet"))
    shelf.broken = True
    with pytest.raises(StoreUnreachable):
        await retriever(shelf, Meaning()).search("pet")


async def test_bounds_are_held_and_named() -> None:
    """A long question is looked for by its beginning; a longer one is refused."""
    shelf = Shelf(chunk(0, "pet"))
    result = await retriever(shelf).search("pet " * 4000)
    assert len(shelf.asked[0]) == SEARCHED_QUERY
    assert str(SEARCHED_QUERY) in result.explanation
    for bad in ({"query": "x" * (MAX_QUERY + 1)}, {"k": 0}, {"k": 101}, {"mode": "all"}, {"min_score": 1.5}):
        with pytest.raises(InvalidRequest) as refused:
            await retriever(shelf).search(**cast(Any, {"query": "pet", **bad}))
        assert refused.value.field == next(iter(bad))


async def test_a_parent_is_shown_once_with_its_own_span() -> None:
    """Two of its chunks were found."""
    shelf = Shelf(chunk(0, "one pet", "a", (0, 90)), chunk(1, "two pet", "a", (0, 90)), chunk(2, "pet three", "b"))
    result = await retriever(shelf, Meaning()).search("pet")
    shown = {each.doc_id: each for each in result.passages}
    assert len(result.passages) == 2
    assert (shown["a"].start, shown["a"].end, shown["a"].text) == (0, 90, "a from 0 to 90")


async def test_a_parent_of_another_version_is_left_out() -> None:
    """Its document changed or went after its chunk was read; the others are found all the same."""
    shelf = Shelf(chunk(0, "one pet", "a", (0, 90)), chunk(1, "pet three", "b", (0, 50)))
    shelf.changed = {"a"}
    result = await retriever(shelf, Meaning()).search("pet")
    assert [each.doc_id for each in result.passages] == ["b"]
    shelf.changed = {"a", "b"}
    nothing = await retriever(shelf, Meaning()).search("pet")
    assert (nothing.passages, nothing.reason) == ((), "no_match")


async def test_a_reranker_has_the_last_word() -> None:
    """Its scores are those of the passages, and the threshold is held against them."""

    class Backwards:
        async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
            await asyncio.sleep(0)
            return [0.9 if "roof" in each else 0.05 for each in texts]

    shelf = Shelf(chunk(0, "pet pet pet"), chunk(1, "pet on the roof"))
    result = await retriever(shelf, Meaning(), Backwards()).search("pet")
    assert [(each.doc_id, each.score, each.legs["rerank"]) for each in result.passages] == [("doc-1", 0.9, 0.9)]
