"""How the simulated API says no: an HTTP status and one of a closed list of codes."""

from __future__ import annotations


class Refusal(Exception):
    """A request the upstream does not carry out; rendered as `{status: error, code, message}`."""

    def __init__(self, status: int, code: str, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


def not_found() -> Refusal:
    """One wording for what does not exist and for what the caller may not see."""
    return Refusal(404, "not_found", "Not found")


def invalid(message: str) -> Refusal:
    """A readable request with a value that cannot be accepted."""
    return Refusal(400, "validation", message)


def malformed(message: str) -> Refusal:
    """A body that cannot be read as what the endpoint takes."""
    return Refusal(422, "validation", message)


def rate_limited() -> Refusal:
    return Refusal(429, "rate_limited", "Too many requests", ((b"retry-after", b"1"),))
