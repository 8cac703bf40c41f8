"""The body of an answer, as long as it may be and no longer, however it was compressed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import aiohttp

from knowledge_base.errors import Refused

ACCEPTED = "gzip, identity"
PIECE = 1 << 16


async def body_within(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The whole body, decompressed; the session must leave it as it comes (`auto_decompress=False`).

    Raises:
        Refused: too_large by what it says or by what comes, bomb, corrupt, unsupported (a compression of another kind).
    """
    said = response.content_length
    if said is not None and said > max_bytes:
        raise Refused("too_large", f"{said} bytes; up to {max_bytes} are taken")
    inflate = _Inflate(response.headers.get("content-encoding", ""))
    pieces, size = [], 0
    async for arrived in response.content.iter_chunked(PIECE):
        for piece in inflate.feed(arrived):
            size += len(piece)
            if size > max_bytes:
                reason = "bomb" if inflate.is_needed else "too_large"
                raise Refused(reason, f"more than {max_bytes} bytes, which is as much as is taken")
            pieces.append(piece)
    inflate.end()
    return b"".join(pieces)


class _Inflate:
    """gzip, deflate or nothing, at most `PIECE` bytes at a time."""

    def __init__(self, encoding: str) -> None:
        names = [name for part in encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
        if names not in ([], ["gzip"], ["x-gzip"], ["deflate"]):
            raise Refused("unsupported", f"its content encoding {encoding[:40]!r} is not known; gzip and deflate are")
        self.is_needed = bool(names)
        self._stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # finds out which of the two it is

    def feed(self, arrived: bytes) -> Iterator[bytes]:
        if not self.is_needed:
            yield arrived
            return
        try:
            while arrived and not self._stream.eof:
                yield self._stream.decompress(arrived, PIECE)
                arrived = self._stream.unconsumed_tail
        except zlib.error as error:
            raise Refused("corrupt", f"its body cannot be decompressed: {error}") from error

    def end(self) -> None:
        if self.is_needed and not self._stream.eof:
            raise Refused("corrupt", "its compressed body ends too early")
