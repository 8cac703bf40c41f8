"""Searches on behalf of a caller: nobody is shown a document that is not for them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from knowledge_base.bases import KnowledgeBase
from knowledge_base.filters import Filter
from knowledge_base.retrieval.base import Mode, SearchResult
from tools.contract import Directory, Identity
from tools.knowledge.visibility import readable_by, shown_address


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads, and where the places are that documents may be for."""

    identity: Identity
    directory: Directory

    async def search(
        self,
        base: KnowledgeBase,
        query: str,
        *,
        k: int,
        mode: Mode = "hybrid",
        where: Filter | None = None,
        min_score: float | None = None,
    ) -> SearchResult:
        """As `KnowledgeBase.search`, as if what is not for this reader were not there.

        Only operators are told where inside a document came from.
        """
        readable = readable_by(self.identity, self.directory)
        found = await base.search(query, k=k, mode=mode, where=where, min_score=min_score, readable=readable)
        if self.identity.role == "operator":
            return found
        return replace(found, passages=tuple(replace(p, uri=shown_address(p.uri), source="") for p in found.passages))
