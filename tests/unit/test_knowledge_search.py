"""How the service's knowledge bases look to the tools: passages as JSON, failures as errors of tools."""

from __future__ import annotations

from typing import Any, cast

import pytest

from agent.definition import KnowledgePolicy
from backend.knowledge_search import KnowledgeSearchIn
from knowledge_base.bases import KnowledgeBases
from knowledge_base.errors import IndexMismatch, InvalidRequest, NotFound, StoreUnreachable
from knowledge_base.retrieval.base import Passage, SearchResult
from tools.contract import Readable
from tools.errors import KnowledgeUnavailable

FOUND = Passage(
    "pol-01", 3, "content:/pol-01.md", "Fees", "Notice", None, 5, 20, "There is no fee.", 0.8, "k", {"audience": "all"}
)


class Bases:
    """One open base that remembers what it was asked, or fails."""

    def __init__(self, fails: Exception | None = None, passages: tuple[Passage, ...] = (FOUND,)) -> None:
        self.fails, self.passages = fails, passages
        self.opened: tuple[str, str] | None = None
        self.asked: dict[str, Any] = {}

    async def open(self, tenant: str, name: str) -> Bases:
        self.opened = tenant, name
        if self.fails is not None:
            raise self.fails
        return self

    async def search(self, query: str, *, k: int, min_score: float | None, readable: Readable | None) -> SearchResult:
        self.asked = {"query": query, "k": k, "min_score": min_score, "readable": readable}
        reason, said = ("ok", "") if self.passages else ("no_match", "Nothing fits.")
        return SearchResult(query, "hybrid", self.passages, cast(Any, reason), said, timings={"a": 1.0, "b": 2.5})


def search_in(bases: Bases, **policy: Any) -> KnowledgeSearchIn:
    return KnowledgeSearchIn(cast(KnowledgeBases, bases), "acme", KnowledgePolicy(**policy))


async def test_a_search_is_as_the_definition_wants_it() -> None:
    """Base, number and threshold come from there, unless the model asks for another number; who reads is code's."""
    bases = Bases()
    found = await search_in(bases, base="faq", passages=3, min_score=0.2).search("fee?", None, bool)
    assert bases.opened == ("acme", "faq")
    assert bases.asked == {"query": "fee?", "k": 3, "min_score": 0.2, "readable": bool}
    (passage,) = found["passages"]
    assert (passage["document_id"], passage["start"], passage["end"], passage["version"]) == ("pol-01", 5, 20, 3)
    assert (found["knowledge_base"], found["reason"], found["milliseconds"]) == ("faq", "ok", 3.5)
    await search_in(bases).search("fee?", 7, None)
    assert (bases.asked["k"], bases.asked["readable"]) == (7, None)


async def test_a_base_that_is_not_there_is_empty() -> None:
    """Nobody has loaded anything yet: that is no failure."""
    found = await search_in(Bases(NotFound("there is no knowledge base 'default'"))).search("fee?", None, None)
    assert (found["passages"], found["reason"]) == ([], "empty_base")
    nothing = await search_in(Bases(passages=())).search("fee?", None, None)
    assert (nothing["reason"], nothing["explanation"]) == ("no_match", "Nothing fits.")


@pytest.mark.parametrize("error", [StoreUnreachable("db"), IndexMismatch("outcrop kb …"), InvalidRequest("query", "?")])
async def test_what_cannot_be_searched_is_an_error_without_internals(error: Exception) -> None:
    """The operator finds the cause in the log; the model and the person do not."""
    with pytest.raises(KnowledgeUnavailable) as raised:
        await search_in(Bases(error)).search("fee?", None, None)
    assert str(error) not in raised.value.user_hint
