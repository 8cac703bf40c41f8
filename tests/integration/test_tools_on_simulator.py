"""The tools against the simulated scheduling system, in fair weather and foul."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from backend.embedded.pf360_simulator.server import Server, listen
from tests.integration.simulated_office import TOOLBOX, Caller, Office
from tools.contract import InvalidArguments, JsonObject, UnknownTool
from tools.errors import Ambiguous, Cutoff, NotFound, NotOffered, NotSchedulable
from tools.pf360.client import TestMode

FLOORING, WINDOWS, DECK, FINISHED, MEASURING = "410001", "410002", "410003", "410004", "410005"
FOREIGN_ORDER, FOREIGN_ID = "SO-26-2001_1", "420001"
NINETEENTH_13H = "2026-03-19T13:00:00"


@pytest.fixture(params=["in_process", "lambda"])
async def office(request: pytest.FixtureRequest) -> AsyncIterator[Office]:
    """A fresh simulator, and every tool on either executor; its invariants hold whatever a test did to it."""
    office = Office(executor=request.param)
    yield office
    assert await office.upstream.broken() == {}
    await office.http.aclose()


@pytest.fixture
def c1(office: Office) -> Caller:
    return office.caller("c1")


def dates_in(listed: list[JsonObject]) -> list[str]:
    return [each["date"] for each in listed]


def slot_of(project: str = FLOORING, day: str = "2026-03-16", start: str = "10:00") -> JsonObject:
    return {"project_id": project, "date": day, "time": start}


def move_of(project: str = WINDOWS, day: str = "2026-03-19", start: str = "13:00") -> JsonObject:
    return {"project_id": project, "new_date": day, "new_time": start}


# --- listing and resolving ------------------------------------------------------------------------------------------


async def test_projects_are_listed_without_finished_ones(c1: Caller) -> None:
    """Numbered from 1, finished ones counted but hidden, the appointment only where there is one."""
    listed = await c1.call("list_projects")
    assert [each["order_number"] for each in listed["projects"]] == [
        "SO-26-1001_1",
        "SO-26-1002_1",
        "SO-26-1003_1",
        "SO-26-1004_1",
    ]
    assert [each["list_index"] for each in listed["projects"]] == [1, 2, 3, 4]
    assert listed["hidden_finished"] == 1
    assert not listed["by_location"]
    assert listed["projects"][1]["appointment"] == {
        "date": "2026-03-18",
        "weekday": "Wednesday",
        "start": "8:00 AM",
        "end": "12:00 PM",
        "technician": "Tech 204",
    }
    assert "appointment" not in listed["projects"][0]
    assert listed["projects"][0]["link"] == "https://brookhaven.cx-portal.dev.projectsforce.com/details/410001"


@pytest.mark.parametrize(
    ("filters", "orders"),
    [
        ({"status": "schedulable"}, ["SO-26-1001_1", "SO-26-1004_1"]),
        ({"status": "scheduled"}, ["SO-26-1002_1"]),
        ({"status": "waiting for permit"}, ["SO-26-1003_1"]),
        ({"status": "completed"}, ["SO-26-1001_2"]),
        ({"category": "window"}, ["SO-26-1002_1", "SO-26-1004_1"]),
        ({"category": "roofing"}, []),
        ({"category": "flooring", "include_finished": True}, ["SO-26-1001_1", "SO-26-1001_2"]),
    ],
)
async def test_projects_can_be_filtered(c1: Caller, filters: JsonObject, orders: list[str]) -> None:
    """By group or text of the status, and by category as people name it."""
    listed = await c1.call("list_projects", **filters)
    assert [each["order_number"] for each in listed["projects"]] == orders


async def test_effective_arguments_hold_the_session_values(office: Office, c1: Caller) -> None:
    """The record of a call names customer and location, whatever the model said."""
    assert (await c1.prepare("list_projects")).args == {"customer_id": "7000101", "client_id": None}
    biz = office.caller("biz")
    assert (await biz.prepare("list_projects")).args["client_id"] == "20OC01BK"
    assert (await biz.prepare("list_projects", client_id="all")).args["client_id"] is None
    assert (await biz.prepare("list_projects", client_id="Lakmont")).args["client_id"] == "20OC02LM"
    assert (await office.caller("biz_all").prepare("list_projects")).args["client_id"] is None
    assert (await c1.prepare("get_project_details", project_id="SO-26-1001_1")).args == {"project_id": FLOORING}


@pytest.mark.parametrize(
    ("said", "meant"),
    [("SO-26-1002_1", WINDOWS), ("so-26-1004", MEASURING), ("1002", WINDOWS), (WINDOWS, WINDOWS), ("#2", WINDOWS)],
)
async def test_projects_are_resolved_among_the_callers_own(c1: Caller, said: str, meant: str) -> None:
    """By order number, its last group, internal id, or place in the list that was shown."""
    await c1.call("list_projects")
    assert (await c1.prepare("get_project_details", project_id=said)).args["project_id"] == meant


@pytest.mark.parametrize(
    ("said", "meant"),
    [("flooring", FLOORING), ("window measurement", MEASURING), ("deck", DECK), ("Windows Installation", WINDOWS)],
)
async def test_projects_may_be_described(c1: Caller, said: str, meant: str) -> None:
    """When one open project only fits the words."""
    assert (await c1.prepare("get_project_details", project_id=said)).args["project_id"] == meant


@pytest.mark.parametrize(("said", "code"), [("windows", "ambiguous"), ("roofing", "not_found"), ("in", "not_found")])
async def test_descriptions_are_not_stretched(c1: Caller, said: str, code: str) -> None:
    """Several are named, none is invented."""
    refusal = await c1.call("get_project_details", project_id=said)
    assert refusal["code"] == code
    assert len(refusal.get("candidates", [])) == (2 if code == "ambiguous" else 0)


async def test_searches_side_by_side_do_not_void_each_other(office: Office, c1: Caller) -> None:
    """A model may ask for several days at once."""
    found = await asyncio.gather(
        c1.call("get_available_dates", project_id=FLOORING),
        *(c1.call("get_time_slots", project_id=FLOORING, date=f"2026-03-{day}") for day in (13, 16, 17, 18)),
    )
    assert all(each["ok"] for each in found)
    assert [entry["status"] for entry in office.requests("slots")] == [200] * 4


async def test_an_order_with_two_projects_means_the_one_that_is_open(c1: Caller) -> None:
    """A finished part of the same order is not what somebody wants to book."""
    assert (await c1.prepare("get_project_details", project_id="SO-26-1001")).args["project_id"] == FLOORING
    assert (await c1.prepare("get_project_details", project_id="SO-26-1001_2")).args["project_id"] == FINISHED


@pytest.mark.parametrize("name", ["get_project_details", "get_available_dates", "list_notes", "cancel_appointment"])
async def test_foreign_projects_are_unknown_and_never_asked_for(office: Office, c1: Caller, name: str) -> None:
    """The same words as for a number that does not exist, and no request that names the project."""
    said = []
    for project in (FOREIGN_ORDER, FOREIGN_ID, "SO-99-9999_9", "999999"):
        with pytest.raises(NotFound) as refusal:
            await c1.prepare(name, project_id=project)
        said.append(refusal.value.result().data)
    assert all(each == said[0] for each in said)
    assert {entry["endpoint"] for entry in office.requests()} == {"dashboard"}
    assert not [entry for entry in office.requests() if FOREIGN_ID in entry["path"]]


async def test_a_stored_call_of_a_foreign_project_is_not_executed(office: Office, c1: Caller) -> None:
    """Arguments that come back from storage are checked like new ones."""
    prepared = await c1.prepare("get_project_details", project_id=FLOORING)
    prepared.args["project_id"] = FOREIGN_ID
    result = await c1.execute(prepared)
    assert result.data["code"] == "not_found"
    assert not [entry for entry in office.requests() if FOREIGN_ID in entry["path"]]


@pytest.mark.parametrize("field", ["customer_id", "request_id"])
async def test_session_values_are_refused_from_a_model(office: Office, c1: Caller, field: str) -> None:
    """Even the right ones; and before anything is asked upstream."""
    with pytest.raises(InvalidArguments) as refusal:
        await c1.prepare("list_projects", **{field: "7000101"})
    assert refusal.value.facts["errors"][0]["field"] == field
    assert office.requests() == []


async def test_a_call_prepared_for_another_customer_is_refused(office: Office, c1: Caller) -> None:
    """Session values travel in the effective arguments, but they are checked, not trusted."""
    prepared = await c1.prepare("list_projects")
    result = await office.caller("c2").execute(prepared)
    assert result.data["code"] == "invalid_arguments"


async def test_roles_decide_which_tools_exist(office: Office, c1: Caller) -> None:
    """Somebody who is not signed in sees opening hours and a person, no projects."""
    groups = ("scheduling", "information", "notes", "handover")
    assert len(TOOLBOX.specs(groups, c1.ctx.identity)) == 13
    anonymous = office.caller("anon")
    assert [spec.name for spec in TOOLBOX.specs(groups, anonymous.ctx.identity)] == [
        "get_working_hours",
        "request_human",
    ]
    with pytest.raises(UnknownTool):
        await anonymous.prepare("list_projects")
    assert (await anonymous.call("get_working_hours"))["days"][0]["open"] == "8:00 AM"


# --- business accounts ----------------------------------------------------------------------------------------------


async def test_all_locations_are_listed_together(office: Office) -> None:
    """In the order of the session's locations, each project with its location."""
    listed = await office.caller("biz_all").call("list_projects")
    assert [each["location"] for each in listed["projects"]] == [
        "Brookhaven Office",
        "Brookhaven Office",
        "Lakemont Office",
        "Lakemont Office",
        "Lakemont Office",
        "Port Ellis Office",
        "Ridgeway Office",
    ]
    assert listed["by_location"]


async def test_a_location_that_fails_is_named_and_the_others_are_shown(office: Office) -> None:
    """Partial failure is no failure, and no silence either."""
    await office.upstream.arm("dashboard", "http_503", match={"client_id": "20OC02LM"})
    biz = office.caller("biz_all")
    listed = await biz.call("list_projects")
    assert listed["failed_locations"] == ["Lakemont Office"]
    assert listed["count"] == 4
    # A project at that location is not said to be unknown.
    assert (await biz.call("get_project_details", project_id="SR-26-0201_1"))["code"] == "upstream_unavailable"
    assert (await biz.call("get_project_details", project_id="SR-26-0401_1"))["ok"]


async def test_other_peoples_locations_cannot_be_chosen(office: Office) -> None:
    """A site manager sees her own location; the choices are named, nothing is asked."""
    manager = office.caller("biz_lm")
    for name in ("list_projects", "get_working_hours"):
        with pytest.raises(Ambiguous) as refusal:
            await manager.prepare(name, client_id="Ridgeway")
        assert refusal.value.facts["candidates"] == ["Lakemont Office"]
    assert office.requests() == []


# --- dates and slots ------------------------------------------------------------------------------------------------


async def test_dates_cover_the_first_ten_days(c1: Caller) -> None:
    """From tomorrow on, with weekdays, never with slots."""
    found = await c1.call("get_available_dates", project_id=FLOORING)
    assert dates_in(found["dates"]) == [f"2026-03-{day}" for day in (13, 16, 17, 18, 19, 20)]
    assert found["dates"][0]["weekday"] == "Friday"
    assert found["searched"] == {"from": "2026-03-12", "to": "2026-03-21"}
    assert (found["extended"], found["already_scheduled"], found["no_dates"]) == (False, False, False)


async def test_an_empty_search_is_extended_once(office: Office) -> None:
    """To 21 days; when that is empty too, there are none."""
    found = await office.caller("c4").call("get_available_dates", project_id="SO-26-4002_1")
    assert found["extended"]
    assert found["no_dates"]
    assert found["searched"]["to"] == "2026-04-01"


async def test_a_window_without_dates_names_the_nearest(office: Office, c1: Caller) -> None:
    """What is really open, nearest first."""
    found = await c1.call("get_available_dates", project_id=FLOORING, start_date="2026-03-27", end_date="2026-03-29")
    assert found["dates"] == []
    assert dates_in(found["nearest"]) == ["2026-03-26", "2026-03-24", "2026-03-23"]
    later = await office.caller("c4").call("get_available_dates", project_id="440002", start_date="2026-04-06")
    assert dates_in(later["dates"]) == ["2026-04-06", "2026-04-07"]


async def test_a_window_in_the_past_starts_tomorrow(c1: Caller) -> None:
    """Searches move on; nothing before tomorrow is ever offered."""
    found = await c1.call("get_available_dates", project_id=FLOORING, start_date="2026-03-01", end_date="2026-03-17")
    assert found["searched"] == {"from": "2026-03-12", "to": "2026-03-17"}
    assert dates_in(found["dates"]) == ["2026-03-13", "2026-03-16", "2026-03-17"]


async def test_dates_of_a_booked_project_serve_to_move_it(c1: Caller) -> None:
    """The answer says that there is an appointment already."""
    found = await c1.call("get_available_dates", project_id=WINDOWS)
    assert found["already_scheduled"]
    assert "2026-03-19" in dates_in(found["dates"])


@pytest.mark.parametrize(
    ("persona", "project", "reason"),
    [("c1", DECK, "waiting for a permit"), ("c3", "430001", "completed"), ("c4", "440003", "confirming")],
)
async def test_projects_that_cannot_be_booked_say_why(office: Office, persona: str, project: str, reason: str) -> None:
    """With the office's number, and without asking upstream for dates."""
    refusal = await office.caller(persona).call("get_available_dates", project_id=project)
    assert refusal["code"] == "not_schedulable"
    assert reason in refusal["reason"]
    assert refusal["office_phone"].startswith("555-01")
    assert office.requests("dates") == []


async def test_a_project_kept_from_self_service_is_refused_with_the_number(office: Office) -> None:
    """Upstream's `not allowed` ends the matter."""
    refusal = await office.caller("c4").call("get_available_dates", project_id="440001")
    assert (refusal["code"], refusal["office_phone"]) == ("not_allowed", "555-0122")
    assert len(office.requests("dates")) == 1


async def test_slots_open_a_search_of_their_own(office: Office, c1: Caller) -> None:
    """No dates need to have been asked for; nothing of the ticket is shown."""
    found = await c1.call("get_time_slots", project_id=FLOORING, date="2026-03-17")
    assert found["slots"] == ["1:00 PM", "3:00 PM"]
    assert found["times"] == ["13:00", "15:00"]
    assert found["weekday"] == "Tuesday"
    assert "req" not in orjson.dumps(found).decode().replace("require", "")


@pytest.mark.parametrize(
    ("day", "reason"),
    [
        ("2026-03-14", "closed_day"),
        ("2026-04-03", "closed_day"),
        ("2026-03-10", "past"),
        ("2026-03-11", "past"),
        ("2026-06-30", "beyond_horizon"),
        ("2026-03-12", "full"),
    ],
)
async def test_a_day_without_slots_says_why(c1: Caller, day: str, reason: str) -> None:
    """And what is open near it."""
    refusal = await c1.call("get_time_slots", project_id=FLOORING, date=day)
    assert (refusal["code"], refusal["reason"]) == ("date_not_available", reason)
    assert len(refusal["nearest"]) == 3
    assert refusal["office_phone"] == "555-0111"


async def test_an_expired_search_is_opened_again_silently(office: Office, c1: Caller) -> None:
    """Half an hour later the customer notices nothing."""
    await c1.call("get_time_slots", project_id=FLOORING, date="2026-03-16")
    for ticket in office.app.sim.state.tickets.values():
        ticket.open = False  # upstream has closed it, unknown to us
    assert (await c1.call("get_time_slots", project_id=FLOORING, date="2026-03-16"))["ok"]
    prepared = await c1.prepare("confirm_appointment", **slot_of())
    await office.upstream.admin("POST", "clock", {"advance_seconds": 2400})
    assert (await c1.execute(prepared)).status == "ok"


# --- booking --------------------------------------------------------------------------------------------------------


async def test_a_booking_is_restated_then_made(office: Office, c1: Caller) -> None:
    """The restatement holds all a person must read; the receipt says that the office reviews."""
    await c1.call("get_time_slots", project_id=FLOORING, date="2026-03-16")
    prepared = await c1.prepare("confirm_appointment", project_id="SO-26-1001_1", date="2026-03-16", time="10:00 AM")
    assert prepared.args == slot_of()
    assert prepared.restatement["date"] == "2026-03-16"
    assert prepared.restatement["weekday"] == "Monday"
    assert prepared.restatement["time"] == "10:00 AM"
    assert "12 Sample Ln" in prepared.restatement["address"]
    assert prepared.restatement["location"] == "Brookhaven Office"
    assert office.commits() == []
    result = await c1.execute(prepared)
    assert result.status == "ok"
    assert result.upstream_status == 200
    assert result.data["status"] == "Tentatively Scheduled"
    assert result.data["project"]["appointment"]["start"] == "10:00 AM"
    assert result.data["review"] == "office"
    assert office.commits() == ["schedule"]


async def test_booking_refuses_what_was_not_offered(c1: Caller) -> None:
    """With the slots that are."""
    await c1.call("get_time_slots", project_id=FLOORING, date="2026-03-17")
    with pytest.raises(NotOffered) as refusal:
        await c1.prepare("confirm_appointment", **slot_of(day="2026-03-17", start="14:00"))
    assert refusal.value.facts["times"] == ["13:00", "15:00"]


async def test_booking_twice_meets_the_first_appointment(office: Office, c1: Caller) -> None:
    """Also when both calls run at once."""
    await c1.call("get_time_slots", project_id=FLOORING, date="2026-03-16")
    prepared = await c1.prepare("confirm_appointment", **slot_of())
    first, second = await asyncio.gather(c1.execute(prepared), c1.execute(prepared, "effect-2"))
    assert first.status == "ok"
    assert second.data["code"] == "already_scheduled"
    assert second.data["project"]["appointment"]["start"] == "10:00 AM"
    with pytest.raises(Exception, match="already has an appointment"):
        await c1.prepare("confirm_appointment", **slot_of(day="2026-03-18"))
    assert office.commits() == ["schedule"]


async def test_a_pending_booking_survives_the_loss_of_working_state(office: Office, c1: Caller) -> None:
    """Losing it costs a search and nothing else."""
    prepared = await c1.prepare("confirm_appointment", **slot_of())
    c1.forget()
    assert (await c1.execute(prepared)).status == "ok"
    assert office.commits() == ["schedule"]


async def test_a_slot_that_is_taken_leaves_the_others(office: Office, c1: Caller) -> None:
    """The refusal carries what is left, read afresh; nothing else is booked."""
    prepared = await c1.prepare("confirm_appointment", **slot_of(day="2026-03-18", start="13:00"))
    await office.upstream.arm("schedule", "slot_taken", times=1)
    result = await c1.execute(prepared)
    assert result.data["code"] == "slot_taken"
    assert result.data["remaining"] == ["8:00 AM", "10:00 AM", "3:00 PM"]
    assert result.data["weekday"] == "Wednesday"
    assert result.data["nearest"]
    assert office.commits() == []


UNCERTAIN = ["commit_then_drop", "commit_then_500", "timeout", "malformed_json", "empty_200", "http_500", "http_503"]
UNCERTAIN += ["error_in_200", "html_error"]


@pytest.mark.parametrize("mode", UNCERTAIN)
async def test_an_uncertain_booking_is_settled_and_made_once(office: Office, c1: Caller, mode: str) -> None:
    """Whether the first try arrived or not: one booking, and a true receipt."""
    prepared = await c1.prepare("confirm_appointment", **slot_of())
    await office.upstream.arm("schedule", mode, times=1)
    result = await c1.execute(prepared)
    assert result.status == "ok", result.data
    assert result.data["project"]["appointment"]["date"] == "2026-03-16"
    assert office.commits() == ["schedule"]
    assert len(office.requests("schedule")) <= 2


@pytest.mark.parametrize("mode", ["timeout", "http_500", "error_in_200"])
async def test_a_booking_that_stays_unclear_is_unknown(office: Office, c1: Caller, mode: str) -> None:
    """At most one resend; then it is said to be unclear, and reconciling finds that nothing happened."""
    prepared = await c1.prepare("confirm_appointment", **slot_of())
    await office.upstream.arm("schedule", mode)
    result = await c1.execute(prepared)
    assert (result.status, result.data["code"]) == ("unknown", "unknown_outcome")
    assert len([path for path in office.transport.sent if path.endswith("/schedule")]) == 2
    assert await c1.reconcile(prepared) is None
    assert office.commits() == []


@pytest.mark.parametrize("office", ["in_process"], indirect=True)  # reaches into the tools' client
async def test_an_unreadable_dashboard_forbids_the_resend(office: Office, c1: Caller) -> None:
    """Who cannot look must not send again; later the reconciler finds the booking."""
    prepared = await c1.prepare("confirm_appointment", **slot_of())
    await office.upstream.arm("schedule", "commit_then_drop", times=1)
    original = c1.ctx.pf360.projects
    reads = 0

    async def fails_after_the_first(*args: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 2:
            await office.upstream.arm("dashboard", "http_500")
        return await original(*args)

    c1.ctx.pf360.projects = fails_after_the_first
    result = await c1.execute(prepared)
    assert result.status == "unknown"
    assert len(office.requests("schedule")) == 1
    await office.upstream.admin("DELETE", "faults")
    settled = await c1.reconcile(prepared)
    assert settled is not None
    assert settled.data["project"]["appointment"]["start"] == "10:00 AM"


@pytest.mark.parametrize("lag", [1, 3, 40])
async def test_a_lagging_dashboard_never_leads_to_a_second_booking(office: Office, c1: Caller, lag: int) -> None:
    """Not after a clear success, and not after a lost answer."""
    prepared = await c1.prepare("confirm_appointment", **slot_of())
    await office.upstream.arm("dashboard", "stale_read", times=lag)
    result = await c1.execute(prepared)
    assert result.data["project"]["appointment"]["start"] == "10:00 AM"
    listed = await c1.call("list_projects")
    assert listed["projects"][0]["appointment"]["start"] == "10:00 AM"
    with pytest.raises(Exception, match="already has an appointment"):
        await c1.prepare("confirm_appointment", **slot_of(day="2026-03-18"))
    assert office.commits() == ["schedule"]


@pytest.mark.parametrize(("lag", "status"), [(2, "ok"), (200, "unknown")])
async def test_a_lost_answer_and_a_lagging_dashboard(office: Office, c1: Caller, lag: int, status: str) -> None:
    """Settled when the lag ends in time; else unknown. Booked once either way."""
    prepared = await c1.prepare("confirm_appointment", **slot_of())
    await office.upstream.arm("schedule", "commit_then_drop", times=1)
    await office.upstream.arm("dashboard", "stale_read", times=lag)
    assert (await c1.execute(prepared)).status == status
    assert office.commits() == ["schedule"]


async def test_test_mode_books_nothing_and_says_so(office: Office) -> None:
    """No write leaves the house."""
    caller = office.caller("c1", TestMode(confirm=True, cancel=True))
    booked = await caller.call("confirm_appointment", **slot_of())
    moved = await caller.call("reschedule_appointment", **move_of())
    cancelled = await caller.call("cancel_appointment", project_id=WINDOWS)
    assert booked["test_mode"]
    assert moved["test_mode"]
    assert cancelled["test_mode"]
    assert office.commits() == []


# --- moving ---------------------------------------------------------------------------------------------------------


async def test_a_move_restates_both_slots_and_is_one_release_and_one_booking(office: Office, c1: Caller) -> None:
    """Dates and slots come first; the old slot is given up only after the yes."""
    prepared = await c1.prepare("reschedule_appointment", **move_of())
    assert prepared.restatement["old"] == {"date": "2026-03-18", "weekday": "Wednesday", "time": "8:00 AM"}
    assert (prepared.restatement["date"], prepared.restatement["time"]) == ("2026-03-19", "1:00 PM")
    result = await c1.execute(prepared)
    assert result.data["old"]["date"] == "2026-03-18"
    assert result.data["project"]["appointment"]["date"] == "2026-03-19"
    assert office.commits() == ["cancel_reschedule", "schedule"]


@pytest.mark.parametrize("endpoint", ["schedule", "cancel_reschedule"])
@pytest.mark.parametrize("mode", ["commit_then_drop", "commit_then_500", "timeout", "http_503", "empty_200"])
async def test_a_move_survives_an_uncertain_step(office: Office, c1: Caller, endpoint: str, mode: str) -> None:
    """Each half is settled by itself; the saga ends where it should."""
    prepared = await c1.prepare("reschedule_appointment", **move_of())
    await office.upstream.arm(endpoint, mode, times=1)
    result = await c1.execute(prepared)
    assert result.status == "ok", result.data
    assert office.commits() == ["cancel_reschedule", "schedule"]
    assert await office.upstream.standing(WINDOWS) == ("Tentatively Scheduled", NINETEENTH_13H)


async def test_a_move_whose_slot_is_gone_beforehand_changes_nothing(office: Office, c1: Caller) -> None:
    """The new slot is looked at once more before the old one is given up."""
    prepared = await c1.prepare("reschedule_appointment", **move_of())
    await office.upstream.admin("POST", "take", {"project_id": WINDOWS, "date": "2026-03-19", "time": "13:00:00"})
    result = await c1.execute(prepared)
    assert result.data["code"] == "slot_taken"
    assert result.data["old"]["date"] == "2026-03-18"
    assert "1:00 PM" not in result.data["remaining"]
    assert office.commits() == []


async def test_a_move_whose_slot_is_lost_gets_the_old_one_back(office: Office, c1: Caller) -> None:
    """Taken between release and booking: the old appointment is booked again, and that is what is said."""
    prepared = await c1.prepare("reschedule_appointment", **move_of())
    await office.upstream.arm("schedule", "slot_taken", times=1)
    result = await c1.execute(prepared)
    assert result.data["code"] == "move_failed_kept"
    assert "Wednesday, March 18, at 8:00 AM stays" in result.data["user_hint"]
    assert result.data["old"]["time"] == "8:00 AM"
    assert result.data["project"]["appointment"]["date"] == "2026-03-18"
    assert "10:00 AM" in result.data["remaining"]
    assert await office.upstream.standing(WINDOWS) == ("Tentatively Scheduled", "2026-03-18T08:00:00")


async def test_a_move_that_loses_both_slots_says_so(office: Office, c1: Caller) -> None:
    """Nothing is booked: the office's number and what is open."""
    prepared = await c1.prepare("reschedule_appointment", **move_of())
    await office.upstream.arm("schedule", "slot_taken", times=2)
    result = await c1.execute(prepared)
    assert result.data["code"] == "move_failed_released"
    assert result.data["office_phone"] == "555-0111"
    assert result.data["project"]["status"] == "Pending Reschedule"
    assert "appointment" not in result.data["project"]
    assert result.data["remaining"]
    assert result.data["old"]["time"] == "8:00 AM"


async def test_a_move_that_broke_off_after_its_release_is_finished(office: Office, c1: Caller) -> None:
    """Reading back finds it unfinished; running the confirmed move again books the new slot, and releases nothing."""
    prepared = await c1.prepare("reschedule_appointment", **move_of())
    assert await c1.reconcile(prepared) is None
    await office.upstream.release(WINDOWS)
    half_done = await c1.reconcile(prepared)
    assert half_done is not None
    assert (half_done.status, half_done.data["code"]) == ("error", "move_failed_released")
    result = await c1.execute(prepared)
    assert result.status == "ok"
    assert office.commits() == ["cancel_reschedule", "schedule"]
    assert await office.upstream.standing(WINDOWS) == ("Tentatively Scheduled", NINETEENTH_13H)


async def test_a_cancellation_that_broke_off_before_its_note_is_finished(office: Office, c1: Caller) -> None:
    """The reason is saved by reading back, once."""
    prepared = await c1.prepare("cancel_appointment", project_id=WINDOWS, reason="too early")
    await office.upstream.cancel(WINDOWS)
    for _ in range(2):
        settled = await c1.reconcile(prepared)
        assert settled is not None
        assert settled.data["note_saved"]
    assert office.commits() == ["cancel", "add_note"]


async def test_a_move_whose_bookings_stay_unclear_is_unknown(office: Office, c1: Caller) -> None:
    """Both slots are named, and nothing is claimed about either."""
    prepared = await c1.prepare("reschedule_appointment", **move_of())
    await office.upstream.arm("schedule", "http_500")
    result = await c1.execute(prepared)
    assert (result.status, result.data["code"]) == ("unknown", "unknown_outcome")
    assert result.data["old"]["date"] == "2026-03-18"
    assert result.data["new"]["date"] == "2026-03-19"


async def test_a_release_that_stays_unclear_leaves_the_booking_alone(office: Office, c1: Caller) -> None:
    """No new slot is booked while nobody knows whether the old one is gone."""
    prepared = await c1.prepare("reschedule_appointment", **move_of())
    await office.upstream.arm("cancel_reschedule", "http_500")
    result = await c1.execute(prepared)
    assert result.status == "unknown"
    assert office.requests("schedule") == []
    assert await c1.reconcile(prepared) is None


async def test_a_release_may_answer_with_a_search_of_its_own(office: Office, c1: Caller) -> None:
    """That search voids ours."""
    await office.upstream.switch(release_answers_dates=True)
    assert (await c1.call("reschedule_appointment", **move_of()))["ok"]


# --- cancelling -----------------------------------------------------------------------------------------------------


async def test_a_cancellation_keeps_its_reason_as_a_note(office: Office) -> None:
    """Restated with the slot that is lost; the reason is a note of its own."""
    c2 = office.caller("c2")
    prepared = await c2.prepare("cancel_appointment", project_id="420002", reason="we sold the house")
    assert prepared.restatement["reason"] == "we sold the house"
    assert (prepared.restatement["date"], prepared.restatement["time"]) == ("2026-03-19", "1:00 PM")
    result = await c2.execute(prepared)
    assert result.data["note_saved"]
    assert result.data["old"]["date"] == "2026-03-19"
    assert result.data["project"]["status"] == "Ready To Schedule"
    assert office.commits() == ["cancel", "add_note"]
    notes = await c2.call("list_notes", project_id="420002")
    assert notes["notes"][0]["text"] == "Cancellation reason: we sold the house"


async def test_a_failing_reason_does_not_undo_the_cancellation(office: Office) -> None:
    """It is reported."""
    await office.upstream.arm("add_note", "http_500")
    result = await office.caller("c2").call("cancel_appointment", project_id="420002", reason="sold")
    assert result["ok"]
    assert not result["note_saved"]
    assert office.commits() == ["cancel"]


@pytest.mark.parametrize("mode", UNCERTAIN)
async def test_an_uncertain_cancellation_is_settled(office: Office, mode: str) -> None:
    """Cancelled once, and said so."""
    c2 = office.caller("c2")
    prepared = await c2.prepare("cancel_appointment", project_id="420002")
    await office.upstream.arm("cancel", mode, times=1)
    result = await c2.execute(prepared)
    assert result.status == "ok", result.data
    assert "appointment" not in result.data["project"]
    assert office.commits() == ["cancel"]
    settled = await c2.reconcile(prepared)
    assert settled is not None
    assert settled.status == "ok"


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("cancel_appointment", {"project_id": FOREIGN_ID}),
        ("reschedule_appointment", {"project_id": FOREIGN_ID, "new_date": "2026-03-16", "new_time": "08:00"}),
    ],
)
async def test_changes_inside_the_cutoff_are_refused_beforehand(office: Office, name: str, args: JsonObject) -> None:
    """The roof of tomorrow morning: less than 24 hours away."""
    with pytest.raises(Cutoff) as refusal:
        await office.caller("c2").prepare(name, **args)
    facts = refusal.value.facts
    assert (facts["hours"], facts["office_phone"]) == (24, "555-0111")
    assert (facts["date"], facts["time"]) == ("2026-03-12", "8:00 AM")
    assert not office.requests("cancel", "cancel_reschedule")


async def test_the_cutoff_of_upstream_is_told_like_ours(office: Office, c1: Caller) -> None:
    """Time has passed between the question and the yes, on upstream's clock only."""
    prepared = await c1.prepare("cancel_appointment", project_id=WINDOWS)
    frozen = c1.ctx.clock.now()

    class Stopped:
        def now(self) -> Any:
            return frozen

    await office.upstream.admin("POST", "clock", {"set": "2026-03-17T12:00:00-04:00"})
    late = Caller(replace(c1.ctx, clock=Stopped()))
    result = await late.execute(prepared)
    assert result.data["code"] == "cutoff"
    assert result.data["office_phone"] == "555-0111"


async def test_nothing_to_cancel(c1: Caller) -> None:
    """A project without an appointment."""
    assert (await c1.call("cancel_appointment", project_id=FLOORING))["code"] == "not_scheduled"


# --- notes ----------------------------------------------------------------------------------------------------------


async def test_notes_are_added_once_per_effect(office: Office, c1: Caller) -> None:
    """The same effect never writes twice; another one may say the same again later."""
    for _ in range(2):
        saved = await c1.call("add_note", project_id="1001_1", note_text="Ring twice")
        assert saved["code"] == "not_found"
    for _ in range(2):
        saved = await c1.call("add_note", project_id=FLOORING, note_text=" Ring twice ")
        assert saved["note_text"] == "Ring twice"
    assert office.commits() == ["add_note"]
    listed = await c1.call("list_notes", project_id=FLOORING)
    assert listed["count"] == 2
    assert listed["notes"][0] == {
        "author": "Customer via assistant",
        "created_at": "2026-03-11T09:30:00",
        "text": "Ring twice",
        "untrusted": True,
    }


@pytest.mark.parametrize("mode", UNCERTAIN)
async def test_an_uncertain_note_is_saved_once(office: Office, c1: Caller, mode: str) -> None:
    """Read back from the list before anything is sent again."""
    prepared = await c1.prepare("add_note", project_id=FLOORING, note_text="The dog is friendly")
    await office.upstream.arm("add_note", mode, times=1)
    result = await c1.execute(prepared)
    assert result.status == "ok", result.data
    assert office.commits() == ["add_note"]
    settled = await c1.reconcile(prepared)
    assert settled is not None
    assert settled.data["note_text"] == "The dog is friendly"


async def test_reconciling_a_note_that_was_not_saved(c1: Caller) -> None:
    """None: it did not take place."""
    prepared = await c1.prepare("add_note", project_id=FLOORING, note_text="Never sent")
    assert await c1.reconcile(prepared) is None


@pytest.mark.parametrize("text", ["", "   ", "x" * 501, 7, None])
async def test_notes_need_a_text_of_up_to_500_characters(office: Office, c1: Caller, text: Any) -> None:
    """Refused before anything is asked."""
    with pytest.raises(InvalidArguments):
        await c1.prepare("add_note", project_id=FLOORING, note_text=text)
    assert office.requests() == []


# --- information ----------------------------------------------------------------------------------------------------


async def test_the_status_of_an_appointment(office: Office, c1: Caller) -> None:
    """When, with whom, and what can be done about it."""
    status = await c1.call("get_appointment_status", project_id=WINDOWS)
    assert (status["date"], status["start"], status["end"]) == ("2026-03-18", "8:00 AM", "12:00 PM")
    assert status["technician"] == "Tech 204"
    assert status["can_reschedule"]
    assert status["can_cancel"]
    roof = await office.caller("c2").call("get_appointment_status", project_id=FOREIGN_ID)
    assert not roof["can_cancel"]
    assert roof["reason_if_not"] == "cutoff"
    assert "24 hours" in roof["reason"]
    assert roof["hours_until"] == 22.5
    ready = await c1.call("get_appointment_status", project_id=FLOORING)
    assert (ready["scheduled"], ready["can_cancel"], ready["reason_if_not"]) == (False, False, "status")


async def test_details_of_a_project(c1: Caller) -> None:
    """Without customer data."""
    details = await c1.call("get_project_details", project_id=WINDOWS)
    assert (details["store"], details["duration_hours"], details["technician"]) == ("ST-11", 4, "Tech 204")
    finished = await c1.call("get_project_details", project_id=FINISHED)
    assert finished["completed"]["date"] == "2026-02-20"


async def test_working_hours_of_an_office(office: Office, c1: Caller) -> None:
    """The session's own, or a named one of a business account."""
    own = await c1.call("get_working_hours")
    assert own["location"] == "Brookhaven Office"
    assert own["days"][0] == {"day": "Monday", "open": "8:00 AM", "close": "5:00 PM", "closed": False}
    assert own["days"][6]["closed"]
    assert own["open_now"]
    other = await office.caller("biz").call("get_working_hours", client_id="lakemont")
    assert other["days"][5] == {"day": "Saturday", "open": "9:00 AM", "close": "1:00 PM", "closed": False}
    await office.upstream.admin("POST", "clock", {"set": "2026-03-13T18:00:00-04:00"})
    closed = await c1.call("get_working_hours")
    assert not closed["open_now"]
    assert closed["next_open"] == {"date": "2026-03-16", "weekday": "Monday", "time": "8:00 AM"}


async def test_weather_at_the_site(office: Office, c1: Caller) -> None:
    """The customer's only city, or one of a business account's; never another place."""
    assert (await c1.prepare("get_weather")).args == {"location": "Brookhaven"}
    forecast = await c1.call("get_weather", location="brookhaven, FL", date="2026-03-19", category="Windows")
    assert forecast["days"][0]["rain_percent"] == 70
    assert forecast["days"][0]["suitability"] == "bad"
    assert (await c1.call("get_weather", location="Ridgeway"))["code"] == "ambiguous"
    many = await office.caller("biz_all").call("get_weather")
    assert set(many["candidates"]) == {"Brookhaven", "Lakemont", "Port Ellis", "Ridgeway"}
    await office.upstream.arm("weather", "http_500")
    assert (await c1.call("get_weather"))["code"] == "upstream_unavailable"


async def test_a_person_is_asked_for_once(office: Office, c1: Caller) -> None:
    """Recorded, with how the office can be reached."""
    for _ in range(2):
        asked = await c1.call("request_human", reason="upset", summary="Wants the deck repaired at once.")
    assert asked["recorded"]
    assert asked["office_phone"] == "555-0111"
    assert asked["office_open"]
    assert len(office.callbacks.recorded) == 1


# --- trouble upstream -----------------------------------------------------------------------------------------------

READS: list[tuple[str, str, JsonObject]] = [
    ("dashboard", "list_projects", {}),
    ("dates", "get_available_dates", {"project_id": FLOORING}),
    ("slots", "get_time_slots", {"project_id": FLOORING, "date": "2026-03-16"}),
    ("business_hours", "get_working_hours", {}),
    ("list_notes", "list_notes", {"project_id": FLOORING}),
]
BROKEN = ["http_500", "http_503", "timeout", "error_in_200", "malformed_json", "html_error", "empty_200"]
BROKEN += ["commit_then_drop", "commit_then_500"]


@pytest.mark.parametrize("mode", BROKEN)
@pytest.mark.parametrize(("endpoint", "name", "args"), READS)
async def test_reads_survive_two_failures(
    office: Office, c1: Caller, endpoint: str, name: str, args: JsonObject, mode: str
) -> None:
    """The third try answers."""
    await office.upstream.arm(endpoint, mode, times=2)
    assert (await c1.call(name, **args))["ok"]


@pytest.mark.parametrize(("endpoint", "name", "args"), READS)
@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("http_500", "upstream_unavailable"),
        ("empty_200", "upstream_unavailable"),
        ("error_in_200", "upstream_unavailable"),
        ("http_401", "sign_in_again"),
        ("http_403", "forbidden"),
        ("http_404", "upstream_unavailable"),
    ],
)
async def test_reads_that_keep_failing_say_so(
    office: Office, c1: Caller, endpoint: str, name: str, args: JsonObject, mode: str, code: str
) -> None:
    """Never an empty list, never `not found`, and nothing of upstream's own words."""
    await office.upstream.arm(endpoint, mode)
    refusal = await c1.call(name, **args)
    assert refusal["code"] == code
    assert "Simulated" not in refusal["user_hint"]
    assert len(office.requests(endpoint)) == (3 if mode in ("http_500", "empty_200", "error_in_200") else 1)


async def test_a_short_rate_limit_is_waited_for(office: Office, c1: Caller) -> None:
    """One second is worth waiting, twice."""
    await office.upstream.arm("dashboard", "http_429", times=1)
    assert (await c1.call("list_projects"))["ok"]


@pytest.mark.parametrize(("endpoint", "name", "args"), READS)
async def test_drifted_answers_are_understood(
    office: Office, c1: Caller, endpoint: str, name: str, args: JsonObject
) -> None:
    """Other names, numbers for ids, missing fields, unsorted lists: the same facts."""
    plain = await office.caller("c1").call(name, **args)
    await office.upstream.arm("*", "schema_drift")
    drifted = await c1.call(name, **args)
    assert drifted["ok"]
    for key in ("count", "dates", "slots", "times"):
        assert drifted.get(key) == plain.get(key)


async def test_a_whole_booking_under_drift(office: Office, c1: Caller) -> None:
    """Also the writes understand drifted answers."""
    await office.upstream.arm("*", "schema_drift")
    assert (await c1.call("confirm_appointment", **slot_of()))["ok"]
    assert (await c1.call("reschedule_appointment", **move_of()))["ok"]
    assert (await c1.call("add_note", project_id=FLOORING, note_text="hello"))["ok"]


@pytest.mark.parametrize("mode", ["commit_then_drop", "timeout", "commit_then_500"])
async def test_effects_are_settled_over_real_connections(mode: str) -> None:
    """As in this process, but with sockets that are cut or stay silent."""
    listener = listen(0)
    office = Office(port=listener.getsockname()[1])
    server = Server(office.app)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    c1 = office.caller("c1")
    for endpoint in ("schedule", "cancel_reschedule"):
        await office.upstream.arm(endpoint, mode, times=1)
    booked = await c1.outcome("confirm_appointment", **slot_of())
    moved = await c1.outcome("reschedule_appointment", **move_of())
    assert (booked.status, moved.status) == ("ok", "ok")
    assert office.commits() == ["schedule", "cancel_reschedule", "schedule"]
    assert await office.upstream.broken() == {}
    await office.http.aclose()
    server.stop()
    await serving


@pytest.mark.parametrize("office", ["in_process"], indirect=True)  # invocations side by side share nothing
async def test_projects_are_read_once_a_minute_and_once_at_a_time(office: Office, c1: Caller) -> None:
    """Calls side by side share a read; a minute later it is read again."""
    await asyncio.gather(*(c1.call("get_project_details", project_id=FLOORING) for _ in range(5)))
    assert len(office.requests("dashboard")) == 1
    await office.upstream.admin("POST", "clock", {"advance_seconds": 61})
    await c1.call("get_project_details", project_id=FLOORING)
    assert len(office.requests("dashboard")) == 2


async def test_working_state_is_json_and_results_carry_no_ids(office: Office) -> None:
    """State survives a store; no internal id leaves but in links."""
    caller = office.caller("biz_all")
    results = [
        await caller.call("list_projects"),
        await caller.call("get_available_dates", project_id="SR-26-0101_1"),
        await caller.call("get_time_slots", project_id="SR-26-0101_1", date="2026-03-16"),
        await caller.call("confirm_appointment", project_id="SR-26-0101_1", date="2026-03-16", time="8:00 AM"),
        await caller.call("list_notes", project_id="SR-26-0101_1"),
        await caller.call("get_working_hours", client_id="all"),
    ]
    caller.ctx.state.values.update(orjson.loads(orjson.dumps(caller.ctx.state.values)))
    assert (await caller.call("list_projects"))["projects"][0]["status"] == "Tentatively Scheduled"
    shown = orjson.dumps(results).decode()
    for secret in ("7000200", "20OC0", '"510001"', "req-", "ops@example.com", "555-0180"):
        assert secret not in shown
    assert caller.ctx.state.values["offers"] == {}


async def test_an_unsuitable_project_is_refused_before_a_booking(c1: Caller) -> None:
    """A permit is missing."""
    with pytest.raises(NotSchedulable) as refusal:
        await c1.prepare("confirm_appointment", **slot_of(project=DECK))
    assert refusal.value.facts["status"] == "Waiting for Permit"
