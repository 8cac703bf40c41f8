"""The information group: facts about projects, appointments, offices and the weather. Reads only."""

from __future__ import annotations

import difflib
from datetime import date, timedelta

from tools.action import Preparation, action
from tools.arguments import BookingDate, Choice, ProjectId
from tools.contract import JsonObject, ToolContext
from tools.eligibility import why_not_bookable, why_not_changeable
from tools.errors import Ambiguous, Cutoff, Missing, NotFound
from tools.locations import (
    ALL,
    CLOSE_MATCH,
    clients_of,
    local_now,
    location_label,
    locations_of,
    office_phone,
    office_phones,
    resolve_location,
    time_until,
)
from tools.offices import default_hours, hours_view
from tools.pf360.models import Project, WeatherDay
from tools.projects import appointment_view, own_project, own_projects, project_view
from tools.weather import limits_of, suitability
from tools.wording import dated, figure

GROUP = "information"


@action(group=GROUP, effect="read", part="project")
async def get_project_details(project_id: ProjectId, ctx: ToolContext) -> JsonObject:
    """Show everything known about one project: type, status, store, address, dates, technician, link.

    Args:
        project_id: Order number or list index of the project.
    """
    project = await own_project(ctx, project_id)
    details = {
        "store": project.store,
        "duration_hours": figure(project.duration_hours),
        "sold": dated(project.sold) if project.sold else None,
        "completed": dated(project.completed) if project.completed else None,
    }
    technician = project.technician if project.group in ("scheduled", "terminal") else None
    known = {name: value for name, value in details.items() if value is not None}
    return {"project": project_view(project, ctx), **known, "technician": technician}


@action(group=GROUP, effect="read", part="appointment")
async def get_appointment_status(project_id: ProjectId, ctx: ToolContext) -> JsonObject:
    """Tell whether a project has an appointment, when, with whom, and whether it can be moved or cancelled now.

    Args:
        project_id: Order number or list index of the project.
    """
    project = await own_project(ctx, project_id)
    refusal = why_not_changeable(project, ctx)
    result: JsonObject = {
        "project": project_view(project, ctx),
        "status": project.status,
        "scheduled": project.appointment is not None,
        "duration_hours": figure(project.duration_hours),
        "technician": None,
        "can_reschedule": refusal is None,
        "can_cancel": refusal is None,
        "office_phone": office_phone(ctx, project.client_id),
    }
    if project.appointment is not None:
        result.update(appointment_view(project) or {})
        result["hours_until"] = round(time_until(project.appointment, ctx, project.client_id) / timedelta(hours=1), 1)
    else:
        result["can_schedule"] = why_not_bookable(project, ctx) is None
    if refusal is not None:
        result["reason_if_not"] = "cutoff" if isinstance(refusal, Cutoff) else "status"
        result["reason"] = _reason(project, ctx)
    return result


def _reason(project: Project, ctx: ToolContext) -> str | None:
    """Why there is nothing to change, or why it cannot be changed here."""
    refusal = why_not_changeable(project, ctx)
    if project.appointment is None:
        refusal = why_not_bookable(project, ctx) or refusal
    return refusal.user_hint if refusal else None


@action(group=GROUP, effect="read", part="hours", roles=("customer", "coordinator", "anonymous"))
async def get_working_hours(ctx: ToolContext, client_id: Choice | None = None) -> JsonObject:
    """Tell when an office is open, whether it is open now, and its phone number.

    Args:
        client_id: One of the customer's locations by label or city. Leave out for the usual office.
    """
    now = local_now(ctx, client_id)
    label: str | None
    zone: str | None
    phone: str | None
    if client_id is None:
        hours = default_hours(ctx.directory.default_hours)
        label, zone, phone = None, None, None
    else:
        hours = await ctx.pf360.business_hours(client_id)
        location = ctx.directory.locations.get(client_id)
        label, phone = location_label(ctx, client_id), office_phone(ctx, client_id)
        zone = hours.timezone or (location.timezone if location else None)
    result = {"location": label, "timezone": zone, "office_phone": phone, **hours_view(hours, now)}
    return result if client_id else {**result, "offices": office_phones(ctx)}


@get_working_hours.prepares
async def _choose_office(ctx: ToolContext, client_id: str | None) -> Preparation:
    """The named office, else the session's, else the only one; without any, the deployment's default hours."""
    if client_id is not None:
        chosen: str | None = await resolve_location(client_id, ctx)
        if chosen == ALL:
            chosen = ctx.identity.client_id
    else:
        own = clients_of(ctx.identity)
        chosen = ctx.identity.client_id or (own[0] if len(own) == 1 else None)
    return Preparation({"client_id": chosen})


@action(group=GROUP, effect="read", part="weather")
async def get_weather(
    ctx: ToolContext, location: Choice | None = None, date: BookingDate | None = None, category: Choice | None = None
) -> JsonObject:
    """Show the forecast for the city of one of the customer's projects, and how it suits outdoor work.

    Args:
        location: City of the project. Leave out when all projects are in one city.
        date: Only this day, YYYY-MM-DD.
        category: Kind of work, such as Windows or Roofing, to judge each day for it.
    """
    place = location or ""
    try:
        forecast = await ctx.pf360.weather(place)
    except Missing as refusal:
        raise NotFound("There is no forecast for that place.", location=place) from refusal
    shown = [day for day in forecast.days if date is None or day.date == date]
    if date is not None and not shown:
        last_day = dated(forecast.days[-1].date) if forecast.days else None
        raise NotFound("There is no forecast for that day.", **dated(date), location=place, last_day=last_day)
    result: JsonObject = {"location": place, "days": [_weather_view(day, category) for day in shown]}
    if forecast.now is not None and date in (None, local_now(ctx).date()):
        result["now"] = forecast.now
    if category is not None:
        result["weather_bound"] = limits_of(category) is not None
    return result


@get_weather.prepares
async def _choose_city(ctx: ToolContext, location: str | None, date: date | None, category: str | None) -> Preparation:
    """Only cities of the caller's own projects and offices; the only one when none is named."""
    names = {name.casefold(): each.city for each in locations_of(ctx) for name in (each.label, each.name, each.city)}
    wanted = location.partition(",")[0].strip().casefold() if location else None
    if wanted is not None and names.get(wanted):
        return Preparation({"location": names[wanted]})
    sites = await _project_cities(ctx)
    if wanted is None:
        choices = list((sites or {city.casefold(): city for city in names.values() if city}).values())
        if len(choices) != 1:
            raise Ambiguous("For which of your places?", candidates=choices)
        return Preparation({"location": choices[0]})
    names.update(sites)
    close = [wanted] if wanted in names else difflib.get_close_matches(wanted, names, n=1, cutoff=CLOSE_MATCH)
    if not close:
        own = sorted({city for city in names.values() if city})
        raise Ambiguous("I can show the weather for the places of your own projects only.", candidates=own)
    return Preparation({"location": names[close[0]]})


async def _project_cities(ctx: ToolContext) -> dict[str, str]:
    """Cities of the caller's projects by lower-case name, active projects first."""
    found = await own_projects(ctx)
    active = [each for each in found.projects if each.group != "terminal"] or list(found.projects)
    return {each.city.casefold(): each.city for each in active if each.city}


def _weather_view(day: WeatherDay, category: str | None) -> JsonObject:
    view: JsonObject = {
        **dated(day.date),
        "condition": day.condition,
        "high_f": day.high_f,
        "low_f": day.low_f,
        "rain_percent": day.rain_percent,
        "wind_mph": day.wind_mph,
    }
    limits = limits_of(category) if category else None
    if limits is not None:
        judged = suitability(day, limits)
        view["suitability"] = judged.mark
        if judged.reasons:
            view["suitability_reasons"] = list(judged.reasons)
    return view


ACTIONS = (get_project_details, get_appointment_status, get_working_hours, get_weather)
