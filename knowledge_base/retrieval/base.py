"""What a search returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["hybrid", "lexical", "vector"]
Reason = Literal["ok", "empty_base", "no_match", "below_threshold", "filtered_out", "empty_query"]


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document, and how well it fits. `score` is in 0..1 and comparable between searches of one base.

    `start` and `end` are characters of the parsed text of that `version`. `text` is that span, unless the chunking is
    hierarchical: then `text` is the parent's, and `start`/`end` those of the parent.
    """

    doc_id: str
    version: int
    uri: str
    title: str
    section: str
    page: int | None
    start: int
    end: int
    text: str
    score: float
    chunk: str  # its stable key
    attributes: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    legs: dict[str, float] = field(default_factory=dict)  # score by leg that found it: "lexical", "vector", "rerank"


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Passages by falling score. `reason` says why there are none, or "ok"; `explanation` says it in a sentence.

    `considered` counts chunks that a leg proposed, `timings` are milliseconds by step.
    """

    query: str
    mode: Mode
    passages: tuple[Passage, ...]
    reason: Reason
    explanation: str
    considered: int = 0
    timings: dict[str, float] = field(default_factory=dict)
