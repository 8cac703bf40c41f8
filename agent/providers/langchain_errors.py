"""What the exceptions of LangChain integrations mean, told by their look: no client library is imported for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from agent.errors import ModelError, ModelMisbehaved
from agent.providers import http
from agent.providers.base import Where
from agent.providers.http import HttpFault, StreamBroken, error_of, short
from agent.providers.langchain_wire import LangChainFault

# By class name or error code, in lower case: what carries no status, or one that says something else.
_STATUS = {
    "accessdeniedexception": 403,
    "accessdenied": 403,
    "authenticationerror": 401,
    "authentication_error": 401,
    "badrequesterror": 400,
    "contextoverflowerror": 413,
    "deadlineexceeded": 504,
    "expiredtokenexception": 403,
    "internalserverexception": 500,
    "invalidsignatureexception": 403,
    "modelerrorexception": 502,
    "modelnotreadyexception": 429,
    "modelstreamerrorexception": 502,
    "modeltimeoutexception": 408,
    "nocredentialserror": 401,
    "notfounderror": 404,
    "overloaded_error": 529,
    "partialcredentialserror": 401,
    "permissiondeniederror": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "ratelimiterror": 429,
    "resourceexhausted": 429,
    "resourcenotfoundexception": 404,
    "server_error": 500,
    "serviceunavailable": 503,
    "serviceunavailableexception": 503,
    "throttlingexception": 429,
    "toomanyrequestsexception": 429,
    "unrecognizedclientexception": 401,
    "validationexception": 400,
}
_CLASSES = tuple(name for name in _STATUS if name.endswith("error") and "_" not in name)
_OF_THE_MODEL = ("model identifier", "inference profile", "on-demand throughput", "does not exist")
_BROKEN = ("connect", "endpoint", "protocolerror", "networkerror", "readerror", "closed", "incomplete", "chunked")


@dataclass(frozen=True, slots=True)
class Secrets:
    """What stands in no text that leaves a provider."""

    values: frozenset[str] = field(repr=False)

    def hide(self, text: str) -> str:
        """A text without them; one that is part of another leaves nothing of it."""
        for secret in sorted(self.values, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def cut_from(self, text: str) -> str:
        """A text in one line, without them."""
        return " ".join(self.hide(text).split())[:300]


def classify(error: Exception, where: Where, secrets: Secrets) -> ModelError:
    """What an error of the wire means, told without the secrets."""
    meant = _translated(error, secrets) if isinstance(error, LangChainFault) else error
    return meant if isinstance(meant, ModelError) else http.classify(meant, where)


def _translated(fault: LangChainFault, secrets: Secrets) -> Exception:
    """The same as an error that all providers have."""
    causes = list(_causes(fault.__cause__))
    for cause in causes:
        if found := _http_fault(cause, secrets):
            return found
    for cause in causes:
        name = type(cause).__name__.lower()
        if "timeout" in name or isinstance(cause, TimeoutError):
            return TimeoutError()
        if isinstance(cause, OSError) or any(part in name for part in _BROKEN):
            return ConnectionError(type(cause).__name__)
    said = secrets.cut_from(f"{fault}: {fault.__cause__}")
    return StreamBroken(said) if "No generation chunks" in said else ModelMisbehaved(said)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and what it came of."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _http_fault(error: BaseException, secrets: Secrets) -> HttpFault | None:
    """The answer of a server, if the exception stands for one."""
    response, body = getattr(error, "response", None), getattr(error, "body", None)
    told = response.get("Error") if isinstance(response, dict) else body
    told = told if isinstance(told, dict) else {}
    told = told["error"] if isinstance(told.get("error"), dict) else told
    code = next((str(told[key]) for key in ("Code", "code", "type") if told.get(key)), "")
    status = _named(type(error).__name__) or _named(code) or _given(error, response)
    if status is None and told and type(error).__name__.startswith("API"):
        status = 500  # an error inside a stream
    if status is None:
        return None
    said = told.get("Message") or told.get("message") or error_of(str(error), secrets.hide)[0]
    message = secrets.cut_from(str(said))
    if status == 400 and any(part in message.lower() for part in _OF_THE_MODEL):
        status = 404
    return HttpFault(status, message, _retry_after(response), short(code, secrets.hide))


def _named(name: str) -> int | None:
    """The status of a class name or code; the own classes of an integration begin with its name."""
    low = name.lower()
    return _STATUS.get(low) or next((_STATUS[known] for known in _CLASSES if low.endswith(known)), None)


def _given(error: BaseException, response: Any) -> int | None:
    """The status that the exception or its response holds."""
    places = [getattr(error, "status_code", None), getattr(error, "code", None), getattr(response, "status_code", None)]
    if isinstance(response, dict):
        places.append((response.get("ResponseMetadata") or {}).get("HTTPStatusCode"))
    return next((each for each in places if isinstance(each, int) and 400 <= each < 600), None)


def _retry_after(response: Any) -> float | None:
    headers = getattr(response, "headers", None)
    if isinstance(response, dict):
        headers = (response.get("ResponseMetadata") or {}).get("HTTPHeaders")
    try:
        return max(0.0, float(headers.get("retry-after", ""))) if headers is not None else None
    except ValueError:
        return None
