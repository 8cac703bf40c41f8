"""Effects that may still happen when somebody looks for them: who waits, who says "unknown", and who may send again."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.ports import Earlier, EffectKey
from tests.doubles.scripted_model import calls, says, scripted
from tests.doubles.talk import Talk
from tests.doubles.world import NOW, FakeToolbox, MemoryLedger, World
from tests.unit.test_lambda_executor import Script, context, text
from tools.breaker import Breaker
from tools.contract import JsonObject, Prepared, TooEarly, ToolContext, ToolResult
from tools.effects import read_back
from tools.executors.lambda_function import OwnLambda
from tools.executors.lambda_wire import Invoked
from tools.notes import ACTIONS, same_note
from tools.pf360.models import Note

BOOK = calls("confirm_appointment", project_id="410001", date="2026-03-16", time="10:00")
NOTE = {"project_id": "410001", "note_text": "the gate code is 4711"}


# --- a turn that was taken over -------------------------------------------------------------------------------------


@dataclass
class Restless(FakeToolbox):
    """An attempt that may go on for `wait_s` after it is first looked for."""

    wait_s: float = 0.0
    looked: list[ToolContext] = field(default_factory=list)

    async def reconcile(self, name: str, args: JsonObject, ctx: ToolContext) -> ToolResult | None:
        self.looked.append(ctx)
        if ctx.quiet_seconds is not None and ctx.quiet_seconds < self.wait_s:
            raise TooEarly(self.wait_s)
        return self.found


class Crashed(MemoryLedger):
    """Every effect was intended by an attempt that died, ten minutes ago."""

    async def intend(self, effect: EffectKey) -> Earlier | None:
        return Earlier("intended", age_s=600.0)


async def taken_over(toolbox: Restless) -> tuple[Talk, list[tuple[str, str]]]:
    provider, _ = scripted([BOOK], says("Thank you."))
    talk = Talk(provider, World(toolbox))
    await talk.say("book monday at 10")
    talk.world.ledger = Crashed()
    return talk, (await talk.say("yes")).tools


async def test_an_attempt_that_may_go_on_is_waited_for() -> None:
    """The second look comes when it is over; what it finds then is told, and nothing is sent."""
    toolbox = Restless(found=ToolResult("ok", {"ok": True}), wait_s=0.05)
    talk, told = await taken_over(toolbox)
    first, second = toolbox.looked
    assert (first.quiet_seconds, first.effect_at) == (0.0, NOW - timedelta(minutes=10))
    assert second.quiet_seconds is not None
    assert second.quiet_seconds >= toolbox.wait_s
    assert told == [("confirm_appointment", "ok")]
    assert talk.world.writes == []


async def test_it_is_sent_again_only_after_that() -> None:
    """Absent in the second look: run once."""
    toolbox = Restless(found=None, wait_s=0.05)
    talk, told = await taken_over(toolbox)
    assert len(toolbox.looked) == 2
    assert told == [("confirm_appointment", "ok")]
    assert len(talk.world.writes) == 1


async def test_a_turn_without_the_time_to_wait_does_not_know() -> None:
    """Nor does it send anything."""
    toolbox = Restless(found=None, wait_s=3600.0)
    talk, told = await taken_over(toolbox)
    assert told == [("confirm_appointment", "unknown")]
    assert (len(toolbox.looked), talk.world.writes) == (1, [])


# --- reading back in the process ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("quiet_s", "found"), [(None, None), (0.0, "there"), (60.0, None)])
async def test_a_look_after_a_death_outlasts_what_upstream_may_still_do(
    quiet_s: float | None, found: str | None
) -> None:
    """Settling counts from when upstream must have done it: at once for one's own request and for an old one."""
    ctx = replace(context(), settle_seconds=0.0, write_seconds=30.0, quiet_seconds=quiet_s)
    looks = 0

    async def second_look() -> str | None:
        nonlocal looks
        looks += 1
        return "there" if looks == 2 else None

    seen = await read_back(ctx, second_look)
    assert (seen.found, seen.readable) == (found, True)


# --- functions ------------------------------------------------------------------------------------------------------


def function(answer: Any) -> OwnLambda:
    return OwnLambda("notes", ACTIONS, cast(Any, Script(answer)), Breaker("notes", fail_max=9), timeout_s=20.0)


def step(status: str) -> JsonObject:
    return text(json.dumps({"status": status, "data": {"ok": status == "ok"}}))


def asked(quiet_s: float | None) -> ToolContext:
    clock = World().clock
    return replace(context(), clock=clock, write_seconds=20.0, quiet_seconds=quiet_s)


async def test_what_a_function_did_counts_at_once() -> None:
    """However young the attempt is."""
    found = await function(step("ok")).reconcile("add_note", NOTE, asked(0.0))
    assert found is not None
    assert found.status == "ok"


@pytest.mark.parametrize("status", ["absent", "error"])
async def test_what_a_function_did_not_do_counts_when_it_is_over(status: str) -> None:
    """Its own time and that of its last request; half done is not done either."""
    for quiet_s in (0.0, 39.0):
        with pytest.raises(TooEarly) as early:
            await function(step(status)).reconcile("add_note", NOTE, asked(quiet_s))
        assert 40.0 - quiet_s - 5.0 < early.value.wait_s <= 40.0 - quiet_s
    for settled in (40.0, None):
        found = await function(step(status)).reconcile("add_note", NOTE, asked(settled))
        assert (found is None) if status == "absent" else (found is not None and found.status == "error")


@pytest.mark.parametrize(
    ("error_type", "outcome"),
    [("KeyError", "error"), ("Runtime.ExitError", "unknown"), ("Sandbox.Timedout", "unknown")],
)
async def test_only_a_function_whose_code_has_ended_has_surely_changed_nothing(error_type: str, outcome: str) -> None:
    """What one had sent that was cut off may still be carried out, though it cannot be seen yet."""

    def answer(event: JsonObject) -> Any:
        if event["promptSessionAttributes"]["outcrop_operation"] == "execute":
            return Invoked(json.dumps({"errorType": error_type, "errorMessage": "x"}).encode(), "Unhandled")
        return step("absent")

    executor = function(answer)
    spec = next(each.spec for each in executor.offered() if each.spec.name == "add_note")
    result = await asyncio.wait_for(executor.execute(Prepared(spec, NOTE), asked(None)), 10)
    assert result.status == outcome


# --- notes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("minutes", "found"), [(None, False), (5, False), (30, True)])
async def test_a_note_is_looked_for_around_the_time_it_was_meant_for(minutes: float | None, found: bool) -> None:
    """Not around the time of the look, which may be hours later: it would be saved a second time."""
    note = Note("n1", "Customer via assistant", NOW.replace(tzinfo=None) - timedelta(minutes=30), NOTE["note_text"])

    class Upstream:
        async def notes(self, *_: str | None) -> list[Note]:
            return [note]

    ctx = replace(
        context(),
        clock=World().clock,
        pf360=Upstream(),
        effect_at=None if minutes is None else NOW - timedelta(minutes=minutes),
    )
    project = cast(Any, SimpleNamespace(client_id="20OC01BK", project_id="410001"))
    assert (await same_note(ctx, project, NOTE["note_text"]) is not None) is found
