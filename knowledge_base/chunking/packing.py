"""Small spans made to larger ones, up to a limit."""

from __future__ import annotations

from collections.abc import Iterator

from knowledge_base.chunking.boundaries import Span, blocks, is_lines, lines, pieces, sentences

# Of the limit: a last piece below this part goes to the one before, or takes from it.
TINY = 5


def split(text: str, start: int, end: int, longest: int) -> list[Span]:
    """Spans of at most `longest` characters: whole blocks where they fit, else whole lines or sentences, else words."""
    packs: list[list[Span]] = []
    for unit in _units(text, start, end, longest):
        if packs and unit[1] - packs[-1][0][0] <= longest:
            packs[-1].append(unit)
        elif packs and _length(packs[-1]) < longest // TINY and unit[0] - packs[-1][0][0] < longest // 2:
            _fill(packs, text, unit, longest)
        else:
            packs.append([unit])
    if len(packs) > 1 and _length(packs[-1]) < longest // TINY:
        packs[-2:] = _evened(packs[-2:], longest)
    return [(pack[0][0], pack[-1][1]) for pack in packs]


def _fill(packs: list[list[Span]], text: str, unit: Span, longest: int) -> None:
    """Break a unit that does not fit below a heading, or the like, so that the heading does not stand alone."""
    room = packs[-1][0][0] + longest - unit[0]
    for smaller in _broken(text, unit, room):
        if smaller[1] - packs[-1][0][0] <= longest:
            packs[-1].append(smaller)
        else:
            packs.append([smaller])


def _units(text: str, start: int, end: int, longest: int) -> Iterator[Span]:
    for block in blocks(text, start, end):
        yield from [block] if block[1] - block[0] <= longest else _broken(text, block, longest)


def _broken(text: str, block: Span, longest: int) -> Iterator[Span]:
    for unit in lines(text, *block) if is_lines(text, *block) else sentences(text, *block):
        if unit[1] - unit[0] <= longest:
            yield unit
            continue
        for sentence in sentences(text, *unit):
            yield from [sentence] if sentence[1] - sentence[0] <= longest else pieces(text, *sentence, longest)


def _evened(packs: list[list[Span]], longest: int) -> list[list[Span]]:
    """The two packs made as even as the limit allows; as they are when one would be tiny anyway."""
    units = packs[0] + packs[1]
    first, last = units[0][0], units[-1][1]
    tiny = longest // TINY
    places = [
        n
        for n in range(1, len(units))
        if tiny <= units[n - 1][1] - first <= longest and tiny <= last - units[n][0] <= longest
    ]
    if not places:
        return packs
    best = min(places, key=lambda n: abs(units[n][0] - (first + last) // 2))
    return [units[:best], units[best:]]


def _length(pack: list[Span]) -> int:
    return pack[-1][1] - pack[0][0]
