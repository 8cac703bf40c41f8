"""An MCP server that knows the protocol of 2025 and no manners: `python rude_mcp_server.py [PORT]`, else over stdio."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from uuid import uuid4

TOOLS = ("chatter", "garbage", "unknown_content", "nothing", "internal_error", "silence", "endless")


def answer(request: dict[str, Any]) -> dict[str, Any] | None:
    """The answer to one request; None for none."""
    match request["method"]:
        case "initialize":
            version = request["params"]["protocolVersion"]
            info = {"name": "rude", "version": "0"}
            return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}}
        case "tools/list":
            return {"result": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}}
        case "tools/call":
            return call(request["params"]["name"])
    return {"error": {"code": -32601, "message": "Method not found"}}


def call(name: str) -> dict[str, Any] | None:
    """What each tool does instead of its work."""
    match name:
        case "chatter":
            print("Hello, I print to standard output!", flush=True)
            print(json.dumps({"jsonrpc": "2.0", "method": "notifications/nonsense", "params": {"a": 1}}), flush=True)
            return {"result": {"content": [{"type": "text", "text": '{"worked": true}'}]}}
        case "garbage":
            return {"result": {"content": "not a list"}}
        case "unknown_content":
            return {"result": {"content": [{"type": "hologram", "data": "x"}]}}
        case "nothing":
            return {"result": {"content": []}}
        case "endless":
            return {"result": {"content": [{"type": "text", "text": "x" * 8_000_000}]}}
        case "internal_error":
            return {"error": {"code": -32603, "message": "password=hunter2 is wrong"}}
    return None


class Handler(BaseHTTPRequestHandler):
    """One request; sessions are forgotten after each call of a tool."""

    sessions: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        """Answer in JSON; 404 for a session that is not known."""
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        session = self.headers.get("mcp-session-id")
        if session is not None and session not in self.sessions:
            return self._answer(404, None, {})
        if request["method"] == "initialize":
            session = uuid4().hex
            self.sessions.add(session)
        if request["method"] == "tools/call":
            self.sessions.clear()
        said = answer(request) if "id" in request else None
        body = {"jsonrpc": "2.0", "id": request["id"], **said} if said else None
        return self._answer(200 if said else 202, body, {"mcp-session-id": session} if session else {})

    def do_GET(self) -> None:
        """There is no stream of events."""
        self._answer(405, None, {})

    def do_DELETE(self) -> None:
        """Nor an end."""
        self._answer(405, None, {})

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def _answer(self, status: int, body: dict[str, Any] | None, headers: dict[str, str]) -> None:
        content = json.dumps(body).encode() if body else b""
        self.send_response(status)
        for name, value in {**headers, "content-type": "application/json", "content-length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    """Answer line by line, or on a port."""
    if len(sys.argv) > 1:
        ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        said = answer(request)
        if said is not None:
            print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **said}), flush=True)


if __name__ == "__main__":
    main()
