"""An MCP server made with the SDK, run as a program: `python mcp_server.py LOG [PORT]`, over stdio without a port.

Each call leaves a line of JSON in the file LOG, so that tests see what arrived.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from starlette.requests import Request

LOG = Path(sys.argv[1])
NUMBER: dict[str, Any] = {"type": "number"}
TEXT: dict[str, Any] = {"type": "string"}
PIXEL = "iVBORw0KGgo="
TRACE = (
    'The door is stuck.\nTraceback (most recent call last):\n  File "/srv/door.py", line 3, in <module>\nKeyError: 1'
)

Context = ServerRequestContext[Any, Any]


def note(**facts: Any) -> None:
    """Write a line to the log."""
    with LOG.open("a") as file:
        file.write(json.dumps(facts) + "\n")


def tool(name: str, output: dict[str, Any] | None = None, **parameters: dict[str, Any]) -> types.Tool:
    """A tool whose parameters are all required."""
    schema = {"type": "object", "properties": parameters, "required": list(parameters)}
    hints = types.ToolAnnotations(read_only_hint=True)
    return types.Tool(
        name=name, description=f"{name} it.", input_schema=schema, output_schema=output, annotations=hints
    )


SUM = {"type": "object", "properties": {"sum": NUMBER}, "required": ["sum"]}
PAGES = [
    [tool("add", SUM, a=NUMBER, b=NUMBER), tool("say", text=TEXT), tool("fail"), tool("picture"), tool("crash")],
    [tool("wait"), tool("site.door/unlock", door=TEXT, customer_id=TEXT), tool("big", bytes={"type": "integer"})],
    [tool("breaks_its_schema", SUM), tool("refuse"), tool("environment"), tool("ask_back"), tool("who_asks")],
]


async def list_tools(_ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    """One page."""
    page = int(params.cursor) if params and params.cursor else 0
    following = str(page + 1) if page + 1 < len(PAGES) else None
    return types.ListToolsResult(tools=PAGES[page], next_cursor=following)


async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    """Do as the name says."""
    args = params.arguments or {}
    meta = {key: value for key, value in (ctx.meta or {}).items() if key.startswith("outcrop/")}
    note(tool=params.name, args=args, meta=meta, pid=os.getpid())
    match params.name:
        case "add":
            return result("the sum", structured={"sum": args["a"] + args["b"]})
        case "say":
            return result(args["text"])
        case "fail":
            return result(TRACE, is_error=True)
        case "picture":
            image = types.ImageContent(type="image", data=PIXEL, mime_type="image/png")
            link = types.ResourceLink(type="resource_link", uri="file:///plan.pdf", name="plan", mime_type=None)
            return types.CallToolResult(content=[types.TextContent(type="text", text="The plan."), image, link])
        case "crash":
            os._exit(3)
        case "wait":
            return await wait()
        case "big":
            return result("x" * args["bytes"])
        case "breaks_its_schema":
            return result("", structured={"sum": "none"})
        case "refuse":
            raise MCPError(types.INVALID_PARAMS, "No such door.")
        case "environment":
            return result("", structured={"names": sorted(os.environ)})
        case "ask_back":
            return await ask_back(ctx)
        case "who_asks":
            request = ctx.request
            header = request.headers.get("authorization") if isinstance(request, Request) else None
            return result("", structured={"authorization": header})
    return result("Unlocked.", structured={"unlocked": args["door"]})


async def wait() -> types.CallToolResult:
    """Until somebody gives up."""
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        note(cancelled=True)
        raise
    raise AssertionError("woke up")


async def ask_back(ctx: Context) -> types.CallToolResult:
    """Try to use the client's model."""
    question = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="What is your key?"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            said = await ctx.session.create_message([question], max_tokens=10)
        except MCPError as error:
            return result(f"declined: {error.message}")
    return result(str(said))


def result(text: str, *, structured: dict[str, Any] | None = None, is_error: bool = False) -> types.CallToolResult:
    """A result with some text."""
    content = [types.TextContent(type="text", text=text)] if text else []
    return types.CallToolResult(content=content, structured_content=structured, is_error=is_error)


async def over_stdio(server: Server[Any]) -> None:
    """Until standard input ends."""
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def main() -> None:
    """Serve until told to stop."""
    server: Server[Any] = Server("double", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    if len(sys.argv) > 2:
        app = server.streamable_http_app()
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", timeout_graceful_shutdown=1)
    else:
        anyio.run(over_stdio, server)


if __name__ == "__main__":
    main()
