"""What was observed of one conversation: the product's answers beside the simulator's own account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

JsonObject = dict[str, Any]

GATED = frozenset({"confirm_appointment", "reschedule_appointment", "cancel_appointment", "bulk_assign_teams"})
WRITES = GATED | {"add_note"}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One entry of a reply's `tool_calls`: effective arguments, and how the call ended."""

    tool: str
    args: JsonObject = field(default_factory=dict)
    status: str = "ok"  # ok, error, unknown; pending and refused calls did not run

    @property
    def ran(self) -> bool:
        """Whether it was executed; a proposed call that waits for a yes, or was refused by code, was not."""
        return self.status not in ("pending", "refused")

    @property
    def is_write(self) -> bool:
        """Whether it ran and changes what the simulator holds.

        `request_human` stores a callback with the product alone and is no write in this sense.
        """
        return self.ran and self.tool in WRITES


@dataclass(frozen=True, slots=True)
class Pending:
    """An action that waits for a yes."""

    pending_id: str
    tool: str
    args: JsonObject


@dataclass(frozen=True, slots=True)
class Commit:
    """One state change, as the simulator committed it."""

    endpoint: str  # schedule, cancel_reschedule, cancel, add_note, assign
    project_id: str
    date: str | None = None  # of the slot taken, or of the assignment
    time: str | None = None  # HH:MM
    note_text: str | None = None
    team: str | None = None
    previous_start: str | None = None  # start that the project had before, when the simulator says so


@dataclass(frozen=True, slots=True)
class Spent:
    """What the models of one turn were asked and cost; nothing is known of a turn that failed."""

    model_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class ObservedTurn:
    """One user message and everything that followed from it."""

    user: str
    text: str
    specialist: str = ""
    status: str = "completed"
    calls: tuple[ToolCall, ...] = ()
    pending_before: tuple[Pending, ...] = ()
    pending: tuple[Pending, ...] = ()
    citations: tuple[str, ...] = ()  # document ids
    parts: tuple[Any, ...] = ()
    commits: tuple[Commit, ...] = ()
    requests: tuple[str, ...] = ()  # paths that the product asked of the simulator
    now: datetime | None = None
    error: str | None = None  # the API refused or failed the turn
    duration_s: float = 0.0
    spent: Spent = Spent()

    @property
    def fresh_pending(self) -> tuple[Pending, ...]:
        """Actions that became pending in this turn."""
        known = {(p.pending_id, p.tool, repr(sorted(p.args.items()))) for p in self.pending_before}
        return tuple(p for p in self.pending if (p.pending_id, p.tool, repr(sorted(p.args.items()))) not in known)


@dataclass(frozen=True, slots=True)
class FinalState:
    """What the simulator holds at the end."""

    projects: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # id -> {status, start}
    notes: Mapping[str, int] = field(default_factory=dict)  # id -> how many
    assignments: Mapping[str, str] = field(default_factory=dict)  # id -> team


@dataclass(frozen=True, slots=True)
class Transcript:
    """A whole conversation."""

    turns: tuple[ObservedTurn, ...]
    state: FinalState = FinalState()
    invariants: Mapping[str, int] = field(default_factory=dict)
    tickets: tuple[str, ...] = ()  # request_ids that the simulator issued
    session_id: str = ""
    faulted: int = 0  # requests of the product that met a fault
