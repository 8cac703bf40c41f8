"""The forms in which a scenario may state the argument it expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MATCHERS = ("contains", "any_of", "set")
# Arguments whose value is itself an object, so that an object is no matcher.
OBJECT_ARGUMENTS = {"start_location"}


def check_expected(name: str, expected: Any) -> None:
    """Refuse an expectation that no value could be compared with (`ValueError`)."""
    if isinstance(expected, Mapping) and name not in OBJECT_ARGUMENTS:
        if len(expected) != 1 or next(iter(expected)) not in MATCHERS:
            raise ValueError(f"{name}: an object must be one of {', '.join(MATCHERS)}, not {dict(expected)!r}")
        if not isinstance(next(iter(expected.values())), list):
            raise ValueError(f"{name}: {next(iter(expected))} takes a list")
