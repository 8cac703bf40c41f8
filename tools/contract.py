"""What a tool is, seen from outside: its schema, its effect, its arguments, its outcome.

The agent knows tools only through this module. A call goes through three steps, each of which can refuse:
`Toolbox.prepare` (validate, fill in what the session holds, resolve and check ownership, decide eligibility),
then, for gated tools, a person's yes, then `Toolbox.execute`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol

JsonObject = dict[str, Any]
Effect = Literal["read", "write", "gated"]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model may see it: no session-bound parameter is in `parameters` (JSON Schema of an object)."""

    name: str
    description: str
    parameters: JsonObject
    effect: Effect
    group: str
    part: str | None = None  # kind of structured part its result makes for a user interface
    by_client: bool = False  # the client of the conversation runs it, and hands the result back


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that passed every check.

    `args` are the effective, normalised arguments (JSON values; session values filled in; ids resolved).
    `restatement` holds, for gated tools, all a person must read before a yes (facts, not prose).
    """

    spec: ToolSpec
    args: JsonObject
    restatement: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """How a call ended. `data` is exactly what the model sees.

    `unknown`: an effect may or may not have happened and reading back did not settle it; it is never resent.
    """

    status: Literal["ok", "error", "unknown"]
    data: JsonObject
    upstream_status: int | None = None
    executor: str = ""  # what ran it, where a group has more than one
    parity: JsonObject | None = None  # how a second executor answered the same read; see `tools.executors.shares`


class ToolError(Exception):
    """A refusal or failure that a model can act on.

    `user_hint` is a sentence for people, free of internals; `facts` are JSON values safe to show (an office phone
    number, the slots that remain).
    """

    code: ClassVar[str] = "tool_error"
    retryable: ClassVar[bool] = False

    def __init__(self, user_hint: str, **facts: Any) -> None:
        super().__init__(user_hint)
        self.user_hint = user_hint
        self.facts = facts

    def result(self) -> ToolResult:
        """The error form that models see: `{ok: false, code, user_hint, retryable, ...facts}`."""
        data = {"ok": False, "code": self.code, "user_hint": self.user_hint, "retryable": self.retryable, **self.facts}
        return ToolResult(status="error", data=data)


class UnknownTool(ToolError):
    """No tool of that name is available to this caller."""

    code = "unknown_tool"


class TooEarly(ToolError):
    """Reading back found nothing, which says nothing yet: what was sent before may be carried out for `wait_s` more."""

    code = "too_early"
    retryable = True

    def __init__(self, wait_s: float) -> None:
        super().__init__("I can't tell yet whether that went through.")
        self.wait_s = wait_s


class InvalidArguments(ToolError):
    """The arguments do not fit the schema, or carry what only the session may fill in; `errors` lists them."""

    code = "invalid_arguments"


@dataclass(frozen=True, slots=True)
class Identity:
    """The verified caller, as far as tools need to know. Ids are opaque strings."""

    role: Literal["customer", "coordinator", "operator", "anonymous"]
    customer_id: str | None = None
    customer_type: Literal["B2C", "B2B"] | None = None
    client_id: str | None = None  # default location; None: all of `clients`
    clients: tuple[str, ...] = ()  # locations this caller may see
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """One office location (a `client` upstream): tenant data, safe to show but for the id."""

    client_id: str
    name: str  # slug in the portal's host name
    label: str
    city: str
    support_number: str | None
    timezone: str
    latitude: float | None = None  # of the office, in degrees
    longitude: float | None = None


@dataclass(frozen=True, slots=True)
class Directory:
    """All office locations of this deployment."""

    locations: Mapping[str, Location]  # by client_id
    portal_url_template: str = ""
    environment: str = "dev"
    default_hours: Mapping[str, tuple[str, str] | None] = field(default_factory=dict)  # weekday name -> (open, close)
    timezone: str = "UTC"

    def to_json(self) -> JsonObject:
        """JSON form, for packages that hold no YAML."""
        return {
            "locations": [asdict(each) for each in self.locations.values()],
            "portal_url_template": self.portal_url_template,
            "environment": self.environment,
            "default_hours": {day: list(hours) if hours else None for day, hours in self.default_hours.items()},
            "timezone": self.timezone,
        }

    @classmethod
    def from_json(cls, body: JsonObject) -> Directory:
        """Inverse of `to_json`."""
        locations = [Location(**each) for each in body["locations"]]
        hours = {day: tuple(each) if each else None for day, each in body["default_hours"].items()}
        return cls(
            {each.client_id: each for each in locations},
            body["portal_url_template"],
            body["environment"],
            hours,
            body["timezone"],
        )


class Clock(Protocol):
    """The product's own time; follows the simulator's in evaluation."""

    def now(self) -> datetime:
        """Aware, in the deployment's default zone."""
        ...


class CallbackStore(Protocol):
    """Keeps requests for a human callback."""

    async def record(self, reason: str, summary: str, effect_key: str) -> str:
        """Store one request for the caller of this turn; the same key stores it once. Returns its reference."""
        ...


class ClientActions(Protocol):
    """Hands calls to the client of a conversation and waits for what it answers."""

    async def ask(self, tool: str, args: JsonObject, key: str, wait_s: float) -> JsonObject | None:
        """The client's result for this call, or None when none came in time; the same `key` asks once.

        A result is `{ok, ...}`, as the client sent it; asking again after a crash gives the answer that came meanwhile.
        """
        ...


# Whether a document with these attributes is for the caller.
Readable = Callable[[Mapping[str, Any]], bool]


class KnowledgeSearch(Protocol):
    """Searches documents for this deployment's assistant. Which base, and how well a passage must fit, is its affair.

    What it finds was written by anybody: text to be quoted, never instructions.
    """

    async def search(self, query: str, most: int | None, readable: Readable | None) -> JsonObject:
        """`{knowledge_base, passages, reason, explanation, milliseconds}`, at most `most` passages (None: as many as
        are usual) by falling score.

        A passage is `{document_id, title, section, page, start, end, version, score, text, uri, attributes}`; `start`
        and `end` count characters of that version of the document. Passages whose attributes are not `readable` (None:
        all are) take no place among them. Raises `KnowledgeUnavailable` (`tools.errors`).
        """
        ...


@dataclass(slots=True)
class ToolState:
    """Working state of one conversation that tools keep between calls; JSON-ready. Losing it costs latency only."""

    values: JsonObject = field(default_factory=dict)
    turn_values: JsonObject = field(default_factory=dict, compare=False)  # of this turn alone, never kept
    # Of this process only, for calls that run side by side within a turn.
    generation: int = field(default=0, repr=False, compare=False)  # counts writes: older reads are not kept
    read_at: dict[str, float] = field(default_factory=dict, repr=False, compare=False)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict, repr=False, compare=False)

    def lock(self, key: str) -> asyncio.Lock:
        """The lock of this name; one per conversation and turn."""
        return self._locks.setdefault(key, asyncio.Lock())


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of its caller and its surroundings. Made by the backend once per turn."""

    identity: Identity
    directory: Directory
    clock: Clock
    state: ToolState
    pf360: Any  # tools.pf360.client.Pf360, bound to the caller's bearer token
    callbacks: CallbackStore
    settle_seconds: float = 10.0
    write_seconds: float = 20.0  # upstream carries out what it was sent within this time, or never
    effect_key: str = ""  # set by the runtime for calls with effects
    effect_at: datetime | None = None  # when an effect to be read back was intended; None: within this turn
    quiet_seconds: float | None = None  # for how long nobody has sent that effect; None: this attempt itself did
    conversation_id: str = ""
    said: str = ""  # the person's message
    call_key: str = ""  # names this call of this turn, also when the turn is run again
    deadline: float | None = None  # time.monotonic() by which the turn must have ended
    client: ClientActions | None = None
    knowledge: KnowledgeSearch | None = None

    def seconds_left(self, at_most: float) -> float:
        """How long a call may take: its own limit, or what is left of the turn; 0 when nothing is."""
        return at_most if self.deadline is None else max(0.0, min(at_most, self.deadline - time.monotonic()))


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool as its executor offers it, and whom it is for."""

    spec: ToolSpec
    roles: frozenset[str]


class Executor(Protocol):
    """Runs tools, wherever that is. Holds no state of a conversation: one serves a whole process.

    Every implementation passes `tests/contract/test_executors.py`.
    """

    name: str

    async def open(self) -> None:
        """Learn what must be known before the first turn; raises `ExecutorError` when that cannot be had."""
        ...

    async def close(self) -> None:
        """Give back connections and processes."""
        ...

    def offered(self) -> Sequence[Offered]:
        """All its tools, once it is open."""
        ...

    async def prepare(self, name: str, args: JsonObject, ctx: ToolContext) -> Prepared:
        """See `Toolbox.prepare`."""
        ...

    async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        """See `Toolbox.execute`."""
        ...

    async def reconcile(self, name: str, args: JsonObject, ctx: ToolContext) -> ToolResult | None:
        """See `Toolbox.reconcile`."""
        ...


class Toolbox(Protocol):
    """The tools of one agent, wherever they run."""

    def specs(self, groups: Sequence[str], identity: Identity) -> tuple[ToolSpec, ...]:
        """Tools of these groups that this caller may use."""
        ...

    async def prepare(self, name: str, args: JsonObject, ctx: ToolContext) -> Prepared:
        """Check a proposed call and fill in what the session holds; raises `ToolError`. Has no effect upstream."""
        ...

    async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        """Run it. Expected failures come back as results; only bugs raise."""
        ...

    async def reconcile(self, name: str, args: JsonObject, ctx: ToolContext) -> ToolResult | None:
        """Read back whether an effect with these effective arguments took place; None: it did not, and never will.

        An `error` result says that it broke off half-way, and how things stand. Raises `TooEarly` where an earlier
        attempt may go on after `ctx.quiet_seconds`, other `ToolError`s when it cannot be known.
        """
        ...
