"""One document, whatever its kind, as text with headings, pages and metadata."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from knowledge_base.documents import Parsed, Raw
from knowledge_base.errors import Refused
from knowledge_base.parsing.charsets import decode
from knowledge_base.parsing.csv_file import read_csv
from knowledge_base.parsing.draft import Body, clean
from knowledge_base.parsing.json_file import read_json, read_json_lines
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
    check_size(raw, limits)
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


def check_size(raw: Raw, limits: Limits) -> None:
    """`Refused("too_large")` or `Refused("empty")`, before anything of the content is looked at."""
    name = raw.found.name
    if len(raw.content) > limits.max_bytes:
        size = f"has {len(raw.content) / MB:.1f} MB, more than {limits.max_bytes / MB:.1f}"
        raise Refused("too_large", f"{name}: {size}; split it, or raise KB_MAX_FILE_MB")
    if not raw.content or raw.content.isspace():
        raise Refused("empty", f"{name}: is empty; delete it, or give it content")


def _read(raw: Raw, kind: Kind, limits: Limits) -> tuple[Body, Metadata]:
    name, most = raw.found.name, limits.max_chars
    if kind in ("pdf", "docx", "xlsx"):
        metadata, _ = read_metadata(raw, None)
        return _read_binary(raw, kind, limits), metadata
    decoded, warnings = decode(raw, markup=kind == "html")
    text = clean(decoded).strip("\n")
    metadata, text = read_metadata(raw, text, front=kind == "md")
    if kind == "md":
        body = read_markdown(text)
    elif kind == "html":
        # The libraries of a kind are loaded when the first of the kind comes.
        from knowledge_base.parsing.html import read_html

        body = read_html(name, text, most)
    elif kind == "csv":
        body = read_csv(name, text, most)
    elif kind == "txt":
        body = Body(text.rstrip())
    else:
        body = (read_json if kind == "json" else read_json_lines)(name, text, most)
    body.warnings += warnings
    return body, metadata


def _read_binary(raw: Raw, kind: Kind, limits: Limits) -> Body:
    name, content = raw.found.name, raw.content
    if kind == "pdf":
        from knowledge_base.parsing.pdf import read_pdf

        return read_pdf(name, content, limits)
    if kind == "docx":
        from knowledge_base.parsing.docx_file import read_docx

        return read_docx(name, content, limits)
    from knowledge_base.parsing.xlsx_file import read_xlsx

    return read_xlsx(name, content, limits)


def _title_of(name: str) -> str:
    stem = PurePosixPath(name).stem
    words = _SEPARATORS.sub(" ", stem).strip()
    return words[:1].upper() + words[1:] if words else name
