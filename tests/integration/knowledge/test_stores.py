"""Stores of knowledge bases beside other writers, other processes and broken rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import urlsplit

import asyncpg
import numpy as np
import pytest
import pytest_asyncio

from knowledge_base.bases import opened
from knowledge_base.documents import embedded_text
from knowledge_base.embedding.cached import text_hash
from knowledge_base.errors import StoreUnreachable
from knowledge_base.filters import Leaf
from knowledge_base.stores import segments
from knowledge_base.stores.base import Ready
from knowledge_base.stores.catalog import BaseRow, create_base
from knowledge_base.stores.connections import WRITERS, Pool
from knowledge_base.stores.numbering import take_numbers
from knowledge_base.stores.opening import delete_base, open_store
from knowledge_base.stores.reindexing import reindexing
from tests.contract.knowledge_rows import MODEL, ready, unit


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(database_url, min_size=0, max_size=6) as pool:
        yield pool


@pytest_asyncio.fixture
async def base(pool: Pool) -> BaseRow:
    return await create_base(pool, "acme", "default")


async def test_words_go_though_another_wrote_amid_them(
    pool: Pool, base: BaseRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment around the numbers of one who was slower keeps its own words, and loses those that are deleted."""
    numbered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(pool: Pool, base: BaseRow, count: int) -> int:
        first = await take_numbers(pool, base, count)
        if count > 1:
            numbered.set()
            await go_on.wait()
        return first

    monkeypatch.setattr("knowledge_base.stores.store.take_numbers", slow)
    monkeypatch.setattr(segments, "MAX_PACKS", 3)
    store = await open_store(pool, base, MODEL, {})
    await store.put([ready("early", ["early common"])])
    large = asyncio.create_task(store.put([ready("large", [f"alpha{n} common" for n in range(9)])]))
    await numbered.wait()
    for name in ("bravo", "charlie", "delta"):
        await store.put([ready(name, [f"{name} common"])])
    go_on.set()
    await large
    sql = "SELECT first, last FROM kb_segments UNION ALL SELECT first, last FROM kb_packs"
    assert [tuple(each) for each in await pool.fetch(sql)] == [(1, 13), (2, 10)]
    await store.delete(["large"])
    assert await store.verify() == []
    await store.delete(["bravo"])
    assert len((await store.by_word("bravo", 5)).chunks) == 0
    assert await pool.fetchval("SELECT count(*) FROM kb_postings WHERE term LIKE 'brav%'") == 0
    assert await pool.fetchval("SELECT chunks FROM kb_segments") == 3
    assert await store.verify() == []


async def test_searches_go_on_while_many_wait_to_write(pool: Pool, base: BaseRow, database_url: str) -> None:
    """Somebody else, such as who builds a graph, keeps more writers waiting than the pool has connections."""
    store = await open_store(pool, base, MODEL, {})
    await store.put([ready("a", ["hello world"])])
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock($1, $2)", WRITERS, base.number)
            waiting = [asyncio.create_task(store.delete([f"none{n}"])) for n in range(2 * pool.get_max_size())]
            sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND classid = $1"
            async with asyncio.timeout(10):
                while not await other.fetchval(sql, WRITERS):
                    await asyncio.sleep(0.01)
                assert len((await store.by_word("hello", 3)).chunks) == 1
            assert not any(each.done() for each in waiting)
        assert await asyncio.gather(*waiting) == [0] * len(waiting)
    finally:
        await other.close()


async def test_no_connection_in_time_is_said(pool: Pool, base: BaseRow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than waited for without end."""
    monkeypatch.setattr("knowledge_base.stores.connections.ACQUIRE_S", 0.05)
    store = await open_store(pool, base, MODEL, {})
    held = [await pool.acquire() for _ in range(pool.get_max_size())]
    try:
        for call in (store.by_word("hello", 3), store.by_vector(unit(1), 3), store.delete(["a"])):
            with pytest.raises(StoreUnreachable):
                await call
    finally:
        for each in held:
            await pool.release(each)


async def test_a_document_that_is_not_indexed_hides_no_other(pool: Pool, base: BaseRow) -> None:
    """It is what `verify` says; a filter that it fits finds the rest."""
    store = await open_store(pool, base, MODEL, {})
    await store.put([ready(name, ["hello world"], {"t": "a"}) for name in ("lost", "there")])
    await pool.execute("DELETE FROM kb_parts p USING kb_documents d WHERE d.number = p.document AND d.doc_id = 'lost'")
    assert "document_not_indexed" in {each.kind for each in await store.verify()}
    hits = await store.by_word("hello", 3, Leaf("equals", "t", "a"))
    assert [each.doc_id for each in await store.read(hits.chunks.tolist())] == ["there"]
    assert len((await store.by_vector(unit(0, 0), 3, Leaf("equals", "t", "a"))).chunks) == 1


async def test_a_database_that_cannot_be_used_is_told_as_such(database_url: str) -> None:
    """Without the address, which holds a password."""
    parts = urlsplit(database_url)
    unknown = parts._replace(path="/no_such_database").geturl()
    nobody = parts._replace(netloc=f"nobody:hunter2@{parts.hostname}:{parts.port}").geturl()
    for url in (unknown, nobody, "mysql://u:hunter2@h/d", "postgresql://u:hunter2@h:port/d", "hunter2"):
        with pytest.raises(StoreUnreachable, match="DATABASE_URL") as told:
            async with opened(url):
                pass
        assert "hunter2" not in str(told.value)


async def test_vectors_that_were_kept_go_with_the_index_of_their_texts(pool: Pool, base: BaseRow) -> None:
    """But for texts that the new index has as well; these go with their document. NUL and all."""

    async def kept() -> int:
        return await pool.fetchval("SELECT count(*) FROM kb_embeddings WHERE tenant = 'acme'")  # type: ignore[no-any-return]

    async def put(document: Ready) -> None:
        await store.put([document])
        for each in document.chunks:
            await pool.execute(sql, "acme", text_hash(embedded_text(document.parsed.title, each)))

    sql = "INSERT INTO kb_embeddings (tenant, model, hash, vector) VALUES ($1, 'm/16', $2, '')"
    await pool.execute(sql, "rival", b"of somebody else")
    store = await open_store(pool, base, MODEL, {"kind": "sections"})
    made = ready("a", ["secret\x00words", "shared words"])
    await put(made)
    async with reindexing(pool, base, MODEL, {"kind": "fixed"}) as new:
        again = await new.parsed("a")
        await new.put([(again, [replace(made.chunks[1], ordinal=0)], np.array([unit(1)]))])
        assert await kept() == 2
        assert await new.finish()
    assert await kept() == 1
    store = await open_store(pool, base, MODEL, {"kind": "fixed"})
    await put(ready("b", ["other words"]))
    assert (await store.delete(["a"]), await kept()) == (1, 1)
    assert await delete_base(pool, "acme", base.id)
    assert await kept() == 0
    assert await pool.fetchval("SELECT count(*) FROM kb_embeddings") == 1
