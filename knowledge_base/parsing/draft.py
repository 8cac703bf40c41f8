"""A text that is being made: where its headings and pages begin is noted while it grows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from knowledge_base.documents import Heading, Page
from knowledge_base.errors import Refused

_BLANKS = re.compile(r"\s+")
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+\n")
_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029\x0b\x85]")
# Controls, soft hyphens, marks of byte order, non-characters, surrogates; of the tag characters, which are invisible
# and can carry whole sentences, only flags stay.
_FLAG = "\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"
_DROPPED = "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\ufeff\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
_NOISE = re.compile(f"({_FLAG})|{_DROPPED}")


def clean(text: str) -> str:
    """The text with line feeds for all line ends, and without characters that nobody sees."""
    if text.isprintable():
        return text
    text = _LINE_ENDS.sub("\n", text).replace("\f", "\n\n")
    return _NOISE.sub(lambda found: found[1] or "", text)


def one_line(text: str) -> str:
    """The text with single blanks for all white space."""
    return _BLANKS.sub(" ", clean(text)).strip()


@dataclass(slots=True)
class Body:
    """What a format's parser makes of a file; offsets are characters of `text`."""

    text: str
    title: str = ""
    headings: list[Heading] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    language: str = ""
    warnings: list[str] = field(default_factory=list)


class Draft:
    """Blocks of markdown, one blank line between two. `Refused("too_long")` when there are more than `max_chars`."""

    def __init__(self, name: str, max_chars: int) -> None:
        self._name = name
        self._max_chars = max_chars
        self._parts: list[str] = []
        self._length = 0
        self._page: int | None = None
        self.headings: list[Heading] = []
        self.pages: list[Page] = []

    def __len__(self) -> int:
        return self._length

    def block(self, text: str) -> None:
        """A paragraph, list or table; nothing when it is blank."""
        text = clean(text).strip("\n").rstrip()
        if not text:
            return
        if self._parts:
            self._parts.append("\n\n")
            self._length += 2
        if self._page is not None:
            self.pages.append(Page(self._length, self._page))
            self._page = None
        self._parts.append(text)
        self._length += len(text)
        if self._length > self._max_chars:
            raise Refused("too_long", f"{self._name}: has more than {self._max_chars:,} characters of text; split it")

    def heading(self, level: int, text: str) -> None:
        """A heading, of level 1 to 6."""
        text = one_line(text)
        if text:
            self.block(f"{'#' * level} {text}")
            self.headings.append(Heading(self._length - level - 1 - len(text), level, text))

    def page(self, number: int) -> None:
        """The next block begins this page; a page without blocks is not noted."""
        self._page = number

    def body(self, *, title: str = "", language: str = "", warnings: list[str] | None = None) -> Body:
        """All of it."""
        return Body("".join(self._parts), title, self.headings, self.pages, language, warnings or [])


def table(rows: list[list[str]]) -> str:
    """Rows as a markdown table, the first as its header; empty without rows. Cells become single lines."""
    rows = [[one_line(cell).replace("|", "\\|") for cell in row] for row in rows]
    rows = [row for row in rows if any(row)]
    if not rows:
        return ""
    width = max(len(row) for row in rows)
    lines = ["| " + " | ".join([*row, *[""] * (width - len(row))]) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])


def squeeze(text: str) -> str:
    """At most one blank line between two lines, none at the ends."""
    return _BLANK_LINES.sub("\n\n", text).strip("\n")
