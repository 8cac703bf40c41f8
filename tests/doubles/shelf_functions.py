"""The shelf as Lambda functions that somebody wrote for Bedrock Agents, without knowing of us."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.doubles import shelf

Event = dict[str, Any]

OPERATIONS = {
    ("GET", "/shelves/{shelf_id}"): "look",
    ("POST", "/echo"): "echo",
    ("PUT", "/shelves/{shelf_id}/things"): "put",
    ("PUT", "/shelves/{shelf_id}/stowed"): "stow",
}


def by_function(event: Event, _context: object) -> Event:
    """Function details."""
    args = {each["name"]: _value(each["type"], each["value"]) for each in event["parameters"]}
    try:
        body, state = asyncio.run(shelf.run(event["function"], args, _key(event))), {}
    except shelf.Refused as error:
        body, state = {"reason": str(error)}, {"responseState": "FAILURE"}
    except shelf.Garbage:
        return {"statusCode": 200, "body": "Done."}
    inner = {**state, "responseBody": {"TEXT": {"body": json.dumps(body)}}}
    named = {"actionGroup": event["actionGroup"], "function": event["function"]}
    return {"messageVersion": "1.0", "response": {**named, "functionResponse": inner}}


def by_operation(event: Event, _context: object) -> Event:
    """An OpenAPI document."""
    tool = OPERATIONS[event["httpMethod"], event["apiPath"]]
    listed = [*event["parameters"], *event.get("requestBody", _NO_BODY)["content"]["application/json"]["properties"]]
    args = {each["name"]: _value(each["type"], each["value"]) for each in listed}
    if isinstance(args.get("either"), str):
        args["either"] = _number_or_text(args["either"])
    try:
        status, body = 200, asyncio.run(shelf.run(tool, args, _key(event)))
    except shelf.Refused as error:
        status, body = 409, {"message": str(error)}
    except shelf.Garbage:
        return {"statusCode": 200, "body": "Done."}
    named = {"actionGroup": event["actionGroup"], "apiPath": event["apiPath"], "httpMethod": event["httpMethod"]}
    response = {**named, "httpStatusCode": status, "responseBody": {"application/json": {"body": json.dumps(body)}}}
    return {"messageVersion": "1.0", "response": response}


def mirror(event: Event, _context: object) -> Event:
    """Say what arrived, as name, type and text."""
    listed = [*event["parameters"], *event.get("requestBody", _NO_BODY)["content"]["application/json"]["properties"]]
    body = {"TEXT": {"body": json.dumps({"received": listed})}}
    return {"messageVersion": "1.0", "response": {"functionResponse": {"responseBody": body}, "responseBody": body}}


_NO_BODY: Event = {"content": {"application/json": {"properties": []}}}


def _key(event: Event) -> str:
    key: str = event["promptSessionAttributes"].get("effect_key", "")
    return key


def _value(kind: str, text: str) -> Any:
    return text if kind == "string" else json.loads(text)


def _number_or_text(text: str) -> int | str:
    """Of a value of several types the text is JSON, unless it can be read as nothing but a text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | str) else text
