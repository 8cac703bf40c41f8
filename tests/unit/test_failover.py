"""Who answers when a model fails, and what the person and the record see of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from agent.errors import (
    BudgetSpent,
    ContextExceeded,
    HistoryRejected,
    ModelBusy,
    ModelError,
    ModelMisbehaved,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from agent.events import (
    ModelStarted,
    RouteChanged,
    TextDelta,
    ToolFinished,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
)
from agent.graph import run_turn
from agent.ports import TurnWork
from agent.providers.base import Capabilities, Chunk, ModelRequest, Provider, Text, Tokens
from agent.routing.failover import NotAdmitted
from agent.routing.plan import ANY, MASKABLE, Candidate, ModelCall, Plan, Price
from tests.doubles.scripted_model import Scene, ScriptedWire, calls, says, scripted
from tests.doubles.talk import DEFINITION
from tests.doubles.world import World
from tools.breaker import Breaker

HELLO = says("Good day to you.")


def model(name: str, *scenes: Scene, **capabilities: Any) -> tuple[Candidate, ScriptedWire]:
    """A candidate of this name with a script, behind a breaker that opens at the third failure."""
    provider, wire = scripted(*scenes)
    able = replace(Capabilities(), **capabilities)
    provider = replace(provider, name=name, model=f"{name}-1", capabilities=able, raises=(Exception,))
    return Candidate(provider, breaker=Breaker(f"model:{name}", fail_max=3, reset_s=60.0)), wire


async def turn(plan: Plan, text: str = "hello", work: TurnWork | None = None) -> list[TurnEvent]:
    """The events of one turn."""
    world = World()
    stream = run_turn(DEFINITION, plan, world.toolbox, world.turn(text), work or TurnWork(), lambda _: "chitchat")
    return [event async for event in stream]


def shown(events: Sequence[TurnEvent]) -> str:
    """The reply as a client that follows the events has it at the end."""
    text, step = "", 0
    for event in events:
        match event:
            case ModelStarted():
                step = len(text)
            case RouteChanged(restarts=True):
                text = text[:step]
            case TextDelta(text=more):
                text += more
    return text


def of(events: Sequence[TurnEvent], kind: type[Any]) -> list[Any]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModelBusy("429", retry_after_s=30.0), "throttle"),
        (ModelTimeout("silent"), "timeout"),
        (ModelUnavailable("503"), "unavailable"),
        (ContextExceeded("too long"), "context"),
        (ModelMisbehaved("garbage"), "misbehaved"),
    ],
)
async def test_another_model_takes_over_by_the_class_of_the_error(error: ModelError, reason: str) -> None:
    """The person sees one whole answer, the client who gives it, the statistics both calls."""
    seen: list[ModelCall] = []
    first, wire = model("a", [error])
    second, _ = model("b", HELLO)
    events = await turn(Plan((first, replace(second, arm="fallback")), observe=seen.append))
    (changed,) = of(events, RouteChanged)
    assert (changed.provider, changed.reason, changed.restarts) == ("b", reason, False)
    assert isinstance(events[-1], TurnCompleted)
    assert events[-1].text == shown(events) == "Good day to you."
    assert [(call.provider, call.arm, call.outcome) for call in seen] == [
        ("a", "primary", reason),
        ("b", "fallback", "ok"),
    ]
    assert len(wire.requests) == 1


@pytest.mark.parametrize("error", [ModelRejected("401"), ModelMisbehaved("garbage")])
async def test_what_a_fallback_is_not_for_is_not_masked(error: ModelError) -> None:
    """A mistake of ours is seen, though another model could have answered."""
    first, _ = model("a", [error])
    second, wire = model("b", HELLO)
    events = await turn(Plan((first, replace(second, takes_over=MASKABLE - {"misbehaved"}))))
    assert isinstance(events[-1], TurnFailed)
    assert events[-1].code == error.code
    assert wire.requests == []


async def test_a_canary_is_saved_from_every_error() -> None:
    """Also from a wrong key: its people did not choose it."""
    first, _ = model("new", [ModelRejected("401")])
    second, _ = model("a", HELLO)
    events = await turn(Plan((replace(first, arm="canary"), replace(second, takes_over=ANY))))
    assert isinstance(events[-1], TurnCompleted)


async def test_a_failure_in_mid_stream_begins_the_message_anew() -> None:
    """What was shown is taken back, by an event; the record holds the second answer alone."""
    work = TurnWork()
    first, _ = model("a", [*says("The first half of a sentence. And then "), ModelUnavailable("gone")])
    second, _ = model("b", HELLO)
    events = await turn(Plan((first, second)), work=work)
    (changed,) = of(events, RouteChanged)
    assert changed.restarts
    assert "first half" in "".join(event.text for event in of(events, TextDelta))
    assert events[-1].text == shown(events) == work.text == "Good day to you."  # type: ignore[union-attr]
    assert all("first half" not in str(message) for message in work.messages)
    assert [event.seq for event in events] == list(range(len(events)))


async def test_what_was_said_before_the_message_stays() -> None:
    """Only the message that broke off is taken back; results of tools stand, and nothing runs twice."""
    first, _ = model(
        "a", [*says("Let me look."), calls("list_projects")], [*says("You have "), ModelUnavailable("gone")]
    )
    second, wire = model("b", says("Two projects are open."))
    events = await turn(Plan((first, second)))
    assert shown(events) == "Let me look.\n\nTwo projects are open."
    assert len(of(events, ToolFinished)) == 1
    assert [message.role for message in wire.requests[0].messages][-3:] == ["user", "assistant", "tool"]


async def test_a_voided_claim_has_told_nobody() -> None:
    """An outcome is told by code when the model that told it was taken back and the next one says nothing."""
    note = "Please ring the side door bell"
    first, _ = model(
        "a",
        [calls("add_note", project_id="410001", note_text=note)],
        [*says("I have added your note. It will be read. "), ModelUnavailable("gone")],
    )
    second, _ = model("b", [calls("list_projects")], [Text("")])
    world, work = World(), TurnWork()
    stream = run_turn(DEFINITION, Plan((first, second)), world.toolbox, world.turn(note), work, lambda _: "notes")
    events = [event async for event in stream]
    assert [tool for tool, _ in world.writes] == ["add_note"]
    assert any("added your note" in event.text for event in of(events, TextDelta))
    assert of(events, RouteChanged)[0].restarts
    assert shown(events) == work.text == f'The note has been saved: "{note}"'


async def test_who_took_over_goes_on_with_the_turn() -> None:
    """The failed one is not asked again for the next message of the same turn."""
    first, wire = model("a", [ModelUnavailable("503")])
    second, _ = model("b", [calls("list_projects")], HELLO)
    await turn(Plan((first, second)))
    assert len(wire.requests) == 1


async def test_without_another_model_it_is_asked_once_more() -> None:
    """After a pause; a second failure is the turn's."""
    good, wire = model("a", [ModelUnavailable("503")], HELLO)
    assert isinstance((await turn(Plan((good,))))[-1], TurnCompleted)
    assert len(wire.requests) == 2
    bad, wire = model("a", [ModelUnavailable("503")])
    assert isinstance((await turn(Plan((bad,))))[-1], TurnFailed)
    assert len(wire.requests) == 2


async def test_a_refused_history_is_told_plainly_once() -> None:
    """The same model gets it without calls of earlier turns; a second refusal is the turn's."""
    first, wire = model("a", [HistoryRejected("400")], HELLO)
    assert isinstance((await turn(Plan((first,))))[-1], TurnCompleted)
    assert [request.plain for request in wire.requests] == [False, True]
    first, wire = model("a", [HistoryRejected("400")])
    assert isinstance((await turn(Plan((first,))))[-1], TurnFailed)
    assert len(wire.requests) == 2


async def test_a_conversation_that_is_too_long_is_shown_in_part() -> None:
    """Where no fallback reads more."""
    first, wire = model("a", [ContextExceeded("too long")], HELLO)
    assert isinstance((await turn(Plan((first,))))[-1], TurnCompleted)
    assert len(wire.requests) == 2


async def test_open_circuits_are_passed_by_and_the_planner_answers_last() -> None:
    """It says that it does, and the event names it; with nobody degraded the turn fails as typed."""
    first, wire = model("a", [ModelUnavailable("503")])
    second, other = model("b", [ModelTimeout("silent")])
    planner, _ = model("offline", HELLO)
    plan = Plan((first, second), degraded=replace(planner, arm="degraded", breaker=None))
    while not plan.is_down:
        await turn(plan)
    asked = len(wire.requests), len(other.requests)
    events = await turn(plan)
    assert (len(wire.requests), len(other.requests)) == asked
    assert events[-1].text.startswith("Our language model cannot be reached")  # type: ignore[union-attr]
    assert events[-1].text.endswith("Good day to you.")  # type: ignore[union-attr]
    assert of(events, RouteChanged)[-1].provider == "offline"
    assert isinstance((await turn(Plan((first, second))))[-1], TurnFailed)


class Silent:
    """A wire that never says anything."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.asked = False

    async def stream(self, payload: ModelRequest, *, deadline_s: float) -> AsyncIterator[Chunk]:
        self.asked = True
        try:
            await asyncio.sleep(3600)
            yield Text("never")
        finally:
            self.closed.set()

    async def close(self) -> None:
        return None


async def test_silence_is_left_after_its_time() -> None:
    """The connection of the silent one is closed."""
    wire = Silent()
    provider = Provider("a", "a-1", wire, lambda request: request, lambda error: ModelError(str(error)))
    second, _ = model("b", HELLO)
    events = await turn(Plan((Candidate(provider, first_token_s=0.05), second)))
    assert of(events, RouteChanged)[0].reason == "timeout"
    assert wire.closed.is_set()


async def test_a_full_gate_is_no_failure_of_the_provider() -> None:
    """Its breaker hears nothing, its rate is not lowered; the fallback answers."""

    class Full:
        throttles = 0

        @asynccontextmanager
        async def passing(self, deadline_s: float) -> AsyncIterator[None]:
            raise NotAdmitted("enough")
            yield

        def throttled(self, retry_after_s: float | None) -> None:
            self.throttles += 1

    gate = Full()
    first, wire = model("a", HELLO)
    second, _ = model("b", HELLO)
    events = await turn(Plan((replace(first, gate=gate), second)))
    assert of(events, RouteChanged)[0].reason == "throttle"
    assert gate.throttles == 0
    assert wire.requests == []
    assert first.breaker is not None
    assert first.breaker.snapshot().failures == 0


class Book:
    """A purse that writes down."""

    def __init__(self, usd: float) -> None:
        self.left = usd
        self.entries: list[tuple[float, float]] = []

    async def reserve(self, usd: float) -> None:
        if usd > self.left:
            raise BudgetSpent("no more")
        self.left -= usd

    async def settle(self, reserved_usd: float, spent_usd: float) -> None:
        self.left += reserved_usd - spent_usd
        self.entries.append((reserved_usd, spent_usd))


async def test_money_is_set_aside_before_a_call_and_settled_after_it() -> None:
    """Also after a failed one; without enough the model is not asked, and nothing was lost."""
    price = Price(1_000.0, 1_000.0)
    first, _ = model("a", [ModelUnavailable("503")], max_output_tokens=100)
    second, wire = model("b", [*HELLO, Tokens(10, 5)], max_output_tokens=100)
    book = Book(1_000.0)
    work = TurnWork()
    events = await turn(Plan((replace(first, price=price), replace(second, price=price)), purse=book), work=work)
    assert isinstance(events[-1], TurnCompleted)
    assert [spent for _, spent in book.entries] == [0.0, 0.015]
    assert all(reserved > 0.1 for reserved, _ in book.entries)
    assert book.left == pytest.approx(1_000.0 - 0.015)
    assert work.cost_usd == events[-1].usage["cost_usd"] == pytest.approx(0.015)
    events = await turn(Plan((replace(second, price=price),), purse=Book(0.01)))
    assert isinstance(events[-1], TurnFailed)
    assert events[-1].code == "budget_spent"
    assert len(wire.requests) == 1


async def test_a_fallback_is_asked_again_when_its_circuit_is_due() -> None:
    """It was passed by while it failed; nobody else would ever find out that it is well again."""
    first, _ = model("a", [ModelTimeout("silent")])
    second, wire = model("b", [ModelUnavailable("503")], [ModelUnavailable("503")], HELLO)
    assert first.breaker is not None
    second = replace(second, breaker=Breaker("model:b", fail_max=1, reset_s=0.02))
    plan = Plan((first, second))
    assert isinstance((await turn(plan))[-1], TurnFailed)
    assert second.is_open
    async with asyncio.timeout(5):
        while not isinstance((await turn(plan))[-1], TurnCompleted):
            await asyncio.sleep(0.01)
    assert len(wire.requests) >= 3


async def test_while_one_call_probes_the_planner_answers_the_others() -> None:
    """The one that probes may hang for a minute."""
    silent = Silent()
    provider = Provider("a", "a-1", silent, lambda request: request, lambda error: ModelError(str(error)))
    first = Candidate(provider, breaker=Breaker("model:a", fail_max=1, reset_s=0.01))
    planner, _ = model("offline", HELLO)
    plan = Plan((first,), degraded=replace(planner, arm="degraded", breaker=None))
    await turn(Plan((replace(first, first_token_s=0.02),)))
    async with asyncio.timeout(5):
        while first.is_open:
            await asyncio.sleep(0.005)
    probing = asyncio.create_task(turn(plan))
    async with asyncio.timeout(5):
        while not first.is_open:
            await asyncio.sleep(0.005)
    assert (await turn(plan))[-1].text.endswith("Good day to you.")
    probing.cancel()
    await asyncio.wait({probing})


@pytest.mark.parametrize("end", [ModelUnavailable("gone"), ModelMisbehaved("no end")])
async def test_what_a_failed_call_has_written_is_paid_for(end: ModelError) -> None:
    """The provider bills it; so does the budget."""
    first, _ = model("a", [*says("word " * 500), end], max_output_tokens=1_000)
    book, work = Book(1_000.0), TurnWork()
    await turn(Plan((replace(first, price=Price(0.0, 1_000.0)),), purse=book), work=work)
    assert all(0.5 < spent < 1.0 for _, spent in book.entries)
    assert work.cost_usd == pytest.approx(sum(spent for _, spent in book.entries))
    assert work.output_tokens > 500


async def test_what_was_done_is_told_though_who_took_over_speaks_of_other_things() -> None:
    """The model that had told it was taken back."""
    note = "Please ring the side door bell"
    first, _ = model(
        "a",
        [calls("add_note", project_id="410001", note_text=note)],
        [*says("I have added your note. It will be read. "), ModelUnavailable("gone")],
    )
    second, _ = model("b", says("Is there anything else I can do for you?"))
    world, work = World(), TurnWork()
    stream = run_turn(DEFINITION, Plan((first, second)), world.toolbox, world.turn(note), work, lambda _: "notes")
    events = [event async for event in stream]
    assert f'The note has been saved: "{note}"' in shown(events)
    assert shown(events) == work.text


async def test_a_budget_that_ends_after_an_effect_does_not_hide_it() -> None:
    """What was done is told by code; the turn is no failure."""
    note = "Please ring the side door bell"
    first, _ = model("a", [calls("add_note", project_id="410001", note_text=note)], HELLO)
    world, work = World(), TurnWork()

    class Once(Book):
        async def reserve(self, usd: float) -> None:
            if self.entries:
                raise BudgetSpent("no more")

    stream = run_turn(
        DEFINITION, Plan((first,), purse=Once(1.0)), world.toolbox, world.turn(note), work, lambda _: "notes"
    )
    events = [event async for event in stream]
    assert isinstance(events[-1], TurnCompleted)
    assert "The note has been saved" in events[-1].text


async def test_an_answer_without_any_form_is_the_models_fault_and_no_crash() -> None:
    """A wire that stumbles over it loses no turn; statistics hear of it."""
    seen: list[ModelCall] = []
    provider, _ = scripted([KeyError("choices")])
    first = Candidate(replace(provider, name="a", raises=(ConnectionError,)), breaker=Breaker("model:a", fail_max=3))
    second, _ = model("b", HELLO)
    events = await turn(Plan((first, replace(second, takes_over=ANY)), observe=seen.append))
    assert isinstance(events[-1], TurnCompleted)
    assert [call.outcome for call in seen] == ["misbehaved", "ok"]


async def test_nobody_waits_long_for_a_model_that_is_busy() -> None:
    """It is told at once when the provider asks for more patience than a person has."""
    first, wire = model("a", [ModelBusy("429", retry_after_s=30.0)])
    events = await turn(Plan((first,)))
    assert isinstance(events[-1], TurnFailed)
    assert len(wire.requests) == 1


def hurried(seconds: float) -> Any:
    """The agent with little time for a turn."""
    limits = DEFINITION.file.limits.model_copy(update={"deadline_s": seconds})
    return replace(DEFINITION, file=DEFINITION.file.model_copy(update={"limits": limits}))


async def test_a_silent_model_leaves_time_for_another() -> None:
    """Without any patience configured; and who had too little time left is not blamed."""
    seen: list[ModelCall] = []
    provider = Provider("a", "a-1", Silent(), lambda request: request, lambda error: ModelError(str(error)))
    breaker = Breaker("model:a", fail_max=1, reset_s=60.0)
    second, _ = model("b", HELLO)
    world, plan = World(), Plan((Candidate(provider, breaker=breaker), second), observe=seen.append)
    stream = run_turn(hurried(0.3), plan, world.toolbox, world.turn("hello"), TurnWork(), lambda _: "chitchat")
    events = [event async for event in stream]
    assert events[-1].text == "Good day to you."  # type: ignore[union-attr]
    assert breaker.state == "closed"
    assert [call.provider for call in seen] == ["b"]


async def test_a_call_that_somebody_stopped_is_neither_good_nor_bad() -> None:
    """Statistics hear of it, and what it had written is paid for."""
    seen: list[ModelCall] = []
    silent = Silent()
    provider = Provider("a", "a-1", silent, lambda request: request, lambda error: ModelError(str(error)))
    running = asyncio.create_task(turn(Plan((Candidate(provider),), observe=seen.append)))
    async with asyncio.timeout(5):
        while not silent.asked:
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    async with asyncio.timeout(5):
        await silent.closed.wait()
        while not seen:
            await asyncio.sleep(0)
    assert [call.refused for call in seen] == ["stopped"]


async def test_a_mistake_of_ours_is_not_put_down_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another model could not do better, and the traceback has to be seen."""

    def stumble(*_: object) -> str:
        raise KeyError("ours")

    monkeypatch.setattr("agent.guards.StreamGuard.feed", stumble)
    first, _ = model("a", HELLO)
    second, wire = model("b", HELLO)
    with pytest.raises(KeyError):
        await turn(Plan((first, second)))
    assert wire.requests == []
