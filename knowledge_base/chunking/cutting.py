"""Chunks of a parsed document, by the kind that is configured."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence

from knowledge_base.chunking.boundaries import Span, character_cut, pieces, stripped
from knowledge_base.chunking.config import CHILDREN, ChunkingConfig
from knowledge_base.chunking.packing import split
from knowledge_base.chunking.sections import section_spans
from knowledge_base.documents import Chunk, Heading, Parsed

_SPACE = re.compile(r"\s")


def chunk(parsed: Parsed, config: ChunkingConfig) -> list[Chunk]:
    """Chunks in order; every character that is not blank is in at least one, and none is longer than `max_chars`.

    In time linear to the text. Of hierarchical chunks the parent is what is no longer than `max_chars`.
    """
    text = parsed.text
    if config.kind == "fixed":
        spans: Iterator[tuple[Span, Span | None]] = ((span, None) for span in _windows(text, config))
    elif config.kind == "hierarchical":
        spans = _families(parsed, config)
    else:
        spans = ((span, None) for span in _sections(parsed, config))
    places = _Places(text, parsed.headings)
    starts = [page.start for page in parsed.pages]
    seen: Counter[str] = Counter()
    chunks = []
    for ordinal, ((start, end), parent) in enumerate(spans):
        piece = text[start:end]
        at = bisect_right(starts, start) - 1
        page = parsed.pages[at].number if at >= 0 else None
        section = places.path(start, end)
        chunks.append(Chunk(ordinal, start, end, piece, section, page, parent, seen[piece], parsed.context))
        seen[piece] += 1
    return chunks


def _sections(parsed: Parsed, config: ChunkingConfig) -> Iterator[Span]:
    spans = section_spans(parsed.text, parsed.headings, config.max_chars - config.overlap)
    heads = {heading.start for heading in parsed.headings}
    before = len(parsed.text)
    for start, end in spans:
        yield (start if start in heads else _earlier(parsed.text, start, before, config.overlap)), end
        before = start


def _families(parsed: Parsed, config: ChunkingConfig) -> Iterator[tuple[Span, Span | None]]:
    for parent in section_spans(parsed.text, parsed.headings, config.max_chars):
        for child in split(parsed.text, *parent, config.max_chars // CHILDREN):
            yield stripped(parsed.text, child), parent


def _windows(text: str, config: ChunkingConfig) -> Iterator[Span]:
    before = len(text)
    for start, end in pieces(text, 0, len(text), config.max_chars - config.overlap):
        yield _earlier(text, start, before, config.overlap), end
        before = start


def _earlier(text: str, start: int, before: int, overlap: int) -> int:
    """Up to `overlap` characters before `start`, but not before `before`: where a word begins, if one does.

    `before` is where the chunk above begins; beyond `start` when there is none.
    """
    place = max(before, start - overlap)
    if place >= start:
        return start
    if place == before:
        return place
    blank = _SPACE.search(text, place - 1, start)
    if blank:
        at = blank.end()
        while at < start and text[at].isspace():
            at += 1
        return at
    while place < start and character_cut(text, before, place) != place:
        place += 1
    return place


class _Places:
    """Which headings stand above a span."""

    def __init__(self, text: str, headings: Sequence[Heading]) -> None:
        self._starts = [heading.start for heading in headings]
        self._paths: list[tuple[str, ...]] = []
        self._bare: list[bool] = []
        path: list[Heading] = []
        for n, heading in enumerate(headings):
            while path and path[-1].level >= heading.level:
                path.pop()
            path.append(heading)
            self._paths.append(tuple(each.text for each in path))
            follower = headings[n + 1] if n + 1 < len(headings) else None
            self._bare.append(
                follower is not None and follower.level > heading.level and _nothing(text, heading, follower)
            )

    def path(self, start: int, end: int) -> str:
        """The headings of the section that makes up half of the span or more, else those that hold for all of it."""
        first = bisect_right(self._starts, start) - 1
        last = bisect_right(self._starts, end - 1) - 1
        if last < 0:
            return ""
        common: tuple[str, ...] | None = None
        named: tuple[str, ...] = ()
        for n in range(first, last + 1):
            begin = self._starts[n] if n >= 0 else 0
            until = self._starts[n + 1] if n < last else end
            if n < last and n >= 0 and self._bare[n] and begin >= start:
                continue
            path = self._paths[n] if n >= 0 else ()
            if (until - max(begin, start)) * 2 >= end - start:
                return " > ".join(path)
            common = path if common is None else _shared(common, path)
            named = named or path
        return " > ".join(common or named)


def _nothing(text: str, heading: Heading, follower: Heading) -> bool:
    """Whether no text stands between two headings: only the line of the first, and perhaps the one that marks it."""
    rest = text[heading.start : follower.start].strip().split("\n", 2)
    return len(rest) == 1 or (len(rest) == 2 and not rest[1].strip("=- \t"))


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    n = 0
    while n < min(len(one), len(other)) and one[n] == other[n]:
        n += 1
    return one[:n]
