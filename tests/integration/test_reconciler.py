"""Effects that a turn left without an outcome: who looks for them, what is recorded, what a failed turn says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest

from agent.errors import StoreUnavailable, TurnLimit
from agent.events import TurnEvent, TurnFailed, TurnStarted
from agent.ports import EffectKey, TurnInput, TurnWork
from backend.clock import RealClock
from backend.conversations.reconciler import Pace, Reconciler
from backend.conversations.service import DONE_HINT, TAKEN_HINT, UNCLEAR_HINT
from backend.identity.principal import Principal
from backend.records import turns
from backend.records.database import Database
from backend.records.ledger import TurnLedger
from backend.records.turns import Ending, Lease
from tests.doubles.world import FakeToolbox
from tests.integration.running_server import serving, settings
from tests.integration.test_records import ALICE, accepted, request
from tools.contract import CallbackStore, Directory, ToolContext, ToolError, ToolResult, ToolState

CLOCK = RealClock("America/New_York")
FAILED = Ending("failed", b"", 1.0, "1", "internal_error")
OK = ToolResult("ok", {"ok": True, "status": "Tentatively Scheduled"}, 200)
NOW = Pace(min_age_s=0.0, lease_s=0.0, looks=2)


def context(caller: Principal, state: ToolState, callbacks: CallbackStore) -> ToolContext:
    return ToolContext(caller.identity, Directory({}), CLOCK, state, None, callbacks)


@dataclass
class Upstream(FakeToolbox):
    """What reading back finds, and how often and for whom somebody looked."""

    looked: list[ToolContext] = field(default_factory=list)
    unreadable: bool = False

    async def reconcile(self, name: str, args: Any, ctx: ToolContext) -> ToolResult | None:
        self.looked.append(ctx)
        await asyncio.sleep(0.05)
        if self.unreadable:
            raise ToolError("no answer")
        return self.found


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.open()
    yield database
    await database.close()


async def orphan(db: Database) -> tuple[UUID, UUID, Lease]:
    """A turn that failed between an effect and its outcome: conversation, turn, lease."""
    new = request()
    lease = (await accepted(db, new)).lease
    effect = EffectKey(new.turn_id.hex, "confirm_appointment", {"project_id": "410001"}, "c1", "basis", UUID(int=1))
    assert await TurnLedger(db, ALICE, new.conversation_id, lease).intend(effect) is None
    return new.conversation_id, new.turn_id, lease


async def left(db: Database) -> tuple[UUID, UUID]:
    conversation_id, turn_id, lease = await orphan(db)
    await turns.close(db, lease, TurnWork(), FAILED)
    return conversation_id, turn_id


async def recorded(db: Database, turn_id: UUID) -> tuple[str, Any]:
    row = await db.row("SELECT status, result FROM tool_calls WHERE turn_id = $1", turn_id)
    assert row is not None
    return row["status"], orjson.loads(row["result"] or "null")


async def audited(db: Database, conversation_id: UUID) -> list[tuple[int, str]]:
    rows = await db.rows("SELECT seq, type FROM audit_events WHERE conversation_id = $1 ORDER BY seq", conversation_id)
    return [(row["seq"], row["type"]) for row in rows]


def reconciler(db: Database, upstream: Upstream, pace: Pace = NOW) -> Reconciler:
    return Reconciler(db, CLOCK, upstream, context, pace)


@pytest.mark.parametrize(
    ("found", "status", "event"),
    [
        (OK, "ok", "effect_reconciled"),
        (None, "error", "effect_reconciled"),
        (ToolResult("error", {"ok": False, "code": "move_failed_released"}), "error", "effect_unfinished"),
    ],
)
async def test_what_upstream_shows_is_recorded(db: Database, found: ToolResult | None, status: str, event: str) -> None:
    """Done, not done, or half done; nothing is sent; the audit's numbers have no gap."""
    conversation_id, turn_id = await left(db)
    upstream = Upstream(found=found)
    assert await reconciler(db, upstream).look() == 1
    assert (await recorded(db, turn_id))[0] == status
    assert upstream.writes == []
    assert upstream.looked[0].identity == ALICE.identity
    assert upstream.looked[0].effect_key == turn_id.hex
    entries = await audited(db, conversation_id)
    assert [seq for seq, _ in entries] == list(range(1, len(entries) + 1))
    assert entries[-1][1] == event
    assert await reconciler(db, upstream).look() == 0


async def test_what_cannot_be_known_is_raised_after_some_looks(
    db: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bounded: then it is `unknown`, on the audit and in the log, and nobody looks again."""
    conversation_id, turn_id = await left(db)
    upstream = Upstream(unreadable=True)
    assert await reconciler(db, upstream).look() == 0
    assert (await recorded(db, turn_id))[0] == "intended"
    assert await reconciler(db, upstream).look() == 1
    assert (await recorded(db, turn_id))[0] == "unknown"
    assert (await audited(db, conversation_id))[-1][1] == "effect_unknown"
    assert "effect_unknown" in capsys.readouterr().out
    await reconciler(db, upstream).look()
    assert len(upstream.looked) == 2


async def test_two_replicas_share_the_work(db: Database) -> None:
    """Six effects, two processes at once: each is looked at once."""
    for _ in range(6):
        await left(db)
    upstream, pace = Upstream(found=OK), replace(NOW, lease_s=60.0, at_once=4)
    both = [reconciler(db, upstream, pace) for _ in range(2)]
    assert sum(await asyncio.gather(*(each.look() for each in both))) == 6
    assert len({ctx.effect_key for ctx in upstream.looked}) == len(upstream.looked) == 6


async def test_what_a_turn_may_still_settle_is_left_alone(db: Database) -> None:
    """While its turn runs, while another turn of the conversation runs, and while it may be on its way upstream."""
    conversation_id, turn_id, lease = await orphan(db)
    upstream = Upstream(found=OK)
    assert await reconciler(db, upstream).look() == 0
    await turns.close(db, lease, TurnWork(), FAILED)
    assert await reconciler(db, upstream, replace(NOW, min_age_s=60.0)).look() == 0
    second = await accepted(db, request(conversation_id, "again"))
    assert await reconciler(db, upstream).look() == 0
    await turns.close(db, second.lease, TurnWork(), FAILED)
    assert upstream.looked == []
    assert await reconciler(db, upstream).look() == 1
    assert (await recorded(db, turn_id))[0] == "ok"


async def test_a_turn_that_begins_meanwhile_wins(db: Database) -> None:
    """It may meet the same effect and act on it: what was read back before that is not recorded over it."""
    conversation_id, turn_id = await left(db)
    upstream = Upstream(found=None)
    looking = asyncio.create_task(reconciler(db, upstream).look())
    while not upstream.looked:
        await asyncio.sleep(0.005)
    await accepted(db, request(conversation_id, "again"))
    assert await looking == 0
    assert (await recorded(db, turn_id))[0] == "intended"


# --- what a failed turn says ----------------------------------------------------------------------------------------


async def _breaking(turn: TurnInput, work: TurnWork) -> AsyncIterator[TurnEvent]:
    """Does what the message says, in this order, then fails."""
    stamp = {"turn_id": turn.turn_id, "at": datetime.now(UTC)}
    yield TurnStarted(seq=0, conversation_id=turn.conversation_id, agent="t", agent_version="1", **stamp)  # type: ignore[arg-type]
    effect = EffectKey(turn.turn_id.hex, "confirm_appointment", {}, "c1", str(turn.message_id))
    if "intend" in turn.text:
        await turn.ledger.intend(effect)
    if "settle" in turn.text:
        await turn.ledger.settle(effect, OK)
    if "refused" in turn.text:
        await turn.ledger.settle(effect, ToolResult("error", {"ok": False}))
    if "store" in turn.text:
        raise StoreUnavailable("gone")
    if "limit" in turn.text:
        error = TurnLimit()
        yield TurnFailed(seq=1, code=error.code, user_hint=error.user_hint, retryable=False, **stamp)  # type: ignore[arg-type]
        return
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("intend crash", UNCLEAR_HINT),
        ("intend store", UNCLEAR_HINT),
        ("intend limit", UNCLEAR_HINT),
        ("intend settle crash", DONE_HINT),
        ("intend settle limit", DONE_HINT),
        ("intend refused store", TAKEN_HINT),
        ("store", TAKEN_HINT),
        ("limit", TurnLimit.user_hint),
    ],
)
async def test_a_failed_turn_tells_how_its_change_stands(
    database_url: str, redis_url: str, text: str, hint: str
) -> None:
    """Whatever broke: never "not taken", never "try again" after something was done, or may have been."""
    async with serving(settings(database_url, redis_url), _breaking) as client:
        answer = await client.post("/api/v1/chat", json={"message": text})
        assert answer.status_code in (500, 503)
        assert answer.json()["detail"] == hint
        assert answer.json()["retryable"] is (hint == TAKEN_HINT)
