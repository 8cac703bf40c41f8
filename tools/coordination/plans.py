"""Who goes when: the visits that a bulk assignment makes, and the projects it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tools.contract import JsonObject
from tools.coordination.issues import Issue, assigned_already, own_issues, unknown
from tools.coordination.packing import Calendar
from tools.pf360.models import QueuedProject
from tools.wording import clock, dated, figure

_STEPS = {
    "closed": "choose a working day",
    "vacation": "choose another team or other days",
    "capacity": "choose more days or another team",
    "overlap": "choose other days or another team",
}


@dataclass(frozen=True, slots=True)
class Visit:
    """One project on one day of a team. `despite` holds what was overridden for it."""

    project: QueuedProject
    start: datetime
    despite: tuple[Issue, ...] = ()

    @property
    def end(self) -> datetime:
        """When the team is free again."""
        return self.start + timedelta(hours=self.project.hours)

    def to_json(self) -> JsonObject:
        """As a person reads it."""
        return {
            "project_id": self.project.project_id,
            "category": self.project.category,
            **dated(self.start.date()),
            "time": clock(self.start),
            "hours": figure(self.project.hours),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Visits in order of time, and why the other projects have none."""

    visits: tuple[Visit, ...]
    left_out: tuple[Issue, ...]

    @property
    def hours(self) -> float:
        """Hours of all visits."""
        return sum(each.project.hours for each in self.visits)


def make_plan(
    project_ids: Sequence[str],
    projects: Sequence[QueuedProject],
    calendar: Calendar,
    first: datetime,
    last: datetime,
    *,
    ignore_conflicts: bool = False,
) -> Plan:
    """Place what nothing speaks against, in the order given, on the first day that has room.

    With `ignore_conflicts` projects with warnings and errors follow, and what has no room is placed all the same;
    what is blocked, unknown or already as wished never is.
    """
    by_id = {each.project_id: each for each in projects}
    left_out = [unknown(each) for each in project_ids if each not in by_id]
    clean: list[QueuedProject] = []
    overridden: list[tuple[QueuedProject, list[Issue]]] = []
    for project in (by_id[each] for each in project_ids if each in by_id):
        issues = [*own_issues(project), *filter(None, [assigned_already(project, calendar.team, first, last)])]
        if not issues:
            clean.append(project)
        elif ignore_conflicts and not any(each.severity == "blocking" or _is_done(each) for each in issues):
            overridden.append((project, issues))
        else:
            left_out.append(_worst(issues))
    calendar.free(project.project_id for project, _ in overridden)
    visits: list[Visit] = []
    homeless: list[tuple[QueuedProject, list[Issue]]] = []
    for project, issues in [*((project, []) for project in clean), *overridden]:
        start = calendar.place(project.project_id, project.hours)
        if start is not None:
            visits.append(Visit(project, start, tuple(issues)))
        else:
            homeless.append((project, [*issues, _no_room(project, calendar)]))
    for project, issues in homeless:
        start = calendar.force(project.project_id, project.hours) if ignore_conflicts else None
        if start is not None:
            visits.append(Visit(project, start, tuple(issues)))
        else:
            left_out.append(issues[-1])
    order = {project_id: n for n, project_id in enumerate(project_ids)}
    return Plan(
        tuple(sorted(visits, key=lambda each: each.start)),
        tuple(sorted(left_out, key=lambda each: order[each.project_id])),
    )


def conflicts(
    project_ids: Sequence[str],
    projects: Sequence[QueuedProject],
    calendar: Calendar,
    first: datetime,
    last: datetime,
) -> list[Issue]:
    """Everything that speaks against these projects with this team in this time, in their order."""
    left_out = make_plan(project_ids, projects, calendar, first, last).left_out
    by_id = {each.project_id: each for each in projects}
    found: list[Issue] = []
    for issue in left_out:
        own = own_issues(by_id[issue.project_id]) if issue.project_id in by_id else []
        found += [*own, *([issue] if issue not in own else [])]
    return found


def _no_room(project: QueuedProject, calendar: Calendar) -> Issue:
    kind, reason = calendar.why_not(project.hours)
    return Issue(project.project_id, kind, "error", reason, _STEPS[kind])


def _is_done(issue: Issue) -> bool:
    return issue.kind == "already_assigned"


def _worst(issues: Sequence[Issue]) -> Issue:
    rank = {"blocking": 0, "error": 1, "warning": 2}
    return min(issues, key=lambda each: rank[each.severity])
