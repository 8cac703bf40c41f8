"""A lane: the script, the recorded requests and the open streams of one test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.model_service.embedding_form import VectorScript
from tests.doubles.model_service.history_rules import (
    check_anthropic,
    check_converse,
    check_invoke_agent,
    check_ollama,
    check_openai,
)
from tests.doubles.model_service.script import Reply, Wire
from tests.doubles.model_service.wire import Ask


@dataclass
class ServerLane:
    """What the server knows of it."""

    id: str
    strict: bool = True
    models: tuple[str, ...] = ("model-1",)
    api_key: str | None = None
    replies: list[Reply] = field(default_factory=list)
    repeat_last: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    open: int = 0
    cut_off: int = 0
    finished: int = 0
    signatures: set[str] = field(default_factory=set)
    controls: dict[str, tuple[str, list[dict[str, Any]]]] = field(default_factory=dict)
    numbered: int = 0
    vectors: VectorScript = field(default_factory=VectorScript)

    def record(self, wire: Wire, method: str, path: str, headers: Mapping[str, str], body: Any) -> dict[str, Any]:
        """Keep what came; the returned entry takes what was wrong with it."""
        entry = {"wire": wire, "method": method, "path": path, "headers": dict(headers), "body": body, "problems": []}
        self.requests.append(entry)
        return entry

    def check(self, wire: Wire, ask: Ask) -> list[str]:
        """What this provider would refuse in the request."""
        match wire:
            case "openai":
                return check_openai(ask.body)
            case "ollama":
                return check_ollama(ask.body)
            case "bedrock":
                return check_converse(ask.body, ask.model, self.signatures)
            case "anthropic":
                return check_anthropic(ask.body, self.signatures)
            case _:
                waits_for, waiting = self.controls.get(ask.path["session"], ("", []))
                return check_invoke_agent(ask.body, ask.path, waiting, waits_for)

    def take(self, body: Mapping[str, Any]) -> Reply | None:
        """The next reply meant for such a request; the last of its kind stays if the script repeats."""
        said = last_words(body)
        for n, reply in enumerate(self.replies):
            if reply.matching is not None and reply.matching not in said:
                continue
            others = (later.matching for later in self.replies[n + 1 :])
            if not self.repeat_last or reply.matching in others:
                del self.replies[n]
            return reply
        return None


def last_words(body: Mapping[str, Any]) -> str:
    """All text of the last message, results included."""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else body
    found: list[str] = []
    _collect(last, found)
    return "\n".join(found)


def _collect(value: Any, found: list[str]) -> None:
    if isinstance(value, str):
        found.append(value)
    elif isinstance(value, dict):
        for inner in value.values():
            _collect(inner, found)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, found)
