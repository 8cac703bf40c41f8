"""A group that moves from one executor to another by a share of its conversations."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

import pytest

from tools.contract import (
    Directory,
    Identity,
    JsonObject,
    Offered,
    Prepared,
    ToolContext,
    ToolResult,
    ToolSpec,
    ToolState,
)
from tools.executors.shares import Shared, differences

READ = ToolSpec("look", "Look.", {"type": "object", "properties": {}}, "read", "shop")
WRITE = ToolSpec("buy", "Buy.", {"type": "object", "properties": {}}, "gated", "shop")


class Counting:
    """An executor that counts, answers what it is told to, and leaves a trace in the working state."""

    def __init__(self, name: str, data: JsonObject, wait_s: float = 0.0, error: Exception | None = None) -> None:
        self.name, self.data, self.wait_s, self.error = name, data, wait_s, error
        self.calls: list[str] = []

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def offered(self) -> Sequence[Offered]:
        return [Offered(READ, frozenset({"customer"})), Offered(WRITE, frozenset({"customer"}))]

    async def prepare(self, name: str, args: JsonObject, ctx: ToolContext) -> Prepared:
        self.calls.append(f"prepare {name}")
        return Prepared(READ if name == "look" else WRITE, args)

    async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        self.calls.append(f"execute {prepared.spec.name}")
        ctx.state.values[self.name] = True
        await asyncio.sleep(self.wait_s)
        if self.error:
            raise self.error
        return ToolResult("ok", self.data)

    async def reconcile(self, name: str, args: JsonObject, ctx: ToolContext) -> ToolResult | None:
        self.calls.append(f"reconcile {name}")
        return None


def context(conversation_id: str = "") -> ToolContext:
    identity = Identity("customer", "7")
    return ToolContext(
        identity, Directory({}), cast(Any, None), ToolState(), None, cast(Any, None),
        conversation_id=conversation_id or str(uuid4()),
    )  # fmt: skip


@pytest.mark.parametrize("percent", [0.0, 0.5, 10.0, 50.0, 100.0])
def test_about_the_share_of_conversations_is_tried(percent: float) -> None:
    """None at 0, all at 100; which ones depends on nothing but their ids and the group."""
    shared = Shared("shop", Counting("usual", {}), Counting("trial", {}), percent)
    ids = [f"conversation-{n}" for n in range(20_000)]
    tried = [each for each in ids if shared.chosen(each).name == "trial"]
    assert (
        abs(len(tried) / len(ids) * 100 - percent) < 1.0
        if 0 < percent < 100
        else len(tried) == len(ids) * percent / 100
    )
    again = Shared("shop", Counting("usual", {}), Counting("trial", {}), percent)
    assert tried == [each for each in ids if again.chosen(each).name == "trial"]


async def test_all_steps_of_a_conversation_meet_the_same_executor() -> None:
    """The question, the yes, and the look after a crash; the result says which it was."""
    for conversation in map(str, range(50)):
        usual, trial = Counting("usual", {"ok": True}), Counting("trial", {"ok": True})
        shared, ctx = Shared("shop", usual, trial, 50.0), context(conversation)
        result = await shared.execute(await shared.prepare("buy", {}, ctx), ctx)
        await shared.reconcile("buy", {}, ctx)
        serving, idle = (usual, trial) if result.executor == "usual" else (trial, usual)
        assert serving.calls == ["prepare buy", "execute buy", "reconcile buy"]
        assert idle.calls == []


async def test_a_compared_read_is_asked_of_both_and_leaves_no_second_trace() -> None:
    """The serving one's answer counts; where the other's differs is noted by path."""
    usual = Counting("usual", {"ok": True, "rows": [1, {"a": "x"}], "only": 1})
    trial = Counting("trial", {"ok": True, "rows": [1, {"a": "y"}]})
    shared, ctx = Shared("shop", usual, trial, 0.0, ["look"]), context()
    result = await shared.execute(await shared.prepare("look", {}, ctx), ctx)
    assert result.data == usual.data
    assert result.parity
    assert (result.parity["same"], result.parity["differs"]) == (False, ["only", "rows[1].a"])
    assert ctx.state.values == {"usual": True}


async def test_an_effect_is_never_made_twice_for_comparison() -> None:
    """Whatever the definition names."""
    usual, trial = Counting("usual", {"ok": True}), Counting("trial", {"ok": True})
    shared, ctx = Shared("shop", usual, trial, 0.0, ["buy"]), context()
    assert (await shared.execute(await shared.prepare("buy", {}, ctx), ctx)).parity is None
    assert trial.calls == []


@pytest.mark.parametrize(
    ("trial", "differs"),
    [(Counting("trial", {}, wait_s=30.0), ["late"]), (Counting("trial", {}, error=KeyError("x")), ["raised KeyError"])],
)
async def test_the_other_one_can_neither_delay_nor_break_the_answer(trial: Counting, differs: list[str]) -> None:
    """It is only watched."""
    shared, ctx = Shared("shop", Counting("usual", {"ok": True}), trial, 0.0, ["look"]), context()
    async with asyncio.timeout(15):
        result = await shared.execute(await shared.prepare("look", {}, ctx), ctx)
    assert result.data == {"ok": True}
    assert result.parity
    assert result.parity["differs"] == differs


def test_differences_are_paths() -> None:
    """Ten at most; 1 and True differ, so do 1 and 1.0."""
    assert differences({"a": 1}, {"a": True}) == ["a"]
    assert differences([1], [1.0]) == ["[0]"]
    assert differences({"a": [1, 2]}, {"a": [1]}) == ["a"]
    assert differences(1, 1) == []
    assert len(differences({str(n): n for n in range(30)}, {})) == 10
