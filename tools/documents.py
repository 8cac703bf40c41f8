"""What one definition of actions gives to others: Bedrock function details, and an OpenAPI document.

Both hold what a model may supply and nothing else: session-bound parameters are in no schema. The action behind a
document is unchanged; an event made from either style reaches it through `tools.lambda_handler`. Limits of Amazon
Bedrock and of models are checked first, all at once.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from tools.action import Action
from tools.contract import JsonObject
from tools.lambda_events import JSON_BODY, path_of
from tools.openapi_dialect import converted
from tools.values import bedrock_type, resolved, types_of

Form = Literal["function", "openapi", "model"]

BEDROCK_NAME = re.compile(r"([0-9a-zA-Z][_-]?){1,100}")
MODEL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MAX_GROUP_DESCRIPTION = 200
MAX_FUNCTION_DESCRIPTION = 1200
MAX_PARAMETER_DESCRIPTION = 500
MAX_PARAMETERS = 5  # of a function; Bedrock's quota unless it was raised
MAX_OPERATIONS = 11  # of an action group

_SUCCESS: JsonObject = {
    "description": "What the action found or did.",
    "content": {
        JSON_BODY: {
            "schema": {
                "type": "object",
                "description": "The result; `ok` is true.",
                "properties": {"ok": {"type": "boolean"}},
                "required": ["ok"],
            }
        }
    },
}
_REFUSAL: JsonObject = {
    "description": "A refusal or failure; nothing was done unless its code says otherwise.",
    "content": {
        JSON_BODY: {
            "schema": {
                "type": "object",
                "description": "Which refusal, and a sentence for people.",
                "properties": {
                    "ok": {"type": "boolean"},
                    "code": {"type": "string"},
                    "user_hint": {"type": "string"},
                    "retryable": {"type": "boolean"},
                },
                "required": ["ok", "code", "user_hint", "retryable"],
            }
        }
    },
}


class BeyondLimits(ValueError):
    """Actions that Bedrock or models do not take as they are; a line for each problem, with place, limit and fix."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def group_description(actions: Sequence[Action]) -> str:
    """What the module of a group says it is, on the first line of its docstring; empty when they share no module."""
    modules = {each.run.__module__ for each in actions}
    names = modules if len(modules) == 1 else {name.rpartition(".")[0] for name in modules}
    only = names.pop() if len(names) == 1 else ""
    # Of several modules only a package of their own says what the group is.
    if len(modules) > 1 and "." not in only:
        return ""
    text = (getattr(sys.modules.get(only), "__doc__", None) or "").strip().partition("\n\n")[0]
    return " ".join(text.split())


def check(group: str, actions: Sequence[Action], form: Form, description: str = "") -> None:
    """Raise `BeyondLimits` with everything that keeps these actions from being offered in that form."""
    problems = _of_group(group, actions, description) if form != "model" else []
    for each in actions:
        problems += [f"{each.place}: {each.name}: {what}" for what in _of_action(each, form)]
    if problems:
        raise BeyondLimits(problems)


def function_schema(group: str, actions: Sequence[Action], description: str = "") -> JsonObject:
    """`{functions: [...]}`: the function details of an action group. Raises `BeyondLimits`.

    What has no type of its own there (an object, a union) is a string of JSON, and its description says so.
    """
    check(group, actions, "function", description)
    return {"functions": [_function(each) for each in actions]}


def openapi_document(group: str, actions: Sequence[Action], description: str = "", *, version: str = "1") -> JsonObject:
    """An OpenAPI 3.0.3 document: one POST for each action, whose arguments are the body. Raises `BeyondLimits`."""
    check(group, actions, "openapi", description)
    components: JsonObject = {}
    paths = {path_of(each.name): {"post": _operation(each, components)} for each in actions}
    return {
        "openapi": "3.0.3",
        "info": {"title": group, "version": version, **({"description": description} if description else {})},
        "paths": paths,
        **({"components": {"schemas": components}} if components else {}),
    }


# --- limits ---------------------------------------------------------------------------------------------------------


def _of_group(group: str, actions: Sequence[Action], description: str) -> list[str]:
    problems = []
    if not BEDROCK_NAME.fullmatch(group):
        problems.append(f"action group {group}: {_bad_name('its name', 'group=')}")
    if len(description) > MAX_GROUP_DESCRIPTION:
        problems.append(
            f"action group {group}: its description has {len(description)} characters, and Bedrock takes "
            f"{MAX_GROUP_DESCRIPTION}; shorten the first paragraph of the module's docstring"
        )
    if len(actions) > MAX_OPERATIONS:
        problems.append(
            f"action group {group}: it has {len(actions)} actions, and Bedrock takes {MAX_OPERATIONS} a group; "
            "move some to a group of their own"
        )
    return problems


def _of_action(action: Action, form: Form) -> Iterable[str]:
    if form == "model":
        if not MODEL_NAME.fullmatch(action.name):
            yield "models take names of up to 64 ASCII letters, digits, `_` and `-`; rename the function"
        return
    if not BEDROCK_NAME.fullmatch(action.name):
        yield _bad_name("its name", "the function")
    if form == "openapi":
        return
    if (size := len(action.spec.description)) > MAX_FUNCTION_DESCRIPTION:
        yield (
            f"its description has {size} characters, and Bedrock takes {MAX_FUNCTION_DESCRIPTION}; shorten what "
            "stands before `Args:` in the docstring"
        )
    told = _parameters(action)
    if len(told) > MAX_PARAMETERS:
        yield (
            f"it has {len(told)} parameters ({', '.join(told)}), and Bedrock takes {MAX_PARAMETERS} of a function; "
            "join some in one parameter that is a model, or describe the group as OpenAPI"
        )
    for name, each in told.items():
        if not BEDROCK_NAME.fullmatch(name):
            yield _bad_name(f"the name of `{name}`", "the parameter")
        if (size := len(each["description"])) > MAX_PARAMETER_DESCRIPTION:
            yield (
                f"the description of `{name}` has {size} characters, with what its type cannot say, and Bedrock takes "
                f"{MAX_PARAMETER_DESCRIPTION}; shorten its `Args:` entry"
            )


def _bad_name(whose: str, what: str) -> str:
    return (
        f"{whose} is none that Bedrock takes: up to 100 ASCII letters and digits, each followed by at most one `_` or "
        f"`-`, so no `__` and none in front; rename {what}"
    )


# --- function details -----------------------------------------------------------------------------------------------


def _function(action: Action) -> JsonObject:
    return {
        "name": action.name,
        "description": action.spec.description,
        "parameters": _parameters(action),
        "requireConfirmation": "ENABLED" if action.spec.effect == "gated" else "DISABLED",
    }


def _parameters(action: Action) -> dict[str, JsonObject]:
    schema = action.spec.parameters
    required = schema.get("required", [])
    return {
        name: {
            "type": _function_type(each, schema),
            "description": _told(each, schema),
            "required": name in required,
        }
        for name, each in schema["properties"].items()
    }


def _function_type(schema: JsonObject, root: JsonObject) -> str:
    kind = bedrock_type(schema, root)
    return "string" if kind == "object" else kind


def _told(schema: JsonObject, root: JsonObject) -> str:
    """A parameter's description, with what its type alone does not say; the long form where there is room for it."""
    text = str(schema.get("description", ""))
    longer, shorter = _beyond_type(schema, root)
    told = f"{text} {longer}".strip()
    return told if len(told) <= MAX_PARAMETER_DESCRIPTION else f"{text} {shorter}".strip()


def _beyond_type(schema: JsonObject, root: JsonObject) -> tuple[str, str]:
    own = resolved(schema, root)
    if choices := own.get("enum", [own["const"]] if "const" in own else None):
        listed = ", ".join(each if isinstance(each, str) else _json(each) for each in choices)
        return f"One of: {listed}.", ""
    kinds = (types_of(schema, root) or frozenset()) - {"null"}
    if kinds == {"array"}:
        items = own.get("items", {})
        plain = isinstance(items, dict) and set(items) <= {"type"}
        return ("", "") if plain else (f"A JSON list by this schema: {_shape(own, root)}", "A JSON list.")
    if len(kinds) == 1 and kinds != {"object"}:
        return (f"Format: {own['format']}.", "") if "format" in own else ("", "")
    return f"Written as JSON by this schema: {_shape(own, root)}", "Written as JSON."


def _shape(schema: JsonObject, root: JsonObject) -> str:
    """The schema as text, with the definitions that it needs."""
    bare = {key: value for key, value in schema.items() if key not in ("description", "default")}
    needed: JsonObject = {}
    waiting = _named_in(bare)
    while waiting:
        name = waiting.pop()
        if name not in needed and name in root.get("$defs", {}):
            needed[name] = root["$defs"][name]
            waiting |= _named_in(needed[name])
    return _json({**bare, **({"$defs": needed} if needed else {})})


def _named_in(node: object) -> set[str]:
    return set(re.findall(r'"\$ref":"#/\$defs/([^"]+)"', _json(node)))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# --- OpenAPI --------------------------------------------------------------------------------------------------------


def _operation(action: Action, components: JsonObject) -> JsonObject:
    schema = action.spec.parameters
    operation: JsonObject = {
        "operationId": action.name,
        "description": action.spec.description,
        "responses": {"200": _SUCCESS, "400": _REFUSAL},
    }
    if schema["properties"]:
        rename = _hoist(action.name, schema.get("$defs", {}), components)
        body = converted({key: value for key, value in schema.items() if key != "$defs"}, rename)
        operation["requestBody"] = {
            "required": bool(schema.get("required")),
            "content": {JSON_BODY: {"schema": body}},
        }
    if action.spec.effect == "gated":
        operation["x-requireConfirmation"] = "ENABLED"
    return operation


def _hoist(action: str, definitions: JsonObject, components: JsonObject) -> Callable[[str], str]:
    """Put an action's `$defs` among the components of the whole document; what they are called there.

    Definitions that are the same share a component. Where another action means something else by one of the names, all
    of this action's get its own name before theirs, for they may refer to one another.
    """
    shared = {name: converted(each, str) for name, each in definitions.items()}
    if all(components.get(name, each) == each for name, each in shared.items()):
        components |= shared
        return str

    def own(name: str) -> str:
        return f"{action}_{name}"

    components |= {own(name): converted(each, own) for name, each in definitions.items()}
    return own
