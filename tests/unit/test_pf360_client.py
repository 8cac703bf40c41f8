"""The upstream client: variants of bodies, what errors mean, retries, and the breaker."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any

import httpx
import orjson
import pytest

from tools.breaker import Breaker
from tools.contract import ToolError
from tools.errors import (
    AlreadyScheduled,
    Cutoff,
    Forbidden,
    InvalidStep,
    Missing,
    NotAllowed,
    OutcomeUncertain,
    RateLimited,
    Rejected,
    RequestExpired,
    SignInAgain,
    SlotTaken,
    UpstreamUnavailable,
)
from tools.pf360 import readers
from tools.pf360.client import Pf360, Retries
from tools.pf360.models import Assignment

Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer, breaker: Breaker | None = None) -> Pf360:
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))

    async def token() -> str:
        return "secret-token"

    return Pf360("https://pf360.example/api/", http, token, retries=Retries((0.0, 0.0)), breaker=breaker)


def says(status: int, body: Any = None, **headers: str) -> Answer:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return lambda _request: httpx.Response(status, content=content, headers=headers)


async def book(pf360: Pf360) -> None:
    await pf360.schedule("C1", "7", date(2026, 3, 16), time(10), "r1", datetime(2026, 3, 11, 13, 30, tzinfo=UTC))


# --- requests -------------------------------------------------------------------------------------------------------


async def test_a_booking_is_sent_as_upstream_wants_it() -> None:
    """A string for a truth value, a local form of time, and the location in path and header."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"status": "success", "data": True})

    await book(client(answer))
    request = seen[0]
    assert request.url.path == "/api/scheduler/client/C1/project/7/schedule"
    assert request.headers["authorization"] == "Bearer secret-token"
    assert request.headers["client_id"] == "C1"
    assert orjson.loads(request.content) == {
        "created_at": "03-11-2026 13:30:00",
        "date": "2026-03-16",
        "time": "10:00:00",
        "request_id": "r1",
        "is_chatbot": "true",
    }


async def test_the_weather_service_gets_no_token() -> None:
    """It is somebody else's."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"weather": []})

    await client(answer).weather("Port Ellis/..")
    assert "authorization" not in seen[0].headers
    assert seen[0].url.raw_path == b"/api/weather/Port%20Ellis%2F..?format=j1"


# --- answers --------------------------------------------------------------------------------------------------------

ROW = {"project_project_id": 410001, "project_project_number": "SO-1_1", "status_info_status": "New"}


@pytest.mark.parametrize("body", [[ROW], {"data": [ROW]}, {"projects": [ROW]}, {"data": {"projects": [ROW]}}])
async def test_project_lists_come_in_several_wrappings(body: Any) -> None:
    """With ids as numbers and most keys missing."""
    (project,) = await client(says(200, body)).projects("C1", "7000101")
    assert (project.project_id, project.client_id, project.category) == ("410001", "C1", "Project")
    assert project.start is None


async def test_rows_of_other_customers_are_dropped() -> None:
    """Whatever upstream mixes in."""
    rows = [{**ROW, "customer_customer_id": 7000101}, {**ROW, "customer_customer_id": "7000102"}]
    assert len(await client(says(200, {"data": rows})).projects("C1", "7000101")) == 1


async def test_a_released_project_keeps_no_appointment() -> None:
    """Stale dates and technicians of schedulable projects are no facts."""
    row = {
        **ROW,
        "status_info_status": "Ready To Schedule",
        "convertedProjectStartScheduledDate": "2026-03-18 08:00:00",
    }
    (project,) = await client(says(200, {"data": [row]})).projects("C1", "7000101")
    assert project.start is not None
    assert project.appointment is None


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"dates": ["2026-03-17", "2026-03-16"], "request_id": 77}},
        {"availableDates": ["2026-03-17", "2026-03-16", "2026-03-16"], "request_id": "77", "slots": ["09:30:00"]},
    ],
)
async def test_dates_are_sorted_and_bare(body: Any) -> None:
    """Generic slots beside them are not read."""
    found = await client(says(200, body)).open_dates("C1", "7", date(2026, 3, 12))
    assert found.dates == (date(2026, 3, 16), date(2026, 3, 17))
    assert found.request_id == "77"


@pytest.mark.parametrize("name", ["slots", "timeSlots"])
async def test_slots_have_two_names(name: str) -> None:
    """And come in any notation."""
    body = {"data": {name: ["13:00:00", "08:00", "10:00 AM", "Closed"]}}
    found = await client(says(200, body)).open_slots("C1", "7", date(2026, 3, 16), "r")
    assert found.slots == (time(8), time(10), time(13))


@pytest.mark.parametrize(
    "row",
    [
        {"day": "Monday", "is_working": True, "start": "08:00", "end": "17:00"},
        {"day": "Mon", "is_working": 1, "start_time": "08:00", "end_time": "17:00"},
        {"day": "MONDAY", "open": "8:00 AM", "close": "5:00 PM"},
    ],
)
async def test_hours_have_three_forms(row: Any) -> None:
    """Days that are not named are closed."""
    hours = await client(says(200, {"data": {"workHours": [row, {"day": "Sunday", "open": "Closed"}]}})).business_hours(
        "C"
    )
    assert (hours.days[0].opens, hours.days[0].closes) == (time(8), time(17))
    assert not hours.days[6].is_open
    assert not hours.days[3].is_open


async def test_a_working_day_without_times_is_open_all_the_same() -> None:
    """Nothing is invented."""
    hours = await client(says(200, {"workHours": [{"day": "Monday", "is_working": True}]})).business_hours("C")
    assert hours.days[0].is_open
    assert hours.days[0].opens is None


@pytest.mark.parametrize("body", [[{"note_text": "a"}], {"notes": [{"note": "a"}]}, {"data": [{"note_text": "a"}]}])
async def test_notes_have_three_wrappings(body: Any) -> None:
    """And two names for the text."""
    (note,) = await client(says(200, body)).notes("C1", "7000101", "7")
    assert note.text == "a"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{", {}, {"data": None}, [], "ok", {"status": "error"}, {"error": "x"}]
)
async def test_unusable_answers_are_uncertain(body: Any) -> None:
    """For a write that may mean anything; a read simply failed."""
    with pytest.raises(OutcomeUncertain):
        await book(client(says(200, body)))


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"code": "not_allowed"}, NotAllowed),
        (400, {"message": "This action is Not Permitted here"}, NotAllowed),
        (400, {"code": "already_scheduled"}, AlreadyScheduled),
        (400, {"message": "Technician already assigned"}, AlreadyScheduled),
        (400, {"message": "Invalid process step"}, InvalidStep),
        (400, {"error": "project status should be X"}, InvalidStep),
        (400, {"code": "validation"}, Rejected),
        (400, b"Bad Request", Rejected),
        (401, b"", SignInAgain),
        (403, {"message": "no"}, Forbidden),
        (404, b"<html>", Missing),
        (409, {"code": "cutoff"}, Cutoff),
        (409, {"message": "not possible less than 24 hours before the start"}, Cutoff),
        (409, {"code": "slot_taken"}, SlotTaken),
        (409, b"", SlotTaken),
        (410, b"", RequestExpired),
        (422, {"code": "validation"}, Rejected),
        (200, {"error": {"code": "slot_taken"}}, SlotTaken),
        (500, b"", OutcomeUncertain),
        (503, {"code": "slot_taken"}, OutcomeUncertain),
        (302, b"", OutcomeUncertain),
    ],
)
async def test_refusals_are_typed_by_code_message_and_status(status: int, body: Any, error: type[ToolError]) -> None:
    """In that order; and a write is sent once."""
    sent = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        return says(status, body)(request)

    with pytest.raises(error) as refusal:
        await book(client(answer))
    assert type(refusal.value) is error
    assert sent == 1


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (httpx.ConnectError("x"), UpstreamUnavailable),
        (httpx.ConnectTimeout("x"), UpstreamUnavailable),
        (httpx.ReadTimeout("x"), OutcomeUncertain),
        (httpx.WriteError("x"), OutcomeUncertain),
        (httpx.RemoteProtocolError("x"), OutcomeUncertain),
    ],
)
async def test_a_failure_before_sending_is_no_uncertainty(failure: Exception, error: type[ToolError]) -> None:
    """Only what may have reached the other side has to be settled."""

    def answer(_request: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(UpstreamUnavailable) as refusal:
        await book(client(answer))
    assert type(refusal.value) is error


@pytest.mark.parametrize("verb", ["release", "cancel"])
async def test_gets_that_change_state_are_sent_once(verb: str) -> None:
    """Reads are tried three times, these are not."""
    sent = 0

    def answer(_request: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        return httpx.Response(503)

    pf360 = client(answer)
    with pytest.raises(OutcomeUncertain):
        await getattr(pf360, verb)("C1", "7")
    assert sent == 1
    with pytest.raises(OutcomeUncertain):
        await pf360.projects("C1", "7000101")
    assert sent == 4


async def test_a_long_rate_limit_is_not_waited_for() -> None:
    """Nobody waits a minute within a turn."""
    with pytest.raises(RateLimited) as refusal:
        await client(says(429, b"", **{"retry-after": "60"})).projects("C1", "7000101")
    assert refusal.value.facts["retry_after_s"] == 60


# --- the breaker ----------------------------------------------------------------------------------------------------


async def test_an_open_breaker_is_not_tried_again_by_reads() -> None:
    """Retries would only wait for nothing."""
    sent = 0

    def answer(_request: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        return httpx.Response(500)

    pf360 = client(answer, Breaker("x", fail_max=2))
    for _ in range(2):
        with pytest.raises(UpstreamUnavailable):
            await pf360.projects("C1", "7000101")
    assert sent == 2


def test_moments_lose_their_offset() -> None:
    """Upstream means the time at the site."""
    assert readers.moment("2026-03-18T08:00:00-04:00") == datetime(2026, 3, 18, 8)
    assert readers.moment("soon") is None


# --- coordinators ---------------------------------------------------------------------------------------------------


async def test_the_work_list_is_asked_for_in_one_request() -> None:
    """Ids as a list, numbers or texts; what is missing is missing."""
    rows = [{"project_id": 7, "estimated_hours": "2.5", "lat": 28, "lng": -82, "permit_status": "Approved"}]
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"data": rows})

    (found,) = await client(answer).queue("C1", ["7", "A-8"])
    assert str(seen[0].url).endswith("/projects/batch?ids=7,A-8")
    assert (found.project_id, found.hours, found.place, found.permit, found.access) == (
        "7",
        2.5,
        (28, -82),
        "approved",
        False,
    )
    assert (found.team, found.visit) == (None, None)


async def test_assignments_are_sent_once_and_told_item_by_item() -> None:
    """With who sends them; a server error leaves the outcome open."""
    seen: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(orjson.loads(request.content))
        results = [{"project_id": 7, "status": "assigned"}, {"project_id": "8", "status": "failed", "reason": "x"}]
        return httpx.Response(200, json={"data": results})

    wanted = [Assignment("7", "Team A", datetime(2026, 3, 16, 8)), Assignment("8", "Team A", datetime(2026, 3, 16, 10))]
    told = await client(answer).assign("C1", wanted, "K-01")
    assert seen == [
        {
            "assignments": [
                {"project_id": "7", "team": "Team A", "date": "2026-03-16", "start": "08:00"},
                {"project_id": "8", "team": "Team A", "date": "2026-03-16", "start": "10:00"},
            ],
            "actor": "K-01",
        }
    ]
    assert [(each.project_id, each.assigned, each.reason) for each in told] == [("7", True, None), ("8", False, "x")]
    tries: list[httpx.Request] = []
    failing = client(lambda request: tries.append(request) or httpx.Response(503))  # type: ignore[func-returns-value]
    with pytest.raises(OutcomeUncertain):
        await failing.assign("C1", wanted, "K-01")
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("reader", "body"),
    [
        (readers.queue, {"data": [{"project_id": "7"}]}),
        (readers.queue, {"data": [{"estimated_hours": 2}]}),
        (readers.queue, {"data": [{"project_id": "7", "estimated_hours": 2, "scheduled": {"date": "2026-03-16"}}]}),
        (readers.queue, {"status": "success"}),
        (readers.team_schedule, {"data": {"team": "Team A", "capacity_hours_per_day": 8, "vacation": []}}),
        (readers.team_schedule, {"data": {"team": "Team A", "vacation": [], "busy": []}}),
        (readers.assignment_answers, {"data": [{"project_id": "7"}]}),
        (readers.assignment_answers, {"data": [{"project_id": "7", "status": "perhaps"}]}),
    ],
)
def test_what_a_coordinator_must_not_guess_is_unreadable(reader: Callable[[Any], object], body: Any) -> None:
    """Hours, busy times and outcomes are never made up."""
    with pytest.raises(readers.Unreadable):
        reader(body)


def test_a_calendar_is_read_in_order() -> None:
    """Busy times sorted, whatever their order upstream."""
    busy = [
        {"date": "2026-03-17", "start": "08:00", "end": "09:00"},
        {"date": "2026-03-16", "start": "08:00", "end": "12:00", "project_id": 500112},
    ]
    body = {"data": {"team": "Team A", "capacity_hours_per_day": "8", "vacation": ["2026-03-19"], "busy": busy}}
    found = readers.team_schedule(body)
    assert [each.project_id for each in found.busy] == ["500112", None]
    assert found.capacity_hours == 8
    assert found.vacation == frozenset([date(2026, 3, 19)])
