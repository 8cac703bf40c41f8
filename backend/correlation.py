"""The id that ties a request, its log lines and its error answer together."""

from contextvars import ContextVar

correlation_id: ContextVar[str] = ContextVar("correlation_id", default="")
