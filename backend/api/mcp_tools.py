"""Action groups as MCP tools: each call is a turn of a conversation, with no model in it.

A session of the protocol is one conversation. A gated call asks the person through the client (elicitation); a client
that cannot ask gets a refusal that says where a person can answer. There is no tool for the yes: a model could call it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

import anyio
import mcp_types as types
import orjson
import structlog
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from agent.errors import OutcropError
from agent.events import ConfirmationRequired, ToolFinished, TurnCancelled, TurnCompleted, TurnFailed
from agent.ports import Decision, DirectCall
from backend.api.edge import MAX_BODY_BYTES
from backend.api.mcp import CALLER
from backend.conversations.service import ConversationService, TooManyTurns, TurnRequest, conversation_of
from backend.conversations.turn import Turn
from backend.identity.principal import Principal
from backend.records.ids import uuid7
from tools.contract import JsonObject, ToolSpec

log = structlog.get_logger(__name__)

MOST_SESSIONS = 200
MOST_WAITING = 16  # calls of one conversation that wait for an earlier one
ANSWER_S = 300.0  # how long a client may take to get a person's answer

CONVERSATION = "outcrop/session_id"
KEY = "outcrop/idempotency_key"
TURN = "outcrop/turn_id"
QUESTION = "confirm"
ANSWER_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"confirm": {"type": "boolean", "title": "Yes, do it", "default": False}},
    "required": ["confirm"],
}
INSTRUCTIONS = (
    "Tools of one signed-in person. Changes to appointments are asked of that person before they happen; "
    "a result with the code confirmation_required means that nothing was done yet."
)

Context = ServerRequestContext[Any, Any]


@asynccontextmanager
async def serving(
    service: ConversationService, tools: Callable[[Principal], Sequence[ToolSpec]], idle_s: float
) -> AsyncIterator[ASGIApp]:
    """The MCP server as an ASGI application; requests carry their caller in the scope (`CALLER`)."""
    answering = Tools(service, tools)
    server: Server[Any] = Server(
        "outcrop",
        title="Outcrop",
        version=version("outcrop"),
        instructions=INSTRUCTIONS,
        on_list_tools=answering.list,
        on_call_tool=answering.call,
        get_tool_input_schema=lambda _: None,  # no argument of ours travels as a header
    )
    manager = StreamableHTTPSessionManager(
        server, session_idle_timeout=idle_s, max_sessions=MOST_SESSIONS, max_request_body_size=MAX_BODY_BYTES
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        caller: Principal = scope[CALLER]
        # A session belongs to whom it was opened by; to anybody else it does not exist (404).
        who = AccessToken(token="", client_id=caller.tenant, subject=caller.subject, scopes=[])
        await manager.handle_request({**scope, "user": AuthenticatedUser(who)}, receive, send)

    try:
        async with manager.run():
            yield app
    finally:
        await answering.stop()


@dataclass(frozen=True, slots=True)
class _Ended:
    """A turn that is over: the result of its call, the question it asked, how it ended."""

    turn: Turn
    result: ToolFinished | None
    asked: ConfirmationRequired | None
    end: TurnCompleted | TurnFailed | TurnCancelled


class _Line:
    """Calls of one conversation, in the order in which they came."""

    def __init__(self) -> None:
        self.free = asyncio.Lock()
        self.waiting = 0


class Tools:
    """Answers `tools/list` and `tools/call`."""

    def __init__(self, service: ConversationService, specs: Callable[[Principal], Sequence[ToolSpec]]) -> None:
        self._service = service
        self._all_specs = specs
        self._lines: WeakValueDictionary[tuple[str, str, UUID], _Line] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[_Ended]] = set()

    async def stop(self) -> None:
        """Wait for no turn any more; the turns themselves are the service's."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _specs(self, caller: Principal) -> Sequence[ToolSpec]:
        """Without those that a conversation's client runs: whoever calls here would wait for itself."""
        return [spec for spec in self._all_specs(caller) if not spec.by_client]

    async def list(self, ctx: Context, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        """The tools that this caller may use, on one page."""
        return types.ListToolsResult(tools=[render_tool(spec) for spec in self._specs(_caller(ctx))])

    async def call(
        self, ctx: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Run a call; refusals and failures are results with `isError`, as a model can act on them.

        Raises:
            MCPError: the request itself is wrong (no such tool, unusable `_meta` or arguments), or a fault of ours.
        """
        caller = _caller(ctx)
        if all(spec.name != params.name for spec in self._specs(caller)):
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
        try:
            if params.request_state is not None:
                return await self._answered(caller, params)
            ended = await self._run(caller, ctx, params)
            return _shown(ended) if ended.asked is None else await self._confirmed(ctx, caller, ended, ended.asked)
        except OutcropError as error:
            return _failed(error.code, error.user_hint, error.retryable)
        except MCPError:
            raise
        except Exception as error:  # the SDK would show the client what the exception says
            log.exception("mcp_call_crashed", tool=params.name)
            raise MCPError(types.INTERNAL_ERROR, OutcropError.user_hint) from error

    async def _run(self, caller: Principal, ctx: Context, params: types.CallToolRequestParams) -> _Ended:
        """The call as a turn; the same turn for a request that is sent again."""
        session = _http(ctx).headers.get("mcp-session-id")
        conversation_id, key = _named(params)
        external_id, line = None, conversation_id
        if session and conversation_id is None:
            external_id = f"mcp:{session}"
            line = conversation_of(caller, external_id)
        if key is None and session:
            key = f"mcp:{sha256(f'{session}:{ctx.request_id!r}'.encode()).hexdigest()}"  # an id may be any text
        request = TurnRequest(
            text=f"MCP: {params.name}",
            conversation_id=conversation_id,
            idempotency_key=key,
            external_id=external_id,
            call=DirectCall(params.name, _plain(params.arguments or {})),
        )
        return await self._in_line(caller, line, partial(self._service.submit, caller, request))

    async def _confirmed(
        self, ctx: Context, caller: Principal, ended: _Ended, asked: ConfirmationRequired
    ) -> types.CallToolResult | types.InputRequiredResult:
        """What a person says to the question, carried out."""
        conversation_id = ended.turn.conversation_id
        if (before := await self._service.decided(caller, conversation_id, asked.pending_id)) is not None:
            return _shown(await _ended(before))
        question = _question(ended, asked)
        if not _can_ask(ctx):
            return _unconfirmed(ended, asked, f"Nothing was done yet. {question} A person has to answer.")
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            return types.InputRequiredResult(
                input_requests={QUESTION: _elicitation(question)},
                request_state=f"{conversation_id}:{asked.pending_id}",
            )
        answer = await _elicited(ctx, question)
        if answer is None:
            return _unconfirmed(ended, asked, f"Nobody answered, so nothing was done yet. {question}")
        return await self._decide(caller, conversation_id, Decision(asked.pending_id, _is_yes(answer)))

    async def _answered(self, caller: Principal, params: types.CallToolRequestParams) -> types.CallToolResult:
        """The second request of a call that had to ask. What runs is what was stored, whatever it now says."""
        try:
            conversation_id, pending_id = (UUID(part) for part in (params.request_state or "").split(":"))
        except ValueError as error:
            raise MCPError(types.INVALID_PARAMS, "requestState: send it back as it came") from error
        answer = (params.input_responses or {}).get(QUESTION)
        if not isinstance(answer, types.ElicitResult):
            raise MCPError(types.INVALID_PARAMS, f"inputResponses.{QUESTION}: the person's answer is missing")
        return await self._decide(caller, conversation_id, Decision(pending_id, _is_yes(answer)))

    async def _decide(self, caller: Principal, conversation_id: UUID, decision: Decision) -> types.CallToolResult:
        start = partial(self._service.decide, caller, conversation_id, decision)
        return _shown(await self._in_line(caller, conversation_id, start))

    async def _in_line(
        self, caller: Principal, conversation_id: UUID | None, start: Callable[[], Awaitable[Turn]]
    ) -> _Ended:
        """Run a turn when those before it in its conversation are over; None: it has a conversation of its own.

        A conversation has one turn at a time. Once begun, a turn is seen through to its end, also when the client
        takes its request back: the next one must not meet it.
        """
        name = (caller.tenant, caller.subject, conversation_id or uuid7())
        place = self._lines.setdefault(name, _Line())
        if place.waiting >= MOST_WAITING:
            raise TooManyTurns(f"{place.waiting} calls wait in one conversation")
        place.waiting += 1
        try:
            await place.free.acquire()
        finally:
            place.waiting -= 1
        task = asyncio.create_task(_through(place, start))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)


async def _through(place: _Line, start: Callable[[], Awaitable[Turn]]) -> _Ended:
    try:
        return await _ended(await start())
    finally:
        place.free.release()


async def _ended(turn: Turn) -> _Ended:
    """Wait for a turn's end and take from its events what a caller of one tool needs."""
    result: ToolFinished | None = None
    asked: ConfirmationRequired | None = None
    for frame in await turn.finished():
        match frame.event:
            case ToolFinished() as call:
                result = call
            case ConfirmationRequired() as question:
                asked = question
            case TurnCompleted() | TurnFailed() | TurnCancelled() as end:
                return _Ended(turn, result, asked, end)
    raise RuntimeError(f"turn {turn.turn_id} has no end")


def _http(ctx: Context) -> Request:
    assert isinstance(ctx.request, Request)  # this transport has no request without one
    return ctx.request


def _caller(ctx: Context) -> Principal:
    caller: Principal = _http(ctx).scope[CALLER]
    return caller


def _named(params: types.CallToolRequestParams) -> tuple[UUID | None, str | None]:
    """The conversation and the idempotency key that a client names in `_meta`."""
    meta: Any = params.meta or {}
    conversation, key = meta.get(CONVERSATION), meta.get(KEY)
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= 200 and key.isascii() and key.isprintable()):
        raise MCPError(types.INVALID_PARAMS, f"_meta {KEY}: 1 to 200 printable ASCII characters")
    try:
        return (None if conversation is None else UUID(conversation)), key
    except (ValueError, AttributeError, TypeError) as error:
        raise MCPError(types.INVALID_PARAMS, f"_meta {CONVERSATION}: not a session id") from error


def _plain(args: JsonObject) -> JsonObject:
    """Arguments as they can be stored."""
    try:
        encoded = orjson.dumps(args)
    except TypeError as error:
        raise MCPError(types.INVALID_PARAMS, f"arguments: {error}") from error
    if b"\\u0000" in encoded:
        raise MCPError(types.INVALID_PARAMS, "arguments: the character U+0000 cannot be used")
    plain: JsonObject = orjson.loads(encoded)
    return plain


def render_tool(spec: ToolSpec) -> types.Tool:
    """A tool as clients list it."""
    title = spec.name.replace("_", " ").capitalize()
    hints = types.ToolAnnotations(
        title=title,
        read_only_hint=spec.effect == "read",
        destructive_hint=spec.effect == "gated",
        idempotent_hint=False,
    )
    return types.Tool(
        name=spec.name, title=title, description=spec.description, input_schema=spec.parameters, annotations=hints
    )


# --- the question ---------------------------------------------------------------------------------------------------


def _can_ask(ctx: Context) -> bool:
    """Whether the client said that it can put a form to a person."""
    capabilities = ctx.session.client_capabilities
    able = capabilities.elicitation if capabilities else None
    return able is not None and (able.form is not None or able.url is None)


def _question(ended: _Ended, asked: ConfirmationRequired) -> str:
    """The restatement and the question, in code's own words."""
    return ended.end.text if isinstance(ended.end, TurnCompleted) and ended.end.text else asked.summary


def _elicitation(question: str) -> types.ElicitRequest:
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=question, requested_schema=ANSWER_SCHEMA))


async def _elicited(ctx: Context, question: str) -> types.ElicitResult | None:
    """Ask through the client; None when nobody answers in time, or the client answers with an error or nonsense."""
    try:
        with anyio.fail_after(ANSWER_S):
            return await ctx.session.elicit_form(question, ANSWER_SCHEMA, related_request_id=ctx.request_id)
    except (TimeoutError, MCPError, ValidationError) as error:
        log.info("mcp_question_unanswered", error=repr(error))
        return None


def _is_yes(answer: types.ElicitResult) -> bool:
    """Only an explicit yes is one."""
    return answer.action == "accept" and (answer.content or {}).get("confirm") is True


# --- results --------------------------------------------------------------------------------------------------------


def _shown(ended: _Ended) -> types.CallToolResult:
    """The result of the call that a turn made, or why it made none."""
    if isinstance(ended.end, TurnFailed):
        return _failed(ended.end.code, ended.end.user_hint, ended.end.retryable, ended.turn)
    if isinstance(ended.end, TurnCancelled):
        return _failed("turn_cancelled", "The call was stopped.", True, ended.turn)
    if ended.result is None:
        return _failed("declined", "The answer was no. Nothing was done.", False, ended.turn)
    return _result(ended.result.result, ended.result.status != "ok", ended.turn)


def _unconfirmed(ended: _Ended, asked: ConfirmationRequired, hint: str) -> types.CallToolResult:
    """The refusal that says where a person can answer."""
    ids = {"session_id": str(ended.turn.conversation_id), "pending_id": str(asked.pending_id)}
    data = {
        "ok": False,
        "code": "confirmation_required",
        "user_hint": hint,
        "retryable": False,
        "summary": asked.summary,
        **ids,
        "expires_at": asked.expires_at.isoformat(),
        "confirm_with": {
            "page": f"/#/conversations/{ended.turn.conversation_id}",
            "method": "POST",
            "path": "/api/v1/chat/confirm",
            "body": {**ids, "decision": "confirm"},
        },
    }
    return _result(data, True, ended.turn)


def _failed(code: str, hint: str, retryable: bool, turn: Turn | None = None) -> types.CallToolResult:
    return _result({"ok": False, "code": code, "user_hint": hint, "retryable": retryable}, True, turn)


def _result(data: JsonObject, is_error: bool, turn: Turn | None) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(text=orjson.dumps(data).decode())],
        structured_content=data,
        is_error=is_error,
        _meta={CONVERSATION: str(turn.conversation_id), TURN: str(turn.turn_id)} if turn else None,
    )
