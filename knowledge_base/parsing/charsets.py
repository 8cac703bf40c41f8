"""Bytes as characters: by byte order mark, as declared, as UTF-8, and only then by judging."""

from __future__ import annotations

import codecs
import re

from knowledge_base.documents import Raw
from knowledge_base.errors import Refused
from knowledge_base.parsing.guessing import guess

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What is meant by names on the web: supersets, as browsers have it.
MEANT = {
    **dict.fromkeys(("iso8859-1", "ascii", "cp1252"), "cp1252"),
    **dict.fromkeys(("gb2312", "gbk"), "gb18030"),
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "tis-620": "cp874",
    "iso8859-11": "cp874",
    "iso8859-9": "cp1254",
}
UNTRUSTED = (
    "utf-7",
    "utf-16",
    "utf-32",
    "idna",
    "punycode",
    "unicode_escape",
    "raw_unicode_escape",
    "undefined",
    "mbcs",
    "oem",
)
STATEFUL = ("iso2022", "hz")  # bytes below 128 that mean other characters
_META = re.compile(rb"<meta\b[^>]{0,300}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.I)
_HTTP = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.I)
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
SAMPLE = 2**16
MOST_CONTROLS = 0.002


def decode(raw: Raw, *, markup: bool = False) -> tuple[str, list[str]]:
    """The text, and a warning when its character set was judged by what it holds.

    `Refused("binary")` when it is text in no character set that can be told.
    """
    name, content = raw.found.name, raw.content
    text, warnings = _decoded(raw, content, markup)
    sample = text[:SAMPLE]
    if len(_CONTROLS.findall(sample)) > len(sample) * MOST_CONTROLS:
        raise Refused("binary", f"{name}: holds control characters, so it is no text; give it the right ending")
    return text, warnings


def _decoded(raw: Raw, content: bytes, markup: bool) -> tuple[str, list[str]]:
    name = raw.found.name
    for mark, charset in MARKS:
        if content.startswith(mark):
            return _strictly(name, content[len(mark) :], charset), []
    declared = _declared(raw, content, markup)
    if declared and declared.startswith(STATEFUL):
        text = _tried(content, declared)
        if text is not None:
            return text, []
    if b"\x1b$" in content[:SAMPLE] and (text := _tried(content, "iso2022_jp")) is not None:
        return text, []
    unmarked = _unmarked_utf16(content)
    if unmarked:
        return _strictly(name, content, unmarked), []
    text = _tried(content, "utf-8")
    if text is not None:
        return text, []
    if declared:
        text = _tried(content, declared)
        if text is not None:
            return text, []
    guessed = guess(content)
    if guessed is None:
        raise Refused("binary", f"{name}: is text in no character set that can be told; save it as UTF-8")
    return _strictly(name, content, guessed), [f"its characters were read as {guessed}, a guess; save it as UTF-8"]


def _declared(raw: Raw, content: bytes, markup: bool) -> str:
    found = _HTTP.search(raw.media_type)
    said = found[1] if found else ""
    if not said and markup:
        meta = _META.search(content[:4096])
        said = meta[1].decode("ascii", "ignore") if meta else ""
    try:
        codec = codecs.lookup(said.strip().lower()) if said else None
    except LookupError:
        return ""
    if codec is None or not codec._is_text_encoding or codec.name.startswith(UNTRUSTED):
        return ""
    return MEANT.get(codec.name, codec.name)


def _unmarked_utf16(content: bytes) -> str:
    """UTF-16 without a mark, when nearly every second byte is zero, as in texts of Latin letters."""
    sample = content[:SAMPLE]
    pairs = len(sample) // 2
    if pairs < 2 or len(content) % 2:
        return ""
    high, low = sample[0::2].count(0), sample[1::2].count(0)
    if low > pairs * 0.6 and high < pairs * 0.02:
        return "utf-16-le"
    return "utf-16-be" if high > pairs * 0.6 and low < pairs * 0.02 else ""


def _tried(content: bytes, charset: str) -> str | None:
    try:
        return content.decode(charset)
    except (UnicodeError, LookupError):
        return None


def _strictly(name: str, content: bytes, charset: str) -> str:
    try:
        return content.decode(charset)
    except UnicodeError as error:
        raise Refused("corrupt", f"{name}: is not {charset} throughout ({error.reason}); save it as UTF-8") from None  # type: ignore[attr-defined]
