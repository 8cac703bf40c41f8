"""The PF360 simulator's operations and rules, over ASGI with the frozen clock (2026-03-11 09:30 at the site)."""

from __future__ import annotations

import asyncio
import copy
import re
import time
from typing import Any

import jwt
import pytest

from backend.embedded.pf360_simulator.fixture import FIXTURE_PATH, read_fixture
from backend.embedded.pf360_simulator.statuses import status_group
from tests.unit.pf360_calls import BK, LM, PE, RW, Pf360, code_of, fixture_caller, token

FLOORING, WINDOWS, DECK, MEASURED = "410001", "410002", "410003", "410004"


@pytest.fixture
def pf() -> Pf360:
    return fixture_caller()


def coordinator(pf: Pf360, clients: tuple[str, ...] = (BK,)) -> Pf360:
    return pf.other(None, clients, role="coordinator", sub="K-01")


# --- reads ----------------------------------------------------------------------------------------------------------


async def test_dashboard_lists_all_projects_of_a_customer_at_a_client(pf: Pf360) -> None:
    """E1 in the upstream's flat names, terminal projects included, in the fixture's order."""
    rows = (await pf.dashboard()).json()["data"]
    assert [row["project_project_id"] for row in rows] == [FLOORING, WINDOWS, DECK, MEASURED, "410005"]
    windows = rows[1]
    assert windows["project_project_number"] == "SO-26-1002_1"
    assert windows["status_info_status"] == "Scheduled"
    assert windows["convertedProjectStartScheduledDate"] == "2026-03-18 08:00:00"
    assert windows["convertedProjectEndScheduledDate"] == "2026-03-18 12:00:00"
    assert (windows["user_idata_first_name"], windows["user_idata_last_name"]) == ("Tech", "204")
    assert windows["installation_address_full_address"] == "12 Sample Ln, Brookhaven, FL 34901"
    assert (windows["service_time_duration_value"], windows["service_time_duration_type"]) == ("4", "hours")
    assert rows[0]["convertedProjectStartScheduledDate"] is None
    assert rows[0]["user_idata_user_id"] is None
    assert rows[3]["project_date_completed_date"] == "2026-02-20"


async def test_business_account_sees_each_location_and_a_site_manager_only_theirs(pf: Pf360) -> None:
    owner = pf.other("7000200", (BK, LM, PE, RW), LM)
    assert len((await owner.dashboard("7000200")).json()["data"]) == 3
    manager = pf.other("7000200", (LM,), BK)
    assert code_of(await manager.dashboard("7000200")) == (403, "forbidden")


async def test_business_hours_name_closed_days_and_the_zone(pf: Pf360) -> None:
    data = (await pf.get(f"/scheduler/client/{BK}/business-hours")).json()["data"]
    hours = {row["day"]: (row["is_working"], row["start"], row["end"]) for row in data["workHours"]}
    assert hours["Monday"] == (True, "08:00", "17:00")
    assert hours["Sunday"] == (False, None, None)
    assert (data["timezone"], data["client_id"], data["closed_dates"]) == ("America/New_York", BK, ["2026-04-03"])


async def test_dates_run_from_tomorrow_to_the_horizon_and_open_a_request(pf: Pf360) -> None:
    data = (await pf.dates(FLOORING)).json()["data"]
    assert data["dates"][0] == "2026-03-13"
    assert data["dates"][-1] == "2026-04-02"
    assert re.fullmatch(r"req-[0-9a-f]+", data["request_id"])
    assert (await pf.dates(FLOORING, "2026-03-20")).json()["data"]["dates"][0] == "2026-03-20"
    await pf.admin("POST", "clock", {"set": "2026-03-23T08:00:00"})
    assert (await pf.dates(FLOORING, "2026-03-23")).json()["data"]["dates"][0] == "2026-03-24"


async def test_slots_of_a_day_as_the_upstream_spells_them(pf: Pf360) -> None:
    request_id = await pf.request_id(FLOORING)
    data = (await pf.slots(FLOORING, "2026-03-31", request_id)).json()["data"]
    assert data == {"date": "2026-03-31", "slots": ["09:30:00", "12:30:00", "16:00:00"], "request_id": request_id}
    assert code_of(await pf.slots(FLOORING, "2026-03-21", request_id)) == (400, "validation")
    assert code_of(await pf.slots(FLOORING, "2026-03-11", request_id)) == (400, "validation")
    assert code_of(await pf.slots(FLOORING, "2026-02-30", request_id)) == (400, "validation")


async def test_a_day_whose_slots_are_all_taken_stays_readable(pf: Pf360) -> None:
    request_id = await pf.request_id(FLOORING)
    await pf.admin("POST", "take", {"project_id": FLOORING, "date": "2026-03-20", "time": "15:00:00"})
    assert (await pf.slots(FLOORING, "2026-03-20", request_id)).json()["data"]["slots"] == []
    assert "2026-03-20" not in (await pf.dates(FLOORING)).json()["data"]["dates"]


async def test_notes_are_listed_and_stored_text_is_plain_data(pf: Pf360) -> None:
    notes = (await pf.notes(WINDOWS)).json()["data"]
    assert [note["note_id"] for note in notes] == ["note-9002", "note-9003"]
    assert set(notes[0]) == {"note_id", "project_id", "note_text", "author", "created_at", "updated_at"}
    assert code_of(await pf.notes("420002")) == (404, "not_found")


async def test_weather_covers_ten_days_in_the_wttr_shape(pf: Pf360) -> None:
    answer = await pf.http.get("/weather/Brookhaven, FL", params={"format": "j1"})
    days = answer.json()["weather"]
    assert [day["date"] for day in days][:2] == ["2026-03-11", "2026-03-12"]
    assert len(days) == 10
    storm = days[1]
    assert (storm["maxtempF"], storm["mintempF"]) == ("74", "62")
    hour = storm["hourly"][0]
    assert hour["weatherDesc"] == [{"value": "Thunderstorm"}]
    assert (hour["chanceofrain"], hour["windspeedMiles"]) == ("80", "24")
    ordinary = days[5]
    assert (ordinary["maxtempF"], ordinary["hourly"][0]["weatherDesc"][0]["value"]) == ("76", "Clear")
    assert answer.json()["current_condition"][0]["weatherDesc"][0]["value"] == "Cloudy"
    assert len((await pf.http.get("/weather/port%20ellis?format=j1&days=3")).json()["weather"]) == 3
    assert code_of(await pf.http.get("/weather/Atlantis?format=j1")) == (404, "not_found")
    assert code_of(await pf.http.get("/weather/Lakemont?format=j1&days=11")) == (400, "validation")
    assert code_of(await pf.http.get("/weather/Lakemont?format=v2")) == (400, "validation")


# --- booking --------------------------------------------------------------------------------------------------------


async def test_booking_is_tentative_until_the_office_approves(pf: Pf360) -> None:
    answer = await pf.book(FLOORING, "2026-03-16", "10:00:00")
    body = answer.json()
    assert body["status"] == "success"
    assert "review" in body["message"]
    assert body["data"]["scheduled_date"] == "2026-03-16"
    assert body["data"]["scheduled_time"] == "10:00:00"
    assert body["data"]["confirmation_number"]
    assert await pf.standing(FLOORING) == ("Tentatively Scheduled", "2026-03-16T10:00:00")
    assert (await pf.row(FLOORING))["convertedProjectEndScheduledDate"] == "2026-03-16 14:00:00"
    await pf.admin("POST", "approve", {"project_id": FLOORING, "technician": "Tech 9"})
    row = await pf.row(FLOORING)
    assert (row["status_info_status"], row["user_idata_last_name"]) == ("Scheduled", "9")
    again = await pf.admin("POST", "approve", {"project_id": FLOORING})
    assert code_of(again) == (400, "invalid_step")


async def test_a_request_is_consumed_by_its_booking_and_a_resend_is_an_invalid_step(pf: Pf360) -> None:
    request_id = await pf.request_id(FLOORING)
    assert (await pf.schedule(FLOORING, "2026-03-16", "10:00:00", request_id)).status_code == 200
    assert code_of(await pf.schedule(FLOORING, "2026-03-16", "10:00:00", request_id)) == (400, "invalid_step")
    await pf.cancel(FLOORING)
    assert code_of(await pf.schedule(FLOORING, "2026-03-16", "10:00:00", request_id)) == (410, "request_expired")
    assert code_of(await pf.slots(FLOORING, "2026-03-16", request_id)) == (410, "request_expired")


async def test_a_request_lives_thirty_minutes(pf: Pf360) -> None:
    request_id = await pf.request_id(FLOORING)
    await pf.admin("POST", "clock", {"advance_seconds": 1799})
    assert (await pf.slots(FLOORING, "2026-03-16", request_id)).status_code == 200
    await pf.admin("POST", "clock", {"advance_seconds": 1})
    assert code_of(await pf.schedule(FLOORING, "2026-03-16", "10:00:00", request_id)) == (410, "request_expired")


async def test_a_new_dates_call_replaces_the_request(pf: Pf360) -> None:
    old = await pf.request_id(FLOORING)
    new = await pf.request_id(FLOORING)
    assert code_of(await pf.slots(FLOORING, "2026-03-16", old)) == (410, "request_expired")
    assert (await pf.slots(FLOORING, "2026-03-16", new)).status_code == 200


async def test_a_request_is_bound_to_project_and_customer(pf: Pf360) -> None:
    request_id = await pf.request_id(FLOORING)
    assert code_of(await pf.slots("410005", "2026-03-13", request_id)) == (400, "validation")
    staff = coordinator(pf)
    assert code_of(await staff.schedule(FLOORING, "2026-03-16", "10:00:00", request_id)) == (400, "validation")
    assert code_of(await pf.schedule(FLOORING, "2026-03-16", "10:00:00", "410001")) == (400, "validation")
    forgotten = "req-" + "0" * 24
    assert code_of(await pf.schedule(FLOORING, "2026-03-16", "10:00:00", forgotten)) == (410, "request_expired")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"date": "03/16/2026"}, 400),
        ({"date": "2026-02-30"}, 400),
        ({"date": "2026-03-11"}, 400),
        ({"date": "2026-03-21"}, 400),
        ({"date": "2027-03-16"}, 400),
        ({"time": "10:00"}, 400),
        ({"time": "25:00:00"}, 400),
        ({"time": "09:00:00"}, 400),
        ({"request_id": None}, 400),
        ({"request_id": ""}, 400),
        ({"is_chatbot": True}, 400),
        ({"created_at": "2026-03-11T13:30:00"}, 400),
        ({"created_at": "03/11/2026 13:30:00"}, 200),
        ({"aIBot": True}, 200),
    ],
)
async def test_booking_fields_are_checked(pf: Pf360, change: dict[str, Any], status: int) -> None:
    request_id = await pf.request_id(FLOORING)
    answer = await pf.schedule(FLOORING, "2026-03-16", "10:00:00", **({"request_id": request_id} | change))
    assert answer.status_code == status, answer.text
    if status == 400:
        assert code_of(answer) == (400, "validation")
        assert await pf.commits() == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff"])
async def test_a_malformed_body_is_unprocessable(pf: Pf360, content: bytes) -> None:
    for path in (f"/scheduler/client/{BK}/project/{FLOORING}/schedule", f"/project-notes/add/{BK}/{FLOORING}"):
        assert code_of(await pf.http.post(path, headers=pf.headers, content=content)) == (422, "validation")


async def test_a_slot_somebody_else_took_is_a_conflict(pf: Pf360) -> None:
    request_id = await pf.request_id(FLOORING)
    await pf.admin("POST", "take", {"project_id": FLOORING, "date": "2026-03-16", "time": "10:00:00"})
    assert code_of(await pf.schedule(FLOORING, "2026-03-16", "10:00:00", request_id)) == (409, "slot_taken")
    slots = (await pf.slots(FLOORING, "2026-03-16", request_id)).json()["data"]["slots"]
    assert slots == ["08:00:00", "13:00:00", "15:00:00"]
    assert (await pf.schedule(FLOORING, "2026-03-16", "13:00:00", request_id)).status_code == 200


async def test_of_two_concurrent_bookings_exactly_one_wins(pf: Pf360) -> None:
    request_id = await pf.request_id(FLOORING)
    answers = await asyncio.gather(
        *(pf.schedule(FLOORING, "2026-03-16", slot, request_id) for slot in ("10:00:00", "10:00:00", "13:00:00"))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400]
    assert len(await pf.commits()) == 1
    assert await pf.broken() == {}


async def test_with_shared_capacity_equal_slots_of_one_client_compete(pf: Pf360) -> None:
    await pf.switch(shared_capacity=True)
    other = pf.other("7000200", (BK,))
    mine, theirs = await pf.request_id(FLOORING), await other.request_id("510001")
    answers = await asyncio.gather(
        pf.schedule(FLOORING, "2026-03-16", "10:00:00", mine),
        other.schedule("510001", "2026-03-16", "10:00:00", theirs),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert code_of(next(answer for answer in answers if answer.status_code == 409)) == (409, "slot_taken")
    assert await pf.broken() == {}


@pytest.mark.parametrize(("project_id", "customer_id"), [(DECK, "7000101"), (MEASURED, "7000101")])
async def test_projects_on_hold_or_done_have_no_dates_and_cannot_be_booked(
    pf: Pf360, project_id: str, customer_id: str
) -> None:
    assert code_of(await pf.dates(project_id)) == (400, "not_allowed")
    assert code_of(await pf.schedule(project_id, "2026-03-16", "10:00:00", "req-x")) == (400, "invalid_step")
    assert code_of(await pf.release(project_id)) == (400, "invalid_step")
    assert code_of(await pf.cancel(project_id)) == (400, "invalid_step")


async def test_a_project_marked_not_allowed_refuses_everything_but_notes(pf: Pf360) -> None:
    fence = pf.other("7000104", (LM,))
    answer = await fence.dates("440001")
    assert code_of(answer) == (400, "not_allowed")
    assert "not allowed" in answer.json()["message"].lower()
    assert code_of(await fence.schedule("440001", "2026-03-16", "10:00:00", "req-x")) == (400, "not_allowed")
    assert code_of(await fence.cancel("440001")) == (400, "not_allowed")
    assert (await fence.note("440001", "Please call")).status_code == 200


# --- moving, cancelling, notes --------------------------------------------------------------------------------------


async def test_moving_reads_dates_first_then_releases_then_books_with_the_same_request(pf: Pf360) -> None:
    """The v1 dates call answers on booked projects, and E7 leaves the request alive."""
    request_id = await pf.request_id(WINDOWS)
    assert (await pf.release(WINDOWS)).json()["data"]["cancellation_id"]
    assert await pf.standing(WINDOWS) == ("Pending Reschedule", None)
    assert (await pf.schedule(WINDOWS, "2026-03-19", "13:00:00", request_id)).status_code == 200
    assert await pf.standing(WINDOWS) == ("Tentatively Scheduled", "2026-03-19T13:00:00")
    release, schedule = await pf.commits()
    assert (release["kind"], schedule["kind"]) == ("cancel_reschedule", "schedule")
    assert release["before"]["start"] == "2026-03-18T08:00:00"
    assert schedule["before"]["status"] == "Pending Reschedule"


async def test_a_released_slot_can_be_booked_back(pf: Pf360) -> None:
    request_id = await pf.request_id(WINDOWS)
    await pf.release(WINDOWS)
    await pf.admin("POST", "take", {"project_id": WINDOWS, "date": "2026-03-19", "time": "13:00:00"})
    assert code_of(await pf.schedule(WINDOWS, "2026-03-19", "13:00:00", request_id)) == (409, "slot_taken")
    assert (await pf.schedule(WINDOWS, "2026-03-18", "08:00:00", request_id)).status_code == 200
    assert await pf.broken(lost_after_seconds="-1") == {}


async def test_release_answers_dates_when_switched(pf: Pf360) -> None:
    await pf.switch(release_answers_dates=True)
    request_id = await pf.request_id(WINDOWS)
    data = (await pf.release(WINDOWS)).json()["data"]
    assert data["request_id"] == request_id
    assert "2026-03-18" in data["dates"]


async def test_cancelling_makes_a_project_bookable_again(pf: Pf360) -> None:
    gutters = pf.other("7000102", (BK,))
    assert (await gutters.cancel("420002")).json()["message"]
    assert await pf.standing("420002") == ("Ready To Schedule", None)
    assert "2026-03-19" in (await gutters.dates("420002")).json()["data"]["dates"]
    assert code_of(await gutters.cancel("420002")) == (400, "invalid_step")
    [commit] = await pf.commits()
    assert (commit["kind"], commit["project_id"], commit["caller"]["customer_id"]) == ("cancel", "420002", "7000102")
    assert commit["before"]["start"] == "2026-03-19T13:00:00"
    assert commit["after"] == {"status": "Ready To Schedule", "start": None, "end": None, "technician": None}


async def test_a_move_that_was_begun_can_be_ended_by_cancelling(pf: Pf360) -> None:
    await pf.release(WINDOWS)
    assert (await pf.cancel(WINDOWS)).status_code == 200
    assert await pf.standing(WINDOWS) == ("Ready To Schedule", None)
    assert await pf.broken(lost_after_seconds="-1") == {}


async def test_customers_cannot_change_within_24_hours_of_the_start_the_office_can(pf: Pf360) -> None:
    roof = pf.other("7000102", (BK,))
    assert code_of(await roof.cancel("420001")) == (409, "cutoff")
    assert code_of(await roof.release("420001")) == (409, "cutoff")
    assert await pf.standing("420001") == ("Scheduled", "2026-03-12T08:00:00")
    await pf.admin("POST", "clock", {"set": "2026-03-11T08:00:00"})
    assert (await roof.cancel("420001")).status_code == 200
    await pf.admin("POST", "reset")
    assert (await coordinator(pf).cancel("420001")).status_code == 200


async def test_the_cutoff_is_measured_in_real_hours_where_clocks_change(pf: Pf360) -> None:
    """Clocks in the fixture's zone go back on 2026-11-01: 24 wall-clock hours are 25 real ones."""
    fixture = copy.deepcopy(read_fixture())
    windows = next(row for row in fixture["projects"] if row["project_id"] == WINDOWS)
    windows |= {"start": "2026-11-01T08:00:00", "end": "2026-11-01T12:00:00"}
    await pf.admin("POST", "reset", {"fixture": fixture})
    await pf.admin("POST", "clock", {"set": "2026-10-31T08:30:00-04:00"})
    assert (await pf.cancel(WINDOWS)).status_code == 200


async def test_notes_are_added_with_author_and_logged(pf: Pf360) -> None:
    body = (await pf.note(FLOORING, "Call the spouse first", author="Customer via assistant")).json()
    assert body["note_id"] == "note-9005"
    assert body["data"]["created_at"] == "2026-03-11T09:30:00"
    notes = (await pf.notes(FLOORING)).json()["data"]
    assert [note["note_text"] for note in notes] == ["Old carpet stays until install day.", "Call the spouse first"]
    [commit] = await pf.commits()
    assert (commit["kind"], commit["note"]["note_text"]) == ("add_note", "Call the spouse first")


@pytest.mark.parametrize(("text", "status"), [("", 400), ("  ", 400), ("x" * 501, 400), (7, 422), (None, 422)])
async def test_note_texts_are_checked(pf: Pf360, text: object, status: int) -> None:
    assert code_of(await pf.note(FLOORING, text)) == (status, "validation")
    assert (await pf.note(FLOORING, "x" * 500)).status_code == 200


# --- who may ask ----------------------------------------------------------------------------------------------------


async def test_tokens_are_required_signed_and_unexpired(pf: Pf360) -> None:
    path = f"/dashboard/get/{BK}/7000101"
    forged = jwt.encode({"sub": "x", "exp": time.time() + 60}, "another-secret-that-is-long-enough", algorithm="HS256")
    unsigned = jwt.encode({"sub": "x", "exp": time.time() + 60}, "", algorithm="none")
    bad = [None, "Basic abc", "Bearer", "Bearer not-a-token", f"Bearer {forged}", f"Bearer {unsigned}"]
    bad.append(f"Bearer {token(exp=1773200000)}")  # half an hour before the frozen clock
    bad.append(f"Bearer {token(exp='soon')}")
    for header in bad:
        headers = {"client_id": BK} | ({"authorization": header} if header else {})
        assert code_of(await pf.http.get(path, headers=headers)) == (401, "auth"), header
    headers = {"client_id": BK, "authorization": f"Bearer {token(role='anonymous')}"}
    assert code_of(await pf.http.get(path, headers=headers)) == (403, "forbidden")


async def test_a_token_expires_by_the_simulators_clock(pf: Pf360) -> None:
    short = pf.other("7000101", (BK,), exp=1773235800 + 1800)  # frozen clock + 30 min
    assert (await short.dashboard()).status_code == 200
    await pf.admin("POST", "clock", {"advance_seconds": 1800})
    assert code_of(await short.dashboard()) == (401, "auth")


async def test_the_client_header_must_match_path_and_claims(pf: Pf360) -> None:
    path = f"/dashboard/get/{BK}/7000101"
    authorization = pf.headers["authorization"]
    assert code_of(await pf.http.get(path, headers={"authorization": authorization})) == (400, "validation")
    wrong = {"authorization": authorization, "client_id": LM}
    assert code_of(await pf.http.get(path, headers=wrong)) == (403, "forbidden")
    two = pf.other("7000101", (BK, LM))
    assert code_of(await two.get(f"/dashboard/get/{LM}/7000101")) == (403, "forbidden")


async def test_ids_outside_the_scope_look_like_unknown_ones(pf: Pf360) -> None:
    """Another customer's project, another client's project and no project at all: one answer."""
    answers = []
    for project_id in ("420001", "450001", "999999"):
        answers += [await pf.dates(project_id), await pf.cancel(project_id), await pf.release(project_id)]
        answers += [await pf.note(project_id, "hello"), await pf.notes(project_id)]
        answers.append(await pf.schedule(project_id, "2026-03-16", "10:00:00", "req-x"))
    answers += [await pf.dashboard("7000102"), await pf.dashboard("1")]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    assert await pf.commits() == []


async def test_head_never_changes_state(pf: Pf360) -> None:
    answer = await pf.http.head(f"/scheduler/{BK}/{WINDOWS}/cancel-appointment", headers=pf.headers)
    assert answer.status_code == 405
    assert await pf.commits() == []
    assert code_of(await pf.get("/nowhere")) == (404, "not_found")
    assert (await pf.post(f"/dashboard/get/{BK}/7000101", {})).status_code == 405


# --- coordinators ---------------------------------------------------------------------------------------------------


async def test_coordinator_reads_the_work_list_in_batches(pf: Pf360) -> None:
    staff = coordinator(pf)
    body = (await staff.get("/projects/batch", ids="500101,500112,500999")).json()
    free, assigned = body["data"]
    assert free["permit_status"] == "approved"
    assert (free["lat"], free["lng"], free["estimated_hours"], free["team"]) == (28.010, -82.010, 2, None)
    assert assigned["team"] == "Team A"
    assert assigned["scheduled"] == {"date": "2026-03-16", "start": "08:00", "end": "12:00"}
    assert body["missing"] == ["500999"]
    assert code_of(await staff.get("/projects/batch")) == (400, "validation")
    many = ",".join(str(n) for n in range(101))
    assert code_of(await staff.get("/projects/batch", ids=many)) == (400, "validation")


async def test_customers_have_no_coordinator_operations(pf: Pf360) -> None:
    for answer in (
        await pf.get("/projects/batch", ids="500101"),
        await pf.get("/teams"),
        await pf.get("/teams/Team A/schedule"),
        await pf.post("/assignments/bulk", {"assignments": []}),
        await pf.post("/validation/batch", {"project_ids": ["500101"]}),
    ):
        assert code_of(answer) == (403, "forbidden")


async def test_validation_grades_what_is_missing(pf: Pf360) -> None:
    ids = ["500101", "500104", "500107", "500109", "500111", "500112"]
    data = (await coordinator(pf).post("/validation/batch", {"project_ids": ids})).json()["data"]
    graded = {row["project_id"]: [(i["type"], i["severity"]) for i in row["issues"]] for row in data["projects"]}
    assert graded == {
        "500101": [],
        "500104": [("permit", "blocking")],
        "500107": [("measurement", "error")],
        "500109": [("access", "warning")],
        "500111": [("permit", "blocking"), ("measurement", "error")],
        "500112": [],
    }
    assert data["summary"] == {"ready_to_schedule": 3, "requires_action": 1, "blocked": 2}
    only = {"project_ids": ["500111"], "checks": ["measurement"]}
    data = (await coordinator(pf).post("/validation/batch", only)).json()["data"]
    assert data["projects"][0]["checks"]["permit_valid"] is True
    bad = await coordinator(pf).post("/validation/batch", {"project_ids": ["500101"], "checks": ["price"]})
    assert code_of(bad) == (400, "validation")


async def test_assignments_succeed_or_fail_one_by_one(pf: Pf360) -> None:
    staff = coordinator(pf)
    items = [
        {"project_id": "500101", "team": "Team B", "date": "2026-03-16", "start": "08:00"},
        {"project_id": "500104", "team": "Team B", "date": "2026-03-16", "start": "10:00"},
        {"project_id": "500112", "team": "Team B", "date": "2026-03-17", "start": "08:00:00"},
        {"project_id": "1", "team": "Team B", "date": "2026-03-16", "start": "08:00"},
        {"project_id": "500102", "team": "Team Z", "date": "2026-03-16", "start": "08:00"},
        {"project_id": "500102", "team": "Team B", "date": "2026-03-10", "start": "08:00"},
        {"project_id": "500102", "team": "Team B", "date": "2026-03-16", "start": "8 am"},
        {"project_id": "500108", "team": "Team B", "date": "2026-03-16", "start": "20:00"},
    ]
    results = (await staff.post("/assignments/bulk", {"assignments": items, "actor": "K-01"})).json()["data"]
    assert [(row["status"], row.get("reason")) for row in results] == [
        ("assigned", None),
        ("failed", "permit_not_approved"),
        ("assigned", None),
        ("failed", "not_found"),
        ("failed", "unknown_team"),
        ("failed", "past_date"),
        ("failed", "invalid_time"),
        ("failed", "invalid_time"),
    ]
    [commit] = await pf.commits()
    assert (commit["kind"], commit["actor"], commit["caller"]["role"]) == ("assign", "K-01", "coordinator")
    assert [change["project_id"] for change in commit["assignments"]] == ["500101", "500112"]
    assert commit["assignments"][1]["before"]["team"] == "Team A"
    await staff.post("/assignments/bulk", {"assignments": items[:1]})
    assert len(await pf.commits()) == 1, "a repeated assignment changes nothing"
    assert code_of(await staff.post("/assignments/bulk", {"assignments": "x"})) == (422, "validation")
    assert code_of(await staff.post("/assignments/bulk", {"assignments": []})) == (400, "validation")


async def test_team_calendars_follow_the_assignments(pf: Pf360) -> None:
    staff = coordinator(pf)
    assert [team["team"] for team in (await staff.get("/teams")).json()["data"]] == ["Team A", "Team B", "Team C"]
    calendar = (await staff.get("/teams/Team A/schedule")).json()["data"]
    assert calendar == {
        "team": "Team A",
        "capacity_hours_per_day": 8,
        "vacation": ["2026-03-19"],
        "busy": [{"date": "2026-03-16", "start": "08:00", "end": "12:00", "project_id": "500112"}],
    }
    item = {"project_id": "500112", "team": "Team B", "date": "2026-03-18", "start": "09:00"}
    await staff.post("/assignments/bulk", {"assignments": [item]})
    assert (await staff.get("/teams/Team A/schedule")).json()["data"]["busy"] == []
    busy = (await staff.get("/teams/Team B/schedule", **{"from": "2026-03-18", "to": "2026-03-18"})).json()["data"][
        "busy"
    ]
    assert busy == [{"date": "2026-03-18", "start": "09:00", "end": "13:00", "project_id": "500112"}]
    assert (await staff.get("/teams/Team B/schedule", to="2026-03-17")).json()["data"]["busy"] == []
    assert code_of(await staff.get("/teams/Team Z/schedule")) == (404, "not_found")
    lakemont = pf.other(None, (LM,), role="coordinator", sub="K-02")
    assert code_of(await lakemont.get("/teams/Team A/schedule")) == (404, "not_found")


# --- the admin API --------------------------------------------------------------------------------------------------


async def test_admin_operations_need_the_secret(pf: Pf360) -> None:
    assert (await pf.http.get("/_sim/healthz")).json() == {"status": "ok"}
    for method, path in (("GET", "state"), ("POST", "reset"), ("GET", "clock"), ("GET", "commits"), ("GET", "log")):
        assert code_of(await pf.http.request(method, f"/_sim/{path}")) == (401, "auth")
        wrong = {"x-sim-secret": "wrong"}
        assert code_of(await pf.http.request(method, f"/_sim/{path}", headers=wrong)) == (401, "auth")
    assert code_of(await pf.admin("GET", "nothing")) == (404, "not_found")


async def test_reset_gives_a_fresh_copy_in_milliseconds(pf: Pf360) -> None:
    await pf.book(FLOORING, "2026-03-16", "10:00:00")
    await pf.note(FLOORING, "hello")
    await pf.arm("*", "http_503")
    await pf.admin("POST", "latency", {"profile": "slow"})
    await pf.admin("POST", "clock", {"advance_seconds": 86400})
    await pf.switch(lenient=True)
    started = time.process_time()
    answer = (await pf.admin("POST", "reset")).json()
    assert time.process_time() - started < 0.05, "CPU time, so that a busy machine does not matter"
    assert answer["now"] == "2026-03-11T09:30:00-04:00"
    state = (await pf.admin("GET", "state")).json()
    assert (state["faults"], state["latency"], state["switches"]["lenient"], state["commit_count"]) == (
        [],
        "instant",
        False,
        0,
    )
    assert state["projects"][FLOORING]["status"] == "Ready To Schedule"
    assert len(state["notes"][FLOORING]) == 1
    assert (await pf.dates(FLOORING)).json()["data"]["dates"][0] == "2026-03-13"


async def test_reset_takes_another_fixture_or_leaves_all_as_it_was(pf: Pf360) -> None:
    fixture = copy.deepcopy(read_fixture())
    fixture["projects"] = fixture["projects"][:1]
    assert (await pf.admin("POST", "reset", {"fixture": fixture})).status_code == 200
    assert len((await pf.dashboard()).json()["data"]) == 1
    assert code_of(await pf.admin("POST", "reset", {"fixture": {"now": "x"}})) == (400, "validation")
    fixture["projects"][0]["availability"] = {"2026-03-16": "no such template"}
    assert code_of(await pf.admin("POST", "reset", {"fixture": fixture})) == (400, "validation")
    assert len((await pf.dashboard()).json()["data"]) == 1
    await pf.admin("POST", "reset")
    assert len((await pf.dashboard()).json()["data"]) == 5


async def test_the_clock_can_be_set_advanced_and_let_run(pf: Pf360) -> None:
    clock = (await pf.admin("GET", "clock")).json()
    expected = {"now": "2026-03-11T09:30:00-04:00", "frozen": True, "timezone": "America/New_York", "mode": "fixture"}
    assert clock == expected
    moved = (await pf.admin("POST", "clock", {"set": "2026-03-12T10:00:00", "advance_seconds": 90})).json()
    assert (moved["now"], moved["frozen"]) == ("2026-03-12T10:01:30-04:00", True)
    assert (await pf.admin("POST", "clock", {"run": True})).json()["frozen"] is False
    first = (await pf.admin("GET", "clock")).json()["now"]
    second = (await pf.admin("GET", "clock")).json()["now"]
    assert "2026-03-12T10:01:30" < first < second < "2026-03-12T10:01:40"
    assert (await pf.admin("POST", "clock", {"run": False})).json()["frozen"] is True
    stopped = (await pf.admin("GET", "clock")).json()
    bad: list[dict[str, object]] = [
        {"set": "tomorrow"},
        {"set": 5},
        {"set": "0001-01-01"},
        {"set": "9999-12-31T23:59:59"},
    ]
    bad += [{"advance_seconds": "1"}, {"advance_seconds": 1e300}, {"advance_seconds": -1e12}, {"run": 1}, {"jump": 1}]
    for body in bad:
        assert code_of(await pf.admin("POST", "clock", body)) == (400, "validation")
    assert (await pf.admin("GET", "clock")).json() == stopped


async def test_commits_and_requests_are_logged_without_tokens(pf: Pf360) -> None:
    await pf.book(FLOORING, "2026-03-16", "10:00:00")
    await pf.release("420001")
    [commit] = await pf.commits()
    assert commit["seq"] == 1
    assert commit["at"] == "2026-03-11T09:30:00-04:00"
    assert (commit["source"], commit["method"]) == ("api", "POST")
    assert commit["path"].endswith("/schedule")
    assert (commit["project_id"], commit["client_id"], commit["customer_id"]) == (FLOORING, BK, "7000101")
    assert commit["before"] == {"status": "Ready To Schedule", "start": None, "end": None, "technician": None}
    assert commit["after"]["start"] == "2026-03-16T10:00:00"
    assert commit["request_id"].startswith("req-")
    await pf.admin("POST", "approve", {"project_id": FLOORING})
    assert [c["source"] for c in (await pf.admin("GET", "commits", after="1")).json()["commits"]] == ["admin"]
    log = await pf.admin("GET", "log")
    requests = log.json()["requests"]
    assert [(r["endpoint"], r["status"], r["fault"]) for r in requests] == [
        ("dates", 200, None),
        ("schedule", 200, None),
        ("cancel_reschedule", 404, None),
    ]
    assert requests[0]["caller"] == {"sub": "7000101", "role": "customer", "customer_id": "7000101"}
    assert pf.headers["authorization"].split()[1] not in log.text


async def test_the_rate_limit_switch_answers_429(pf: Pf360) -> None:
    await pf.switch(per_client_rps=2)
    answers = [await pf.dashboard() for _ in range(3)]
    assert code_of(answers[2]) == (429, "rate_limited")
    assert answers[2].headers["retry-after"] == "1"
    for bad in ({"per_client_rps": 0}, {"lenient": 1}, {"nonsense": True}):
        assert code_of(await pf.admin("POST", "switches", bad)) == (400, "validation")


# --- invariants: each can be broken, and is then seen ---------------------------------------------------------------


async def test_invariants_hold_after_an_ordinary_day(pf: Pf360) -> None:
    await pf.book(FLOORING, "2026-03-16", "10:00:00")
    request_id = await pf.request_id(WINDOWS)
    await pf.release(WINDOWS)
    await pf.schedule(WINDOWS, "2026-03-19", "13:00:00", request_id)
    await pf.cancel(FLOORING)
    await pf.note(FLOORING, "a")
    await pf.note(FLOORING, "b")
    assert await pf.broken(lost_after_seconds="-1") == {}


async def test_a_doubly_booked_slot_is_seen(pf: Pf360) -> None:
    await pf.book(FLOORING, "2026-03-16", "10:00:00")
    taken = {"project_id": FLOORING, "date": "2026-03-16", "time": "10:00:00"}
    assert code_of(await pf.admin("POST", "take", taken)) == (409, "slot_taken")
    await pf.admin("POST", "take", taken | {"force": True})
    assert await pf.broken() == {"double_booked_slots": 1}


async def test_double_booking_of_shared_capacity_is_seen(pf: Pf360) -> None:
    other = pf.other("7000200", (BK,))
    await pf.book(FLOORING, "2026-03-16", "10:00:00")
    await other.book("510001", "2026-03-16", "10:00:00")
    assert await pf.broken() == {}
    await pf.switch(shared_capacity=True)
    assert await pf.broken() == {"double_booked_slots": 1}


async def test_a_second_appointment_of_a_project_is_seen(pf: Pf360) -> None:
    await pf.switch(lenient=True)
    assert (await pf.book(WINDOWS, "2026-03-19", "13:00:00")).status_code == 200
    assert await pf.broken() == {"projects_with_two_appointments": 1}
    await pf.cancel(WINDOWS)
    assert await pf.broken() == {}


async def test_a_booking_without_a_request_is_seen(pf: Pf360) -> None:
    await pf.switch(lenient=True)
    assert (await pf.schedule(FLOORING, "2026-03-16", "10:00:00", "req-invented")).status_code == 200
    assert await pf.broken() == {"writes_without_request": 1}
    assert (await pf.commits())[0]["breaches"] == ["writes_without_request"]


async def test_the_same_note_twice_is_seen(pf: Pf360) -> None:
    await pf.note(FLOORING, "Ring twice")
    await pf.note(WINDOWS, "Ring twice")
    assert await pf.broken() == {}
    await pf.note(FLOORING, "Ring twice")
    assert await pf.broken() == {"duplicate_notes_5s": 1}


async def test_a_write_outside_the_callers_scope_is_seen(pf: Pf360) -> None:
    await pf.switch(lenient=True)
    assert (await pf.cancel("420002")).status_code == 200
    assert await pf.broken() == {"writes_outside_scope": 1}
    assert code_of(await pf.notes("420002")) == (404, "not_found"), "reads stay closed"


async def test_an_appointment_lost_during_a_move_is_seen_after_ten_minutes(pf: Pf360) -> None:
    await pf.release(WINDOWS)
    await pf.admin("POST", "clock", {"advance_seconds": 600})
    assert await pf.broken() == {}
    await pf.admin("POST", "clock", {"advance_seconds": 1})
    assert await pf.broken() == {"lost_appointments": 1}
    await pf.book(WINDOWS, "2026-03-19", "13:00:00")
    assert await pf.broken() == {}


# --- the data -------------------------------------------------------------------------------------------------------


def test_the_seed_data_is_complete_and_says_it_is_invented() -> None:
    text = FIXTURE_PATH.read_text(encoding="utf-8")
    assert "invented" in text.splitlines()[1]
    fixture = read_fixture()
    assert len(fixture["projects"]) == 21
    assert {"c1", "biz", "coord", "anon"} <= set(fixture["personas"])


def test_every_status_has_one_group() -> None:
    assert status_group(" ready TO schedule ") == "schedulable"
    assert status_group("HDMS Scheduled") == "scheduled"
    assert status_group("Pending Confirmation") == "blocked"
    assert status_group("Pending") == "hold"
    assert status_group("Paused - Waiting for Product") == "hold"
    assert status_group("Work Complete") == "terminal"
    assert status_group("Teleported") == "unknown"
