"""What is asked of whatever keeps the vectors of one index. The rest of a store is PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from knowledge_base.embedding.base import EmbeddingModel, Vectors
from knowledge_base.filters import Filter
from knowledge_base.stores.base import Fault
from knowledge_base.stores.connections import Connection, Pool

Numbers = NDArray[np.int64]
# As many chunks that fit a filter, or that there are, and every one of them is compared; beyond, the index is asked.
EXACT = 4_000


@dataclass(frozen=True, slots=True)
class Index:
    """One way in which the documents of a base are cut, embedded and indexed."""

    number: int
    base: int
    store: str
    model: EmbeddingModel | None
    chunking: dict[str, Any]
    tokens_version: int
    state: str = "live"


class VectorIndex(Protocol):
    """Vectors of an index by chunk number. A connection that is given is in the writer's transaction."""

    async def create(self, connection: Connection) -> None:
        """Make it, empty."""
        ...

    async def drop(self, connection: Connection) -> None:
        """All of it goes."""
        ...

    async def add(self, connection: Connection, numbers: Numbers, documents: Numbers, vectors: Vectors) -> None:
        """Vectors of new chunks of these documents."""
        ...

    async def remove(self, connection: Connection, numbers: Sequence[int]) -> None:
        """Those of chunks that go."""
        ...

    async def committed(self, pool: Pool) -> None:
        """The transaction of `remove` or `drop` holds now."""
        ...

    async def nearest(
        self, pool: Pool, vector: NDArray[np.float32], k: int, where: Filter | None
    ) -> tuple[Numbers, NDArray[np.float32]]:
        """The k nearest live chunks that fit, with their cosines; `UndefinedTableError` when the index has gone."""
        ...

    async def loading(self, connection: Connection, chunks: int, added: int) -> None:
        """In bulk: this index had so many chunks before, and so many came since. It may leave its graph behind."""
        ...

    async def complete(self, connection: Connection) -> None:
        """Make good what `loading` left behind."""
        ...

    async def is_behind(self, connection: Connection) -> bool:
        """Whether there is anything to make good."""
        ...

    async def verify(self, pool: Pool, *, repair: bool) -> list[Fault]:
        """Compare with the chunks there are."""
        ...
