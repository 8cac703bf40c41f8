"""One document from a source to chunks, or why it does not get there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from knowledge_base.chunking import ChunkingConfig, chunk
from knowledge_base.documents import Chunk, Found, Parsed, Raw
from knowledge_base.errors import Refused
from knowledge_base.parsing import Parser
from knowledge_base.sources.base import NotChanged, Source
from knowledge_base.sources.uploads import Uploads
from knowledge_base.stores.base import Known

MAX_DOC_ID = 1000


@dataclass(frozen=True, slots=True)
class Same:
    """A document that is stored as it is."""

    found: Found
    known: Known
    stamp: str


@dataclass(frozen=True, slots=True)
class Left:
    """A document that is not taken, and why."""

    found: Found
    why: Refused


@dataclass(frozen=True, slots=True)
class Draft:
    """A document that is ready but for its vectors."""

    doc_id: str
    raw: Raw
    parsed: Parsed
    chunks: Sequence[Chunk]
    held: int  # bytes of the budget


Step = Same | Left | Draft


class Preparer:
    """Reads, parses and cuts documents of one source."""

    def __init__(self, source: Source, parser: Parser, chunking: ChunkingConfig) -> None:
        self._source = source
        self._parser = parser
        self._chunking = chunking

    async def prepare(self, found: Found, known: Known | None, held: int, *, full: bool) -> Step:
        """`known` is what is stored of it; `full`: read and cut it, whatever says that it has not changed."""
        try:
            _check_id(found.doc_id)
            raw = await self._source.read(found, known_stamp=known.stamp if known and not full else "")
            if known and not full and known.uri == found.uri and known.content_hash == raw.content_hash:
                return Same(found, known, raw.found.stamp)
            parsed = await self._parser.parse(raw)
            doc_id = self._doc_id(found, parsed)
            chunks = await asyncio.to_thread(chunk, parsed, self._chunking)
        except NotChanged:
            assert known is not None
            return Same(found, known, known.stamp)
        except Refused as refused:
            return Left(found, refused)
        return Draft(doc_id, raw, parsed, chunks, held)

    def _doc_id(self, found: Found, parsed: Parsed) -> str:
        """As its front matter says, unless it came with one."""
        if parsed.doc_id is None or isinstance(self._source, Uploads):
            return found.doc_id
        _check_id(parsed.doc_id)
        return parsed.doc_id


def _check_id(doc_id: str) -> None:
    if not 0 < len(doc_id) <= MAX_DOC_ID or not doc_id.isprintable() or doc_id != doc_id.strip():
        raise Refused(
            "bad_name", f"{doc_id[:60]!r} cannot be a document's name; 1 to {MAX_DOC_ID} printable characters"
        )
