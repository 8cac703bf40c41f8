"""The client of a conversation that has the shelf: what it is asked, it does once for each key."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from agent.ports import ClientAction, ClientCall
from tests.doubles import shelf


@dataclass
class ShelfClient:
    """`ClientActions` of one call, and `ClientDesk` of a turn: the same client behind both."""

    answers: dict[str, dict[str, Any] | None] = field(default_factory=dict)  # None: it never answered, and will not
    _opened: dict[UUID, tuple[ClientCall, float]] = field(default_factory=dict)

    async def ask(self, tool: str, args: dict[str, Any], key: str, wait_s: float) -> dict[str, Any] | None:
        """The answer; None when there is none in time, or never."""
        if key not in self.answers:
            self.answers[key] = None
            self.answers[key] = await self._answer(tool, args, key, wait_s)
        return self.answers[key]

    async def open(self, call: ClientCall, wait_s: float) -> ClientAction:
        """As the port says."""
        action_id = uuid5(NAMESPACE_OID, call.key)
        self._opened[action_id] = call, wait_s
        return ClientAction(action_id, datetime.now(UTC) + timedelta(seconds=wait_s), wait_s)

    async def result(self, action: ClientAction) -> dict[str, Any] | None:
        """As the port says."""
        call, wait_s = self._opened[action.action_id]
        return await self.ask(call.tool, call.args, call.key, wait_s)

    async def _answer(self, tool: str, args: dict[str, Any], key: str, wait_s: float) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(wait_s):
                return await shelf.run(tool, args, key)
        except (TimeoutError, RuntimeError):  # late, or the page was closed
            return None
        except shelf.Refused as error:
            return {"ok": False, "user_hint": str(error)}
        except shelf.Garbage:
            return {"put": 2**70, "found": 2**70}
