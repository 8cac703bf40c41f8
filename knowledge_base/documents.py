"""What a document is on its way from a source to the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

# Values of attributes that filters compare: as Bedrock has them.
AttributeValue = str | float | bool | list[str]
Attributes = Mapping[str, AttributeValue]


@dataclass(frozen=True, slots=True)
class Found:
    """A file that a source listed, before it is read. `stamp` changes when the content may have (etag, mtime+size)."""

    doc_id: str  # unique within its source; for files the relative path with `/`, unless the file names another
    uri: str  # file:///…, s3://bucket/key or https://…: what citations show
    name: str  # with the ending that says its kind
    size: int | None  # bytes, where the source knows
    stamp: str


@dataclass(frozen=True, slots=True)
class Raw:
    """The content as it was found. `sidecar` is that of `<name>.metadata.json`, if there is one."""

    found: Found
    content: bytes
    media_type: str = ""  # as the source said, may be empty or wrong
    sidecar: bytes | None = None

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) of content and sidecar: two documents with the same are the same."""
        digest = sha256(self.content)
        if self.sidecar is not None:
            digest.update(b"\x00sidecar\x00" + self.sidecar)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of the parsed text. `start` is where its line begins, in characters; `level` counts from 1."""

    start: int
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page (pdf), sheet (xlsx) or row block begins at `start`, in characters of the parsed text."""

    start: int
    number: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document as text (markdown). Spans everywhere are character offsets (code points) into `text`."""

    text: str
    title: str
    media_type: str
    attributes: Attributes = field(default_factory=dict)  # front matter and sidecar
    doc_id: str | None = None  # when front matter names one
    headings: Sequence[Heading] = ()
    pages: Sequence[Page] = ()
    language: str = ""  # ISO 639-1 where known
    context: str = ""  # attributes that are embedded beside the text, as "key: value" lines
    warnings: Sequence[str] = ()  # what was read with doubt, or not at all; for the report of a load


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of a parsed text, in order; `text == parsed.text[start:end]` always.

    `section` is the path of headings above it, joined by " > ". `context` is embedded and matched beside the text, with
    title and section (see `embedded_text`); `parent` is the span that is shown in its place, when it is hierarchical.
    `occurrence` counts how many chunks of the same text stand before it in the document.
    """

    ordinal: int
    start: int
    end: int
    text: str
    section: str = ""
    page: int | None = None
    parent: tuple[int, int] | None = None
    occurrence: int = 0
    context: str = ""

    def key(self, doc_id: str) -> str:
        """16 hex digits from document, text and occurrence: other text that comes or goes above changes nothing."""
        return sha256(f"{doc_id}\x00{self.occurrence}\x00{self.text}".encode()).hexdigest()[:16]


def embedded_text(title: str, chunk: Chunk) -> str:
    """What of a chunk is embedded and matched by word: title and section stand before the text, then its context."""
    head = " > ".join(each for each in (title, chunk.section) if each and not chunk.section.startswith(title))
    if chunk.section.startswith(title):
        head = chunk.section
    return "\n".join(each for each in (head, chunk.context, chunk.text) if each)
