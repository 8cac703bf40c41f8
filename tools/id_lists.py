"""Lists of ids as dispatchers write them: `500101, 500103-500105 500110 thru 500112`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MOST_IN_A_RANGE = 1000  # whatever a list may hold, no more than this is ever written out

_RANGE = re.compile(
    r"(?<![\w-])#?(\d+)\s*(?:-|–|—|\.{2,}|\b(?:to|thru|through|until|till)\b)\s*#?(\d+)(?![\w-])", re.IGNORECASE
)
_ID = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?")
_JOINT = re.compile(r"[\s,;&+]+")
_AND = frozenset({"and", "n", "plus"})


def read_id_list(value: Any, *, least: int = 1, most: int = 100) -> tuple[str, ...]:
    """The ids of a text or of a list of ids and texts, ranges written out, repeats dropped, in the order given.

    The end of a range may be shortened (`500101-12`). Raises `ValueError` that says what is wrong with the list:
    no id list, a range that runs backwards, fewer than `least` or more than `most` ids after all ranges are expanded.
    """
    pieces = [value] if isinstance(value, str | int) else value
    if not isinstance(pieces, list | tuple) or not all(_is_text(piece) for piece in pieces):
        raise ValueError('must be a list of ids, such as ["500101", "500103-500105"]')
    ids = list(dict.fromkeys(each for piece in pieces for each in _expanded(str(piece), most)))
    if not least <= len(ids) <= most:
        raise ValueError(f"must hold {least} to {most} ids; {_count(len(ids))} given")
    return tuple(ids)


def ranges_of(text: str) -> Iterator[tuple[int, int, str, str]]:
    """Where the ranges of a text stand (start, end), with their first and last id, the end written in full."""
    for match in _RANGE.finditer(text):
        first, last = match[1], match[2]
        yield match.start(), match.end(), first, first[: max(len(first) - len(last), 0)] + last


def _is_text(piece: Any) -> bool:
    return isinstance(piece, str | int) and not isinstance(piece, bool)


def _expanded(text: str, most: int) -> Iterator[str]:
    at = 0
    for start, end, first, last in ranges_of(text):
        yield from _single(text[at:start])
        yield from _span(first, last, most)
        at = end
    yield from _single(text[at:])


def _span(first: str, last: str, most: int) -> Iterator[str]:
    count = int(last) - int(first) + 1
    if count < 1:
        raise ValueError(f"holds a range that runs backwards, {first}-{last}")
    if count > max(most, MOST_IN_A_RANGE):
        raise ValueError(f"must hold at most {most} ids; the range {first}-{last} alone has {count:,}")
    for number in range(int(first), int(last) + 1):
        yield str(number).zfill(len(first))


def _single(text: str) -> Iterator[str]:
    for word in _JOINT.split(text):
        plain = word.strip("#.()[]\"'")
        if not plain or plain.casefold() in _AND:
            continue
        if not _ID.fullmatch(plain) or len(plain) > 64:
            raise ValueError(f"holds {word!r}, which is no id")
        yield plain


def _count(number: int) -> str:
    return "none was" if number == 0 else "1 was" if number == 1 else f"{number} were"
