"""What every knowledge store promises, held against pgvector and Chroma."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knowledge_base.documents import embedded_text
from knowledge_base.embedding.base import EmbeddingModel
from knowledge_base.errors import IndexMismatch, InvalidRequest, NotFound, Refused, StoreUnreachable
from knowledge_base.filters import Filter, Group, Leaf, matches
from knowledge_base.lexical.bm25 import WordIndex
from knowledge_base.lexical.tokens import tokens
from knowledge_base.stores import segments, vectors
from knowledge_base.stores.base import Ready, Store
from knowledge_base.stores.chroma import answering
from knowledge_base.stores.opening import StoreKind, create_base, delete_base, find_base, list_bases, open_store
from knowledge_base.stores.reindexing import reindexing
from tests.contract.knowledge_rows import DIMENSION, MODEL, chroma_server, ready, unit

pytestmark = pytest.mark.xdist_group("knowledge_stores")  # one Chroma server for all of it


@dataclass
class Place:
    """A database, and the kind of store under test."""

    pool: asyncpg.Pool[asyncpg.Record]
    kind: StoreKind
    chroma: str | None

    async def store(self, tenant: str = "acme", name: str = "default", model: EmbeddingModel | None = MODEL) -> Store:
        """The store of a base, which is made when there is none."""
        base = await create_base(self.pool, tenant, name)
        return await open_store(self.pool, base, model, {"kind": "sections"}, self.kind, self.chroma)

    async def everything(self) -> str:
        """All that is in any table of knowledge bases, as text."""
        tables = await self.pool.fetch("SELECT tablename FROM pg_tables WHERE tablename LIKE 'kb\\_%'")
        rows = [await self.pool.fetch(f'SELECT t::text AS row FROM "{name}" t') for (name,) in tables]  # noqa: S608
        return "\n".join(row["row"] for found in rows for row in found)


@pytest.fixture(scope="module")
def chroma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Started for the first test of Chroma."""
    with chroma_server(tmp_path_factory.mktemp("chroma")) as url:
        yield url


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=6) as pool:
        yield pool


@pytest.fixture(params=["pgvector", "chroma"])
def place(request: pytest.FixtureRequest, pool: asyncpg.Pool[asyncpg.Record]) -> Place:
    url = request.getfixturevalue("chroma") if request.param == "chroma" else None
    return Place(pool, request.param, url)


@pytest.fixture
def here(pool: asyncpg.Pool[asyncpg.Record]) -> Place:
    """For what is PostgreSQL's part, whatever the store."""
    return Place(pool, "pgvector", None)


async def doc_ids(store: Store, chunks: Any) -> list[str]:
    return [each.doc_id for each in await store.read(list(chunks))]


def library(count: int) -> list[Ready]:
    """Documents of three chunks each; every seventh is of topic x."""
    return [
        ready(
            f"d{n:02}",
            [f"cats sleep {n}", f"dogs run number{n % 3} fast fast", "the end of it"],
            {"topic": "x" if n % 7 == 0 else "y", "n": n},
            seed=n,
        )
        for n in range(count)
    ]


async def test_what_is_put_is_found_by_word_by_vector_and_read(place: Place) -> None:
    """Every stage is there, and every leg leads to it."""
    store = await place.store()
    await store.put(library(4))
    by_word = await store.by_word("sleep 2", 3)
    assert (await doc_ids(store, by_word.chunks))[0] == "d02"
    by_vector = await store.by_vector(unit(3, 1), 2)
    assert by_vector.scores[0] == pytest.approx(1.0, abs=1e-3)
    (best, _) = await store.read(by_vector.chunks.tolist())
    assert (best.doc_id, best.text, best.section, best.parent) == (
        "d03",
        "dogs run number0 fast fast",
        "Part 1",
        (0, 39),
    )
    assert (best.uri, best.title, best.version) == ("file:///d03.txt", "About d03", 1)
    assert best.attributes == {"topic": "y", "n": 3}
    assert await store.parsed_span("d03", best.start, best.end, best.version) == best.text
    with pytest.raises(NotFound):
        await store.parsed_span("d03", best.start, best.end, best.version + 1)
    assert await store.stage("d03", "raw") == b"cats sleep 3\ndogs run number0 fast fast\nthe end of it"
    assert [each.number for each in await store.stage("d03", "chunks")][1] == best.number
    summary = await store.summary()
    assert (summary.documents, summary.chunks, summary.model, summary.store) == (4, 12, MODEL, place.kind)
    assert await store.verify() == []


async def test_an_empty_base_answers_with_nothing(place: Place) -> None:
    """No error, no hit."""
    store = await place.store()
    where = Leaf("equals", "a", "b")
    for hits in (await store.by_word("cats", 3, where), await store.by_vector(unit(1), 3), await store.by_word("", 3)):
        assert hits.chunks.tolist() == []
    assert (await store.by_vector(unit(1), 3, where)).chunks.tolist() == []
    assert await store.read([1, 2]) == []
    assert await store.documents() == []
    assert [each async for each in store.known()] == []
    assert await store.delete(["none"]) == 0
    for call in (store.document("none"), store.stage("none", "raw"), store.parsed_span("none", 0, 1)):
        with pytest.raises(NotFound):
            await call


async def test_the_same_again_changes_nothing_and_another_text_is_a_new_version(place: Place) -> None:
    """Versions count changes and deletions; only what is current is found."""
    store = await place.store()
    await store.put(library(2))
    before = [each async for each in store.known()]
    numbers = (await store.by_word("cats", 9)).chunks.tolist()
    await store.put(library(2))
    assert ([each async for each in store.known()], (await store.by_word("cats", 9)).chunks.tolist()) == (
        before,
        numbers,
    )
    await store.put([ready("d00", ["birds sing"], seed=9)])
    assert (await store.by_word("sleep 0", 1)).chunks.tolist() != numbers[:1]
    assert await doc_ids(store, (await store.by_word("birds", 5)).chunks) == ["d00"]
    assert await doc_ids(store, (await store.by_vector(unit(0, 0), 6)).chunks) != ["d00"]
    assert len((await store.by_vector(unit(0, 0), 9)).chunks) == 4
    assert (await store.document("d00")).version == 2
    assert await store.delete(["d00"]) == 1
    assert (await store.document("d00")).state == "deleted"
    await store.put(library(1))
    assert ((await store.document("d00")).version, (await store.document("d01")).version) == (4, 1)
    assert await store.verify() == []


async def test_a_deleted_document_leaves_no_word_and_no_vector(place: Place) -> None:
    """Not in any table, and not in Chroma; a tombstone says that it was there."""
    store = await place.store()
    secret = ready("gone", ["xylophone quagmire", "zeppelin"], {"owner": "mademoiselle"}, seed=5)
    await store.put([*library(3), replace(secret, parsed=replace(secret.parsed, title="Kaleidoscope"))])
    assert await store.delete(["gone", "gone", "unknown"]) == 1
    left = (await place.everything()).lower()
    for word in ("xylo", "quagm", "zeppel", "kaleid", "mademoiselle", secret.raw.content_hash):
        assert word not in left
    assert secret.raw.content.hex()[:12] not in left
    assert await store.by_word("xylophone", 5) is not None
    assert (await store.by_word("xylophone quagmire", 5)).chunks.tolist() == []
    assert "gone" not in await doc_ids(store, (await store.by_vector(unit(5, 0), 20)).chunks)
    assert [(each.doc_id, each.state, each.content_hash) async for each in store.known()][-1] == ("gone", "deleted", "")
    assert await store.verify() == []


async def test_tenants_and_bases_see_only_their_own(place: Place) -> None:
    """Same names, same documents, same attributes: nothing crosses, in no call."""
    ours, theirs, other = await place.store(), await place.store("rival"), await place.store(name="second")
    mine = (await find_base(place.pool, "acme", "default")) or pytest.fail("no base")
    assert await find_base(place.pool, "rival", mine.id) is None
    assert await find_base(place.pool, "acme", mine.id) == mine
    assert [each.name for each in await list_bases(place.pool, "acme")] == ["default", "second"]
    await ours.put([ready("a", ["cats sleep"], {"k": "v"}), ready("b", ["dogs run"], {"k": "v"})])
    await theirs.put([ready("a", ["birds sing"], {"k": "v"}, seed=1)])
    where = Leaf("equals", "k", "v")
    numbers = (await ours.by_word("cats", 5)).chunks.tolist()
    assert (await theirs.by_word("cats", 5, where)).chunks.tolist() == []
    assert len((await theirs.by_vector(unit(0, 0), 5, where)).chunks) == 1
    assert await doc_ids(theirs, numbers) in ([], ["a"])  # numbers are a base's own
    assert [each.text for each in await theirs.read(range(50))] == ["birds sing"]
    assert [each.doc_id for each in await theirs.documents(where=where)] == ["a"]
    assert await other.documents() == []
    assert await theirs.delete(["a", "b"]) == 1
    assert len((await ours.by_vector(unit(0, 0), 5)).chunks) == 2
    assert not await delete_base(place.pool, "rival", mine.id, place.chroma)
    assert await delete_base(place.pool, "acme", mine.id, place.chroma)
    assert "cats" not in await place.everything()


SCALARS = st.one_of(
    st.sampled_from(
        ["", "a", "A", "ab", "%", "_", "a%b", "'", '"', "\\", "ü", "日本", "true", "1", "null", "{}", "$1"]
    ),
    st.sampled_from([0, 1, -1, 1.0, 0.5, 2**60, 9e18, -0.0, 10**18, 1e18]),
    st.booleans(),
)
KEYS = st.sampled_from(["k", "K", "k.k", "'k'", '"', "$", "日", "a b", "", "%"])
VALUES = [
    "",
    "a",
    "ab",
    "a%b",
    "%",
    "_",
    "'",
    "\\",
    "ü",
    "日本",
    "true",
    "1",
    0,
    1,
    -1,
    0.5,
    2**60,
    9e18,
    1e18,
    True,
    False,
]


def attributes(draw: random.Random) -> dict[str, Any]:
    """Some keys with scalars or lists of them."""
    keys = draw.sample(["k", "K", "k.k", "'k'", '"', "$", "日", "a b", "", "%"], 4)
    return {key: draw.choice([*VALUES, draw.sample(VALUES, 2), []]) for key in keys}


def leaf(operator: str, value: st.SearchStrategy[Any]) -> st.SearchStrategy[Filter]:
    return st.builds(lambda key, given: Leaf(operator, key, given), KEYS.filter(bool), value)  # type: ignore[arg-type]


LEAVES = st.one_of(
    *(leaf(each, SCALARS) for each in ("equals", "notEquals", "listContains")),
    *(leaf(each, SCALARS.filter(lambda v: type(v) in (int, float))) for each in ("greaterThan", "lessThanOrEquals")),
    *(leaf(each, SCALARS.filter(lambda v: type(v) in (int, float))) for each in ("greaterThanOrEquals", "lessThan")),
    *(leaf(each, st.lists(SCALARS, min_size=1, max_size=3).map(tuple)) for each in ("in", "notIn")),
    *(
        leaf(each, SCALARS.filter(lambda v: isinstance(v, str) and v != ""))
        for each in ("startsWith", "stringContains")
    ),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        Group, st.sampled_from(["andAll", "orAll"]), st.lists(inner, min_size=2, max_size=3).map(tuple)
    ),
    max_leaves=6,
)


async def test_filters_mean_what_matches_says(place: Place) -> None:
    """Drawn attributes and filters: documents, words and vectors are filtered as `filters.matches` has it."""
    store = await place.store()
    draw = random.Random(7)
    world = [ready(f"f{n:02}", ["alike"], attributes(draw), seed=n) for n in range(80)]
    drawn: list[Filter] = []

    @settings(
        max_examples=70 if place.kind == "pgvector" else 15, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(FILTERS)
    def collect(where: Filter) -> None:
        drawn.append(where)

    await asyncio.to_thread(collect)
    drawn += [Leaf("equals", "k\x00", "v"), Leaf("notEquals", "k", "\ud800"), Leaf("stringContains", "k", "\x00")]
    await store.put(world)
    held = {each.doc_id: each.attributes for each in await store.documents()}
    fitted = 0
    for where in drawn:
        wanted = sorted(doc_id for doc_id, attributes in held.items() if matches(where, attributes))
        fitted += bool(wanted)
        assert [each.doc_id for each in await store.documents(where=where)] == wanted, where
        assert sorted(await doc_ids(store, (await store.by_word("alike", 99, where)).chunks)) == wanted, where
        assert sorted(await doc_ids(store, (await store.by_vector(unit(1, 0), 99, where)).chunks)) == wanted, where
    assert fitted  # how many of the drawn ones fit something is chance


async def test_k_come_whenever_k_fit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when there are too many to compare one by one, and those that fit are the farthest of all."""
    for module in ("knowledge_base.stores.pgvector", "knowledge_base.stores.chroma", "knowledge_base.stores.store"):
        monkeypatch.setattr(f"{module}.EXACT", 5)
    assert vectors.EXACT > 5
    store = await place.store()
    documents = library(100)
    await store.put(documents)
    held = np.concatenate([each.vectors for each in documents if each.vectors is not None])
    order = np.argsort(-(held @ unit(3, 0)))
    cosines = (held @ unit(3, 0))[order]
    hits = await store.by_vector(unit(3, 0), 10)
    assert hits.scores.tolist() == pytest.approx(cosines[:10].tolist(), abs=2e-3)
    fits = np.array([n // 3 % 7 == 0 for n in order])
    for where in (Leaf("equals", "topic", "x"), Leaf("notEquals", "topic", "y")):
        hits = await store.by_vector(unit(3, 0), 45, where)
        assert hits.scores.tolist() == pytest.approx(cosines[fits].tolist(), abs=2e-3)
        words = await store.by_word("fast cats", 45, where)
        assert len(words.chunks) == 30
        assert (np.diff(words.scores) <= 0).all()


async def test_words_are_scored_as_the_reference_does(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Score and coverage, over packs and segments, after changes and deletions, also while a bulk load is open."""
    monkeypatch.setattr(segments, "MAX_PACKED", 30)
    monkeypatch.setattr(segments, "MERGE_AT", 2)
    monkeypatch.setattr("knowledge_base.stores.scoring.COMMON", 20)
    store = await here.store()
    world = {each.doc_id: each for each in library(60)}

    async def compare() -> None:
        texts = [embedded_text(each.parsed.title, chunk) for each in world.values() for chunk in each.chunks]
        reference = WordIndex([tokens(text) for text in texts])
        for query in ("cats 7 number1 unheard", "fast dogs run", "what is the end", "birds cats sleep 11", "about d05"):
            scores, coverage = reference.scores(tokens(query))
            wanted = np.argsort(-scores, kind="stable")[:10]
            wanted = wanted[scores[wanted] > 0]
            hits = await store.by_word(query, 10)
            assert hits.scores.tolist() == pytest.approx(scores[wanted].tolist(), rel=1e-5)
            assert hits.coverage is not None
            assert sorted(hits.coverage.tolist()) == pytest.approx(sorted(coverage[wanted].tolist()), rel=1e-5)
            assert hits.known == pytest.approx(reference.known(tokens(query)))

    for n in range(0, 60, 6):
        await store.put(list(world.values())[n : n + 6])
    await compare()
    assert await store.delete(["d03", "d30", "d59"]) == 3
    for doc_id in ("d03", "d30", "d59"):
        del world[doc_id]
    await compare()
    async with store.bulk():
        world |= {n: ready(n, ["birds sing fast", f"number1 {n}"], seed=8) for n in ("d01", "d10", "e00")}
        await store.put([world["d01"], world["d10"], world["e00"]])
        await compare()
    await compare()
    assert await here.pool.fetchval("SELECT count(*) FROM kb_dead") == 0
    assert await here.pool.fetchval("SELECT count(*) FROM kb_segments") < 5
    assert await store.verify() == []


async def test_loaders_and_readers_at_once_see_whole_documents(place: Place) -> None:
    """Two loaders of the same documents and one of others, while somebody searches."""
    store, second = await place.store(), await place.store()
    done = False

    async def search() -> int:
        rounds = 0
        while not done:
            rounds += 1
            for hits in (await store.by_word("cats sleep", 60), await store.by_vector(unit(1, 0), 60)):
                found = [each.version for each in await store.read(hits.chunks.tolist())]
                assert set(found) <= {1, 2}
        return rounds

    async def load(target: Store, documents: list[Ready]) -> None:
        for n in range(0, len(documents), 4):
            await target.put(documents[n : n + 4])

    others = [ready(f"o{n}", ["birds sing"], seed=100 + n) for n in range(8)]
    searching = asyncio.create_task(search())
    await asyncio.gather(load(store, library(16)), load(second, library(16)), load(second, others))
    done = True
    assert await searching > 0
    assert {each.version async for each in store.known()} == {1}
    assert (await store.summary()).chunks == 16 * 3 + 8
    assert await store.verify() == []


async def test_a_put_that_fails_leaves_all_as_it_was(place: Place) -> None:
    """The last step of several fails: nothing of the documents is there, and what was there still is."""
    store = await place.store()
    await store.put(library(2))
    before = await store.documents(state=None)
    await place.pool.execute("ALTER TABLE kb_packs ADD CONSTRAINT refused CHECK (terms NOT LIKE '%zebra%')")
    with pytest.raises(asyncpg.CheckViolationError):
        await store.put([ready("d00", ["zebra"], seed=3), ready("new", ["zebra"], seed=4)])
    assert await store.documents(state=None) == before
    assert len((await store.by_vector(unit(3, 0), 9)).chunks) == 6
    assert set(await doc_ids(store, (await store.by_vector(unit(3, 0), 9)).chunks)) == {"d00", "d01"}
    await place.pool.execute("ALTER TABLE kb_packs DROP CONSTRAINT refused")
    await store.put([ready("d00", ["zebra"], seed=3)])
    assert await doc_ids(store, (await store.by_vector(unit(3, 0), 1)).chunks) == ["d00"]
    await store.verify(repair=True)
    assert await store.verify() == []


async def test_another_model_is_refused_and_a_new_index_takes_over(place: Place) -> None:
    """The old one answers until the new one has everything, also what changed meanwhile."""
    store = await place.store()
    await store.put(library(3))
    other = EmbeddingModel("test:other", DIMENSION)
    with pytest.raises(IndexMismatch, match="outcrop kb sync --reindex"):
        await place.store(model=other)
    base = (await find_base(place.pool, "acme", "default")) or pytest.fail("no base")

    async def fill() -> None:
        async with reindexing(place.pool, base, other, {"kind": "fixed"}, place.kind, place.chroma) as new:
            while True:
                async for doc_id in new.missing():
                    item = await new.parsed(doc_id)
                    made = ready(doc_id, item.parsed.text.split("\n")[:1], seed=77)
                    await new.put([(item, made.chunks, made.vectors)])
                if await new.finish():
                    return

    async with reindexing(place.pool, base, other, {"kind": "fixed"}, place.kind, place.chroma) as new:
        item = await new.parsed("d00")
        made = ready("d00", ["cats sleep 0"], seed=77)
        await new.put([(item, made.chunks, made.vectors)])
        assert [each async for each in new.missing()] == ["d01", "d02"]
        assert not await new.finish()
    await store.put([ready("d00", ["birds sing"], seed=4)])
    await store.delete(["d02"])
    assert len((await store.by_word("cats", 9)).chunks) == 1
    await fill()
    for call in (store.by_word("cats", 1), store.by_vector(unit(1), 1), store.read([1]), store.put(library(1))):
        with pytest.raises(IndexMismatch):
            await call
    store = await place.store(model=other)
    summary = await store.summary()
    assert (summary.model, summary.chunking, summary.chunks, summary.documents) == (other, {"kind": "fixed"}, 2, 2)
    assert await doc_ids(store, (await store.by_word("birds", 5)).chunks) == ["d00"]
    assert await store.verify() == []


async def test_what_does_not_fit_the_index_is_refused(here: Place) -> None:
    """With what is wrong and what to do; nothing is stored."""
    store = await here.store()
    odd = ready("a", ["cats"])
    assert odd.vectors is not None
    for wrong in (replace(odd, vectors=odd.vectors[:, :8]), replace(odd, vectors=None)):
        with pytest.raises(IndexMismatch, match="has vectors of shape"):
            await store.put([odd, replace(wrong, doc_id="b")] if wrong.vectors is None else [wrong])
    with pytest.raises(InvalidRequest, match="twice"):
        await store.put([odd, odd])
    with pytest.raises(IndexMismatch, match="dimension 16"):
        await store.by_vector(np.ones(3, np.float32), 1)
    for name in ("", "two words", "-a", "AAAAAAAAAA"):
        with pytest.raises(InvalidRequest, match="name"):
            await create_base(here.pool, "acme", name)
    assert await store.documents() == []
    base = await create_base(here.pool, "acme", "default")
    with pytest.raises(InvalidRequest, match="chroma run"):
        await open_store(here.pool, base, EmbeddingModel("t:o", 4), {}, "chroma", "./folder")
    with pytest.raises(StoreUnreachable, match="KB_CHROMA_URL"):
        await open_store(here.pool, base, EmbeddingModel("t:o", 4), {}, "chroma", "http://127.0.0.1:9")


async def test_without_a_model_words_alone_are_kept(here: Place) -> None:
    """No vectors are asked for, and none are found."""
    store = await here.store(model=None)
    await store.put([ready("a", ["cats sleep"], vectors=False)])
    assert await doc_ids(store, (await store.by_word("cats", 3)).chunks) == ["a"]
    assert (await store.by_vector(unit(1), 3)).chunks.tolist() == []


async def test_odd_texts_keep_their_spans(here: Place) -> None:
    """NUL and lone surrogates cannot be stored; what stands for them takes as much room."""
    store = await here.store()
    await store.put([ready("odd\x00id", ["nul\x00here \ud800 there", "日本語 𝔘nicode"], {"k\x00": "v\x00"})])
    first, second = await store.stage("odd\x00id", "chunks")
    assert first.text == "nul\ufffdhere \ufffd there"
    assert await store.parsed_span("odd\x00id", second.start, second.end) == second.text == "日本語 𝔘nicode"
    assert first.attributes == {"k\ufffd": "v\ufffd"}


async def test_verify_finds_and_mends(place: Place) -> None:
    """Vectors too many, counts that differ, words and vectors that are lost."""
    store = await place.store()
    await store.put(library(3))
    index = await place.pool.fetchval("SELECT number FROM kb_indexes")
    if place.kind == "pgvector":
        await place.pool.execute(
            f"INSERT INTO kb_vectors_{index} SELECT 999, document, embedding FROM kb_vectors_{index} LIMIT 1"  # noqa: S608
        )
    else:
        await place.pool.execute("INSERT INTO kb_vector_copies SELECT index, 999, vector FROM kb_vector_copies LIMIT 1")
    await place.pool.execute("UPDATE kb_indexes SET chunks = 5")
    await place.pool.execute("DELETE FROM kb_packs")
    found = await store.verify()
    assert await store.verify(repair=True) == found
    kinds = {each.kind for each in found}
    assert {"vector_without_chunk", "count_differs", "words_differ"} <= kinds
    assert await store.verify() == []
    assert len((await store.by_word("cats", 9)).chunks) == 3


async def test_stamps_uris_and_pages_of_documents(here: Place) -> None:
    """What a sync goes by, without a new version."""
    store = await here.store()
    await store.put(library(5))
    await store.restamp([("d01", "2"), ("none", "3")])
    again = library(3)[2]
    await store.put([replace(again, raw=replace(again.raw, found=replace(again.raw.found, uri="file:///moved.txt")))])
    known = {each.doc_id: each async for each in store.known()}
    assert (known["d01"].stamp, known["d01"].version) == ("2", 1)
    assert (known["d02"].uri, known["d02"].version) == ("file:///moved.txt", 1)
    await store.put([ready("d05", ["owls hoot"], source="bucket")])
    assert [each.doc_id async for each in store.known("bucket")] == ["d05"]
    page = await store.documents(limit=2)
    assert [each.doc_id for each in page] == ["d00", "d01"]
    assert [each.doc_id for each in await store.documents(after="d01", limit=2)] == ["d02", "d03"]
    await store.delete(["d00"])
    assert [each.doc_id for each in await store.documents(state="deleted")] == ["d00"]
    assert [each.doc_id for each in await store.documents(state=None, limit=2)] == ["d00", "d01"]


async def test_a_document_stays_with_its_source(here: Place) -> None:
    """What another source has under that id is refused, the same or not, and with it its batch; until it is deleted."""
    store = await here.store()
    await store.put([ready("a", ["cats sleep"])])
    for text in ("cats sleep", "dogs run"):
        with pytest.raises(Refused, match="document of folder") as refused:
            await store.put([ready("b", ["owls hoot"]), ready("a", [text], source="bucket")])
        assert refused.value.reason == "duplicate"
    assert [(each.doc_id, each.source, each.version) async for each in store.known()] == [("a", "folder", 1)]
    await store.delete(["a"])
    await store.put([ready("a", ["dogs run"], source="bucket")])
    assert (await store.document("a")).source == "bucket"


async def test_a_store_goes_on_with_the_index_that_took_over(place: Place) -> None:
    """Whoever opened it before: a load in bulk, a search, a deletion."""

    async def reindex(kind: str) -> None:
        base = (await find_base(place.pool, "acme", "default")) or pytest.fail("no base")
        async with reindexing(place.pool, base, MODEL, {"kind": kind}, place.kind, place.chroma) as new:
            async for doc_id in new.missing():
                item = await new.parsed(doc_id)
                made = ready(doc_id, item.parsed.text.split("\n")[:1], seed=7)
                await new.put([(item, made.chunks, made.vectors)])
            assert await new.finish()

    stores = [await place.store() for _ in range(3)]
    async with stores[0].bulk():
        await stores[0].put(library(3))
        await reindex("fixed")
        assert len((await stores[1].by_vector(unit(7, 0), 9)).chunks) == 3
        assert len((await stores[2].by_word("sleep", 9)).chunks) == 3
        await stores[0].put([ready("e", ["owls hoot"], seed=9)])
    assert await doc_ids(stores[1], (await stores[1].by_word("owls", 9)).chunks) == ["e"]
    await reindex("sections")
    assert await stores[1].delete(["e"]) == 1
    assert (await stores[2].summary()).chunks == 3
    await reindex("fixed")
    assert await stores[0].verify() == []


async def test_what_a_killed_load_left_is_mended(here: Place) -> None:
    """The graph, and words of chunks that were replaced."""
    store = await here.store()
    await store.mend()
    load = store.bulk()
    await load.__aenter__()
    await store.put(library(3))
    await store.put([ready("d00", ["birds sing"], seed=9)])
    other = await here.store()
    assert {each.kind for each in await other.verify()} == {"graph_missing", "words_of_deleted"}
    await other.mend()
    assert await other.verify() == []


async def test_collections_that_chroma_missed_to_drop_go_with_the_next_load(
    pool: asyncpg.Pool[asyncpg.Record], chroma: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a base that is deleted too."""
    place = Place(pool, "chroma", chroma)
    await (await place.store(name="second")).put(library(1))
    second = (await find_base(pool, "acme", "second")) or pytest.fail("no base")

    async def away(*_: Any) -> int:
        raise StoreUnreachable("Chroma does not answer")

    async def of_second() -> list[str]:
        async with answering(chroma) as client:
            return [each.name for each in await client.list_collections() if second.id in each.name]

    with monkeypatch.context() as patched:
        patched.setattr("knowledge_base.stores.chroma.ChromaVectors._remove_orphans", away)
        assert await delete_base(pool, "acme", "second", chroma)
    assert len(await of_second()) == 1
    await (await place.store()).put(library(1))
    assert await of_second() == []
    assert await pool.fetchval("SELECT count(*) FROM kb_orphans") == 0


LOADS_UNTIL_KILLED = """
import asyncio, sys
import asyncpg
from knowledge_base.stores.opening import create_base, open_store
from tests.contract.knowledge_rows import MODEL, ready

async def main():
    async with asyncpg.create_pool(sys.argv[1], min_size=1, max_size=2) as pool:
        store = await open_store(pool, await create_base(pool, "acme", "default"), MODEL, {"kind": "sections"})
        async with store.bulk():
            for n in range(10_000):
                await store.put([ready(f"k{n % 7}", [f"cats sleep {n}", "dogs run"], seed=n)])
                print(n, flush=True)

asyncio.run(main())
"""


async def test_a_killed_load_leaves_whole_documents(here: Place, database_url: str) -> None:
    """kill -9 in a bulk load: each document is there with all its stages or not at all, and the next load goes on."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        LOADS_UNTIL_KILLED,
        database_url,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    for _ in range(12):
        assert await process.stdout.readline()
    process.kill()
    await process.wait()
    store = await here.store()
    # The graph was left for the end of the load, as were the words of chunks that were replaced; neither is ever wrong.
    assert {each.kind for each in await store.verify()} <= {"graph_missing", "words_of_deleted"}
    live = [each async for each in store.known()]
    assert len(live) == 7
    assert len((await store.by_word("cats", 20)).chunks) == len((await store.by_word("dogs", 20)).chunks) == 7
    assert len((await store.by_vector(unit(1), 50)).chunks) == 14
    async with store.bulk():
        await store.put(library(2))
    assert await store.verify() == []
