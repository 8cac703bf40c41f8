"""Amazon's event streams (`application/vnd.amazon.eventstream`) as they arrive, and what an exception in one means.

A message is a prelude (lengths and their checksum), headers, a payload and a checksum of all that. Read here and not
by botocore, whose parser alone costs more CPU than everything else of a streamed answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from struct import Struct
from typing import NamedTuple
from zlib import crc32

import aiohttp

from agent.providers.http import HttpFault, StreamBroken, loads, short

CONTENT_TYPE = "application/vnd.amazon.eventstream"
MAX_FRAME = 25 * 1024 * 1024
_prelude = Struct(">III").unpack_from
_checksum = Struct(">I").unpack_from
_new = tuple.__new__
_OVERHEAD = 16  # prelude and last checksum
_USUAL = 512  # bytes of headers
_STRING = 7
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # of header values by type; bytes and text say their own


class Frame(NamedTuple):
    """One message. `kind` is `event`, `exception` or `error`; `name` which event or exception it is."""

    kind: str
    name: str
    payload: bytes


class Frames:
    """The messages of a body as they arrive, as many at a time as one read brings to their end."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        """Nothing is read yet."""
        self._content = response.content
        self._rest = b""

    async def some(self) -> list[Frame]:
        """At least one message; none at the end of the body.

        Raises:
            StreamBroken: what comes is no message, or a damaged one, or ends within one.
        """
        while piece := await self._content.readany():
            found, self._rest = split(self._rest + piece)
            if found:
                return found
        if self._rest:
            raise StreamBroken("the event stream ended within a message")
        return []


async def frames(response: aiohttp.ClientResponse) -> AsyncIterator[list[Frame]]:
    """All messages of a body, as `Frames.some` gives them."""
    whole = Frames(response)
    while batch := await whole.some():
        yield batch


def split(data: bytes) -> tuple[list[Frame], bytes]:
    """The messages that these bytes begin with, and what is left; `StreamBroken` for what is no message."""
    at, size, found = 0, len(data), []
    while size - at >= _OVERHEAD:
        total, headers, checksum = _prelude(data, at)
        end = at + total
        if end > size:
            # The checksum at the end covers the lengths too, but whether there is an end, only they say.
            if crc32(data[at : at + 8]) != checksum or total > MAX_FRAME:
                raise StreamBroken("the event stream holds what is no message")
            break
        body, last = at + 12 + headers, end - 4
        if body > last or crc32(data[at:last]) != _checksum(data, last)[0]:
            raise StreamBroken("a message of the event stream came damaged")
        kind, name = (_known if headers <= _USUAL else _kind_and_name)(data[at + 12 : body])
        # Its own constructor takes longer, and there is one for each token.
        found.append(_new(Frame, (kind, name, data[body:last])))
        at = end
    return found, data[at:] if at else data


def _kind_and_name(block: bytes) -> tuple[str, str]:
    headers = _headers(block)
    kind = headers.get(":message-type", "event")
    return kind, headers.get({"event": ":event-type", "exception": ":exception-type"}.get(kind, ":error-code"), "")


# Every event of one sort comes with the same headers; great ones are no such thing, and would be kept for good.
_known = lru_cache(maxsize=256)(_kind_and_name)


def _headers(block: bytes) -> dict[str, str]:
    """The headers that are text."""
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(block):
            name_end = at + 1 + block[at]
            name, kind = block[at + 1 : name_end].decode(), block[name_end]
            at = name_end + 1
            if kind in _SIZES:
                at += _SIZES[kind]
                continue
            size = int.from_bytes(block[at : at + 2], "big")
            if kind == _STRING:
                headers[name] = block[at + 2 : at + 2 + size].decode()
            at += 2 + size
    except (IndexError, UnicodeDecodeError) as error:
        raise StreamBroken("a message of the event stream has unreadable headers") from error
    return headers


# The statuses that the same exceptions have when they come instead of a stream.
_STATUS = {
    "validationException": 400,
    "accessDeniedException": 403,
    "resourceNotFoundException": 404,
    "modelTimeoutException": 408,
    "conflictException": 409,
    "dependencyFailedException": 424,
    "modelStreamErrorException": 424,
    "throttlingException": 429,
    "serviceQuotaExceededException": 400,
    "badGatewayException": 502,
    "serviceUnavailableException": 503,
}


def fault_of(frame: Frame, hide: Callable[[str], str] = str) -> HttpFault:
    """An `exception` or `error` message, as if it had come with the status it stands for; `hide` as in `error_of`."""
    body = loads(frame.payload) if frame.payload else {}
    words = str(body.get("message") or body.get("originalMessage") or "the stream ended with an error")
    code = frame.name[:1].upper() + frame.name[1:]
    return HttpFault(_STATUS.get(frame.name, 500), " ".join(hide(words).split())[:300], code=short(code, hide))
