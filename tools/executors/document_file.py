"""Files in which somebody describes their tools: read with limits, and places in them named in every complaint."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import unquote

import yaml

from tools.contract import JsonObject
from tools.executors.config import ExecutorError

MAX_BYTES = 2_000_000
MAX_NODES = 300_000  # with every YAML alias written out
MAX_DEPTH = 60
_MOST_REFERENCES = 20

At = tuple[str | int, ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Document:
    """One file, parsed. `root` holds JSON values only, and is a tree of bounded depth and size."""

    path: Path
    root: Any

    def wrong(self, at: At, problem: str) -> ExecutorError:
        """The error that names the file, the place in it as a JSON path, and the problem with its fix."""
        return ExecutorError(f"{self.path}: {json_path(at)}: {problem}")

    def member(self, node: JsonObject, key: str, kind: type[T], at: At) -> T | None:
        """A member that may be left out; wrong when it is of another type."""
        value = node.get(key)
        if value is None or (isinstance(value, kind) and not (kind is not bool and isinstance(value, bool))):
            return value
        raise self.wrong((*at, key), f"is {_kind(value)}; write {_NAMES[kind]}")

    def follow(self, node: Any, at: At) -> tuple[JsonObject, At]:
        """An object, and the place where it stands, behind any number of `$ref`s."""
        for _ in range(_MOST_REFERENCES):
            if not isinstance(node, dict):
                raise self.wrong(at, f"is {_kind(node)}; write an object")
            if "$ref" not in node:
                return node, at
            node, at = self.target(node["$ref"], (*at, "$ref"))
        raise self.wrong(at, "leads through too many references; let one of them end in an object")

    def target(self, reference: Any, at: At) -> tuple[Any, At]:
        """What a local reference (`#/…`) points at, and where that stands."""
        if not isinstance(reference, str):
            raise self.wrong(at, "is no reference; write a text such as #/components/schemas/Name")
        if not reference.startswith("#"):
            raise self.wrong(at, f"{reference!r} leads out of the file, and nothing is fetched; copy it into this file")
        if reference != "#" and not reference.startswith("#/"):
            raise self.wrong(at, f"{reference!r} is no JSON pointer; write #/ and the path to what is meant")
        node, found = self.root, At()
        for part in reference[2:].split("/") if reference != "#" else ():
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and key in node:
                node, found = node[key], (*found, key)
            elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node, found = node[int(key)], (*found, int(key))
            else:
                raise self.wrong(at, f"there is no {reference!r} in this file; correct it or add what it names")
        return node, found


def load(path: Path) -> Document:
    """Read a JSON or YAML file; `ExecutorError` when it is neither, too large, or nested too deep."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ExecutorError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if len(raw) > MAX_BYTES:
        raise ExecutorError(f"{path}: is larger than {MAX_BYTES:,} bytes; cut it down to the operations you want")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExecutorError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    document = Document(path, _parsed(path, text))
    _check_size(document)
    return document


def json_path(at: At) -> str:
    """`$.paths['/items/{id}'].get`"""
    parts = (
        f".{part}" if isinstance(part, str) and re.fullmatch(r"[A-Za-z_][\w-]*", part) else f"[{part!r}]" for part in at
    )
    return f"${''.join(parts)}"


def _parsed(path: Path, text: str) -> Any:
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text, parse_constant=_no_constant)
        except RecursionError as error:
            raise _too_deep(path) from error
        except ValueError as error:
            if path.suffix.lower() == ".json":
                raise ExecutorError(f"{path}: is no JSON: {error}") from error
    try:
        _check_depth(path, text)
        return yaml.load(text, _Yaml)  # noqa: S506 (a safe loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ExecutorError(f"{path}: is neither JSON nor YAML: {' '.join(str(error).split())}") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _check_depth(path: Path, text: str) -> None:
    """The parser's own recursion is in C, where too much of it kills the process."""
    depth = 0
    for event in yaml.parse(text, _Base):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _too_deep(path)


def _check_size(document: Document) -> None:
    """Few lines of YAML aliases can stand for more than memory holds, or for themselves."""
    nodes, waiting = 0, [(document.root, At())]
    while waiting:
        node, at = waiting.pop()
        nodes += 1
        if nodes > MAX_NODES:
            raise ExecutorError(f"{document.path}: holds more than {MAX_NODES:,} values; cut it down")
        if len(at) > MAX_DEPTH:
            raise _too_deep(document.path)
        inner: Iterable[tuple[Any, Any]] = ()
        if isinstance(node, dict):
            inner = node.items()
        elif isinstance(node, list):
            inner = enumerate(node)
        elif isinstance(node, float) and not math.isfinite(node):
            raise document.wrong(at, "is a number beyond what JSON readers hold; write it as a text")
        waiting += [(each, (*at, key)) for key, each in inner]


def _too_deep(path: Path) -> ExecutorError:
    return ExecutorError(f"{path}: is nested more than {MAX_DEPTH} levels deep; move inner parts to components")


_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}


def _kind(value: Any) -> str:
    return _NAMES.get(type(value), "null" if value is None else "a number")


_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Yaml(_Base):  # type: ignore[misc]
    """YAML as OpenAPI wants it: the types of JSON and no others. `2026-03-16`, `09:30:00` and `on` are texts."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        None: yaml.SafeLoader.construct_undefined,
        "tag:yaml.org,2002:str": lambda _loader, node: str(node.value),
        "tag:yaml.org,2002:seq": lambda loader, node: loader.construct_sequence(node, deep=True),
        "tag:yaml.org,2002:map": lambda loader, node: _mapping(loader, node),
        "tag:yaml.org,2002:null": lambda _loader, _node: None,
        "tag:yaml.org,2002:bool": lambda _loader, node: node.value.lower() == "true",
        "tag:yaml.org,2002:int": lambda _loader, node: int(node.value),
        "tag:yaml.org,2002:float": lambda _loader, node: float(node.value),
    }


def _mapping(loader: Any, node: yaml.MappingNode) -> JsonObject:
    """Keys are texts as they stand: `200:` is the key "200"."""
    loader.flatten_mapping(node)
    if odd := [key for key, _ in node.value if not isinstance(key, yaml.ScalarNode)]:
        raise yaml.constructor.ConstructorError(problem="a key is no text", problem_mark=odd[0].start_mark)
    return {key.value: loader.construct_object(value, deep=True) for key, value in node.value}


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+0123456789."),
    ("merge", r"<<", "<"),
):
    _Yaml.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
