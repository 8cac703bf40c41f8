"""What the simulated upstream knows: projects, tickets, notes, assignments and the log of all changes.

Plain data without HTTP. Every rule over it is a synchronous function, so a change is never interleaved with another
one: of two requests for the same slot exactly one finds it free.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from .fixture import Json
from .statuses import status_group

COMMITS_IN_MEMORY = 5_000
COMMITS_IN_FILE = 200
DUPLICATE_NOTE_WINDOW_S = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """The changing part of a project; replaced as a whole by each write. Times are local, without offset."""

    status: str
    start: str | None
    end: str | None
    technician: str | None

    @property
    def slot(self) -> str | None:
        """Start of the appointment that is held now, None when nothing is."""
        return self.start if self.start and status_group(self.status) not in ("terminal", "unknown") else None


@dataclass(slots=True)
class Project:
    """One project: its seed row, its standing, and the slots the upstream would offer for it."""

    seed: Json
    standing: Standing
    availability: dict[str, list[str]]
    # Further appointments exist only when the `lenient` switch let a second booking through.
    further_slots: list[str] = field(default_factory=list)
    released_at: float | None = None

    @property
    def project_id(self) -> str:
        return str(self.seed["project_id"])

    @property
    def client_id(self) -> str:
        return str(self.seed["client_id"])

    @property
    def customer_id(self) -> str:
        return str(self.seed["customer_id"])

    def slots_held(self) -> list[str]:
        slot = self.standing.slot
        return [*self.further_slots, slot] if slot else list(self.further_slots)


@dataclass(slots=True)
class Ticket:
    """One availability search, without which nothing can be booked."""

    request_id: str
    project_id: str
    client_id: str
    holder: str
    issued_at: float
    open: bool = True


@dataclass(slots=True)
class Switches:
    """Variants of the upstream that cannot be verified, each off unless the admin API turns it on."""

    shared_capacity: bool = False  # equal slots of one client compete
    lenient: bool = False  # breaches are committed and counted instead of refused
    release_answers_dates: bool = False  # E7 answers with dates and a request_id
    per_client_rps: float | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a change came from: `api` with the caller's claims, or `admin`."""

    source: str
    method: str
    path: str
    caller: Json | None = None


class UpstreamState:
    """All data of one simulated upstream, built from a fixture whose dates are already in place."""

    def __init__(self, fixture: Json) -> None:
        self.fixture = fixture
        self.switches = Switches()
        self.clients: dict[str, Json] = {client["client_id"]: client for client in fixture["clients"]}
        self.customers: dict[str, Json] = {str(row["customer_id"]): row for row in fixture["customers"]}
        self.projects = {str(row["project_id"]): _project(row, fixture) for row in fixture["projects"]}
        self.notes: list[Json] = [dict(note) for note in fixture["notes"]]
        self.queue: dict[str, Json] = {str(row["project_id"]): row for row in fixture["queue"]}
        self.teams: dict[str, Json] = {team["team"]: team for team in fixture["teams"]}
        self.assignments: dict[str, Json] = {
            key: dict(row["assigned"]) for key, row in self.queue.items() if row.get("assigned")
        }
        self.tickets: dict[str, Ticket] = {}
        self.open_tickets: dict[tuple[str, str], str] = {}
        self.taken: set[tuple[str, str]] = set()
        self.commits: deque[Json] = deque(maxlen=COMMITS_IN_MEMORY)
        self.commit_count = 0
        self.breaches: Counter[str] = Counter()
        # What E1 shows while `stale_read` is on: per customer, the last project written and how it stood before.
        self.before_last_write: dict[str, tuple[str, Standing]] = {}
        self._fixture_json: orjson.Fragment | None = None
        self._last_note: int | None = None
        self._note_times: deque[tuple[float, tuple[str, str]]] = deque()
        self._last_noted: dict[tuple[str, str], float] = {}
        self.projects_of: dict[tuple[str, str], list[Project]] = {}
        for project in self.projects.values():
            self.projects_of.setdefault((project.client_id, project.customer_id), []).append(project)

    @property
    def queue_client(self) -> str | None:
        """The client whose coordinators own the work list: that of the teams."""
        return next((str(team["client_id"]) for team in self.teams.values()), None)

    def offered(self, project: Project, now: datetime) -> dict[str, list[str]]:
        """Bookable slots by day, from tomorrow to the horizon, in no promised order of days."""
        today = now.date()
        first = (today + timedelta(days=1)).isoformat()
        last = (today + timedelta(days=int(self.fixture["booking_horizon_days"]))).isoformat()
        closed = self.clients[project.client_id].get("closed_dates") or ()
        busy = self._busy_slots(project)
        days: dict[str, list[str]] = {}
        for day, times in project.availability.items():
            if first <= day <= last and day not in closed:
                free = [slot for slot in times if f"{day}T{slot}" not in busy]
                if free:
                    days[day] = free
        return days

    def _busy_slots(self, project: Project) -> set[str]:
        busy = {slot for project_id, slot in self.taken if project_id == project.project_id}
        busy.update(project.slots_held())
        if self.switches.shared_capacity:
            for other in self.projects.values():
                if other is not project and other.client_id == project.client_id:
                    busy.update(other.slots_held())
        return busy

    def write(self, project: Project, standing: Standing) -> Standing:
        """Replace a project's standing; answers the one before."""
        before = project.standing
        self.before_last_write[project.customer_id] = (project.project_id, before)
        project.standing = standing
        return before

    def commit(self, kind: str, origin: Origin, now: datetime, breaches: Iterable[str] = (), **facts: Any) -> Json:
        """Append one entry to the commit log and count the invariants it broke."""
        broken = list(breaches)
        self.breaches.update(broken)
        self.commit_count += 1
        entry = {
            "seq": self.commit_count,
            "at": now.isoformat(),
            "kind": kind,
            "source": origin.source,
            "method": origin.method,
            "path": origin.path,
            "caller": origin.caller,
            "breaches": broken,
            **facts,
        }
        self.commits.append(entry)
        return entry

    def commit_project(
        self,
        kind: str,
        origin: Origin,
        now: datetime,
        project: Project,
        before: Standing,
        breaches: Iterable[str] = (),
        **facts: Any,
    ) -> Json:
        """A commit about one project, with its standing before and after."""
        return self.commit(
            kind,
            origin,
            now,
            breaches,
            project_id=project.project_id,
            client_id=project.client_id,
            customer_id=project.customer_id,
            before=asdict(before),
            after=asdict(project.standing),
            **facts,
        )

    def seen_note_before(self, project_id: str, text: str) -> bool:
        """Whether the same text reached the same project within 5 real seconds; remembers this one."""
        now = time.time()
        while self._note_times and now - self._note_times[0][0] > DUPLICATE_NOTE_WINDOW_S:
            at, key = self._note_times.popleft()
            if self._last_noted[key] == at:
                del self._last_noted[key]
        seen = (project_id, text) in self._last_noted
        self._last_noted[project_id, text] = now
        self._note_times.append((now, (project_id, text)))
        return seen

    def next_note_id(self) -> str:
        # Notes are only ever appended, so their ids need reading once.
        if self._last_note is None:
            tails = (str(note["note_id"]).rpartition("-")[2] for note in self.notes)
            self._last_note = max((int(tail) for tail in tails if tail.isdigit()), default=9000)
        self._last_note += 1
        return f"note-{self._last_note}"

    def to_json(self) -> Json:
        """Everything needed to go on after a restart, for orjson, which writes
        dataclasses as objects. Dates in it move with `shift_weeks`."""
        if self._fixture_json is None:
            self._fixture_json = orjson.Fragment(orjson.dumps(self.fixture))
        return {
            "fixture": self._fixture_json,
            "projects": {
                key: {
                    "standing": project.standing,
                    "availability": project.availability,
                    "further_slots": project.further_slots,
                    "released_at": project.released_at,
                }
                for key, project in self.projects.items()
            },
            "notes": self.notes,
            "assignments": self.assignments,
            "taken": sorted(list(pair) for pair in self.taken),
            "tickets": [ticket for ticket in self.tickets.values() if ticket.open],
            "commit_count": self.commit_count,
            "commits": list(self.commits)[-COMMITS_IN_FILE:],
            "breaches": dict(self.breaches),
        }

    @classmethod
    def from_json(cls, stored: Json) -> UpstreamState:
        """The state that `to_json` wrote; `KeyError`, `TypeError` or `ValueError` when it is another thing."""
        state = cls(stored["fixture"])
        for key, row in stored["projects"].items():
            project = state.projects[key]
            project.standing = Standing(**row["standing"])
            project.availability = row["availability"]
            project.further_slots = row["further_slots"]
            project.released_at = row["released_at"]
        state.notes = stored["notes"]
        state.assignments = stored["assignments"]
        state.taken = {(project_id, slot) for project_id, slot in stored["taken"]}
        for row in stored["tickets"]:
            ticket = Ticket(**row)
            state.tickets[ticket.request_id] = ticket
            state.open_tickets[ticket.project_id, ticket.holder] = ticket.request_id
        state.commit_count = stored["commit_count"]
        state.commits.extend(stored["commits"])
        state.breaches = Counter(stored["breaches"])
        return state


def _project(row: Json, fixture: Json) -> Project:
    templates = fixture["slot_templates"]
    return Project(
        seed=row,
        standing=Standing(row["status"], row.get("start"), row.get("end"), row.get("technician")),
        availability={
            day: list(templates[slots] if isinstance(slots, str) else slots)
            for day, slots in (row.get("availability") or {}).items()
        },
    )
