"""What every source does. One contract suite holds for all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from knowledge_base.documents import Found, Raw

SIDECAR = ".metadata.json"
MAX_SIDECAR = 1_000_000  # bytes


class NotChanged(Exception):
    """The source says that the document is still what it was at the known stamp."""


class Source(Protocol):
    """A place that documents are listed at and read from.

    What is wrong with one document is said when it is read (`Refused`), so that a document which is there but cannot
    be taken is still listed, and is not mistaken for one that has gone. An empty stamp means that only reading tells.
    """

    @property
    def name(self) -> str:
        """The same for the same place at every run: what is missing from it is deleted by this name."""
        ...

    def list(self) -> AsyncIterator[Found]:
        """All documents, in the same order each time; `SourceUnavailable`, possibly after some of them."""
        ...

    async def read(self, found: Found, *, known_stamp: str = "") -> Raw:
        """One document; `Refused`, or `NotChanged` since `known_stamp`. `Raw.found` has the stamp of what was read."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
