"""What the tool of one call may know beyond what all calls of the turn share: the call's own name, and its client."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import orjson

from agent.events import ClientActionRequired
from agent.ports import ClientCall, ClientDesk
from agent.transcript import JsonObject
from agent.turn import Turn
from tools.contract import ToolContext


def call_context(turn: Turn, call_id: str, tool: str, args: JsonObject, effect_key: str = "") -> ToolContext:
    """The context of one call with these effective arguments.

    Its `call_key` is the same when the turn is run again, and another one for each time that the turn makes the call.
    """
    before = sum(each.tool == tool and each.args == args for each in turn.work.calls)
    meaning = [str(turn.given.turn_id), tool, args, before]
    key = hashlib.sha256(orjson.dumps(meaning, option=orjson.OPT_SORT_KEYS)).hexdigest()
    desk = turn.given.clients
    client = _Client(turn, desk, call_id) if desk else None
    return replace(turn.tools, call_key=key, effect_key=effect_key, client=client)


@dataclass(frozen=True, slots=True)
class _Client:
    """`tools.contract.ClientActions` of one call: it is on record before anybody is told of it."""

    turn: Turn
    desk: ClientDesk
    call_id: str

    async def ask(self, tool: str, args: JsonObject, key: str, wait_s: float) -> JsonObject | None:
        """Put the call to the client and wait for its result."""
        action = await self.desk.open(ClientCall(key, self.call_id, tool, args), wait_s)
        if action.left_s > 0:
            self.turn.emit(
                ClientActionRequired,
                action_id=action.action_id,
                call_id=self.call_id,
                tool=tool,
                args=args,
                expires_at=action.expires_at,
            )
        return await self.desk.result(action)
