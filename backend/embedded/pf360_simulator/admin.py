"""The admin API under `/_sim`: reset, clock, faults, latency, the office's moves, and what happened."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import datetime, timedelta

from . import scheduling
from .call import Call, Router
from .faults import read_faults, read_profile
from .fixture import FixtureError, Json
from .invariants import LOST_AFTER_S, invariants
from .refusal import Refusal, invalid, not_found
from .simulator import Simulator
from .state import Origin, Project, Switches

CLOCK_YEARS = range(2000, 2200)


def answer_admin(call: Call) -> Json:
    """Carry out one admin request; all but the health check need the secret."""
    operation, call.params = ROUTER.find(call.method, call.path)
    if operation is not health:
        given = call.headers.get(b"x-sim-secret", b"")
        if not hmac.compare_digest(given, call.sim.config.admin_secret.encode()):
            raise Refusal(401, "auth", "The x-sim-secret header is missing or wrong")
    answer: Json = operation(call)
    call.sim.save_if_changed()
    return answer


def health(call: Call) -> Json:
    return {"status": "ok"}


def reset(call: Call) -> Json:
    body = _optional_body(call)
    try:
        call.sim.reset(body.get("fixture"))
    except FixtureError as error:
        raise invalid(str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise invalid(f"the fixture cannot be used: {error!r}") from error
    return {"ok": True, **clock_json(call.sim)}


def get_clock(call: Call) -> Json:
    return clock_json(call.sim)


def set_clock(call: Call) -> Json:
    """`set`, then `advance_seconds`, then `run`, each optional."""
    body, clock = call.json(), call.sim.clock
    _only(body, "set", "advance_seconds", "run")
    text, seconds, run = body.get("set"), body.get("advance_seconds"), body.get("run")
    try:
        wanted = datetime.fromisoformat(text) if text is not None else None
    except (TypeError, ValueError) as error:
        raise invalid("set must be an ISO date and time") from error
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float)):
        raise invalid("advance_seconds must be a number")
    if run is not None and not isinstance(run, bool):
        raise invalid("run must be true or false")
    try:
        moment = (wanted if wanted is not None else clock.now()) + timedelta(seconds=seconds or 0)
    except OverflowError as error:
        raise invalid("advance_seconds is too large") from error
    if moment.year not in CLOCK_YEARS:
        raise invalid(f"the clock runs from {CLOCK_YEARS[0]} to {CLOCK_YEARS[-1]}")
    if wanted is not None:
        clock.set(wanted)
    if seconds is not None:
        clock.advance(seconds)
    if run is not None:
        clock.run(run)
    return clock_json(call.sim)


def clock_json(sim: Simulator) -> Json:
    return {
        "now": sim.clock.now().isoformat(),
        "frozen": sim.clock.frozen,
        "timezone": sim.clock.zone.key,
        "mode": sim.config.clock,
    }


def arm_faults(call: Call) -> Json:
    call.sim.faults.armed.extend(read_faults(call.json_value()))
    return list_faults(call)


def list_faults(call: Call) -> Json:
    return {"faults": [fault.to_json() for fault in call.sim.faults.armed]}


def disarm_faults(call: Call) -> Json:
    call.sim.faults.armed.clear()
    return list_faults(call)


def set_latency(call: Call) -> Json:
    call.sim.latency = read_profile(call.json_value())
    return {"profile": call.sim.latency.profile}


def set_switches(call: Call) -> Json:
    """Any of the switches; those not named stay."""
    body, switches = call.json(), call.sim.state.switches
    _only(body, *(field.name for field in fields(Switches)))
    for name, value in body.items():
        if name == "per_client_rps":
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
                raise invalid("per_client_rps must be a positive number or null")
        elif not isinstance(value, bool):
            raise invalid(f"{name} must be true or false")
    for name, value in body.items():
        setattr(switches, name, value)
    return asdict(switches)


def approve(call: Call) -> Json:
    body = call.json()
    technician = body.get("technician")
    if technician is not None and not isinstance(technician, str):
        raise invalid("technician must be a string")
    return scheduling.approve(call.sim.state, _project(call, body), technician, _origin(call), call.sim.clock.now())


def take(call: Call) -> Json:
    body = call.json()
    day, slot = scheduling.read_date(body.get("date")), scheduling.read_time(body.get("time"))
    project, now, force = _project(call, body), call.sim.clock.now(), body.get("force") is True
    return scheduling.take(call.sim.state, project, day, slot, _origin(call), now, force)


def get_state(call: Call) -> Json:
    """Everything that requests can change, by id."""
    sim, state = call.sim, call.sim.state
    notes: dict[str, list[Json]] = {}
    for note in state.notes:
        notes.setdefault(note["project_id"], []).append(note)
    return {
        "projects": {key: _project_json(project) for key, project in state.projects.items()},
        "notes": notes,
        "assignments": state.assignments,
        "taken": sorted(list(pair) for pair in state.taken),
        "tickets": [asdict(ticket) for ticket in state.tickets.values() if ticket.open],
        "commit_count": state.commit_count,
        "switches": asdict(state.switches),
        "faults": [fault.to_json() for fault in sim.faults.armed],
        "latency": sim.latency.profile,
        "clock": clock_json(sim),
    }


def _project_json(project: Project) -> Json:
    return {
        **asdict(project.standing),
        "client_id": project.client_id,
        "customer_id": project.customer_id,
        "appointments": project.slots_held(),
        "released_at": project.released_at,
    }


def get_fixture(call: Call) -> Json:
    """The seed data with its dates where this run has put them."""
    return {"fixture": call.sim.state.fixture}


def get_log(call: Call) -> Json:
    return {"requests": list(call.sim.log)}


def get_commits(call: Call) -> Json:
    """State changes in order; `?after=<seq>` leaves out the earlier ones."""
    after = call.query.get("after", "0")
    if not after.isdigit():
        raise invalid("after must be a number")
    return {"commits": [entry for entry in call.sim.state.commits if entry["seq"] > int(after)]}


def get_invariants(call: Call) -> Json:
    try:
        lost_after_s = float(call.query.get("lost_after_seconds", LOST_AFTER_S))
    except ValueError as error:
        raise invalid("lost_after_seconds must be a number") from error
    return dict(invariants(call.sim.state, call.sim.clock.now(), lost_after_s))


def _optional_body(call: Call) -> Json:
    return call.json() if call.body.strip() else {}


def _only(body: Json, *names: str) -> None:
    unknown = sorted(set(body) - set(names))
    if unknown:
        raise invalid(f"unknown key {', '.join(unknown)}")


def _project(call: Call, body: Json) -> Project:
    project = call.sim.state.projects.get(str(body.get("project_id")))
    if project is None:
        raise not_found()
    return project


def _origin(call: Call) -> Origin:
    return Origin("admin", call.method, call.path)


OPERATIONS: tuple[tuple[str, str, Callable[[Call], Json]], ...] = (
    ("GET", "/_sim/healthz", health),
    ("POST", "/_sim/reset", reset),
    ("GET", "/_sim/clock", get_clock),
    ("POST", "/_sim/clock", set_clock),
    ("GET", "/_sim/faults", list_faults),
    ("POST", "/_sim/faults", arm_faults),
    ("DELETE", "/_sim/faults", disarm_faults),
    ("POST", "/_sim/latency", set_latency),
    ("POST", "/_sim/switches", set_switches),
    ("POST", "/_sim/approve", approve),
    ("POST", "/_sim/take", take),
    ("GET", "/_sim/state", get_state),
    ("GET", "/_sim/fixture", get_fixture),
    ("GET", "/_sim/log", get_log),
    ("GET", "/_sim/commits", get_commits),
    ("GET", "/_sim/invariants", get_invariants),
)
ROUTER = Router(OPERATIONS)
