"""The page of an action group, in Markdown: what its actions do, for people."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from tools.action import Action
from tools.contract import InvalidArguments, JsonObject, ToolError
from tools.values import resolved

EFFECTS = {
    "read": "reads, changes nothing",
    "write": "changes something, at once",
    "gated": "changes something, after a person's yes to what it restates",
}
_BY_FORMAT = {
    "date": "2026-03-16",
    "time": "10:00",
    "date-time": "2026-03-16T10:00:00Z",
    "duration": "PT1H",
    "uuid": "00000000-0000-4000-8000-000000000001",
    "email": "person@example.com",
    "uri": "https://example.com",
}
_TEXTS = ("1", "example", "A1", "a", "2026-03-16", "10:00", "+15550100")


def page(group: str, actions: Sequence[Action], description: str = "") -> str:
    """The whole page; the same text for the same actions."""
    parts = [f"# {group}", "Made of the code by `outcrop tools docs`; change the action's docstring, then `make docs`."]
    if description:
        parts.insert(1, _text(description))
    for each in actions:
        parts += _section(each)
    return "\n\n".join(parts) + "\n"


def example_call(action: Action) -> JsonObject | None:
    """A call with arguments that the action accepts by their form; None when none was found.

    Examples come from the types (`Field(examples=[...])`), else are made up. Only what is required is in it.
    """
    schema = action.spec.parameters
    for items in (1, 2):  # that a list wants two is not always in its schema
        args = {name: _example(schema["properties"][name], schema, items) for name in schema.get("required", [])}
        try:
            action.read(args)
        except InvalidArguments:
            continue
        return {"name": action.name, "arguments": args}
    return None


def _section(action: Action) -> list[str]:
    spec = action.spec
    parts = [
        f"## {spec.name}",
        _text(spec.description),
        f"- Effect: {spec.effect} ({EFFECTS[spec.effect]})\n- For: {', '.join(sorted(action.roles))}",
    ]
    if rows := _arguments(action):
        parts.append("\n".join(["| Argument | Type | Required | What it is |", "|---|---|---|---|", *rows]))
    else:
        parts.append("No arguments.")
    if action.from_session:
        names = ", ".join(f"`{each}`" for each in action.from_session)
        parts.append(f"From the signed-in session, never from a model: {names}.")
    if errors := action.errors:
        rows = [f"| {_code(action, name)} | {_cell(text)} |" for name, text in errors.items()]
        parts.append("\n".join(["| Refused with | When, and what then |", "|---|---|", *rows]))
    if call := example_call(action):
        parts.append(f"```json\n{json.dumps(call, ensure_ascii=False)}\n```")
    return parts


def _arguments(action: Action) -> list[str]:
    schema = action.spec.parameters
    required = schema.get("required", [])
    return [
        f"| `{name}` | {_cell(_type(each, schema))} | {'yes' if name in required else 'no'} "
        f"| {_cell(each.get('description', ''))} |"
        for name, each in schema["properties"].items()
    ]


def _code(action: Action, error: str) -> str:
    """The code of an error that a docstring names by its class, where that class is at hand."""
    found = getattr(action.run, "__globals__", {}).get(error)
    return f"`{found.code}`" if isinstance(found, type) and issubclass(found, ToolError) else f"`{error}`"


def _type(schema: Any, root: JsonObject) -> str:
    """The type of an argument in words."""
    own = resolved(schema, root) if isinstance(schema, dict) else {}
    if choices := own.get("enum", [own["const"]] if "const" in own else None):
        return "one of " + ", ".join(f"`{json.dumps(each, ensure_ascii=False)}`" for each in choices)
    if options := own.get("anyOf") or own.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(each, root) for each in options))
    match own.get("type"):
        case "array":
            return f"list of {_type(own['items'], root)}" if own.get("items") else "list"
        case "object" if own.get("properties"):
            return f"object of {', '.join(f'`{name}`' for name in own['properties'])}"
        case "string":
            return str(own.get("format", "string"))
        case list() as kinds:
            return " or ".join(kinds)
        case None:
            return "anything"
        case kind:
            return str(kind)


def _example(schema: Any, root: JsonObject, items: int, depth: int = 0) -> Any:
    """A value that fits; None where a schema has none of its own, or is too deep."""
    own = resolved(schema, root) if isinstance(schema, dict) else {}
    for key in ("examples", "enum"):
        if own.get(key):
            return own[key][0]
    for key in ("const", "default"):
        if key in own:
            return own[key]
    for key in ("anyOf", "oneOf", "allOf"):
        if options := [each for each in own.get(key, ()) if each != {"type": "null"}]:
            return _example(options[0], root, items, depth + 1)
    if depth > 8:
        return None
    match own.get("type"):
        case "string":
            return _text_like(own)
        case "integer" | "number":
            return _number_like(own)
        case "boolean":
            return True
        case "array":
            places = own.get("prefixItems") or [own.get("items", {})] * max(items, own.get("minItems", 1))
            return _distinct([_example(each, root, items, depth + 1) for each in places])
        case "object":
            return {
                name: _example(each, root, items, depth + 1)
                for name, each in own.get("properties", {}).items()
                if name in own.get("required", ())
            }
    return None


def _distinct(values: list[Any]) -> list[Any]:
    """A list that names things names each once."""
    if set(map(str, values)) == {"example"}:
        return ["example", *(f"example {n}" for n in range(2, len(values) + 1))]
    return values


def _text_like(schema: JsonObject) -> str:
    if known := _BY_FORMAT.get(schema.get("format", "")):
        return known
    fitting = [each for each in _TEXTS if re.search(schema.get("pattern", ""), each)]
    text = (fitting if "pattern" in schema else ["example"])[:1]
    return "".join(text).ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]


def _number_like(schema: JsonObject) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1 if "exclusiveMinimum" in schema else None)
    high = schema.get("maximum", schema.get("exclusiveMaximum", 2) - 1 if "exclusiveMaximum" in schema else None)
    return low if low is not None else min(1, high) if high is not None else 1


def _text(words: str) -> str:
    return " ".join(words.split())


def _cell(words: str) -> str:
    return _text(words).replace("|", "\\|")
