"""Json as lines of `path: value`; records, of a list or of lines, as sections. Numbers stay as they are written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from knowledge_base.errors import Refused
from knowledge_base.parsing.draft import Body, Draft, clean, one_line

MAX_DEPTH = 100
NAMING = ("title", "name", "question", "heading", "subject", "label", "key", "id")
SHORT = 120


def read_json(name: str, text: str, max_chars: int) -> Body:
    """One value; or, when there is one in each line, records."""
    try:
        value = _loaded(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data" or error.lineno < 2:
            raise _no_json(name, error, error.lineno) from None
        return read_json_lines(name, text, max_chars)
    except (RecursionError, ValueError):
        raise _too_deep(name) from None
    draft = Draft(name, max_chars)
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        _records(name, draft, iter(value))
        return draft.body()
    _block(name, draft, value)
    title = value.get("title") or value.get("name") if isinstance(value, dict) else None
    return draft.body(title=one_line(title) if isinstance(title, str) else "")


def read_json_lines(name: str, text: str, max_chars: int) -> Body:
    """One value in each line."""
    draft = Draft(name, max_chars)
    _records(name, draft, _lines(name, text))
    return draft.body()


def _lines(name: str, text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield _loaded(line)
            except json.JSONDecodeError as error:
                raise _no_json(name, error, number) from None
            except (RecursionError, ValueError):
                raise _too_deep(name) from None


def _loaded(text: str) -> Any:
    return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)


def _no_json(name: str, error: json.JSONDecodeError, line: int) -> Refused:
    return Refused("corrupt", f"{name}: is no JSON: {error.msg} in line {line}; mend it, or name it .txt")


def _too_deep(name: str) -> Refused:
    return Refused("corrupt", f"{name}: is nested too deeply to be read; at most {MAX_DEPTH} levels are")


def _records(name: str, draft: Draft, values: Iterator[Any]) -> None:
    for number, value in enumerate(values, 1):
        draft.page(number)
        draft.heading(2, _naming(value) or f"Record {number}")
        _block(name, draft, value)


def _naming(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    for key in NAMING:
        held = value.get(key)
        if isinstance(held, str) and held.strip() and len(held) <= SHORT:
            return one_line(held)
    return ""


def _block(name: str, draft: Draft, value: Any) -> None:
    lines: list[str] = []
    length = 0
    for each in _paths(name, value, "", 0):
        lines.append(each)
        length += len(each)
        if length > 2000:
            draft.block("\n".join(lines))
            lines.clear()
            length = 0
    draft.block("\n".join(lines))


def _paths(name: str, value: Any, path: str, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise _too_deep(name)
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _paths(name, each, f"{path}.{one_line(key)}" if path else one_line(key), depth + 1)
    elif isinstance(value, list):
        if all(not isinstance(each, dict | list) for each in value):
            held = ", ".join(_shown(each) for each in value if each is not None)
            if held:
                yield f"{path}: {held}" if path else held
            return
        for number, each in enumerate(value):
            yield from _paths(name, each, f"{path}[{number}]", depth + 1)
    elif value is not None and value != "":
        yield f"{path}: {_shown(value)}" if path else _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return clean(str(value)).strip()
