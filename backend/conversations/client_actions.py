"""Return of control: calls that a conversation's client runs, handed over and waited for.

The row is the truth: any replica may take the result. Whoever waits looks at it every half second, and at once when
the result came to this process.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import structlog

from agent.errors import StoreUnavailable
from agent.ports import ClientAction, ClientCall
from agent.transcript import JsonObject
from backend.identity.principal import Principal
from backend.records import client_actions
from backend.records.database import Database
from backend.records.turns import Lease

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.5


class ClientActions:
    """All calls that this process waits for."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._news: dict[UUID, asyncio.Event] = {}
        self._stopping = False

    def stop(self) -> None:
        """Wait no longer: nothing is lost, and whoever takes the turns over waits in our place."""
        self._stopping = True
        for news in self._news.values():
            news.set()

    def of(self, caller: Principal, lease: Lease) -> TurnClient:
        """The client of one turn."""
        return TurnClient(self, caller, lease)

    async def answer(self, caller: Principal, conversation_id: UUID, action_id: UUID, result: JsonObject) -> UUID:
        """Take a client's result, and wake who waits for it here; see `records.client_actions.answer`."""
        turn_id = await client_actions.answer(self.db, caller, conversation_id, action_id, result)
        if news := self._news.get(action_id):
            news.set()
        return turn_id

    async def wait(self, caller: Principal, action: ClientAction) -> JsonObject | None:
        """The result of an action; None, and none is taken any more, when its time is over.

        `CancelledError` when the process stops, also where an effect is not to be broken off: this one can be.
        """
        news = self._news.setdefault(action.action_id, asyncio.Event())
        ends = time.monotonic() + action.left_s
        try:
            while (left_s := ends - time.monotonic()) > 0:
                if self._stopping:
                    raise asyncio.CancelledError("the process stops")
                news.clear()
                if (result := await self._look(caller, action.action_id)) is not None:
                    return result
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(LOOK_EVERY_S, left_s)):
                        await news.wait()
        finally:
            self._news.pop(action.action_id, None)
        return await client_actions.give_up(self.db, caller, action.action_id)

    async def _look(self, caller: Principal, action_id: UUID) -> JsonObject | None:
        try:
            return await client_actions.result(self.db, caller, action_id)
        except StoreUnavailable as error:
            log.warning("client_action_not_read", action_id=str(action_id), error=repr(error))
            return None


@dataclass(frozen=True, slots=True)
class TurnClient:
    """`agent.ports.ClientDesk` of one turn."""

    actions: ClientActions
    caller: Principal
    lease: Lease

    async def open(self, call: ClientCall, wait_s: float) -> ClientAction:
        """Commit the call under the turn's lease, or find it on record."""
        return await client_actions.open_action(self.actions.db, self.lease, call, wait_s)

    async def result(self, action: ClientAction) -> JsonObject | None:
        """Wait for what the client answers."""
        return await self.actions.wait(self.caller, action)


@dataclass(frozen=True, slots=True)
class AnswersOnRecord:
    """`tools.contract.ClientActions` where nobody may be asked any more: what the client had answered, if it had."""

    db: Database
    caller: Principal

    async def ask(self, tool: str, args: JsonObject, key: str, wait_s: float) -> JsonObject | None:
        """The stored result."""
        return await client_actions.result_of(self.db, self.caller, key)
