"""Word documents: headings, lists, tables and paragraphs in their order, as a reader would see them."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import docx
from docx.opc.exceptions import PackageNotFoundError
from docx.oxml.exceptions import InvalidXmlError

from knowledge_base.errors import Refused
from knowledge_base.parsing.deadline import Deadline
from knowledge_base.parsing.draft import Body, Draft, one_line, table
from knowledge_base.parsing.limits import Limits
from knowledge_base.parsing.package import look_through

# What python-docx raises over files that are not as they should be (SyntaxError: of XML).
BROKEN = (
    *(PackageNotFoundError, InvalidXmlError, SyntaxError, zipfile.BadZipFile, zlib.error),
    *(ValueError, LookupError, TypeError, AttributeError, AssertionError, NotImplementedError, OSError),
)
W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
LEFT_OUT = (f"{W}del", f"{W}moveFrom", f"{W}pPr", f"{W}rPr", FALLBACK, f"{W}instrText", f"{W}delText")
BREAKS = {f"{W}tab": "\t", f"{W}br": "\n", f"{W}cr": "\n", f"{W}noBreakHyphen": "-"}
MOST_SPANNED = 100
_HEADING = re.compile(r"heading ([1-9])$", re.I)
_LIST = re.compile(r"list (?:bullet|number|paragraph)\b ?([2-5])?", re.I)


def read_docx(name: str, content: bytes, limits: Limits) -> Body:
    """The document's body; headers, footers and comments are not of it, deleted and hidden text is not seen."""
    look_through(name, content, limits)
    try:
        document = docx.Document(io.BytesIO(content))
        body = document.element.body
        styles = {style.style_id: style.name or "" for style in document.styles}
        title = document.core_properties.title or ""
        language = document.core_properties.language or ""
    except BROKEN as error:
        what = type(error).__name__
        raise Refused("corrupt", f"{name}: is no sound Word document ({what}); open it and save it anew") from None
    writer = _Writer(Draft(name, limits.max_chars), styles, Deadline(name, limits.seconds))
    writer.write(body)
    writer.end_list()
    held = writer.draft.body(title=one_line(title) or writer.title, language=language)
    if not held.title and held.headings:
        held.title = held.headings[0].text
    return held


class _Writer:
    def __init__(self, draft: Draft, styles: dict[str, str], deadline: Deadline) -> None:
        self.draft = draft
        self.title = ""
        self._styles = styles
        self._deadline = deadline
        self._items: list[str] = []

    def write(self, parent: Any) -> None:
        for each in _blocks(parent):
            self._deadline.check()
            if each.tag == f"{W}p":
                self._paragraph(each)
            else:
                self.end_list()
                self._table(each)

    def end_list(self) -> None:
        if self._items:
            self.draft.block("\n".join(self._items))
            self._items.clear()

    def _paragraph(self, paragraph: Any) -> None:
        text = "\n".join(line for line in (one_line(each) for each in _text(paragraph).split("\n")) if line)
        if not text:
            return
        style = self._styles.get(_value(paragraph.find(f"{W}pPr/{W}pStyle")), "")
        heading, listed = _HEADING.match(style), _LIST.match(style)
        numbered = paragraph.find(f"{W}pPr/{W}numPr")
        if heading or style.lower() == "title":
            self.end_list()
            self.title = self.title or (text if not heading else "")
            self.draft.heading(min(int(heading[1]), 6) if heading else 1, text)
        elif numbered is not None or (listed and "paragraph" not in style.lower()):
            told = _value(numbered.find(f"{W}ilvl")) if numbered is not None else ""
            level = int(told) if re.fullmatch("[0-8]", told) else int(listed[1] or 1) - 1 if listed else 0
            indent = "  " * level
            self._items.append(f"{indent}- " + text.replace("\n", f"\n{indent}  "))
        else:
            self.end_list()
            self.draft.block(text)

    def _table(self, element: Any) -> None:
        rows: list[list[str]] = []
        for row in _below(element, f"{W}tr"):
            self._deadline.check()
            cells: list[str] = []
            for cell in _below(row, f"{W}tc"):
                merged = cell.find(f"{W}tcPr/{W}vMerge")
                follows = merged is not None and merged.get(f"{W}val") != "restart"
                above = rows[-1][len(cells)] if follows and rows and len(cells) < len(rows[-1]) else ""
                told = _value(cell.find(f"{W}tcPr/{W}gridSpan"))
                span = min(int(told), MOST_SPANNED) if re.fullmatch("[0-9]{1,4}", told) else 1
                cells += [above or one_line(_text(cell)), *[""] * (span - 1)]
            rows.append(cells)
        if max((len(row) for row in rows), default=0) == 1:
            for row in rows:
                self.draft.block(" ".join(row))
        else:
            self.draft.block(table(rows))


def _blocks(parent: Any) -> Iterator[Any]:
    """Paragraphs and tables, also those in content controls and tracked insertions."""
    for each in parent:
        if each.tag in (f"{W}p", f"{W}tbl"):
            yield each
        elif each.tag in (f"{W}sdt", f"{W}sdtContent", f"{W}ins", f"{W}moveTo", f"{W}customXml"):
            yield from _blocks(each)


def _below(parent: Any, tag: str) -> Iterator[Any]:
    """Rows of a table or cells of a row, whatever wraps them."""
    for each in parent:
        if each.tag == tag:
            yield each
        elif each.tag in (f"{W}sdt", f"{W}sdtContent", f"{W}ins", f"{W}customXml"):
            yield from _below(each, tag)


def _text(element: Any) -> str:
    """What is seen of an element; depth does not matter."""
    held: list[str] = []
    stack = [element]
    while stack:
        each = stack.pop()
        if each.tag == f"{W}t":
            held.append(each.text or "")
        elif each.tag in BREAKS:
            held.append(BREAKS[each.tag])
        elif each.tag == f"{W}p" and held:
            held.append("\n")
            stack += reversed(each)
        elif each.tag not in LEFT_OUT and not (each.tag == f"{W}r" and _hidden(each)):
            stack += reversed(each)
    return "".join(held)


def _hidden(run: Any) -> bool:
    vanish = run.find(f"{W}rPr/{W}vanish")
    return vanish is not None and vanish.get(f"{W}val") not in ("0", "false")


def _value(element: Any) -> str:
    return "" if element is None else element.get(f"{W}val") or ""
