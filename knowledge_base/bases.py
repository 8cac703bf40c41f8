"""Knowledge bases by tenant and name: the one way in, and what each is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import asyncpg

from knowledge_base.chunking import ChunkingConfig
from knowledge_base.embedding.base import Embedder
from knowledge_base.embedding.opening import EmbeddingConfig, keeping, make_embedder
from knowledge_base.errors import NotFound, StoreUnreachable
from knowledge_base.filters import Filter
from knowledge_base.retrieval.base import Mode, SearchResult
from knowledge_base.retrieval.retriever import Retriever
from knowledge_base.stores.base import Store
from knowledge_base.stores.catalog import BaseRow, create_base, find_base, list_bases
from knowledge_base.stores.connections import UNREACHABLE, Connection, Pool
from knowledge_base.stores.opening import StoreKind, open_store
from knowledge_base.stores.seen import Readable, Seen

DEFAULT = "default"
MAX_CONNECTIONS = 6
CONNECT_S = 10.0
NOTHING_READABLE = "No passage that you may read fits that question."


@dataclass(frozen=True, slots=True)
class KnowledgeConfig:
    """What the bases of this process are made with. `chunking` holds for documents that are loaded from now on."""

    store: StoreKind = "pgvector"
    chroma_url: str | None = None
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    chunking: ChunkingConfig = field(default_factory=ChunkingConfig)


@dataclass(frozen=True, slots=True)
class KnowledgeBase:
    """One base of one tenant, open. `id` is what Bedrock's clients call it: ten characters of A-Z0-9."""

    row: BaseRow
    store: Store
    embedder: Embedder | None
    chunking: ChunkingConfig
    retriever: Retriever

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self.row.tenant

    @property
    def id(self) -> str:
        """Ten characters of A-Z0-9."""
        return self.row.id

    @property
    def name(self) -> str:
        """As people call it; unique within the tenant."""
        return self.row.name

    async def search(
        self,
        query: str,
        *,
        k: int = 5,
        mode: Mode = "hybrid",
        where: Filter | None = None,
        min_score: float | None = None,
        readable: Readable | None = None,
    ) -> SearchResult:
        """The best passages; see `Retriever.search`.

        `readable` says by a document's attributes whether the caller may read it. The others are as if they were not
        there: they take no place, no threshold goes by them, and why there is nothing does not depend on them.
        """
        if readable is None:
            return await self.retriever.search(query, k=k, mode=mode, where=where, min_score=min_score)
        retriever = Retriever(Seen(self.store, readable), self.embedder)
        found = await retriever.search(query, k=k, mode=mode, where=where, min_score=min_score)
        if found.passages or found.reason == "empty_query":
            return found
        return replace(found, reason="no_match", explanation=NOTHING_READABLE)


class KnowledgeBases:
    """All bases of the deployment, made with one configuration. `pool` is its own: loads hold connections for long."""

    def __init__(self, pool: Pool, config: KnowledgeConfig | None = None) -> None:
        self.pool = pool
        self.config = config or KnowledgeConfig()
        self._embedder = make_embedder(self.config.embedding)

    async def open(self, tenant: str, name_or_id: str = DEFAULT, *, create: bool = False) -> KnowledgeBase:
        """The base. `NotFound` unless it is there or to be made, `IndexMismatch` when it needs another model.

        `EmbeddingFailed` when the model has to be asked who it is, and does not answer.
        """
        row = await find_base(self.pool, tenant, name_or_id)
        if row is None and not create:
            raise NotFound(f"there is no knowledge base {name_or_id!r}; `outcrop kb bases` lists those there are")
        row = row or await create_base(self.pool, tenant, name_or_id)
        config, embedder = self.config, self.embedder(tenant)
        model = await embedder.identify() if embedder else None
        store = await open_store(self.pool, row, model, config.chunking.as_json(), config.store, config.chroma_url)
        return KnowledgeBase(row, store, embedder, config.chunking, Retriever(store, embedder))

    def embedder(self, tenant: str) -> Embedder | None:
        """The configured model, which keeps a tenant's vectors where they cost something."""
        return keeping(self._embedder, self.config.embedding, self.pool, tenant)

    async def list(self, tenant: str) -> list[BaseRow]:
        """Those of a tenant, by name."""
        return await list_bases(self.pool, tenant)

    async def close(self) -> None:
        """Let go of the embedding model's connections."""
        if self._embedder:
            await self._embedder.close()


async def _as_it_is(connection: Connection) -> None:
    """Save a round trip each time: whoever sets something does it for a transaction, or undoes it (`jobs`)."""


@asynccontextmanager
async def opened(database_url: str, config: KnowledgeConfig | None = None) -> AsyncIterator[KnowledgeBases]:
    """Bases over a database with the newest schema; `StoreUnreachable` when there is none. Closes what it opened."""
    try:
        pool = await asyncpg.create_pool(
            database_url,
            min_size=0,
            max_size=MAX_CONNECTIONS,
            command_timeout=60.0,
            timeout=CONNECT_S,
            reset=_as_it_is,
        )
        async with pool.acquire():
            pass  # it connects when first asked
    except (*UNREACHABLE, asyncpg.PostgresError) as error:
        raise StoreUnreachable(f"PostgreSQL does not answer ({type(error).__name__}): check DATABASE_URL") from error
    except (ValueError, asyncpg.InterfaceError) as error:
        # Its text may hold the password.
        raise StoreUnreachable("DATABASE_URL is no address like postgresql://user:password@host:5432/name") from error
    bases = KnowledgeBases(pool, config)
    try:
        yield bases
    finally:
        await bases.close()
        await pool.close()
