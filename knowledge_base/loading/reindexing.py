"""A new index beside the one that answers, of the documents that are stored; it takes over when it is complete."""

from __future__ import annotations

import asyncio
import time

from knowledge_base.bases import KnowledgeBases
from knowledge_base.chunking import chunk
from knowledge_base.documents import embedded_text
from knowledge_base.errors import EmbeddingFailed, KnowledgeError, NotFound
from knowledge_base.loading.report import Report
from knowledge_base.loading.running import Watch
from knowledge_base.stores.catalog import BaseRow
from knowledge_base.stores.reindexing import Reindex, ToIndex, reindexing

SOURCE = "the index"
BATCH = 50  # documents
BATCH_CHARACTERS = 2_000_000


async def reindex(bases: KnowledgeBases, base: BaseRow, watch: Watch) -> Report:
    """Cut and embed all documents anew, as the configuration of `bases` says. Killed, it is gone on with next time."""
    report = Report(SOURCE, is_listed=False)
    began = time.monotonic()
    embedder, config = bases.embedder(base.tenant), bases.config
    try:
        model = await embedder.identify() if embedder else None
        opened = reindexing(bases.pool, base, model, config.chunking.as_json(), config.store, config.chroma_url)
        async with opened as new:
            without_text = await _fill(new, bases, base.tenant, report, watch)
            while not await new.finish():  # documents that were loaded meanwhile
                again = await _fill(new, bases, base.tenant, report, watch)
                if lost := without_text & again:
                    raise NotFound(
                        f"the stored text of document {min(lost)!r} is lost: load its source with --full, or delete it"
                    )
                without_text = again
    except KnowledgeError as error:
        report.error = error
    report.seconds = time.monotonic() - began
    watch(report)
    return report


async def _fill(new: Reindex, bases: KnowledgeBases, tenant: str, report: Report, watch: Watch) -> set[str]:
    """Put what is missing; which documents had no text, since they were deleted just now or it is lost."""
    batch: list[ToIndex] = []
    without_text = set()
    async for doc_id in new.missing():
        try:
            batch.append(await new.parsed(doc_id))
        except NotFound:
            without_text.add(doc_id)
            continue
        report.counts.found += 1
        if len(batch) >= BATCH or sum(len(each.parsed.text) for each in batch) >= BATCH_CHARACTERS:
            await _put(new, bases, tenant, batch, report)
            watch(report)
            batch = []
    if batch:
        await _put(new, bases, tenant, batch, report)
    report.is_listed = True
    watch(report)
    return without_text


async def _put(new: Reindex, bases: KnowledgeBases, tenant: str, batch: list[ToIndex], report: Report) -> None:
    config, embedder = bases.config.chunking, bases.embedder(tenant)
    cut = [await asyncio.to_thread(chunk, each.parsed, config) for each in batch]
    texts = [
        embedded_text(each.parsed.title, piece)
        for each, pieces in zip(batch, cut, strict=True)
        for piece in pieces
    ]  # fmt: skip
    try:
        vectors = await embedder.documents(texts) if embedder and texts else None
    except EmbeddingFailed as error:
        if len(batch) == 1:
            raise type(error)(f"{batch[0].doc_id}: {error}") from error
        for each in batch:  # to name the one, and keep the others
            await _put(new, bases, tenant, [each], report)
        return
    done, end = [], 0
    for each, pieces in zip(batch, cut, strict=True):
        begin, end = end, end + len(pieces)
        done.append((each, pieces, None if vectors is None else vectors[begin:end]))
    await new.put(done)
    report.counts.updated += len(batch)
    report.counts.chunks += len(texts)
