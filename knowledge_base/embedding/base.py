"""What every embedding model is: its identity, and texts as vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]  # one row per text, each of length 1


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """Which model an index was made with: another name or dimension is another index."""

    name: str  # "<kind>:<model>", for instance "openai:text-embedding-3-small"
    dimension: int


class Embedder(Protocol):
    """Texts as unit vectors. `EmbeddingFailed` when there are none."""

    @property
    def model(self) -> EmbeddingModel:
        """Which model this is, once `identify` has found out; `EmbeddingFailed` before that."""
        ...

    async def identify(self) -> EmbeddingModel:
        """Which model this is. The first time it may load weights, or ask the server how long its vectors are."""
        ...

    async def documents(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension); any number of texts, batched inside."""
        ...

    async def query(self, text: str) -> NDArray[np.float32]:
        """Shape (dimension,). Some models embed questions in another way than documents."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
