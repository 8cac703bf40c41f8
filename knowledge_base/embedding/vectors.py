"""Numbers that a model gave, as unit vectors; whatever cannot be one is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from knowledge_base.embedding.base import Vectors
from knowledge_base.errors import EmbeddingFailed

TINY = 1e-12


def stacked(rows: Sequence[object], source: str) -> NDArray[np.float32]:
    """Rows of numbers as one array; `EmbeddingFailed` when they are no numbers, or not equally many."""
    try:
        matrix = np.asarray(rows, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise EmbeddingFailed(f"{source} sent vectors that are no equally long lists of numbers") from error
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise EmbeddingFailed(f"{source} sent vectors that are no equally long lists of numbers")
    return matrix


def unit_vectors(matrix: NDArray[np.float32], *, count: int, dimension: int | None, source: str, fix: str) -> Vectors:
    """The rows with length 1.

    Raises:
        EmbeddingFailed: not `count` rows, not `dimension` numbers each (None: any), a number that is none, or a vector
            without direction.
    """
    if len(matrix) != count:
        raise EmbeddingFailed(f"{source} sent {len(matrix)} vectors for {count} texts; {fix}")
    if dimension is not None and matrix.shape[1] != dimension:
        raise EmbeddingFailed(f"{source} sent vectors of {matrix.shape[1]} numbers, not {dimension}; {fix}")
    if not np.isfinite(matrix).all():
        raise EmbeddingFailed(f"{source} sent a vector that holds NaN or infinity; {fix}")
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if (lengths < TINY).any():
        raise EmbeddingFailed(f"{source} sent a vector of zeros; {fix}")
    return np.asarray(matrix / lengths, dtype=np.float32)
