"""Runs actions in this process: an executor that a Lambda handler uses as well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tools.action import Action, by_name
from tools.contract import JsonObject, Offered, Prepared, ToolContext, ToolError, ToolResult, UnknownTool
from tools.effects import UNKNOWN_HINT
from tools.errors import UnknownOutcome
from tools.pf360.client import upstream_status
from tools.projects import forget_projects


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
        for parameter, marker in action.resolved.items():
            if values[parameter] is not None:
                values[parameter] = await marker.resolve(values[parameter], ctx)
        for parameter in action.from_session:
            values[parameter] = getattr(ctx.identity, parameter)
        effective = action.dump(values)
        if action.prepare is None:
            return Prepared(spec=action.spec, args=effective)
        preparation = await action.prepare(**action.bind(effective, ctx.identity), ctx=ctx)
        return Prepared(spec=action.spec, args={**effective, **preparation.args}, restatement=preparation.restatement)

    async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        """Run it. A `ToolError` becomes an error result (`unknown` for `UnknownOutcome`); other exceptions are bugs."""
        token = upstream_status.set(None)
        try:
            action = self._action(prepared.spec.name, ctx)
            data = await action.run(**action.bind(prepared.args, ctx.identity), ctx=ctx)
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
