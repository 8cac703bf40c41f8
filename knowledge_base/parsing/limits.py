"""How much of a document is read before it is refused."""

from __future__ import annotations

from dataclasses import dataclass

MB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may cost. `memory_bytes` is what a worker process may hold, its libraries included."""

    max_bytes: int = 50 * MB
    max_pages: int = 2000  # pages of a pdf, sheets of a workbook
    seconds: float = 60.0
    max_chars: int = 50_000_000  # of the parsed text
    max_expanded_bytes: int = 256 * MB  # of all members of a docx or xlsx
    memory_bytes: int = 1024 * MB
