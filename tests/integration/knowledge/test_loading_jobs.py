"""Runs on record: one at a time for a source, taken up when their process dies, ended when somebody asks."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from aiohttp import web

from knowledge_base.bases import KnowledgeBase, KnowledgeBases, KnowledgeConfig, opened
from knowledge_base.chunking import ChunkingConfig
from knowledge_base.documents import Found, Raw
from knowledge_base.embedding.opening import EmbeddingConfig
from knowledge_base.errors import InvalidRequest, NotFound, SourceBusy
from knowledge_base.loading import jobs as jobs_module
from knowledge_base.loading.command import Request, carry_out
from knowledge_base.loading.jobs import ATTEMPTS, Job, Jobs
from knowledge_base.loading.orders import Order, SourcePolicy
from knowledge_base.loading.reindexing import reindex
from knowledge_base.loading.report import Report
from knowledge_base.loading.runner import JobRunner
from knowledge_base.loading.running import run_as_job
from knowledge_base.parsing import Limits
from knowledge_base.sources.uploads import Upload, Uploads
from tests.conftest import TemplateDatabase
from tests.nursery import Order as Command
from tests.nursery import environment, lives, nursery
from tests.unit.knowledge.source_stands import Site, serving

LIMITS = Limits(max_bytes=100_000)
POLICY = SourcePolicy(LIMITS.max_bytes, allowed_hosts=["127.0.0.1"])
WORDS = KnowledgeConfig(embedding=EmbeddingConfig("none"))


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
    async with opened(shared_url, WORDS) as made:
        yield made


@pytest.fixture
async def base(bases: KnowledgeBases, tenant: str) -> KnowledgeBase:
    return await bases.open(tenant, create=True)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as made:
        yield made


def runner(bases: KnowledgeBases, tenant: str) -> JobRunner:
    return JobRunner(bases, POLICY, LIMITS, tenant=tenant)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def state(bases: KnowledgeBases, job: Job, *states: str) -> Job:
    """The job, once it is in one of these states."""
    async with asyncio.timeout(60):
        while True:
            now = await Jobs(bases.pool).get(job.tenant, job.id)
            if now.state in states:
                return now
            await asyncio.sleep(0.01)


# --- by command -----------------------------------------------------------------------------------------------------


async def test_a_run_is_on_record_with_what_it_refused(bases: KnowledgeBases, tenant: str, tmp_path: Path) -> None:
    """Counts, problems, times; for its tenant alone."""
    (tmp_path / "a.md").write_text("text")
    (tmp_path / "b.md").symlink_to("/etc/passwd")
    report = await carry_out(Request(str(tmp_path), prune=True), bases, tenant, LIMITS, POLICY, lambda report: None)
    jobs = Jobs(bases.pool)
    (job,) = await jobs.list(tenant)
    assert (job.id, job.state, job.kind, job.source) == (report.job, "done", "sync", tmp_path.as_uri())
    assert (job.counts.new, job.counts.refused, job.problems, job.is_over) == (1, 1, 1, True)
    assert job.started_at
    assert job.ended_at
    ((number, problem),) = await jobs.problems(tenant, job.id)
    assert (number, problem.doc_id, problem.reason, problem.kept) == (1, "b.md", "symlink", False)
    assert await jobs.list("others") == []
    assert await jobs.problems("others", job.id) == []
    for asked in (jobs.get("others", job.id), jobs.get(tenant, "nonsense"), jobs.get(tenant, str(uuid4()))):
        with pytest.raises(NotFound):
            await asked


async def test_two_runs_of_one_source_are_one_too_many(bases: KnowledgeBases, base: KnowledgeBase) -> None:
    """The second is refused while the first runs, and no longer; other sources do not mind."""
    jobs = Jobs(bases.pool)
    async with jobs.begin(base.tenant, base.id, "s", "load") as first:
        with pytest.raises(SourceBusy):
            async with jobs.begin(base.tenant, base.id, "s", "load"):
                pass
        async with jobs.begin(base.tenant, base.id, "other", "load"):
            pass
        await first.end(Report("s"), "done", None)
    async with jobs.begin(base.tenant, base.id, "s", "load"):
        pass


async def test_a_run_that_is_cancelled_ends(
    bases: KnowledgeBases, base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was doing is stopped; what it counted by then is on record."""
    monkeypatch.setattr("knowledge_base.loading.running.HEARTBEAT_S", 0.02)
    jobs, stopped = Jobs(bases.pool), asyncio.Event()

    async def work(watch: Callable[[Report], None]) -> Report:
        report = Report("s")
        report.counts.new = 7
        watch(report)
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()
        return report

    async with jobs.begin(base.tenant, base.id, "s", "load") as running:
        task = asyncio.create_task(run_as_job(running, "s", work))
        await asyncio.sleep(0)
        await jobs.cancel(base.tenant, running.id)
        report = await task
    assert stopped.is_set()
    job = await jobs.get(base.tenant, running.id)
    assert (job.state, job.counts.new, report.exit_code) == ("cancelled", 7, 2)


async def test_a_run_that_is_interrupted_says_so(bases: KnowledgeBases, base: KnowledgeBase) -> None:
    """Ctrl-C, or a bug: it does not stay as running."""
    jobs = Jobs(bases.pool)

    async def forever(_watch: object) -> Report:
        await asyncio.sleep(60)
        raise AssertionError

    async def broken(_watch: object) -> Report:
        raise ZeroDivisionError

    async with jobs.begin(base.tenant, base.id, "s", "load") as running:
        task = asyncio.create_task(run_as_job(running, "s", forever))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await jobs.get(base.tenant, running.id)).state == "interrupted"
    async with jobs.begin(base.tenant, base.id, "s", "load") as running:
        with pytest.raises(ZeroDivisionError):
            await run_as_job(running, "s", broken)
    job = await jobs.get(base.tenant, running.id)
    assert (job.state, job.error and job.error[0]) == ("failed", "internal_error")


# --- by order -------------------------------------------------------------------------------------------------------


async def test_orders_are_carried_out_in_the_background(bases: KnowledgeBases, base: KnowledgeBase, site: Site) -> None:
    """Uploads and pages, in their turn; the documents that came with an order are let go of."""
    site.pages["/a.md"] = b"a page about owls"
    jobs = runner(bases, base.tenant)
    uploads = [Upload("one.md", "one.md", b"an upload about cranes", sidecar=b'{"metadataAttributes": {"k": "v"}}')]
    first = await jobs.submit(base.id, Order("uploads"), uploads=uploads)
    second = await jobs.submit(base.id, Order("urls", (f"{site.url}/a.md", f"{site.url}/missing")))
    assert (first.state, second.state, second.source) == ("queued", "queued", "urls")
    jobs.start()
    try:
        one, two = await state(bases, first, "done"), await state(bases, second, "done")
    finally:
        await jobs.stop()
    assert (one.counts.new, two.counts.new, two.counts.refused) == (1, 1, 1)
    assert (await base.store.document("one.md")).attributes == {"k": "v"}
    assert len((await base.store.by_word("owls", 5)).chunks) == 1
    assert await bases.pool.fetchval("SELECT count(*) FROM kb_job_uploads WHERE job = $1", one.id) == 0


async def test_an_order_is_taken_once(bases: KnowledgeBases, base: KnowledgeBase) -> None:
    """By its key; and none that cannot be carried out."""
    jobs = runner(bases, base.tenant)
    uploads = [Upload("a", "a.md", b"text")]
    first = await jobs.submit(base.id, Order("uploads"), key="k", uploads=uploads)
    again = await jobs.submit(base.id, Order("uploads"), key="k", uploads=uploads)
    assert first.id == again.id
    assert await bases.pool.fetchval("SELECT count(*) FROM kb_job_uploads WHERE job = $1", first.id) == 1
    with pytest.raises(InvalidRequest):
        await jobs.submit(base.id, Order("uploads"))
    with pytest.raises(NotFound):
        await jobs.submit("NOSUCHBASE", Order("urls", ("https://a.example/",)))
    assert (await jobs.jobs.cancel(base.tenant, first.id)).state == "cancelled"
    assert not await jobs.carry_out_one()
    assert await bases.pool.fetchval("SELECT count(*) FROM kb_job_uploads WHERE job = $1", first.id) == 0


async def test_orders_of_a_busy_source_keep_no_other_waiting(bases: KnowledgeBases, base: KnowledgeBase) -> None:
    """However many there are."""
    jobs = Jobs(bases.pool)
    for n in range(22):
        await jobs.enqueue(base.tenant, base.id, Order("uploads"), "uploads", uploads=[Upload(f"{n}", "a.md", b"text")])
    other = await jobs.enqueue(base.tenant, base.id, Order("urls", ("https://a.example/",)), "urls")
    async with jobs.claim(base.tenant) as first, jobs.claim(base.tenant) as second, jobs.claim(base.tenant) as third:
        assert first is not None
        assert second is not None
        assert (first[0].source, second[0].id, third) == ("uploads", other.id, None)


async def test_an_order_goes_on_with_a_new_index(
    bases: KnowledgeBases, base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That took over while it was carried out; its documents are not lost."""
    jobs, upload = runner(bases, base.tenant), Uploads.read
    replaced: list[int] = []

    async def read(self: Uploads, found: Found, *, known_stamp: str = "") -> Raw:
        if not replaced:
            replaced.append(1)
            config = replace(bases.config, chunking=ChunkingConfig("fixed", 300))
            object.__setattr__(bases, "config", config)
            assert (await reindex(bases, base.row, lambda report: None)).error is None
        return await upload(self, found, known_stamp=known_stamp)

    monkeypatch.setattr(Uploads, "read", read)
    job = await jobs.submit(base.id, Order("uploads"), uploads=[Upload("one.md", "one.md", b"an upload about cranes")])
    assert await jobs.carry_out_one()
    assert (await jobs.jobs.get(base.tenant, job.id)).state == "done"
    assert len((await (await bases.open(base.tenant)).store.by_word("cranes", 5)).chunks) == 1


async def test_an_order_whose_process_died_is_taken_up(
    bases: KnowledgeBases, base: KnowledgeBase, shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By any other, at once when its silence is noticed; one that kills each of them is given up."""
    monkeypatch.setattr(jobs_module, "SILENT_S", 0.0)
    jobs = Jobs(bases.pool)
    job = await runner(bases, base.tenant).submit(base.id, Order("uploads"), uploads=[Upload("a", "a.md", b"text")])
    for _ in range(ATTEMPTS):
        async with AsyncExitStack() as stack:
            lost = await stack.enter_async_context(opened(shared_url, WORDS))
            claimed = await stack.enter_async_context(Jobs(lost.pool).claim(base.tenant))
            assert claimed is not None
            async with jobs.claim(base.tenant) as nothing:
                assert nothing is None  # while it lives, whatever its heart does
        await bases.pool.execute("UPDATE kb_jobs SET heartbeat_at = now() - interval '1 hour' WHERE id = $1", job.id)
        assert (await jobs.get(base.tenant, job.id)).state == "interrupted"
    assert not await runner(bases, base.tenant).carry_out_one()
    ended = await jobs.get(base.tenant, job.id)
    assert (ended.state, ended.attempts, ended.error and ended.error[0]) == ("interrupted", ATTEMPTS, "interrupted")


async def test_a_stop_hands_an_order_on(bases: KnowledgeBases, base: KnowledgeBase, site: Site) -> None:
    """To the next process, which begins it anew."""
    asked, let = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await let.wait()
        return web.Response(text="a page", content_type="text/plain")

    site.answers["/slow.txt"] = slow
    first = runner(bases, base.tenant)
    job = await first.submit(base.id, Order("urls", (f"{site.url}/slow.txt",)))
    first.start()
    await asked.wait()
    await first.stop()
    now = await first.jobs.get(base.tenant, job.id)
    assert (now.state, now.attempts) == ("queued", 0)
    let.set()
    assert await runner(bases, base.tenant).carry_out_one()
    assert (await first.jobs.get(base.tenant, job.id)).counts.new == 1


# --- kill -9 --------------------------------------------------------------------------------------------------------


class Model:
    """An embedding server that stops answering when it has made so many vectors, until it is told to go on."""

    def __init__(self, site: Site) -> None:
        self.texts: list[str] = []
        self.stops_after = 10**9
        self.stopped = asyncio.Event()
        site.answers["/v1/embeddings"] = self.answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        texts = (await request.json())["input"]
        if len(self.texts) + len(texts) > self.stops_after:
            self.stopped.set()
            await asyncio.sleep(3600)
        self.texts += [text for text in texts if text.startswith("Document")]  # not that of the first question
        vectors = [{"index": n, "embedding": [1.0, float(len(text)), 2.0, 0.5]} for n, text in enumerate(texts)]
        return web.json_response({"data": vectors, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}})


def command(folder: Path, docs: Path, url: str, tenant: str, site: Site) -> tuple[int, Path]:
    """`outcrop kb sync`, begun; its pid, and where its exit code will be."""
    code = folder / f"code-{uuid4().hex}"
    env = environment(
        DATABASE_URL=url,
        TENANT=tenant,
        KB_EMBEDDING="openai",
        KB_EMBEDDING_MODEL="m",
        KB_EMBEDDING_URL=f"{site.url}/v1",
    )
    out = str(folder / "out")
    order = Command(("kb", "sync", str(docs), "--json"), env, str(folder), out, out, code=str(code))
    return nursery().fork(order), code


async def test_a_run_that_is_killed_is_gone_on_with(shared_url: str, tenant: str, tmp_path: Path, site: Site) -> None:
    """kill -9 in the middle: what was stored stays, is neither read nor embedded again, and the whole is the same."""
    docs = tmp_path / "docs"
    docs.mkdir()
    for n in range(250):
        (docs / f"d{n:03}.md").write_text(f"# Document {n}\n\nText number {n} of many.\n")
    model = Model(site)
    model.stops_after = 130
    pid, _ = command(tmp_path, docs, shared_url, tenant, site)
    await asyncio.wait_for(model.stopped.wait(), 60)
    async with connected(shared_url) as connection:
        count = "SELECT count(*) FROM kb_documents d JOIN kb_bases b ON b.number = d.base WHERE b.tenant = $1"
        async with asyncio.timeout(60):
            while not await connection.fetchval(count, tenant):
                await asyncio.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not lives(pid))
        stored = await connection.fetchval(count, tenant)
        assert 0 < stored < 250
        before = len(model.texts)
        model.stops_after = 10**9
        for who in (tenant, f"{tenant}-b"):  # the second loads without a break
            pid, code = command(tmp_path, docs, shared_url, who, site)
            await until(lambda pid=pid: not lives(pid))  # type: ignore[misc]
            assert code.read_text() == "0", (tmp_path / "out").read_text()
            if who == tenant:
                assert len(model.texts) == len(set(model.texts)) == 250 > before, "something was embedded twice"
        whole = """
            SELECT d.doc_id, d.version, d.state, c.key, c.text FROM kb_bases b JOIN kb_documents d ON d.base = b.number
            JOIN kb_indexes i ON i.base = b.number JOIN kb_chunks c ON c.index = i.number AND c.document = d.number
            WHERE b.tenant = $1 ORDER BY 1, 2, 4
        """
        assert await connection.fetch(whole, tenant) == await connection.fetch(whole, f"{tenant}-b")
        states = "SELECT state FROM kb_jobs WHERE tenant = $1 ORDER BY created_at"
        assert [row["state"] for row in await connection.fetch(states, tenant)] == ["interrupted", "done"]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection for the block."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
