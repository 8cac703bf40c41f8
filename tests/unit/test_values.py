"""Typed values as text and back: nothing is lost on the way that Bedrock passes arguments on."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tools.values import bedrock_type, fitted, from_text, to_text, types_of

SCHEMAS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "integer"},
    {"type": "number"},
    {"type": "boolean"},
    {"type": "array", "items": {"type": "string"}},
    {"type": "array", "items": {"type": "object"}},
    {"type": "object"},
    {"type": ["string", "null"]},
    {"type": ["integer", "string"]},
    {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}, {"type": "null"}]},
    {"enum": ["a", "1", "true"]},
    {"enum": [1, "1", None]},
    {"$ref": "#/$defs/either"},
    {},
]
ROOT = {"$defs": {"either": {"oneOf": [{"type": "boolean"}, {"type": "string"}]}}}
TRAPS = ["", " ", "5", "true", "null", '"a"', "[1]", "{}", "\u2028", "1e5", "a,b", "{a=1}", "9007199254740993", "-0"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.sampled_from(TRAPS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Equal, also in kind: 1 is neither True nor "1"."""
    if isinstance(one, float) or isinstance(other, float):
        return not isinstance(one, bool) and not isinstance(other, bool) and math.isclose(one, other, rel_tol=0)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(SCHEMAS), JSON)
def test_a_value_that_its_schema_allows_survives_as_text(schema: dict[str, Any], value: Any) -> None:
    """Whatever type it has, and whatever else its text could be taken for."""
    if Draft202012Validator({**schema, **ROOT}).is_valid(value):
        assert same(from_text(to_text(value, schema, ROOT), schema, ROOT), value)


@settings(max_examples=500, deadline=None)
@given(st.text() | st.sampled_from(TRAPS))
def test_a_plain_string_is_its_own_text(value: str) -> None:
    """Foreign functions read the text as it is."""
    assert to_text(value, {"type": "string"}, {}) == value


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("True", {"type": "boolean"}, True),
        ("FALSE", {"type": "boolean"}, False),
        ("5.0", {"type": "integer"}, 5),
        (" 7 ", {"type": "integer"}, 7),
        (".5", {"type": "number"}, 0.5),
        ("[a, b]", {"type": "array", "items": {"type": "string"}}, ["a", "b"]),
        ("a, b", {"type": "array", "items": {"type": "string"}}, ["a", "b"]),
        ("['x', \"y\"]", {"type": "array"}, ["x", "y"]),
        ("[1, 2]", {"type": "array", "items": {"type": "string"}}, [1, 2]),
        ("500101", {"type": "array", "items": {"type": "integer"}}, [500101]),
        ("[]", {"type": "array"}, []),
        ("{a=1, b=x}", {"type": "object", "properties": {"a": {"type": "integer"}}}, {"a": 1, "b": "x"}),
        ("{}", {"type": "object"}, {}),
        ("maybe", {"type": "boolean"}, "maybe"),
        ("five", {"type": "integer"}, "five"),
        ("NaN", {"type": "number"}, "NaN"),
        ("{oops}", {"type": "object"}, "{oops}"),
    ],
)
def test_what_models_and_bedrock_write_is_read(text: str, schema: dict[str, Any], value: Any) -> None:
    """And what means nothing stays as it is, for the schema to refuse."""
    found = from_text(text, schema, {})
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ({"type": "string"}, "string"),
        ({"type": ["integer", "null"]}, "integer"),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, "number"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "string"),
        ({"enum": [1, 2]}, "integer"),
        ({"allOf": [{"$ref": "#/$defs/either"}]}, "string"),
        ({"properties": {}}, "object"),
        ({}, "string"),
        ({"$ref": "#/$defs/missing"}, "string"),
    ],
)
def test_each_schema_has_one_of_bedrocks_type_names(schema: dict[str, Any], name: str) -> None:
    """What may be several things goes as a string."""
    assert bedrock_type(schema, ROOT) == name


def test_a_schema_that_refers_to_itself_has_no_end() -> None:
    """And says nothing about its type."""
    endless = {"$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert types_of({"$ref": "#/$defs/a"}, endless) is None


@pytest.mark.parametrize(
    ("value", "schema", "meant"),
    [
        ("5", {"type": "integer"}, 5),
        (5, {"type": "string"}, "5"),
        (5.0, {"type": "integer"}, 5),
        ('["a"]', {"type": "array"}, ["a"]),
        ("a", {"type": "array"}, "a"),
        (True, {"type": "string"}, True),
        ("x", {"type": "integer"}, "x"),
        (5, {"anyOf": [{"type": "string"}, {"type": "null"}]}, "5"),
        (None, {"type": "string"}, None),
    ],
)
def test_only_the_notation_is_mended(value: Any, schema: dict[str, Any], meant: Any) -> None:
    """A value of another kind is left for the schema to refuse."""
    found = fitted(value, schema, {})
    assert (found, type(found)) == (meant, type(meant))
