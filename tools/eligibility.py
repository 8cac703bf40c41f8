"""What the state of a project permits, decided before anything is sent."""

from __future__ import annotations

from datetime import timedelta

from tools.contract import JsonObject, ToolContext, ToolError
from tools.errors import AlreadyScheduled, Cutoff, NotAllowed, NotSchedulable, NotScheduled
from tools.locations import location_label, office_phone, time_until
from tools.pf360.models import Project
from tools.pf360.status import blocking_reason
from tools.projects import project_view
from tools.wording import clock, dated

CUTOFF = timedelta(hours=24)
HORIZON_DAYS = 60


def why_not_searchable(project: Project, ctx: ToolContext) -> ToolError | None:
    """Why nobody may look for dates; booked projects may be searched, since they can be moved."""
    if project.group in ("schedulable", "scheduled"):
        return None
    reason = blocking_reason(project.status)
    return NotSchedulable(
        f"This project cannot be scheduled online right now: {reason}. The office can tell you more.",
        reason=reason,
        status=project.status,
        office_phone=office_phone(ctx, project.client_id),
        location=location_label(ctx, project.client_id),
        project=project_view(project, ctx),
    )


def why_not_bookable(project: Project, ctx: ToolContext) -> ToolError | None:
    """Why this project cannot get an appointment now."""
    if project.appointment is not None:
        return AlreadyScheduled(
            "This project already has an appointment. I can move it to another time.",
            project=project_view(project, ctx),
            **_standing(project),
        )
    return why_not_searchable(project, ctx)


def why_not_changeable(project: Project, ctx: ToolContext) -> ToolError | None:
    """Why this project's appointment cannot be moved or cancelled by the customer now."""
    if project.appointment is None:
        return NotScheduled(
            "This project has no appointment at the moment.", status=project.status, project=project_view(project, ctx)
        )
    if time_until(project.appointment, ctx, project.client_id) < CUTOFF:
        return cutoff(project, ctx)
    return None


def cutoff(project: Project, ctx: ToolContext) -> Cutoff:
    """The refusal of a change that comes too late."""
    hours = int(CUTOFF / timedelta(hours=1))
    return Cutoff(
        f"Appointments can be changed here up to {hours} hours before the start. Please call the office for this one.",
        hours=hours,
        office_phone=office_phone(ctx, project.client_id),
        location=location_label(ctx, project.client_id),
        project=project_view(project, ctx),
        **_standing(project),
    )


def not_allowed(project: Project, ctx: ToolContext) -> NotAllowed:
    """The refusal of a project that upstream keeps from self-service."""
    return NotAllowed(
        "This project cannot be scheduled online. The office can arrange it with you.",
        office_phone=office_phone(ctx, project.client_id),
        location=location_label(ctx, project.client_id),
        project=project_view(project, ctx),
    )


def _standing(project: Project) -> JsonObject:
    start = project.appointment
    return {**dated(start.date()), "time": clock(start)} if start else {}
