"""Reads upstream bodies, of which there are many variants for the same answer.

Every reader takes decoded JSON and gives values, or raises `Unreadable`: a body that cannot be understood is never
taken for an empty one. Ids may be numbers or strings and keys may be missing; both are normal.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time
from functools import lru_cache
from typing import Any

from tools.pf360.models import (
    AssignmentAnswer,
    BusinessHours,
    DayHours,
    Engagement,
    JsonObject,
    Note,
    OpenDates,
    OpenSlots,
    Project,
    QueuedProject,
    Released,
    TeamSchedule,
    Weather,
    WeatherDay,
)
from tools.wording import WEEKDAYS


class Unreadable(ValueError):
    """A body without what its endpoint must answer."""


def payload(body: Any) -> JsonObject:
    """`data` when it is an object, else the body itself."""
    if not isinstance(body, dict):
        raise Unreadable("not an object")
    data = body.get("data")
    return data if isinstance(data, dict) else body


def rows(body: Any, *names: str) -> list[JsonObject]:
    """The list that a body is or holds, under one of `names` or `data`, at the top or inside `data`."""
    for holder in (body, body.get("data") if isinstance(body, dict) else None):
        if isinstance(holder, list):
            return [row for row in holder if isinstance(row, dict)]
        if isinstance(holder, dict):
            for name in (*names, "data"):
                if isinstance(holder.get(name), list):
                    return [row for row in holder[name] if isinstance(row, dict)]
    raise Unreadable("no list in the answer")


def projects(body: Any, client_id: str, customer_id: str) -> list[Project]:
    """Dashboard rows of this customer at this client, in upstream's order."""
    found = (project(row, client_id) for row in rows(body, "projects") if _belongs(row, customer_id))
    return [each for each in found if each is not None]


def _belongs(row: JsonObject, customer_id: str) -> bool:
    owner = text(row.get("customer_customer_id"))
    return owner is None or owner == customer_id


def project(row: JsonObject, client_id: str) -> Project | None:
    """One dashboard row; None when it has no id."""
    project_id = text(row.get("project_project_id"))
    if project_id is None:
        return None
    city = text(row.get("installation_address_city")) or ""
    street = (text(row.get("installation_address_address1")), text(row.get("installation_address_address2")))
    state_zip = (text(row.get("installation_address_state")), text(row.get("installation_address_zipcode")))
    pieces = [*filter(None, street), city, " ".join(filter(None, state_zip))]
    address = text(row.get("installation_address_full_address")) or ", ".join(filter(None, pieces))
    names = (text(row.get("user_idata_first_name")), text(row.get("user_idata_last_name")))
    return Project(
        project_id=project_id,
        order_number=text(row.get("project_project_number")) or project_id,
        client_id=text(row.get("client_client_id")) or client_id,
        category=text(row.get("project_category_category")) or "Project",
        type=text(row.get("project_type_project_type")) or "",
        status=text(row.get("status_info_status")) or "",
        address=address,
        city=city,
        store=text(row.get("store_info_store_name"))
        or text(row.get("project_store_store_number"))
        or text(row.get("store_info_store_number")),
        technician=" ".join(filter(None, names)) or None,
        start=moment(row.get("convertedProjectStartScheduledDate")),
        end=moment(row.get("convertedProjectEndScheduledDate")),
        duration_hours=_hours(row),
        sold=day(row.get("project_date_sold")),
        completed=day(row.get("project_date_completed_date")),
    )


def _hours(row: JsonObject) -> float | None:
    value = number(row.get("service_time_duration_value"))
    unit = (text(row.get("service_time_duration_type")) or "hours").casefold()
    if value is None:
        return None
    return value / 60 if unit.startswith("min") else value * 24 if unit.startswith("day") else value


def open_dates(body: Any) -> OpenDates:
    """Days of an availability answer, sorted; generic slots beside them are no facts and are not read."""
    data = payload(body)
    listed, request_id = _first_list(data, "dates", "availableDates"), text(data.get("request_id"))
    if request_id is None:
        raise Unreadable("an availability answer without its ticket")
    return OpenDates(tuple(sorted({found for item in listed if (found := day(item))})), request_id)


def open_slots(body: Any) -> OpenSlots:
    """Start times of one day, sorted."""
    data = payload(body)
    listed = _first_list(data, "slots", "timeSlots")
    times = {found for item in listed if (found := clock_time(item)) is not None}
    return OpenSlots(tuple(sorted(times)), text(data.get("request_id")))


def released(body: Any) -> Released:
    """Answer to a release: a message, perhaps with a new search."""
    return Released(text(payload(body).get("request_id")))


def acknowledged(body: Any) -> None:
    """That a write was done: a success status, `data: true`, an object of data, or a bare message."""
    if not isinstance(body, dict) or not body:
        raise Unreadable("no acknowledgement")
    status = (text(body.get("status")) or "success").casefold()
    if status not in ("success", "ok", "true"):
        raise Unreadable(f"status {status}")
    if not (body.get("data") or body.get("message") or "status" in body or "note_id" in body):
        raise Unreadable("no acknowledgement")


def notes(body: Any) -> list[Note]:
    """Notes, newest first."""
    found = [
        Note(
            note_id=text(row.get("note_id") or row.get("id")) or "",
            author=text(row.get("author")) or "",
            created_at=moment(row.get("created_at")),
            text=text(row.get("note_text") or row.get("note")) or "",
        )
        for row in rows(body, "notes")
    ]
    found.reverse()  # upstream lists in the order of writing: of equal times the later one comes first
    return sorted(found, key=lambda note: note.created_at or datetime.min, reverse=True)


def business_hours(body: Any) -> BusinessHours:
    """A week of opening hours, in the three forms that are known."""
    data = payload(body)
    by_day = {
        name: hours
        for row in _first_list(data, "workHours", "work_hours", "days")
        if (hours := _day_hours(row))
        for name in (hours.day,)
    }
    if not by_day:
        raise Unreadable("no working days")
    week = tuple(by_day.get(name) or DayHours(name, is_open=False) for name in WEEKDAYS)
    closed = frozenset(found for item in data.get("closed_dates") or () if (found := day(item)))
    return BusinessHours(week, text(data.get("timezone")), closed)


def _day_hours(row: Any) -> DayHours | None:
    if not isinstance(row, dict) or not (name := text(row.get("day"))):
        return None
    full = next((weekday for weekday in WEEKDAYS if weekday.casefold().startswith(name.casefold()[:3])), None)
    if full is None:
        return None
    opens = clock_time(row.get("start") or row.get("start_time") or row.get("open"))
    closes = clock_time(row.get("end") or row.get("end_time") or row.get("close"))
    says = row.get("is_working")
    is_open = (opens is not None) if says is None else says in (True, 1, "1", "true", "True", "yes")
    return DayHours(full, is_open, opens if is_open else None, closes if is_open else None)


def queue(body: Any) -> list[QueuedProject]:
    """Entries of the work list, in upstream's order."""
    return [_queued(row) for row in rows(body, "projects")]


def _queued(row: JsonObject) -> QueuedProject:
    project_id, hours = text(row.get("project_id")), number(row.get("estimated_hours"))
    if project_id is None or hours is None or hours <= 0:
        raise Unreadable("a work-list entry without id or hours")
    latitude, longitude = number(row.get("lat")), number(row.get("lng"))
    scheduled = row.get("scheduled")
    return QueuedProject(
        project_id=project_id,
        category=text(row.get("category")) or "Project",
        address=text(row.get("address")),
        place=(latitude, longitude) if latitude is not None and longitude is not None else None,
        hours=hours,
        permit=(text(row.get("permit_status")) or "unknown").casefold(),
        measurement=(text(row.get("measurement_status")) or "unknown").casefold(),
        access=row.get("access_approved") in (True, 1, "1", "true", "True", "yes"),
        team=text(row.get("team")),
        visit=_engagement({**scheduled, "project_id": project_id}) if isinstance(scheduled, dict) else None,
    )


def _engagement(row: JsonObject) -> Engagement:
    on, start, end = day(row.get("date")), clock_time(row.get("start")), clock_time(row.get("end"))
    if on is None or start is None or end is None:
        raise Unreadable("a busy time without day, start or end")
    return Engagement(datetime.combine(on, start), datetime.combine(on, end), text(row.get("project_id")))


def teams(body: Any) -> list[str]:
    """Names of the teams, in upstream's order."""
    return [name for row in rows(body, "teams") if (name := text(row.get("team") or row.get("name")))]


def team_schedule(body: Any) -> TeamSchedule:
    """A team's calendar; its busy times in order."""
    data = payload(body)
    name, capacity = text(data.get("team")), number(data.get("capacity_hours_per_day"))
    if name is None or capacity is None:
        raise Unreadable("a team without name or capacity")
    busy = [_engagement(row) for row in _first_list(data, "busy") if isinstance(row, dict)]
    return TeamSchedule(
        team=name,
        capacity_hours=capacity,
        vacation=frozenset(found for item in _first_list(data, "vacation") if (found := day(item))),
        busy=tuple(sorted(busy, key=lambda each: each.start)),
    )


def assignment_answers(body: Any) -> list[AssignmentAnswer]:
    """What became of each assignment that was sent."""
    return [_assignment_answer(row) for row in rows(body, "assignments", "results")]


def _assignment_answer(row: JsonObject) -> AssignmentAnswer:
    project_id, status = text(row.get("project_id")), text(row.get("status"))
    if project_id is None or status not in ("assigned", "failed"):
        raise Unreadable("an assignment without its outcome")
    return AssignmentAnswer(project_id, status == "assigned", text(row.get("reason")))


def weather(body: Any) -> Weather:
    """A forecast in wttr's shape."""
    days = [found for row in rows(body, "weather") if (found := _weather_day(row))]
    current = body.get("current_condition") if isinstance(body, dict) else None
    now = current[0] if isinstance(current, list) and current and isinstance(current[0], dict) else None
    return Weather(
        now={
            "condition": _description(now),
            "temp_f": number(now.get("temp_F")),
            "wind_mph": number(now.get("windspeedMiles")),
        }
        if now
        else None,
        days=tuple(sorted(days, key=lambda each: each.date)),
    )


def _weather_day(row: JsonObject) -> WeatherDay | None:
    found = day(row.get("date"))
    if found is None:
        return None
    hours = [hour for hour in row.get("hourly") or () if isinstance(hour, dict)]
    midday = min(hours, key=lambda hour: abs((number(hour.get("time")) or 0) - 1200), default={})
    return WeatherDay(
        date=found,
        condition=_description(midday),
        high_f=number(row.get("maxtempF")),
        low_f=number(row.get("mintempF")),
        rain_percent=_highest(hour.get("chanceofrain") for hour in hours),
        wind_mph=_highest(hour.get("windspeedMiles") for hour in hours),
    )


def _description(row: JsonObject) -> str:
    described = row.get("weatherDesc")
    first = described[0] if isinstance(described, list) and described else None
    return (text(first.get("value")) if isinstance(first, dict) else None) or "Unknown"


def _highest(values: Iterable[Any]) -> float | None:
    return max((found for value in values if (found := number(value)) is not None), default=None)


def _first_list(data: JsonObject, *names: str) -> list[Any]:
    for name in names:
        if isinstance(data.get(name), list):
            return list(data[name])
    raise Unreadable(f"none of {', '.join(names)}")


def text(value: Any) -> str | None:
    """A non-empty string of a string or number; None otherwise."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip() or None


def number(value: Any) -> float | None:
    """A number of a number or numeric string; None otherwise. Whole ones come back as int."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return int(found) if found.is_integer() else found


def day(value: Any) -> date | None:
    """The calendar day that a date or timestamp string begins with; None when there is none."""
    if not isinstance(value, str):
        return None
    try:
        return date.fromisoformat(value.strip()[:10])
    except ValueError:
        return None


def moment(value: Any) -> datetime | None:
    """A local moment; an offset, if any, is dropped, as upstream means site time."""
    if not isinstance(value, str) or not value.strip():
        return None
    try:
        return datetime.fromisoformat(value.strip()).replace(tzinfo=None)
    except ValueError:
        return None


def clock_time(value: Any) -> time | None:
    """A time of day of `08:00`, `08:00:00` or `08:00 AM`; None for anything else, such as `Closed`."""
    return _clock_time(value) if isinstance(value, str) else None


@lru_cache(maxsize=1024)  # a day has few times, and reading one costs more than all else of an answer
def _clock_time(value: str) -> time | None:
    for form in ("%H:%M:%S", "%H:%M", "%I:%M %p", "%I:%M%p", "%I %p"):
        try:
            return datetime.strptime(value.strip(), form).time()
        except ValueError:
            continue
    return None
