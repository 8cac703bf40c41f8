"""Action-group events and responses, as Bedrock and real handlers write them."""

from __future__ import annotations

from typing import Any

import pytest

from tools.lambda_events import (
    BadEvent,
    BadResponse,
    Operation,
    Session,
    event_for,
    read_event,
    read_response,
    response_to,
    typed,
)

SCHEMA = {
    "type": "object",
    "properties": {
        "claimId": {"type": "string"},
        "days": {"type": "integer"},
        "documents": {"type": "array", "items": {"type": "string"}},
        "note": {"type": ["string", "null"]},
    },
}
ARGS = {"claimId": "007", "days": 3, "documents": ["a", "b,c"], "note": None}
SESSION = Session("s-1", "move it", {"customer_id": "7"}, {"now": "x"}, {"name": "outcrop"})


def test_a_function_event_has_all_that_handlers_index() -> None:
    """Values are texts, the agent has its four keys, and there is no request body."""
    event = event_for(Operation("claims", "detail"), ARGS, SCHEMA, SESSION)
    assert event == {
        "messageVersion": "1.0",
        "agent": {"name": "outcrop", "id": "", "alias": "", "version": ""},
        "inputText": "move it",
        "sessionId": "s-1",
        "actionGroup": "claims",
        "function": "detail",
        "parameters": [
            {"name": "claimId", "type": "string", "value": "007"},
            {"name": "days", "type": "integer", "value": "3"},
            {"name": "documents", "type": "array", "value": '["a", "b,c"]'},
            {"name": "note", "type": "string", "value": "null"},
        ],
        "sessionAttributes": {"customer_id": "7"},
        "promptSessionAttributes": {"now": "x"},
    }


def test_an_openapi_event_has_each_argument_in_its_place() -> None:
    """Path, query and header stand together, the body apart; the path is the template."""
    operation = Operation("claims", path="/claims/{claimId}", method="PUT", places={"claimId": "path", "days": "query"})
    event = event_for(operation, ARGS, SCHEMA, SESSION)
    assert (event["apiPath"], event["httpMethod"]) == ("/claims/{claimId}", "PUT")
    assert [each["name"] for each in event["parameters"]] == ["claimId", "days"]
    properties = event["requestBody"]["content"]["application/json"]["properties"]
    assert [each["name"] for each in properties] == ["documents", "note"]


def test_there_is_always_a_list_of_parameters_and_never_an_empty_body() -> None:
    """Public handlers index the former and test for the latter."""
    for operation in (Operation("g", "f"), Operation("g", path="/x", method="GET")):
        event = event_for(operation, {}, SCHEMA, Session())
        assert event["parameters"] == []
        assert "requestBody" not in event


@pytest.mark.parametrize(
    "operation", [Operation("g", "f"), Operation("g", path="/f"), Operation("g", path="/f", places={"days": "query"})]
)
def test_an_event_is_read_back_as_it_was_meant(operation: Operation) -> None:
    """In both styles, wherever the arguments stand."""
    call = read_event(event_for(operation, ARGS, SCHEMA, SESSION))
    assert typed(call.arguments, SCHEMA) == ARGS
    assert (call.session.session_id, call.session.attributes) == ("s-1", {"customer_id": "7"})


def test_null_is_left_out_where_it_is_no_value() -> None:
    """Otherwise it would arrive as the text "null"."""
    event = event_for(Operation("g", "f"), {"claimId": None, "note": None}, SCHEMA, Session())
    assert [each["name"] for each in event["parameters"]] == ["note"]


@pytest.mark.parametrize(
    "event", [None, {}, {"actionGroup": "g"}, {"function": "f"}, [], {"actionGroup": 1, "function": "f"}]
)
def test_what_is_no_event_is_refused(event: Any) -> None:
    """With what it lacks."""
    with pytest.raises(BadEvent):
        read_event(event)


@pytest.mark.parametrize("operation", [Operation("g", "f"), Operation("g", path="/f", method="GET")])
def test_a_response_is_read_back(operation: Operation) -> None:
    """Body, state and attributes, in the style of the event."""
    call = read_event(event_for(operation, {}, SCHEMA, SESSION))
    raw = response_to(call, {"ok": True}, state="REPROMPT", attributes={"a": "1"}, prompt_attributes={"b": "2"})
    assert raw["response"]["actionGroup"] == "g"
    answer = read_response(raw)
    assert (answer.body, answer.state) == ({"ok": True}, "REPROMPT")
    assert (answer.attributes, answer.prompt_attributes) == ({"a": "1"}, {"b": "2"})


def function_response(body: Any, **outer: Any) -> dict[str, Any]:
    return {"response": {"functionResponse": {"responseBody": {"TEXT": {"body": body}}}}, **outer}


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (function_response('{"a": 1}'), {"a": 1}),
        (function_response("{'a': 1, 'b': None}"), {"a": 1, "b": None}),
        (function_response({"a": 1}), {"a": 1}),
        (function_response([1]), [1]),
        (function_response(None), None),
        (function_response("plain words"), "plain words"),
        (function_response("{not python"), "{not python"),
        ({"response": {"responseBody": {"application/json": {"body": '{"a": 1}'}}}}, {"a": 1}),
        ({"response": {"responseBody": {"text/plain": {"body": "x"}}, "httpStatusCode": 200}}, "x"),
    ],
)
def test_careless_handlers_are_understood(raw: dict[str, Any], body: Any) -> None:
    """No message version, the text of a Python dict, a body that is no text, another media type."""
    assert read_response(raw).body == body


def test_attributes_may_be_nested_or_no_text() -> None:
    """Absent ones leave the old; numbers become texts, as Bedrock keeps them."""
    nested = function_response("x", sessionState={"sessionAttributes": {"n": 5, "s": "t"}})
    assert read_response(nested).attributes == {"n": "5", "s": "t"}
    assert read_response(function_response("x")).attributes is None


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        "x",
        {},
        {"response": None},
        {"response": {}},
        {"response": {"functionResponse": {}}},
        {"response": {"responseBody": "x"}},
    ],
)
def test_what_is_no_response_is_said_to_be_none(raw: Any) -> None:
    """Garbage, whatever its kind."""
    with pytest.raises(BadResponse):
        read_response(raw)
