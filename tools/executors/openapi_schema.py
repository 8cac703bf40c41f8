"""Schemas of OpenAPI 3.0 and 3.1 as JSON Schema 2020-12, as far as a caller's arguments need them.

Both dialects are read the same way: 3.0's `nullable` and boolean `exclusiveMinimum` are understood wherever they stand.
What only the server fills in (`readOnly`) is left out, and so is what says nothing about a value (`xml`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from tools.contract import JsonObject
from tools.executors.document_file import At, Document

TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")

_ONE = (
    *("items", "contains", "unevaluatedItems"),
    *("additionalProperties", "propertyNames", "unevaluatedProperties"),
    *("not", "if", "then", "else", "contentSchema"),
)
_MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "dependentSchemas")
_COUNTS = tuple(f"{end}{what}" for what in ("Length", "Items", "Properties", "Contains") for end in ("min", "max"))
_BOUNDS = ("minimum", "maximum")
_TEXTS = ("title", "description", "format", "contentEncoding", "contentMediaType")
_AS_IT_IS = ("const", "default", "uniqueItems", "dependentRequired")
_SAYS_NOTHING = {
    "description",
    "title",
    "example",
    "examples",
    "default",
    "deprecated",
    "externalDocs",
    "xml",
    "nullable",
}
_SAYS_NOTHING |= {"discriminator", "writeOnly", "$schema", "$id", "$comment", "$defs"}
_TOLD = ("description", "default", "examples")
_PLAIN = {"type", "properties", "required", "additionalProperties", "allOf"} | _SAYS_NOTHING


@dataclass(frozen=True, slots=True)
class Members:
    """The members of an object: schemas by name, and which must be there."""

    properties: dict[str, JsonObject]
    required: list[str]


@dataclass(slots=True)
class Schemas:
    """Converts the schemas of one tool; what they refer to is collected, and stands under `$defs` of its parameters."""

    document: Document
    _names: dict[At, str] = field(default_factory=dict)
    _definitions: JsonObject = field(default_factory=dict)

    def definitions(self) -> JsonObject:
        """`$defs` for all that was converted so far."""
        while waiting := [(at, name) for at, name in self._names.items() if name not in self._definitions]:
            for at, name in waiting:
                self._definitions[name] = self.convert(_at(self.document.root, at), at)
        return dict(self._definitions)

    def convert(self, schema: Any, at: At) -> JsonObject:
        """One schema; `ExecutorError` where it is none."""
        if isinstance(schema, bool):
            return {} if schema else {"not": {}}
        if not isinstance(schema, dict):
            raise self.document.wrong(at, "is no schema; write an object such as {type: string}")
        for key in ("$dynamicRef", "$recursiveRef"):
            if key in schema:
                raise self.document.wrong((*at, key), "cannot be followed; write a $ref to a named schema")
        new: JsonObject = {}
        if "$ref" in schema:
            new["$ref"] = f"#/$defs/{self._name(self.document.target(schema['$ref'], (*at, '$ref'))[1])}"
        self._parts(schema, at, new)
        self._values(schema, at, new)
        self._limits(schema, at, new)
        return _or_null(new) if schema.get("nullable") is True else new

    def members(self, schema: Any, at: At, within: tuple[At, ...] = ()) -> Members | None:
        """The members of an object schema, with those of its `allOf`; None when it is more than a list of members."""
        if not isinstance(schema, dict) or ("$ref" in schema and not set(schema) <= {"$ref", *_SAYS_NOTHING}):
            return None
        schema, at = self.document.follow(schema, at)
        extra = schema.get("additionalProperties", True)
        structure = {key for key in schema if not key.startswith("x-")}
        if at in within or not structure <= _PLAIN or not (isinstance(extra, bool) or extra == {}):
            return None
        listed = schema.get("properties") or schema.get("allOf") or ("properties" in schema and extra is False)
        if schema.get("type", "object") != "object" or not listed:
            return None
        required = self._required(schema, at)
        found: dict[str, list[JsonObject]] = {}
        for key, each in enumerate(self.document.member(schema, "allOf", list, at) or ()):
            part = self.members(each, (*at, "allOf", key), (*within, at)) or _only_required(each)
            if part is None:
                return None
            required += part.required
            for name, member in part.properties.items():
                found.setdefault(name, []).append(member)
        for name, member in self._properties(schema, at).items():
            found.setdefault(name, []).append(member)
        merged = {
            name: each[0] if all(one == each[0] for one in each) else {"allOf": each} for name, each in found.items()
        }
        return Members(merged, [name for name in dict.fromkeys(required) if name in merged])

    def _parts(self, schema: JsonObject, at: At, new: JsonObject) -> None:
        """What is made of further schemas."""
        for key in _ONE:
            if key in schema:
                whole = key in ("additionalProperties", "unevaluatedProperties") and isinstance(schema[key], bool)
                new[key] = schema[key] if whole else self.convert(schema[key], (*at, key))
        for key in _MANY:
            if options := self.document.member(schema, key, list, at):
                new[key] = [self.convert(each, (*at, key, n)) for n, each in enumerate(options)]
        if "properties" in schema:
            new["properties"] = self._properties(schema, at)
        for key in _NAMED[1:]:
            if (named := self.document.member(schema, key, dict, at)) is not None:
                new[key] = {name: self.convert(each, (*at, key, name)) for name, each in named.items()}
        if broken := next((name for name in new.get("patternProperties", ()) if not _is_pattern(name)), None):
            raise self.document.wrong(
                (*at, "patternProperties", broken), "is a pattern that Python cannot read; simplify it"
            )

    def _values(self, schema: JsonObject, at: At, new: JsonObject) -> None:
        """What a value may be."""
        if (kind := schema.get("type")) is not None:
            kinds = kind if isinstance(kind, list) else [kind]
            if not kinds or not all(each in TYPES for each in kinds):
                raise self.document.wrong((*at, "type"), f"{kind!r} is no type; there are {', '.join(TYPES)}")
            new["type"] = kind
        if (choices := self.document.member(schema, "enum", list, at)) is not None:
            if not choices:
                raise self.document.wrong((*at, "enum"), "has no choices; name some or leave it out")
            new["enum"] = choices
        if "required" in schema:
            hidden = self._filled_by_server(schema, at)
            if needed := [name for name in self._required(schema, at) if name not in hidden]:
                new["required"] = needed
        for key in _TEXTS:
            if (text := self.document.member(schema, key, str, at)) is not None:
                new[key] = text
        new.update({key: schema[key] for key in _AS_IT_IS if key in schema})
        examples = schema.get("examples", [schema["example"]] if "example" in schema else None)
        if isinstance(examples, list):
            new["examples"] = examples

    def _limits(self, schema: JsonObject, at: At, new: JsonObject) -> None:
        """Bounds; those that cannot be checked here are told to the model, and left to the server."""
        for key in _COUNTS:
            if (count := schema.get(key)) is not None:
                if not isinstance(count, int | float) or isinstance(count, bool) or count < 0 or count != int(count):
                    raise self.document.wrong((*at, key), "is no count; write a whole number from 0 on")
                new[key] = int(count)
        for key, exclusive in zip(_BOUNDS, ("exclusiveMinimum", "exclusiveMaximum"), strict=True):
            bound, sharp = self._number(schema, key, at), schema.get(exclusive)
            if isinstance(sharp, bool):
                if bound is not None:
                    new[exclusive if sharp else key] = bound
                continue
            new.update(
                {
                    name: each
                    for name, each in ((key, bound), (exclusive, self._number(schema, exclusive, at)))
                    if each is not None
                }
            )
        told = []
        if (step := self._number(schema, "multipleOf", at)) is not None:
            if step <= 0:
                raise self.document.wrong((*at, "multipleOf"), "is not above 0; write a number that is")
            if isinstance(step, int):
                new["multipleOf"] = step
            else:  # 19.99 is no multiple of 0.01 in floating point
                told.append(f"A multiple of {step}.")
        if pattern := self.document.member(schema, "pattern", str, at):
            if _is_pattern(pattern):
                new["pattern"] = pattern
            else:
                told.append(f"Pattern: {pattern}")
        if told:
            new["description"] = " ".join([new.get("description", ""), *told]).strip()

    def _number(self, schema: JsonObject, key: str, at: At) -> Any:
        value = schema.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise self.document.wrong((*at, key), "is no number; write one")
        return value

    def _required(self, schema: JsonObject, at: At) -> list[str]:
        names = self.document.member(schema, "required", list, at) or []
        if not all(isinstance(each, str) for each in names):
            raise self.document.wrong((*at, "required"), "holds more than names; write a list of member names")
        return list(dict.fromkeys(names))

    def _properties(self, schema: JsonObject, at: At) -> JsonObject:
        named = self.document.member(schema, "properties", dict, at) or {}
        hidden = self._filled_by_server(schema, at)
        at = (*at, "properties")
        return {name: self.convert(each, (*at, name)) for name, each in named.items() if name not in hidden}

    def _filled_by_server(self, schema: JsonObject, at: At) -> set[str]:
        """Members that are `readOnly`, themselves or by what they refer to."""
        hidden = set()
        for name, each in (self.document.member(schema, "properties", dict, at) or {}).items():
            if isinstance(each, dict):
                meant = each if "$ref" not in each else self.document.target(each["$ref"], (*at, "properties", name))[0]
                if each.get("readOnly") is True or (isinstance(meant, dict) and meant.get("readOnly") is True):
                    hidden.add(name)
        return hidden

    def _name(self, at: At) -> str:
        """The name under `$defs` of what stands there."""
        if at not in self._names:
            plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(at[-1]) if at else "") or "schema"
            taken = set(self._names.values())
            numbered = (f"{plain}_{n}" for n in range(2, len(taken) + 3))
            self._names[at] = plain if plain not in taken else next(each for each in numbered if each not in taken)
        return self._names[at]


def _at(root: Any, at: At) -> Any:
    for part in at:
        root = root[part]
    return root


def _only_required(schema: Any) -> Members | None:
    """A part of an `allOf` that only makes members of other parts mandatory."""
    if (
        isinstance(schema, dict)
        and set(schema) - _SAYS_NOTHING <= {"required", "type"}
        and isinstance(schema.get("required"), list)
    ):
        return Members({}, [each for each in schema["required"] if isinstance(each, str)])
    return None


def _or_null(schema: JsonObject) -> JsonObject:
    """The same, or null."""
    kind = schema.get("type")
    if kind is None or "const" in schema or any(key in schema for key in ("$ref", *_MANY, "not")):
        told: JsonObject = {key: schema.pop(key) for key in _TOLD if key in schema}
        return {"anyOf": [schema, {"type": "null"}], **told} if schema else told
    if "enum" in schema and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    kinds = kind if isinstance(kind, list) else [kind]
    return {**schema, "type": kinds if "null" in kinds else [*kinds, "null"]}


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return False
    return True
