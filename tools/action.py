"""`@action`: one typed function, and everything a runtime needs to offer it to a model.

The signature, its `Annotated` types and the docstring are the schema. An `Action` holds no transport:
`tools.in_process` runs it, and any other packaging (an action-group document, a Lambda handler, an MCP tool) reads the
same fields. Two hooks complete an action:

    @confirm_appointment.prepares     eligibility and the facts that a person reads before saying yes
    @confirm_appointment.reconciles   read back whether the effect took place
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUndefinedAnnotation

from tools.contract import Effect, Identity, InvalidArguments, JsonObject, ToolContext, ToolResult, ToolSpec

Role = str
Run = Callable[..., Awaitable[JsonObject]]
Reconcile = Callable[..., Awaitable[ToolResult | None]]

# Names that only the session may fill in, whatever an action declares.
SESSION_ONLY = frozenset({"customer_id", "request_id"})

_SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Examples?):\s*$", re.MULTILINE)
_ARG_LINE = re.compile(r"^(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")


class InvalidAction(TypeError):
    """An action that cannot be offered; the message names file, line, action and fix."""


@dataclass(frozen=True, slots=True)
class FromSession:
    """Marks a parameter that the verified identity fills in (the attribute of the same name); in no schema."""


@dataclass(frozen=True, slots=True)
class FromPreparation:
    """Marks a parameter with a default that only the `prepares` hook fills in; in no schema."""


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


class Arguments(BaseModel):
    """Base of argument models. A field is called by its place, so that a parameter may have any name (`self`, `json`,
    `model_config`); the parameter's name is its alias."""

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
    from_preparation: tuple[str, ...]
    resolved: dict[str, Resolved]
    defaults: JsonObject  # python values, of parameters that may be left out
    prepare: Prepare | None = None
    reconcile: Reconcile | None = None
    _effective_schema: JsonObject | None = None

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
        # What a preparation once filled in is not believed: it is made anew.
        return _values(self.offered, {key: value for key, value in args.items() if key not in self.from_preparation})

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
        """Effective arguments as JSON values; those that are as if left out are left out."""
        dumped = _validate(self.effective, values).model_dump(mode="json", by_alias=True)
        return {
            name: each
            for name, each in dumped.items()
            if name not in self.defaults or values.get(name) != self.defaults[name]
        }

    @property
    def effective_schema(self) -> JsonObject:
        """JSON Schema of the effective arguments, as one executor hands them to another."""
        if self._effective_schema is None:
            self._effective_schema = _model_schema(self.effective)
        return self._effective_schema

    @property
    def place(self) -> str:
        """File and line of the function, for messages."""
        return place_of(self.run)

    @property
    def errors(self) -> dict[str, str]:
        """What its docstring says under `Raises:`, by the error's class name."""
        return _entries(inspect.cleandoc(self.run.__doc__ or ""), "Raises")


def action(
    *, group: str, effect: Effect, part: str | None = None, roles: Iterable[Role] = ("customer",)
) -> Callable[[Run], Action]:
    """Make a tool of an async function.

    Its parameters must be annotated; the one of type `ToolContext` is `ctx`. Every parameter that a model may supply
    has an entry under `Args:` in the docstring. Raises `InvalidAction` at import otherwise.
    """

    def make(run: Run) -> Action:
        name = run.__name__

        def wrong(what: str) -> InvalidAction:
            return InvalidAction(f"{place_of(run)}: {name}: {what}")

        if not inspect.iscoroutinefunction(run):
            raise wrong("is no async function; write `async def`")
        try:
            hints = get_type_hints(run, include_extras=True)
        except NameError as error:
            raise wrong(f"{error}; a parameter's type must be importable where the action is defined") from error
        hints.pop("return", None)
        parameters = {key: value for key, value in inspect.signature(run).parameters.items() if key != "ctx"}
        if hints.pop("ctx", None) is not ToolContext:
            raise wrong("has no context; add a parameter `ctx: ToolContext`")
        if loose := [key for key, value in parameters.items() if value.kind in _LOOSE]:
            raise wrong(f"cannot tell a model what {', '.join(loose)} may hold; name each parameter")
        if missing := [key for key in parameters if key not in hints]:
            raise wrong(f"no type for {', '.join(missing)}; annotate it")
        if not (run.__doc__ or "").strip():
            raise wrong("no docstring; its first paragraph is what a model reads")
        description, arg_texts = _read_docstring(run.__doc__ or "")
        from_session = tuple(key for key in parameters if _marker(hints[key], FromSession))
        from_preparation = tuple(key for key in parameters if _marker(hints[key], FromPreparation))
        offered_names = [key for key in parameters if key not in (*from_session, *from_preparation)]
        if missing := [key for key in offered_names if not arg_texts.get(key)]:
            raise wrong(f"no `Args:` entry for {', '.join(missing)}; say what it is, in a line below `Args:`")
        if surplus := [key for key in arg_texts if key not in offered_names]:
            raise wrong(f"`Args:` describes {', '.join(surplus)}, which a model cannot supply; remove it")
        fields = {key: _field(key, hints[key], value, arg_texts.get(key)) for key, value in parameters.items()}
        try:
            offered = _model(f"{name}_offered", {key: fields[key] for key in offered_names})
            effective = _model(f"{name}_effective", fields)
            schema = _model_schema(offered)
        except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, PydanticUndefinedAnnotation) as error:
            reason = str(error).splitlines()[0]
            raise wrong(f"a parameter's type has no JSON Schema ({reason}); use types that JSON can carry") from error
        return Action(
            spec=ToolSpec(name, description, schema, effect, group, part),
            roles=frozenset(roles),
            run=run,
            offered=offered,
            effective=effective,
            from_session=from_session,
            from_preparation=from_preparation,
            resolved={key: found for key in parameters if (found := _marker(hints[key], Resolved))},
            defaults={k: p.default for k, p in parameters.items() if p.default is not inspect.Parameter.empty},
        )

    return make


_LOOSE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


def place_of(run: Run) -> str:
    """`path:line` of a function, the path as short as it can be."""
    code = inspect.unwrap(run).__code__
    return f"{os.path.relpath(code.co_filename)}:{code.co_firstlineno}"


def by_name(actions: Iterable[Action]) -> dict[str, Action]:
    """Actions by name; `InvalidAction` when two share one."""
    found: dict[str, Action] = {}
    for each in actions:
        if (first := found.get(each.name)) is not None:
            raise InvalidAction(f"{each.place}: {each.name}: {first.place} has an action of this name; rename one")
        found[each.name] = each
    return found


def _values(model: type[BaseModel], args: JsonObject) -> JsonObject:
    checked = _validate(model, args)
    return {str(each.alias): getattr(checked, name) for name, each in model.model_fields.items()}


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


def _field(name: str, hint: Any, parameter: inspect.Parameter, text: str | None) -> Any:
    default = ... if parameter.default is inspect.Parameter.empty else parameter.default
    return (hint, Field(default, alias=name, description=text))


def _model(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    by_place = {f"argument_{n}": each for n, each in enumerate(fields.values())}
    return create_model(name, __base__=Arguments, **by_place)


def _read_docstring(docstring: str) -> tuple[str, dict[str, str]]:
    """The description (all before the first section) and the text of each argument."""
    text = inspect.cleandoc(docstring)
    pieces = _SECTION.split(text)
    return " ".join(pieces[0].split()), _entries(text, "Args")


def _entries(text: str, section: str) -> dict[str, str]:
    """The entries of a docstring's section: `name: text`, which may go on in further lines, indented."""
    pieces = _SECTION.split(text)
    sections = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    found: dict[str, str] = {}
    current = None
    for line in inspect.cleandoc(sections.get(section, "")).splitlines():
        if not line.startswith(" ") and (match := _ARG_LINE.match(line)):
            current = match[1]
            found[current] = match[2].strip()
        elif current and line.strip():
            found[current] = f"{found[current]} {line.strip()}".strip()
    return found


def _model_schema(model: type[BaseModel]) -> JsonObject:
    """The JSON Schema of an object, without what only costs a model tokens."""
    schema: JsonObject = _trim(model.model_json_schema())
    schema.setdefault("properties", {})
    schema.pop("description", None)
    return schema


# Keys of JSON Schema whose members are schemas under names of somebody's choosing, and those that hold plain values.
_NAMED = ("properties", "$defs", "patternProperties")
_VALUES = ("default", "const", "enum", "examples")


def _trim(node: Any) -> Any:
    """Drop titles; what is null when left out is optional, and need not be said to be nullable as well."""
    if isinstance(node, list):
        return [_trim(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "default" in node and node["default"] is None:
        node = {key: value for key, value in node.items() if key != "default"}
        options = [option for option in node.get("anyOf", ()) if option != {"type": "null"}]
        if len(options) == 1:
            node = {**options[0], **{key: value for key, value in node.items() if key != "anyOf"}}
        elif len(options) < len(node.get("anyOf", ())):
            node = {**node, "anyOf": options}
    trimmed: JsonObject = {}
    for key, value in node.items():
        if key in _NAMED and isinstance(value, dict):
            trimmed[key] = {name: _trim(each) for name, each in value.items()}
        elif key in _VALUES:
            trimmed[key] = value
        elif key != "title":
            trimmed[key] = _trim(value)
    return trimmed
