"""The knowledge bases of this process, as tools search them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import structlog

from agent.definition import KnowledgePolicy
from knowledge_base.bases import KnowledgeBases
from knowledge_base.errors import KnowledgeError, NotFound
from knowledge_base.retrieval.base import Passage
from tools.contract import JsonObject, Readable
from tools.errors import KnowledgeUnavailable

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KnowledgeSearchIn:
    """A `tools.contract.KnowledgeSearch` over one base of one tenant, as a definition wants it searched."""

    bases: KnowledgeBases
    tenant: str
    policy: KnowledgePolicy

    async def search(self, query: str, most: int | None, readable: Readable | None) -> JsonObject:
        """See `KnowledgeSearch.search`. A base that nobody has made yet is an empty one."""
        try:
            base = await self.bases.open(self.tenant, self.policy.base)
            found = await base.search(
                query,
                k=most or self.policy.passages,
                min_score=self.policy.min_score,
                readable=readable,
            )
        except NotFound as error:
            return {
                "knowledge_base": self.policy.base,
                "passages": [],
                "reason": "empty_base",
                "explanation": str(error),
            }
        except KnowledgeError as error:
            log.warning("knowledge_search_failed", code=error.code, reason=str(error)[:300])
            raise KnowledgeUnavailable("I can't look that up in our documents just now.") from error
        return {
            "knowledge_base": self.policy.base,
            "passages": [_body(each) for each in found.passages],
            "reason": found.reason,
            "explanation": found.explanation,
            "milliseconds": round(sum(found.timings.values()), 2),
        }


def _body(passage: Passage) -> JsonObject:
    body: dict[str, Any] = asdict(passage)
    return {"document_id": body.pop("doc_id"), **body}
