"""`load` and `sync` as commands: what is asked for, how it is carried out, and how it is told afterwards."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from knowledge_base.bases import DEFAULT, KnowledgeBases
from knowledge_base.errors import InvalidRequest, NotFound
from knowledge_base.loading.jobs import Jobs
from knowledge_base.loading.loader import Loader
from knowledge_base.loading.orders import SourcePolicy
from knowledge_base.loading.register import ALL_PERCENT
from knowledge_base.loading.reindexing import SOURCE, reindex
from knowledge_base.loading.report import Report
from knowledge_base.loading.running import Watch, run_as_job
from knowledge_base.parsing import Limits
from knowledge_base.sources.base import Source
from knowledge_base.sources.bucket import Bucket
from knowledge_base.sources.folder import Folder, shipped
from knowledge_base.sources.pages import Pages, read_list
from knowledge_base.stores.catalog import find_base

MAX_LIST = 10_000_000
TOLD_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Request:
    """What a command line says. `target`: a folder, file or `s3://…`; `urls`: a file with one address a line."""

    target: str | None = None
    urls: Path | None = None
    base: str = DEFAULT
    name: str = ""  # of the source, in place of its address
    prune: bool = False
    full: bool = False
    reindex: bool = False
    delete_limit_percent: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.delete_limit_percent <= ALL_PERCENT:  # false of NaN too
            raise InvalidRequest("--allow-delete-percent", "must be 0 to 100")

    def source(self, policy: SourcePolicy) -> Source | None:
        """Its source, None to only make a new index; `InvalidRequest` says what is missing or too much."""
        max_bytes = policy.max_bytes
        if self.target and self.urls:
            raise InvalidRequest("--urls", "takes the place of a folder or bucket; name one of the two")
        if self.urls:
            urls = _addresses(self.urls)
            name = self.name or f"urls:{self.urls.resolve().as_uri()}"
            return Pages(urls, max_bytes=max_bytes, name=name, allowed_hosts=policy.allowed_hosts)
        if self.target is None:
            if self.reindex:
                return None
            raise InvalidRequest("PATH", "is missing: name a folder, a file or s3://bucket/folder, or use --urls FILE")
        if self.target.startswith("s3://"):
            return Bucket(self.target, max_bytes=max_bytes, name=self.name)
        if "://" in self.target:
            raise InvalidRequest("PATH", "is no folder; web addresses come in a file: --urls FILE")
        if not _exists(self.target):
            raise InvalidRequest("PATH", f"there is no {self.target[:200]}")
        if policy.content and not self.name and Path(self.target).resolve() == policy.content.resolve():
            return shipped(policy.content, max_bytes=max_bytes)  # as the service fills its base from it
        return Folder(Path(self.target), max_bytes=max_bytes, name=self.name)


async def carry_out(
    request: Request, bases: KnowledgeBases, tenant: str, limits: Limits, policy: SourcePolicy, watch: Watch
) -> Report:
    """Do what a command line says, as a job. `KnowledgeError` when it cannot be begun."""
    source = request.source(policy)
    jobs = Jobs(bases.pool)
    if request.reindex:
        row = await find_base(bases.pool, tenant, request.base)
        if row is None:
            raise NotFound(f"there is no knowledge base {request.base!r} to make an index of")
        async with jobs.begin(tenant, row.id, SOURCE, "reindex") as running:
            report = await run_as_job(running, SOURCE, lambda watched: reindex(bases, row, watched), watch)
        if source is None or report.error:
            return report
    assert source is not None
    base = await bases.open(tenant, request.base, create=True)
    loader = Loader(base, limits)
    async with jobs.begin(tenant, base.id, source.name, "sync" if request.prune else "load") as running:
        return await run_as_job(
            running,
            source.name,
            lambda watched: loader.sync(
                source,
                prune=request.prune,
                full=request.full,
                delete_limit_percent=request.delete_limit_percent,
                on_progress=watched,
            ),
            watch,
        )


def _exists(target: str) -> bool:
    try:
        return Path(target).exists()
    except (OSError, ValueError):  # too long for a path, or with a NUL in it
        return False


def lines() -> Watch:
    """Tells on standard error, now and then, how far a run is."""
    due = [time.monotonic() + TOLD_EVERY_S]

    def watch(report: Report) -> None:
        if time.monotonic() >= due[0]:
            due[0] = time.monotonic() + TOLD_EVERY_S
            more = "" if report.is_listed else " or more"
            sys.stderr.write(f"{report.counts.done} of {report.counts.found}{more} documents\n")
            sys.stderr.flush()

    return watch


def summary(report: Report) -> str:
    """One line."""
    counts = report.counts
    pace = f", {counts.chunks / report.seconds:.0f} chunks/s" if counts.chunks and report.seconds else ""
    parts = [f"{counts.found} documents", f"{counts.new} new", f"{counts.updated} updated"]
    parts += [f"{counts.unchanged} unchanged", f"{counts.deleted} deleted"]
    parts += [f"{n} {name}" for name, n in (("refused", counts.refused), ("failed", counts.failed)) if n]
    return f"{report.source}: {', '.join(parts)}; {counts.chunks} chunks in {report.seconds:.1f} s{pace}"


def as_json_of(report: Report) -> dict[str, Any]:
    """For programs."""
    error = {"code": report.error.code, "message": str(report.error)} if report.error else None
    return {
        "source": report.source,
        "job": report.job,
        "exit_code": report.exit_code,
        "counts": report.counts.as_json(),
        "seconds": round(report.seconds, 3),
        "error": error,
        "documents": [asdict(each) for each in report.problems],
    }


def _addresses(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_LIST + 1)
        if len(content) > MAX_LIST:
            raise InvalidRequest("--urls", f"{path} is longer than {MAX_LIST} bytes")
        return read_list(content.decode("utf-8-sig"))
    except OSError as error:
        raise InvalidRequest("--urls", f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest("--urls", f"{path} is not UTF-8") from error
