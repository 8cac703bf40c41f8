"""The tools of an agent: which executor runs which group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tools.contract import (
    Executor,
    Identity,
    JsonObject,
    Offered,
    Prepared,
    ToolContext,
    ToolResult,
    ToolSpec,
    UnknownTool,
)
from tools.executors.config import ExecutorError


class DuplicateTool(Exception):
    """Two groups offer a tool of one name; the message names both groups and the fix."""


class GroupedToolbox:
    """A `Toolbox` over executors by group. Holds no state of a conversation, so one serves a whole process."""

    def __init__(self, executors: Mapping[str, Executor]) -> None:
        self._executors = dict(executors)
        self._tools: dict[str, tuple[Offered, Executor]] = {}
        self._specs: dict[tuple[tuple[str, ...], str], tuple[ToolSpec, ...]] = {}
        self._learn()

    async def open(self) -> None:
        """Open every executor, then offer what they have; `ExecutorError` tells of all that cannot be opened."""
        problems = []
        for executor in dict.fromkeys(self._executors.values()):
            try:
                await executor.open()
            except ExecutorError as error:
                problems.append(str(error))
        if problems:
            raise ExecutorError("\n".join(problems))
        self._learn()

    async def close(self) -> None:
        """Close every executor."""
        for executor in dict.fromkeys(self._executors.values()):
            await executor.close()

    def _learn(self) -> None:
        self._tools.clear()
        self._specs.clear()
        for group, executor in self._executors.items():
            for each in executor.offered():
                if each.spec.group != group:
                    continue
                if (other := self._tools.get(each.spec.name)) is not None:
                    raise DuplicateTool(
                        f"{each.spec.name}: the groups {other[0].spec.group} and {group} both have a tool of this "
                        "name; give one of the groups a prefix, or rename the tool"
                    )
                self._tools[each.spec.name] = each, executor

    def specs(self, groups: Sequence[str], identity: Identity) -> tuple[ToolSpec, ...]:
        """Tools of these groups that this caller's role may use, in the order of their definition."""
        key = (tuple(groups), identity.role)
        if key not in self._specs:
            self._specs[key] = tuple(
                each.spec
                for each, _ in self._tools.values()
                if each.spec.group in key[0] and identity.role in each.roles
            )
        return self._specs[key]

    async def prepare(self, name: str, args: JsonObject, ctx: ToolContext) -> Prepared:
        """See `Toolbox.prepare`; `UnknownTool` also for a role that may not use it."""
        return await self._executor(name, ctx).prepare(name, args, ctx)

    async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        """See `Toolbox.execute`."""
        return await self._executor(prepared.spec.name, ctx).execute(prepared, ctx)

    async def reconcile(self, name: str, args: JsonObject, ctx: ToolContext) -> ToolResult | None:
        """See `Toolbox.reconcile`."""
        return await self._executor(name, ctx).reconcile(name, args, ctx)

    def _executor(self, name: str, ctx: ToolContext) -> Executor:
        offered, executor = self._tools.get(name, (None, None))
        if executor is None or offered is None or ctx.identity.role not in offered.roles:
            raise UnknownTool("That is not something I can do here.")
        return executor


def in_one(executor: Executor) -> GroupedToolbox:
    """All groups that one executor offers, run by it."""
    return GroupedToolbox({each.spec.group: executor for each in executor.offered()})
