"""Every run is a job, whoever started it: what it is to do, how far it is, and what was wrong with which document.

A lock of PostgreSQL keeps two jobs from loading the same source at once. It belongs to the connection, so it goes with
a process that dies; `heartbeat_at` tells others that it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import asyncpg
import orjson

from knowledge_base.errors import InvalidRequest, KnowledgeError, NotFound, SourceBusy
from knowledge_base.loading.orders import MAX_UPLOADS, Order, read_order
from knowledge_base.loading.report import Counts, Problem, Report
from knowledge_base.sources.uploads import Upload
from knowledge_base.stores.connections import Connection, Pool, reaching, reading

State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
Kind = Literal["load", "sync", "reindex"]
HEARTBEAT_S = 2.0
SILENT_S = 30.0  # then a job is taken for dead
ATTEMPTS = 3
KEPT = timedelta(days=30)
MAX_KEY = 200

_COLUMNS = f"""
    j.id, j.tenant, b.id AS base_id, j.source, j.kind, j.orders, j.counts, j.problems, j.error_code, j.error_message,
    CASE WHEN j.state = 'running' AND j.heartbeat_at < now() - interval '{SILENT_S} s' THEN 'interrupted' ELSE j.state
    END AS state, j.attempts, j.created_at, j.started_at, j.heartbeat_at, j.ended_at,
    j.cancel_requested_at IS NOT NULL AS cancel_requested
"""
_FROM = "FROM kb_jobs j JOIN kb_bases b ON b.number = j.base"


@dataclass(frozen=True, slots=True)
class Job:
    """A run, or one that is to come. `order` is None where somebody at this machine started it."""

    id: str
    tenant: str
    base_id: str
    source: str
    kind: Kind
    order: Order | None
    state: State
    counts: Counts
    problems: int  # of documents, on record
    error: tuple[str, str] | None  # code and message
    attempts: int
    created_at: datetime
    started_at: datetime | None
    heartbeat_at: datetime | None
    ended_at: datetime | None
    cancel_requested: bool

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more, unless it is run again."""
        return self.state in ("done", "failed", "cancelled", "interrupted")


class Jobs:
    """The jobs of one deployment; every method is told whose."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def enqueue(
        self,
        tenant: str,
        base_id: str,
        order: Order,
        source: str,
        *,
        key: str | None = None,
        uploads: Sequence[Upload] = (),
    ) -> Job:
        """Put an order on record, for any process to carry out; with the same `key` again the same job.

        `NotFound`: no such base. `InvalidRequest`: uploads that the order does not have, or none, or too many.
        """
        if (order.kind == "uploads") != bool(uploads) or len(uploads) > MAX_UPLOADS:
            raise InvalidRequest("documents", f"must be 1 to {MAX_UPLOADS}, for an order of uploads and no other")
        if key is not None and not 0 < len(key) <= MAX_KEY:
            raise InvalidRequest("key", f"must have 1 to {MAX_KEY} characters")
        new, kind = uuid4(), "sync" if order.prune else "load"
        async with reading(self._pool) as connection, connection.transaction():
            base = await _base(connection, tenant, base_id)
            sql = """
                INSERT INTO kb_jobs (id, tenant, base, source, kind, orders, key, state)
                VALUES ($1, $2, $3, $4, $5, $6, $7, 'queued')
                ON CONFLICT (base, key) DO UPDATE SET key = excluded.key RETURNING id
            """
            orders = orjson.dumps(order.as_json()).decode()
            kept = await connection.fetchval(sql, new, tenant, base, source, kind, orders, key)
            if kept == new:
                rows = [(new, n, u.doc_id, u.name, u.media_type, u.content, u.sidecar) for n, u in enumerate(uploads)]
                await connection.executemany("INSERT INTO kb_job_uploads VALUES ($1, $2, $3, $4, $5, $6, $7)", rows)
        return await self.get(tenant, str(kept))

    async def get(self, tenant: str, job_id: str) -> Job:
        """One job; `NotFound`."""
        async with reading(self._pool) as connection:
            sql = f"SELECT {_COLUMNS} {_FROM} WHERE j.tenant = $1 AND j.id = $2"
            row = await connection.fetchrow(sql, tenant, _uuid(job_id))
        if row is None:
            raise NotFound(f"there is no job {job_id!r}")
        return _job(row)

    async def list(
        self, tenant: str, base_id: str | None = None, *, after: str | None = None, limit: int = 50
    ) -> list[Job]:
        """Jobs, the newest first, those of one base or all; `after` is the last job of the page before."""
        sql = f"""
            SELECT {_COLUMNS} {_FROM} WHERE j.tenant = $1 AND ($2::text IS NULL OR b.id = $2)
            AND ($3::uuid IS NULL OR (j.created_at, j.id) < (SELECT created_at, id FROM kb_jobs WHERE id = $3))
            ORDER BY j.created_at DESC, j.id DESC LIMIT $4
        """  # noqa: S608 (names of columns)
        async with reading(self._pool) as connection:
            rows = await connection.fetch(sql, tenant, base_id, _uuid(after) if after else None, limit)
        return [_job(row) for row in rows]

    async def problems(
        self, tenant: str, job_id: str, *, after: int = 0, limit: int = 100
    ) -> Sequence[tuple[int, Problem]]:
        """What was wrong with documents of a job, numbered from 1, beginning behind `after`."""
        sql = """
            SELECT d.* FROM kb_job_documents d JOIN kb_jobs j ON j.id = d.job
            WHERE j.tenant = $1 AND j.id = $2 AND d.number > $3 ORDER BY d.number LIMIT $4
        """
        async with reading(self._pool) as connection:
            rows = await connection.fetch(sql, tenant, _uuid(job_id), after, limit)
        names = ("doc_id", "uri", "outcome", "reason", "message", "kept")
        return [(row["number"], Problem(**{name: row[name] for name in names})) for row in rows]

    async def cancel(self, tenant: str, job_id: str) -> Job:
        """Ask that a job ends: one that has not begun does at once, one that runs within seconds."""
        sql = """
            UPDATE kb_jobs SET cancel_requested_at = coalesce(cancel_requested_at, now()),
                state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END,
                ended_at = CASE state WHEN 'queued' THEN now() ELSE ended_at END
            WHERE tenant = $1 AND id = $2 AND state IN ('queued', 'running')
        """
        async with reading(self._pool) as connection:
            await connection.execute(sql, tenant, _uuid(job_id))
            await connection.execute(_FORGET_UPLOADS, _uuid(job_id))
        return await self.get(tenant, job_id)

    @asynccontextmanager
    async def begin(self, tenant: str, base_id: str, source: str, kind: Kind) -> AsyncIterator[Running]:
        """A job that the caller runs itself, inside the block; `SourceBusy` while another loads that source."""
        async with _held(self._pool) as connection:
            with reaching():
                base = await _base(connection, tenant, base_id)
            async with _locked(connection, base, source) as is_ours:
                if not is_ours:
                    raise SourceBusy(f"{source} is being loaded by another job; `outcrop kb status --jobs` shows it")
                yield await _recorded(connection, tenant, base, source, kind)

    @asynccontextmanager
    async def claim(self, tenant: str) -> AsyncIterator[tuple[Job, Running] | None]:
        """The oldest order that waits, or whose process died, for as long as the block lasts; None when there is none.

        Of a source that is being loaded all wait, and keep no other waiting. One that was begun too often without an
        end is ended here.
        """
        sql = f"""
            SELECT * FROM (
                SELECT DISTINCT ON (j.base, j.source) {_COLUMNS}, j.base {_FROM}
                WHERE j.tenant = $1 AND j.orders IS NOT NULL AND (j.state = 'queued'
                OR j.state = 'running' AND j.heartbeat_at < now() - interval '{SILENT_S} s')
                ORDER BY j.base, j.source, j.created_at
            ) AS first ORDER BY created_at LIMIT 1000
        """  # noqa: S608 (names of columns)
        async with _held(self._pool) as connection:
            with reaching():
                rows = await connection.fetch(sql, tenant)
            for row in rows:
                async with _locked(connection, row["base"], row["source"]) as is_ours:
                    if is_ours and (running := await _begun(connection, row)):
                        yield _job(row), running
                        return
            yield None

    async def uploads(self, job_id: str) -> Sequence[Upload]:
        """The documents that came with an order."""
        sql = "SELECT * FROM kb_job_uploads WHERE job = $1 ORDER BY number"
        async with reading(self._pool) as connection:
            rows = await connection.fetch(sql, _uuid(job_id))
        return [Upload(r["doc_id"], r["name"], r["content"], r["media_type"], r["sidecar"]) for r in rows]


class Running:
    """A job that this process runs, on the connection that holds the lock."""

    def __init__(self, connection: Connection, job: UUID, attempt: int) -> None:
        self.id = str(job)
        self._job = job
        self._attempt = attempt
        self._connection = connection
        self._told = 0  # problems that are on record
        self._one_by_one = asyncio.Lock()

    async def tell(self, report: Report) -> bool:
        """Put on record how far it is; False when it is to end: somebody asked for it, or it is another's by now."""
        sql = """
            UPDATE kb_jobs SET heartbeat_at = now(), counts = $3, problems = $4
            WHERE id = $1 AND attempts = $2 AND state = 'running' RETURNING cancel_requested_at IS NULL
        """
        async with self._alone():
            goes_on = await self._connection.fetchval(sql, self._job, self._attempt, *await self._written(report))
        return bool(goes_on)

    async def end(self, report: Report, state: State, error: KnowledgeError | None) -> None:
        """Put on record how it ended. Uploads are let go of."""
        sql = """
            UPDATE kb_jobs SET state = $5, ended_at = now(), heartbeat_at = now(), counts = $3, problems = $4,
                error_code = $6, error_message = $7
            WHERE id = $1 AND attempts = $2 AND state = 'running'
        """
        said = (error.code, str(error)) if error else (None, None)
        async with self._alone():
            written = await self._written(report)
            await self._connection.execute(sql, self._job, self._attempt, *written, state, *said)
            await self._connection.execute(_FORGET_UPLOADS, self._job)

    async def let_go(self, report: Report) -> None:
        """This process ends before the job: an order is for the next one that looks, any other job is interrupted."""
        sql = """
            UPDATE kb_jobs SET counts = $3, problems = $4,
                state = CASE WHEN orders IS NULL THEN 'interrupted' ELSE 'queued' END,
                attempts = CASE WHEN orders IS NULL THEN attempts ELSE attempts - 1 END,
                ended_at = CASE WHEN orders IS NULL THEN now() END
            WHERE id = $1 AND attempts = $2 AND state = 'running'
        """
        async with self._alone():
            await self._connection.execute(sql, self._job, self._attempt, *await self._written(report))

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._one_by_one:
            with reaching():
                yield

    async def _written(self, report: Report) -> tuple[str, int]:
        new = report.problems[self._told :]
        rows = [
            (self._job, n, p.doc_id, p.uri, p.outcome, p.reason, p.message, p.kept)
            for n, p in enumerate(new, self._told + 1)
        ]
        if rows:
            sql = "INSERT INTO kb_job_documents VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING"
            await self._connection.executemany(sql, rows)
        self._told += len(new)
        return orjson.dumps(report.counts.as_json()).decode(), self._told


_FORGET_UPLOADS = """
    DELETE FROM kb_job_uploads u USING kb_jobs j
    WHERE u.job = j.id AND j.id = $1 AND j.state NOT IN ('queued', 'running')
"""


@asynccontextmanager
async def _held(pool: Pool) -> AsyncIterator[Connection]:
    """A connection for long. What goes wrong meanwhile, but not with it, stays what it is."""
    with reaching():
        connection = await pool.acquire()
    try:
        yield connection
    finally:
        await pool.release(connection)


async def _recorded(connection: Connection, tenant: str, base: int, source: str, kind: Kind) -> Running:
    sql = """
        INSERT INTO kb_jobs (id, tenant, base, source, kind, state, attempts, started_at, heartbeat_at)
        VALUES ($1, $2, $3, $4, $5, 'running', 1, now(), now())
    """
    new = uuid4()
    with reaching():
        await _sweep(connection, tenant, base, source)
        await connection.execute(sql, new, tenant, base, source, kind)
    return Running(connection, new, 1)


async def _base(connection: Connection, tenant: str, base_id: str) -> int:
    number: int | None = await connection.fetchval(
        "SELECT number FROM kb_bases WHERE tenant = $1 AND id = $2", tenant, base_id
    )
    if number is None:
        raise NotFound(f"there is no knowledge base {base_id!r}")
    return number


@asynccontextmanager
async def _locked(connection: Connection, base: int, source: str) -> AsyncIterator[bool]:
    """Whether the source is ours for as long as the block lasts."""
    key = f"outcrop kb source {base} {source}"
    with reaching():
        try:
            is_ours = await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", key)
        except BaseException:  # cancelled: it may have been given already
            connection.terminate()
            raise
    try:
        yield is_ours
    finally:
        if is_ours:
            # The pool leaves a connection as it is, with its locks.
            try:
                await connection.execute("SELECT pg_advisory_unlock(hashtextextended($1, 0))", key)
            except BaseException:
                connection.terminate()
                raise


async def _sweep(connection: Connection, tenant: str, base: int, source: str) -> None:
    """Nobody else holds this source, so a job of it that is said to run was killed. Old jobs go."""
    died = """
        UPDATE kb_jobs SET state = 'interrupted', ended_at = heartbeat_at
        WHERE base = $1 AND source = $2 AND state = 'running' AND orders IS NULL
    """
    await connection.execute(died, base, source)
    old = "DELETE FROM kb_jobs WHERE tenant = $1 AND ended_at < now() - $2::interval"
    await connection.execute(old, tenant, KEPT)


async def _begun(connection: Connection, row: asyncpg.Record) -> Running | None:
    await _sweep(connection, row["tenant"], row["base"], row["source"])
    if row["attempts"] >= ATTEMPTS:
        sql = """
            UPDATE kb_jobs SET state = 'interrupted', ended_at = now(), error_code = 'interrupted', error_message = $2
            WHERE id = $1 AND state = 'running'
        """
        await connection.execute(sql, row["id"], f"its process died {ATTEMPTS} times")
        await connection.execute(_FORGET_UPLOADS, row["id"])
        return None
    sql = """
        UPDATE kb_jobs SET state = 'running', attempts = attempts + 1, heartbeat_at = now(),
            started_at = coalesce(started_at, now())
        WHERE id = $1 AND state IN ('queued', 'running') AND attempts = $2 RETURNING attempts
    """
    attempt = await connection.fetchval(sql, row["id"], row["attempts"])
    await connection.execute("DELETE FROM kb_job_documents WHERE job = $1", row["id"])
    return Running(connection, row["id"], attempt) if attempt else None


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound(f"there is no job {text[:60]!r}") from error


def _job(row: asyncpg.Record) -> Job:
    values: dict[str, Any] = dict(row)
    orders, counts = values.pop("orders"), orjson.loads(values.pop("counts"))
    code, message = values.pop("error_code"), values.pop("error_message")
    values.pop("base", None)
    return Job(
        **values | {"id": str(values["id"])},
        order=read_order(orjson.loads(orders)) if orders else None,
        counts=Counts(**counts),
        error=(code, message) if code else None,
    )
