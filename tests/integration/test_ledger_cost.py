"""What an effect costs at the database: one round trip before it, one after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from agent.definition import load_definition
from agent.effects import effect_key, run_effect
from agent.ports import EffectKey, TurnInput, TurnWork
from agent.transcript import ToolCall
from agent.turn import Turn
from backend.records.database import Database
from backend.records.ids import uuid7
from backend.records.ledger import TurnLedger
from backend.records.turns import Lease
from tests.doubles.postgres_tap import Tap, tapped
from tests.doubles.world import FakeToolbox, World
from tests.integration.test_records import ALICE, accepted, request
from tools.contract import Prepared


class Counted:
    """A conversation whose database sits behind a tap."""

    def __init__(self, tap: Tap, db: Database) -> None:
        self.tap = tap
        self.db = db
        self.toolbox = FakeToolbox()
        self.trips_at_the_effect = 0
        self.toolbox.during_write = self._note

    async def _note(self) -> None:
        self.trips_at_the_effect = self.tap.round_trips

    async def run(self, lease: Lease, conversation_id: UUID, message_id: UUID, n: int) -> tuple[int, int]:
        """One effect in the turn of `lease`; round trips before it, and after it."""
        turn, prepared, effect = await self._effect(lease, conversation_id, message_id, n)
        before = self.tap.round_trips
        assert (await run_effect(turn, prepared, effect)).status == "ok"
        return self.trips_at_the_effect - before, self.tap.round_trips - self.trips_at_the_effect

    async def _effect(
        self, lease: Lease, conversation_id: UUID, message_id: UUID, n: int
    ) -> tuple[Turn, Prepared, EffectKey]:
        context = World(toolbox=self.toolbox).context()
        given = TurnInput(
            tenant="default",
            conversation_id=conversation_id,
            turn_id=lease.turn_id,
            message_id=message_id,
            text="add a note",
            history=(),
            pending=(),
            tools=context,
            ledger=TurnLedger(self.db, ALICE, conversation_id, lease),
        )
        turn = Turn(load_definition(), None, self.toolbox, given, TurnWork(), lambda _: "notes")
        args = {"project_id": "410001", "note_text": f"note {n}"}
        prepared = await self.toolbox.prepare("add_note", args, context)
        return turn, prepared, effect_key(turn, ToolCall(f"c{n}", "add_note", args), args, None)


@pytest.fixture
async def counted(database_url: str) -> AsyncIterator[Counted]:
    async with tapped(database_url) as tap:
        db = Database(tap.url, max_connections=1)
        await db.open()
        yield Counted(tap, db)
        await db.close()


async def test_an_effect_costs_one_round_trip_before_it_and_one_after_it(counted: Counted) -> None:
    """From the second one on; the first also prepares its two statements, once for each connection."""
    new = request()
    lease = (await accepted(counted.db, new)).lease
    costs = [await counted.run(lease, new.conversation_id, new.message_id, n) for n in range(4)]
    assert costs[1:] == [(1, 1)] * 3
    assert sum(costs[0]) <= 4
    assert len(counted.toolbox.writes) == 4


async def test_what_is_known_of_an_effect_is_read_only_when_its_key_is_known(counted: Counted) -> None:
    """The same effect again: a second round trip finds its outcome, and nothing runs."""
    new = request()
    lease = (await accepted(counted.db, new)).lease
    for _ in range(2):
        await counted.run(lease, new.conversation_id, uuid7(), 1)
    message_id = uuid7()
    await counted.run(lease, new.conversation_id, message_id, 1)
    for trips in (3, 2):  # the first time, the statement that reads is prepared
        turn, prepared, effect = await counted._effect(lease, new.conversation_id, message_id, 1)
        before = counted.tap.round_trips
        assert (await run_effect(turn, prepared, effect)).status == "ok"
        assert counted.tap.round_trips - before == trips
    assert len(counted.toolbox.writes) == 3
