"""Days and times as people read them. Weekdays are always given, because models guess them wrongly."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time
from typing import Any

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def weekday(day: date) -> str:
    """English name of a day's weekday."""
    return WEEKDAYS[day.weekday()]


def dated(day: date) -> dict[str, Any]:
    """`{date, weekday}` of a day."""
    return {"date": day.isoformat(), "weekday": weekday(day)}


def dates(days: Iterable[date]) -> list[dict[str, Any]]:
    """`[{date, weekday}]` of days."""
    return [dated(day) for day in days]


def clock(moment: time | datetime) -> str:
    """12-hour time, `8:00 AM`."""
    return f"{moment.hour % 12 or 12}:{moment.minute:02d} {'AM' if moment.hour < 12 else 'PM'}"


def slot(moment: datetime) -> dict[str, Any]:
    """`{date, weekday, time}` of a start."""
    return {**dated(moment.date()), "time": clock(moment)}


def said(moment: datetime) -> str:
    """A start within a sentence: `Wednesday, March 18, at 8:00 AM`."""
    return f"{weekday(moment.date())}, {MONTHS[moment.month - 1]} {moment.day}, at {clock(moment)}"


def figure(value: float | None) -> float | int | None:
    """A number without a needless `.0`."""
    return int(value) if value is not None and float(value).is_integer() else value
