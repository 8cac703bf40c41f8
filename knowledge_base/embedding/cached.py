"""Vectors that were paid for once: kept in PostgreSQL by tenant, model and text, so that a broken load goes on cheaply.

Vectors can betray the text they were made of. They belong to a tenant, and whoever deletes a document forgets them in
the same transaction. Questions are not kept.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import asyncpg
import numpy as np
from numpy.typing import NDArray

from knowledge_base.embedding.base import Embedder, EmbeddingModel, Vectors
from knowledge_base.errors import EmbeddingFailed
from knowledge_base.stores.connections import reading
from knowledge_base.stores.storable import storable

READ_AT_ONCE = 1000
MADE_AT_ONCE = 256  # what a kill may lose
UNUSED_DAYS = 30
MAX_BYTES = 1024**3  # of a tenant and model, about
ROW_OVERHEAD = 120
SWEEP_S = 600.0

_READ = "SELECT hash, vector FROM kb_embeddings WHERE tenant = $1 AND model = $2 AND hash = ANY($3::bytea[])"
# Rows are locked in the order of their hashes, here as below, so that no two wait for each other.
_TOUCH = """
WITH due AS (
    SELECT hash FROM kb_embeddings WHERE tenant = $1 AND model = $2 AND hash = ANY($3::bytea[])
    AND used_on < current_date ORDER BY hash FOR UPDATE
)
UPDATE kb_embeddings e SET used_on = current_date FROM due
WHERE e.tenant = $1 AND e.model = $2 AND e.hash = due.hash
"""
_WRITE = """
INSERT INTO kb_embeddings (tenant, model, hash, vector)
SELECT $1, $2, hash, vector FROM unnest($3::bytea[], $4::bytea[]) AS made (hash, vector) ORDER BY hash
ON CONFLICT (tenant, model, hash) DO UPDATE SET vector = excluded.vector, used_on = current_date
"""
_FORGET = """
WITH gone AS (
    SELECT model, hash FROM kb_embeddings WHERE tenant = $1 AND hash = ANY($2::bytea[]) ORDER BY hash, model FOR UPDATE
)
DELETE FROM kb_embeddings e USING gone WHERE e.tenant = $1 AND e.model = gone.model AND e.hash = gone.hash
"""
_SWEEP_OLD = "DELETE FROM kb_embeddings WHERE tenant = $1 AND used_on < current_date - $2::int"
_SWEEP_MANY = """
DELETE FROM kb_embeddings WHERE tenant = $1 AND model = $2 AND hash IN (
    SELECT hash FROM kb_embeddings WHERE tenant = $1 AND model = $2 ORDER BY used_on DESC, hash OFFSET $3
)
"""


def text_hash(text: str) -> bytes:
    """By which the vector of a text is kept: SHA-256 of what `Embedder.documents` is given, as it can be stored."""
    return sha256(storable(text).encode()).digest()


async def forget(connection: Any, tenant: str, hashes: Sequence[bytes]) -> int:
    """Drop the vectors of texts that are deleted, whatever the model; how many there were.

    `connection` is asyncpg's, with the transaction that deletes the texts. A text that another document still has is
    embedded once more when that is loaded again, no more than that.
    """
    done: str = await connection.execute(_FORGET, tenant, list(hashes))
    return int(done.rsplit(" ", 1)[-1])


class CachedEmbedder:
    """An embedder whose vectors of documents are kept, for one tenant. Closing it leaves the inner one open."""

    def __init__(
        self,
        inner: Embedder,
        pool: asyncpg.Pool[asyncpg.Record],
        tenant: str,
        *,
        max_bytes: int = MAX_BYTES,
        unused_days: int = UNUSED_DAYS,
    ) -> None:
        """What was not used for so many days goes, and what exceeds `max_bytes`, the longest unused first."""
        self._inner, self._pool, self._tenant = inner, pool, tenant
        self._max_bytes, self._unused_days = max_bytes, unused_days
        self._swept_at = -SWEEP_S

    @property
    def model(self) -> EmbeddingModel:
        """See `Embedder`."""
        return self._inner.model

    async def identify(self) -> EmbeddingModel:
        """See `Embedder`."""
        return await self._inner.identify()

    async def documents(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`; numbers are as exact as float16 has them, kept or not.

        Raises:
            StoreUnreachable: PostgreSQL does not answer.
        """
        model = await self.identify()
        hashes = [text_hash(text) for text in texts]
        kept = await self._read(model, list(dict.fromkeys(hashes)))
        missing = {digest: text for digest, text in zip(hashes, texts, strict=True) if digest not in kept}
        todo = list(missing)
        for start in range(0, len(todo), MADE_AT_ONCE):
            part = todo[start : start + MADE_AT_ONCE]
            kept |= await self._make(model, part, [missing[digest] for digest in part])
        if missing:
            await self._sweep(model)
        made = np.zeros((len(texts), model.dimension), dtype=np.float32)
        for n, digest in enumerate(hashes):
            made[n] = kept[digest]
        lengths = np.linalg.norm(made, axis=1, keepdims=True)
        return np.asarray(made / lengths, dtype=np.float32) if len(texts) else made

    async def query(self, text: str) -> NDArray[np.float32]:
        """See `Embedder`."""
        return await self._inner.query(text)

    async def close(self) -> None:
        """See `Embedder`; the inner one belongs to whoever made it."""

    async def _read(self, model: EmbeddingModel, hashes: list[bytes]) -> dict[bytes, NDArray[np.float16]]:
        found: dict[bytes, NDArray[np.float16]] = {}
        async with reading(self._pool) as connection:
            for start in range(0, len(hashes), READ_AT_ONCE):
                part = hashes[start : start + READ_AT_ONCE]
                rows = await connection.fetch(_READ, self._tenant, _name(model), part)
                if rows:
                    await connection.execute(_TOUCH, self._tenant, _name(model), [row["hash"] for row in rows])
                found |= {row["hash"]: np.frombuffer(row["vector"], dtype="<f2") for row in rows}
        return found

    async def _make(
        self, model: EmbeddingModel, hashes: list[bytes], texts: list[str]
    ) -> dict[bytes, NDArray[np.float16]]:
        vectors = (await self._inner.documents(texts)).astype("<f2")
        if vectors.shape != (len(texts), model.dimension):
            raise EmbeddingFailed(f"{model.name} gave {vectors.shape}, not {(len(texts), model.dimension)}")
        async with reading(self._pool) as connection:
            await connection.execute(
                _WRITE, self._tenant, _name(model), hashes, [vector.tobytes() for vector in vectors]
            )
        return dict(zip(hashes, vectors, strict=True))

    async def _sweep(self, model: EmbeddingModel) -> None:
        if time.monotonic() - self._swept_at < SWEEP_S:
            return
        self._swept_at = time.monotonic()
        rows = self._max_bytes // (2 * model.dimension + ROW_OVERHEAD)
        async with reading(self._pool) as connection:
            await connection.execute(_SWEEP_OLD, self._tenant, self._unused_days)
            await connection.execute(_SWEEP_MANY, self._tenant, _name(model), rows)


def _name(model: EmbeddingModel) -> str:
    return f"{model.name}/{model.dimension}"
