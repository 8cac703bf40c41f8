"""Searches on behalf of a caller: nobody is shown a document that is not for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from knowledge_base.filters import Filter, Group, read_filter
from knowledge_base.retrieval.base import Mode, Passage, SearchResult
from tools.contract import Directory, Identity
from tools.knowledge.visibility import filter_of, may_read


class Searchable(Protocol):
    """A knowledge base, as far as it is searched."""

    async def search(
        self,
        query: str,
        *,
        k: int = 5,
        mode: Mode = "hybrid",
        where: Filter | None = None,
        min_score: float | None = None,
    ) -> SearchResult:
        """See `KnowledgeBase.search`."""
        ...


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads, and where the places are that documents may be for."""

    identity: Identity
    directory: Directory

    async def search(
        self,
        base: Searchable,
        query: str,
        *,
        k: int,
        mode: Mode = "hybrid",
        where: Filter | None = None,
        min_score: float | None = None,
    ) -> SearchResult:
        """As `KnowledgeBase.search`, without what is not for this reader.

        Where something was left out, those labelled for this reader move up. A document without a label is for
        everybody, and is found as long as no more than `k` others are better.
        """
        found = await base.search(query, k=k, mode=mode, where=where, min_score=min_score)
        kept = self._readable(found.passages)
        labelled = filter_of(self.identity)
        if len(kept) == len(found.passages) or labelled is None:
            return replace(found, passages=kept)
        own = read_filter(labelled)
        narrow = own if where is None else Group("andAll", (where, own))
        further = await base.search(query, k=k, mode=mode, where=narrow, min_score=min_score)
        known = {each.chunk for each in kept}
        more = (each for each in self._readable(further.passages) if each.chunk not in known)
        best = tuple(sorted((*kept, *more), key=lambda each: -each.score))[:k]
        if best:
            return replace(found, passages=best)
        return replace(further, passages=(), reason="no_match", explanation="No passage fits that question.")

    def _readable(self, passages: Sequence[Passage]) -> tuple[Passage, ...]:
        return tuple(each for each in passages if may_read(each.attributes, self.identity, self.directory))
