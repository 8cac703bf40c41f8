"""The operations of the simulated API. Handlers are synchronous: what one does, no other request can interleave."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from . import coordination, scheduling, views
from .call import Call
from .fixture import Json
from .refusal import invalid, not_found
from .state import Origin

Handler = Callable[[Call], Json]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation: its fault name, its kind for latency (read, availability, write) and its handler."""

    name: str
    kind: str
    handler: Handler


def success(data: object, message: str | None = None, **more: object) -> Json:
    body: Json = {"status": "success"}
    if message is not None:
        body["message"] = message
    return {**body, **more, "data": data}


def get_dashboard(call: Call) -> Json:
    claims, client_id, customer_id = call.caller(), call.params["client_id"], call.params["customer_id"]
    if customer_id not in call.sim.state.customers or not claims.may_see(client_id, customer_id):
        raise not_found()
    return success(views.dashboard(call.sim.state, client_id, customer_id, call.stale))


def get_business_hours(call: Call) -> Json:
    call.caller()
    return success(views.business_hours(call.sim.state, call.params["client_id"]))


def get_dates(call: Call) -> Json:
    claims, project = call.project()
    day = _path_day(call)
    return success(scheduling.find_dates(call.sim.state, project, claims.holder, day, call.sim.clock.now()))


def get_slots(call: Call) -> Json:
    claims, project = call.project()
    now, request_id = call.sim.clock.now(), call.query.get("request_id")
    found = scheduling.find_slots(call.sim.state, project, claims.holder, _path_day(call), request_id, now)
    return success(found)


def _path_day(call: Call) -> date:
    day = scheduling.read_date(call.params["date"])
    if call.params["selected"] != call.params["date"]:
        raise invalid("date and selected must be the same day")
    return day


def post_schedule(call: Call) -> Json:
    breaches: list[str] = []
    claims, project = call.project(breaches)
    state, body, now = call.sim.state, call.json(), call.sim.clock.now()
    if call.steal_slot:
        day, slot, _ = scheduling.read_booking(body)
        scheduling.take(state, project, day, slot, Origin("admin", "FAULT", "slot_taken"), now, force=False)
    data = scheduling.book(state, project, claims.holder, body, call.origin(), now, breaches)
    return success(data, "Your request was received; the office will review it")


def get_cancel_reschedule(call: Call) -> Json:
    breaches: list[str] = []
    claims, project = call.project(breaches)
    state, now, office = call.sim.state, call.sim.clock.now(), claims.role == "coordinator"
    data = scheduling.release(state, project, call.origin(), now, breaches, office)
    if state.switches.release_answers_dates:
        ticket = state.tickets.get(state.open_tickets.get((project.project_id, claims.holder), ""))
        if ticket is None or scheduling.ticket_refusal(state, project, claims.holder, ticket.request_id, now):
            ticket = scheduling.issue_ticket(state, project, claims.holder, now)
        data |= {"dates": sorted(state.offered(project, now)), "request_id": ticket.request_id}
    return success(data, data["message"])


def get_cancel_appointment(call: Call) -> Json:
    breaches: list[str] = []
    claims, project = call.project(breaches)
    office = claims.role == "coordinator"
    data = scheduling.cancel(call.sim.state, project, call.origin(), call.sim.clock.now(), breaches, office)
    return success(data, data["message"])


def post_note(call: Call) -> Json:
    breaches: list[str] = []
    _, project = call.project(breaches)
    note = scheduling.add_note(call.sim.state, project, call.json(), call.origin(), call.sim.clock.now(), breaches)
    return success(note, "Note added", note_id=note["note_id"])


def get_notes(call: Call) -> Json:
    _, project = call.project()
    return success(scheduling.notes_of(call.sim.state, project))


def get_batch(call: Call) -> Json:
    call.coordinator()
    ids = coordination.read_ids(re.split(r"[,\s]+", call.query.get("ids", "")))
    return coordination.batch(call.sim.state, call.client_header, ids)


def post_validation(call: Call) -> Json:
    call.coordinator()
    return success(coordination.validate(call.sim.state, call.client_header, call.json()))


def post_assignments(call: Call) -> Json:
    call.coordinator()
    now = call.sim.clock.now()
    return success(coordination.assign(call.sim.state, call.client_header, call.json(), call.origin(), now))


def get_teams(call: Call) -> Json:
    call.coordinator()
    return success(coordination.teams(call.sim.state, call.client_header))


def get_team_schedule(call: Call) -> Json:
    call.coordinator()
    first, last = (scheduling.read_date(text, key) if (text := call.query.get(key)) else None for key in ("from", "to"))
    return success(coordination.team_schedule(call.sim.state, call.client_header, call.params["team"], first, last))


def get_weather(call: Call) -> Json:
    """No token: the original is a public service of somebody else."""
    if call.query.get("format", "j1") != "j1":
        raise invalid("only format=j1 is served")
    days = call.query.get("days", str(views.WEATHER_DAYS))
    if not days.isdigit() or not 1 <= int(days) <= views.WEATHER_DAYS:
        raise invalid(f"days must be 1 to {views.WEATHER_DAYS}")
    return views.weather(call.sim.state, call.params["location"], call.sim.clock.now(), int(days))


DATES = Endpoint("dates", "availability", get_dates)
SLOTS = Endpoint("slots", "availability", get_slots)
PROJECT_PATH = "/scheduler/client/{client_id}/project/{project_id}"
OPERATIONS = (
    ("GET", "/dashboard/get/{client_id}/{customer_id}", Endpoint("dashboard", "read", get_dashboard)),
    ("GET", "/scheduler/client/{client_id}/business-hours", Endpoint("business_hours", "read", get_business_hours)),
    ("GET", PROJECT_PATH + "/date/{date}/selected/{selected}/get-rescheduler-slots", DATES),
    ("POST", PROJECT_PATH + "/schedule", Endpoint("schedule", "write", post_schedule)),
    ("GET", PROJECT_PATH + "/cancel-reschedule", Endpoint("cancel_reschedule", "write", get_cancel_reschedule)),
    (
        "GET",
        "/scheduler/{client_id}/{project_id}/cancel-appointment",
        Endpoint("cancel", "write", get_cancel_appointment),
    ),
    ("POST", "/project-notes/add/{client_id}/{project_id}", Endpoint("add_note", "write", post_note)),
    (
        "GET",
        "/communication/client/{client_id}/customer/{customer_id}/project/{project_id}/notes",
        Endpoint("list_notes", "read", get_notes),
    ),
    ("GET", "/projects/batch", Endpoint("batch", "read", get_batch)),
    ("POST", "/validation/batch", Endpoint("batch", "read", post_validation)),
    ("POST", "/assignments/bulk", Endpoint("assign", "write", post_assignments)),
    ("GET", "/teams", Endpoint("teams", "read", get_teams)),
    ("GET", "/teams/{team}/schedule", Endpoint("teams", "read", get_team_schedule)),
    ("GET", "/weather/{location}", Endpoint("weather", "read", get_weather)),
)
