"""The rules of the scheduler: tickets, offers, booking, releasing, cancelling, notes, and the office's own moves."""

from __future__ import annotations

import re
import secrets
from datetime import date, datetime, timedelta

from .fixture import Json
from .refusal import Refusal, invalid, malformed
from .state import Origin, Project, Standing, Ticket, UpstreamState
from .statuses import PENDING_RESCHEDULE, READY, SCHEDULED, TENTATIVE, status_group

CREATED_AT_FORMATS = ("%m-%d-%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S")
NOTE_LENGTH = 500
AUTHOR_LENGTH = 80
DEFAULT_AUTHOR = "Customer portal"
_REQUEST_ID = re.compile(r"req-[0-9a-f]{24}")
_WIRE_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d")
_WIRE_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def read_date(text: object, name: str = "date") -> date:
    """A real calendar day, YYYY-MM-DD."""
    if not isinstance(text, str) or not _WIRE_DATE.fullmatch(text):
        raise invalid(f"{name} must be YYYY-MM-DD")
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise invalid(f"{name} is not a calendar day") from error


def read_time(text: object, name: str = "time") -> str:
    """A slot start, HH:MM:SS."""
    if not isinstance(text, str) or not _WIRE_TIME.fullmatch(text):
        raise invalid(f"{name} must be HH:MM:SS")
    return text


# --- availability ---------------------------------------------------------------------------------------------------


def check_eligible(project: Project) -> None:
    """Refuse projects whose dates nobody may ask for. Booked ones may: they can be moved."""
    if project.seed.get("not_allowed"):
        raise Refusal(400, "not_allowed", "Not allowed: this project cannot be scheduled here")
    status = project.standing.status
    if status_group(status) not in ("schedulable", "scheduled"):
        raise Refusal(400, "not_allowed", f"Project is not eligible for scheduling while its status is {status}")


def find_dates(state: UpstreamState, project: Project, holder: str, day: date, now: datetime) -> Json:
    """E3: offered days from `day` on, under a new ticket that replaces the former one."""
    check_eligible(project)
    days = sorted(offered for offered in state.offered(project, now) if offered >= day.isoformat())
    return {"dates": days, "request_id": issue_ticket(state, project, holder, now).request_id}


def find_slots(
    state: UpstreamState, project: Project, holder: str, day: date, request_id: str | None, now: datetime
) -> Json:
    """E4: free start times of one day. The day must be one that could be offered; all of it may be taken by now."""
    check_eligible(project)
    refusal = ticket_refusal(state, project, holder, request_id, now)
    if refusal:
        raise refusal
    text = day.isoformat()
    slots = state.offered(project, now).get(text, [])
    if not slots and not (text in project.availability and _in_window(state, day, now)):
        raise invalid(f"{text} is not an offered date")
    return {"date": text, "slots": slots, "request_id": request_id}


def _in_window(state: UpstreamState, day: date, now: datetime) -> bool:
    return timedelta(0) < day - now.date() <= timedelta(days=int(state.fixture["booking_horizon_days"]))


def issue_ticket(state: UpstreamState, project: Project, holder: str, now: datetime) -> Ticket:
    key = (project.project_id, holder)
    former = state.open_tickets.get(key)
    if former:
        state.tickets[former].open = False
    _forget_old_tickets(state, now)
    ticket = Ticket(f"req-{secrets.token_hex(12)}", project.project_id, project.client_id, holder, now.timestamp())
    state.tickets[ticket.request_id] = ticket
    state.open_tickets[key] = ticket.request_id
    return ticket


def _forget_old_tickets(state: UpstreamState, now: datetime, limit: int = 10_000) -> None:
    if len(state.tickets) < limit:
        return
    state.tickets = {key: ticket for key, ticket in state.tickets.items() if _alive(state, ticket, now)}
    state.open_tickets = {(t.project_id, t.holder): key for key, t in state.tickets.items()}


def _alive(state: UpstreamState, ticket: Ticket, now: datetime) -> bool:
    return ticket.open and now.timestamp() - ticket.issued_at < float(state.fixture["request_id_ttl_seconds"])


def ticket_refusal(
    state: UpstreamState, project: Project, holder: str, request_id: object, now: datetime
) -> Refusal | None:
    """Why a request_id cannot be used for this project by this caller; None when it can."""
    if not isinstance(request_id, str) or not request_id:
        return invalid("request_id is required")
    ticket = state.tickets.get(request_id)
    if ticket is None and not _REQUEST_ID.fullmatch(request_id):
        return invalid("request_id is unknown")
    if ticket is None:
        # Well-formed but not remembered: issued before a restart, or long ago.
        return Refusal(410, "request_expired", "The request has expired")
    if (ticket.project_id, ticket.client_id, ticket.holder) != (project.project_id, project.client_id, holder):
        return invalid("request_id belongs to another project")
    if not _alive(state, ticket, now):
        return Refusal(410, "request_expired", "The request has expired or was used")
    return None


# --- changes --------------------------------------------------------------------------------------------------------


def book(
    state: UpstreamState, project: Project, holder: str, body: Json, origin: Origin, now: datetime, breaches: list[str]
) -> Json:
    """E6: take one offered slot; the office still has to approve. Consumes the ticket."""
    day, slot, request_id = read_booking(body)
    lenient = state.switches.lenient
    if project.seed.get("not_allowed"):
        check_eligible(project)
    if status_group(project.standing.status) != "schedulable" and not lenient:
        raise wrong_step(project, READY)
    refusal = ticket_refusal(state, project, holder, request_id, now)
    if refusal and not lenient:
        raise refusal
    if refusal:
        breaches.append("writes_without_request")
    start = f"{day.isoformat()}T{slot}"
    if not lenient:
        check_slot(state, project, day, slot, now)
    elif held := project.standing.slot:
        project.further_slots.append(held)
    before = state.write(project, Standing(TENTATIVE, start, _end(project, start), None))
    project.released_at = None
    if isinstance(request_id, str) and request_id in state.tickets:
        state.tickets[request_id].open = False
    entry = state.commit_project("schedule", origin, now, project, before, breaches, request_id=request_id)
    return {
        "project_id": project.project_id,
        "scheduled_date": day.isoformat(),
        "scheduled_time": slot,
        "request_id": request_id,
        "confirmation_number": f"PF-{entry['seq']:06d}",
    }


def read_booking(body: Json) -> tuple[date, str, object]:
    """Day, start time and request_id of an E6 body whose other fields are as the upstream wants them."""
    day, slot = read_date(body.get("date")), read_time(body.get("time"))
    created_at = body.get("created_at")
    if not isinstance(created_at, str) or not any(_reads_as(created_at, form) for form in CREATED_AT_FORMATS):
        raise invalid("created_at must be MM-DD-YYYY HH:MM:SS")
    if body.get("is_chatbot") != "true":
        raise invalid('is_chatbot must be the string "true"')
    return day, slot, body.get("request_id")


def _reads_as(text: str, form: str) -> bool:
    try:
        datetime.strptime(text, form)
    except ValueError:
        return False
    return True


def check_slot(state: UpstreamState, project: Project, day: date, slot: str, now: datetime) -> None:
    text = day.isoformat()
    if slot in state.offered(project, now).get(text, ()):
        return
    closed = state.clients[project.client_id].get("closed_dates") or ()
    if slot in project.availability.get(text, ()) and _in_window(state, day, now) and text not in closed:
        raise Refusal(409, "slot_taken", "This slot has just been taken")
    raise invalid("This date and time are not offered")


def wrong_step(project: Project, wanted: str) -> Refusal:
    status = project.standing.status
    return Refusal(400, "invalid_step", f"Invalid process step: project status should be {wanted}, it is {status}")


def release(
    state: UpstreamState, project: Project, origin: Origin, now: datetime, breaches: list[str], office: bool
) -> Json:
    """E7: give the appointment up in order to move it. Tickets stay valid."""
    check_changeable(state, project, now, office)
    project.released_at = now.timestamp()
    seq = _vacate(state, project, PENDING_RESCHEDULE, "cancel_reschedule", origin, now, breaches)
    return {
        "message": "The appointment was released; please choose a new slot",
        "cancelled_at": now.isoformat(),
        "cancellation_id": f"PF-{seq:06d}",
    }


def cancel(
    state: UpstreamState, project: Project, origin: Origin, now: datetime, breaches: list[str], office: bool
) -> Json:
    """E8: give the appointment up for good; the project can be booked again. Also ends a move that was begun."""
    if project.released_at is None or project.standing.slot:
        check_changeable(state, project, now, office)
    project.released_at = None
    seq = _vacate(state, project, READY, "cancel", origin, now, breaches)
    return {
        "message": "The appointment was cancelled",
        "cancelled_at": now.isoformat(),
        "cancellation_id": f"PF-{seq:06d}",
    }


def check_changeable(state: UpstreamState, project: Project, now: datetime, office: bool) -> None:
    """Refuse what has no appointment, and (to all but the office) what starts within the cutoff."""
    if project.seed.get("not_allowed"):
        check_eligible(project)
    start = project.standing.slot
    if start is None or status_group(project.standing.status) not in ("scheduled", "schedulable"):
        raise wrong_step(project, SCHEDULED)
    hours = float(state.fixture["change_cutoff_hours"])
    # Epoch seconds: wall-clock subtraction would be an hour out where the clocks change in between.
    left = datetime.fromisoformat(start).replace(tzinfo=now.tzinfo).timestamp() - now.timestamp()
    if left < hours * 3600 and not office and not state.switches.lenient:
        raise Refusal(409, "cutoff", f"Changes are not possible less than {hours:g} hours before the start")


def _vacate(
    state: UpstreamState,
    project: Project,
    status: str,
    kind: str,
    origin: Origin,
    now: datetime,
    breaches: list[str],
) -> int:
    """Free every slot the project holds, offer them again, and log it; answers the commit's number."""
    for slot in project.slots_held():
        day, _, time = slot.partition("T")
        project.availability[day] = sorted({*project.availability.get(day, ()), time})
    project.further_slots.clear()
    before = state.write(project, Standing(status, None, None, None))
    return int(state.commit_project(kind, origin, now, project, before, breaches)["seq"])


def add_note(
    state: UpstreamState, project: Project, body: Json, origin: Origin, now: datetime, breaches: list[str]
) -> Json:
    """E9: append a note; answers it whole."""
    text, author = body.get("note_text"), body.get("author", DEFAULT_AUTHOR)
    if not isinstance(text, str) or not isinstance(author, str):
        raise malformed("note_text must be a string")
    if not text.strip() or len(text) > NOTE_LENGTH:
        raise invalid(f"note_text must have 1 to {NOTE_LENGTH} characters")
    if len(author) > AUTHOR_LENGTH:
        raise invalid(f"author must have at most {AUTHOR_LENGTH} characters")
    if state.seen_note_before(project.project_id, text):
        breaches.append("duplicate_notes_5s")
    note = {
        "note_id": state.next_note_id(),
        "project_id": project.project_id,
        "author": author,
        "created_at": now.strftime("%Y-%m-%dT%H:%M:%S"),
        "note_text": text,
    }
    state.notes.append(note)
    state.commit_project("add_note", origin, now, project, project.standing, breaches, note=dict(note))
    return note


def notes_of(state: UpstreamState, project: Project) -> list[Json]:
    """E11: a project's notes, oldest first."""
    mine = [note for note in state.notes if note["project_id"] == project.project_id]
    return [{**note, "updated_at": note["created_at"]} for note in mine]


# --- the office and other people ------------------------------------------------------------------------------------


def approve(state: UpstreamState, project: Project, technician: str | None, origin: Origin, now: datetime) -> Json:
    """The office accepts a tentative appointment, perhaps with a technician."""
    standing = project.standing
    if standing.status != TENTATIVE:
        raise wrong_step(project, TENTATIVE)
    before = state.write(project, Standing(SCHEDULED, standing.start, standing.end, technician or standing.technician))
    return state.commit_project("approve", origin, now, project, before)


def take(
    state: UpstreamState, project: Project, day: date, slot: str, origin: Origin, now: datetime, force: bool
) -> Json:
    """Somebody else books a slot of this project; it is offered no more.

    A slot the project itself holds is refused unless `force`, which makes a double booking for tests.
    """
    start = f"{day.isoformat()}T{slot}"
    if start in project.slots_held() and not force:
        raise Refusal(409, "slot_taken", "The project itself holds this slot")
    state.taken.add((project.project_id, start))
    return state.commit_project("take", origin, now, project, project.standing, slot=start)


def _end(project: Project, start: str) -> str:
    return (datetime.fromisoformat(start) + timedelta(hours=float(project.seed["hours"]))).isoformat()
