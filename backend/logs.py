"""Structured logs: JSON lines, or coloured text on a terminal. An event name and fields; never a message's text."""

from __future__ import annotations

import logging
import sys
from typing import Any

import orjson
import structlog

from backend.correlation import correlation_id


def configure_logs(*, level: int = logging.INFO) -> None:
    """Send all logs to standard error; once per process."""
    terminal = sys.stderr.isatty()
    renderer: Any = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(_json)
    processors: list[Any] = [
        _with_correlation,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not terminal:
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries' own loggers: only what is wrong.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")


def _with_correlation(_logger: object, _method: str, fields: Any) -> Any:
    if known := correlation_id.get():
        fields["correlation_id"] = known
    return fields


def _json(fields: Any, **_options: Any) -> str:
    return orjson.dumps(fields, default=str).decode()
