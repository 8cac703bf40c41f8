"""`validate_projects` and `detect_conflicts`: what is ready, and what stands in the way of a team."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, time

from tools.contract import InvalidArguments, JsonObject, ToolContext
from tools.coordination.arguments import DateRange, ProjectIds, TeamName, coordinator_action, office_of
from tools.coordination.issues import CHECKS, Check, Issue, own_issues, standing_conflict
from tools.coordination.packing import Calendar, days_of
from tools.coordination.plans import conflicts
from tools.locations import local_now
from tools.pf360.models import QueuedProject
from tools.wording import dated

_KIND_OF_CHECK = {"permit": "permit", "measurement": "measurement", "access": "access", "conflicts": "conflict"}
_SHOWN = {
    "permit": "permit_valid",
    "measurement": "measurements_complete",
    "access": "access_approved",
    "conflicts": "no_conflicts",
}


@coordinator_action(effect="read", part="validation")
async def validate_projects(
    project_ids: ProjectIds, ctx: ToolContext, validation_checks: tuple[Check, ...] = CHECKS
) -> JsonObject:
    """Check up to 100 projects of the work list: permit, measurement, access, conflicts of their assignment.

    Args:
        project_ids: Project numbers; an item may be a range such as 500101-500105.
        validation_checks: Only these of permit, measurement, access and conflicts. Leave out for all.
    """
    checks = validation_checks or CHECKS
    client_id = office_of(ctx)
    listed = {each.project_id: each for each in await ctx.pf360.queue(client_id, project_ids)}
    known = [listed[each] for each in project_ids if each in listed]
    standing = await _standing_conflicts(ctx, client_id, known) if "conflicts" in checks else {}
    rows = [_row(each, checks, [*own_issues(each, checks), *standing.get(each.project_id, ())]) for each in known]
    unknown_ids = [each for each in project_ids if each not in listed]
    blocked = [row["project_id"] for row in rows if any(i["severity"] == "blocking" for i in row["issues"])]
    valid = [row["project_id"] for row in rows if row["is_valid"]]
    return {
        "operation": "validate",
        "total_projects": len(project_ids),
        "valid_count": len(valid),
        "issues_count": sum(len(row["issues"]) for row in rows),
        "projects": rows,
        "valid_ids": valid,
        "unknown_ids": unknown_ids,
        "summary": {
            "ready_to_schedule": len(valid),
            "requires_action": len(rows) - len(valid) - len(blocked),
            "blocked": len(blocked),
            "unknown": len(unknown_ids),
        },
    }


async def _standing_conflicts(
    ctx: ToolContext, client_id: str, projects: Sequence[QueuedProject]
) -> dict[str, list[Issue]]:
    """By project: what speaks against the assignment it has. Each team's calendar is read once."""
    visits = [(each.team, each.visit.start.date()) for each in projects if each.team and each.visit]
    days: dict[str, list[datetime]] = {}
    for team, day in visits:
        days.setdefault(team, []).append(datetime.combine(day, time()))
    read = [ctx.pf360.team_schedule(client_id, team, min(on).date(), max(on).date()) for team, on in days.items()]
    schedules = dict(zip(days, await asyncio.gather(*read), strict=True))
    found: dict[str, list[Issue]] = {}
    for project in projects:
        if project.team in schedules and (issue := standing_conflict(project, schedules[project.team])):
            found[project.project_id] = [issue]
    return found


def _row(project: QueuedProject, checks: Sequence[Check], issues: Sequence[Issue]) -> JsonObject:
    kinds = {issue.kind for issue in issues}
    return {
        "project_id": project.project_id,
        "category": project.category,
        # A warning is worth knowing, but stops nobody from planning the visit.
        "is_valid": all(issue.severity == "warning" for issue in issues),
        "checks": {_SHOWN[check]: _KIND_OF_CHECK[check] not in kinds for check in checks},
        "issues": [
            {
                "type": issue.kind,
                "severity": issue.severity,
                "message": issue.message,
                "resolution_steps": [issue.step],
            }
            for issue in issues
        ],
        **({"team": project.team} if project.team else {}),
    }


@coordinator_action(effect="read", part="conflicts")
async def detect_conflicts(
    project_ids: ProjectIds, team: TeamName, date_range: DateRange, ctx: ToolContext
) -> JsonObject:
    """Find what stands in the way of giving projects to a team in a range of days. Changes nothing.

    Looks for vacation, other visits, capacity, projects that are assigned already, and what is open at the projects.

    Args:
        project_ids: Project numbers; an item may be a range such as 500101-500105.
        team: Name of the team.
        date_range: First and last day, YYYY-MM-DD; the same day twice for one day.
    """
    projects, calendar = await read_work(ctx, project_ids, team, date_range)
    first, last = datetime.combine(date_range[0], time.min), datetime.combine(date_range[1], time.max)
    found = conflicts(project_ids, projects, calendar, first, last)
    category = {each.project_id: each.category for each in projects}
    concerned = {issue.project_id for issue in found}
    fixed = {issue.project_id for issue in found if issue.severity == "blocking" or issue.kind == "already_assigned"}
    return {
        "operation": "detect_conflicts",
        "team": team,
        "date_from": dated(date_range[0]),
        "date_to": dated(date_range[1]),
        "total_projects": len(project_ids),
        "conflicts_found": len(found),
        "conflicts": [
            {**issue.to_json(), **({"category": category[issue.project_id]} if issue.project_id in category else {})}
            for issue in found
        ],
        "clear_ids": [each for each in project_ids if each not in concerned],
        "overridable_ids": [each for each in project_ids if each in concerned - fixed],
        "unknown_ids": [each for each in project_ids if each not in category],
    }


async def read_work(
    ctx: ToolContext, project_ids: Sequence[str], team: str, date_range: DateRange
) -> tuple[list[QueuedProject], Calendar]:
    """The work-list entries and the team's days. Raises `InvalidArguments` for a range that is over."""
    client_id, (first, last) = office_of(ctx), date_range
    now = local_now(ctx, client_id)
    if last < now.date():
        raise InvalidArguments(
            f"{last} is over; choose a day from today on.",
            errors=[{"field": "date_range", "message": f"is over; today is {now.date()}"}],
        )
    projects, schedule, hours = await asyncio.gather(
        ctx.pf360.queue(client_id, project_ids),
        ctx.pf360.team_schedule(client_id, team, first, last),
        ctx.pf360.business_hours(client_id),
    )
    return projects, Calendar(schedule, hours, days_of(first, last), now)
