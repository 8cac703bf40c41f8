"""How documents are cut."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from knowledge_base.errors import InvalidRequest

ChunkingKind = Literal["sections", "fixed", "hierarchical"]
KINDS: tuple[ChunkingKind, ...] = ("sections", "fixed", "hierarchical")
SHORTEST, LONGEST = 100, 20_000
CHILDREN = 4  # a child of a hierarchical chunk has at most this part of `max_chars`


@dataclass(frozen=True, slots=True)
class ChunkingConfig:
    """`max_chars` is what a search shows at most: of hierarchical chunks the parent, whose children are a quarter.

    `overlap_chars` of None is a tenth for `fixed`, and nothing for the others; at most half of `max_chars`.
    `InvalidRequest` when they cannot be meant so.
    """

    kind: ChunkingKind = "sections"
    max_chars: int = 1000
    overlap_chars: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidRequest("chunking.kind", f"must be one of {', '.join(KINDS)}")
        if not SHORTEST <= self.max_chars <= LONGEST:
            raise InvalidRequest("chunking.max_chars", f"must be {SHORTEST} to {LONGEST}")
        if not 0 <= self.overlap <= self.max_chars // 2:
            raise InvalidRequest("chunking.overlap_chars", "must be 0 to half of max_chars")

    @property
    def overlap(self) -> int:
        """Characters that a chunk repeats of the one before."""
        if self.overlap_chars is not None:
            return self.overlap_chars
        return self.max_chars // 10 if self.kind == "fixed" else 0

    def as_json(self) -> dict[str, Any]:
        """For the record of an index: another one is another index."""
        return asdict(self) | {"overlap_chars": self.overlap}
