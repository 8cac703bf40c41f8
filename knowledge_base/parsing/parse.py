"""One document, whatever its kind, as text with headings, pages and metadata."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from knowledge_base.documents import Parsed, Raw
from knowledge_base.errors import Refused
from knowledge_base.parsing.charsets import decode
from knowledge_base.parsing.draft import Body, clean
from knowledge_base.parsing.kinds import MEDIA_TYPES, Kind, kind_of
from knowledge_base.parsing.limits import MB, Limits
from knowledge_base.parsing.markdown import read_markdown
from knowledge_base.parsing.metadata import Metadata, read_metadata

_SEPARATORS = re.compile(r"[\s_-]+")
_LANGUAGE = re.compile(r"[a-z]{2}(?![a-z])", re.I)


def parse(raw: Raw, limits: Limits) -> Parsed:
    """The document as markdown; `Refused` says what is wrong with it and what to do.

    It is read in this process, which a hostile pdf, docx or xlsx can stop or fill: `Parser` reads elsewhere.
    """
    name = raw.found.name
    if len(raw.content) > limits.max_bytes:
        size = f"has {len(raw.content) / MB:.1f} MB, more than {limits.max_bytes / MB:.1f}"
        raise Refused("too_large", f"{name}: {size}; split it, or raise KB_MAX_FILE_MB")
    if not raw.content.strip():
        raise Refused("empty", f"{name}: is empty; delete it, or give it content")
    kind = kind_of(raw)
    body, metadata = _read(raw, kind, limits)
    if not body.text.strip():
        raise Refused("empty", f"{name}: holds no text; delete it, or give it content")
    if len(body.text) > limits.max_chars:
        raise Refused("too_long", f"{name}: has more than {limits.max_chars:,} characters of text; split it")
    language = _LANGUAGE.match(str(metadata.attributes.get("language") or body.language))
    return Parsed(
        text=body.text,
        title=metadata.title or body.title[:300] or _title_of(name),
        media_type=MEDIA_TYPES[kind],
        attributes=metadata.attributes,
        doc_id=metadata.doc_id,
        headings=tuple(body.headings),
        pages=tuple(body.pages),
        language=language[0].lower() if language else "",
        context=metadata.context,
        warnings=tuple(body.warnings),
    )


def _read(raw: Raw, kind: Kind, limits: Limits) -> tuple[Body, Metadata]:
    if kind in ("md", "txt"):
        decoded, warnings = decode(raw)
        text = clean(decoded).strip("\n")
        if kind == "md":
            metadata, text = read_metadata(raw, text)
            body = read_markdown(text)
        else:
            metadata, text = read_metadata(raw, None)[0], text
            body = Body(text)
        body.warnings += warnings
        return body, metadata
    raise Refused("unsupported", kind)


def _title_of(name: str) -> str:
    stem = PurePosixPath(name).stem
    words = _SEPARATORS.sub(" ", stem).strip()
    return words[:1].upper() + words[1:] if words else name
