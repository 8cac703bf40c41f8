"""A small world around the agent: tools over a dictionary, a ledger in memory, a clock that stands still.

The tools mean what the real ones mean (two projects of one customer, slots, a booking that needs a yes), without a
network. `World.writes` is what a reviewer checks: every effect that took place, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from agent.ports import Decision, Earlier, EffectKey, PendingAction, TurnInput, TurnWork
from agent.transcript import JsonObject, Message, UserMessage
from tools.contract import (
    Directory,
    Identity,
    InvalidArguments,
    Location,
    Prepared,
    ToolContext,
    ToolError,
    ToolResult,
    ToolSpec,
    ToolState,
    UnknownTool,
)

NOW = datetime(2026, 3, 11, 9, 30, tzinfo=ZoneInfo("America/New_York"))
CUSTOMER = Identity("customer", "7000101", "B2C", "20OC01BK", ("20OC01BK",))
OFFICES = Directory(
    {
        "20OC01BK": Location("20OC01BK", "brookhaven", "Brookhaven Office", "Brookhaven", "555-0111", str(NOW.tzinfo)),
        "20OC02LM": Location("20OC02LM", "lakemont", "Lakemont Office", "Lakemont", "555-0122", str(NOW.tzinfo)),
    }
)
TEXT: JsonObject = {"type": "string"}
DAY: JsonObject = {"type": "string", "format": "date"}
TIME: JsonObject = {"type": "string", "format": "time"}
PROJECTS = {
    "410001": {
        "order_number": "SO-26-1001_1",
        "title": "Flooring Installation",
        "category": "Flooring",
        "type": "Installation",
    },
    "410002": {
        "order_number": "SO-26-1002_1",
        "title": "Windows Installation",
        "category": "Windows",
        "type": "Installation",
    },
}
PLANNED = {"410002": ("2026-03-18", "08:00")}
OFFER = {"2026-03-16": ("08:00", "10:00", "13:00", "15:00"), "2026-03-19": ("08:00", "13:00")}


def _spec(name: str, effect: Literal["read", "write", "gated"], group: str, **parameters: JsonObject) -> ToolSpec:
    schema = {"type": "object", "properties": parameters, "required": [k for k in parameters if k != "reason"]}
    return ToolSpec(name, f"The tool {name}.", schema, effect, group)


SPECS = (
    _spec("list_projects", "read", "scheduling"),
    _spec("get_available_dates", "read", "scheduling", project_id=TEXT),
    _spec("get_time_slots", "read", "scheduling", project_id=TEXT, date=DAY),
    _spec("confirm_appointment", "gated", "scheduling", project_id=TEXT, date=DAY, time=TIME),
    _spec("reschedule_appointment", "gated", "scheduling", project_id=TEXT, new_date=DAY, new_time=TIME),
    _spec("cancel_appointment", "gated", "scheduling", project_id=TEXT, reason=TEXT),
    _spec("get_working_hours", "read", "information"),
    _spec("add_note", "write", "notes", project_id=TEXT, note_text=TEXT),
    _spec("list_notes", "read", "notes", project_id=TEXT),
)


class NotFound(ToolError):
    """No such project for this caller."""

    code = "not_found"


class NotOffered(ToolError):
    """The slot is not open."""

    code = "not_offered"


@dataclass
class FixedClock:
    """Stands still until it is set."""

    at: datetime = NOW

    def now(self) -> datetime:
        """The set time."""
        return self.at


class NoCallbacks:
    """Keeps nothing."""

    async def record(self, reason: str, summary: str, effect_key: str) -> str:
        """Accept."""
        return "CB-1"


@dataclass
class MemoryLedger:
    """Effects intended and settled, by key."""

    intents: dict[str, EffectKey] = field(default_factory=dict)
    results: dict[str, ToolResult] = field(default_factory=dict)

    async def intend(self, effect: EffectKey) -> Earlier | None:
        """As the port says."""
        if effect.key in self.results:
            return Earlier("settled", self.results[effect.key])
        if effect.key in self.intents:
            return Earlier("intended")
        self.intents[effect.key] = effect
        return None

    async def settle(self, effect: EffectKey, result: ToolResult) -> None:
        """As the port says."""
        self.results[effect.key] = result


Outcome = Callable[[str, JsonObject], ToolResult]


@dataclass
class FakeToolbox:
    """The tools of one customer. `outcome` overrides what a write answers; `found` what reading back finds."""

    writes: list[tuple[str, JsonObject]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    outcome: Outcome | None = None
    found: ToolResult | None = None
    during_write: Callable[[], Any] | None = None
    notes: tuple[str, ...] = ()

    def specs(self, groups: Sequence[str], identity: Identity) -> tuple[ToolSpec, ...]:
        """All of them."""
        return SPECS

    async def prepare(self, name: str, args: JsonObject, ctx: ToolContext) -> Prepared:
        """Validate, resolve, decide."""
        spec = next((s for s in SPECS if s.name == name), None)
        if spec is None:
            raise UnknownTool("There is no such tool.")
        if missing := [key for key in spec.parameters["required"] if key not in args]:
            errors = [{"field": key, "message": "missing"} for key in missing]
            raise InvalidArguments("Something is missing.", errors=errors)
        if "project_id" not in args:
            return Prepared(spec, {"customer_id": ctx.identity.customer_id} if name == "list_projects" else args)
        project_id = _resolve(str(args["project_id"]))
        effective = {**args, "project_id": project_id}
        return Prepared(spec, effective, _restated(spec, project_id, effective))

    async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        """Answer a read, or note a write down."""
        name, args = prepared.spec.name, prepared.args
        if prepared.spec.effect == "read":
            self.reads.append(name)
            return ToolResult("ok", self._read(name, args))
        if self.during_write is not None:
            await self.during_write()
        result = self.outcome(name, args) if self.outcome else ToolResult("ok", {"ok": True, "status": "done"})
        if result.status == "ok":
            self.writes.append((name, args))
        self.keys.append(ctx.effect_key)
        return result

    async def reconcile(self, name: str, args: JsonObject, ctx: ToolContext) -> ToolResult | None:
        """What reading back finds."""
        return self.found

    def _read(self, name: str, args: JsonObject) -> JsonObject:
        if name == "list_projects":
            return {"ok": True, "projects": [{"list_index": n, **p} for n, p in enumerate(PROJECTS.values(), 1)]}
        if name == "get_available_dates":
            return {"ok": True, "dates": [{"date": day} for day in OFFER]}
        if name == "get_time_slots":
            return {"ok": True, "date": args["date"], "slots": [_clock(t) for t in OFFER.get(args["date"], ())]}
        if name == "list_notes":
            return {"ok": True, "notes": list(self.notes)}
        return {"ok": True, "days": [{"day": "Monday", "open": "8:00 AM", "close": "5:00 PM"}]}


@dataclass
class World:
    """One conversation and what surrounds it; `turn` makes the input of the next turn."""

    toolbox: FakeToolbox = field(default_factory=FakeToolbox)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    clock: FixedClock = field(default_factory=FixedClock)
    identity: Identity = CUSTOMER
    conversation_id: UUID = field(default_factory=uuid4)
    history: list[Message] = field(default_factory=list)
    pending: list[PendingAction] = field(default_factory=list)
    _last: tuple[TurnInput, TurnWork] | None = None

    @property
    def writes(self) -> list[tuple[str, JsonObject]]:
        """Effects that took place."""
        return self.toolbox.writes

    def turn(self, text: str, decision: Decision | None = None) -> TurnInput:
        """The next turn: what the last one left, plus this message."""
        return TurnInput(
            tenant="acme",
            conversation_id=self.conversation_id,
            turn_id=uuid4(),
            message_id=uuid4(),
            text=text,
            history=tuple(self.history),
            pending=tuple(self.pending),
            tools=self.context(),
            ledger=self.ledger,
            decision=decision,
        )

    def context(self) -> ToolContext:
        """What tools know of the caller."""
        return ToolContext(
            identity=self.identity,
            directory=OFFICES,
            clock=self.clock,
            state=ToolState(),
            pf360=None,
            callbacks=NoCallbacks(),
        )

    def keep(self, given: TurnInput, work: TurnWork) -> None:
        """What the service does after a turn: store messages and pending actions."""
        self.history += [UserMessage(given.text), *work.messages]
        gone = {change.pending_id for change in work.changed}
        self.pending = [p for p in self.pending if p.pending_id not in gone] + work.opened

    def advance(self, minutes: float) -> None:
        """Let time pass."""
        self.clock.at += timedelta(minutes=minutes)


def _resolve(given: str) -> str:
    for project_id, project in PROJECTS.items():
        if given in (project_id, project["order_number"]):
            return project_id
    raise NotFound("I can't find that order.")


def _restated(spec: ToolSpec, project_id: str, args: JsonObject) -> JsonObject:
    if spec.effect != "gated":
        return {}
    facts: JsonObject = {"project": PROJECTS[project_id], "address": "12 Sample Ln, Brookhaven, FL 34901"}
    planned = PLANNED.get(project_id)
    if spec.name == "cancel_appointment":
        if planned is None:
            raise NotFound("There is no visit to cancel.")
        return {**facts, **_slot(*planned), "reason": args.get("reason")}
    day, start = (args["date"], args["time"]) if "date" in args else (args["new_date"], args["new_time"])
    if start not in OFFER.get(day, ()):
        raise NotOffered("That time is not open.")
    old = {"old": _slot(*planned)} if planned and spec.name == "reschedule_appointment" else {}
    return {**facts, **_slot(day, start), **old}


def _slot(day: str, start: str) -> JsonObject:
    return {"date": day, "weekday": date.fromisoformat(day).strftime("%A"), "time": _clock(start)}


def _clock(start: str) -> str:
    return datetime.strptime(start, "%H:%M").strftime("%I:%M %p").lstrip("0")
