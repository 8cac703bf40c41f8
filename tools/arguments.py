"""Types of tool parameters: what a model may write, and what the tool gets.

Values arrive already normalised where people speak (`next Friday` is no date here): ISO dates, clock times in the
usual notations, ids as they are shown.
"""

from __future__ import annotations

import re
from datetime import date, time
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, StringConstraints, WithJsonSchema

from tools.action import Resolved
from tools.projects import resolve_project_id

NOTE_LENGTH = 500

_CLOCK = re.compile(r"^(\d{1,2})(?::(\d{2}))?(?::\d{2})?\s*(?:([ap])\.?\s?m\.?)?$", re.IGNORECASE)
_RANGE = re.compile(r"\s*(?:-|–|—|\bto\b|\buntil\b)\s*", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def read_id(value: Any) -> Any:
    """An id as text; models write numbers, and people a leading `#`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip().lstrip("#").strip() if isinstance(value, str) else value


def read_date(value: Any) -> date:
    """A calendar day, YYYY-MM-DD."""
    if isinstance(value, date):
        return value
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value.strip()):
        raise ValueError("must be a date like 2026-03-16 (YYYY-MM-DD)")
    try:
        return date.fromisoformat(value.strip())
    except ValueError as problem:
        raise ValueError("is not a day of the calendar") from problem


def read_time(value: Any) -> time:
    """A start time: `10:00`, `10:00:00`, `1:00 PM` or a range, of which the start counts."""
    if isinstance(value, time):
        return value
    start, end = _split_range(value) if isinstance(value, str) else ("", "")
    match = _CLOCK.match(start)
    half = (match[3] or _half_at_end(int(match[1]), end)) if match else None
    if not match or (match[2] is None and half is None):
        raise ValueError("must be a time like 13:00 or 1:00 PM")
    hour, minute = int(match[1]), int(match[2] or 0)
    if half:
        if not 1 <= hour <= 12:
            raise ValueError("is not a time of day")
        hour = hour % 12 + (12 if half.lower() == "p" else 0)
    if hour > 23 or minute > 59:
        raise ValueError("is not a time of day")
    return time(hour, minute)


def _split_range(text: str) -> tuple[str, str]:
    pieces = _RANGE.split(text.strip(), maxsplit=1)
    return pieces[0].strip(), pieces[1].strip() if len(pieces) > 1 else ""


def _half_at_end(start_hour: int, end: str) -> str | None:
    """The half of the day of a start that is written at the end only: `1-3 PM`, but `10-1 PM` starts in the morning."""
    match = _CLOCK.match(end)
    if not match or not match[3]:
        return None
    return "a" if start_hour % 12 > int(match[1]) % 12 else match[3]


def plain_text(value: Any) -> Any:
    """Text without control characters and outer blanks."""
    return _CONTROL.sub(" ", value).strip() if isinstance(value, str) else value


ProjectId = Annotated[
    str,
    BeforeValidator(read_id),
    StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_ -]*$"),
    Resolved(resolve_project_id),
]
BookingDate = Annotated[
    date, BeforeValidator(read_date), WithJsonSchema({"type": "string", "format": "date"}, mode="validation")
]
SlotTime = Annotated[
    time,
    BeforeValidator(read_time),
    PlainSerializer(lambda value: value.strftime("%H:%M"), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "time"}, mode="validation"),
]
NoteText = Annotated[str, BeforeValidator(plain_text), StringConstraints(min_length=1, max_length=NOTE_LENGTH)]
ShortText = Annotated[str, BeforeValidator(plain_text), StringConstraints(min_length=1, max_length=300)]
Choice = Annotated[str, BeforeValidator(read_id), StringConstraints(min_length=1, max_length=80)]
