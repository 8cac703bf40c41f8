"""What a run did, document by document."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from knowledge_base.errors import KnowledgeError, TooManyDeletions

Outcome = Literal["refused", "failed", "warning"]


@dataclass(slots=True)
class Counts:
    """Documents by what became of them, and `chunks` that were stored. All but `deleted` add up to `found`."""

    found: int = 0
    unchanged: int = 0
    new: int = 0
    updated: int = 0
    deleted: int = 0
    refused: int = 0  # cannot be taken as they are
    failed: int = 0  # could be, but for something else that went wrong
    chunks: int = 0

    @property
    def done(self) -> int:
        """Documents that were listed and are settled."""
        return self.unchanged + self.new + self.updated + self.refused + self.failed

    def as_json(self) -> dict[str, int]:
        """All of them by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True)
class Problem:
    """What was wrong with one document. `kept`: an older version of it is still there and still found."""

    doc_id: str
    uri: str
    outcome: Outcome
    reason: str  # a word for programs, as `Refused` has it
    message: str
    kept: bool = False


@dataclass(slots=True)
class Report:
    """A whole run. `error` is why it ended before its end, or deleted nothing; what it stored is stored.

    `problems` holds the first ones; how many there were is in the counts.
    """

    source: str
    is_listed: bool = False  # `counts.found` is final
    counts: Counts = field(default_factory=Counts)
    problems: list[Problem] = field(default_factory=list)
    error: KnowledgeError | None = None
    seconds: float = 0.0
    job: str = ""  # its id, once it is over

    @property
    def exit_code(self) -> int:
        """0: all is well; 1: some documents were not taken; 2: it did not come to its end; 3: deletion was refused."""
        if self.error is not None:
            return 3 if isinstance(self.error, TooManyDeletions) else 2
        return 1 if self.counts.refused or self.counts.failed else 0
