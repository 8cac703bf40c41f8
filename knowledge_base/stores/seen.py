"""A store as one reader sees it, so that whatever is judged by what a search finds is judged by what they may read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowledge_base.filters import Filter
from knowledge_base.stores.base import Document, Hits, Store, Stored

# Whether a document with these attributes is for a reader.
Readable = Callable[[Mapping[str, Any]], bool]
MOST = 6_400  # chunks of one leg that are looked through for some that may be read


class Seen:
    """The searches of a store, for one search: no chunk of a document that is not for the reader is found."""

    def __init__(self, store: Store, readable: Readable) -> None:
        self._store = store
        self._readable = readable
        self._verdicts: dict[int, bool] = {}

    async def by_word(self, query: str, k: int, where: Filter | None = None) -> Hits:
        """See `Store`."""
        return await self._best(lambda size: self._store.by_word(query, size, where), k)

    async def by_vector(self, vector: NDArray[np.float32], k: int, where: Filter | None = None) -> Hits:
        """See `Store`."""
        return await self._best(lambda size: self._store.by_vector(vector, size, where), k)

    async def read(self, chunks: Sequence[int]) -> list[Stored]:
        """See `Store`. A label may have changed since the chunk was found."""
        return [each for each in await self._store.read(chunks) if self._readable(each.attributes)]

    async def documents(self, *, limit: int = 100, where: Filter | None = None) -> list[Document]:
        """See `Store`: all of them."""
        return await self._store.documents(limit=limit, where=where)

    async def parsed_span(self, doc_id: str, start: int, end: int, version: int | None = None) -> str:
        """See `Store`."""
        return await self._store.parsed_span(doc_id, start, end, version)

    async def _best(self, ask: Callable[[int], Awaitable[Hits]], k: int) -> Hits:
        """Down the order until k may be read."""
        size = k
        while True:
            found = await ask(size)
            keep = np.flatnonzero(await self._judged(found.chunks.tolist()))
            if len(keep) >= k or len(found.chunks) < size or size >= MOST:
                return _taken(found, keep[:k])
            size = min(size * 8, MOST)

    async def _judged(self, chunks: Sequence[int]) -> list[bool]:
        new = [each for each in chunks if each not in self._verdicts]
        if new:
            held = {each.number: self._readable(each.attributes) for each in await self._store.read(new)}
            self._verdicts |= {each: held.get(each, False) for each in new}
        return [self._verdicts[each] for each in chunks]


def _taken(found: Hits, places: NDArray[np.int64]) -> Hits:
    coverage = None if found.coverage is None else found.coverage[places]
    return Hits(found.chunks[places], found.scores[places], coverage, found.known)
