"""What speaks against a visit: issues of a project itself, and of the assignment it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from tools.contract import JsonObject
from tools.pf360.models import QueuedProject, TeamSchedule
from tools.wording import said

Severity = Literal["warning", "error", "blocking"]
Check = Literal["permit", "measurement", "access", "conflicts"]
CHECKS: tuple[Check, ...] = get_args(Check)


@dataclass(frozen=True, slots=True)
class Issue:
    """One reason against a project's visit. `message` goes on after the id; `step` says what helps."""

    project_id: str
    kind: str
    severity: Severity
    message: str
    step: str

    def to_json(self) -> JsonObject:
        """The form in which a plan keeps it."""
        return {
            "project_id": self.project_id,
            "type": self.kind,
            "severity": self.severity,
            "reason": self.message,
            "suggested_resolution": self.step,
        }


def own_issues(project: QueuedProject, checks: Sequence[Check] = CHECKS) -> list[Issue]:
    """What is open at the project itself: permit (blocking), measurement (error), access (warning)."""
    found: list[Issue] = []
    if "permit" in checks and project.permit != "approved":
        message = f"its permit is {project.permit}"
        found.append(_issue(project, "permit", "blocking", message, "get the permit first; nothing overrides this"))
    if "measurement" in checks and project.measurement != "complete":
        found.append(
            _issue(project, "measurement", "error", f"its measurement is {project.measurement}", "finish measuring it")
        )
    if "access" in checks and not project.access:
        found.append(_issue(project, "access", "warning", "access is not approved", "ask the customer for access"))
    return found


def standing_conflict(project: QueuedProject, schedule: TeamSchedule) -> Issue | None:
    """What speaks against the assignment that a project has: its team's vacation, or another visit at that time."""
    visit = project.visit
    if visit is None:
        return None
    others = (each for each in schedule.busy if each.project_id != project.project_id)
    clash = next((each for each in others if each.overlaps(visit.start, visit.end)), None)
    if visit.start.date() in schedule.vacation:
        message = f"{schedule.team} is on vacation on its day, {said(visit.start)}"
    elif clash is not None:
        message = f"{schedule.team} is busy with something else on {said(clash.start)}"
    else:
        return None
    return _issue(project, "conflict", "error", message, "choose another day or team")


def assigned_already(project: QueuedProject, team: str, first: datetime, last: datetime) -> Issue | None:
    """That a project has an assignment: a warning when it is the one wanted, an error when it is another."""
    if project.team is None:
        return None
    when = f" on {said(project.visit.start)}" if project.visit else ""
    message = f"it is already with {project.team}{when}"
    if project.team == team and project.visit is not None and first <= project.visit.start <= last:
        return _issue(project, "already_assigned", "warning", message, "nothing to do")
    return _issue(project, "assigned_elsewhere", "error", message, "leave it there, or override to take it over")


def unknown(project_id: str) -> Issue:
    """That an id is in no work list of this office."""
    return Issue(project_id, "unknown", "blocking", "it is unknown here", "check the number")


def _issue(project: QueuedProject, kind: str, severity: Severity, message: str, step: str) -> Issue:
    return Issue(project.project_id, kind, severity, message, step)
