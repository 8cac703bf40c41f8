"""The shelf as actions of ours, and as the documents in which other people would describe it."""

from __future__ import annotations

import json
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from tests.doubles import shelf
from tools.action import Action, FromSession, Preparation, action
from tools.contract import JsonObject, ToolContext, ToolError, ToolResult
from tools.values import bedrock_type

CustomerId = Annotated[str, FromSession()]
# Parameters that function details have no type for.
TOO_RICH = ("size", "either")


class Locked(ToolError):
    """The shelf refuses."""

    code = "not_allowed"


class Size(BaseModel):
    """An object."""

    width: int
    label: str


@action(group="shelf", effect="read")
async def look(shelf_id: str, customer_id: CustomerId, ctx: ToolContext) -> JsonObject:
    """Look at a shelf.

    Args:
        shelf_id: Which one.
    """
    return await _run("look", {"shelf_id": shelf_id, "customer_id": customer_id}, ctx)


@action(group="shelf", effect="read")
async def echo(
    text: str,
    whole: int,
    customer_id: CustomerId,
    ctx: ToolContext,
    number: float | None = None,
    flag: bool | None = None,
    day: date | None = None,
    kind: Literal["small", "10", "null"] | None = None,
    tags: list[str] | None = None,
    size: Size | None = None,
    maybe: str | None = None,
    either: int | str | None = None,
    config: str | None = None,
    self: str | None = None,
) -> JsonObject:
    """Say what was given.

    Args:
        text: Any text.
        whole: A whole number.
        number: Any number.
        flag: Yes or no.
        day: A calendar day.
        kind: One of several.
        tags: Some texts.
        size: An object.
        maybe: What may be left out.
        either: A whole number or a text.
        config: A name that libraries keep for themselves.
        self: Another one.
    """
    given = {name: value for name, value in locals().items() if name != "ctx"}
    return await _run("echo", to_jsonable_python(given), ctx)


@action(group="shelf", effect="gated")
async def put(shelf_id: str, thing: str, count: int, customer_id: CustomerId, ctx: ToolContext) -> JsonObject:
    """Put things on a shelf. Nobody can tell afterwards whether it was done.

    Args:
        shelf_id: Which shelf.
        thing: What.
        count: How many.
    """
    given = {"shelf_id": shelf_id, "thing": thing, "count": count, "customer_id": customer_id}
    return await _run("put", given, ctx)


@action(group="shelf", effect="gated")
async def stow(shelf_id: str, thing: str, count: int, customer_id: CustomerId, ctx: ToolContext) -> JsonObject:
    """Put things on a shelf that keeps the key they came under.

    Args:
        shelf_id: Which shelf.
        thing: What.
        count: How many.
    """
    given = {"shelf_id": shelf_id, "thing": thing, "count": count, "customer_id": customer_id}
    return await _run("stow", given, ctx)


@stow.prepares
async def restate(shelf_id: str, thing: str, count: int, customer_id: str, ctx: ToolContext) -> Preparation:
    """What a person reads."""
    return Preparation(restatement={"shelf": shelf_id, "things": f"{count} × {thing}"})


@stow.reconciles
async def find(shelf_id: str, thing: str, count: int, customer_id: str, ctx: ToolContext) -> ToolResult | None:
    """Whether it is there under this key."""
    there = any(each["key"] == ctx.effect_key for each in shelf.Shelf(customer_id).effects())
    return ToolResult("ok", {"ok": True, "put": thing}) if there else None


async def _run(tool: str, args: JsonObject, ctx: ToolContext) -> JsonObject:
    try:
        return await shelf.run(tool, args, ctx.effect_key)
    except shelf.Refused as error:
        raise Locked(str(error)) from error


ACTIONS: tuple[Action, ...] = (look, echo, put, stow)


def schema_of(each: Action) -> JsonObject:
    """The arguments as a foreign tool has them: the customer's id is one of them."""
    schema = each.spec.parameters
    return {
        **schema,
        "properties": {**schema["properties"], "customer_id": {"type": "string"}},
        "required": [*schema["required"], "customer_id"],
    }


def function_details() -> JsonObject:
    """The shelf in function details of Bedrock."""
    return {"functions": [_function(each) for each in ACTIONS]}


def _function(each: Action) -> JsonObject:
    schema = schema_of(each)
    parameters = {
        name: {"type": bedrock_type(kind, schema), "required": name in schema["required"]}
        for name, kind in schema["properties"].items()
        if name not in TOO_RICH
    }
    return {"name": each.name, "description": each.spec.description, "parameters": parameters}


def openapi(server: str = "") -> JsonObject:
    """The shelf as an OpenAPI document: arguments in the path, the query, a header and the body."""
    paths = {
        "/shelves/{shelf_id}": {"get": _operation(look, path=["shelf_id"], query=["customer_id"])},
        "/echo": {"post": _operation(echo, query=["text", "whole", "number", "flag", "day"], header=["kind"])},
        "/shelves/{shelf_id}/things": {"put": _operation(put, path=["shelf_id"])},
        "/shelves/{shelf_id}/stowed": {"put": _operation(stow, path=["shelf_id"])},
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Shelf", "version": "1"},
        "servers": [{"url": server}] if server else [],
        "paths": paths,
        "components": {
            "schemas": {name: each for a in ACTIONS for name, each in schema_of(a).get("$defs", {}).items()}
        },
    }
    found: JsonObject = json.loads(json.dumps(document).replace("#/$defs/", "#/components/schemas/"))
    return found


def _operation(each: Action, **places: list[str]) -> JsonObject:
    schema = schema_of(each)
    beside = {name: place for place, names in places.items() for name in names}
    properties: dict[str, Any] = schema["properties"]
    in_body = {name: kind for name, kind in properties.items() if name not in beside}
    required = [name for name in schema["required"] if name in in_body]
    body = {"type": "object", "properties": in_body, "required": required, "additionalProperties": False}
    operation: JsonObject = {
        "operationId": each.name,
        "description": each.spec.description,
        "parameters": [
            {"name": name, "in": place, "required": name in schema["required"], "schema": properties[name]}
            for name, place in beside.items()
        ],
        "responses": {"200": {"description": "Done."}},
    }
    if in_body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation
