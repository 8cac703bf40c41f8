"""Spans that follow the headings of a document.

A section is cut from the next, unless both are tiny, or one hardly more than its heading: such neighbours under the
same heading share a span. So where spans begin depends on little outside the section.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from knowledge_base.chunking.boundaries import Span, stripped
from knowledge_base.chunking.packing import split
from knowledge_base.documents import Heading

# Of the limit: sections below this part are tiny, and share a span with their like until it is half full.
TINY_SECTION = 5
HALF = 2
# Of the limit: what is below this part goes with any neighbour.
SPECK = 10


@dataclass(slots=True)
class Section:
    """A heading with its own text up to `body_end`, and the sections below it up to `end`."""

    start: int
    level: int
    body_end: int = 0
    end: int = 0
    below: list[Section] = field(default_factory=list)


def section_spans(text: str, headings: Sequence[Heading], longest: int) -> list[Span]:
    """Spans of at most `longest` characters, without blanks at their ends; together they hold all else."""
    spans = _cut(text, tree(len(text), headings), 0, longest)
    return [each for each in (stripped(text, span) for span in spans) if each[0] < each[1]]


def tree(length: int, headings: Sequence[Heading]) -> Section:
    """The document as a section of level 0; headings must be in order."""
    root = Section(0, 0)
    path = [root]
    for heading in headings:
        _close(path, heading.level, heading.start)
        section = Section(heading.start, heading.level)
        if not path[-1].below:
            path[-1].body_end = heading.start
        path[-1].below.append(section)
        path.append(section)
    _close(path, 0, length)
    root.end = length
    if not root.below:
        root.body_end = length
    return root


def _close(path: list[Section], level: int, at: int) -> None:
    while len(path) > 1 and path[-1].level >= level:
        section = path.pop()
        section.end = at
        if not section.below:
            section.body_end = at


def _cut(text: str, section: Section, start: int, longest: int) -> list[Span]:
    """Spans from `start`, which may lie before the section, to its end."""
    if not section.below:
        return split(text, start, section.end, longest)
    spans: list[Span] = []
    begin = start
    if _size(text, start, section.body_end) >= longest // TINY_SECTION:
        spans = split(text, start, section.body_end, longest)
        begin = section.body_end
    joins = len(spans) == 1  # whether the last span may take another in: those of sections that were cut may not
    tiny = False  # whether it holds tiny sections only
    for below in section.below:
        cut = _cut(text, below, begin, longest)
        begin = below.end
        alone = len(cut) == 1
        small = alone and _size(text, *cut[0]) < longest // TINY_SECTION
        if joins and alone and _joins(text, spans[-1], cut[0], longest, tiny and small):
            spans[-1] = spans[-1][0], cut[0][1]
            tiny = tiny and small
        else:
            spans += cut
            joins, tiny = alone, small
    return spans


def _joins(text: str, span: Span, after: Span, longest: int, tiny: bool) -> bool:
    one, other = _size(text, *span), _size(text, *after)
    if _size(text, span[0], after[1]) > longest:
        return False
    return min(one, other) < longest // SPECK or (tiny and one < longest // HALF)


def _size(text: str, start: int, end: int) -> int:
    start, end = stripped(text, (start, end))
    return end - start
