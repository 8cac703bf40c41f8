"""A team's days, and where in them a visit of some hours fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from tools.pf360.models import BusinessHours, Engagement, TeamSchedule

# Where upstream says that an office is open but not when.
OPENS, CLOSES = time(8), time(17)
_QUARTER = timedelta(minutes=15)


@dataclass(slots=True)
class WorkDay:
    """One day of a team, filled as visits are placed."""

    opens: datetime
    closes: datetime
    capacity_hours: float
    off: bool  # on vacation
    busy: list[Engagement] = field(default_factory=list)

    @property
    def left_hours(self) -> float:
        """Hours of the day's capacity that nothing takes yet."""
        return self.capacity_hours - sum((each.end - each.start) / timedelta(hours=1) for each in self.busy)

    def gap(self, hours: float, closes: datetime | None = None) -> datetime | None:
        """The earliest free start for so many hours in a row; None when there is none before closing time."""
        length = timedelta(hours=hours)
        for start in sorted({self.opens, *(each.end for each in self.busy if each.end > self.opens)}):
            ends_in_time = start + length <= (closes or self.closes)
            if ends_in_time and not any(each.overlaps(start, start + length) for each in self.busy):
                return start
        return None

    def take(self, project_id: str, start: datetime, hours: float) -> None:
        """Fill in a visit."""
        self.busy.append(Engagement(start, start + timedelta(hours=hours), project_id))


class Calendar:
    """The working days of a team in a range of days, from a moment on."""

    def __init__(self, schedule: TeamSchedule, hours: BusinessHours, days: Iterable[date], now: datetime) -> None:
        self.team = schedule.team
        self.capacity_hours = schedule.capacity_hours
        self.days = [
            each for day in days if day >= now.date() and (each := _work_day(schedule, hours, day, now)) is not None
        ]

    def free(self, project_ids: Iterable[str]) -> None:
        """Take what these projects fill in out of the days: they are to be placed anew."""
        moved = set(project_ids)
        for day in self.days:
            day.busy = [each for each in day.busy if each.project_id not in moved]

    def place(self, project_id: str, hours: float) -> datetime | None:
        """Fill in a visit on the first day that has the hours, and the time for them in a row; its start."""
        for day in self.days:
            if not day.off and hours <= day.left_hours and (start := day.gap(hours)) is not None:
                day.take(project_id, start, hours)
                return start
        return None

    def force(self, project_id: str, hours: float) -> datetime | None:
        """Fill in a visit although it does not fit: where the least speaks against it. None without any working day."""
        if not self.days:
            return None
        day = min(self.days, key=lambda each: (each.off, -each.left_hours, each.opens))
        midnight = datetime.combine(day.opens.date(), time()) + timedelta(days=1) - timedelta(minutes=1)
        start = day.gap(hours, midnight) or day.opens
        day.take(project_id, start, hours)
        return start

    def why_not(self, hours: float) -> tuple[str, str]:
        """Kind of and reason for there being no place for a visit of so many hours."""
        if not self.days:
            return "closed", "there is no working day left in that time"
        working = [day for day in self.days if not day.off]
        if not working:
            when = "that day" if len(self.days) == 1 else "on all those days"
            return "vacation", f"{self.team} is on vacation {when}"
        if hours > self.capacity_hours:
            return "capacity", f"it takes {_hours(hours)}, and {self.team} works {_hours(self.capacity_hours)} a day"
        if any(hours <= day.left_hours for day in working):
            return "overlap", f"{self.team} has no {_hours(hours)} in a row beside what it is busy with"
        left = f"{self.team} has left of its {_hours(self.capacity_hours)} a day"
        return "capacity", f"it takes {_hours(hours)}, more than {left}"


def _hours(number: float) -> str:
    return f"{number:g} hour{'' if number == 1 else 's'}"


def days_of(first: date, last: date) -> Sequence[date]:
    """All days of a range, both ends included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _work_day(schedule: TeamSchedule, hours: BusinessHours, day: date, now: datetime) -> WorkDay | None:
    """A day on which the office is open; of today only what is still to come."""
    of_day = hours.days[day.weekday()]
    if not of_day.is_open or day in hours.closed_dates:
        return None
    opens = datetime.combine(day, of_day.opens or OPENS)
    if day == now.date():
        opens = max(opens, _next_quarter(now))
    busy = [each for each in schedule.busy if each.start.date() == day]
    closes = datetime.combine(day, of_day.closes or CLOSES)
    return WorkDay(opens, closes, schedule.capacity_hours, day in schedule.vacation, busy)


def _next_quarter(moment: datetime) -> datetime:
    midnight = datetime.combine(moment.date(), time())
    return midnight + -(-(moment - midnight) // _QUARTER) * _QUARTER
