"""Markdown as it stands; only its headings are looked for, and comments, which nobody sees, are taken out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from knowledge_base.documents import Heading
from knowledge_base.parsing.draft import Body, one_line

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_CLOSING = re.compile(r"(?:^|[ \t])#+[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_NO_PARAGRAPH = re.compile(r"[ \t]*(?:[-*+>|]|\d{1,9}[.)])(?:\s|$)|[ \t]*\|")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?: \"[^\"]*\")?\)")
_MARKS = re.compile(r"(\*\*|__|\*|`|~~)(?=\S)([^*`~]+?)(?<=\S)\1")


def read_markdown(text: str) -> Body:
    """The text without comments, and its headings; the first of level 1 is the title, else the first of all."""
    text = _without_comments(text).rstrip()
    headings = list(find_headings(text))
    first = next((each for each in headings if each.level == 1), headings[0] if headings else None)
    return Body(text, first.text if first else "", headings)


def find_headings(text: str) -> Iterator[Heading]:
    """Headings marked by `#` or underlined, outside code."""
    fence = ""
    at, before_at, before = 0, 0, ""
    for line in text.split("\n"):
        fence, code = _fence(fence, line)
        if not code:
            atx = _ATX.match(line)
            underline = _UNDERLINE.match(line)
            if atx:
                words = _plain(_CLOSING.sub("", (atx[2] or "")[:1000]))
                if words:
                    yield Heading(at, len(atx[1]), words)
            elif underline and before.strip() and not _NO_PARAGRAPH.match(before) and _plain(before):
                yield Heading(before_at, 1 if underline[1][0] == "=" else 2, _plain(before))
            before = "" if atx or underline else line
        else:
            before = ""
        before_at = at
        at += len(line) + 1


def _fence(fence: str, line: str) -> tuple[str, bool]:
    """The fence that is open after this line (empty: none), and whether the line is code or a fence."""
    found = _FENCE.match(line)
    if not fence:
        return (found[1], True) if found else ("", False)
    closes = found and found[1].startswith(fence) and not line[found.end() :].strip()
    return ("" if closes else fence), True


def _plain(text: str) -> str:
    """A heading's words without marks of links and emphasis."""
    return one_line(_MARKS.sub(r"\2", _LINK.sub(r"\1", text[:1000])))


def _without_comments(text: str) -> str:
    if "<!--" not in text:
        return text
    kept: list[str] = []
    fence, comment = "", False
    for line in text.split("\n"):
        if not comment:
            fence, code = _fence(fence, line)
            if code:
                kept.append(line)
                continue
        line, comment, touched = _cut(line, comment)
        if not touched or line.strip():
            kept.append(line)
    return "\n".join(kept) if not comment else text


def _cut(line: str, comment: bool) -> tuple[str, bool, bool]:
    """The line without comments, whether one is open at its end, and whether there was any."""
    pieces: list[str] = []
    at, touched, ticks = 0, comment, 0
    while True:
        if comment:
            end = line.find("-->", at)
            if end < 0:
                return "".join(pieces), True, True
            at, comment = end + 3, False
        begin = line.find("<!--", at)
        ticks += line.count("`", at, begin)
        if begin < 0 or ticks % 2:
            return "".join(pieces) + line[at:], False, touched
        pieces.append(line[at:begin])
        at, comment, touched = begin + 4, True, True
