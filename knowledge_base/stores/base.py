"""What a store of one knowledge base does. One contract suite holds for every implementation.

A store is bound to a tenant and a knowledge base when it is opened; no method takes a tenant, so no caller can forget
one. Documents, chunks and words are in PostgreSQL whatever the store; only vectors may be elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from knowledge_base.documents import Chunk, Parsed, Raw
from knowledge_base.embedding.base import EmbeddingModel, Vectors
from knowledge_base.filters import Filter

DocumentState = Literal["live", "deleted"]


@dataclass(frozen=True, slots=True)
class Ready:
    """A document with all its stages done, to be stored whole or not at all. `vectors`: one row per chunk."""

    source: str  # name of the source, for instance "content" or "s3://bucket/prefix"
    doc_id: str
    raw: Raw
    parsed: Parsed
    chunks: Sequence[Chunk]
    vectors: Vectors | None  # None: the knowledge base has no embedding model


@dataclass(frozen=True, slots=True)
class Known:
    """What a sync has to know of a document that was loaded before."""

    doc_id: str
    source: str
    stamp: str
    content_hash: str
    version: int
    state: DocumentState
    uri: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A document as the API shows it. `version` counts from 1, and grows with each change and deletion."""

    doc_id: str
    source: str
    uri: str
    title: str
    media_type: str
    version: int
    state: DocumentState
    attributes: dict[str, Any]
    size: int  # bytes of the raw content
    characters: int  # of the parsed text
    chunks: int
    content_hash: str
    loaded_at: datetime
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hits:
    """Chunks by falling score, of one leg. `chunks` are the store's numbers, int64; `scores` float32, same length.

    Of words, `coverage` says which share of the query's words each chunk holds, weighed by IDF; a word that no chunk
    holds counts as the rarest. It is what fusion goes by. `known` is the share of the query's words, without function
    words, that any chunk of the base holds, whatever the filter; 1 when there are none.
    """

    chunks: NDArray[np.int64]
    scores: NDArray[np.float32]
    coverage: NDArray[np.float32] | None = None
    known: float = 1.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A live chunk with its document, as `Store.read` returns it."""

    number: int
    key: str
    doc_id: str
    version: int
    uri: str
    title: str
    section: str
    page: int | None
    start: int
    end: int
    text: str
    attributes: dict[str, Any]
    parent: tuple[int, int] | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that `verify` found: a stable word, what it is about, and how many."""

    kind: str  # chunk_without_vector, vector_without_chunk, vector_of_deleted, count_differs, …
    about: str
    count: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What there is: for `status`."""

    knowledge_base: str
    store: str
    model: EmbeddingModel | None
    chunking: dict[str, Any]
    documents: int
    deleted: int
    chunks: int
    changed_at: datetime | None


class Store(Protocol):
    """Documents, chunks, words and vectors of one knowledge base of one tenant."""

    async def put(self, documents: Sequence[Ready]) -> None:
        """Replace these documents by these versions, in one transaction: all of them or, on any error, none.

        A document that is there with the same content hash keeps its version and changes nothing. `Refused`
        (duplicate), and nothing has happened, when one is a live document of another source.
        """
        ...

    async def restamp(self, stamps: Sequence[tuple[str, str]]) -> None:
        """New stamps of live documents, by doc_id; what they hold has not changed, and their version stays."""
        ...

    def bulk(self) -> AbstractAsyncContextManager[None]:
        """While it is open, `put` may leave the vector index behind; it is complete when it closes.

        Searches are right all the while, at worst slower. Only worth it for thousands of chunks.
        """
        ...

    async def mend(self) -> None:
        """Complete what a bulk load left behind that was killed; cheap when there is nothing to do."""
        ...

    async def delete(self, doc_ids: Sequence[str]) -> int:
        """Delete truly: raw, parsed, chunks, words and vectors go; a tombstone without content stays. How many."""
        ...

    def known(self, source: str | None = None) -> AsyncIterator[Known]:
        """All documents, tombstones too, in order of doc_id; streamed."""
        ...

    async def documents(
        self,
        *,
        after: str = "",
        limit: int = 100,
        state: DocumentState | None = "live",
        where: Filter | None = None,
        prefix: str = "",
    ) -> list[Document]:
        """A page of documents in order of doc_id, beginning after `after`; only those whose id begins with `prefix`."""
        ...

    async def document(self, doc_id: str) -> Document:
        """One document; `NotFound`."""
        ...

    async def stage(self, doc_id: str, stage: Literal["raw", "parsed", "chunks"]) -> Any:
        """A stored stage: `bytes`, `str` or `list[Stored]`. `NotFound`."""
        ...

    async def by_word(self, query: str, k: int, where: Filter | None = None) -> Hits:
        """The k best by BM25. Fewer when fewer hold any of the words."""
        ...

    async def by_vector(self, vector: NDArray[np.float32], k: int, where: Filter | None = None) -> Hits:
        """The k nearest by cosine; k of them whenever k chunks fit the filter. Scores are cosines."""
        ...

    async def read(self, chunks: Sequence[int]) -> list[Stored]:
        """These chunks in this order; those that have gone meanwhile are left out."""
        ...

    async def parsed_span(self, doc_id: str, start: int, end: int, version: int | None = None) -> str:
        """A piece of the parsed text, for parents of hierarchical chunks; `NotFound` when that is another version."""
        ...

    async def summary(self) -> Summary:
        """What there is."""
        ...

    async def verify(self, *, repair: bool = False) -> list[Fault]:
        """Compare every stage with the next; with `repair`, mend what can be mended. Empty: all is well."""
        ...
