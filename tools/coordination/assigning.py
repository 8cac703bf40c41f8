"""`bulk_assign_teams`: many projects to one team, after a yes to the very visits that are then made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Annotated

from tools.action import FromPreparation, Preparation
from tools.contract import InvalidArguments, JsonObject, ToolContext, ToolResult
from tools.coordination.arguments import (
    DateRange,
    PlannedVisit,
    ProjectIds,
    StoredPlan,
    TeamName,
    coordinator_action,
    office_of,
)
from tools.coordination.checking import read_work
from tools.coordination.plans import Plan, make_plan
from tools.effects import UNKNOWN_HINT, read_back, send
from tools.errors import Missing, NotAssigned, UnknownOutcome, UpstreamRefusal, UpstreamUnavailable
from tools.pf360.models import Assignment, QueuedProject, TeamSchedule
from tools.wording import clock, dated, figure, weekday

UNNAMED = "coordinator"
_NOT_TAKEN = "the scheduling system did not take it"

_UPSTREAM_REASONS = {
    "permit_not_approved": "its permit is not approved",
    "not_found": "it is unknown here",
    "unknown_team": "the team is gone",
    "past_date": "that day is over",
}


@coordinator_action(effect="gated", part="assignment")
async def bulk_assign_teams(
    project_ids: ProjectIds,
    team: TeamName,
    date_range: DateRange,
    ctx: ToolContext,
    ignore_conflicts: bool = False,
    plan: Annotated[StoredPlan | None, FromPreparation()] = None,
) -> JsonObject:
    """Give up to 100 projects to a team, packed by day up to its capacity. Needs a yes to who goes when.

    Only projects without conflicts; those left out are named with the reason.

    Args:
        project_ids: Project numbers; an item may be a range such as 500101-500105.
        team: Name of the team.
        date_range: First and last day, YYYY-MM-DD; the same day twice for one day.
        ignore_conflicts: True only if the person asked to override warnings and errors. A missing permit stays.
    """
    if plan is None:
        raise InvalidArguments("There is no plan to carry out.", errors=[{"field": "plan", "message": "is missing"}])
    async with ctx.state.lock("assignments"):
        reasons = await _changed_since(ctx, team, plan, ignore_conflicts=ignore_conflicts)
        wanted = [visit for visit in plan.visits if visit.project_id not in reasons]
        if ctx.pf360.test_mode.confirm:
            return {**_result(project_ids, team, plan, {}, "not_sent"), "test_mode": True}
        reasons.update(await _assign(ctx, team, wanted) if wanted else {})
    if len(reasons) == len(plan.visits):
        raise NotAssigned("None of these projects was assigned.", team=team, left_out=_all_left_out(plan, reasons))
    return _result(project_ids, team, plan, reasons)


@bulk_assign_teams.prepares
async def _plan_visits(
    project_ids: tuple[str, ...],
    team: str,
    date_range: DateRange,
    ignore_conflicts: bool,
    plan: StoredPlan | None,
    ctx: ToolContext,
) -> Preparation:
    """Work out who goes when; what a person reads and says yes to is what is stored and done."""
    projects, calendar = await read_work(ctx, project_ids, team, date_range)
    first, last = datetime.combine(date_range[0], time.min), datetime.combine(date_range[1], time.max)
    made = make_plan(project_ids, projects, calendar, first, last, ignore_conflicts=ignore_conflicts)
    left_out = [issue.to_json() for issue in made.left_out]
    if not made.visits:
        raise NotAssigned(
            f"None of these projects can be given to {team} then.",
            team=team,
            date_from=dated(date_range[0]),
            date_to=dated(date_range[1]),
            left_out=left_out,
            overridable=any(issue.severity != "blocking" for issue in made.left_out) and not ignore_conflicts,
        )
    restatement = {
        "team": team,
        "date_from": date_range[0].isoformat(),
        "date_to": date_range[1].isoformat(),
        "requested_count": len(project_ids),
        "assignable_count": len(made.visits),
        "hours": figure(made.hours),
        "days": _days(made),
        "left_out": left_out,
        "overridden": [issue.to_json() for visit in made.visits for issue in visit.despite],
    }
    return Preparation({"plan": StoredPlan.of(made)}, restatement)


@bulk_assign_teams.reconciles
async def _reconcile(
    project_ids: tuple[str, ...],
    team: str,
    date_range: DateRange,
    ignore_conflicts: bool,
    plan: StoredPlan | None,
    ctx: ToolContext,
) -> ToolResult | None:
    """Which of the visits stand: all is done, none is not done, some is half done."""
    visits = plan.visits if plan else ()

    async def look() -> list[str] | None:
        standing = await _standing(ctx, team, visits)
        return standing if len(standing) == len(visits) else None

    seen = await read_back(ctx, look)
    if not seen.readable:
        return UnknownOutcome(UNKNOWN_HINT).result()
    standing = seen.found if seen.found is not None else await _standing(ctx, team, visits)
    if plan is None or not standing:
        return None
    reasons = {each.project_id: "it was not assigned" for each in visits if each.project_id not in standing}
    result = _result(project_ids, team, plan, reasons)
    if not reasons:
        return ToolResult(status="ok", data={"ok": True, **result})
    hint = f"Only {len(standing)} of {len(visits)} projects were assigned."
    return ToolResult("error", {"ok": False, "code": "not_assigned", "user_hint": hint, "retryable": False, **result})


# --- sending --------------------------------------------------------------------------------------------------------


async def _assign(ctx: ToolContext, team: str, visits: Sequence[PlannedVisit]) -> dict[str, str]:
    """Send the assignments once; reasons by id for those that upstream did not take."""
    items = [Assignment(each.project_id, team, each.start) for each in visits]

    async def look() -> bool | None:
        return len(await _standing(ctx, team, visits)) == len(visits) or None

    try:
        answers = await send(
            ctx, lambda: ctx.pf360.assign(office_of(ctx), items, ctx.identity.user_id or UNNAMED), look
        )
    except UnknownOutcome as unknown:
        raise UnknownOutcome(UNKNOWN_HINT, team=team, project_ids=[each.project_id for each in visits]) from unknown
    except UpstreamRefusal as refusal:
        raise UpstreamUnavailable("The assignments were not accepted. Nothing was assigned.") from refusal
    if answers is None:
        return {}
    told = {each.project_id: each for each in answers}
    failed = [each.project_id for each in visits if each.project_id not in told or not told[each.project_id].assigned]
    return {
        project_id: _UPSTREAM_REASONS.get(told[project_id].reason or "" if project_id in told else "", _NOT_TAKEN)
        for project_id in failed
    }


async def _standing(ctx: ToolContext, team: str, visits: Sequence[PlannedVisit]) -> list[str]:
    """Ids of the visits that upstream has as planned."""
    listed = {each.project_id: each for each in await ctx.pf360.queue(office_of(ctx), [v.project_id for v in visits])}
    return [each.project_id for each in visits if _stands(listed.get(each.project_id), team, each)]


def _stands(project: QueuedProject | None, team: str, visit: PlannedVisit) -> bool:
    return (
        project is not None
        and project.team == team
        and project.visit is not None
        and project.visit.start == visit.start
    )


async def _changed_since(ctx: ToolContext, team: str, plan: StoredPlan, *, ignore_conflicts: bool) -> dict[str, str]:
    """Reasons by id for visits that have become impossible since the plan was read out.

    Where conflicts are overridden, only what is never: a permit, or a project that is gone.
    """
    client_id, days = office_of(ctx), [visit.start.date() for visit in plan.visits]
    listed = {each.project_id: each for each in await ctx.pf360.queue(client_id, [v.project_id for v in plan.visits])}
    if ignore_conflicts:
        blocked = ((visit.project_id, _blocked(listed.get(visit.project_id))) for visit in plan.visits)
        return {project_id: reason for project_id, reason in blocked if reason}
    try:
        schedule = await ctx.pf360.team_schedule(client_id, team, min(days), max(days))
    except Missing:
        return {visit.project_id: "the team is gone" for visit in plan.visits}
    reasons = ((visit, _why_not_any_more(visit, listed.get(visit.project_id), team, schedule)) for visit in plan.visits)
    return {visit.project_id: reason for visit, reason in reasons if reason}


def _why_not_any_more(
    visit: PlannedVisit, project: QueuedProject | None, team: str, schedule: TeamSchedule
) -> str | None:
    if project is not None and _stands(project, team, visit):
        return None
    if project is None or project.permit != "approved":
        return _blocked(project)
    if project.team is not None:
        return f"it has been given to {project.team} meanwhile"
    if visit.start.date() in schedule.vacation:
        return f"{team} is on vacation that day by now"
    end = visit.start + timedelta(hours=visit.hours)
    if any(each.overlaps(visit.start, end) and each.project_id != visit.project_id for each in schedule.busy):
        return f"{team} has been given something else at that time meanwhile"
    return None


def _blocked(project: QueuedProject | None) -> str | None:
    if project is None:
        return "it is unknown here"
    return None if project.permit == "approved" else f"its permit is {project.permit}"


# --- results --------------------------------------------------------------------------------------------------------


def _days(plan: Plan) -> list[JsonObject]:
    """The visits by day, for reading."""
    days: dict[str, JsonObject] = {}
    for visit in plan.visits:
        row = visit.to_json()
        day = days.setdefault(row["date"], {"date": row["date"], "weekday": row["weekday"], "visits": []})
        day["visits"].append({name: row[name] for name in ("project_id", "category", "time", "hours")})
    return list(days.values())


def _all_left_out(plan: StoredPlan, reasons: Mapping[str, str]) -> list[JsonObject]:
    failed = [{"project_id": key, "severity": "error", "reason": reason} for key, reason in reasons.items()]
    return [*failed, *(each.model_dump() for each in plan.left_out)]


def _result(
    project_ids: Sequence[str],
    team: str,
    plan: StoredPlan,
    reasons: Mapping[str, str],
    status: str = "assigned",
) -> JsonObject:
    """What was assigned, item by item, and why the rest was not."""
    done = [visit for visit in plan.visits if visit.project_id not in reasons] if status == "assigned" else []
    return {
        "operation": "bulk_assign",
        "requested_count": len(project_ids),
        "successful": len(done),
        "failed": len(project_ids) - len(done),
        "assignments": [
            {
                "project_id": visit.project_id,
                "team": team,
                "scheduled_date": visit.start.date().isoformat(),
                "weekday": weekday(visit.start.date()),
                "time": clock(visit.start),
                "estimated_hours": figure(visit.hours),
                "status": "failed" if visit.project_id in reasons else status,
            }
            for visit in plan.visits
        ],
        "conflicts": _all_left_out(plan, reasons),
        "summary": {
            "team": team,
            "assigned_projects": len(done),
            "total_hours_allocated": figure(sum(visit.hours for visit in done)),
        },
    }
