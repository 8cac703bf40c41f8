"""The steps of a run: list a page, load some documents, prune, report. Each may be done again without harm.

Whoever puts them in order needs nothing but JSON. Documents are known by their hash and stored whole or not at all, so
a step that was killed is simply done once more; what its first try had stored counts as unchanged then.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal

import orjson

from knowledge_base.bases import KnowledgeBases, opened
from knowledge_base.documents import Found
from knowledge_base.errors import InvalidRequest, KnowledgeError, TooManyDeletions
from knowledge_base.loading.command import Request, as_json_of
from knowledge_base.loading.environment import Environment, read_environment
from knowledge_base.loading.jobs import Jobs
from knowledge_base.loading.loader import Loader
from knowledge_base.loading.orders import Order
from knowledge_base.loading.report import Report
from knowledge_base.orchestration.parts import Listed, Only
from knowledge_base.orchestration.runs import JsonObject, Run, folded, found_json, read_found, read_run, read_tally
from knowledge_base.orchestration.runs import tally_json as tally
from knowledge_base.sources.base import Source

# Of one page: a state of Step Functions holds 256 KiB, and most of it is left to what came of the documents.
PAGE_DOCUMENTS = 200
PAGE_BYTES = 50_000
DATABASE_MISSING = "is needed: postgresql://user:password@host:5432/name"
Failure = Mapping[str, Any]  # {"Error": …, "Cause": …}, as Step Functions catches it


class RunFailed(KnowledgeError):
    """A step failed for good; the message says which error it was."""

    code = "run_failed"


class Steps:
    """The steps over the bases of one tenant, as an environment configures them."""

    def __init__(self, bases: KnowledgeBases, environment: Environment) -> None:
        self._bases = bases
        self._environment = environment

    async def carry_out(self, event: object) -> JsonObject:
        """One step from its JSON: `{step, run, …}`; `KnowledgeError` when it cannot be done."""
        if not isinstance(event, Mapping):
            raise InvalidRequest("event", "must be an object with `step` and `run`")
        run = read_run(event.get("run"))
        match event.get("step"):
            case "list":
                page = event.get("page") or {}
                done = folded([page.get("tally", {}), *event.get("results", ())])
                # With the run, so that this may be all of the next state: two pages at once could be too much for one.
                return {"run": run.as_json(), **await self.list_page(run, page.get("after", 0)), "tally": done}
            case "load":
                return tally([await self.load(run, [read_found(each) for each in event.get("documents", ())])])
            case "prune":
                return {"deleted": await self.prune(run)}
            case "report":
                done = folded([event.get("tally") or {}, *event.get("results", ())])
                return await self.report(run, done, event.get("deleted") or 0, event.get("failure") or None)
        raise InvalidRequest("step", "must be list, load, prune or report")

    async def list_page(self, run: Run, after: int = 0) -> JsonObject:
        """`batches` of documents behind the first `after`, where the next page begins, and whether there are any.

        The base is made if there is none. `SourceUnavailable`: the source cannot be listed.
        """
        await self._bases.open(self._environment.tenant, run.base, create=True)
        documents: list[JsonObject] = []
        size = seen = 0
        async with aclosing(self._listed(run)) as listed:
            async for found in listed:
                seen += 1
                if seen <= after:
                    continue
                body = found_json(found)
                size += len(orjson.dumps(body))
                if documents and (size > PAGE_BYTES or len(documents) == PAGE_DOCUMENTS):
                    break
                documents.append(body)
        batches = [documents[n : n + run.batch] for n in range(0, len(documents), run.batch)]
        return {"batches": batches, "after": after + len(documents), "more": bool(batches), "prune": run.prunes}

    async def load(self, run: Run, documents: Sequence[Found]) -> Report:
        """Load these. What is wrong with one is in the report; what is wrong with all is raised."""
        base = await self._bases.open(self._environment.tenant, run.base, create=True)
        loader = Loader(base, self._environment.limits)

        async def still_there(uris: Collection[str]) -> Collection[str]:
            # Nobody knows what is missing from single addresses.
            return uris if run.urls else [each.uri async for each in self._all(run) if each.uri in uris]

        part = Only(self._source(run), documents)
        report = await loader.sync(part, prune=False, full=run.full, still_there=still_there)
        if report.error:
            raise report.error
        return report

    async def prune(self, run: Run) -> int:
        """Delete what the source no longer has, how many; `TooManyDeletions` when it would be too many."""
        if not run.prunes:
            return 0
        base = await self._bases.open(self._environment.tenant, run.base, create=True)
        percent = run.delete_limit_percent
        report = await Loader(base, self._environment.limits).sync(
            Listed(self._source(run)),
            prune=True,
            delete_limit_percent=self._environment.kb_delete_percent if percent is None else percent,
        )
        if report.error:
            raise report.error
        return report.counts.deleted

    async def report(
        self, run: Run, tally: Mapping[str, Any], deleted: int = 0, failure: Failure | None = None
    ) -> JsonObject:
        """Put the run on record as a job that is over, and say what became of it, as `outcrop kb sync --json` does."""
        base = await self._bases.open(self._environment.tenant, run.base, create=True)
        source = self._source(run)
        await source.close()
        whole = read_tally(source.name, tally)
        whole.counts.deleted += deleted
        whole.error = _error(failure)
        kind: Literal["sync", "load"] = "sync" if run.prunes else "load"
        async with Jobs(self._bases.pool).begin(self._environment.tenant, base.id, source.name, kind) as job:
            await job.end(whole, "failed" if whole.error else "done", whole.error)
        return {**as_json_of(whole), "job": job.id}

    async def verify(self, run: Run) -> list[str]:
        """What is wrong with the base, a line each; it is left as it is."""
        base = await self._bases.open(self._environment.tenant, run.base)
        return [f"{fault.kind}: {fault.about} ({fault.count})" for fault in await base.store.verify()]

    async def _listed(self, run: Run) -> AsyncGenerator[Found, None]:
        async for found in self._all(run):
            if not run.only or found.uri in run.only:
                yield found

    async def _all(self, run: Run) -> AsyncGenerator[Found, None]:
        source = self._source(run)
        try:
            async for found in source.list():
                yield found
        finally:
            await source.close()

    def _source(self, run: Run) -> Source:
        return self.source_of(run, self._environment)

    @staticmethod
    def source_of(run: Run, environment: Environment) -> Source:
        """The source that a run means; nothing is reached yet. Whoever asks closes it."""
        policy = environment.policy
        if run.urls:
            return policy.source(Order("urls", run.urls))
        source = Request(target=run.source).source(policy)
        assert source is not None
        return source


@asynccontextmanager
async def steps_over(environment: Mapping[str, str]) -> AsyncIterator[Steps]:
    """The steps as these variables configure them; `InvalidRequest` names a wrong or missing one."""
    read = read_environment(environment)
    if read.database_url is None:
        raise InvalidRequest("DATABASE_URL", DATABASE_MISSING)
    async with opened(read.database_url, read.config) as bases:
        yield Steps(bases, read)


def _error(failure: Failure | None) -> KnowledgeError | None:
    if failure is None:
        return None
    name, cause = str(failure.get("Error", "")), str(failure.get("Cause", ""))
    try:
        message = str(orjson.loads(cause)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        message = cause
    return TooManyDeletions(message) if name == "TooManyDeletions" else RunFailed(f"{name}: {message}"[:500])
