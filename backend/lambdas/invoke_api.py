"""The Lambda API as its clients know it: Invoke, and the three reads that name functions. Plain ASGI.

Paths are taken apart before they are decoded: an ARN in a path is percent-encoded, and servers decode too early.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote
from uuid import uuid4

import orjson
from starlette.types import Receive, Scope, Send

from backend.lambdas.errors import (
    AccessDenied,
    InvalidParameter,
    InvalidRequestContent,
    LambdaError,
    RequestTooLarge,
    UnknownOperation,
)
from backend.lambdas.functions import VERSION, Function, resolve
from backend.lambdas.http import BodyTooLarge, Disconnected, Headers, answer, comes_from_here, header, read_body
from backend.lambdas.invocation import MAX_EVENT_BYTES, MAX_PAYLOAD_BYTES, Invocation, Outcome
from backend.lambdas.pool import Pool

INVOCATION_TYPES = ("RequestResponse", "Event", "DryRun")
MAX_CLIENT_CONTEXT = 3583  # bytes of base64, as AWS has it


class InvokeApi:
    """Answers for these functions; `pools` by function name."""

    def __init__(self, functions: Mapping[str, Function], pools: Mapping[str, Pool]) -> None:
        self._functions = functions
        self._pools = pools
        self._began = datetime.now(UTC)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; every refusal has the shape of the service's errors."""
        request_id = str(uuid4())
        headers: Headers = [(b"x-amzn-requestid", request_id.encode())]
        try:
            if not comes_from_here(scope):
                raise AccessDenied("This service answers to loopback names, and to no page of another origin.")
            await self._route(scope, receive, send, request_id, headers)
        except LambdaError as error:
            headers.append((b"x-amzn-errortype", error.code.encode()))
            await answer(send, error.status, json.dumps(error.body()).encode(), headers)
        except Disconnected:
            return

    async def _route(self, scope: Scope, receive: Receive, send: Send, request_id: str, headers: Headers) -> None:
        segments = [unquote(part) for part in scope["raw_path"].decode("latin-1").partition("?")[0].split("/")[1:]]
        match scope["method"], segments:
            case "POST", ["2015-03-31", "functions", name, "invocations"]:
                await self._invoke(name, scope, receive, send, request_id, headers)
            case "GET", ["2015-03-31", "functions"] | ["2015-03-31", "functions", ""]:
                listed = {"Functions": [self._configuration(function) for function in self._functions.values()]}
                await answer(send, 200, json.dumps(listed).encode(), headers)
            case "GET", ["2015-03-31", "functions", name]:
                found = {"Configuration": self._configuration(self._find(name, scope)[0]), "Tags": {}}
                await answer(send, 200, json.dumps(found).encode(), headers)
            case "GET", ["2015-03-31", "functions", name, "configuration"]:
                configuration = self._configuration(self._find(name, scope)[0])
                await answer(send, 200, json.dumps(configuration).encode(), headers)
            case _:
                raise UnknownOperation(
                    "Served here: Invoke, ListFunctions, GetFunction and GetFunctionConfiguration of 2015-03-31."
                )

    def _find(self, name: str, scope: Scope) -> tuple[Function, str | None]:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("Qualifier", [None])[0]
        return resolve(self._functions, name, given)

    async def _invoke(
        self, name: str, scope: Scope, receive: Receive, send: Send, request_id: str, headers: Headers
    ) -> None:
        function, qualifier = self._find(name, scope)
        kind = header(scope, b"x-amz-invocation-type") or "RequestResponse"
        if kind not in INVOCATION_TYPES:
            raise InvalidParameter(f"X-Amz-Invocation-Type {kind!r} is not one of {', '.join(INVOCATION_TYPES)}")
        limit = MAX_EVENT_BYTES if kind == "Event" else MAX_PAYLOAD_BYTES
        try:
            payload = await read_body(receive, limit)
        except BodyTooLarge as error:
            raise RequestTooLarge(
                f"{error.size_bytes} byte payload is too large for the {kind} invocation type (limit {limit} bytes)"
            ) from error
        if kind == "DryRun":
            await answer(send, 204, headers=headers)
            return
        invocation = Invocation(
            _json_of(payload), function.arn(qualifier), _client_context(scope), id=request_id
        )  # fmt: skip
        pool = self._pools[function.name]
        if kind == "Event":
            pool.enqueue(invocation)
            await answer(send, 202, headers=headers)
            return
        outcome = await pool.invoke(invocation)
        await answer(send, 200, outcome.payload, headers + _outcome_headers(outcome, header(scope, b"x-amz-log-type")))

    def _configuration(self, function: Function) -> dict[str, Any]:
        """What clients and their waiters read of a function; its environment is nobody's business."""
        return {
            "FunctionName": function.name,
            "FunctionArn": function.arn(),
            "Runtime": f"python{sys.version_info.major}.{sys.version_info.minor}",
            "Handler": function.handler,
            "Timeout": max(1, round(function.timeout_s)),
            "MemorySize": function.memory_mb,
            "LastModified": self._began.strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
            "Version": VERSION,
            "PackageType": "Zip",
            "State": "Active",
            "LastUpdateStatus": "Successful",
        }


def _json_of(payload: bytes) -> bytes:
    """The payload, checked; `{}` for none."""
    if not payload:
        return b"{}"
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestContent(f"Could not parse request body into json: {error}") from error
    return payload


def _client_context(scope: Scope) -> str | None:
    """The caller's context as JSON in ASCII, which a header can carry."""
    given = header(scope, b"x-amz-client-context")
    if not given:
        return None
    if len(given) > MAX_CLIENT_CONTEXT:
        raise InvalidRequestContent(f"The client context exceeds {MAX_CLIENT_CONTEXT} bytes")
    try:
        decoded = json.loads(base64.b64decode(given, validate=True))
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestContent("Client context must be a valid Base64-encoded JSON object.") from error
    if not isinstance(decoded, dict):
        raise InvalidRequestContent("Client context must be a valid Base64-encoded JSON object.")
    return json.dumps(decoded)


def _outcome_headers(outcome: Outcome, log_type: str | None) -> Headers:
    headers: Headers = [(b"x-amz-executed-version", VERSION.encode())]
    if outcome.failed:
        headers.append((b"x-amz-function-error", b"Unhandled"))
    if log_type == "Tail":
        headers.append((b"x-amz-log-result", base64.b64encode(outcome.log_tail)))
    return headers
