"""What Postgres promises: acceptance, leases, closing, the ledger, and that nobody sees what is not theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from agent.errors import ConversationBusy, IdempotencyMismatch, NotFound, StoreUnavailable
from agent.ports import CallRecord, EffectKey, PendingAction, PendingChange, TurnWork
from agent.transcript import AssistantMessage, Message, SummaryMessage, ToolCall, ToolMessage, UserMessage
from backend.identity.principal import Principal
from backend.records import conversations, migrate, turns
from backend.records.database import Database
from backend.records.ids import uuid7
from backend.records.ledger import LeaseLost, TurnLedger
from backend.records.turns import Accepted, Ending, Existing, NewTurn
from tools.contract import Identity, ToolResult

ALICE = Principal("default", "demo:c1", Identity("customer", "7000101", "B2C", "20OC01BK", ("20OC01BK",)))
BOB = Principal("default", "demo:c2", Identity("customer", "7000102", "B2C", "20OC01BK", ("20OC01BK",)))
ALICE_ELSEWHERE = replace(ALICE, tenant="other")
NEWEST = max(Path(migrate.MIGRATIONS, "versions").glob("r*.py")).name
DONE = Ending("completed", b'{"seq":0}\n', 12.5, "1")


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.open()
    yield database
    await database.close()


def request(conversation_id: UUID | None = None, text: str = "hello", key: str | None = None) -> NewTurn:
    return NewTurn(
        turn_id=uuid7(),
        message_id=uuid7(),
        conversation_id=conversation_id or uuid7(),
        text=text,
        request_hash=text,
        agent="test",
        agent_version="1",
        idempotency_key=key,
        new_conversation=conversation_id is None,
    )


async def accepted(db: Database, new: NewTurn, caller: Principal = ALICE, owner: str = "me") -> Accepted:
    outcome = await turns.accept(db, caller, new, owner, 30.0)
    assert isinstance(outcome, Accepted)
    return outcome


def pending(**changes: object) -> PendingAction:
    now = datetime.now(UTC)
    action = PendingAction(
        uuid7(), "call-1", "confirm_appointment", {"z": 1, "a": 2}, {"category": "Flooring"}, "Book it", now,
        now + timedelta(minutes=30),
    )  # fmt: skip
    return replace(action, **changes)  # type: ignore[arg-type]


async def test_a_turn_is_numbered_and_its_messages_come_back_as_they_were(db: Database) -> None:
    """Two turns: messages in order, the order of keys kept, history bounded by turns."""
    first = request()
    start = await accepted(db, first)
    assert (start.turn_seq, start.message_seq, start.pending) == (1, 1, ())
    call = ToolCall("c1", "list_projects", {"z": 1, "a": 2})
    work = TurnWork(
        messages=[
            AssistantMessage("", (call,)),
            ToolMessage("c1", "list_projects", {"b": "ä ", "a": 1}, {"z": 1}),
            AssistantMessage("Two projects."),
        ],
        calls=[CallRecord("c1", "list_projects", "read", {"z": 1}, "ok", {"b": 1}, None, datetime.now(UTC), 3.0)],
        text="Two projects.",
        specialist="information",
    )
    assert await turns.close(db, start.lease, work, DONE) == 4

    second = await accepted(db, request(first.conversation_id, "more"))
    assert (second.turn_seq, second.message_seq) == (2, 5)
    history = await turns.history(db, ALICE, first.conversation_id, 2, 5, turns=20)
    assert history == [(UserMessage("hello"), *work.messages)]
    assert list(history[0][1].tool_calls[0].args) == ["z", "a"]  # type: ignore[union-attr]
    assert await turns.history(db, ALICE, first.conversation_id, 2, 5, turns=0) == []


async def test_a_summary_reaches_the_model_and_nobody_else(db: Database) -> None:
    """Also when its turn is older than what is loaded; it is no message of the listing."""
    first = request()
    start = await accepted(db, first)
    said: list[list[Message]] = [
        [AssistantMessage("a")],
        [SummaryMessage("old", 1), AssistantMessage("b")],
        [SummaryMessage("newer", 1), AssistantMessage("c")],
        [AssistantMessage("d")],
    ]
    for n, messages in enumerate(said):
        if n:
            start = await accepted(db, request(first.conversation_id, str(n)))
        await turns.close(db, start.lease, TurnWork(messages=messages), DONE)
    last = await accepted(db, request(first.conversation_id, "now"))

    async def loaded(most: int, caller: Principal = ALICE, *, summary: bool = True) -> list[tuple[Message, ...]]:
        place = first.conversation_id, last.turn_seq, last.message_seq
        return await turns.history(db, caller, *place, turns=most, summary=summary)

    assert await loaded(1) == [(SummaryMessage("newer", 1),), (UserMessage("3"), *said[3])]
    assert await loaded(1, summary=False) == [(UserMessage("3"), *said[3])]
    assert await loaded(2) == [(SummaryMessage("old", 1),), (UserMessage("2"), *said[2]), (UserMessage("3"), *said[3])]
    assert len(await loaded(20)) == 4
    assert await loaded(1, BOB) == []
    listed = await conversations.messages(db, ALICE, first.conversation_id, 0, 100)
    assert [each.role for each in listed] == [*["user", "assistant"] * 4, "user"]


async def test_one_turn_at_a_time(db: Database) -> None:
    """Twenty messages at once: one is taken, the others meet ConversationBusy and leave nothing behind."""
    first = request()
    start = await accepted(db, first)
    await turns.close(db, start.lease, TurnWork(), DONE)
    attempts = [turns.accept(db, ALICE, request(first.conversation_id, str(n)), "me", 30.0) for n in range(20)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(each, Accepted) for each in outcomes) == 1
    assert sum(isinstance(each, ConversationBusy) for each in outcomes) == 19
    assert (await conversations.conversation(db, ALICE, first.conversation_id)).messages == 2


async def test_an_idempotency_key_names_one_turn(db: Database) -> None:
    """The same request again finds the first turn, running or over; another body is refused."""
    first = request(key="k1")
    start = await accepted(db, first)
    again = replace(request(first.conversation_id, key="k1"), new_conversation=True)
    for _ in range(2):
        outcome = await turns.accept(db, ALICE, again, "me", 30.0)
        assert isinstance(outcome, Existing)
        assert outcome.turn_id == first.turn_id
        await turns.close(db, start.lease, TurnWork(), DONE)
    with pytest.raises(IdempotencyMismatch):
        await turns.accept(db, ALICE, replace(again, request_hash="other"), "me", 30.0)


async def test_nobody_reads_or_writes_what_is_not_theirs(db: Database) -> None:
    """Another subject, and the same subject of another tenant, find nothing."""
    first = request()
    start = await accepted(db, first)
    action = pending()
    await turns.close(db, start.lease, TurnWork(opened=[action]), DONE)
    for stranger in (BOB, ALICE_ELSEWHERE):
        with pytest.raises(NotFound):
            await turns.accept(db, stranger, request(first.conversation_id), "me", 30.0)
        with pytest.raises(NotFound):
            await turns.accept(db, stranger, replace(request(), conversation_id=first.conversation_id), "me", 30.0)
        with pytest.raises(NotFound):
            await conversations.conversation(db, stranger, first.conversation_id)
        with pytest.raises(NotFound):
            await conversations.turn(db, stranger, first.turn_id)
        with pytest.raises(NotFound):
            await conversations.pending_action(db, stranger, first.conversation_id, action.pending_id)
        assert await conversations.messages(db, stranger, first.conversation_id, 0, 10) == []
        assert await conversations.conversations(db, stranger, 10) == []
        assert await turns.history(db, stranger, first.conversation_id, 2, 2, 20) == []


async def test_pending_actions_open_and_settle_with_their_turn(db: Database) -> None:
    """What a turn opened is given to the next one; settled ones are not, and settle once."""
    first = request()
    start = await accepted(db, first)
    kept, replaced, settled_at_once = pending(), pending(), pending()
    opened = TurnWork(
        opened=[kept, replaced, settled_at_once], changed=[PendingChange(settled_at_once.pending_id, "replaced")]
    )
    await turns.close(db, start.lease, opened, DONE)
    second = request(first.conversation_id)
    start = await accepted(db, second)
    assert start.pending == (kept, replaced)
    changed = TurnWork(changed=[PendingChange(replaced.pending_id, "declined")])
    await turns.close(db, start.lease, changed, DONE)
    assert (await accepted(db, request(first.conversation_id))).pending == (kept,)
    assert await conversations.pending_after(db, ALICE, first.turn_id) == (kept, replaced)
    assert await conversations.pending_after(db, ALICE, second.turn_id) == (kept,)


async def test_a_lost_lease_can_close_nothing_and_start_no_effect(db: Database) -> None:
    """After a take-over the former holder's writes are refused; the new holder has all it needs."""
    first = request()
    start = await accepted(db, first, owner="first")
    assert await turns.take_over(db, "second", 30.0, 10) == []
    await turns.release(db, start.lease)
    (found,) = await turns.take_over(db, "second", 30.0, 10)
    assert (found.text, found.caller, found.message_id) == ("hello", ALICE, first.message_id)
    assert found.lease.fence == 2

    assert await turns.close(db, start.lease, TurnWork(), DONE) is None
    old = TurnLedger(db, ALICE, first.conversation_id, start.lease)
    effect = EffectKey("key", "add_note", {}, "c1", "basis")
    with pytest.raises(LeaseLost):
        await old.intend(effect)
    new = TurnLedger(db, ALICE, first.conversation_id, found.lease)
    assert await new.intend(effect) is None
    assert await turns.renew(db, "second", [first.turn_id], 30.0) == {first.turn_id: False}
    assert await turns.renew(db, "first", [first.turn_id], 30.0) == {}


async def test_the_ledger_knows_what_was_intended_and_what_was_done(db: Database) -> None:
    """Intent, then outcome, each durable by itself; closing the turn keeps one row an effect."""
    first = request()
    start = await accepted(db, first)
    ledger = TurnLedger(db, ALICE, first.conversation_id, start.lease)
    effect = EffectKey("key", "add_note", {"note_text": "hi"}, "c1", "basis")
    assert await ledger.intend(effect) is None
    earlier = await ledger.intend(effect)
    assert earlier is not None
    assert earlier.state == "intended"
    result = ToolResult("unknown", {"ok": False, "code": "unknown"})
    await ledger.settle(effect, result)
    await ledger.settle(effect, ToolResult("ok", {"ok": True}, 200))
    await ledger.settle(effect, ToolResult("error", {"ok": False}))  # too late: it is known to have happened
    earlier = await ledger.intend(effect)
    assert earlier is not None
    assert earlier.result == ToolResult("ok", {"ok": True}, 200)

    call = CallRecord("c1", "add_note", "write", {}, "ok", {}, "note", datetime.now(UTC), 3.0, 200, "key")
    await turns.close(db, start.lease, TurnWork(calls=[call, replace(call, call_id="c2")]), DONE)
    rows = await db.rows("SELECT call_id, effect_key, status, part FROM tool_calls ORDER BY call_id")
    assert [tuple(row) for row in rows] == [("c1", "key", "ok", "note"), ("c2", None, "ok", "note")]


async def test_characters_that_postgres_cannot_hold_lose_no_turn(db: Database) -> None:
    """A NUL from a model or from upstream becomes the replacement character."""
    first = request()
    start = await accepted(db, first)
    work = TurnWork(messages=[AssistantMessage("a\x00b")], text="a\x00b")
    assert await turns.close(db, start.lease, work, DONE) == 2
    assert (await conversations.messages(db, ALICE, first.conversation_id, 1, 1))[0].body["text"] == "a\ufffdb"


async def test_a_callback_is_stored_once(db: Database) -> None:
    """The same key gives the same reference."""
    first = request()
    start = await accepted(db, first)
    ledger = TurnLedger(db, ALICE, first.conversation_id, start.lease)
    reference = await ledger.record("wants a person", "asked twice", "key")
    assert reference.startswith("CB-")
    assert await ledger.record("again", "again", "key") == reference


async def test_conversations_come_in_pages_without_gaps(db: Database) -> None:
    """Newest first, by a cursor."""
    for _ in range(5):
        await accepted(db, request())
    seen: list[UUID] = []
    before = None
    while page := await conversations.conversations(db, ALICE, 2, before):
        seen += [each.conversation_id for each in page]
        before = (page[-1].created_at, page[-1].conversation_id)
    assert len(seen) == len(set(seen)) == 5


async def test_audit_entries_are_numbered_without_gaps(db: Database) -> None:
    """One at acceptance, then the turn's, in order."""
    first = request()
    start = await accepted(db, first)
    await turns.close(db, start.lease, TurnWork(opened=[pending()], audit=[{"type": "verdict", "kind": "none"}]), DONE)
    rows = await db.rows("SELECT seq, actor, type FROM audit_events ORDER BY seq")
    assert [tuple(row) for row in rows] == [
        (1, "demo:c1", "message_received"),
        (2, "agent", "verdict"),
        (3, "agent", "confirmation_asked"),
        (4, "agent", "turn_ended"),
    ]


async def test_the_schema_is_at_its_newest_revision(database_url: str) -> None:
    """`HEAD` names the newest file, and a second upgrade has nothing to do."""
    assert NEWEST.startswith(f"r{migrate.HEAD}_")
    assert await migrate.revision(database_url) == migrate.HEAD
    assert await migrate.upgrade(database_url) is False


async def test_an_absent_server_is_a_typed_error() -> None:
    """Nothing listens there."""
    with pytest.raises(StoreUnavailable):
        await Database("postgresql://nobody:x@127.0.0.1:9/none").open()
