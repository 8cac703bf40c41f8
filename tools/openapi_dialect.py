"""JSON Schema as pydantic writes it (2020-12), in the dialect of OpenAPI 3.0.

What 3.0 cannot say is said more widely (a pattern of keys, the order of a tuple), never more narrowly: the action
itself checks its arguments again. Source of the dialect: "Schema Object", OpenAPI Specification 3.0.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.contract import JsonObject

DEFS = "#/$defs/"
COMPONENTS = "#/components/schemas/"

# Null alone; 3.0 has no type of that name.
NULL: JsonObject = {"type": "object", "nullable": True, "enum": [None]}

_AS_IT_IS = frozenset(
    {"type", "enum", "required", "description", "title", "format", "default", "pattern", "multipleOf", "uniqueItems"}
    | {"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
    | {"nullable", "example", "readOnly", "writeOnly", "deprecated"}
)
_ONE = ("items", "additionalProperties", "not")
_MANY = ("anyOf", "oneOf", "allOf")
_TOLD = ("description", "default", "example", "deprecated")

Rename = Callable[[str], str]


def converted(schema: Any, rename: Rename) -> JsonObject:
    """A schema in the dialect of 3.0; `rename` gives the component that stands for a name of its `$defs`."""
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    new = {key: value for key, value in schema.items() if key in _AS_IT_IS or key.startswith("x-")}
    if not new.get("required", True):
        del new["required"]
    if isinstance(examples := schema.get("examples"), list) and examples:
        new.setdefault("example", examples[0])
    _bounds(schema, new)
    for key in _ONE:
        if key in schema:
            plain = key == "additionalProperties" and isinstance(schema[key], bool)
            new[key] = schema[key] if plain else converted(schema[key], rename)
    for key in _MANY:
        if key in schema:
            new[key] = [converted(each, rename) for each in schema[key]]
    if "properties" in schema:
        new["properties"] = {name: converted(each, rename) for name, each in schema["properties"].items()}
    if "discriminator" in schema:
        new["discriminator"] = _discriminator(schema["discriminator"], rename)
    if "prefixItems" in schema:
        new["items"] = _any_of([converted(each, rename) for each in _places(schema)])
    if "patternProperties" in schema and not isinstance(schema.get("additionalProperties"), dict):
        new["additionalProperties"] = _any_of(
            [converted(each, rename) for each in schema["patternProperties"].values()]
        )
    if "const" in schema:
        new["enum"] = [schema["const"]]
    if "$ref" in schema:
        return _referring(COMPONENTS + rename(schema["$ref"].removeprefix(DEFS)), new)
    return _typed(_nullable(new))


def _bounds(schema: JsonObject, new: JsonObject) -> None:
    """`exclusiveMinimum: 3` is `minimum: 3, exclusiveMinimum: true` here; of two bounds the narrower one stays."""
    for end, narrower in (("Minimum", max), ("Maximum", min)):
        plain, exclusive = schema.get(end.lower()), schema.get(f"exclusive{end}")
        if isinstance(exclusive, bool) or exclusive is None:
            continue
        if plain is None or narrower(plain, exclusive) == exclusive:
            new |= {end.lower(): exclusive, f"exclusive{end}": True}


def _places(schema: JsonObject) -> list[Any]:
    """The schemas of a tuple's members, and of what may follow them."""
    places = list(schema["prefixItems"])
    follows = schema.get("items", True)
    return places if follows is False or schema.get("maxItems") == len(places) else [*places, follows]


def _any_of(options: list[JsonObject]) -> JsonObject:
    different = [each for n, each in enumerate(options) if each not in options[:n]]
    return different[0] if len(different) == 1 else {"anyOf": different}


def _discriminator(node: JsonObject, rename: Rename) -> JsonObject:
    mapping = {value: COMPONENTS + rename(at.removeprefix(DEFS)) for value, at in node.get("mapping", {}).items()}
    return {**node, **({"mapping": mapping} if mapping else {})}


def _referring(reference: str, beside: JsonObject) -> JsonObject:
    """3.0 overlooks whatever stands beside a `$ref`."""
    return {**beside, "allOf": [{"$ref": reference}]} if beside else {"$ref": reference}


def _nullable(new: JsonObject) -> JsonObject:
    """An option of null as `nullable`, where the other option has a type that 3.0 wants beside it."""
    options = new.get("anyOf", [])
    others = [each for each in options if each != NULL]
    if len(others) != 1 or len(others) == len(options) or "type" not in others[0]:
        return new
    (only,) = others
    choices = {"enum": [*only["enum"], None]} if "enum" in only and None not in only["enum"] else {}
    return {**only, **{key: value for key, value in new.items() if key != "anyOf"}, **choices, "nullable": True}


def _typed(new: JsonObject) -> JsonObject:
    """One type, and for a list what its items are."""
    kind = new.get("type")
    if isinstance(kind, list):
        return _of_types(new, kind)
    if kind == "null" or new.get("enum") == [None]:
        return {**{key: new[key] for key in _TOLD if key in new}, **NULL}
    return {"items": {}, **new} if kind == "array" else new


def _of_types(new: JsonObject, kinds: list[str]) -> JsonObject:
    told = {key: new[key] for key in _TOLD if key in new}
    rest = {key: value for key, value in new.items() if key not in told and key != "type"}
    options = [_typed({"type": kind, **(rest if kind != "null" else {})}) for kind in kinds]
    return _nullable({**told, "anyOf": options}) if len(options) > 1 else {**told, **options[0]}
