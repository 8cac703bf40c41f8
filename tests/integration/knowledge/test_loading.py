"""Loading into a real store: what a second run does, what faulty documents cost, and what is deleted."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import asyncpg
import numpy as np
import pytest
from numpy.typing import NDArray

from knowledge_base.bases import KnowledgeBase, KnowledgeBases, KnowledgeConfig, opened
from knowledge_base.chunking import ChunkingConfig
from knowledge_base.documents import Found, Raw
from knowledge_base.embedding.base import EmbeddingModel, Vectors
from knowledge_base.embedding.opening import EmbeddingConfig
from knowledge_base.errors import EmbeddingFailed, NotFound, Refused, SourceUnavailable, TextTooLong, TooManyDeletions
from knowledge_base.loading import loader
from knowledge_base.loading.command import Request, carry_out
from knowledge_base.loading.loader import Loader
from knowledge_base.loading.orders import SourcePolicy
from knowledge_base.loading.reindexing import reindex
from knowledge_base.loading.report import Report
from knowledge_base.parsing import Limits
from knowledge_base.sources.base import Source
from knowledge_base.sources.folder import Folder
from knowledge_base.sources.uploads import Upload, Uploads
from knowledge_base.stores.base import Known, Ready, Store
from tests.conftest import TemplateDatabase

LIMITS = Limits(max_bytes=100_000)
POLICY = SourcePolicy(LIMITS.max_bytes, allowed_hosts=["127.0.0.1"])


@dataclass
class Letters:
    """An embedding model of 26 dimensions that counts letters; it fails on texts with a word of `poison`."""

    model: EmbeddingModel = field(default_factory=lambda: EmbeddingModel("test:letters", 26))
    poison: tuple[str, ...] = ()
    asked: int = 0

    async def identify(self) -> EmbeddingModel:
        return self.model

    async def documents(self, texts: Sequence[str]) -> Vectors:
        self.asked += len(texts)
        if any(len(text) > 500 for text in texts):
            raise TextTooLong("this model reads 500 characters")
        if any(word in text for text in texts for word in self.poison):
            raise EmbeddingFailed("the model does not take one of these texts")
        return np.stack([_counted(text) for text in texts])

    async def query(self, text: str) -> NDArray[np.float32]:
        return _counted(text)

    async def close(self) -> None:
        pass


def _counted(text: str) -> NDArray[np.float32]:
    counts = np.array([1 + text.lower().count(chr(97 + n)) for n in range(26)], np.float32)
    vector: NDArray[np.float32] = counts / np.linalg.norm(counts)
    return vector


@dataclass
class Watched:
    """A source that counts what is read of it, and may break."""

    inner: Source
    read_: list[str] = field(default_factory=list)
    ends_with: SourceUnavailable | None = None

    @property
    def name(self) -> str:
        return self.inner.name

    async def list(self) -> AsyncIterator[Found]:
        async for found in self.inner.list():
            yield found
        if self.ends_with:
            raise self.ends_with

    async def read(self, found: Found, *, known_stamp: str = "") -> Raw:
        self.read_.append(found.doc_id)
        return await self.inner.read(found, known_stamp=known_stamp)

    async def close(self) -> None:
        await self.inner.close()


@pytest.fixture(scope="module")
def shared_url(template_database: TemplateDatabase) -> Iterator[str]:
    """One database for all: each test has a tenant of its own."""
    name, url = template_database.copy()
    yield url
    template_database.drop(name)


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid4().hex[:12]}"


@pytest.fixture
async def bases(shared_url: str) -> AsyncIterator[KnowledgeBases]:
    """Words alone: most of loading has nothing to do with vectors."""
    async with opened(shared_url, KnowledgeConfig(embedding=EmbeddingConfig("none"))) as made:
        yield made


@pytest.fixture
async def base(bases: KnowledgeBases, tenant: str) -> KnowledgeBase:
    return await bases.open(tenant, create=True)


def write(folder: Path, **documents: str) -> None:
    """Files `<name>.md`, as if they had been there for a while."""
    folder.mkdir(exist_ok=True)
    for name, text in documents.items():
        (folder / f"{name}.md").write_text(text)


async def settled(folder: Path) -> None:
    """Until every file has a stamp, that is, until no write could leave the same one."""
    async with asyncio.timeout(60):
        while not all([found.stamp async for found in Folder(folder, max_bytes=1).list()]):
            await asyncio.sleep(0.005)


async def sync(
    base: KnowledgeBase, source: Source | Path, *, prune: bool = True, full: bool = False, percent: float = 30.0
) -> Report:
    made = Folder(source, max_bytes=LIMITS.max_bytes) if isinstance(source, Path) else source
    return await Loader(base, LIMITS).sync(made, prune=prune, full=full, delete_limit_percent=percent)


def counted(report: Report) -> dict[str, int]:
    """The counts that are not zero, but for found and chunks."""
    assert report.counts.done == report.counts.found
    return {n: c for n, c in report.counts.as_json().items() if c and n not in ("found", "chunks")}


async def known(base: KnowledgeBase) -> dict[str, Known]:
    return {each.doc_id: each async for each in base.store.known()}


# --- one run after another ------------------------------------------------------------------------------------------


async def test_a_second_run_reads_nothing_that_did_not_change(base: KnowledgeBase, tmp_path: Path) -> None:
    """By stamp; a file that was only touched is read once more, and is no new version."""
    write(tmp_path, a="# A\n\nfirst text", b="# B\n\nsecond text", c="---\ndoc_id: named\n---\nthird text")
    await settled(tmp_path)
    assert counted(await sync(base, tmp_path)) == {"new": 3}

    again = Watched(Folder(tmp_path, max_bytes=LIMITS.max_bytes))
    assert (counted(await sync(base, again)), again.read_) == ({"unchanged": 3}, [])

    os.utime(tmp_path / "a.md", (10**9, 10**9))
    await settled(tmp_path)
    for expected in (["a.md"], []):
        touched = Watched(Folder(tmp_path, max_bytes=LIMITS.max_bytes))
        assert (counted(await sync(base, touched)), touched.read_) == ({"unchanged": 3}, expected)

    full = Watched(Folder(tmp_path, max_bytes=LIMITS.max_bytes))
    assert counted(await sync(base, full, full=True)) == {"unchanged": 3}
    assert len(full.read_) == 3
    assert {each.version for each in (await known(base)).values()} == {1}


async def test_a_full_run_makes_anew_what_was_lost(base: KnowledgeBase, bases: KnowledgeBases, tmp_path: Path) -> None:
    """Of a document whose file has not changed; it is no new version of what is whole."""
    write(tmp_path, a="alpha", b="beta")
    await sync(base, tmp_path)
    sql = "DELETE FROM kb_parts p USING kb_documents d WHERE d.number = p.document AND d.base = $1 AND d.doc_id = $2"
    await bases.pool.execute(sql, base.row.number, "a.md")
    for full, chunks in ((False, 0), (True, 1)):
        assert counted(await sync(base, tmp_path, full=full)) == {"unchanged": 2}
        assert len(await base.store.stage("a.md", "chunks")) == chunks
    assert (await known(base))["b.md"].version == 1


async def test_what_changed_is_replaced_and_what_is_gone_is_deleted(base: KnowledgeBase, tmp_path: Path) -> None:
    """By `sync`; `load` deletes nothing. Whatever comes back is a further version."""
    write(tmp_path, a="alpha", b="beta", c="gamma")
    await sync(base, tmp_path)
    write(tmp_path, a="alpha and omega")
    (tmp_path / "b.md").unlink()
    assert counted(await sync(base, tmp_path, prune=False)) == {"updated": 1, "unchanged": 1}
    assert await base.store.stage("b.md", "parsed")
    assert counted(await sync(base, tmp_path)) == {"unchanged": 2, "deleted": 1}
    with pytest.raises(NotFound):
        await base.store.stage("b.md", "parsed")
    assert len((await base.store.by_word("omega", 5)).chunks) == 1
    assert len((await base.store.by_word("beta", 5)).chunks) == 0

    write(tmp_path, b="beta")
    assert counted(await sync(base, tmp_path)) == {"new": 1, "unchanged": 2}
    found = await known(base)
    assert (found["a.md"].version, found["b.md"].version, found["c.md"].version) == (2, 3, 1)


async def test_a_file_that_names_its_id_may_move(base: KnowledgeBase, tmp_path: Path) -> None:
    """It is the same document under another path; a file that names another id is another one."""
    write(tmp_path, old="---\ndoc_id: policy\n---\ntext")
    await sync(base, tmp_path)
    (tmp_path / "old.md").rename(tmp_path / "new.md")
    await settled(tmp_path)
    for reads in (["new.md"], []):
        moved = Watched(Folder(tmp_path, max_bytes=LIMITS.max_bytes))
        assert (counted(await sync(base, moved)), moved.read_) == ({"unchanged": 1}, reads)
    assert (await base.store.document("policy")).uri == (tmp_path / "new.md").as_uri()
    write(tmp_path, new="---\ndoc_id: other\n---\ntext")
    assert counted(await sync(base, tmp_path)) == {"new": 1, "deleted": 1}
    assert {each.doc_id for each in (await known(base)).values() if each.state == "live"} == {"other"}


async def test_a_source_that_moved_as_a_whole_is_cited_where_it_is_now(base: KnowledgeBase, tmp_path: Path) -> None:
    """Under its old name, with the same content and stamps: nothing is another version or gone."""

    class Stamped(Watched):
        async def list(self) -> AsyncIterator[Found]:
            async for found in self.inner.list():
                yield replace(found, stamp="the same")

        async def read(self, found: Found, *, known_stamp: str = "") -> Raw:
            raw = await self.inner.read(replace(found, stamp=""), known_stamp=known_stamp)
            return replace(raw, found=found)

    for name, expected in (("old", {"new": 2}), ("moved", {"unchanged": 2})):
        write(tmp_path / name, a="alpha", b="---\ndoc_id: named\n---\nbeta")
        source = Stamped(Folder(tmp_path / name, max_bytes=1000, name="ours"))
        assert counted(await sync(base, source)) == expected
        found = {each.doc_id: each.uri for each in (await known(base)).values()}
        assert found == {"a.md": (tmp_path / name / "a.md").as_uri(), "named": (tmp_path / name / "b.md").as_uri()}
    assert {each.version for each in (await known(base)).values()} == {1}


async def test_a_sidecar_is_part_of_its_document(base: KnowledgeBase, tmp_path: Path) -> None:
    """Its attributes are the document's; when it changes, so does the document."""
    write(tmp_path, a="text")
    for topic, expected in (("one", {"new": 1}), ("two", {"updated": 1})):
        (tmp_path / "a.md.metadata.json").write_text(json.dumps({"metadataAttributes": {"topic": topic}}))
        assert counted(await sync(base, tmp_path)) == expected
        assert (await base.store.document("a.md")).attributes["topic"] == topic


# --- documents that are not as they should be -----------------------------------------------------------------------


async def test_a_faulty_document_costs_nobody_else_anything(base: KnowledgeBase, tmp_path: Path) -> None:
    """Each is refused with its reason; one that was well before is still found."""
    write(tmp_path, good="good text", turns="well for now", gone="link")
    await sync(base, tmp_path)
    (tmp_path / "turns.md").write_bytes(b"\x00\x01\x02" * 1000)
    (tmp_path / "gone.md").unlink()
    (tmp_path / "gone.md").symlink_to("/etc/passwd")
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.7 and then nothing")
    (tmp_path / "large.md").write_text("x" * (LIMITS.max_bytes + 1))
    (tmp_path / "empty.md").write_text("")
    (tmp_path / "bad\nname.md").write_text("text")
    write(tmp_path, later="later text")
    report = await sync(base, tmp_path)
    assert counted(report) == {"new": 1, "unchanged": 1, "refused": 6}
    said = {each.doc_id: (each.reason, each.kept) for each in report.problems}
    assert said == {
        "turns.md": ("binary", True),
        "gone.md": ("symlink", True),
        "bad.pdf": ("corrupt", False),
        "large.md": ("too_large", False),
        "empty.md": ("empty", False),
        "bad\nname.md": ("bad_name", False),
    }
    assert report.exit_code == 1
    assert len((await base.store.by_word("well now", 5)).chunks) == 1


async def test_of_two_that_claim_one_id_the_first_stays(base: KnowledgeBase, tmp_path: Path) -> None:
    """And the second is refused, run after run; so is a document that another source has."""
    write(tmp_path, a="---\ndoc_id: same\n---\nfirst", b="---\ndoc_id: same\n---\nsecond", same="third")
    for expected in ({"new": 2, "refused": 1}, {"unchanged": 2, "refused": 1}):
        report = await sync(base, tmp_path)
        assert counted(report) == expected
        (problem,) = report.problems
        assert (problem.doc_id, problem.reason) == ("b.md", "duplicate")
        assert problem.message.startswith(f"'same' is {(tmp_path / 'a.md').as_uri()} already")
    assert await base.store.stage("same", "parsed") == "first"

    uploads = Uploads([Upload("same", "same.md", b"theirs"), Upload("mine", "mine.md", b"mine")], max_bytes=1000)
    report = await sync(base, uploads, prune=False)
    assert counted(report) == {"new": 1, "refused": 1}
    assert tmp_path.as_uri() in report.problems[0].message


async def test_an_id_stays_with_the_document_that_has_it(base: KnowledgeBase, tmp_path: Path) -> None:
    """Whoever comes before it in the list; when that one lets go of it, it is another's in the same run."""
    named = "---\ndoc_id: {}\n---\n{}".format
    write(tmp_path, m=named("refunds", "the true one"), z=named("other", "another"))
    await sync(base, tmp_path)
    write(tmp_path, a=named("refunds", "an impostor"))
    for _ in range(2):
        report = await sync(base, tmp_path)
        assert (counted(report), report.problems[0].doc_id) == ({"unchanged": 2, "refused": 1}, "a.md")
        assert f"'refunds' is {(tmp_path / 'm.md').as_uri()} already" in report.problems[0].message
        assert not report.problems[0].kept
        assert await base.store.stage("refunds", "parsed") == "the true one"

    (tmp_path / "a.md").unlink()
    write(tmp_path, m=named("other", "the true one"), z=named("refunds", "another"))
    assert counted(await sync(base, tmp_path)) == {"updated": 2}
    assert await base.store.stage("refunds", "parsed") == "another"

    write(tmp_path, a=named("refunds", "an impostor"))
    (tmp_path / "z.md").write_bytes(b"\x00\x01" * 1000)
    assert counted(await sync(base, tmp_path)) == {"unchanged": 1, "refused": 2}
    broken = Watched(Folder(tmp_path, max_bytes=1000), ends_with=SourceUnavailable("page 2 did not come"))
    (tmp_path / "z.md").unlink()
    assert counted(await sync(base, broken)) == {"unchanged": 1, "refused": 1}
    assert counted(await sync(base, tmp_path)) == {"unchanged": 1, "updated": 1}


async def test_what_became_anothers_meanwhile_is_refused(base: KnowledgeBase, tmp_path: Path) -> None:
    """The store has the last word of it, and whoever came with it is not deprived of anything else."""

    class Late(Watched):
        async def read(self, found: Found, *, known_stamp: str = "") -> Raw:
            if found.doc_id == "a.md":
                await sync(base, Uploads([Upload("a.md", "a.md", b"theirs")], max_bytes=1000), prune=False)
            return await self.inner.read(found, known_stamp=known_stamp)

    write(tmp_path, a="ours", b="ours too")
    report = await sync(base, Late(Folder(tmp_path, max_bytes=1000)))
    assert counted(report) == {"new": 1, "refused": 1}
    assert [(each.doc_id, each.reason) for each in report.problems] == [("a.md", "duplicate")]
    assert await base.store.stage("a.md", "parsed") == "theirs"


async def test_an_upload_keeps_the_id_it_came_with(base: KnowledgeBase) -> None:
    """Whatever its front matter says: it is asked for, and replaced, by that one."""

    async def upload(text: bytes) -> dict[str, int]:
        documents = [Upload("mine", "mine.md", b"---\ndoc_id: other\n---\n" + text)]
        return counted(await sync(base, Uploads(documents, max_bytes=1000), prune=False))

    said = [await upload(text) for text in (b"one", b"one", b"two")]
    assert said == [{"new": 1}, {"unchanged": 1}, {"updated": 1}]
    assert {each.doc_id: each.version for each in (await known(base)).values()} == {"mine": 2}


async def test_one_poisoned_text_fails_alone(bases: KnowledgeBases, tenant: str, tmp_path: Path) -> None:
    """Its batch mates are embedded without it; and what cannot be stored does not take others with it either."""
    bases._embedder = Letters(poison=("venom",))
    base = await bases.open(tenant, create=True)
    write(tmp_path, **{f"d{n}": f"text {n}" for n in range(5)}, poisoned="venom", later="later")
    report = await sync(base, tmp_path)
    assert counted(report) == {"new": 6, "failed": 1}
    assert [(each.doc_id, each.reason) for each in report.problems] == [("poisoned.md", "embedding")]
    assert len((await base.store.by_vector(_counted("text 3"), 10)).chunks) == 6

    refusing = replace(base, store=cast("Store", Refusing(base.store)))
    write(tmp_path, **{f"e{n}": f"text {n}" for n in range(3)})
    report = await sync(refusing, tmp_path)
    assert counted(report) == {"new": 2, "unchanged": 6, "failed": 2}
    assert {each.doc_id: each.reason for each in report.problems} == {"e1.md": "store", "poisoned.md": "embedding"}


class Refusing:
    """The store, but for a document that PostgreSQL does not take."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def put(self, documents: Sequence[Ready]) -> None:
        if any(each.doc_id == "e1.md" for each in documents):
            raise asyncpg.DataError("invalid something")
        await self._inner.put(documents)


async def test_a_model_that_fails_for_everything_ends_the_run(
    bases: KnowledgeBases, tenant: str, tmp_path: Path
) -> None:
    """After a few documents, not after all; nothing is deleted, and the next run takes them all."""
    model = bases._embedder = Letters()
    base = await bases.open(tenant, create=True)
    write(tmp_path, old="old")
    await sync(base, tmp_path)
    (tmp_path / "old.md").unlink()
    write(tmp_path, **{f"d{n:02}": "some text" for n in range(20)})
    model.poison = ("text",)
    report = await sync(base, tmp_path, percent=100)
    assert isinstance(report.error, EmbeddingFailed)
    assert (report.exit_code, report.counts.failed, report.counts.deleted) == (2, loader.IN_A_ROW, 0)
    model.poison = ()
    assert counted(await sync(base, tmp_path, percent=100)) == {"new": 20, "deleted": 1}


# --- deletions ------------------------------------------------------------------------------------------------------


async def test_too_many_deletions_stop_before_the_first(base: KnowledgeBase, tmp_path: Path) -> None:
    """What is new is loaded all the same; the limit can be lifted; other sources do not count."""
    write(tmp_path, **{f"d{n}": f"text {n}" for n in range(10)})
    await sync(base, tmp_path)
    await sync(base, Uploads([Upload("mine", "mine.md", b"mine")], max_bytes=1000), prune=False)
    for n in range(4):
        (tmp_path / f"d{n}.md").unlink()
    write(tmp_path, new="new")
    report = await sync(base, tmp_path)
    assert isinstance(report.error, TooManyDeletions)
    assert (counted(report), report.exit_code) == ({"new": 1, "unchanged": 6}, 3)
    assert counted(await sync(base, tmp_path, percent=100)) == {"unchanged": 7, "deleted": 4}
    assert (await base.store.document("mine")).state == "live"


async def test_a_source_that_is_not_listed_whole_deletes_nothing(base: KnowledgeBase, tmp_path: Path) -> None:
    """Missing, empty, or broken off: what was listed is loaded."""
    write(tmp_path / "docs", a="a", b="b")
    await sync(base, tmp_path / "docs")
    (tmp_path / "docs" / "b.md").unlink()
    write(tmp_path / "docs", c="c")
    broken = Watched(Folder(tmp_path / "docs", max_bytes=1000), ends_with=SourceUnavailable("page 2 did not come"))
    report = await sync(base, broken, percent=100)
    assert (counted(report), report.exit_code, str(report.error)) == (
        {"new": 1, "unchanged": 1},
        2,
        "page 2 did not come",
    )
    assert (await base.store.document("b.md")).state == "live"

    (tmp_path / "docs").rename(tmp_path / "away")
    assert isinstance((await sync(base, tmp_path / "docs", percent=100)).error, SourceUnavailable)
    (tmp_path / "docs").mkdir()
    assert isinstance((await sync(base, tmp_path / "docs")).error, TooManyDeletions)
    assert len([each for each in (await known(base)).values() if each.state == "live"]) == 3


# --- a new index ----------------------------------------------------------------------------------------------------


async def test_a_new_index_takes_over_when_it_is_complete(shared_url: str, tenant: str, tmp_path: Path) -> None:
    """Other chunks of the same documents; their versions stay, and no file is read."""
    write(tmp_path, **{f"d{n}": "\n\n".join(f"Sentence {n} {m} is here." for m in range(40)) for n in range(3)})

    async def chunks(bases: KnowledgeBases) -> int:
        return (await (await bases.open(tenant)).store.summary()).chunks

    none = EmbeddingConfig("none")
    async with opened(shared_url, KnowledgeConfig(embedding=none)) as bases:
        await carry_out(Request(str(tmp_path)), bases, tenant, LIMITS, POLICY, lambda report: None)
        before = await chunks(bases)
    config = KnowledgeConfig(embedding=none, chunking=ChunkingConfig("fixed", 100))
    async with opened(shared_url, config) as bases:
        report = await carry_out(Request(reindex=True), bases, tenant, LIMITS, POLICY, lambda report: None)
        assert (report.error, report.counts.updated) == (None, 3)
        assert await chunks(bases) == report.counts.chunks > before
        base = await bases.open(tenant)
        assert {each.version for each in (await known(base)).values()} == {1}
        assert (await base.store.summary()).chunking["kind"] == "fixed"


async def test_a_new_index_that_cannot_be_names_the_document(
    bases: KnowledgeBases, tenant: str, tmp_path: Path
) -> None:
    """One whose text is lost, or that the model does not take: the index that answers stays."""
    base = await bases.open(tenant, create=True)
    write(tmp_path, a="text", b="short", c="word " * 150)
    await sync(base, tmp_path)
    bases._embedder = Letters()
    report = await reindex(bases, base.row, lambda report: None)
    assert isinstance(report.error, TextTooLong)
    assert (str(report.error).startswith("c.md: "), report.counts.updated) == (True, 2)

    sql = "DELETE FROM kb_parsed p USING kb_documents d WHERE d.number = p.document AND d.base = $1 AND d.doc_id = $2"
    await bases.pool.execute(sql, base.row.number, "a.md")
    write(tmp_path, c="no longer long")
    bases._embedder = None
    await sync(base, tmp_path)
    object.__setattr__(bases, "config", replace(bases.config, chunking=ChunkingConfig("fixed", 300)))
    async with asyncio.timeout(60):
        report = await reindex(bases, base.row, lambda report: None)
    assert isinstance(report.error, NotFound)
    assert "'a.md' is lost" in str(report.error)
    assert len((await base.store.by_word("short", 5)).chunks) == 1


async def test_an_unreadable_document_says_so_and_is_asked_for_again(base: KnowledgeBase, tmp_path: Path) -> None:
    """A refusal is no state: once mended, it is taken."""

    class Shy(Watched):
        async def read(self, found: Found, *, known_stamp: str = "") -> Raw:
            raise Refused("unreachable", "not today")

    write(tmp_path, a="text")
    await settled(tmp_path)
    assert counted(await sync(base, Shy(Folder(tmp_path, max_bytes=1000)))) == {"refused": 1}
    assert counted(await sync(base, tmp_path)) == {"new": 1}
