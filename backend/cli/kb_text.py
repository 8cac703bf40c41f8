"""What `outcrop kb` says: documents, runs, passages, as text for a terminal or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from backend.cli.terminal import at, print_table, shown

if TYPE_CHECKING:
    from knowledge_base.bases import KnowledgeBase, KnowledgeBases
    from knowledge_base.filters import Filter
    from knowledge_base.loading.jobs import Job
    from knowledge_base.loading.report import Counts, Problem, Report
    from knowledge_base.retrieval.base import Passage, SearchResult
    from knowledge_base.stores.base import Document, DocumentState, Fault, Stored, Summary

    Watch = Callable[[Report], None]

PROBLEMS_SHOWN = 20
PAGE = 500
TEXT_SHOWN = 300
COUNTS = ("FOUND", "NEW", "UPDATED", "UNCHANGED", "DELETED", "REFUSED", "FAILED", "CHUNKS")


# --- a run ----------------------------------------------------------------------------------------------------------


@contextmanager
def watching() -> Iterator[Watch]:
    """A bar on a terminal, and a line now and then elsewhere; both on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from knowledge_base.loading.command import lines

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("listing", total=None)

        def watch(report: Report) -> None:
            description = "loading" if report.is_listed else "loading, and listing"
            progress.update(
                bar, completed=report.counts.done, total=report.counts.found or None, description=description
            )

        yield watch


def tell_report(report: Report) -> None:
    """Counts, then what was wrong with which document, then why it did not come to its end."""
    print_table(("SOURCE", *COUNTS, "SECONDS"), [(report.source, *_counts(report.counts), f"{report.seconds:.1f}")])
    _tell_problems(report.problems[:PROBLEMS_SHOWN])
    if len(report.problems) > PROBLEMS_SHOWN:
        print(f"… and {len(report.problems) - PROBLEMS_SHOWN} more: outcrop kb status --job {report.job}")
    if report.error:
        print(shown(f"Not finished: {report.error}"), file=sys.stderr)


def _tell_problems(problems: Sequence[Problem]) -> None:
    for each in problems:
        kept = ", the version before still answers" if each.kept else ""
        print(shown(f"{each.outcome:<8} {each.doc_id} ({each.reason}{kept})"))
        print(shown(f"         {each.message}"))


def _counts(counts: Counts) -> list[str]:
    values = counts.as_json()
    return [str(values[name.lower()]) for name in COUNTS]


# --- bases and jobs -------------------------------------------------------------------------------------------------


async def tell_bases(bases: KnowledgeBases, tenant: str, as_json: bool) -> int:
    """Names and ids."""
    rows = await bases.list(tenant)
    if as_json:
        print_json([{"id": row.id, "name": row.name, "created_at": row.created_at} for row in rows])
    elif rows:
        print_table(("NAME", "ID", "MADE (UTC)"), [(row.name, row.id, at(row.created_at)) for row in rows])
    else:
        print("There is no knowledge base yet; `outcrop kb load PATH` makes one.")
    return 0


async def tell_status(bases: KnowledgeBases, tenant: str, base: str | None, as_json: bool) -> int:
    """What each holds, and the last run of each source."""
    names = [base] if base else [row.name for row in await bases.list(tenant)]
    found = []
    for name in names:
        opened = await bases.open(tenant, name)
        found.append((opened, await opened.store.summary(), await _last_runs(bases, opened)))
    if as_json:
        print_json(
            [
                {"id": opened.id, "name": opened.name, **asdict(summary), "runs": [_plain(job) for job in jobs]}
                for opened, summary, jobs in found
            ]
        )
        return 0
    if not found:
        print("There is no knowledge base yet; `outcrop kb load PATH` makes one.")
    for opened, summary, jobs in found:
        _tell_summary(opened, summary)
        if jobs:
            print_table(("LAST RUN (UTC)", "STATE", "SOURCE", *COUNTS), [_job_row(job) for job in jobs])
    return 0


def _tell_summary(base: KnowledgeBase, summary: Summary) -> None:
    model = summary.model
    facts = {
        "base": f"{base.name} ({base.id})",
        "documents": f"{summary.documents}, and {summary.deleted} deleted",
        "chunks": str(summary.chunks),
        "store": summary.store,
        "model": f"{model.name}, dimension {model.dimension}" if model else "none: found by word alone",
        "chunking": ", ".join(f"{name} {value}" for name, value in summary.chunking.items()),
        "changed": at(summary.changed_at),
    }
    for name, value in facts.items():
        print(f"{name:<10} {shown(value)}")


async def _last_runs(bases: KnowledgeBases, base: KnowledgeBase) -> list[Job]:
    from knowledge_base.loading.jobs import Jobs

    latest: dict[str, Job] = {}
    for job in await Jobs(bases.pool).list(base.tenant, base.id, limit=100):
        latest.setdefault(job.source, job)
    return list(latest.values())


async def tell_jobs(bases: KnowledgeBases, tenant: str, base: str | None, limit: int, as_json: bool) -> int:
    """Runs, the newest first."""
    from knowledge_base.loading.jobs import Jobs

    base_id = (await bases.open(tenant, base)).id if base else None
    found = await Jobs(bases.pool).list(tenant, base_id, limit=limit)
    if as_json:
        print_json([_plain(job) for job in found])
    elif found:
        print_table(("ID", "BEGAN (UTC)", "STATE", "SOURCE", *COUNTS), [(job.id, *_job_row(job)) for job in found])
    else:
        print("Nothing was loaded yet.")
    return 0


async def tell_job(bases: KnowledgeBases, tenant: str, job_id: str, as_json: bool) -> int:
    """One run with all that is on record."""
    from knowledge_base.loading.jobs import Jobs

    jobs = Jobs(bases.pool)
    job = await jobs.get(tenant, job_id)
    problems: list[Problem] = []
    after = 0
    while page := await jobs.problems(tenant, job_id, after=after, limit=PAGE):
        problems += [problem for _, problem in page]
        after = page[-1][0]
    if as_json:
        print_json({**_plain(job), "documents": [asdict(each) for each in problems]})
        return 0
    print_table(("ID", "BEGAN (UTC)", "STATE", "SOURCE", *COUNTS), [(job.id, *_job_row(job))])
    _tell_problems(problems)
    if job.error:
        print(shown(f"Not finished: {job.error[1]}"))
    return 0


def _job_row(job: Job) -> tuple[str, ...]:
    return (at(job.started_at or job.created_at), job.state, job.source, *_counts(job.counts))


def _plain(job: Job) -> dict[str, Any]:
    error = {"code": job.error[0], "message": job.error[1]} if job.error else None
    return {**asdict(job), "error": error, "order": job.order.as_json() if job.order else None}


# --- documents ------------------------------------------------------------------------------------------------------


async def tell_documents(
    base: KnowledgeBase, where: Filter | None, prefix: str, state: DocumentState, limit: int, as_json: bool
) -> int:
    """Documents in order of their names."""
    found: list[Document] = []
    after = ""
    while len(found) < limit:
        wanted = min(PAGE, limit - len(found))
        page = await base.store.documents(after=after, limit=wanted, state=state, where=where, prefix=prefix)
        found += page
        if len(page) < wanted:
            break
        after = page[-1].doc_id
    if as_json:
        print_json([asdict(each) for each in found])
    elif found:
        heads = ("DOCUMENT", "VERSION", "TITLE", "SOURCE", "CHUNKS", "LOADED (UTC)")
        print_table(heads, [_document_row(each) for each in found])
    else:
        print("There is no such document.")
    return 0


def _document_row(document: Document) -> tuple[str, ...]:
    when = document.deleted_at or document.loaded_at
    return (document.doc_id, str(document.version), document.title, document.source, str(document.chunks), at(when))


async def tell_document(
    base: KnowledgeBase, doc_id: str, stage: Literal["raw", "parsed", "chunks"] | None, as_json: bool
) -> int:
    """Its record, or one of its stages."""
    if stage == "raw":
        sys.stdout.buffer.write(await base.store.stage(doc_id, "raw"))
        sys.stdout.buffer.flush()
    elif stage == "parsed":
        text = await base.store.stage(doc_id, "parsed")
        print_json(text) if as_json else print(_lines_shown(text))
    elif stage == "chunks":
        chunks: list[Stored] = await base.store.stage(doc_id, "chunks")
        if as_json:
            print_json([asdict(chunk) for chunk in chunks])
        for chunk in [] if as_json else chunks:
            page = f", page {chunk.page}" if chunk.page is not None else ""
            print(shown(f"--- {chunk.key}  {chunk.start}-{chunk.end}{page}  {chunk.section}"))
            print(_lines_shown(chunk.text))
    else:
        document = asdict(await base.store.document(doc_id))
        if as_json:
            print_json(document)
        for name, value in () if as_json else document.items():
            print(f"{name:<13} {shown(str(value))}")
    return 0


def tell_result(result: SearchResult, as_json: bool) -> int:
    """Passages, or why there are none."""
    if as_json:
        print_json(asdict(result))
    else:
        for n, passage in enumerate(result.passages, 1):
            _tell_passage(n, passage)
        if not result.passages:
            print(shown(f"Nothing found ({result.reason}): {result.explanation}"))
        took = ", ".join(f"{name} {ms:.1f} ms" for name, ms in result.timings.items())
        print(f"{len(result.passages)} of {result.considered} chunks considered" + (f"; {took}" if took else ""))
    return 0


def _tell_passage(n: int, passage: Passage) -> None:
    page = f", page {passage.page}" if passage.page is not None else ""
    legs = "".join(f"; {name} {score:.3f}" for name, score in passage.legs.items())
    title = f"{passage.title} > {passage.section}" if passage.section else passage.title
    print(shown(f"{n}. {passage.score:.3f}  {title}"))
    print(shown(f"   {passage.doc_id} v{passage.version}, {passage.start}-{passage.end}{page}{legs}; {passage.uri}"))
    text = " ".join(passage.text.split())
    print(shown(f"   {text if len(text) <= TEXT_SHOWN else text[: TEXT_SHOWN - 1] + '…'}"))


def tell_faults(found: Sequence[Fault], left: Sequence[Fault], as_json: bool) -> int:
    """What does not fit, and whether it was mended; 1 when something is `left` that does not."""
    faults = [(each, True) for each in found if each not in left] + [(each, False) for each in left]
    if as_json:
        print_json([{**asdict(each), "mended": mended} for each, mended in faults])
        return 1 if left else 0
    if faults:
        rows = [(each.kind, each.about, str(each.count), "yes" if mended else "no") for each, mended in faults]
        print_table(("FAULT", "ABOUT", "COUNT", "MENDED"), rows)
    print("`outcrop kb verify --repair` mends what it can." if left else "All stages fit together.")
    return 1 if left else 0


async def delete(base: KnowledgeBase, documents: Sequence[str], source: str | None, yes: bool) -> int:
    """Delete, after a yes; 1 when some were not there or nobody said yes."""
    import typer

    from knowledge_base.loading.loader import DELETED_AT_ONCE

    documents = list(dict.fromkeys(documents))
    if source:
        documents = [known.doc_id async for known in base.store.known(source) if known.state == "live"]
    what = f"{len(documents)} documents of {source}" if source else ", ".join(documents)
    if not documents:
        print(shown(f"There is no document of the source {source}."))
        return 1
    if not yes and not typer.confirm(shown(f"Delete {what} from {base.name}?"), default=False):
        return 1
    gone = 0
    for begin in range(0, len(documents), DELETED_AT_ONCE):
        gone += await base.store.delete(documents[begin : begin + DELETED_AT_ONCE])
    missing = f"; {len(documents) - gone} were not there" if gone < len(documents) else ""
    print(f"{gone} deleted{missing}.")
    return 1 if missing else 0


def _lines_shown(text: str) -> str:
    return "\n".join(shown(line) for line in text.split("\n"))


def print_json(value: Any) -> None:
    """For programs."""
    print(json.dumps(value, indent=2, default=str, ensure_ascii=False))
