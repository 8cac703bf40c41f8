"""Amazon's event stream framing: length-prefixed messages with two checksums."""

from __future__ import annotations

import zlib
from typing import Any

import orjson

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_STRING = 7


def event(name: str, body: dict[str, Any]) -> bytes:
    """A member of the event union."""
    return _message(
        {":event-type": name, ":content-type": "application/json", ":message-type": "event"}, orjson.dumps(body)
    )


def exception(name: str, message: str) -> bytes:
    """A modelled exception; `name` is the member, in lower camel case."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return _message(headers, orjson.dumps({"message": message}))


def _message(headers: dict[str, str], payload: bytes) -> bytes:
    block = b"".join(_header(name, value) for name, value in headers.items())
    lengths = (16 + len(block) + len(payload)).to_bytes(4, "big") + len(block).to_bytes(4, "big")
    message = lengths + zlib.crc32(lengths).to_bytes(4, "big") + block + payload
    return message + zlib.crc32(message).to_bytes(4, "big")


def _header(name: str, value: str) -> bytes:
    text = value.encode()
    return bytes([len(name)]) + name.encode() + bytes([_STRING]) + len(text).to_bytes(2, "big") + text
