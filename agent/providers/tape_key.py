"""What a model was asked, told in a form that two runs alike have in common: the key of a call on a tape."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from agent.providers.base import ModelRequest
from agent.transcript import AssistantMessage, JsonObject, Message, ToolMessage, UserMessage, to_json

# Made anew in each run: ids of turns, messages, questions and callbacks, and what is built of them.
_MADE_ANEW = re.compile(
    r"(?<![0-9A-Za-z])(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}|call_[0-9a-f]{12}_\d+)(?![0-9A-Za-z])"
)
SAID_CHARS = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """One call. Hashes are hexadecimal; `messages` has (who, hash) of each, a result told by its tool's name.

    `turn` and `step` count from 1: messages of the person, and the assistant's since the last of them.
    """

    key: str
    provider: str
    model: str
    turn: int
    step: int
    said: str  # the person's last message, cut
    instructions: str
    tools: str
    facts: str
    messages: tuple[tuple[str, str], ...]

    def is_of(self, provider: str, model: str) -> bool:
        """Whether this model was asked."""
        return (self.provider, self.model) == (provider, model)

    def differences(self, other: Asked) -> list[str]:
        """In which parts two calls differ, for people."""
        found = [name for name in ("instructions", "tools", "facts") if getattr(self, name) != getattr(other, name)]
        pairs = zip(self.messages, other.messages, strict=False)
        changed = next((n for n, (mine, theirs) in enumerate(pairs) if mine != theirs), None)
        if changed is not None:
            found.append(f"message {changed + 1} ({self.messages[changed][0]})")
        elif len(self.messages) != len(other.messages):
            found.append(f"the number of messages ({len(self.messages)}, then {len(other.messages)})")
        return found


def asked(provider: str, model: str, request: ModelRequest) -> Asked:
    """Describe a call. Ids that each run makes anew count by the order in which they first appear."""
    body = {
        "provider": provider,
        "model": model,
        "plain": request.plain,
        "instructions": request.instructions,
        "tools": [asdict(spec) for spec in request.tools],
        "messages": _messages(request.messages),
        "facts": asdict(request.facts),
    }
    text = _by_appearance(_canonical(body))
    alike = json.loads(text)
    turn, step, said = _place(request.messages)
    return Asked(
        key=_hash(text),
        provider=provider,
        model=model,
        turn=turn,
        step=step,
        said=said[:SAID_CHARS],
        instructions=_part(alike["instructions"]),
        tools=_part(alike["tools"]),
        facts=_part([alike["facts"], alike["plain"]]),
        messages=tuple(
            (_who(message), _part(body)) for message, body in zip(request.messages, alike["messages"], strict=True)
        ),
    )


def _place(messages: Sequence[Message]) -> tuple[int, int, str]:
    """Which turn of the person's this is, which call within it, and what the person said."""
    turn, step, said = 0, 1, ""
    for message in messages:
        if isinstance(message, UserMessage):
            turn, step, said = turn + 1, 1, message.text
        elif isinstance(message, AssistantMessage):
            step += 1
    return turn, step, said


def _messages(messages: Sequence[Message]) -> list[JsonObject]:
    """The neutral form, with calls numbered: who made their ids, and from what, is no part of what was asked."""
    numbers: dict[str, str] = {}

    def number(call_id: str) -> str:
        return numbers.setdefault(call_id, f"call {len(numbers) + 1}")

    bodies = []
    for message in messages:
        body = to_json(message)
        for call in body.get("tool_calls", ()):
            call["id"] = number(call["id"])
        if isinstance(message, ToolMessage):
            body["call_id"] = number(message.call_id)
        bodies.append(body)
    return bodies


def _by_appearance(text: str) -> str:
    names: dict[str, str] = {}
    return _MADE_ANEW.sub(lambda found: names.setdefault(found[0], f"id {len(names) + 1}"), text)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no canonical form")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _part(value: Any) -> str:
    return _hash(_canonical(value))[:16]


def _who(message: Message) -> str:
    return f"the result of {message.name}" if isinstance(message, ToolMessage) else message.role
