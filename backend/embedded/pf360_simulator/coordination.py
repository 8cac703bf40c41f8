"""The coordinators' side: the work list in batches, validation, assignment of teams, team calendars."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from .fixture import Json
from .refusal import invalid, malformed, not_found
from .state import Origin, UpstreamState

BATCH_LIMIT = 100
CHECKS = ("permit", "measurement", "access", "conflicts")


def read_ids(values: object) -> list[str]:
    """1 to 100 project ids, repeats dropped, order kept."""
    if not isinstance(values, list) or not all(isinstance(value, str | int) for value in values):
        raise malformed("project_ids must be a list of ids")
    ids = list(dict.fromkeys(str(value).strip() for value in values if str(value).strip()))
    if not 1 <= len(ids) <= BATCH_LIMIT:
        raise invalid(f"1 to {BATCH_LIMIT} project ids are accepted")
    return ids


def known_rows(state: UpstreamState, client_id: str, ids: list[str]) -> tuple[list[Json], list[str]]:
    """Work-list rows of a client in the order asked for, and the ids it does not have."""
    mine = state.queue if client_id == state.queue_client else {}
    return [mine[key] for key in ids if key in mine], [key for key in ids if key not in mine]


def batch(state: UpstreamState, client_id: str, ids: list[str]) -> Json:
    """E14 read: `{data: rows, missing: ids}`; unknown ids are named, not dropped."""
    rows, missing = known_rows(state, client_id, ids)
    return {"status": "success", "data": [_batch_row(state, row) for row in rows], "missing": missing}


def _batch_row(state: UpstreamState, row: Json) -> Json:
    assignment = state.assignments.get(str(row["project_id"]))
    return {
        "project_id": str(row["project_id"]),
        "category": row["category"],
        "address": row.get("address") or _town(state),
        "lat": row["lat"],
        "lng": row["lng"],
        "estimated_hours": row["hours"],
        "permit_status": row["permit"],
        "measurement_status": row["measurement"],
        "access_approved": row["access"],
        "scheduled": {key: assignment[key] for key in ("date", "start", "end")} if assignment else None,
        "team": assignment["team"] if assignment else None,
    }


def _town(state: UpstreamState) -> str | None:
    """The work list has no streets; the town is that of its client's projects."""
    places = (p.seed["address"] for p in state.projects.values() if p.client_id == state.queue_client)
    return next((f"{place['city']}, {place['state']}" for place in places), None)


# --- validation -----------------------------------------------------------------------------------------------------


def validate(state: UpstreamState, client_id: str, body: Json) -> Json:
    """E14 validation of up to 100 projects; severities blocking, error and warning."""
    ids = read_ids(body.get("project_ids"))
    checks = body.get("checks") or list(CHECKS)
    if not isinstance(checks, list) or any(check not in CHECKS for check in checks):
        raise invalid(f"checks must be among {', '.join(CHECKS)}")
    rows, missing = known_rows(state, client_id, ids)
    results = [_validated(state, row, checks) for row in rows]
    valid = sum(result["is_valid"] for result in results)
    blocked = sum(any(i["severity"] == "blocking" for i in result["issues"]) for result in results)
    return {
        "total_projects": len(results),
        "valid_count": valid,
        "issues_count": sum(len(result["issues"]) for result in results),
        "projects": results,
        "missing": missing,
        "summary": {
            "ready_to_schedule": valid,
            "requires_action": len(results) - valid - blocked,
            "blocked": blocked,
        },
    }


def _validated(state: UpstreamState, row: Json, checks: list[str]) -> Json:
    issues: list[Json] = []
    if "permit" in checks and row["permit"] != "approved":
        issues.append(_issue("permit", "blocking", f"Permit is {row['permit']}", "Obtain the permit"))
    if "measurement" in checks and row["measurement"] != "complete":
        issues.append(_issue("measurement", "error", "Measurement is not complete", "Finish the measurement"))
    if "access" in checks and not row["access"]:
        issues.append(_issue("access", "warning", "Access is not approved", "Ask the customer for access"))
    if "conflicts" in checks and (conflict := _conflict(state, row)):
        issues.append(_issue("conflict", "error", conflict, "Choose another day or team"))
    found = {issue["type"] for issue in issues}
    return {
        "project_id": str(row["project_id"]),
        "is_valid": all(issue["severity"] == "warning" for issue in issues),
        "checks": {
            "permit_valid": "permit" not in found,
            "measurements_complete": "measurement" not in found,
            "access_approved": "access" not in found,
            "no_conflicts": "conflict" not in found,
        },
        "issues": issues,
    }


def _issue(kind: str, severity: str, message: str, step: str) -> Json:
    return {"type": kind, "severity": severity, "message": message, "resolution_steps": [step]}


def _conflict(state: UpstreamState, row: Json) -> str | None:
    """What speaks against the assignment a project has; None when it has none or nothing does."""
    project_id = str(row["project_id"])
    mine = state.assignments.get(project_id)
    if mine is None:
        return None
    if mine["date"] in (state.teams[mine["team"]].get("vacation") or ()):
        return f"{mine['team']} is on vacation on {mine['date']}"
    for other in _busy(state, mine["team"]):
        same_day = other["date"] == mine["date"] and other.get("project_id") != project_id
        if same_day and other["start"] < mine["end"] and mine["start"] < other["end"]:
            return f"{mine['team']} is busy on {mine['date']} from {other['start']} to {other['end']}"
    return None


# --- teams ----------------------------------------------------------------------------------------------------------


def teams(state: UpstreamState, client_id: str) -> list[Json]:
    return [
        {key: team[key] for key in ("team", "client_id", "capacity_hours_per_day")}
        for team in state.teams.values()
        if team["client_id"] == client_id
    ]


def team_schedule(state: UpstreamState, client_id: str, name: str, first: date | None, last: date | None) -> Json:
    """E15: a team's vacation and busy hours between two days, both included; assignments count as busy."""
    team = state.teams.get(name)
    if team is None or team["client_id"] != client_id:
        raise not_found()
    low, high = (first or date.min).isoformat(), (last or date.max).isoformat()
    return {
        "team": name,
        "capacity_hours_per_day": team["capacity_hours_per_day"],
        "vacation": [day for day in team.get("vacation") or () if low <= day <= high],
        "busy": [entry for entry in _busy(state, name) if low <= entry["date"] <= high],
    }


def _busy(state: UpstreamState, name: str) -> list[Json]:
    """Fixed engagements of a team and its assignments; a work-list entry counts through its assignment only."""
    fixed = [dict(e) for e in state.teams[name].get("busy") or () if str(e.get("project_id")) not in state.queue]
    assigned = [
        {"date": a["date"], "start": a["start"], "end": a["end"], "project_id": project_id}
        for project_id, a in state.assignments.items()
        if a["team"] == name
    ]
    return sorted([*fixed, *assigned], key=lambda entry: (entry["date"], entry["start"]))


def assign(state: UpstreamState, client_id: str, body: Json, origin: Origin, now: datetime) -> list[Json]:
    """E14 write: each item is assigned or fails on its own; one commit holds all that were assigned.

    Overlaps and vacations are accepted: whether to override them is the coordinator's decision. A permit that is not
    approved never is. An item that repeats an existing assignment changes nothing.
    """
    items = body.get("assignments")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise malformed("assignments must be a list of objects")
    if not 1 <= len(items) <= BATCH_LIMIT:
        raise invalid(f"1 to {BATCH_LIMIT} assignments are accepted")
    results, changes = [], []
    for item in items:
        reason, wanted = _wanted(state, client_id, item, now)
        project_id = str(item.get("project_id"))
        if reason or wanted is None:
            results.append({"project_id": project_id, "status": "failed", "reason": reason})
            continue
        before = state.assignments.get(project_id)
        if before != wanted:
            state.assignments[project_id] = wanted
            changes.append({"project_id": project_id, "before": before, "after": wanted})
        results.append({"project_id": project_id, "status": "assigned", **wanted})
    if changes:
        state.commit(
            "assign",
            origin,
            now,
            project_id=None,
            client_id=client_id,
            customer_id=None,
            actor=body.get("actor"),
            assignments=changes,
        )
    return results


def _wanted(state: UpstreamState, client_id: str, item: Json, now: datetime) -> tuple[str | None, Json | None]:
    """Why an item fails, or the assignment it asks for."""
    rows, _ = known_rows(state, client_id, [str(item.get("project_id"))])
    if not rows:
        return "not_found", None
    team = state.teams.get(str(item.get("team")))
    if team is None or team["client_id"] != client_id:
        return "unknown_team", None
    try:
        day = date.fromisoformat(str(item.get("date")))
        start = datetime.strptime(str(item.get("start"))[:5], "%H:%M")
    except ValueError:
        return "invalid_time", None
    if day < now.date():
        return "past_date", None
    if rows[0]["permit"] != "approved":
        return "permit_not_approved", None
    end = start + timedelta(hours=float(rows[0]["hours"]))
    if end.date() != start.date():
        return "invalid_time", None
    return None, {"team": team["team"], "date": day.isoformat(), "start": f"{start:%H:%M}", "end": f"{end:%H:%M}"}
