"""The knowledge group as a Lambda function."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tools.knowledge import ACTIONS
from tools.lambda_handler import respond, tool_context


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Entry point: `handler.handler`."""
    return asyncio.run(serve(event))


async def serve(event: dict[str, Any]) -> dict[str, Any]:
    """Answer one event; HTTP clients live as long as its event loop."""
    async with tool_context(event, os.environ) as ctx:
        return await respond(event, ACTIONS, ctx)
