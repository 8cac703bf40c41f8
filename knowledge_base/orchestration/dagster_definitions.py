"""Loading as Dagster assets: `dagster dev -m knowledge_base.orchestration.dagster_definitions`.

What to load is said by KB_SOURCE (a folder or s3://bucket/folder), KB_BASE and KB_SCHEDULE (cron), or by the resource
`loading` in a run's configuration; database, model and limits are those of DATABASE_URL, TENANT and the other KB_ keys.
Needs the extra `dagster`.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, TypeVar

import dagster as dg
from pydantic import Field

from knowledge_base.errors import (
    IndexMismatch,
    InvalidRequest,
    KnowledgeError,
    NotFound,
    SourceUnavailable,
    TooManyDeletions,
)
from knowledge_base.loading.environment import read_environment
from knowledge_base.orchestration.runs import JsonObject, Run, folded, read_found, read_run, tally_json
from knowledge_base.orchestration.steps import Steps, steps_over

T = TypeVar("T")
GROUP = "knowledge_base"
FINAL = (InvalidRequest, NotFound, IndexMismatch, TooManyDeletions)
RETRIES = dg.RetryPolicy(max_retries=3, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


class Loading(dg.ConfigurableResource):  # type: ignore[type-arg]
    """What to load, and into which base."""

    source: str = Field(default="", description="a folder or s3://bucket/folder")
    urls: list[str] = Field(default=[], description="addresses of pages, in place of a source")
    base: str = Field(default="default", description="knowledge base; made if there is none")
    prune: bool = Field(default=True, description="delete what the source no longer has")
    full: bool = Field(default=False, description="read also what seems not to have changed")
    delete_limit_percent: float | None = Field(default=None, description="in place of KB_DELETE_PERCENT")
    batch: int = Field(default=200, description="documents of one transaction at most")
    environment: dict[str, str] = Field(default={}, description="keys in place of those of the process")

    @property
    def run(self) -> Run:
        """As the steps are told."""
        told = ("source", "base", "prune", "full", "delete_limit_percent", "batch")
        return read_run({**{name: getattr(self, name) for name in told}, "urls": self.urls})

    def do(self, work: Callable[[Steps, Run], Awaitable[T]]) -> T:
        """Do some steps; what no retry would mend becomes a failure without one."""

        async def done() -> T:
            async with steps_over({**os.environ, **self.environment}) as steps:
                return await work(steps, self.run)

        with _told():
            return asyncio.run(done())


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except FINAL as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except KnowledgeError as error:
        raise dg.Failure(str(error)) from error


@dg.asset(group_name=GROUP, retry_policy=RETRIES, kinds={"python"})
def raw_documents(loading: Loading) -> dg.Output[list[JsonObject]]:
    """What the source lists: one entry a document, with the stamp that tells whether it has changed."""

    async def listed(steps: Steps, run: Run) -> list[JsonObject]:
        documents: list[JsonObject] = []
        while (page := await steps.list_page(run, len(documents)))["more"]:
            documents += [each for batch in page["batches"] for each in batch]
        return documents

    documents = loading.do(listed)
    return dg.Output(documents, metadata={"documents": len(documents), "source": loading.source or "urls"})


@dg.asset(group_name=GROUP, retry_policy=RETRIES, kinds={"postgres"})
def loaded_documents(loading: Loading, raw_documents: list[JsonObject]) -> dg.Output[JsonObject]:
    """Every listed document parsed, cut, embedded and stored; those that cannot be taken are told one by one."""

    async def loaded(steps: Steps, run: Run) -> JsonObject:
        tallies = []
        for start in range(0, len(raw_documents), run.batch):
            batch = raw_documents[start : start + run.batch]
            tallies.append(tally_json([await steps.load(run, [read_found(each) for each in batch])]))
        return folded(tallies)

    tally = loading.do(loaded)
    return dg.Output(tally, metadata={**tally["counts"], "problems": dg.MetadataValue.md(_table(tally["problems"]))})


@dg.asset(group_name=GROUP, retry_policy=RETRIES, kinds={"postgres"})
def synchronised_base(loading: Loading, loaded_documents: JsonObject) -> dg.Output[JsonObject]:
    """The base without what the source no longer has, unless that is too much to be believed; the run is on record."""

    async def pruned(steps: Steps, run: Run) -> JsonObject:
        try:
            deleted = await steps.prune(run)
        except TooManyDeletions as error:
            await steps.report(run, loaded_documents, 0, {"Error": "TooManyDeletions", "Cause": str(error)})
            raise
        return await steps.report(run, loaded_documents, deleted)

    report = loading.do(pruned)
    return dg.Output(report, metadata={**report["counts"], "job": report["job"]})


@dg.asset_check(asset=loaded_documents, description="Every listed document was taken, as it is or as before.")
def every_document_is_taken(loaded_documents: JsonObject) -> dg.AssetCheckResult:
    """Passes when nothing was refused and nothing failed."""
    counts = loaded_documents["counts"]
    left = counts["refused"] + counts["failed"]
    return dg.AssetCheckResult(passed=not left, severity=dg.AssetCheckSeverity.WARN, metadata={"left_out": left})


@dg.asset_check(asset=synchronised_base, description="Each stage agrees with the next: `outcrop kb verify`.")
def stages_agree(loading: Loading) -> dg.AssetCheckResult:
    """Passes when `Store.verify` finds nothing."""
    faults = loading.do(lambda steps, run: steps.verify(run))
    return dg.AssetCheckResult(passed=not faults, metadata={"faults": "; ".join(faults) or "none"})


load_job = dg.define_asset_job("load_knowledge_base", selection=dg.AssetSelection.groups(GROUP))
schedule = dg.ScheduleDefinition(
    name="knowledge_base_schedule", job=load_job, cron_schedule=os.environ.get("KB_SCHEDULE") or "0 3 * * *"
)


@dg.sensor(job=load_job, minimum_interval_seconds=60, name="source_changed")
def source_changed(context: dg.SensorEvaluationContext, loading: Loading) -> dg.RunRequest | dg.SkipReason:
    """Asks for a run when a folder or bucket lists something else than the last time."""
    if not loading.source:
        return dg.SkipReason("no KB_SOURCE; what pages hold is not told by listing them, so use the schedule")
    try:
        seen = asyncio.run(_fingerprint(loading))
    except SourceUnavailable as error:
        return dg.SkipReason(str(error))
    if context.cursor == seen:
        return dg.SkipReason("nothing has changed")
    context.update_cursor(seen)
    return dg.RunRequest(run_key=seen)


async def _fingerprint(loading: Loading) -> str:
    environment = read_environment({**os.environ, **loading.environment})
    digest = sha256()
    source = Steps.source_of(loading.run, environment)
    try:
        async for found in source.list():
            digest.update(f"{found.uri}\x00{found.stamp}\x00{found.size}\x00".encode("utf-8", "surrogatepass"))
    finally:
        await source.close()
    return digest.hexdigest()


def _table(problems: list[dict[str, Any]]) -> str:
    if not problems:
        return "none"
    rows = [f"| {each['doc_id']} | {each['outcome']} | {each['reason']} | {each['message']} |" for each in problems]
    return "\n".join(["| document | outcome | reason | message |", "|---|---|---|---|", *rows])


defs = dg.Definitions(
    assets=[raw_documents, loaded_documents, synchronised_base],
    asset_checks=[every_document_is_taken, stages_agree],
    jobs=[load_job],
    schedules=[schedule],
    sensors=[source_changed],
    resources={"loading": Loading(source=os.environ.get("KB_SOURCE", ""), base=os.environ.get("KB_BASE") or "default")},
)
