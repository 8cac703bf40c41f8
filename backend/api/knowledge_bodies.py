"""What is asked of knowledge bases over HTTP, and what is answered."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from backend.api.bodies import some_text, storable
from knowledge_base.retrieval.base import Mode, Reason
from knowledge_base.stores.base import DocumentState

MAX_QUERY_CHARS = 2000
NAME = r"^(?:[0-9a-zA-Z][_-]?){1,100}$"


def _plain(value: str) -> str:
    """A name or id that can stand in an address, in a log and in a database."""
    if any(ord(char) < 32 for char in value) or value != value.strip():
        raise ValueError("must hold no control characters, and no spaces at its ends")
    return value


def _relative(value: str) -> str:
    if value.startswith("/") or any(part in ("", ".", "..") for part in value.split("/")):
        raise ValueError("must be a relative path: no empty part, no . and no ..")
    return value


def _unicode(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("must be Unicode text: there is half a surrogate pair in it") from error
    return value


def _is_base64(value: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except ValueError as error:
        raise ValueError("is no base64") from error
    return value


BaseName = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200, pattern=NAME)]
DocumentId = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=500), AfterValidator(_plain), AfterValidator(_relative)
]
FileName = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200), AfterValidator(_plain)]
Url = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=2000), AfterValidator(_plain)]
Stored = Annotated[dict[str, Any], AfterValidator(storable)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SearchIn(_Body):
    """A question. `filter` is of Bedrock's grammar; `min_score` is between 0 and 1."""

    query: Annotated[
        str, StringConstraints(strict=True, min_length=1, max_length=MAX_QUERY_CHARS), AfterValidator(some_text)
    ]
    knowledge_base: BaseName = "default"
    k: Annotated[int, Field(strict=True, ge=1, le=100)] = 5
    mode: Mode = "hybrid"
    filter: Stored | None = None
    min_score: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = None


class BaseIn(_Body):
    """A new knowledge base."""

    name: BaseName


class DocumentIn(_Body):
    """A document with its content: `content` as text, or `base64`. `name` has the ending that says its kind."""

    name: FileName
    doc_id: DocumentId | None = None  # as the name
    content: Annotated[str, StringConstraints(strict=True), AfterValidator(_unicode)] | None = None
    base64: Annotated[str, StringConstraints(strict=True), AfterValidator(_is_base64)] | None = None
    media_type: Annotated[str, StringConstraints(strict=True, max_length=100), AfterValidator(_plain)] = ""
    attributes: Stored = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_content(self) -> DocumentIn:
        if (self.content is None) == (self.base64 is None):
            raise ValueError("give `content` or `base64`, and not both")
        return self

    def raw(self) -> bytes:
        """The content."""
        return base64.b64decode(self.base64 or "") if self.content is None else self.content.encode()

    def sidecar(self) -> bytes | None:
        """The attributes as in a `.metadata.json`."""
        return orjson.dumps({"metadataAttributes": self.attributes}) if self.attributes else None


class SourceIn(_Body):
    """Where documents are: `urls`, each one page or file, or all below one `s3` address."""

    urls: Annotated[list[Url], Field(min_length=1, max_length=1000)] | None = None
    s3: Url | None = None

    @model_validator(mode="after")
    def _one_source(self) -> SourceIn:
        if (self.urls is None) == (self.s3 is None):
            raise ValueError("give `urls` or `s3`, and not both")
        return self


class JobIn(_Body):
    """What is to be loaded. `prune`: what is gone from the source is deleted, unless that is too much of it."""

    source: SourceIn
    prune: bool = False
    full: bool = False
    allow_delete_percent: Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)] | None = None


@dataclass(frozen=True, slots=True)
class BaseView:
    """A knowledge base; either name leads to it."""

    id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class BaseList:
    """All bases of the tenant, by name."""

    knowledge_bases: list[BaseView]


@dataclass(frozen=True, slots=True)
class SummaryView:
    """What a base holds. `embedding` is what its vectors were made with; null: words alone."""

    id: str
    name: str
    store: str
    embedding: str | None
    dimension: int | None
    chunking: dict[str, Any]
    documents: int
    deleted: int
    chunks: int
    changed_at: datetime | None


@dataclass(frozen=True, slots=True)
class PassageView:
    """A piece of a document. `start` and `end` count characters of the parsed text of that version.

    `uri` is told to operators, and of web pages to everybody; `source` and `attributes` to operators.
    """

    document_id: str
    version: int
    title: str
    uri: str
    section: str
    page: int | None
    start: int
    end: int
    text: str
    score: float
    legs: dict[str, float]
    chunk: str
    source: str
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SearchView:
    """Passages by falling score; `explanation` says why there are none. `timings` are milliseconds."""

    knowledge_base: str
    query: str
    mode: Mode
    passages: list[PassageView]
    reason: Reason
    explanation: str
    timings: dict[str, float]


@dataclass(frozen=True, slots=True)
class DocumentView:
    """A document. `size` is of its raw content in bytes; a deleted one has lost all but this."""

    doc_id: str
    source: str
    uri: str
    title: str
    media_type: str
    version: int
    state: DocumentState
    attributes: dict[str, Any]
    size: int
    characters: int
    chunks: int
    content_hash: str
    loaded_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class DocumentList:
    """One page, by id; `next` is the cursor of the next one, null at the end."""

    documents: list[DocumentView]
    next: str | None


@dataclass(frozen=True, slots=True)
class Deletion:
    """Whether there was something to delete."""

    doc_id: str
    deleted: bool


@dataclass(frozen=True, slots=True)
class ChunkView:
    """A chunk as it is stored."""

    key: str
    section: str
    page: int | None
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class ChunkList:
    """One page of a document's chunks in order; `next` is the next one's `after`, null at the end."""

    doc_id: str
    version: int
    chunks: list[ChunkView]
    next: int | None


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job ended before its end, or deleted nothing."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class JobProblem:
    """What was wrong with one document. `kept`: an older version of it still answers."""

    number: int
    doc_id: str
    uri: str
    outcome: Literal["refused", "failed", "warning"]
    reason: str
    message: str
    kept: bool


@dataclass(frozen=True, slots=True)
class JobView:
    """A load. `counts` are documents by what became of them, and chunks; `problems` how many problems are on record."""

    job_id: str
    kind: Literal["load", "sync", "reindex"]
    source: str
    state: Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
    counts: dict[str, int]
    problems: int
    error: JobError | None
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class JobDetail:
    """A job with what was wrong with documents; `next` is the `after` of further ones, null at the end."""

    job: JobView
    documents: list[JobProblem]
    next: int | None


@dataclass(frozen=True, slots=True)
class JobList:
    """One page, newest first; `next` is the cursor of the next one, null at the end."""

    jobs: list[JobView]
    next: str | None
