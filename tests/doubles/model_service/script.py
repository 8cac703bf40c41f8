"""What a test scripts: replies neutral to the wire, with their faults, delays and quirks; and how they travel."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from tests.doubles.model_service.quirks import Quirk, Quirks, refuse_senseless

Wire = Literal["openai", "ollama", "bedrock", "anthropic", "bedrock-agent"]
WIRES: tuple[Wire, ...] = get_args(Wire)
Stop = Literal[
    "end",
    "tool_use",
    "max_tokens",
    "stop_sequence",
    "guardrail",
    "content_filter",
    "context_exceeded",
    "malformed_output",
    "malformed_tool_use",
]
ErrorKind = Literal[
    "bad_request",
    "context_too_long",
    "invalid_model_id",
    "needs_profile",
    "quota",
    "auth",
    "forbidden",
    "unknown_model",
    "timeout",
    "throttled",
    "not_ready",
    "model_error",
    "internal",
    "unavailable",
]
BY_STATUS: dict[int, ErrorKind] = {
    400: "bad_request",
    401: "auth",
    402: "quota",
    403: "forbidden",
    404: "unknown_model",
    408: "timeout",
    424: "model_error",
    429: "throttled",
    503: "unavailable",
    529: "unavailable",
}
TEXT_PIECE = 12  # characters of a text that is not given in pieces
ARGUMENTS_PIECE = 10


class ScriptError(ValueError):
    """The script asks for what cannot be done, at all or on the wire that asked."""


@dataclass(frozen=True)
class Call:
    """One tool call. `raw_arguments` is sent as it is, valid or not; `group` is the action group (InvokeAgent)."""

    name: str
    args: Mapping[str, Any] | None = None
    raw_arguments: str | None = None
    id: str | None = None
    group: str = "actions"

    @property
    def arguments(self) -> str:
        """The arguments as text; what is not ASCII is escaped, as several servers do."""
        return json.dumps(self.args or {}) if self.raw_arguments is None else self.raw_arguments


@dataclass(frozen=True)
class Usage:
    """Tokens. `input` are those that were neither read from a cache nor written to one."""

    input: int = 11
    output: int = 7
    cache_read: int = 0
    cache_write: int = 0

    @property
    def prompt(self) -> int:
        """All tokens of the prompt."""
        return self.input + self.cache_read + self.cache_write


@dataclass(frozen=True)
class Reply:
    """One answer of the model, or a failure in its place. Defaults: nothing fails, nothing waits.

    Content, in this order on every wire: `reasoning`, `text`, `calls`. A text given as a tuple or list is streamed in
    exactly these pieces. "After n pieces" counts what carries content: pieces of reasoning, text and arguments, not
    the events around them; 0 is before the first. Without `stop` it follows from the calls.

    Args:
        reasoning_signature: Sent in place of the server's own (Converse, Anthropic); accepted back in this lane.
        citations: Objects of `attribution.citations`; `traces`: objects of the inner `trace` union (InvokeAgent).
        matching: Only answer a request whose last message contains this text.
        status: Answer with this status and the wire's own error body; `error` says which one if the status does not.
        error_message: In place of the usual words of that error.
        fault_in_stream: After so many pieces, the wire's own error event of the kind `error` (default: internal).
            A request that is not streamed gets it as a status.
        cut_after: After so many pieces drop the connection; `hang_after`: be silent until the client goes.
        write_size: Bytes of one write, so that frames and characters arrive in parts.
        quirks: Defects by name. Those of a stream do not show in an answer that is not streamed, as in the servers.
        raw: Sent as it is in place of all that, as `raw_type`; several are several pieces.
    """

    text: str | tuple[str, ...] = ""
    calls: tuple[Call, ...] = ()
    reasoning: str | tuple[str, ...] = ""
    reasoning_signature: str | None = None
    usage: Usage | None = field(default_factory=Usage)
    stop: Stop | None = None
    citations: tuple[Mapping[str, Any], ...] = ()
    traces: tuple[Mapping[str, Any], ...] = ()
    matching: str | None = None
    status: int | None = None
    error: ErrorKind | None = None
    error_message: str | None = None
    retry_after_s: float | None = None
    fault_in_stream: int | None = None
    cut_after: int | None = None
    hang_after: int | None = None
    delay_first_s: float = 0.0
    delay_between_s: float = 0.0
    write_size: int | None = None
    raw: bytes | tuple[bytes, ...] | None = None
    raw_type: str = "application/json"
    quirks: Quirks = frozenset()

    def __post_init__(self) -> None:
        """Lists become tuples; what makes no sense is refused here, where the script is written."""
        for name in ("text", "calls", "reasoning", "citations", "traces", "raw"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        given = [self.quirks] if isinstance(self.quirks, str) else self.quirks
        unknown = sorted(set(given) - set(Quirk))
        if unknown:
            raise ScriptError(f"unknown quirk {unknown[0]!r}; known: {', '.join(Quirk)}")
        object.__setattr__(self, "quirks", frozenset(Quirk(name) for name in given))
        for name, known in (("stop", get_args(Stop)), ("error", get_args(ErrorKind))):
            if (value := getattr(self, name)) is not None and value not in known:
                raise ScriptError(f"unknown {name} {value!r}; known: {', '.join(known)}")
        if self.status is not None and not 400 <= self.status <= 599:
            raise ScriptError(f"status {self.status} is no error")
        faults = [n for n in ("fault_in_stream", "cut_after", "hang_after") if getattr(self, n) is not None]
        if len(faults) > 1 or (faults and self.fails_at_once):
            raise ScriptError(f"{', '.join(faults)}: one fault a reply, and none beside status or error")
        if problem := refuse_senseless(self.quirks, self.calls, bool(self.text), bool(self.reasoning)):
            raise ScriptError(problem)

    @property
    def fails_at_once(self) -> bool:
        """Whether a status is the whole answer."""
        return self.status is not None or (self.error is not None and self.fault_in_stream is None)

    @property
    def kind(self) -> ErrorKind:
        """Which error it is."""
        return self.error or BY_STATUS.get(self.status or 500, "internal")

    @property
    def reason(self) -> Stop:
        """Why the model stopped."""
        return self.stop or ("tool_use" if self.calls else "end")

    @property
    def whole_text(self) -> str:
        """The text in one."""
        return "".join(self.text)

    @property
    def whole_reasoning(self) -> str:
        """The reasoning in one."""
        return "".join(self.reasoning)

    @property
    def text_pieces(self) -> list[str]:
        """The text as it is streamed."""
        return _pieces(self.text)

    @property
    def reasoning_pieces(self) -> list[str]:
        """The reasoning as it is streamed."""
        return _pieces(self.reasoning)

    def argument_pieces(self, call: Call) -> list[str]:
        """The arguments of a call as they are streamed; in one piece if there is little."""
        text = call.arguments
        if Quirk.ARGUMENTS_SPLIT_IN_ESCAPE in self.quirks and "\\u" in text:
            middle = text.index("\\u") + 4
            return [text[:middle], text[middle:]]
        return [text[i : i + ARGUMENTS_PIECE] for i in range(0, len(text), ARGUMENTS_PIECE)]

    def to_json(self) -> dict[str, Any]:
        """As it goes to the server."""
        raw = None if self.raw is None else [base64.b64encode(part).decode() for part in _parts(self.raw)]
        return {**asdict(self), "raw": raw, "quirks": sorted(self.quirks)}

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Reply:
        """As it came from the test."""
        return cls(
            **{
                **body,
                "calls": tuple(Call(**call) for call in body["calls"]),
                "usage": Usage(**body["usage"]) if body["usage"] else None,
                "raw": None if body["raw"] is None else tuple(base64.b64decode(part) for part in body["raw"]),
                "quirks": frozenset(body["quirks"]),
            }
        )


def _pieces(text: str | tuple[str, ...]) -> list[str]:
    if isinstance(text, str):
        return [text[i : i + TEXT_PIECE] for i in range(0, len(text), TEXT_PIECE)]
    return list(text)


def _parts(raw: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (raw,) if isinstance(raw, bytes) else raw
