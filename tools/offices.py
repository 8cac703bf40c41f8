"""Opening hours of an office: open now, and when next."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from tools.contract import JsonObject
from tools.pf360.models import BusinessHours, DayHours
from tools.pf360.readers import clock_time
from tools.wording import WEEKDAYS, clock, dated

DAYS_AHEAD = 31


def default_hours(week: Mapping[str, tuple[str, str] | None]) -> BusinessHours:
    """The deployment's default week; a weekday without an entry is closed."""
    days = []
    for name in WEEKDAYS:
        hours = week.get(name)
        days.append(
            DayHours(name, True, clock_time(hours[0]), clock_time(hours[1])) if hours else DayHours(name, is_open=False)
        )
    return BusinessHours(tuple(days), None, frozenset())


def open_at(hours: BusinessHours, now: datetime) -> bool | None:
    """Whether an office is open at a local moment; None when its times are not known."""
    today = hours.days[now.weekday()]
    if not today.is_open or now.date() in hours.closed_dates:
        return False
    if today.opens is None or today.closes is None:
        return None
    return today.opens <= now.time() < today.closes


def next_opening(hours: BusinessHours, now: datetime) -> JsonObject | None:
    """`{date, weekday, time}` of the next opening after a local moment; None when none is known."""
    for ahead in range(DAYS_AHEAD):
        day = now.date() + timedelta(days=ahead)
        of_day = hours.days[day.weekday()]
        if not of_day.is_open or day in hours.closed_dates:
            continue
        if ahead == 0 and (of_day.opens is None or now.time() >= of_day.opens):
            continue
        return {**dated(day), "time": clock(of_day.opens) if of_day.opens else None}
    return None


def hours_view(hours: BusinessHours, now: datetime) -> JsonObject:
    """Days, closed dates to come, whether open now, and the next opening when not."""
    is_open = open_at(hours, now)
    return {
        "days": [
            {
                "day": day.day,
                "open": clock(day.opens) if day.opens else None,
                "close": clock(day.closes) if day.closes else None,
                "closed": not day.is_open,
            }
            for day in hours.days
        ],
        "closed_dates": [dated(day) for day in sorted(hours.closed_dates) if day >= now.date()],
        "open_now": is_open,
        "next_open": None if is_open else next_opening(hours, now),
    }
