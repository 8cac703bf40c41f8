"""Errors at our edge: RFC 9457 problem documents with `code`, `correlation_id` and `errors[]`.

The prototype's own path answers in the prototype's shape, `{"detail": …}`. No exception text reaches a client.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from agent.errors import OutcropError
from backend.api.bedrock import errors as wire
from backend.conversations.answer import TurnDidNotComplete
from backend.correlation import correlation_id
from knowledge_base import errors as kb

log = structlog.get_logger(__name__)

PROTOTYPE_PATH = "/api/chat"
CODES = {
    400: ("malformed_body", "The body could not be read as JSON in UTF-8."),
    403: ("forbidden", "You may not do this."),
    404: ("not_found", "There is nothing here."),
    405: ("method_not_allowed", "This path does not take that method."),
    413: ("body_too_large", "The body is too large."),
    415: ("unsupported_media_type", "Send JSON with the header content-type: application/json."),
}

# Status, and whether the same may go better in a moment. A document or job that is wrong in itself is told by its job.
_OF_KNOWLEDGE: dict[type[kb.KnowledgeError], tuple[int, bool]] = {
    kb.InvalidRequest: (422, False),
    kb.NotFound: (404, False),
    kb.IndexMismatch: (409, False),
    kb.SourceBusy: (409, True),
    kb.TextTooLong: (422, False),
    kb.EmbeddingFailed: (503, True),
    kb.StoreUnreachable: (503, True),
}


def problem(
    status: int,
    code: str,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    *,
    retryable: bool = False,
    **more: Any,
) -> Response:
    """One problem document. `errors` are `{field, message}`; `more` are extension members."""
    body = {
        "type": f"urn:outcrop:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "retryable": retryable,
        "correlation_id": correlation_id.get(),
        "errors": errors or [],
        **more,
    }
    headers = {"retry-after": "1"} if retryable and status in (429, 503) else None
    return Response(orjson.dumps(body, default=str), status, headers, media_type="application/problem+json")


def detail(status: int, what: Any, code: str) -> Response:
    """The prototype's error shape."""
    body = {"detail": what, "code": code, "correlation_id": correlation_id.get()}
    return Response(orjson.dumps(body, default=str), status, media_type="application/json")


def install(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(OutcropError, _on_outcrop_error)
    app.add_exception_handler(kb.KnowledgeError, _on_knowledge_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)


async def _on_outcrop_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OutcropError)
    log.info("request_refused", code=error.code, status=error.status, reason=str(error), path=request.url.path)
    if wire.is_wire(request.url.path):
        return wire.response(wire.error_of(error))
    if request.url.path == PROTOTYPE_PATH:
        return detail(error.status, error.user_hint, error.code)
    errors = [{"field": error.field, "message": error.user_hint}] if error.field else None
    more: dict[str, Any] = {}
    if isinstance(error, TurnDidNotComplete):
        more = {"session_id": error.session_id, "turn_id": error.turn_id}
    return problem(error.status, error.code, error.user_hint, errors, retryable=error.retryable, **more)


async def _on_knowledge_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, kb.KnowledgeError)
    status, retryable = next((found for kind, found in _OF_KNOWLEDGE.items() if isinstance(error, kind)), (500, False))
    log.info("request_refused", code=error.code, status=status, reason=str(error), path=request.url.path)
    if wire.is_wire(request.url.path):
        return wire.response(wire.error_of(error))
    if isinstance(error, kb.InvalidRequest):
        errors = [{"field": error.field, "message": error.problem}]
        return problem(422, error.code, f"The request is not valid: {error.field}.", errors)
    return problem(status, error.code, str(error), retryable=retryable)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        return await _on_http_error(request, HTTPException(400))
    if request.url.path == PROTOTYPE_PATH:
        shown = [{"loc": each["loc"], "msg": each["msg"], "type": each["type"]} for each in found]
        return detail(422, shown, "invalid_request")
    errors = [{"field": _field(each["loc"]), "message": each["msg"].removeprefix("Value error, ")} for each in found]
    names = ", ".join(dict.fromkeys(each["field"] for each in errors))
    return problem(422, "invalid_request", f"The request is not valid: {names}.", errors)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, hint = CODES.get(error.status_code, ("http_error", HTTPStatus(error.status_code).phrase))
    if wire.is_wire(request.url.path):
        return wire.response(wire.of_status(error.status_code, hint))
    if request.url.path == PROTOTYPE_PATH:
        return detail(error.status_code, hint, code)
    field = {400: "body", 413: "body", 415: "content-type"}.get(error.status_code)
    errors = [{"field": field, "message": hint}] if field else None
    response = problem(error.status_code, code, hint, errors)
    response.headers.update(error.headers or {})
    return response


async def _on_bug(request: Request, error: Exception) -> Response:
    log.error("request_crashed", path=request.url.path, exc_info=error)
    if wire.is_wire(request.url.path):
        return wire.response(wire.error_of(error))
    if request.url.path == PROTOTYPE_PATH:
        return detail(500, OutcropError.user_hint, OutcropError.code)
    return problem(500, OutcropError.code, OutcropError.user_hint)


def _field(location: tuple[int | str, ...]) -> str:
    """`("body", "message")` → `message`; the body as a whole is `body`."""
    rest = [str(part) for part in location[1:]]
    return ".".join(rest) or str(location[0])
