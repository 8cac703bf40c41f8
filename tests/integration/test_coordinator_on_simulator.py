"""The coordinators' tools against the simulated scheduling system, in fair weather and foul."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.simulated_office import TOOLBOX, Caller, Office
from tools.contract import JsonObject, Prepared, UnknownTool
from tools.errors import NotAssigned, NotFound, SignInAgain
from tools.pf360.client import TestMode

MONDAY, TUESDAY, WEDNESDAY, FRIDAY = "2026-03-16", "2026-03-17", "2026-03-18", "2026-03-20"
ASSIGN = "/assignments/bulk"
LISTED = [f"5001{n:02}" for n in range(1, 13)]


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    """A fresh simulator; whatever a test did to it, its invariants hold afterwards."""
    office = Office()
    yield office
    assert await office.upstream.broken() == {}
    await office.http.aclose()


@pytest.fixture
def coord(office: Office) -> Caller:
    return office.caller("coord")


def work(ids: Any = "500101-500103", team: str = "Team B", first: str = TUESDAY, last: str = TUESDAY) -> JsonObject:
    return {"project_ids": ids, "team": team, "date_range": [first, last]}


async def two_days(coord: Caller) -> Prepared:
    """Six hours on Tuesday, and three that only Wednesday has room for."""
    return await coord.prepare("bulk_assign_teams", **work("500108 500102", last=WEDNESDAY))


def teams_of(office: Office) -> dict[str, str]:
    return {key: row["team"] for key, row in office.app.sim.state.assignments.items() if key != "500112"}


# --- who may --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("persona", ["c1", "biz", "anon"])
async def test_nobody_else_has_these_tools(office: Office, persona: str) -> None:
    """They are not offered, not found when asked for, and upstream is not troubled."""
    caller = office.caller(persona)
    assert not TOOLBOX.specs(["coordinator"], caller.ctx.identity)
    for name, args in (
        ("validate_projects", {"project_ids": ["500101"]}),
        ("optimize_route", {"project_ids": ["500101", "500102"], "date": TUESDAY}),
        ("detect_conflicts", work()),
        ("bulk_assign_teams", work()),
    ):
        with pytest.raises(UnknownTool):
            await caller.prepare(name, **args)
    assert office.requests() == []


async def test_a_coordinator_gets_no_tool_that_needs_a_customer(coord: Caller) -> None:
    """Only the group's own, the opening hours, and the callback."""
    groups = ["scheduling", "information", "notes", "handover", "coordinator"]
    assert [each.name for each in TOOLBOX.specs(groups, coord.ctx.identity)] == [
        "get_working_hours",
        "request_human",
        "optimize_route",
        "validate_projects",
        "detect_conflicts",
        "bulk_assign_teams",
    ]


# --- routes ---------------------------------------------------------------------------------------------------------


async def test_a_route_starts_at_the_office_and_says_what_it_saves(coord: Caller) -> None:
    """The shortest order of four, with the hours on site between the drives."""
    found = await coord.call("optimize_route", project_ids="500101, 500102 500103 500105", date="2026-03-12")
    assert [stop["project_id"] for stop in found["optimized_route"]] == ["500101", "500102", "500105", "500103"]
    assert [stop["arrival_time"] for stop in found["optimized_route"]] == ["8:02 AM", "10:08 AM", "1:11 PM", "3:14 PM"]
    assert [stop["duration_minutes"] for stop in found["optimized_route"]] == [120, 180, 120, 60]
    assert [stop.get("drive_time_to_next_minutes") for stop in found["optimized_route"]] == [6, 3, 4, None]
    assert found["metrics"] == {
        "total_distance_miles": 7.2,
        "total_drive_time_minutes": 14,
        "drive_time_to_first_minutes": 2,
        "time_saved_minutes": 3,
        "savings_percentage": 19,
        "finish_time": "4:14 PM",
    }
    assert (found["weekday"], found["start"]["time"], found["warnings"]) == ("Thursday", "8:00 AM", [])


async def test_a_route_tells_what_is_wrong_with_its_day(coord: Caller) -> None:
    """Closing time, a closed day, open permits, and ids that nobody knows."""
    found = await coord.call("optimize_route", project_ids=["500101-500106", "599999"], date="2026-03-13")
    assert found["project_count"] == 6
    assert found["unknown_ids"] == ["599999"]
    assert any("after closing time (5:00 PM)" in warning for warning in found["warnings"])
    assert "Not approved yet: the permit of 500104 (pending)." in found["warnings"]
    closed = await coord.call("optimize_route", project_ids=["500101", "500103"], date="2026-03-14")
    assert closed["warnings"] == ["The office is closed on that Saturday."]


async def test_a_route_may_start_elsewhere(coord: Caller) -> None:
    """And is the same for time, distance and cost, as all roads are equally fast."""
    start = {"latitude": 28.1, "longitude": -82.1}
    found = await coord.call("optimize_route", project_ids=LISTED[:6], date=MONDAY, start_location=start)
    assert found["optimized_route"][0]["project_id"] == "500106"
    cheap = await coord.call("optimize_route", project_ids=LISTED[:6], date=MONDAY, optimize_for="cost")
    short = await coord.call("optimize_route", project_ids=LISTED[:6], date=MONDAY, optimize_for="distance")
    assert cheap["optimized_route"] == short["optimized_route"]
    assert cheap["optimized_for"] == "cost"


async def test_without_an_office_the_first_project_is_the_start(office: Office, coord: Caller) -> None:
    """A directory need not know where its offices are."""
    for row in office.fixture["clients"]:
        row.pop("office", None)
    found = await office.caller("coord").call("optimize_route", project_ids=["500103", "500101"], date=MONDAY)
    assert found["optimized_route"][0]["arrival_time"] == "8:00 AM"
    assert "not known" in found["warnings"][0]


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ({"project_ids": "500101", "date": MONDAY}, "project_ids"),
        ({"project_ids": "500101-500160", "date": MONDAY}, "project_ids"),
        ({"project_ids": "500101-500103", "date": "2026-03-10"}, "date"),
        ({"project_ids": "500101-500103", "date": MONDAY, "optimize_for": "beauty"}, "optimize_for"),
        ({"project_ids": "500101-500103", "date": MONDAY, "start_location": {"latitude": 91, "longitude": 0}}, "start"),
    ],
)
async def test_a_route_that_cannot_be_is_refused_by_field(coord: Caller, args: JsonObject, field: str) -> None:
    """Two to fifty stops, from today on, from a place on the globe."""
    refused = await coord.call("optimize_route", **args)
    assert refused["code"] == "invalid_arguments"
    assert refused["errors"][0]["field"].startswith(field)


async def test_a_route_past_nobody_is_not_found(coord: Caller) -> None:
    """One known stop is none."""
    found = await coord.call("optimize_route", project_ids=["500101", "599999"], date=MONDAY)
    assert (found["code"], found["unknown_ids"]) == ("not_found", ["599999"])


# --- checking -------------------------------------------------------------------------------------------------------


async def test_validation_says_what_upstream_says(office: Office, coord: Caller) -> None:
    """Counts, checks and severities are those of the system behind."""
    mine = await coord.call("validate_projects", project_ids="500101-500112")
    upstream = office.upstream.other(None, ("20OC01BK",), role="coordinator", sub="K-01")
    theirs = (await upstream.post("/validation/batch", {"project_ids": LISTED})).json()["data"]
    for key in ("total_projects", "valid_count", "issues_count"):
        assert mine[key] == theirs[key], key
    assert {**theirs["summary"], "unknown": 0} == mine["summary"]
    for ours, other in zip(mine["projects"], theirs["projects"], strict=True):
        assert (ours["project_id"], ours["is_valid"], ours["checks"]) == (
            other["project_id"],
            other["is_valid"],
            other["checks"],
        )
        assert [i["severity"] for i in ours["issues"]] == [i["severity"] for i in other["issues"]]


async def test_validation_reports_unknown_ids_and_makes_only_the_checks_asked_for(coord: Caller) -> None:
    """What is unknown counts among all, and among nothing else."""
    found = await coord.call(
        "validate_projects", project_ids=["500104", "599999", "500107"], validation_checks=["measurement"]
    )
    assert (found["total_projects"], found["unknown_ids"], found["valid_ids"]) == (3, ["599999"], ["500104"])
    assert found["projects"][0]["checks"] == {"measurements_complete": True}
    assert found["summary"] == {"ready_to_schedule": 1, "requires_action": 1, "blocked": 0, "unknown": 1}


async def test_validation_sees_an_assignment_that_has_become_impossible(office: Office, coord: Caller) -> None:
    """A team that went on vacation meanwhile."""
    office.app.sim.state.teams["Team A"]["vacation"].append(MONDAY)
    (row,) = (await coord.call("validate_projects", project_ids="500112"))["projects"]
    assert not row["checks"]["no_conflicts"]
    assert "vacation" in row["issues"][0]["message"]


@pytest.mark.parametrize(
    ("ids", "team", "days", "found"),
    [
        (
            "500101-500103",
            "team c",
            [MONDAY, TUESDAY],
            {"500101": "vacation", "500102": "vacation", "500103": "vacation"},
        ),
        ("500101 500102", "Team C", [TUESDAY, WEDNESDAY], {"500102": "capacity"}),
        ("500108", "c", [WEDNESDAY, FRIDAY], {"500108": "capacity"}),
        ("500112 500101", "B", [MONDAY, MONDAY], {"500112": "assigned_elsewhere"}),
        ("500112", "crew a", [MONDAY, FRIDAY], {"500112": "already_assigned"}),
        ("500104 500106", "Team B", [MONDAY, MONDAY], {"500104": "permit"}),
        ("500101 599999", "Team B", [MONDAY, MONDAY], {"599999": "unknown"}),
    ],
)
async def test_conflicts_are_found(coord: Caller, ids: str, team: str, days: list[str], found: dict[str, str]) -> None:
    """Whatever stands in the way, by project; the others are clear. Nothing is written."""
    seen = await coord.call("detect_conflicts", project_ids=ids, team=team, date_range=days)
    assert {each["project_id"]: each["type"] for each in seen["conflicts"]} == found
    assert seen["conflicts_found"] == len(found)
    assert set(seen["clear_ids"]) == set(ids.split()) - set(found) - {"500101-500103"}


async def test_a_team_that_is_not_there_names_those_that_are(coord: Caller) -> None:
    """By any way of writing it."""
    with pytest.raises(NotFound) as refused:
        await coord.prepare("detect_conflicts", **work(team="Team Z"))
    assert refused.value.facts["teams"] == ["Team A", "Team B", "Team C"]


@pytest.mark.parametrize("days", [["2026-03-02", "2026-03-03"], [FRIDAY, MONDAY], [MONDAY, "2026-07-01"], "soon", []])
async def test_a_range_of_days_that_cannot_be_is_refused(coord: Caller, days: Any) -> None:
    """Over, backwards, too long, none."""
    refused = await coord.call("detect_conflicts", project_ids="500101", team="Team B", date_range=days)
    assert (refused["code"], refused["errors"][0]["field"]) == ("invalid_arguments", "date_range")


# --- assigning ------------------------------------------------------------------------------------------------------


async def test_a_yes_executes_the_stored_visits(office: Office, coord: Caller) -> None:
    """What was read out is what is sent, once, under the coordinator's name; the result tells item by item."""
    prepared = await coord.prepare("bulk_assign_teams", **work("500101-500105", first=TUESDAY, last=WEDNESDAY))
    assert prepared.args["plan"]["visits"] == [
        {"project_id": "500101", "start": "2026-03-17T08:00:00", "hours": 2},
        {"project_id": "500102", "start": "2026-03-17T10:00:00", "hours": 3},
        {"project_id": "500103", "start": "2026-03-17T13:00:00", "hours": 1},
        {"project_id": "500105", "start": "2026-03-17T14:00:00", "hours": 2},
    ]
    assert office.requests("assign") == []
    done = await coord.execute(prepared)
    assert done.status == "ok"
    assert (done.data["requested_count"], done.data["successful"], done.data["failed"]) == (5, 4, 1)
    assert done.data["summary"] == {"team": "Team B", "assigned_projects": 4, "total_hours_allocated": 8}
    assert [(each["project_id"], each["severity"]) for each in done.data["conflicts"]] == [("500104", "blocking")]
    assert teams_of(office) == dict.fromkeys(["500101", "500102", "500103", "500105"], "Team B")
    assert len(office.requests("assign")) == 1
    (commit,) = await office.upstream.commits()
    assert (commit["kind"], commit["actor"]) == ("assign", "K-01")


async def test_a_model_cannot_bring_its_own_plan(office: Office, coord: Caller) -> None:
    """The plan is in no schema, and one that is given is made anew."""
    (spec,) = [s for s in TOOLBOX.specs(["coordinator"], coord.ctx.identity) if s.name == "bulk_assign_teams"]
    assert "plan" not in spec.parameters["properties"]
    own = {"visits": [{"project_id": "500104", "start": "2026-03-17T08:00:00", "hours": 4}], "left_out": []}
    prepared = await coord.prepare("bulk_assign_teams", **work("500101"), plan=own)
    assert [each["project_id"] for each in prepared.args["plan"]["visits"]] == ["500101"]


async def test_the_same_preparation_is_made_again_from_what_was_stored(coord: Caller) -> None:
    """As for a yes that comes late."""
    prepared = await coord.prepare("bulk_assign_teams", **work())
    again = await coord.prepare("bulk_assign_teams", **prepared.args)
    assert (again.args, again.restatement) == (prepared.args, prepared.restatement)


async def test_the_restatement_says_who_can_who_cannot_and_why(coord: Caller) -> None:
    """Everything a person must read before a yes."""
    prepared = await coord.prepare("bulk_assign_teams", **work("500107 500109 500111 500110 599999", "b"))
    told = prepared.restatement
    assert (told["team"], told["requested_count"], told["assignable_count"], told["hours"]) == ("Team B", 5, 1, 1)
    assert (told["date_from"], told["date_to"]) == (TUESDAY, TUESDAY)
    assert [(each["project_id"], each["severity"]) for each in told["left_out"]] == [
        ("500107", "error"),
        ("500109", "warning"),
        ("500111", "blocking"),
        ("599999", "blocking"),
    ]
    assert told["days"][0]["visits"] == [{"project_id": "500110", "category": "HVAC", "time": "8:00 AM", "hours": 1}]


async def test_an_override_takes_warnings_and_errors_and_never_a_permit(office: Office, coord: Caller) -> None:
    """And what is overridden is read out."""
    forced = work("500104 500107 500109 500112", "b", MONDAY, MONDAY)
    prepared = await coord.prepare("bulk_assign_teams", **forced, ignore_conflicts=True)
    assert prepared.args["ignore_conflicts"] is True
    assert {each["project_id"] for each in prepared.restatement["overridden"]} == {"500107", "500109", "500112"}
    assert [each["project_id"] for each in prepared.restatement["left_out"]] == ["500104"]
    assert (await coord.execute(prepared)).data["successful"] == 3
    assert "500104" not in office.app.sim.state.assignments
    assert office.app.sim.state.assignments["500112"]["team"] == "Team B"
    with pytest.raises(NotAssigned) as refused:
        await coord.prepare("bulk_assign_teams", **work("500104"), ignore_conflicts=True)
    assert not refused.value.facts["overridable"]


async def test_nothing_to_assign_is_told_before_anybody_is_asked(coord: Caller) -> None:
    """With the reason for each, and whether an override could help."""
    with pytest.raises(NotAssigned) as refused:
        await coord.prepare("bulk_assign_teams", **work("500101-500103", "Team C", MONDAY, TUESDAY))
    assert refused.value.facts["overridable"]
    assert {each["type"] for each in refused.value.facts["left_out"]} == {"vacation"}


async def test_what_changed_since_the_question_is_not_assigned(office: Office, coord: Caller) -> None:
    """Somebody else took one project, filled an hour, and a permit ran out; the rest goes ahead."""
    prepared = await coord.prepare("bulk_assign_teams", **work("500101 500102 500103 500110"))
    state = office.app.sim.state
    state.assignments["500101"] = {"team": "Team A", "date": MONDAY, "start": "13:00", "end": "15:00"}
    state.assignments["500106"] = {"team": "Team B", "date": TUESDAY, "start": "13:00", "end": "15:00"}
    state.queue["500110"]["permit"] = "expired"
    done = (await coord.execute(prepared)).data
    assert (done["successful"], done["failed"]) == (1, 3)
    assert {each["project_id"]: each["reason"] for each in done["conflicts"]} == {
        "500101": "it has been given to Team A meanwhile",
        "500103": "Team B has been given something else at that time meanwhile",
        "500110": "its permit is expired",
    }
    assert teams_of(office) == {"500101": "Team A", "500102": "Team B", "500106": "Team B"}


async def test_an_item_that_upstream_refuses_is_reported(office: Office, coord: Caller) -> None:
    """A day that is over by upstream's clock when the write arrives: the other one stands."""
    prepared = await two_days(coord)
    await office.upstream.admin("POST", "clock", {"set": "2026-03-18T06:00:00-04:00"})
    done = (await coord.execute(prepared)).data
    assert (done["successful"], done["failed"]) == (1, 1)
    assert [(each["project_id"], each["status"]) for each in done["assignments"]] == [
        ("500108", "failed"),
        ("500102", "assigned"),
    ]
    assert done["conflicts"] == [{"project_id": "500108", "severity": "error", "reason": "that day is over"}]


async def test_when_upstream_takes_none_it_is_no_success(office: Office, coord: Caller) -> None:
    """Nothing was assigned, and the result says so."""
    prepared = await two_days(coord)
    await office.upstream.admin("POST", "clock", {"set": "2026-03-19T06:00:00-04:00"})
    done = await coord.execute(prepared)
    assert (done.status, done.data["code"]) == ("error", "not_assigned")
    assert office.commits() == []


async def test_an_override_does_not_outlast_a_permit(office: Office, coord: Caller) -> None:
    """Not even between the question and the yes, and whatever upstream would do: it is not sent."""
    prepared = await coord.prepare("bulk_assign_teams", **work("500107"), ignore_conflicts=True)
    office.app.sim.state.queue["500107"]["permit"] = "expired"
    done = await coord.execute(prepared)
    assert (done.status, done.data["left_out"][0]["reason"]) == ("error", "its permit is expired")
    assert office.requests("assign") == []


async def test_the_same_yes_twice_changes_nothing_twice(office: Office, coord: Caller) -> None:
    """What stands already counts as done."""
    prepared = await coord.prepare("bulk_assign_teams", **work())
    first, second = await coord.execute(prepared), await coord.execute(prepared)
    assert first.data == second.data
    assert office.commits() == ["assign"]


async def test_test_mode_sends_no_assignment(office: Office) -> None:
    """And says so."""
    caller = office.caller("coord", TestMode(confirm=True))
    done = await caller.execute(await caller.prepare("bulk_assign_teams", **work()))
    assert done.data["test_mode"] is True
    assert done.data["successful"] == 0
    assert office.requests("assign") == []


# --- foul weather ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["commit_then_drop", "commit_then_500", "malformed_json", "empty_200"])
async def test_a_lost_answer_is_read_back_and_not_sent_again(office: Office, coord: Caller, mode: str) -> None:
    """The work list shows that it took place."""
    prepared = await coord.prepare("bulk_assign_teams", **work())
    await office.upstream.arm("assign", mode, times=1)
    done = await coord.execute(prepared)
    assert (done.status, done.data["successful"]) == ("ok", 3)
    assert len(office.requests("assign")) == 1
    assert office.commits() == ["assign"]


@pytest.mark.parametrize("mode", ["timeout", "http_500", "error_in_200"])
async def test_what_surely_did_not_arrive_is_sent_one_more_time(office: Office, coord: Caller, mode: str) -> None:
    """After looking for it as long as it may take."""
    prepared = await coord.prepare("bulk_assign_teams", **work())
    await office.upstream.arm("assign", mode, times=1)
    done = await coord.execute(prepared)
    assert (done.status, done.data["successful"]) == ("ok", 3)
    assert office.transport.sent.count(ASSIGN) == 2
    assert office.commits() == ["assign"]


async def test_a_lost_answer_to_a_partial_success_is_told_item_by_item(office: Office, coord: Caller) -> None:
    """Not all of it can be read back, so it is sent once more, which changes nothing and tells."""
    prepared = await two_days(coord)
    await office.upstream.admin("POST", "clock", {"set": "2026-03-18T06:00:00-04:00"})
    await office.upstream.arm("assign", "commit_then_drop", times=1)
    done = await coord.execute(prepared)
    assert [each["status"] for each in done.data["assignments"]] == ["failed", "assigned"]
    assert office.commits() == ["assign"]


async def test_an_outcome_that_cannot_be_read_back_is_unknown(office: Office, coord: Caller) -> None:
    """It is never sent again."""
    prepared = await coord.prepare("bulk_assign_teams", **work())
    await office.upstream.arm("assign", "timeout", times=1)
    running = asyncio.create_task(coord.execute(prepared))
    while ASSIGN not in office.transport.sent:
        await asyncio.sleep(0)
    await office.upstream.arm("batch", "http_503")
    done = await running
    assert (done.status, done.data["code"]) == ("unknown", "unknown_outcome")
    assert done.data["project_ids"] == ["500101", "500102", "500103"]
    assert office.transport.sent.count(ASSIGN) == 1


async def test_two_silences_are_unknown(office: Office, coord: Caller) -> None:
    """One resend, no more."""
    prepared = await coord.prepare("bulk_assign_teams", **work())
    await office.upstream.arm("assign", "timeout")
    done = await coord.execute(prepared)
    assert done.status == "unknown"
    assert office.transport.sent.count(ASSIGN) == 2
    assert office.commits() == []


async def test_reading_back_tells_what_was_assigned(office: Office, coord: Caller) -> None:
    """All, some, none: for whoever finds an intent without an outcome."""
    prepared = await coord.prepare("bulk_assign_teams", **work("500101 500103"))
    assert await coord.reconcile(prepared) is None
    visit = {"team": "Team B", "date": TUESDAY, "start": "08:00", "end": "10:00"}
    office.app.sim.state.assignments["500101"] = dict(visit)
    some = await coord.reconcile(prepared)
    assert some is not None
    assert (some.status, some.data["successful"], some.data["failed"]) == ("error", 1, 1)
    office.app.sim.state.assignments["500103"] = {**visit, "start": "10:00", "end": "11:00"}
    everything = await coord.reconcile(prepared)
    assert everything is not None
    assert (everything.status, everything.data["successful"]) == ("ok", 2)
    await office.upstream.arm("batch", "http_503")
    unreadable = await coord.reconcile(prepared)
    assert unreadable is not None
    assert unreadable.status == "unknown"


@pytest.mark.parametrize("mode", ["schema_drift", "flap"])
async def test_reads_survive_other_forms_and_short_outages(office: Office, coord: Caller, mode: str) -> None:
    """Ids as numbers, fields missing, every other answer a failure."""
    for endpoint in ("batch", "teams", "business_hours"):
        await office.upstream.arm(endpoint, mode)
    found = await coord.call("detect_conflicts", **work("500101-500105", first=MONDAY, last=FRIDAY))
    assert found["clear_ids"] == ["500101", "500102", "500103", "500105"]
    assert (await coord.call("validate_projects", project_ids="500112"))["valid_ids"] == ["500112"]


async def test_an_expired_sign_in_is_said(office: Office, coord: Caller) -> None:
    """Nothing is sent."""
    await office.upstream.arm("batch", "http_401")
    with pytest.raises(SignInAgain):
        await coord.prepare("bulk_assign_teams", **work())
