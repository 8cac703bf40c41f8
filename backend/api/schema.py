"""The OpenAPI document, with the events of the stream in it: clients generate their types from it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

DESCRIPTION = (
    "Conversations with an agent that acts. A turn is one ordered stream of events; errors are problem documents "
    "with `code`, `correlation_id` and `errors[]`."
)


def describe(app: FastAPI) -> None:
    """Build the document when it is first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title="Outcrop", version=app.version, description=DESCRIPTION, routes=app.routes)
            document["components"]["schemas"].update(_events())
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _events() -> dict[str, Any]:
    """Schemas of all events, and `TurnEvent`, their union."""
    from pydantic import TypeAdapter

    from agent.events import TurnEvent

    body = TypeAdapter(TurnEvent).json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    schemas: dict[str, Any] = body.pop("$defs")
    return {**schemas, "TurnEvent": {**body, "discriminator": {"propertyName": "type"}}}
