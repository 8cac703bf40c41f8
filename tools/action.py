"""`@action`: one typed function, and everything a runtime needs to offer it to a model.

The signature, its `Annotated` types and the docstring are the schema. An `Action` holds no transport: the in-process
toolbox runs it, and any other packaging (an action-group document, a Lambda handler, an MCP tool) reads the same
fields. Two hooks complete an action:

    @confirm_appointment.prepares     eligibility and the facts that a person reads before saying yes
    @confirm_appointment.reconciles   read back whether the effect took place
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from tools.contract import Effect, Identity, InvalidArguments, JsonObject, ToolContext, ToolResult, ToolSpec

Role = str
Run = Callable[..., Awaitable[JsonObject]]
Reconcile = Callable[..., Awaitable[ToolResult | None]]

# Names that only the session may fill in, whatever an action declares.
SESSION_ONLY = frozenset({"customer_id", "request_id"})

_SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Examples?):\s*$", re.MULTILINE)
_ARG_LINE = re.compile(r"^(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")


class InvalidAction(TypeError):
    """An action that cannot be offered: its signature and docstring do not make a schema, or its name is in use."""


@dataclass(frozen=True, slots=True)
class FromSession:
    """Marks a parameter that the verified identity fills in (the attribute of the same name); in no schema."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Marks a parameter whose given value is turned into the effective one, checking that the caller may use it."""

    resolve: Callable[[Any, ToolContext], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a `prepares` hook adds: changed effective arguments, and the restatement of a gated call."""

    args: JsonObject = field(default_factory=dict)
    restatement: JsonObject = field(default_factory=dict)


Prepare = Callable[..., Awaitable[Preparation]]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(slots=True)
class Action:
    """A tool: its specification, its argument models and its function."""

    spec: ToolSpec
    roles: frozenset[Role]
    run: Run
    offered: type[BaseModel]  # what a model may supply
    effective: type[BaseModel]  # that, resolved, plus what the session fills in
    from_session: tuple[str, ...]
    resolved: dict[str, Resolved]
    prepare: Prepare | None = None
    reconcile: Reconcile | None = None

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.spec.name

    def prepares(self, hook: Prepare) -> Prepare:
        """Register the hook that decides eligibility; it takes the effective arguments of the action and `ctx`."""
        self.prepare = hook
        return hook

    def reconciles(self, hook: Reconcile) -> Reconcile:
        """Register the hook that reads back; it takes the effective arguments of the action and `ctx`."""
        self.reconcile = hook
        return hook

    def read(self, args: JsonObject) -> JsonObject:
        """Validate what a model supplied; python values by name. Raises `InvalidArguments`."""
        taken = [name for name in args if name in SESSION_ONLY or name in self.from_session]
        if taken:
            raise InvalidArguments(
                "Some details are filled in from the signed-in session and cannot be given.",
                errors=[{"field": name, "message": "is filled in by the session; leave it out"} for name in taken],
            )
        return _values(self.offered, args)

    def bind(self, args: JsonObject, identity: Identity) -> JsonObject:
        """Validate effective arguments; python values by name. Refuses session values of another caller."""
        values = _values(self.effective, args)
        for name in self.from_session:
            if values[name] != getattr(identity, name):
                raise InvalidArguments(
                    "That request belongs to another session.",
                    errors=[{"field": name, "message": "does not match the session"}],
                )
        return values

    def dump(self, values: JsonObject) -> JsonObject:
        """Effective arguments as JSON values; what was not given is left out."""
        return _validate(self.effective, values).model_dump(mode="json", exclude_defaults=True, exclude_none=True)


def action(
    *, group: str, effect: Effect, part: str | None = None, roles: Iterable[Role] = ("customer",)
) -> Callable[[Run], Action]:
    """Make a tool of an async function.

    Its parameters must be annotated; the one of type `ToolContext` is `ctx`. Every parameter that a model may supply
    has an entry under `Args:` in the docstring. Raises `InvalidAction` at import otherwise.
    """

    def make(run: Run) -> Action:
        name = run.__name__
        if not inspect.iscoroutinefunction(run):
            raise InvalidAction(f"{name}: an action is an async function")
        hints = get_type_hints(run, include_extras=True)
        hints.pop("return", None)
        parameters = {key: value for key, value in inspect.signature(run).parameters.items() if key != "ctx"}
        if hints.pop("ctx", None) is not ToolContext:
            raise InvalidAction(f"{name}: takes a parameter `ctx: ToolContext`")
        if missing := [key for key in parameters if key not in hints]:
            raise InvalidAction(f"{name}: no type for {', '.join(missing)}")
        description, arg_texts = _read_docstring(name, run.__doc__)
        from_session = tuple(key for key in parameters if _marker(hints[key], FromSession))
        _check_arg_texts(name, arg_texts, [key for key in parameters if key not in from_session])
        fields = {key: _field(hints[key], value, arg_texts.get(key)) for key, value in parameters.items()}
        offered = create_model(
            f"{name}_offered", __base__=_Arguments, **{k: v for k, v in fields.items() if k not in from_session}
        )
        return Action(
            spec=ToolSpec(name, description, _model_schema(offered), effect, group, part),
            roles=frozenset(roles),
            run=run,
            offered=offered,
            effective=create_model(f"{name}_effective", __base__=_Arguments, **fields),
            from_session=from_session,
            resolved={key: found for key in parameters if (found := _marker(hints[key], Resolved))},
        )

    return make


def by_name(actions: Iterable[Action]) -> dict[str, Action]:
    """Actions by name; `InvalidAction` when two share one."""
    found: dict[str, Action] = {}
    for each in actions:
        if each.name in found:
            raise InvalidAction(f"{each.name}: two actions have this name")
        found[each.name] = each
    return found


def _values(model: type[BaseModel], args: JsonObject) -> JsonObject:
    checked = _validate(model, args)
    return {name: getattr(checked, name) for name in model.model_fields}


def _validate(model: type[BaseModel], args: JsonObject) -> BaseModel:
    try:
        return model.model_validate(args)
    except ValidationError as problem:
        errors = [
            {"field": ".".join(str(part) for part in error["loc"]), "message": _plain(error["msg"])}
            for error in problem.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise InvalidArguments("Some details are missing or not in a usable form.", errors=errors) from problem


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")


def _marker(hint: Any, kind: type[Any]) -> Any:
    """The marker of a class in an annotation, also inside an optional one (`X | None`)."""
    if get_origin(hint) is Annotated:
        for extra in get_args(hint)[1:]:
            if isinstance(extra, kind):
                return extra
        hint = get_args(hint)[0]
    for inner in get_args(hint):
        if (found := _marker(inner, kind)) is not None:
            return found
    return None


def _field(hint: Any, parameter: inspect.Parameter, text: str | None) -> Any:
    default = ... if parameter.default is inspect.Parameter.empty else parameter.default
    return (hint, Field(default, description=text))


def _read_docstring(name: str, docstring: str | None) -> tuple[str, dict[str, str]]:
    """The description (all before the first section) and the text of each argument."""
    if not docstring or not docstring.strip():
        raise InvalidAction(f"{name}: an action has a docstring, which is its description")
    text = inspect.cleandoc(docstring)
    pieces = _SECTION.split(text)
    sections = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    args: dict[str, str] = {}
    current = None
    for line in inspect.cleandoc(sections.get("Args", "")).splitlines():
        if not line.startswith(" ") and (match := _ARG_LINE.match(line)):
            current = match[1]
            args[current] = match[2].strip()
        elif current and line.strip():
            args[current] = f"{args[current]} {line.strip()}".strip()
    return " ".join(pieces[0].split()), args


def _check_arg_texts(name: str, texts: dict[str, str], wanted: list[str]) -> None:
    if missing := [key for key in wanted if not texts.get(key)]:
        raise InvalidAction(f"{name}: no `Args:` entry for {', '.join(missing)}")
    if surplus := [key for key in texts if key not in wanted]:
        raise InvalidAction(f"{name}: `Args:` describes {', '.join(surplus)}, which a model cannot supply")


def _model_schema(model: type[BaseModel]) -> JsonObject:
    """The JSON Schema of an object, without what only costs a model tokens."""
    schema: JsonObject = _trim(model.model_json_schema())
    schema.setdefault("properties", {})
    schema.pop("description", None)
    return schema


def _trim(node: Any) -> Any:
    """Drop titles and null defaults; an optional value is one that may be left out, not one that may be null."""
    if isinstance(node, list):
        return [_trim(item) for item in node]
    if not isinstance(node, dict):
        return node
    options = [option for option in node.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        node = {**options[0], **{key: value for key, value in node.items() if key != "anyOf"}}
    trimmed: JsonObject = {}
    for key, value in node.items():
        if key == "properties":
            trimmed[key] = {name: _trim(each) for name, each in value.items()}
        elif not (key == "title" or (key == "default" and value is None)):
            trimmed[key] = _trim(value)
    return trimmed
