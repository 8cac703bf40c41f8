"""A model server on a real socket of this machine: each request is answered by a function of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


@dataclass
class ModelServer:
    """`requests` holds the bodies that came, `headers` what they came with."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@asynccontextmanager
async def model_server(
    *answers: Answer, models: web.Response | None = None, port: int = 0
) -> AsyncIterator[ModelServer]:
    """Serve Chat Completions on a free port; the n-th request gets the n-th answer, later ones the last."""
    server = ModelServer("")

    async def complete(request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        answer = answers[min(len(server.requests), len(answers) - 1)]
        server.requests.append(body)
        server.headers.append(dict(request.headers))
        return await answer(request, body)

    async def list_models(_: web.Request) -> web.Response:
        return models or web.json_response({"object": "list", "data": [{"id": "model-1"}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_get("/v1/models", list_models)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()


def events(*bodies: Any, done: bool = True, cut: int | None = None, die: bool = False) -> Answer:
    """Stream these objects as events (text and bytes as they are); `cut` splits the bytes into such pieces.

    `die` drops the connection at the end in the middle of the answer.
    """
    lines = b"".join(b if isinstance(b, bytes) else b"data: " + orjson.dumps(b) + b"\n\n" for b in bodies)
    data = lines + (b"data: [DONE]\n\n" if done else b"")

    async def answer(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in _pieces(data, cut):
            await response.write(piece)
        if die and request.transport is not None:
            request.transport.abort()
        return response

    return answer


def status(code: int, body: Any = None, **headers: str) -> Answer:
    """Answer with a status and a JSON body, or text."""

    async def answer(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        if isinstance(body, str):
            kind = headers.get("content-type", "text/html")
            return web.Response(status=code, text=body, content_type=kind)
        return web.json_response(body or {"error": {"message": "no"}}, status=code, headers=headers)

    return answer


def delta(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One streamed piece."""
    body = {**({"content": text} if text is not None else {}), **more}
    return {"choices": [{"index": 0, "delta": body, "finish_reason": finish}]}


def piece(index: int | None, call_id: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    """One streamed piece of a tool call."""
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    call = {"function": function, "type": "function"}
    return delta(
        tool_calls=[{**call, **({"index": index} if index is not None else {}), **({"id": call_id} if call_id else {})}]
    )


def text_answer(text: str, size: int = 9) -> Answer:
    """A whole text in pieces, ended as it should be."""
    return events(*(delta(text[i : i + size]) for i in range(0, len(text), size)), delta(finish="stop"))


def call_answer(*calls: tuple[str, Any]) -> Answer:
    """Tool calls (name, arguments as object or raw text), ended as it should be."""
    pieces = (
        piece(n, f"call_{n}", name, args if isinstance(args, str) else orjson.dumps(args).decode())
        for n, (name, args) in enumerate(calls)
    )
    return events(*pieces, delta(finish="tool_calls"))


def _pieces(data: bytes, size: int | None) -> Iterable[bytes]:
    return [data] if size is None else [data[i : i + size] for i in range(0, len(data), size)]
