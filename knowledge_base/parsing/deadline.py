"""Time that one document may take, for readers that go step by step."""

from __future__ import annotations

import time

from knowledge_base.errors import Refused


class Deadline:
    """`check()` raises `Refused("timeout")` when the time is over."""

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        """Go on, or not."""
        if time.monotonic() > self._end:
            raise late(self._name, self._seconds)


def late(name: str, seconds: float) -> Refused:
    """The refusal."""
    return Refused("timeout", f"{name}: took longer than {seconds:g} s to read; split it, or raise KB_PARSE_SECONDS")
