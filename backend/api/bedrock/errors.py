"""Errors as Amazon's clients know them: `{"message"}`, the code in a header, or as the last message of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

from fastapi import Response
from fastapi.responses import JSONResponse

from agent.errors import (
    BudgetSpent,
    Forbidden,
    InvalidRequest,
    ModelBusy,
    ModelError,
    ModelUnavailable,
    NotFound,
    OutcropError,
    Unauthenticated,
)
from backend.api.bedrock import event_stream
from backend.correlation import correlation_id
from knowledge_base import errors as kb

STATUS = {
    "ValidationException": 400,
    "ServiceQuotaExceededException": 400,
    "AccessDeniedException": 403,
    "ResourceNotFoundException": 404,
    "UnknownOperationException": 404,
    "ConflictException": 409,
    "DependencyFailedException": 424,
    "ThrottlingException": 429,
    "InternalServerException": 500,
    "BadGatewayException": 502,
}
# The first that fits. What clients send again by themselves (429, 5xx) is what may go better then.
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (InvalidRequest, "ValidationException"),
    (kb.InvalidRequest, "ValidationException"),
    (Forbidden, "AccessDeniedException"),
    (Unauthenticated, "AccessDeniedException"),
    (NotFound, "ResourceNotFoundException"),
    (kb.NotFound, "ResourceNotFoundException"),
    (kb.IndexMismatch, "ConflictException"),
    (BudgetSpent, "ServiceQuotaExceededException"),
    (ModelBusy, "ThrottlingException"),
    (ModelUnavailable, "BadGatewayException"),
    (ModelError, "DependencyFailedException"),
    (kb.TextTooLong, "ValidationException"),
    (kb.EmbeddingFailed, "DependencyFailedException"),
    (kb.StoreUnreachable, "BadGatewayException"),
)
_BAD, _NO_OPERATION = "ValidationException", "UnknownOperationException"
_BUG = "Something went wrong on our side. Please try again."


@dataclass(frozen=True, slots=True)
class WireError:
    """One error: a code of `STATUS`, and a message for whoever reads it."""

    code: str
    message: str


def error_of(error: Exception) -> WireError:
    """What a client is told of an error of ours; nothing of one that nobody foresaw."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "InternalServerException")
    if isinstance(error, OutcropError):
        said = f"{error.field}: {error.user_hint}" if error.field else error.user_hint
        return WireError(code, said)
    return WireError(code, str(error) if isinstance(error, kb.KnowledgeError) else _BUG)


def of_status(status: int, said: str) -> WireError:
    """What is refused before anybody has read it, or that there is no such operation."""
    return WireError({403: "AccessDeniedException", 404: _NO_OPERATION, 405: _NO_OPERATION}.get(status, _BAD), said)


def is_wire(path: str) -> bool:
    """Whether a path belongs to this API, and so its errors have this form."""
    return path.startswith("/knowledgebases/") or path in ("/retrieveAndGenerate", "/retrieveAndGenerateStream")


def response(error: WireError) -> Response:
    """Instead of a result."""
    headers = {"x-amzn-errortype": error.code, **request_id()}
    return JSONResponse({"message": error.message}, STATUS[error.code], headers)


def message(error: WireError) -> bytes:
    """As the last message of a stream."""
    return event_stream.exception(error.code[0].lower() + error.code[1:], error.message)


def request_id() -> dict[str, str]:
    """The header by which clients name a request; the same as in our log, where that is a UUID."""
    try:
        return {"x-amzn-requestid": str(UUID(correlation_id.get()))}
    except ValueError:
        return {"x-amzn-requestid": str(uuid4())}
