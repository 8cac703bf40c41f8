"""`outcrop kb …`: load documents, look at what there is, search, delete."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backend.cli.kb_eval import evaluate
from backend.cli.knowledge_database import with_bases

if TYPE_CHECKING:
    from backend.settings import Settings
    from knowledge_base.bases import KnowledgeBases
    from knowledge_base.filters import Filter

app = typer.Typer(
    help="Documents that answers rest on: load them, look at them, search, measure, delete.", no_args_is_help=True
)
app.command("eval")(evaluate)


class Mode(StrEnum):
    """By word, by meaning, or both."""

    hybrid = "hybrid"
    lexical = "lexical"
    vector = "vector"


class Stage(StrEnum):
    """What is kept of a document on its way."""

    raw = "raw"
    parsed = "parsed"
    chunks = "chunks"


Base = Annotated[str, typer.Option(metavar="NAME", help="knowledge base, by name or id")]
Json = Annotated[bool, typer.Option("--json", help="JSON in place of text")]
Where = Annotated[str | None, typer.Option("--filter", metavar="JSON", help="a metadata filter, as Bedrock has them")]
SourcePath = Annotated[
    str | None, typer.Argument(metavar="PATH|s3://BUCKET/FOLDER", help="a folder, a file, or a folder of a bucket")
]
Urls = Annotated[Path | None, typer.Option(metavar="FILE", help="in place of PATH: a file with one web address a line")]
Name = Annotated[str, typer.Option(metavar="TEXT", help="of the source, in place of its address")]
Full = Annotated[bool, typer.Option("--full", help="read every document, also where its stamp has not changed")]
Reindex = Annotated[bool, typer.Option("--reindex", help="first make a new index, of what is stored")]


@app.command()
def load(
    path: SourcePath = None,
    urls: Urls = None,
    base: Base = "default",
    name: Name = "",
    full: Full = False,
    reindex: Reindex = False,
    as_json: Json = False,
) -> None:
    """Load what is new or changed; delete nothing."""
    sys.exit(_load(path, urls, base, name, full, reindex, as_json, prune=False))


@app.command()
def sync(
    path: SourcePath = None,
    urls: Urls = None,
    base: Base = "default",
    name: Name = "",
    full: Full = False,
    reindex: Reindex = False,
    as_json: Json = False,
    allow_delete_percent: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="how much of the source may be deleted, in place of KB_DELETE_PERCENT"),
    ] = None,
) -> None:
    """Load what is new or changed, and delete what the source no longer has."""
    sys.exit(_load(path, urls, base, name, full, reindex, as_json, prune=True, percent=allow_delete_percent))


@app.command()
def status(
    base: Annotated[str | None, typer.Option(metavar="NAME", help="this one alone, by name or id")] = None,
    jobs: Annotated[bool, typer.Option("--jobs", help="runs that loaded documents, newest first")] = False,
    job: Annotated[str | None, typer.Option(metavar="ID", help="one run, with what was wrong with documents")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many runs at most")] = 20,
    as_json: Json = False,
) -> None:
    """Show what each knowledge base holds and what it was made with, or the runs that loaded it."""
    from backend.cli import kb_text

    async def work(bases: KnowledgeBases, settings: Settings) -> int:
        if job:
            return await kb_text.tell_job(bases, settings.tenant, job, as_json)
        if jobs:
            return await kb_text.tell_jobs(bases, settings.tenant, base, limit, as_json)
        return await kb_text.tell_status(bases, settings.tenant, base, as_json)

    sys.exit(with_bases(work))


@app.command("bases")
def bases_(as_json: Json = False) -> None:
    """Show which knowledge bases there are."""
    from backend.cli import kb_text

    sys.exit(with_bases(lambda bases, settings: kb_text.tell_bases(bases, settings.tenant, as_json)))


@app.command("list")
def list_(
    base: Base = "default",
    where: Where = None,
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="documents whose names begin so")] = "",
    deleted: Annotated[bool, typer.Option("--deleted", help="what is left of deleted ones instead")] = False,
    limit: Annotated[int, typer.Option(min=1, help="how many at most")] = 1000,
    as_json: Json = False,
) -> None:
    """Show documents."""
    from backend.cli import kb_text

    chosen = _filter(where)

    async def work(bases: KnowledgeBases, settings: Settings) -> int:
        opened = await bases.open(settings.tenant, base)
        return await kb_text.tell_documents(opened, chosen, prefix, "deleted" if deleted else "live", limit, as_json)

    sys.exit(with_bases(work))


@app.command()
def show(
    document: Annotated[str, typer.Argument(metavar="DOC", help="a document's name, as `list` shows it")],
    stage: Annotated[Stage | None, typer.Option(help="its bytes, its text, or its chunks")] = None,
    base: Base = "default",
    as_json: Json = False,
) -> None:
    """Show one document, or a stage of it."""
    from backend.cli import kb_text

    async def work(bases: KnowledgeBases, settings: Settings) -> int:
        opened = await bases.open(settings.tenant, base)
        return await kb_text.tell_document(opened, document, stage.value if stage else None, as_json)

    sys.exit(with_bases(work))


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="a question, or words")],
    base: Base = "default",
    mode: Annotated[Mode, typer.Option(help="by word, by meaning, or both")] = Mode.hybrid,
    k: Annotated[int, typer.Option("-k", "--k", min=1, max=100, help="passages at most")] = 5,
    where: Where = None,
    min_score: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="leave out passages below this")] = None,
    as_json: Json = False,
) -> None:
    """Search, and say why nothing was found where that is so."""
    from backend.cli import kb_text

    chosen = _filter(where)

    async def work(bases: KnowledgeBases, settings: Settings) -> int:
        opened = await bases.open(settings.tenant, base)
        result = await opened.search(query, k=k, mode=mode.value, where=chosen, min_score=min_score)
        return kb_text.tell_result(result, as_json)

    sys.exit(with_bases(work))


@app.command()
def verify(
    base: Base = "default",
    repair: Annotated[bool, typer.Option("--repair", help="mend what can be mended")] = False,
    as_json: Json = False,
) -> None:
    """Compare every stage with the next. Exits with 1 when something does not fit."""
    from backend.cli import kb_text

    async def work(bases: KnowledgeBases, settings: Settings) -> int:
        opened = await bases.open(settings.tenant, base)
        found = await opened.store.verify(repair=repair)
        left = await opened.store.verify() if repair and found else found
        return kb_text.tell_faults(found, left, as_json)

    sys.exit(with_bases(work))


@app.command()
def delete(
    documents: Annotated[list[str] | None, typer.Argument(metavar="DOC", help="documents, by name")] = None,
    source: Annotated[str | None, typer.Option(metavar="NAME", help="all documents of a source instead")] = None,
    base: Base = "default",
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Delete documents truly: content, text, chunks, words and vectors go."""
    from backend.cli import kb_text

    if bool(documents) == bool(source):
        raise typer.BadParameter("Name documents, or a source with --source.")

    async def work(bases: KnowledgeBases, settings: Settings) -> int:
        opened = await bases.open(settings.tenant, base)
        return await kb_text.delete(opened, documents or [], source, yes)

    sys.exit(with_bases(work))


def _load(
    path: str | None,
    urls: Path | None,
    base: str,
    name: str,
    full: bool,
    reindex: bool,
    as_json: bool,
    *,
    prune: bool,
    percent: float | None = None,
) -> int:
    from backend.cli import kb_text

    async def work(bases: KnowledgeBases, settings: Settings) -> int:
        from backend.knowledge import environment
        from knowledge_base.loading.command import Request, as_json_of, carry_out

        limit = settings.kb_delete_percent if percent is None else percent
        request = Request(path, urls, base, name, prune, full, reindex, limit)
        keys = environment(settings, settings.database_url or "")
        with kb_text.watching() as watch:
            report = await carry_out(request, bases, settings.tenant, keys.limits, keys.policy, watch)
        if as_json:
            kb_text.print_json(as_json_of(report))
        else:
            kb_text.tell_report(report)
        return report.exit_code

    return with_bases(work, make=True)


def _filter(text: str | None) -> Filter | None:
    from knowledge_base.errors import InvalidRequest
    from knowledge_base.filters import read_filter

    if text is None:
        return None
    try:
        return read_filter(json.loads(text), "--filter")
    except RecursionError:
        raise typer.BadParameter("--filter is nested too deep") from None
    except ValueError as error:
        raise typer.BadParameter(f"--filter is no JSON: {error}") from None
    except InvalidRequest as error:
        raise typer.BadParameter(str(error)) from None
