"""Model servers without a model, one for each wire: the same 200 tokens, streamed, as fast as they can.

    python -m tests.load.fake_streams

The first line printed is the port. The path decides which wire answers: `/openai/…`, `/ollama/…`, `/anthropic/…`,
`/bedrock/…`. Each token is an event, an HTTP chunk and a send of its own. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import orjson
import uvloop

from tests.doubles.model_service import event_stream
from tests.load import fake_model

TOKENS = tuple(f" w{n}" for n in range(200))
ANSWER = "".join(TOKENS)
MODEL = "scripted"
_TIME = "2026-01-01T00:00:00.000000000Z"


def head(content_type: bytes) -> bytes:
    """The head of an answer that comes in chunks."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % content_type


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _sse(body: Mapping[str, Any], name: str = "") -> bytes:
    event = f"event: {name}\n".encode() if name else b""
    return chunk(event + b"data: " + orjson.dumps(body) + b"\n\n")


def _openai() -> list[bytes]:
    def piece(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        known = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_767_225_600, "model": MODEL}
        return _sse({**known, "choices": [choice], "usage": None})

    usage = {"prompt_tokens": 900, "completion_tokens": len(TOKENS), "total_tokens": 1100}
    return [
        head(b"text/event-stream") + piece({"role": "assistant", "content": ""}),
        *(piece({"content": token}) for token in TOKENS),
        piece({}, "stop") + _sse({"id": "chatcmpl-1", "choices": [], "usage": usage}) + chunk(b"data: [DONE]\n\n"),
    ]


def _ollama() -> list[bytes]:
    def line(text: str, more: Mapping[str, Any]) -> bytes:
        message = {"role": "assistant", "content": text}
        return chunk(orjson.dumps({"model": MODEL, "created_at": _TIME, "message": message, **more}) + b"\n")

    counts = {"done": True, "done_reason": "stop", "prompt_eval_count": 900, "eval_count": len(TOKENS)}
    return [head(b"application/x-ndjson"), *(line(token, {"done": False}) for token in TOKENS), line("", counts)]


def _anthropic() -> list[bytes]:
    def event(kind: str, **body: Any) -> bytes:
        return _sse({"type": kind, **body}, kind)

    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": []}
    usage = {"input_tokens": 900, "output_tokens": 1}
    return [
        head(b"text/event-stream")
        + event("message_start", message={**message, "usage": usage})
        + event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(event("content_block_delta", index=0, delta={"type": "text_delta", "text": token}) for token in TOKENS),
        event("content_block_stop", index=0)
        + event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": len(TOKENS)})
        + event("message_stop"),
    ]


def _bedrock() -> list[bytes]:
    def event(name: str, **body: Any) -> bytes:
        return chunk(event_stream.event(name, {**body, "p": "abcdefghijklmnopqrstuv"}))

    usage = {"inputTokens": 900, "outputTokens": len(TOKENS), "totalTokens": 1100}
    return [
        head(event_stream.CONTENT_TYPE.encode()) + event("messageStart", role="assistant"),
        *(event("contentBlockDelta", contentBlockIndex=0, delta={"text": token}) for token in TOKENS),
        event("contentBlockStop", contentBlockIndex=0)
        + event("messageStop", stopReason="end_turn")
        + event("metadata", usage=usage, metrics={"latencyMs": 100}),
    ]


ANSWERS = {b"openai": _openai(), b"ollama": _ollama(), b"anthropic": _anthropic(), b"bedrock": _bedrock()}


class Connection(fake_model.Connection):
    """Answers by the wire that is the first part of the path."""

    async def _answer(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        for part in ANSWERS[head.split(b"/", 2)[1]]:
            self._transport.write(part)
            await asyncio.sleep(0)  # so that each is sent by itself
        self._transport.write(b"0\r\n\r\n")


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    class Input(asyncio.Protocol):
        def connection_lost(self, _: Exception | None) -> None:
            ended.set()

    await loop.connect_read_pipe(Input, sys.stdin)
    server = await loop.create_server(Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(main())
