"""A model server without a model: Chat Completions, streamed, scripted, as fast as it can.

    python -m tests.load.fake_model PORT

A request that ends with a tool's result is answered by 20 tokens of text, each in an event and a send of its own; any
other by one call of the first tool it offers that is named `get_working_hours`. `GET /last` tells how many messages
the last request held, so that a server which forgets the conversation is found out.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

import orjson
import uvloop

TOOL = "get_working_hours"
TOKENS = (
    "We", " are", " open", " on", " week", "days", " from", " eight", " in", " the", " morning", " on", ".",
    " On", " Sundays", " the", " office", " stays", " closed", ".",
)  # fmt: skip
ANSWER = "".join(TOKENS)
MODEL = "scripted"

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _event(body: dict[str, Any] | None) -> bytes:
    """One event as one HTTP chunk."""
    line = b"data: " + (b"[DONE]" if body is None else orjson.dumps(body)) + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(line), line)


def _piece(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": MODEL, "choices": [choice]})


CALL_ID = b"call_000000"
_CALL = {"index": 0, "id": CALL_ID.decode(), "type": "function", "function": {"name": TOOL, "arguments": ""}}
_USAGE = _event({"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 900, "completion_tokens": 20}})
_END = (_USAGE + _event(None) + b"0\r\n\r\n",)
TEXT_ANSWER = (
    _HEAD + _piece({"role": "assistant", "content": ""}),
    *(_piece({"content": token}) for token in TOKENS),
    _piece({}, "stop"),
    *_END,
)
CALL_ANSWER = (
    _HEAD + _piece({"role": "assistant", "content": None, "tool_calls": [_CALL]}),
    _piece({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
    _piece({}, "tool_calls"),
    *_END,
)


class Connection(asyncio.Protocol):
    """One keep-alive connection; requests on it are answered one after the other."""

    last_messages = 0
    calls = 0

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is none by inheritance

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, gap, rest = self._received.partition(b"\r\n\r\n")
        if not gap:
            return
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:"),
            0,
        )
        if len(rest) >= length:
            self._received = rest[length:]
            self._answering = asyncio.create_task(self._answer(head, rest[:length]))

    async def _answer(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        if head.startswith(b"GET"):
            told = b'{"messages":%d}' % Connection.last_messages
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(told), told))
            return
        messages = orjson.loads(body)["messages"]
        Connection.last_messages = len(messages)
        Connection.calls += 1
        call_id = b"call_%06d" % (Connection.calls % 1_000_000)
        for part in TEXT_ANSWER if messages[-1]["role"] == "tool" else CALL_ANSWER:
            self._transport.write(part.replace(CALL_ID, call_id))
            await asyncio.sleep(0)  # so that each is sent by itself


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
