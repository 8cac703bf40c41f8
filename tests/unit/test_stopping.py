"""A turn that a person stops: what is broken off, what is finished first, and what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from agent.errors import StoreUnavailable
from agent.events import TextDelta, TurnCancelled, TurnCompleted, Usage
from agent.graph import run_turn
from agent.ports import Decision, EffectKey, Stop, TurnInput, TurnWork
from agent.providers.base import Chunk, Provider, Text, Tokens
from agent.routing.plan import only
from agent.stopping import is_stopped
from agent.transcript import AssistantMessage, ToolMessage
from agent.turn import Turn
from tests.doubles.scripted_model import calls, says, scripted
from tests.doubles.talk import DEFINITION, Reply, Talk
from tests.doubles.world import FakeToolbox, MemoryLedger, World
from tools.contract import Prepared, ToolContext, ToolResult

BOOK = calls("confirm_appointment", "c1", project_id="410001", date="2026-03-16", time="10:00")
CANCEL = calls("cancel_appointment", "c2", project_id="410002")
BOOKED = ("confirm_appointment", {"project_id": "410001", "date": "2026-03-16", "time": "10:00"})


class HangingWire:
    """Says something, then nothing any more; `closed` once its stream was closed."""

    def __init__(self, *chunks: Chunk) -> None:
        self.chunks = chunks
        self.silent = asyncio.Event()
        self.closed = False

    async def stream(self, payload: Any, *, deadline_s: float) -> AsyncIterator[Chunk]:
        try:
            for chunk in self.chunks:
                yield chunk
            self.silent.set()
            await asyncio.Event().wait()
        finally:
            self.closed = True

    async def close(self) -> None:
        """Nothing to release."""


def hanging(*chunks: Chunk) -> tuple[Provider, HangingWire]:
    wire = HangingWire(*chunks)
    return replace(scripted([])[0], wire=wire), wire


async def stopped(
    talk: Talk, given: TurnInput, provider: Provider, when: asyncio.Event, go_on: asyncio.Event | None = None
) -> Reply:
    """The turn, stopped `when` that has come; then what it waits for may `go_on`."""
    work = TurnWork()

    async def press() -> None:
        await when.wait()
        given.stop.ask()
        if go_on is not None:
            for _ in range(50):  # whatever does not wait for the effect has ended the turn by then
                await asyncio.sleep(0)
            go_on.set()

    pressing = asyncio.create_task(press())
    async with asyncio.timeout(10):
        stream = run_turn(DEFINITION, only(provider), talk.world.toolbox, given, work, lambda _: "chitchat")
        events = [event async for event in stream]
        await pressing
    assert [event.seq for event in events] == list(range(len(events)))
    talk.world.keep(given, work)
    return Reply(events, work)


def inside_a_write(world: World) -> tuple[asyncio.Event, asyncio.Event]:
    """Set once a write is under way; lets it end."""
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def wait_inside() -> None:
        inside.set()
        await go_on.wait()

    world.toolbox.during_write = wait_inside
    return inside, go_on


async def test_a_model_call_is_left_at_once_and_its_text_stays() -> None:
    """The stream is closed, what was said is on record, what it read is paid for, and the next turn goes on."""
    provider, wire = hanging(Text("Let me think about this. Well"))
    talk = Talk(provider)
    reply = await stopped(talk, talk.world.turn("hello"), provider, wire.silent)
    assert wire.closed
    assert isinstance(reply.final, TurnCancelled)
    assert (reply.final.reason, reply.final.text) == ("user", "Let me think about this.")
    assert reply.final.usage == {**reply.final.usage, "model_calls": 1, "estimated": True}
    (usage,) = [e for e in reply.events if isinstance(e, Usage)]
    assert usage.estimated
    assert usage.input_tokens > 100
    assert reply.work.input_tokens == usage.input_tokens
    assert reply.work.messages == [AssistantMessage("Let me think about this.")]
    next_one, _ = scripted(says("Hello again."))
    talk.provider = next_one
    assert (await talk.say("and now?")).text == "Hello again."


async def test_what_the_provider_said_it_cost_is_not_estimated_again() -> None:
    """Its own count came before the stop."""
    provider, wire = hanging(Text("Well. "), Tokens(12, 3))
    talk = Talk(provider)
    reply = await stopped(talk, talk.world.turn("hello"), provider, wire.silent)
    assert (reply.work.input_tokens, reply.work.output_tokens) == (12, 3)


async def test_a_read_is_abandoned_and_every_call_has_a_result() -> None:
    """History that every provider accepts: each call is answered, in the order of the calls."""

    class SlowReads(FakeToolbox):
        async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
            reading.set()
            await asyncio.Event().wait()
            raise AssertionError

    reading = asyncio.Event()
    look = calls("get_time_slots", "c1", project_id="410001", date="2026-03-16")
    provider, _ = scripted([Text("I look."), look, calls("list_projects", "c2")])
    talk = Talk(provider, World(SlowReads()))
    reply = await stopped(talk, talk.world.turn("when?"), provider, reading)
    assert isinstance(reply.final, TurnCancelled)
    asked, *results = reply.work.messages
    assert isinstance(asked, AssistantMessage)
    assert [m.call_id for m in results if isinstance(m, ToolMessage)] == ["c1", "c2"]
    assert {m.result["code"] for m in results if isinstance(m, ToolMessage)} == {"stopped"}


async def test_an_effect_under_way_is_finished_and_told() -> None:
    """Stop after the yes: it is booked, the turn completes, and code says so; no model is asked any more."""
    provider, wire = scripted([BOOK], says("Never said."))
    talk = Talk(provider)
    await talk.say("book monday at 10")
    inside, go_on = inside_a_write(talk.world)
    reply = await stopped(talk, talk.world.turn("yes"), provider, inside, go_on)
    assert talk.world.writes == [BOOKED]
    assert isinstance(reply.final, TurnCompleted)
    assert reply.status == "completed"
    for part in ("Monday, March 16", "10:00 AM", "I stopped there."):
        assert part in reply.final.text
    assert reply.final.text == reply.text == reply.work.text
    assert len(wire.requests) == 1
    assert talk.world.pending == []
    assert [m.role for m in reply.work.messages] == ["assistant", "tool", "assistant"]


async def test_a_refused_effect_is_told_too() -> None:
    """It could not be stopped, and did not succeed either."""
    provider, _ = scripted([BOOK])
    refusal = ToolResult("error", {"ok": False, "code": "slot_taken", "user_hint": "That time was just taken."})
    talk = Talk(provider, World(FakeToolbox(outcome=lambda *_: refusal)))
    await talk.say("book monday at 10")
    inside, go_on = inside_a_write(talk.world)
    reply = await stopped(talk, talk.world.turn("yes"), provider, inside, go_on)
    assert reply.status == "completed"
    assert "That time was just taken." in reply.text


async def test_of_two_confirmed_the_second_stays_open() -> None:
    """Stop while the first is under way: that one is done and told, the other waits for another yes."""
    provider, _ = scripted([BOOK, CANCEL])
    talk = Talk(provider)
    await talk.say("book flooring monday at 10 and cancel the windows")
    assert len(talk.world.pending) == 2
    inside, go_on = inside_a_write(talk.world)
    reply = await stopped(talk, talk.world.turn("yes, both"), provider, inside, go_on)
    assert talk.world.writes == [BOOKED]
    assert [p.tool for p in talk.world.pending] == ["cancel_appointment"]
    assert [change.state for change in reply.work.changed] == ["confirmed"]
    assert reply.status == "completed"
    provider_after, _ = scripted(says("It is cancelled now."))
    talk.provider, talk.world.toolbox.during_write = provider_after, None
    (pending,) = talk.world.pending
    await talk.say("Confirm", Decision(pending.pending_id, True))
    assert [name for name, _ in talk.world.writes] == ["confirm_appointment", "cancel_appointment"]


async def test_a_question_that_was_open_stays_open() -> None:
    """A stop decides nothing."""
    provider, _ = scripted([BOOK])
    talk = Talk(provider)
    await talk.say("book monday at 10")
    slow, wire = hanging(Text("Let me see. "))
    reply = await stopped(talk, talk.world.turn("what else is there on thursday?"), slow, wire.silent)
    assert isinstance(reply.final, TurnCancelled)
    assert len(talk.world.pending) == 1
    assert reply.work.changed == []


async def test_after_something_was_done_the_turn_is_no_cancelled_one() -> None:
    """Booked, and the model tells at length: what code knows is said, then that it stopped."""
    asking, _ = scripted([BOOK])
    talk = Talk(asking)
    await talk.say("book monday at 10")
    slow, wire = hanging(Text("By the way, "))
    reply = await stopped(talk, talk.world.turn("yes"), slow, wire.silent)
    assert reply.status == "completed"
    assert "Monday, March 16" in reply.text
    assert reply.text.endswith("What had been done by then stays done.")


async def test_a_stop_that_comes_first_begins_nothing() -> None:
    """Asked for before the turn runs (it was taken over): no model, no effect, also after a yes."""
    provider, wire = scripted([BOOK], says("Never said."))
    talk = Talk(provider)
    await talk.say("book monday at 10")
    given = talk.world.turn("yes")
    given.stop.ask()
    reply = await stopped(talk, given, provider, _now())
    assert isinstance(reply.final, TurnCancelled)
    assert len(wire.requests) == 1
    assert talk.world.writes == []
    assert len(talk.world.pending) == 1


@pytest.mark.parametrize(
    ("found", "final", "told", "status"),
    [
        (ToolResult("ok", {"ok": True, "status": "done"}), TurnCompleted, "Monday, March 16", "ok"),
        (None, TurnCancelled, "You stopped that in time", "error"),
        (ToolResult("error", {"ok": False, "code": "half_done"}), TurnCompleted, "can't tell yet", "unknown"),
    ],
)
async def test_what_a_dead_process_had_begun_is_settled_and_never_sent_again(
    found: ToolResult | None, final: type[Any], told: str, status: str
) -> None:
    """The turn is taken over with the stop on record: upstream says what became of the effect, and so does the turn."""
    provider, _ = scripted([BOOK])
    talk = Talk(provider, World(FakeToolbox(found=found)))
    await talk.say("book monday at 10")
    (pending,) = talk.world.pending
    effect = EffectKey("k", pending.tool, pending.args, "call-1", str(pending.pending_id), pending.pending_id)
    talk.world.ledger = MemoryLedger(intents={"k": effect})
    given = replace(talk.world.turn("Confirm", Decision(pending.pending_id, True)), begun=(effect,))
    given.stop.ask()
    reply = await stopped(talk, given, provider, _now())
    assert talk.world.writes == []
    assert isinstance(reply.final, final)
    assert told in reply.text
    assert reply.tools == [("confirm_appointment", status)]
    assert talk.world.pending == []
    assert talk.world.ledger.results["k"].status == status


async def test_what_was_begun_stands_behind_the_answers_to_open_calls() -> None:
    """Stopped in a read of the second attempt, before that came to the effect of the first: all have their results."""

    class SlowReads(FakeToolbox):
        async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
            reading.set()
            await asyncio.Event().wait()
            raise AssertionError

    reading = asyncio.Event()
    provider, _ = scripted([calls("list_projects", "c1")])
    talk = Talk(provider, World(SlowReads(found=ToolResult("ok", {"ok": True}))))
    effect = EffectKey("k", "add_note", {"project_id": "410001", "note_text": "gate code"}, "c1", "basis")
    talk.world.ledger = MemoryLedger(intents={"k": effect})
    reply = await stopped(talk, replace(talk.world.turn("note it"), begun=(effect,)), provider, reading)
    assert reply.status == "completed"
    assert [m.role for m in reply.work.messages] == ["assistant", "tool", "assistant", "tool", "assistant"]
    ids = [m.call_id for m in reply.work.messages if isinstance(m, ToolMessage)]
    assert ids[0] == "c1"
    assert len(set(ids)) == 2


async def test_an_effect_whose_outcome_cannot_be_recorded_is_left_to_whoever_takes_over() -> None:
    """Neither stopped nor completed is true then, so no end is told."""

    class Away(MemoryLedger):
        async def settle(self, effect: EffectKey, result: ToolResult) -> None:
            raise StoreUnavailable("no connection")

    provider, _ = scripted([BOOK])
    talk = Talk(provider, World(ledger=Away()))
    await talk.say("book monday at 10")
    inside, go_on = inside_a_write(talk.world)
    with pytest.raises(asyncio.CancelledError):
        await stopped(talk, talk.world.turn("yes"), provider, inside, go_on)


async def test_a_question_that_was_put_already_is_the_end() -> None:
    """A stop in the last moment takes nothing back."""
    provider, _ = scripted([])
    talk = Talk(provider)
    turn = Turn(DEFINITION, only(provider), talk.world.toolbox, talk.world.turn("hello"), TurnWork(), lambda _: "")

    async def steps(of: Turn) -> None:
        of.asked = True
        asyncio.get_running_loop().call_soon(of.given.stop.ask)
        await asyncio.Event().wait()

    assert not await is_stopped(turn, steps)


async def test_a_process_that_ends_meanwhile_leaves_the_turn_to_another() -> None:
    """Stopped and cancelled at once: nobody is told an end, since this process cannot be the one to bring it about."""
    provider, wire = hanging(Text("Well. "))
    talk = Talk(provider)
    given, work = talk.world.turn("hello"), TurnWork()
    finals: list[Any] = []

    async def consume() -> None:
        async for event in run_turn(DEFINITION, only(provider), talk.world.toolbox, given, work, lambda _: ""):
            if not isinstance(event, TextDelta | Usage):
                finals.append(event)

    task = asyncio.create_task(consume())
    await wire.silent.wait()
    task.cancel()
    given.stop.ask()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(isinstance(event, TurnCancelled | TurnCompleted) for event in finals)


def test_a_stop_is_asked_once() -> None:
    """Whoever listens is called once, and one that listens no more is not called."""
    heard: list[int] = []
    stop = Stop()
    stop.when_asked(lambda: heard.append(1))
    stop.ask()
    stop.ask()
    assert heard == [1]
    deaf = Stop()
    deaf.when_asked(lambda: heard.append(2))
    deaf.when_asked(None)
    deaf.ask()
    assert deaf.asked
    assert heard == [1]


def _now() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
