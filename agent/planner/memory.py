"""Results that a step of the planner has at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from agent.transcript import JsonObject, ToolMessage


@dataclass(frozen=True, slots=True)
class Memory:
    """Results at hand: those of this turn by call, and earlier ones, newest first."""

    now: Mapping[tuple[str, bytes], ToolMessage]
    earlier: tuple[ToolMessage, ...]

    def recall(self, tool: str, args: JsonObject) -> ToolMessage | None:
        """The result of exactly this call in this turn."""
        return self.now.get((tool, canonical(args)))

    def latest(self, tool: str, **where: Any) -> ToolMessage | None:
        """The newest good result of a tool whose top-level result or argument values fit; earlier turns included."""
        for message in (*self.now.values(), *self.earlier):
            facts = {**message.args, **message.result}
            if message.name == tool and message.ok and all(facts.get(k) == v for k, v in where.items()):
                return message
        return None


def canonical(args: JsonObject) -> bytes:
    """Arguments as bytes, equal when their meaning is."""
    return orjson.dumps(args, option=orjson.OPT_SORT_KEYS)


def dig(body: Any, path: str) -> Any:
    """What stands at a dotted path; None where the path leads nowhere."""
    for key in path.split("."):
        if not isinstance(body, dict):
            return None
        body = body.get(key)
    return body
