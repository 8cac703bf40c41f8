"""`optimize_route`: the order in which a crew drives to projects, with arrival times and what it saves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date as Date
from datetime import datetime, time, timedelta
from typing import Literal

from tools.arguments import BookingDate
from tools.contract import InvalidArguments, JsonObject, ToolContext
from tools.coordination.arguments import RouteIds, Start, StartLocation, coordinator_action, office_of
from tools.coordination.routes import Place, best_order, distances, length
from tools.errors import NotFound
from tools.locations import local_now
from tools.pf360.models import BusinessHours, QueuedProject
from tools.wording import clock, dated, figure, weekday

MPH = 30
START_OF_ROUTE = time(8)
ARRIVAL_WINDOW = timedelta(hours=1)


@coordinator_action(effect="read", part="route")
async def optimize_route(
    project_ids: RouteIds,
    date: BookingDate,
    ctx: ToolContext,
    optimize_for: Literal["time", "distance", "cost"] = "time",
    start_location: Start | None = None,
) -> JsonObject:
    """Find the shortest drive past 2 to 50 projects of the work list, from the office at 8:00 AM, with arrival times.

    Args:
        project_ids: Project numbers; an item may be a range such as 500101-500105.
        date: Day of the route, YYYY-MM-DD.
        optimize_for: What to keep small. At one speed for all roads the order is the same for each.
        start_location: Where the route begins, if not at the office.
    """
    client_id = office_of(ctx)
    if date < (today := local_now(ctx, client_id).date()):
        raise InvalidArguments(
            f"{date} is over; choose a day from today on.",
            errors=[{"field": "date", "message": f"is over; today is {today}"}],
        )
    listed = {each.project_id: each for each in await ctx.pf360.queue(client_id, project_ids)}
    known = [listed[each] for each in project_ids if each in listed]
    stops = [each for each in known if each.place is not None]
    if len(stops) < 2:
        raise NotFound(
            "A route needs at least two projects of your work list that have a location.",
            unknown_ids=[each for each in project_ids if each not in listed],
        )
    hours = await ctx.pf360.business_hours(client_id)
    start, warnings = _start(ctx, client_id, start_location, stops)
    between = distances(start, [_place(each) for each in stops])
    given = list(range(1, len(stops) + 1))
    order = best_order(between)
    route, finish = _route(stops, order, between, datetime.combine(date, START_OF_ROUTE))
    unknown_ids = [each for each in project_ids if each not in listed]
    unplaced = [each.project_id for each in known if each.place is None]
    return {
        "operation": "route_optimize",
        **dated(date),
        "optimized_for": optimize_for,
        "project_count": len(stops),
        "start": {"latitude": start[0], "longitude": start[1], "time": clock(START_OF_ROUTE)},
        "optimized_route": route,
        "metrics": _metrics(length(order, between), length(given, between), between[0][order[0]], finish),
        "given_order": [each.project_id for each in stops],
        "unknown_ids": unknown_ids,
        "unplaced_ids": unplaced,
        "warnings": [*warnings, *_warnings(stops, hours, date, finish)],
    }


def _start(
    ctx: ToolContext, client_id: str, given: StartLocation | None, stops: Sequence[QueuedProject]
) -> tuple[Place, list[str]]:
    """Where the route begins: as wished, else at the office, else, where nobody knows that, at the first stop."""
    if given is not None:
        return (given.latitude, given.longitude), []
    office = ctx.directory.locations.get(client_id)
    if office is not None and office.latitude is not None and office.longitude is not None:
        return (office.latitude, office.longitude), []
    return _place(stops[0]), ["Where the office is is not known, so the route begins at the first project given."]


def _place(project: QueuedProject) -> Place:
    if project.place is None:
        raise ValueError(f"{project.project_id} has no place")
    return project.place


def _route(
    stops: Sequence[QueuedProject], order: Sequence[int], between: Sequence[Sequence[float]], start: datetime
) -> tuple[list[JsonObject], datetime]:
    """The stops in their order with arrivals, and when the last one is done."""
    route: list[JsonObject] = []
    now, here = start, 0
    for sequence, stop in enumerate(order, 1):
        project = stops[stop - 1]
        now += _drive(between[here][stop])
        onward = _minutes(between[stop][order[sequence]]) if sequence < len(order) else None
        latitude, longitude = _place(project)
        row = {
            "sequence": sequence,
            "project_id": project.project_id,
            "category": project.category,
            "address": project.address,
            "arrival_time": _shown(now),
            "arrival_until": _shown(now + ARRIVAL_WINDOW),
            "days_later": (now.date() - start.date()).days or None,
            "duration_minutes": round(project.hours * 60),
            "drive_time_to_next_minutes": onward,
            "coordinates": {"latitude": latitude, "longitude": longitude},
        }
        route.append({name: value for name, value in row.items() if value is not None})
        now += timedelta(hours=project.hours)
        here = stop
    return route, now


def _metrics(driven: float, in_given_order: float, to_first: float, finish: datetime) -> JsonObject:
    return {
        "total_distance_miles": figure(round(driven, 1)),
        "total_drive_time_minutes": _minutes(driven),
        "drive_time_to_first_minutes": _minutes(to_first),
        "time_saved_minutes": _minutes(in_given_order - driven),
        "savings_percentage": figure(round(100 * (1 - driven / in_given_order), 1)) if in_given_order else 0,
        "finish_time": _shown(finish),
    }


def _warnings(stops: Sequence[QueuedProject], hours: BusinessHours, day: Date, finish: datetime) -> list[str]:
    """What speaks against driving that day as planned."""
    found: list[str] = []
    of_day = hours.days[day.weekday()]
    if not of_day.is_open or day in hours.closed_dates:
        found.append(f"The office is closed on that {weekday(day)}.")
    elif of_day.closes is not None and finish > (closing := datetime.combine(day, of_day.closes)):
        over = round((finish - closing) / timedelta(minutes=1))
        how_long = f"{over} minutes" if over < 120 else f"{over / 60:.1f} hours"
        found.append(f"The day overruns: the last visit ends {how_long} after closing time ({clock(of_day.closes)}).")
    blocked = [f"{each.project_id} ({each.permit})" for each in stops if each.permit != "approved"]
    if blocked:
        found.append(f"Not approved yet: the permit of {', '.join(blocked)}.")
    return found


def _drive(miles: float) -> timedelta:
    return timedelta(hours=miles / MPH)


def _minutes(miles: float) -> int:
    return round(60 * miles / MPH)


def _shown(moment: datetime) -> str:
    """12-hour time to the nearest minute."""
    return clock(moment + timedelta(seconds=30))
