"""The shelf as an HTTP API, and one that says what it was sent; on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from tests.doubles import shelf

Answer = web.StreamResponse


async def look(request: web.Request) -> Answer:
    """GET /shelves/{shelf_id}"""
    return await _answer(request, "look", {**request.match_info, **request.query})


async def echo(request: web.Request) -> Answer:
    """POST /echo"""
    query = request.query
    args: dict[str, Any] = {"text": query["text"], "whole": int(query["whole"]), **await request.json()}
    if "number" in query:
        args["number"] = float(query["number"])
    if "flag" in query:
        args["flag"] = {"true": True, "false": False}[query["flag"]]
    if "day" in query:
        args["day"] = query["day"]
    if "kind" in request.headers:
        args["kind"] = request.headers["kind"]
    return await _answer(request, "echo", args)


async def put(request: web.Request) -> Answer:
    """PUT /shelves/{shelf_id}/things"""
    return await _answer(request, "put", {**request.match_info, **await request.json()})


async def stow(request: web.Request) -> Answer:
    """PUT /shelves/{shelf_id}/stowed"""
    return await _answer(request, "stow", {**request.match_info, **await request.json()})


async def mirror(request: web.Request) -> Answer:
    """Say what the body was."""
    return web.json_response({"received": await request.text()})


async def _answer(request: web.Request, tool: str, args: dict[str, Any]) -> Answer:
    try:
        return web.json_response(await shelf.run(tool, args, request.headers.get("Idempotency-Key", "")))
    except shelf.Refused as error:
        return web.json_response({"message": str(error)}, status=409)
    except shelf.Garbage:
        return web.Response(text="{Done", content_type="application/json")
    except RuntimeError as error:
        return web.Response(text=f"Traceback (most recent call last)\n{error}", status=500)


@contextmanager
def serving() -> Iterator[str]:
    """The address, for as long as the block runs."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/shelves/{shelf_id}", look),
            web.post("/echo", echo),
            web.put("/shelves/{shelf_id}/things", put),
            web.put("/shelves/{shelf_id}/stowed", stow),
            web.post("/mirror/{case}", mirror),
        ]
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    try:
        yield f"http://127.0.0.1:{asyncio.run_coroutine_threadsafe(_start(runner), loop).result(30)}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(runner: web.AppRunner) -> int:
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: int = runner.addresses[0][1]
    return port
