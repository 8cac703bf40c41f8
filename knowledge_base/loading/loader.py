"""One run: list, read, parse, cut, embed, store, and then delete what is gone. All of it overlaps.

Documents go through in the order of the list. Each is stored whole or not at all, so a run that was killed is gone on
with by the next one: what it stored is known by stamp and hash, what it embedded by the cache of vectors.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import AsyncExitStack

import asyncpg

from knowledge_base.bases import KnowledgeBase
from knowledge_base.documents import Found, embedded_text
from knowledge_base.embedding.base import Vectors
from knowledge_base.errors import (
    EmbeddingFailed,
    IndexMismatch,
    KnowledgeError,
    Refused,
    SourceUnavailable,
    StoreUnreachable,
    TextTooLong,
)
from knowledge_base.loading.budget import Budget
from knowledge_base.loading.preparing import Draft, Left, Preparer, Same, Step
from knowledge_base.loading.register import Register
from knowledge_base.loading.report import Outcome, Problem, Report
from knowledge_base.parsing import Limits, Parser
from knowledge_base.sources.base import Source
from knowledge_base.sources.uploads import Uploads
from knowledge_base.stores.base import Known, Ready

LISTED_AHEAD = 20_000
AT_ONCE = 8  # documents that are read and parsed
BYTES_AT_ONCE = 64_000_000
UNKNOWN_SIZE = 1_000_000
BATCH_DOCUMENTS = 100
BATCH_CHUNKS = 500
BATCH_BYTES = 16_000_000
BATCH_WAIT_S = 0.1
STORED_AT_ONCE = 2  # batches: one is prepared while another is written
# So many changed documents are worth leaving the vector index to the end.
BULK_DOCUMENTS = 300
MAX_PROBLEMS = 1000
DELETED_AT_ONCE = 500
STAMPED_AT_ONCE = 500
# Failures in a row, each of a document by itself, that are no longer taken for the document's fault.
IN_A_ROW = 3


_Steps = asyncio.Queue[asyncio.Task[Step] | Step | None]
_Batch = list[Draft]
_Embedded = list[tuple[Draft, Vectors | None]]
# Of some addresses those that a source has.
StillThere = Callable[[Collection[str]], Awaitable[Collection[str]]]


class Loader:
    """Brings one knowledge base to what a source holds. `limits` are those of single documents."""

    def __init__(self, base: KnowledgeBase, limits: Limits) -> None:
        self._base = base
        self._limits = limits

    async def sync(
        self,
        source: Source,
        *,
        prune: bool = True,
        full: bool = False,
        delete_limit_percent: float = 30.0,
        on_progress: Callable[[Report], None] | None = None,
        still_there: StillThere | None = None,
    ) -> Report:
        """One run over `source`, which it closes. What is wrong with a document is in the report, as is its end.

        Args:
            source: Whose `name` decides which stored documents are its own.
            prune: Delete documents of this source that it no longer has.
            full: Read, cut and compare every document, also where stamp and content have not changed: what is missing
                of it in the store is made anew.
            delete_limit_percent: Should more of the source's documents be gone, none is deleted (100: never mind).
            on_progress: Called with the report as it grows; `Report.is_listed` says that `counts.found` is final.
            still_there: For a source that lists a part of itself: of stored addresses, those it has all the same.
        """
        async with Parser(self._limits) as parser:
            run = _Run(self._base, parser, source, full, on_progress or (lambda report: None), still_there)
            try:
                return await run.through(prune, delete_limit_percent)
            finally:
                await source.close()


class _Run:
    def __init__(
        self,
        base: KnowledgeBase,
        parser: Parser,
        source: Source,
        full: bool,
        on_progress: Callable[[Report], None],
        still_there: StillThere | None,
    ) -> None:
        self._base = base
        self._store = base.store
        self._preparer = Preparer(source, parser, base.chunking)
        self._source = source
        self._full = full
        self._on_progress = on_progress
        self._still_there = still_there
        self._report = Report(source.name)
        self._counts = self._report.counts
        self._register = Register(source.name)
        self._budget = Budget(BYTES_AT_ONCE)
        self._unlisted: SourceUnavailable | None = None
        self._later: list[tuple[Found, str]] = []  # and the address that its id was loaded from
        self._is_last = False
        self._changed = 0
        self._failed_in_a_row = 0
        self._bulk = AsyncExitStack()
        self._is_bulk = False

    async def through(self, prune: bool, delete_limit_percent: float) -> Report:
        began = time.monotonic()
        try:
            self._register = await self._stored()
            async with self._bulk:
                if self._register.is_first:
                    await self._begin_bulk()
                await self._all_documents(self._source.list())
                if self._later:
                    await self._all_later()
            if not self._is_bulk:
                await self._store.mend()  # what a load that was killed has left undone
            if self._unlisted:
                raise self._unlisted
            if prune:
                await self._delete_gone(delete_limit_percent)
        except KnowledgeError as error:
            self._report.error = error
        except asyncpg.PostgresError as error:
            self._report.error = _refused_by_postgres(error)
        self._report.seconds = time.monotonic() - began
        self._on_progress(self._report)
        return self._report

    async def _stored(self) -> Register:
        if isinstance(self._source, Uploads):
            return await Register.among(self._store, self._source.name, self._source.doc_ids)
        return await Register.of(self._store, self._source.name)

    async def _begin_bulk(self) -> None:
        if not self._is_bulk:
            self._is_bulk = True
            await self._bulk.enter_async_context(self._store.bulk())

    async def _all_later(self) -> None:
        """Documents that name an id which is stored from elsewhere: now it is known what became of that one."""
        rivals = {uri for _, uri in self._later}
        if self._unlisted:
            self._register.keep(rivals)
        elif self._still_there:
            self._register.keep(await self._still_there(rivals))
        self._is_last = True
        await self._all_documents(_each(found for found, _ in self._later))

    async def _all_documents(self, listing: AsyncIterator[Found]) -> None:
        found: asyncio.Queue[Found | None] = asyncio.Queue(LISTED_AHEAD)
        steps: _Steps = asyncio.Queue(AT_ONCE)
        drafts: asyncio.Queue[_Batch | None] = asyncio.Queue(1)
        embedded: asyncio.Queue[_Embedded | None] = asyncio.Queue(1)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._list(listing, found))
                tasks.create_task(self._prepare_all(found, steps, tasks))
                tasks.create_task(self._gather(steps, drafts, tasks))
                tasks.create_task(self._embed_all(drafts, embedded))
                for _ in range(STORED_AT_ONCE):
                    tasks.create_task(self._store_all(embedded))
        except* (KnowledgeError, asyncpg.PostgresError) as errors:
            raise _first(errors) from errors

    # --- listing, reading, parsing, cutting

    async def _list(self, listing: AsyncIterator[Found], found: asyncio.Queue[Found | None]) -> None:
        try:
            async for each in listing:
                self._register.listed(each)
                self._counts.found += not self._is_last
                await found.put(each)
        except SourceUnavailable as error:
            self._unlisted = error  # what it did list is loaded; nothing is deleted
        self._report.is_listed = True
        await found.put(None)

    async def _prepare_all(
        self,
        found: asyncio.Queue[Found | None],
        steps: _Steps,
        tasks: asyncio.TaskGroup,
    ) -> None:
        while each := await found.get():
            known = self._register.known(each)
            if known and not self._full and each.stamp and (known.uri, known.stamp) == (each.uri, each.stamp):
                await steps.put(Same(each, known, each.stamp))
                continue
            # Taken here, in turn: a document never waits for one behind it.
            size = UNKNOWN_SIZE if each.size is None else each.size
            await self._budget.take(size)
            await steps.put(tasks.create_task(self._prepare(each, known, size)))
        await steps.put(None)

    async def _prepare(self, found: Found, known: Known | None, held: int) -> Step:
        step = await self._preparer.prepare(found, known, held, full=self._full)
        if not isinstance(step, Draft):
            self._budget.give_back(held)
        return step

    # --- putting together what is stored at once

    async def _gather(
        self,
        steps: _Steps,
        drafts: asyncio.Queue[_Batch | None],
        tasks: asyncio.TaskGroup,
    ) -> None:
        batch: _Batch = []
        stamps: list[tuple[str, str]] = []
        step: Step | None
        coming = tasks.create_task(_next(steps))
        while True:
            # What is ready is not kept waiting for a document that takes long, nor is the room that it holds.
            ready, _ = await asyncio.wait({coming}, timeout=BATCH_WAIT_S if batch else None)
            if not ready:
                await drafts.put(batch)
                batch = []
                continue
            if (step := coming.result()) is None:
                break
            coming = tasks.create_task(_next(steps))
            self._settle(step, batch, stamps)
            if _is_full(batch):
                await drafts.put(batch)
                batch = []
            if len(stamps) >= STAMPED_AT_ONCE:
                await self._store.restamp(stamps)
                stamps = []
        if batch:
            await drafts.put(batch)
        if stamps:
            await self._store.restamp(stamps)
        await drafts.put(None)

    def _settle(self, step: Step, batch: _Batch, stamps: list[tuple[str, str]]) -> None:
        """In the order of the list, which decides whose an id is."""
        try:
            match step:
                case Left():
                    raise step.why
                case Same():
                    self._register.claim(step.known.doc_id, step.found.uri)
                    self._counts.unchanged += 1
                    if step.stamp != step.known.stamp:
                        stamps.append((step.known.doc_id, step.stamp))
                case Draft() if rival := self._rival(step):
                    self._budget.give_back(step.held)
                    self._later.append((step.raw.found, rival))
                case Draft():
                    self._register.claim(step.doc_id, step.raw.found.uri)
                    self._warn(step)
                    batch.append(step)
        except Refused as refused:
            if isinstance(step, Draft):
                self._budget.give_back(step.held)
            self._leave(step.raw.found if isinstance(step, Draft) else step.found, "refused", refused.reason, refused)
        self._on_progress(self._report)

    def _rival(self, draft: Draft) -> str | None:
        if self._is_last:
            return None
        is_whole = self._report.is_listed and self._unlisted is None and self._still_there is None
        return self._register.rival(draft.doc_id, draft.raw.found.uri, is_whole=is_whole)

    # --- vectors

    async def _embed_all(self, drafts: asyncio.Queue[_Batch | None], embedded: asyncio.Queue[_Embedded | None]) -> None:
        while batch := await drafts.get():
            done: _Embedded = []
            try:
                done = await self._embed(batch)
            except EmbeddingFailed as error:
                for draft in batch:
                    done += await self._embed_alone(draft, error if len(batch) == 1 else None)
            if done:
                await embedded.put(done)
        await embedded.put(None)

    async def _embed(self, batch: _Batch) -> _Embedded:
        if self._base.embedder is None:
            return [(draft, None) for draft in batch]
        texts = [embedded_text(draft.parsed.title, each) for draft in batch for each in draft.chunks]
        vectors = await self._base.embedder.documents(texts)
        ends = _running_totals(len(draft.chunks) for draft in batch)
        return [(draft, vectors[end - len(draft.chunks) : end]) for draft, end in zip(batch, ends, strict=True)]

    async def _embed_alone(self, draft: Draft, error: EmbeddingFailed | None) -> _Embedded:
        """One of a batch that could not be embedded together, unless it was alone in it and that is its `error`."""
        try:
            if error is not None:
                raise error
            done = await self._embed([draft])
        except TextTooLong as long:
            self._budget.give_back(draft.held)
            self._leave(draft.raw.found, "refused", "too_long", long)
            return []
        except EmbeddingFailed as failed:
            self._fail(draft, "embedding", failed)
            return []
        self._failed_in_a_row = 0
        return done

    # --- storing

    async def _store_all(self, embedded: asyncio.Queue[_Embedded | None]) -> None:
        while batch := await embedded.get():
            self._changed += len(batch)
            if self._changed >= BULK_DOCUMENTS:
                await self._begin_bulk()
            try:
                await self._put(batch)
            except (StoreUnreachable, IndexMismatch):
                raise
            except (asyncpg.PostgresError, KnowledgeError, ValueError):
                await self._put_one_by_one(batch)
            self._on_progress(self._report)
        embedded.put_nowait(None)  # for the others who wait

    async def _put_one_by_one(self, batch: _Embedded) -> None:
        for each in batch:
            try:
                await self._put([each])
            except (StoreUnreachable, IndexMismatch):
                raise
            except Refused as refused:  # it became another source's while it was on its way
                self._budget.give_back(each[0].held)
                self._leave(each[0].raw.found, "refused", refused.reason, refused)
            except (asyncpg.PostgresError, KnowledgeError, ValueError) as error:
                self._fail(each[0], "store", error)

    async def _put(self, batch: _Embedded) -> None:
        await self._store.put(
            [
                Ready(self._source.name, draft.doc_id, draft.raw, draft.parsed, draft.chunks, vectors)
                for draft, vectors in batch
            ]
        )
        self._failed_in_a_row = 0
        for draft, _ in batch:
            self._count(draft)
            self._budget.give_back(draft.held)

    def _count(self, draft: Draft) -> None:
        before = self._register.live(draft.doc_id)
        if before is None:
            self._counts.new += 1
        elif before.content_hash == draft.raw.content_hash:
            self._counts.unchanged += 1
            return
        else:
            self._counts.updated += 1
        self._counts.chunks += len(draft.chunks)

    # --- what was not taken

    def _leave(self, found: Found, outcome: Outcome, reason: str, why: Exception) -> None:
        kept = self._register.spare(found)
        if outcome == "refused":
            self._counts.refused += 1
        else:
            self._counts.failed += 1
        self._note(Problem(found.doc_id, found.uri, outcome, reason, _one_line(str(why)), kept))

    def _fail(self, draft: Draft, reason: str, why: Exception) -> None:
        """Another document's luck, unless it happens again and again: then it ends the run."""
        self._budget.give_back(draft.held)
        self._leave(draft.raw.found, "failed", reason, why)
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= IN_A_ROW:
            if isinstance(why, KnowledgeError):
                raise why
            raise _refused_by_postgres(why) from why

    def _warn(self, draft: Draft) -> None:
        for each in draft.parsed.warnings:
            self._note(Problem(draft.doc_id, draft.raw.found.uri, "warning", "warning", _one_line(each)))

    def _note(self, problem: Problem) -> None:
        if len(self._report.problems) < MAX_PROBLEMS:
            self._report.problems.append(problem)

    # --- deleting

    async def _delete_gone(self, percent: float) -> None:
        gone = self._register.gone(percent, listed=self._counts.found)
        for begin in range(0, len(gone), DELETED_AT_ONCE):
            self._counts.deleted += await self._store.delete(gone[begin : begin + DELETED_AT_ONCE])
            self._on_progress(self._report)


async def _each(found: Iterator[Found]) -> AsyncIterator[Found]:
    for each in found:
        yield each


async def _next(steps: _Steps) -> Step | None:
    step = await steps.get()
    return await step if isinstance(step, asyncio.Task) else step


def _is_full(batch: _Batch) -> bool:
    return (
        len(batch) >= BATCH_DOCUMENTS
        or sum(len(draft.chunks) for draft in batch) >= BATCH_CHUNKS
        or sum(draft.held for draft in batch) >= BATCH_BYTES
    )


def _running_totals(sizes: Iterator[int]) -> Iterator[int]:
    total = 0
    for size in sizes:
        total += size
        yield total


def _refused_by_postgres(error: Exception) -> StoreUnreachable:
    return StoreUnreachable(f"PostgreSQL refuses to go on: {_one_line(str(error))}")


def _first(errors: BaseExceptionGroup[Exception]) -> Exception:
    """The one that ended the run."""
    inner = errors.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
