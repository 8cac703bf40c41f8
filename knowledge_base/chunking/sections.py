"""Spans that follow the headings of a document.

A section that fits with all below it is one span. One that does not is cut into its own text and the sections below
it, small neighbours of which share a span. So where spans begin depends on nothing outside the section that is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from knowledge_base.chunking.boundaries import Span, stripped
from knowledge_base.chunking.packing import TINY, split
from knowledge_base.documents import Heading

# Of the limit: a span below this part takes the next section in, when both fit.
SMALL = 2
# Of the limit: the text of a section that is no more than this part, when sections follow, goes with the first of them.
BARE = 10


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
    if _size(text, start, section.end) <= longest:
        return [(start, section.end)]
    spans: list[Span] = []
    if section.below and _size(text, start, section.body_end) <= longest // BARE:
        begin = start
    else:
        spans = split(text, start, section.body_end, longest)
        begin = section.body_end
    joins = len(spans) == 1
    ours = len(spans)  # how many of the last spans may take another in: those of sections that were cut may not
    for below in section.below:
        if _size(text, begin, below.end) > longest:
            spans += _cut(text, below, begin, longest)
            joins, ours = False, 0
        elif joins and _joins(text, spans[-1], below.end, longest):
            spans[-1] = spans[-1][0], below.end
        else:
            spans.append((begin, below.end))
            joins, ours = True, ours + 1
        begin = below.end
    if ours > 1 and _size(text, *spans[-1]) < longest // TINY and _size(text, spans[-2][0], section.end) <= longest:
        spans[-2:] = [(spans[-2][0], section.end)]
    return spans


def _joins(text: str, span: Span, end: int, longest: int) -> bool:
    return _size(text, *span) < longest // SMALL and _size(text, span[0], end) <= longest


def _size(text: str, start: int, end: int) -> int:
    start, end = stripped(text, (start, end))
    return end - start
