"""What a file is, by what it holds and how it is called."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal

from knowledge_base.documents import Raw
from knowledge_base.errors import Refused

Kind = Literal["md", "txt", "html", "pdf", "docx", "csv", "xlsx", "json", "jsonl"]

MEDIA_TYPES: dict[Kind, str] = {
    "md": "text/markdown",
    "txt": "text/plain",
    "html": "text/html",
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "json": "application/json",
    "jsonl": "application/jsonl",
}
ENDINGS: dict[str, Kind] = {
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".mdx"), "md"),
    **dict.fromkeys((".txt", ".text", ".log"), "txt"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    **dict.fromkeys((".xlsx", ".xlsm"), "xlsx"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".pdf": "pdf",
    ".docx": "docx",
    ".docm": "docx",
    ".json": "json",
}
SERVED_AS: dict[str, Kind] = {
    **{media_type: kind for kind, media_type in MEDIA_TYPES.items() if kind != "txt"},
    "text/x-markdown": "md",
    "application/xhtml+xml": "html",
    "application/x-ndjson": "jsonl",
    "text/tab-separated-values": "csv",
}
TEXTS = ("md", "txt", "html", "csv", "json", "jsonl")
LEGACY = {".doc": ".docx", ".dot": ".docx", ".rtf": ".docx", ".odt": ".docx", ".xls": ".xlsx", ".ods": ".xlsx"}
SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a media file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"SQLite format 3", "a database"),
)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,500}?-->\s*)?<(?:!doctype\s+html|html)\b", re.I | re.S
)


def kind_of(raw: Raw) -> Kind:
    """The kind; `Refused` ("binary", "unsupported", "encrypted", "corrupt") when it is none that is read here."""
    name, content = raw.found.name, raw.content
    ending = PurePosixPath(name).suffix.lower()
    named = ENDINGS.get(ending)
    binary = _binary(raw, ending)
    if binary is not None:
        if named in TEXTS:
            raise Refused("binary", f"{name}: is called {ending} but holds a {binary} file; give it the right ending")
        return binary
    if named in ("pdf", "docx", "xlsx"):
        raise Refused("corrupt", f"{name}: is called {ending} but does not begin as one; get the file anew")
    if ending in LEGACY:
        raise Refused("unsupported", f"{name}: {ending} files are not read; save it as {LEGACY[ending]}, pdf or txt")
    if named in (None, "txt") and _HTML.match(content[:2000]):
        return "html"
    if named is None:
        served = SERVED_AS.get(raw.media_type.partition(";")[0].strip().lower())
        named = served if served in TEXTS else None
    return named or _sniffed(content)


def _binary(raw: Raw, ending: str) -> Kind | None:
    name, content = raw.found.name, raw.content
    if b"%PDF-" in content[:1024]:
        return "pdf"
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _package(name, content, ending)
    if content.startswith(OLE):
        if ENCRYPTED_PACKAGE in content:
            raise Refused("encrypted", f"{name}: is protected by a password; save it without one")
        better = LEGACY.get(ending, ".docx, .xlsx or .pdf")
        raise Refused("unsupported", f"{name}: is a file of an old Office; save it as {better}")
    if content.startswith(b"{\\rtf"):
        raise Refused("unsupported", f"{name}: is rich text (rtf), which is not read; save it as .docx")
    for signature, what in SIGNATURES:
        if content.startswith(signature):
            raise Refused("binary", f"{name}: is {what}, not a document; leave it out of the source")
    return None


def _package(name: str, content: bytes, ending: str) -> Kind:
    """A zip archive by the names in its directory, which stand at its end."""
    directory = content[-(2**20) :]
    if b"word/document" in directory or ending in (".docx", ".docm"):
        return "docx"
    if b"xl/workbook" in directory or ending in (".xlsx", ".xlsm"):
        return "xlsx"
    if ENDINGS.get(ending) in TEXTS:
        raise Refused("binary", f"{name}: is called {ending} but holds a zip archive; give it the right ending")
    raise Refused("unsupported", f"{name}: is an archive that is neither docx nor xlsx; unpack it into the source")


def _sniffed(content: bytes) -> Kind:
    """A text without a telling name: json by how it begins, otherwise plain."""
    head = content[:65536].removeprefix(b"\xef\xbb\xbf").strip()
    if not head.startswith((b"{", b"[")):
        return "txt"
    first, _, second = head.partition(b"\n")
    if first.startswith(b"{") and first.rstrip().endswith(b"}") and second.lstrip().startswith(b"{"):
        return "jsonl"
    return "json"
