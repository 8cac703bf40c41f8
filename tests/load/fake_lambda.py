"""A Lambda service without functions: answers every invocation with one fixed response, after a delay.

python -m tests.load.fake_lambda PORT DELAY_MS
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import orjson
import uvloop

from tools.lambda_events import Operation, event_for, read_event, response_to
from tools.lambda_events import Session as _Session

_CALL = read_event(event_for(Operation("parts", "find"), {}, {}, _Session()))
BODY = orjson.dumps(response_to(_CALL, {"parts": [{"id": f"P-{n}", "name": "hinge", "stock": n} for n in range(10)]}))
RESPONSE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-amzn-RequestId: 00000000-0000-0000-0000-000000000000\r\n"
    b"X-Amz-Executed-Version: $LATEST\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Service(asyncio.Protocol):
    """One connection; requests come one after the other, each with a content-length."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is none by inheritance

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
            if len(self._received) < end + 4 + length:
                return
            self._received = self._received[end + 4 + length :]
            asyncio.get_running_loop().call_later(self._delay_s, self._answer)

    def _answer(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(RESPONSE)


async def serve(port: int, delay_s: float) -> None:
    """Listen until killed."""
    server = await asyncio.get_running_loop().create_server(lambda: Service(delay_s), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
