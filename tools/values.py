"""Typed values as text and back, by their JSON Schema.

Bedrock hands every argument over as text beside a type name. What has one plain type is written as itself; anything
else (a union, an object, a list) as JSON, and so is a text that would otherwise be read as something else. Reading is
lenient with what models and Bedrock itself write: `[a, b]` for a list, `{a=1}` for an object, `True` for true.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tools.contract import JsonObject

BEDROCK_TYPES = ("string", "number", "integer", "boolean", "array", "object")

_INT = re.compile(r"[+-]?\d+")
_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DEEPEST = 12
_UNREAD = object()


def types_of(schema: JsonObject, root: JsonObject, depth: int = 0) -> frozenset[str] | None:
    """The JSON types a value may have; None when the schema does not say. `$ref`s are looked up in `root`."""
    schema = resolved(schema, root)
    if depth > _DEEPEST:
        return None
    if "enum" in schema or "const" in schema:
        return frozenset(json_type(value) for value in schema.get("enum", [schema.get("const")]))
    own = schema.get("type")
    if own is not None:
        named = {own} if isinstance(own, str) else set(own)
        return frozenset(named | ({"null"} if schema.get("nullable") else set()))
    for key in ("anyOf", "oneOf"):
        if options := schema.get(key):
            found = [types_of(each, root, depth + 1) for each in options]
            return None if None in found else frozenset(kind for each in found for kind in each or ())
    if all_of := schema.get("allOf"):
        return next((some for each in all_of if (some := types_of(each, root, depth + 1))), None)
    return frozenset({"object"}) if "properties" in schema else None


def resolved(schema: JsonObject, root: JsonObject) -> JsonObject:
    """The schema that a local `$ref` means; itself without one, and an empty one where it leads nowhere."""
    for _ in range(_DEEPEST):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        node: Any = root
        for part in reference.removeprefix("#").strip("/").split("/"):
            node = node.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(node, dict) else {}
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**node, **beside} if isinstance(node, dict) else beside
    return {}


def leads_somewhere(reference: str, root: JsonObject) -> bool:
    """Whether a `$ref` names a place in the document itself."""
    node: Any = root
    for part in reference.removeprefix("#").strip("/").split("/") if reference.strip("#/") else ():
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list):
            node = node[int(part)] if part.isdigit() and int(part) < len(node) else None
        else:
            node = node.get(part) if isinstance(node, dict) else None
        if node is None:
            return False
    return True


def json_type(value: Any) -> str:
    """The JSON Schema type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def bedrock_type(schema: JsonObject, root: JsonObject) -> str:
    """The type name that Bedrock has for it; a value of several possible types is a string."""
    types = (types_of(schema, root) or frozenset()) - {"null"}
    if types == frozenset({"integer", "number"}):
        return "number"
    only = next(iter(types)) if len(types) == 1 else "string"
    return only if only in BEDROCK_TYPES else "string"


def to_text(value: Any, schema: JsonObject, root: JsonObject) -> str:
    """A value as Bedrock passes it on; `from_text` gives the same value back."""
    if isinstance(value, str):
        again = from_text(value, schema, root)
        return value if isinstance(again, str) and again == value else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def from_text(text: str, schema: JsonObject, root: JsonObject) -> Any:
    """The value that a text means by its schema; the text itself when it means nothing else there."""
    types = types_of(schema, root)
    if types == frozenset({"string"}):
        return text
    value = _from_json(text)
    if value is not _UNREAD and (types is None or _is_one_of(value, types)):
        return _whole(value, types)
    if types is None:
        return text
    kinds = types - {"null"}
    found = _from_plain(text.strip(), kinds, resolved(schema, root), root) if len(kinds) == 1 else _UNREAD
    return text if found is _UNREAD else found


def fitted(value: Any, schema: JsonObject, root: JsonObject) -> Any:
    """A value as its schema wants it, where only the notation differs: `"5"` for 5, 5 for the id `"5"`."""
    types = types_of(schema, root)
    if types is None or _is_one_of(value, types):
        return _whole(value, types)
    if isinstance(value, str):
        bare = "array" in types and not value.lstrip().startswith("[")  # a text alone is no list of one
        return value if bare else from_text(value, schema, root)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number and types - {"null"} == frozenset({"string"}) else value


def _is_one_of(value: Any, types: frozenset[str]) -> bool:
    kind = json_type(value)
    whole = isinstance(value, float) and value.is_integer()
    return kind in types or (kind == "integer" and "number" in types) or (whole and "integer" in types)


def _whole(value: Any, types: frozenset[str] | None) -> Any:
    """5.0 as 5 where only whole numbers are wanted."""
    return int(value) if isinstance(value, float) and types and "number" not in types else value


def _from_json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return _UNREAD


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _from_plain(text: str, kinds: frozenset[str], schema: JsonObject, root: JsonObject) -> Any:
    """What is not JSON, read as the one type that it may have."""
    (kind,) = kinds
    match kind:
        case "boolean":
            return {"true": True, "false": False}.get(text.lower(), _UNREAD)
        case "integer":
            whole = _INT.fullmatch(text) or _WHOLE.fullmatch(text)
            return int(whole[1] if whole.re is _WHOLE else text) if whole else _UNREAD
        case "number":
            return float(text) if _FLOAT.fullmatch(text) else _UNREAD
        case "array":
            return _read_list(text, schema.get("items", {}), root)
        case "object" if text.startswith("{") and text.endswith("}"):
            return _read_members(text[1:-1], schema.get("properties", {}), root)
    return _UNREAD


def _read_list(text: str, items: Any, root: JsonObject) -> list[Any]:
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    schema = items if isinstance(items, dict) else {}
    return [from_text(_unquoted(piece), schema, root) for piece in inner.split(",") if piece.strip()]


def _read_members(inner: str, properties: JsonObject, root: JsonObject) -> Any:
    members: JsonObject = {}
    for piece in inner.split(",") if inner.strip() else ():
        key, sign, value = piece.partition("=")
        if not sign:
            return _UNREAD
        members[key.strip()] = from_text(_unquoted(value), properties.get(key.strip(), {}), root)
    return members


def _unquoted(piece: str) -> str:
    piece = piece.strip()
    return piece[1:-1] if len(piece) > 1 and piece[0] == piece[-1] and piece[0] in "\"'" else piece
