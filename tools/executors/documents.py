"""Tools as other people's documents describe them: Bedrock function details, and OpenAPI 3.0 and 3.1.

Nothing is fetched: a document is one local file, JSON or YAML. Every complaint is an `ExecutorError` that names the
file, the place in it as a JSON path, and the fix.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from tools.action import SESSION_ONLY
from tools.contract import JsonObject
from tools.executors.config import ExecutorError
from tools.executors.document_file import At, Document, load
from tools.executors.mounted import ForeignTool
from tools.executors.openapi_schema import Schemas
from tools.lambda_events import JSON_BODY, Place
from tools.values import resolved, types_of

FORM_BODY = "application/x-www-form-urlencoded"
BODY = "body"  # the argument that is the whole body, where that is more than a list of members

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_FUNCTION_TYPES = ("string", "number", "integer", "boolean", "array")
_STYLES = {"path": "simple", "query": "form", "header": "simple"}
# Of the connection, or set for every call: OpenAPI has the first three ignored where they are described as parameters.
_NEVER_ARGUMENTS = frozenset(
    {"accept", "content-type", "authorization", "idempotency-key", "accept-encoding", "host", "connection"}
    | {"content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect", "cookie", "proxy-authorization"}
)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LEAVE_OUT = "or name the operations to mount in `only`, without this one"


@dataclass(frozen=True, slots=True)
class Field:
    """Where one argument goes and what it is called there. A list in the query is repeated (`explode`) or joined."""

    argument: str
    name: str
    place: Place
    explode: bool = False
    as_json: bool = False  # a path, query or header parameter that holds JSON text


@dataclass(frozen=True)
class Route:
    """How an operation is called. `path` is the template, with names in braces as the document has them."""

    method: str
    path: str
    fields: tuple[Field, ...] = ()
    media_type: str = ""  # of the body, if there can be one
    whole_body: bool = False  # the one field in the body is the body itself, and no member of it
    body_required: bool = False
    server: str | None = None  # of this operation alone

    @cached_property
    def places(self) -> Mapping[str, Place]:
        """The place of each argument; of one that goes to several, the first."""
        return {each.argument: each.place for each in reversed(self.fields)}

    @cached_property
    def names(self) -> Mapping[str, str]:
        """What each argument is called in the document."""
        return {each.argument: each.name for each in reversed(self.fields)}


@dataclass(frozen=True, slots=True)
class Api:
    """An OpenAPI document, read: each tool's `route` is a `Route`. `servers` are URLs, perhaps relative ones."""

    title: str
    tools: list[ForeignTool]
    servers: list[str]


def read_functions(path: Path) -> list[ForeignTool]:
    """The functions of a Bedrock action group: a list, `{functions: […]}`, or `{functionSchema: {functions: […]}}`."""
    document = load(path)
    node, at = document.root, At()
    for key in ("functionSchema", "functions"):
        if isinstance(node, dict) and key in node:
            node, at = node[key], (*at, key)
    if not isinstance(node, list) or not node:
        raise document.wrong(at, "has no functions; write a list of {name, description, parameters}")
    tools = [_function(document, each, (*at, n)) for n, each in enumerate(node)]
    _refuse_twins(document, [(tool.name, (*at, n)) for n, tool in enumerate(tools)], "name")
    return tools


def read_openapi(
    path: Path, *, only: Collection[str] = (), supplied: Collection[str] = (), over_http: bool = False
) -> Api:
    """The operations of an OpenAPI document, by their `operationId`, else by method and path.

    `only` names the operations that are read; the others are not looked at. `supplied` are headers that whoever calls
    sets by itself, so that no argument is made of them. `over_http` refuses what we cannot put into a request of HTTP;
    an event of a Lambda function carries values of any shape anywhere.
    """
    document = load(path)
    root, at = document.follow(document.root, At())
    version = str(root.get("openapi"))
    if not version.startswith(("3.0", "3.1")):
        found = f"is Swagger {root['swagger']}" if "swagger" in root else "says no `openapi: 3.0` or `openapi: 3.1`"
        raise document.wrong(at, f"{found}; convert the document to OpenAPI 3.0 or 3.1")
    operations = list(_operations(document, root))
    if not operations:
        raise document.wrong((*at, "paths"), "describes no operations; add some")
    _refuse_twins(document, [(each.name, each.at) for each in operations], "operationId")
    if missing := [name for name in only if name not in {each.name for each in operations}]:
        known = ", ".join(each.name for each in operations) or "none"
        raise ExecutorError(f"{path}: there is no operation {', '.join(missing)}; there are: {known}")
    headers = frozenset(each.lower() for each in supplied) | _NEVER_ARGUMENTS
    tools = [_Reader(document, each, headers, over_http).tool() for each in operations if not only or each.name in only]
    info = document.member(root, "info", dict, at) or {}
    return Api(str(info.get("title", "")), tools, _servers(document, root, at))


# --- function details -----------------------------------------------------------------------------------------------


def _function(document: Document, node: Any, at: At) -> ForeignTool:
    if not isinstance(node, dict):
        raise document.wrong(at, "is no function; write an object with a name")
    name = document.member(node, "name", str, at)
    if not name:
        raise document.wrong(at, "has no name; add `name`")
    properties: JsonObject = {}
    required = []
    for key, each in (document.member(node, "parameters", dict, at) or {}).items():
        place = (*at, "parameters", key)
        if not isinstance(each, dict) or each.get("type") not in _FUNCTION_TYPES:
            raise document.wrong(place, f"has no type that functions have; write type: {' | '.join(_FUNCTION_TYPES)}")
        properties[key] = {"type": each["type"]} | ({"items": {}} if each["type"] == "array" else {})
        if described := document.member(each, "description", str, place):
            properties[key]["description"] = described
        if document.member(each, "required", bool, place):
            required.append(key)
    return ForeignTool(
        name=name,
        description=document.member(node, "description", str, at) or name,
        parameters={"type": "object", "properties": properties, "required": required, "additionalProperties": False},
        needs_yes=_enabled(document, node, "requireConfirmation", at),
    )


def _enabled(document: Document, node: JsonObject, key: str, at: At) -> bool:
    value = node.get(key)
    if value not in (None, "ENABLED", "DISABLED", True, False):
        raise document.wrong((*at, key), f"{value!r} says neither; write ENABLED or DISABLED")
    return value in ("ENABLED", True)


def _refuse_twins(document: Document, named: list[tuple[str, At]], key: str) -> None:
    counted = Counter(name for name, _ in named)
    for name, at in named:
        if counted[name] > 1:
            raise document.wrong(at, f"{name!r} is the name of {counted[name]} tools; give each its own `{key}`")


# --- operations -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Operation:
    name: str
    method: str
    path: str
    node: JsonObject
    at: At
    shared: JsonObject  # the path item
    shared_at: At


@dataclass(slots=True)
class _Argument:
    """An argument in the making; it has no name of its own yet."""

    name: str
    place: Place
    schema: JsonObject
    required: bool
    at: At
    explode: bool = False
    as_json: bool = False
    argument: str = field(default="")


@dataclass(frozen=True, slots=True)
class _Body:
    media_type: str = ""
    whole: bool = False
    required: bool = False
    arguments: list[_Argument] = field(default_factory=list)


def _operations(document: Document, root: JsonObject) -> Iterator[_Operation]:
    for path, item in (document.member(root, "paths", dict, At()) or {}).items():
        if path.startswith("x-"):
            continue
        at: At = ("paths", path)
        if not path.startswith("/") or any(part in (".", "..") for part in path.split("/")) or set("?#\\") & set(path):
            raise document.wrong(at, "is no path; write /items/{id}, without `.`, `..`, `?`, `#` or backslash")
        shared, shared_at = document.follow(item, at)
        for method in _METHODS:
            if method in shared:
                node, place = document.follow(shared[method], (*shared_at, method))
                name = document.member(node, "operationId", str, place)
                made_up = re.sub(r"[^A-Za-z0-9]+", "_", f"{method}{path}").strip("_")
                yield _Operation(name or made_up, method.upper(), path, node, place, shared, shared_at)


def _servers(document: Document, node: JsonObject, at: At) -> list[str]:
    found = []
    for n, each in enumerate(document.member(node, "servers", list, at) or ()):
        server, place = document.follow(each, (*at, "servers", n))
        url = document.member(server, "url", str, place)
        if not url:
            raise document.wrong(place, "has no url; add it")
        variables = document.member(server, "variables", dict, place) or {}
        for name in re.findall(r"\{([^{}]*)\}", url):
            value = variables.get(name)
            if not isinstance(value, dict) or "default" not in value:
                raise document.wrong((*place, "url"), f"nothing says what {{{name}}} is; add variables.{name}.default")
            url = url.replace(f"{{{name}}}", str(value["default"]))
        found.append(url)
    return found


class _Reader:
    """Reads one operation."""

    def __init__(
        self, document: Document, operation: _Operation, set_by_caller: frozenset[str], over_http: bool
    ) -> None:
        self._over_http = over_http
        self._document = document
        self._operation = operation
        self._set_by_caller = set_by_caller
        self._schemas = Schemas(document)

    def tool(self) -> ForeignTool:
        """The operation as a tool."""
        operation, document = self._operation, self._document
        arguments = self._parameters()
        body = self._body()
        arguments += body.arguments
        _name(arguments)
        definitions = self._schemas.definitions()
        if self._over_http:
            for each in arguments:
                self._check(each, {"$defs": definitions}, body)
        own = _servers(document, operation.node, operation.at) or _servers(
            document, operation.shared, operation.shared_at
        )
        fields = tuple(Field(each.argument, each.name, each.place, each.explode, each.as_json) for each in arguments)
        return ForeignTool(
            name=operation.name,
            description=self._description(),
            parameters=_object(arguments, definitions),
            route=Route(
                operation.method,
                operation.path,
                fields,
                body.media_type,
                body.whole,
                body.required,
                next(iter(own), None),
            ),
            needs_yes=any(
                _enabled(document, operation.node, key, operation.at)
                for key in ("x-requireConfirmation", "x-require-confirmation", "x-openai-isConsequential")
            ),
        )

    def _description(self) -> str:
        operation = self._operation
        parts = [(self._document.member(operation.node, key, str, operation.at) or "").strip() for key in _WORDS]
        summary, description = parts
        if description.startswith(summary):
            summary = ""
        return "\n\n".join(filter(None, (summary, description))) or f"{operation.method} {operation.path}"

    def _parameters(self) -> list[_Argument]:
        operation, document = self._operation, self._document
        found: dict[tuple[str, str], tuple[JsonObject, At]] = {}
        for holder, at in ((operation.shared, operation.shared_at), (operation.node, operation.at)):
            for n, each in enumerate(document.member(holder, "parameters", list, at) or ()):
                node, place = document.follow(each, (*at, "parameters", n))
                name, where = document.member(node, "name", str, place), document.member(node, "in", str, place)
                if not name or where not in (*_STYLES, "cookie"):
                    raise document.wrong(place, "names no parameter; give it `name`, and `in` as path, query or header")
                if where == "header" and not _TOKEN.fullmatch(name):
                    raise document.wrong(
                        (*place, "name"), f"{name!r} is no name of a header; use letters, digits and -"
                    )
                if where == "cookie":
                    raise document.wrong(place, f"{name} is a cookie, and none are sent; remove it, {_LEAVE_OUT}")
                found[(where, name.lower() if where == "header" else name)] = node, place
        templated = re.findall(r"\{([^{}]*)\}", operation.path)
        if missing := [name for name in templated if ("path", name) not in found]:
            raise document.wrong(operation.at, f"{{{missing[0]}}} of the path is not described; add it to `parameters`")
        described = [
            self._parameter(node, at) for (_, key), (node, at) in found.items() if key not in self._unasked(node)
        ]
        for each in described:
            if each.place == "path" and each.name not in templated:
                raise document.wrong(
                    each.at, f"{{{each.name}}} does not occur in the path; add it there or remove it here"
                )
        return described

    def _unasked(self, node: JsonObject) -> frozenset[str]:
        return self._set_by_caller if node["in"] == "header" else frozenset()

    def _parameter(self, node: JsonObject, at: At) -> _Argument:
        document, place = self._document, node["in"]
        style = node.get("style", _STYLES[place])
        if style != _STYLES[place] and self._over_http:
            raise document.wrong((*at, "style"), f"{style!r} is not supported; use {_STYLES[place]}, {_LEAVE_OUT}")
        content = document.member(node, "content", dict, at)
        if content:
            media_type = next(iter(content))
            if len(content) > 1 or not _is_json(media_type):
                raise document.wrong((*at, "content"), f"is not JSON alone; use {JSON_BODY} or a schema, {_LEAVE_OUT}")
            schema = self._schema_of(content, media_type, (*at, "content"))
        else:
            schema = self._schemas.convert(node.get("schema", {}), (*at, "schema"))
        if described := document.member(node, "description", str, at):
            schema = {**schema, "description": described}
        if "example" in node and "examples" not in schema:
            schema = {**schema, "examples": [node["example"]]}
        required = place == "path" or document.member(node, "required", bool, at) is True
        explode = document.member(node, "explode", bool, at)
        return _Argument(
            node["name"],
            cast(Place, place),
            schema,
            required,
            at,
            explode if explode is not None else style == "form",
            bool(content),
        )

    def _schema_of(self, content: JsonObject, media_type: str, at: At) -> JsonObject:
        media = self._document.member(content, media_type, dict, at) or {}
        return self._schemas.convert(media.get("schema", {}), (*at, media_type, "schema"))

    def _body(self) -> _Body:
        operation, document = self._operation, self._document
        if "requestBody" not in operation.node:
            return _Body()
        node, at = document.follow(operation.node["requestBody"], (*operation.at, "requestBody"))
        content = document.member(node, "content", dict, at) or {}
        media_type = _preferred(content)
        if media_type is None:
            raise document.wrong((*at, "content"), f"is neither JSON nor a form; add {JSON_BODY}, {_LEAVE_OUT}")
        if not (media_type.isascii() and media_type.isprintable()):
            raise document.wrong((*at, "content"), f"{media_type!r} is no media type; write {JSON_BODY}")
        media = document.member(content, media_type, dict, (*at, "content")) or {}
        if self._over_http:
            self._refuse_encodings(media, (*at, "content", media_type))
        schema, at_schema = media.get("schema", {}), (*at, "content", media_type, "schema")
        sent_as = JSON_BODY if "*" in media_type else media_type
        required = document.member(node, "required", bool, at) is True
        if (members := self._schemas.members(schema, at_schema)) is not None:
            arguments = [
                _Argument(name, "body", each, name in members.required, at_schema, explode=True)
                for name, each in members.properties.items()
            ]
            return _Body(sent_as, False, required, arguments)
        whole = self._schemas.convert(schema, at_schema)
        if described := document.member(node, "description", str, at):
            whole = {"description": described, **whole}
        return _Body(sent_as, True, required, [_Argument(BODY, "body", whole, required, at_schema)])

    def _refuse_encodings(self, media: JsonObject, at: At) -> None:
        for name, encoding in (self._document.member(media, "encoding", dict, at) or {}).items():
            if isinstance(encoding, dict) and (
                encoding.get("style", "form") != "form" or encoding.get("explode") is False
            ):
                raise self._document.wrong(
                    (*at, "encoding", name), f"is not supported; use form and explode, {_LEAVE_OUT}"
                )

    def _check(self, argument: _Argument, root: JsonObject, body: _Body) -> None:
        """Refuse what the place of an argument cannot carry."""
        if argument.as_json or (argument.place == "body" and body.media_type != FORM_BODY):
            return
        types = (types_of(argument.schema, root) or frozenset()) - {"null"}
        items = resolved(argument.schema, root).get("items", {}) if types == {"array"} else {}
        inner = (types_of(items, root) or frozenset()) - {"null"}
        if types == {"object"} or inner in ({"object"}, {"array"}) or (body.whole and argument.place == "body"):
            where = "a form" if argument.place == "body" else f"the {argument.place}"
            raise self._document.wrong(
                argument.at, f"{argument.name} is too rich for {where}; send it as JSON, {_LEAVE_OUT}"
            )


_WORDS = ("summary", "description")


def _is_json(media_type: str) -> bool:
    plain = media_type.partition(";")[0].strip().lower()
    return plain == JSON_BODY or plain.endswith("+json")


def _preferred(content: JsonObject) -> str | None:
    """The media type to send: JSON, something like JSON, a form, or whatever the server takes."""
    plain = {each: each.partition(";")[0].strip().lower() for each in content}
    wanted = (
        lambda each: plain[each] == JSON_BODY,
        _is_json,
        lambda each: plain[each] == FORM_BODY,
        lambda each: plain[each] in ("*/*", "application/*"),
    )
    return next((each for fits in wanted for each in content if fits(each)), None)


def _name(arguments: list[_Argument]) -> None:
    """Give each argument a name that models accept, and that no other has.

    Several of one name get their place before it (`path_id`, `body_id`). What only the session may fill in keeps its
    name, and goes to all of those places: under another name a model could fill it in.
    """
    plain = [_plain(each.name) for each in arguments]
    counted, taken = Counter(plain), set[str]()
    for each, name in zip(arguments, plain, strict=True):
        if counted[name] > 1 and name not in SESSION_ONLY:
            name = f"{each.place}_{name}"[:64]
        if name in taken and name not in SESSION_ONLY:
            name = next(other for n in range(2, len(arguments) + 2) if (other := f"{name[:60]}_{n}") not in taken)
        taken.add(name)
        each.argument = name
        if name not in (each.name, f"{each.place}_{each.name}"):
            each.schema = {"title": each.name, **each.schema}


def _plain(name: str) -> str:
    kept = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)
    return (kept if kept == name else kept.strip("_"))[:64] or "argument"


def _object(arguments: list[_Argument], definitions: JsonObject) -> JsonObject:
    parameters: JsonObject = {
        "type": "object",
        "properties": {each.argument: each.schema for each in reversed(arguments)},
        "required": list(dict.fromkeys(each.argument for each in arguments if each.required)),
        "additionalProperties": False,
    }
    parameters["properties"] = dict(reversed(parameters["properties"].items()))
    return parameters | ({"$defs": definitions} if definitions else {})
