"""The steps of a load as a Lambda function, called by the state machine in infra/step-functions."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from knowledge_base.orchestration.steps import steps_over


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Entry point: `handler.handler`."""
    return asyncio.run(serve(event))


async def serve(event: dict[str, Any]) -> dict[str, Any]:
    """Do one step; connections live as long as its event loop. What is raised is retried, or caught, by its name."""
    async with steps_over(os.environ) as steps:
        return await steps.carry_out(event)
