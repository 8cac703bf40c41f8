"""Arguments as an HTTP request, by the route of their operation.

Each value arrives as it was given, or the call is refused before anything is sent: no value can leave the segment of
the path, the parameter or the header that it is meant for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from tools.contract import InvalidArguments, JsonObject
from tools.executors.documents import FORM_BODY, Field, Route

MAX_TARGET_BYTES = 8_000  # what most servers take of path and query, and of one header
_LITERAL = "/:@!$&'()*+,;=~-._%"  # may stand as it is in the template of a path
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Encoded:
    """One request; `target` is path and query, plain ASCII, to be put behind the address of the server."""

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    content: bytes | None


def encoded(route: Route, args: JsonObject) -> Encoded:
    """The request for these arguments; `InvalidArguments` names one that cannot be sent."""
    given = [(each, args[each.argument]) for each in route.fields if each.argument in args]
    path = _path(route, {each.name: _segment(each, value) for each, value in given if each.place == "path"})
    pairs = [pair for each, value in given if each.place == "query" for pair in _pairs(each, value)]
    query = "&".join(f"{_quoted(name)}={value}" for name, value in pairs)
    target = f"{path}?{query}" if query else path
    if len(target) > MAX_TARGET_BYTES:
        raise _unsendable("", f"is too long for an address: at most {MAX_TARGET_BYTES:,} bytes in all")
    headers = [
        (each.name.encode("ascii"), _header(each, value))
        for each, value in given
        if each.place == "header" and value is not None and value != []
    ]
    content = _body(route, [(each, value) for each, value in given if each.place == "body"])
    if content is not None:
        headers.append((b"Content-Type", route.media_type.encode("ascii")))
    return Encoded(route.method, target, tuple(headers), content)


def _path(route: Route, values: dict[str, str]) -> str:
    pieces = re.split(r"\{([^{}]*)\}", route.path)
    literals = (quote(each, safe=_LITERAL) for each in pieces[::2])
    if missing := [name for name in pieces[1::2] if name not in values]:
        raise _unsendable(missing[0], "is missing; it is part of the address")
    filled = (values[name] for name in pieces[1::2])
    path = "".join(part for pair in zip(literals, [*filled, ""], strict=True) for part in pair)
    # Servers may decode a path before they split it; then such a value would climb out of its segment.
    for segment in path.split("/"):
        if any(part in (".", "..") for part in re.split(r"[/\\]", _decoded(segment))):
            raise _unsendable("", "would lead to another address; leave out the dots between slashes")
    return path


def _decoded(segment: str) -> str:
    while (further := unquote(segment)) != segment:
        segment = further
    return segment


def _segment(field: Field, value: Any) -> str:
    if value in (None, "", []):
        raise _unsendable(field.argument, "cannot be empty; it is part of the address")
    return _joined(field, value) if isinstance(value, list) else _quoted(_plain(field, value), field)


def _pairs(field: Field, value: Any) -> Iterable[tuple[str, str]]:
    """Name and encoded value; none for null and for an empty list, which a query cannot tell apart from nothing."""
    if isinstance(value, list) and not field.as_json:
        if field.explode:
            return [(field.name, _quoted(_plain(field, each), field)) for each in value]
        return [(field.name, _joined(field, value))] if value else []
    return [] if value is None else [(field.name, _quoted(_plain(field, value), field))]


def _joined(field: Field, values: list[Any]) -> str:
    if field.as_json:
        return _quoted(_plain(field, values), field)
    return ",".join(_quoted(each, field) for each in _listable(field, values))


def _listable(field: Field, values: list[Any]) -> list[str]:
    texts = [_plain(field, each) for each in values]
    if any(not each or "," in each for each in texts):
        raise _unsendable(field.argument, "cannot hold empty entries or entries with a comma; leave them out")
    return texts


def _header(field: Field, value: Any) -> bytes:
    many = isinstance(value, list) and not field.as_json
    text = ",".join(_listable(field, value)) if many else _plain(field, value, ascii_only=True)
    if _CONTROL.search(text) or text != text.strip(" "):
        raise _unsendable(field.argument, "cannot begin or end with a space, nor hold line breaks; leave them out")
    raw = _utf8(text, field)
    if len(raw) > MAX_TARGET_BYTES:
        raise _unsendable(field.argument, f"is too long: at most {MAX_TARGET_BYTES:,} bytes")
    return raw


def _body(route: Route, given: list[tuple[Field, Any]]) -> bytes | None:
    if not given and not (route.body_required and not route.whole_body):
        return None
    if route.whole_body:
        return _json(given[0][1], given[0][0])
    if route.media_type == FORM_BODY:
        pairs = (pair for each, value in given for pair in _pairs(each, value))
        return "&".join(f"{_quoted(name)}={value}" for name, value in pairs).encode("ascii")
    members = {each.name: (each, value) for each, value in given}
    parts = (
        _utf8(json.dumps(name, ensure_ascii=False)) + b":" + _json(value, each)
        for name, (each, value) in members.items()
    )
    return b"{" + b",".join(parts) + b"}"


def _plain(field: Field, value: Any, *, ascii_only: bool = False) -> str:
    """A single value as text."""
    if isinstance(value, str) and not field.as_json:
        return value
    if field.as_json or isinstance(value, bool | int | float):
        return _dumped(value, field, ascii_only=ascii_only)
    raise _unsendable(field.argument, "is too rich to be sent; give a text, a number, true or false")


def _json(value: Any, field: Field) -> bytes:
    return _utf8(_dumped(value, field), field)


def _dumped(value: Any, field: Field, *, ascii_only: bool = False) -> str:
    try:
        return json.dumps(value, ensure_ascii=ascii_only, allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise _unsendable(field.argument, "holds a number that JSON does not have, or is nested too deep") from error


def _quoted(text: str, field: Field | None = None) -> str:
    return quote(_utf8(text, field), safe="")


def _utf8(text: str, field: Field | None = None) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise _unsendable(field.argument if field else "", "holds half a character; write it again") from error


def _unsendable(argument: str, message: str) -> InvalidArguments:
    return InvalidArguments(
        "Some details cannot be sent as they are.", errors=[{"field": argument, "message": message}]
    )
