"""Moving a group from one executor to another: a share of the conversations is served by the second one.

A conversation stays with one of the two, by a hash of its id, so that a question, its answer and a look after a crash
meet the same one. Every result says which it was; reads that are to be compared are asked of both.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from tools.contract import Executor, JsonObject, Offered, Prepared, ToolContext, ToolResult, ToolState

_SHARES = 10_000
_MOST_DIFFERENCES = 10
_GRACE_S = 1.0  # how much longer than the one that serves the other may take


class Shared:
    """An `Executor` over two that offer the same tools."""

    name = "shared"

    def __init__(
        self, group: str, usual: Executor, trial: Executor, percent: float, compared: Collection[str] = ()
    ) -> None:
        self._group = group
        self._usual = usual
        self._trial = trial
        self._bar = percent * _SHARES / 100
        self._compared = frozenset(compared)

    async def open(self) -> None:
        """Open both."""
        await self._usual.open()
        await self._trial.open()

    async def close(self) -> None:
        """Close both."""
        await self._usual.close()
        await self._trial.close()

    def offered(self) -> Sequence[Offered]:
        """What the usual one offers."""
        return self._usual.offered()

    def chosen(self, conversation_id: str) -> Executor:
        """Which of the two serves a conversation."""
        place = zlib.crc32(f"{self._group}:{conversation_id}".encode()) % _SHARES
        return self._trial if place < self._bar else self._usual

    async def prepare(self, name: str, args: JsonObject, ctx: ToolContext) -> Prepared:
        """By the one that serves this conversation."""
        return await self.chosen(ctx.conversation_id).prepare(name, args, ctx)

    async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        """By the one that serves this conversation; a compared read by the other one as well."""
        serving = self.chosen(ctx.conversation_id)
        if prepared.spec.effect == "read" and prepared.spec.name in self._compared:
            return await self._both(serving, prepared, ctx)
        return replace(await serving.execute(prepared, ctx), executor=serving.name)

    async def reconcile(self, name: str, args: JsonObject, ctx: ToolContext) -> ToolResult | None:
        """By the one that serves this conversation."""
        return await self.chosen(ctx.conversation_id).reconcile(name, args, ctx)

    async def _both(self, serving: Executor, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        """The serving one's answer; how the other's differs is only noted. It gets a working state of its own."""
        other = self._usual if serving is self._trial else self._trial
        aside = replace(ctx, state=ToolState(deepcopy(ctx.state.values)))
        beside = asyncio.create_task(_timed(other, prepared, aside))
        try:
            result, took_ms = await _timed(serving, prepared, ctx)
            await asyncio.wait({beside}, timeout=took_ms / 1000 + _GRACE_S)
        finally:
            beside.cancel()
            await asyncio.wait({beside})
        noted: JsonObject = {"tool": prepared.spec.name, "other": other.name, "ms": round(took_ms, 2)}
        return replace(result, executor=serving.name, parity={**noted, **_compared(result, beside)})


async def _timed(executor: Executor, prepared: Prepared, ctx: ToolContext) -> tuple[ToolResult, float]:
    started = time.perf_counter()
    result = await executor.execute(prepared, ctx)
    return result, (time.perf_counter() - started) * 1000


def _compared(result: ToolResult, beside: asyncio.Task[tuple[ToolResult, float]]) -> JsonObject:
    if beside.cancelled():
        return {"same": False, "differs": ["late"]}
    if (error := beside.exception()) is not None:
        return {"same": False, "differs": [f"raised {type(error).__name__}"]}
    answer, took_ms = beside.result()
    found = differences(result.data, answer.data)
    return {"same": not found, "differs": found, "other_ms": round(took_ms, 2)}


def differences(one: Any, other: Any, at: str = "") -> list[str]:
    """JSON paths at which two values differ, the first ten."""
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = [(key, one.get(key), other.get(key)) for key in sorted({*one, *other})]
        found = [path for key, a, b in pairs for path in differences(a, b, f"{at}.{key}" if at else key)]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        found = [
            path for n, (a, b) in enumerate(zip(one, other, strict=True)) for path in differences(a, b, f"{at}[{n}]")
        ]
    else:
        found = [] if one == other and type(one) is type(other) else [at or "the whole"]
    return found[:_MOST_DIFFERENCES]
