"""Tools and calls of many shapes, the same ones every time: what a model may be offered, and what it may then say.

In the manner of public collections of function calls: all JSON types and none, enums, defaults, parameters left out,
lists, objects two deep, lists of objects, and names that are words of a programming language. All arguments are valid.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tools.contract import JsonObject


@dataclass(frozen=True)
class Case:
    """One tool and one valid call of it. Names are unique; `parameters` is the JSON Schema of an object."""

    name: str
    description: str
    parameters: JsonObject
    arguments: JsonObject


@dataclass(frozen=True)
class _Kind:
    """A type of value, and values of it."""

    label: str
    schema: JsonObject
    values: tuple[Any, ...]


# fmt: off
_TEXTS = (
    "Berlin", "", " ", "  padded  ", "two\nlines", "tab\there", "\u2028\u2029", "😀", "👩\u200d👩\u200d👧", "e\u0301 é",
    "日本語", "עברית", "%2F", "../../etc", "a/b?c#d&e=f", "a+b", '"quoted"', "it's", "back\\slash", "<b>&amp;</b>",
    "{{x}}", "${x}", "\\u0041", "12", "007", "1.50", "true", "False", "null", "None", "[1, 2]", '{"a": 1}', "[a, b]",
    "{a=1}", "NaN", "1e3", "x" * 500,
)
_ANY: tuple[Any, ...] = (
    "text", "12", "true", "null", "[1]", '{"a": 1}', 12, -0.5, True, None, [], {}, [1, "1", None], {"a": {"b": ["c"]}},
)
_NAMES = (
    "self", "cls", "from", "class", "import", "async", "def", "None", "type", "id", "config", "model_config", "schema",
    "json", "copy", "dict", "ctx", "args", "kwargs", "name", "value", "body", "parameters", "function", "path", "query",
    "_private", "__dunder__", "camelCase", "PascalCase", "UPPER", "with-dash", "with.dot", "n1", "x" * 64, "ref",
)
# fmt: on
_SUBJECTS = ("weather", "route", "loan", "triangle", "flight", "recipe", "stock", "playlist", "invoice", "genome")
_VERBS = ("get", "find", "calculate", "book", "update", "compare")


def _list_of(items: JsonObject, **more: Any) -> JsonObject:
    return {"type": "array", "items": items, **more}


def _object(properties: JsonObject, *required: str, **more: Any) -> JsonObject:
    return {"type": "object", "properties": properties, "required": list(required), **more}


_STRING: JsonObject = {"type": "string"}
_POINT = _object({"lat": {"type": "number"}, "lon": {"type": "number"}, "label": _STRING}, "lat", "lon")
_LINE = _object(
    {"sku": _STRING, "count": {"type": "integer", "minimum": 1}, "gift": {"type": "boolean"}}, "sku", "count"
)
_ORDER = _object(
    {
        "customer": _object({"name": _STRING, "tags": _list_of(_STRING)}, "name"),
        "lines": _list_of(_LINE),
        "note": _STRING,
    },
    "customer",
)

_KINDS = (
    _Kind("text", _STRING, _TEXTS),
    _Kind("short_text", {"type": "string", "minLength": 1, "maxLength": 5}, ("a", "12345", "😀😀")),
    _Kind("date", {"type": "string", "format": "date"}, ("2026-03-16",)),
    _Kind("pattern", {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"}, ("AB-1",)),
    _Kind("whole", {"type": "integer"}, (0, -1, 7, 2**31, 2**53 + 1, 2**63 - 1, -(2**63))),
    _Kind("bounded", {"type": "integer", "minimum": 1, "maximum": 10}, (1, 10)),
    _Kind("number", {"type": "number"}, (0, -1.5, 1e-9, 1e21, 0.1, 19.99, 3, 2.0)),
    _Kind("flag", {"type": "boolean"}, (True, False)),
    _Kind("choice", {"type": "string", "enum": ["celsius", "fahrenheit", "1", "null"]}, ("celsius", "1", "null")),
    _Kind("number_choice", {"type": "integer", "enum": [1, 2, 3]}, (1, 3)),
    _Kind("mixed_choice", {"enum": ["1", 1, True, None]}, ("1", 1, None)),
    _Kind("constant", {"const": "fixed"}, ("fixed",)),
    _Kind("with_default", {"type": "string", "default": "metric"}, ("metric", "imperial")),
    _Kind("any", {}, _ANY),
    _Kind("described_any", {"description": "Anything."}, ("007", 7, ["7"])),
    _Kind("or_null", {"type": ["string", "null"]}, (None, "", "null")),
    _Kind("text_or_number", {"type": ["string", "number"]}, ("5", 5, 5.5)),
    _Kind("any_of", {"anyOf": [{"type": "integer"}, _STRING]}, (5, "five", "5")),
    _Kind("one_of", {"oneOf": [_POINT, _list_of({"type": "number"})]}, ({"lat": 0, "lon": -0.5}, [1.5, 2])),
    _Kind("texts", _list_of(_STRING), ([], ["a"], ["1", "true", "null", ""], ["a,b", "c; d"], list(_TEXTS[:12]))),
    _Kind("numbers", _list_of({"type": "number"}), ([], [1, 2.5, -3e9])),
    _Kind("wholes", _list_of({"type": "integer"}), ([2**53 + 1], [3, 1, 2])),
    _Kind("flags", _list_of({"type": "boolean"}), ([True, False],)),
    _Kind("choices", _list_of({"type": "string", "enum": ["a", "b"]}, uniqueItems=True), (["b", "a"],)),
    _Kind("loose_list", {"type": "array"}, ([], [1, "1", None, [2]], ["a"])),
    _Kind("matrix", _list_of(_list_of({"type": "number"})), ([[1, 0], [0, 1]], [[]])),
    _Kind("point", _POINT, ({"lat": 52.5, "lon": 13.4}, {"lat": 0, "lon": 0, "label": "\u2028"})),
    _Kind("loose_object", {"type": "object"}, ({}, {"a": 1, "b c": [None]}, {"": ""})),
    _Kind("map", {"type": "object", "additionalProperties": {"type": "integer"}}, ({}, {"ä": 1, "b.c": 2})),
    _Kind("closed", _object({"a": _STRING}, "a", additionalProperties=False), ({"a": "1"},)),
    _Kind("lines", _list_of(_LINE), ([], [{"sku": "0042", "count": 1}, {"sku": "{}", "count": 9, "gift": True}])),
    _Kind(
        "order",
        _ORDER,
        ({"customer": {"name": "A, B"}}, {"customer": {"name": "", "tags": []}, "lines": [{"sku": "1", "count": 1}]}),
    ),
    _Kind("orders", _list_of(_ORDER), ([{"customer": {"name": "O'Neil", "tags": ["a", "b"]}, "note": "two\nlines"}],)),
)


def cases() -> Iterator[Case]:
    """More than three hundred cases; the order and the contents never change."""
    for kind in _KINDS:
        for n, value in enumerate(kind.values):
            yield _case(f"{kind.label}_{n}", {"value": kind.schema}, ["value"], {"value": value})
    for n, name in enumerate(_NAMES):
        yield _case(f"name_{n}", {name: _STRING, "other": {"type": "integer"}}, [name], {name: "1", "other": 1})
    yield _case("nothing", {}, [], {})
    yield _case("all_left_out", {"a": _STRING, "b": {"type": "integer", "default": 3}}, [], {})
    chance = random.Random(20_260_316)
    for n in range(150):
        yield _mixed(n, chance)


def _mixed(n: int, chance: random.Random) -> Case:
    """A tool of one to seven parameters of different types, some of which are left out."""
    chosen = chance.sample(_KINDS, chance.randint(1, 7))
    names = chance.sample([*_NAMES, *("city", "amount", "unit", "start", "limit", "filters", "items")], len(chosen))
    required = [name for name in names if chance.random() < 0.5]
    given = {
        name: chance.choice(kind.values)
        for name, kind in zip(names, chosen, strict=True)
        if name in required or chance.random() < 0.6
    }
    properties = {name: _described(kind, name) for name, kind in zip(names, chosen, strict=True)}
    return _case(f"{chance.choice(_VERBS)}_{chance.choice(_SUBJECTS)}_{n}", properties, required, given)


def _described(kind: _Kind, name: str) -> JsonObject:
    return {**kind.schema, "description": f"The {name}, as {kind.label.replace('_', ' ')}."}


def _case(name: str, properties: JsonObject, required: list[str], arguments: JsonObject) -> Case:
    parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return Case(name, f"Try {name.replace('_', ' ')}.", parameters, arguments)
