"""What went wrong with a tool that runs elsewhere, for whoever runs this service. People and models never see it."""

from __future__ import annotations

import logging
import re

from tools.contract import ToolError
from tools.errors import UnknownOutcome, UpstreamUnavailable

log = logging.getLogger(__name__)
MAX_CHARS = 2_000
# Of Python, Java, JavaScript: the inside of somebody's program, which is no answer.
TRACE = re.compile(r"Traceback \(most recent call last\)|^\s+at .+:\d+|File \"[^\"]+\", line \d+", re.MULTILINE)


def report(group: str, tool: str, error: ToolError) -> None:
    """One warning with the cause, for failures; a refusal is an answer, and none."""
    if not isinstance(error, UpstreamUnavailable | UnknownOutcome):
        return
    causes: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(causes) < 5:
        causes.append(f"{type(cause).__name__}: {cause}")
        cause = cause.__cause__
    log.warning("tool_failed group=%s tool=%s %s", group, tool, " <- ".join(causes)[:MAX_CHARS])
