"""Tools that somebody else wrote, whichever way they are reached: checked, bounded, and answered for here.

A transport only sends one call and reads its answer. Everything that must hold for all of them stands in `Mounted`:
arguments are checked against the tool's schema before anything is sent, values of the session are filled in and never
taken from a model, each call has a deadline and a breaker, and an effect of which nobody knows is `unknown`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry

from tools.action import SESSION_ONLY
from tools.breaker import Breaker
from tools.contract import (
    Identity,
    InvalidArguments,
    JsonObject,
    Offered,
    Prepared,
    ToolContext,
    ToolError,
    ToolResult,
    ToolSpec,
    UnknownTool,
)
from tools.effects import UNKNOWN_HINT
from tools.errors import (
    LATE,
    NO_TIME,
    ActionFailed,
    OutcomeUncertain,
    RateLimited,
    ResultTooLarge,
    Unanswered,
    UnknownOutcome,
    UpstreamUnavailable,
)
from tools.executors.config import ExecutorError, ToolConfig, _Mounted
from tools.executors.failures import report
from tools.values import fitted, leads_somewhere, types_of

MAX_RESULT_BYTES = 65_536
BROKEN = "The system that does this gave an answer that cannot be used."


class BadAnswer(OutcomeUncertain):
    """An answer came and cannot be used: garbage, or more of it than a result may hold. A change may have happened."""

    code = "bad_answer"
    retryable = False


@dataclass(frozen=True, slots=True)
class ForeignTool:
    """A tool as its document describes it. `parameters` is the JSON Schema of an object, whole."""

    name: str
    description: str
    parameters: JsonObject
    route: Any = None  # what the transport needs to find it
    needs_yes: bool = False  # its own document asks for a confirmation


@dataclass(frozen=True)
class MountedTool:
    """A foreign tool as we offer it."""

    foreign: ForeignTool
    spec: ToolSpec
    roles: frozenset[str]
    config: ToolConfig
    from_session: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def validator(self) -> Any:
        """Checks effective arguments."""
        # An empty registry: the default one fetches what a `$ref` names.
        return Draft202012Validator(self.foreign.parameters, registry=Registry())

    def session_values(self, identity: Identity) -> JsonObject:
        """What the session fills in; what it does not hold is left out."""
        values = {name: getattr(identity, attribute) for name, attribute in self.from_session.items()}
        return {name: value for name, value in values.items() if value is not None}


class Transport(Protocol):
    """One way to reach tools of others."""

    async def open(self) -> Sequence[ForeignTool]:
        """Connect as far as needed, and tell what is there; raises `ExecutorError`."""
        ...

    async def close(self) -> None:
        """Give everything back."""
        ...

    async def send(self, tool: MountedTool, args: JsonObject, ctx: ToolContext) -> ToolResult:
        """Make one call; its result, `ok` or `error`.

        Raises `UpstreamUnavailable` when it surely was not carried out, `OutcomeUncertain` when it was sent and no
        usable answer came, other `ToolError`s for refusals. Time limits and breakers are the caller's.
        """
        ...


class Mounted:
    """An `Executor` over one transport."""

    def __init__(
        self,
        group: str,
        config: _Mounted,
        transport: Transport,
        breaker: Breaker | Callable[[ToolContext], Breaker],
        *,
        name: str,
    ) -> None:
        """`breaker` is that of the upstream, or says which one guards a call where there are several."""
        self.name = name
        self._group = group
        self._config = config
        self._transport = transport
        self._breaker = breaker
        self._tools: dict[str, MountedTool] = {}

    async def open(self) -> None:
        """Fetch the tools; `ExecutorError` names what of the definition does not fit them."""
        found = {each.name: each for each in await self._transport.open()}
        wanted = (*self._config.only, *self._config.tools)
        if missing := [name for name in wanted if name not in found]:
            known = ", ".join(sorted(found)) or "none"
            raise ExecutorError(
                f"action group {self._group}: there is no tool {', '.join(missing)} to mount; there are: {known}"
            )
        offered = [each for name, each in found.items() if not self._config.only or name in self._config.only]
        mounted = [self._mounted(each) for each in offered]
        self._tools = {each.spec.name: each for each in mounted}
        if len(self._tools) < len(mounted):
            raise ExecutorError(f"action group {self._group}: two tools would have the same name; set `name` for one")

    async def close(self) -> None:
        """Close the transport."""
        await self._transport.close()

    def offered(self) -> Sequence[Offered]:
        """The mounted tools."""
        return [Offered(each.spec, each.roles) for each in self._tools.values()]

    def configs(self) -> Mapping[str, ToolConfig]:
        """What the definition says of each tool, by the name it is offered under."""
        return {name: each.config for name, each in self._tools.items()}

    def _mounted(self, foreign: ForeignTool) -> MountedTool:
        config = self._config.tools.get(foreign.name, ToolConfig())
        try:
            Draft202012Validator.check_schema(foreign.parameters)
        except SchemaError as error:
            raise ExecutorError(
                f"action group {self._group}: the schema of {foreign.name} is no JSON Schema: {error.message}"
            ) from error
        if outside := sorted(_dangling(foreign.parameters, foreign.parameters)):
            raise ExecutorError(
                f"action group {self._group}: the schema of {foreign.name} refers to {', '.join(outside)}, which is "
                "not in it; nothing is fetched, so put it under $defs"
            )
        properties = foreign.parameters.get("properties", {})
        session: dict[str, str] = {"customer_id": "customer_id"} if "customer_id" in properties else {}
        session.update(config.from_session)
        if unknown := [name for name in session if name not in properties]:
            raise ExecutorError(
                f"action group {self._group}: {foreign.name} has no argument {', '.join(unknown)} to fill in"
            )
        effect = config.effect or ("gated" if foreign.needs_yes else self._config.default_effect)
        spec = ToolSpec(
            name=config.name or f"{self._config.prefix}{model_name(foreign.name)}",
            description=config.description or foreign.description,
            parameters=_without(foreign.parameters, session),
            effect=effect,
            group=self._group,
            by_client=self.name == "client",
        )
        return MountedTool(foreign, spec, frozenset(self._config.roles), config, session)

    async def prepare(self, name: str, args: JsonObject, ctx: ToolContext) -> Prepared:
        """Check what a model supplied against the schema, and fill in what the session holds."""
        tool = self._tool(name, ctx)
        own = tool.foreign.parameters.get("properties", {})  # a `request_id` of theirs is none of ours
        if taken := [each for each in args if each in tool.from_session or (each in SESSION_ONLY and each not in own)]:
            raise InvalidArguments(
                "Some details are filled in from the signed-in session and cannot be given.",
                errors=[{"field": each, "message": "is filled in by the session; leave it out"} for each in taken],
            )
        schema = tool.foreign.parameters
        given = {
            key: fitted(value, schema.get("properties", {}).get(key, {}), schema)
            for key, value in args.items()
            if value is not None or not _null_is_nothing(key, schema)
        }
        effective = {**given, **tool.session_values(ctx.identity)}
        _check(tool, effective)
        return Prepared(spec=tool.spec, args=effective)

    async def execute(self, prepared: Prepared, ctx: ToolContext) -> ToolResult:
        """Send it once; an effect of which nobody knows whether it happened is `unknown`."""
        try:
            return await self._run(self._tool(prepared.spec.name, ctx), prepared.args, ctx)
        except ToolError as error:
            report(self._group, prepared.spec.name, error)
            return error.result()

    async def reconcile(self, name: str, args: JsonObject, ctx: ToolContext) -> ToolResult | None:
        """Ask again under the same key where that is safe: by the definition (`idempotent`), or because a client is
        asked once whatever happens; else nobody can tell."""
        tool = self._tool(name, ctx)
        if not tool.config.idempotent and not tool.spec.by_client:
            raise UnknownOutcome(UNKNOWN_HINT)
        result = await self._run(tool, args, ctx)
        return result if tool.spec.by_client else _of_a_repeat(result)

    async def _run(self, tool: MountedTool, args: JsonObject, ctx: ToolContext) -> ToolResult:
        _refuse_strangers(tool, args, ctx.identity)
        try:
            return await self._send(tool, args, ctx)
        except OutcomeUncertain as error:
            if tool.spec.effect == "read":
                raise
            if not tool.config.idempotent:
                raise UnknownOutcome(UNKNOWN_HINT) from error
        try:
            return _of_a_repeat(await self._send(tool, args, ctx))
        except (UpstreamUnavailable, RateLimited, ActionFailed) as error:
            raise UnknownOutcome(UNKNOWN_HINT) from error

    async def _send(self, tool: MountedTool, args: JsonObject, ctx: ToolContext) -> ToolResult:
        # An effect that is under way is waited for to its own limit: what it did must be known.
        reads = tool.spec.effect == "read"
        seconds = ctx.seconds_left(self._config.timeout_s) if reads else self._config.timeout_s
        if ctx.seconds_left(seconds) <= 0:
            raise UpstreamUnavailable(NO_TIME)
        breaker = self._breaker if isinstance(self._breaker, Breaker) else self._breaker(ctx)
        async with breaker.guard((UpstreamUnavailable, Unanswered)):
            try:
                async with asyncio.timeout(seconds):
                    result = await self._transport.send(tool, args, ctx)
            except TimeoutError as late:
                raise OutcomeUncertain(LATE) from late
            return bounded(result)

    def _tool(self, name: str, ctx: ToolContext) -> MountedTool:
        tool = self._tools.get(name)
        if tool is None or ctx.identity.role not in tool.roles:
            raise UnknownTool("That is not something I can do here.")
        return tool


def _of_a_repeat(result: ToolResult) -> ToolResult:
    """The answer to a call that was sent before. A refusal may be because of that call, done or still under way."""
    if result.status == "error":
        raise UnknownOutcome(UNKNOWN_HINT)
    return result


def answered(data: Any, *, status: int | None = None) -> ToolResult:
    """An answer that came as a success; what is no JSON object stands under `result`. One may say itself that it is
    none: `{ok: false}`."""
    body = data if isinstance(data, dict) else {"result": data}
    if body.get("ok") is False:
        failure = {"code": "action_failed", "user_hint": "That did not work.", "retryable": False}
        return ToolResult("error", {**body, "ok": False, **failure}, status)
    return ToolResult("ok", {"ok": True, **body}, status)


def bounded(result: ToolResult, limit: int = MAX_RESULT_BYTES) -> ToolResult:
    """The result if a model may be shown all of it; `BadAnswer` or `ResultTooLarge` otherwise."""
    try:
        size = len(orjson.dumps(result.data))
    except TypeError as error:  # not JSON: a number of more than 64 bits, say
        raise BadAnswer(BROKEN) from error
    if size > limit:
        raise TooMuch(limit)
    return result


class TooMuch(BadAnswer):
    """As `ResultTooLarge`, for an upstream that does not keep to the limit."""

    code = ResultTooLarge.code

    def __init__(self, limit: int) -> None:
        super().__init__("The answer is too large to be shown. Ask for less of it.", limit_bytes=limit)


def model_name(name: str) -> str:
    """A name that every model accepts: letters, digits, `_` and `-`, at most 64."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name)
    return kept[:64] or "tool"


def _without(schema: JsonObject, names: Iterable[str]) -> JsonObject:
    """The schema as a model may see it."""
    hidden = set(names)
    shown = {
        "additionalProperties": False,
        **schema,
        "type": "object",
        "properties": {key: each for key, each in schema.get("properties", {}).items() if key not in hidden},
    }
    if "required" in schema:
        shown["required"] = [name for name in schema["required"] if name not in hidden]
    return shown


def _check(tool: MountedTool, args: JsonObject) -> None:
    known = tool.foreign.parameters.get("properties", {})
    surplus = [name for name in args if name not in known]
    problems = [{"field": name, "message": "is not an argument of this tool; leave it out"} for name in surplus]
    problems += [
        {"field": ".".join(map(str, error.absolute_path)) or _named_in(error), "message": error.message[:300]}
        for error in tool.validator.iter_errors({key: value for key, value in args.items() if key in known})
    ]
    if problems:
        raise InvalidArguments("Some details are missing or not in a usable form.", errors=problems)


def _dangling(node: Any, root: JsonObject) -> set[str]:
    """References that lead nowhere within the schema."""
    if isinstance(node, list):
        return {each for item in node for each in _dangling(item, root)}
    if not isinstance(node, dict):
        return set()
    reference = node.get("$ref")
    lost = isinstance(reference, str) and not (reference.startswith("#") and leads_somewhere(reference, root))
    return ({str(reference)} if lost else set()) | {each for value in node.values() for each in _dangling(value, root)}


def _null_is_nothing(name: str, schema: JsonObject) -> bool:
    """Whether null is a model's way to leave an argument out: it may be left out, and null is no value of it."""
    types = types_of(schema.get("properties", {}).get(name, {}), schema)
    return types is not None and "null" not in types and name not in schema.get("required", ())


def _named_in(error: Any) -> str:
    """The argument that a complaint about the whole object is about."""
    if error.validator == "required":
        return next((name for name in error.validator_value if name not in error.instance), "")
    return ""


def _refuse_strangers(tool: MountedTool, args: JsonObject, identity: Identity) -> None:
    """Stored arguments of another session are not run in this one."""
    own = tool.session_values(identity)
    if wrong := [name for name in tool.from_session if args.get(name) != own.get(name)]:
        raise InvalidArguments(
            "That request belongs to another session.",
            errors=[{"field": name, "message": "does not match the session"} for name in wrong],
        )
