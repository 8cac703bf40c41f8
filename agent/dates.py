"""Date and time understanding: what people say about days and hours, and how the assistant says them back.

`find_dates` and `find_times` read free text (English and Spanish); `parse_day` and `parse_time` read one argument of a
tool call as a model writes it; `say_date` and `say_time` are the wording of replies. All are pure: "today" is given.
"""

from __future__ import annotations

import re
from datetime import date, time, timedelta

from agent.date_mentions import DateMention, ImpossibleDate, find_dates
from agent.time_mentions import END_OF_DAY, TimeMention, find_times

__all__ = [
    "END_OF_DAY",
    "DateError",
    "DateMention",
    "ImpossibleDate",
    "TimeError",
    "TimeMention",
    "find_dates",
    "find_times",
    "parse_day",
    "parse_time",
    "say_date",
    "say_time",
]


class DateError(ValueError):
    """A text that names no single calendar day; the message says what is wrong with it."""


class TimeError(ValueError):
    """A text that names no time of day; the message says what is wrong with it."""


_ISO_DAY = re.compile(r"\s*(\d{4})-(\d{1,2})-(\d{1,2})(?!\d)")
# A model that writes last year's date means this year's; if that is over for longer than this, next year's.
_LONG_OVER = timedelta(days=180)


def parse_day(text: str, today: date) -> date:
    """The one day that a text names: ISO or natural language, days before today included.

    A year before the current one is read as the current one. Raises `DateError` for an impossible date, a range,
    several days, or none.
    """
    corrected = _ISO_DAY.sub(lambda m: f"{_current_year(m, today)}-{m[2]}-{m[3]}", text, count=1)
    if re.fullmatch(r"\s*\d{1,2}\s*", text):
        corrected = f"the {int(text)}th"
    mentions = find_dates(corrected, today)
    days: list[DateMention] = []
    for mention in mentions:
        if isinstance(mention, ImpossibleDate):
            raise DateError(f"{text.strip()!r} is impossible: {mention.reason}")
        if mention.relation != "instead_of":
            days.append(mention)
    match days:
        case []:
            raise DateError(f"{text.strip()!r} is not a date")
        case [DateMention(kind="day" | "weekday", relation="on") as only]:
            return only.start
        case [DateMention(kind="range") as only]:
            raise DateError(f"{text.strip()!r} is a range ({only.start} to {only.end}), not one day")
        case [DateMention() as only]:
            raise DateError(f"{text.strip()!r} does not name one day ({only.relation} {only.text})")
    raise DateError(f"{text.strip()!r} names several days")


def _current_year(match: re.Match[str], today: date) -> int:
    year, month, day = (int(part) for part in match.groups())
    if year >= today.year:
        return year
    try:
        return today.year + (date(today.year, month, day) < today - _LONG_OVER)
    except ValueError:
        return today.year


def parse_time(text: str) -> time:
    """The time of day that a text names: "13:00", "1:00 PM", "noon"; of a range its start. `TimeError` if none."""
    if re.fullmatch(r"\s*([01]?\d|2[0-3])\s*", text):
        text = f"at {int(text)}"
    mentions = [mention for mention in find_times(text) if mention.relation == "at"]
    points = [mention for mention in mentions if mention.kind == "point"]
    if len(points) == 1 and len(mentions) == 1:
        return points[0].start
    if len(points) > 1:
        raise TimeError(f"{text.strip()!r} names several times")
    if len(mentions) == 1 and re.search(r"\d|\bnoon", mentions[0].text.lower()) and mentions[0].start > time(0):
        return mentions[0].start
    if mentions:
        raise TimeError(f"{text.strip()!r} is a part of the day, not a time")
    raise TimeError(f"{text.strip()!r} is not a time of day")


def say_date(day: date) -> str:
    """`Monday, March 16`."""
    return f"{day:%A, %B} {day.day}"


def say_time(moment: time) -> str:
    """`10:00 AM`."""
    return f"{moment.hour % 12 or 12}:{moment.minute:02} {'AM' if moment.hour < 12 else 'PM'}"
