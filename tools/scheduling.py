"""The scheduling group: finding, booking, moving and cancelling appointments."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Annotated

from tools import appointments
from tools.action import FromSession, Preparation, action
from tools.arguments import BookingDate, Choice, ProjectId, ShortText, SlotTime
from tools.availability import (
    EXTENDED_SEARCH_DAYS,
    FIRST_SEARCH_DAYS,
    bookable_days,
    current_offer,
    dates_within,
    nearest_dates,
    slots_of,
    times_of,
)
from tools.contract import JsonObject, ToolContext, ToolResult
from tools.eligibility import why_not_bookable, why_not_changeable, why_not_searchable
from tools.errors import NotOffered
from tools.locations import ALL, clients_of, location_label, resolve_location
from tools.pf360.models import Project
from tools.pf360.status import STATUS_GROUPS, StatusGroup
from tools.projects import own_project, own_projects, project_view
from tools.wording import clock, dated, dates, slot

GROUP = "scheduling"


# --- finding --------------------------------------------------------------------------------------------------------


@action(group=GROUP, effect="read", part="projects")
async def list_projects(
    customer_id: Annotated[str, FromSession()],
    ctx: ToolContext,
    client_id: Choice | None = None,
    status: Choice | None = None,
    category: Choice | None = None,
    include_finished: bool = False,
) -> JsonObject:
    """List the customer's own projects with status, address and appointment. Finished ones are left out by default.

    Args:
        client_id: One of the customer's locations by label or city, or "all". Leave out for the usual location.
        status: Only these: "schedulable" (can be booked now), "scheduled" (has an appointment), or a status text.
        category: Only this kind of work, such as Flooring or Windows.
        include_finished: Also list completed, cancelled and closed projects.
    """
    wanted = None if client_id is None else [client_id]
    found = await own_projects(ctx, wanted)
    matching = [each for each in found.projects if _matches(each, status, category)]
    # Who asks for a status gets what has it, also when that means finished.
    shown = [each for each in matching if include_finished or status is not None or each.group != "terminal"]
    ctx.state.values["last_list"] = [each.project_id for each in shown]
    return {
        "count": len(shown),
        "projects": [
            {"list_index": index, **project_view(each, ctx), "schedulable": each.group == "schedulable"}
            for index, each in enumerate(shown, start=1)
        ],
        "hidden_finished": len(matching) - len(shown),
        "by_location": wanted is None and len(clients_of(ctx.identity)) > 1,
        "failed_locations": [location_label(ctx, failed) or "another location" for failed in found.failed],
    }


@list_projects.prepares
async def _choose_location(
    customer_id: str,
    ctx: ToolContext,
    client_id: str | None,
    status: str | None,
    category: str | None,
    include_finished: bool,
) -> Preparation:
    """A business account sees its default location unless it asks for another, or for all."""
    if client_id is not None:
        chosen = await resolve_location(client_id, ctx)
        effective = None if chosen == ALL else chosen
    else:
        effective = ctx.identity.client_id if ctx.identity.customer_type == "B2B" else None
    return Preparation({"client_id": effective})


def _matches(project: Project, status: str | None, category: str | None) -> bool:
    return (status is None or _has_status(project, status)) and (
        category is None or _same_kind(category, project.category)
    )


# Words for groups of statuses, as people use them.
_GROUP_WORDS: dict[str, tuple[StatusGroup, ...]] = {
    "bookable": ("schedulable",),
    "unscheduled": ("schedulable",),
    "ready": ("schedulable",),
    "booked": ("scheduled",),
    "on hold": ("hold",),
    "finished": ("terminal",),
    "completed": ("terminal",),
    "done": ("terminal",),
    "open": ("schedulable", "scheduled", "blocked", "hold", "unknown"),
    "active": ("schedulable", "scheduled", "blocked", "hold", "unknown"),
    "pending": ("schedulable", "scheduled", "blocked", "hold", "unknown"),
}


def _has_status(project: Project, wanted: str) -> bool:
    """Whether a project's status is the wanted text, or in the group that it names, or at least holds it."""
    text, status = _key(wanted), _key(project.status)
    groups = _GROUP_WORDS.get(text)
    if groups is not None or text in STATUS_GROUPS:
        return text == status or project.group in (groups or (text,))
    return text in status


def _same_kind(wanted: str, category: str) -> bool:
    """Whether a word names a category: `window` is Windows, `floor` is Flooring."""
    return _stem(wanted) in _stem(category) or _stem(category) in _stem(wanted)


def _stem(text: str) -> str:
    word = _key(text)
    for ending in ("ing", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


def _key(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").split())


@action(group=GROUP, effect="read", part="dates")
async def get_available_dates(
    project_id: ProjectId, ctx: ToolContext, start_date: BookingDate | None = None, end_date: BookingDate | None = None
) -> JsonObject:
    """Find open dates for a project: from tomorrow on, or in a given window. Also works to move an appointment.

    Args:
        project_id: Order number or list index of the project.
        start_date: First day wanted, YYYY-MM-DD.
        end_date: Last day wanted, YYYY-MM-DD.
    """
    project = await own_project(ctx, project_id)
    if refusal := why_not_searchable(project, ctx):
        raise refusal
    first, last = bookable_days(ctx, project)
    windowed = start_date is not None or end_date is not None
    if windowed:
        start, end = _window(start_date, end_date, first, last)
        found = await dates_within(ctx, project, start, end) if start <= end else []
        extended = False
    else:
        start, end = first, first + timedelta(days=EXTENDED_SEARCH_DAYS - 1)
        found = await dates_within(ctx, project, start, end)
        soon = [day for day in found if day < first + timedelta(days=FIRST_SEARCH_DAYS)]
        extended = not soon
        found, end = (soon, first + timedelta(days=FIRST_SEARCH_DAYS - 1)) if soon else (found, end)
    result: JsonObject = {
        "project": project_view(project, ctx),
        "dates": dates(found),
        "searched": {"from": start.isoformat(), "to": end.isoformat()},
        "extended": extended,
        "already_scheduled": project.appointment is not None,
        "no_dates": not found,
    }
    if not found:
        result["nearest"] = dates(await nearest_dates(ctx, project, max(first, min(start, last))))
    return result


def _window(start: date | None, end: date | None, first: date, last: date) -> tuple[date, date]:
    """The part of a wanted window in which something can be booked; empty (start > end) when there is none."""
    if start is not None and end is not None and end < start:
        start, end = end, start
    wanted_start = first if start is None else max(start, first)
    wanted_end = end if end is not None else wanted_start + timedelta(days=FIRST_SEARCH_DAYS - 1)
    return wanted_start, min(wanted_end, last)


@action(group=GROUP, effect="read", part="slots")
async def get_time_slots(project_id: ProjectId, date: BookingDate, ctx: ToolContext) -> JsonObject:
    """Find the open start times of one day for a project. Only these times may be offered.

    Args:
        project_id: Order number or list index of the project.
        date: The day, YYYY-MM-DD; one that the open dates include.
    """
    project = await own_project(ctx, project_id)
    if refusal := why_not_searchable(project, ctx):
        raise refusal
    found = await slots_of(ctx, project, date)
    return {
        "project": project_view(project, ctx),
        **dated(date),
        "slots": [clock(start) for start in found],
        "times": times_of(found),
    }


# --- booking --------------------------------------------------------------------------------------------------------


@action(group=GROUP, effect="gated", part="appointment")
async def confirm_appointment(project_id: ProjectId, date: BookingDate, time: SlotTime, ctx: ToolContext) -> JsonObject:
    """Book one open slot for a project that has no appointment. Needs the customer's yes to project, date and time.

    Args:
        project_id: Order number or list index of the project.
        date: The day, YYYY-MM-DD.
        time: Start time, HH:MM; one that the time slots of that day include.
    """
    return await appointments.book(ctx, project_id, datetime.combine(date, time))


@confirm_appointment.prepares
async def _prepare_booking(project_id: str, date: date, time: time, ctx: ToolContext) -> Preparation:
    project = await own_project(ctx, project_id)
    if refusal := why_not_bookable(project, ctx):
        raise refusal
    await _check_offered(ctx, project, date, time)
    return Preparation(restatement={**_restated(project, ctx), **dated(date), "time": clock(time)})


@confirm_appointment.reconciles
async def _reconcile_booking(project_id: str, date: date, time: time, ctx: ToolContext) -> ToolResult | None:
    return await appointments.booked_already(ctx, project_id, datetime.combine(date, time))


async def _check_offered(ctx: ToolContext, project: Project, day: date, start: time) -> None:
    """Refuse a slot that the last offer of that day does not hold. Without such an offer the slots are read now."""
    offer = current_offer(ctx, project)
    offered = offer.slots.get(day) if offer else None
    if offered is None:
        offered = await slots_of(ctx, project, day)
    if start not in offered:
        raise NotOffered(
            "That time is not open on that day.",
            **dated(day),
            slots=[clock(each) for each in offered],
            times=times_of(offered),
        )


def _restated(project: Project, ctx: ToolContext) -> JsonObject:
    return {
        "project": project_view(project, ctx),
        "address": project.address,
        "location": location_label(ctx, project.client_id),
    }


# --- moving ---------------------------------------------------------------------------------------------------------


@action(group=GROUP, effect="gated", part="appointment")
async def reschedule_appointment(
    project_id: ProjectId, new_date: BookingDate, new_time: SlotTime, ctx: ToolContext
) -> JsonObject:
    """Move a project's appointment to another open slot. Needs the customer's yes to the old and the new slot.

    Args:
        project_id: Order number or list index of the project.
        new_date: The new day, YYYY-MM-DD.
        new_time: New start time, HH:MM; one that the time slots of that day include.
    """
    return await appointments.move(ctx, project_id, datetime.combine(new_date, new_time))


@reschedule_appointment.prepares
async def _prepare_move(project_id: str, new_date: date, new_time: time, ctx: ToolContext) -> Preparation:
    project = await own_project(ctx, project_id)
    if refusal := why_not_changeable(project, ctx):
        raise refusal
    await _check_offered(ctx, project, new_date, new_time)
    old = {"old": slot(project.appointment)} if project.appointment else {}
    return Preparation(restatement={**_restated(project, ctx), **dated(new_date), "time": clock(new_time), **old})


@reschedule_appointment.reconciles
async def _reconcile_move(project_id: str, new_date: date, new_time: time, ctx: ToolContext) -> ToolResult | None:
    return await appointments.moved_already(ctx, project_id, datetime.combine(new_date, new_time))


# --- cancelling -----------------------------------------------------------------------------------------------------


@action(group=GROUP, effect="gated", part="appointment")
async def cancel_appointment(project_id: ProjectId, ctx: ToolContext, reason: ShortText | None = None) -> JsonObject:
    """Cancel a project's appointment; the project stays open. Needs the customer's yes. Moving is often better.

    Args:
        project_id: Order number or list index of the project.
        reason: Why, in the customer's words, when they said so.
    """
    return await appointments.cancel(ctx, project_id, reason)


@cancel_appointment.prepares
async def _prepare_cancelling(project_id: str, ctx: ToolContext, reason: str | None) -> Preparation:
    project = await own_project(ctx, project_id)
    if refusal := why_not_changeable(project, ctx):
        raise refusal
    lost = slot(project.appointment) if project.appointment else {}
    return Preparation(restatement={**_restated(project, ctx), **lost, "old": lost or None, "reason": reason})


@cancel_appointment.reconciles
async def _reconcile_cancelling(project_id: str, ctx: ToolContext, reason: str | None) -> ToolResult | None:
    return await appointments.cancelled_already(ctx, project_id, reason)


ACTIONS = (
    list_projects,
    get_available_dates,
    get_time_slots,
    confirm_appointment,
    reschedule_appointment,
    cancel_appointment,
)
