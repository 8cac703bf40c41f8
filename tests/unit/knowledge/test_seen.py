"""What one reader finds does not depend on what is there for others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.answering.reading import Reader
from knowledge_base.bases import KnowledgeBase
from knowledge_base.chunking import ChunkingConfig
from knowledge_base.filters import Filter, Leaf
from knowledge_base.retrieval.base import SearchResult
from knowledge_base.retrieval.retriever import Retriever
from knowledge_base.stores.base import Hits, Store, Stored
from tests.doubles.world import OFFICES
from tests.unit.knowledge.test_retrieval import Meaning, Shelf, chunk
from tools.contract import Identity

CUSTOMER = Identity("customer", "7", "B2C", "20OC01BK", ("20OC01BK",))
BUSINESS = replace(CUSTOMER, customer_type="B2B")
NOBODY = Identity("anonymous")
OPERATOR = Identity("operator")


class Counted(Shelf):
    """Gives as many as it is asked for, and no more."""

    async def by_word(self, query: str, k: int, where: Filter | None = None) -> Hits:
        return _first(await super().by_word(query, k, where), k)

    async def by_vector(self, vector: NDArray[np.float32], k: int, where: Filter | None = None) -> Hits:
        return _first(await super().by_vector(vector, k, where), k)


def _first(found: Hits, k: int) -> Hits:
    coverage = None if found.coverage is None else found.coverage[:k]
    return Hits(found.chunks[:k], found.scores[:k], coverage, found.known)


async def search(
    chunks: list[Stored], who: Identity = CUSTOMER, query: str = "roof price", model: Meaning | None = None, **how: Any
) -> SearchResult:
    store = cast(Store, Counted(*chunks))
    base = KnowledgeBase(cast(Any, None), store, model, ChunkingConfig(), Retriever(store, model))
    return await Reader(who, OFFICES).search(base, query, **{"k": 3, **how})


def staff(count: int, **attributes: Any) -> list[Stored]:
    """Documents for others, which fit best."""
    return [chunk(100 + n, "roof price roof price", **({"audience": "staff"} | attributes)) for n in range(count)]


OWN = [
    chunk(1, "the price of a roof, among much else", "open"),
    chunk(2, "what a roof costs, its price, and more of that kind", "label", audience=["Customer "]),
    chunk(3, "a price for a roof of slate or another of tin", "business", audience="business"),
    chunk(4, "roof price", "elsewhere", audience="customer", locations=["another city"]),
]


@pytest.mark.parametrize("model", [None, Meaning()])
@pytest.mark.parametrize(
    "others",
    [staff(6), staff(300), staff(6, audience="customer", locations=["another city"])],
    ids=["few", "more than a leg proposes", "elsewhere"],
)
async def test_documents_for_others_take_no_place(others: list[Stored], model: Meaning | None) -> None:
    """Those without a label, and labels however they are written, are found whatever is better."""
    own = {"open", "label"}
    for who, ids in ((CUSTOMER, own), (NOBODY, own), (BUSINESS, own | {"business"})):
        for k in (3, 1):
            found = await search([*others, *OWN], who, model=model, k=k, min_score=0)
            assert len(found.passages) == min(k, len(ids))
            assert {each.doc_id for each in found.passages} <= ids
    everything = await search([*others, *OWN], OPERATOR, model=model, min_score=0)
    assert everything.passages[0].doc_id in {"elsewhere", *(each.doc_id for each in others)}


async def test_why_there_is_nothing_does_not_speak_of_what_is_hidden() -> None:
    """Neither a filter nor a threshold tells whether there is such a document for others."""
    shelf = [*staff(2, project="falcon"), chunk(1, "a pet in the yard", "pets")]
    told = [
        await search(shelf, where=Leaf("equals", "project", "falcon")),
        await search(shelf, where=Leaf("equals", "project", "nope")),
        await search(shelf, where=Leaf("equals", "project", "falcon"), min_score=1.0),
        await search(shelf),
        await search([]),
    ]
    assert {(each.passages, each.reason, each.explanation, each.considered) for each in told} == {
        ((), "no_match", told[0].explanation, 0)
    }
    assert (await search(shelf, OPERATOR, where=Leaf("equals", "project", "nope"))).reason == "filtered_out"
    assert (await search(shelf, query=" ")).reason == "empty_query"


async def test_the_threshold_is_held_against_what_may_be_read() -> None:
    """A hidden document that answers does not let through readable ones that do not."""
    weak = chunk(1, "price price price price roof", "weak")
    hidden = chunk(2, "roof pet", "hidden", audience="staff")
    asked: dict[str, Any] = {"query": "roof pet zebra quantum margin", "model": Meaning()}
    assert {each.doc_id for each in (await search([weak, hidden], OPERATOR, **asked)).passages} == {"weak", "hidden"}
    assert (await search([weak], OPERATOR, **asked)).passages == ()
    assert (await search([weak, hidden], **asked)).passages == ()
