"""Comparing arguments with what a scenario expects, and the calls of a turn with those it requires."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from backend.evaluation.expected import OBJECT_ARGUMENTS
from backend.evaluation.scenario import ExpectedCall
from backend.evaluation.transcript import ToolCall

DATE_ARGUMENTS = {"date", "new_date", "start_date", "end_date", "date_range"}
TIME_ARGUMENTS = {"time", "new_time", "start", "start_time"}

_CLOCK = re.compile(r"(\d{1,2})(?::?(\d{2}))?(?::\d{2})?\s*(?:([ap])\.?\s?m\.?)?", re.IGNORECASE)


def arguments_match(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> bool:
    """Whether every named argument is as expected; `request_id` is never compared."""
    return all(
        argument_matches(name, value, actual.get(name)) for name, value in expected.items() if name != "request_id"
    )


def argument_matches(name: str, expected: Any, actual: Any) -> bool:
    """Compare one argument; an absent one counts as null.

    `"*"` fits any value and none, null an absent or null one, `{contains}` every piece case-insensitively, `{any_of}`
    one of the values, `{set}` the same members in any order. Ids are compared as text, dates as days, times as minutes.
    """
    if expected == "*":
        return True
    if expected is None:
        return actual is None
    if isinstance(expected, Mapping) and name not in OBJECT_ARGUMENTS:
        kind, values = next(iter(expected.items()))
        if kind == "any_of":
            return any(argument_matches(name, value, actual) for value in values)
        if actual is None:
            return False
        if kind == "contains":
            return all(str(piece).casefold() in _text(actual).casefold() for piece in values)
        members = actual if isinstance(actual, Sequence) and not isinstance(actual, str) else [actual]
        return {normalised(name, value) for value in values} == {normalised(name, member) for member in members}
    if actual is None:
        return False
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and arguments_match(expected, actual)
    if isinstance(expected, list):
        return (
            isinstance(actual, Sequence)
            and not isinstance(actual, str)
            and [normalised(name, value) for value in expected] == [normalised(name, value) for value in actual]
        )
    return normalised(name, expected) == normalised(name, actual)


def normalised(name: str, value: Any) -> str:
    """One scalar as comparable text."""
    text = str(value).strip()
    if isinstance(value, bool):
        return text.lower()
    if name in DATE_ARGUMENTS:
        return as_day(text) or text
    if name in TIME_ARGUMENTS:
        return as_clock(text) or text
    return text if name.endswith(("_id", "_ids")) else " ".join(text.casefold().split())


def as_day(text: str) -> str | None:
    """`YYYY-MM-DD` of a date or timestamp, None when it is none."""
    try:
        return date.fromisoformat(text[:10]).isoformat()
    except ValueError:
        pass
    american = re.fullmatch(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})", text)
    if not american:
        return None
    month, day, year = (int(part) for part in american.groups())
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None


def as_clock(text: str) -> str | None:
    """`HH:MM` of a time in 24-hour or 12-hour form, None when it is none."""
    found = _CLOCK.fullmatch(text.strip())
    if not found:
        return None
    hour, minute = int(found[1]), int(found[2] or 0)
    if found[3]:
        hour = hour % 12 + (12 if found[3].lower() == "p" else 0)
    return f"{hour:02d}:{minute:02d}" if hour < 24 and minute < 60 else None


def call_matches(expected: ExpectedCall, call: ToolCall) -> bool:
    """Whether this call is the expected one."""
    return call.tool in expected.tools and arguments_match(expected.args, call.args)


def unmatched_writes(
    expected: Sequence[ExpectedCall], calls: Sequence[ToolCall], *, any_order: bool
) -> list[ToolCall] | None:
    """Find the expected calls among the real ones.

    Returns the write calls left over by the best assignment, or None when a required call is missing or out of order.
    """
    best: list[ToolCall] | None = None
    for chosen in _assignments(expected, calls, any_order=any_order):
        left = [call for index, call in enumerate(calls) if call.is_write and index not in chosen]
        if best is None or len(left) < len(best):
            best = left
        if not best:
            break
    return best


def missing_calls(expected: Sequence[ExpectedCall], calls: Sequence[ToolCall]) -> list[ExpectedCall]:
    """Required calls that no call fits at all, for a reason that names them."""
    return [want for want in expected if not want.optional and not any(call_matches(want, call) for call in calls)]


def _assignments(
    expected: Sequence[ExpectedCall], calls: Sequence[ToolCall], *, any_order: bool
) -> list[frozenset[int]]:
    """Every way to give each expected call a real one of its own (optional ones may go without)."""
    found: list[frozenset[int]] = []

    def place(position: int, taken: dict[int, int]) -> None:
        if position == len(expected):
            if not any_order or _dates_before_slots(expected, calls, taken):
                found.append(frozenset(taken.values()))
            return
        start = 0 if any_order else max(taken.values(), default=-1) + 1
        for index in range(start, len(calls)):
            if index not in taken.values() and call_matches(expected[position], calls[index]):
                place(position + 1, {**taken, position: index})
        if expected[position].optional:
            place(position + 1, taken)

    place(0, {})
    return found


def _dates_before_slots(expected: Sequence[ExpectedCall], calls: Sequence[ToolCall], taken: dict[int, int]) -> bool:
    """In any order means any but this: the slots of a project come after its dates, where both are required."""
    for position, index in taken.items():
        if "get_time_slots" not in expected[position].tools:
            continue
        project = calls[index].args.get("project_id")
        for other, earlier in taken.items():
            same = calls[earlier].args.get("project_id") == project
            if "get_available_dates" in expected[other].tools and same and earlier > index:
                return False
    return True


def _text(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(str(item) for item in value)
    return str(value)
