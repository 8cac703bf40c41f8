"""Tools that are Lambda functions: our own groups, and action groups that somebody wrote for Bedrock Agents."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import orjson

from tools.action import Action, by_name
from tools.breaker import Breaker
from tools.contract import (
    JsonObject,
    Offered,
    Prepared,
    TooEarly,
    ToolContext,
    ToolError,
    ToolResult,
    UnknownTool,
)
from tools.effects import UNKNOWN_HINT
from tools.errors import BY_CODE, LATE, NO_TIME, ActionFailed, OutcomeUncertain, UnknownOutcome, UpstreamUnavailable
from tools.executors.documents import read_functions, read_openapi
from tools.executors.failures import TRACE, report
from tools.executors.lambda_wire import Invoked, LambdaWire, Misconfigured
from tools.executors.mounted import (
    BROKEN,
    BadAnswer,
    ForeignTool,
    MountedTool,
    TooMuch,
    answered,
)
from tools.lambda_events import (
    MAX_RESPONSE_BYTES,
    Answer,
    BadResponse,
    Operation,
    Session,
    event_for,
    read_response,
)
from tools.lambda_handler import IDENTITY_ATTRIBUTES, OPERATION, STATE, attributes_of
from tools.projects import forget_projects

AGENT = {"name": "outcrop", "id": "OUTCROP", "alias": "OUTCROP", "version": "1"}
MAX_ATTRIBUTES_BYTES = 8_192
_ATTRIBUTES, _PROMPT_ATTRIBUTES = "session_attributes", "prompt_attributes"
# The function was ended from outside.
_CUT_OFF = re.compile(rb'"(?:Sandbox\.Timedout|Runtime\.(?:ExitError|OutOfMemory))"')
# Errors of Lambda's runtime itself, before any line of the handler.
_NEVER_RAN = re.compile(
    rb'"Runtime\.(?:HandlerNotFound|ImportModuleError|MalformedHandlerName|UserCodeSyntaxError|InvalidEntrypoint)"'
)


class FunctionCrashed(OutcomeUncertain):
    """The function's code ended with an error. Nothing of it is under way; what it had done by then nobody knows."""


class OwnLambda:
    """An `Executor`: one of our groups, deployed as a function. Arguments are checked here, before it is called."""

    def __init__(
        self, group: str, actions: Iterable[Action], wire: LambdaWire, breaker: Breaker, *, timeout_s: float
    ) -> None:
        self.name = "lambda"
        self._group = group
        self._actions = by_name(each for each in actions if each.spec.group == group)
        self._wire = wire
        self._breaker = breaker
        self._timeout_s = timeout_s

    async def open(self) -> None:
        """Find out how to reach the function; it is not called."""
        await self._wire.open()

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()

    def offered(self) -> Sequence[Offered]:
        """The group's actions."""
        return [Offered(each.spec, each.roles) for each in self._actions.values()]

    async def prepare(self, name: str, args: JsonObject, ctx: ToolContext) -> Prepared:
        """As in the process. What only needs the arguments happens here, what needs upstream in the function."""
        action = self._action(name, ctx)
        values = action.read(args)
        if action.prepare is None and not action.resolved:
            session = {each: getattr(ctx.identity, each) for each in action.from_session}
            return Prepared(action.spec, action.dump({**values, **session}))
        body = await self._step("prepare", action, args, action.spec.parameters, ctx)
        if body.get("raised"):
            _raise_again(body)
        effective, restatement = body.get("args"), body.get("restatement")
        if not isinstance(effective, dict) or not isinstance(restatement, dict):
            raise BadAnswer(BROKEN)
        action.bind(effective, ctx.identity)  # what comes back must still be this caller's
        return Prepared(action.spec, effective, restatement)

    async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        """Run it in the function, once. An effect without an answer is looked for there, and never sent again."""
        try:
            action = self._action(prepared.spec.name, ctx)
            action.bind(prepared.args, ctx.identity)
            try:
                return _result(await self._step("execute", action, prepared.args, action.effective_schema, ctx))
            except OutcomeUncertain as error:
                if action.spec.effect == "read":
                    raise
                report(self._group, action.name, error)
                return await self._looked_for(action, prepared.args, ctx, crashed=isinstance(error, FunctionCrashed))
        except ToolError as error:
            report(self._group, prepared.spec.name, error)
            return error.result()

    async def _looked_for(self, action: Action, args: JsonObject, ctx: ToolContext, *, crashed: bool) -> ToolResult:
        """How an effect ended whose answer is missing. A function that is late may still carry it out."""
        try:
            found = await self._read_back(action.name, args, ctx)
        except ToolError as error:
            raise UnknownOutcome(UNKNOWN_HINT) from error
        if found is not None:
            return found
        if crashed:
            raise ActionFailed("That did not work, and nothing was changed.")
        raise UnknownOutcome(UNKNOWN_HINT)

    async def reconcile(self, name: str, args: JsonObject, ctx: ToolContext) -> ToolResult | None:
        """Have the function read back whether it happened.

        A function goes on when its caller has died: until its time is over, and the last thing that it sent carried
        out, only what was done is certain. Before that, `TooEarly`.
        """
        began = time.monotonic()
        found = await self._read_back(name, args, ctx)
        if ctx.quiet_seconds is None or (found is not None and found.status != "error"):
            return found
        still_s = self._timeout_s + ctx.write_seconds - ctx.quiet_seconds
        if still_s > 0:
            raise TooEarly(max(0.0, began + still_s - time.monotonic()))
        return found

    async def _read_back(self, name: str, args: JsonObject, ctx: ToolContext) -> ToolResult | None:
        action = self._action(name, ctx)
        action.bind(args, ctx.identity)
        body = await self._step("reconcile", action, args, action.effective_schema, ctx)
        if body.get("raised"):
            _raise_again(body)
        return None if body["status"] == "absent" else _result(body)

    async def _step(
        self, operation: str, action: Action, args: JsonObject, schema: JsonObject, ctx: ToolContext
    ) -> JsonObject:
        """One step in the function; its body, `{status, data, ...}`."""
        # An effect that is under way is waited for to its own limit: what it did must be known.
        reads = action.spec.effect == "read" or operation == "prepare"
        seconds = ctx.seconds_left(self._timeout_s) if reads else self._timeout_s
        if ctx.seconds_left(seconds) <= 0:
            raise UpstreamUnavailable(NO_TIME)
        if action.spec.effect != "read":
            forget_projects(ctx)  # what it changes, or has changed, is unknown here when no answer comes
        attributes = await _own_attributes(ctx)
        session = Session(ctx.conversation_id, ctx.said, attributes, _step_attributes(operation, ctx), AGENT)
        event = event_for(Operation(self._group, action.name), args, schema, session)
        answer = await invoked(self._wire, event, seconds, self._breaker)
        if answer.attributes and (kept := answer.attributes.get(STATE)):
            _take_state(ctx, kept)
        body = answer.body
        if not isinstance(body, dict) or body.get("status") not in ("ok", "error", "unknown", "absent"):
            raise BadAnswer(BROKEN)
        return body

    def _action(self, name: str, ctx: ToolContext) -> Action:
        action = self._actions.get(name)
        if action is None or ctx.identity.role not in action.roles:
            raise UnknownTool("That is not something I can do here.")
        return action


class ForeignLambda:
    """A `Transport`: an action-group function that somebody wrote for Bedrock Agents, called as Bedrock calls it."""

    def __init__(
        self,
        group: str,
        wire: LambdaWire,
        *,
        functions: Path | None = None,
        openapi: Path | None = None,
        session: Mapping[str, str] | None = None,
    ) -> None:
        self._group = group
        self._wire = wire
        self._functions = functions
        self._openapi = openapi
        self._session = session

    async def open(self) -> Sequence[ForeignTool]:
        """Read its schema; the function is not called."""
        await self._wire.open()
        if self._functions is not None:
            return read_functions(self._functions)
        return read_openapi(self._openapi).tools if self._openapi is not None else []

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()

    async def send(self, tool: MountedTool, args: JsonObject, ctx: ToolContext) -> ToolResult:
        """One event, one answer; see `Transport.send`."""
        session = Session(
            ctx.conversation_id, ctx.said, self._attributes(ctx), _prompt_attributes(ctx, self._group), AGENT
        )
        event = event_for(self._operation(tool), args, tool.foreign.parameters, session)
        answer = read_answer(await self._wire.invoke(orjson.dumps(event), MAX_RESPONSE_BYTES))
        self._keep_attributes(answer, ctx)
        return _meaning(answer, tool)

    def _operation(self, tool: MountedTool) -> Operation:
        route = tool.foreign.route
        if route is None:
            return Operation(self._group, function=tool.foreign.name)
        return Operation(self._group, path=route.path, method=route.method, places=route.places, names=route.names)

    def _attributes(self, ctx: ToolContext) -> dict[str, str]:
        """What the function kept in the session, and who the caller is; the latter always wins."""
        kept = ctx.state.values.get(_ATTRIBUTES, {}).get(self._group, {})
        return {**kept, **self._own(ctx)}

    def _own(self, ctx: ToolContext) -> dict[str, str]:
        if self._session is None:
            return attributes_of(ctx)
        named = {name: getattr(ctx.identity, attribute) for name, attribute in self._session.items()}
        return {name: str(value) for name, value in named.items() if value is not None}

    def _keep_attributes(self, answer: Answer, ctx: ToolContext) -> None:
        if answer.prompt_attributes is not None:
            told = {name: value for name, value in answer.prompt_attributes.items() if name != "effect_key"}
            ctx.state.turn_values.setdefault(_PROMPT_ATTRIBUTES, {})[self._group] = told
        if answer.attributes is None:
            return
        own = {*(self._session or ()), *IDENTITY_ATTRIBUTES}
        kept = {name: value for name, value in answer.attributes.items() if name not in own}
        if len(orjson.dumps(kept)) <= MAX_ATTRIBUTES_BYTES:
            ctx.state.values.setdefault(_ATTRIBUTES, {})[self._group] = kept


async def invoked(wire: LambdaWire, event: JsonObject, seconds: float, breaker: Breaker) -> Answer:
    """Call a function of ours under a breaker and a deadline, and read what it answered."""
    async with breaker.guard(UpstreamUnavailable):
        try:
            async with asyncio.timeout(seconds):
                result = await wire.invoke(orjson.dumps(event), MAX_RESPONSE_BYTES)
        except TimeoutError as late:
            raise OutcomeUncertain(LATE) from late
        return read_answer(result)


def read_answer(result: Invoked) -> Answer:
    """The answer of a function that ended well; `BadAnswer`, `TooMuch` or `FunctionCrashed` otherwise."""
    if result.error is not None:
        # What a function had sent when it was stopped, or killed, may still be carried out.
        crash: type[ToolError] = BadAnswer if _CUT_OFF.search(result.body) else FunctionCrashed
        if _NEVER_RAN.search(result.body):
            crash = Misconfigured
        raise crash(BROKEN) from RuntimeError(result.body[:2000].decode(errors="replace"))
    if len(result.body) > MAX_RESPONSE_BYTES:
        raise TooMuch(MAX_RESPONSE_BYTES)
    try:
        return read_response(json.loads(result.body))
    except (ValueError, BadResponse) as error:
        raise BadAnswer(BROKEN) from error


def _meaning(answer: Answer, tool: MountedTool) -> ToolResult:
    """What a foreign function's answer means for the model."""
    body = answer.body
    if TRACE.search(body if isinstance(body, str) else json.dumps(body)):
        raise BadAnswer(BROKEN)
    if answer.state == "FAILURE":
        raise ActionFailed("That did not work.", said=_short(body))
    if answer.state == "REPROMPT" and tool.spec.effect != "read" and tool.config.reprompt != "ok":
        # "Give this to the model" says nothing of whether it was done; public functions say it after both.
        if tool.config.reprompt == "error":
            raise ActionFailed("That was not done yet.", said=_short(body))
        raise UnknownOutcome(UNKNOWN_HINT, said=_short(body))
    if answer.http_status >= 500:
        raise OutcomeUncertain(BROKEN)
    if answer.http_status >= 400:
        told = body if isinstance(body, dict) else {"said": _short(body)}
        hint = "That was not accepted."
        return ToolResult(
            "error",
            {**told, "ok": False, "code": "refused", "user_hint": hint, "retryable": False},
            answer.http_status,
        )
    return answered(body)


def _short(body: Any) -> str:
    return (body if isinstance(body, str) else json.dumps(body, ensure_ascii=False))[:500]


def _result(body: JsonObject) -> ToolResult:
    data, status = body.get("data"), body.get("upstream_status")
    if not isinstance(data, dict):
        raise BadAnswer(BROKEN)
    return ToolResult(body["status"], data, status if isinstance(status, int) else None)


def _raise_again(body: JsonObject) -> NoReturn:
    """The refusal that the function met, with its code and facts."""
    data = body.get("data")
    if not isinstance(data, dict):
        raise BadAnswer(BROKEN)
    kind = BY_CODE.get(str(data.get("code")))
    if kind is None:
        raise MetThere(data)
    facts = {key: value for key, value in data.items() if key not in ("ok", "code", "user_hint", "retryable")}
    raise kind(str(data.get("user_hint", "")), **facts)


class MetThere(ToolError):
    """A refusal that the function met; its code and facts are those of the result."""

    def __init__(self, data: JsonObject) -> None:
        super().__init__(str(data.get("user_hint", "")))
        self._data = data

    def result(self) -> ToolResult:
        """As the function gave it."""
        return ToolResult("error", self._data)


async def _own_attributes(ctx: ToolContext) -> dict[str, str]:
    """The caller, the tools' working state, and the caller's token, which only a function of ours gets."""
    state = {key: value for key, value in ctx.state.values.items() if key != _ATTRIBUTES}
    attributes = {**attributes_of(ctx), STATE: json.dumps(state, ensure_ascii=False, separators=(",", ":"))}
    token = await ctx.pf360.token() if ctx.pf360 is not None else ""
    return {**attributes, "authorization": f"Bearer {token}"} if token else attributes


def _step_attributes(operation: str, ctx: ToolContext) -> dict[str, str]:
    attributes = {OPERATION: operation, "current_time": ctx.clock.now().isoformat()}
    if ctx.effect_key:
        attributes["effect_key"] = ctx.effect_key
    if ctx.effect_at is not None:
        attributes["effect_at"] = ctx.effect_at.isoformat()
    return attributes


def _prompt_attributes(ctx: ToolContext, group: str) -> dict[str, str]:
    kept = ctx.state.turn_values.get(_PROMPT_ATTRIBUTES, {}).get(group, {})
    return {**kept, "effect_key": ctx.effect_key} if ctx.effect_key else dict(kept)


def _take_state(ctx: ToolContext, kept: str) -> None:
    """The working state as the function left it."""
    try:
        values = json.loads(kept)
    except ValueError as error:
        raise BadAnswer(BROKEN) from error
    if not isinstance(values, dict):
        raise BadAnswer(BROKEN)
    attributes = ctx.state.values.get(_ATTRIBUTES)
    ctx.state.values.clear()
    ctx.state.values.update(values)
    if attributes is not None:
        ctx.state.values[_ATTRIBUTES] = attributes
    ctx.state.generation += 1
