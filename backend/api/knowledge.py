"""Knowledge bases over HTTP: searched by everybody, each what is for them; looked after by operators."""

from __future__ import annotations

import base64
import binascii
from dataclasses import asdict
from hashlib import sha256
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Response

from agent.errors import InvalidRequest
from backend.answering.reading import Reader
from backend.api.caller import Backend, Caller, Operator, Parts
from backend.api.chat import IdempotencyKey, json
from backend.api.knowledge_bodies import (
    NAME,
    BaseIn,
    BaseList,
    BaseView,
    ChunkList,
    ChunkView,
    Deletion,
    DocumentIn,
    DocumentList,
    DocumentView,
    JobDetail,
    JobError,
    JobIn,
    JobList,
    JobProblem,
    JobView,
    PassageView,
    SearchIn,
    SearchView,
    SummaryView,
)
from backend.identity.principal import Principal
from knowledge_base import errors as kb
from knowledge_base.bases import KnowledgeBase
from knowledge_base.filters import read_filter
from knowledge_base.loading.jobs import Job
from knowledge_base.loading.orders import Order
from knowledge_base.retrieval.base import Passage
from knowledge_base.sources.uploads import Upload
from knowledge_base.stores.base import Document, DocumentState, Stored

router = APIRouter(prefix="/api/v1/kb", tags=["knowledge"])

MOST = 2**31 - 1
Base = Annotated[str, Path(max_length=200, pattern=NAME, description="name or id of a knowledge base")]
DocId = Annotated[str, Path(max_length=500, description="id of a document; may contain slashes")]
JobId = Annotated[str, Path(max_length=60)]
Cursor = Annotated[str | None, Query(max_length=2000)]


@router.post("/search", response_model=SearchView)
async def search(question: SearchIn, caller: Caller, parts: Parts) -> Response:
    """The passages that fit best, of documents that are for the caller; and if there are none, why."""
    where = None if question.filter is None else read_filter(question.filter)
    base = await parts.knowledge.open(caller.tenant, question.knowledge_base)
    if question.mode == "vector" and base.embedder is None:
        hint = "this knowledge base has no embedding model, so it is searched by words"
        raise InvalidRequest("no embedding model", field="mode", user_hint=hint)
    found = await Reader(caller.identity, parts.directory).search(
        base, question.query, k=question.k, mode=question.mode, where=where, min_score=question.min_score
    )
    return json(
        SearchView(
            knowledge_base=base.name,
            query=question.query,
            mode=found.mode,
            passages=[_passage(each, caller) for each in found.passages],
            reason=found.reason,
            explanation=found.explanation,
            timings=found.timings,
        )
    )


@router.get("", response_model=BaseList)
async def list_bases(caller: Caller, parts: Parts) -> Response:
    """The knowledge bases there are."""
    rows = await parts.knowledge.list(caller.tenant)
    return json(BaseList([BaseView(each.id, each.name, each.created_at) for each in rows]))


@router.post("", response_model=BaseView)
async def create_base(wanted: BaseIn, caller: Operator, parts: Parts) -> Response:
    """Make a base of that name; the one there is, if there is one."""
    row = (await parts.knowledge.open(caller.tenant, wanted.name, create=True)).row
    return json(BaseView(row.id, row.name, row.created_at))


@router.get("/{base}", response_model=SummaryView)
async def show_base(base: Base, caller: Operator, parts: Parts) -> Response:
    """What a base holds, and what it was made with."""
    opened = await parts.knowledge.open(caller.tenant, base)
    found = await opened.store.summary()
    return json(
        SummaryView(
            id=opened.id,
            name=opened.name,
            store=found.store,
            embedding=found.model.name if found.model else None,
            dimension=found.model.dimension if found.model else None,
            chunking=found.chunking,
            documents=found.documents,
            deleted=found.deleted,
            chunks=found.chunks,
            changed_at=found.changed_at,
        )
    )


# --- documents --------------------------------------------------------------------------------------------------------


@router.get("/{base}/documents", response_model=DocumentList)
async def list_documents(
    base: Base,
    caller: Operator,
    parts: Parts,
    state: Literal["live", "deleted", "all"] = "live",
    prefix: Annotated[str, Query(max_length=500, description="only ids that begin so")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Cursor = None,
) -> Response:
    """Documents by id; `next` is the cursor of the next page, null at the end."""
    store = (await parts.knowledge.open(caller.tenant, base)).store
    wanted: DocumentState | None = None if state == "all" else state
    found = await store.documents(
        after=_read_cursor(cursor), limit=limit + 1, state=wanted, prefix=_storable(prefix, "prefix")
    )
    page = found[:limit]
    more = _cursor(page[-1].doc_id) if len(found) > limit else None
    return json(DocumentList([_document(each) for each in page], more))


@router.post("/{base}/documents", response_model=JobView, status_code=202)
async def upload_document(
    base: Base, document: DocumentIn, caller: Operator, parts: Parts, key: IdempotencyKey = None
) -> Response:
    """Load one document, as a job. It takes the place of the one with its id once it is parsed and stored whole."""
    content = document.raw()
    doc_id = document.doc_id or document.name
    upload = Upload(doc_id, document.name, content, document.media_type, document.sidecar())
    asked = (doc_id, document.name, document.media_type, sha256(content).hexdigest(), upload.sidecar)
    of = await _base(parts, caller, base)
    job = await parts.loading.submit(of, Order("uploads"), key=_key(key, asked), uploads=[upload])
    return json(_job(job), 202)


@router.get("/{base}/documents/{doc_id:path}/stages/raw", response_class=Response)
async def raw_stage(base: Base, doc_id: DocId, caller: Operator, parts: Parts) -> Response:
    """The content as it was found, to be saved: never shown by a browser, whatever it is."""
    opened, document = await _found(parts, caller, base, doc_id)
    content: bytes = await opened.store.stage(document.doc_id, "raw")
    name = quote(document.uri.rstrip("/").rpartition("/")[2] or "document", safe="")
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{name}", "cache-control": "no-store"}
    return Response(content, headers=headers, media_type="application/octet-stream")


@router.get("/{base}/documents/{doc_id:path}/stages/parsed", response_class=Response)
async def parsed_stage(base: Base, doc_id: DocId, caller: Operator, parts: Parts) -> Response:
    """The text that was read from it, which spans of citations count in. Plain text, whatever stands in it."""
    opened, document = await _found(parts, caller, base, doc_id)
    text: str = await opened.store.stage(document.doc_id, "parsed")
    return Response(text.encode(), headers={"cache-control": "no-store"}, media_type="text/plain; charset=utf-8")


@router.get("/{base}/documents/{doc_id:path}/stages/chunks", response_model=ChunkList)
async def chunks_stage(
    base: Base,
    doc_id: DocId,
    caller: Operator,
    parts: Parts,
    after: Annotated[int, Query(ge=0, le=MOST, description="how many were seen")] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
) -> Response:
    """The pieces it was cut into, in order; `next` is the `after` of the next page, null at the end."""
    opened, document = await _found(parts, caller, base, doc_id)
    chunks: list[Stored] = await opened.store.stage(document.doc_id, "chunks")
    page = [ChunkView(c.key, c.section, c.page, c.start, c.end, c.text) for c in chunks[after : after + limit]]
    more = after + limit if len(chunks) > after + limit else None
    return json(ChunkList(document.doc_id, document.version, page, more))


@router.get("/{base}/documents/{doc_id:path}", response_model=DocumentView)
async def show_document(base: Base, doc_id: DocId, caller: Operator, parts: Parts) -> Response:
    """One document, also a deleted one."""
    return json(_document((await _found(parts, caller, base, doc_id))[1]))


@router.delete("/{base}/documents/{doc_id:path}", response_model=Deletion)
async def delete_document(base: Base, doc_id: DocId, caller: Operator, parts: Parts) -> Response:
    """Delete it truly: content, text, chunks, words and vectors. A mark that it was there stays."""
    opened, document = await _found(parts, caller, base, doc_id)
    return json(Deletion(document.doc_id, await opened.store.delete([document.doc_id]) > 0))


# --- jobs -------------------------------------------------------------------------------------------------------------


@router.post("/{base}/jobs", response_model=JobView, status_code=202)
async def start_job(base: Base, wanted: JobIn, caller: Operator, parts: Parts, key: IdempotencyKey = None) -> Response:
    """Load documents from addresses or a bucket, in the background."""
    source = wanted.source
    order = Order(
        "urls" if source.urls else "s3",
        tuple(source.urls or [source.s3 or ""]),
        prune=wanted.prune,
        full=wanted.full,
        allow_delete_percent=wanted.allow_delete_percent,
    )
    of = await _base(parts, caller, base)
    try:
        job = await parts.loading.submit(of, order, key=_key(key, order.as_json()))
    except kb.InvalidRequest as error:
        if error.field != "source.url":
            raise
        raise kb.InvalidRequest("source.s3", error.problem) from error
    return json(_job(job), 202)


@router.get("/{base}/jobs", response_model=JobList)
async def list_jobs(
    base: Base, caller: Operator, parts: Parts, limit: Annotated[int, Query(ge=1, le=100)] = 20, cursor: Cursor = None
) -> Response:
    """Jobs, newest first; `next` is the cursor of the next page, null at the end."""
    of, after = await _base(parts, caller, base), _read_cursor(cursor)
    try:
        found = await parts.loading.jobs.list(caller.tenant, of, after=after or None, limit=limit + 1)
    except kb.NotFound as error:
        raise _bad_cursor() from error
    page = found[:limit]
    return json(JobList([_job(each) for each in page], _cursor(page[-1].id) if len(found) > limit else None))


@router.get("/{base}/jobs/{job_id}", response_model=JobDetail)
async def show_job(
    base: Base,
    job_id: JobId,
    caller: Operator,
    parts: Parts,
    after: Annotated[int, Query(ge=0, le=MOST, description="number of the last problem that was seen")] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
) -> Response:
    """How a job stands, and what was wrong with which document."""
    job = await _job_of(parts, caller, base, job_id)
    found = await parts.loading.jobs.problems(caller.tenant, job.id, after=after, limit=limit + 1)
    page = [JobProblem(number, **asdict(problem)) for number, problem in found[:limit]]
    return json(JobDetail(_job(job), page, page[-1].number if len(found) > limit else None))


@router.post("/{base}/jobs/{job_id}/cancel", response_model=JobView, responses={202: {"model": JobView}})
async def cancel_job(base: Base, job_id: JobId, caller: Operator, parts: Parts) -> Response:
    """End a job: 202 while it runs, 200 with how it ended. What it has stored stays. No body."""
    await _job_of(parts, caller, base, job_id)
    job = await parts.loading.jobs.cancel(caller.tenant, job_id)
    return json(_job(job), 200 if job.is_over else 202)


# --- what they have in common -----------------------------------------------------------------------------------------


async def _base(parts: Backend, caller: Principal, name: str) -> str:
    """The id of a base of the caller's tenant; `NotFound`. Does not open it, so an index that does not fit is fine."""
    known = await parts.knowledge.list(caller.tenant)
    found = next((each.id for each in known if name in (each.id, each.name)), None)
    if found is None:
        raise kb.NotFound(f"there is no knowledge base {name!r}")
    return found


async def _found(parts: Backend, caller: Principal, base: str, doc_id: str) -> tuple[KnowledgeBase, Document]:
    opened = await parts.knowledge.open(caller.tenant, base)
    return opened, await opened.store.document(_storable(doc_id, "doc_id"))


async def _job_of(parts: Backend, caller: Principal, base: str, job_id: str) -> Job:
    of = await _base(parts, caller, base)
    job = await parts.loading.jobs.get(caller.tenant, job_id)
    if job.base_id != of:
        raise kb.NotFound(f"there is no job {job_id!r}")
    return job


def _key(key: str | None, asked: Any) -> str | None:
    """The key together with what was asked: another request with the same one is another job."""
    return None if key is None else sha256(repr((key, asked)).encode()).hexdigest()


def _storable(text: str, field: str) -> str:
    if "\x00" in text:
        raise InvalidRequest("NUL", field=field, user_hint="must not contain NUL characters")
    return text


def _cursor(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _read_cursor(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        return _storable(base64.b64decode(cursor, altchars=b"-_", validate=True).decode(), "cursor")
    except (binascii.Error, ValueError) as error:
        raise _bad_cursor() from error


def _bad_cursor() -> InvalidRequest:
    hint = "Use the cursor of an earlier answer as it is."
    return InvalidRequest("unreadable cursor", field="cursor", user_hint=hint)


def _passage(each: Passage, caller: Principal) -> PassageView:
    """Attributes may say how a document is looked after, so only operators are told them."""
    body = asdict(each) | ({} if caller.identity.role == "operator" else {"attributes": {}})
    return PassageView(document_id=body.pop("doc_id"), **body)


def _document(each: Document) -> DocumentView:
    return DocumentView(**asdict(each))


def _job(each: Job) -> JobView:
    return JobView(
        job_id=each.id,
        kind=each.kind,
        source=each.source,
        state=each.state,
        counts=each.counts.as_json(),
        problems=each.problems,
        error=JobError(*each.error) if each.error else None,
        cancel_requested=each.cancel_requested,
        created_at=each.created_at,
        started_at=each.started_at,
        ended_at=each.ended_at,
    )
