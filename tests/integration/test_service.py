"""Turns as tasks of the server: followers come and go, processes die, and every turn ends once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from agent.errors import ConversationBusy, IdempotencyMismatch, NotFound, PendingSettled
from agent.events import TextDelta, TurnCompleted, TurnFailed
from agent.ports import Decision
from agent.transcript import UserMessage
from backend.clock import RealClock
from backend.conversations.answer import TurnDidNotComplete, answer
from backend.conversations.frames import frame, pack
from backend.conversations.service import AgentVersion, ConversationService, Limits, TooManyTurns, TurnRequest
from backend.conversations.turn import DistantTurn, TooManyFollowers, Turn
from backend.identity.principal import Principal
from backend.records.database import Database
from backend.sessions.store import Sessions
from tests.integration.scripted import ScriptedAgent
from tests.integration.test_records import ALICE, BOB
from tools.contract import CallbackStore, Directory, ToolContext, ToolState

Start = Callable[..., Any]
CLOCK = RealClock("America/New_York")


def context(caller: Principal, state: ToolState, callbacks: CallbackStore) -> ToolContext:
    state.values["turns"] = state.values.get("turns", 0) + 1
    return ToolContext(caller.identity, Directory({}), CLOCK, state, None, callbacks)


class Process:
    """One process of the service, as far as its stores and its tasks go."""

    def __init__(self, database_url: str, redis_url: str, agent: ScriptedAgent, limits: Limits) -> None:
        self.agent = agent
        self.db = Database(database_url)
        self.sessions = Sessions(redis_url, idle_s=60)
        self.service = ConversationService(
            db=self.db,
            sessions=self.sessions,
            clock=CLOCK,
            run_turn=agent.run,
            make_context=context,
            agent=AgentVersion("test", "1", 20),
            limits=limits,
        )

    def die(self) -> None:
        """As kill -9 leaves things: no task goes on, nothing is released."""
        self.service._limits = Limits(lease_s=3600)
        if self.service._reaper:
            self.service._reaper.cancel()
        for _, task in self.service._running.values():
            # The held turn hangs in its gate for ever: the closest to a process that is gone.
            task.add_done_callback(lambda _: None)


@pytest.fixture
async def start(database_url: str, redis_url: str) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        @asynccontextmanager
        async def living(agent: ScriptedAgent, limits: Limits) -> AsyncIterator[Process]:
            process = Process(database_url, redis_url, agent, limits)
            await process.db.open()
            await process.service.start()
            yield process
            await process.service.stop(0)
            await process.sessions.close()
            await process.db.close()

        async def begin(agent: ScriptedAgent | None = None, **limits: Any) -> Process:
            chosen = Limits(**{"lease_s": 0.3, **limits})
            return await stack.enter_async_context(living(agent or ScriptedAgent(), chosen))

        yield begin


async def whole(turn: Turn) -> Any:
    return answer(turn.conversation_id, turn.turn_id, await turn.finished(), await turn.pending())


async def say(process: Process, text: str, conversation: UUID | None = None, **more: Any) -> Any:
    return await whole(await process.service.submit(ALICE, TurnRequest(text, conversation, **more)))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_conversation_keeps_its_history_and_its_state(start: Start) -> None:
    """The second turn sees the first, whether this process remembers it or reads it; tools find their state again."""
    process = await start()
    first = await say(process, "hello there")
    assert (first.status, first.text) == ("completed", "You said: hello there")
    await say(process, "again", first.session_id)
    from_memory = process.agent.turns[-1]
    other = await start()
    await say(other, "third", first.session_id)
    from_record = other.agent.turns[-1]
    assert from_memory.history[0] == UserMessage("hello there")
    assert from_record.history[: len(from_memory.history)] == from_memory.history
    assert from_record.history[2] == UserMessage("again")
    assert from_record.tools.state.values == {"turns": 3}


async def test_followers_see_the_same_events_wherever_they_begin(start: Start) -> None:
    """Live from 0, live from the middle, from another process while it runs, and from the record afterwards."""
    process, other = await start(), await start()
    turn = await process.service.submit(ALICE, TurnRequest("hold on"))
    live = asyncio.create_task(_all(turn))
    distant_turn = await other.service.attach(ALICE, turn.turn_id)
    assert isinstance(distant_turn, DistantTurn)
    distant = asyncio.create_task(_all(distant_turn))
    await asyncio.sleep(0.1)
    process.agent.gate.set()
    events = await live
    assert [each.seq for each in events] == list(range(len(events)))
    assert isinstance(events[-1], TurnCompleted)
    assert await distant == events
    recorded = await other.service.attach(ALICE, turn.turn_id)
    assert await _all(recorded) == events
    assert await _all(recorded, after=1) == events[2:]


async def test_a_follower_of_a_process_that_had_lost_the_turn_sees_its_end(start: Start) -> None:
    """The stalled process had said more than the turn came to: the end follows, and the whole is the record."""
    process, other = await start(), await start()
    turn = await process.service.submit(ALICE, TurnRequest("hold on"))
    stale = [TextDelta(turn_id=turn.turn_id, seq=n, at=datetime.now(UTC), text="stale") for n in range(50)]
    await process.sessions.publish(ALICE.tenant, turn.turn_id, pack(frame(each) for each in stale))
    distant = await other.service.attach(ALICE, turn.turn_id)
    followed = asyncio.create_task(_all(distant))
    whole = asyncio.create_task(distant.finished())
    await asyncio.sleep(0.1)
    process.agent.gate.set()
    events = await followed
    assert isinstance(events[-1], TurnCompleted)
    assert events[-1].seq == 50
    assert [each.event for each in await whole] == await _all(turn)


async def _all(turn: Turn, after: int = -1) -> list[Any]:
    return [event async for event in turn.events(after)]


async def test_a_follower_that_leaves_does_not_stop_the_turn(start: Start) -> None:
    """The stream is closed after its first event; the turn ends and is on record."""
    process = await start()
    turn = await process.service.submit(ALICE, TurnRequest("hold"))
    events = turn.events()
    await anext(events)
    await events.aclose()
    process.agent.gate.set()
    assert (await whole(turn)).status == "completed"


async def test_a_second_message_meets_a_busy_conversation(start: Start) -> None:
    """409 while the first runs; taken once it has ended."""
    process = await start()
    turn = await process.service.submit(ALICE, TurnRequest("hold"))
    with pytest.raises(ConversationBusy):
        await process.service.submit(ALICE, TurnRequest("two", turn.conversation_id))
    process.agent.gate.set()
    await turn.finished()
    assert (await say(process, "two", turn.conversation_id)).status == "completed"


async def test_a_repeated_request_attaches_to_its_turn(start: Start) -> None:
    """While it runs, after it, from another process, and for a conversation that the first one made."""
    process, other = await start(), await start()
    request = TurnRequest("hold", idempotency_key="k")
    turn = await process.service.submit(ALICE, request)
    again = await process.service.submit(ALICE, request)
    assert again is turn
    process.agent.gate.set()
    first = await whole(turn)
    later = await whole(await other.service.submit(ALICE, request))
    assert later == first
    assert other.agent.turns == []
    with pytest.raises(IdempotencyMismatch):
        await process.service.submit(ALICE, TurnRequest("other", idempotency_key="k"))
    assert (await whole(await process.service.submit(BOB, request))).session_id != first.session_id


async def test_failures_end_the_turn_with_a_type(start: Start) -> None:
    """A model's failure keeps its code, a bug becomes an internal error; the conversation goes on."""
    process = await start()
    conversation = None
    for text, code, status in (("model", "model_unavailable", 503), ("crash", "internal_error", 500)):
        turn = await process.service.submit(ALICE, TurnRequest(text, conversation))
        conversation = turn.conversation_id
        with pytest.raises(TurnDidNotComplete) as failed:
            await whole(turn)
        assert (failed.value.code, failed.value.status) == (code, status)
        assert isinstance((await turn.finished())[-1].event, TurnFailed)
    assert (await say(process, "on", conversation)).status == "completed"


async def test_a_button_pressed_twice_acts_once(start: Start) -> None:
    """At once, later, and with the other button."""
    process = await start()
    asked = await say(process, "ask me")
    (question,) = asked.pending_actions
    yes, no = Decision(question.pending_id, True), Decision(question.pending_id, False)
    presses = [process.service.decide(ALICE, asked.session_id, yes) for _ in range(5)]
    answers = [await whole(turn) for turn in await asyncio.gather(*presses)]
    assert len({each.turn_id for each in answers}) == 1
    assert len(process.agent.effects) == 1
    later = await whole(await process.service.decide(ALICE, asked.session_id, yes))
    assert later.turn_id == answers[0].turn_id
    assert later.pending_actions == []
    with pytest.raises(PendingSettled):
        await process.service.decide(ALICE, asked.session_id, no)
    with pytest.raises(NotFound):
        await process.service.decide(BOB, asked.session_id, yes)


async def test_an_expired_question_cannot_be_answered(start: Start) -> None:
    """409, and nothing happens."""
    process = await start()
    asked = await say(process, "ask expired")
    with pytest.raises(PendingSettled):
        await process.service.decide(ALICE, asked.session_id, Decision(asked.pending_actions[0].pending_id, True))
    assert process.agent.effects == []


async def test_a_dead_process_loses_no_turn_and_repeats_no_effect(start: Start) -> None:
    """It died between the intent and the outcome of an effect; another finishes the turn from its rows."""
    first = await start()
    turn = await first.service.submit(ALICE, TurnRequest("write hold"))
    await until(lambda: len(first.agent.effects) == 1)
    first.die()
    second_agent = ScriptedAgent()
    second_agent.gate.set()
    second = await start(second_agent)
    await until(lambda: len(second_agent.turns) == 1)
    finished = await whole(await second.service.attach(ALICE, turn.turn_id))
    assert finished.status == "completed"
    assert [call.status for call in finished.tool_calls] == ["ok"]
    assert second_agent.effects == []
    resumed, original = second_agent.turns[0], first.agent.turns[0]
    assert (resumed.message_id, resumed.text) == (original.message_id, original.text)
    # The first process was only stalled: what it still tries is refused, and its followers get the real end.
    first.agent.gate.set()
    assert (await turn.finished())[-1].event.seq >= 1
    row = await second.db.row("SELECT count(*) AS n FROM tool_calls")
    assert row is not None
    assert row["n"] == 1


async def test_a_stop_hands_running_turns_over(start: Start) -> None:
    """What does not finish in time is released and taken over at once."""
    first = await start()
    turn = await first.service.submit(ALICE, TurnRequest("hold"))
    await first.agent.started.wait()
    await first.service.stop(0.05)
    with pytest.raises(TooManyTurns):
        await first.service.submit(ALICE, TurnRequest("late"))
    agent = ScriptedAgent()
    agent.gate.set()
    second = await start(agent)
    await until(lambda: len(agent.turns) == 1)
    assert (await whole(await second.service.attach(ALICE, turn.turn_id))).status == "completed"


async def test_numbers_of_turns_and_followers_are_bounded(start: Start) -> None:
    """Refused before anything is taken or sent."""
    process = await start(running_turns=1, followers_per_turn=1)
    turn = await process.service.submit(ALICE, TurnRequest("hold"))
    with pytest.raises(TooManyTurns):
        await process.service.submit(BOB, TurnRequest("hello"))
    events = turn.events()
    await anext(events)
    with pytest.raises(TooManyFollowers):
        turn.batches()
    await events.aclose()
    process.agent.gate.set()
    await turn.finished()


async def test_an_ordinary_turn_is_two_statements(start: Start) -> None:
    """Accept and close, each one commit; also with a history, and an effect adds two."""
    process = await start(lease_s=30.0)
    first = await say(process, "one")
    counted = process.service._db = CountingDatabase(process.db)
    await say(process, "two", first.session_id)
    assert counted.statements == 2
    await say(process, "write", first.session_id)
    assert counted.statements == 2 + 4


class CountingDatabase:
    """Counts what passes through."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.statements = 0

    async def row(self, sql: str, *values: Any) -> Any:
        self.statements += 1
        return await self._db.row(sql, *values)

    async def rows(self, sql: str, *values: Any) -> Any:
        self.statements += 1
        return await self._db.rows(sql, *values)


async def test_what_cannot_be_stored_still_ends_the_turn(start: Start) -> None:
    """A number beyond 64 bits: the turn fails with a type, and the conversation goes on."""
    process = await start()
    turn = await process.service.submit(ALICE, TurnRequest("huge"))
    with pytest.raises(TurnDidNotComplete):
        await whole(turn)
    assert (await say(process, "on", turn.conversation_id)).status == "completed"


async def test_without_redis_turns_still_complete(start: Start) -> None:
    """Nothing listens at the address; the turn completes, and the store says that it is degraded."""
    process = await start()
    process.service._sessions = process.sessions = Sessions("redis://127.0.0.1:9/0", 60)
    first = await say(process, "one")
    assert (await say(process, "two", first.session_id)).status == "completed"
    assert process.sessions.degraded
    assert not await process.sessions.ping()


async def test_the_record_outlives_the_session(start: Start) -> None:
    """Redis is emptied in between: state is gone, the conversation is not."""
    process = await start()
    first = await say(process, "one")
    await process.sessions._redis.flushdb()
    await say(process, "two", first.session_id)
    assert process.agent.turns[-1].tools.state.values == {"turns": 1}
    assert process.agent.turns[-1].history[0] == UserMessage("one")
