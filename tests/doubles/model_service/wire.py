"""What every wire is made of: how it says a reply, whole and in events, and how it says that something is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.doubles.model_service.script import ErrorKind, Reply, ScriptError, Stop, Wire


@dataclass(frozen=True)
class Ask:
    """One request for an answer. `seed` differs from request to request, and so do the ids made of it."""

    model: str
    body: Mapping[str, Any]
    streamed: bool
    seed: str
    path: Mapping[str, str] = field(default_factory=dict)

    def make_id(self, prefix: str, n: int = 0, length: int = 24) -> str:
        """The n-th id of this answer."""
        return prefix + hashlib.sha256(f"{self.seed}/{prefix}/{n}".encode()).hexdigest()[:length]


@dataclass(frozen=True)
class Event:
    """Bytes of a stream. `content`: they carry a piece of the reply."""

    data: bytes
    content: bool = False


@dataclass(frozen=True)
class Refusal:
    """A whole answer that says no."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """What goes wrong, neutral to the wire. `status` and `message` in place of the usual ones."""

    kind: ErrorKind
    status: int | None = None
    message: str | None = None
    retry_after_s: float | None = None
    model: str = ""

    def words(self, usual: str) -> str:
        """What is said."""
        return self.message or usual.replace("{model}", self.model)

    @property
    def retry_after(self) -> dict[str, str]:
        """The header, if there is something to say."""
        return {} if self.retry_after_s is None else {"retry-after": f"{self.retry_after_s:g}"}


@dataclass(frozen=True)
class Form:
    """One wire."""

    wire: Wire
    stream_type: str
    whole: Callable[[Reply, Ask], Mapping[str, Any]]
    stream: Callable[[Reply, Ask], Sequence[Event]]
    refuse: Callable[[Fault], Refusal]
    fault_event: Callable[[Fault], bytes]
    key_of: Callable[[Mapping[str, str]], str]


def stop_word(words: Mapping[Stop, str], reply: Reply, wire: Wire) -> str:
    """The wire's own word for why the model stopped; `ScriptError` if it has none."""
    if reply.reason not in words:
        raise ScriptError(f"the wire {wire!r} has no way to say that the model stopped for {reply.reason!r}")
    return words[reply.reason]


def argument_object(raw: str) -> Any:
    """Arguments as the object that some wires send; `ScriptError` if they are none."""
    try:
        return orjson.loads(raw)
    except ValueError as error:
        raise ScriptError("arguments that are not JSON cannot be sent as an object") from error
