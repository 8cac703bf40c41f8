"""One ranking over all documents in which no document takes every place, and nothing is shown twice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from knowledge_base.stores.base import Stored

PER_DOCUMENT = 2
_SPACE = re.compile(r"\s+")


def diverse(ranked: Sequence[Stored], k: int) -> list[int]:
    """Places of at most k chunks, in their order.

    No parent and no text twice; of one document at most `PER_DOCUMENT`, unless there is nothing else to show.
    """
    places = list(_once(ranked))
    taken: dict[str, int] = {}
    first: list[int] = []
    more: list[int] = []
    for place in places:
        doc_id = ranked[place].doc_id
        taken[doc_id] = taken.get(doc_id, 0) + 1
        (first if taken[doc_id] <= PER_DOCUMENT else more).append(place)
    return sorted((first + more)[:k])


def _once(ranked: Iterable[Stored]) -> Iterator[int]:
    seen: set[object] = set()
    for place, chunk in enumerate(ranked):
        marks: set[object] = {(chunk.doc_id, chunk.start, chunk.end), _SPACE.sub(" ", chunk.text).strip().casefold()}
        if chunk.parent is not None:
            marks = {(chunk.doc_id, *chunk.parent)}
        if not marks & seen:
            yield place
        seen |= marks
