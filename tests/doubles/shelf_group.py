"""The shelf as a Lambda function of ours, as the handlers in `lambda/` are."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from tests.doubles import shelf
from tests.doubles.shelf_actions import ACTIONS
from tools.contract import Directory
from tools.lambda_handler import context_of, respond


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Entry point."""
    return asyncio.run(serve(event))


async def serve(event: dict[str, Any]) -> dict[str, Any]:
    """Answer one event, unless it asks for garbage."""
    shelf.Shelf(event["sessionAttributes"]["customer_id"]).note_call("event")
    no_upstream = cast(Any, None)
    try:
        return await respond(event, ACTIONS, context_of(event, {}, Directory({}), no_upstream))
    except shelf.Garbage:
        return {"statusCode": 200, "body": "Done."}
