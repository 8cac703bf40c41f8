"""What was worked out of an object that is never changed, found again by the object itself."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
V = TypeVar("V")


class ByObject(Generic[T, V]):
    """Results of `work(thing, *how)`, for things that cannot be hashed or take long to.

    Every call of every later turn looks at the same messages, so each is worked on once. At most `kept` are held, and
    no more than weigh `most` together, as `weigh` (of the result) says.
    """

    def __init__(
        self, work: Callable[..., V], kept: int, weigh: Callable[[V], int] = lambda _: 0, most: int = 0
    ) -> None:
        self._work = work
        self._kept = kept
        self._weigh = weigh
        self._most = most
        self._weight = 0
        self._known: dict[Hashable, tuple[T, V]] = {}

    def of(self, thing: T, *how: Any) -> V:
        """The result for this very object."""
        key = (id(thing), *how) if how else id(thing)
        known = self._known.get(key)
        if known is not None and known[0] is thing:
            return known[1]
        result = self._work(thing, *how)
        weight = self._weigh(result)
        if len(self._known) >= self._kept or self._weight + weight > self._most > 0:
            self._known.clear()
            self._weight = 0
        self._known[key] = thing, result
        self._weight += weight
        return result
