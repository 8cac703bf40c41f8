"""What operators see of effects, and what becomes of their word on how one ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from agent.ports import EffectKey, TurnWork
from backend.embedded.stores import embedded_stores
from backend.records import effects, migrate, turns
from backend.records.database import Database
from backend.records.effects import AmbiguousEffect, Effect, NotResolvable, UnknownEffect
from backend.records.ids import uuid7
from backend.records.ledger import TurnLedger
from backend.records.turns import Ending
from tests.integration.test_reconciler import FAILED, NOW, OK, Upstream, audited, left, orphan, reconciler, recorded
from tests.integration.test_records import ALICE, accepted, request
from tests.nursery import outcrop
from tools.contract import ToolContext, ToolResult

UNKNOWN = ToolResult("unknown", {"ok": False, "code": "unknown_outcome"})
HALF = ToolResult("error", {"ok": False, "code": "move_failed_released"}, 409)
REFUSED = ToolResult("error", {"ok": False, "code": "slot_taken"})
ENDING = Ending("completed", b"", 1.0, "1")
WAIT_S = 10.0


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.open()
    yield database
    await database.close()


async def ended(db: Database, result: ToolResult) -> UUID:
    """A turn with one effect that ended like that; the conversation."""
    conversation_id, turn_id, lease = await orphan(db)
    ledger = TurnLedger(db, ALICE, conversation_id, lease)
    await ledger.settle(effect_of(turn_id), result)
    await turns.close(db, lease, TurnWork(), ENDING)
    return conversation_id


async def unfinished(db: Database) -> UUID:
    """One that the reconciler found half done; the conversation."""
    conversation_id, _ = await left(db)
    assert await reconciler(db, Upstream(found=HALF)).look() == 1
    return conversation_id


def effect_of(turn_id: UUID) -> EffectKey:
    """The one that `orphan` intends."""
    return EffectKey(turn_id.hex, "confirm_appointment", {"project_id": "410001"}, "c1", "basis", UUID(int=1))


async def open_ones(db: Database, limit: int = 50, min_age_s: float = 0.0) -> list[Effect]:
    return await effects.for_a_person(db, "default", limit, min_age_s)


async def of(db: Database, conversation_id: UUID) -> Effect:
    (found,) = [e for e in await effects.by_status(db, "default", "all", 50) if e.conversation_id == conversation_id]
    return found


async def resolve(db: Database, effect: Effect, *, done: bool = True, min_age_s: float = 0.0) -> Effect:
    return await effects.resolve(
        db, "default", str(effect.id), done=done, note="seen in the portal", by="kim", min_age_s=min_age_s, looks=3
    )


async def test_the_list_holds_what_needs_a_person(db: Database) -> None:
    """Unknown, intended for long, half done; newest first; neither what is settled nor another tenant's."""
    made = [await unfinished(db), await ended(db, UNKNOWN), (await left(db))[0]]
    for result in (OK, REFUSED):
        await ended(db, result)
    found = await open_ones(db)
    assert [each.conversation_id for each in found] == made[::-1]
    assert [each.status for each in found] == ["intended", "unknown", "error"]
    assert [each.conversation_id for each in await open_ones(db, limit=2)] == made[:0:-1]
    assert [each.status for each in await open_ones(db, min_age_s=60.0)] == ["unknown", "error"]
    assert (found[0].who, found[0].owner, found[0].args) == ("demo:c1", "demo:c1", {"project_id": "410001"})
    statuses = {status: len(await effects.by_status(db, "default", status, 50)) for status in ("ok", "error", "all")}
    assert statuses == {"ok": 1, "error": 2, "all": 5}
    assert await effects.for_a_person(db, "other", 50, 0.0) == []
    assert await effects.by_status(db, "other", "all", 50) == []


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("make", [lambda db: ended(db, UNKNOWN), unfinished, lambda db: _first(left(db))])
async def test_a_persons_word_is_recorded_with_its_audit_entry(
    db: Database, make: Callable[[Database], Awaitable[UUID]], done: bool
) -> None:
    """Status, code and note; who said so; the next number of the audit. The list has one less."""
    conversation_id = await make(db)
    (found,) = await open_ones(db)
    settled = await resolve(db, found, done=done)
    status, result = await recorded(db, found.turn_id)
    assert status == settled.status == ("ok" if done else "error")
    assert (result["ok"], result["code"]) == (done, "resolved_done" if done else "resolved_not_done")
    assert result["note"] == "seen in the portal"
    assert result["user_hint"]
    entry = (await effects.audit(db, settled))[-1]
    assert (entry.actor, entry.type, entry.body["was"]) == ("operator:kim", "effect_resolved", found.status)
    numbers = [seq for seq, _ in await audited(db, conversation_id)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert await open_ones(db) == []
    with pytest.raises(NotResolvable, match="settled already"):
        await resolve(db, found, done=not done)


async def _first(pair: Awaitable[tuple[UUID, UUID]]) -> UUID:
    return (await pair)[0]


async def test_whoever_asks_for_the_same_effect_again_gets_the_persons_word(db: Database) -> None:
    """The same yes in a later turn finds it in the ledger, and runs nothing; what comes late changes nothing."""
    conversation_id, turn_id = await left(db)
    await resolve(db, await of(db, conversation_id))
    again = (await accepted(db, request(conversation_id, "yes"))).lease
    ledger = TurnLedger(db, ALICE, conversation_id, again)
    earlier = await ledger.intend(effect_of(turn_id))
    assert earlier
    assert earlier.result
    assert earlier.result.data["code"] == "resolved_done"
    await ledger.settle(effect_of(turn_id), REFUSED)
    assert (await recorded(db, turn_id))[0] == "ok"
    assert await reconciler(db, Upstream(found=None)).look() == 0


@pytest.mark.parametrize("result", [OK, REFUSED])
async def test_what_is_settled_stays_so(db: Database, result: ToolResult) -> None:
    """Done, or refused by upstream: nobody's word is needed."""
    found = await of(db, await ended(db, result))
    with pytest.raises(NotResolvable, match=f"settled already: {result.status}"):
        await resolve(db, found)
    assert (await of(db, found.conversation_id)).result == result.data


async def test_who_may_still_settle_it_comes_first(db: Database) -> None:
    """The turn itself, a later turn, the reconciler for the time of its look; and not before it can be known."""
    conversation_id, _, lease = await orphan(db)
    found = await of(db, conversation_id)
    with pytest.raises(NotResolvable, match="turn of its conversation"):
        await resolve(db, found)
    await turns.close(db, lease, TurnWork(), FAILED)
    with pytest.raises(NotResolvable, match="on its way"):
        await resolve(db, found, min_age_s=60.0)
    later = (await accepted(db, request(conversation_id, "again"))).lease
    with pytest.raises(NotResolvable, match="turn of its conversation"):
        await resolve(db, found)
    await turns.close(db, later, TurnWork(), FAILED)
    assert await reconciler(db, Upstream(unreadable=True), replace(NOW, lease_s=60.0)).look() == 0
    with pytest.raises(NotResolvable, match="reconciler"):
        await resolve(db, found)
    assert (await of(db, conversation_id)).status == "intended"
    assert [kind for _, kind in await audited(db, conversation_id)].count("effect_resolved") == 0


async def test_an_id_must_name_one_effect_of_the_tenant(db: Database) -> None:
    """Whole or by its end; never by guess."""
    first = await of(db, await ended(db, UNKNOWN))
    for given in (str(first.id), first.id.hex.upper(), first.short_id, first.id.hex[-12:]):
        assert (await effects.one(db, "default", given)).id == first.id
    for given in ("", "abc", "%", "________", "nonsense", str(uuid7()), "0" * 33):
        with pytest.raises(UnknownEffect):
            await effects.one(db, "default", given)
    with pytest.raises(UnknownEffect):
        await effects.one(db, "other", str(first.id))
    for n in range(2):
        twin = UUID(int=(0xA + n << 96) | 0xFEEDBEEF)
        await db.rows(
            """INSERT INTO tool_calls (id, tenant, conversation_id, turn_id, call_id, tool, effect, args, status,
                                       effect_key)
               SELECT $1, tenant, conversation_id, turn_id, 'c', tool, effect, args, 'unknown', $2
               FROM tool_calls WHERE id = $3""",
            twin,
            f"twin {n}",
            first.id,
        )
    with pytest.raises(AmbiguousEffect, match="feedbeef"):
        await effects.resolve(db, "default", "feedbeef", done=True, note="n", by="kim", min_age_s=0.0, looks=3)


async def test_an_unknown_one_waits_for_the_reconciler_only_while_it_still_looks(db: Database) -> None:
    """Not in the midst of a look; yes once the last one has found nothing, however late the next would be due."""
    found = await of(db, await ended(db, UNKNOWN))
    for looks, refused in ((2, True), (3, False)):
        await db.rows("UPDATE tool_calls SET looks = $1, next_look_at = now() + interval '1 hour'", looks)
        if refused:
            with pytest.raises(NotResolvable, match="reconciler"):
                await resolve(db, found)
    assert (await resolve(db, found)).code == "resolved_done"


# --- races ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def held_up(url: str, conversation_id: UUID, waiting: int) -> AsyncIterator[None]:
    """Lock the conversation's row until `waiting` statements queue for it."""
    holder = await asyncpg.connect(url)
    await holder.execute("BEGIN")
    await holder.execute("SELECT FROM conversations WHERE id = $1 FOR UPDATE", conversation_id)

    async def let_go() -> None:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        async with asyncio.timeout(WAIT_S):
            while await watcher.fetchval(query) < waiting:
                await asyncio.sleep(0.005)
        await holder.execute("COMMIT")

    watcher = await asyncpg.connect(url)
    letting_go = asyncio.create_task(let_go())
    try:
        yield
        await letting_go
    finally:
        letting_go.cancel()
        await holder.close()
        await watcher.close()


@dataclass
class Slow(Upstream):
    """Says what it found when it is told to."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def reconcile(self, name: str, args: Any, ctx: ToolContext) -> ToolResult | None:
        self.asked.set()
        await self.may_answer.wait()
        return self.found


@pytest.mark.parametrize("operator_first", [True, False])
async def test_operator_and_reconciler_at_once(database_url: str, db: Database, operator_first: bool) -> None:
    """Both have seen it open and write at once: one outcome, one entry, no number of the audit lost."""
    conversation_id, turn_id = await left(db)
    upstream = Slow(found=OK)
    looking = asyncio.create_task(reconciler(db, upstream).look())
    await upstream.asked.wait()
    async with held_up(database_url, conversation_id, 2):
        if not operator_first:
            upstream.may_answer.set()
            await _queued(db, 1)
        resolving = asyncio.create_task(resolve(db, await of(db, conversation_id), done=False))
        if operator_first:
            await _queued(db, 1)
            upstream.may_answer.set()
    by_reconciler = await looking == 1
    (by_operator,) = await asyncio.gather(resolving, return_exceptions=True)
    assert isinstance(by_operator, Effect) is not by_reconciler
    assert isinstance(by_operator, NotResolvable) is by_reconciler
    assert (await recorded(db, turn_id))[0] == ("ok" if by_reconciler else "error")
    entries = await audited(db, conversation_id)
    assert [seq for seq, _ in entries] == list(range(1, len(entries) + 1))
    assert sum(kind in ("effect_resolved", "effect_reconciled") for _, kind in entries) == 1


async def _queued(db: Database, count: int) -> None:
    query = "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(WAIT_S):
        while (row := await db.row(query)) is None or row["n"] < count:
            await asyncio.sleep(0.005)


async def test_a_turn_that_begins_meanwhile_comes_first(database_url: str, db: Database) -> None:
    """It was accepted while the operator's statement waited: that one changes nothing, and says why."""
    conversation_id, _ = await left(db)
    found = await of(db, conversation_id)
    async with held_up(database_url, conversation_id, 2):
        beginning = asyncio.create_task(accepted(db, request(conversation_id, "again")))
        await _queued(db, 1)
        resolving = asyncio.create_task(resolve(db, found))
    await beginning
    with pytest.raises(NotResolvable, match="turn of its conversation"):
        await resolving
    assert (await of(db, conversation_id)).status == "intended"


@pytest.mark.parametrize("make", [lambda db: ended(db, UNKNOWN), unfinished])
async def test_twenty_operators_at_once(db: Database, make: Callable[[Database], Awaitable[UUID]]) -> None:
    """One is heard, nineteen are told that it is settled; also of what is half done, and stays an error."""
    conversation_id = await make(db)
    found = await of(db, conversation_id)
    outcomes = await asyncio.gather(*(resolve(db, found, done=n % 2 == 1) for n in range(20)), return_exceptions=True)
    assert sum(isinstance(each, Effect) for each in outcomes) == 1
    assert sum(isinstance(each, NotResolvable) for each in outcomes) == 19
    assert [kind for _, kind in await audited(db, conversation_id)].count("effect_resolved") == 1


# --- the command ----------------------------------------------------------------------------------------------------


async def test_the_command_lists_shows_and_resolves(db: Database, database_url: str, tmp_path: Path) -> None:
    """As text and as JSON; refusals on standard error with exit code 1; nothing a terminal would obey is printed."""
    conversation_id = await ended(db, ToolResult("unknown", {"ok": False, "note": "\x1b[31mred"}))
    await db.rows("UPDATE tool_calls SET args = $1", json.dumps({"project_id": "\x1b]0;x\x07", "none": None}))

    async def run(*arguments: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(outcrop, "effects", *arguments, cwd=tmp_path, DATABASE_URL=database_url)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    code, text, _ = await run("list")
    effect = await of(db, conversation_id)
    assert code == 0
    assert effect.short_id in text
    assert "unknown" in text
    assert "\x1b" not in text
    code, text, _ = await run("list", "--json", "--status", "unknown")
    assert [each["id"] for each in json.loads(text)] == [str(effect.id)]
    code, text, _ = await run("show", effect.short_id)
    assert code == 0
    assert str(conversation_id) in text
    assert "\x1b" not in text
    code, _, said = await run("resolve", effect.short_id, "--as", "done", "--note", " ", "--by", "kim")
    assert code == 2
    assert "--note" in said
    code, text, _ = await run("resolve", effect.short_id, "--as", "done", "--note", "in the portal", "--by", "kim")
    assert (code, "Nothing was sent" in text) == (0, True)
    code, _, said = await run("resolve", effect.short_id, "--as", "not-done", "--note", "x")
    assert (code, "settled already" in said) == (1, True)
    code, text, _ = await run("show", effect.short_id, "--json")
    assert json.loads(text)["audit"][-1]["actor"] == "operator:kim"
    assert (await run("list"))[1].strip() == "No effect needs a person."
    assert (await run("show", "zz"))[0] == 1


async def test_the_command_finds_the_embedded_database(server_dir: Path) -> None:
    """That of the running service by its data folder; when it does not run, that is said."""
    where = {"OUTCROP_DATA_DIR": str(server_dir / "data")}
    before = await asyncio.to_thread(outcrop, "effects", "list", cwd=server_dir, **where)
    assert (before.returncode, "DATABASE_URL" in before.stderr) == (1, True)
    async with embedded_stores(server_dir / "data", database_url=None, redis_url="redis://127.0.0.1:1/0") as stores:
        unmigrated = await asyncio.to_thread(outcrop, "effects", "list", cwd=server_dir, **where)
        assert (unmigrated.returncode, "schema" in unmigrated.stderr) == (1, True)
        await migrate.upgrade(stores.database_url)
        running = await asyncio.to_thread(outcrop, "effects", "list", cwd=server_dir, **where)
        assert (running.returncode, running.stdout.strip()) == (0, "No effect needs a person.")
    stopped = await asyncio.to_thread(outcrop, "effects", "list", cwd=server_dir, **where)
    assert (stopped.returncode, "outcrop serve" in stopped.stderr) == (1, True)
    assert "Traceback" not in before.stderr + unmigrated.stderr + stopped.stderr
