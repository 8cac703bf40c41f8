"""Tools from other people's documents, and what is said of documents that cannot be used."""

from __future__ import annotations

import copy
import json
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from tools.contract import JsonObject
from tools.executors.config import ExecutorError
from tools.executors.document_file import MAX_BYTES, load
from tools.executors.documents import Route, read_functions, read_openapi
from tools.executors.http_request import encoded
from tools.executors.mounted import ForeignTool

MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(folder: Path, content: Any, name: str = "api.json") -> Path:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def api(paths: JsonObject, version: str = "3.1.0", **more: Any) -> JsonObject:
    return {"openapi": version, "info": {"title": "Things", "version": "1"}, "paths": paths, **more}


def one(folder: Path, operation: JsonObject, path: str = "/things", method: str = "post", **more: Any) -> ForeignTool:
    """The only tool of a document with one operation."""
    (tool,) = read_openapi(written(folder, api({path: {method: operation}}, **more)), over_http=True).tools
    Draft202012Validator.check_schema(tool.parameters)
    return tool


def body(schema: Any, media: str = "application/json", **more: Any) -> JsonObject:
    return {"requestBody": {"content": {media: {"schema": schema}}, **more}}


def parameter(place: str, name: str, schema: Any = None, **more: Any) -> JsonObject:
    return {"name": name, "in": place, "schema": {"type": "string"} if schema is None else schema, **more}


def converted(folder: Path, schema: Any, **schemas: Any) -> Draft202012Validator:
    """A validator of the one query-free argument that has this schema."""
    tool = one(folder, body({"type": "object", "properties": {"v": schema}}), components={"schemas": schemas})
    return Draft202012Validator({**tool.parameters["properties"]["v"], "$defs": tool.parameters.get("$defs", {})})


# --- files ------------------------------------------------------------------------------------------------------------


def test_yaml_has_the_types_of_json(tmp_path: Path) -> None:
    """Dates, times, `on` and status codes as keys are texts, as OpenAPI wants it."""
    text = "a: 2026-03-16\nb: 09:30:00\nc: on\n200: {d: 1e3, e: .5, f: -7, g: ~, h: true, i: 0x1f}\n"
    text += "k: &k {l: 1}\nm: {<<: *k}"
    assert load(written(tmp_path, text, "x.yaml")).root == {
        "a": "2026-03-16",
        "b": "09:30:00",
        "c": "on",
        "200": {"d": 1000.0, "e": 0.5, "f": -7, "g": None, "h": True, "i": "0x1f"},
        "k": {"l": 1},
        "m": {"l": 1},
    }


BOMB = "a: &a [x, x]\n" + "".join(
    f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "name", "problem"),
    [
        ("{'a': 1", "x.json", "is no JSON: .* line 1"),
        ("a: [1\nb: 2", "x.yaml", "neither JSON nor YAML: .* line 2"),
        ('{"a": NaN}', "x.json", "NaN is no JSON value"),
        ("a: 1e999", "x.yaml", r"\$\.a: is a number beyond"),
        ("[" * 1_000_000, "x.json", "nested more than"),
        ("[" * 1_000_000, "x.yaml", "nested more than"),
        ("- " * 100_000, "x.yaml", "nested more than"),
        (BOMB, "x.yaml", "holds more than"),
        ("a: &a {b: *a}", "x.yaml", "neither JSON nor YAML: .*recursive"),
        ("!!python/object/apply:os.system [ls]", "x.yaml", "neither JSON nor YAML: .*constructor"),
        ("? [a]\n: 1", "x.yaml", "a key is no text"),
        (b"a: \xff", "x.yaml", "is not UTF-8 .byte 3"),
        (" " * (MAX_BYTES + 1), "x.yaml", "is larger than"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: Any, name: str, problem: str) -> None:
    """The file is named, and as far as there is one, the place; no file can take the process down."""
    path = written(tmp_path, content, name)
    with pytest.raises(ExecutorError, match=problem) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Or is a folder."""
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ExecutorError, match="cannot be read"):
            load(path)


# --- function details -------------------------------------------------------------------------------------------------

BOOK: JsonObject = {
    "name": "book",
    "description": "Book a table.",
    "requireConfirmation": "ENABLED",
    "parameters": {
        "from": {"type": "string", "description": "Start.", "required": True},
        "guests": {"type": "integer"},
        "wishes": {"type": "array"},
    },
}


@pytest.mark.parametrize(
    "around", [lambda f: f, lambda f: {"functions": f}, lambda f: {"functionSchema": {"functions": f}}]
)
def test_functions(tmp_path: Path, around: Any) -> None:
    """Whichever part of the action group was written down."""
    book, plain = read_functions(
        written(tmp_path, around([BOOK, {"name": "plain", "requireConfirmation": "DISABLED"}]))
    )
    assert (book.name, book.description, book.needs_yes, book.route) == ("book", "Book a table.", True, None)
    assert book.parameters == {
        "type": "object",
        "properties": {
            "from": {"type": "string", "description": "Start."},
            "guests": {"type": "integer"},
            "wishes": {"type": "array", "items": {}},
        },
        "required": ["from"],
        "additionalProperties": False,
    }
    assert (plain.description, plain.needs_yes, plain.parameters["properties"]) == ("plain", False, {})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], r"\$: has no functions"),
        ({"functions": {}}, r"\$\.functions: has no functions"),
        ("just text", r"\$: has no functions"),
        (["book"], r"\$\[0\]: is no function"),
        ([{"description": "x"}], r"\$\[0\]: has no name"),
        ([{"name": 5}], r"\$\[0\]\.name: is a number; write a text"),
        ([BOOK, BOOK], r"\$\[0\]: 'book' is the name of 2 tools"),
        (
            {"functions": [{"name": "a", "parameters": []}]},
            r"\$\.functions\[0\]\.parameters: is a list; write an object",
        ),
        ([{"name": "a", "parameters": {"b c": {"type": "object"}}}], r"\$\[0\]\.parameters\['b c'\]: has no type"),
        ([{"name": "a", "parameters": {"b": "string"}}], r"\.parameters\.b: has no type"),
        (
            [{"name": "a", "parameters": {"b": {"type": "string", "required": "yes"}}}],
            r"\.b\.required: is a text; write true",
        ),
        ([{"name": "a", "requireConfirmation": "YES"}], "write ENABLED or DISABLED"),
    ],
)
def test_functions_that_cannot_be_used(tmp_path: Path, content: Any, problem: str) -> None:
    """Each complaint names the place and the fix."""
    with pytest.raises(ExecutorError, match=problem):
        read_functions(written(tmp_path, content, "functions.yaml" if isinstance(content, str) else "functions.json"))


# --- operations -------------------------------------------------------------------------------------------------------

PETS = """
openapi: 3.0.3
info: {title: Pets, version: "1"}
servers:
  - url: https://{region}.example/v{version}
    variables: {region: {default: eu}, version: {default: 2}}
  - url: /relative
paths:
  /pets/{pet id}:
    summary: of the path
    parameters:
      - {name: pet id, in: path, required: true, schema: {type: integer, format: int64}}
      - {$ref: '#/components/parameters/Trace'}
    put:
      operationId: put_pet
      summary: Change a pet.
      description: All that is not given stays.
      x-requireConfirmation: ENABLED
      parameters:
        - {name: x-trace, in: header, required: true, description: Overridden., schema: {type: integer}}
        - {name: Accept, in: header, schema: {type: string}}
        - {name: tags, in: query, example: [a], schema: {type: array, items: {type: string}}}
      requestBody: {$ref: '#/components/requestBodies/Pet'}
    get: {description: Look at a pet.}
components:
  parameters:
    Trace: {name: X-Trace, in: header, schema: {type: string}}
  requestBodies:
    Pet: {required: true, content: {application/json; charset=utf-8: {schema: {$ref: '#/components/schemas/Pet'}}}}
  schemas:
    Named: {type: object, required: [id, name], properties: {id: {type: integer, readOnly: true}, name: {type: string}}}
    Pet:
      allOf:
        - {$ref: '#/components/schemas/Named'}
        - {type: object, properties: {parent: {$ref: '#/components/schemas/Pet'}, tag: {type: string}}}
        - {required: [tag]}
"""


def test_an_api(tmp_path: Path) -> None:
    """Parameters of path and operation, a body by reference, its members as arguments, and a schema of itself."""
    found = read_openapi(written(tmp_path, PETS, "pets.yaml"))
    assert (found.title, found.servers) == ("Pets", ["https://eu.example/v2", "/relative"])
    get, put = found.tools
    assert (get.name, get.description, get.needs_yes) == ("get_pets_pet_id", "Look at a pet.", False)
    assert (put.name, put.description) == ("put_pet", "Change a pet.\n\nAll that is not given stays.")
    assert put.needs_yes
    assert put.parameters["properties"] == {
        "pet_id": {"title": "pet id", "type": "integer", "format": "int64"},
        "x-trace": {"type": "integer", "description": "Overridden."},
        "tags": {"type": "array", "items": {"type": "string"}, "examples": [["a"]]},
        "name": {"type": "string"},
        "parent": {"$ref": "#/$defs/Pet"},
        "tag": {"type": "string"},
    }
    assert put.parameters["required"] == ["pet_id", "x-trace", "name", "tag"]
    assert set(put.parameters["$defs"]) == {"Pet", "Named"}
    route: Route = put.route
    assert (route.method, route.path, route.media_type) == ("PUT", "/pets/{pet id}", "application/json; charset=utf-8")
    in_body = dict.fromkeys(["name", "parent", "tag"], "body")
    assert route.places == {"pet_id": "path", "x-trace": "header", "tags": "query", **in_body}
    assert route.names["pet_id"] == "pet id"
    check = Draft202012Validator(put.parameters)
    pet = {"name": "a", "tag": "t"}
    assert check.is_valid({"pet_id": 1, "x-trace": 1, **pet, "parent": {**pet, "parent": pet}})
    assert not check.is_valid({"pet_id": 1, "x-trace": 1, **pet, "parent": {**pet, "parent": {"name": "a"}}})


@pytest.mark.parametrize(
    ("extension", "needed"),
    [
        ({"x-requireConfirmation": "ENABLED"}, True),
        ({"x-requireConfirmation": "DISABLED"}, False),
        ({"x-require-confirmation": True}, True),
        ({"x-openai-isConsequential": True}, True),
        ({"x-openai-isConsequential": False}, False),
        ({}, False),
    ],
)
def test_a_document_may_ask_for_a_yes(tmp_path: Path, extension: JsonObject, needed: bool) -> None:
    """In the words of either platform that has some."""
    assert one(tmp_path, extension).needs_yes is needed


def test_members_of_one_name_get_their_place_before_it(tmp_path: Path) -> None:
    """All of them, so that none is taken for the other."""
    parameters = [parameter("path", "id", required=True), parameter("query", "id"), parameter("query", "x[y]")]
    parameters.append(parameter("header", "x_y"))
    tool = one(tmp_path, {"parameters": parameters, **body({"type": "object", "properties": {"id": {}}})}, "/a/{id}")
    assert list(tool.parameters["properties"]) == ["path_id", "query_id", "query_x_y", "header_x_y", "body_id"]
    request = encoded(
        tool.route, {"path_id": "p", "query_id": "q", "query_x_y": "1", "header_x_y": "2", "body_id": "b"}
    )
    assert (request.target, request.content) == ("/a/p?id=q&x%5By%5D=1", b'{"id":"b"}')
    assert request.headers[0] == (b"x_y", b"2")


def test_what_the_session_fills_in_keeps_its_name(tmp_path: Path) -> None:
    """As `body_customer_id` a model could fill it in; so one argument goes to both places."""
    parameters = [parameter("path", "customer_id", required=True)]
    members = {"type": "object", "properties": {"customer_id": {"type": "string"}}, "required": ["customer_id"]}
    tool = one(tmp_path, {"parameters": parameters, **body(members)}, "/of/{customer_id}")
    assert list(tool.parameters["properties"]) == tool.parameters["required"] == ["customer_id"]
    request = encoded(tool.route, {"customer_id": "C1"})
    assert (request.target, request.content) == ("/of/C1", b'{"customer_id":"C1"}')


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ({"type": "object", "properties": {"a": {}}}, ["a"]),
        ({"properties": {"a": {}}, "additionalProperties": True}, ["a"]),
        ({"$ref": "#/components/schemas/A"}, ["a"]),
        ({"allOf": [{"$ref": "#/components/schemas/A"}, {"properties": {"b": {}}}]}, ["a", "b"]),
        ({"allOf": [{"oneOf": [{"properties": {"a": {}}}]}]}, ["body"]),
        ({"oneOf": [{"properties": {"a": {}}}]}, ["body"]),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}}, ["body"]),
        ({"type": "object", "properties": {"a": {}}, "minProperties": 1}, ["body"]),
        ({"type": "object", "properties": {}, "additionalProperties": False}, []),
        ({"type": "object", "properties": {}}, ["body"]),
        ({"type": "object"}, ["body"]),
        ({"type": "array", "items": {}}, ["body"]),
        ({"type": "string"}, ["body"]),
        ({"$ref": "#/components/schemas/Loop"}, ["body"]),
        (True, ["body"]),
        ({}, ["body"]),
    ],
)
def test_which_bodies_are_lists_of_members(tmp_path: Path, schema: Any, names: list[str]) -> None:
    """An object with nothing but members becomes arguments of their names; any other body is one argument."""
    schemas = {
        "A": {"type": "object", "properties": {"a": {}}},
        "Loop": {"allOf": [{"$ref": "#/components/schemas/Loop"}]},
    }
    tool = one(tmp_path, body(schema), components={"schemas": schemas})
    assert list(tool.parameters["properties"]) == names
    assert tool.route.whole_body is (names == ["body"])


def test_equal_members_of_an_all_of_are_one_and_others_must_both_hold(tmp_path: Path) -> None:
    """As `allOf` has it."""
    parts: list[JsonObject] = [{"properties": {"a": {"type": "string"}, "n": {"minimum": 1}}}]
    parts.append({"properties": {"a": {"type": "string"}, "n": {"maximum": 3}}})
    properties = one(tmp_path, body({"allOf": parts})).parameters["properties"]
    assert properties == {"a": {"type": "string"}, "n": {"allOf": [{"minimum": 1}, {"maximum": 3}]}}


@pytest.mark.parametrize(
    ("content", "sent_as"),
    [
        ({"application/xml": {}, "application/json": {}}, "application/json"),
        ({"application/x-www-form-urlencoded": {}, "application/merge-patch+json": {}}, "application/merge-patch+json"),
        ({"*/*": {"schema": {}}}, "application/json"),
    ],
)
def test_the_media_type_of_a_body(tmp_path: Path, content: JsonObject, sent_as: str) -> None:
    """JSON if the server takes it, else something like it, else a form."""
    assert one(tmp_path, {"requestBody": {"content": content}}).route.media_type == sent_as


# --- schemas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "nullable": True}, ["a", None], [1]),
        ({"type": "string", "nullable": False}, ["a"], [None]),
        ({"type": "string", "enum": ["a"], "nullable": True}, ["a", None], ["b"]),
        ({"$ref": "#/components/schemas/Name", "nullable": True}, ["a", None], [1]),
        ({"allOf": [{"$ref": "#/components/schemas/Name"}], "nullable": True}, ["a", None], [1]),
        ({"nullable": True}, ["a", None, 1], []),
        ({"type": ["string", "null"]}, ["a", None], [1]),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, [1.5], [1]),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": False}, [1], [0.5]),
        ({"type": "number", "maximum": 1, "exclusiveMaximum": True}, [0.5], [1]),
        ({"type": "number", "exclusiveMinimum": 1}, [1.5], [1]),
        ({"type": "number", "multipleOf": 0.01}, [19.99, 0.07, 1.1], ["a"]),
        ({"type": "integer", "multipleOf": 3}, [9], [10]),
        ({"type": "string", "pattern": r"^\p{L}+$"}, ["a"], [1]),
        ({"type": "string", "pattern": "^a+$"}, ["aa"], ["b"]),
        ({"type": "string", "minLength": 1.0, "maxLength": 2}, ["a"], ["", "abc"]),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}], "discriminator": {"propertyName": "x"}}, ["a", 1], [1.5]),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ["a", None], [1]),
        ({"not": {"type": "string"}}, [1], ["a"]),
        ({"const": None}, [None], [0]),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": False}, [["a"]], [["a", "b"]]),
        ({"type": "object", "properties": {"a": {"readOnly": True}}, "required": ["a"]}, [{}], [1]),
        ({"type": "object", "properties": {"a": {"$ref": "#/components/schemas/Given"}}, "required": ["a"]}, [{}], [1]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, [{"x": 1}], [{"x": "1"}]),
        ({"type": "object", "patternProperties": {"^n": {"type": "integer"}}}, [{"n1": 1}], [{"n1": "1"}]),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, [{"b": 1}], [{"a": 1}]),
        ({"if": {"type": "string"}, "then": {"minLength": 2}, "else": False}, ["ab"], ["a", 1]),
        ({"$ref": "#/components/schemas/a~1b%20c~0"}, [True], [1]),
        ({"$ref": "#/components/schemas/Tree"}, [{"of": [{"of": []}]}], [{"of": [1]}, {"of": [{"of": 1}]}]),
        ({"$ref": "#/components/schemas/Tree/properties/of"}, [[{"of": []}]], [{"of": []}]),
        ({"type": "string", "x-whatever": 1, "xml": {}, "externalDocs": {}, "deprecated": True}, ["a"], [1]),
        (True, [1, None], []),
        (False, [], [1, None]),
    ],
)
def test_what_a_schema_allows(tmp_path: Path, schema: Any, good: list[Any], bad: list[Any]) -> None:
    """The converted schema takes what the document's own does, in either dialect."""
    schemas = {"Name": {"type": "string"}, "Given": {"type": "string", "readOnly": True}, "a/b c~": {"type": "boolean"}}
    tree: JsonObject = {
        "type": "object",
        "properties": {"of": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}},
    }
    check = converted(tmp_path, schema, Tree=tree, **schemas)
    assert [value for value in good if not check.is_valid(value)] == []
    assert [value for value in bad if check.is_valid(value)] == []


def test_what_cannot_be_checked_is_told(tmp_path: Path) -> None:
    """A pattern of another dialect, and fractions, which are never exact multiples."""
    text = converted(tmp_path, {"type": "string", "pattern": r"\p{L}", "description": "A letter."}).schema
    assert (text["description"], "pattern" in text) == (r"A letter. Pattern: \p{L}", False)
    number = converted(tmp_path, {"type": "number", "multipleOf": 0.5}).schema
    assert (number["description"], "multipleOf" in number) == ("A multiple of 0.5.", False)


PLAIN: st.SearchStrategy[JsonObject] = st.deferred(
    lambda: (
        st.fixed_dictionaries({"type": st.sampled_from(["string", "boolean"])}, optional={"title": st.text(max_size=5)})
        | st.fixed_dictionaries(
            {"type": st.just("integer"), "minimum": st.integers(-9, 0), "maximum": st.integers(0, 9)}
        )
        | st.fixed_dictionaries(
            {"enum": st.lists(st.integers() | st.text(max_size=3) | st.none(), min_size=1, unique=True)}
        )
        | st.fixed_dictionaries({"type": st.just("array"), "items": PLAIN, "minItems": st.integers(0, 2)})
        | st.fixed_dictionaries({"anyOf": st.lists(PLAIN, min_size=1, max_size=2)})
        | st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(st.text(max_size=4), PLAIN, max_size=3)},
            optional={"additionalProperties": st.booleans() | PLAIN},
        )
    )
)


@MANY
@given(schema=PLAIN)
def test_a_schema_of_today_stays_as_it_is(tmp_path: Path, schema: JsonObject) -> None:
    """Nothing is lost of what JSON Schema itself has."""
    tool = one(tmp_path, body({"type": "array", "items": schema}))
    assert tool.parameters["properties"]["body"] == {"type": "array", "items": schema}


# --- every argument arrives -------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["self", "config", "from", "id", "a b", "a[b]", "a_b", "X-Id", "名前", "class", "body", "$x", "a.b"]
)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8) | st.sampled_from(
    ["\u2028", "%2F", "😀", "[1]", '{"a":1}', "null", "true", "12", "a/b", "?", "#", "&", "=", "+"]
)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXT,
    "integer": st.integers(-(2**63), 2**63 - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
}
MEMBERS = st.lists(
    st.tuples(st.sampled_from(["path", "query", "header", "body"]), NAMES, st.sampled_from(sorted(KINDS))),
    unique_by=lambda each: (each[0], each[1]),
    max_size=8,
)


@MANY
@given(data=st.data(), members=MEMBERS)
def test_every_argument_arrives_in_its_place_under_its_name(tmp_path: Path, data: st.DataObject, members: Any) -> None:
    """However many share a name, and whatever they had to be called."""
    members = [
        each for each in members if each[0] != "header" or each[1] in ("self", "from", "id", "X-Id", "a_b", "a.b")
    ]
    path = "/x" + "".join(f"/{{{name}}}" for place, name, _ in members if place == "path")
    operation: JsonObject = {
        "parameters": [
            parameter(place, name, {"type": kind}, required=True) for place, name, kind in members if place != "body"
        ]
    }
    inner = {name: {"type": kind} for place, name, kind in members if place == "body"}
    operation |= body({"type": "object", "properties": inner}) if inner else {}
    tool = one(tmp_path, operation, path)
    values = {(place, name): data.draw(KINDS[kind]) for place, name, kind in members}
    for key, value in values.items():
        if key[0] in ("path", "header") and isinstance(value, str):
            values[key] = value.strip() or "x" if value.strip(".") else "dots"
    args = {each.argument: values[each.place, each.name] for each in tool.route.fields}
    assert len(args) == len(values) == len(tool.parameters["properties"])
    Draft202012Validator(tool.parameters).validate(args)
    assert all(1 <= len(name) <= 64 and name.isascii() for name in args)

    request = encoded(tool.route, args)
    target, _, query = request.target.partition("?")
    segments = [unquote(each) for each in target.split("/")[2:]]
    assert segments == [as_text(each) for (place, _), each in values.items() if place == "path"]
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    assert pairs == {name: as_text(each) for (place, name), each in values.items() if place == "query"}
    headers = {name.decode(): value.decode() for name, value in request.headers if name != b"Content-Type"}
    assert headers == {name: as_text(each) for (place, name), each in values.items() if place == "header"}
    got = json.loads(request.content) if request.content else {}
    assert got == {name: each for (place, name), each in values.items() if place == "body"}


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# --- documents that cannot be used ------------------------------------------------------------------------------------

REMOTE = {"$ref": "https://evil.example/schema.json"}
LINKED = {"a": {"$ref": "#/components/parameters/b"}, "b": {"$ref": "#/components/parameters/a"}}


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        ({"parameters": [parameter("cookie", "s")]}, r"\.post\.parameters\[0\]: s is a cookie"),
        ({"parameters": [parameter("query", "q", {"type": "object"}, style="deepObject")]}, r"\.style: 'deepObject'"),
        ({"parameters": [parameter("query", "q", {"type": "object"})]}, "q is too rich for the query"),
        (
            {"parameters": [parameter("header", "h", {"type": "array", "items": {"type": "object"}})]},
            "too rich for the h",
        ),
        ({"parameters": [parameter("header", "a b")]}, "is no name of a header"),
        ({"parameters": [parameter("path", "id")]}, "does not occur in the path"),
        ({"parameters": [parameter("everywhere", "q")]}, "names no parameter"),
        ({"parameters": [{"in": "query"}]}, "names no parameter"),
        ({"parameters": {}}, r"\.parameters: is an object; write a list"),
        ({"parameters": [{"$ref": "other.yaml#/q"}]}, "leads out of the file, and nothing is fetched"),
        ({"parameters": [{"$ref": "#/components/parameters/a"}]}, "too many references"),
        (body(REMOTE), r"\['application/json'\]\.schema\['\$ref'\]: .*nothing is fetched"),
        (body({"type": "array", "items": REMOTE}), r"\.items\['\$ref'\]: .*nothing is fetched"),
        (
            body({"type": "array", "items": {"$ref": "#/components/schemas/None"}}),
            "there is no '#/components/schemas/None'",
        ),
        (body({"type": "array", "items": {"$ref": "#name"}}), "is no JSON pointer"),
        (body({"type": "array", "items": {"$dynamicRef": "#node"}}), "cannot be followed"),
        (body({"type": "array", "items": [{}]}), r"\.items: is no schema"),
        (body({"type": "file"}), r"\.schema\.type: 'file' is no type"),
        (body({"type": "string", "required": True}), r"\.required: is true or false; write a list"),
        (body({"type": "string", "enum": []}), r"\.enum: has no choices"),
        (body({"type": "string", "minLength": -1}), r"\.minLength: is no count"),
        (body({"type": "number", "multipleOf": 0}), "is not above 0"),
        (body({"type": "number", "minimum": "1"}), r"\.minimum: is no number"),
        (body({"patternProperties": {r"\p{L}": {}}}), "Python cannot read"),
        (body({"type": "object"}, "multipart/form-data"), "is neither JSON nor a form"),
        (
            body({"properties": {"a": {"type": "object"}}}, "application/x-www-form-urlencoded"),
            "a is too rich for a form",
        ),
        (body({"type": "string"}, "application/x-www-form-urlencoded"), "too rich for a form"),
        (body({}, "application/json;\r\nX-Evil: 1"), "is no media type"),
        ({"requestBody": {}}, "is neither JSON nor a form"),
        ({"servers": [{"url": "https://{a}.example"}]}, r"add variables\.a\.default"),
        ({"operationId": 5}, r"\.operationId: is a number; write a text"),
        ({"x-requireConfirmation": "MAYBE"}, "write ENABLED or DISABLED"),
    ],
)
def test_operations_that_cannot_be_used(tmp_path: Path, operation: JsonObject, problem: str) -> None:
    """Each complaint names file, place and fix; nothing is fetched."""
    with pytest.raises(ExecutorError, match=problem) as caught:
        one(tmp_path, operation, components={"parameters": LINKED})
    assert str(caught.value).startswith(f"{tmp_path / 'api.json'}: $.")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"swagger": "2.0", "paths": {}}, "is Swagger 2.0; convert"),
        ({"openapi": "4.0.0", "paths": {}}, "says no `openapi: 3.0`"),
        ({"paths": {}}, "says no `openapi: 3.0`"),
        ([], "is a list; write an object"),
        (api({}), r"\$\.paths: describes no operations"),
        (api({"things": {"get": {}}}), r"\$\.paths\.things: is no path"),
        (api({"/a/../b": {"get": {}}}), "is no path"),
        (api({"/a?b=c": {"get": {}}}), "is no path"),
        (api({"/a": {"get": []}}), r"\.get: is a list; write an object"),
        (api({"/a/{id}": {"get": {}}}), r"\{id\} of the path is not described"),
        (api({"/a": {"get": {"operationId": "x"}, "post": {"operationId": "x"}}}), "'x' is the name of 2 tools"),
        (api({"/a/b": {"get": {}}, "/a_b": {"get": {}}}), "give each its own `operationId`"),
    ],
)
def test_documents_that_cannot_be_used(tmp_path: Path, document: Any, problem: str) -> None:
    """Before anything is mounted."""
    with pytest.raises(ExecutorError, match=problem):
        read_openapi(written(tmp_path, document))


def test_an_event_carries_what_http_cannot(tmp_path: Path) -> None:
    """Function groups of Bedrock have objects among their query parameters, and get them as text."""
    rich = [
        parameter("query", "q", {"type": "object"}),
        parameter("query", "r", {"type": "array"}, style="pipeDelimited"),
    ]
    (tool,) = read_openapi(written(tmp_path, api({"/things": {"post": {"parameters": rich}}}))).tools
    assert tool.parameters["properties"] == {"q": {"type": "object"}, "r": {"type": "array"}}


def test_an_operation_that_is_not_there(tmp_path: Path) -> None:
    """Those that are there are named."""
    with pytest.raises(ExecutorError, match="there is no operation nothing; there are: get_a"):
        read_openapi(written(tmp_path, api({"/a": {"get": {}}})), only=["nothing"])


JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, -1, 1.5, "", "x", "#/", [], [None], [{}], {}, {"$ref": 5}, {"": {}}, {"type": []}]
)


@cache
def pets() -> Any:
    """The document above, with every keyword of a schema in it."""
    with tempfile.TemporaryDirectory() as folder:
        whole = load(written(Path(folder), PETS, "pets.yaml")).root
    whole["components"]["schemas"]["Named"]["properties"]["all"] = ALL_KEYWORDS
    return whole


def places(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [at, *(place for key, each in inner for place in places(each, (*at, key)))]


@MANY
@given(data=st.data())
def test_a_broken_document_is_read_or_complained_about(tmp_path: Path, data: st.DataObject) -> None:
    """With anything anywhere in place of what belongs there, nothing but `ExecutorError` is raised."""
    whole = copy.deepcopy(pets())
    at = data.draw(st.sampled_from(places(whole)))
    holder: JsonObject = {"root": whole}
    node: Any = holder
    for part in ("root", *at)[:-1]:
        node = node[part]
    node[("root", *at)[-1]] = copy.deepcopy(data.draw(JUNK))
    try:
        tools = read_openapi(written(tmp_path, holder["root"])).tools
    except ExecutorError:
        return
    for tool in tools:
        with suppress(SchemaError):  # told when it is mounted
            Draft202012Validator.check_schema(tool.parameters)
        assert set(tool.parameters["properties"]) == set(tool.route.places)


ALL_KEYWORDS: JsonObject = {
    "type": "object",
    "title": "All",
    "format": "all",
    "enum": [{}],
    "properties": {"a": {"type": "string", "pattern": "^a", "minLength": 1, "nullable": True, "example": "a"}},
    "patternProperties": {"^b": {"type": "number", "minimum": 1, "exclusiveMinimum": True, "multipleOf": 2}},
    "required": ["a"],
    "allOf": [{"minProperties": 1}],
    "anyOf": [{"items": {}, "uniqueItems": True}],
    "dependentRequired": {"a": ["b"]},
    "not": {"const": 1},
}
