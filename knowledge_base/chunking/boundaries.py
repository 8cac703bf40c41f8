"""Where a text may be cut: between blocks, sentences, words, and never inside what is seen as one character."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

Span = tuple[int, int]

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ITEM = re.compile(r"[ \t]*(?:[-*+•]|\d{1,9}[.)])[ \t]")
_ROW = re.compile(r"[ \t]*\|")
_HEADING = re.compile(r" {0,3}#{1,6}(?:[ \t]|$)")
# Sentences of scripts with blanks end by a mark, closing quotes and a blank; those of others by the mark alone.
_CLOSERS = "[\"'”’»)\\]]"
_SENTENCE_END = re.compile(f"(?<![.!?…؟۔।॥։።])[.!?…؟۔।॥։።]++{_CLOSERS}*+(?=\\s)|[。！？｡．]++[」』”’）】》]*+|\n")
_INITIAL = re.compile(
    r"(?:^|[\s(])(?:[^\W\d_]|[eE]\.g|[iI]\.e|z\. ?B|[DMS]r|Mrs|Ms|Nr|No|St|vs|etc|approx|ca|bzw|usw)$"
)
_WORD_END = re.compile(r"\s+")

_ZERO_WIDTH_JOINER = "\u200d"


def blocks(text: str, start: int, end: int) -> Iterator[Span]:
    """Spans of paragraphs, lists, tables, code and headings, without the blank lines between them.

    The items of a list are one block, with blank lines between them or not, and so are the rows of a table.
    """
    begin, last = -1, -1  # of the block that is open: where it begins, and where its last line that is not blank ends
    fence, listing, blank = "", False, False
    for here, until in _lines(text, start, end):
        if text[here:until].isspace() or here == until:
            blank = True
            if not listing and not fence and begin >= 0:
                yield begin, last
                begin = -1
            continue
        mark = _FENCE.match(text, here, until)
        item = _ITEM.match(text, here, until) is not None
        indented = text[here] in " \t"
        heading = not fence and _HEADING.match(text, here, until) is not None
        ends_list = listing and blank and not item and not indented
        if begin >= 0 and not fence and (heading or ends_list or (item and not listing and blank)):
            yield begin, last
            begin, listing = -1, False
        if begin < 0:
            begin, listing = here, item
        elif item and not fence:
            listing = True
        last, blank = until, False
        if fence:
            closes = mark and mark[1].startswith(fence)
            fence = "" if closes else fence
        elif mark:
            fence = mark[1]
        if heading:
            yield begin, last
            begin, listing = -1, False
    if begin >= 0:
        yield begin, last


def is_lines(text: str, start: int, end: int) -> bool:
    """Whether a block is one whose lines stand for themselves: list, table or code."""
    return any(pattern.match(text, start, end) for pattern in (_ITEM, _ROW, _FENCE))


def lines(text: str, start: int, end: int) -> Iterator[Span]:
    """Spans of the lines that are not blank."""
    for here, until in _lines(text, start, end):
        if not text[here:until].isspace() and here < until:
            yield here, until


def sentences(text: str, start: int, end: int) -> Iterator[Span]:
    """Spans of sentences, without the blanks between them. A line's end ends one only where the line is a short one."""
    at = _skip(text, start, end)
    for found in _SENTENCE_END.finditer(text, start, end):
        cut = found.end()
        if cut <= at or not _ends(text, found.start(), cut, end):
            continue
        yield at, _trim(text, at, cut)
        at = _skip(text, cut, end)
    if at < end:
        yield at, _trim(text, at, end)


def pieces(text: str, start: int, end: int, longest: int) -> Iterator[Span]:
    """Spans of at most `longest` characters, cut between words where there are some, else between characters."""
    at = _skip(text, start, end)
    while end - at > longest:
        cut = word_cut(text, at, at + longest)
        yield at, _trim(text, at, cut)
        at = _skip(text, cut, end)
    if at < end:
        yield at, _trim(text, at, end)


def stripped(text: str, span: Span) -> Span:
    """The span without blanks at its ends."""
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def word_cut(text: str, start: int, cut: int) -> int:
    """The last place up to `cut` where a word ends, if that leaves half; else a place between characters as seen."""
    if cut < len(text) and not text[cut].isspace():
        half = start + (cut - start) // 2
        place = cut
        while place > half and not text[place - 1].isspace():
            place -= 1
        if place > half:
            return place
    return character_cut(text, start, cut)


def character_cut(text: str, start: int, cut: int) -> int:
    """The last place up to `cut` that is not inside a character as seen: accents, emoji, flags, syllables stay whole.

    When all from `start` on is one such character, `cut` itself.
    """
    place = cut
    while place > start and place < len(text) and not _may_cut(text, start, place):
        place -= 1
    return place if place > start else cut


def _may_cut(text: str, start: int, place: int) -> bool:
    after, before = text[place], text[place - 1]
    if after < "\u0300":
        return not (before == "\r" and after == "\n")
    if unicodedata.category(after)[0] == "M" or _ZERO_WIDTH_JOINER in (after, before):
        return False
    if "\U0001f3fb" <= after <= "\U0001f3ff" or "\U000e0020" <= after <= "\U000e007f":
        return False
    if "\U0001f1e6" <= after <= "\U0001f1ff":
        run = place
        while run > start and "\U0001f1e6" <= text[run - 1] <= "\U0001f1ff":
            run -= 1
        return (place - run) % 2 == 0
    # A Hangul syllable written by its letters: vowels and finals stay with what stands before them.
    return not "\u1160" <= after <= "\u11ff"


def _ends(text: str, mark: int, cut: int, end: int) -> bool:
    """Whether a mark at `mark` ends a sentence: not after an initial or abbreviation, nor before a small letter."""
    if text[mark] == "\n":
        following = text[cut : cut + 1]
        return following == "\n" or _ITEM.match(text, cut, end) is not None
    if text[mark] != ".":
        return True
    after = _skip(text, cut, min(end, cut + 50))
    if after < end and text[after].islower():
        return False
    return cut - mark > 1 or _INITIAL.search(text, max(0, mark - 8), mark) is None


def _lines(text: str, start: int, end: int) -> Iterator[Span]:
    at = start
    while at < end:
        until = text.find("\n", at, end)
        until = end if until < 0 else until
        yield at, until
        at = until + 1


def _skip(text: str, at: int, end: int) -> int:
    blank = _WORD_END.match(text, at, end)
    return blank.end() if blank else at


def _trim(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isspace():
        end -= 1
    return end
