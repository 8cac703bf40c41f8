"""Messages of `application/vnd.amazon.eventstream`, as Amazon's clients read them.

A message is a prelude (lengths and their checksum), headers, a payload, and a checksum of all that; big-endian.
"""

from __future__ import annotations

from functools import lru_cache
from struct import pack
from typing import Any
from zlib import crc32

import orjson

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_STRING = 7
_OVERHEAD = 16  # prelude and last checksum


def event(name: str, body: dict[str, Any]) -> bytes:
    """One event; `name` is the member of the operation's stream. Clients skip names that they do not know."""
    return _message(_headers(("event-type", name), ("message-type", "event")), body)


def exception(name: str, message: str) -> bytes:
    """An error after the stream has begun, its last message; `name` begins in lower case: `throttlingException`."""
    return _message(_headers(("exception-type", name), ("message-type", "exception")), {"message": message})


@lru_cache(maxsize=64)
def _headers(*pairs: tuple[str, str]) -> bytes:
    named = (*pairs, ("content-type", "application/json"))
    return b"".join(_header(f":{name}".encode(), value.encode()) for name, value in named)


def _header(name: bytes, value: bytes) -> bytes:
    return pack(">B", len(name)) + name + pack(">BH", _STRING, len(value)) + value


def _message(headers: bytes, body: dict[str, Any]) -> bytes:
    payload = orjson.dumps(body)
    lengths = pack(">II", _OVERHEAD + len(headers) + len(payload), len(headers))
    message = lengths + pack(">I", crc32(lengths)) + headers + payload
    return message + pack(">I", crc32(message))
