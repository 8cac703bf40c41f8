"""Carries out orders in the background, those too that a process which died had begun."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence

from knowledge_base.bases import KnowledgeBases
from knowledge_base.errors import IndexMismatch, KnowledgeError
from knowledge_base.loading.jobs import Job, Jobs
from knowledge_base.loading.loader import Loader
from knowledge_base.loading.orders import Order, SourcePolicy
from knowledge_base.loading.report import Report
from knowledge_base.loading.running import Watch, run_as_job
from knowledge_base.parsing import Limits
from knowledge_base.sources.uploads import Upload

log = logging.getLogger(__name__)

LOOK_S = 5.0
BEGUN_ANEW = 3  # times at most, since a new index took over


class JobRunner:
    """The orders of one tenant, at most `concurrency` at a time in this process."""

    def __init__(
        self,
        knowledge: KnowledgeBases,
        policy: SourcePolicy,
        limits: Limits,
        *,
        tenant: str,
        delete_limit_percent: float = 30.0,
        concurrency: int = 1,
    ) -> None:
        self.jobs = Jobs(knowledge.pool)
        self._knowledge = knowledge
        self._policy = policy
        self._limits = limits
        self._tenant = tenant
        self._delete_limit_percent = delete_limit_percent
        self._concurrency = concurrency
        self._wanted = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []

    async def submit(
        self, base_id: str, order: Order, *, key: str | None = None, uploads: Sequence[Upload] = ()
    ) -> Job:
        """Put an order on record and begin soon. `InvalidRequest`, `NotFound`: it is not taken."""
        source = self._policy.source(order, uploads)
        job = await self.jobs.enqueue(self._tenant, base_id, order, source.name, key=key, uploads=uploads)
        self._wanted.set()
        return job

    def start(self) -> None:
        """Begin to look for orders."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._concurrency)]

    async def stop(self) -> None:
        """Leave what is under way to the next process that starts."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            try:
                while await self.carry_out_one():
                    pass
            except KnowledgeError as error:
                log.warning("kb_job_failed code=%s", error.code)
            except Exception:
                log.exception("kb_job_broke")
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()

    async def carry_out_one(self) -> bool:
        """Carry out the order that waits longest, to its end; False when none waits."""
        async with self.jobs.claim(self._tenant) as claimed:
            if claimed is None:
                return False
            job, running = claimed
            await run_as_job(running, job.source, lambda watch: self._load(job, watch))
        return True

    async def _load(self, job: Job, watch: Watch) -> Report:
        """Through to its end; what was stored by then is unchanged to the next try."""
        report = await self._load_once(job, watch)
        for _ in range(BEGUN_ANEW):
            if not isinstance(report.error, IndexMismatch):
                break
            report = await self._load_once(job, watch)
        return report

    async def _load_once(self, job: Job, watch: Watch) -> Report:
        assert job.order is not None
        order, percent = job.order, job.order.allow_delete_percent
        base = await self._knowledge.open(job.tenant, job.base_id)
        source = self._policy.source(order, await self.jobs.uploads(job.id))
        return await Loader(base, self._limits).sync(
            source,
            prune=order.prune,
            full=order.full,
            delete_limit_percent=self._delete_limit_percent if percent is None else percent,
            on_progress=watch,
            still_there=_all if order.kind == "urls" else None,  # those of other orders are of the same source
        )


async def _all(uris: Collection[str]) -> Collection[str]:
    return uris
