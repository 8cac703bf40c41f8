"""Tools of an MCP server, over its standard streams or streamable HTTP.

The server's word on what a tool does (`readOnlyHint` and its like) is not taken: the definition says which calls may
run without a person's yes. What a server asks of us (sampling, elicitation, roots) is declined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from tools.contract import JsonObject, ToolContext, ToolResult
from tools.errors import ActionFailed
from tools.executors.config import ExecutorError, McpGroup
from tools.executors.failures import TRACE
from tools.executors.mounted import BROKEN, BadAnswer, ForeignTool, MountedTool, answered

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from tools.executors.mcp_connection import Connect, Connection

EFFECT_KEY = "outcrop/effect_key"  # in `_meta`: whoever knows it does nothing twice for one key
FAILED = "The system that does this says that it did not work."
MAX_REASON_CHARS = 500

# JSON-RPC codes of requests that were refused before any tool ran.
_METHOD_NOT_FOUND, _INVALID_PARAMS = -32601, -32602


class McpTransport:
    """A `Transport` to one server, which `open` starts or connects to; connected again whenever it is lost."""

    def __init__(
        self,
        group: str,
        config: McpGroup,
        *,
        environ: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`environ` is our own environment, of which a started server gets what the definition names; `headers` say
        who we are to one that is reached by URL."""
        self._group = group
        self._config = config
        self._environ = environ or {}
        self._headers = headers or {}
        self._connection: Connection | None = None

    async def open(self) -> Sequence[ForeignTool]:
        """Connect and list the tools; `ExecutorError` names the server and the fix."""
        try:
            from tools.executors.mcp_connection import Connection, told
        except ModuleNotFoundError as missing:
            raise ExecutorError(
                f"action group {self._group}: MCP needs the package {missing.name}: pip install 'outcrop[mcp]'"
            ) from missing
        try:
            self._connection = Connection(self._group, self._way())
            found = await self._connection.open()
        except ExecutorError:
            raise
        except Exception as error:  # the SDK has no class for "no connection": whatever it was, there is no server
            raise ExecutorError(
                f"action group {self._group}: {self._where} is of no use: {told(error)}; {self._fix}"
            ) from error
        return [
            ForeignTool(each.name, each.description or each.title or each.name, {"type": "object", **each.input_schema})
            for each in found
        ]

    async def close(self) -> None:
        """Disconnect, and stop a server that was started here."""
        if self._connection is not None:
            await self._connection.close()

    async def send(self, tool: MountedTool, args: JsonObject, ctx: ToolContext) -> ToolResult:
        """Call the tool once."""
        from mcp import MCPError

        if self._connection is None:
            raise RuntimeError("the executor is not open")
        meta = {EFFECT_KEY: ctx.effect_key} if ctx.effect_key and tool.spec.effect != "read" else {}
        try:
            return result_of(await self._connection.call(tool.foreign.name, args, meta))
        except MCPError as error:
            if error.code in (_METHOD_NOT_FOUND, _INVALID_PARAMS):
                raise ActionFailed(FAILED, said=reason(error.message)) from error
            raise BadAnswer(BROKEN) from error

    def _way(self) -> Connect:
        from tools.executors.mcp_connection import over_http, over_stdio

        if self._config.url is not None:
            return over_http(str(self._config.url), self._headers)
        command = self._config.stdio
        if command is None:
            raise ExecutorError(f"action group {self._group}: needs either `stdio` or `url`")
        if missing := [name for name in command.environment_from if name not in self._environ]:
            raise ExecutorError(
                f"action group {self._group}: {', '.join(missing)} is not set; set it, "
                "or take it out of `stdio.environment_from`"
            )
        passed_on = {name: self._environ[name] for name in command.environment_from}
        return over_stdio(command.command, {**passed_on, **command.environment})

    @property
    def _where(self) -> str:
        return (
            f"the MCP server {self._config.url or ' '.join(self._config.stdio.command if self._config.stdio else ())}"
        )

    @property
    def _fix(self) -> str:
        if self._config.url is not None:
            return "check `url` and `auth`, and that it runs"
        return "run the command by hand; what it needs of the environment must stand in `stdio.environment`"


def result_of(found: CallToolResult) -> ToolResult:
    """What a model is shown: structured content, else the text; what is neither is named and left where it is.

    Raises:
        ActionFailed: the tool says that it failed.
    """
    text = "\n".join(block.text for block in found.content if block.type == "text")
    if found.is_error:
        raise ActionFailed(FAILED, said=reason(text))
    result = answered(found.structured_content if found.structured_content is not None else _read(text))
    attachments = [_named(block) for block in found.content if block.type != "text"]
    if attachments:
        result.data.setdefault("attachments", attachments)
    return result


def reason(text: str) -> str:
    """What a server gave as the reason, as far as a person may read it: short, and without a stack trace."""
    trace = TRACE.search(text)
    return text[: trace.start() if trace else None].strip()[:MAX_REASON_CHARS]


def _read(text: str) -> Any:
    """The object that a text spells, or the text; an empty one is no more than a success."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text if text.strip() else {}
    return found if isinstance(found, dict) else text


def _named(block: Any) -> JsonObject:
    """What a picture, a sound or a resource is called."""
    if block.type == "resource":
        inner = block.resource
        return {"type": "resource", "uri": str(inner.uri), "mime_type": inner.mime_type}
    if block.type == "resource_link":
        return {"type": "resource", "uri": str(block.uri), "name": block.name, "mime_type": block.mime_type}
    return {"type": block.type, "mime_type": block.mime_type}
