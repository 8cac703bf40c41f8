"""Every fault mode and latency profile of the PF360 simulator, and what each leaves behind."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import httpx
import orjson
import pytest

from backend.embedded.pf360_simulator.app import ConnectionDropped
from backend.embedded.pf360_simulator.faults import ENDPOINTS, PROFILES, Latency
from tests.unit.pf360_calls import BK, Pf360, code_of, fixture_caller

FLOORING, WINDOWS = "410001", "410002"
BOOKED = ("Tentatively Scheduled", "2026-03-16T10:00:00")
FREE = ("Ready To Schedule", None)


@pytest.fixture
def pf() -> Pf360:
    return fixture_caller()


async def book(pf: Pf360) -> httpx.Response:
    return await pf.book(FLOORING, "2026-03-16", "10:00:00")


@pytest.mark.parametrize(
    ("mode", "status", "code"),
    [
        ("http_401", 401, "auth"),
        ("http_403", 403, "forbidden"),
        ("http_404", 404, "not_found"),
        ("http_429", 429, "rate_limited"),
        ("http_500", 500, "internal"),
        ("http_503", 503, "unavailable"),
    ],
)
async def test_status_faults_answer_at_once_and_change_nothing(pf: Pf360, mode: str, status: int, code: str) -> None:
    await pf.arm("schedule", mode, times=1)
    answer = await book(pf)
    assert code_of(answer) == (status, code)
    assert answer.headers.get("retry-after") == ("1" if status == 429 else None)
    assert await pf.standing(FLOORING) == FREE
    assert (await book(pf)).status_code == 200, "times: 1 is used up"


async def test_timeout_is_silence_without_a_change(pf: Pf360) -> None:
    request_id = await pf.request_id(FLOORING)
    await pf.arm("schedule", "timeout", times=1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pf.schedule(FLOORING, "2026-03-16", "10:00:00", request_id), 0.1)
    assert await pf.standing(FLOORING) == FREE
    assert (await pf.schedule(FLOORING, "2026-03-16", "10:00:00", request_id)).status_code == 200


async def test_slow_is_the_right_answer_late(pf: Pf360) -> None:
    await pf.arm("dashboard", "slow:150")
    started = time.monotonic()
    answer = await pf.dashboard()
    assert time.monotonic() - started >= 0.15
    assert len(answer.json()["data"]) == 5


async def test_slot_taken_conflicts_and_the_slot_disappears(pf: Pf360) -> None:
    request_id = await pf.request_id(FLOORING)
    await pf.arm("schedule", "slot_taken", times=1)
    assert code_of(await pf.schedule(FLOORING, "2026-03-16", "10:00:00", request_id)) == (409, "slot_taken")
    assert "10:00:00" not in (await pf.slots(FLOORING, "2026-03-16", request_id)).json()["data"]["slots"]
    assert (await pf.schedule(FLOORING, "2026-03-16", "13:00:00", request_id)).status_code == 200
    assert [(c["kind"], c["source"]) for c in await pf.commits()] == [("take", "admin"), ("schedule", "api")]


async def test_error_in_200_changes_nothing(pf: Pf360) -> None:
    await pf.arm("schedule", "error_in_200", times=1)
    answer = await book(pf)
    assert answer.status_code == 200
    assert set(answer.json()) == {"error"}
    assert await pf.standing(FLOORING) == FREE


async def test_commit_then_drop_changes_state_without_an_answer(pf: Pf360) -> None:
    await pf.arm("schedule", "commit_then_drop", times=1)
    with pytest.raises(ConnectionDropped):
        await book(pf)
    assert await pf.standing(FLOORING) == BOOKED


async def test_commit_then_500_changes_state(pf: Pf360) -> None:
    await pf.arm("schedule", "commit_then_500", times=1)
    assert code_of(await book(pf)) == (500, "internal")
    assert await pf.standing(FLOORING) == BOOKED


async def test_commit_then_faults_leave_refusals_alone(pf: Pf360) -> None:
    await pf.arm("cancel", "commit_then_500", times=1)
    roof = pf.other("7000102", (BK,))
    assert code_of(await roof.cancel("420001")) == (409, "cutoff")
    assert code_of(await pf.cancel(WINDOWS)) == (500, "internal"), "the refusal did not use it up"
    assert await pf.standing(WINDOWS) == FREE


async def test_stale_read_hides_the_last_write_for_so_many_reads(pf: Pf360) -> None:
    await pf.arm("dashboard", "stale_read", times=2)
    assert (await pf.row(FLOORING))["status_info_status"] == "Ready To Schedule"
    await book(pf)
    statuses = [(await pf.row(FLOORING))["status_info_status"] for _ in range(3)]
    assert statuses == ["Ready To Schedule", "Ready To Schedule", "Tentatively Scheduled"]
    gutters = pf.other("7000102", (BK,))
    await pf.arm("schedule", "stale_read")
    assert (await gutters.row("420002", "7000102"))["status_info_status"] == "Tentatively Scheduled"


async def test_malformed_and_empty_answers_lose_the_answer_only(pf: Pf360) -> None:
    await pf.arm("schedule", "malformed_json", times=1)
    answer = await book(pf)
    assert answer.status_code == 200
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(answer.content)
    assert await pf.standing(FLOORING) == BOOKED
    await pf.arm("cancel", "empty_200", times=1)
    answer = await pf.cancel(FLOORING)
    assert (answer.status_code, answer.content) == (200, b"")
    assert await pf.standing(FLOORING) == FREE


async def test_html_error_comes_from_in_front_of_the_upstream(pf: Pf360) -> None:
    await pf.arm("schedule", "html_error", times=1)
    answer = await book(pf)
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "text/html"
    assert answer.text.startswith("<html>")
    assert await pf.standing(FLOORING) == FREE


async def test_schema_drift_keeps_the_facts_and_changes_their_form(pf: Pf360) -> None:
    await pf.arm("*", "schema_drift")
    dashboard = (await pf.dashboard()).json()
    assert "status" not in dashboard
    first = dashboard["data"][0]
    assert first["project_project_id"] == 410001
    assert first["customer_customer_id"] == 7000101
    assert "project_store_store_number" not in first
    assert "user_idata_user_id" not in first
    dates = (await pf.dates(FLOORING)).json()["data"]
    assert dates["availableDates"] != sorted(dates["availableDates"])
    assert "2026-03-16" in dates["availableDates"]
    assert "09:00:00" in dates["slots"]
    slots = (await pf.slots(FLOORING, "2026-03-16", dates["request_id"])).json()
    assert slots == {"data": {"timeSlots": ["08:00:00", "10:00:00", "13:00:00", "15:00:00"]}}
    booked = (await pf.schedule(FLOORING, "2026-03-16", "10:00:00", dates["request_id"])).json()
    assert booked["data"] is True
    assert "review" in booked["message"]
    assert set((await pf.release(FLOORING)).json()) == {"message"}
    assert set((await pf.cancel(WINDOWS)).json()) == {"message"}
    assert set((await pf.note(FLOORING, "hello")).json()) == {"message"}
    assert len((await pf.notes(FLOORING)).json()["notes"]) == 2
    hours = (await pf.get(f"/scheduler/client/{BK}/business-hours")).json()["data"]
    assert hours["workHours"][0]["start_time"] == "08:00"
    staff = pf.other(None, (BK,), role="coordinator", sub="K-01")
    assert (await staff.get("/projects/batch", ids="500101")).json()["data"][0]["project_id"] == 500101
    assert set((await staff.post("/validation/batch", {"project_ids": ["500101"]})).json()) == {"data"}
    assert set((await staff.get("/teams")).json()) == {"data"}


async def test_flap_alternates_failure_and_success(pf: Pf360) -> None:
    await pf.arm("dashboard", "flap")
    assert [(await pf.dashboard()).status_code for _ in range(4)] == [503, 200, 503, 200]
    await pf.admin("DELETE", "faults")
    await pf.arm("dashboard", "flap", p=0)
    assert [(await pf.dashboard()).status_code for _ in range(3)] == [200, 200, 200]


async def test_match_times_and_p_limit_a_fault(pf: Pf360) -> None:
    await pf.arm("dates", "http_500", match={"project_id": FLOORING})
    assert (await pf.dates(FLOORING)).status_code == 500
    assert (await pf.dates(WINDOWS)).status_code == 200
    await pf.admin("DELETE", "faults")
    await pf.arm("*", "http_503", match="/dashboard/", times=2)
    assert (await pf.dates(FLOORING)).status_code == 200
    assert [(await pf.dashboard()).status_code for _ in range(3)] == [503, 503, 200]
    await pf.admin("DELETE", "faults")
    await pf.arm("dashboard", "http_503", p=0.5)
    failures = sum([(await pf.dashboard()).status_code == 503 for _ in range(200)])
    assert 70 < failures < 130


async def test_faults_are_listed_and_the_first_that_applies_acts(pf: Pf360) -> None:
    body = [{"endpoint": "dashboard", "mode": "slow:5", "times": 1}, {"endpoint": "*", "mode": "http_404"}]
    assert (await pf.admin("POST", "faults", body)).status_code == 200
    assert (await pf.dashboard()).status_code == 200
    assert (await pf.dashboard()).status_code == 404
    faults = (await pf.admin("GET", "faults")).json()["faults"]
    assert [(fault["mode"], fault["effects"]) for fault in faults] == [("slow:5", 1), ("http_404", 1)]
    requests = (await pf.admin("GET", "log")).json()["requests"]
    assert [request["fault"] for request in requests] == ["slow", "http_404"]
    assert (await pf.admin("DELETE", "faults")).json() == {"faults": []}


async def test_every_endpoint_can_be_made_to_fail(pf: Pf360) -> None:
    staff = pf.other(None, (BK,), role="coordinator", sub="K-01")
    request_id = await pf.request_id(FLOORING)
    calls: dict[str, Callable[[], Awaitable[httpx.Response]]] = {
        "dashboard": pf.dashboard,
        "business_hours": lambda: pf.get(f"/scheduler/client/{BK}/business-hours"),
        "dates": lambda: pf.dates(FLOORING),
        "slots": lambda: pf.slots(FLOORING, "2026-03-16", request_id),
        "schedule": lambda: pf.schedule(FLOORING, "2026-03-16", "10:00:00", request_id),
        "cancel_reschedule": lambda: pf.release(WINDOWS),
        "cancel": lambda: pf.cancel(WINDOWS),
        "add_note": lambda: pf.note(FLOORING, "hello"),
        "list_notes": lambda: pf.notes(FLOORING),
        "weather": lambda: pf.get("/weather/Lakemont"),
        "batch": lambda: staff.get("/projects/batch", ids="500101"),
        "assign": lambda: staff.post("/assignments/bulk", {"assignments": []}),
        "teams": lambda: staff.get("/teams"),
    }
    assert set(calls) == set(ENDPOINTS)
    for endpoint, call in calls.items():
        await pf.admin("DELETE", "faults")
        await pf.arm(endpoint, "http_503")
        assert (await call()).status_code == 503, endpoint
    assert await pf.commits() == []


@pytest.mark.parametrize(
    "fault",
    [
        {"endpoint": "nowhere", "mode": "http_500"},
        {"endpoint": "dates", "mode": "explode"},
        {"endpoint": "dates", "mode": "slow"},
        {"endpoint": "dates", "mode": "http_500", "times": 0},
        {"endpoint": "dates", "mode": "http_500", "times": True},
        {"endpoint": "dates", "mode": "http_500", "p": 2},
        {"endpoint": "dates", "mode": "http_500", "match": 7},
        {"endpoint": "dates", "mode": "http_500", "how_often": 7},
    ],
)
async def test_faults_that_make_no_sense_are_refused(pf: Pf360, fault: dict[str, object]) -> None:
    assert code_of(await pf.admin("POST", "faults", [fault])) == (400, "validation")
    assert (await pf.admin("GET", "faults")).json() == {"faults": []}


async def test_a_scenario_files_fault_can_be_sent_as_it_is(pf: Pf360) -> None:
    await pf.arm("schedule", "slot_taken", times=1, before_turn=2)
    assert code_of(await pf.admin("POST", "faults", ["x"])) == (422, "validation")


# --- latency --------------------------------------------------------------------------------------------------------


def test_normal_latency_has_the_documented_median_and_tail() -> None:
    for kind, median, p95 in (("read", 0.08, 0.25), ("availability", 0.5, 1.5), ("write", 0.3, 0.9)):
        latency = Latency("normal")
        delays = sorted(latency.draw(kind)[0] for _ in range(4000))
        assert statistics.median(delays) == pytest.approx(median, rel=0.1)
        assert delays[3800] == pytest.approx(p95, rel=0.15)
    first, second = Latency("normal"), Latency("normal")
    assert [first.draw("read") for _ in range(3)] == [second.draw("read") for _ in range(3)], "seeded"


def test_slow_is_four_times_normal_and_instant_is_none() -> None:
    assert Latency("slow").draw("read")[0] == pytest.approx(4 * Latency("normal").draw("read")[0])
    assert Latency("instant").draw("write") == (0.0, False)


def test_brownout_fails_a_tenth_and_stalls_a_twentieth() -> None:
    latency = Latency("brownout")
    drawn = [latency.draw("read") for _ in range(4000)]
    assert sum(failed for _, failed in drawn) / 4000 == pytest.approx(0.10, abs=0.02)
    assert sum(delay == 8.0 for delay, _ in drawn) / 4000 == pytest.approx(0.05, abs=0.015)


async def test_profiles_are_chosen_by_name(pf: Pf360) -> None:
    for profile in PROFILES:
        assert (await pf.admin("POST", "latency", {"profile": profile})).json() == {"profile": profile}
    assert code_of(await pf.admin("POST", "latency", {"profile": "warp"})) == (400, "validation")
    assert code_of(await pf.admin("POST", "latency", {"profile": "slow", "seed": [1]})) == (400, "validation")
    await pf.admin("POST", "latency", {"profile": "normal", "seed": 1})
    started = time.monotonic()
    assert (await pf.dashboard()).status_code == 200
    assert time.monotonic() - started > 0.01
