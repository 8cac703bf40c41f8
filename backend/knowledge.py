"""Knowledge bases as the settings describe them, and what is loaded into the first one at start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from backend.settings import Settings
from knowledge_base.bases import DEFAULT, KnowledgeBases, opened
from knowledge_base.errors import KnowledgeError
from knowledge_base.loading.environment import Environment
from knowledge_base.loading.orders import Order
from knowledge_base.loading.runner import JobRunner

log = structlog.get_logger(__name__)

# A start waits so long for the documents; the shipped ones take less than a second.
PATIENCE_S = 10.0
LOOK_S = 0.05
# Kinds of models that run here; others are asked over the network, where a question costs something.
OURS = ("embedded", "onnx")


def environment(settings: Settings, database_url: str) -> Environment:
    """The same keys, as loading reads them where no service runs: one reading of what they mean."""
    return Environment.model_validate({**settings.model_dump(), "database_url": database_url})


def knowledge_bases(settings: Settings, database_url: str) -> AbstractAsyncContextManager[KnowledgeBases]:
    """All bases of the deployment at this database."""
    return opened(database_url, environment(settings, database_url).config)


def job_runner(settings: Settings, bases: KnowledgeBases) -> JobRunner:
    """Carries out what is to be loaded in the background."""
    keys = environment(settings, settings.database_url or "")
    return JobRunner(
        bases, keys.policy, keys.limits, tenant=settings.tenant, delete_limit_percent=settings.kb_delete_percent
    )


async def autoload(settings: Settings, bases: KnowledgeBases, jobs: JobRunner) -> None:
    """Bring the base `default` to what the folder KB_CONTENT holds, as a job; unless it is long, wait for its end.

    A service whose documents cannot be loaded answers all the same: what is wrong is in the log and on the job.
    """
    if not settings.kb_autoload:
        return
    try:
        base = await bases.open(settings.tenant, DEFAULT, create=True)
        job = await jobs.submit(base.id, Order("content", prune=True))
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await asyncio.sleep(LOOK_S)
                if (await jobs.jobs.get(settings.tenant, job.id)).is_over:
                    break
    except TimeoutError:
        log.info("knowledge_autoload_goes_on", seconds=PATIENCE_S)
    except KnowledgeError as error:
        log.warning("knowledge_autoload_failed", code=error.code, reason=str(error)[:300])


@asynccontextmanager
async def warming(settings: Settings, bases: KnowledgeBases) -> AsyncIterator[None]:
    """Meanwhile a model that runs in this process loads its weights, which the first question need not wait for then.

    Nobody waits for this, either: it is left alone when the block ends. KB_AUTOLOAD=0 leaves it out.
    """
    task = asyncio.create_task(_warm(settings, bases))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _warm(settings: Settings, bases: KnowledgeBases) -> None:
    embedder = bases.embedder(settings.tenant)
    if embedder is None or not settings.kb_autoload or settings.kb_embedding not in OURS:
        return
    try:
        await embedder.query("ready")
    except KnowledgeError as error:
        log.warning("knowledge_model_failed", code=error.code, reason=str(error)[:300])
