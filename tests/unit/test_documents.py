"""What one definition gives: function details, an OpenAPI document, a page; and the way of a call through them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import validate
from pydantic import BaseModel, Field

from tests.unit.made_actions import Made, made_actions
from tools.action import Action, FromPreparation, FromSession, action
from tools.catalogue import ACTIONS
from tools.contract import Directory, Identity, JsonObject, ToolContext, ToolError, ToolState
from tools.documents import (
    BEDROCK_NAME,
    BeyondLimits,
    check,
    function_schema,
    group_description,
    openapi_document,
)
from tools.errors import NotFound
from tools.executors.documents import Route, read_functions, read_openapi
from tools.in_process import InProcess
from tools.lambda_events import Operation, Session, event_for, path_of, read_event, typed
from tools.lambda_handler import EventClock, NoCallbacks
from tools.pages import example_call, page
from tools.values import bedrock_type, types_of

GROUPS = {name: [each for each in ACTIONS if each.spec.group == name] for name in {a.spec.group for a in ACTIONS}}
SESSION_NAMES = {"customer_id", "request_id", "user_id"}
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def context() -> ToolContext:
    clock = EventClock(datetime(2026, 3, 11, 9, 30, tzinfo=UTC), "UTC")
    who = Identity(role="customer", customer_id="7")
    return ToolContext(who, Directory({}), clock, ToolState(), pf360=None, callbacks=NoCallbacks())


def keys_in(node: Any) -> Iterator[str]:
    """Every key of an object, however deep."""
    if isinstance(node, dict):
        yield from node
        for each in node.values():
            yield from keys_in(each)
    elif isinstance(node, list):
        for each in node:
            yield from keys_in(each)


def body_of(document: JsonObject, name: str) -> JsonObject:
    """The schema of an operation's body, with the components that it refers to."""
    operation = document["paths"][path_of(name)]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    return {**content["schema"], "components": document.get("components", {})}


def sent_and_read(style: str, made: Action, args: JsonObject) -> JsonObject:
    """Arguments after their way through an event, as text between two processes."""
    by_function = style == "function"
    operation = Operation("made", function=made.name) if by_function else Operation("made", path=path_of(made.name))
    event = event_for(operation, args, made.spec.parameters, Session())
    for each in event["parameters"]:
        assert isinstance(each["value"], str)
    return typed(read_event(json.loads(json.dumps(event))).arguments, made.spec.parameters)


@given(made_actions())
@MANY
async def test_arguments_arrive_as_they_were_given(made: Made) -> None:
    """By both styles of events as well as directly: the same stored arguments, the same values in the function."""
    Draft202012Validator(made.action.spec.parameters).validate(made.written)
    toolbox, ctx = InProcess([made.action]), context()
    prepared = await toolbox.prepare("made", made.args, ctx)
    assert (await toolbox.execute(prepared, ctx)).status == "ok"
    for style in ("function", "openapi"):
        arrived = sent_and_read(style, made.action, made.args)
        assert (await toolbox.prepare("made", arrived, ctx)).args == prepared.args
        effective = made.action.effective_schema
        event = event_for(Operation("made", "made"), prepared.args, effective, Session())
        await toolbox.execute(type(prepared)(prepared.spec, typed(read_event(event).arguments, effective)), ctx)
        assert made.called_with[-1] == made.called_with[0]


@given(made_actions())
@MANY
def test_documents_describe_what_a_model_may_supply(made: Made) -> None:
    """Both are valid, accept what the action accepts, and name nothing that only the session fills in."""
    document = openapi_document("made", [made.action])
    validate(document)
    names = set(made.action.spec.parameters["properties"])
    if names:
        body = body_of(document, "made")
        OAS30Validator(body).validate(made.written)
        assert set(body["properties"]) == names
    shown = [document, page("made", [made.action])]
    if len(names) <= 5:
        functions = function_schema("made", [made.action])
        (function,) = functions["functions"]
        assert set(function["parameters"]) == names
        assert {each["type"] for each in function["parameters"].values()} <= {
            "string",
            "number",
            "integer",
            "boolean",
            "array",
        }
        shown.append(functions)
    assert not SESSION_NAMES & set(keys_in(shown))


@given(made_actions())
@MANY
def test_an_openapi_document_is_read_back(made: Made) -> None:
    """By the reader of other people's documents: the same operation, arguments, types and need of a yes."""
    (tool,) = read_back(openapi_document("made", [made.action]))
    spec = made.action.spec
    assert tool.name == spec.name
    assert tool.description == spec.description
    assert tool.needs_yes == (spec.effect == "gated")
    assert isinstance(tool.route, Route)
    assert (tool.route.method, tool.route.path) == ("POST", "/made")
    assert set(tool.route.places.values()) <= {"body"}
    ours, theirs = spec.parameters, tool.parameters
    assert list(theirs["properties"]) == list(ours["properties"])
    assert set(theirs["required"]) == set(ours.get("required", []))
    for name, each in ours["properties"].items():
        assert bedrock_type(theirs["properties"][name], theirs) == bedrock_type(each, ours), name
    Draft202012Validator(theirs).validate(made.written)


def read_back(document: JsonObject) -> list[Any]:
    """The tools that a document describes, as mounting it would find them."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "api.json"
        path.write_text(json.dumps(document), "utf-8")
        return list(read_openapi(path).tools)


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_every_group_of_ours_can_be_described(group: str, tmp_path: Path) -> None:
    """Within all limits, in each form, as readers of such documents take it; nothing of the session in any of it."""
    actions = GROUPS[group]
    description = group_description(actions)
    assert description.startswith(f"The {group} group: ")
    check(group, actions, "model")
    document = openapi_document(group, actions, description, version="0.1.0")
    validate(document)
    functions = function_schema(group, actions, description)
    path = tmp_path / "functions.json"
    path.write_text(json.dumps(functions), "utf-8")
    for tools in (read_back(document), read_functions(path)):
        assert {(each.name, each.needs_yes) for each in tools} == {(a.name, a.spec.effect == "gated") for a in actions}
        for tool, each in zip(tools, actions, strict=True):
            assert set(tool.parameters["properties"]) == set(each.spec.parameters["properties"])
    assert not SESSION_NAMES & set(keys_in([document, functions]))


@pytest.mark.parametrize("each", ACTIONS, ids=lambda each: each.name)
def test_every_page_has_a_call_that_is_accepted(each: Action) -> None:
    """Made up of the schema alone."""
    call = example_call(each)
    assert call is not None
    each.read(call["arguments"])


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_the_committed_pages_are_up_to_date(group: str) -> None:
    """They are made of the code."""
    path = Path(__file__).parents[2] / "docs" / "actions" / f"{group}.md"
    made = page(group, GROUPS[group], group_description(GROUPS[group]))
    assert path.is_file(), f"{path.name} is missing; run `make docs`"
    assert path.read_text("utf-8") == made, f"{path.name} is not up to date; run `make docs`"


# --- by hand --------------------------------------------------------------------------------------------------------


class There:
    """A place."""

    class Point(BaseModel):
        x: int


class Elsewhere:
    """Another, whose points are called alike."""

    class Point(BaseModel):
        y: str | None


def first_point() -> Action:
    @action(group="geometry", effect="read")
    async def find(ctx: ToolContext, at: There.Point, customer_id: Annotated[str, FromSession()] = "") -> JsonObject:
        """Find what is there.

        Args:
            at: Where | or there.

        Raises:
            NotFound: nothing is there;
                look elsewhere.
            Whatever: of another module.
        """
        raise NotFound("Nothing is there.")

    return find


def second_point() -> Action:
    @action(group="geometry", effect="gated")
    async def move(
        ctx: ToolContext,
        to: list[Elsewhere.Point],
        how: Literal["fast", "slow"] = "fast",
        rate: Annotated[float, Field(gt=0, lt=1)] | None = None,
        when: date | None = None,
        seen: Annotated[str, FromPreparation()] = "",
    ) -> JsonObject:
        """Move there.

        Args:
            to: The stops.
            how: At what speed.
            rate: Share of the way.
            when: On which day.
        """
        return {}

    return move


def test_two_types_of_one_name_stay_two() -> None:
    """Components are shared by what they are, not by what they are called."""
    twice = openapi_document("geometry", [first_point(), second_point()])
    validate(twice)
    assert set(twice["components"]["schemas"]) == {"Point", "move_Point"}
    once = openapi_document("geometry", [first_point()])
    assert once["components"]["schemas"] == {
        "Point": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    }
    assert body_of(twice, "move")["properties"]["to"]["items"] == {"$ref": "#/components/schemas/move_Point"}
    assert body_of(twice, "move")["properties"]["rate"] == {
        "description": "Share of the way.",
        "type": "number",
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 1,
        "exclusiveMaximum": True,
    }
    assert twice["components"]["schemas"]["move_Point"]["properties"]["y"] == {"type": "string", "nullable": True}
    assert "x-requireConfirmation" not in twice["paths"]["/find"]["post"]
    assert twice["paths"]["/move"]["post"]["x-requireConfirmation"] == "ENABLED"


def test_function_details_say_in_words_what_their_types_cannot() -> None:
    """An object is a string of JSON, and its schema stands in the description; choices and formats do as well."""
    find, move = function_schema("geometry", [first_point(), second_point()])["functions"]
    assert find["requireConfirmation"] == "DISABLED"
    assert find["parameters"]["at"] == {
        "type": "string",
        "description": 'Where | or there. Written as JSON by this schema: {"properties":{"x":{"type":"integer"}},'
        '"required":["x"],"type":"object"}',
        "required": True,
    }
    assert move["requireConfirmation"] == "ENABLED"
    told = {name: (each["type"], each["description"]) for name, each in move["parameters"].items()}
    assert told["to"][0] == "array"
    assert '"$defs":{"Point":' in told["to"][1]
    assert told["how"] == ("string", "At what speed. One of: fast, slow.")
    assert told["rate"] == ("number", "Share of the way.")
    assert told["when"] == ("string", "On which day. Format: date.")


def test_a_page_shows_what_a_person_needs() -> None:
    """Session values are named, and are no argument; errors have their codes."""
    text = page("geometry", [first_point(), second_point()], "Where things are.")
    assert "\n\nWhere things are.\n\n" in text
    assert "| `at` | object of `x` | yes | Where \\| or there. |" in text
    assert "From the signed-in session, never from a model: `customer_id`." in text
    assert "| `not_found` | nothing is there; look elsewhere. |\n| `Whatever` | of another module. |" in text
    assert '| `how` | one of `"fast"`, `"slow"` | no | At what speed. |' in text
    assert '{"name": "find", "arguments": {"at": {"x": 1}}}' in text
    assert "seen" not in text


def numbered(count: int, text: str, name: str = "do") -> Action:
    """An action with that many parameters, each described like that."""
    parameters = [_optional(f"p{n}") for n in range(count)]
    entries = "".join(f"    p{n}: {text}\n" for n in range(count))
    return made_by_hand(name, parameters, f"Do it. {text}" + (f"\n\nArgs:\n{entries}" if entries else ""))


def _optional(name: str) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=0)


def made_by_hand(name: str, parameters: list[inspect.Parameter], doc: str) -> Action:
    async def run(**_: Any) -> JsonObject:
        return {}

    run.__name__, run.__doc__ = name, doc
    run.__annotations__ = {each.name: int for each in parameters} | {"ctx": ToolContext}
    ctx = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = inspect.Signature([*parameters, ctx])  # type: ignore[attr-defined]
    return action(group="limits", effect="read")(run)


def test_all_that_is_beyond_limits_is_told_at_once() -> None:
    """Each with file and line, the limit and the fix."""
    actions = [numbered(6, "x"), numbered(1, "y" * 501), numbered(0, "z" * 1200), numbered(0, "", "a__b")]
    with pytest.raises(BeyondLimits) as refusal:
        function_schema("a__group", actions, "d" * 201)
    told = refusal.value.problems
    assert [each.split(":")[0] for each in told[:2]] == ["action group a__group"] * 2
    assert "201 characters, and Bedrock takes 200" in told[1]
    assert all(each.startswith("tests/unit/test_documents.py:") or ": do: " in each for each in told[2:])
    assert "do: it has 6 parameters (p0, p1, p2, p3, p4, p5), and Bedrock takes 5" in told[2]
    assert "the description of `p0` has 501 characters" in told[3]
    assert "its description has 1207 characters, and Bedrock takes 1200" in told[4]
    assert "a__b: its name is none that Bedrock takes" in told[5]
    assert len(told) == 6


def test_each_form_has_its_own_limits() -> None:
    """Five parameters are a matter of function details, eleven actions one of Bedrock, 64 characters one of models."""
    openapi_document("limits", [numbered(6, "x")])
    many = [numbered(0, "x", f"do_{n}") for n in range(12)]
    check("limits", many, "model")
    with pytest.raises(BeyondLimits, match="12 actions, and Bedrock takes 11"):
        openapi_document("limits", many)
    long = numbered(0, "x", "a" * 65)
    function_schema("limits", [long])
    with pytest.raises(BeyondLimits, match="up to 64"):
        check("limits", [long], "model")


@given(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,110}", fullmatch=True))
@settings(max_examples=200, deadline=None)
def test_names_are_judged_as_bedrock_does(name: str) -> None:
    """Letters and digits, each followed by at most one `_` or `-`; at most a hundred of them."""
    plain = re.fullmatch(r"[a-zA-Z0-9_-]+", name) and name[0] not in "_-" and not re.search("[_-]{2}", name)
    fits = bool(plain) and len(re.sub("[_-]", "", name)) <= 100
    assert bool(BEDROCK_NAME.fullmatch(name)) == fits


async def test_a_null_of_any_type_is_told() -> None:
    """Where the schema says nothing of a value's type, null is one of them and not an absence."""

    @action(group="x", effect="read")
    async def keep(value: Any, ctx: ToolContext) -> JsonObject:
        """Keep it.

        Args:
            value: Whatever it is.
        """
        return {"kept": value}

    assert types_of(keep.spec.parameters["properties"]["value"], keep.spec.parameters) is None
    assert sent_and_read("function", keep, {"value": None}) == {"value": None}
    with pytest.raises(ToolError):
        keep.read({})
