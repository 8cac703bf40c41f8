"""Tools that the client of a conversation runs itself: a page that reads a position, an app that opens a door.

A document says what the client can do. A call is handed over with its arguments, and the turn waits for the result.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from tools.breaker import Breaker
from tools.contract import JsonObject, ToolContext, ToolResult
from tools.errors import ActionFailed, OutcomeUncertain, Unanswered, UpstreamUnavailable
from tools.executors.config import ClientGroup, ExecutorError
from tools.executors.documents import read_functions, read_openapi
from tools.executors.mounted import ForeignTool, MountedTool, answered

NOBODY = "Nothing that could do this is connected to this conversation."
SILENT = "Your device did not answer in time."
FAILED = "Your device could not do that."
MAX_HINT_CHARS = 500
MOST_CONVERSATIONS = 1_000
# The client is given up a little before the call is: an answer of the last moment is still taken.
MARGIN_S = 1.0


class ClientTransport:
    """A `Transport` to whoever the conversation is with."""

    def __init__(
        self, group: str, config: ClientGroup, *, functions: Path | None = None, openapi: Path | None = None
    ) -> None:
        """One of the two documents describes the tools."""
        self._group = group
        self._config = config
        self._functions = functions
        self._openapi = openapi

    async def open(self) -> Sequence[ForeignTool]:
        """Read the document; `ExecutorError` names what is wrong in it."""
        if self._functions is not None:
            return read_functions(self._functions)
        if self._openapi is not None:
            return read_openapi(self._openapi, only=self._config.only).tools
        raise ExecutorError(f"action group {self._group}: needs either `functions` or `openapi`")

    async def close(self) -> None:
        """Nothing is held."""

    async def send(self, tool: MountedTool, args: JsonObject, ctx: ToolContext) -> ToolResult:
        """Hand the call over, once for its key, and wait for the result."""
        if ctx.client is None:
            raise UpstreamUnavailable(NOBODY)
        reads = tool.spec.effect == "read"
        seconds = ctx.seconds_left(self._config.timeout_s) if reads else self._config.timeout_s
        key = ctx.effect_key or ctx.call_key
        answer = await ctx.client.ask(tool.spec.name, args, key, max(seconds - MARGIN_S, seconds / 2))
        if answer is None:
            raise Unanswered(SILENT) if reads else OutcomeUncertain(SILENT)
        return _failed(answer) if answer.get("ok") is False else answered({**answer, "ok": True})


def _failed(answer: JsonObject) -> ToolResult:
    """What a client says that it could not do. `user_hint` is a sentence for people."""
    hint = answer.get("user_hint")
    hint = hint.strip()[:MAX_HINT_CHARS] if isinstance(hint, str) else ""
    told = ActionFailed(hint or FAILED).result()
    return ToolResult(told.status, {**answer, **told.data})


class ByConversation:
    """A breaker for each conversation: a client that does not answer is its own trouble, and nobody else's."""

    def __init__(self, name: str, fail_max: int, reset_s: float, *, most: int = MOST_CONVERSATIONS) -> None:
        """Of more than `most` conversations, those that called longest ago start afresh."""
        self._name = name
        self._fail_max = fail_max
        self._reset_s = reset_s
        self._most = most
        self._breakers: OrderedDict[str, Breaker] = OrderedDict()

    def __call__(self, ctx: ToolContext) -> Breaker:
        """The breaker of the call's conversation."""
        breaker = self._breakers.pop(ctx.conversation_id, None)
        if breaker is None:
            breaker = Breaker(self._name, fail_max=self._fail_max, reset_s=self._reset_s)
        self._breakers[ctx.conversation_id] = breaker
        if len(self._breakers) > self._most:
            self._breakers.popitem(last=False)
        return breaker
