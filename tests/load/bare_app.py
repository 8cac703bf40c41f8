"""What both bare apps share: a table, a tool, how an answer is put together, and two routes.

A bare app is the least that can be called an agent backend: it keeps the conversation, asks the model, runs the tool
and streams the answer. No ownership, confirmation, audit, idempotency, guards, limits or recovery.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
import orjson
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.load.fake_model import MODEL, TOOL

# As many messages as the product shows a model: the last 20 turns.
HISTORY = 80
INSTRUCTIONS = "You are a friendly assistant of a company with several offices. Use the tools to look things up."
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": TOOL,
            "description": "Tell when the offices are open.",
            "parameters": {"type": "object", "properties": {}},
        },
    }
]
SCHEMA = """CREATE TABLE IF NOT EXISTS message (
    conversation text NOT NULL, seq bigint GENERATED ALWAYS AS IDENTITY, body text NOT NULL,
    PRIMARY KEY (conversation, seq))"""
INSERT = "INSERT INTO message (conversation, body) VALUES ($1, $2)"
SELECT = "SELECT body FROM message WHERE conversation = $1 ORDER BY seq DESC LIMIT $2"
WEEK = dict.fromkeys(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"), "8:00 AM to 5:00 PM")

Turn = Callable[[str, str], AsyncIterator[str]]
Opening = Callable[[str, str], AbstractAsyncContextManager[Turn]]


def run_tool(_name: str, _arguments: str) -> dict[str, Any]:
    """The one tool."""
    return {"ok": True, "week": {**WEEK, "Saturday": "closed", "Sunday": "closed"}, "today": f"{datetime.now():%A}"}


@dataclass(slots=True)
class Reply:
    """One answer of the model, put together from its events."""

    text: str = ""
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    tokens: list[str] = field(default_factory=list)

    def take(self, line: str | bytes) -> str:
        """Read one line of the stream; returns the text in it."""
        if line[:5] not in ("data:", b"data:") or line[6:] in ("[DONE]", b"[DONE]"):
            return ""
        choices = orjson.loads(line[5:])["choices"]
        delta = choices[0]["delta"] if choices else {}
        for call in delta.get("tool_calls") or ():
            self.call_id = call.get("id") or self.call_id
            self.name = call["function"].get("name") or self.name
            self.arguments += call["function"].get("arguments") or ""
        text = delta.get("content") or ""
        self.text += text
        return text

    @property
    def message(self) -> dict[str, Any]:
        """As a message of the conversation."""
        if not self.name:
            return {"role": "assistant", "content": self.text}
        function = {"name": self.name, "arguments": self.arguments}
        call = {"id": self.call_id, "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}


def result_of(reply: Reply) -> dict[str, Any]:
    """Run the call and make its message."""
    result = orjson.dumps(run_tool(reply.name, reply.arguments)).decode()
    return {"role": "tool", "tool_call_id": reply.call_id, "content": result}


def request_body(history: list[dict[str, Any]]) -> bytes:
    """What the model is sent."""
    messages = [{"role": "system", "content": INSTRUCTIONS}, *history]
    return orjson.dumps({"model": MODEL, "stream": True, "messages": messages, "tools": TOOLS})


async def read_history(pool: asyncpg.Pool[asyncpg.Record], conversation: str) -> list[dict[str, Any]]:
    """The last messages, oldest first."""
    return [orjson.loads(row["body"]) for row in reversed(await pool.fetch(SELECT, conversation, HISTORY))]


def routes(turn_of: Callable[[], Turn]) -> list[Route]:
    """`POST /chat` and `POST /chat/stream` of `{session_id, message}`, and `GET /healthz`."""

    async def chat(request: Request) -> Response:
        body = orjson.loads(await request.body())
        text = "".join([token async for token in turn_of()(body["session_id"], body["message"])])
        return Response(orjson.dumps({"text": text}), media_type="application/json")

    async def stream(request: Request) -> Response:
        body = orjson.loads(await request.body())

        async def events() -> AsyncIterator[bytes]:
            async for token in turn_of()(body["session_id"], body["message"]):
                yield b"data: " + orjson.dumps({"text": token}) + b"\n\n"
            yield b"data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def healthy(_: Request) -> Response:
        return Response(b"{}")

    return [
        Route("/chat", chat, methods=["POST"]),
        Route("/chat/stream", stream, methods=["POST"]),
        Route("/healthz", healthy),
    ]


def serve(opening: Opening) -> None:
    """`python -m tests.load.bare_… PORT DATABASE_URL MODEL_URL`."""
    port, database_url, model_url = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    opened: list[Turn] = []

    async def main() -> None:
        async with opening(database_url, model_url) as turn:
            opened.append(turn)
            app = Starlette(routes=routes(lambda: opened[0]))
            await uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", access_log=False)).serve()

    uvloop.run(main())
