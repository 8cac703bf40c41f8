"""Bedrock's action-group events: calls into them and out of them, answers into them and out of them.

Two styles: `function` (function details) and `openapi`. Source of the shapes: "Configure Lambda functions to send
information an Amazon Bedrock agent elicits from the user", Amazon Bedrock user guide.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tools.contract import JsonObject
from tools.values import bedrock_type, from_text, to_text, types_of

Style = Literal["function", "openapi"]
Place = Literal["path", "query", "header", "body"]

MAX_RESPONSE_BYTES = 25_000
JSON_BODY = "application/json"


class BadEvent(ValueError):
    """No event of an action group; the message names what is missing."""


class BadResponse(ValueError):
    """No response of an action group, as far as anyone can tell."""


@dataclass(frozen=True, slots=True)
class Session:
    """What travels beside a call. Attributes are texts; those of the prompt live for one turn."""

    session_id: str = ""
    input_text: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    prompt_attributes: Mapping[str, str] = field(default_factory=dict)
    agent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """How an event names a tool: by function, or by path template and method, with each argument's place."""

    group: str
    function: str = ""
    path: str = ""
    method: str = "POST"
    places: Mapping[str, Place] = field(default_factory=dict)  # an argument that is not named goes into the body
    names: Mapping[str, str] = field(default_factory=dict)  # what its document calls an argument, if not the same

    @property
    def style(self) -> Style:
        """Which of the two styles of events it takes."""
        return "openapi" if self.path else "function"


@dataclass(frozen=True, slots=True)
class Incoming:
    """One event, read. `arguments` are as they came: texts, mostly."""

    operation: Operation
    arguments: JsonObject
    session: Session


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, read. `body` is JSON where it was some, else text. `state` is what the function declares."""

    body: Any
    state: Literal["FAILURE", "REPROMPT"] | None = None
    http_status: int = 200
    attributes: Mapping[str, str] | None = None
    prompt_attributes: Mapping[str, str] | None = None


def path_of(name: str) -> str:
    """The path of an action of ours: kebab-case."""
    return f"/{name.replace('_', '-')}"


def event_for(operation: Operation, args: JsonObject, schema: JsonObject, session: Session) -> JsonObject:
    """The event of one call. `schema` is the JSON Schema of the tool's arguments."""
    properties = schema.get("properties", {})
    told = {
        name: {
            "name": operation.names.get(name, name),
            "type": bedrock_type(properties.get(name, {}), schema),
            "value": to_text(value, properties.get(name, {}), schema),
        }
        for name, value in args.items()
        if value is not None or _may_be_null(properties.get(name, {}), schema)
    }
    event: JsonObject = {
        "messageVersion": "1.0",
        "agent": {"name": "", "id": "", "alias": "", "version": "", **session.agent},
        "inputText": session.input_text,
        "sessionId": session.session_id,
        "actionGroup": operation.group,
        "parameters": list(told.values()),
        "sessionAttributes": dict(session.attributes),
        "promptSessionAttributes": dict(session.prompt_attributes),
    }
    if operation.style == "function":
        return {**event, "function": operation.function}
    in_body = [each for name, each in told.items() if operation.places.get(name, "body") == "body"]
    event["parameters"] = [each for name, each in told.items() if operation.places.get(name, "body") != "body"]
    event |= {"apiPath": operation.path, "httpMethod": operation.method}
    if in_body:
        event["requestBody"] = {"content": {JSON_BODY: {"properties": in_body}}}
    return event


def _may_be_null(schema: JsonObject, root: JsonObject) -> bool:
    """Whether null is a value of its own; elsewhere it means that the argument is left out."""
    types = types_of(schema, root)
    return types is None or "null" in types


def read_event(event: Any) -> Incoming:
    """The call that an event makes; `BadEvent` when it makes none."""
    if not isinstance(event, dict) or not isinstance(event.get("actionGroup"), str):
        raise BadEvent("the event has no actionGroup; it does not come from an action group")
    function, path, method = (_text(event.get(name)) for name in ("function", "apiPath", "httpMethod"))
    if not function and not path:
        raise BadEvent("the event names neither a function nor an apiPath")
    media = _object(_object(event.get("requestBody")).get("content")).values()
    lists = [event.get("parameters"), *(_object(each).get("properties") for each in media)]
    listed = [each for some in lists if isinstance(some, list) for each in some]
    return Incoming(
        operation=Operation(event["actionGroup"], function, path, method),
        arguments={each["name"]: each.get("value") for each in listed if _text(_object(each).get("name"))},
        session=Session(
            str(event.get("sessionId") or ""),
            str(event.get("inputText") or ""),
            event.get("sessionAttributes") or {},
            event.get("promptSessionAttributes") or {},
        ),
    )


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def typed(arguments: JsonObject, schema: JsonObject) -> JsonObject:
    """Arguments of an event with the types that the schema gives them."""
    properties = schema.get("properties", {})
    return {
        name: from_text(value, properties.get(name, {}), schema) if isinstance(value, str) else value
        for name, value in arguments.items()
    }


def response_to(
    call: Incoming,
    body: JsonObject,
    *,
    http_status: int = 200,
    state: Literal["FAILURE", "REPROMPT"] | None = None,
    attributes: Mapping[str, str] | None = None,
    prompt_attributes: Mapping[str, str] | None = None,
) -> JsonObject:
    """The response to an event, in the event's own style."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    operation = call.operation
    if operation.style == "function":
        inner: JsonObject = {"responseBody": {"TEXT": {"body": text}}} | ({"responseState": state} if state else {})
        answer: JsonObject = {
            "actionGroup": operation.group, "function": operation.function, "functionResponse": inner,
        }  # fmt: skip
    else:
        answer = {
            "actionGroup": operation.group,
            "apiPath": operation.path,
            "httpMethod": operation.method,
            "httpStatusCode": http_status,
            "responseBody": {JSON_BODY: {"body": text}},
        } | ({"responseState": state} if state else {})
    whole: JsonObject = {"messageVersion": "1.0", "response": answer}
    if attributes is not None:
        whole["sessionAttributes"] = dict(attributes)
    if prompt_attributes is not None:
        whole["promptSessionAttributes"] = dict(prompt_attributes)
    return whole


def read_response(raw: Any) -> Answer:
    """What a function answered; `BadResponse` when nothing can be made of it.

    Real handlers are careless: no message version, a body that is no JSON (the text of a Python dict, an object, null),
    attributes inside a `sessionState`. All of that is read.
    """
    response = raw.get("response") if isinstance(raw, dict) else None
    if not isinstance(response, dict):
        raise BadResponse("there is no `response` in it")
    inner = response.get("functionResponse", response)
    bodies = inner.get("responseBody") if isinstance(inner, dict) else None
    if not isinstance(bodies, dict) or not bodies:
        raise BadResponse("there is no `responseBody` in it")
    media = bodies.get("TEXT") or bodies.get(JSON_BODY) or next(iter(bodies.values()))
    state = inner.get("responseState") or response.get("responseState")
    status = response.get("httpStatusCode")
    beside = raw.get("sessionState") if isinstance(raw.get("sessionState"), dict) else {}
    return Answer(
        body=_read_body(media.get("body") if isinstance(media, dict) else media),
        state=state if state in ("FAILURE", "REPROMPT") else None,
        http_status=status if isinstance(status, int) else 200,
        attributes=_texts(raw.get("sessionAttributes", beside.get("sessionAttributes"))),
        prompt_attributes=_texts(raw.get("promptSessionAttributes", beside.get("promptSessionAttributes"))),
    )


def _read_body(body: Any) -> Any:
    if not isinstance(body, str):
        return body
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        pass
    if body.lstrip()[:1] in ("{", "["):
        try:
            value = ast.literal_eval(body)
            return json.loads(json.dumps(value))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    return body


def _texts(attributes: Any) -> dict[str, str] | None:
    """Attributes as texts, as Bedrock keeps them; None when the answer has none, which leaves the old ones."""
    if not isinstance(attributes, dict):
        return None
    return {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in attributes.items()}
