"""Stores of knowledge bases beside other writers, other processes and broken rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from knowledge_base.stores import segments
from knowledge_base.stores.catalog import BaseRow, create_base
from knowledge_base.stores.connections import Pool
from knowledge_base.stores.numbering import take_numbers
from knowledge_base.stores.opening import open_store
from tests.contract.knowledge_rows import MODEL, ready


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
