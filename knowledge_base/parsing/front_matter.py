"""YAML between two lines of `---` at the head of a text.

Read by YAML 1.2's idea of scalars: `no`, `on` and `12:30` are texts. Anchors, tags and merges have no place here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

MAX_CHARS = 16 * 1024
MAX_DEPTH = 5
_OPENING = re.compile(r"---[ \t]*\n")
_CLOSING = re.compile(r"^(?:---|\.\.\.)[ \t]*$", re.M)
_NULL = re.compile(r"(?:~|null|Null|NULL)?$")
_BOOLEAN = re.compile(r"(?:true|True|TRUE|false|False|FALSE)$")
_INTEGER = re.compile(r"[-+]?[0-9]{1,30}$")
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,3})?$")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]")
_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})$")


class FrontMatterFault(Exception):
    """What is wrong, where, and the fix."""


def split_front_matter(text: str) -> tuple[str | None, str]:
    """The front matter without its lines of `---`, if there is one, and the rest of the text."""
    opening = _OPENING.match(text)
    if not opening:
        return None, text
    closing = _CLOSING.search(text, opening.end())
    if not closing:
        return None, text
    front = text[opening.end() : closing.start()]
    looks_so = re.search(r"^[^\s#:][^:\n]*:(?:\s|$)", front, re.M) or not front.strip()
    return (front, text[closing.end() :].lstrip("\n")) if looks_so else (None, text)


def read_front_matter(front: str) -> dict[str, Any]:
    """Scalars and lists of texts by key; those below another key are joined to it by a dot. Dates are ISO texts."""
    if len(front) > MAX_CHARS:
        raise FrontMatterFault(f"is longer than {MAX_CHARS // 1024} KB; shorten it, or end it by a line of `---`")
    try:
        events = list(_events(front))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 2}: " if error.problem_mark else ""
        raise FrontMatterFault(f"{line}{error.problem or error.context}; put texts with `:` or `#` in quotes") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise FrontMatterFault("is no YAML that can be read; write lines of `key: value`") from None
    held: dict[str, Any] = {}
    reader = iter(events[2:-2])
    first = next(reader, None)
    if first is None or (isinstance(first, yaml.ScalarEvent) and not first.value):
        return held
    if not isinstance(first, yaml.MappingStartEvent) or any(isinstance(e, yaml.DocumentStartEvent) for e in events[2:]):
        raise FrontMatterFault("must be lines of `key: value`")
    _mapping(reader, "", held, 1)
    return held


def _events(front: str) -> Iterator[yaml.Event]:
    """No deeper than is read anyway: time grows with the square of the depth."""
    depth = 0
    for event in yaml.parse(front, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH + 1:
            raise FrontMatterFault(f"{_line(event)}is nested more than {MAX_DEPTH} deep; write lines of `key: value`")
        yield event


def _mapping(events: Iterator[yaml.Event], path: str, held: dict[str, Any], depth: int) -> None:
    for event in events:
        if isinstance(event, yaml.MappingEndEvent):
            return
        _plain(event, path or "the first level")
        if not isinstance(event, yaml.ScalarEvent):
            raise FrontMatterFault(f"{_line(event)}a key must be a text")
        key = f"{path}.{event.value}" if path else event.value
        if key in held:
            raise FrontMatterFault(f"{_line(event)}`{key}` stands there twice; keep one")
        value = next(events)
        _plain(value, key)
        if isinstance(value, yaml.MappingStartEvent):
            if depth == MAX_DEPTH:
                raise FrontMatterFault(f"{_line(value)}`{key}` is nested more than {MAX_DEPTH} deep")
            _mapping(events, key, held, depth + 1)
        elif isinstance(value, yaml.SequenceStartEvent):
            held[key] = list(_items(events, key))
        elif isinstance(value, yaml.ScalarEvent):
            scalar = _scalar(value, key)
            if scalar is not None:
                held[key] = scalar


def _items(events: Iterator[yaml.Event], key: str) -> Iterator[str]:
    for event in events:
        if isinstance(event, yaml.SequenceEndEvent):
            return
        _plain(event, key)
        if not isinstance(event, yaml.ScalarEvent):
            raise FrontMatterFault(f"{_line(event)}`{key}` must be a list of texts, without lists or keys in it")
        scalar = _scalar(event, key)
        if scalar is not None:
            yield scalar if isinstance(scalar, str) else event.value


def _plain(event: yaml.Event, key: str) -> None:
    """Only what stands there counts: no anchors, no tags."""
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise FrontMatterFault(
            f"{_line(event)}`{key}` has an anchor or alias (& or *); write the value itself, or quote it"
        )
    if getattr(event, "tag", None):
        raise FrontMatterFault(f"{_line(event)}`{key}` has a tag (!); write the value without it, or quote it")


def _scalar(event: yaml.ScalarEvent, key: str) -> Any:
    value: str = event.value
    if event.style is not None:
        return value
    if _NULL.match(value):
        return None
    if _BOOLEAN.match(value):
        return value.lower() == "true"
    if _LEADING_ZERO.match(value):
        return value
    if _INTEGER.match(value):
        return int(value)
    if _NUMBER.match(value):
        return float(value)
    date = _DATE.match(value)
    return f"{date[1]}-{date[2]:0>2}-{date[3]:0>2}" if date else value


def _line(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 2}: " if event.start_mark else ""
