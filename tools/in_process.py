"""Runs actions in this process: an executor that a Lambda handler uses as well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

from tools.action import Action, by_name
from tools.contract import JsonObject, Offered, Prepared, ToolContext, ToolError, ToolResult, UnknownTool
from tools.effects import UNKNOWN_HINT
from tools.errors import LATE, NO_TIME, OutcomeUncertain, UnknownOutcome, UpstreamUnavailable
from tools.pf360.client import upstream_status
from tools.projects import forget_projects

T = TypeVar("T")


class InProcess:
    """An `Executor` over actions."""

    name = "in_process"

    def __init__(self, actions: Iterable[Action]) -> None:
        self._actions = by_name(actions)

    async def open(self) -> None:
        """Nothing to learn."""

    async def close(self) -> None:
        """Nothing to give back."""

    def offered(self) -> Sequence[Offered]:
        """In the order of their definition."""
        return [Offered(each.spec, each.roles) for each in self._actions.values()]

    async def prepare(self, name: str, args: JsonObject, ctx: ToolContext) -> Prepared:
        """Validate, fill in the session's values, resolve ids among the caller's own, decide eligibility."""
        action = self._action(name, ctx)
        values = action.read(args)
        if not action.resolved and action.prepare is None:
            return Prepared(spec=action.spec, args=self._effective(action, values, ctx))
        _begin(ctx)
        return await _until_the_turn_ends(ctx, self._looked_up(action, values, ctx))

    async def _looked_up(self, action: Action, values: JsonObject, ctx: ToolContext) -> Prepared:
        for parameter, marker in action.resolved.items():
            if values[parameter] is not None:
                values[parameter] = await marker.resolve(values[parameter], ctx)
        effective = self._effective(action, values, ctx)
        if action.prepare is None:
            return Prepared(spec=action.spec, args=effective)
        preparation = await action.prepare(**action.bind(effective, ctx.identity), ctx=ctx)
        return Prepared(spec=action.spec, args={**effective, **preparation.args}, restatement=preparation.restatement)

    def _effective(self, action: Action, values: JsonObject, ctx: ToolContext) -> JsonObject:
        return action.dump({**values, **{name: getattr(ctx.identity, name) for name in action.from_session}})

    async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        """Run it. A `ToolError` becomes an error result (`unknown` for `UnknownOutcome`); other exceptions are bugs.

        A read ends with the turn. An effect that has begun does not: its client has its own limits.
        """
        token = upstream_status.set(None)
        try:
            action = self._action(prepared.spec.name, ctx)
            values = action.bind(prepared.args, ctx.identity)
            _begin(ctx)
            running = action.run(**values, ctx=ctx)
            data = await (_until_the_turn_ends(ctx, running) if action.spec.effect == "read" else running)
            return ToolResult(status="ok", data={"ok": True, **data}, upstream_status=upstream_status.get())
        except ToolError as error:
            result = error.result()
            return ToolResult(status=result.status, data=result.data, upstream_status=upstream_status.get())
        finally:
            upstream_status.reset(token)

    async def reconcile(self, name: str, args: JsonObject, ctx: ToolContext) -> ToolResult | None:
        """Read back an effect by its effective arguments; None when it did not take place.

        An `error` result: it broke off half-way. Raises `UnknownOutcome` for an action that cannot be read back.
        """
        action = self._action(name, ctx)
        if action.reconcile is None:
            raise UnknownOutcome(UNKNOWN_HINT)
        try:
            return await action.reconcile(**action.bind(args, ctx.identity), ctx=ctx)
        finally:
            forget_projects(ctx)  # what was read on the way, or before, may be older than what it looks for

    def _action(self, name: str, ctx: ToolContext) -> Action:
        action = self._actions.get(name)
        if action is None or ctx.identity.role not in action.roles:
            raise UnknownTool("That is not something I can do here.")
        return action


async def _until_the_turn_ends(ctx: ToolContext, work: Awaitable[T]) -> T:
    """Await what only reads; when the turn's deadline comes first, it is cancelled."""
    if ctx.deadline is None:
        return await work
    limit = asyncio.timeout(ctx.deadline - time.monotonic())
    try:
        async with limit:
            return await work
    except TimeoutError as late:
        if not limit.expired():  # a bug of the action's own
            raise
        raise OutcomeUncertain(LATE) from late


def _begin(ctx: ToolContext) -> None:
    if ctx.deadline is not None and time.monotonic() >= ctx.deadline:
        raise UpstreamUnavailable(NO_TIME)
