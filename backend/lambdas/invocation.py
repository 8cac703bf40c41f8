"""One call of a function, and how it ended."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from uuid import uuid4

MAX_PAYLOAD_BYTES = 6 * 1024 * 1024  # of a call that waits for its answer, and of the answer
MAX_EVENT_BYTES = 1024 * 1024  # of a call that does not wait
MAX_ANSWER_BYTES = 6_291_556  # AWS allows an answer 100 bytes more than a request
LOG_TAIL_BYTES = 4096


def trace_id() -> str:
    """An X-Ray trace id that says it is not sampled."""
    return f"Root=1-{int(time.time()):08x}-{secrets.token_hex(12)};Parent={secrets.token_hex(8)};Sampled=0"


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call. `payload` is JSON; `client_context` JSON in ASCII, if the caller gave one."""

    payload: bytes = field(repr=False)
    function_arn: str
    client_context: str | None = None
    id: str = field(default_factory=lambda: str(uuid4()))
    trace_id: str = field(default_factory=trace_id)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended. `payload` is what the handler returned, or the error body when the function failed."""

    payload: bytes = field(repr=False)
    failed: bool = False
    log_tail: bytes = field(default=b"", repr=False)  # START, what it printed, END, REPORT; at most LOG_TAIL_BYTES


def failure(error_type: str, message: str) -> bytes:
    """The error body of a function that could not say itself what went wrong."""
    return json.dumps({"errorType": error_type, "errorMessage": message}).encode()


def timed_out(invocation_id: str, timeout_s: float) -> bytes:
    """The error body after a time-out."""
    return failure(
        "Sandbox.Timedout", f"RequestId: {invocation_id} Error: Task timed out after {timeout_s:.2f} seconds"
    )


def exited(invocation_id: str, code: int) -> bytes:
    """The error body after the process ended by itself; `code` is negative for a signal, as `subprocess` has it."""
    if code < 0:
        how = f"Runtime exited with error: signal: {-code}"
    elif code > 0:
        how = f"Runtime exited with error: exit status {code}"
    else:
        how = "Runtime exited without providing a reason"
    return failure("Runtime.ExitError", f"RequestId: {invocation_id} Error: {how}")


def too_large(size_bytes: int) -> bytes:
    """The error body for an answer that exceeds MAX_ANSWER_BYTES."""
    return failure(
        "Function.ResponseSizeTooLarge",
        f"Response payload size ({size_bytes} bytes) exceeded maximum allowed payload size ({MAX_ANSWER_BYTES} bytes).",
    )
