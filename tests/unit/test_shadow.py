"""Shadows of turns: whatever their model does, nothing happens; what they did is told apart from the real turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, cast

import pytest

from agent.events import TurnEvent
from agent.graph import run_turn
from agent.ports import TurnInput, TurnWork
from agent.providers.base import Provider
from agent.routing.comparison import Comparison, Known, compare
from agent.routing.failover import NotAdmitted
from agent.routing.plan import Candidate, only
from agent.routing.same_call import Things, differing
from agent.routing.shadow import RecordedToolbox, RecordingToolbox, Watch, rehearsal, rehearse
from agent.transcript import ToolMessage
from tests.doubles.scripted_model import Scene, calls, says, scripted
from tests.doubles.talk import DEFINITION
from tests.doubles.world import NOW, SPECS, FakeToolbox, World
from tools.contract import Identity, JsonObject, Prepared, ToolContext, ToolResult, ToolSpec

ORDER = "SO-26-1001_1"
SLOTS = {"project_id": ORDER, "date": "2026-03-16"}
BOOKING = {**SLOTS, "time": "10:00"}
BOOKS = [calls("confirm_appointment", **BOOKING)]
LISTS = [calls("list_projects")]


class Touched(AssertionError):
    """A shadow reached what a shadow must not reach."""


class Untouchable:
    """In place of a ledger, a client or a connection: fails the test whatever is asked of it."""

    def __getattr__(self, name: str) -> NoReturn:
        raise Touched(name)


@dataclass
class Lockable:
    """The tools of a world, until they are locked."""

    tools: FakeToolbox
    locked: bool = False

    def specs(self, groups: Sequence[str], identity: Identity) -> tuple[ToolSpec, ...]:
        return self._open.specs(groups, identity)

    async def prepare(self, name: str, args: JsonObject, ctx: ToolContext) -> Prepared:
        return await self._open.prepare(name, args, ctx)

    async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        return await self._open.execute(prepared, ctx)

    async def reconcile(self, name: str, args: JsonObject, ctx: ToolContext) -> ToolResult | None:
        return await self._open.reconcile(name, args, ctx)

    @property
    def _open(self) -> FakeToolbox:
        if self.locked:
            raise Touched("the tools")
        return self.tools


@dataclass
class Stage:
    """A conversation whose turns are run again, once everything around them is locked away."""

    world: World = field(default_factory=World)

    async def say(self, text: str, *scenes: Scene) -> TurnWork:
        """A turn that nobody runs again."""
        given, work = self.world.turn(text), TurnWork()
        await _run(scripted(*scenes)[0], self.world.toolbox, given, work)
        self.world.keep(given, work)
        return work

    async def twice(self, text: str, real: Sequence[Scene], shadow: Sequence[Scene]) -> tuple[Comparison, TurnWork]:
        """A turn, and its shadow: the comparison, and what the shadow's run produced."""
        given, work = self.world.turn(text), TurnWork()
        tools = Lockable(self.world.toolbox)
        recording = RecordingToolbox(tools)
        watch = await _run(scripted(*real)[0], recording, given, work)
        left = deepcopy((work, self.world.toolbox, self.world.ledger, given.tools.state))
        tools.locked = True
        nothing: Any = Untouchable()
        locked = replace(given.tools, pf360=nothing, callbacks=nothing, client=nothing)
        again = rehearsal(replace(given, ledger=nothing, clients=nothing, tools=locked))
        ended = watch.ran(work)
        things = Things((*given.history, *work.messages))
        free = {"cancel_appointment": frozenset({"reason"}), "add_note": frozenset({"note_text"})}
        toolbox = RecordedToolbox(recording, things, free)
        provider, _ = scripted(*shadow)
        ran = await rehearse(DEFINITION, Candidate(provider), None, toolbox, again, lambda _: "chitchat")
        assert (work, self.world.toolbox, self.world.ledger, given.tools.state) == left
        assert ended
        assert ran
        self.world.keep(given, work)
        return compare(ended, ran, Known(recording.offered, things, free), NOW.date()), ran.work


async def _run(provider: Provider, tools: Any, given: TurnInput, work: TurnWork) -> Watch:
    watch = Watch()
    events: list[TurnEvent] = []
    async for event in run_turn(DEFINITION, only(provider), tools, given, work, lambda _: "chitchat"):
        watch.see(event)
        events.append(event)
    return watch


# --- harm


HOSTILE: dict[str, list[Scene]] = {
    "books without a yes": [BOOKS, says("I've booked it for you!")],
    "books what nobody looked at": [[calls("confirm_appointment", **{**BOOKING, "time": "13:00"})], says("Booked.")],
    "everything in one message": [
        [
            *BOOKS,
            calls("cancel_appointment", project_id="SO-26-1002_1"),
            calls("add_note", project_id=ORDER, note_text="x"),
        ]
    ],
    "writes over and over": [[calls("add_note", project_id=ORDER, note_text=f"{n}")] for n in range(12)],
    "a tool that there is not": [[calls("drop_all_tables", really=True)], says("Done.")],
    "as somebody else": [[calls("list_projects", customer_id="7000102")], says("Here you are.")],
    "syntax as text": [says('<tool_call>{"name": "cancel_appointment", "arguments": {"project_id": "1"}}</tool_call>')],
}


@pytest.mark.parametrize("scenes", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("beginning", ["nothing", "a question"])
async def test_a_hostile_shadow_touches_nothing(scenes: list[Scene], beginning: str) -> None:
    """Neither tools nor ledger nor client nor state, also when the person says yes in that turn."""
    stage = Stage()
    text = "What do I have?"
    real: list[Scene] = [LISTS, says("Two projects.")]
    if beginning == "a question":
        await stage.say("Book it on Monday at 10", BOOKS)
        text, real = "yes", [says("It is booked.")]
    compared, _ = await stage.twice(text, real, scenes)
    assert stage.world.writes == (
        [("confirm_appointment", {**BOOKING, "project_id": "410001"})] if text == "yes" else []
    )
    assert compared.differences


async def test_a_yes_is_carried_out_once_and_the_shadow_gets_its_result() -> None:
    """Both tell of the same outcome."""
    stage = Stage()
    await stage.say("Book it on Monday at 10", BOOKS)
    compared, shadow = await stage.twice("yes", [says("It is booked.")], [says("Your visit is booked.")])
    assert [(call.tool, call.status) for call in shadow.calls] == [("confirm_appointment", "ok")]
    assert len(stage.world.writes) == len(stage.world.toolbox.keys) == 1
    assert (compared.real.calls, compared.shadow.calls) == ((), ())
    assert compared.same_outcome
    assert compared.same_calls


# --- what is answered


async def test_the_same_turn_by_the_same_model_is_the_same() -> None:
    """Reads, a question to the person, its text."""
    scenes = [LISTS, [calls("get_time_slots", **SLOTS)], BOOKS]
    compared, shadow = await Stage().twice("Book my flooring on Monday at 10", scenes, scenes)
    assert compared.differences == ()
    assert compared.same_calls
    assert compared.same_outcome
    assert compared.same_facts
    assert (compared.similarity, compared.paired, compared.paired_same) == (1.0, 3, 3)
    assert compared.shadow.outcome == "waiting"
    assert compared.shadow.asked == ("confirm_appointment",)
    assert [pending.summary for pending in shadow.opened]


@pytest.mark.parametrize(
    "written",
    [
        {"project_id": "1", "date": "2026-03-16"},
        {"project_id": 1, "date": "March 16"},
        {"project_id": " so-26-1001_1 ", "date": "2026-03-16"},
        {"project_id": "410001", "date": "2026-03-16"},
    ],
)
async def test_what_means_the_same_is_answered_as_the_same(written: JsonObject) -> None:
    """A place in the list, an order number in other letters, the effective id; a day in words."""
    compared, shadow = await Stage().twice(
        "When on Monday?",
        [LISTS, [calls("get_time_slots", **SLOTS)], says("At 8.")],
        [LISTS, [calls("get_time_slots", **written)], says("At 8.")],
    )
    assert [call.status for call in shadow.calls] == ["ok", "ok"]
    assert shadow.calls[1].result["slots"]
    assert compared.differences == ()


async def test_what_the_turn_did_not_ask_is_not_answered_and_counted() -> None:
    """The shadow is told so, and the difference is named by tool and argument alone."""
    compared, shadow = await Stage().twice(
        "When on Monday?",
        [[calls("get_time_slots", **SLOTS)], says("At 8:00 AM.")],
        [
            [calls("get_time_slots", project_id=ORDER, date="2026-03-19")],
            [calls("list_notes", project_id=ORDER)],
            says("At 9:00 AM."),
        ],
    )
    assert [(call.tool, call.status, call.result["code"]) for call in shadow.calls] == [
        ("get_time_slots", "error", "not_in_comparison"),
        ("list_notes", "error", "not_in_comparison"),
    ]
    assert compared.differences == ("also called: list_notes", "get_time_slots.date", "times in the text")
    assert not compared.same_calls
    assert (compared.paired, compared.paired_same) == (1, 0)


async def test_other_words_for_the_same_wish_are_answered_and_still_a_difference() -> None:
    """Free text is worded as each model likes."""
    cancel = {"project_id": "SO-26-1002_1"}
    compared, _ = await Stage().twice(
        "Cancel the windows, we sold the house",
        [[calls("cancel_appointment", **cancel, reason="sold the house")]],
        [[calls("cancel_appointment", **cancel, reason="The house was sold.")]],
    )
    assert compared.same_outcome
    assert compared.differences == ("cancel_appointment.reason",)


async def test_a_refusal_is_repeated_as_it_was() -> None:
    """The error that the checks of the real turn raised."""
    scenes: list[Scene] = [[calls("confirm_appointment", **{**BOOKING, "time": "11:00"})], says("Not open.")]
    compared, shadow = await Stage().twice("At 11 on Monday", scenes, scenes)
    assert [call.result["code"] for call in shadow.calls] == ["not_offered"]
    assert compared.differences == ()


async def test_the_same_question_again_gets_the_next_answer() -> None:
    """Once before an effect, once after it; the last one from then on."""
    tool = next(spec for spec in SPECS if spec.name == "list_notes")
    tools = FakeToolbox()
    recording = RecordingToolbox(tools)
    context = World().context()
    recording.specs((), context.identity)
    told: tuple[tuple[str, ...], ...] = ((), ("a",))
    for notes in told:
        tools.notes = notes
        await recording.execute(Prepared(tool, {"project_id": "410001"}), context)
    again = RecordedToolbox(recording, Things(()), {})
    answers = [await again.execute(Prepared(tool, {"project_id": "410001"}), context) for _ in range(3)]
    assert [answer.data["notes"] for answer in answers] == [[], ["a"], ["a"]]


# --- comparisons


def listed(*orders: str) -> ToolMessage:
    """A list of projects as a model saw it."""
    rows = [{"list_index": n, "order_number": order, "days": 2} for n, order in enumerate(orders, 1)]
    return ToolMessage("c", "list_projects", {"projects": rows})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1", "SO-B", True),  # as of the latest list
        ("1", "SO-A", False),
        ("2", "SO-B", False),  # two days are no name
        (1, 1.0, True),
        ("A  b", "a B", True),
        (["1", "SO-A"], ["SO-B", "2"], True),
        (["1"], ["SO-B", "SO-A"], False),
        ({"a": 1}, {"a": 1}, True),
        (None, "1", False),
    ],
)
def test_values_that_mean_the_same(one: Any, other: Any, same: bool) -> None:
    """Names of one object in the latest result that names it, whatever the spelling."""
    things = Things((listed("SO-A", "SO-B"), listed("SO-B", "SO-A")))
    assert things.same(one, other) is same
    assert things.same(other, one) is same


def test_a_default_is_as_good_as_left_out() -> None:
    """And what is left out on one side only is a difference."""
    properties = {"week": {"type": "integer", "default": 1}, "reason": {"type": "string"}}
    spec = ToolSpec("t", "", {"properties": properties}, "read", "g")
    assert differing(spec, Things(()), [{}], [{"week": 1, "reason": None}]) == ()
    assert differing(spec, Things(()), [{"reason": "x"}], [{"week": 2}]) == ("week", "reason")


@pytest.mark.parametrize(
    ("one", "other", "unlike"),
    [
        ("Monday, March 16 at 8:00 AM.", "It is at 08:00 on 2026-03-16.", []),
        ("Order SO-26-1001_1 is $1,200.", "1200 for SO-26-1001_1!", []),
        ("On March 16.", "On March 17.", ["dates"]),
        ("At 8 AM.", "At 8 PM.", ["times"]),
        ("Call 555-0111.", "Call 555-0112.", ["numbers"]),
        ("1. Flooring\n2. Windows", "Flooring, windows", []),
    ],
)
async def test_facts_in_texts_are_compared_exactly(one: str, other: str, unlike: list[str]) -> None:
    """Dates, times and numbers, apart from how they are written."""
    stage = Stage()
    await stage.say("What do I have?", LISTS, says("Two."))
    compared, _ = await stage.twice("Tell me", [says(one)], [says(other)])
    told = [difference for difference in compared.differences if difference.endswith("in the text")]
    assert told == [f"{kind} in the text" for kind in unlike]
    assert compared.similarity is not None
    assert 0 <= compared.similarity <= 1


async def test_a_shadow_that_fails_is_a_shadow_that_failed() -> None:
    """The comparison holds its code and no texts."""
    compared, _ = await Stage().twice("Hello", [says("Hello.")], [[ConnectionError("gone")]])
    assert compared.shadow.outcome.startswith("failed: ")
    assert compared.differences == (f"completed -> {compared.shadow.outcome}",)
    assert compared.similarity is None
    assert compared.same_facts is None


async def test_names_that_a_model_made_up_are_not_repeated() -> None:
    """They could hold anything, also what a person wrote."""
    compared, _ = await Stage().twice(
        "My name is Jane", [says("Hello.")], [[calls("note_that_jane_called", jane="7")], says("Hello.")]
    )
    assert "jane" not in repr(compared).lower()
    assert "also called: (unknown tool)" in compared.differences


class Full:
    """A gate with no free place, which must not be told of throttling either."""

    patience: float | None = None

    @asynccontextmanager
    async def passing(self, deadline_s: float) -> AsyncIterator[None]:
        self.patience = deadline_s
        raise NotAdmitted("full")
        yield

    def throttled(self, retry_after_s: float | None) -> None:
        raise Touched("the rate of live calls")


async def test_a_shadow_waits_for_no_place_and_no_circuit_hears_of_it() -> None:
    """Refused at once, which is told apart from a model that is busy; nothing is sent."""
    provider, wire = scripted(says("Hello."))
    gate, breaker = Full(), Untouchable()
    candidate = Candidate(provider, gate=gate, breaker=cast(Any, breaker))
    toolbox = RecordedToolbox(RecordingToolbox(FakeToolbox()), Things(()), {})
    ran = await rehearse(DEFINITION, candidate, None, toolbox, rehearsal(World().turn("hi")), lambda _: "chitchat")
    assert ran
    assert (ran.status, ran.code, ran.was_refused) == ("failed", "model_busy", True)
    assert gate.patience == 0
    assert wire.requests == []
