"""Parts of a source, for runs whose documents are loaded by several processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from knowledge_base.documents import Found, Raw
from knowledge_base.errors import Refused
from knowledge_base.sources.base import Source


class Only:
    """These documents of a source, under its name."""

    def __init__(self, source: Source, documents: Sequence[Found]) -> None:
        self.name = source.name
        self._source, self._documents = source, documents

    async def list(self) -> AsyncIterator[Found]:
        """See `Source`; they were listed before."""
        for each in self._documents:
            yield each

    async def read(self, found: Found, *, known_stamp: str = "") -> Raw:
        """See `Source`."""
        return await self._source.read(found, known_stamp=known_stamp)

    async def close(self) -> None:
        """See `Source`."""
        await self._source.close()


class Listed:
    """What a source lists, and nothing to read: enough to know what is gone."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._source = source

    def list(self) -> AsyncIterator[Found]:
        """See `Source`."""
        return self._source.list()

    async def read(self, found: Found, *, known_stamp: str = "") -> Raw:
        """`Refused`: the document is there, and that is all that matters."""
        raise Refused("changed", "the document changed since it was loaded; the next run takes it")

    async def close(self) -> None:
        """See `Source`."""
        await self._source.close()
