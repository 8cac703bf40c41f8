"""The shelf as an MCP server made with the SDK: `python shelf_mcp.py TOOLS [PORT]`, over stdio without a port.

TOOLS is a file with a list of `{name, description, parameters}`; of a tool that is no tool of the shelf, the result
says what it was called with.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from tests.doubles import shelf

Context = ServerRequestContext[Any, Any]
TOOLS: list[dict[str, Any]] = json.loads(Path(sys.argv[1]).read_text())
OURS = ("look", "echo", "put", "stow")
ANSWER = {"type": "object", "properties": {"put": {"type": "string"}, "found": {"type": "string"}}}


async def list_tools(_ctx: Context, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    """All of them."""
    return types.ListToolsResult(tools=[_tool(**each) for each in TOOLS])


def _tool(name: str, description: str, parameters: dict[str, Any]) -> types.Tool:
    output = ANSWER if name in OURS else None
    return types.Tool(name=name, description=description, input_schema=parameters, output_schema=output)


async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    """Ask the shelf."""
    args = params.arguments or {}
    if params.name not in OURS:
        return types.CallToolResult(content=[], structured_content={"received": args})
    key = (ctx.meta or {}).get("outcrop/effect_key", "")
    try:
        body = await shelf.run(params.name, args, str(key))
    except shelf.Refused as error:
        return types.CallToolResult(content=[types.TextContent(type="text", text=str(error))], is_error=True)
    except shelf.Garbage:
        body = {"put": 1, "found": 1}
    return types.CallToolResult(content=[], structured_content=body)


async def over_stdio(server: Server[Any]) -> None:
    """Until standard input ends."""
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def main() -> None:
    """Serve until told to stop."""
    server: Server[Any] = Server("shelf", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    if len(sys.argv) > 2:
        app = server.streamable_http_app()
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", timeout_graceful_shutdown=1)
    else:
        anyio.run(over_stdio, server)


if __name__ == "__main__":
    main()
