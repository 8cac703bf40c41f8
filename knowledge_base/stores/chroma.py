"""Vectors in a Chroma server: a collection for each index. What exists is said by PostgreSQL, here as everywhere.

Vectors are sent before the transaction of their chunks commits and removed after it, so the collection holds at least
what is there; whatever else it still holds is found by nobody, since every answer is held against the rows. A copy of
each vector is kept in PostgreSQL as float16: a filter is applied to these, and the collection is mended from them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from knowledge_base.embedding.base import Vectors
from knowledge_base.errors import InvalidRequest, KnowledgeError, StoreUnreachable
from knowledge_base.filters import Filter
from knowledge_base.stores.base import Fault
from knowledge_base.stores.connections import UNHURRIED_S, Connection, Pool, reading, writing
from knowledge_base.stores.selection import fitting, those_that_fit
from knowledge_base.stores.vectors import EXACT, Index, Numbers

if TYPE_CHECKING:
    from chromadb.api import AsyncClientAPI
    from chromadb.api.models.AsyncCollection import AsyncCollection

TIMEOUT_S = 60.0
AT_ONCE = 1000  # vectors of one request
GRAPH = {"hnsw": {"space": "cosine", "max_neighbors": 16, "ef_construction": 64, "ef_search": 150}}
MEND = "run `outcrop kb verify --repair`"

Found: TypeAlias = tuple[Numbers, NDArray[np.float32]]
Loop = asyncio.AbstractEventLoop

# Connections belong to the loop they were made in.
_clients: WeakKeyDictionary[Loop, dict[str, AsyncClientAPI]] = WeakKeyDictionary()


class ChromaVectors:
    """The vectors of one index, in the collection `outcrop-<id of the base>-<number of the index>`."""

    def __init__(self, index: Index, base_id: str, url: str | None) -> None:
        self._index = index
        self._url = address(url)
        self._name = f"outcrop-{base_id}-{index.number}"

    async def create(self, connection: Connection) -> None:
        """The collection, empty."""
        async with answering(self._url) as client:
            await client.get_or_create_collection(self._name, embedding_function=None, configuration=GRAPH)  # type: ignore[arg-type]

    async def drop(self, connection: Connection) -> None:
        """Remember that the collection is to go."""
        await connection.execute("INSERT INTO kb_orphans (collection, number) VALUES ($1, 0)", self._name)

    async def add(self, connection: Connection, numbers: Numbers, documents: Numbers, vectors: Vectors) -> None:
        """To PostgreSQL and to Chroma; the latter is told even if the transaction fails, and nobody finds it then."""
        packed = vectors.astype("<f2")
        rows = zip(repeat(self._index.number), numbers.tolist(), map(np.ndarray.tobytes, packed), strict=False)
        await connection.copy_records_to_table(
            "kb_vector_copies", records=rows, columns=["index", "number", "vector"], timeout=UNHURRIED_S
        )
        await self._send(numbers, vectors)

    async def _send(self, numbers: Numbers, vectors: NDArray[np.floating[Any]]) -> None:
        async with self._collection() as collection:
            for part in _parts(len(numbers)):
                ids = [str(each) for each in numbers[part].tolist()]
                await collection.upsert(ids=ids, embeddings=vectors[part].astype(np.float32))

    async def remove(self, connection: Connection, numbers: Sequence[int]) -> None:
        """From PostgreSQL, where it is noted that Chroma is still to be told."""
        sql = "DELETE FROM kb_vector_copies WHERE index = $1 AND number = ANY($2::bigint[])"
        await connection.execute(sql, self._index.number, list(numbers), timeout=UNHURRIED_S)
        sql = "INSERT INTO kb_orphans (collection, number) SELECT $1, unnest($2::bigint[]) ON CONFLICT DO NOTHING"
        await connection.execute(sql, self._name, list(numbers), timeout=UNHURRIED_S)

    async def committed(self, pool: Pool) -> None:
        """Tell Chroma, also of any collection that has still to go. If it is away, the next that writes does so."""
        sql = "SELECT DISTINCT collection FROM kb_orphans WHERE collection = $1 OR number = 0"
        try:
            async with reading(pool) as connection:
                waiting = [row["collection"] for row in await connection.fetch(sql, self._name)]
            for name in waiting:
                await self._remove_orphans(pool, name)
        except StoreUnreachable:
            return

    async def _remove_orphans(self, pool: Pool, name: str) -> int:
        sql = "SELECT number FROM kb_orphans WHERE collection = $1 ORDER BY number"
        async with reading(pool) as connection:
            numbers = [row["number"] for row in await connection.fetch(sql, name)]
        if not numbers:
            return 0
        from chromadb.errors import NotFoundError

        async with answering(self._url) as client:
            try:
                if numbers[0] == 0:
                    await client.delete_collection(name)
                else:
                    collection = await client.get_collection(name, embedding_function=None)
                    for part in _parts(len(numbers)):
                        await collection.delete(ids=[str(each) for each in numbers[part]])
            except NotFoundError:
                pass  # gone with its collection
        async with reading(pool) as connection:
            sql = "DELETE FROM kb_orphans WHERE collection = $1 AND number = ANY($2::bigint[])"
            await connection.execute(sql, name, numbers)
        return len(numbers)

    async def loading(self, connection: Connection, chunks: int, added: int) -> None:
        """Chroma builds its graph as it likes."""

    async def complete(self, connection: Connection) -> None:
        """Chroma builds its graph as it likes."""

    async def is_behind(self, connection: Connection) -> bool:
        """Never."""
        return False

    async def nearest(self, pool: Pool, vector: NDArray[np.float32], k: int, where: Filter | None) -> Found:
        """See `VectorIndex`. A filter that few chunks fit is answered by their copies, without Chroma."""
        async with reading(pool) as connection:
            sql = "SELECT chunks FROM kb_indexes WHERE number = $1 AND state = 'live'"
            chunks = await connection.fetchval(sql, self._index.number)
            if not chunks:
                return np.empty(0, np.int64), np.empty(0, np.float32)
            few = (
                None if where is None else await fitting(connection, self._index.base, self._index.number, where, EXACT)
            )
            if few is not None:
                return _best([await self._compare(connection, vector, few)], k)
        found = await self._ask(pool, vector, k, where, chunks)
        if len(found[0]) < min(k, chunks):
            return await self._compare_all(pool, vector, k, where)
        return found

    async def _ask(self, pool: Pool, vector: NDArray[np.float32], k: int, where: Filter | None, chunks: int) -> Found:
        """The nearest of Chroma's that are there and fit; it is asked for more until they are k or all."""
        wanted = k + 20 if where is None else 8 * k + 100
        while True:
            async with self._collection() as collection:
                answer = await collection.query(
                    query_embeddings=[vector.tolist()],
                    n_results=min(wanted, chunks),
                    include=["distances"],
                )
            numbers = np.array([int(each) for each in answer["ids"][0]], np.int64)
            cosines = 1 - np.array((answer["distances"] or [[]])[0], np.float32)
            async with reading(pool) as connection:
                base, index = self._index.base, self._index.number
                fit = await those_that_fit(connection, base, index, where, numbers.tolist())
            keep = np.array([each in fit for each in numbers.tolist()], bool)
            if keep.sum() >= k or len(numbers) < wanted or wanted >= chunks or wanted >= EXACT:
                return _best([(numbers[keep], cosines[keep])], k)
            wanted *= 4

    async def _compare(self, connection: Connection, vector: NDArray[np.float32], numbers: Numbers) -> Found:
        sql = "SELECT number, vector FROM kb_vector_copies WHERE index = $1 AND number = ANY($2::bigint[])"
        rows = await connection.fetch(sql, self._index.number, numbers.tolist())
        held = np.frombuffer(b"".join(row["vector"] for row in rows), "<f2").astype(np.float32)
        found = held.reshape(len(rows), len(vector)) @ vector.astype(np.float32)
        return np.array([row["number"] for row in rows], np.int64), found

    async def _compare_all(self, pool: Pool, vector: NDArray[np.float32], k: int, where: Filter | None) -> Found:
        """With every copy, some at a time: where Chroma has lost some, or what fits lies far away."""
        best: list[Found] = []
        async for _, numbers in self._copies(pool, ids_only=True):
            async with reading(pool) as connection:
                fit = await those_that_fit(connection, self._index.base, self._index.number, where, numbers.tolist())
                some = numbers[np.array([each in fit for each in numbers.tolist()], bool)]
                best = [_best([*best, await self._compare(connection, vector, some)], k)]
        return best[0] if best else (np.empty(0, np.int64), np.empty(0, np.float32))

    async def _copies(
        self, pool: Pool, *, ids_only: bool = False
    ) -> AsyncIterator[tuple[NDArray[np.float16], Numbers]]:
        after = 0
        column = "''::bytea AS vector" if ids_only else "vector"
        sql = f"SELECT number, {column} FROM kb_vector_copies WHERE index = $1 AND number > $2 ORDER BY number LIMIT $3"
        while True:
            async with reading(pool) as connection:
                rows = await connection.fetch(sql, self._index.number, after, 5 * AT_ONCE, timeout=UNHURRIED_S)
            if not rows:
                return
            held = np.frombuffer(b"".join(row["vector"] for row in rows), "<f2").reshape(len(rows), -1)
            yield held, np.array([row["number"] for row in rows], np.int64)
            after = rows[-1]["number"]

    async def verify(self, pool: Pool, *, repair: bool) -> list[Fault]:
        """Chunks with their copies, and copies with the collection."""
        async with writing(pool, self._index.base) as connection:
            sql = "SELECT number FROM kb_chunks WHERE index = $1 ORDER BY number"
            chunks = _numbers(await connection.fetch(sql, self._index.number, timeout=UNHURRIED_S))
            sql = "SELECT number FROM kb_vector_copies WHERE index = $1 ORDER BY number"
            copies = _numbers(await connection.fetch(sql, self._index.number, timeout=UNHURRIED_S))
            # Writers wait: what they have sent and not yet committed would look like too much.
            held = await self._held()
            missing, extra = np.setdiff1d(copies, held), np.setdiff1d(held, chunks)
            stray = np.setdiff1d(copies, chunks)
            if repair:
                await self.create(connection)
                await self._mend(connection, np.intersect1d(missing, chunks), extra)
                sql = "DELETE FROM kb_vector_copies WHERE index = $1 AND number = ANY($2::bigint[])"
                await connection.execute(sql, self._index.number, stray.tolist())
            sql = "SELECT DISTINCT collection FROM kb_orphans"
            waiting = [row["collection"] for row in await connection.fetch(sql)]
        if repair:
            for name in waiting:
                await self._remove_orphans(pool, name)
        faults = [
            ("chunk_without_vector", self._name, len(np.setdiff1d(chunks, copies)) + len(missing)),
            ("vector_without_chunk", self._name, len(extra) + len(stray)),
            ("removal_waiting", "Chroma", len(waiting)),
        ]
        return [Fault(kind, about, count) for kind, about, count in faults if count]

    async def _mend(self, connection: Connection, missing: Numbers, extra: Numbers) -> None:
        sql = "SELECT number, vector FROM kb_vector_copies WHERE index = $1 AND number = ANY($2::bigint[])"
        for part in _parts(len(missing)):
            rows = await connection.fetch(sql, self._index.number, missing[part].tolist())
            held = np.frombuffer(b"".join(row["vector"] for row in rows), "<f2").reshape(len(rows), -1)
            await self._send(_numbers(rows), held)
        async with self._collection() as collection:
            for part in _parts(len(extra)):
                await collection.delete(ids=[str(each) for each in extra[part].tolist()])

    async def _held(self) -> Numbers:
        """What the collection holds; nothing when there is none."""
        from chromadb.errors import NotFoundError

        found: list[int] = []
        async with answering(self._url, UNHURRIED_S) as client:
            try:
                collection = await client.get_collection(self._name, embedding_function=None)
            except NotFoundError:
                return np.empty(0, np.int64)
            while page := (await collection.get(limit=5 * AT_ONCE, offset=len(found), include=[]))["ids"]:
                found.extend(int(each) for each in page)
        return np.unique(np.array(found, np.int64))

    @asynccontextmanager
    async def _collection(self) -> AsyncIterator[AsyncCollection]:
        from chromadb.errors import NotFoundError

        async with answering(self._url) as client:
            try:
                yield await client.get_collection(self._name, embedding_function=None)
            except NotFoundError as error:
                raise StoreUnreachable(f"Chroma has no collection {self._name}, or lost it: {MEND}") from error


def address(url: str | None) -> str:
    """The URL of a server; `InvalidRequest` for a folder, which Chroma could open inside this process."""
    if not url:
        raise InvalidRequest("KB_CHROMA_URL", "is needed with KB_STORE=chroma, for instance http://127.0.0.1:8001")
    if urlsplit(url).scheme not in ("http", "https"):
        raise InvalidRequest(
            "KB_CHROMA_URL",
            "must be the http:// or https:// URL of a Chroma server: a folder that each process opens by itself would "
            "show one process what another has deleted; run `chroma run --path <folder>` and name its URL",
        )
    return url


@asynccontextmanager
async def answering(url: str, seconds: float = TIMEOUT_S) -> AsyncIterator[AsyncClientAPI]:
    """The client of this URL; `StoreUnreachable` when Chroma does not answer, or not in time."""
    await asyncio.to_thread(_imported)  # takes a second
    from chromadb.errors import ChromaError, NotFoundError
    from httpx import HTTPError

    try:
        async with asyncio.timeout(seconds):
            yield await _client(url)
    except (KnowledgeError, NotFoundError):
        raise
    except (HTTPError, ChromaError, TimeoutError, ValueError) as error:
        raise StoreUnreachable(f"Chroma does not answer ({type(error).__name__}): check KB_CHROMA_URL") from error


def _imported() -> None:
    try:
        import chromadb  # noqa: F401
    except ImportError as error:
        raise StoreUnreachable("KB_STORE=chroma needs the package chromadb-client: install outcrop[chroma]") from error


async def _client(url: str) -> AsyncClientAPI:
    import chromadb
    from chromadb.config import Settings

    known = _clients.setdefault(asyncio.get_running_loop(), {})
    if url not in known:
        parts = urlsplit(url)
        known[url] = await chromadb.AsyncHttpClient(
            host=parts.hostname or "",
            port=parts.port or (443 if parts.scheme == "https" else 80),
            ssl=parts.scheme == "https",
            settings=Settings(anonymized_telemetry=False),
        )
    return known[url]


def _parts(count: int) -> Iterator[slice]:
    return (slice(begin, begin + AT_ONCE) for begin in range(0, count, AT_ONCE))


def _numbers(rows: Sequence[Any]) -> Numbers:
    return np.array([row["number"] for row in rows], np.int64)


def _best(found: Sequence[Found], k: int) -> Found:
    numbers, cosines = np.concatenate([each for each, _ in found]), np.concatenate([each for _, each in found])
    order = np.lexsort((numbers, -cosines))[:k]
    return numbers[order], cosines[order]
