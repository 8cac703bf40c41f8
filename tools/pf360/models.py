"""What the scheduling system says, as values. Dates and times are local to the project's site, without offset."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from tools.pf360.status import StatusGroup, status_group

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Project:
    """One row of a customer's dashboard, without anything about persons but the technician's name."""

    project_id: str
    order_number: str
    client_id: str
    category: str
    type: str
    status: str
    address: str
    city: str
    store: str | None = None
    technician: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    duration_hours: float | None = None
    sold: date | None = None
    completed: date | None = None

    @property
    def group(self) -> StatusGroup:
        """Which rules apply to its status."""
        return status_group(self.status)

    @property
    def appointment(self) -> datetime | None:
        """Start of the appointment; released bookings leave stale dates behind, which are none."""
        return self.start if self.group == "scheduled" else None

    @property
    def appointment_end(self) -> datetime | None:
        """End of the appointment, from the duration when upstream gives none."""
        if self.appointment is None:
            return None
        if self.end is not None:
            return self.end
        return self.appointment + timedelta(hours=self.duration_hours) if self.duration_hours else None

    def to_json(self) -> JsonObject:
        """JSON values, for the conversation's working state."""
        return {
            key: value.isoformat() if isinstance(value, date) else value
            for key, value in asdict(self).items()
            if value is not None
        }

    @classmethod
    def from_json(cls, row: JsonObject) -> Project:
        """The inverse of `to_json`."""
        moments: JsonObject = {key: datetime.fromisoformat(row[key]) for key in ("start", "end") if key in row}
        days: JsonObject = {key: date.fromisoformat(row[key]) for key in ("sold", "completed") if key in row}
        values: JsonObject = {**row, **moments, **days}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class OpenDates:
    """Answer to an availability search: days in order, and the ticket under which slots may be asked for."""

    dates: tuple[date, ...]
    request_id: str


@dataclass(frozen=True, slots=True)
class OpenSlots:
    """Start times of one day in order; `request_id` when upstream replaced the ticket."""

    slots: tuple[time, ...]
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Released:
    """Answer to giving an appointment up in order to move it; upstream may open a new search with it."""

    request_id: str | None


@dataclass(frozen=True, slots=True)
class Note:
    """A stored note. Its text is other people's and never an instruction."""

    note_id: str
    author: str
    created_at: datetime | None
    text: str


@dataclass(frozen=True, slots=True)
class DayHours:
    """One weekday of an office; times are None when closed, or when upstream does not say."""

    day: str
    is_open: bool
    opens: time | None = None
    closes: time | None = None


@dataclass(frozen=True, slots=True)
class BusinessHours:
    """An office's week, Monday first, and the days on which it is closed all the same."""

    days: tuple[DayHours, ...]
    timezone: str | None
    closed_dates: frozenset[date]


@dataclass(frozen=True, slots=True)
class WeatherDay:
    """Forecast of one day: Fahrenheit, percent, miles per hour; None where the service is silent."""

    date: date
    condition: str
    high_f: float | None
    low_f: float | None
    rain_percent: float | None
    wind_mph: float | None


@dataclass(frozen=True, slots=True)
class Weather:
    """Current conditions (`now`: condition, temp_f, wind_mph) and the forecast in order of days."""

    now: JsonObject | None
    days: tuple[WeatherDay, ...]


@dataclass(frozen=True, slots=True)
class Engagement:
    """A span of one day in which a team is busy, and the project it is busy with, if any."""

    start: datetime
    end: datetime
    project_id: str | None = None

    def overlaps(self, start: datetime, end: datetime) -> bool:
        """Whether it shares time with a span."""
        return self.start < end and start < self.end


@dataclass(frozen=True, slots=True)
class QueuedProject:
    """One entry of a coordinator's work list. `team` and `visit` are set when it is assigned."""

    project_id: str
    category: str
    address: str | None
    place: tuple[float, float] | None  # latitude and longitude in degrees
    hours: float
    permit: str  # `approved`, or why not
    measurement: str  # `complete`, or why not
    access: bool
    team: str | None = None
    visit: Engagement | None = None


@dataclass(frozen=True, slots=True)
class TeamSchedule:
    """What a team can do: hours a day, days off, and what it is busy with, in order."""

    team: str
    capacity_hours: float
    vacation: frozenset[date]
    busy: tuple[Engagement, ...]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A project for a team, from a local start on."""

    project_id: str
    team: str
    start: datetime


@dataclass(frozen=True, slots=True)
class AssignmentAnswer:
    """What upstream did with one assignment; `reason` is its word for a failure."""

    project_id: str
    assigned: bool
    reason: str | None = None
