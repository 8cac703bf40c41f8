"""A Lambda function over actions: what the handlers in `lambda/` are made of.

Bedrock calls it with what its model wrote, and the action is prepared and run. Outcrop's own executor says in
`outcrop_operation` which single step it wants (`prepare`, `execute`, `reconcile`), and gets the step's whole result.
Who the caller is comes from session attributes alone, which no model can set; an id that a model wrote as an argument
must be the session's own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import httpx

from tools.action import SESSION_ONLY, Action, by_name
from tools.contract import (
    Directory,
    Identity,
    InvalidArguments,
    JsonObject,
    Prepared,
    ToolContext,
    ToolError,
    ToolResult,
    ToolState,
    UnknownTool,
)
from tools.errors import ResultTooLarge
from tools.in_process import InProcess
from tools.knowledge.retrieve import retrieval
from tools.lambda_events import (
    MAX_RESPONSE_BYTES,
    BadEvent,
    Incoming,
    path_of,
    read_event,
    response_to,
    typed,
)
from tools.pf360.client import Pf360, Retries, TestMode, Timeouts

# Session attributes that carry no identity but the tools' own working state, and what must not be sent back.
STATE = "tool_state"
OPERATION = "outcrop_operation"
# Who the caller is; whatever else a session holds is the functions' own.
IDENTITY_ATTRIBUTES = frozenset(
    {
        "role", "customer_id", "customer_type", "client_id", "default_client_id", "client_name", "user_id",
        "user_authenticated", "total_clients", "available_clients", "authorization",
    }
)  # fmt: skip
ROLES = ("customer", "coordinator", "operator", "anonymous")
# Left out where there is no room: projects are read again then.
_TOO_BIG = ("projects",)
_HTTP = {"invalid_arguments": 400, "unknown_tool": 404, "not_found": 404, "upstream_unavailable": 502}


class NoCallbacks:
    """Callbacks are recorded by the backend, not by a function."""

    async def record(self, reason: str, summary: str, effect_key: str) -> str:
        """Not here; raises `UnknownTool`."""
        raise UnknownTool("That is not something I can do here.")


@dataclass(frozen=True, slots=True)
class EventClock:
    """The time that the event tells (`current_time` among the prompt's attributes), else real time."""

    told: datetime | None
    timezone: str

    def now(self) -> datetime:
        """Aware, in the deployment's zone."""
        return self.told or datetime.now(ZoneInfo(self.timezone))


@asynccontextmanager
async def tool_context(event: JsonObject, environ: Mapping[str, str]) -> AsyncIterator[ToolContext]:
    """What the tools may know of this event's caller. `environ` says where upstream is (`PF360_API_URL`), and
    where the documents are (`KNOWLEDGE_BASE_URL`).

    HTTP clients are opened here and not at import: each invocation has an event loop of its own.
    """
    directory = _directory(environ.get("DIRECTORY_JSON", "directory.json"))
    async with httpx.AsyncClient(trust_env=False) as client:
        yield context_of(event, environ, directory, client)


def context_of(
    event: JsonObject, environ: Mapping[str, str], directory: Directory, client: httpx.AsyncClient
) -> ToolContext:
    """The context of one event over a client that is open already."""
    session = read_event(event).session
    attributes, prompt = session.attributes, session.prompt_attributes
    told = prompt.get("current_time")
    token = attributes.get("authorization", "").removeprefix("Bearer ")
    timeouts = Timeouts(
        connect_s=float(environ.get("PF360_CONNECT_TIMEOUT_SECONDS", 3)),
        read_s=float(environ.get("PF360_READ_TIMEOUT_SECONDS", 8)),
        slow_s=float(environ.get("PF360_WRITE_TIMEOUT_SECONDS", 20)),
    )

    async def bearer() -> str:
        return token

    return ToolContext(
        identity=identity_of(attributes),
        directory=directory,
        clock=EventClock(_moment(told) if told else None, directory.timezone),
        state=ToolState(_json_object(attributes.get(STATE))),
        pf360=Pf360(
            environ.get("PF360_API_URL", ""),
            client,
            bearer,
            timeouts=timeouts,
            retries=Retries((float(environ.get("PF360_RETRY_PAUSE_SECONDS", 0.5)),)),
            test_mode=TestMode(
                confirm=environ.get("CONFIRM_SCHEDULE_FLAG") == "0",
                cancel=environ.get("CANCEL_SCHEDULE_FLAG") == "0",
            ),
        ),
        callbacks=NoCallbacks(),
        settle_seconds=float(environ.get("PF360_SETTLE_SECONDS", 10)),
        effect_key=prompt.get("effect_key", ""),
        effect_at=_moment(prompt["effect_at"]) if "effect_at" in prompt else None,
        conversation_id=session.session_id,
        said=session.input_text,
        knowledge=retrieval(environ, client),
    )


def identity_of(attributes: Mapping[str, str]) -> Identity:
    """The caller that the session attributes describe; anonymous without a `customer_id` or a staff role."""
    listed = json.loads(attributes.get("available_clients") or "[]")
    client_id = attributes.get("client_id") or attributes.get("default_client_id") or None
    customer_id = attributes.get("customer_id") or None
    role = attributes.get("role") or ("customer" if customer_id else "anonymous")
    kind = attributes.get("customer_type")
    return Identity(
        role=cast(Any, role if role in ROLES else "anonymous"),
        customer_id=customer_id,
        customer_type=cast(Any, kind if kind in ("B2B", "B2C") else None),
        client_id=client_id,
        clients=tuple(str(each["client_id"]) for each in listed) or ((client_id,) if client_id else ()),
        user_id=attributes.get("user_id") or None,
    )


def attributes_of(ctx: ToolContext) -> dict[str, str]:
    """Session attributes that describe a caller: the inverse of `identity_of`, without any credential."""
    who = ctx.identity
    known = [(each, ctx.directory.locations.get(each)) for each in who.clients]
    listed = [
        {"client_id": each, "client_name": found.name if found else "", "is_primary": each == who.client_id}
        for each, found in known
    ]
    own = ctx.directory.locations.get(who.client_id or "")
    values = {
        "role": who.role,
        "customer_id": who.customer_id,
        "customer_type": who.customer_type,
        "client_id": who.client_id,
        "client_name": own.name if own else None,
        "user_id": who.user_id,
        "user_authenticated": "false" if who.role == "anonymous" else "true",
        "total_clients": str(len(listed)),
        "available_clients": json.dumps(listed),
    }
    return {name: value for name, value in values.items() if value}


async def respond(event: JsonObject, actions: Iterable[Action], ctx: ToolContext) -> JsonObject:
    """Answer one event; raises `BadEvent` for what is none. Bugs pass through: Lambda counts them as errors."""
    call = read_event(event)
    known = by_name(actions)
    action = known.get(call.operation.function) or next(
        (each for name, each in known.items() if path_of(name) == call.operation.path), None
    )
    operation = call.session.prompt_attributes.get(OPERATION)
    if action is None:
        wanted = call.operation.function or call.operation.path
        raise BadEvent(f"action group {call.operation.group} has no action {wanted}")
    runner = InProcess(known.values())
    if operation is None:
        return _for_bedrock(call, action, await _called(runner, action, call, ctx), ctx)
    body = await _step(operation, runner, action, call, ctx)
    response = response_to(call, body, attributes={STATE: _state(ctx, whole=True)})
    if _size(response) > MAX_RESPONSE_BYTES:
        response = response_to(call, body, attributes={STATE: _state(ctx)})
    if _size(response) > MAX_RESPONSE_BYTES:
        done = body["status"] == "ok" and action.spec.effect != "read"
        status = "error" if body["status"] == "ok" and not done else body["status"]
        body = {"status": status, "data": _too_large(done)}
        response = response_to(call, body, attributes={STATE: _state(ctx)})
    return response


async def _called(runner: InProcess, action: Action, call: Incoming, ctx: ToolContext) -> ToolResult:
    """Prepared and run at one go, as Bedrock wants it; its own confirmation came first where the schema asks for it."""
    try:
        args = _without_own_ids(typed(call.arguments, action.spec.parameters), action, ctx.identity)
        prepared = await runner.prepare(action.name, args, ctx)
    except ToolError as error:
        return error.result()
    if action.spec.effect == "read":
        return await runner.execute(prepared, ctx)
    return await runner.execute(prepared, replace(ctx, effect_key=ctx.effect_key or _key(call, prepared.args)))


async def _step(operation: str, runner: InProcess, action: Action, call: Incoming, ctx: ToolContext) -> JsonObject:
    """One step for Outcrop: `{status, data, upstream_status?}`, for `prepare` with `args` and `restatement`."""
    try:
        if operation == "prepare":
            args = typed(call.arguments, action.spec.parameters)
            prepared = await runner.prepare(action.name, args, ctx)
            return {"status": "ok", "data": {}, "args": prepared.args, "restatement": prepared.restatement}
        args = typed(call.arguments, action.effective_schema)
        if operation == "reconcile":
            found = await runner.reconcile(action.name, args, ctx)
            return {"status": "absent", "data": {}} if found is None else _told(found)
        return _told(await runner.execute(Prepared(action.spec, args), ctx))
    except ToolError as error:
        return {**_told(error.result()), "raised": True}


def _told(result: ToolResult) -> JsonObject:
    return {"status": result.status, "data": result.data, "upstream_status": result.upstream_status}


def _for_bedrock(call: Incoming, action: Action, result: ToolResult, ctx: ToolContext) -> JsonObject:
    """The response that Bedrock reads. A refusal is information for the model, which gets the body at any status."""
    attributes = {**call.session.attributes, STATE: _state(ctx)}
    status = 200 if result.status == "ok" else _HTTP.get(str(result.data.get("code")), 400)
    response = response_to(call, result.data, http_status=status, attributes=attributes)
    if _size(response) > MAX_RESPONSE_BYTES:
        del attributes[STATE]
        response = response_to(call, result.data, http_status=status, attributes=attributes)
    if _size(response) > MAX_RESPONSE_BYTES:
        told = _too_large(result.status == "ok" and action.spec.effect != "read")
        response = response_to(call, told, http_status=status, attributes=attributes)
    return response


def _too_large(done: bool) -> JsonObject:
    """What is said in place of an answer that does not fit; that of a change must not sound like a failure."""
    error = ResultTooLarge(
        "The answer is too large to be shown. Ask for less of it.", limit_bytes=MAX_RESPONSE_BYTES
    ).result()
    return {**error.data, "ok": done}


def _without_own_ids(args: JsonObject, action: Action, identity: Identity) -> JsonObject:
    """Drop ids that only repeat what the session says; another customer's are refused before any upstream call."""
    known = action.spec.parameters["properties"]
    own = {"customer_id": identity.customer_id, "client_id": identity.client_id}
    foreign = [
        name
        for name, value in args.items()
        if name in SESSION_ONLY and name not in known and value not in ("", None) and str(value) != own.get(name)
    ]
    if foreign and foreign != ["request_id"]:
        raise InvalidArguments(
            "Some details are filled in from the signed-in session and cannot be given.",
            errors=[{"field": name, "message": "does not match the session; leave it out"} for name in foreign],
        )
    return {name: value for name, value in args.items() if name in known or name not in SESSION_ONLY}


def _key(call: Incoming, args: JsonObject) -> str:
    """Names an effect where nobody gave it a key: the same wish in the same session is the same effect."""
    meaning = [call.session.session_id, call.operation.function or call.operation.path, args]
    return sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def _state(ctx: ToolContext, *, whole: bool = False) -> str:
    kept = {key: value for key, value in ctx.state.values.items() if whole or key not in _TOO_BIG}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def _size(response: JsonObject) -> int:
    return len(json.dumps(response, ensure_ascii=False).encode())


def _json_object(text: str | None) -> JsonObject:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo("UTC"))


@lru_cache(maxsize=4)
def _directory(path: str) -> Directory:
    return Directory.from_json(json.loads(Path(path).read_text("utf-8")))
