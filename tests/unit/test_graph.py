"""The turn's loop: what a gated call becomes, what a yes does, and what a turn leaves when it goes wrong."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agent.definition import AgentDefinition
from agent.errors import ModelUnavailable, StoreUnavailable
from agent.events import ConfirmationRequired, ToolFinished, ToolRequested, ToolStarted, TurnFailed, Usage
from agent.graph import run_turn
from agent.ports import Decision, Earlier, EffectKey, TurnWork
from agent.providers.base import Call, Chunk, ModelRequest, Note, Text, Tokens
from agent.routing.plan import only
from agent.transcript import AssistantMessage, ToolCall, ToolMessage
from tests.doubles.scripted_model import calls, says, scripted
from tests.doubles.talk import DEFINITION, Talk
from tests.doubles.world import FakeToolbox, MemoryLedger, NotOffered, World
from tools.contract import ToolResult

BOOK = calls("confirm_appointment", project_id="410001", date="2026-03-16", time="10:00")
MOVE = calls("reschedule_appointment", project_id="410002", new_date="2026-03-19", new_time="13:00")
CANCEL = calls("cancel_appointment", project_id="410002")
BOOKED = ("confirm_appointment", {"project_id": "410001", "date": "2026-03-16", "time": "10:00"})


async def test_a_plain_answer_streams_and_completes() -> None:
    """Text flows out sentence by sentence; the record holds message, usage and route."""
    provider, _ = scripted([*says("Good morning. How can I help?"), Tokens(12, 5)])
    reply = await Talk(provider).say("hello")
    assert reply.text == "Good morning. How can I help?"
    assert reply.status == "completed"
    assert reply.work.messages == [AssistantMessage("Good morning. How can I help?", (), "scripted")]
    assert (reply.work.input_tokens, reply.work.output_tokens, reply.work.specialist) == (12, 5, "chitchat")
    assert [e.output_tokens for e in reply.events if isinstance(e, Usage)] == [5]


async def test_a_read_runs_and_its_result_goes_back_to_the_model() -> None:
    """One call, its result in the transcript, then the answer; the specialist follows from the tool."""
    provider, wire = scripted(
        [Text("Let me look."), calls("get_time_slots", "c1", project_id="SO-26-1001_1", date="monday")],
        says("Monday is open at 10:00 AM."),
    )
    reply = await Talk(provider).say("flooring on monday?")
    assert reply.text == "Let me look.\n\nMonday is open at 10:00 AM."
    assert reply.tools == [("get_time_slots", "ok")]
    assert reply.work.calls[0].args == {"project_id": "410001", "date": "2026-03-16"}
    assert reply.work.specialist == "scheduling"
    assert isinstance(wire.requests[1].messages[-1], ToolMessage)


async def test_a_gated_call_waits_for_a_yes_and_code_words_the_question() -> None:
    """Nothing is written, the model has no further say, the reply names everything and asks once."""
    provider, wire = scripted([Text("One moment. Shall I take Tuesday?"), BOOK])
    talk = Talk(provider)
    reply = await talk.say("book monday at 10")
    assert talk.world.writes == []
    assert len(wire.requests) == 1
    for part in ("Flooring", "Installation", "SO-26-1001_1", "Monday, March 16", "10:00 AM", "12 Sample Ln"):
        assert part in reply.text
    assert reply.text.count("?") == 1
    assert "Tuesday" not in reply.text
    assert reply.status == "waiting"
    assert reply.tools == [("confirm_appointment", "pending")]
    (pending,) = talk.world.pending
    assert pending.args == BOOKED[1]
    assert [e.summary for e in reply.events if isinstance(e, ConfirmationRequired)] == [pending.summary]
    assert not any(isinstance(e, ToolStarted) for e in reply.events)


async def test_a_yes_runs_the_stored_arguments_once() -> None:
    """The runtime makes the call itself; the model only tells how it went."""
    provider, wire = scripted([BOOK], says("Your flooring is booked for Monday, March 16 at 10:00 AM."))
    talk = Talk(provider)
    await talk.say("book monday at 10")
    reply = await talk.say("yes, book it")
    assert talk.world.writes == [BOOKED]
    assert reply.tools == [("confirm_appointment", "ok")]
    assert not any(isinstance(e, ToolRequested) for e in reply.events)
    assert "booked for Monday" in reply.text
    assert talk.world.pending == []
    call = reply.work.messages[0]
    assert isinstance(call, AssistantMessage)
    assert call.tool_calls[0].by_runtime
    verdict = wire.requests[1].facts.verdict
    assert verdict is not None
    assert verdict.kind == "confirm"
    again = await talk.say("yes")
    assert talk.world.writes == [BOOKED]
    assert again.tools == []


async def test_a_no_drops_it_and_a_later_yes_does_not_revive_it() -> None:
    """Declined is over."""
    provider, _ = scripted([BOOK], says("Alright, I leave it."), says("What would you like to do?"))
    talk = Talk(provider)
    await talk.say("book monday at 10")
    assert (await talk.say("no, forget it")).work.changed[0].state == "declined"
    await talk.say("ok")
    assert talk.world.writes == []


async def test_an_undecided_answer_keeps_it_and_asks_again() -> None:
    """What is open was restated by the last reply, and only what was restated stays open."""
    provider, _ = scripted([BOOK], says("No rush. Would you like something else?"))
    talk = Talk(provider)
    await talk.say("book monday at 10")
    reply = await talk.say("hmm, maybe")
    assert talk.world.writes == []
    assert len(talk.world.pending) == 1
    assert talk.world.pending[0].summary in reply.text
    assert reply.text.count("?") == 1
    assert reply.status == "waiting"


async def test_a_changed_detail_replaces_the_old_question() -> None:
    """Yes to one thing, written is that thing alone."""
    later = calls("confirm_appointment", project_id="410001", date="2026-03-16", time="13:00")
    provider, _ = scripted([BOOK], [later], says("It is booked for 1:00 PM."))
    talk = Talk(provider)
    await talk.say("book monday at 10")
    reply = await talk.say("yes but at 1 pm")
    assert [change.state for change in reply.work.changed] == ["replaced"]
    assert [p.args["time"] for p in talk.world.pending] == ["13:00"]
    await talk.say("yes")
    assert talk.world.writes == [("confirm_appointment", {**BOOKED[1], "time": "13:00"})]


async def test_looking_at_other_times_takes_the_question_off_the_table() -> None:
    """A later yes cannot mean what is no longer asked."""
    look = calls("get_time_slots", project_id="410001", date="2026-03-19")
    provider, _ = scripted([BOOK], [look], says("Thursday has 8:00 AM and 1:00 PM."), says("Which one?"))
    talk = Talk(provider)
    await talk.say("book monday at 10")
    reply = await talk.say("what else is there on thursday the 19th?")
    assert [change.state for change in reply.work.changed] == ["replaced"]
    assert reply.status == "completed"
    await talk.say("yes")
    assert talk.world.writes == []


async def test_two_gated_calls_are_put_as_a_list_with_one_question() -> None:
    """A yes to both runs both, each with its own key."""
    provider, _ = scripted([BOOK, MOVE], says("Both are done."))
    talk = Talk(provider)
    reply = await talk.say("book the flooring monday 10 and move the windows to thursday 1 pm")
    assert "1. Book Flooring" in reply.text
    assert "2. Move Windows" in reply.text
    assert reply.text.count("?") == 1
    await talk.say("yes to both")
    assert [tool for tool, _ in talk.world.writes] == ["confirm_appointment", "reschedule_appointment"]
    assert len(set(talk.world.toolbox.keys)) == 2


async def test_a_yes_to_one_and_a_no_to_the_other() -> None:
    """Only the one runs, the other is dropped and not asked for again."""
    for answer in ("yes the first, leave the other", "book the flooring but don't move the windows"):
        provider, _ = scripted([BOOK, MOVE], says("The flooring is booked."))
        talk = Talk(provider)
        await talk.say("book the flooring monday 10 and move the windows to thursday 1 pm")
        reply = await talk.say(answer)
        assert talk.world.writes == [BOOKED], answer
        assert sorted(change.state for change in reply.work.changed) == ["confirmed", "declined"]
        assert reply.status == "completed"


async def test_a_refused_wish_beside_an_accepted_one_is_told() -> None:
    """The model has no more say once something waits, so code says why the other call failed."""
    taken = calls("confirm_appointment", project_id="410001", date="2026-03-16", time="09:00")
    provider, _ = scripted([taken, MOVE])
    reply = await Talk(provider).say("flooring monday at 9, and windows to thursday 1 pm")
    assert "That time is not open." in reply.text
    assert "Move Windows" in reply.text


async def test_buttons_do_what_words_do() -> None:
    """Confirm and decline by id; an id that is not open is refused."""
    provider, _ = scripted([BOOK], says("It is booked."))
    talk = Talk(provider)
    await talk.say("book monday at 10")
    pending_id = talk.world.pending[0].pending_id
    await talk.say("Confirm", Decision(pending_id, confirm=True))
    assert talk.world.writes == [BOOKED]
    assert (await talk.say("Confirm", Decision(pending_id, confirm=True))).failed == "pending_settled"


async def test_a_late_yes_counts_while_nothing_has_changed() -> None:
    """A question older than its time is checked again; what still holds need not be asked twice."""
    provider, _ = scripted([BOOK], says("It is booked for Monday, March 16 at 10:00 AM."))
    talk = Talk(provider)
    await talk.say("book monday at 10")
    talk.world.advance(31)
    reply = await talk.say("yes")
    assert [name for name, _ in talk.world.writes] == ["confirm_appointment"]
    assert [change.state for change in reply.work.changed] == ["confirmed"]


async def test_a_late_yes_to_what_has_changed_runs_nothing() -> None:
    """Where the facts are others by now, the old question is void; the model is told why."""
    provider, _ = scripted([BOOK], says("That offer is too old, let me look again."))
    talk = Talk(provider)
    await talk.say("book monday at 10")
    talk.world.advance(31)
    talk.world.pending = [replace(p, restatement={**p.restatement, "address": "9 Old Rd"}) for p in talk.world.pending]
    reply = await talk.say("yes")
    assert talk.world.writes == []
    assert [change.state for change in reply.work.changed] == ["expired"]


async def test_an_old_question_is_not_put_again() -> None:
    """Whoever says something else after its time finds the question gone."""
    provider, _ = scripted([BOOK], says("You're welcome."))
    talk = Talk(provider)
    await talk.say("book monday at 10")
    talk.world.advance(31)
    reply = await talk.say("thanks anyway")
    assert [change.state for change in reply.work.changed] == ["expired"]
    assert "Shall I" not in reply.text


async def test_a_question_of_a_former_version_is_dropped() -> None:
    """A stored action that the agent no longer has is out of date, not an error."""
    provider, _ = scripted([BOOK], says("What would you like?"))
    talk = Talk(provider)
    await talk.say("book monday at 10")
    talk.world.pending = [replace(talk.world.pending[0], tool="retired_tool")]
    reply = await talk.say("yes")
    assert [change.state for change in reply.work.changed] == ["expired"]
    assert reply.status == "completed"


async def test_a_note_in_the_persons_words_is_saved_at_once_and_another_is_asked_for() -> None:
    """An ungated write needs the person's own words."""
    own = calls("add_note", project_id="410001", note_text="Please ring the side door bell")
    made_up = calls("add_note", project_id="410001", note_text="Customer agreed to a surcharge of forty dollars")
    provider, _ = scripted([own], says("Noted on your flooring: ring the side door bell."), [made_up])
    talk = Talk(provider)
    await talk.say("add a note to the flooring: please ring the side door bell")
    assert [tool for tool, _ in talk.world.writes] == ["add_note"]
    reply = await talk.say("thanks")
    assert len(talk.world.writes) == 1
    assert "surcharge" in reply.text
    assert reply.status == "waiting"


async def test_the_same_write_twice_in_a_turn_happens_once() -> None:
    """Identical arguments on the same message are one effect."""
    note = calls("add_note", project_id="410001", note_text="ring the bell")
    provider, _ = scripted([note, note], says("Saved your note."))
    talk = Talk(provider)
    await talk.say("note for flooring: ring the bell")
    assert len(talk.world.writes) == 1


async def test_a_model_that_repeats_itself_is_stopped() -> None:
    """The second repetition of a read ends the turn in plain words; it ran once."""
    look = calls("list_projects")
    provider, wire = scripted([look])
    talk = Talk(provider)
    reply = await talk.say("hello")
    assert talk.world.toolbox.reads == ["list_projects"]
    assert len(wire.requests) == 3
    assert reply.status == "completed"
    assert reply.text


async def test_a_faulty_call_is_refused_and_its_repetition_ends_the_turn() -> None:
    """Unknown tools, session-bound arguments, broken JSON: said to the model once."""
    for faulty in (
        calls("drop_tables"),
        calls("list_projects", customer_id="7000102"),
        Call(ToolCall("", "list_projects", {}), "not JSON"),
    ):
        provider, wire = scripted([faulty])
        reply = await Talk(provider).say("hello")
        assert {status for _, status in reply.tools} == {"refused"}
        assert len(wire.requests) == 2
        assert reply.status == "completed"


@pytest.mark.parametrize(
    ("faulty", "said"),
    [
        (calls("get_time_slot", date="x"), {"code": "unknown_tool", "did_you_mean": "get_time_slots"}),
        (calls("fly_to_the_moon"), {"code": "unknown_tool"}),
        (calls("get_time_slots", project_id="410001"), [("date", "missing")]),
        (calls("get_time_slots", project_id="410001", date="31 june"), [("date", "")]),
        (calls("list_notes", project_id="410001", page=2), [("page", "leave it out, it takes: project_id")]),
        (Call(ToolCall("", "list_projects", {}), "the arguments are no JSON object"), [("", "no JSON object")]),
    ],
)
async def test_a_faulty_call_comes_back_with_the_field_and_the_fix(faulty: Call, said: Any) -> None:
    """The model reads it as the result, and does better."""
    provider, wire = scripted([faulty], [calls("list_projects")], says("Two projects."))
    reply = await Talk(provider).say("what is open?")
    assert reply.text == "Two projects."
    result = wire.requests[1].messages[-1].result  # type: ignore[union-attr]
    if isinstance(said, dict):
        assert {key: result[key] for key in ("code", "did_you_mean") if key in result} == said
        return
    assert result["code"] == "invalid_arguments"
    assert [error["field"] for error in result["errors"]] == [field for field, _ in said]
    assert all(message in error["message"] for (_, message), error in zip(said, result["errors"], strict=True))


async def test_a_model_that_never_gets_its_arguments_right_ends_in_a_plain_sentence() -> None:
    """Each time another mistake, so that no call is the same: three are told, the fourth ends the turn."""
    tries = iter(range(100))
    provider, wire = scripted(
        lambda _: [calls("get_time_slots", project_id="410001", day=next(tries)) for _ in range(2)]
    )
    talk = Talk(provider)
    reply = await talk.say("look")
    assert len(wire.requests) == 4
    assert reply.tools == [("get_time_slots", "refused")] * 8
    assert (reply.status, reply.text) == ("completed", DEFINITION.file.phrases["gave_up"])
    assert talk.world.toolbox.reads == []


@pytest.mark.parametrize(
    ("limits", "asked"),
    [({"model_calls": 3}, 3), ({"tool_calls": 2}, 3), ({"deadline_s": 0.0}, 0)],
)
@pytest.mark.parametrize("lead", ["", "Looking. "])
async def test_each_budget_ends_the_turn_by_itself(limits: dict[str, Any], asked: int, lead: str) -> None:
    """Model calls, tool calls, time: a typed failure when nothing was said, else a plain sentence after what was."""
    changed = DEFINITION.file.limits.model_copy(update=limits)
    definition = AgentDefinition(DEFINITION.file.model_copy(update={"limits": changed}))
    days = iter(range(10, 28))

    def look(_: ModelRequest) -> list[Chunk]:
        return [Text(lead), calls("get_time_slots", project_id="410001", date=f"2026-03-{next(days)}")]

    provider, wire = scripted(look)
    reply = await Talk(provider, World(), definition).say("look")
    assert len(wire.requests) == asked
    if lead and asked:
        assert reply.text.endswith(DEFINITION.file.phrases["gave_up"])
    else:
        assert reply.failed == "turn_limit"


async def test_budgets_end_a_turn() -> None:
    """Ever new calls run into the limit; with nothing said that is a typed failure, else a plain sentence."""
    days = iter(range(10, 28))

    def another(_: ModelRequest) -> list[Call]:
        return [calls("get_time_slots", project_id="410001", date=f"2026-03-{next(days)}")]

    provider, _ = scripted(another)
    talk = Talk(provider)
    reply = await talk.say("look")
    assert reply.failed == "turn_limit"
    assert len(talk.world.toolbox.reads) <= 8
    provider, _ = scripted(lambda r: [Text("Looking. "), *another(r)])
    reply = await Talk(provider).say("look")
    assert reply.status == "completed"


async def test_a_model_that_dies_after_an_effect_does_not_hide_it() -> None:
    """What was done is told by code."""
    provider, _ = scripted([BOOK], [ModelUnavailable("gone")])
    talk = Talk(provider)
    await talk.say("book monday at 10")
    reply = await talk.say("yes")
    assert talk.world.writes == [BOOKED]
    assert "booked for Monday, March 16 at 10:00 AM" in reply.text
    assert reply.status == "completed"


async def test_a_model_that_dies_otherwise_is_a_typed_failure() -> None:
    """With what was said so far on record."""
    provider, _ = scripted([Text("Let me see. "), ConnectionError("reset")])
    reply = await Talk(provider).say("hello")
    assert reply.failed == "model_error"
    assert reply.work.messages == [AssistantMessage("Let me see.")]


async def test_an_outcome_that_nobody_knows_is_told_plainly_and_not_claimed() -> None:
    """No claim passes, and the model's second try neither."""
    provider, _ = scripted([BOOK], says("Great news, your visit is booked!"))
    toolbox = FakeToolbox(outcome=lambda *_: ToolResult("unknown", {"ok": False, "code": "unknown_outcome"}))
    talk = Talk(provider, World(toolbox))
    await talk.say("book monday at 10")
    reply = await talk.say("yes")
    assert "is booked" not in reply.text
    assert "can't tell yet" in reply.text
    assert reply.faults() == ["claim", "claim"]


@pytest.mark.parametrize(
    ("found", "writes", "status"),
    [
        (ToolResult("ok", {"ok": True}), 0, "ok"),
        (None, 1, "ok"),
        (ToolResult("unknown", {"ok": False}), 0, "unknown"),
    ],
)
async def test_an_effect_whose_worker_died_is_read_back_first(
    found: ToolResult | None, writes: int, status: str
) -> None:
    """Found: settled as done. Positively absent: run once. Unreadable: unknown, never resent."""
    provider, _ = scripted([BOOK], says("Thank you."))
    talk = Talk(provider, World(FakeToolbox(found=found)))
    await talk.say("book monday at 10")

    class Crashed(MemoryLedger):
        async def intend(self, effect: EffectKey) -> Earlier | None:
            self.intents[effect.key] = effect
            return await super().intend(effect)

    talk.world.ledger = Crashed()
    reply = await talk.say("yes")
    assert len(talk.world.writes) == writes
    assert reply.tools == [("confirm_appointment", status)]


async def test_a_cancelled_turn_finishes_its_effect_and_leaves_a_whole_record() -> None:
    """Cancelling in the middle of a write: the outcome is settled and recorded, then the turn is gone."""
    provider, _ = scripted([BOOK], says("Done."))
    talk = Talk(provider)
    await talk.say("book monday at 10")
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def wait_inside() -> None:
        inside.set()
        await go_on.wait()

    talk.world.toolbox.during_write = wait_inside
    given, work = talk.world.turn("yes"), TurnWork()

    async def consume() -> None:
        async for _ in run_turn(DEFINITION, only(provider), talk.world.toolbox, given, work, lambda _: "chitchat"):
            pass

    task = asyncio.create_task(consume())
    await inside.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert talk.world.writes == [BOOKED]
    assert [result.status for result in talk.world.ledger.results.values()] == ["ok"]
    assert [record.status for record in work.calls] == ["ok"]
    assert [m.role for m in work.messages] == ["assistant", "tool"]


async def test_a_store_that_is_away_fails_the_turn_before_the_effect() -> None:
    """No intent on record, no effect."""

    class Away(MemoryLedger):
        async def intend(self, effect: EffectKey) -> None:
            raise StoreUnavailable("no connection")

    provider, _ = scripted([BOOK])
    talk = Talk(provider, World(ledger=Away()))
    await talk.say("book monday at 10")
    reply = await talk.say("yes")
    assert isinstance(reply.final, TurnFailed)
    assert reply.final.retryable
    assert talk.world.writes == []


async def test_the_planners_state_travels_with_its_message() -> None:
    """State and specialist come back from the provider's note."""
    provider, _ = scripted([Text("Sure."), Note({"frame": 1}, "notes")])
    reply = await Talk(provider).say("hello")
    assert reply.work.messages == [AssistantMessage("Sure.", (), "scripted", {"frame": 1})]
    assert reply.work.specialist == "notes"


async def test_a_failed_lookup_may_be_repeated_after_something_was_found() -> None:
    """An error that a read has since cured is no loop."""
    late = calls("confirm_appointment", project_id="410001", date="2026-03-16", time="09:00")
    provider, wire = scripted(
        [late], [calls("get_time_slots", project_id="410001", date="2026-03-16")], [late], says("Sorry, not open.")
    )
    reply = await Talk(provider).say("book monday at 9")
    assert len(wire.requests) == 4
    assert reply.text == "Sorry, not open."
    assert NotOffered.code in str([e.result for e in reply.events if isinstance(e, ToolFinished)])


async def test_what_test_mode_held_back_is_not_claimed() -> None:
    """The tool says that nothing was sent; a model that tells it as a booking is corrected, then overruled."""
    tried = ToolResult("ok", {"ok": True, "status": "Tentatively Scheduled", "test_mode": True})
    provider, _ = scripted([BOOK], says("It's booked for Monday at 10 AM!"))
    talk = Talk(provider, World(FakeToolbox(outcome=lambda *_: tried)))
    await talk.say("book monday at 10")
    reply = await talk.say("yes")
    assert reply.faults() == ["claim", "claim"]
    assert "Nothing has been changed" in reply.text
    assert "booked" not in reply.text
