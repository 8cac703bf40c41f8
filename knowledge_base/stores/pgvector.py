"""Vectors in PostgreSQL, by pgvector: a table for each index, in the same transaction as the documents.

They are kept as float16 and are of length 1, so the inner product is the cosine. Small sets are compared one by one;
otherwise an HNSW graph is asked, which goes on until enough of what it finds fits the filter.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import asyncpg
import numpy as np
from numpy.typing import NDArray

from knowledge_base.embedding.base import Vectors
from knowledge_base.errors import InvalidRequest, StoreUnreachable
from knowledge_base.filters import Filter
from knowledge_base.stores.base import Fault
from knowledge_base.stores.connections import UNHURRIED_S, Connection, Pool, reading, writing
from knowledge_base.stores.filter_sql import compiled
from knowledge_base.stores.selection import fitting
from knowledge_base.stores.vectors import EXACT, Index, Numbers

MAX_DIMENSION = 4000  # of HNSW over halfvec
NEEDED = (0, 8)  # iterative scans
# A first load up to here is inserted into the graph; beyond, the graph is built when all is there.
GRAPH_LATER = 2000
BUILD_MEMORY_MB = 512
HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"


async def check_extension(pool: Pool) -> None:
    """`StoreUnreachable` with the fix, unless pgvector is there and new enough."""
    async with reading(pool) as connection:
        version = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    if version is None:
        raise StoreUnreachable(
            "this PostgreSQL has no pgvector in the database: install the package (Debian: postgresql-17-pgvector), "
            "then run CREATE EXTENSION vector in the database as superuser; or set KB_STORE=chroma"
        )
    if tuple(int(part) for part in version.split(".")[:2]) < NEEDED:
        raise StoreUnreachable(
            f"pgvector {version} is too old, 0.8 is needed: update the package, then run ALTER EXTENSION vector UPDATE"
        )


class PgVectors:
    """The vectors of one index."""

    def __init__(self, index: Index) -> None:
        assert index.model is not None
        if index.model.dimension > MAX_DIMENSION:
            raise InvalidRequest("KB_EMBEDDING_DIMENSION", f"must be at most {MAX_DIMENSION} with KB_STORE=pgvector")
        self._index = index
        self._dimension = index.model.dimension
        self._table = f"kb_vectors_{index.number:d}"
        self._query = f"$1::real[]::halfvec({self._dimension:d})"

    async def create(self, connection: Connection) -> None:
        """Table and graph, empty."""
        await connection.execute(
            f"CREATE TABLE {self._table} "
            f"(number bigint PRIMARY KEY, document bigint NOT NULL, embedding halfvec({self._dimension:d}) NOT NULL)"
        )
        # In the row itself: the way by TOAST costs more than the distance.
        await connection.execute(f"ALTER TABLE {self._table} ALTER embedding SET STORAGE PLAIN")
        await self.complete(connection)

    async def drop(self, connection: Connection) -> None:
        """Table and all."""
        await connection.execute(f"DROP TABLE IF EXISTS {self._table}")

    async def add(self, connection: Connection, numbers: Numbers, documents: Numbers, vectors: Vectors) -> None:
        """By binary COPY, whose bytes are made here: asyncpg knows no halfvec."""
        await connection.copy_to_table(
            self._table, source=io.BytesIO(_copied(numbers, documents, vectors)), format="binary", timeout=UNHURRIED_S
        )

    async def remove(self, connection: Connection, numbers: Sequence[int]) -> None:
        """Rows; their places in the graph are cleared by vacuum, and lead to nothing until then."""
        sql = f"DELETE FROM {self._table} WHERE number = ANY($1::bigint[])"
        await connection.execute(sql, list(numbers), timeout=UNHURRIED_S)

    async def committed(self, pool: Pool) -> None:
        """Nothing is left to do."""

    async def loading(self, connection: Connection, chunks: int, added: int) -> None:
        """Drop the graph when building it anew is cheaper than to insert what comes."""
        if chunks < GRAPH_LATER or added > chunks // 2:
            await connection.execute(f"DROP INDEX IF EXISTS {self._table}_graph", timeout=UNHURRIED_S)

    async def complete(self, connection: Connection) -> None:
        """Build the graph, if there is none."""
        if not await self.is_behind(connection):
            return
        await connection.execute(f"SET LOCAL maintenance_work_mem = '{BUILD_MEMORY_MB}MB'")
        try:
            async with connection.transaction():
                await self._build(connection)
        except (asyncpg.DiskFullError, asyncpg.OutOfMemoryError):
            # Parallel builds need as much in /dev/shm, which containers often have 64 MB of.
            await connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
            await self._build(connection)

    async def _build(self, connection: Connection) -> None:
        await connection.execute(
            f"CREATE INDEX {self._table}_graph ON {self._table} USING hnsw (embedding halfvec_ip_ops) "
            "WITH (m = 16, ef_construction = 64)",
            timeout=UNHURRIED_S,
        )

    async def is_behind(self, connection: Connection) -> bool:
        """Whether the graph is missing."""
        missing: bool = await connection.fetchval("SELECT to_regclass($1) IS NULL", f"{self._table}_graph")
        return missing

    async def nearest(
        self, pool: Pool, vector: NDArray[np.float32], k: int, where: Filter | None
    ) -> tuple[Numbers, NDArray[np.float32]]:
        """See `VectorIndex`."""
        query = vector.astype(np.float32).tolist()
        async with reading(pool) as connection:
            if where is None:
                chunks = await connection.fetchval(
                    "SELECT chunks FROM kb_indexes WHERE number = $1 AND state = 'live'", self._index.number
                )
                if not chunks:
                    return _as_arrays([])
                few: Numbers | None = None
                exact = chunks <= EXACT
            else:
                few = await fitting(connection, self._index.base, self._index.number, where, EXACT)
                exact = False
            if few is not None:
                return _as_arrays(await self._compare(connection, query, k, few) if len(few) else [])
            if not exact:
                rows = await self._ask_graph(connection, query, k, where)
                if len(rows) == k:
                    return _as_arrays(rows)
            return _as_arrays(await self._compare_all(connection, query, k, where))

    async def _compare(self, connection: Connection, query: list[float], k: int, few: Numbers) -> list[asyncpg.Record]:
        """With each of these. `+ 0` keeps the planner from the graph."""
        return await connection.fetch(
            f"SELECT number, -(embedding <#> {self._query}) AS cosine FROM {self._table} "
            f"WHERE number = ANY($2::bigint[]) ORDER BY (embedding <#> {self._query}) + 0, number LIMIT $3",
            query,
            few.tolist(),
            k,
        )

    async def _compare_all(
        self, connection: Connection, query: list[float], k: int, where: Filter | None
    ) -> list[asyncpg.Record]:
        values: list[Any] = [query, k]
        return await connection.fetch(
            f"SELECT v.number, -(v.embedding <#> {self._query}) AS cosine FROM {self._table} v "
            f"WHERE {self._condition(where, values)} ORDER BY (v.embedding <#> {self._query}) + 0, v.number LIMIT $2",
            *values,
            timeout=UNHURRIED_S,
        )

    async def _ask_graph(
        self, connection: Connection, query: list[float], k: int, where: Filter | None
    ) -> list[asyncpg.Record]:
        """Nearly always the nearest; fewer than k when the graph was left behind by what fits."""
        # In "relaxed" order the last of k may come later than others, all the more where near ones do not fit.
        wanted, width = (k + 50, 150) if where is None else (4 * k + 100, 500)
        values: list[Any] = [query, wanted]
        sql = (
            f"SELECT v.number, -(v.embedding <#> {self._query}) AS cosine FROM {self._table} v "
            f"WHERE {self._condition(where, values)} ORDER BY v.embedding <#> {self._query} LIMIT $2"
        )
        async with connection.transaction(readonly=True):
            await connection.execute(
                f"SET LOCAL hnsw.ef_search = {min(max(width, 2 * k), 1000):d}; "
                "SET LOCAL hnsw.iterative_scan = relaxed_order; SET LOCAL hnsw.max_scan_tuples = 40000; "
                "SET LOCAL enable_seqscan = off"
            )
            rows = await connection.fetch(sql, *values)
        return sorted(rows, key=lambda row: (-row["cosine"], row["number"]))[:k]

    def _condition(self, where: Filter | None, values: list[Any]) -> str:
        if where is None:
            return "true"
        fits = compiled(where, self._index.base, values)
        return f"EXISTS (SELECT 1 FROM kb_documents d WHERE d.number = v.document AND d.state = 'live' AND {fits})"

    async def verify(self, pool: Pool, *, repair: bool) -> list[Fault]:
        """Compare with the chunks there are; a vector too many goes, one that is missing needs the model."""
        about, chunks = self._table, f"(SELECT number FROM kb_chunks WHERE index = {self._index.number:d})"
        async with writing(pool, self._index.base) as connection:
            missing = await connection.fetchval(
                f"SELECT count(*) FROM {chunks} c WHERE NOT EXISTS (SELECT 1 FROM {about} v WHERE v.number = c.number)"
            )
            without = f"NOT EXISTS (SELECT 1 FROM {chunks} c WHERE c.number = v.number)"
            extra = await connection.fetchval(f"SELECT count(*) FROM {about} v WHERE {without}")
            behind = await self.is_behind(connection)
            if repair:
                await connection.execute(f"DELETE FROM {about} v WHERE {without}")
                await self.complete(connection)
        faults = [("chunk_without_vector", missing), ("vector_without_chunk", extra), ("graph_missing", int(behind))]
        return [Fault(kind, about, count) for kind, count in faults if count]


def _as_arrays(rows: Sequence[asyncpg.Record]) -> tuple[Numbers, NDArray[np.float32]]:
    return (
        np.array([row["number"] for row in rows], np.int64),
        np.array([row["cosine"] for row in rows], np.float32),
    )


def _copied(numbers: Numbers, documents: Numbers, vectors: Vectors) -> bytes:
    """Rows in the binary format of COPY, all fields big-endian; halfvec is its dimension, a zero, and float16s."""
    dimension = vectors.shape[1]
    row = np.dtype(
        [
            ("fields", ">i2"),
            ("size_1", ">i4"),
            ("number", ">i8"),
            ("size_2", ">i4"),
            ("document", ">i8"),
            ("size_3", ">i4"),
            ("dimension", ">i2"),
            ("zero", ">i2"),
            ("values", ">f2", (dimension,)),
        ]
    )
    rows = np.zeros(len(numbers), row)
    rows["fields"], rows["size_1"], rows["size_2"], rows["size_3"] = 3, 8, 8, 4 + 2 * dimension
    rows["number"], rows["document"], rows["dimension"], rows["values"] = numbers, documents, dimension, vectors
    return HEADER + rows.tobytes() + TRAILER
