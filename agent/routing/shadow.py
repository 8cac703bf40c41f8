"""A turn that another model runs again, in a world where nothing happens.

`RecordingToolbox` stands before the tools of the real turn and keeps what they answered; `RecordedToolbox` gives these
answers again, and has no tools behind it. Of the surroundings of the real turn only facts are left: no ledger, no
client, no connection, no state of tools. So whatever the model does, there is nothing it could do it to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, TypeVar, cast

import orjson

from agent.definition import AgentDefinition
from agent.events import ModelStarted, ReasoningDelta, TextDelta, ToolRequested, TurnCompleted, TurnEvent, TurnFailed
from agent.graph import run_turn
from agent.ports import Earlier, EffectKey, Stop, TurnInput, TurnWork
from agent.routing.failover import NotAdmitted
from agent.routing.plan import Candidate, Gate, Plan, Purse
from agent.routing.same_call import Things, differing
from agent.transcript import JsonObject
from tools.contract import Identity, Prepared, Toolbox, ToolContext, ToolError, ToolResult, ToolSpec, ToolState

Answer = TypeVar("Answer", Prepared, ToolResult)


class NotInComparison(ToolError):
    """The real turn did not make this call, so there is no answer to it."""

    code = "not_in_comparison"

    def __init__(self) -> None:
        super().__init__("That is not available in this comparison.")


@dataclass(frozen=True, slots=True)
class _Preparation:
    """A proposed call of the real turn, and what came of its checks."""

    tool: str
    args: JsonObject
    came: Prepared | ToolError

    @property
    def forms(self) -> tuple[JsonObject, ...]:
        return (self.args, self.came.args) if isinstance(self.came, Prepared) else (self.args,)


@dataclass(frozen=True, slots=True)
class _Execution:
    tool: str
    args: JsonObject
    came: ToolResult | ToolError


class RecordingToolbox:
    """A `Toolbox` that passes everything on and keeps what was answered."""

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools
        self.offered: tuple[ToolSpec, ...] = ()
        self.preparations: list[_Preparation] = []
        self.executions: list[_Execution] = []

    def specs(self, groups: Sequence[str], identity: Identity) -> tuple[ToolSpec, ...]:
        """See `Toolbox.specs`."""
        self.offered = self._tools.specs(groups, identity)
        return self.offered

    async def prepare(self, name: str, args: JsonObject, ctx: ToolContext) -> Prepared:
        """See `Toolbox.prepare`."""
        try:
            prepared = await self._tools.prepare(name, args, ctx)
        except ToolError as error:
            self.preparations.append(_Preparation(name, args, error))
            raise
        self.preparations.append(_Preparation(name, args, prepared))
        return prepared

    async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        """See `Toolbox.execute`."""
        try:
            result = await self._tools.execute(prepared, ctx)
        except ToolError as error:
            self.executions.append(_Execution(prepared.spec.name, prepared.args, error))
            raise
        self.executions.append(_Execution(prepared.spec.name, prepared.args, result))
        return result

    async def reconcile(self, name: str, args: JsonObject, ctx: ToolContext) -> ToolResult | None:
        """See `Toolbox.reconcile`."""
        return await self._tools.reconcile(name, args, ctx)


class RecordedToolbox:
    """A `Toolbox` made of what one turn was answered; any other call is `NotInComparison`.

    A call is one of the turn's when its arguments mean the same (`Things`). Where there is none, one is taken that
    differs in its free text alone (`free_text`: tool -> argument). The same call again gets the next answer, the last
    one in the end.
    """

    def __init__(self, recording: RecordingToolbox, things: Things, free_text: Mapping[str, frozenset[str]]) -> None:
        # What it holds is the record alone: nothing leads from here to the tools that made it.
        self._offered = recording.offered
        self._specs = {spec.name: spec for spec in recording.offered}
        self._preparations = tuple(recording.preparations)
        self._executions = tuple(recording.executions)
        self._things = things
        self._free_text = free_text
        self._asked: Counter[str] = Counter()

    def specs(self, groups: Sequence[str], identity: Identity) -> tuple[ToolSpec, ...]:
        """Those that the turn was offered."""
        return self._offered

    async def prepare(self, name: str, args: JsonObject, ctx: ToolContext) -> Prepared:
        """What the turn's call was made of by its checks, or the error that came of it."""
        spec = self._specs.get(name)
        if spec is None:
            raise NotInComparison
        of_tool = [each for each in self._preparations if each.tool == name]
        unlike = [set(differing(spec, self._things, [args], each.forms)) for each in of_tool]
        for allowed in (frozenset[str](), self._free_text.get(name, frozenset())):
            if matching := [each.came for each, names in zip(of_tool, unlike, strict=True) if names <= allowed]:
                return self._next(f"prepare {name} {_text(args)}", matching)
        raise NotInComparison

    async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        """What the turn's call was answered."""
        name, args = prepared.spec.name, prepared.args
        if matching := [each.came for each in self._executions if (each.tool, each.args) == (name, args)]:
            return self._next(f"execute {name} {_text(args)}", matching)
        raise NotInComparison

    async def reconcile(self, name: str, args: JsonObject, ctx: ToolContext) -> ToolResult | None:
        """Nothing was ever begun, so nothing is read back."""
        raise NotInComparison

    def _next(self, call: str, answers: Sequence[Answer | ToolError]) -> Answer:
        came = answers[min(self._asked[call], len(answers) - 1)]
        self._asked[call] += 1
        if isinstance(came, ToolError):
            raise came
        return came


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run of the turn ended. `first_ms` is from the first question to a model until its first sign."""

    work: TurnWork
    status: Literal["completed", "waiting", "failed"]
    code: str = ""  # of a failure
    first_ms: float | None = None
    was_refused: bool = False  # not by the model: as much is asked of it as may be


class Watch:
    """Reads off the events of a turn how it goes."""

    def __init__(self) -> None:
        self._asked_at: datetime | None = None
        self._first_ms: float | None = None
        self._final: TurnCompleted | TurnFailed | None = None

    def see(self, event: TurnEvent) -> None:
        """Take note of the next event."""
        if isinstance(event, ModelStarted):
            self._asked_at = self._asked_at or event.at
        elif isinstance(event, TextDelta | ReasoningDelta | ToolRequested):
            if self._first_ms is None and self._asked_at is not None:
                self._first_ms = (event.at - self._asked_at).total_seconds() * 1000
        elif isinstance(event, TurnCompleted | TurnFailed):
            self._final = event

    def ran(self, work: TurnWork) -> Ran | None:
        """How it ended; None when it did not come to an end."""
        if isinstance(self._final, TurnFailed):
            return Ran(work, "failed", self._final.code, self._first_ms)
        if self._final is None or self._final.status not in ("completed", "waiting"):
            return None
        return Ran(work, self._final.status, first_ms=self._first_ms)


def rehearsal(turn: TurnInput) -> TurnInput:
    """What the turn starts from, for a run without consequences: facts are left, and the hour stands still.

    Tools are not run, so they need no state either.
    """
    nothing = _Nothing(turn.tools.clock.now())
    tools = replace(turn.tools, clock=nothing, state=ToolState(), pf360=None, callbacks=nothing, client=None)
    return replace(turn, tools=tools, ledger=nothing, clients=None, first_seq=0, stop=Stop(), begun=())


async def rehearse(
    definition: AgentDefinition,
    candidate: Candidate,
    purse: Purse | None,
    toolbox: RecordedToolbox,
    turn: TurnInput,
    classify: Callable[[str], str],
) -> Ran | None:
    """Run a turn made by `rehearsal` with this model alone. None when it did not come to an end.

    The model's circuit and statistics hear nothing of it, and it never waits for a place that another call may want.
    """
    gate = _NoQueue(candidate.gate) if candidate.gate else None
    work, watch = TurnWork(), Watch()
    plan = Plan((replace(candidate, arm="primary", breaker=None, gate=gate),), purse=purse)
    events = cast(AsyncGenerator[TurnEvent, None], run_turn(definition, plan, toolbox, turn, work, classify))
    async with aclosing(events):
        async for event in events:
            watch.see(event)
    ran = watch.ran(work)
    return replace(ran, was_refused=True) if ran and gate and gate.refused else ran


@dataclass(frozen=True, slots=True)
class _Nothing:
    """Clock, ledger and callbacks of a run without consequences."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    async def intend(self, effect: EffectKey) -> Earlier | None:
        return None

    async def settle(self, effect: EffectKey, result: ToolResult) -> None:
        return None

    async def record(self, reason: str, summary: str, effect_key: str) -> str:
        raise NotInComparison


class _NoQueue:
    """A gate that is passed at once or not at all."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.refused = False

    @asynccontextmanager
    async def passing(self, deadline_s: float) -> AsyncIterator[None]:
        try:
            async with self._gate.passing(0.0):
                yield
        except NotAdmitted:
            self.refused = True
            raise

    def throttled(self, retry_after_s: float | None) -> None:
        """Live calls find out by themselves."""


def _text(args: JsonObject) -> str:
    return orjson.dumps(args, option=orjson.OPT_SORT_KEYS).decode()
